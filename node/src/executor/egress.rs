//! Which targets may be called.
//!
//! A URL is checked twice: as it is written ([`EgressPolicy::check_url`], at creation and before
//! every request, because an address written as a host never reaches a resolver), and by the
//! addresses its host resolves to ([`GuardedResolver`], at every connect, because a name may
//! resolve to something else the next time).

use super::own::OwnAddresses;
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

/// Services that hand out the credentials of the machine. Never a target, whatever the settings.
const METADATA_V4: &[Ipv4Net] = &[
    v4(100, 100, 100, 200, 32), // Alibaba
    v4(168, 63, 129, 16, 32),   // Azure WireServer
    v4(169, 254, 169, 254, 32), // most clouds
    v4(169, 254, 170, 2, 32),   // ECS task credentials
    v4(192, 0, 0, 192, 32),     // Oracle
];

/// As [`METADATA_V4`].
const METADATA_V6: &[Ipv6Net] = &[
    v6([0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254], 128), // EC2
];

/// Never a target either: no HTTP server of anybody's is here.
const RESERVED_V4: &[Ipv4Net] = &[
    v4(224, 0, 0, 0, 4), // multicast
    v4(240, 0, 0, 0, 4), // reserved, broadcast
];

/// As [`RESERVED_V4`], and the forms that wrap an IPv4 address and so would get round its checks.
const RESERVED_V6: &[Ipv6Net] = &[
    v6([0x64, 0xff9b, 0, 0, 0, 0, 0, 0], 96), // NAT64
    v6([0x64, 0xff9b, 1, 0, 0, 0, 0, 0], 48), // local NAT64
    v6([0x2001, 0, 0, 0, 0, 0, 0, 0], 32),    // Teredo
    v6([0x2002, 0, 0, 0, 0, 0, 0, 0], 16),    // 6to4
    v6([0xff00, 0, 0, 0, 0, 0, 0, 0], 8),     // multicast
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
    /// Those that are known by a name: what it resolves to is looked up when somebody calls its port,
    /// because names move.
    pub refused_names: BTreeSet<(String, u16)>,
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
    /// The address is not of the public internet, and private ones are not allowed.
    #[error("target address is private or local")]
    Private,
    /// The address is the metadata service of a cloud.
    #[error("target address is a cloud's metadata service")]
    Metadata,
    /// The address is multicast, reserved, or an IPv4 address in disguise.
    #[error("target address is reserved")]
    Reserved,
    /// The target is an endpoint of the cluster itself.
    #[error("target is an endpoint of the cluster itself")]
    Own,
}

impl EgressError {
    /// For people, as the history shows it.
    #[must_use]
    pub fn message(self) -> &'static str {
        match self {
            Self::NotHttps => "Target must be https",
            Self::NotHttp => "Target must be http or https",
            Self::Private => "Target address is not allowed: it is private or local",
            Self::Metadata => "Target address is not allowed: it is a cloud's metadata service",
            Self::Reserved => "Target address is not allowed: it is multicast or reserved",
            Self::Own => "Target is not allowed: it is an endpoint of this cluster itself",
        }
    }

    /// For whoever sets such a target, to be read behind the field's name.
    #[must_use]
    pub fn rule(self) -> &'static str {
        match self {
            Self::NotHttps => "must use https",
            Self::NotHttp => "must use http or https",
            Self::Private => "must not point to a private or local address",
            Self::Metadata => "must not point to the metadata service of a cloud",
            Self::Reserved => "must not point to a multicast or reserved address",
            Self::Own => "must not point to an endpoint of this cluster itself",
        }
    }
}

