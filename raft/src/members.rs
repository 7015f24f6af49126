//! Who belongs to the cluster, and how that changes.
//!
//! One node at a time, and only by the leader, which looks first whether the cluster can bear it. A node that is added learns
//! until it has caught up, and then gets a vote. A node that is removed loses its vote, is remembered as removed in the
//! state, and is then forgotten by consensus. Each step is safe to take twice. What a leader that died has left half done
//! its successor takes to the end, except that a removal whose node has only lost its vote is undone. See ADR 17.

use crate::belonging::{Belonging, Dismissed};
use crate::command::{Command, RaiseLevel, RemoveNode};
use crate::error::{ProposeError, TransferError};
use crate::office::Office;
use crate::services::is_formed;
use crate::types::{ClientWriteError, Membership};
use crate::way::Way;
use crate::{Cluster, tls};
use domain::id::NodeId;
use domain::limits::NODE_TIMEOUT;
use domain::node::FeatureLevel;
use openraft::ChangeMembers;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::RaftError;
use openraft::impls::BasicNode;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

/// What an operator's change may take, with elections in between. Operators wait longer.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(25);
/// What one step of it may take: an entry of the log, or two.
const STEP_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a node that is being filled is waited for.
const FILL_TIMEOUT: Duration = Duration::from_secs(5);
/// Wait before somebody is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(100);
/// Pause between looks at what is left to do. A learner that is no further behind than this has caught up.
const ROUND: Duration = Duration::from_millis(250);

/// What an operator wants of the members.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MemberChange {
    /// A node joins, as a learner first.
    Add {
        /// Its id.
        node: NodeId,
        /// Where its RPC server is reached, `host:port`.
        addr: String,
        /// The highest feature level it supports, if it asks itself.
        level: Option<FeatureLevel>,
    },
    /// A node leaves for good.
    Remove(NodeId),
    /// A node is to lead.
    TransferLeader(NodeId),
    /// The cluster is to do all that every member supports.
    Upgrade,
}

/// Why a change will not be made. Each is a line for the operator.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Objection {
    #[error(
        "node {0} was removed from this cluster, and its id is not used again; give the new node another one"
    )]
    Removed(NodeId),
    #[error(
        "node {node} is a member already, at {addr}; a node keeps its address, or is removed and joins under another id"
    )]
    Elsewhere { node: NodeId, addr: String },
    #[error("{addr} is the address of node {node} already")]
    AddressTaken { addr: String, node: NodeId },
    #[error("{0} is no address of the form HOST:PORT")]
    Address(String),
    #[error("there is no node {0}; see justrun cluster status")]
    NoSuchNode(NodeId),
    #[error("node {0} is the only one that has a vote; nothing would be left of the cluster")]
    LastVoter(NodeId),
    #[error(
        "without node {node}, {live} of {voters} voters would be alive, which is no quorum; bring another one back, or add \
         one, first"
    )]
    QuorumLost { node: NodeId, live: usize, voters: usize },
    #[error(
        "without node {node}, the quorum would need node {filling}, which is being filled after it lost its data and may not \
         vote until that is done; try again then"
    )]
    Filling { node: NodeId, filling: NodeId },
    #[error(
        "node {node} runs a build that supports feature level {supported} at most, and the cluster is at level {level}"
    )]
    TooOld { node: NodeId, supported: FeatureLevel, level: FeatureLevel },
    #[error("node {0} has not said yet which feature level it supports; start it, or remove it")]
    Unheard(NodeId),
    #[error("node {0} has no vote yet, so it cannot lead")]
    Learner(NodeId),
    #[error("node {0} has not been heard of lately, so it cannot take over")]
    Silent(NodeId),
    #[error("node {0} did not take over in time; it may lag behind, so try again")]
    NotTakenOver(NodeId),
    #[error("nobody could take over from node {0}, which leads; nothing was changed, try again")]
    NoSuccessor(NodeId),
}

