//! The world around the processes: consensus as an oracle, the network, and what the target answers.
//!
//! The oracle keeps what Raft promises and is as unkind as Raft allows. There is one log. Whoever is cut off from a quorum
//! commits nothing, and learns only later that another one leads. Another one is elected once a quorum has not heard of the leader for
//! the lease. Of what the old one had appended and not committed, a beginning survives. Each node applies the log with a
//! lag of its own.

use super::clock::{NodeClock, Skew};
use super::dice::Dice;
use super::facts::{Dated, Fact};
use super::mutation::Mutation;
use super::plan::{Plan, Step, Who};
use bytes::Bytes;
use domain::id::{ExecutionId, NodeId};
use domain::node::SessionId;
use domain::time::{Clock, Timestamp};
use parking_lot::Mutex;
use raft::apply::apply;
use raft::command::Proposal;
use raft::{Contact, Payload, Place, Refused, codec};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use storage::schema::{Claims, Executions, Nodes};
use storage::{Read, State};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

/// How often the leader and the others hear of each other.
const HEARTBEAT: Duration = Duration::from_millis(50);
/// For so long nobody helps another one into office: the upper election timeout.
const LEASE: Duration = Duration::from_millis(600);

/// Shared by everything in a run.
pub(super) type Shared = Arc<Mutex<World>>;

/// Something that happens at an instant of the run.
#[derive(Debug)]
pub(super) enum Action {
    Heartbeat,
    /// What the leader of this term has appended is committed, as far as it was by then.
    Commit {
        term: u64,
        upto: u64,
    },
    /// A node hears how far the log is committed.
    Deliver {
        node: NodeId,
        index: u64,
    },
    /// A copy of a proposal arrives that had been on its way for long.
    Copy {
        proposal: Bytes,
    },
    Step(Step),
    /// A process comes (back).
    Start {
        node: NodeId,
    },
    Thaw {
        node: NodeId,
    },
    /// A cut ends.
    Mend {
        from: NodeId,
        to: NodeId,
    },
    Fast {
        node: NodeId,
    },
    Lossless,
    Heal,
    PauseAll,
    End,
}

/// An entry that a leader has appended.
struct Appended {
    number: u64,
    at: Duration,
    payload: Payload,
    done: Option<oneshot::Sender<Result<u64, Refused>>>,
}

/// A node, whether or not its process runs.
#[derive(Default)]
pub(super) struct Peer {
    /// The process that runs, if one does.
    pub(super) session: Option<SessionId>,
    /// What its disk says of the process that ran last.
    pub(super) last_session: Option<SessionId>,
    pub(super) frozen: bool,
    /// Whether it may vote: not while it is filled after it lost its disk.
    pub(super) filled_at: Option<u64>,
    pub(super) lag: Duration,
    pub(super) skew: Skew,
    pub(super) clock: Option<NodeClock>,
    pub(super) contact: Option<Contact>,
    leader_seen: Option<NodeId>,
    term_seen: u64,
    /// The term in which it leads, by its own knowledge.
    leads: Option<u64>,
    /// How far the log was committed when it came into that office.
    leads_from: u64,
    quorum_acked: Duration,
    stamped: Timestamp,
    appended: VecDeque<Appended>,
    waiting: Vec<(u64, oneshot::Sender<Result<u64, Refused>>)>,
    /// How far it knows the log to be committed.
    pub(super) known: u64,
    pub(super) applied: u64,
    pub(super) news: Arc<Notify>,
}

/// See the module.
pub(super) struct World {
    seed: u64,
    pub(super) mutation: Option<Mutation>,
    pub(super) dice: Dice,
    pub(super) run_start: Instant,
    pub(super) peers: BTreeMap<NodeId, Peer>,
    pub(super) cut: BTreeMap<(NodeId, NodeId), u32>,
    pub(super) lossy_permille: u64,
    pub(super) leader: Option<NodeId>,
    term: u64,
    lost_since: Option<Duration>,
    election_after: Duration,
    appended_count: u64,
    log: Vec<(Place, Option<Payload>)>,
    /// What the log makes of the state: the truth that the nodes follow.
    pub(super) truth: State,
    seen: BTreeSet<(NodeId, SessionId, u64)>,
    /// Who holds what by the log: attempt and process.
    held: BTreeMap<(ExecutionId, NodeId), (u32, SessionId)>,
    agenda: BTreeMap<(Duration, u64), Action>,
    agenda_count: u64,
    pub(super) earlier: Arc<Notify>,
    pub(super) facts: Vec<Dated>,
    pub(super) plan: Plan,
}

