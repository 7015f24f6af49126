//! The bytes of everything that outlives a process or travels between releases, line by line in `golden/v1.txt`.
//!
//! A line must read as the value it was written from, and that value must be written as the line. **Old lines never
//! change.** For something new, add it to [`lines`] and run this test with `GOLDEN=append`, which adds the lines that
//! are missing and touches no other. When a record gets a field, its line becomes [`Line::readable`] (the field at its
//! default), and a new line is written with the field filled.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "golden/messagepack.rs"]
mod messagepack; // records apart and together
#[path = "golden/samples.rs"]
mod samples; // one of everything
#[path = "golden/tables.rs"]
mod tables; // the names of all variants

use domain::execution::{DueItem, ExecutionState};
use messagepack::{Fields, Value};
use openraft::alias::{EntryOf, LogIdOf, SnapshotMetaOf, StoredMembershipOf, VoteOf};
use openraft::impls::BasicNode;
use openraft::storage::{
    RaftLogReader, RaftLogStorage, RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine,
};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, Membership};
use raft::codec::{decode_entry, decode_proposal, encode_entry, encode_proposal};
use raft::command::{Proposal, Reply};
use raft::{LogStore, Payload, StateMachine, TypeConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{Debug, Write};
use std::fs;
use std::path::{Path, PathBuf};
use storage::codec::{decode_body, decode_value, encode_body, encode_value};
use storage::schema::{
    AccountJobs, AccountUsage, Accounts, ApiKeys, Claims, DeletedJobs, Due, Executions, JobStates, Jobs,
    Metas, Nodes, ResponseBodies, Sessions, ShardMaps, SpaceJobs, Spaces,
};
use storage::{Keyspace, MetaSlot, Settings, Storage};
use tempfile::TempDir;

type Entry = EntryOf<TypeConfig>;
type LogId = LogIdOf<TypeConfig>;
type Vote = VoteOf<TypeConfig>;
type StoredMembership = StoredMembershipOf<TypeConfig>;
type SnapshotMeta = SnapshotMetaOf<TypeConfig>;

/// Where the body of a record begins that is `MessagePack`, if it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    /// Behind a version and a checksum.
    Checked,
    /// Behind a version.
    Versioned,
    /// At once.
    Bare,
    /// It is no `MessagePack`.
    Other,
}

/// Fields without which a record can be read, that is, which have a default. A new field belongs here too.
const MAY_BE_MISSING: &[&str] = &[
    "Claim.target.Firing.next_run_at",
    "Claim.target.Missed.next_run_at",
    "Claim.target.Missed.run",
    "Claim.target.Missed.skipped",
    "CreateJob.next_run_at",
    "CreateJob.paused",
    "Record.result.Sent.body",
    "Record.result.Sent.retry_at",
    "ResumeJob.expected.next_run_at",
    "ResumeJob.next_run_at",
    "UpdateJob.expected.next_run_at",
    "UpdateJob.next_run_at",
    "account_usage.jobs",
    "executions.attempts",
    "executions.attempts.failure",
    "executions.attempts.status_code",
    "executions.missed",
    "executions.retries",
    "executions.skip_reason",
    "job_states.claimed_until",
    "job_states.executions_total",
    "job_states.last_run",
    "job_states.last_run.duration_ms",
    "job_states.last_run.status_code",
    "job_states.next_run_at",
    "job_states.open",
    "job_states.paused_at",
    "jobs.alert_channels",
    "jobs.delivery",
    "jobs.misfire",
    "jobs.overlap",
    "jobs.request.body",
    "jobs.request.headers",
    "jobs.retry",
    "jobs.space",
    "jobs.store_response_body",
    "jobs.tags",
    "mark.applied",
    "mark.membership_at",
    "meta.bootstrapped",
    "meta.jobs_active",
    "meta.jobs_paused",
    "meta.last_incarnation",
    "meta.now",
    "nodes.draining",
    "nodes.expired_at",
    "nodes.version",
    "spaces.paused_at",
];

type Decode = Box<dyn Fn(&[u8]) -> Result<bool, String>>;

/// Something with a line in the file.
struct Line {
    name: String,
    /// The bytes that this build writes, unless it no longer writes these.
    bytes: Option<Vec<u8>>,
    /// Whether bytes read as the sample; an error when they cannot be read.
    decode: Decode,
    body: Body,
}

