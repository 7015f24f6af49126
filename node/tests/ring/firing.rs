//! What happens when nothing goes wrong.

use crate::cluster::{TestCluster, eventually};
use domain::time::Clock;
use serde_json::json;
use std::collections::BTreeMap;
use std::time::Duration;

#[tokio::test(flavor = "multi_thread")]
async fn every_instant_is_called_once_and_on_time() {
    let cluster = TestCluster::start(3).await;
    let paths: Vec<String> = (0..12).map(|n| format!("/ok/{n}")).collect();
    for path in &paths {
        cluster.create_job("@every 2s", path, json!({})).await;
    }
    let from = cluster.clock.now().plus(Duration::from_secs(3)).as_secs().next_multiple_of(2);
    let until = from + 20;
    cluster.until(domain::time::Timestamp::from_secs(until + 3)).await;

    for path in &paths {
        let mut calls: BTreeMap<String, u32> = BTreeMap::new();
        for call in cluster.target.calls(path) {
            assert_eq!(call.attempt, 1);
            *calls.entry(call.scheduled_at).or_default() += 1;
        }
        for due in (from..until).step_by(2) {
            let instant = jiff::Timestamp::from_second(i64::try_from(due).unwrap()).unwrap();
            assert_eq!(calls.get(&instant.to_string()), Some(&1), "{path} at {instant} in {calls:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cron_job_fires_at_the_minute_and_its_history_shows_it() {
    let cluster = TestCluster::start(3).await;
    let job = cluster.create_job("* * * * *", "/ok/minute", json!({"store_response_body": true})).await;
    let seen = eventually("a finished execution", || async {
        let executions = cluster.executions(&job).await?;
        executions
            .iter()
            .find(|execution| execution["status"] == "success")
            .cloned()
            .ok_or_else(|| format!("{executions:?}"))
    })
    .await;
    assert_eq!(seen["status_code"], 200);
    assert_eq!(seen["triggered_by"], "schedule");
    assert_eq!(seen["response_body"], "done");
    assert!(seen["scheduled_at"].as_str().unwrap().ends_with(":00Z"));
    let calls = cluster.target.calls("/ok/minute");
    assert_eq!(calls[0].execution, seen["id"].as_str().unwrap());
    let job = cluster.get(&format!("/v1/jobs/{job}")).await.unwrap();
    assert_eq!(job["data"]["last_status"], "success");
}

#[tokio::test(flavor = "multi_thread")]
async fn failed_attempts_are_retried_under_one_id_after_the_delay() {
    let cluster = TestCluster::start(3).await;
    let retry = json!({"retry_policy": "exponential", "retry_max": 2, "retry_delay_sec": 2});
    let job = cluster.create_job("0 0 1 1 *", "/fail/always", retry).await;
    cluster.post(&format!("/v1/jobs/{job}/run"), None).await;
    let execution = eventually("the end of the retries", || async {
        let executions = cluster.executions(&job).await?;
        executions
            .iter()
            .find(|execution| execution["status"] == "failed")
            .cloned()
            .ok_or_else(|| format!("{executions:?}"))
    })
    .await;
    assert_eq!(execution["attempt"], 3);
    assert_eq!(execution["error_kind"], "http_status");
    assert_eq!(execution["triggered_by"], "manual");
    let calls = cluster.target.calls("/fail/always");
    assert_eq!(calls.iter().map(|call| call.attempt).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(calls.iter().all(|call| call.execution == execution["id"].as_str().unwrap()));
    let waits: Vec<_> = calls.windows(2).map(|pair| pair[1].at.since(pair[0].at)).collect();
    assert!(waits[0] >= Duration::from_secs(2) && waits[1] >= Duration::from_secs(4), "{waits:?}");
}

/// More than one proposal may hold.
#[tokio::test(flavor = "multi_thread")]
async fn long_answers_that_come_together_are_all_kept() {
    let cluster = TestCluster::start(1).await;
    let mut jobs = Vec::new();
    for n in 0..60 {
        let path = format!("/hold-large/{n}");
        let job = cluster.create_job("0 0 1 1 *", &path, json!({"store_response_body": true})).await;
        cluster.post(&format!("/v1/jobs/{job}/run"), None).await;
        jobs.push((job, path));
    }
    eventually("all requests", || async {
        let called = jobs.iter().filter(|(_, path)| !cluster.target.calls(path).is_empty()).count();
        if called == jobs.len() { Ok(()) } else { Err(format!("{called} have been called")) }
    })
    .await;
    cluster.target.let_go();
    for (job, _) in &jobs {
        let ended = eventually("its end", || async {
            let executions = cluster.executions(job).await?;
            let ended = executions.iter().find(|execution| execution["status"] == "success").cloned();
            ended.ok_or_else(|| format!("{executions:?}"))
        });
        let body = ended.await["response_body"].as_str().map(str::len);
        assert_eq!(body, Some(domain::limits::RESPONSE_BODY_BYTES_MAX));
    }
}
