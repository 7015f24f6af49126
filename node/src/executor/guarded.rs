//! A client that sends only where the [`EgressPolicy`] lets it, and says in plain words why there is no
//! answer.
//!
//! Redirects are not followed, proxies of the environment are not used, and answers are not decompressed.

use super::egress::{EgressError, EgressPolicy, GuardedResolver, Lookup, system_lookup};
use super::own::OwnAddresses;
use domain::execution::{ErrorKind, Failure};
use domain::limits;
use http::Method;
use reqwest::{Client, RequestBuilder, redirect};
use std::error::Error;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// How long a connection is kept for the next request: for the rest of a crowd that is due at once and for the next firing of
/// a job of every second, and below the 2 to 75 s after which servers and load balancers close one that is idle. A
/// request that meets that closing fails though the target is well, and whether it arrived nobody can tell; jobs
/// of every minute behind a balancer that closes after 60 s would meet it all the time.
pub(super) const POOL_IDLE_TIMEOUT: Duration = Duration::from_millis(1_500);

/// The client cannot be built, for instance because this machine has no root certificates.
#[derive(Debug, thiserror::Error)]
#[error("cannot set up the http client")]
pub struct BuildError(#[from] reqwest::Error);

/// Sends over pooled connections. Clones share them.
#[derive(Clone)]
pub struct GuardedClient {
    egress: Arc<EgressPolicy>,
    own: Arc<OwnAddresses>,
    client: Client,
    /// For ports on which the cluster itself listens; see [`GuardedResolver`].
    own_ports_client: Client,
    connect_timeout: Duration,
}

impl std::fmt::Debug for GuardedClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GuardedClient").field("egress", &self.egress).finish_non_exhaustive()
    }
}

impl GuardedClient {
    /// Sets up a client that keeps at most so many idle connections to one host. Opens no connection.
    ///
    /// # Errors
    /// [`BuildError`] when TLS cannot be set up.
    pub fn new(
        egress: EgressPolicy,
        connect_timeout: Duration,
        idle_per_host_max: usize,
    ) -> Result<Self, BuildError> {
        Self::with_lookup(egress, connect_timeout, idle_per_host_max, system_lookup)
    }

    pub(crate) fn with_lookup(
        egress: EgressPolicy,
        connect_timeout: Duration,
        idle_per_host_max: usize,
        lookup: Lookup,
    ) -> Result<Self, BuildError> {
        let egress = Arc::new(egress);
        let own = Arc::new(OwnAddresses::new(lookup));
        let build = |own| {
            let policy = Arc::clone(&egress);
            Client::builder()
                .dns_resolver(Arc::new(GuardedResolver { policy, own, lookup }))
                .no_proxy()
                .redirect(redirect::Policy::none())
                .referer(false)
                .connect_timeout(connect_timeout)
                .pool_idle_timeout(POOL_IDLE_TIMEOUT)
                .pool_max_idle_per_host(idle_per_host_max)
                .tcp_nodelay(true)
                .build()
        };
        let client = build(None)?;
        let own_ports_client = build(Some(Arc::clone(&own)))?;
        Ok(Self { egress, own, client, own_ports_client, connect_timeout })
    }

    /// Judges a URL before anything is sent to it: an address written as a host never reaches the resolver.
    ///
    /// # Errors
    /// As `blocked_target`, when it may not be called.
    pub fn check(&self, url: &Url) -> Result<(), Failure> {
        self.egress.check_url(url).map_err(blocked)
    }

    /// Begins a request to a URL that has been checked.
    ///
    /// # Errors
    /// As `blocked_target`, when the host is written as an address of one of the cluster's own endpoints.
    pub async fn request(&self, method: Method, url: &Url) -> Result<RequestBuilder, Failure> {
        let mut client = &self.client;
        if url.port_or_known_default().is_some_and(|port| self.egress.refuses_port(port)) {
            // Such an address never gets to the resolver of that client.
            self.own.check_address(&self.egress, url).await.map_err(blocked)?;
            client = &self.own_ports_client;
        }
        Ok(client.request(method, url.clone()))
    }

    /// Tells why there is no answer. The text names the host at most, never an address.
    #[must_use]
    pub fn explain(&self, error: &reqwest::Error, url: &Url) -> Failure {
        if let Some(error) = causes(error).find_map(|cause| cause.downcast_ref::<EgressError>()) {
            return blocked(*error);
        }
        if error.is_dns() {
            let host = url.host_str().unwrap_or_default();
            return failure(ErrorKind::Dns, format!("Host name {host} cannot be resolved"));
        }
        let io_kind =
            causes(error).filter_map(|cause| cause.downcast_ref::<io::Error>()).last().map(io::Error::kind);
        let innermost = causes(error).last().map(ToString::to_string).unwrap_or_default();
        let connect = |message: &str| failure(ErrorKind::Connect, message);
        match io_kind {
            Some(io::ErrorKind::ConnectionRefused) => connect("Connection refused"),
            Some(
                io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted | io::ErrorKind::BrokenPipe,
            ) => connect("Connection reset by the target"),
            Some(io::ErrorKind::HostUnreachable) => connect("Host unreachable"),
            Some(io::ErrorKind::NetworkUnreachable) => connect("Network unreachable"),
            // TLS reports whatever it finds wrong with the other side as invalid data, also after
            // the handshake, when the target refuses a client without a certificate.
            Some(io::ErrorKind::InvalidData) if url.scheme() == "https" => {
                failure(ErrorKind::Tls, format!("TLS failed: {innermost}"))
            }
            Some(io::ErrorKind::UnexpectedEof) if url.scheme() == "https" && error.is_connect() => {
                failure(ErrorKind::Tls, "TLS failed: the target closed the connection during the handshake")
            }
            _ if error.is_timeout() => failure(
                ErrorKind::Connect,
                format!("No connection after {}s", self.connect_timeout.as_secs_f64()),
            ),
            _ if error.is_connect() => connect("Connection failed"),
            _ => failure(ErrorKind::Connect, format!("No valid answer: {innermost}")),
        }
    }
}

fn blocked(error: EgressError) -> Failure {
    failure(ErrorKind::BlockedTarget, error.message())
}

pub(super) fn failure(kind: ErrorKind, message: impl Into<String>) -> Failure {
    let mut message = message.into();
    message.truncate(message.floor_char_boundary(limits::ERROR_BYTES_MAX));
    Failure { kind, message }
}

/// The error and what lies under it. An [`io::Error`] hides what it wraps from `source`.
fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error| {
        match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(wrapped) => Some(wrapped),
            None => error.source(),
        }
    })
}
