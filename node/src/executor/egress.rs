//! Which targets may be called.
//!
//! A URL is checked twice: as it is written ([`EgressPolicy::check_url`], at creation and before
//! every request, because an address written as a host never reaches a resolver), and by the
//! addresses its host resolves to ([`GuardedResolver`], at every connect, because a name may
//! resolve to something else the next time).

use ipnet::{Ipv4Net, Ipv6Net};
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use url::{Host, Url};

const fn v4(a: u8, b: u8, c: u8, d: u8, prefix: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix)
}

const fn v6(groups: [u16; 8], prefix: u8) -> Ipv6Net {
    let [a, b, c, d, e, f, g, h] = groups;
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, d, e, f, g, h), prefix)
}

/// IPv4 ranges that are not the public internet, after the IANA special-purpose registry.
const PRIVATE_V4: &[Ipv4Net] = &[
    v4(0, 0, 0, 0, 8),       // this host
    v4(10, 0, 0, 0, 8),      // private
    v4(100, 64, 0, 0, 10),   // carrier-grade NAT
    v4(127, 0, 0, 0, 8),     // loopback
    v4(169, 254, 0, 0, 16),  // link-local
    v4(172, 16, 0, 0, 12),   // private
    v4(192, 0, 0, 0, 24),    // protocol assignments
    v4(192, 0, 2, 0, 24),    // documentation
    v4(192, 88, 99, 0, 24),  // 6to4 relays
    v4(192, 168, 0, 0, 16),  // private
    v4(198, 18, 0, 0, 15),   // benchmarks
    v4(198, 51, 100, 0, 24), // documentation
    v4(203, 0, 113, 0, 24),  // documentation
];

/// IPv6 ranges that are not the public internet.
const PRIVATE_V6: &[Ipv6Net] = &[
    v6([0, 0, 0, 0, 0, 0, 0, 0], 128),         // unspecified
    v6([0, 0, 0, 0, 0, 0, 0, 1], 128),         // loopback
    v6([0x100, 0, 0, 0, 0, 0, 0, 0], 64),      // discard
    v6([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0], 32), // documentation
    v6([0x3fff, 0, 0, 0, 0, 0, 0, 0], 20),     // documentation
    v6([0x5f00, 0, 0, 0, 0, 0, 0, 0], 16),     // segment routing
    v6([0xfc00, 0, 0, 0, 0, 0, 0, 0], 7),      // unique local
    v6([0xfe80, 0, 0, 0, 0, 0, 0, 0], 10),     // link-local
    v6([0xfec0, 0, 0, 0, 0, 0, 0, 0], 10),     // site-local
];

/// Never a target, whatever the settings: no HTTP server of anybody's is here, or one that hands
/// out the credentials of the machine.
const NEVER_V4: &[Ipv4Net] = &[
    v4(100, 100, 100, 200, 32), // Alibaba metadata
    v4(168, 63, 129, 16, 32),   // Azure WireServer
    v4(169, 254, 169, 254, 32), // metadata of most clouds
    v4(169, 254, 170, 2, 32),   // ECS task credentials
    v4(192, 0, 0, 192, 32),     // Oracle metadata
    v4(224, 0, 0, 0, 4),        // multicast
    v4(240, 0, 0, 0, 4),        // reserved, broadcast
];

/// As [`NEVER_V4`], and the forms that wrap an IPv4 address and so would get round its checks.
const NEVER_V6: &[Ipv6Net] = &[
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96),       // NAT64
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48),       // local NAT64
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32),          // Teredo
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),          // 6to4
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), // EC2 metadata
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),           // multicast
];

/// The range of IPv4-compatible addresses (deprecated); it also holds `::` and `::1`.
const V4_COMPATIBLE: Ipv6Net = v6([0; 8], 96);

/// Which targets may be called. The default is the production setting: `https` and public
/// addresses alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct EgressPolicy {
    /// Whether addresses outside the public internet are allowed, loopback included. The metadata
    /// services of clouds stay refused.
    pub allow_private: bool,
    /// Whether `http` is allowed beside `https`.
    pub allow_http: bool,
    /// The cluster's own endpoints, refused even where private addresses are allowed.
    pub refused_endpoints: BTreeSet<SocketAddr>,
}

/// Why a target may not be called. Never names an address that a host resolved to, which would
/// let anybody map the network the nodes are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EgressError {
    /// The scheme is `http`, which is not allowed.
    #[error("target must be https")]
    NotHttps,
    /// The scheme is neither `http` nor `https`.
    #[error("target must be http or https")]
    NotHttp,
    /// The address, or each address the host resolves to, is refused.
    #[error("target address is not allowed")]
    Address,
}

