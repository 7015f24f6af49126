//! What claims and outcomes cost a node once they are committed: decoding, application, the digest, and the commit into the
//! state. And what they cost as entries of the log before that.

mod codec; // proposals and entries to bytes
mod firings; // jobs that fire together

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use domain::execution::ExecutionStatus;
use domain::node::Incarnation;
use firings::{BATCH, Firing, NODE, Proposer, Turns};
use raft::{Payload, Place, StateMachine};
use std::time::{Duration, Instant};
use storage::schema::{Executions, Nodes};
use storage::{Read, Settings, State, Storage};
use tempfile::TempDir;

/// As in the binary that is shipped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const JOBS: usize = 10_000;

/// A node's state with all jobs in it.
struct Node {
    machine: StateMachine,
    state: State,
    incarnation: Incarnation,
    turns: Turns,
    proposer: Proposer,
    index: u64,
}

impl Node {
    fn over(state: &State) -> Self {
        let mut node = Self {
            machine: StateMachine::new(state.clone()).expect("an empty state can be read"),
            state: state.clone(),
            incarnation: Incarnation::default(),
            turns: Turns::new(JOBS),
            proposer: Proposer::default(),
            index: 0,
        };
        let payload = node.proposer.register();
        node.apply(payload);
        let registered = state.view().get::<Nodes>(&NODE).expect("the state can be read");
        node.incarnation = registered.expect("it registered").incarnation;
        let payload = node.proposer.create_account();
        node.apply(payload);
        for first in (0..JOBS).step_by(BATCH) {
            let payload = node.proposer.create_jobs(first..JOBS.min(first + BATCH));
            node.apply(payload);
        }
        node
    }

    /// Gives how long it took.
    fn apply(&mut self, payload: Payload) -> Duration {
        self.index += 1;
        let place = Place { term: 1, leader: NODE, index: self.index };
        let start = Instant::now();
        self.machine.apply_committed(vec![(place, Some(payload))]).expect("it can be applied");
        start.elapsed()
    }

    /// A batch is claimed and then ends well. Gives how long each took.
    fn turn(&mut self) -> (Duration, Duration) {
        let firings = self.turns.take();
        let claims = firings.iter().map(|firing| firing.claim(self.incarnation)).collect();
        let claims = self.proposer.propose(claims);
        let claiming = self.apply(claims);
        let outcomes = firings.iter().map(|firing| firing.outcome(self.incarnation)).collect();
        let outcomes = self.proposer.propose(outcomes);
        let recording = self.apply(outcomes);
        self.must_have_succeeded(firings[BATCH - 1]);
        (claiming, recording)
    }

    /// What was refused would be fast.
    fn must_have_succeeded(&self, firing: Firing) {
        let found = self.state.view().get::<Executions>(&firing.execution()).expect("the state can be read");
        assert_eq!(found.and_then(|execution| execution.status()), Some(ExecutionStatus::Success));
    }
}

fn measure(group: &mut BenchmarkGroup<'_, WallTime>, place: &str, state: &State) {
    let mut node = Node::over(state);
    let sum = |node: &mut Node, turns: u64, of: fn((Duration, Duration)) -> Duration| -> Duration {
        (0..turns).map(|_| of(node.turn())).sum()
    };
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function(format!("claims_{BATCH}_{place}"), |bencher| {
        bencher.iter_custom(|turns| sum(&mut node, turns, |(claiming, _)| claiming));
    });
    group.bench_function(format!("outcomes_{BATCH}_{place}"), |bencher| {
        bencher.iter_custom(|turns| sum(&mut node, turns, |(_, recording)| recording));
    });
    group.throughput(Throughput::Elements(2 * BATCH as u64));
    group.bench_function(format!("claims_and_outcomes_{}_{place}", 2 * BATCH), |bencher| {
        bencher.iter_custom(|turns| sum(&mut node, turns, |(claiming, recording)| claiming + recording));
    });
}

fn apply(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("apply");
    measure(&mut group, "in_memory", &State::in_memory());
    let dir = TempDir::new().expect("a temporary directory can be made");
    let storage = Storage::open(dir.path(), Settings::default()).expect("an empty directory can be opened");
    measure(&mut group, "on_disk", &storage.state);
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(3));
    targets = apply, codec::codec
}
criterion_main!(benches);
