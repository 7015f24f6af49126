use crate::nodes::Node;
use crate::service::{FOREIGN_KEY, NODE, START, Service, request};
use domain::execution::{
    Attempt, AttemptResult, ErrorKind, Execution, ExecutionState, ExecutionStatus, Failure, MissedFirings,
    Outcome, ResponseBody,
};
use domain::id::{ExecutionId, JobId};
use domain::node::Incarnation;
use domain::time::Timestamp;
use raft::command::{Applied, Claim, ClaimTarget, Command};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use storage::Read;
use storage::schema::{ExecutionHours, Executions, JobHour, JobStates};

fn at(secs: u64) -> Timestamp {
    START.plus(Duration::from_secs(secs))
}

async fn claim(service: &Service, target: ClaimTarget) -> Option<ExecutionId> {
    let claim = Claim { node: NODE, incarnation: service.incarnation, target };
    match service.cluster().await.propose(Command::Claim(claim)).await.unwrap() {
        Applied::Claimed(id) => id,
        other => panic!("{other:?}"),
    }
}

/// Claims the firing that is due `secs` after the start.
pub(crate) async fn claim_firing(service: &Service, job: JobId, secs: u64) -> ExecutionId {
    let target =
        ClaimTarget::Firing { job, generation: 1, scheduled_at: at(secs), next_run_at: Some(at(secs + 300)) };
    claim(service, target).await.unwrap()
}

pub(crate) fn attempt(
    number: u32,
    started_secs: u64,
    failure: Option<(ErrorKind, &str)>,
    status_code: Option<u16>,
) -> Attempt {
    Attempt {
        number,
        node: NODE,
        started_at: at(started_secs),
        finished_at: at(started_secs + 1),
        duration_ms: 1_042,
        status_code,
        failure: failure.map(|(kind, message)| Failure { kind, message: message.to_owned() }),
    }
}

pub(crate) async fn record(service: &Service, id: ExecutionId, number: u32, result: AttemptResult) {
    let outcome =
        Outcome { execution: id, attempt: number, node: NODE, incarnation: service.incarnation, result };
    service.cluster().await.propose(Command::Record(Box::new(outcome))).await.unwrap();
}

async fn list(service: &Service, job: JobId, query: &str) -> (Vec<Value>, Value) {
    let answer = service.get(&format!("/v1/jobs/{job}/executions?{query}")).await;
    (answer.data(200).as_array().unwrap().clone(), answer.json()["meta"].clone())
}

#[tokio::test]
async fn a_firing_waits_runs_and_succeeds() {
    let service = Service::start().await;
    let job = service.make_job().await;
    service.clock.advance(Duration::from_secs(178));
    let id = claim_firing(&service, job, 180).await;
    let path = format!("/v1/executions/{id}");
    assert_eq!(service.get(&path).await.data(200)["status"], "pending", "claimed ahead of its instant");
    service.clock.advance(Duration::from_secs(2));
    let running = service.get(&path).await.data(200);
    let expected = json!({
        "id": id.to_string(),
        "job_id": job.to_string(),
        "status": "running",
        "status_code": null,
        "duration_ms": null,
        "triggered_by": "schedule",
        "response_body": null,
        "executed_at": "2026-04-10T14:25:00Z",
        "scheduled_at": "2026-04-10T14:25:00Z",
        "started_at": "2026-04-10T14:25:00Z",
        "finished_at": null,
        "attempt": 1,
        "node_id": 1,
        "attempts": [],
    });
    assert_eq!(running, expected);

    let body = Some(ResponseBody { text: "fine".to_owned(), truncated: true });
    let result = AttemptResult::Sent { attempt: attempt(1, 181, None, Some(200)), body, retry_at: None };
    record(&service, id, 1, result).await;
    let (items, meta) = list(&service, job, "").await;
    let expected = json!({
        "id": id.to_string(),
        "job_id": job.to_string(),
        "status": "success",
        "status_code": 200,
        "duration_ms": 1_042,
        "triggered_by": "schedule",
        "response_body": "fine",
        "executed_at": "2026-04-10T14:25:01Z",
        "scheduled_at": "2026-04-10T14:25:00Z",
        "started_at": "2026-04-10T14:25:01Z",
        "finished_at": "2026-04-10T14:25:02Z",
        "attempt": 1,
        "node_id": 1,
        "response_truncated": true,
    });
    assert_eq!((items, meta), (vec![expected], json!({"page": 1, "per_page": 20, "total": 1})));

    let shown = service.get(&format!("/v1/jobs/{job}")).await.data(200);
    for (field, value) in [
        ("last_run_at", json!("2026-04-10T14:25:01Z")),
        ("last_status", json!("success")),
        ("last_duration_ms", json!(1_042)),
        ("last_status_code", json!(200)),
        ("next_run_at", json!("2026-04-10T14:30:00Z")),
    ] {
        assert_eq!(shown[field], value, "{field}");
    }
}

