//! Commands about members and shards.

use domain::id::NodeId;
use domain::node::{FeatureLevel, Incarnation, SessionId};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A process takes its place in the cluster. Whatever an earlier process of the node held is orphaned.
///
/// Registering again with the session that is registered and live changes nothing; after the node was
/// expired it gives the process a new incarnation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegisterNode {
    /// The node.
    pub node: NodeId,
    /// The process.
    pub session: SessionId,
    /// Where its REST API is reached.
    pub api_url: String,
    /// Where other nodes reach it.
    pub rpc_addr: String,
    /// The software version it runs.
    pub version: String,
    /// The highest feature level its build supports; refused when the cluster's is higher.
    #[serde(default, skip_serializing_if = "FeatureLevel::is_first")]
    pub level: FeatureLevel,
    /// What the clock of its machine shows, by which an earlier process of the node may have sent what it held.
    #[serde(default, skip_serializing_if = "is_unknown")]
    pub at: Timestamp,
}

/// Earlier releases did not say it.
fn is_unknown(at: &Timestamp) -> bool {
    *at == Timestamp::EPOCH
}

/// A process is about to end: it keeps what it holds, takes nothing new, and gets no shards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DrainNode {
    /// The node.
    pub node: NodeId,
    /// The process.
    pub incarnation: Incarnation,
}

/// The leader has not heard of a process for the node timeout, or the process has drained. What it still
/// holds is orphaned.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExpireNode {
    /// The node.
    pub node: NodeId,
    /// The process; refused when the node has registered a newer one.
    pub incarnation: Incarnation,
}

/// A node does not belong to the cluster any more. Whatever its process holds is orphaned, and nothing of it counts from
/// then on; its id is never used again. Removing it again changes nothing.
///
/// To be proposed once the node has no vote: a quorum must not depend on a node that stops when it learns of this.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemoveNode {
    /// The node.
    pub node: NodeId,
}

/// The cluster can do more from now on. Refused while a node that has registered, dead or alive, does not support it; raising
/// it to what it is, or below, changes nothing.
///
/// To be proposed once every member has registered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaiseLevel {
    /// The new level.
    pub to: FeatureLevel,
}

/// New owners for the shards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetShardMap {
    /// The version this was computed from; refused when it is no longer the current one.
    pub expected_version: u64,
    /// The owner of each shard by its number; exactly [`domain::shard::SHARDS`] of them.
    pub owners: Vec<NodeId>,
}
