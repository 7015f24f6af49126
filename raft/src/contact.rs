//! Who has heard of whom, and when: the leader of the nodes, a node of the leader.

use crate::way::Sight;
use domain::id::NodeId;
use domain::time::{Clock, Timestamp};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Tells how consensus looks from this node.
pub(crate) type Look = Arc<dyn Fn() -> Sight + Send + Sync>;

/// Signs of life between this node and the leader. Clones share what they know.
#[derive(Clone)]
pub struct Contact {
    shared: Arc<Shared>,
}

struct Shared {
    me: NodeId,
    clock: Arc<dyn Clock>,
    look: Look,
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
    pub(crate) fn new(me: NodeId, clock: Arc<dyn Clock>, look: Look, lease: Duration) -> Self {
        Self { shared: Arc::new(Shared { me, clock, look, lease, known: Mutex::default() }) }
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

    /// How long ago each other voter was heard of, counted from when this node began to lead at the earliest.
    /// Empty while it does not lead.
    #[must_use]
    pub fn heard(&self) -> BTreeMap<NodeId, Duration> {
        let sight = (self.shared.look)();
        let known = self.shared.known.lock();
        let Some(leads_since) = known.leads_since.filter(|_| sight.since_quorum.is_some()) else {
            return BTreeMap::new();
        };
        let now = self.shared.clock.elapsed();
        sight
            .members
            .into_iter()
            .filter(|member| member.voter && member.id != self.shared.me)
            .map(|member| {
                let node = member.id;
                let heard =
                    known.heard.get(&node).map_or(leads_since, |(heard, _)| (*heard).max(leads_since));
                (node, now.saturating_sub(heard))
            })
            .collect()
    }

    /// How far each other node has applied the log, by its last sign of life while this one leads.
    #[must_use]
    pub fn applied(&self) -> BTreeMap<NodeId, u64> {
        let known = self.shared.known.lock();
        known.heard.iter().map(|(node, (_, applied))| (*node, *applied)).collect()
    }

    /// How far each member is, as the leader said last. Empty while that is not known.
    pub(crate) fn told(&self) -> BTreeMap<NodeId, u64> {
        self.shared.known.lock().told.clone()
    }

    /// Notes that `node` is alive and has applied the log that far, if this node leads and a quorum has confirmed it
    /// lately. Otherwise it is not for this node to hear, and the answer is false.
    #[must_use]
    pub fn hear(&self, node: NodeId, applied: u64) -> bool {
        let is_sure_leader = self.shared.since_quorum().is_some_and(|since| since <= self.shared.lease);
        if is_sure_leader {
            let now = self.shared.clock.elapsed();
            self.shared.known.lock().heard.insert(node, (now, applied));
        }
        is_sure_leader
    }

    /// Notes how far the leader says that each member is.
    pub(crate) fn learn(&self, members: BTreeMap<NodeId, u64>) {
        self.shared.known.lock().told = members;
    }

    /// What the wall clock of this machine shows.
    pub(crate) fn now(&self) -> Timestamp {
        self.shared.clock.now()
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
    /// How long ago a quorum confirmed this node as the leader; `None` when it does not lead.
    fn since_quorum(&self) -> Option<Duration> {
        (self.look)().since_quorum
    }
}
