//! Members of the cluster, and the incarnations of their processes.

use crate::id::NodeId;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// One start of a node's process, numbered by the cluster. Claims name it, so that what a process
/// held is known to be orphaned once the process is gone, even if the node is back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Incarnation(pub u64);

/// Names a process towards the cluster before it has an incarnation: random, minted at its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SessionId(pub u64);

/// What a cluster as a whole can do: a number that only rises, and of which every build supports all up to one. What each
/// brings is told in `raft`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FeatureLevel(pub u32);

impl FeatureLevel {
    /// That of the first release.
    pub const FIRST: Self = Self(1);

    /// Whether it is that of the first release.
    #[must_use]
    pub fn is_first(&self) -> bool {
        *self == Self::FIRST
    }
}

/// What is meant where none is stored.
impl Default for FeatureLevel {
    fn default() -> Self {
        Self::FIRST
    }
}

impl fmt::Display for FeatureLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

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
    /// The highest feature level its build supports.
    #[serde(default, skip_serializing_if = "FeatureLevel::is_first")]
    pub level: FeatureLevel,
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
