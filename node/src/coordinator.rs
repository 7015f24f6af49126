//! What only the leader does: counts nodes as dead, deals the shards, sweeps what was deleted.
//!
//! A reconciler: every round reads what is from the state, compares it with what should be, and
//! proposes the difference. Two leaders that both think they lead do no harm; every proposal names what
//! it was computed from.

use crate::clock::Sleeper;
use domain::id::NodeId;
use domain::limits;
use domain::node::Node;
use domain::shard::ShardMap;
use raft::command::{Applied, Command, ExpireNode, SetShardMap, Sweep};
use raft::{Cluster, ProposeError};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use storage::Read;
use storage::schema::{DeletedJobs, Nodes, ShardMaps};
use tokio_util::sync::CancellationToken;

/// Nodes in a cluster at most, by far.
const NODES_MAX: usize = 64;
/// Deleted jobs that one round sweeps.
const SWEEPS_A_ROUND: usize = 4;

/// Deals shards and buries the dead while this node leads.
pub(crate) struct Coordinator {
    pub(crate) cluster: Cluster,
    pub(crate) node: NodeId,
    pub(crate) sleeper: Arc<dyn Sleeper>,
    /// How long a silent node counts as alive.
    pub(crate) node_timeout: Duration,
    /// Pause between rounds.
    pub(crate) interval: Duration,
}

impl Coordinator {
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut progress = Progress::default();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => return,
                () = self.sleeper.sleep(self.interval) => {}
            }
            let status = self.cluster.status();
            if !status.is_leader() {
                progress = Progress::default();
                continue;
            }
            progress.note(self.sleeper.elapsed(), status.applied, self.node_timeout);
            match self.round(&progress).await {
                Ok(()) | Err(RoundError::Propose(ProposeError::Stopping)) => {}
                Err(error) => tracing::debug!(%error, "coordinator round cut short"),
            }
        }
    }

    async fn round(&self, progress: &Progress) -> Result<(), RoundError> {
        // Decisions are made on a state that holds everything committed; a leader that has just been
        // elected may still be applying.
        self.cluster.read_barrier().await?;
        let (nodes, map, deleted) = {
            let view = self.cluster.state().view();
            let nodes: Vec<Node> =
                view.prefix::<Nodes>(&[], None, NODES_MAX)?.into_iter().map(|(_, node)| node).collect();
            let map = view.get::<ShardMaps>(&())?.unwrap_or_default();
            let deleted = view.keys_prefix::<DeletedJobs>(&[], None, SWEEPS_A_ROUND)?;
            (nodes, map, deleted)
        };

        let contact = self.cluster.contact();
        let behind = progress.behind(&contact.applied(), self.node_timeout);
        let decision = decide(&nodes, &map, &contact.heard(), &behind, self.node, self.node_timeout);
        let mut commands: Vec<Command> = decision
            .dead
            .into_iter()
            .map(|dead| {
                tracing::warn!(node = %dead.node, "node not heard of; its executions go to others");
                Command::ExpireNode(dead)
            })
            .collect();
        if let Some(map) = decision.map {
            tracing::info!(version = map.expected_version + 1, "dealing the shards anew");
            commands.push(Command::SetShardMap(map));
        }
        commands.extend(deleted.into_iter().map(|job| Command::Sweep(Sweep { job })));
        if commands.is_empty() {
            return Ok(());
        }
        let replies = self.cluster.propose_all(commands, self.node_timeout).await?;
        for reply in replies {
            match reply {
                Ok(Applied::Swept(records)) => tracing::debug!(records, "swept history of a deleted job"),
                Ok(Applied::Done | Applied::Registered(_) | Applied::Claimed(_) | Applied::All(_)) => {}
                Err(rejection) => tracing::debug!(%rejection, "coordinator overtaken"),
            }
        }
        Ok(())
    }
}