/// Why a change has not come about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Unchanged {
    /// It will not.
    Refused(String),
    /// Another node would have to do it.
    NotLeader(Option<NodeId>),
    /// It may have been, or has been in part. Asking again completes it.
    Unknown(String),
}

impl From<Objection> for Unchanged {
    fn from(objection: Objection) -> Self {
        Self::Refused(objection.to_string())
    }
}

/// Changes who belongs. Clones are one.
#[derive(Clone)]
pub(crate) struct Members {
    cluster: Cluster,
    office: Office,
    /// Changes wait for each other here.
    desk: Arc<Mutex<()>>,
}

impl Members {
    pub(crate) fn new(cluster: Cluster, office: Office) -> Self {
        Self { cluster, office, desk: Arc::default() }
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.cluster
    }

    /// Makes a change, or has the leader make it, whoever that is meanwhile.
    pub(crate) async fn change_anywhere(&self, change: &MemberChange) -> Result<(), Unchanged> {
        let me = self.office.me;
        if *change != MemberChange::Remove(me) {
            return self.ask_leaders(change).await;
        }
        // Who is removed itself has nobody left to ask once that is done.
        tokio::select! {
            answer = self.ask_leaders(change) => answer,
            why = self.belonging().dismissed() => {
                if why == Dismissed::Removed(me) { Ok(()) } else { Err(Unchanged::Unknown(why.to_string())) }
            }
        }
    }

    async fn ask_leaders(&self, change: &MemberChange) -> Result<(), Unchanged> {
        let office = &self.office;
        let deadline = Instant::now() + CHANGE_TIMEOUT;
        let mut hint = None;
        let mut last = Unchanged::NotLeader(None);
        while Instant::now() < deadline {
            let answer = match hint.take().or_else(|| office.leader()) {
                None => Err(Unchanged::NotLeader(None)),
                Some(leader) if leader == office.me => self.change(change).await,
                Some(leader) => {
                    let asked = timeout_at(deadline, office.change_at(leader, change));
                    asked
                        .await
                        .unwrap_or_else(|_| Err(Unchanged::Unknown("no answer came in time".to_owned())))
                }
            };
            match answer {
                Ok(()) => return Ok(()),
                Err(refused @ Unchanged::Refused(_)) => return Err(refused),
                Err(Unchanged::NotLeader(leader)) => hint = leader.filter(|leader| *leader != office.me),
                Err(unknown @ Unchanged::Unknown(_)) => last = unknown,
            }
            sleep(ASK_AGAIN).await;
        }
        Err(last)
    }

    /// Makes a change, if this node leads.
    pub(crate) async fn change(&self, change: &MemberChange) -> Result<(), Unchanged> {
        let _desk = self.desk.lock().await;
        self.must_lead().await?;
        match change {
            MemberChange::Add { node, addr, level } => {
                self.must_be_new_enough(*node, *level)?;
                self.add(*node, addr).await
            }
            MemberChange::Upgrade => self.upgrade().await,
            MemberChange::Remove(node) => self.remove(*node).await,
            MemberChange::TransferLeader(node) => self.transfer(*node).await,
        }
    }

    /// Makes sure that this node leads, and that its state shows what was decided before.
    async fn must_lead(&self) -> Result<(), Unchanged> {
        let office = &self.office;
        if !office.contact.is_sure_leader() {
            return Err(Unchanged::NotLeader(office.leader()));
        }
        self.cluster.read_barrier().await.map_err(|error| Unchanged::Unknown(error.to_string()))
    }

    fn must_be_new_enough(&self, node: NodeId, supported: Option<FeatureLevel>) -> Result<(), Unchanged> {
        let level = self.cluster.level().map_err(|error| Unchanged::Unknown(error.to_string()))?;
        match supported.filter(|supported| *supported < level) {
            Some(supported) => Err(Objection::TooOld { node, supported, level }.into()),
            None => Ok(()),
        }
    }

