//! The digest that goes with the state: a chain over what every entry wrote.

use crate::writer::{Random, Writer};
use crate::{Log, commit, open};
use domain::id::NodeId;
use domain::node::SessionId;
use domain::time::Timestamp;
use openraft::EntryPayload;
use openraft::alias::{EntryOf, LeaderIdOf, LogIdOf};
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::TypeConfigExt;
use raft::codec::encode_proposal;
use raft::command::{Command, Proposal, RegisterNode};
use raft::{Payload, Position, StateMachine, TypeConfig};
use std::time::Duration;
use storage::{Settings, State, Storage};
use tempfile::TempDir;

type Entry = EntryOf<TypeConfig>;

const ENTRIES: usize = 1_000;

/// A log of the commands of everyday, with an empty entry now and then, as a new leader appends it. From index 1 on.
fn entries(seed: u64) -> Vec<Entry> {
    let (_dir, storage) = open();
    let mut writer = Writer::new(seed);
    let mut log = Log::new();
    for mark in 0..ENTRIES {
        let mut proposal = writer.proposal(&storage.state);
        // A state machine does not apply what its build does not know.
        proposal.1.commands.retain(|command| !matches!(command, Command::RaiseLevel(_)));
        commit(&storage.state, std::slice::from_ref(&proposal), mark);
        log.push(proposal);
    }
    let mut entries = Vec::new();
    for (at, proposal) in log {
        if entries.len() % 100 == 7 {
            entries.push(entry(entries.len() + 1, EntryPayload::Blank));
        }
        entries.push(normal(entries.len() + 1, at, &proposal));
    }
    entries
}

fn entry(index: usize, payload: openraft::alias::EntryPayloadOf<TypeConfig>) -> Entry {
    Entry { log_id: log_id(1, index), payload }
}

fn log_id(term: u64, index: usize) -> LogIdOf<TypeConfig> {
    LogIdOf::<TypeConfig>::new(LeaderIdOf::<TypeConfig> { term, node_id: 1 }, index as u64)
}

fn normal(index: usize, at: Timestamp, proposal: &Proposal) -> Entry {
    entry(index, EntryPayload::Normal(Payload { at, proposal: encode_proposal(proposal) }))
}

fn position(state: &State) -> Position {
    Position::of(&state.view()).unwrap()
}

/// Applies entries in one commit: they are fewer than a run may have.
fn run(machine: &mut StateMachine, entries: &[Entry]) {
    let items: Vec<_> = entries.iter().map(|entry| Ok((entry.clone(), None))).collect();
    TypeConfig::run(async { machine.apply(futures::stream::iter(items)).await.unwrap() });
}

/// The position after each entry, and before the first, of a state to which they are applied one by one.
fn positions(state: &State, entries: &[Entry]) -> Vec<Position> {
    let mut machine = StateMachine::new(state.clone()).unwrap();
    let mut positions = vec![position(state)];
    for entry in entries {
        run(&mut machine, std::slice::from_ref(entry));
        positions.push(position(state));
    }
    positions
}

#[test]
fn it_is_the_same_at_the_same_index_however_the_state_came_there() {
    for seed in [1, 2] {
        let entries = entries(seed);
        let (_first_dir, first) = open();
        let expected = positions(&first.state, &entries);
        assert!(expected.iter().all(|position| position.digest.is_some()));

        // In runs of any length, with flushes in between, over restarts. A restart that comes without a flush takes what
        // followed the last one from the log again.
        let mut random = Random(seed + 100);
        let dir = TempDir::new().unwrap();
        let mut storage = Storage::open(dir.path(), Settings::default()).unwrap();
        let mut machine = StateMachine::new(storage.state.clone()).unwrap();
        let (mut done, mut restarts) = (0, 0);
        while done < entries.len() {
            let length = usize::try_from(1 + random.below(60)).unwrap().min(entries.len() - done);
            run(&mut machine, &entries[done..done + length]);
            done += length;
            assert_eq!(position(&storage.state), expected[done], "seed {seed}");
            if random.chance(4) {
                storage.state.flush().unwrap();
            }
            if random.chance(8) {
                drop(machine);
                drop(storage);
                storage = Storage::open(dir.path(), Settings::default()).unwrap();
                machine = StateMachine::new(storage.state.clone()).unwrap();
                done = usize::try_from(position(&storage.state).applied).unwrap();
                assert_eq!(position(&storage.state), expected[done], "seed {seed}");
                restarts += 1;
            }
        }
        assert!(restarts > 0, "seed {seed} never restarts");
        assert_eq!(storage.state.digest().unwrap(), first.state.digest().unwrap(), "seed {seed}");

        // Half of it by snapshot, into an empty state.
        let half = entries.len() / 2;
        let (_giver_dir, giver) = open();
        let mut machine = StateMachine::new(giver.state.clone()).unwrap();
        entries[..half].chunks(100).for_each(|chunk| run(&mut machine, chunk));
        let (_taker_dir, taker) = open();
        let mut filled = StateMachine::new(taker.state.clone()).unwrap();
        TypeConfig::run(async {
            let snapshot = machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
            filled.install_snapshot(&snapshot.meta, snapshot.snapshot).await.unwrap();
        });
        assert_eq!(position(&taker.state), expected[half], "seed {seed}");
        entries[half..].chunks(70).for_each(|chunk| run(&mut filled, chunk));
        assert_eq!(position(&taker.state), expected[entries.len()], "seed {seed}");
    }
}

