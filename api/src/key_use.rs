//! When each API key was last used, to about a minute: noted by requests, written down in the background.
//!
//! A request only touches a small map. The service takes what is in it every few seconds and proposes it in one
//! command for all keys. What is lost with a node that dies is a few seconds of something that is shown to
//! the minute.

use domain::account::KeyHash;
use domain::limits;
use domain::time::Timestamp;
use parking_lot::Mutex;
use raft::Cluster;
use raft::command::{Command, NoteKeyUse};
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::time::Duration;
use storage::Read;
use storage::schema::ApiKeys;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

/// Keys that wait to be written down. Others are noted at their next use.
const WAITING_MAX: usize = 4_096;
/// Keys in one command, so that no entry of the log is large.
const TOGETHER_MAX: usize = 512;
/// Pause between two looks at what waits.
const INTERVAL: Duration = Duration::from_secs(5);
/// How long writing down may take before it is left for the next time.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// Takes notes. Clones share them.
#[derive(Clone, Default)]
pub struct KeyUse {
    waiting: Arc<Mutex<BTreeMap<KeyHash, Timestamp>>>,
}

impl std::fmt::Debug for KeyUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyUse").field("waiting", &self.waiting.lock().len()).finish()
    }
}

impl KeyUse {
    /// Notes that a key, whose use was written down at `known`, is used now. Never waits.
    pub(crate) fn note(&self, key: KeyHash, known: Option<Timestamp>, now: Timestamp) {
        if is_news(known, now) {
            self.put(key, now);
        }
    }

    fn put(&self, key: KeyHash, at: Timestamp) {
        let mut waiting = self.waiting.lock();
        let has_room = waiting.len() < WAITING_MAX;
        match waiting.entry(key) {
            Entry::Occupied(mut noted) => {
                let latest = at.max(*noted.get());
                noted.insert(latest);
            }
            Entry::Vacant(place) if has_room => {
                place.insert(at);
            }
            Entry::Vacant(_) => {}
        }
    }
}

/// Whether a use at `now` is to be written down. A clock that was set back makes no news.
fn is_news(known: Option<Timestamp>, now: Timestamp) -> bool {
    known.is_none_or(|known| now.since(known) >= limits::KEY_USE_NOTED_EVERY)
}

/// Writes down what requests note.
#[derive(Debug)]
pub struct Service {
    cluster: Cluster,
    noted: KeyUse,
}

impl Service {
    /// A service, and where requests leave their notes.
    #[must_use]
    pub fn new(cluster: Cluster) -> (Self, KeyUse) {
        let noted = KeyUse::default();
        (Self { cluster, noted: noted.clone() }, noted)
    }

    /// Runs until `stop`; then what waits is written down once more.
    pub async fn run(self, stop: CancellationToken) {
        let mut ticks = interval(INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                _ = ticks.tick() => self.write_down().await,
            }
        }
        self.write_down().await;
    }

    /// Writes down what waits. What cannot be is left for the next time.
    pub async fn write_down(&self) {
        let waiting = std::mem::take(&mut *self.noted.waiting.lock());
        let mut waiting = waiting.into_iter().peekable();
        while waiting.peek().is_some() {
            let used: Vec<_> = waiting.by_ref().take(TOGETHER_MAX).collect();
            if !self.propose(used).await {
                // There is no leader; what is left has no better prospects.
                waiting.by_ref().for_each(|(key, at)| self.noted.put(key, at));
            }
        }
    }

    /// False when it is to be tried again.
    async fn propose(&self, noted: Vec<(KeyHash, Timestamp)>) -> bool {
        let used = match self.still_news(&noted) {
            Ok(used) if used.is_empty() => return true,
            Ok(used) => used,
            Err(error) => {
                tracing::debug!(%error, "use of keys not written down");
                return true;
            }
        };
        let command = Command::NoteKeyUse(NoteKeyUse { used });
        match self.cluster.propose_all(vec![command], PROPOSE_TIMEOUT).await {
            Ok(_) => true,
            Err(error) => {
                tracing::debug!(%error, "use of keys waits for a leader");
                noted.into_iter().for_each(|(key, at)| self.noted.put(key, at));
                false
            }
        }
    }

    /// What another node has not written down meanwhile.
    fn still_news(
        &self,
        noted: &[(KeyHash, Timestamp)],
    ) -> Result<Vec<(KeyHash, Timestamp)>, storage::Error> {
        let view = self.cluster.state().view();
        let mut used = Vec::with_capacity(noted.len());
        for (key, at) in noted {
            if view.get::<ApiKeys>(key)?.is_some_and(|known| is_news(known.last_used_at, *at)) {
                used.push((*key, *at));
            }
        }
        Ok(used)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn key(number: u32) -> KeyHash {
        let mut key = [0; 32];
        key[..4].copy_from_slice(&number.to_be_bytes());
        key
    }

    #[test]
    fn a_use_is_news_once_a_minute() {
        assert!(is_news(None, at(0)));
        assert!(!is_news(Some(at(100)), at(159)));
        assert!(is_news(Some(at(100)), at(160)));
        assert!(!is_news(Some(at(100)), at(10)));
    }

    #[test]
    fn many_uses_of_one_key_are_one_note_with_the_latest_instant() {
        let noted = KeyUse::default();
        for secs in [100, 102, 101] {
            noted.note(key(1), None, at(secs));
        }
        assert_eq!(*noted.waiting.lock(), BTreeMap::from([(key(1), at(102))]));
    }

    #[test]
    fn notes_have_a_bound() {
        let noted = KeyUse::default();
        for number in 0..10_000 {
            noted.note(key(number), None, at(1));
        }
        noted.note(key(0), None, at(2));
        assert_eq!(noted.waiting.lock().len(), WAITING_MAX);
        assert_eq!(noted.waiting.lock()[&key(0)], at(2));
    }
}