    /// Raises the feature level to the highest that all members support.
    async fn upgrade(&self) -> Result<(), Unchanged> {
        let overview = self.cluster.overview().map_err(|error| Unchanged::Unknown(error.to_string()))?;
        if let Some(unheard) = overview.members.iter().find(|member| member.level.is_none()) {
            return Err(Objection::Unheard(unheard.id).into());
        }
        let Some(to) = overview.upgrade() else { return Ok(()) };
        match self.cluster.propose(Command::RaiseLevel(RaiseLevel { to })).await {
            Ok(_) => {
                tracing::info!(level = to.0, "the feature level was raised");
                Ok(())
            }
            Err(ProposeError::Rejected(rejection)) => Err(Unchanged::Refused(rejection.to_string())),
            Err(error) => Err(Unchanged::Unknown(error.to_string())),
        }
    }

    async fn add(&self, node: NodeId, addr: &str) -> Result<(), Unchanged> {
        if tls::endpoint(addr, None).is_err() {
            return Err(Objection::Address(addr.to_owned()).into());
        }
        if self.belonging().is_removed(node) {
            return Err(Objection::Removed(node).into());
        }
        for (member, known) in self.membership().nodes() {
            match (NodeId(*member) == node, known.addr == addr) {
                (true, true) => return Ok(()),
                (true, false) => {
                    return Err(Objection::Elsewhere { node, addr: known.addr.clone() }.into());
                }
                (false, true) => {
                    let taken = Objection::AddressTaken { addr: addr.to_owned(), node: NodeId(*member) };
                    return Err(taken.into());
                }
                (false, false) => {}
            }
        }
        tracing::info!(%node, addr, "a node joins; it gets a vote once it has caught up");
        self.step(ChangeMembers::AddNodes(BTreeMap::from([(node.0, BasicNode::new(addr))]))).await
    }

    async fn remove(&self, node: NodeId) -> Result<(), Unchanged> {
        let office = &self.office;
        let membership = self.membership();
        let was_removed = self.belonging().is_removed(node);
        if membership.get_node(&node.0).is_none() {
            return if was_removed { Ok(()) } else { Err(Objection::NoSuchNode(node).into()) };
        }
        let voters: BTreeSet<NodeId> = membership.voter_ids().map(NodeId).collect();
        if voters.contains(&node) {
            self.must_do_without(node, &voters).await?;
            if node == office.me {
                return match self.cluster.hand_over(None).await {
                    Ok(successor) => Err(Unchanged::NotLeader(successor)),
                    Err(TransferError::NotLeader) => Err(Unchanged::NotLeader(None)),
                    Err(_) => Err(Objection::NoSuccessor(node).into()),
                };
            }
            tracing::info!(%node, "a node loses its vote, to be removed");
            self.step(ChangeMembers::RemoveVoters([node.0].into())).await?;
        }
        self.bury(node).await
    }

    /// Refuses to remove a voter that the others need. One that is being filled is waited for a little: it is no help in an
    /// election, and should this leader end, there would be nobody to fill it.
    async fn must_do_without(&self, node: NodeId, voters: &BTreeSet<NodeId>) -> Result<(), Unchanged> {
        let deadline = Instant::now() + FILL_TIMEOUT;
        loop {
            let live = self.answering(voters).await;
            let able = live.iter().filter(|(_, may_vote)| **may_vote).map(|(node, _)| *node).collect();
            let Some(lost) = objection(voters, &able, node) else { return Ok(()) };
            let filling = live.iter().find(|(_, may_vote)| !**may_vote).map(|(node, _)| *node);
            let Some(filling) =
                filling.filter(|_| objection(voters, &live.into_keys().collect(), node).is_none())
            else {
                return Err(lost.into());
            };
            if Instant::now() >= deadline {
                return Err(Objection::Filling { node, filling }.into());
            }
            sleep(ASK_AGAIN).await;
        }
    }