#[test]
fn a_replica_that_once_wrote_something_else_never_has_the_digest_of_the_others_again() {
    let entries = entries(3);
    let (_dir, storage) = open();
    let expected = positions(&storage.state, &entries);
    let at = entries.len() / 2;

    // A write that differs: the same proposal, a day later.
    let mut written = entries.clone();
    let later = (at..).find(|index| matches!(written[*index].payload, EntryPayload::Normal(_))).unwrap();
    let EntryPayload::Normal(payload) = &mut written[later].payload else { unreachable!() };
    payload.at = payload.at.plus(Duration::from_secs(86_400));
    // An entry of another leader that writes the same.
    let mut placed = entries.clone();
    placed[at].log_id = log_id(2, at + 1);
    // A write that is missing.
    let mut lost = entries;
    lost[later].payload = EntryPayload::Blank;

    for (what, entries, from) in [("written", written, later), ("placed", placed, at), ("lost", lost, later)]
    {
        let (_dir, storage) = open();
        for (index, (seen, expected)) in positions(&storage.state, &entries).iter().zip(&expected).enumerate()
        {
            assert_eq!(seen.applied, expected.applied);
            assert_eq!(seen.digest == expected.digest, index <= from, "{what} at {index}, from {from} on");
        }
    }
}

fn register(index: usize, sequence: u64, version: &str) -> Entry {
    let session = SessionId(1_000_000_000_000 + sequence);
    let command = Command::RegisterNode(RegisterNode {
        node: NodeId(1),
        session,
        api_url: String::new(),
        rpc_addr: String::new(),
        version: version.to_owned(),
        level: domain::node::FeatureLevel::FIRST,
        at: Timestamp::EPOCH,
    });
    let proposal =
        Proposal { node: NodeId(1), session, sequence, acknowledged_below: 0, commands: vec![command] };
    normal(index, Timestamp::from_secs(1_780_272_000), &proposal)
}

/// Makes a mark what an earlier build would have written: its last field goes.
fn forget_digest(state: &State) {
    let mark = state.applied().unwrap();
    let field = [&[0xa6][..], b"digest", &[0xcf], &position(state).digest.unwrap().to_u64().to_be_bytes()];
    let mut earlier = mark.strip_suffix(field.concat().as_slice()).unwrap().to_vec();
    // A map of three, behind the version.
    assert_eq!(earlier[1], 0x84);
    earlier[1] = 0x83;
    state.begin().commit(earlier.into()).unwrap();
}

#[test]
fn a_state_of_an_earlier_build_has_none_until_a_node_comes_with_another_release() {
    let (_dir, whole) = open();
    let (_earlier_dir, earlier) = open();
    let entries = [register(1, 1, "1.0.0"), register(2, 2, "1.0.0"), entry(3, EntryPayload::Blank)];
    let next = [register(4, 3, "1.0.1"), register(5, 4, "1.0.1"), entry(6, EntryPayload::Blank)];
    let expected = positions(&whole.state, &[&entries[..], &next].concat());
    assert!(expected.iter().all(|position| position.digest.is_some()));

    // Neither the first registration of a node nor one of the same release begins a chain.
    positions(&earlier.state, &entries[..1]);
    forget_digest(&earlier.state);
    for seen in positions(&earlier.state, &entries[1..]) {
        assert_eq!(seen.digest, None, "{seen:?}");
    }
    // From there on it has that of a state that always had one, and so has one that differed before.
    let (_other_dir, other) = open();
    positions(&other.state, &[register(1, 1, "0.9.0"), register(2, 2, "1.0.0"), entries[2].clone()]);
    assert_ne!(position(&other.state).digest, expected[3].digest);
    for state in [&earlier.state, &other.state] {
        assert_eq!(positions(state, &next)[1..], expected[4..]);
    }
}