#[tokio::test]
async fn a_firing_that_is_claimed_ahead_is_still_to_come() {
    let service = Service::start().await;
    let job = service.make_job().await;
    let path = format!("/v1/jobs/{job}");
    let next_run_at = async || {
        let listed = service.get("/v1/jobs").await.json()["data"][0]["next_run_at"].clone();
        assert_eq!(service.get(&path).await.data(200)["next_run_at"], listed);
        listed
    };
    service.clock.advance(Duration::from_secs(100));
    let run = service.post(&format!("{path}/run")).await.data(200);
    service.clock.advance(Duration::from_secs(78));
    let id = claim_firing(&service, job, 180).await;

    let history = async |query: &'static str| {
        let (items, meta) = list(&service, job, query).await;
        let ids: Vec<_> = items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect();
        (ids, meta["total"].as_u64().unwrap())
    };
    let manual = run["execution_id"].as_str().unwrap().to_owned();
    assert_eq!(history("").await, (vec![manual.clone()], 1));
    assert_eq!(history("per_page=1").await, (vec![manual.clone()], 1), "what is hidden takes no place");
    assert_eq!(history("per_page=1&page=2").await, (vec![], 1));
    assert_eq!(next_run_at().await, "2026-04-10T14:25:00Z");
    assert_eq!(service.get(&format!("/v1/executions/{id}")).await.data(200)["status"], "pending");

    // A pause takes it back, and a resume before its instant lets it come.
    service.post(&format!("{path}/pause")).await.data(200);
    assert_eq!(next_run_at().await, Value::Null);
    let resumed = service.post(&format!("{path}/resume")).await.data(200);
    assert_eq!(resumed["next_run_at"], "2026-04-10T14:25:00Z");

    service.clock.advance(Duration::from_secs(2));
    assert_eq!(history("").await, (vec![id.to_string(), manual], 2));
    assert_eq!(next_run_at().await, "2026-04-10T14:30:00Z");
}

#[tokio::test]
async fn a_retry_that_a_pause_called_off_was_no_attempt() {
    let service = Service::start().await;
    let job = service.make_job().await;
    service.clock.advance(Duration::from_secs(180));
    let id = claim_firing(&service, job, 180).await;
    let refused = Some((ErrorKind::HttpStatus, "HTTP 500"));
    let result = AttemptResult::Sent {
        attempt: attempt(1, 180, refused, Some(500)),
        body: None,
        retry_at: Some(at(190)),
    };
    record(&service, id, 1, result).await;
    service.post(&format!("/v1/jobs/{job}/pause")).await.data(200);
    let failed = service.get(&format!("/v1/executions/{id}")).await.data(200);
    for (field, value) in [
        ("status", json!("failed")),
        ("attempt", json!(1)),
        ("error", json!("HTTP 500; not tried again: The job was paused")),
        ("error_kind", json!("http_status")),
    ] {
        assert_eq!(failed[field], value, "{field}");
    }
}

#[tokio::test]
async fn what_was_skipped_was_never_attempted() {
    let service = Service::start().await;
    let job = service.make_job().await;
    service.clock.advance(Duration::from_secs(180));
    let id = claim_firing(&service, job, 180).await;
    let reason = "The previous execution was still running".to_owned();
    record(&service, id, 1, AttemptResult::Skipped { at: at(180), reason: reason.clone() }).await;
    let skipped = service.get(&format!("/v1/executions/{id}")).await.data(200);
    assert_eq!((&skipped["status"], &skipped["attempt"]), (&json!("skipped"), &json!(0)));
    assert_eq!(skipped["error"], json!(reason));
}

