//! Leaving the cluster without taking the quorum away from those that still need it.
//!
//! A process whose outcomes are recorded takes its leave: it holds nothing more. It stays a member that votes and
//! stores, though, while others that stop as well have yet to record theirs and could not without it.

use crate::clock::Sleeper;
use domain::id::NodeId;
use domain::node::{Incarnation, Node};
use raft::command::{Command, ExpireNode};
use raft::{Cluster, ProposeError};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use storage::Read;
use storage::schema::Nodes;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// How long taking leave of the cluster may take; without it the cluster notices by itself.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(1);
/// Pause between looks at who still needs this node.
const INTERVAL: Duration = Duration::from_millis(25);
/// How long a node that has not said so may be about to stop as well. When all are told at once, some hear it later
/// than others, and first answer their clients.
const ANNOUNCE_TIMEOUT: Duration = Duration::from_secs(3);
/// For how long nobody is heard of when the others are gone for good. An election takes less.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// Nodes in a cluster at most, by far.
const NODES_MAX: usize = 64;

/// The last part of this node in the cluster.
pub(crate) struct Quorum {
    pub(crate) cluster: Cluster,
    pub(crate) node: NodeId,
    pub(crate) incarnation: watch::Receiver<Option<Incarnation>>,
    pub(crate) sleeper: Arc<dyn Sleeper>,
}

/// Whether those that are left can do without a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Need {
    /// They can.
    None,
    /// They cannot, but none of them has said that it stops.
    Unannounced,
    /// One that stops has yet to record what it holds.
    Stopping,
}

impl Quorum {
    /// Waits for `stop`, takes leave, and ends when nobody needs this node any more, or nobody is heard of.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), storage::Error> {
        stop.cancelled().await;
        let held = *self.incarnation.borrow();
        let Some(incarnation) = held else { return Ok(()) };
        let leave = Command::ExpireNode(ExpireNode { node: self.node, incarnation });
        match self.cluster.propose_all(vec![leave], LEAVE_TIMEOUT).await {
            Ok(_) => {}
            Err(ProposeError::Stopping) => return Ok(()),
            Err(error) => tracing::debug!(%error, "left without leave"),
        }
        let since = Instant::now();
        let mut is_told = false;
        loop {
            match self.need()? {
                Need::None => return Ok(()),
                Need::Unannounced if since.elapsed() >= ANNOUNCE_TIMEOUT => return Ok(()),
                Need::Unannounced | Need::Stopping => {}
            }
            // Those that are gone for good do not need a quorum, and cannot say so.
            if !self.cluster.contact().is_in_touch(SILENCE_MAX) {
                tracing::debug!("nobody is left to keep the quorum for");
                return Ok(());
            }
            if !std::mem::replace(&mut is_told, true) {
                tracing::info!("stays a member until the others that stop are done");
            }
            self.sleeper.sleep(INTERVAL).await;
        }
    }

    fn need(&self) -> Result<Need, storage::Error> {
        let voters = self.cluster.status().members.into_iter().filter(|member| member.voter);
        let view = self.cluster.state().view();
        let nodes: Vec<Node> =
            view.prefix::<Nodes>(&[], None, NODES_MAX)?.into_iter().map(|(_, node)| node).collect();
        Ok(need(&nodes, &voters.map(|member| member.id).collect(), self.node))
    }
}

/// Whether the others can do without `me`. Of those that are about to end none counts on another.
fn need(nodes: &[Node], voters: &BTreeSet<NodeId>, me: NodeId) -> Need {
    let others = || {
        nodes.iter().filter(|node| node.id != me && voters.contains(&node.id) && node.expired_at.is_none())
    };
    let stay = others().filter(|node| !node.draining).count();
    if others().count() == 0 || stay > voters.len() / 2 {
        Need::None
    } else if stay == others().count() {
        Need::Unannounced
    } else {
        Need::Stopping
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use domain::time::Timestamp;

    const STAYS: (bool, bool) = (false, false);
    const STOPS: (bool, bool) = (true, false);
    const GONE: (bool, bool) = (true, true);

    fn check(others: &[(bool, bool)], expected: Need) {
        let nodes: Vec<Node> = (1..)
            .zip([&GONE].into_iter().chain(others))
            .map(|(id, (draining, expired))| Node {
                draining: *draining,
                expired_at: expired.then_some(Timestamp::EPOCH),
                ..samples::node(id)
            })
            .collect();
        let voters = nodes.iter().map(|node| node.id).collect();
        assert_eq!(need(&nodes, &voters, NodeId(1)), expected, "{others:?}");
    }

    #[test]
    fn one_node_that_stops_is_not_needed() {
        check(&[], Need::None);
        check(&[STAYS, STAYS], Need::None);
        check(&[STAYS, STAYS, STAYS, STOPS], Need::None);
    }

    #[test]
    fn those_that_stop_as_well_need_it_while_a_quorum_would_not_be_left() {
        check(&[STOPS, STOPS], Need::Stopping);
        check(&[STAYS, STOPS], Need::Stopping);
        check(&[GONE, STOPS], Need::Stopping);
        check(&[STAYS, STAYS, STOPS, STOPS], Need::Stopping);
        check(&[STAYS, STAYS, STAYS, STOPS], Need::None);
    }

    #[test]
    fn those_that_are_done_do_not_need_it() {
        check(&[GONE, GONE], Need::None);
    }

    #[test]
    fn who_is_left_without_a_quorum_may_be_about_to_stop() {
        check(&[GONE, STAYS], Need::Unannounced);
        check(&[STAYS], Need::Unannounced);
    }
}
