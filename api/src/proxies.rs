//! Proxies in front of the nodes, and whom they speak for.

use axum::http::HeaderMap;
use ipnet::IpNet;
use std::net::IpAddr;

/// Each proxy adds the address of its peer at the end.
const FORWARDED: &str = "x-forwarded-for";

/// Networks whose machines are believed when they say whom a request comes from. None by default: anybody can send
/// a header.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Proxies(Vec<IpNet>);

impl Proxies {
    /// Believes the machines of these networks.
    #[must_use]
    pub fn new(networks: Vec<IpNet>) -> Self {
        Self(networks)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(&address))
    }

    /// Where a request comes from that `peer` has sent: the last address on the way that is none of our proxies'. What
    /// stands before it anybody may have made up.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.trusts(peer) {
            return peer;
        }
        let lines = headers.get_all(FORWARDED).iter().filter_map(|line| line.to_str().ok());
        let hops: Vec<&str> = lines.flat_map(|line| line.split(',')).map(str::trim).collect();
        let mut client = peer;
        for hop in hops.into_iter().rev() {
            // What is no address was not written by a proxy of ours.
            let Ok(address) = hop.parse::<IpAddr>() else { break };
            client = address.to_canonical();
            if !self.trusts(client) {
                break;
            }
        }
        client
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(peer: &str, forwarded: &[&str], expected: &str) {
        let proxies = Proxies::new(vec!["10.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        let headers =
            forwarded.iter().map(|line| (FORWARDED.parse().unwrap(), line.parse().unwrap())).collect();
        let client = proxies.client(peer.parse().unwrap(), &headers);
        assert_eq!(client.to_string(), expected, "{peer} {forwarded:?}");
    }

    #[test]
    fn only_proxies_of_ours_are_believed() {
        check("192.0.2.1", &["198.51.100.7"], "192.0.2.1");
        check("10.0.0.1", &["198.51.100.7"], "198.51.100.7");
        check("::1", &["198.51.100.7, 10.1.2.3"], "198.51.100.7");
        check("10.0.0.1", &["203.0.113.9, 198.51.100.7", "10.1.2.3"], "198.51.100.7");
    }

    #[test]
    fn what_is_made_up_is_not_reached() {
        check("10.0.0.1", &["203.0.113.9, 198.51.100.7"], "198.51.100.7");
        check("10.0.0.1", &["198.51.100.7, unknown"], "10.0.0.1");
        check("10.0.0.1", &["198.51.100.7, unknown, 10.1.2.3"], "10.1.2.3");
        check("10.0.0.1", &[], "10.0.0.1");
        check("10.0.0.1", &["::ffff:198.51.100.7"], "198.51.100.7");
    }
}
