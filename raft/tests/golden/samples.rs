//! One of everything, with every optional field filled, and once more with them empty where that makes a
//! difference. No literal here may use `..`: a new field must break the build.

use crate::tables;
use domain::account::{Account, ApiKey, Plan};
use domain::execution::{
    Attempt, AttemptResult, DueItem, ErrorKind, Execution, ExecutionState, ExecutionStatus, Failure,
    MissedFirings, NotRecorded, Outcome, ResponseBody, Trigger,
};
use domain::id::{AccountId, ChannelId, ExecutionId, JobId, KeyId, NodeId, SpaceId};
use domain::job::{
    Delivery, Job, JobState, JobVersion, LastRun, Method, MisfirePolicy, OverlapPolicy, Request, Retry,
    RetryPolicy,
};
use domain::node::{Incarnation, Node, SessionId};
use domain::rejection::Rejection;
use domain::shard::{SHARDS, ShardId, ShardMap};
use domain::space::Space;
use domain::time::Timestamp;
use raft::command::{
    Applied, Bootstrap, Claim, ClaimTarget, Command, CreateJob, CreateSpace, DeleteJob, DrainNode,
    ExpireNode, PauseJob, Proposal, RegisterNode, Release, Reply, ResumeJob, RunJob, SetShardMap, Sweep,
    UpdateJob,
};
use std::collections::BTreeMap;
use storage::schema::{AccountJob, DueKey, Meta, Session, Usage};

pub(crate) const ACCOUNT: AccountId = AccountId(0x0102_0304_0506_0708);
pub(crate) const JOB: JobId = JobId(0x1112_1314_1516_1718);
pub(crate) const SPACE: SpaceId = SpaceId(0x2122_2324_2526_2728);
pub(crate) const NODE: NodeId = NodeId(3);
const INCARNATION: Incarnation = Incarnation(70_000);
const SESSION: SessionId = SessionId(1_780_272_000_123);

/// A text that needs more than ASCII.
const TEXT: &str = "Tägliche Sicherung ✓";

pub(crate) fn at(millis: u64) -> Timestamp {
    Timestamp::from_millis(1_780_272_000_000 + millis)
}

pub(crate) fn scheduled() -> ExecutionId {
    ExecutionId::scheduled(JOB, at(1_000))
}

pub(crate) fn manual() -> ExecutionId {
    ExecutionId::manual(JOB, at(2_000), 0x1234)
}

pub(crate) fn meta() -> Meta {
    Meta { now: at(0), last_incarnation: 70_000, bootstrapped: true, jobs_active: 300, jobs_paused: 2 }
}

pub(crate) fn session() -> Session {
    let replies = BTreeMap::from([
        (41, storage::codec::encode_body(&vec![Reply::Ok(Applied::Done)])),
        (300, storage::codec::encode_body(&vec![Reply::Err(Rejection::Stale)])),
    ]);
    Session { session: SESSION, acknowledged_below: 41, replies }
}

pub(crate) fn node() -> Node {
    Node {
        id: NODE,
        session: SESSION,
        incarnation: INCARNATION,
        api_url: "http://node-3.example:8080".to_owned(),
        rpc_addr: "node-3.example:8081".to_owned(),
        version: "0.1.0".to_owned(),
        registered_at: at(0),
        draining: true,
        expired_at: Some(at(5)),
    }
}

pub(crate) fn live_node() -> Node {
    Node {
        id: NODE,
        session: SESSION,
        incarnation: INCARNATION,
        api_url: String::new(),
        rpc_addr: String::new(),
        version: String::new(),
        registered_at: at(0),
        draining: false,
        expired_at: None,
    }
}

fn owners() -> Vec<NodeId> {
    (1..=3).map(NodeId).cycle().take(SHARDS).collect()
}

pub(crate) fn shard_map() -> ShardMap {
    ShardMap { version: 12, owners: owners() }
}

pub(crate) fn account(plan: Plan) -> Account {
    Account { id: ACCOUNT, plan, created_at: at(0) }
}

pub(crate) fn key_hash() -> [u8; 32] {
    std::array::from_fn(|n| u8::try_from(n * 7).unwrap())
}

pub(crate) fn api_key() -> ApiKey {
    ApiKey {
        id: KeyId(0x3132_3334_3536_3738),
        account: ACCOUNT,
        name: TEXT.to_owned(),
        hash: key_hash(),
        last_four: "aB3x".to_owned(),
        created_at: at(0),
    }
}

pub(crate) fn space(paused_at: Option<Timestamp>) -> Space {
    Space {
        id: SPACE,
        account: ACCOUNT,
        name: TEXT.to_owned(),
        timezone: "Europe/Berlin".to_owned(),
        paused_at,
        created_at: at(0),
        updated_at: at(1),
    }
}

