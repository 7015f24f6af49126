//! The log of a node, and the mark of its state.

use crate::line::{Body, Line, text};
use crate::{commands, samples, tables};
use openraft::alias::{EntryOf, LogIdOf, SnapshotMetaOf, StoredMembershipOf, VoteOf};
use openraft::impls::BasicNode;
use openraft::storage::{
    RaftLogReader, RaftLogStorage, RaftLogStorageExt, RaftSnapshotBuilder, RaftStateMachine,
};
use openraft::type_config::TypeConfigExt;
use openraft::{EntryPayload, Membership};
use raft::codec::{decode_entry, encode_entry, encode_proposal};
use raft::{LogStore, Payload, Position, StateMachine, TypeConfig};
use std::collections::{BTreeMap, BTreeSet};
use storage::{Digest, MetaSlot, Settings, Storage};
use tempfile::TempDir;

pub(crate) type Entry = EntryOf<TypeConfig>;
type LogId = LogIdOf<TypeConfig>;
type Vote = VoteOf<TypeConfig>;
type StoredMembership = StoredMembershipOf<TypeConfig>;
type SnapshotMeta = SnapshotMetaOf<TypeConfig>;

pub(crate) fn log_id(term: u64, node_id: u64, index: u64) -> LogId {
    LogId::new(openraft::alias::LeaderIdOf::<TypeConfig> { term, node_id }, index)
}

fn membership(configs: &[&[u64]]) -> Membership<u64, BasicNode> {
    let configs: Vec<BTreeSet<u64>> = configs.iter().map(|voters| voters.iter().copied().collect()).collect();
    let nodes: BTreeMap<u64, BasicNode> =
        (1..=4).map(|id| (id, BasicNode::new(format!("node-{id}.example:8081")))).collect();
    Membership::new(configs, nodes).unwrap()
}

fn entry(label: &str, index: u64, payload: openraft::alias::EntryPayloadOf<TypeConfig>) -> Line {
    let name = format!("entry/{}/{label}", tables::payload(&payload));
    let sample = Entry { log_id: log_id(4, 3, index), payload };
    let encode = |entry: &Entry| encode_entry(entry).to_vec();
    let decode = |bytes: &[u8]| decode_entry(bytes.to_vec().into()).map_err(text);
    Line::new(name, Body::Other, sample, encode, decode)
}

pub(crate) fn log() -> Vec<Line> {
    let proposal = commands::commands().swap_remove(0).1;
    let payload =
        Payload { at: samples::at(7), proposal: encode_proposal(&commands::proposal(vec![proposal])) };
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
        entry("first", 1, EntryPayload::Blank),
        entry("filled", u64::from(u32::MAX) + 1, EntryPayload::Normal(payload)),
        entry("plain", 0, EntryPayload::Membership(membership(&[&[1, 2, 3]]))),
        entry("joint", 9, EntryPayload::Membership(membership(&[&[1, 2, 3], &[1, 3, 4]]))),
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
pub(crate) fn marks() -> Vec<Line> {
    let stored = |at, configs| StoredMembership::new(Some(at), membership(configs));
    let plain = stored(log_id(1, 1, 1), &[&[1, 2, 3]]);
    let joint = stored(log_id(4, 3, 9), &[&[1, 2, 3], &[1, 3, 4]]);
    let meta = |applied, membership: &StoredMembership| SnapshotMeta {
        last_log_id: Some(applied),
        last_membership: membership.clone(),
    };
    let metas = [
        ("plain", meta(log_id(4, 3, 300), &plain)),
        ("joint", meta(log_id(4, 3, 9), &joint)),
        ("no-members", meta(log_id(4, 3, 300), &StoredMembership::default())),
    ];
    let line = |name: String, sample| {
        let encode = |(meta, _): &(SnapshotMeta, Option<Digest>)| mark_of(meta);
        Line::new(name, Body::Versioned, sample, encode, read_mark)
    };
    let mut lines = Vec::new();
    for (name, meta) in metas {
        // As it was before states had digests.
        lines.push(line(format!("mark/{name}"), (meta.clone(), None)).readable());
        let digest = read_mark(&mark_of(&meta)).unwrap().1;
        assert!(digest.is_some(), "{name} has no digest");
        lines.push(line(format!("mark/digest-{name}"), (meta, digest)));
    }
    lines
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

/// What a mark says, with the digest of the state.
fn read_mark(bytes: &[u8]) -> Result<(SnapshotMeta, Option<Digest>), String> {
    let (_dir, storage) = open();
    storage.state.begin().commit(bytes.to_vec().into()).map_err(text)?;
    let mut machine = StateMachine::new(storage.state.clone()).map_err(text)?;
    let position = Position::of(&storage.state.view()).map_err(text)?;
    TypeConfig::run(async move {
        let built = machine.get_snapshot_builder().await.build_snapshot().await.map_err(text)?;
        let found = machine.get_current_snapshot().await.map_err(text)?;
        let (last_log_id, last_membership) = machine.applied_state().await.map_err(text)?;
        let meta = SnapshotMeta { last_log_id, last_membership };
        assert_eq!(built.meta, meta);
        assert_eq!(found.map(|snapshot| snapshot.meta).as_ref(), Some(&meta));
        assert_eq!(meta.last_log_id.map_or(0, |id| id.index), position.applied);
        Ok((meta, position.digest))
    })
}

pub(crate) fn open() -> (TempDir, Storage) {
    let dir = TempDir::new().unwrap();
    let storage = Storage::open(dir.path(), Settings::default()).unwrap();
    (dir, storage)
}

fn with_slot(slot: MetaSlot, bytes: &[u8]) -> (TempDir, Storage) {
    let (dir, storage) = open();
    storage.log.save_meta(slot, bytes.to_vec().into(), Box::new(drop));
    (dir, storage)
}
