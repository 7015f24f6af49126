//! What happens when the whole cluster stops at once.

use crate::cluster::{TestCluster, eventually};
use domain::time::Clock;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Starts a run of a job whose target keeps the call, and waits for it. Returns the job and the index of the caller.
async fn hold_a_call(cluster: &TestCluster, path: &str) -> (String, usize) {
    let job = cluster.create_job("0 0 1 1 *", path, json!({"timeout_sec": 300})).await;
    cluster.post(&format!("/v1/jobs/{job}/run"), None).await;
    eventually("the call", || async {
        if cluster.target.calls(path).is_empty() { Err("not called".to_owned()) } else { Ok(()) }
    })
    .await;
    let running = newest(cluster, &job, "running").await;
    (job, usize::try_from(running["node_id"].as_u64().unwrap()).unwrap() - 1)
}

async fn newest(cluster: &TestCluster, job: &str, status: &str) -> Value {
    eventually(status, || async {
        let executions = cluster.executions(job).await?;
        let newest = executions.first().filter(|execution| execution["status"] == status);
        newest.cloned().ok_or_else(|| format!("{executions:?}"))
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn stopping_all_nodes_at_once_records_what_is_under_way() {
    let mut cluster = TestCluster::start(3).await;
    let (job, _) = hold_a_call(&cluster, "/hold/all").await;
    for index in 0..3 {
        cluster.tell_to_stop(index);
    }
    // Long enough for those that hold nothing to leave, if they would.
    cluster.until(cluster.clock.now().plus(Duration::from_secs(8))).await;
    cluster.target.let_go();
    for index in 0..3 {
        cluster.wait_for_end(index).await;
    }
    for index in 0..3 {
        cluster.restart(index);
    }
    cluster.wait_until_dealt().await;
    let ended = newest(&cluster, &job, "success").await;
    assert_eq!(ended["attempt"], 1);
    assert_eq!(cluster.target.calls("/hold/all").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_does_not_wait_for_those_that_died_over_it() {
    let mut cluster = TestCluster::start(3).await;
    let (_, caller) = hold_a_call(&cluster, "/hold/dead").await;
    for index in 0..3 {
        cluster.tell_to_stop(index);
    }
    cluster.until(cluster.clock.now().plus(Duration::from_secs(4))).await;
    let last = (caller + 1) % 3;
    for index in (0..3).filter(|index| *index != last) {
        cluster.kill(index);
    }
    let since = Instant::now();
    cluster.wait_for_end(last).await;
    assert!(since.elapsed() < Duration::from_secs(15), "{:?}", since.elapsed());
}