pub(crate) fn job() -> Job {
    Job {
        id: JOB,
        account: ACCOUNT,
        space: Some(SPACE),
        name: TEXT.to_owned(),
        cron_expression: "*/5 8-17 * * 1-5".to_owned(),
        timezone: "Europe/Berlin".to_owned(),
        request: Request {
            url: "https://example.com/hook?a=b".to_owned(),
            method: Method::Post,
            headers: vec![("X-One".to_owned(), "1".to_owned()), ("X-Two".to_owned(), String::new())],
            body: Some("{\"a\":1}".to_owned()),
            timeout_sec: 300,
        },
        retry: Retry { policy: RetryPolicy::Exponential, max: 10, delay_sec: 86_400 },
        tags: vec!["backup".to_owned(), "nightly".to_owned()],
        store_response_body: true,
        alert_channels: Some(vec![ChannelId(5), ChannelId(u64::MAX)]),
        overlap: OverlapPolicy::Skip,
        misfire: MisfirePolicy::Skip,
        delivery: Delivery::AtMostOnce,
        created_at: at(0),
        updated_at: at(1),
    }
}

/// A job with nothing that may be left out.
pub(crate) fn bare_job() -> Job {
    Job {
        id: JobId(0),
        account: AccountId(u64::MAX),
        space: None,
        name: String::new(),
        cron_expression: "@hourly".to_owned(),
        timezone: "UTC".to_owned(),
        request: Request {
            url: "http://a".to_owned(),
            method: Method::Get,
            headers: Vec::new(),
            body: None,
            timeout_sec: 1,
        },
        retry: Retry { policy: RetryPolicy::None, max: 0, delay_sec: 60 },
        tags: Vec::new(),
        store_response_body: false,
        alert_channels: None,
        overlap: OverlapPolicy::Allow,
        misfire: MisfirePolicy::RunOnce,
        delivery: Delivery::AtLeastOnce,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    }
}

pub(crate) fn job_state() -> JobState {
    JobState {
        generation: 3,
        paused_at: Some(at(4)),
        next_run_at: Some(at(60_000)),
        claimed_until: Some(at(1_000)),
        open: vec![scheduled(), manual()],
        executions_total: 1_000_000,
        last_run: Some(LastRun {
            execution: scheduled(),
            at: at(1_001),
            status: ExecutionStatus::Failed,
            status_code: Some(503),
            duration_ms: 250,
        }),
    }
}

pub(crate) fn new_job_state() -> JobState {
    JobState {
        generation: 1,
        paused_at: None,
        next_run_at: None,
        claimed_until: None,
        open: Vec::new(),
        executions_total: 0,
        last_run: None,
    }
}

pub(crate) fn account_job() -> AccountJob {
    AccountJob { account: ACCOUNT, created_at: at(0), job: JOB }
}

pub(crate) fn usage() -> Usage {
    Usage { jobs: 302 }
}

fn attempt(number: u32, failure: Option<ErrorKind>) -> Attempt {
    Attempt {
        number,
        node: NODE,
        started_at: at(1_001),
        finished_at: at(1_251),
        duration_ms: 250,
        status_code: failure.is_none().then_some(200),
        failure: failure.map(|kind| Failure { kind, message: TEXT.to_owned() }),
    }
}

/// A failed execution with an attempt of every kind of failure.
pub(crate) fn failed_execution() -> Execution {
    let kinds = tables::error_kinds();
    let attempts = (1..).zip(kinds).map(|(number, kind)| attempt(number, Some(kind))).collect();
    Execution {
        id: manual(),
        trigger: Trigger::Manual,
        scheduled_at: at(2_000),
        due: at(9_000),
        state: ExecutionState::Finished { status: ExecutionStatus::Failed, at: at(9_500) },
        attempt: 7,
        retries: 6,
        attempts,
        skip_reason: Some(TEXT.to_owned()),
        missed: Some(MissedFirings { until: at(7_000), count: 100_000, exact: false }),
    }
}

pub(crate) fn execution(state: ExecutionState) -> Execution {
    Execution {
        id: scheduled(),
        trigger: Trigger::Schedule,
        scheduled_at: at(1_000),
        due: at(1_000),
        state,
        attempt: 1,
        retries: 0,
        attempts: Vec::new(),
        skip_reason: None,
        missed: None,
    }
}

pub(crate) fn claimed() -> ExecutionState {
    ExecutionState::Claimed { node: NODE, incarnation: INCARNATION }
}

pub(crate) fn response_body() -> ResponseBody {
    ResponseBody { text: TEXT.to_owned(), truncated: true }
}

pub(crate) fn due_key(item: DueItem) -> DueKey {
    DueKey { shard: ShardId(0xab), due: at(1_000), item }
}

pub(crate) fn proposal(commands: Vec<Command>) -> Proposal {
    Proposal { node: NODE, session: SESSION, sequence: 300, acknowledged_below: 41, commands }
}

