//! `/v1/cluster`: what this node knows of the cluster, for diagnosis. It answers without a leader too,
//! and therefore asks nobody.

use super::{Data, data};
use crate::Shared;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::openapi::words::RoleWord;
use axum::extract::State;
use raft::{MemberOverview, Overview};
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
#[schema(as = Cluster)]
pub(crate) struct ClusterOutput {
    /// The node that answers.
    node_id: u64,
    /// Null while this node knows of none.
    #[schema(required)]
    leader_id: Option<u64>,
    term: u64,
    /// The last entry of the log that this node has applied.
    applied_index: u64,
    /// Digest of everything written up to `applied_index`, 16 hexadecimal digits: nodes of one release that show the same
    /// index show the same digest, unless their states differ. Null while this node's state goes back to a release that kept none.
    #[schema(required)]
    state_digest: Option<String>,
    /// What the cluster as a whole can do. Rises with `justrun cluster upgrade`, once every node runs a release that supports more.
    feature_level: u32,
    shard_map_version: u64,
    members: Vec<MemberOutput>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Member)]
struct MemberOutput {
    node_id: u64,
    #[schema(value_type = RoleWord)]
    role: &'static str,
    /// Registered, and not counted as dead. Unknown while the answering node is out of touch with a leader.
    #[schema(required)]
    live: Option<bool>,
    #[schema(required)]
    api_url: Option<String>,
    rpc_addr: String,
    /// How far it has got, as far as that is known here.
    #[schema(required)]
    applied_index: Option<u64>,
    shards: u64,
    #[schema(required)]
    version: Option<String>,
    /// The highest feature level that its release supports. Null until it has registered.
    #[schema(required)]
    feature_level: Option<u32>,
}

/// Get the cluster.
///
/// What the node that answers knows of the cluster: who leads, and for each member its role, liveness, applied index and
/// number of shards; and of itself a digest of its state. It answers without a leader, too.
#[utoipa::path(
    get, path = "/v1/cluster", operation_id = "getCluster", tag = "Cluster",
    responses((status = 200, description = "The cluster as this node sees it.", body = ClusterOutput)),
)]
pub(crate) async fn get(
    State(deps): State<Shared>,
    _principal: Principal,
) -> Result<axum::Json<Data<ClusterOutput>>, ApiError> {
    Ok(data(deps.cluster.overview()?.into()))
}

impl From<Overview> for ClusterOutput {
    fn from(overview: Overview) -> Self {
        Self {
            node_id: overview.node.0,
            leader_id: overview.leader.map(|leader| leader.0),
            term: overview.term,
            applied_index: overview.applied,
            state_digest: overview.digest.map(|digest| digest.to_string()),
            feature_level: overview.level.0,
            shard_map_version: overview.shard_map_version,
            members: overview.members.into_iter().map(MemberOutput::from).collect(),
        }
    }
}

impl From<MemberOverview> for MemberOutput {
    fn from(member: MemberOverview) -> Self {
        Self {
            node_id: member.id.0,
            role: member.role.as_str(),
            live: member.live,
            api_url: member.api_url,
            rpc_addr: member.rpc_addr,
            applied_index: member.applied,
            shards: member.shards,
            version: member.version,
            feature_level: member.level.map(|level| level.0),
        }
    }
}