#[tokio::test]
async fn a_failure_shows_every_attempt() {
    let service = Service::start().await;
    let job = service.make_job().await;
    service.clock.advance(Duration::from_secs(180));
    let id = claim_firing(&service, job, 180).await;
    let refused = Some((ErrorKind::Connect, "Connection refused"));
    let result =
        AttemptResult::Sent { attempt: attempt(1, 180, refused, None), body: None, retry_at: Some(at(190)) };
    record(&service, id, 1, result).await;
    let waiting = service.get(&format!("/v1/executions/{id}")).await.data(200);
    assert_eq!((&waiting["status"], &waiting["attempt"]), (&json!("pending"), &json!(2)));
    assert_eq!(
        (&waiting["error"], &waiting["error_kind"]),
        (&json!("Connection refused"), &json!("connect"))
    );
    assert_eq!(waiting["started_at"], "2026-04-10T14:25:00Z", "of the attempt that was made");

    assert_eq!(claim(&service, ClaimTarget::Execution { id, attempt: 2 }).await, Some(id));
    service.clock.advance(Duration::from_secs(11));
    let running = service.get(&format!("/v1/executions/{id}")).await.data(200);
    assert_eq!(
        (&running["status"], &running["started_at"]),
        (&json!("running"), &json!("2026-04-10T14:25:10Z"))
    );
    let timeout = Some((ErrorKind::Timeout, "Request timed out after 30s"));
    let result =
        AttemptResult::Sent { attempt: attempt(2, 190, timeout, Some(503)), body: None, retry_at: None };
    record(&service, id, 2, result).await;
    let failed = service.get(&format!("/v1/executions/{id}")).await.data(200);
    for (field, value) in [
        ("status", json!("failed")),
        ("status_code", json!(503)),
        ("error", json!("Request timed out after 30s")),
        ("error_kind", json!("timeout")),
        ("executed_at", json!("2026-04-10T14:25:10Z")),
        ("scheduled_at", json!("2026-04-10T14:25:00Z")),
    ] {
        assert_eq!(failed[field], value, "{field}");
    }
    let first = json!({
        "attempt": 1,
        "node_id": 1,
        "started_at": "2026-04-10T14:25:00Z",
        "finished_at": "2026-04-10T14:25:01Z",
        "duration_ms": 1_042,
        "status_code": null,
        "error": "Connection refused",
        "error_kind": "connect",
    });
    assert_eq!((&failed["attempts"][0], &failed["attempts"][1]["status_code"]), (&first, &json!(503)));
}

#[tokio::test]
async fn missed_firings_are_one_record_with_the_reason() {
    let service = Service::start().await;
    let job = service.make_job().await;
    service.clock.advance(Duration::from_secs(1_000));
    let missed = MissedFirings { until: at(780), count: 3, exact: true };
    let target = ClaimTarget::Missed {
        job,
        generation: 1,
        first: at(180),
        skipped: Some(missed),
        run: None,
        run_due: at(1_000),
        next_run_at: Some(at(1_080)),
    };
    assert_eq!(claim(&service, target).await, None);
    let (items, _) = list(&service, job, "").await;
    let item = &items[0];
    assert_eq!((&item["status"], &item["attempt"]), (&json!("skipped"), &json!(0)));
    assert_eq!(item["missed"], json!({"count": 3, "until": "2026-04-10T14:35:00Z", "exact": true}));
    assert_eq!((&item["executed_at"], &item["node_id"]), (&json!("2026-04-10T14:25:00Z"), &Value::Null));
    let reason = "Missed while the cluster was down: 3 firings until 2026-04-10T14:35:00Z";
    assert_eq!(item["error"], reason);
}

#[tokio::test]
async fn the_history_is_pages_newest_first() {
    let service = Service::start().await;
    let job = service.make_job().await;
    let mut ids = Vec::new();
    for _ in 0..25 {
        let run = service.post(&format!("/v1/jobs/{job}/run")).await.data(200);
        ids.push(run["execution_id"].as_str().unwrap().to_owned());
        service.clock.advance(Duration::from_secs(1));
    }
    ids.reverse();
    for (query, range, per_page) in
        [("", 0..20, 20), ("page=2", 20..25, 20), ("page=3&per_page=10", 20..25, 10)]
    {
        let (items, meta) = list(&service, job, query).await;
        let found: Vec<_> = items.iter().map(|item| item["id"].as_str().unwrap()).collect();
        assert_eq!(found, ids[range].iter().map(String::as_str).collect::<Vec<_>>(), "{query}");
        assert_eq!((&meta["total"], &meta["per_page"]), (&json!(25), &json!(per_page)));
    }
    let (items, meta) = list(&service, job, "page=99").await;
    assert_eq!((items.len(), &meta["total"]), (0, &json!(25)));
}

