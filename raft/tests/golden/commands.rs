//! Every command and every reply, with every optional field filled, and once more with them empty where that makes a
//! difference. No literal here may use `..`: a new field must break the build.

use crate::samples::{
    ACCOUNT, CHANNEL, INCARNATION, JOB, KEY, NODE, SESSION, SPACE, TEXT, account, api_key, at, attempt,
    bare_account, bare_job, billing, channel, channel_configs, delivery_id, diagnosis, hash, job, key_hash,
    manual, owners, response_body, scheduled, secrets, space, unused_key, user,
};
use crate::tables;
use domain::account::Plan;
use domain::channel::{EventKind, LastDelivery};
use domain::delivery::{DeliveryOutcome, DeliveryResult};
use domain::execution::{AttemptResult, ErrorKind, MissedFirings, NotRecorded, Outcome};
use domain::id::JobId;
use domain::job::JobVersion;
use domain::node::FeatureLevel;
use domain::rejection::Rejection;
use domain::time::Timestamp;
use raft::command::{
    AlignSpace, Applied, BeginRestore, Bootstrap, ChangeBilling, Claim, ClaimTarget, Command, CreateAccount,
    CreateChannel, CreateJob, CreateKey, CreateSpace, DeleteChannel, DeleteJob, DeleteSpace, DrainNode,
    EndSession, ExpireNode, NoteKeyUse, Once, Overdue, PauseJob, PauseSpace, Proposal, Prune, RaiseLevel,
    RegisterNode, Release, RemoveNode, Reply, RestorePart, ResumeJob, ResumeSpace, RevokeKey, RunJob,
    SaveDiagnosis, SetSessionKey, SetShardMap, StepRestore, Sweep, UpdateChannel, UpdateJob, UpdateSpace,
};

pub(crate) fn pause_job(at: Timestamp) -> PauseJob {
    PauseJob { account: ACCOUNT, job: JOB, at, overdue: None }
}

pub(crate) fn update_job(overdue: Option<Overdue>) -> Command {
    let expected = JobVersion { generation: 3, next_run_at: Some(at(60_000)) };
    Command::UpdateJob(Box::new(UpdateJob { job: job(), expected, next_run_at: Some(at(60_000)), overdue }))
}

fn overdue() -> Overdue {
    let missed = MissedFirings { until: at(4_000), count: 2, exact: true };
    Overdue { first: at(3_000), missed }
}

pub(crate) fn resume_job(asked_at: Timestamp) -> ResumeJob {
    let expected = JobVersion { generation: 3, next_run_at: Some(at(60_000)) };
    ResumeJob { account: ACCOUNT, job: JOB, expected, next_run_at: Some(at(60_000)), at: asked_at }
}

pub(crate) fn bare_resume_job(at: Timestamp) -> ResumeJob {
    let expected = JobVersion { generation: 1, next_run_at: None };
    ResumeJob { account: ACCOUNT, job: JOB, expected, next_run_at: None, at }
}

pub(crate) fn proposal(commands: Vec<Command>) -> Proposal {
    Proposal { node: NODE, session: SESSION, sequence: 300, acknowledged_below: 41, commands }
}

/// Every command, by its name and what is special about it.
pub(crate) fn commands() -> Vec<(&'static str, Command)> {
    let parts = [of_jobs_and_nodes(), of_accounts(), of_spaces(), of_channels(), of_once(), of_restore()];
    parts.into_iter().flatten().collect()
}

pub(crate) fn register_node(at: Timestamp) -> RegisterNode {
    RegisterNode {
        node: NODE,
        session: SESSION,
        api_url: "http://node-3.example:8080".to_owned(),
        rpc_addr: "node-3.example:8081".to_owned(),
        version: "0.1.0".to_owned(),
        level: FeatureLevel::FIRST,
        at,
    }
}

fn upgraded() -> RegisterNode {
    let level = FeatureLevel(2);
    RegisterNode { version: "0.2.0".to_owned(), level, ..register_node(Timestamp::EPOCH) }
}