#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Read(#[from] raft::ReadError),
    #[error(transparent)]
    Propose(#[from] ProposeError),
    #[error(transparent)]
    Storage(#[from] storage::Error),
}

/// How far this node had applied the log at the rounds of the last while.
#[derive(Debug, Default)]
struct Progress(VecDeque<(Duration, u64)>);

impl Progress {
    fn note(&mut self, now: Duration, applied: u64, kept_for: Duration) {
        self.0.push_back((now, applied));
        // One that is older than that is kept: it is the measure.
        while self.0.get(1).is_some_and(|(then, _)| now.saturating_sub(*then) >= kept_for) {
            self.0.pop_front();
        }
    }

    /// The nodes that have not applied yet what this one had applied a while ago. They know neither what is due nor what
    /// they hold, and get no shards.
    ///
    /// A leader that has not led for a while yet has no measure and judges nobody: taking the shards of a node that is a
    /// few entries behind, as all are after an election, would only make their firings late.
    fn behind(&self, applied: &BTreeMap<NodeId, u64>, a_while: Duration) -> BTreeSet<NodeId> {
        let (Some((noted, then)), Some((now, _))) = (self.0.front(), self.0.back()) else {
            return BTreeSet::new();
        };
        if now.saturating_sub(*noted) < a_while {
            return BTreeSet::new();
        }
        applied.iter().filter(|(_, applied)| *applied < then).map(|(node, _)| *node).collect()
    }
}

/// What a round wants changed.
#[derive(Debug, Default, PartialEq, Eq)]
struct Decision {
    dead: Vec<ExpireNode>,
    map: Option<SetShardMap>,
}

/// Compares what is with what should be.
///
/// `silent` says how long ago each node was heard of, counted from when this node began to lead. A node
/// that is missing there has not been heard of at all and is judged by the next rounds. Nodes that are `behind` live but get
/// no shards.
fn decide(
    nodes: &[Node],
    map: &ShardMap,
    silent: &BTreeMap<NodeId, Duration>,
    behind: &BTreeSet<NodeId>,
    leader: NodeId,
    node_timeout: Duration,
) -> Decision {
    let is_silent = |node: &Node| {
        node.id != leader && silent.get(&node.id).is_some_and(|silence| *silence >= node_timeout)
    };
    let (dead, present): (Vec<&Node>, Vec<&Node>) =
        nodes.iter().filter(|node| node.expired_at.is_none()).partition(|node| is_silent(node));
    let live: BTreeSet<NodeId> = present
        .iter()
        .filter(|node| !node.draining && !behind.contains(&node.id))
        .map(|node| node.id)
        .collect();
    let owners = map.assign(&live, leader).filter(|owners| *owners != map.owners);
    Decision {
        dead: dead.iter().map(|node| ExpireNode { node: node.id, incarnation: node.incarnation }).collect(),
        map: owners.map(|owners| SetShardMap { expected_version: map.version, owners }),
    }
}

/// The default pause between rounds: a fraction of the node timeout.
pub(crate) const INTERVAL: Duration = limits::PING_INTERVAL;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::node;
    use domain::node::Incarnation;
    use domain::time::Timestamp;

    fn check(nodes: &[Node], silent_ms: &[(u64, u64)], dead: &[u64], owners: &[u64]) {
        check_behind(nodes, silent_ms, &[], dead, owners);
    }

    fn check_behind(nodes: &[Node], silent_ms: &[(u64, u64)], behind: &[u64], dead: &[u64], owners: &[u64]) {
        let silent = silent_ms.iter().map(|(id, ms)| (NodeId(*id), Duration::from_millis(*ms))).collect();
        let behind = behind.iter().copied().map(NodeId).collect();
        let decision = decide(nodes, &ShardMap::default(), &silent, &behind, NodeId(1), limits::NODE_TIMEOUT);
        let expected: Vec<_> = dead
            .iter()
            .map(|id| ExpireNode { node: NodeId(*id), incarnation: Incarnation(id * 10) })
            .collect();
        assert_eq!(decision.dead, expected);
        let map = decision.map.expect("the empty map is never right");
        let dealt: BTreeSet<u64> = map.owners.iter().map(|owner| owner.0).collect();
        assert_eq!(dealt, owners.iter().copied().collect());
    }

    #[test]
    fn silence_beyond_the_timeout_is_death() {
        check(&[node(1), node(2), node(3)], &[(2, 100), (3, 2_499)], &[], &[2, 3]);
        check(&[node(1), node(2), node(3)], &[(2, 100), (3, 2_500)], &[3], &[1, 2]);
    }

    #[test]
    fn the_leader_never_buries_itself() {
        check(&[node(1)], &[(1, 60_000)], &[], &[1]);
    }

    #[test]
    fn the_dead_are_buried_once_and_get_nothing() {
        let buried = Node { expired_at: Some(Timestamp::EPOCH), ..node(3) };
        check(&[node(1), node(2), buried], &[(2, 0), (3, 60_000)], &[], &[1, 2]);
    }

    #[test]
    fn a_draining_node_lives_but_gets_nothing() {
        let draining = Node { draining: true, ..node(3) };
        check(&[node(1), node(2), draining], &[(2, 0), (3, 0)], &[], &[1, 2]);
    }

    #[test]
    fn a_node_that_does_not_follow_lives_but_gets_nothing() {
        check_behind(&[node(1), node(2), node(3)], &[(2, 0), (3, 0)], &[3], &[], &[1, 2]);
    }

    #[test]
    fn following_means_having_applied_what_was_applied_a_while_ago() {
        let second = Duration::from_secs;
        let mut progress = Progress::default();
        let behind = |progress: &Progress, applied: u64| {
            !progress.behind(&BTreeMap::from([(NodeId(2), applied)]), second(2)).is_empty()
        };
        assert!(!behind(&progress, 0));
        progress.note(second(0), 100, second(2));
        progress.note(second(1), 200, second(2));
        assert!(!behind(&progress, 0), "who leads only since now judges nobody");
        progress.note(second(2), 300, second(2));
        progress.note(second(3), 400, second(2));
        assert!(behind(&progress, 199));
        assert!(!behind(&progress, 200), "what came later may still be on its way");
        progress.note(second(60), 400, second(2));
        assert!(behind(&progress, 399), "an idle cluster leaves time to follow");
    }

    #[test]
    fn what_is_right_already_is_left_alone() {
        let nodes = [node(1), node(2), node(3)];
        let owners = ShardMap::default()
            .assign(&nodes.iter().map(|node| node.id).collect(), NodeId(1))
            .expect("somebody lives");
        let map = ShardMap { version: 4, owners };
        let decision =
            decide(&nodes, &map, &BTreeMap::new(), &BTreeSet::new(), NodeId(1), limits::NODE_TIMEOUT);
        assert_eq!(decision, Decision::default());
    }
}