impl EgressPolicy {
    /// Judges a URL as far as that is possible without resolving its host: scheme, addresses
    /// written as hosts in any notation, names of this machine and of the cluster's endpoints.
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
        let port = url.port_or_known_default();
        // The parser has already turned odd notations of IPv4 addresses into the ordinary one.
        match url.host() {
            Some(Host::Ipv4(ip)) => self.check_literal(IpAddr::V4(ip), port),
            Some(Host::Ipv6(ip)) => self.check_literal(IpAddr::V6(ip), port),
            Some(Host::Domain(name)) => self.check_name(name, port),
            None => Err(EgressError::NotHttp),
        }
    }

    fn check_literal(&self, address: IpAddr, port: Option<u16>) -> Result<(), EgressError> {
        self.check_address(address)?;
        let own = |own: &SocketAddr| Some(own.port()) == port && is_same(own.ip(), address);
        if self.refused_endpoints.iter().any(own) { Err(EgressError::Own) } else { Ok(()) }
    }

    fn check_name(&self, name: &str, port: Option<u16>) -> Result<(), EgressError> {
        if !self.allow_private && is_local_name(name) {
            return Err(EgressError::Private);
        }
        let own = |(own, own_port): &(String, u16)| {
            Some(*own_port) == port && without_dot(own).eq_ignore_ascii_case(without_dot(name))
        };
        if self.refused_names.iter().any(own) { Err(EgressError::Own) } else { Ok(()) }
    }

    /// Judges an address, as far as that does not depend on the port.
    ///
    /// # Errors
    /// [`EgressError`] when no request may go there.
    pub fn check_address(&self, address: IpAddr) -> Result<(), EgressError> {
        let (private, metadata, reserved) = match address.to_canonical() {
            IpAddr::V4(ip) => {
                let within = |ranges: &[Ipv4Net]| ranges.iter().any(|range| range.contains(&ip));
                (within(PRIVATE_V4), within(METADATA_V4), within(RESERVED_V4))
            }
            IpAddr::V6(ip) => {
                let within = |ranges: &[Ipv6Net]| ranges.iter().any(|range| range.contains(&ip));
                let is_v4_compatible =
                    V4_COMPATIBLE.contains(&ip) && !ip.is_unspecified() && !ip.is_loopback();
                (within(PRIVATE_V6), within(METADATA_V6), within(RESERVED_V6) || is_v4_compatible)
            }
        };
        if private && !self.allow_private {
            Err(EgressError::Private)
        } else if metadata {
            Err(EgressError::Metadata)
        } else if reserved {
            Err(EgressError::Reserved)
        } else {
            Ok(())
        }
    }

    /// Whether one of the cluster's own endpoints has this port.
    pub(super) fn refuses_port(&self, port: u16) -> bool {
        self.refused_endpoints.iter().any(|own| own.port() == port)
            || self.refused_names.iter().any(|(_, own)| *own == port)
    }
}

/// Whether both lead to the same place. All loopback addresses do, and so does the unspecified one,
/// as a target and as an address to listen on.
pub(super) fn is_same(a: IpAddr, b: IpAddr) -> bool {
    let (a, b) = (a.to_canonical(), b.to_canonical());
    let is_here = |ip: IpAddr| ip.is_loopback() || ip.is_unspecified();
    a == b || is_here(a) && is_here(b)
}

/// Names that mean this machine by definition (RFC 6761), with or without the final dot. Other
/// names of the local network are known only by what they resolve to.
fn is_local_name(name: &str) -> bool {
    without_dot(name).rsplit('.').next().is_some_and(|last| last.eq_ignore_ascii_case("localhost"))
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
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
    /// When given, the addresses of the cluster's own endpoints are left out as well. A resolver is not told
    /// the port, so this is decided per client, and goes by the address alone.
    pub(super) own: Option<Arc<OwnAddresses>>,
    pub(super) lookup: Lookup,
}

impl Resolve for GuardedResolver {
    fn resolve(&self, name: Name) -> Resolving {
        let (policy, own) = (Arc::clone(&self.policy), self.own.clone());
        let found = (self.lookup)(name.as_str().to_owned());
        Box::pin(async move {
            let own = match own {
                Some(own) => own.find(&policy, None).await,
                None => Vec::new(),
            };
            let check = |address: IpAddr| {
                policy.check_address(address)?;
                if own.iter().any(|own| is_same(*own, address)) { Err(EgressError::Own) } else { Ok(()) }
            };
            let mut allowed = Vec::new();
            let mut refused = None;
            for address in found.await? {
                match check(address.ip()) {
                    Ok(()) => allowed.push(address),
                    Err(error) => refused = refused.or(Some(error)),
                }
            }
            match refused {
                _ if !allowed.is_empty() => Ok(Box::new(allowed.into_iter()) as Addrs),
                Some(error) => Err(error.into()),
                None => Err(io::Error::from(io::ErrorKind::NotFound).into()),
            }
        })
    }
}

#[cfg(test)]
mod tests;
