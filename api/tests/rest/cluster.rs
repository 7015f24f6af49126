use crate::service::{KEY, NODE, Service, eventually, request};
use domain::shard::SHARDS;
use raft::command::{Command, SetShardMap};
use serde_json::{Value, json};
use std::collections::BTreeSet;

#[tokio::test]
async fn every_node_shows_the_same_members() {
    let service = Service::start().await;
    let owners = vec![NODE; SHARDS];
    let deal = Command::SetShardMap(SetShardMap { expected_version: 0, owners });
    service.cluster().await.propose(deal).await.unwrap();
    service.caught_up().await;
    let term = service.node(NODE).cluster.status().term;
    let mut states = BTreeSet::new();
    for node in service.nodes() {
        // How far the others are is told with signs of life.
        let data = eventually("members that are equally far", async || {
            let data = node.send(request(KEY, "GET", "/v1/cluster", "")).await.data(200);
            let mut members = data["members"].as_array().unwrap().iter();
            let is_whole = members.all(|member| member["applied_index"] == data["applied_index"]);
            if is_whole && data["leader_id"].is_u64() { Ok(data) } else { Err(data.to_string()) }
        })
        .await;
        assert_eq!(
            (&data["node_id"], &data["term"], &data["shard_map_version"]),
            (&json!(node.id.0), &json!(term), &json!(1))
        );
        let digest = data["state_digest"].as_str().unwrap();
        assert!(digest.len() == 16 && u64::from_str_radix(digest, 16).is_ok(), "{digest}");
        states.insert((data["applied_index"].as_u64(), digest.to_owned()));
        let members = data["members"].as_array().unwrap();
        assert_eq!(members.len(), 3);
        for (id, member) in (1..).zip(members) {
            let is_leader = data["leader_id"] == json!(id);
            for (field, value) in [
                ("node_id", json!(id)),
                ("role", json!(if is_leader { "leader" } else { "follower" })),
                ("live", json!(true)),
                ("shards", json!(if id == NODE.0 { SHARDS } else { 0 })),
                ("api_url", json!(format!("http://127.0.0.1:{}", 8_079 + id))),
            ] {
                assert_eq!(member[field], value, "{field} of {id} on {}", node.id);
            }
            assert!(member["rpc_addr"].is_string() && member["version"] != Value::Null, "{member}");
        }
    }
    // Nothing was written meanwhile, so all have shown the same entry.
    assert_eq!(states.len(), 1, "{states:?}");

    service.call("POST", "/v1/spaces", json!({"name": "one more"})).await.data(201);
    service.caught_up().await;
    for node in service.nodes() {
        let data = node.send(request(KEY, "GET", "/v1/cluster", "")).await.data(200);
        states.insert((data["applied_index"].as_u64(), data["state_digest"].as_str().unwrap().to_owned()));
    }
    assert_eq!(states.len(), 2, "{states:?}");
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
