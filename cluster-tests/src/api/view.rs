//! What a node says of the cluster.

use serde::Deserialize;

/// What one node says of the cluster (`GET /v1/cluster`).
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct ClusterView {
    /// The node that answers.
    pub node_id: u64,
    /// The leader it knows.
    pub leader_id: Option<u64>,
    /// The Raft term.
    pub term: u64,
    /// The last log entry it has applied.
    pub applied_index: u64,
    /// Digest of all that it has written up to that entry; a node that goes back to an earlier release may have none.
    pub state_digest: Option<String>,
    /// Rises with every new assignment of shards.
    pub shard_map_version: u64,
    /// Everybody.
    pub members: Vec<MemberView>,
}

/// See [`ClusterView`].
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct MemberView {
    /// Which node.
    pub node_id: u64,
    /// `leader`, `follower` or `learner`.
    pub role: String,
    /// Whether it has been heard of lately; unknown to a node that has no leader.
    pub live: Option<bool>,
    /// The last log entry it is known to have applied.
    pub applied_index: Option<u64>,
    /// How many shards of the timer wheel it looks after.
    pub shards: u64,
}

impl ClusterView {
    /// Why the cluster is not whole with `nodes` members, or nothing: a leader, everybody alive, and every shard with a live owner.
    pub fn not_whole(&self, nodes: usize) -> Option<String> {
        let is_live = |member: &MemberView| member.live == Some(true);
        let live = self.members.iter().filter(|member| is_live(member));
        let whole = self.leader_id.is_some()
            && live.clone().count() == nodes
            && live.map(|member| member.shards).sum::<u64>() > 0
            && self.members.iter().all(|member| is_live(member) || member.shards == 0);
        (!whole).then(|| format!("{self:?}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cluster_is_whole_with_a_leader_and_live_owners() {
        let member = |node_id, live, shards| MemberView {
            node_id,
            role: "follower".to_owned(),
            live: Some(live),
            applied_index: None,
            shards,
        };
        let view = |leader_id, members| ClusterView {
            node_id: 1,
            leader_id,
            term: 1,
            applied_index: 1,
            state_digest: None,
            shard_map_version: 1,
            members,
        };
        let whole = view(Some(1), vec![member(1, true, 0), member(2, true, 128), member(3, true, 128)]);
        assert_eq!(whole.not_whole(3), None);
        for broken in [
            view(None, whole.members.clone()),
            view(Some(1), whole.members[..2].to_vec()),
            view(Some(1), vec![member(1, true, 0), member(2, true, 0), member(3, true, 0)]),
            view(Some(1), vec![member(1, true, 0), member(2, true, 128), member(3, false, 128)]),
        ] {
            assert!(broken.not_whole(3).is_some(), "{broken:?}");
        }
    }
}
