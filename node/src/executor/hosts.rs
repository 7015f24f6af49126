//! Places for requests in flight: so many overall, and so many to one target host.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use url::Url;

/// Grants places in the order in which they are asked for.
///
/// Who waits for a busy host holds no place of the others: the place at the host comes first.
/// Memory is held only for hosts that somebody is calling or waiting for.
#[derive(Debug)]
pub struct Places {
    overall: Arc<Semaphore>,
    per_host_max: usize,
    hosts: Arc<Mutex<HashMap<String, Host>>>,
}

#[derive(Debug)]
struct Host {
    places: Arc<Semaphore>,
    /// How many hold a place or wait for one.
    users: usize,
}

/// A place; it is free again when this is dropped.
#[derive(Debug)]
pub struct Place {
    _overall: OwnedSemaphorePermit,
    _at_host: OwnedSemaphorePermit,
    _user: User,
}

impl Places {
    /// With `overall_max` places, at most `per_host_max` of them to one host.
    #[must_use]
    pub fn new(overall_max: usize, per_host_max: usize) -> Self {
        Self { overall: Arc::new(Semaphore::new(overall_max)), per_host_max, hosts: Arc::default() }
    }

    /// Waits for a place to call `url`. A host is its scheme, name and port.
    pub async fn take(&self, url: &Url) -> Place {
        let user = self.enter(url.origin().ascii_serialization());
        let at_host = Arc::clone(&user.places).acquire_owned().await.expect("never closed");
        let overall = Arc::clone(&self.overall).acquire_owned().await.expect("never closed");
        Place { _overall: overall, _at_host: at_host, _user: user }
    }

    /// How many places overall are free.
    #[must_use]
    pub fn overall_free(&self) -> usize {
        self.overall.available_permits()
    }

    fn enter(&self, key: String) -> User {
        let mut hosts = self.hosts.lock();
        let host = hosts
            .entry(key.clone())
            .or_insert_with(|| Host { places: Arc::new(Semaphore::new(self.per_host_max)), users: 0 });
        host.users += 1;
        User { places: Arc::clone(&host.places), key, hosts: Arc::clone(&self.hosts) }
    }
}

/// Counts as a user of a host until it is dropped, waiting or not.
#[derive(Debug)]
struct User {
    places: Arc<Semaphore>,
    key: String,
    hosts: Arc<Mutex<HashMap<String, Host>>>,
}

impl Drop for User {
    fn drop(&mut self) {
        let mut hosts = self.hosts.lock();
        if let Some(host) = hosts.get_mut(&self.key) {
            host.users -= 1;
            if host.users == 0 {
                hosts.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    fn url(text: &str) -> Url {
        text.parse().unwrap()
    }

    #[tokio::test]
    async fn a_busy_host_leaves_the_places_of_others_alone() {
        let places = Places::new(2, 1);
        let first = places.take(&url("http://a/x")).await;
        let a = url("http://A:80/y");
        let mut second = Box::pin(places.take(&a));
        assert!((&mut second).now_or_never().is_none(), "one at a time");
        let other = places.take(&url("https://a/")).now_or_never().expect("another scheme is another host");
        drop((first, other));
        assert!((&mut second).now_or_never().is_some());
    }

    #[tokio::test]
    async fn places_are_granted_in_order() {
        let places = Places::new(1, 1);
        let (a, b) = (url("http://a/"), url("http://b/"));
        let held = places.take(&a).await;
        let mut first = Box::pin(places.take(&b));
        assert!((&mut first).now_or_never().is_none());
        let mut second = Box::pin(places.take(&a));
        assert!((&mut second).now_or_never().is_none());
        drop(held);
        assert!((&mut second).now_or_never().is_none());
        let held = (&mut first).now_or_never().expect("it asked first");
        drop(held);
        assert!((&mut second).now_or_never().is_some());
    }

    #[tokio::test]
    async fn idle_hosts_take_no_memory() {
        let places = Places::new(4, 1);
        let a = url("http://a/");
        let held = places.take(&a).await;
        let mut waiting = Box::pin(places.take(&a));
        assert!((&mut waiting).now_or_never().is_none());
        drop(waiting);
        assert_eq!(places.hosts.lock().len(), 1);
        drop(held);
        assert!(places.hosts.lock().is_empty());
        assert_eq!(places.overall_free(), 4);
    }
}
