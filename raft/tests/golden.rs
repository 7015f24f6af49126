//! The bytes of everything that outlives a process or travels between releases, line by line in `golden/v1.txt`.
//!
//! A line must read as the value it was written from, and that value must be written as the line. **Old lines never
//! change.** For something new, add it to [`lines`] and run this test with `GOLDEN=append`, which adds the lines that
//! are missing and touches no other. When a record gets a field, its line moves to [`earlier`] (the field at its default)
//! and is only read from then on, and a new line under another name is written with the field filled.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "golden/commands.rs"]
mod commands; // one of every command and reply
#[path = "golden/earlier.rs"]
mod earlier; // forms that are only read
#[path = "golden/line.rs"]
mod line; // what has a line
#[path = "golden/log.rs"]
mod log; // entries, votes, marks
#[path = "golden/messagepack.rs"]
mod messagepack; // records apart and together
#[path = "golden/records.rs"]
mod records; // keys and values
#[path = "golden/samples.rs"]
mod samples; // one of everything
#[path = "golden/tables.rs"]
mod tables; // the names of all variants

use line::{Body, Line};
use log::{Entry, log_id, open};
use messagepack::{Fields, Value};
use openraft::EntryPayload;
use openraft::storage::RaftStateMachine;
use openraft::type_config::TypeConfigExt;
use raft::codec::{decode_entry, decode_proposal, encode_proposal};
use raft::{Payload, StateMachine, TypeConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

/// Fields without which a record can be read, that is, which have a default. A new field belongs here too.
const MAY_BE_MISSING: &[&str] = &[
    "AlignSpace.jobs.next_run_at",
    "AlignSpace.overdue",
    "BeginRestore.replaces",
    "ChangeBilling.plan",
    "Claim.target.Firing.next_run_at",
    "Claim.target.Missed.next_run_at",
    "Claim.target.Missed.run",
    "Claim.target.Missed.skipped",
    "CreateAccount.user",
    "CreateJob.jobs_max",
    "CreateJob.next_run_at",
    "CreateJob.paused",
    "PauseJob.at",
    "PauseJob.overdue",
    "Record.result.Sent.body",
    "Record.result.Sent.retry_at",
    "RegisterNode.at",
    "RegisterNode.level",
    "ResumeJob.at",
    "ResumeJob.expected.next_run_at",
    "ResumeJob.next_run_at",
    "SaveDiagnosis.diagnoses_max",
    "UpdateJob.expected.next_run_at",
    "UpdateJob.next_run_at",
    "UpdateJob.overdue",
    "UpdateSpace.name",
    "UpdateSpace.timezone",
    "account_usage.day",
    "account_usage.diagnoses",
    "account_usage.executions",
    "account_usage.jobs",
    "account_usage.month",
    "accounts.billing",
    "accounts.billing.subscription",
    "accounts.email",
    "api_keys.last_used_at",
    "channels.config.pager_duty.routing_key",
    "channels.config.pager_duty.secret",
    "channels.last_delivery",
    "channels.last_delivery.error",
    "deliveries.duration_ms",
    "deliveries.error",
    "deliveries.holder",
    "deliveries.status_code",
    "executions.attempts",
    "executions.attempts.failure",
    "executions.attempts.status_code",
    "executions.missed",
    "executions.retries",
    "executions.skip_reason",
    "job_states.account",
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
    "mark.digest",
    "mark.membership_at",
    "meta.bootstrapped",
    "meta.channels",
    "meta.channels_of_all",
    "meta.jobs_active",
    "meta.jobs_paused",
    "meta.last_incarnation",
    "meta.level",
    "meta.now",
    "meta.restoring",
    "nodes.draining",
    "nodes.expired_at",
    "nodes.level",
    "nodes.version",
    "pulses.days",
    "pulses.recent",
    "spaces.generation",
    "spaces.jobs",
    "spaces.paused_at",
    "spaces.turned_at",
    "timetables.first",
    "timetables.found",
    "timetables.kept_from",
];

/// Everything there is.
fn lines() -> Vec<Line> {
    let mut lines = records::keys();
    lines.extend(records::values());
    lines.extend(earlier::lines());
    for (label, command) in commands::commands() {
        let name = format!("command/{}/{label}", tables::command(&command));
        lines.push(Line::proposal(name, commands::proposal(vec![command])));
    }
    let several = commands::commands().into_iter().take(3).map(|(_, command)| command).collect();
    lines.push(Line::proposal("proposal/several".to_owned(), commands::proposal(several)));
    lines.push(Line::proposal("proposal/empty".to_owned(), commands::proposal(Vec::new())));
    for (label, reply) in commands::replies() {
        let name = match &reply {
            Ok(applied) => format!("reply/Ok/{}/{label}", tables::applied(applied)),
            Err(rejection) => format!("reply/Err/{}/{label}", tables::rejection(rejection)),
        };
        lines.push(Line::reply(name, vec![reply]));
    }
    lines.push(Line::reply("replies/none".to_owned(), Vec::new()));
    lines.extend(log::log());
    lines.extend(log::marks());
    lines
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
    let storage = Path::new(env!("CARGO_MANIFEST_DIR")).join("../storage/src");
    let schema =
        ["schema.rs", "schema/executions.rs"].map(|file| fs::read_to_string(storage.join(file)).unwrap());
    let schema = schema.concat();
    let table: Vec<(&str, &str)> = schema
        .lines()
        .filter_map(|line| line.strip_prefix("//! | 0x")?.split_once(" | `"))
        .map(|(prefix, rest)| (prefix, rest.split('`').next().unwrap()))
        .collect();
    assert!(table.len() >= 30, "the table cannot be read: {table:?}");
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
    let commands = commands::commands();
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
    let results = commands.iter().filter_map(|(_, command)| match command {
        raft::command::Command::RecordDelivery(outcome) => Some(tables::delivery_result(&outcome.result)),
        _ => None,
    });
    assert_eq!(results.collect::<BTreeSet<_>>(), tables::DELIVERY_RESULTS.iter().copied().collect());
    let configs = samples::channel_configs();
    let configs = configs.iter().map(tables::channel_config);
    assert_eq!(configs.collect::<BTreeSet<_>>(), tables::CHANNEL_CONFIGS.iter().copied().collect());
    let replies = commands::replies();
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
                .replace("Once.commands.", "")
                .replace("CreateJob.job.", "jobs.")
                .replace("UpdateJob.job.", "jobs.")
                .replace("CreateSpace.space.", "spaces.")
                .replace("Bootstrap.account.", "accounts.")
                .replace("Bootstrap.key.", "api_keys.")
                .replace("CreateAccount.account.", "accounts.")
                .replace("CreateAccount.user.", "users.")
                .replace("CreateKey.key.", "api_keys.")
                .replace("ChangeBilling.billing.", "accounts.billing.")
                .replace("SaveDiagnosis.diagnosis.", "diagnoses.")
                .replace("CreateChannel.channel.", "channels.")
                .replace("UpdateChannel.channel.", "channels.")
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

/// A name is a key of any length.
fn is_text(line: &Line) -> bool {
    ["key/users/", "key/customers/"].iter().any(|start| line.name.starts_with(start))
}

#[test]
fn a_key_of_another_length_is_refused() {
    let golden = golden();
    for line in lines().into_iter().filter(|line| line.name.starts_with("key/")) {
        let whole = &golden[&line.name];
        if is_text(&line) {
            assert!((line.decode)(&[whole, &[0xff][..]].concat()).is_err(), "{} that is no text", line.name);
            continue;
        }
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
        let register = commands::commands().swap_remove(0).1;
        let proposals = [encode_proposal(&commands::proposal(vec![register])), bytes.into()];
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

#[test]
fn no_command_needs_a_level_that_this_build_does_not_support() {
    for (label, command) in commands::commands() {
        let needed = command.needs();
        assert!(needed <= raft::level::SUPPORTED, "{} ({label}) needs {needed}", tables::command(&command));
    }
}
