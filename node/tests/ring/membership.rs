//! Nodes that join a cluster at work, and that leave it.

use crate::access::justrun;
use crate::cluster::{TestCluster, eventually};
use crate::failover::assert_all_called;
use domain::time::Clock;
use serde_json::json;
use std::time::Duration;

async fn operate(cluster: &TestCluster, asked: usize, line: &str) -> String {
    justrun(cluster, asked, "secret", line, "").await.unwrap()
}

/// The ids of the members and their parts, as one node shows them.
async fn members(cluster: &TestCluster, index: usize) -> Result<Vec<(u64, bool)>, String> {
    let shown = cluster.get_from(index, "/v1/cluster").await?;
    let members = shown["data"]["members"].as_array().cloned().unwrap_or_default();
    Ok(members.iter().map(|one| (one["node_id"].as_u64().unwrap(), one["role"] != "learner")).collect())
}

async fn all_vote(cluster: &TestCluster, ids: &[u64]) {
    let expected: Vec<_> = ids.iter().map(|id| (*id, true)).collect();
    for index in cluster.running() {
        eventually("the members", || async {
            let seen = members(cluster, index).await?;
            if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_fire_while_a_node_becomes_three_and_the_leader_is_removed() {
    let mut cluster = TestCluster::start(1).await;
    let paths: Vec<String> = (0..8).map(|n| format!("/ok/{n}")).collect();
    for path in &paths {
        cluster.create_job("@every 1s", path, json!({})).await;
    }
    let from = cluster.clock.now().as_secs() + 4;
    cluster.join(0);
    let third = cluster.join(0);
    let said = operate(&cluster, 0, &format!("cluster add 3={}", cluster.rpc_addr(third))).await;
    assert_eq!(said, "Node 3 has caught up and votes.\n");
    all_vote(&cluster, &[1, 2, 3]).await;
    cluster.wait_until_dealt().await;
    let said = operate(&cluster, 1, "cluster transfer-leader 1").await;
    assert_eq!((said.as_str(), cluster.leader().await), ("Node 1 leads.\n", 0));

    let said = operate(&cluster, 0, "cluster remove 1").await;
    assert_eq!(said, "Node 1 was removed. Its id will not be used again.\n");
    for again in [false, true] {
        if again {
            cluster.restart(0);
        }
        let why = cluster.wait_for_failure(0).await;
        assert!(why.starts_with("node 1 was removed from this cluster"), "{why}");
    }
    all_vote(&cluster, &[2, 3]).await;
    cluster.wait_until_dealt().await;
    let until = cluster.clock.now().as_secs();
    cluster.until(cluster.clock.now().plus(Duration::from_secs(5))).await;
    for path in &paths {
        assert_all_called(&cluster, path, from, until + 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_removed_node_was_sending_goes_to_another() {
    let mut cluster = TestCluster::start(3).await;
    let path = "/hang/removed";
    let job = cluster.create_job("0 0 1 1 *", path, json!({"timeout_sec": 300})).await;
    cluster.post(&format!("/v1/jobs/{job}/run"), None).await;
    let caller = eventually("the call", || async {
        let executions = cluster.executions(&job).await?;
        let first = executions.first().filter(|one| one["status"] == "running");
        let caller = first.filter(|_| !cluster.target.calls(path).is_empty()).map(|one| &one["node_id"]);
        caller.and_then(serde_json::Value::as_u64).ok_or_else(|| format!("{executions:?}"))
    })
    .await;
    let index = usize::try_from(caller).unwrap() - 1;
    operate(&cluster, (index + 1) % 3, &format!("cluster remove {caller}")).await;
    cluster.wait_for_failure(index).await;
    let calls = eventually("the call of another node", || async {
        let calls = cluster.target.calls(path);
        if calls.len() > 1 { Ok(calls) } else { Err(format!("{calls:?}")) }
    })
    .await;
    assert_eq!((calls[0].attempt, calls[1].attempt), (1, 2));
    assert_eq!(calls[0].execution, calls[1].execution);
    let executions = cluster.executions(&job).await.unwrap();
    assert_ne!(executions[0]["node_id"], caller, "{executions:?}");
}