impl World {
    pub(super) fn new(plan: &Plan, mutation: Option<Mutation>) -> Shared {
        let peers = (1..=plan.nodes).map(|node| (NodeId(node), Peer::default())).collect();
        let mut world = Self {
            seed: plan.seed,
            mutation,
            dice: Dice::of(plan.seed, &[2]),
            run_start: Instant::now(),
            peers,
            cut: BTreeMap::new(),
            lossy_permille: 0,
            leader: None,
            term: 0,
            lost_since: None,
            election_after: Duration::ZERO,
            appended_count: 0,
            log: Vec::new(),
            truth: State::in_memory(),
            seen: BTreeSet::new(),
            held: BTreeMap::new(),
            agenda: BTreeMap::new(),
            agenda_count: 0,
            earlier: Arc::default(),
            facts: Vec::new(),
            plan: plan.clone(),
        };
        world.put(Duration::ZERO, Action::Heartbeat);
        for (at, step) in &plan.steps {
            world.put(*at, Action::Step(step.clone()));
        }
        Arc::new(Mutex::new(world))
    }

    pub(super) fn now(&self) -> Duration {
        self.run_start.elapsed()
    }

    pub(super) fn note(&mut self, fact: Fact) {
        self.facts.push((self.now(), fact));
    }

    /// Throws that belong to what `parts` name, so that they stay the same whatever else a run has less of.
    pub(super) fn dice_of(&self, parts: &[u64]) -> Dice {
        Dice::of(self.seed, parts)
    }

    pub(super) fn put(&mut self, at: Duration, action: Action) {
        self.agenda_count += 1;
        if self.agenda.first_key_value().is_none_or(|((first, _), _)| at < *first) {
            self.earlier.notify_one();
        }
        self.agenda.insert((at, self.agenda_count), action);
    }

    /// When something happens next.
    pub(super) fn next_at(&self) -> Duration {
        self.agenda.first_key_value().map_or(Duration::MAX, |((at, _), _)| *at)
    }

    /// What happens now.
    pub(super) fn take_due(&mut self) -> Option<Action> {
        let now = self.now();
        let first = self.agenda.first_entry().filter(|first| first.key().0 <= now)?;
        Some(first.remove())
    }

    pub(super) fn resolve(&self, who: Who) -> NodeId {
        match who {
            Who::Leader => self.leader.unwrap_or(NodeId(1)),
            Who::Node(number) => NodeId(number),
        }
    }

    pub(super) fn peer(&mut self, node: NodeId) -> &mut Peer {
        self.peers.get_mut(&node).expect("it is of this cluster")
    }

    fn runs(&self, node: NodeId) -> bool {
        let peer = &self.peers[&node];
        peer.session.is_some() && !peer.frozen
    }

    /// Whether what one says reaches the other now.
    pub(super) fn reaches(&self, from: NodeId, to: NodeId) -> bool {
        from == to || !self.cut.contains_key(&(from, to))
    }

    fn quorum(&self) -> usize {
        self.peers.len() / 2 + 1
    }

    /// Whether a quorum talks with `node`, both ways.
    fn has_quorum(&self, node: NodeId) -> bool {
        let talks = |other: &NodeId| {
            self.runs(*other)
                && self.peers[other].filled_at.is_none()
                && self.reaches(node, *other)
                && self.reaches(*other, node)
        };
        self.runs(node) && self.peers.keys().filter(|other| talks(other)).count() >= self.quorum()
    }

    /// Whether there is a leader that commits.
    pub(super) fn works(&self) -> bool {
        self.leader.is_some_and(|leader| self.peers[&leader].leads.is_some() && self.has_quorum(leader))
    }

