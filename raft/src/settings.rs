//! What one node's consensus is told.

use crate::level::SUPPORTED;
use crate::tls::Tls;
use domain::id::NodeId;
use domain::limits;
use domain::node::{FeatureLevel, SessionId};
use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

/// Bytes of one proposal at most: a REST request of the largest size fits, with everything around it.
pub const PROPOSAL_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Bytes of one message between nodes: the largest entry, or many smaller ones, and some slack.
pub(crate) const MESSAGE_BYTES_MAX: usize = 8 * 1024 * 1024;

/// What nodes of one cluster share and nobody else knows.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Takes the secret from configuration.
    #[must_use]
    pub fn new(secret: impl Into<String>) -> Self {
        Self(secret.into())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(..)")
    }
}

/// When the log is folded into a snapshot.
#[derive(Clone, Debug)]
pub struct SnapshotSettings {
    /// Pause between looks at the log.
    pub interval: Duration,
    /// Bytes of log since the last snapshot that call for another, unless that one was larger.
    pub log_bytes: u64,
    /// Entries of log since the last snapshot that call for another.
    pub log_entries: u64,
    /// Entries kept behind a snapshot, so that a node that was away for a moment catches up from the log.
    pub entries_kept: u64,
}

impl Default for SnapshotSettings {
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(5),
            log_bytes: 64 * 1024 * 1024,
            log_entries: 200_000,
            entries_kept: 5_000,
        }
    }
}

/// What one node's consensus is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// This node.
    pub node: NodeId,
    /// This process. Rises with every start of the node's process.
    pub session: SessionId,
    /// The first members, this one included, and where their RPC servers are reached (`host:port`). These addresses win
    /// over those that the members agreed on.
    pub members: BTreeMap<NodeId, String>,
    /// Whom an empty node asks to be added (`host:port` of its RPC server). Without it the cluster of `members` is formed.
    pub join: Option<String>,
    /// What the members share.
    pub secret: Secret,
    /// How what they say to each other is kept from others; in the clear without it.
    pub tls: Option<Tls>,
    /// Where this node's REST API is reached; told to the others.
    pub api_url: String,
    /// Where this node's RPC server is reached; told to the others.
    pub rpc_addr: String,
    /// The release this process runs; told to the others.
    pub version: String,
    /// The highest feature level this process supports.
    pub supported: FeatureLevel,
    /// Pause between signs of life of the leader.
    pub heartbeat: Duration,
    /// A follower stands for election when it has heard of no leader for the upper one and a random
    /// time between the two.
    pub election_timeout: (Duration, Duration),
    /// How long [`crate::Cluster::propose`] waits.
    pub propose_timeout: Duration,
    /// How long [`crate::Cluster::read_barrier`] waits.
    pub read_timeout: Duration,
    /// How often this node reports to the leader, in real time.
    pub ping_interval: Duration,
    /// When the log is folded into a snapshot.
    pub snapshots: SnapshotSettings,
}

impl Settings {
    /// Settings for production; `rpc_addr` is this node's among `members`.
    #[must_use]
    pub fn new(node: NodeId, session: SessionId, members: BTreeMap<NodeId, String>, secret: Secret) -> Self {
        let rpc_addr = members.get(&node).cloned().unwrap_or_default();
        Self {
            node,
            session,
            members,
            join: None,
            secret,
            tls: None,
            api_url: String::new(),
            rpc_addr,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            supported: SUPPORTED,
            heartbeat: Duration::from_millis(100),
            election_timeout: (Duration::from_millis(300), Duration::from_millis(600)),
            propose_timeout: Duration::from_secs(5),
            read_timeout: Duration::from_secs(2),
            ping_interval: limits::PING_INTERVAL,
            snapshots: SnapshotSettings::default(),
        }
    }

    /// A leader whose quorum has answered within this time is sure of its office: before it has passed,
    /// no member that answered helps another one into it.
    pub(crate) fn lease(&self) -> Duration {
        self.election_timeout.1
    }
}
