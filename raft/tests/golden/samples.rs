//! One of everything that is stored, with every optional field filled, and once more with them empty where that makes a
//! difference. No literal here may use `..`: a new field must break the build.

use crate::tables;
use domain::account::{Account, ApiKey, Billing, Plan, User};
use domain::channel::{Channel, ChannelConfig, EventKind, LastDelivery};
use domain::delivery::Delivery;
use domain::execution::{
    Attempt, Diagnosis, DueItem, ErrorKind, Execution, ExecutionState, ExecutionStatus, Failure,
    MissedFirings, ResponseBody, Trigger,
};
use domain::id::{AccountId, ChannelId, DeliveryId, ExecutionId, JobId, KeyId, NodeId, SpaceId};
use domain::job::{
    Delivery as DeliveryPolicy, Job, JobState, LastRun, Method, MisfirePolicy, OverlapPolicy, Request, Retry,
    RetryPolicy,
};
use domain::ledger::Timetable;
use domain::node::{FeatureLevel, Incarnation, Node, SessionId};
use domain::pulse::Pulse;
use domain::rejection::Rejection;
use domain::shard::{SHARDS, ShardId, ShardMap};
use domain::space::Space;
use domain::time::Timestamp;
use raft::command::{Applied, Reply};
use std::collections::BTreeMap;
use storage::schema::{
    AccountJob, Answer, DueKey, Meta, RemovedNode, Restore, RestoreStage, Secrets, Session, Usage,
};

pub(crate) const ACCOUNT: AccountId = AccountId(0x0102_0304_0506_0708);
pub(crate) const JOB: JobId = JobId(0x1112_1314_1516_1718);
pub(crate) const SPACE: SpaceId = SpaceId(0x2122_2324_2526_2728);
pub(crate) const CHANNEL: ChannelId = ChannelId(0x4142_4344_4546_4748);
pub(crate) const KEY: KeyId = KeyId(0x3132_3334_3536_3738);
pub(crate) const NODE: NodeId = NodeId(3);
/// Who signs in, in lower case.
pub(crate) const EMAIL: &str = "jürgen@example.com";
/// A customer of the payment service.
pub(crate) const CUSTOMER: &str = "cus_QabcDEF123";
pub(crate) const INCARNATION: Incarnation = Incarnation(70_000);
pub(crate) const SESSION: SessionId = SessionId(1_780_272_000_123);

/// A text that needs more than ASCII.
pub(crate) const TEXT: &str = "Tägliche Sicherung ✓";

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
    Meta {
        now: at(0),
        last_incarnation: 70_000,
        bootstrapped: true,
        jobs_active: 300,
        jobs_paused: 2,
        channels: 7,
        channels_of_all: 4,
        restoring: true,
        level: FeatureLevel::FIRST,
    }
}

pub(crate) fn timetable() -> Timetable {
    Timetable {
        since: at(0),
        found: Some(at(60_000)),
        first: Some(at(3_600_000)),
        cron_expression: "0 * * * *".to_owned(),
        timezone: "Europe/Berlin".to_owned(),
        kept_from: Some(at(1)),
    }
}

pub(crate) fn bare_timetable() -> Timetable {
    Timetable { found: None, first: None, kept_from: None, ..timetable() }
}

pub(crate) fn restore(stage: RestoreStage) -> Restore {
    Restore { backup: u64::MAX, parts: 300, begun_at: at(0), stage }
}

pub(crate) fn upgraded_meta() -> Meta {
    Meta { level: FeatureLevel(2), ..meta() }
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
        level: FeatureLevel::FIRST,
        registered_at: at(0),
        draining: true,
        expired_at: Some(at(5)),
    }
}

pub(crate) fn upgraded_node() -> Node {
    Node { level: FeatureLevel(2), ..node() }
}

pub(crate) fn live_node() -> Node {
    Node {
        id: NODE,
        session: SESSION,
        incarnation: INCARNATION,
        api_url: String::new(),
        rpc_addr: String::new(),
        version: String::new(),
        level: FeatureLevel::FIRST,
        registered_at: at(0),
        draining: false,
        expired_at: None,
    }
}

pub(crate) fn removed_node() -> RemovedNode {
    RemovedNode { removed_at: at(7) }
}

pub(crate) fn owners() -> Vec<NodeId> {
    (1..=3).map(NodeId).cycle().take(SHARDS).collect()
}

pub(crate) fn shard_map() -> ShardMap {
    ShardMap { version: 12, owners: owners() }
}

pub(crate) fn account(plan: Plan) -> Account {
    Account {
        id: ACCOUNT,
        plan,
        email: Some("ops@example.com".to_owned()),
        billing: Some(billing()),
        created_at: at(0),
    }
}

pub(crate) fn bare_account() -> Account {
    Account { id: ACCOUNT, plan: Plan::Free, email: None, billing: None, created_at: at(0) }
}

pub(crate) fn billing() -> Billing {
    Billing {
        customer: CUSTOMER.to_owned(),
        subscription: Some("sub_1PabcDEF".to_owned()),
        changed_at: at(3),
    }
}

pub(crate) fn user() -> User {
    User {
        email: EMAIL.to_owned(),
        account: ACCOUNT,
        password: "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHQ$aGFzaGhhc2g".to_owned(),
        created_at: at(0),
    }
}

