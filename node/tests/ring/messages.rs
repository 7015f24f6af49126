//! Messages to channels: each once, in order, whoever dies.

use crate::cluster::{TestCluster, eventually};
use crate::receiver::{Receiver, SECRET};
use domain::time::Clock;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Never by itself.
const NEVER: &str = "0 0 1 1 *";

async fn start() -> (TestCluster, Receiver) {
    let cluster = TestCluster::start(3).await;
    let receiver = Receiver::start(Arc::new(cluster.clock)).await;
    (cluster, receiver)
}

/// A webhook channel at `path` that hears of failures and recoveries. Returns its id.
async fn channel(cluster: &TestCluster, receiver: &Receiver, path: &str, events: Value) -> String {
    let config = json!({"url": receiver.url(path), "secret": SECRET});
    let body = json!({"type": "webhook", "name": path, "config": config, "events": events});
    let made = cluster.post("/v1/alerts/channels", Some(body)).await;
    made["data"]["id"].as_str().unwrap().to_owned()
}

fn both() -> Value {
    json!(["job.failed", "job.recovered"])
}

/// Runs a job and waits for the end. Returns the execution.
async fn run(cluster: &TestCluster, job: &str) -> Value {
    let started = cluster.post(&format!("/v1/jobs/{job}/run"), None).await;
    let id = started["data"]["execution_id"].as_str().unwrap().to_owned();
    eventually("the end of a run", || async {
        let execution = cluster.get(&format!("/v1/executions/{id}")).await?["data"].clone();
        let over = execution["status"] == "failed" || execution["status"] == "success";
        if over { Ok(execution) } else { Err(execution.to_string()) }
    })
    .await
}

/// Waits until the last message of a channel has this status.
async fn last_delivery(cluster: &TestCluster, channel: &str, status: &str) {
    eventually("the outcome of a message", || async {
        let channel = cluster.get(&format!("/v1/alerts/channels/{channel}")).await?["data"].clone();
        let seen = channel["last_delivery"]["status"] == status;
        if seen { Ok(()) } else { Err(channel.to_string()) }
    })
    .await;
}

async fn taken(receiver: &Receiver, path: &str, expected: &[&str]) {
    eventually("the messages", || async {
        let taken = receiver.taken(path);
        if taken == expected { Ok(()) } else { Err(format!("{:?}", receiver.arrivals(path))) }
    })
    .await;
}