    /// How long a message takes; `None` when it is lost.
    pub(super) fn travel(&mut self, from: NodeId, to: NodeId) -> Option<Duration> {
        if from == to {
            return Some(Duration::ZERO);
        }
        if !self.reaches(from, to) || self.dice.chance(self.lossy_permille) {
            return None;
        }
        let slowly = self.dice.chance(30);
        Some(Duration::from_millis(if slowly { self.dice.between(5, 120) } else { self.dice.between(0, 2) }))
    }

    pub(super) fn heartbeat(&mut self) {
        let now = self.now();
        self.put(now + HEARTBEAT, Action::Heartbeat);
        if self.works() {
            self.lost_since = None;
            let leader = self.leader.expect("it works");
            let committed = self.committed();
            let term = self.term;
            self.peer(leader).quorum_acked = now;
            let others: Vec<NodeId> = self.peers.keys().copied().filter(|other| *other != leader).collect();
            for other in others {
                if !self.runs(other) || !self.reaches(leader, other) {
                    continue;
                }
                if self.peers[&other].leads.is_some() {
                    self.step_down(other);
                }
                let peer = self.peer(other);
                (peer.leader_seen, peer.term_seen) = (Some(leader), term);
                if peer.known < committed {
                    self.deliver(other);
                }
            }
            self.commit(u64::MAX);
            return;
        }
        if self.lost_since.is_none() {
            self.lost_since = Some(now);
            self.election_after = LEASE + Duration::from_millis(self.dice.between(0, 500));
            if self.leader.is_some() {
                self.note(Fact::Headless);
            }
        }
        if self.lost_since.is_some_and(|since| now - since >= self.election_after) {
            let candidates: Vec<NodeId> = self
                .peers
                .keys()
                .copied()
                .filter(|node| self.peers[node].filled_at.is_none() && self.has_quorum(*node))
                .collect();
            if !candidates.is_empty() {
                let elected = self.dice.pick(&candidates);
                self.elect(elected);
            }
        }
    }

    /// Leadership goes over at once to `successor`, or to somebody who is not far behind.
    pub(super) fn transfer(&mut self, from: NodeId, successor: Option<NodeId>) -> bool {
        if self.leader != Some(from) || !self.works() {
            return false;
        }
        let may = |node: &NodeId| {
            *node != from
                && successor.is_none_or(|successor| successor == *node)
                && self.peers[node].filled_at.is_none()
                && self.has_quorum(*node)
        };
        let others = self.peers.keys().copied().filter(may);
        let Some(successor) = others.max_by_key(|node| self.peers[node].applied) else { return false };
        self.commit(u64::MAX);
        self.step_down(from);
        self.elect(successor);
        true
    }

    fn elect(&mut self, node: NodeId) {
        if let Some(old) = self.leader {
            // What came after it was cut off nobody else has.
            let cut_off = self.lost_since.unwrap_or(Duration::MAX);
            let shared = self.peers[&old].appended.iter().filter(|entry| entry.at <= cut_off).count();
            let survive = self.dice.between(0, shared as u64);
            for _ in 0..survive {
                let entry = self.peer(old).appended.pop_front().expect("counted");
                // Its proposer is not told: who had appended it does not know.
                let _ = entry.done.map(|done| done.send(Err(Refused::Unknown)));
                self.append(self.term, old, Some(entry.payload));
            }
            if self.peers[&old].session.is_none() || old == node {
                self.step_down(old);
            }
        }
        self.term += self.dice.between(1, 3);
        self.leader = Some(node);
        self.lost_since = None;
        let (term, now, committed) = (self.term, self.now(), self.committed());
        let peer = self.peer(node);
        peer.leads = Some(term);
        peer.leads_from = committed;
        peer.leader_seen = Some(node);
        peer.term_seen = term;
        peer.quorum_acked = now;
        self.note(Fact::Elected { node, term });
        for other in self.peers.keys().copied().collect::<Vec<_>>() {
            if other != node && self.runs(other) && self.reaches(node, other) && self.reaches(other, node) {
                let forgets = self.dice.chance(500);
                if forgets && self.peers[&other].leads.is_none() {
                    self.peer(other).leader_seen = None;
                }
            }
        }
        // The first entry of a term holds nothing.
        self.append(term, node, None);
        self.deliver(node);
    }