    /// Those of `nodes` that answer now, this one among them, and whether they may vote. One that was heard of a moment ago may be
    /// dead by now.
    async fn answering(&self, nodes: &BTreeSet<NodeId>) -> BTreeMap<NodeId, bool> {
        let asked = nodes.iter().map(|node| async {
            let may_vote = match *node == self.office.me {
                true => Some(self.office.may_vote()),
                false => is_formed(&self.office, *node).await.map(|answer| answer.may_vote),
            };
            may_vote.map(|may_vote| (*node, may_vote))
        });
        futures::future::join_all(asked).await.into_iter().flatten().collect()
    }

    /// Has the state remember that a learner was removed, and consensus forget it.
    async fn bury(&self, node: NodeId) -> Result<(), Unchanged> {
        // First, so that a node that is alive learns of it from the log, and no leader gives it its vote back.
        let remove = Command::RemoveNode(RemoveNode { node });
        self.cluster.propose(remove).await.map_err(|error| Unchanged::Unknown(error.to_string()))?;
        self.step(ChangeMembers::RemoveNodes([node.0].into())).await?;
        tracing::info!(%node, "a node was removed");
        Ok(())
    }

    async fn transfer(&self, node: NodeId) -> Result<(), Unchanged> {
        let office = &self.office;
        if node == office.me {
            return Ok(());
        }
        let membership = self.membership();
        if membership.get_node(&node.0).is_none() {
            return Err(Objection::NoSuchNode(node).into());
        }
        if !membership.voter_ids().any(|voter| voter == node.0) {
            return Err(Objection::Learner(node).into());
        }
        if !office.contact.live(NODE_TIMEOUT).contains(&node) {
            if office.contact.has_led_for(NODE_TIMEOUT) {
                return Err(Objection::Silent(node).into());
            }
            return Err(Unchanged::Unknown("the leader does not know yet who is alive".to_owned()));
        }
        match self.cluster.hand_over(Some(node)).await {
            Ok(Some(successor)) if successor == node => Ok(()),
            Err(TransferError::NotLeader) => Err(Unchanged::NotLeader(None)),
            Ok(_) | Err(TransferError::NoSuccessor | TransferError::TimedOut) => {
                Err(Objection::NotTakenOver(node).into())
            }
        }
    }

    /// The members as this node's log has them.
    fn membership(&self) -> Membership {
        let raft = &self.office.raft;
        raft.metrics().borrow_watched().membership_config.membership().clone()
    }

    fn belonging(&self) -> &Belonging {
        &self.office.belonging
    }