/// Lets time pass in which nothing more may arrive.
async fn pass(cluster: &TestCluster, secs: u64) {
    cluster.until(cluster.clock.now().plus(Duration::from_secs(secs))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recovery_waits_for_its_failure_and_each_arrives_once() {
    let (cluster, receiver) = start().await;
    let all = json!(["job.executed", "job.failed", "job.recovered"]);
    channel(&cluster, &receiver, "/ok/all", all).await;
    let slow = channel(&cluster, &receiver, "/fail/2/slow", both()).await;
    let job = cluster.create_job(NEVER, "/fail/job", json!({})).await;
    assert_eq!(run(&cluster, &job).await["status"], "failed");
    cluster.patch(&format!("/v1/jobs/{job}"), json!({"url": cluster.target.url("/ok/job")})).await;
    assert_eq!(run(&cluster, &job).await["status"], "success");

    taken(&receiver, "/fail/2/slow", &["job.failed", "job.recovered"]).await;
    last_delivery(&cluster, &slow, "delivered").await;
    let arrivals = receiver.arrivals("/fail/2/slow");
    assert_eq!(arrivals.iter().map(|a| a.kind.as_str()).collect::<Vec<_>>()[..3], ["job.failed"; 3]);
    assert_eq!(arrivals[..3].iter().map(|a| &a.id).collect::<BTreeSet<_>>().len(), 1, "one id");
    let waits: Vec<_> = arrivals.windows(2).map(|pair| pair[1].at.since(pair[0].at).as_secs()).collect();
    assert!(waits[0] >= 4 && waits[1] >= 16, "{waits:?}");

    let mut kinds = receiver.taken("/ok/all");
    kinds.sort();
    assert_eq!(kinds, ["job.executed", "job.executed", "job.failed", "job.recovered"]);
    let ids: BTreeSet<_> = receiver.arrivals("/ok/all").into_iter().map(|a| a.id).collect();
    assert_eq!((ids.len(), receiver.arrivals("/ok/all").len()), (4, 4));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_whose_sender_dies_is_sent_by_another_under_its_id() {
    let (mut cluster, receiver) = start().await;
    let channel = channel(&cluster, &receiver, "/hang-once/alert", both()).await;
    let job = cluster.create_job(NEVER, "/fail/job", json!({})).await;
    let execution = run(&cluster, &job).await;
    eventually("the first sending", || async {
        let arrivals = receiver.arrivals("/hang-once/alert");
        if arrivals.len() == 1 { Ok(()) } else { Err(format!("{arrivals:?}")) }
    })
    .await;
    // Whoever has the shard sends what its executions have to tell.
    let sender = usize::try_from(execution["node_id"].as_u64().unwrap()).unwrap() - 1;
    cluster.kill(sender);
    taken(&receiver, "/hang-once/alert", &["job.failed"]).await;
    last_delivery(&cluster, &channel, "delivered").await;
    pass(&cluster, 12).await;
    let arrivals = receiver.arrivals("/hang-once/alert");
    assert_eq!(arrivals.len(), 2, "{arrivals:?}");
    assert_eq!(arrivals[0].id, arrivals[1].id);

    cluster.restart(sender);
    cluster.wait_until_dealt().await;
    run(&cluster, &job).await;
    taken(&receiver, "/hang-once/alert", &["job.failed", "job.failed"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_outlive_a_restart_of_the_whole_cluster() {
    let (mut cluster, receiver) = start().await;
    channel(&cluster, &receiver, "/fail/1/alert", both()).await;
    let job = cluster.create_job(NEVER, "/fail/job", json!({})).await;
    run(&cluster, &job).await;
    eventually("the first sending", || async {
        let arrivals = receiver.arrivals("/fail/1/alert");
        if arrivals.len() == 1 { Ok(()) } else { Err(format!("{arrivals:?}")) }
    })
    .await;
    for index in 0..3 {
        cluster.kill(index);
    }
    for index in 0..3 {
        cluster.restart(index);
    }
    cluster.wait_until_dealt().await;
    taken(&receiver, "/fail/1/alert", &["job.failed"]).await;
    pass(&cluster, 8).await;
    taken(&receiver, "/fail/1/alert", &["job.failed"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_hangs_or_asks_to_wait_holds_up_nobody_else() {
    let (cluster, receiver) = start().await;
    channel(&cluster, &receiver, "/hang/alert", both()).await;
    channel(&cluster, &receiver, "/limit/alert", both()).await;
    channel(&cluster, &receiver, "/ok/alert", both()).await;
    let mut jobs = Vec::new();
    for n in 0..12 {
        jobs.push(cluster.create_job(NEVER, &format!("/fail/{n}"), json!({})).await);
    }
    for job in &jobs {
        cluster.post(&format!("/v1/jobs/{job}/run"), None).await;
    }
    taken(&receiver, "/ok/alert", &["job.failed"; 12]).await;
    let hanging = receiver.arrivals("/hang/alert").len();
    assert!((1..=12).contains(&hanging), "{hanging} of at most four on each node");
    taken(&receiver, "/limit/alert", &["job.failed"; 12]).await;
    let arrivals = receiver.arrivals("/limit/alert");
    let refused = &arrivals[0];
    let again = arrivals.iter().find(|arrival| arrival.taken && arrival.id == refused.id).unwrap();
    assert!(again.at.since(refused.at) >= Duration::from_secs(30), "{arrivals:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_to_be_told_is_not_told() {
    let (cluster, receiver) = start().await;
    let gone = channel(&cluster, &receiver, "/fail/1000/gone", both()).await;
    let kept = channel(&cluster, &receiver, "/ok/kept", both()).await;
    let silent = cluster.create_job(NEVER, "/fail/silent", json!({"alert_channel_ids": []})).await;
    let choosy = cluster.create_job(NEVER, "/fail/choosy", json!({"alert_channel_ids": [gone]})).await;
    run(&cluster, &silent).await;
    run(&cluster, &choosy).await;
    eventually("the first sending", || async {
        let arrivals = receiver.arrivals("/fail/1000/gone");
        if arrivals.len() == 1 { Ok(()) } else { Err(format!("{arrivals:?}")) }
    })
    .await;
    cluster.delete(&format!("/v1/alerts/channels/{gone}")).await;
    pass(&cluster, 15).await;
    assert_eq!(receiver.arrivals("/fail/1000/gone").len(), 1, "what waited goes nowhere");
    assert_eq!(receiver.arrivals("/ok/kept").len(), 0);
    let job = cluster.get(&format!("/v1/jobs/{choosy}")).await.unwrap();
    assert_eq!(job["data"]["alert_channel_ids"], json!([]));

    let tested = cluster.post(&format!("/v1/alerts/channels/{kept}/test"), None).await;
    assert_eq!(tested["data"]["status"], "delivered");
    taken(&receiver, "/ok/kept", &["channel.test"]).await;
}
