//! Overlap, misfire, pause, manual runs.

use crate::cluster::{TestCluster, eventually};
use domain::time::Clock;
use serde_json::{Value, json};
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn overlap_skip_waits_for_the_one_that_runs() {
    let cluster = TestCluster::start(3).await;
    let job = cluster
        .create_job("@every 1s", "/hang/overlap", json!({"overlap_policy": "skip", "timeout_sec": 300}))
        .await;
    let skipped = eventually("a skipped firing", || async {
        let executions = cluster.executions(&job).await?;
        executions
            .iter()
            .find(|execution| execution["status"] == "skipped")
            .cloned()
            .ok_or_else(|| format!("{executions:?}"))
    })
    .await;
    assert_eq!(skipped["error"], "The previous execution was still running");
    assert_eq!(cluster.target.calls("/hang/overlap").len(), 1);
}

/// Makes a job that fires every 10 s, stops the cluster for a hundred seconds, and gives its history after that.
async fn sleep_through(policy: &str, path: &str) -> (TestCluster, String, Vec<Value>) {
    let mut cluster = TestCluster::start(3).await;
    let job = cluster.create_job("@every 10s", path, json!({"misfire_policy": policy})).await;
    eventually("a first run", || async {
        let executions = cluster.executions(&job).await?;
        if executions.iter().any(|execution| execution["status"] == "success") {
            Ok(())
        } else {
            Err(format!("{executions:?}"))
        }
    })
    .await;
    for index in 0..3 {
        cluster.kill(index);
    }
    cluster.set_clock(cluster.clock.now().plus(Duration::from_secs(100)));
    for index in 0..3 {
        cluster.restart(index);
    }
    cluster.wait_until_dealt().await;
    let executions = eventually("a record of what was missed", || async {
        let executions = cluster.executions(&job).await?;
        let recorded = executions.iter().any(|execution| execution["status"] == "skipped");
        let ended = executions.iter().all(|execution| execution["status"] != "running");
        if recorded && ended { Ok(executions) } else { Err(format!("{executions:?}")) }
    })
    .await;
    (cluster, job, executions)
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_one_firing_is_made_up_for_and_one_record_stands_for_the_rest() {
    let (cluster, _, executions) = sleep_through("run_once", "/ok/run-once").await;
    let skipped: Vec<_> = executions.iter().filter(|execution| execution["status"] == "skipped").collect();
    assert_eq!(skipped.len(), 1, "{executions:?}");
    let count = skipped[0]["missed"]["count"].as_u64().unwrap();
    assert!((6..=12).contains(&count), "{skipped:?}");
    let calls = cluster.target.calls("/ok/run-once");
    let mut instants: Vec<_> = calls.iter().map(|call| call.scheduled_at.clone()).collect();
    instants.dedup();
    assert_eq!(instants.len(), calls.len(), "nothing ran twice: {calls:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn with_skip_nothing_is_made_up_for() {
    let (cluster, _, executions) = sleep_through("skip", "/ok/skip").await;
    let skipped = executions.iter().find(|execution| execution["status"] == "skipped").unwrap();
    let until = skipped["missed"]["until"].as_str().unwrap();
    let first = skipped["scheduled_at"].as_str().unwrap();
    let made_up = cluster
        .target
        .calls("/ok/skip")
        .into_iter()
        .filter(|call| call.scheduled_at.as_str() >= first && call.scheduled_at.as_str() <= until)
        .count();
    assert_eq!(made_up, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_job_fires_only_by_hand_and_goes_on_after_resume() {
    let cluster = TestCluster::start(3).await;
    let job = cluster.create_job("@every 1s", "/ok/paused", json!({})).await;
    eventually("a first call", || async {
        if cluster.target.calls("/ok/paused").is_empty() { Err(String::new()) } else { Ok(()) }
    })
    .await;
    cluster.post(&format!("/v1/jobs/{job}/pause"), None).await;
    // What was under way at the pause has arrived after two more of its instants.
    let paused_at = cluster.clock.now();
    cluster.until(paused_at.plus(Duration::from_secs(5))).await;
    let late: Vec<_> = cluster
        .target
        .calls("/ok/paused")
        .into_iter()
        .filter(|call| call.at > paused_at.plus(Duration::from_secs(1)))
        .collect();
    assert!(late.is_empty(), "{late:?}");
    let before = cluster.target.calls("/ok/paused").len();

    let run = cluster.post(&format!("/v1/jobs/{job}/run"), None).await;
    eventually("the manual run", || async {
        let calls = cluster.target.calls("/ok/paused");
        let ran = calls.iter().any(|call| call.execution == run["data"]["execution_id"].as_str().unwrap());
        if ran { Ok(()) } else { Err(format!("{calls:?}")) }
    })
    .await;
    assert_eq!(cluster.target.calls("/ok/paused").len(), before + 1);

    cluster.post(&format!("/v1/jobs/{job}/resume"), None).await;
    eventually("firings after the resume", || async {
        let calls = cluster.target.calls("/ok/paused").len();
        if calls > before + 3 { Ok(()) } else { Err(calls.to_string()) }
    })
    .await;
}