impl Line {
    fn new<T: PartialEq + 'static>(
        name: impl Into<String>,
        body: Body,
        sample: T,
        encode: impl Fn(&T) -> Vec<u8>,
        decode: impl Fn(&[u8]) -> Result<T, String> + 'static,
    ) -> Self {
        let bytes = Some(encode(&sample));
        let decode: Decode = Box::new(move |bytes| Ok(decode(bytes)? == sample));
        Self { name: name.into(), bytes, decode, body }
    }

    /// The line of an earlier form: read, but no longer written.
    #[expect(dead_code, reason = "no record has changed since its first line")]
    fn readable(self) -> Self {
        Self { bytes: None, ..self }
    }

    fn value<K: Keyspace<Value: PartialEq + 'static>>(label: &str, sample: K::Value) -> Self {
        let decode = |bytes: &[u8]| decode_value::<K>(bytes).map_err(text);
        Self::new(format!("value/{}/{label}", K::NAME), Body::Checked, sample, encode_value, decode)
    }

    fn key<K: Keyspace<Key: PartialEq + 'static>>(label: &str, sample: K::Key) -> Self {
        let encode = |key: &K::Key| {
            let mut bytes = vec![K::PREFIX];
            K::encode_key(key, &mut bytes);
            bytes
        };
        let decode = |bytes: &[u8]| match bytes.split_first() {
            Some((prefix, key)) if *prefix == K::PREFIX => {
                K::decode_key(key).ok_or_else(|| "no key".to_owned())
            }
            Some(_) | None => Err("no prefix".to_owned()),
        };
        Self::new(format!("key/{}/{label}", K::NAME), Body::Other, sample, encode, decode)
    }

    fn proposal(name: String, sample: Proposal) -> Self {
        let encode = |proposal: &Proposal| encode_proposal(proposal).to_vec();
        Self::new(name, Body::Versioned, sample, encode, |bytes| decode_proposal(bytes).map_err(text))
    }

    fn reply(name: String, sample: Vec<Reply>) -> Self {
        Self::new(name, Body::Bare, sample, encode_body, |bytes| decode_body(bytes).map_err(text))
    }

    fn entry(label: &str, index: u64, payload: openraft::alias::EntryPayloadOf<TypeConfig>) -> Self {
        let name = format!("entry/{}/{label}", tables::payload(&payload));
        let sample = Entry { log_id: log_id(4, 3, index), payload };
        let encode = |entry: &Entry| encode_entry(entry).to_vec();
        let decode = |bytes: &[u8]| decode_entry(bytes.to_vec().into()).map_err(text);
        Self::new(name, Body::Other, sample, encode, decode)
    }
}

fn text(error: impl Debug) -> String {
    format!("{error:?}")
}

fn log_id(term: u64, node_id: u64, index: u64) -> LogId {
    LogId::new(openraft::alias::LeaderIdOf::<TypeConfig> { term, node_id }, index)
}

fn membership(configs: &[&[u64]]) -> Membership<u64, BasicNode> {
    let configs: Vec<BTreeSet<u64>> = configs.iter().map(|voters| voters.iter().copied().collect()).collect();
    let nodes: BTreeMap<u64, BasicNode> =
        (1..=4).map(|id| (id, BasicNode::new(format!("node-{id}.example:8081")))).collect();
    Membership::new(configs, nodes).unwrap()
}

/// Everything there is.
fn lines() -> Vec<Line> {
    let mut lines = keys();
    lines.extend(values());
    for (label, command) in samples::commands() {
        let name = format!("command/{}/{label}", tables::command(&command));
        lines.push(Line::proposal(name, samples::proposal(vec![command])));
    }
    let several = samples::commands().into_iter().take(3).map(|(_, command)| command).collect();
    lines.push(Line::proposal("proposal/several".to_owned(), samples::proposal(several)));
    lines.push(Line::proposal("proposal/empty".to_owned(), samples::proposal(Vec::new())));
    for (label, reply) in samples::replies() {
        let name = match &reply {
            Ok(applied) => format!("reply/Ok/{}/{label}", tables::applied(applied)),
            Err(rejection) => format!("reply/Err/{}/{label}", tables::rejection(rejection)),
        };
        lines.push(Line::reply(name, vec![reply]));
    }
    lines.push(Line::reply("replies/none".to_owned(), Vec::new()));
    lines.extend(log());
    lines.extend(marks());
    lines
}