/// About nodes, jobs and executions.
fn of_jobs_and_nodes() -> Vec<(&'static str, Command)> {
    let claim = |target| Command::Claim(Claim { node: NODE, incarnation: INCARNATION, target });
    let record = |result| {
        let (execution, node, incarnation) = (scheduled(), NODE, INCARNATION);
        Command::Record(Box::new(Outcome { execution, attempt: 2, node, incarnation, result }))
    };
    vec![
        ("filled", Command::RegisterNode(register_node(Timestamp::EPOCH))),
        ("filled", Command::DrainNode(DrainNode { node: NODE, incarnation: INCARNATION })),
        ("filled", Command::ExpireNode(ExpireNode { node: NODE, incarnation: INCARNATION })),
        ("timed", Command::RegisterNode(register_node(at(60_000)))),
        ("upgraded", Command::RegisterNode(upgraded())),
        ("filled", Command::RaiseLevel(RaiseLevel { to: FeatureLevel(2) })),
        ("filled", Command::RemoveNode(RemoveNode { node: NODE })),
        ("filled", Command::SetShardMap(SetShardMap { expected_version: 11, owners: owners() })),
        ("paying", Command::Bootstrap(Bootstrap { account: account(Plan::Scale), key: api_key() })),
        ("turned", Command::CreateSpace(CreateSpace { space: space(Some(at(4))) })),
        (
            "limited",
            Command::CreateJob(Box::new(CreateJob {
                job: job(),
                next_run_at: Some(at(60_000)),
                paused: true,
                jobs_max: Some(500),
            })),
        ),
        (
            "unlimited",
            Command::CreateJob(Box::new(CreateJob {
                job: bare_job(),
                next_run_at: None,
                paused: false,
                jobs_max: None,
            })),
        ),
        ("overdue", update_job(Some(overdue()))),
        ("filled", Command::DeleteJob(DeleteJob { account: ACCOUNT, job: JOB })),
        ("overdue", Command::PauseJob(PauseJob { overdue: Some(overdue()), ..pause_job(at(5_000)) })),
        ("timed", Command::ResumeJob(resume_job(at(5_000)))),
        ("timed-bare", Command::ResumeJob(bare_resume_job(at(5_000)))),
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
        ("delivery", claim(ClaimTarget::Delivery { id: delivery_id(EventKind::Executed), attempt: 2 })),
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
        ("filled", Command::Prune(Prune { job: JOB, before: at(2_000) })),
    ]
}

/// About accounts, keys, users, sessions, and what they pay for.
fn of_accounts() -> Vec<(&'static str, Command)> {
    let billing = |plan| ChangeBilling { account: ACCOUNT, plan, billing: billing() };
    let diagnosis = |diagnoses_max| SaveDiagnosis {
        account: ACCOUNT,
        execution: manual(),
        diagnosis: diagnosis(),
        diagnoses_max,
    };
    vec![
        (
            "filled",
            Command::CreateAccount(Box::new(CreateAccount {
                account: account(Plan::Maker),
                user: Some(user()),
            })),
        ),
        ("bare", Command::CreateAccount(Box::new(CreateAccount { account: bare_account(), user: None }))),
        ("filled", Command::CreateKey(CreateKey { key: api_key() })),
        ("unused", Command::CreateKey(CreateKey { key: unused_key() })),
        ("filled", Command::RevokeKey(RevokeKey { account: ACCOUNT, key: KEY })),
        ("filled", Command::NoteKeyUse(NoteKeyUse { used: vec![(key_hash(), at(6)), (hash(1), at(7))] })),
        ("none", Command::NoteKeyUse(NoteKeyUse { used: Vec::new() })),
        ("filled", Command::SetSessionKey(SetSessionKey { key: secrets().session_key })),
        ("filled", Command::EndSession(EndSession { session: 70_000, expires_at: at(86_400_000) })),
        ("filled", Command::ChangeBilling(Box::new(billing(Some(Plan::Pro))))),
        ("same-plan", Command::ChangeBilling(Box::new(billing(None)))),
        ("filled", Command::SaveDiagnosis(Box::new(diagnosis(Some(20))))),
        ("unlimited", Command::SaveDiagnosis(Box::new(diagnosis(None)))),
    ]
}

/// About spaces.
fn of_spaces() -> Vec<(&'static str, Command)> {
    let (account, space) = (ACCOUNT, SPACE);
    let version = JobVersion { generation: 3, next_run_at: Some(at(60_000)) };
    let idle = JobVersion { generation: 1, next_run_at: None };
    vec![
        (
            "filled",
            Command::UpdateSpace(UpdateSpace {
                account,
                space,
                name: Some(TEXT.to_owned()),
                timezone: Some("Europe/Berlin".to_owned()),
                at: at(8),
            }),
        ),
        ("bare", Command::UpdateSpace(UpdateSpace { account, space, name: None, timezone: None, at: at(8) })),
        ("filled", Command::DeleteSpace(DeleteSpace { account, space })),
        ("filled", Command::PauseSpace(PauseSpace { account, space, at: at(8) })),
        ("filled", Command::ResumeSpace(ResumeSpace { account, space, at: at(8) })),
        (
            "filled",
            Command::AlignSpace(AlignSpace {
                space,
                generation: 6,
                jobs: vec![(JOB, version, None), (JobId(9), idle, Some(at(60_000)))],
                done: false,
                overdue: Vec::new(),
            }),
        ),
        (
            "overdue",
            Command::AlignSpace(AlignSpace {
                space,
                generation: 6,
                jobs: vec![(JOB, version, None)],
                done: false,
                overdue: vec![(JOB, overdue())],
            }),
        ),
        (
            "done",
            Command::AlignSpace(AlignSpace {
                space,
                generation: 6,
                jobs: Vec::new(),
                done: true,
                overdue: Vec::new(),
            }),
        ),
    ]
}