    /// A node learns that it leads no more, or its process is gone.
    pub(super) fn step_down(&mut self, node: NodeId) {
        let peer = self.peer(node);
        peer.leads = None;
        peer.leader_seen = None;
        for entry in peer.appended.drain(..) {
            let _ = entry.done.map(|done| done.send(Err(Refused::Unknown)));
        }
        for (_, done) in peer.waiting.drain(..) {
            let _ = done.send(Err(Refused::Unknown));
        }
    }

    pub(super) fn committed(&self) -> u64 {
        self.log.len() as u64
    }

    /// Index of the last entry that a leader has appended.
    pub(super) fn log_end(&self, leader: NodeId) -> u64 {
        self.committed_for(leader) + self.peers[&leader].appended.len() as u64
    }

    /// How far a node knows the log to be committed. Who leads knows it first.
    fn committed_for(&self, node: NodeId) -> u64 {
        if self.leader == Some(node) { self.committed() } else { self.peers[&node].known }
    }

    /// A leader takes a proposal, if it thinks that it leads. What comes of it is known later.
    pub(super) fn accept(
        &mut self,
        node: NodeId,
        proposal: Bytes,
    ) -> Result<oneshot::Receiver<Result<u64, Refused>>, Refused> {
        self.appended_count += 1;
        let number = self.appended_count;
        let Some(term) = self.peers[&node].leads else {
            return Err(Refused::NotLeader(self.peers[&node].leader_seen.filter(|seen| *seen != node)));
        };
        let peer = &self.peers[&node];
        let clock = peer.clock.as_ref().map_or(Timestamp::EPOCH, Clock::now);
        if !peer.contact.as_ref().is_some_and(|contact| contact.believes(clock)) {
            return Err(Refused::NotLeader(None));
        }
        let proposal = match self.mutation {
            Some(mutation) => mutation.proposal(proposal),
            None => proposal,
        };
        let (done, answer) = oneshot::channel();
        let takes = Duration::from_millis(if self.dice.chance(20) {
            self.dice.between(5, 150)
        } else {
            self.dice.between(1, 4)
        });
        let now = self.now();
        let peer = self.peer(node);
        peer.stamped = peer.stamped.max(clock);
        let payload = Payload { at: peer.stamped, proposal };
        peer.appended.push_back(Appended { number, at: now, payload, done: Some(done) });
        if self.leader == Some(node) && self.term == term {
            self.put(now + takes, Action::Commit { term, upto: number });
        }
        Ok(answer)
    }

    pub(super) fn commit_of(&mut self, term: u64, upto: u64) {
        if self.term == term && self.works() {
            self.commit(upto);
        }
    }

    /// What the leader has appended so far is in the log for good.
    fn commit(&mut self, upto: u64) {
        let Some(leader) = self.leader else { return };
        let mut any = false;
        while let Some(entry) = self.peer(leader).appended.pop_front_if(|entry| entry.number <= upto) {
            let index = self.append(self.term, leader, Some(entry.payload));
            if let Some(done) = entry.done {
                self.peer(leader).waiting.push((index, done));
            }
            any = true;
        }
        if any {
            for node in self.peers.keys().copied().collect::<Vec<_>>() {
                self.deliver(node);
            }
        }
    }

    /// Sends word to a node of how far the log is committed.
    fn deliver(&mut self, node: NodeId) {
        let index = self.committed();
        let lag = self.peers[&node].lag;
        let slowly = self.dice.chance(30);
        let travels = if self.leader == Some(node) {
            Duration::from_millis(self.dice.between(0, 1))
        } else {
            Duration::from_millis(if slowly { self.dice.between(10, 150) } else { self.dice.between(0, 5) })
        };
        let at = self.now() + travels + lag;
        self.put(at, Action::Deliver { node, index });
    }

    pub(super) fn delivered(&mut self, node: NodeId, index: u64) {
        let reached = self.leader.is_some_and(|leader| self.reaches(leader, node) && self.runs(leader));
        // A leader need not be told. If it is frozen, it goes on from there afterwards.
        let knows = self.leader == Some(node) && self.peers[&node].session.is_some();
        if knows || (reached && self.runs(node)) {
            let peer = self.peer(node);
            peer.known = peer.known.max(index);
            peer.news.notify_one();
        }
    }

