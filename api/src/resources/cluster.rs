//! `/v1/cluster`: what this node knows of the cluster, for diagnosis. It answers without a leader too,
//! and therefore asks nobody.

use super::{Data, data};
use crate::Deps;
use crate::auth::Principal;
use crate::error::ApiError;
use axum::extract::State;
use domain::id::NodeId;
use domain::limits;
use domain::node::Node;
use domain::shard::ShardMap;
use raft::Status;
use serde::Serialize;
use std::collections::BTreeMap;
use storage::Read;
use storage::schema::{Nodes, ShardMaps};

/// Registered nodes read at once: more than a cluster ever has.
const NODES_MAX: usize = 1_000;

#[derive(Serialize)]
pub(crate) struct ClusterOutput {
    /// The node that answers.
    node_id: u64,
    leader_id: Option<u64>,
    term: u64,
    applied_index: u64,
    shard_map_version: u64,
    members: Vec<MemberOutput>,
}

#[derive(Serialize)]
struct MemberOutput {
    node_id: u64,
    role: &'static str,
    /// Registered, and not counted as dead. Unknown while the answering node is out of touch with a leader.
    live: Option<bool>,
    api_url: Option<String>,
    rpc_addr: String,
    /// How far it has got, as far as that is known here.
    applied_index: Option<u64>,
    shards: usize,
    version: Option<String>,
}

/// `GET /v1/cluster`
pub(crate) async fn get(
    State(deps): State<Deps>,
    _principal: Principal,
) -> Result<axum::Json<Data<ClusterOutput>>, ApiError> {
    let mut status = deps.cluster.status();
    let since_leader = deps.cluster.contact().since_leader();
    if since_leader.is_some_and(|since| since >= limits::NODE_TIMEOUT) {
        // Whoever led when it was last heard of may lead no more.
        status.leader = None;
    }
    let (nodes, shards) = deps.read(|view| {
        let nodes = view.prefix::<Nodes>(&[], None, NODES_MAX)?;
        Ok((nodes, view.get::<ShardMaps>(&())?.unwrap_or_default()))
    })?;
    Ok(data(ClusterOutput::new(&status, &nodes.into_iter().collect(), &shards)))
}

impl ClusterOutput {
    fn new(status: &Status, nodes: &BTreeMap<NodeId, Node>, shards: &ShardMap) -> Self {
        let members = status.members.iter().map(|member| {
            let node = nodes.get(&member.id);
            let role = if status.leader == Some(member.id) {
                "leader"
            } else if member.voter {
                "follower"
            } else {
                "learner"
            };
            MemberOutput {
                node_id: member.id.0,
                role,
                live: (member.id == status.node || status.leader.is_some())
                    .then(|| node.is_some_and(|node| node.expired_at.is_none())),
                api_url: node.map(|node| node.api_url.clone()),
                rpc_addr: member.rpc_addr.clone(),
                applied_index: if member.id == status.node { Some(status.applied) } else { member.matched },
                shards: shards.owned_by(member.id).count(),
                version: node.map(|node| node.version.clone()),
            }
        });
        Self {
            node_id: status.node.0,
            leader_id: status.leader.map(|leader| leader.0),
            term: status.term,
            applied_index: status.applied,
            shard_map_version: shards.version,
            members: members.collect(),
        }
    }
}
