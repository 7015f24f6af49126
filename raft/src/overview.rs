//! The cluster as one node sees it: consensus, who is alive, who owns what. Asks nobody, so that it can be had
//! without a leader too.

use crate::{Cluster, Member, Position};
use domain::id::NodeId;
use domain::limits;
use domain::node::{FeatureLevel, Node};
use std::collections::BTreeMap;
use storage::schema::{Metas, Nodes, Restore, RestoreStage, Restores, ShardMaps};
use storage::{Digest, Read};

/// Registered nodes read at once: more than a cluster ever has.
const NODES_MAX: usize = 1_000;

/// The cluster as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overview {
    /// The node that sees it.
    pub node: NodeId,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// The current term.
    pub term: u64,
    /// Index of the last entry it has applied.
    pub applied: u64,
    /// The chain over what was written up to that entry: the same on all nodes. Unknown while its state goes back to a build
    /// that kept none.
    pub digest: Option<Digest>,
    /// What the cluster can do.
    pub level: FeatureLevel,
    /// Rises with every deal of the shards.
    pub shard_map_version: u64,
    /// All members.
    pub members: Vec<MemberOverview>,
    /// A backup that is being restored, if one is. Until that is done nothing fires, and the REST API answers nothing.
    pub restoring: Option<Restoring>,
}

/// How far a backup has come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Restoring {
    /// How many parts it has.
    pub parts: u64,
    /// How many of them are in.
    pub parts_in: u64,
}

impl Restoring {
    fn of(restore: &Restore) -> Self {
        let parts = restore.parts;
        let parts_in = match restore.stage {
            RestoreStage::Clearing => 0,
            RestoreStage::Filling { next } => next,
            RestoreStage::Jobs { .. } | RestoreStage::Deliveries { .. } => parts,
        };
        Self { parts, parts_in }
    }
}

/// A member as one node sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberOverview {
    /// Its id.
    pub id: NodeId,
    /// Its part in consensus.
    pub role: Role,
    /// Registered, and not counted as dead. Unknown while the node that sees it is out of touch with a leader.
    pub live: Option<bool>,
    /// Where its REST API is reached, once it has registered.
    pub api_url: Option<String>,
    /// Where its RPC server is reached.
    pub rpc_addr: String,
    /// How far it has got, as far as that is known.
    pub applied: Option<u64>,
    /// How many shards it owns.
    pub shards: u64,
    /// The release it runs, once it has registered.
    pub version: Option<String>,
    /// The highest feature level it supports, once it has registered.
    pub level: Option<FeatureLevel>,
}

/// A member's part in consensus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It leads.
    Leader,
    /// It votes.
    Follower,
    /// It only learns.
    Learner,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Leader, Self::Follower, Self::Learner];

    /// As the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Learner => "learner",
        }
    }
}

impl Overview {
    /// The level to which `justrun cluster upgrade` would bring the cluster, if all members have said what they support and
    /// that is more than what it has.
    #[must_use]
    pub fn upgrade(&self) -> Option<FeatureLevel> {
        let supported: Option<Vec<FeatureLevel>> = self.members.iter().map(|member| member.level).collect();
        supported?.into_iter().min().filter(|lowest| *lowest > self.level)
    }
}

impl Cluster {
    /// The cluster as this node sees it.
    ///
    /// # Errors
    /// When the storage is broken.
    pub fn overview(&self) -> Result<Overview, storage::Error> {
        let mut status = self.status();
        let since_leader = self.contact().since_leader();
        if since_leader.is_some_and(|since| since >= limits::NODE_TIMEOUT) {
            // Whoever led when it was last heard of may lead no more.
            status.leader = None;
        }
        let (nodes, shards, level, position, restore) = {
            let view = self.state().view();
            let nodes: BTreeMap<NodeId, Node> =
                view.prefix::<Nodes>(&[], None, NODES_MAX)?.into_iter().collect();
            let shards = view.get::<ShardMaps>(&())?.unwrap_or_default();
            let level = view.get::<Metas>(&())?.unwrap_or_default().level;
            (nodes, shards, level, Position::of(&view)?, view.get::<Restores>(&())?)
        };
        let role = |member: &Member| {
            if status.leader == Some(member.id) {
                Role::Leader
            } else if member.voter {
                Role::Follower
            } else {
                Role::Learner
            }
        };
        let members = status.members.iter().map(|member| {
            let node = nodes.get(&member.id);
            MemberOverview {
                id: member.id,
                role: role(member),
                live: (member.id == status.node || status.leader.is_some())
                    .then(|| node.is_some_and(|node| node.expired_at.is_none())),
                api_url: node.map(|node| node.api_url.clone()),
                rpc_addr: member.rpc_addr.clone(),
                applied: if member.id == status.node { Some(position.applied) } else { member.matched },
                shards: shards.owned_by(member.id).count() as u64,
                version: node.map(|node| node.version.clone()),
                level: node.map(|node| node.level),
            }
        });
        Ok(Overview {
            node: status.node,
            leader: status.leader,
            term: status.term,
            applied: position.applied,
            digest: position.digest,
            level,
            shard_map_version: shards.version,
            members: members.collect(),
            restoring: restore.as_ref().map(Restoring::of),
        })
    }
}
