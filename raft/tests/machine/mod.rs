//! The state machine without consensus: commands in, replies out, one node that claims.

#![allow(dead_code, reason = "each file of tests uses a part of it")]

use domain::account::{Account, ApiKey, Plan};
use domain::execution::{Attempt, AttemptResult, ErrorKind, Execution, Failure, Outcome};
use domain::id::{AccountId, ExecutionId, JobId, KeyId, NodeId, SpaceId};
use domain::job::{Delivery, Job, JobState, Method, MisfirePolicy, OverlapPolicy, Request, Retry};
use domain::node::{Incarnation, SessionId};
use domain::rejection::Rejection;
use domain::space::Space;
use domain::time::Timestamp;
use raft::apply::apply;
use raft::command::{
    Applied, Bootstrap, Claim, ClaimTarget, Command, CreateJob, CreateSpace, Proposal, RegisterNode, Reply,
};
use std::time::Duration;
use storage::schema::{Executions, JobStates, Spaces};
use storage::{Keyspace, Read, Settings, Storage};
use tempfile::TempDir;

/// Whose everything is.
pub(crate) const ACCOUNT: AccountId = AccountId(1);
const NODE: NodeId = NodeId(1);
const INCARNATION: Incarnation = Incarnation(1);
/// 2026-06-01, a whole hour.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_780_272_000);

/// `secs` after the start.
pub(crate) fn at(secs: u64) -> Timestamp {
    START.plus(Duration::from_secs(secs))
}

pub(crate) struct Machine {
    storage: Storage,
    sequence: u64,
    now: Timestamp,
    _dir: TempDir,
}

impl Machine {
    pub(crate) fn start() -> Self {
        let dir = TempDir::new().unwrap();
        let storage = Storage::open(dir.path(), Settings::default()).unwrap();
        let mut machine = Self { storage, sequence: 0, now: START, _dir: dir };
        machine.apply(Command::RegisterNode(RegisterNode {
            node: NODE,
            session: SessionId(1),
            api_url: String::new(),
            rpc_addr: String::new(),
            version: String::new(),
        }));
        machine.apply(Command::Bootstrap(Bootstrap {
            account: Account {
                id: ACCOUNT,
                plan: Plan::Scale,
                email: None,
                billing: None,
                created_at: START,
            },
            key: ApiKey {
                id: KeyId(1),
                account: ACCOUNT,
                name: "k".to_owned(),
                hash: [7; 32],
                last_four: "abcd".to_owned(),
                created_at: START,
                last_used_at: None,
            },
        }));
        machine
    }

    /// Everything from now on happens `secs` after the start.
    pub(crate) fn at(&mut self, secs: u64) {
        self.now = at(secs);
    }

    /// Applies a command that may be refused.
    pub(crate) fn try_apply(&mut self, command: Command) -> Reply {
        self.sequence += 1;
        let proposal = Proposal {
            node: NODE,
            session: SessionId(1),
            sequence: self.sequence,
            acknowledged_below: self.sequence,
            commands: vec![command],
        };
        let mut txn = self.storage.state.begin();
        let mut replies = apply(&mut txn, self.now, proposal, &mut Vec::new()).unwrap();
        txn.commit(self.sequence.to_string().into_bytes().into()).unwrap();
        replies.pop().unwrap()
    }

    /// Applies a command that must not be refused.
    #[track_caller]
    pub(crate) fn apply(&mut self, command: Command) -> Applied {
        self.try_apply(command).unwrap()
    }

    #[track_caller]
    pub(crate) fn refuse(&mut self, command: Command, expected: Rejection) {
        assert_eq!(self.try_apply(command), Err(expected));
    }

    pub(crate) fn get<K: Keyspace>(&self, key: &K::Key) -> Option<K::Value> {
        self.storage.state.view().get::<K>(key).unwrap()
    }

    pub(crate) fn items<K: Keyspace>(&self, prefix: &[u8]) -> Vec<(K::Key, K::Value)> {
        self.storage.state.view().prefix::<K>(prefix, None, 100_000).unwrap()
    }

    pub(crate) fn state(&self, job: u64) -> JobState {
        self.get::<JobStates>(&JobId(job)).unwrap()
    }

    pub(crate) fn execution(&self, id: ExecutionId) -> Execution {
        self.get::<Executions>(&id).unwrap()
    }

    pub(crate) fn space(&self, id: u64) -> Space {
        self.get::<Spaces>(&SpaceId(id)).unwrap()
    }

    pub(crate) fn make_space(&mut self, id: u64) {
        let space = Space {
            id: SpaceId(id),
            account: ACCOUNT,
            name: "s".to_owned(),
            timezone: "UTC".to_owned(),
            paused_at: None,
            generation: 0,
            turned_at: Timestamp::EPOCH,
            jobs: 0,
            created_at: self.now,
            updated_at: self.now,
        };
        self.apply(Command::CreateSpace(CreateSpace { space }));
    }

    /// Makes a job that is due every minute, next at `next` seconds.
    pub(crate) fn make_job(&mut self, id: u64, space: Option<u64>, next: u64) {
        let job = job(id, space.map(SpaceId));
        let next_run_at = Some(at(next));
        self.apply(Command::CreateJob(Box::new(CreateJob {
            job,
            next_run_at,
            paused: false,
            jobs_max: None,
        })));
    }

    /// Claims the firing of `secs`, which must be the job's cursor.
    #[track_caller]
    pub(crate) fn claim(&mut self, job: u64, secs: u64) -> ExecutionId {
        let target = ClaimTarget::Firing {
            job: JobId(job),
            generation: self.state(job).generation,
            scheduled_at: at(secs),
            next_run_at: Some(at(secs + 60)),
        };
        match self.apply(Command::Claim(Claim { node: NODE, incarnation: INCARNATION, target })) {
            Applied::Claimed(Some(id)) => id,
            other => panic!("{other:?}"),
        }
    }

    /// Records the first attempt of an execution.
    #[track_caller]
    pub(crate) fn record(&mut self, execution: ExecutionId, failed: bool, retry_at: Option<u64>) {
        let attempt = Attempt {
            number: 1,
            node: NODE,
            started_at: self.now,
            finished_at: self.now,
            duration_ms: 5,
            status_code: Some(if failed { 500 } else { 200 }),
            failure: failed.then(|| Failure { kind: ErrorKind::HttpStatus, message: "HTTP 500".to_owned() }),
        };
        let result = AttemptResult::Sent { attempt, body: None, retry_at: retry_at.map(at) };
        let outcome = Outcome { execution, attempt: 1, node: NODE, incarnation: INCARNATION, result };
        self.apply(Command::Record(Box::new(outcome)));
    }
}

pub(crate) fn job(id: u64, space: Option<SpaceId>) -> Job {
    Job {
        id: JobId(id),
        account: ACCOUNT,
        space,
        name: "job".to_owned(),
        cron_expression: "* * * * *".to_owned(),
        timezone: "UTC".to_owned(),
        request: Request {
            url: "https://example.com".to_owned(),
            method: Method::Get,
            headers: Vec::new(),
            body: None,
            timeout_sec: 30,
        },
        retry: Retry::default(),
        tags: Vec::new(),
        store_response_body: false,
        alert_channels: None,
        overlap: OverlapPolicy::Allow,
        misfire: MisfirePolicy::RunOnce,
        delivery: Delivery::AtLeastOnce,
        created_at: START,
        updated_at: START,
    }
}
