//! Members of the cluster, and the incarnations of their processes.

use crate::id::NodeId;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// One start of a node's process, numbered by the cluster. Claims name it, so that what a process
/// held is known to be orphaned once the process is gone, even if the node is back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// Names a process towards the cluster before it has an incarnation: random, minted at its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub u64);

/// A node that has registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// The process that registered last.
    pub session: SessionId,
    /// The number that process was given.
    pub incarnation: Incarnation,
    /// Where its REST API is reached.
    pub api_url: String,
    /// Where other nodes reach it, `host:port`.
    pub rpc_addr: String,
    /// The software version it runs.
    #[serde(default)]
    pub version: String,
    /// When it registered.
    pub registered_at: Timestamp,
    /// Whether its process is about to end: it keeps what it holds and takes nothing new.
    #[serde(default)]
    pub draining: bool,
    /// Since when it is counted as dead, if it is. A dead node claims nothing.
    #[serde(default)]
    pub expired_at: Option<Timestamp>,
}

impl Node {
    /// Whether `incarnation` of this node may claim.
    #[must_use]
    pub fn is_live(&self, incarnation: Incarnation) -> bool {
        self.incarnation == incarnation && self.expired_at.is_none() && !self.draining
    }
}
