//! Certificates and keys, read from the files that the flags name.

use super::{ConfigError, invalid};
use crate::cli::RpcTlsArgs;
use api::TlsError;
use std::fs;
use std::path::{Path, PathBuf};

const CERT: &str = "tls-cert";
const KEY: &str = "tls-key";
const RPC_CA: &str = "rpc-tls-ca";
const RPC_CERT: &str = "rpc-tls-cert";
const RPC_KEY: &str = "rpc-tls-key";

/// The certificate of the REST API.
pub(super) fn api(cert: Option<PathBuf>, key: Option<PathBuf>) -> Result<Option<api::Tls>, ConfigError> {
    match (cert, key) {
        (None, None) => Ok(None),
        (Some(cert), Some(key)) => Pair::read((CERT, cert), (KEY, key))?.check().map(Some),
        (Some(_), None) => Err(invalid(CERT, format!("needs --{KEY}"))),
        (None, Some(_)) => Err(invalid(KEY, format!("needs --{CERT}"))),
    }
}

/// What nodes prove to each other that they belong together by, beside the secret.
pub(super) fn rpc(args: RpcTlsArgs) -> Result<Option<raft::Tls>, ConfigError> {
    let RpcTlsArgs { rpc_tls_ca, rpc_tls_cert, rpc_tls_key } = args;
    let (ca, cert, key) = match (rpc_tls_ca, rpc_tls_cert, rpc_tls_key) {
        (None, None, None) => return Ok(None),
        (Some(ca), Some(cert), Some(key)) => (ca, cert, key),
        _ => {
            return Err(ConfigError::new(format!(
                "give --{RPC_CA}, --{RPC_CERT} and --{RPC_KEY}, or none of them"
            )));
        }
    };
    let pair = Pair::read((RPC_CERT, cert), (RPC_KEY, key))?;
    pair.check()?;
    let authority = read(RPC_CA, &ca)?;
    let tls = raft::Tls::new(authority, pair.cert.text, pair.key.text);
    tls.map(Some).map_err(|error| invalid(RPC_CA, format!("{} cannot be used: {error}", ca.display())))
}

struct File {
    flag: &'static str,
    path: PathBuf,
    text: Vec<u8>,
}

struct Pair {
    cert: File,
    key: File,
}

impl Pair {
    fn read(cert: (&'static str, PathBuf), key: (&'static str, PathBuf)) -> Result<Self, ConfigError> {
        let file = |(flag, path): (&'static str, PathBuf)| {
            let text = read(flag, &path)?;
            Ok(File { flag, path, text })
        };
        Ok(Self { cert: file(cert)?, key: file(key)? })
    }

    /// Sees that they are what they are said to be, and belong together.
    fn check(&self) -> Result<api::Tls, ConfigError> {
        api::Tls::new(&self.cert.text, &self.key.text).map_err(|error| {
            let file = match error {
                TlsError::Certificate => &self.cert,
                TlsError::Key | TlsError::Pair(_) => &self.key,
            };
            invalid(file.flag, format!("{} {error}", file.path.display()))
        })
    }
}

fn read(flag: &'static str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    fs::read(path).map_err(|error| invalid(flag, format!("cannot read {}: {error}", path.display())))
}
