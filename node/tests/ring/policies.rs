//! Overlap, misfire, pause, manual runs.

use crate::cluster::{TestCluster, eventually};
use domain::id::ExecutionId;
use domain::time::{Clock, Timestamp};
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

/// What an outage left behind.
struct Aftermath {
    cluster: TestCluster,
    /// The history of the job.
    executions: Vec<Value>,
    /// The firing that was claimed when the cluster went down.
    claimed: Value,
}

/// Makes a job that fires every 10 s, stops the whole cluster for a hundred seconds, just when the next firing has been
/// claimed, and waits for what comes of that.
async fn sleep_through(policy: &str, path: &str) -> Aftermath {
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
    let due = Timestamp::from_secs((cluster.clock.now().as_secs() + 3).next_multiple_of(10));
    let claimed = format!("/v1/executions/{}", ExecutionId::scheduled(job.parse().unwrap(), due));
    cluster.until(due.minus(Duration::from_secs(2))).await;
    eventually("the claim of the next firing", || cluster.get(&claimed)).await;
    for index in 0..3 {
        cluster.kill(index);
    }
    cluster.set_clock(cluster.clock.now().plus(Duration::from_secs(100)));
    for index in 0..3 {
        cluster.restart(index);
    }
    cluster.wait_until_dealt().await;
    let (executions, claimed) = eventually("the end of all that was missed", || async {
        let executions = cluster.executions(&job).await?;
        let claimed = cluster.get(&claimed).await?["data"].clone();
        let recorded = executions.iter().any(|execution| execution["status"] == "skipped");
        let is_open =
            |execution: &Value| execution["status"] == "running" || execution["status"] == "pending";
        if recorded && !executions.iter().any(is_open) && !is_open(&claimed) {
            Ok((executions, claimed))
        } else {
            Err(format!("{executions:?}"))
        }
    })
    .await;
    Aftermath { cluster, executions, claimed }
}

/// It was not sent, and its history says why.
fn assert_missed(cluster: &TestCluster, path: &str, claimed: &Value) {
    let sent: Vec<_> = cluster
        .target
        .calls(path)
        .into_iter()
        .filter(|call| call.execution == claimed["id"].as_str().unwrap())
        .collect();
    assert!(sent.is_empty(), "{sent:?}");
    assert_eq!((&claimed["status"], &claimed["error_kind"]), (&json!("failed"), &json!("node_lost")));
    let error = claimed["error"].as_str().unwrap();
    assert!(error.ends_with("; not tried again: Missed while the cluster was down"), "{error}");
    assert_eq!(claimed["attempt"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_one_firing_is_made_up_for_and_one_record_stands_for_the_rest() {
    let Aftermath { cluster, executions, claimed } = sleep_through("run_once", "/ok/run-once").await;
    let skipped: Vec<_> = executions.iter().filter(|execution| execution["status"] == "skipped").collect();
    assert_eq!(skipped.len(), 1, "{executions:?}");
    let count = skipped[0]["missed"]["count"].as_u64().unwrap();
    assert!((6..=12).contains(&count), "{skipped:?}");
    let calls = cluster.target.calls("/ok/run-once");
    let mut instants: Vec<_> = calls.iter().map(|call| call.scheduled_at.clone()).collect();
    instants.dedup();
    assert_eq!(instants.len(), calls.len(), "nothing ran twice: {calls:?}");
    assert_missed(&cluster, "/ok/run-once", &claimed);
    let until = skipped[0]["missed"]["until"].as_str().unwrap();
    let made_up = calls.iter().find(|call| call.scheduled_at.as_str() > until).expect("the last one runs");
    assert_eq!(made_up.attempt, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_skip_nothing_is_made_up_for() {
    let Aftermath { cluster, executions, claimed } = sleep_through("skip", "/ok/skip").await;
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
    assert_missed(&cluster, "/ok/skip", &claimed);
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
