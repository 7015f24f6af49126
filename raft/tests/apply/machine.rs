//! A state with two nodes and two accounts, a clock that is set, and what commands make of it.

use crate::invariants;
use crate::samples::{ACCOUNT, OTHER, account, job};
use domain::delivery::{Delivery, DeliveryOutcome, DeliveryResult};
use domain::execution::{
    Attempt, AttemptResult, DueItem, ErrorKind, Execution, Failure, Outcome, ResponseBody,
};
use domain::id::{DeliveryId, ExecutionId, JobId, NodeId};
use domain::job::JobState;
use domain::node::{FeatureLevel, Incarnation, SessionId};
use domain::rejection::Rejection;
use domain::time::Timestamp;
use raft::apply::{Effect, apply};
use raft::command::{
    Applied, Claim, ClaimTarget, Command, CreateAccount, CreateJob, ExpireNode, Proposal, RegisterNode, Reply,
};
use std::collections::BTreeMap;
use std::io::Read as _;
use std::time::Duration;
use storage::schema::{Deliveries, Due, DueKey, Executions, JobStates, Meta, Metas, Nodes};
use storage::{Keyspace, Read, Settings, Storage};
use tempfile::TempDir;

/// 2026-06-01T00:00:00Z.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_780_272_000);
pub(crate) const ONE: NodeId = NodeId(1);
pub(crate) const TWO: NodeId = NodeId(2);

/// So many seconds after the start.
pub(crate) fn at(secs: u64) -> Timestamp {
    START.plus(Duration::from_secs(secs))
}

/// Keys and values as they are stored.
type Records = Vec<(Vec<u8>, Vec<u8>)>;

pub(crate) struct Machine {
    storage: Storage,
    now: Timestamp,
    /// What nodes' clocks show, where that matters.
    pub(crate) clocks: BTreeMap<NodeId, Timestamp>,
    sequence: u64,
    /// What the last commit hinted at.
    pub(crate) effects: Vec<Effect>,
    _dir: TempDir,
}

impl Machine {
    /// Two nodes and nothing else.
    pub(crate) fn empty() -> Self {
        let dir = TempDir::new().unwrap();
        let storage = Storage::open(dir.path(), Settings::default()).unwrap();
        let mut machine = Self {
            storage,
            now: START,
            clocks: BTreeMap::new(),
            sequence: 0,
            effects: Vec::new(),
            _dir: dir,
        };
        machine.register(ONE, 1);
        machine.register(TWO, 1);
        machine
    }

    pub(crate) fn new() -> Self {
        let mut machine = Self::empty();
        for id in [ACCOUNT, OTHER] {
            let command = CreateAccount { account: account(id), user: None };
            machine.done(Command::CreateAccount(Box::new(command)));
        }
        machine
    }

    /// From now on it is `now`.
    pub(crate) fn set(&mut self, now: Timestamp) {
        self.now = now;
    }

    /// Applies commands in one commit. One reply each.
    pub(crate) fn apply_all(&mut self, commands: Vec<Command>) -> Vec<Reply> {
        self.apply_of(ONE, 1, commands)
    }

    /// As [`Machine::apply_all`], proposed by another process.
    pub(crate) fn apply_of(&mut self, node: NodeId, session: u64, commands: Vec<Command>) -> Vec<Reply> {
        self.sequence += 1;
        let proposal = Proposal {
            node,
            session: SessionId(session),
            sequence: self.sequence,
            acknowledged_below: self.sequence,
            commands,
        };
        self.effects.clear();
        let mut txn = self.storage.state.begin();
        let replies = apply(&mut txn, self.now, proposal, &mut self.effects).unwrap();
        txn.commit(self.sequence.to_string().into_bytes().into()).unwrap();
        invariants::check(&self.storage.state);
        replies
    }

    /// A backup of the state.
    pub(crate) fn backup(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.storage.state.backup(|_| Vec::new()).unwrap().read_to_end(&mut bytes).unwrap();
        bytes
    }

    /// Applies one command. A refusal changes nothing.
    pub(crate) fn apply(&mut self, command: Command) -> Reply {
        let is_once = matches!(command, Command::Once(_));
        let before = self.everything();
        let reply = self.apply_all(vec![command]).swap_remove(0);
        // An answer that has outlived its time may go with a refusal.
        if reply.is_err() && !is_once {
            assert!(self.everything() == before, "{reply:?}, and yet something has changed");
            assert_eq!(self.effects, []);
        }
        reply
    }

    /// What is stored, apart from the clock and the answers to proposals.
    fn everything(&self) -> (Meta, Records) {
        let view = self.storage.state.view();
        let meta = Meta { now: START, ..view.get::<Metas>(&()).unwrap().unwrap_or_default() };
        let items = view.range_bytes(&[3], &[u8::MAX], usize::MAX).unwrap();
        (meta, items.into_iter().map(|(key, value)| (key, value.to_vec())).collect())
    }

    /// Applies one command that does something, of which there is nothing to say.
    #[track_caller]
    pub(crate) fn done(&mut self, command: Command) {
        let label = format!("{command:?}");
        assert_eq!(self.apply(command), Ok(Applied::Done), "{label}");
    }

    /// Applies one command that is refused.
    #[track_caller]
    pub(crate) fn refused(&mut self, command: Command, why: Rejection) {
        let label = format!("{command:?}");
        assert_eq!(self.apply(command), Err(why), "{label}");
    }

    pub(crate) fn get<K: Keyspace>(&self, key: &K::Key) -> Option<K::Value> {
        self.storage.state.view().get::<K>(key).unwrap()
    }