/// Every command, by its name and what is special about it.
pub(crate) fn commands() -> Vec<(&'static str, Command)> {
    let expected = JobVersion { generation: 3, next_run_at: Some(at(60_000)) };
    let claim = |target| Command::Claim(Claim { node: NODE, incarnation: INCARNATION, target });
    let record = |result| {
        let (execution, node, incarnation) = (scheduled(), NODE, INCARNATION);
        Command::Record(Box::new(Outcome { execution, attempt: 2, node, incarnation, result }))
    };
    vec![
        (
            "filled",
            Command::RegisterNode(RegisterNode {
                node: NODE,
                session: SESSION,
                api_url: "http://node-3.example:8080".to_owned(),
                rpc_addr: "node-3.example:8081".to_owned(),
                version: "0.1.0".to_owned(),
            }),
        ),
        ("filled", Command::DrainNode(DrainNode { node: NODE, incarnation: INCARNATION })),
        ("filled", Command::ExpireNode(ExpireNode { node: NODE, incarnation: INCARNATION })),
        ("filled", Command::SetShardMap(SetShardMap { expected_version: 11, owners: owners() })),
        ("filled", Command::Bootstrap(Bootstrap { account: account(Plan::Scale), key: api_key() })),
        ("filled", Command::CreateSpace(CreateSpace { space: space(Some(at(4))) })),
        (
            "filled",
            Command::CreateJob(Box::new(CreateJob {
                job: job(),
                next_run_at: Some(at(60_000)),
                paused: true,
            })),
        ),
        (
            "bare",
            Command::CreateJob(Box::new(CreateJob { job: bare_job(), next_run_at: None, paused: false })),
        ),
        (
            "filled",
            Command::UpdateJob(Box::new(UpdateJob { job: job(), expected, next_run_at: Some(at(60_000)) })),
        ),
        ("filled", Command::DeleteJob(DeleteJob { account: ACCOUNT, job: JOB })),
        ("filled", Command::PauseJob(PauseJob { account: ACCOUNT, job: JOB })),
        (
            "filled",
            Command::ResumeJob(ResumeJob {
                account: ACCOUNT,
                job: JOB,
                expected,
                next_run_at: Some(at(60_000)),
            }),
        ),
        (
            "bare",
            Command::ResumeJob(ResumeJob {
                account: ACCOUNT,
                job: JOB,
                expected: JobVersion { generation: 1, next_run_at: None },
                next_run_at: None,
            }),
        ),
        ("filled", Command::RunJob(RunJob { account: ACCOUNT, execution: manual() })),
        (
            "firing",
            claim(ClaimTarget::Firing {
                job: JOB,
                generation: 3,
                scheduled_at: at(1_000),
                next_run_at: Some(at(60_000)),
            }),
        ),
        (
            "firing-last",
            claim(ClaimTarget::Firing {
                job: JOB,
                generation: 3,
                scheduled_at: at(1_000),
                next_run_at: None,
            }),
        ),
        (
            "missed",
            claim(ClaimTarget::Missed {
                job: JOB,
                generation: 3,
                first: at(1_000),
                skipped: Some(MissedFirings { until: at(7_000), count: 6, exact: true }),
                run: Some(at(8_000)),
                run_due: at(9_000),
                next_run_at: Some(at(60_000)),
            }),
        ),
        (
            "missed-bare",
            claim(ClaimTarget::Missed {
                job: JOB,
                generation: 3,
                first: at(1_000),
                skipped: None,
                run: None,
                run_due: at(9_000),
                next_run_at: None,
            }),
        ),
        ("execution", claim(ClaimTarget::Execution { id: manual(), attempt: 2 })),
        (
            "filled",
            Command::Release(Release { node: NODE, incarnation: INCARNATION, execution: scheduled() }),
        ),
        (
            "sent",
            record(AttemptResult::Sent {
                attempt: attempt(2, Some(ErrorKind::HttpStatus)),
                body: Some(response_body()),
                retry_at: Some(at(5_000)),
            }),
        ),
        ("sent-bare", record(AttemptResult::Sent { attempt: attempt(2, None), body: None, retry_at: None })),
        ("skipped", record(AttemptResult::Skipped { at: at(1_000), reason: TEXT.to_owned() })),
        ("filled", Command::Sweep(Sweep { job: JOB })),
    ]
}

/// Every reply, by what is special about it.
pub(crate) fn replies() -> Vec<(&'static str, Reply)> {
    let no = |rejection| ("filled", Err(rejection));
    vec![
        ("filled", Ok(Applied::Done)),
        ("filled", Ok(Applied::Registered(INCARNATION))),
        ("filled", Ok(Applied::Claimed(Some(scheduled())))),
        ("bare", Ok(Applied::Claimed(None))),
        ("filled", Ok(Applied::Swept(500))),
        no(Rejection::NoSuchAccount),
        no(Rejection::NoSuchJob),
        no(Rejection::NoSuchSpace),
        no(Rejection::NoSuchExecution),
        no(Rejection::NoSuchNode),
        no(Rejection::Exists),
        no(Rejection::AlreadyPaused),
        no(Rejection::AlreadyActive),
        no(Rejection::TooManyJobs { jobs_max: 500 }),
        no(Rejection::TooManyOpen),
        no(Rejection::Stale),
        no(Rejection::NotClaimable),
        ("finished", Err(Rejection::NotRecorded(NotRecorded::Finished))),
        ("superseded", Err(Rejection::NotRecorded(NotRecorded::Superseded))),
        no(Rejection::NotLive),
        no(Rejection::UnknownSession),
        no(Rejection::AlreadyBootstrapped),
    ]
}
