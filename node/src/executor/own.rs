//! Where the cluster's own endpoints are, when they are known by a name.

use super::egress::{EgressError, EgressPolicy, Lookup, is_same};
use futures::future::join_all;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::net::IpAddr;
use url::{Host, Url};

/// Resolves the names of the cluster's own endpoints. They are resolved anew each time, because names move; while
/// one cannot be resolved, what it meant last counts.
pub(super) struct OwnAddresses {
    lookup: Lookup,
    last: Mutex<HashMap<String, Vec<IpAddr>>>,
}

impl OwnAddresses {
    pub(super) fn new(lookup: Lookup) -> Self {
        Self { lookup, last: Mutex::default() }
    }

    /// The addresses of the endpoints that `policy` refuses: those with `port`, or all.
    pub(super) async fn find(&self, policy: &EgressPolicy, port: Option<u16>) -> Vec<IpAddr> {
        let wanted = |own: u16| port.is_none_or(|port| port == own);
        let endpoints = policy.refused_endpoints.iter().filter(|own| wanted(own.port())).map(|own| own.ip());
        let names = policy.refused_names.iter().filter(|(_, port)| wanted(*port)).map(|(name, _)| name);
        let resolved = join_all(names.map(|name| self.resolve(name))).await;
        endpoints.chain(resolved.into_iter().flatten()).collect()
    }

    /// Refuses a target whose host is written as an address of one of the cluster's own endpoints.
    pub(super) async fn check_address(&self, policy: &EgressPolicy, url: &Url) -> Result<(), EgressError> {
        let address = match url.host() {
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
            Some(Host::Domain(_)) | None => return Ok(()),
        };
        let own = self.find(policy, url.port_or_known_default()).await;
        if own.iter().any(|own| is_same(*own, address)) { Err(EgressError::Own) } else { Ok(()) }
    }

    async fn resolve(&self, name: &str) -> Vec<IpAddr> {
        let found = (self.lookup)(name.to_owned()).await;
        let mut last = self.last.lock();
        match found {
            Ok(found) => {
                let addresses: Vec<IpAddr> = found.iter().map(|address| address.ip()).collect();
                last.insert(name.to_owned(), addresses.clone());
                addresses
            }
            Err(error) => {
                tracing::debug!(name, %error, "an endpoint of the cluster cannot be resolved");
                last.get(name).cloned().unwrap_or_default()
            }
        }
    }
}