    pub(crate) fn keys<K: Keyspace>(&self) -> Vec<K::Key> {
        self.storage.state.view().keys_prefix::<K>(&[], None, usize::MAX).unwrap()
    }

    pub(crate) fn meta(&self) -> Meta {
        self.get::<Metas>(&()).unwrap()
    }

    // Nodes.

    /// Registers a process of a node.
    pub(crate) fn register(&mut self, node: NodeId, session: u64) {
        let command = Command::RegisterNode(RegisterNode {
            node,
            session: SessionId(session),
            api_url: String::new(),
            rpc_addr: String::new(),
            version: String::new(),
            level: FeatureLevel::FIRST,
            at: self.clocks.get(&node).copied().unwrap_or_default(),
        });
        let reply = self.apply(command);
        assert!(matches!(reply, Ok(Applied::Registered(_))), "{reply:?}");
    }

    pub(crate) fn incarnation(&self, node: NodeId) -> Incarnation {
        self.get::<Nodes>(&node).unwrap().incarnation
    }

    pub(crate) fn expire(&mut self, node: NodeId) {
        let incarnation = self.incarnation(node);
        self.done(Command::ExpireNode(ExpireNode { node, incarnation }));
    }

    pub(crate) fn claim(&mut self, node: NodeId, target: ClaimTarget) -> Reply {
        let incarnation = self.incarnation(node);
        self.apply(Command::Claim(Claim { node, incarnation, target }))
    }

    // Jobs.

    /// Creates the usual job, whose next instant is `next`.
    pub(crate) fn create_job(&mut self, id: u64, next: Timestamp) -> JobId {
        let job = job(id);
        let id = job.id;
        let command = CreateJob { job, next_run_at: Some(next), paused: false, jobs_max: None };
        self.done(Command::CreateJob(Box::new(command)));
        id
    }

    pub(crate) fn job_state(&self, job: JobId) -> JobState {
        self.get::<JobStates>(&job).unwrap()
    }

    pub(crate) fn cursor(&self, job: JobId) -> Option<Timestamp> {
        self.job_state(job).next_run_at
    }

    pub(crate) fn execution(&self, id: ExecutionId) -> Execution {
        self.get::<Executions>(&id).unwrap()
    }

    /// The claim of a job's next instant, after which it is `next`'s turn.
    pub(crate) fn firing(&self, job: JobId, next: Option<Timestamp>) -> ClaimTarget {
        let state = self.job_state(job);
        ClaimTarget::Firing {
            job,
            generation: state.generation,
            scheduled_at: state.next_run_at.unwrap(),
            next_run_at: next,
        }
    }

    /// Node one fires a job. Its next instant is a minute later.
    pub(crate) fn fire(&mut self, job: JobId) -> ExecutionId {
        let at = self.cursor(job).unwrap();
        let target = self.firing(job, Some(at.plus(Duration::from_secs(60))));
        let id = ExecutionId::scheduled(job, at);
        assert_eq!(self.claim(ONE, target), Ok(Applied::Claimed(Some(id))));
        id
    }

    /// What node one reports of an execution that it holds: an HTTP status, and when to try again.
    pub(crate) fn outcome(&self, id: ExecutionId, status: u16, retry_at: Option<Timestamp>) -> Command {
        let attempt = self.execution(id).attempt;
        let failed = !(200..300).contains(&status);
        let result = AttemptResult::Sent {
            attempt: Attempt {
                number: attempt,
                node: ONE,
                started_at: self.now,
                finished_at: self.now,
                duration_ms: 25,
                status_code: Some(status),
                failure: failed
                    .then(|| Failure { kind: ErrorKind::HttpStatus, message: format!("HTTP {status}") }),
            },
            body: Some(ResponseBody { text: "answer".to_owned(), truncated: false }),
            retry_at,
        };
        let incarnation = self.incarnation(ONE);
        Command::Record(Box::new(Outcome { execution: id, attempt, node: ONE, incarnation, result }))
    }

    /// Node one fires a job and hears this status.
    pub(crate) fn run(&mut self, job: JobId, status: u16) -> ExecutionId {
        let id = self.fire(job);
        let outcome = self.outcome(id, status, None);
        self.done(outcome);
        id
    }

    // Deliveries.

    /// Every delivery, in order.
    pub(crate) fn deliveries(&self) -> Vec<DeliveryId> {
        self.keys::<Deliveries>()
    }

    pub(crate) fn delivery(&self, id: DeliveryId) -> Delivery {
        self.get::<Deliveries>(&id).unwrap()
    }

    /// When a delivery is due, if it waits.
    pub(crate) fn waits_for(&self, id: DeliveryId) -> Option<Timestamp> {
        let is_it = |key: &DueKey| key.item == DueItem::Delivery(id);
        self.keys::<Due>().into_iter().find(is_it).map(|key| key.due)
    }

    pub(crate) fn claim_delivery(&mut self, node: NodeId, id: DeliveryId, attempt: u32) -> Reply {
        self.claim(node, ClaimTarget::Delivery { id, attempt })
    }

    /// What a node reports of a delivery, under the incarnation it has now.
    pub(crate) fn report(
        &self,
        node: NodeId,
        id: DeliveryId,
        attempt: u32,
        result: DeliveryResult,
    ) -> Command {
        let outcome = DeliveryOutcome {
            delivery: id,
            attempt,
            node,
            incarnation: self.incarnation(node),
            at: self.now,
            result,
        };
        Command::RecordDelivery(Box::new(outcome))
    }
}
