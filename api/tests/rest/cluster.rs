use crate::service::Service;
use domain::id::NodeId;
use domain::shard::SHARDS;
use raft::command::{Command, SetShardMap};
use serde_json::json;

#[tokio::test]
async fn the_cluster_shows_its_members() {
    let service = Service::start().await;
    let owners = vec![NodeId(1); SHARDS];
    service.cluster.propose(Command::SetShardMap(SetShardMap { expected_version: 0, owners })).await.unwrap();
    let data = service.get("/v1/cluster").await.data(200);
    assert_eq!(
        (&data["node_id"], &data["leader_id"], &data["shard_map_version"]),
        (&json!(1), &json!(1), &json!(1))
    );
    assert!(data["term"].as_u64().unwrap() >= 1);
    let applied = data["applied_index"].as_u64().unwrap();
    assert!(applied >= 1);
    let members = data["members"].as_array().unwrap();
    assert_eq!(members.len(), 1);
    for (field, value) in [
        ("node_id", json!(1)),
        ("role", json!("leader")),
        ("live", json!(true)),
        ("applied_index", json!(applied)),
        ("shards", json!(SHARDS)),
    ] {
        assert_eq!(members[0][field], value, "{field}");
    }
    for field in ["api_url", "rpc_addr", "version"] {
        assert!(members[0][field].is_string(), "{field}");
    }
}

#[tokio::test]
async fn without_a_leader_nothing_is_promised() {
    let service = Service::start_without_quorum().await;
    let job = "/v1/jobs/job_00000000001";
    let body = json!({"name": "a", "cron_expression": "* * * * *", "url": "https://a.example"});
    let answers = [
        service.get("/v1/jobs").await,
        service.call("POST", "/v1/jobs", body).await,
        service.call("PATCH", job, json!({})).await,
        service.post(&format!("{job}/run")).await,
    ];
    for answer in answers {
        assert_eq!(answer.code(503), "no_leader");
        assert_eq!(answer.headers["retry-after"], "1");
    }
    assert_eq!(service.get("/readyz").await.code(503), "not_ready");
    // The process lives all the same, and looks keys up in what it knows itself.
    assert_eq!(service.get("/healthz").await.status.as_u16(), 200);
    assert_eq!(service.get("/v1/cluster").await.code(401), "unauthorized");
}
