//! Settings of `justrun verify`.

use super::operate::access;
use super::{Action, ConfigError, OperatorSettings, OutputFormat, Secret, invalid};
use crate::cli::VerifyArgs;
use domain::time::Timestamp;
use std::path::PathBuf;

/// What is to be proven, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifySettings {
    /// Where the histories are.
    pub source: VerifySource,
    /// The beginning of the span; an hour before its end without it.
    pub from: Option<Timestamp>,
    /// Its end, after its beginning; as far as the histories go without it.
    pub to: Option<Timestamp>,
    /// How the answer is written.
    pub output: OutputFormat,
}

/// Where histories are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VerifySource {
    /// In a backup.
    File(PathBuf),
    /// In a cluster that works.
    Cluster {
        /// The rpc address of any node.
        rpc_addr: String,
        /// What the cluster's nodes share.
        cluster_secret: Secret,
        /// How nodes of this cluster are spoken to; in the clear without it.
        rpc_tls: Option<raft::Tls>,
    },
}

pub(super) fn verify(args: VerifyArgs) -> Result<VerifySettings, ConfigError> {
    let VerifyArgs { backup, from, to, access: args } = args;
    let (from, to) = (instant("from", from)?, instant("to", to)?);
    if from.zip(to).is_some_and(|(from, to)| from >= to) {
        return Err(invalid("to", "must be later than --from"));
    }
    let output = args.output.unwrap_or_default();
    let source = match backup {
        Some(file) => VerifySource::File(file),
        None => {
            let OperatorSettings { rpc_addr, cluster_secret, rpc_tls, .. } =
                access(args, Action::ClusterStatus)?;
            VerifySource::Cluster { rpc_addr, cluster_secret, rpc_tls }
        }
    };
    Ok(VerifySettings { source, from, to, output })
}

fn instant(flag: &'static str, text: Option<String>) -> Result<Option<Timestamp>, ConfigError> {
    let Some(text) = text else { return Ok(None) };
    let millis = text.parse::<jiff::Timestamp>().ok().and_then(|at| u64::try_from(at.as_millisecond()).ok());
    let form = || invalid(flag, format!("\"{text}\" is not an instant such as 2026-06-01T00:00:00Z"));
    millis.map(Timestamp::from_millis).map(Some).ok_or_else(form)
}
