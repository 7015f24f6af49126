//! What a stored value costs to write and to read.

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use domain::execution::{Attempt, AttemptResult, Execution, ExecutionStatus, Outcome};
use domain::id::{AccountId, ExecutionId, JobId, NodeId};
use domain::job::{Delivery, Job, JobState, LastRun, Method, MisfirePolicy, OverlapPolicy, Request, Retry};
use domain::node::Incarnation;
use domain::time::Timestamp;
use serde::Serialize;
use std::hint::black_box;
use std::time::Duration;
use storage::Keyspace;
use storage::codec::{decode_value, encode_value};
use storage::schema::{Executions, JobStates, Jobs};

/// As in the binary that is shipped.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const START: Timestamp = Timestamp::from_secs(1_800_000_000);
const JOB: JobId = JobId(0x0123_4567_89AB_CDEF);
const NODE: NodeId = NodeId(1);

fn job() -> Job {
    Job {
        id: JOB,
        account: AccountId(1),
        space: None,
        name: "nightly backup".to_owned(),
        cron_expression: "30 3 * * *".to_owned(),
        timezone: "Europe/Stockholm".to_owned(),
        request: Request {
            url: "https://example.com/hooks/nightly?run={{execution_id}}".to_owned(),
            method: Method::Post,
            headers: vec![("content-type".to_owned(), "application/json".to_owned())],
            body: Some(r#"{"kind":"full","keep_days":30}"#.to_owned()),
            timeout_sec: 30,
        },
        retry: Retry::default(),
        tags: vec!["backup".to_owned(), "production".to_owned()],
        store_response_body: false,
        alert_channels: None,
        overlap: OverlapPolicy::Allow,
        misfire: MisfirePolicy::RunOnce,
        delivery: Delivery::AtLeastOnce,
        created_at: START,
        updated_at: START,
    }
}

/// One that succeeded at its first attempt.
fn execution() -> Execution {
    let incarnation = Incarnation::default();
    let id = ExecutionId::scheduled(JOB, START);
    let mut execution = Execution::scheduled(id, START, NODE, incarnation);
    let attempt = Attempt {
        number: 1,
        node: NODE,
        started_at: START,
        finished_at: START.plus(Duration::from_millis(25)),
        duration_ms: 25,
        status_code: Some(200),
        failure: None,
    };
    let result = AttemptResult::Sent { attempt, body: None, retry_at: None };
    let outcome = Outcome { execution: id, attempt: 1, node: NODE, incarnation, result };
    execution.record(&outcome).expect("its holder records it");
    execution
}

/// One of a job that is called again and again, with one execution under way.
fn job_state() -> JobState {
    let last = ExecutionId::scheduled(JOB, START);
    let next = START.plus(Duration::from_secs(60));
    JobState {
        account: AccountId(1),
        generation: 3,
        next_run_at: Some(next.plus(Duration::from_secs(60))),
        claimed_until: Some(next),
        open: vec![ExecutionId::scheduled(JOB, next)],
        executions_total: 12_345,
        last_run: Some(LastRun {
            execution: last,
            at: START,
            status: ExecutionStatus::Success,
            duration_ms: 25,
            status_code: Some(200),
        }),
        ..JobState::default()
    }
}

fn measure<K: Keyspace>(group: &mut BenchmarkGroup<'_, WallTime>, value: &K::Value)
where
    K::Value: Serialize,
{
    let bytes = encode_value(value);
    decode_value::<K>(&bytes).expect("it was encoded");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    group.bench_function(format!("encode_{}", K::NAME), |bencher| {
        bencher.iter(|| encode_value(black_box(value)));
    });
    group.bench_function(format!("decode_{}", K::NAME), |bencher| {
        bencher.iter(|| decode_value::<K>(black_box(&bytes)));
    });
}

fn values(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("value");
    measure::<Jobs>(&mut group, &job());
    measure::<JobStates>(&mut group, &job_state());
    measure::<Executions>(&mut group, &execution());
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = values
}
criterion_main!(benches);