fn keys() -> Vec<Line> {
    let (scheduled, manual) = (samples::scheduled(), samples::manual());
    let skipped = domain::id::ExecutionId::skipped(samples::JOB, samples::at(0));
    let firing = samples::due_key(DueItem::Firing(samples::JOB));
    let execution = samples::due_key(DueItem::Execution(manual));
    let item = |key: &storage::schema::DueKey| tables::due_item(&key.item);
    vec![
        Line::key::<Metas>("one", ()),
        Line::key::<Sessions>("filled", samples::NODE),
        Line::key::<Nodes>("filled", samples::NODE),
        Line::key::<ShardMaps>("one", ()),
        Line::key::<Accounts>("filled", samples::ACCOUNT),
        Line::key::<ApiKeys>("filled", samples::key_hash()),
        Line::key::<Spaces>("filled", samples::SPACE),
        Line::key::<Jobs>("filled", samples::JOB),
        Line::key::<JobStates>("filled", samples::JOB),
        Line::key::<AccountJobs>("filled", samples::account_job()),
        Line::key::<SpaceJobs>("filled", (samples::SPACE, samples::JOB)),
        Line::key::<AccountUsage>("filled", samples::ACCOUNT),
        Line::key::<Executions>("scheduled", scheduled),
        Line::key::<Executions>("manual", manual),
        Line::key::<Executions>("skipped", skipped),
        Line::key::<ResponseBodies>("filled", scheduled),
        Line::key::<Due>(item(&firing), firing),
        Line::key::<Due>(item(&execution), execution),
        Line::key::<Claims>("filled", (samples::NODE, scheduled)),
        Line::key::<DeletedJobs>("filled", samples::JOB),
    ]
}

fn values() -> Vec<Line> {
    let mut lines = vec![
        Line::value::<Metas>("filled", samples::meta()),
        Line::value::<Metas>("new", storage::schema::Meta::default()),
        Line::value::<Sessions>("filled", samples::session()),
        Line::value::<Nodes>("filled", samples::node()),
        Line::value::<Nodes>("live", samples::live_node()),
        Line::value::<ShardMaps>("filled", samples::shard_map()),
        Line::value::<ApiKeys>("filled", samples::api_key()),
        Line::value::<Spaces>("filled", samples::space(Some(samples::at(4)))),
        Line::value::<Spaces>("active", samples::space(None)),
        Line::value::<Jobs>("filled", samples::job()),
        Line::value::<Jobs>("bare", samples::bare_job()),
        Line::value::<JobStates>("filled", samples::job_state()),
        Line::value::<JobStates>("new", samples::new_job_state()),
        Line::value::<AccountJobs>("unit", ()),
        Line::value::<SpaceJobs>("unit", ()),
        Line::value::<AccountUsage>("filled", samples::usage()),
        Line::value::<Executions>("filled", samples::failed_execution()),
        Line::value::<ResponseBodies>("filled", samples::response_body()),
        Line::value::<Due>("unit", ()),
        Line::value::<Claims>("unit", ()),
        Line::value::<DeletedJobs>("unit", ()),
    ];
    for plan in tables::plans() {
        lines.push(Line::value::<Accounts>(&format!("{plan:?}"), samples::account(plan)));
    }
    let mut job = |label: String, change: &dyn Fn(&mut domain::job::Job)| {
        let mut job = samples::bare_job();
        change(&mut job);
        lines.push(Line::value::<Jobs>(&label, job));
    };
    for method in tables::methods() {
        job(format!("method-{method:?}"), &|job| job.request.method = method);
    }
    for policy in tables::retry_policies() {
        job(format!("retry-{policy:?}"), &|job| job.retry.policy = policy);
    }
    for overlap in tables::overlap_policies() {
        job(format!("overlap-{overlap:?}"), &|job| job.overlap = overlap);
    }
    for misfire in tables::misfire_policies() {
        job(format!("misfire-{misfire:?}"), &|job| job.misfire = misfire);
    }
    for delivery in tables::deliveries() {
        job(format!("delivery-{delivery:?}"), &|job| job.delivery = delivery);
    }
    for trigger in tables::triggers() {
        let execution =
            domain::execution::Execution { trigger, ..samples::execution(ExecutionState::Pending) };
        lines.push(Line::value::<Executions>(&format!("trigger-{trigger:?}"), execution));
    }
    let finished = tables::execution_statuses()
        .into_iter()
        .map(|status| ExecutionState::Finished { status, at: samples::at(1_251) });
    for state in [ExecutionState::Pending, samples::claimed()].into_iter().chain(finished) {
        let label = match &state {
            ExecutionState::Finished { status, .. } => format!("state-Finished-{status:?}"),
            ExecutionState::Pending | ExecutionState::Claimed { .. } => {
                format!("state-{}", tables::execution_state(&state))
            }
        };
        lines.push(Line::value::<Executions>(&label, samples::execution(state)));
    }
    lines
}