pub(crate) fn secrets() -> Secrets {
    Secrets { session_key: hash(3).to_vec() }
}

pub(crate) fn key_hash() -> [u8; 32] {
    hash(7)
}

/// A hash that is told from others by `step`.
pub(crate) fn hash(step: usize) -> [u8; 32] {
    std::array::from_fn(|n| u8::try_from(n * step).unwrap())
}

pub(crate) fn api_key() -> ApiKey {
    ApiKey {
        id: KEY,
        account: ACCOUNT,
        name: TEXT.to_owned(),
        hash: key_hash(),
        last_four: "aB3x".to_owned(),
        created_at: at(0),
        last_used_at: Some(at(6)),
    }
}

pub(crate) fn unused_key() -> ApiKey {
    ApiKey {
        id: KEY,
        account: ACCOUNT,
        name: String::new(),
        hash: key_hash(),
        last_four: "aB3x".to_owned(),
        created_at: at(0),
        last_used_at: None,
    }
}

pub(crate) fn space(paused_at: Option<Timestamp>) -> Space {
    Space {
        id: SPACE,
        account: ACCOUNT,
        name: TEXT.to_owned(),
        timezone: "Europe/Berlin".to_owned(),
        paused_at,
        generation: 5,
        turned_at: at(1),
        jobs: 300,
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
        delivery: DeliveryPolicy::AtMostOnce,
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
        delivery: DeliveryPolicy::AtLeastOnce,
        created_at: Timestamp::EPOCH,
        updated_at: Timestamp::EPOCH,
    }
}

pub(crate) fn job_state() -> JobState {
    JobState {
        account: ACCOUNT,
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
        account: ACCOUNT,
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
    Usage { jobs: 302, month: at(0).month(), executions: 70_001, day: at(0).as_days(), diagnoses: 20 }
}

pub(crate) fn attempt(number: u32, failure: Option<ErrorKind>) -> Attempt {
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

/// Every result once, over two days.
pub(crate) fn pulse() -> Pulse {
    let mut pulse = Pulse::default();
    for (hours, status) in (0..).step_by(12).zip(tables::execution_statuses()) {
        let instant = at(hours * 3_600_000);
        pulse.beat(instant, status, instant);
    }
    pulse
}

pub(crate) fn diagnosis() -> Diagnosis {
    Diagnosis { text: TEXT.to_owned(), model: "some-model-1".to_owned(), created_at: at(9) }
}

/// A way to reach a channel of every kind.
pub(crate) fn channel_configs() -> Vec<ChannelConfig> {
    let url = "https://example.com/hook/T000/B000".to_owned();
    let headers = vec![("X-One".to_owned(), "1".to_owned()), ("X-Two".to_owned(), String::new())];
    vec![
        ChannelConfig::Slack { webhook_url: url.clone() },
        ChannelConfig::Discord { webhook_url: url.clone() },
        ChannelConfig::Email { addresses: vec![EMAIL.to_owned(), "ops@example.com".to_owned()] },
        ChannelConfig::Webhook {
            url: url.clone(),
            headers: headers.clone(),
            secret: "whsec_c2VjcmV0".to_owned(),
        },
        ChannelConfig::PagerDuty {
            url,
            headers,
            routing_key: Some("0123456789abcdef".to_owned()),
            secret: Some("whsec_x".to_owned()),
        },
    ]
}

pub(crate) fn channel(config: ChannelConfig, last_delivery: Option<LastDelivery>) -> Channel {
    Channel {
        id: CHANNEL,
        account: ACCOUNT,
        name: TEXT.to_owned(),
        config,
        events: tables::event_kinds(),
        last_delivery,
        created_at: at(0),
        updated_at: at(1),
    }
}

pub(crate) fn delivery_id(event: EventKind) -> DeliveryId {
    DeliveryId { execution: scheduled(), event, channel: CHANNEL }
}

pub(crate) fn delivery() -> Delivery {
    Delivery {
        id: delivery_id(EventKind::Failed),
        account: ACCOUNT,
        job_name: TEXT.to_owned(),
        job_url: "https://example.com/hook?a=b".to_owned(),
        status_code: Some(503),
        duration_ms: 250,
        error: Some(TEXT.to_owned()),
        executed_at: at(1_001),
        created_at: at(1_251),
        due: at(6_251),
        attempt: 2,
        holder: Some((NODE, INCARNATION)),
    }
}

pub(crate) fn bare_delivery() -> Delivery {
    Delivery {
        id: delivery_id(EventKind::Recovered),
        account: ACCOUNT,
        job_name: String::new(),
        job_url: String::new(),
        status_code: None,
        duration_ms: 0,
        error: None,
        executed_at: at(1_001),
        created_at: at(1_251),
        due: at(1_251),
        attempt: 1,
        holder: None,
    }
}

pub(crate) fn answer() -> Answer {
    Answer {
        request: hash(5),
        memo: vec![1, 200],
        replies: storage::codec::encode_body(&vec![Reply::Ok(Applied::Done), Reply::Err(Rejection::Stale)]),
        expires_at: at(86_400_000),
    }
}

pub(crate) fn due_key(item: DueItem) -> DueKey {
    DueKey { shard: ShardId(0xab), due: at(1_000), item }
}