    /// One change of the configuration, to its end. Who loses its vote stays as a learner.
    async fn step(&self, change: ChangeMembers<u64, BasicNode>) -> Result<(), Unchanged> {
        let changing = self.office.raft.change_membership(change, true);
        match timeout(STEP_TIMEOUT, changing).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward)))) => {
                Err(Unchanged::NotLeader(forward.leader_id.map(NodeId)))
            }
            Ok(Err(error)) => Err(Unchanged::Unknown(error.to_string())),
            Err(_) => Err(Unchanged::Unknown("the members did not agree in time".to_owned())),
        }
    }

    /// Gives learners their votes and completes what was begun, while this node leads, until `stop`.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        let mut ticks = interval(ROUND);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut applied_before = None;
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            self.office.peers.forget_all_but(&self.membership());
            tokio::select! {
                () = stop.cancelled() => return,
                done = self.round(&mut applied_before) => {
                    if let Err(error) = done {
                        tracing::debug!(?error, "the members stay as they are for now");
                    }
                }
            }
        }
    }

    async fn round(&self, applied_before: &mut Option<u64>) -> Result<(), Unchanged> {
        let office = &self.office;
        if !office.contact.is_sure_leader() {
            *applied_before = None;
            return Ok(());
        }
        let applied = self.cluster.status().applied;
        let measure = applied_before.replace(applied);
        let membership = self.membership();
        let is_settled = membership.get_joint_config().len() == 1;
        let removed_voter =
            membership.voter_ids().map(NodeId).find(|node| self.belonging().is_removed(*node));
        if is_settled && membership.learner_ids().next().is_none() && removed_voter.is_none() {
            return Ok(());
        }
        let _desk = self.desk.lock().await;
        self.must_lead().await?;
        let membership = self.membership();
        if membership.get_joint_config().len() > 1 {
            tracing::info!("completing a change of members");
            return self.step(ChangeMembers::AddVoterIds(BTreeSet::new())).await;
        }
        if let Some(removed) = removed_voter {
            // It got its vote back from another leader while the state was told that it is gone.
            return self.remove(removed).await;
        }
        let learners: BTreeSet<NodeId> = membership.learner_ids().map(NodeId).collect();
        if let Some(removed) = learners.iter().find(|node| self.belonging().is_removed(**node)) {
            return self.bury(*removed).await;
        }
        let Some(measure) = measure else { return Ok(()) };
        let (live, applied) = (office.contact.live(NODE_TIMEOUT), office.contact.applied());
        let is_ready = |node: &NodeId| {
            live.contains(node) && applied.get(node).is_some_and(|applied| *applied >= measure)
        };
        let ready: BTreeSet<u64> = learners.into_iter().filter(is_ready).map(|node| node.0).collect();
        if ready.is_empty() {
            return Ok(());
        }
        tracing::info!(nodes = ?ready, "caught up; they get a vote");
        self.step(ChangeMembers::AddVoterIds(ready)).await
    }
}

/// What stands against removing a voter.
fn objection(voters: &BTreeSet<NodeId>, live: &BTreeSet<NodeId>, node: NodeId) -> Option<Objection> {
    let left: BTreeSet<NodeId> = voters.iter().copied().filter(|voter| *voter != node).collect();
    let alive = left.intersection(live).count();
    if left.is_empty() {
        Some(Objection::LastVoter(node))
    } else if alive * 2 <= left.len() {
        Some(Objection::QuorumLost { node, live: alive, voters: left.len() })
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(voters: &[u64], live: &[u64], node: u64, expected: Option<Objection>) {
        let set = |ids: &[u64]| ids.iter().copied().map(NodeId).collect();
        assert_eq!(objection(&set(voters), &set(live), NodeId(node)), expected, "{voters:?} {live:?} {node}");
    }

    fn lost(node: u64, live: usize, voters: usize) -> Option<Objection> {
        Some(Objection::QuorumLost { node: NodeId(node), live, voters })
    }

    #[test]
    fn the_dead_can_be_removed_while_those_left_are_a_quorum() {
        check(&[1, 2, 3], &[1, 2], 3, None);
        check(&[1, 2, 3, 4, 5], &[1, 2, 3], 5, None);
        check(&[1, 2], &[1], 2, None);
    }

    #[test]
    fn the_living_can_be_removed_while_those_left_are_a_quorum() {
        check(&[1, 2, 3], &[1, 2, 3], 3, None);
        check(&[1, 2], &[1, 2], 1, None);
        check(&[1, 2, 3, 4, 5], &[1, 2, 3, 4], 4, None);
        check(&[1, 2, 3, 4], &[1, 2, 3], 3, None);
    }

    #[test]
    fn nobody_is_removed_whom_the_others_need() {
        check(&[1, 2, 3], &[1, 2], 2, lost(2, 1, 2));
        check(&[1, 2, 3, 4, 5], &[1, 2, 3], 3, lost(3, 2, 4));
        check(&[1, 2, 3], &[1, 4], 2, lost(2, 1, 2));
    }

    #[test]
    fn the_last_voter_stays() {
        check(&[1], &[1, 2], 1, Some(Objection::LastVoter(NodeId(1))));
    }
}
