//! Jobs that fire together, and what the node that fires them proposes.

use domain::account::{Account, Plan};
use domain::execution::{Attempt, AttemptResult, Outcome};
use domain::id::{AccountId, ExecutionId, JobId, NodeId};
use domain::job::{Delivery, Job, Method, MisfirePolicy, OverlapPolicy, Request, Retry};
use domain::node::{FeatureLevel, Incarnation, SessionId};
use domain::time::Timestamp;
use raft::Payload;
use raft::codec::encode_proposal;
use raft::command::{Claim, ClaimTarget, Command, CreateAccount, CreateJob, Proposal, RegisterNode};
use std::time::Duration;

/// Commands in one proposal.
pub(crate) const BATCH: usize = 256;
/// Who proposes.
pub(crate) const NODE: NodeId = NodeId(1);
const SESSION: SessionId = SessionId(1);
const ACCOUNT: AccountId = AccountId(1);
/// When the jobs are due for the first time; then every minute.
const START: Timestamp = Timestamp::from_secs(1_800_000_000);
const PERIOD: Duration = Duration::from_secs(60);
/// Of a job that was never changed.
const GENERATION: u64 = 1;

/// An instant of a job.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Firing {
    pub(crate) job: JobId,
    pub(crate) at: Timestamp,
}

impl Firing {
    pub(crate) fn execution(self) -> ExecutionId {
        ExecutionId::scheduled(self.job, self.at)
    }

    pub(crate) fn claim(self, incarnation: Incarnation) -> Command {
        let target = ClaimTarget::Firing {
            job: self.job,
            generation: GENERATION,
            scheduled_at: self.at,
            next_run_at: Some(self.at.plus(PERIOD)),
        };
        Command::Claim(Claim { node: NODE, incarnation, target })
    }

    /// The request was answered with 200.
    pub(crate) fn outcome(self, incarnation: Incarnation) -> Command {
        let attempt = Attempt {
            number: 1,
            node: NODE,
            started_at: self.at,
            finished_at: self.at.plus(Duration::from_millis(25)),
            duration_ms: 25,
            status_code: Some(200),
            failure: None,
        };
        let result = AttemptResult::Sent { attempt, body: None, retry_at: None };
        let execution = self.execution();
        Command::Record(Box::new(Outcome { execution, attempt: 1, node: NODE, incarnation, result }))
    }
}

/// Whose turn it is.
#[derive(Clone, Debug)]
pub(crate) struct Turns {
    /// The next instant of each job.
    next: Vec<Timestamp>,
    job: usize,
}

impl Turns {
    pub(crate) fn new(jobs: usize) -> Self {
        Self { next: vec![START; jobs], job: 0 }
    }

    /// The next [`BATCH`] firings, in the order in which they are due.
    pub(crate) fn take(&mut self) -> Vec<Firing> {
        let mut firings = Vec::with_capacity(BATCH);
        for _ in 0..BATCH {
            let at = self.next[self.job];
            firings.push(Firing { job: JobId(self.job as u64 + 1), at });
            self.next[self.job] = at.plus(PERIOD);
            self.job = (self.job + 1) % self.next.len();
        }
        firings
    }
}

/// The first process of the one node, and its proposals in order.
#[derive(Debug, Default)]
pub(crate) struct Proposer {
    sequence: u64,
}

impl Proposer {
    /// One entry of the log.
    pub(crate) fn propose(&mut self, commands: Vec<Command>) -> Payload {
        self.sequence += 1;
        let proposal = Proposal {
            node: NODE,
            session: SESSION,
            sequence: self.sequence,
            acknowledged_below: self.sequence,
            commands,
        };
        Payload { at: START, proposal: encode_proposal(&proposal) }
    }

    pub(crate) fn register(&mut self) -> Payload {
        self.propose(vec![Command::RegisterNode(RegisterNode {
            node: NODE,
            session: SESSION,
            api_url: "http://127.0.0.1:8080".to_owned(),
            rpc_addr: "127.0.0.1:7080".to_owned(),
            version: "0.1.0".to_owned(),
            level: FeatureLevel::FIRST,
            at: START,
        })])
    }

    pub(crate) fn create_account(&mut self) -> Payload {
        let account =
            Account { id: ACCOUNT, plan: Plan::Free, email: None, billing: None, created_at: START };
        self.propose(vec![Command::CreateAccount(Box::new(CreateAccount { account, user: None }))])
    }

    /// The jobs with these numbers, counted from 0 as in [`Turns`].
    pub(crate) fn create_jobs(&mut self, numbers: std::ops::Range<usize>) -> Payload {
        let create = |number: usize| {
            let job = job(JobId(number as u64 + 1));
            let command = CreateJob { job, next_run_at: Some(START), paused: false, jobs_max: None };
            Command::CreateJob(Box::new(command))
        };
        self.propose(numbers.map(create).collect())
    }
}

fn job(id: JobId) -> Job {
    Job {
        id,
        account: ACCOUNT,
        space: None,
        name: format!("job {id}"),
        cron_expression: "* * * * *".to_owned(),
        timezone: "UTC".to_owned(),
        request: Request {
            url: "https://example.com/hooks/nightly?run={{execution_id}}".to_owned(),
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
