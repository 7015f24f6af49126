//! Who has heard of whom, and when: the leader of the nodes, a node of the leader.

use crate::types::{Raft, RaftMetrics};
use domain::id::NodeId;
use domain::time::Clock;
use openraft::async_runtime::WatchReceiver;
use openraft::{Instant, ServerState};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Signs of life between this node and the leader. Clones share what they know.
#[derive(Clone)]
pub struct Contact {
    shared: Arc<Shared>,
}

struct Shared {
    me: NodeId,
    clock: Arc<dyn Clock>,
    raft: Raft,
    /// How old a quorum's answer may be for a leader to be sure of its office.
    lease: Duration,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    /// When the last sign of life was sent that a leader has answered, by the clock's elapsed time.
    leader_heard: Option<Duration>,
    /// Since when this node leads, as far as it has noticed.
    leads_since: Option<Duration>,
    /// When each node was heard of while this one leads, and how far it had applied the log then.
    heard: BTreeMap<NodeId, (Duration, u64)>,
    /// How far the leader said that each member is.
    told: BTreeMap<NodeId, u64>,
}

impl std::fmt::Debug for Contact {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contact").field("since_leader", &self.since_leader()).finish_non_exhaustive()
    }
}

impl Contact {
    pub(crate) fn new(me: NodeId, clock: Arc<dyn Clock>, raft: Raft, lease: Duration) -> Self {
        Self { shared: Arc::new(Shared { me, clock, raft, lease, known: Mutex::default() }) }
    }

    /// How long ago this node knew that it is in touch with a leader which has a quorum; `None` when it
    /// never was.
    #[must_use]
    pub fn since_leader(&self) -> Option<Duration> {
        let heard = self.shared.known.lock().leader_heard?;
        Some(self.shared.clock.elapsed().saturating_sub(heard))
    }

    /// Whether [`Contact::since_leader`] is at most `within`.
    #[must_use]
    pub fn is_in_touch(&self, within: Duration) -> bool {
        self.since_leader().is_some_and(|since| since <= within)
    }

    /// How long ago each other member was heard of, counted from when this node began to lead at the earliest.
    /// Empty while it does not lead.
    #[must_use]
    pub fn heard(&self) -> BTreeMap<NodeId, Duration> {
        let metrics = self.shared.metrics();
        let known = self.shared.known.lock();
        let Some(leads_since) = known.leads_since.filter(|_| metrics.state == ServerState::Leader) else {
            return BTreeMap::new();
        };
        let now = self.shared.clock.elapsed();
        metrics
            .membership_config
            .membership()
            .nodes()
            .map(|(node, _)| NodeId(*node))
            .filter(|node| *node != self.shared.me)
            .map(|node| {
                let heard =
                    known.heard.get(&node).map_or(leads_since, |(heard, _)| (*heard).max(leads_since));
                (node, now.saturating_sub(heard))
            })
            .collect()
    }

    /// How far each other member has applied the log, by its last sign of life while this one leads.
    #[must_use]
    pub fn applied(&self) -> BTreeMap<NodeId, u64> {
        let metrics = self.shared.metrics();
        let membership = metrics.membership_config.membership();
        let known = self.shared.known.lock();
        let members = known.heard.iter().filter(|(node, _)| membership.get_node(&node.0).is_some());
        members.map(|(node, (_, applied))| (*node, *applied)).collect()
    }

    /// The other nodes that have given a sign of life within this time, to this node as the leader.
    pub(crate) fn live(&self, within: Duration) -> BTreeSet<NodeId> {
        let now = self.shared.clock.elapsed();
        let known = self.shared.known.lock();
        let since = known.leads_since.unwrap_or(now).max(now.saturating_sub(within));
        known.heard.iter().filter(|(_, (heard, _))| *heard >= since).map(|(node, _)| *node).collect()
    }

    /// Whether this node has led for so long that it has heard of everybody who is alive.
    pub(crate) fn has_led_for(&self, a_while: Duration) -> bool {
        let now = self.shared.clock.elapsed();
        self.shared.known.lock().leads_since.is_some_and(|since| now.saturating_sub(since) >= a_while)
    }

    /// How far each member is, as the leader said last. Empty while that is not known.
    pub(crate) fn told(&self) -> BTreeMap<NodeId, u64> {
        self.shared.known.lock().told.clone()
    }

    /// Whether this node leads and a quorum has confirmed it lately.
    pub(crate) fn is_sure_leader(&self) -> bool {
        self.shared.since_quorum().is_some_and(|since| since <= self.shared.lease)
    }

    /// Notes that `node` is alive and has applied the log that far.
    pub(crate) fn hear(&self, node: NodeId, applied: u64) {
        let now = self.shared.clock.elapsed();
        self.shared.known.lock().heard.insert(node, (now, applied));
    }

    /// Notes how far the leader says that each member is.
    pub(crate) fn learn(&self, members: BTreeMap<NodeId, u64>) {
        self.shared.known.lock().told = members;
    }

    /// The clock that signs of life are measured by.
    pub(crate) fn elapsed(&self) -> Duration {
        self.shared.clock.elapsed()
    }

    /// Notes that a leader has answered what was sent at `sent`.
    pub(crate) fn leader_answered(&self, sent: Duration) {
        let mut known = self.shared.known.lock();
        known.leader_heard = known.leader_heard.max(Some(sent));
    }

    /// Follows this node's own office: to be called as often as signs of life are sent.
    pub(crate) fn follow_office(&self) {
        let now = self.shared.clock.elapsed();
        let since_quorum = self.shared.since_quorum();
        let mut known = self.shared.known.lock();
        match since_quorum {
            Some(since) => {
                if known.leads_since.is_none() {
                    known.heard.clear();
                    known.told.clear();
                    known.leads_since = Some(now);
                }
                if since <= self.shared.lease {
                    known.leader_heard = known.leader_heard.max(Some(now.saturating_sub(since)));
                }
            }
            None => known.leads_since = None,
        }
    }
}

impl Shared {
    fn metrics(&self) -> RaftMetrics {
        self.raft.metrics().borrow_watched().clone()
    }

    /// How long ago a quorum confirmed this node as the leader; `None` when it does not lead.
    fn since_quorum(&self) -> Option<Duration> {
        let metrics = self.metrics();
        if metrics.state != ServerState::Leader {
            return None;
        }
        if metrics.membership_config.membership().voter_ids().count() == 1 {
            return Some(Duration::ZERO);
        }
        Some(metrics.last_quorum_acked.map_or(Duration::MAX, |acked| acked.into_inner().elapsed()))
    }
}
