//! The same log makes the same state, byte for byte, however it is cut into commits, flushed, or carried over
//! by a snapshot.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

#[path = "determinism/chain.rs"]
mod chain; // the digest that goes with the state
#[path = "invariants/mod.rs"]
mod invariants; // what always holds
#[path = "determinism/records.rs"]
mod records; // what commands carry
#[path = "determinism/restored.rs"]
mod restored; // a backup of another cluster
#[path = "golden/tables.rs"]
#[expect(dead_code, reason = "only some of the tables are needed here")]
mod tables; // the names of all variants
#[path = "determinism/writer.rs"]
mod writer; // makes the log

use domain::time::Timestamp;
use raft::apply::apply;
use raft::command::{Command, Proposal, Reply};
use std::collections::BTreeSet;
use storage::schema::Metas;
use storage::{Read, Settings, State, Storage};
use tempfile::TempDir;
use writer::{Random, Writer};

const PROPOSALS: usize = 3_000;

type Log = Vec<(Timestamp, Proposal)>;

fn open() -> (TempDir, Storage) {
    let dir = TempDir::new().unwrap();
    let storage = Storage::open(dir.path(), Settings::default()).unwrap();
    (dir, storage)
}

fn commit(state: &State, run: &[(Timestamp, Proposal)], mark: usize) -> Vec<Vec<Reply>> {
    let mut effects = Vec::new();
    let mut txn = state.begin();
    let replies = run
        .iter()
        .map(|(at, proposal)| apply(&mut txn, *at, proposal.clone(), &mut effects).unwrap())
        .collect();
    txn.commit(mark.to_string().into_bytes().into()).unwrap();
    replies
}

/// A log, the replies to it, and the state that one commit for each proposal makes of it.
fn write(seed: u64) -> (Log, Vec<Vec<Reply>>, u64) {
    let (_dir, storage) = open();
    let mut writer = Writer::new(seed);
    let mut log = Log::new();
    let mut replies = Vec::new();
    for index in 0..PROPOSALS {
        let entry = writer.proposal(&storage.state);
        replies.extend(commit(&storage.state, std::slice::from_ref(&entry), index));
        log.push(entry);
    }
    let accepted = replies.iter().flatten().filter(|reply| reply.is_ok()).count();
    assert!(accepted > PROPOSALS, "only {accepted} commands took effect; the log is too tame");
    (log, replies, storage.state.digest().unwrap())
}

#[test]
fn the_same_log_makes_the_same_state() {
    for seed in [1, 2, 3] {
        let (log, replies, digest) = write(seed);

        // In runs of any length, with flushes in between, over a restart.
        let mut random = Random(seed + 100);
        let dir = TempDir::new().unwrap();
        let mut storage = Storage::open(dir.path(), Settings::default()).unwrap();
        let mut done = 0;
        let mut other_replies = Vec::new();
        while done < log.len() {
            let run = usize::try_from(1 + random.below(40)).unwrap().min(log.len() - done);
            other_replies.extend(commit(&storage.state, &log[done..done + run], done + run));
            done += run;
            if random.chance(10) {
                storage.state.flush().unwrap();
            }
            if random.chance(40) {
                storage.state.flush().unwrap();
                drop(storage);
                storage = Storage::open(dir.path(), Settings::default()).unwrap();
            }
        }
        assert_eq!(other_replies, replies, "seed {seed}");
        assert_eq!(storage.state.digest().unwrap(), digest, "seed {seed}");

        // Half of it by snapshot.
        let (_first_dir, first) = open();
        let half = log.len() / 2;
        commit(&first.state, &log[..half], half);
        let snapshot = first.state.snapshot().unwrap();
        let (_second_dir, second) = open();
        second.state.install(&snapshot).unwrap();
        assert_eq!(second.state.digest().unwrap(), first.state.digest().unwrap(), "seed {seed}");
        commit(&second.state, &log[half..], log.len());
        assert_eq!(second.state.digest().unwrap(), digest, "seed {seed}");
    }
}

#[test]
fn a_proposal_that_comes_again_changes_nothing_and_gets_its_first_answer() {
    let (_dir, storage) = open();
    let mut writer = Writer::new(9);
    for index in 0..500 {
        let entry = writer.proposal(&storage.state);
        let first = commit(&storage.state, std::slice::from_ref(&entry), index);
        let digest = storage.state.digest().unwrap();
        let now = storage.state.view().get::<Metas>(&()).unwrap();
        let again = commit(&storage.state, std::slice::from_ref(&entry), index);
        assert_eq!(again, first);
        assert_eq!(storage.state.digest().unwrap(), digest);
        assert_eq!(storage.state.view().get::<Metas>(&()).unwrap(), now);
    }
}

#[test]
fn every_command_takes_effect_somewhere_and_what_always_holds_holds_throughout() {
    let (_dir, storage) = open();
    let mut writer = Writer::new(4);
    let mut commands = BTreeSet::new();
    let mut targets = BTreeSet::new();
    for index in 0..PROPOSALS {
        let entry = writer.proposal(&storage.state);
        let replies = commit(&storage.state, std::slice::from_ref(&entry), index).swap_remove(0);
        let accepted = entry.1.commands.iter().zip(&replies).filter(|(_, reply)| reply.is_ok());
        for (command, _) in accepted {
            commands.insert(tables::command(command));
            if let Command::Claim(claim) = command {
                targets.insert(tables::claim_target(&claim.target));
            }
        }
        if index % 20 == 0 {
            invariants::check(&storage.state);
        }
    }
    invariants::check(&storage.state);
    assert_eq!(commands, tables::COMMANDS.iter().copied().collect());
    assert_eq!(targets, tables::CLAIM_TARGETS.iter().copied().collect());
}