fn log() -> Vec<Line> {
    let proposal = samples::commands().swap_remove(0).1;
    let payload =
        Payload { at: samples::at(7), proposal: encode_proposal(&samples::proposal(vec![proposal])) };
    let slot = |name: &str, slot: MetaSlot, sample: Option<LogId>| {
        let encode = move |id: &Option<LogId>| {
            let (_dir, storage) = open();
            let mut log = LogStore::new(storage.log.clone());
            let id = *id;
            TypeConfig::run(async move { log.save_committed(id).await.unwrap() });
            storage.log.meta(slot).unwrap().to_vec()
        };
        let decode = move |bytes: &[u8]| {
            let (_dir, storage) = with_slot(slot, bytes);
            let mut log = LogStore::new(storage.log);
            TypeConfig::run(async move { log.read_committed().await.map_err(text) })
        };
        Line::new(name, Body::Other, sample, encode, decode)
    };
    vec![
        Line::entry("first", 1, EntryPayload::Blank),
        Line::entry("filled", u64::from(u32::MAX) + 1, EntryPayload::Normal(payload)),
        Line::entry("plain", 0, EntryPayload::Membership(membership(&[&[1, 2, 3]]))),
        Line::entry("joint", 9, EntryPayload::Membership(membership(&[&[1, 2, 3], &[1, 3, 4]]))),
        vote("vote/asked", Vote::new(5, 2)),
        vote("vote/granted", Vote::new_committed(5, 2)),
        slot("committed/some", MetaSlot::Committed, Some(log_id(4, 3, 300))),
        slot("committed/none", MetaSlot::Committed, None),
        purged(log_id(4, 3, 2)),
    ]
}

fn vote(name: &str, sample: Vote) -> Line {
    let encode = |vote: &Vote| {
        let (_dir, storage) = open();
        let mut log = LogStore::new(storage.log.clone());
        let vote = *vote;
        TypeConfig::run(async move { log.save_vote(&vote).await.unwrap() });
        storage.log.meta(MetaSlot::Vote).unwrap().to_vec()
    };
    let decode = |bytes: &[u8]| {
        let (_dir, storage) = with_slot(MetaSlot::Vote, bytes);
        let mut log = LogStore::new(storage.log);
        let read = TypeConfig::run(async move { log.read_vote().await.map_err(text) })?;
        read.ok_or_else(|| "no vote".to_owned())
    };
    Line::new(name, Body::Other, sample, encode, decode)
}

/// How far the log was purged.
fn purged(sample: LogId) -> Line {
    let encode = |upto: &LogId| {
        let (_dir, storage) = open();
        let mut log = LogStore::new(storage.log.clone());
        let upto = *upto;
        TypeConfig::run(async move {
            let entry = |index| Entry { log_id: log_id(4, 3, index), payload: EntryPayload::Blank };
            log.blocking_append((0..=upto.index).map(entry)).await.unwrap();
            log.purge(upto).await.unwrap();
        });
        storage.log.bounds().purged.unwrap().1.to_vec()
    };
    let decode = |bytes: &[u8]| {
        let (_dir, storage) = open();
        storage.log.purge(2, bytes.to_vec().into(), Box::new(drop));
        let mut log = LogStore::new(storage.log);
        let state = TypeConfig::run(async move { log.get_log_state().await.map_err(text) })?;
        state.last_purged_log_id.ok_or_else(|| "no mark".to_owned())
    };
    Line::new("purged/some", Body::Other, sample, encode, decode)
}

