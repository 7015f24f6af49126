//! TLS between nodes: each shows a certificate of the cluster's own authority, and asks for one.

use std::fmt;
use std::time::Duration;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity, Server, ServerTlsConfig};

/// How long a handshake may take before whoever began it is given up.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(2);

/// Why certificates cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TlsError(String);

/// What a node, or its operator, proves to others that it belongs to the cluster by, beside the secret. Known to make
/// sense.
#[derive(Clone, PartialEq, Eq)]
pub struct Tls {
    /// Whose certificates others must have.
    ca: Vec<u8>,
    cert: Vec<u8>,
    key: Vec<u8>,
}

impl Tls {
    /// Takes the texts of PEM files: certificates of the authority, our own (then those between it and the
    /// authority), and its private key.
    ///
    /// # Errors
    /// [`TlsError`] when they cannot be read, or do not belong together.
    pub fn new(ca: Vec<u8>, cert: Vec<u8>, key: Vec<u8>) -> Result<Self, TlsError> {
        let tls = Self { ca, cert, key };
        let refused = |error: tonic::transport::Error| TlsError(innermost(&error));
        Server::builder().tls_config(tls.server()).map_err(refused)?;
        Endpoint::from_static("https://localhost").tls_config(tls.client()).map_err(refused)?;
        Ok(tls)
    }

    pub(crate) fn server(&self) -> ServerTlsConfig {
        ServerTlsConfig::new()
            .identity(Identity::from_pem(&self.cert, &self.key))
            .client_ca_root(Certificate::from_pem(&self.ca))
            .timeout(HANDSHAKE_TIMEOUT)
    }

    fn client(&self) -> ClientTlsConfig {
        ClientTlsConfig::new()
            .identity(Identity::from_pem(&self.cert, &self.key))
            .ca_certificate(Certificate::from_pem(&self.ca))
            .timeout(HANDSHAKE_TIMEOUT)
    }
}

/// Hides the key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}

/// What listens at `addr` (`host:port`), which must show a certificate for that host where there is TLS.
pub(crate) fn endpoint(addr: &str, tls: Option<&Tls>) -> Result<Endpoint, tonic::transport::Error> {
    match tls {
        None => Endpoint::from_shared(format!("http://{addr}")),
        Some(tls) => Endpoint::from_shared(format!("https://{addr}"))?.tls_config(tls.client()),
    }
}

fn innermost(error: &dyn std::error::Error) -> String {
    std::iter::successors(Some(error), |&error| error.source()).last().unwrap_or(error).to_string()
}