impl EgressError {
    /// For people, as the history and the API show it.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::NotHttps => "Target must be https",
            Self::NotHttp => "Target must be http or https",
            Self::Address => "Target address is not allowed",
        }
    }
}

impl EgressPolicy {
    /// Judges a URL as far as that is possible without resolving its host: scheme, addresses
    /// written as hosts in any notation, names of this machine.
    ///
    /// # Errors
    /// [`EgressError`] when the target is refused.
    pub fn check_url(&self, url: &Url) -> Result<(), EgressError> {
        match url.scheme() {
            "https" => {}
            "http" if self.allow_http => {}
            "http" => return Err(EgressError::NotHttps),
            _ => return Err(EgressError::NotHttp),
        }
        // The parser has already turned odd notations of IPv4 addresses into the ordinary one.
        let address = match url.host() {
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
            Some(Host::Domain(name)) => {
                return if self.allow_private || !is_local_name(name) {
                    Ok(())
                } else {
                    Err(EgressError::Address)
                };
            }
            None => return Err(EgressError::NotHttp),
        };
        let port = url.port_or_known_default();
        let is_own =
            self.refused_endpoints.iter().any(|own| Some(own.port()) == port && is_same(own.ip(), address));
        if is_own || !self.allows(address) { Err(EgressError::Address) } else { Ok(()) }
    }

    /// Whether requests may go to `address`, as far as that does not depend on the port.
    #[must_use]
    pub fn allows(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(ip) => {
                let within = |ranges: &[Ipv4Net]| ranges.iter().any(|range| range.contains(&ip));
                !within(NEVER_V4) && (self.allow_private || !within(PRIVATE_V4))
            }
            IpAddr::V6(ip) => {
                let within = |ranges: &[Ipv6Net]| ranges.iter().any(|range| range.contains(&ip));
                let is_v4_compatible =
                    V4_COMPATIBLE.contains(&ip) && !ip.is_unspecified() && !ip.is_loopback();
                !within(NEVER_V6) && !is_v4_compatible && (self.allow_private || !within(PRIVATE_V6))
            }
        }
    }

    /// Whether one of the cluster's own endpoints has this port.
    pub(super) fn refuses_port(&self, port: u16) -> bool {
        self.refused_endpoints.iter().any(|own| own.port() == port)
    }

    fn is_own_address(&self, address: IpAddr) -> bool {
        self.refused_endpoints.iter().any(|own| is_same(own.ip(), address))
    }
}

/// Whether both lead to the same place. All loopback addresses do, and so does the unspecified one,
/// as a target and as an address to listen on.
fn is_same(a: IpAddr, b: IpAddr) -> bool {
    let (a, b) = (a.to_canonical(), b.to_canonical());
    let is_here = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    a == b || is_here(a) && is_here(b)
}

/// Names that mean this machine by definition (RFC 6761), with or without the final dot. Other
/// names of the local network are known only by what they resolve to.
fn is_local_name(name: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    name.rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
}

/// How a name becomes addresses.
pub(crate) type Lookup = fn(String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// Asks the system's resolver.
pub(crate) fn system_lookup(
    name: String,
) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
    Box::pin(async move { Ok(tokio::net::lookup_host((name, 0)).await?.collect()) })
}

/// Resolves a name to those of its addresses that may be called, and fails when none is left.
/// A connection goes to exactly these, so nothing can change between the check and the use.
pub(super) struct GuardedResolver {
    pub(super) policy: Arc<EgressPolicy>,
    /// Whether the addresses of the cluster's own endpoints are left out as well. A resolver is not told
    /// the port, so this is decided per client, and goes by the address alone.
    pub(super) refuse_own: bool,
    pub(super) lookup: Lookup,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, refuse_own) = (Arc::clone(&self.policy), self.refuse_own);
        let found = (self.lookup)(name.as_str().to_owned());
        Box::pin(async move {
            let mut addresses = found.await?;
            if addresses.is_empty() {
                return Err(io::Error::from(io::ErrorKind::NotFound).into());
            }
            addresses.retain(|address| {
                policy.allows(address.ip()) && !(refuse_own && policy.is_own_address(address.ip()))
            });
            if addresses.is_empty() {
                return Err(EgressError::Address.into());
            }
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}

#[cfg(test)]
mod tests;