/// The mark of a state, which is what a snapshot file says of itself.
fn marks() -> Vec<Line> {
    let stored = |at, configs| StoredMembership::new(Some(at), membership(configs));
    let plain = stored(log_id(1, 1, 1), &[&[1, 2, 3]]);
    let joint = stored(log_id(4, 3, 9), &[&[1, 2, 3], &[1, 3, 4]]);
    let meta = |applied, membership: &StoredMembership| SnapshotMeta {
        last_log_id: Some(applied),
        last_membership: membership.clone(),
    };
    let line = |name: &str, sample| Line::new(name, Body::Versioned, sample, mark_of, read_mark);
    vec![
        line("mark/plain", meta(log_id(4, 3, 300), &plain)),
        line("mark/joint", meta(log_id(4, 3, 9), &joint)),
        line("mark/no-members", meta(log_id(4, 3, 300), &StoredMembership::default())),
    ]
}

/// The mark of a state to which this was applied.
fn mark_of(meta: &SnapshotMeta) -> Vec<u8> {
    let (_dir, storage) = open();
    let mut machine = StateMachine::new(storage.state.clone()).unwrap();
    let mut entries = Vec::new();
    if let Some(at) = meta.last_membership.log_id() {
        let membership = meta.last_membership.membership().clone();
        entries.push(Entry { log_id: *at, payload: EntryPayload::Membership(membership) });
    }
    if meta.last_log_id != *meta.last_membership.log_id() {
        entries.push(Entry { log_id: meta.last_log_id.unwrap(), payload: EntryPayload::Blank });
    }
    let snapshot = TypeConfig::run(async move {
        let items = entries.into_iter().map(|entry| Ok((entry, None)));
        machine.apply(futures::stream::iter(items)).await.unwrap();
        machine.get_snapshot_builder().await.build_snapshot().await.unwrap()
    });
    assert_eq!(storage.state.applied().unwrap(), snapshot.snapshot.mark);
    snapshot.snapshot.mark.to_vec()
}

fn read_mark(bytes: &[u8]) -> Result<SnapshotMeta, String> {
    let (_dir, storage) = open();
    storage.state.begin().commit(bytes.to_vec().into()).map_err(text)?;
    let mut machine = StateMachine::new(storage.state).map_err(text)?;
    TypeConfig::run(async move {
        let built = machine.get_snapshot_builder().await.build_snapshot().await.map_err(text)?;
        let found = machine.get_current_snapshot().await.map_err(text)?;
        let (last_log_id, last_membership) = machine.applied_state().await.map_err(text)?;
        let meta = SnapshotMeta { last_log_id, last_membership };
        assert_eq!(built.meta, meta);
        assert_eq!(found.map(|snapshot| snapshot.meta).as_ref(), Some(&meta));
        Ok(meta)
    })
}

fn open() -> (TempDir, Storage) {
    let dir = TempDir::new().unwrap();
    let storage = Storage::open(dir.path(), Settings::default()).unwrap();
    (dir, storage)
}

fn with_slot(slot: MetaSlot, bytes: &[u8]) -> (TempDir, Storage) {
    let (dir, storage) = open();
    storage.log.save_meta(slot, bytes.to_vec().into(), Box::new(drop));
    (dir, storage)
}

fn path() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1.txt")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    })
}

fn unhex(text: &str) -> Vec<u8> {
    assert!(text.len().is_multiple_of(2), "half a byte in {text}");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The lines of the file by name.
fn golden() -> BTreeMap<String, Vec<u8>> {
    let mut golden = BTreeMap::new();
    let text = fs::read_to_string(path()).unwrap();
    for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, bytes) = line.split_once(' ').unwrap();
        let twice = golden.insert(name.to_owned(), unhex(bytes));
        assert!(twice.is_none(), "{name} has two lines");
    }
    golden
}

/// The body of a line's bytes, taken apart.
fn split(line: &Line, bytes: &[u8]) -> Option<Value> {
    let body = match line.body {
        Body::Checked => &bytes[5..],
        Body::Versioned => &bytes[1..],
        Body::Bare => bytes,
        Body::Other => return None,
    };
    Some(Value::parse(body))
}

