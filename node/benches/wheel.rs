//! What a timer costs: inserting one, and taking a million.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use domain::time::Timestamp;
use node::scheduler::wheel::Wheel;
use std::hint::black_box;
use std::time::Duration;

/// Timers in a full wheel.
const TIMERS: u64 = 1_000_000;
/// The span over which they are due: the horizon of a node with very many jobs.
const HORIZON_MS: u64 = 120_000;
const START: Timestamp = Timestamp::from_secs(1_800_000_000);

/// Due instants that look random and are the same in every run.
fn dues() -> Vec<Timestamp> {
    (0..TIMERS)
        .map(|n| START.plus(Duration::from_millis(n.wrapping_mul(0x9E37_79B9_7F4A_7C15) % HORIZON_MS)))
        .collect()
}

fn full(dues: &[Timestamp]) -> Wheel<u64> {
    let mut wheel = Wheel::new(START);
    for (due, id) in dues.iter().zip(0..) {
        wheel.insert(*due, id);
    }
    wheel
}

fn wheel(c: &mut Criterion) {
    let dues = dues();
    let mut group = c.benchmark_group("wheel");
    group.sample_size(10).throughput(Throughput::Elements(TIMERS));
    group.bench_function("insert_1m", |b| b.iter_with_large_drop(|| full(black_box(&dues))));
    group.bench_function("advance_1m_by_ms", |b| {
        b.iter_batched(
            || full(&dues),
            |mut wheel| {
                for ms in 0..=HORIZON_MS {
                    black_box(wheel.advance(START.plus(Duration::from_millis(ms))));
                }
                assert!(wheel.is_empty());
            },
            BatchSize::LargeInput,
        );
    });
    group.bench_function("advance_1m_at_once", |b| {
        b.iter_batched(
            || full(&dues),
            |mut wheel| wheel.advance(START.plus(Duration::from_millis(HORIZON_MS))),
            BatchSize::LargeInput,
        );
    });
    group.finish();
}

criterion_group!(benches, wheel);
criterion_main!(benches);
