//! The certificate by which the API proves who it is.

use std::fmt;
use std::sync::Arc;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

/// What the server speaks; HTTP/2 is not among it.
const PROTOCOL: &[u8] = b"http/1.1";

/// Why a certificate or its key cannot be used. Reads well behind the name of the file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// There is no certificate in the text.
    #[error("holds no certificate in PEM form")]
    Certificate,
    /// There is no private key in the text.
    #[error("holds no private key in PEM form")]
    Key,
    /// They do not belong together, or are of a kind that nobody takes.
    #[error("cannot be used with the certificate: {0}")]
    Pair(String),
}

/// A certificate and its key. Known to make sense. Clones share them.
#[derive(Clone)]
pub struct Tls {
    certificates: Vec<CertificateDer<'static>>,
    config: Arc<ServerConfig>,
}

impl Tls {
    /// Takes the texts of PEM files: our certificate (then those between it and its authority), and its private key.
    ///
    /// # Errors
    /// [`TlsError`].
    pub fn new(certificates: &[u8], key: &[u8]) -> Result<Self, TlsError> {
        let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(certificates).collect();
        let certificates =
            certificates.ok().filter(|found| !found.is_empty()).ok_or(TlsError::Certificate)?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| TlsError::Key)?;
        let config =
            ServerConfig::builder().with_no_client_auth().with_single_cert(certificates.clone(), key);
        let mut config = config.map_err(|error| TlsError::Pair(error.to_string()))?;
        config.alpn_protocols = vec![PROTOCOL.to_vec()];
        Ok(Self { certificates, config: Arc::new(config) })
    }

    pub(crate) fn acceptor(&self) -> TlsAcceptor {
        TlsAcceptor::from(Arc::clone(&self.config))
    }
}

/// A certificate has one key.
impl PartialEq for Tls {
    fn eq(&self, other: &Self) -> bool {
        self.certificates == other.certificates
    }
}

impl Eq for Tls {}

/// Hides the key.
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls(..)")
    }
}