#[tokio::test]
async fn executions_of_others_do_not_exist() {
    let service = Service::start().await;
    service.add_foreign_account().await;
    let job = service.make_job().await;
    let run = service.post(&format!("/v1/jobs/{job}/run")).await.data(200);
    let path = format!("/v1/executions/{}", run["execution_id"].as_str().unwrap());
    service.get(&path).await.data(200);
    assert_eq!(service.send(request(FOREIGN_KEY, "GET", &path, "")).await.code(404), "not_found");
}

/// Gives a job a history of `count` executions, `every` so often, on each node without going through consensus.
/// Newest first.
async fn write_history(service: &Service, job: JobId, count: u64, every: Duration) -> Vec<ExecutionId> {
    // So that nothing else is written meanwhile.
    service.caught_up().await;
    let written = service.nodes().iter().map(|node| write_history_of(service, node, job, count, every));
    written.last().unwrap()
}

fn write_history_of(
    service: &Service,
    node: &Node,
    job: JobId,
    count: u64,
    every: Duration,
) -> Vec<ExecutionId> {
    let mut ids = Vec::new();
    let mut hours = BTreeMap::new();
    let state = node.cluster.state();
    let mut txn = state.begin();
    for n in 0..count {
        let instant = START.minus(every * u32::try_from(n).unwrap());
        let id = ExecutionId::scheduled(job, instant);
        let mut execution = Execution::scheduled(id, instant, NODE, service.incarnation);
        execution.attempts.push(attempt(1, 0, None, Some(200)));
        execution.state = ExecutionState::Finished { status: ExecutionStatus::Success, at: instant };
        txn.put::<Executions>(&id, &execution).unwrap();
        *hours.entry(JobHour::of(&id)).or_insert(0) += 1;
        ids.push(id);
    }
    for (hour, count) in hours {
        txn.put::<ExecutionHours>(&hour, &count).unwrap();
    }
    let mut job_state = txn.get::<JobStates>(&job).unwrap().unwrap();
    job_state.executions_total = count;
    txn.put::<JobStates>(&job, &job_state).unwrap();
    let mark = state.applied().unwrap();
    txn.commit(mark).unwrap();
    ids
}

