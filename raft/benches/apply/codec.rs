//! What an entry of the log costs between a proposer's commands and their application.

use crate::firings::{BATCH, Firing, NODE, Proposer, Turns};
use criterion::{Criterion, Throughput};
use domain::node::Incarnation;
use openraft::EntryPayload;
use openraft::entry::RaftEntry;
use openraft::type_config::alias::{EntryOf, LeaderIdOf, LogIdOf};
use raft::TypeConfig;
use raft::codec::{decode_entry, decode_proposal, encode_entry, encode_proposal};
use raft::command::Command;
use std::hint::black_box;

/// What is made of a firing.
type Kind = fn(Firing, Incarnation) -> Command;

pub(crate) fn codec(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("codec");
    let firings = Turns::new(BATCH).take();
    for (kind, command) in [("claims", Firing::claim as Kind), ("outcomes", Firing::outcome)] {
        let commands = firings.iter().map(|firing| command(*firing, Incarnation::default())).collect();
        let payload = Proposer::default().propose(commands);
        let proposal = decode_proposal(&payload.proposal).expect("it was encoded");
        assert_eq!(proposal.commands.len(), BATCH);
        group.throughput(Throughput::Elements(BATCH as u64));
        group.bench_function(format!("encode_proposal_{BATCH}_{kind}"), |bencher| {
            bencher.iter(|| encode_proposal(black_box(&proposal)));
        });
        group.bench_function(format!("decode_proposal_{BATCH}_{kind}"), |bencher| {
            bencher.iter(|| decode_proposal(black_box(&payload.proposal)));
        });
        let leader = LeaderIdOf::<TypeConfig> { term: 1, node_id: NODE.0 };
        let entry = EntryOf::<TypeConfig>::new(
            LogIdOf::<TypeConfig>::new(leader, 1),
            EntryPayload::Normal(payload.clone()),
        );
        let bytes = encode_entry(&entry);
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("encode_entry_{BATCH}_{kind}"), |bencher| {
            bencher.iter(|| encode_entry(black_box(&entry)));
        });
        group.bench_function(format!("decode_entry_{BATCH}_{kind}"), |bencher| {
            bencher.iter(|| decode_entry(black_box(&bytes).clone()));
        });
    }
    group.finish();
}