/// About channels and messages to them.
fn of_channels() -> Vec<(&'static str, Command)> {
    let mut commands: Vec<(&'static str, Command)> = channel_configs()
        .into_iter()
        .map(|config| {
            let label = tables::channel_config(&config);
            let channel = channel(config, None);
            (label, Command::CreateChannel(Box::new(CreateChannel { channel })))
        })
        .collect();
    let last = LastDelivery { at: at(9), error: Some(TEXT.to_owned()) };
    let channel = channel(channel_configs().swap_remove(3), Some(last));
    commands.push(("filled", Command::UpdateChannel(Box::new(UpdateChannel { channel, expected: at(1) }))));
    commands.push(("filled", Command::DeleteChannel(DeleteChannel { account: ACCOUNT, channel: CHANNEL })));
    let results = [
        ("delivered", DeliveryResult::Delivered),
        ("failed", DeliveryResult::Failed { error: TEXT.to_owned(), retry_at: at(6_251) }),
        ("given-up", DeliveryResult::GivenUp { error: TEXT.to_owned() }),
    ];
    commands.extend(results.map(|(label, result)| {
        let outcome = DeliveryOutcome {
            delivery: delivery_id(EventKind::Failed),
            attempt: 2,
            node: NODE,
            incarnation: INCARNATION,
            at: at(1_300),
            result,
        };
        (label, Command::RecordDelivery(Box::new(outcome)))
    }));
    commands
}

/// Requests that are answered once.
fn of_once() -> Vec<(&'static str, Command)> {
    let once = |memo, commands| {
        let expires_at = at(86_400_000);
        let once = Once { account: ACCOUNT, name: hash(2), request: hash(5), expires_at, memo, commands };
        Command::Once(Box::new(once))
    };
    let delete = Command::DeleteJob(DeleteJob { account: ACCOUNT, job: JOB });
    let run = Command::RunJob(RunJob { account: ACCOUNT, execution: manual() });
    vec![("several", once(vec![1, 200], vec![run.clone(), delete])), ("one", once(Vec::new(), vec![run]))]
}

/// A backup that is restored.
fn of_restore() -> Vec<(&'static str, Command)> {
    let begin = |replaces| Command::BeginRestore(BeginRestore { backup: u64::MAX, parts: 300, replaces });
    let block = vec![0, 1, 200, 255].into();
    vec![
        ("filled", begin(Some(7))),
        ("bare", begin(None)),
        ("filled", Command::RestorePart(RestorePart { backup: u64::MAX, number: 299, block })),
        ("filled", Command::StepRestore(StepRestore { backup: u64::MAX })),
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
        ("filled", Ok(Applied::All(vec![Ok(Applied::Claimed(Some(scheduled()))), Err(Rejection::Stale)]))),
        ("none", Ok(Applied::All(Vec::new()))),
        no(Rejection::NoSuchAccount),
        no(Rejection::NoSuchJob),
        no(Rejection::NoSuchSpace),
        no(Rejection::NoSuchKey),
        no(Rejection::NoSuchChannel),
        no(Rejection::NoSuchDelivery),
        no(Rejection::NoSuchExecution),
        no(Rejection::NoSuchNode),
        no(Rejection::NodeRemoved),
        no(Rejection::LevelTooLow { needed: FeatureLevel(2) }),
        no(Rejection::LevelUnsupported { node: NODE, supported: FeatureLevel(1) }),
        no(Rejection::Exists),
        no(Rejection::AlreadyPaused),
        no(Rejection::AlreadyActive),
        no(Rejection::TooManyJobs { jobs_max: 500 }),
        no(Rejection::TooManyDiagnoses { diagnoses_max: 20 }),
        no(Rejection::TooMany { max: 100 }),
        no(Rejection::EmailTaken),
        no(Rejection::SpaceNotEmpty),
        no(Rejection::Answered),
        no(Rejection::TooManyOpen),
        no(Rejection::Stale),
        no(Rejection::NotClaimable),
        ("finished", Err(Rejection::NotRecorded(NotRecorded::Finished))),
        ("superseded", Err(Rejection::NotRecorded(NotRecorded::Superseded))),
        no(Rejection::NotLive),
        no(Rejection::UnknownSession),
        no(Rejection::AlreadyBootstrapped),
        no(Rejection::Restoring),
        no(Rejection::NotEmpty),
        no(Rejection::UnreadablePart),
    ]
}
