//! Spaces that turn while their jobs fire, and while nodes die.

use crate::cluster::{TestCluster, eventually};
use domain::time::{Clock, Timestamp};
use futures::future::join_all;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;

async fn make_space(cluster: &TestCluster) -> String {
    let space = cluster.post("/v1/spaces", Some(json!({"name": "Production"}))).await;
    space["data"]["id"].as_str().unwrap().to_owned()
}

/// The instants for which `path` was called.
fn instants(cluster: &TestCluster, path: &str) -> BTreeSet<u64> {
    let calls = cluster.target.calls(path);
    let secs = |text: &str| u64::try_from(text.parse::<jiff::Timestamp>().unwrap().as_second()).unwrap();
    calls.iter().map(|call| secs(&call.scheduled_at)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_space_is_silent_at_once_and_resumes_without_a_gap() {
    let cluster = TestCluster::start(3).await;
    let space = make_space(&cluster).await;
    let inside: Vec<String> = (0..4).map(|n| format!("/ok/inside/{n}")).collect();
    let mut jobs = Vec::new();
    for path in &inside {
        jobs.push(cluster.create_job("@every 1s", path, json!({"space_id": space})).await);
    }
    cluster.create_job("@every 1s", "/ok/outside", json!({})).await;
    let outside_from = cluster.clock.now().as_secs() + 1;
    eventually("first calls", || async {
        let silent: Vec<_> = inside.iter().filter(|path| cluster.target.calls(path).is_empty()).collect();
        if silent.is_empty() { Ok(()) } else { Err(format!("{silent:?}")) }
    })
    .await;

    let paused = cluster.post(&format!("/v1/spaces/{space}/pause"), None).await;
    assert_eq!(paused["data"]["jobs_paused"], 4);
    let paused_at = cluster.clock.now();
    cluster.until(paused_at.plus(Duration::from_secs(6))).await;
    for path in &inside {
        let late: Vec<_> = cluster
            .target
            .calls(path)
            .into_iter()
            .filter(|call| call.at > paused_at.plus(Duration::from_secs(1)))
            .collect();
        assert!(late.is_empty(), "{late:?}");
    }
    let run = cluster.post(&format!("/v1/jobs/{}/run", jobs[0]), None).await;
    let run = run["data"]["execution_id"].as_str().unwrap();
    eventually("the manual run", || async {
        let calls = cluster.target.calls(&inside[0]);
        if calls.iter().any(|call| call.execution == run) { Ok(()) } else { Err(format!("{calls:?}")) }
    })
    .await;

    let asked_at = cluster.clock.now();
    let resumed = cluster.post(&format!("/v1/spaces/{space}/resume"), None).await;
    assert_eq!(resumed["data"]["jobs_resumed"], 4);
    let resumed_at = cluster.clock.now();
    cluster.until(resumed_at.plus(Duration::from_secs(6))).await;
    let first = resumed_at.as_secs() + 1;
    for path in &inside {
        let called = instants(&cluster, path);
        let missed: Vec<_> = (first..first + 4).filter(|secs| !called.contains(secs)).collect();
        assert!(missed.is_empty(), "{path} missed {missed:?} in {called:?}");
        let manual = cluster.target.calls(path).iter().filter(|call| call.execution == run).count();
        let during =
            called.iter().filter(|secs| (paused_at.as_secs() + 2..asked_at.as_secs()).contains(secs)).count();
        assert!(during <= manual, "an instant of the pause was made up for: {called:?}");
    }
    let called = instants(&cluster, "/ok/outside");
    let span = paused_at.as_secs().max(outside_from)..first + 4;
    assert!(
        span.clone().all(|secs| called.contains(&secs)),
        "others are not held up: {span:?} in {called:?}"
    );
}

/// All jobs, by the node with this index.
async fn jobs(cluster: &TestCluster, index: usize, space: &str) -> Result<Vec<Value>, String> {
    let mut jobs = Vec::new();
    for page in 1..=3 {
        let path = format!("/v1/jobs?space_id={space}&per_page=100&page={page}");
        let found = cluster.get_from(index, &path).await?;
        jobs.extend(found["data"].as_array().cloned().unwrap_or_default());
    }
    Ok(jobs)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_outlives_the_node_that_was_asked_for_it() {
    let mut cluster = TestCluster::start(3).await;
    let space = make_space(&cluster).await;
    let made = (0..300).map(|n| {
        let (cluster, extra) = (&cluster, json!({"space_id": space}));
        async move { cluster.create_job("0 0 1 1 *", &format!("/ok/{n}"), extra).await }
    });
    assert_eq!(join_all(made).await.len(), 300);
    cluster.post(&format!("/v1/spaces/{space}/pause"), None).await;

    // The one that is asked is killed as soon as another one shows that the space has turned.
    let resume = format!("/v1/spaces/{space}/resume");
    let seen = eventually("the resumption", || async {
        let shown = cluster.get_from(1, &format!("/v1/spaces/{space}")).await?;
        if shown["data"]["status"] == "active" { Ok(()) } else { Err(shown.to_string()) }
    });
    tokio::select! {
        biased;
        () = seen => {}
        answer = cluster.post_to(0, &resume) => drop(answer),
    }
    cluster.kill(0);

    let next = eventually("the cursors of all jobs", || async {
        let jobs = jobs(&cluster, 1, &space).await?;
        let without = jobs.iter().filter(|job| job["next_run_at"].is_null()).count();
        if jobs.len() == 300 && without == 0 {
            Ok(jobs[0]["next_run_at"].clone())
        } else {
            Err(format!("{without} of {} jobs have no next run", jobs.len()))
        }
    })
    .await;
    assert_eq!(next, "2027-01-01T00:00:00Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn history_that_the_plan_no_longer_keeps_goes() {
    let mut cluster = TestCluster::start(3).await;
    let job = cluster.create_job("0 0 1 1 *", "/ok/old", json!({})).await;
    for _ in 0..3 {
        cluster.post(&format!("/v1/jobs/{job}/run"), None).await;
    }
    let all_over = |executions: &[Value]| executions.iter().all(|execution| execution["status"] == "success");
    eventually("three runs", || async {
        let executions = cluster.executions(&job).await?;
        if executions.len() == 3 && all_over(&executions) { Ok(()) } else { Err(format!("{executions:?}")) }
    })
    .await;
    for index in 0..3 {
        cluster.kill(index);
    }
    // A year is kept on the plan of the first account.
    let year = Duration::from_secs(366 * 24 * 3_600);
    let later: Timestamp = cluster.clock.now().plus(year);
    cluster.set_clock(later);
    for index in 0..3 {
        cluster.restart(index);
    }
    cluster.wait_until_dealt().await;
    eventually("an empty history", || async {
        let executions = cluster.executions(&job).await?;
        let manual = executions.iter().filter(|execution| execution["triggered_by"] == "manual").count();
        if manual == 0 { Ok(()) } else { Err(format!("{executions:?}")) }
    })
    .await;
}
