//! What happens when nodes die.

use crate::cluster::{TestCluster, eventually};
use domain::time::{Clock, Timestamp};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Every instant from `from` to `until` was called; extra calls of an instant have its execution's id and a
/// higher attempt.
pub(crate) fn assert_all_called(cluster: &TestCluster, path: &str, from: u64, until: u64) {
    let mut calls: BTreeMap<String, Vec<(String, u32)>> = BTreeMap::new();
    for call in cluster.target.calls(path) {
        calls.entry(call.scheduled_at).or_default().push((call.execution, call.attempt));
    }
    for due in from..until {
        let instant = jiff::Timestamp::from_second(i64::try_from(due).unwrap()).unwrap().to_string();
        let of_instant = calls.get(&instant).unwrap_or_else(|| panic!("{path} missed {instant}: {calls:?}"));
        let ids: BTreeSet<_> = of_instant.iter().map(|(id, _)| id).collect();
        let attempts: BTreeSet<_> = of_instant.iter().map(|(_, attempt)| attempt).collect();
        assert_eq!(ids.len(), 1, "{of_instant:?}");
        assert_eq!(attempts.len(), of_instant.len(), "an attempt was made twice: {of_instant:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn killing_the_leader_and_then_a_follower_misses_nothing() {
    let mut cluster = TestCluster::start(3).await;
    let paths: Vec<String> = (0..8).map(|n| format!("/ok/{n}")).collect();
    for path in &paths {
        cluster.create_job("@every 1s", path, json!({})).await;
    }
    let from = cluster.clock.now().as_secs() + 4;
    cluster.until(Timestamp::from_secs(from + 3)).await;
    let leader = cluster.leader().await;
    cluster.kill(leader);
    cluster.until(Timestamp::from_secs(from + 14)).await;
    cluster.restart(leader);
    cluster.wait_until_dealt().await;
    let new_leader = cluster.leader().await;
    let follower =
        cluster.running().into_iter().find(|index| *index != new_leader && *index != leader).unwrap();
    cluster.kill(follower);
    let until = cluster.clock.now().as_secs();
    cluster.wait_until_dealt().await;
    cluster.until(cluster.clock.now().plus(Duration::from_secs(8))).await;
    for path in &paths {
        assert_all_called(&cluster, path, from, until + 4);
    }
}

/// Starts a run of a job whose target hangs, and kills the node that makes the call.
async fn kill_the_caller(cluster: &mut TestCluster, path: &str, delivery: &str) -> (String, Value) {
    let job = cluster.create_job("0 0 1 1 *", path, json!({"delivery": delivery, "timeout_sec": 300})).await;
    cluster.post(&format!("/v1/jobs/{job}/run"), None).await;
    let running = eventually("the call", || async {
        let executions = cluster.executions(&job).await?;
        let called = !cluster.target.calls(path).is_empty();
        executions
            .first()
            .filter(|execution| called && execution["status"] == "running")
            .cloned()
            .ok_or_else(|| format!("{executions:?}"))
    })
    .await;
    let caller = usize::try_from(running["node_id"].as_u64().unwrap()).unwrap() - 1;
    cluster.kill(caller);
    (job, running)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_lost_with_its_node_is_made_again_elsewhere() {
    let mut cluster = TestCluster::start(3).await;
    let (_, running) = kill_the_caller(&mut cluster, "/hang/again", "at_least_once").await;
    eventually("the second attempt", || async {
        let calls = cluster.target.calls("/hang/again");
        if calls.len() == 2 { Ok(()) } else { Err(format!("{calls:?}")) }
    })
    .await;
    let calls = cluster.target.calls("/hang/again");
    assert_eq!(calls.iter().map(|call| call.attempt).collect::<Vec<_>>(), [1, 2]);
    assert!(calls.iter().all(|call| call.execution == running["id"].as_str().unwrap()));
}

#[tokio::test(flavor = "multi_thread")]
async fn at_most_once_fails_rather_than_calls_again() {
    let mut cluster = TestCluster::start(3).await;
    let (job, running) = kill_the_caller(&mut cluster, "/hang/once", "at_most_once").await;
    let execution = eventually("the failure", || async {
        let executions = cluster.executions(&job).await?;
        executions
            .first()
            .filter(|execution| execution["status"] == "failed")
            .cloned()
            .ok_or_else(|| format!("{executions:?}"))
    })
    .await;
    assert_eq!(execution["id"], running["id"]);
    assert_eq!(execution["error_kind"], "node_lost");
    assert_eq!(cluster.target.calls("/hang/once").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_retry_outlives_the_node_that_made_the_first_attempt() {
    let mut cluster = TestCluster::start(3).await;
    let retry = json!({"retry_policy": "fixed", "retry_max": 1, "retry_delay_sec": 6});
    let job = cluster.create_job("0 0 1 1 *", "/fail-once/retry", retry).await;
    cluster.post(&format!("/v1/jobs/{job}/run"), None).await;
    let waiting = eventually("the first failure", || async {
        let executions = cluster.executions(&job).await?;
        executions
            .first()
            .filter(|execution| execution["attempt"] == 2)
            .cloned()
            .ok_or_else(|| format!("{executions:?}"))
    })
    .await;
    let detail = cluster.get(&format!("/v1/executions/{}", waiting["id"].as_str().unwrap())).await.unwrap();
    let first = detail["data"]["attempts"][0]["node_id"].as_u64().unwrap();
    cluster.kill(usize::try_from(first).unwrap() - 1);
    let ended = eventually("the retry", || async {
        let executions = cluster.executions(&job).await?;
        executions
            .first()
            .filter(|execution| execution["status"] == "success")
            .cloned()
            .ok_or_else(|| format!("{executions:?}"))
    })
    .await;
    assert_ne!(ended["node_id"].as_u64(), Some(first));
    let calls = cluster.target.calls("/fail-once/retry");
    assert_eq!(calls.iter().map(|call| call.attempt).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drained_node_loses_nothing_and_repeats_nothing() {
    let mut cluster = TestCluster::start(3).await;
    let paths: Vec<String> = (0..8).map(|n| format!("/ok/{n}")).collect();
    for path in &paths {
        cluster.create_job("@every 1s", path, json!({})).await;
    }
    let from = cluster.clock.now().as_secs() + 4;
    cluster.until(Timestamp::from_secs(from + 3)).await;
    for index in 0..3 {
        cluster.stop(index).await;
        cluster.restart(index);
        cluster.wait_until_dealt().await;
    }
    let until = cluster.clock.now().as_secs();
    cluster.until(Timestamp::from_secs(until + 4)).await;
    for path in &paths {
        assert_all_called(&cluster, path, from, until);
        assert!(cluster.target.calls(path).iter().all(|call| call.attempt == 1), "something was sent twice");
    }
}