    /// What a node has to apply next.
    pub(super) fn run_of(&mut self, node: NodeId) -> Vec<(Place, Option<Payload>)> {
        let Peer { applied, known, .. } = self.peers[&node];
        let run_max = self.dice.between(1, 64);
        let from = usize::try_from(applied).unwrap();
        let to = usize::try_from(known.min(applied + run_max)).unwrap();
        self.log.get(from..to).map(<[_]>::to_vec).unwrap_or_default()
    }

    pub(super) fn has_applied(&mut self, node: NodeId, index: u64) {
        let peer = self.peer(node);
        peer.applied = index;
        peer.known = peer.known.max(index);
        if peer.filled_at.is_some_and(|filled| filled <= index) {
            peer.filled_at = None;
        }
        for (_, done) in peer.waiting.extract_if(.., |(waits_for, _)| *waits_for <= index) {
            // Whoever waited may have given up.
            let _ = done.send(Ok(index));
        }
    }

    /// How consensus looks from a node.
    pub(super) fn sight(&self, node: NodeId) -> raft::Sight {
        let peer = &self.peers[&node];
        let member =
            |id: &NodeId| raft::Member { id: *id, rpc_addr: String::new(), voter: true, matched: None };
        let alone = self.peers.len() == 1;
        raft::Sight {
            leader: peer.leader_seen,
            term: peer.term_seen,
            since_quorum: peer
                .leads
                .map(|_| if alone { Duration::ZERO } else { self.now().saturating_sub(peer.quorum_acked) }),
            is_caught_up: peer.applied >= peer.leads_from,
            committed: self.committed_for(node),
            applied: peer.applied,
            members: self.peers.keys().map(member).collect(),
        }
    }

    pub(super) fn leader_seen(&self, node: NodeId) -> Option<NodeId> {
        self.peers[&node].leader_seen
    }

    /// Whether a node leads and a quorum says so.
    pub(super) fn is_confirmed(&self, node: NodeId) -> bool {
        self.leader == Some(node) && self.works()
    }

    /// An entry is committed: the truth goes on.
    fn append(&mut self, term: u64, leader: NodeId, payload: Option<Payload>) -> u64 {
        let index = self.committed() + 1;
        if let Some(payload) = &payload {
            let proposal = codec::decode_proposal(&payload.proposal).expect("it was encoded by us");
            self.judge(index, payload.at, proposal);
        }
        self.log.push((Place { term, leader, index }, payload));
        index
    }

    fn judge(&mut self, index: u64, at: Timestamp, proposal: Proposal) {
        let (by, commands) = (proposal.node, proposal.commands.clone());
        let is_new = self.seen.insert((proposal.node, proposal.session, proposal.sequence));
        let truth = self.truth.clone();
        let mut txn = truth.begin();
        let replies =
            apply(&mut txn, at, proposal, &mut Vec::new()).expect("a state in memory does not fail");
        txn.commit(Bytes::copy_from_slice(&index.to_be_bytes())).unwrap();
        if !is_new {
            self.note(Fact::Repeated { index, by });
            return;
        }
        for (command, reply) in commands.into_iter().zip(replies) {
            self.note(Fact::Applied { index, by, command: Box::new(command), reply });
        }
        self.note_holders();
    }

    /// Notes what changed in who holds what.
    fn note_holders(&mut self) {
        let truth = self.truth.clone();
        let view = truth.view();
        let mut held = BTreeMap::new();
        for (node, execution) in view.keys_prefix::<Claims>(&[], None, usize::MAX).unwrap() {
            let found = view.get::<Executions>(&execution).unwrap().expect("a claim is of an execution");
            let session = view.get::<Nodes>(&node).unwrap().map(|node| node.session).unwrap_or_default();
            held.insert((execution, node), (found.attempt, session));
        }
        let before = std::mem::replace(&mut self.held, held.clone());
        for ((execution, node), holds) in &before {
            if held.get(&(*execution, *node)) != Some(holds) {
                self.note(Fact::Lost { execution: *execution, node: *node });
            }
        }
        for ((execution, node), (attempt, session)) in held {
            if before.get(&(execution, node)) != Some(&(attempt, session)) {
                self.note(Fact::Held { execution, attempt, node, session });
            }
        }
    }
}