/// The inverse of [`split`].
fn join(line: &Line, value: &Value) -> Vec<u8> {
    let mut body = Vec::new();
    value.write(&mut body);
    match line.body {
        Body::Checked => [&[1], &crc32(&body).to_le_bytes()[..], &body].concat(),
        Body::Versioned => [&[1], &body[..]].concat(),
        Body::Bare | Body::Other => body,
    }
}

/// CRC-32 (ISO-HDLC), bit by bit.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(
            crc ^ u32::from(*byte),
            |crc, _| if crc & 1 == 1 { crc >> 1 ^ 0xedb8_8320 } else { crc >> 1 },
        )
    })
}

#[test]
fn every_line_reads_as_its_value_and_is_written_again_byte_for_byte() {
    let mut golden = golden();
    if std::env::var("GOLDEN").is_ok_and(|what| what == "append") {
        let mut text = fs::read_to_string(path()).unwrap();
        for line in lines() {
            if let Some(bytes) = line.bytes.filter(|_| !golden.contains_key(&line.name)) {
                writeln!(text, "{} {}", line.name, hex(&bytes)).unwrap();
                golden.insert(line.name, bytes);
            }
        }
        fs::write(path(), text).unwrap();
    }

    let mut unknown: BTreeSet<&String> = golden.keys().collect();
    let mut wrong = Vec::new();
    for line in lines() {
        let Some(bytes) = golden.get(&line.name) else {
            wrong.push(format!("{} has no line; see the head of this file", line.name));
            continue;
        };
        unknown.remove(&line.name);
        match (line.decode)(bytes) {
            Ok(true) => {}
            Ok(false) => wrong.push(format!("{} reads as another value", line.name)),
            Err(error) => wrong.push(format!("{} cannot be read: {error}", line.name)),
        }
        if let Some(written) = line.bytes.filter(|written| written != bytes) {
            wrong.push(format!("{} is now written as {}", line.name, hex(&written)));
        }
    }
    wrong.extend(unknown.into_iter().map(|name| format!("{name} is read by nothing; lines never go")));
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn every_keyspace_and_every_variant_has_a_line() {
    let golden = golden();
    let has = |start: String| golden.keys().any(|name| name.starts_with(&start));
    let mut missing = Vec::new();
    let mut want = |start: String| {
        if !has(start.clone()) {
            missing.push(start);
        }
    };

    // The table on top of the schema names every keyspace.
    let schema =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../storage/src/schema.rs")).unwrap();
    let table: Vec<(&str, &str)> = schema
        .lines()
        .filter_map(|line| line.strip_prefix("//! | 0x")?.split_once(" | `"))
        .map(|(prefix, rest)| (prefix, rest.split('`').next().unwrap()))
        .collect();
    assert!(table.len() >= 17, "the table cannot be read: {table:?}");
    let declared = schema
        .lines()
        .filter(|line| !line.starts_with("//"))
        .filter_map(|line| line.split_once("0x")?.1.get(..2))
        .collect::<BTreeSet<_>>();
    assert_eq!(declared, table.iter().map(|(prefix, _)| *prefix).collect());
    for (prefix, keyspace) in table {
        want(format!("value/{keyspace}/"));
        let key = golden.iter().find(|(name, _)| name.starts_with(&format!("key/{keyspace}/")));
        assert_eq!(key.map(|(_, bytes)| hex(&bytes[..1])).as_deref(), Some(prefix), "{keyspace}");
    }

    tables::COMMANDS.iter().for_each(|name| want(format!("command/{name}/")));
    tables::APPLIED.iter().for_each(|name| want(format!("reply/Ok/{name}/")));
    tables::REJECTIONS.iter().for_each(|name| want(format!("reply/Err/{name}/")));
    tables::PAYLOADS.iter().for_each(|name| want(format!("entry/{name}/")));
    tables::DUE_ITEMS.iter().for_each(|name| want(format!("key/due/{name}")));
    tables::EXECUTION_STATES.iter().for_each(|name| want(format!("value/executions/state-{name}")));
    assert!(missing.is_empty(), "without a line: {missing:#?}");

    // What is inside of others.
    let commands = samples::commands();
    let targets = commands.iter().filter_map(|(_, command)| match command {
        raft::command::Command::Claim(claim) => Some(tables::claim_target(&claim.target)),
        _ => None,
    });
    assert_eq!(targets.collect::<BTreeSet<_>>(), tables::CLAIM_TARGETS.iter().copied().collect());
    let results = commands.iter().filter_map(|(_, command)| match command {
        raft::command::Command::Record(outcome) => Some(tables::attempt_result(&outcome.result)),
        _ => None,
    });
    assert_eq!(results.collect::<BTreeSet<_>>(), tables::ATTEMPT_RESULTS.iter().copied().collect());
    let replies = samples::replies();
    let reasons = replies.iter().filter_map(|(_, reply)| match reply {
        Err(domain::rejection::Rejection::NotRecorded(reason)) => Some(tables::not_recorded(reason)),
        _ => None,
    });
    assert_eq!(reasons.collect::<BTreeSet<_>>(), tables::NOT_RECORDED.iter().copied().collect());
}

/// All that `change` makes of the records in a line.
fn variations(
    line: &Line,
    bytes: &[u8],
    change: &dyn Fn(&Fields) -> Vec<(String, Fields)>,
) -> Vec<(String, Vec<u8>)> {
    let Some(value) = split(line, bytes) else { return Vec::new() };
    // A stored value is a record however few fields it has.
    let mut all = match &value {
        Value::Map(fields) if fields.len() == 1 && line.body == Body::Checked => {
            change(fields).into_iter().map(|(path, fields)| (path, Value::Map(fields))).collect()
        }
        Value::Map(_) | Value::Array(_) | Value::Leaf(_) => Vec::new(),
    };
    all.extend(value.variations(change));
    all.into_iter().map(|(path, value)| (path, join(line, &value))).collect()
}

#[test]
fn a_record_taken_apart_and_put_together_is_the_same() {
    let golden = golden();
    for line in lines() {
        if let Some(value) = split(&line, &golden[&line.name]) {
            assert_eq!(join(&line, &value), golden[&line.name], "{}", line.name);
        }
    }
}

#[test]
fn a_field_that_this_build_does_not_know_is_passed_over() {
    let add = |fields: &Fields| {
        let extra = (
            Value::text("from_a_newer_build"),
            Value::Array(vec![Value::text("x"), Value::Leaf(vec![0xc0])]),
        );
        let front = [std::slice::from_ref(&extra), &fields[..]].concat();
        let back = [&fields[..], &[extra]].concat();
        vec![("front".to_owned(), front), ("back".to_owned(), back)]
    };
    let golden = golden();
    let mut checked = 0;
    for line in lines() {
        for (path, bytes) in variations(&line, &golden[&line.name], &add) {
            assert_eq!((line.decode)(&bytes), Ok(true), "{} {path}", line.name);
            checked += 1;
        }
    }
    assert!(checked > 200, "only {checked}");
}

#[test]
fn a_field_that_is_missing_is_filled_in_or_the_record_is_refused() {
    let remove = |fields: &Fields| {
        let without = |at: usize| {
            let mut fields = fields.clone();
            let (name, _) = fields.remove(at);
            (name.as_text().unwrap().to_owned(), fields)
        };
        (0..fields.len()).map(without).collect()
    };
    let golden = golden();
    let mut found: BTreeMap<String, bool> = BTreeMap::new();
    for line in lines() {
        let mut parts = line.name.split('/');
        let (kind, name) = (parts.next().unwrap(), parts.next().unwrap());
        for (path, bytes) in variations(&line, &golden[&line.name], &remove) {
            let path = match kind {
                "value" => format!("{name}.{path}"),
                "mark" => format!("mark.{path}"),
                _ => path.trim_start_matches("commands.").to_owned(),
            };
            // What commands carry as it is stored.
            let path = path
                .replace("CreateJob.job.", "jobs.")
                .replace("UpdateJob.job.", "jobs.")
                .replace("CreateSpace.space.", "spaces.")
                .replace("Record.result.Sent.attempt.", "executions.attempts.");
            let read = (line.decode)(&bytes).is_ok();
            *found.entry(path).or_insert(true) &= read;
        }
    }
    let optional: Vec<&str> =
        found.iter().filter(|(_, read)| **read).map(|(path, _)| path.as_str()).collect();
    assert_eq!(optional, MAY_BE_MISSING);
    assert!(found.len() > optional.len() + 50, "hardly anything is required: {found:?}");
}

#[test]
fn a_newer_version_is_refused() {
    let golden = golden();
    for line in lines() {
        let mut bytes = golden[&line.name].clone();
        if line.name.starts_with("key/") || line.body == Body::Bare {
            continue;
        }
        bytes[0] = 2;
        let error = (line.decode)(&bytes).expect_err(&line.name);
        assert!(error.contains("TooNew"), "{}: {error}", line.name);
        assert!((line.decode)(&[]).is_err(), "{}", line.name);
    }
}

#[test]
fn a_stored_value_with_a_flipped_bit_or_cut_off_is_refused() {
    let golden = golden();
    for line in lines().into_iter().filter(|line| line.body == Body::Checked) {
        let whole = &golden[&line.name];
        for bit in 0..whole.len() * 8 {
            let mut bytes = whole.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            assert!((line.decode)(&bytes).is_err(), "{} with bit {bit}", line.name);
        }
        for end in 0..whole.len() {
            assert!((line.decode)(&whole[..end]).is_err(), "{} cut at {end}", line.name);
        }
    }
}

/// Proposals and entries carry no checksum of their own: the log's engine has one on disk.
#[test]
fn a_damaged_proposal_or_entry_never_panics_and_a_cut_one_is_refused() {
    let golden = golden();
    for line in lines() {
        let is_entry = line.name.starts_with("entry/");
        if line.name.starts_with("command/") || line.name.starts_with("proposal/") || is_entry {
            let whole = &golden[&line.name];
            for bit in 0..whole.len() * 8 {
                let mut bytes = whole.clone();
                bytes[bit / 8] ^= 1 << (bit % 8);
                let _ = (line.decode)(&bytes);
            }
            // Within an entry a proposal is bytes like any others; it is refused when it is applied.
            let ends = if line.name.starts_with("entry/normal/") { 34 } else { whole.len() };
            for end in 0..ends {
                assert!((line.decode)(&whole[..end]).is_err(), "{} cut at {end}", line.name);
            }
        }
    }
}

#[test]
fn an_entry_of_an_unknown_kind_is_refused() {
    let mut bytes = golden()["entry/blank/first"].clone();
    for kind in 3..=u8::MAX {
        *bytes.last_mut().unwrap() = kind;
        decode_entry(bytes.clone().into()).unwrap_err();
    }
}

#[test]
fn a_key_of_another_length_is_refused() {
    let golden = golden();
    for line in lines().into_iter().filter(|line| line.name.starts_with("key/")) {
        let whole = &golden[&line.name];
        assert!((line.decode)(&[&whole[..], &[0]].concat()).is_err(), "{}", line.name);
        assert!((line.decode)(&whole[..whole.len() - 1]).is_err(), "{}", line.name);
    }
}

#[test]
fn an_unknown_command_stops_the_state_machine_and_changes_nothing() {
    let known = golden()["command/Sweep/filled"].clone();
    let at = known.windows(5).position(|window| window == b"Sweep").unwrap();
    let mut unknown = known.clone();
    unknown[at..at + 5].copy_from_slice(b"Swoop");
    let mut too_new = known.clone();
    too_new[0] = 2;
    for bytes in [unknown, too_new, known[..known.len() - 1].to_vec()] {
        decode_proposal(&bytes).unwrap_err();
        let (_dir, storage) = open();
        let mut machine = StateMachine::new(storage.state.clone()).unwrap();
        let digest = storage.state.digest().unwrap();
        let register = samples::commands().swap_remove(0).1;
        let proposals = [encode_proposal(&samples::proposal(vec![register])), bytes.into()];
        let entries: Vec<_> = (1..)
            .zip(proposals)
            .map(|(index, proposal)| {
                let payload = EntryPayload::Normal(Payload { at: samples::at(0), proposal });
                Ok((Entry { log_id: log_id(1, 1, index), payload }, None))
            })
            .collect();
        TypeConfig::run(async move { machine.apply(futures::stream::iter(entries)).await.unwrap_err() });
        // Not even the entry before it, which was to be committed together with it.
        assert_eq!(storage.state.digest().unwrap(), digest);
        assert_eq!(storage.state.applied(), None);
    }
}
