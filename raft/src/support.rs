//! What makes a leader sure of its office: another node's word for whom it has voted.
//!
//! A leader may answer a read only once it knows that no other had been elected when the read began, since that one may
//! have committed what this one has not seen. Raft has it ask a quorum with each read (section 6.4 of Ongaro's
//! dissertation). Of three nodes one other is enough, and when that one asks on behalf of its own readers, its question
//! brings the word along: until it asked, it had voted for nobody after this leader. As the two are a quorum, nobody
//! else had one at that moment, so everything acknowledged until then was committed by this leader or before it. No
//! clock is involved.

use crate::types::{LeaderId, Membership, TypeConfig};
use domain::id::NodeId;
use openraft::RaftState;
use proto::cluster as pb;
use std::collections::BTreeSet;

/// The word of a node that may vote: its newest vote was this one when it began to ask.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Support {
    pub(crate) node: NodeId,
    pub(crate) vote: LeaderId,
}

impl From<Support> for pb::Support {
    fn from(Support { node, vote }: Support) -> Self {
        Self { node: node.0, term: vote.term, candidate: vote.node_id }
    }
}

impl From<pb::Support> for Support {
    fn from(support: pb::Support) -> Self {
        let pb::Support { node, term, candidate } = support;
        Self { node: NodeId(node), vote: LeaderId { term, node_id: candidate } }
    }
}

impl Support {
    /// The word of the node whose state this is.
    pub(crate) fn of(node: NodeId, state: &RaftState<TypeConfig>) -> Self {
        Self { node, vote: state.vote_ref().leader_id }
    }
}

/// How far the log must be applied to show everything that was acknowledged before `support` was given, if that
/// makes `me` sure that it leads.
pub(crate) fn read_index(me: NodeId, state: &RaftState<TypeConfig>, support: Support) -> Option<u64> {
    let vote = state.vote_ref();
    let committed = state.local_committed()?;
    // A leader that has committed nothing yet does not know how much of its predecessors' log is committed.
    let knows_all = committed.leader_id == vote.leader_id;
    let leads = vote.committed && vote.leader_id.node_id == me.0;
    let membership = state.membership_state.effective();
    (leads && knows_all && confirms(me, vote.leader_id, membership.membership(), support))
        .then_some(committed.index)
}

/// Whether one node's word can make a leader sure.
pub(crate) fn is_enough(membership: &Membership) -> bool {
    membership.get_joint_config().iter().all(|voters| voters.len() <= 3)
}

/// Whether `support` and the leader of this office are a quorum.
fn confirms(me: NodeId, office: LeaderId, membership: &Membership, support: Support) -> bool {
    let is_quorum = |voters: &BTreeSet<u64>| {
        let both = [me, support.node].into_iter().filter(|node| voters.contains(&node.0)).count();
        both * 2 > voters.len()
    };
    support.vote == office && support.node != me && membership.get_joint_config().iter().all(is_quorum)
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::impls::BasicNode;
    use std::collections::BTreeMap;

    const ME: NodeId = NodeId(1);
    const OFFICE: LeaderId = LeaderId { term: 7, node_id: 1 };

    /// Of members 1 to 5, with these voters.
    fn confirmed_by(node: u64, vote: LeaderId, voters: &[&[u64]]) -> bool {
        let configs: Vec<BTreeSet<u64>> =
            voters.iter().map(|config| config.iter().copied().collect()).collect();
        let nodes: BTreeMap<u64, BasicNode> = (1..=5).map(|node| (node, BasicNode::default())).collect();
        let membership = Membership::new(configs, nodes).unwrap();
        confirms(ME, OFFICE, &membership, Support { node: NodeId(node), vote })
    }

    #[test]
    fn one_other_of_three_makes_a_quorum() {
        assert!(confirmed_by(2, OFFICE, &[&[1, 2, 3]]));
        assert!(confirmed_by(3, OFFICE, &[&[1, 2, 3]]));
        assert!(confirmed_by(2, OFFICE, &[&[1, 2]]));
    }

    #[test]
    fn one_other_of_more_does_not() {
        assert!(!confirmed_by(2, OFFICE, &[&[1, 2, 3, 4]]));
        assert!(!confirmed_by(2, OFFICE, &[&[1, 2, 3, 4, 5]]));
    }

    #[test]
    fn who_voted_for_another_supports_nobody() {
        for vote in [
            LeaderId { term: 8, node_id: 1 },
            LeaderId { term: 6, node_id: 1 },
            LeaderId { term: 7, node_id: 3 },
        ] {
            assert!(!confirmed_by(2, vote, &[&[1, 2, 3]]), "{vote}");
        }
    }

    #[test]
    fn only_voters_count_and_each_once() {
        assert!(!confirmed_by(4, OFFICE, &[&[1, 2, 3]]));
        assert!(!confirmed_by(1, OFFICE, &[&[1, 2, 3]]));
        // A leader that is about to leave.
        assert!(!confirmed_by(2, OFFICE, &[&[2, 3, 4]]));
    }

    #[test]
    fn while_members_change_both_sets_must_agree() {
        assert!(confirmed_by(2, OFFICE, &[&[1, 2, 3], &[1, 2, 4]]));
        assert!(!confirmed_by(3, OFFICE, &[&[1, 2, 3], &[1, 2, 4]]));
        assert!(!confirmed_by(2, OFFICE, &[&[1, 2, 3], &[1, 2, 3, 4, 5]]));
    }
}