async fn page(service: &Service, job: JobId, number: u64, per_page: u64) -> Vec<String> {
    let (items, _) = list(service, job, &format!("page={number}&per_page={per_page}")).await;
    items.iter().map(|item| item["id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn every_page_of_a_long_history_is_the_right_one() {
    let service = Service::start().await;
    let job = service.make_job().await;
    // More hours than one look reads, some with many executions and some with none.
    let every = Duration::from_secs(5_400);
    let ids: Vec<_> =
        write_history(&service, job, 2_500, every).await.iter().map(ToString::to_string).collect();
    let run = service.post(&format!("/v1/jobs/{job}/run")).await.data(200);
    let ids: Vec<_> = [run["execution_id"].as_str().unwrap().to_owned()].into_iter().chain(ids).collect();
    for per_page in [1, 7, 100] {
        for number in [1, 2, 3, 10, 17, 25, 26, 357, 358, 2_501, 2_502] {
            let first = usize::try_from((number - 1) * per_page).unwrap().min(ids.len());
            let last = usize::try_from(number * per_page).unwrap().min(ids.len());
            assert_eq!(
                page(&service, job, number, per_page).await,
                ids[first..last],
                "{number} of {per_page}"
            );
        }
    }
}

#[tokio::test]
async fn what_is_claimed_ahead_takes_no_place_on_any_page() {
    let service = Service::start().await;
    let job = service.make_job().await;
    let mut ids = write_history(&service, job, 30, Duration::from_secs(1_200)).await;
    let check = async |ids: &[ExecutionId]| {
        for per_page in [1, 7, 100] {
            let size = usize::try_from(per_page).unwrap();
            for (number, expected) in (1..).zip(ids.chunks(size).chain([&[][..]])) {
                let expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
                assert_eq!(page(&service, job, number, per_page).await, expected, "{number} of {per_page}");
            }
        }
    };
    // In an hour that has others.
    service.clock.advance(Duration::from_secs(178));
    let target =
        ClaimTarget::Firing { job, generation: 1, scheduled_at: at(180), next_run_at: Some(at(2_280)) };
    let first = claim(&service, target).await.unwrap();
    check(&ids).await;
    // In an hour of its own.
    service.clock.advance(Duration::from_secs(2_100));
    ids.insert(0, first);
    claim_firing(&service, job, 2_280).await;
    check(&ids).await;
}

/// Claims a firing ahead of its instant and gives it back, again and again, on a node and without going through consensus.
fn claim_and_release(node: &Node, job: JobId, instant: Timestamp, stop: &AtomicBool) {
    let (state, id) = (node.cluster.state(), ExecutionId::scheduled(job, instant));
    let execution = Execution::scheduled(id, instant, NODE, Incarnation(1));
    let hour = JobHour::of(&id);
    while !stop.load(Ordering::Relaxed) {
        for is_there in [true, false] {
            let mut txn = state.begin();
            let mut job_state = txn.get::<JobStates>(&job).unwrap().unwrap();
            let count = txn.get::<ExecutionHours>(&hour).unwrap().unwrap_or(0);
            if is_there {
                txn.put::<Executions>(&id, &execution).unwrap();
                job_state.open.push(id);
                job_state.executions_total += 1;
                txn.put::<ExecutionHours>(&hour, &(count + 1)).unwrap();
            } else {
                txn.remove::<Executions>(&id).unwrap();
                job_state.open.retain(|open| *open != id);
                job_state.executions_total -= 1;
                txn.put::<ExecutionHours>(&hour, &(count - 1)).unwrap();
            }
            txn.put::<JobStates>(&job, &job_state).unwrap();
            let mark = state.applied().unwrap();
            txn.commit(mark).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_claimed_while_a_page_is_read_moves_none() {
    let service = Service::start().await;
    let job = service.make_job().await;
    let ids = write_history(&service, job, 300, Duration::from_secs(60)).await;
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for node in service.nodes() {
            scope.spawn(|| claim_and_release(node, job, at(180), &stop));
        }
        let reading = async {
            for _ in 0..30 {
                for (number, expected) in (1..).zip(ids.chunks(100)) {
                    let expected: Vec<_> = expected.iter().map(ToString::to_string).collect();
                    let found = page(&service, job, number, 100).await;
                    if found != expected {
                        return Err((number, found, expected));
                    }
                }
            }
            Ok(())
        };
        let read = tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(reading));
        stop.store(true, Ordering::Relaxed);
        assert_eq!(read, Ok(()));
    });
}

/// Shows how long pages take that lie ever deeper. `cargo test -p api --test rest deep -- --ignored --nocapture`
#[tokio::test]
#[ignore = "a measurement"]
#[expect(clippy::print_stderr, reason = "what it finds is its purpose")]
async fn deep_pages_of_a_hundred_thousand() {
    for every in [Duration::from_secs(1), Duration::from_secs(60), Duration::from_secs(3_600)] {
        let service = Service::start().await;
        let job = service.make_job().await;
        let ids = write_history(&service, job, 100_000, every).await;
        service.cluster().await.state().flush().unwrap();
        for number in [1, 10, 100, 1_000, 2_500, 4_000, 5_000] {
            let started = std::time::Instant::now();
            let found = page(&service, job, number, 20).await;
            let took = started.elapsed();
            let first = usize::try_from((number - 1) * 20).unwrap();
            assert_eq!(found[0], ids[first].to_string());
            let skipped = {
                let started = std::time::Instant::now();
                let view = service.cluster().await.state().view();
                view.keys_prefix::<Executions>(&job.0.to_be_bytes(), None, first + 20).unwrap();
                started.elapsed()
            };
            eprintln!("every {every:?}: page {number} in {took:?}; reading what lies before it: {skipped:?}");
        }
    }
}
