//! Credentials on every node, and operators who ask any of them.

use crate::cluster::{TestCluster, eventually};
use node::config::{self, Invocation};
use node::operator::{self, OperateError};
use raft::OperatorError;
use serde_json::{Value, json};

/// Runs `justrun` with these words, as an operator does who asks one node.
pub(crate) async fn justrun(
    cluster: &TestCluster,
    index: usize,
    secret: &str,
    line: &str,
    input: &str,
) -> Result<String, OperateError> {
    let words = std::iter::once("justrun").chain(line.split_whitespace()).map(Into::into);
    let rpc_addr = cluster.rpc_addr(index).to_string();
    let env = |name: &str| match name {
        "JUSTRUN_RPC_ADDR" => Some(rpc_addr.clone()),
        "JUSTRUN_CLUSTER_SECRET" => Some(secret.to_owned()),
        _ => None,
    };
    match config::parse(words, env).unwrap() {
        Invocation::Operate(settings) => {
            operator::run(*settings, &cluster.clock, input.as_bytes(), &mut |_| {}).await
        }
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn asked(cluster: &TestCluster, index: usize, line: &str) -> Value {
    let text = justrun(cluster, index, "secret", &format!("{line} --output json"), "").await.unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The status of the same request on each node in turn.
async fn everywhere(cluster: &TestCluster, credential: &str) -> Vec<u16> {
    let mut seen = Vec::new();
    for index in cluster.running() {
        seen.push(cluster.send(index, credential, "GET", "/v1/jobs", None).await.0);
    }
    seen
}

#[tokio::test(flavor = "multi_thread")]
async fn plans_allow_what_the_operator_has_set() {
    let cluster = TestCluster::start(1).await;
    let (status, usage) = cluster.send_with_key(0, "GET", "/v1/billing/usage", None).await;
    assert_eq!((status, &usage["data"]["plan"]), (200, &json!("scale")));
    assert_eq!(usage["data"]["ai_diagnoses"]["limit"], 7, "not the documented table");
    assert_eq!(usage["data"]["jobs"]["limit"], Value::Null, "the rest is as documented");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_credential_begins_and_ends_on_all_nodes_at_once() {
    let cluster = TestCluster::start(3).await;
    for (makes, takes) in [(0, 1), (1, 2), (2, 0)] {
        let (status, key) =
            cluster.send_with_key(makes, "POST", "/v1/api-keys", Some(json!({"name": "a"}))).await;
        assert_eq!(status, 201, "{key}");
        let text = key["data"]["key"].as_str().unwrap();
        assert_eq!(everywhere(&cluster, text).await, [200; 3]);
        let path = format!("/v1/api-keys/{}", key["data"]["id"].as_str().unwrap());
        assert_eq!(cluster.send_with_key(takes, "DELETE", &path, None).await.0, 204);
        assert_eq!(everywhere(&cluster, text).await, [401; 3]);
    }

    let words = |email: &str| Some(json!({"email": email, "password": "correct horse"}));
    for (makes, takes) in [(0, 1), (1, 2), (2, 0)] {
        let email = format!("{makes}@example.com");
        let (status, registered) = cluster.send(makes, "", "POST", "/v1/auth/register", words(&email)).await;
        assert_eq!(status, 201, "{registered}");
        let (status, signed_in) = cluster.send(takes, "", "POST", "/v1/auth/login", words(&email)).await;
        assert_eq!(status, 200, "{signed_in}");
        let token = signed_in["data"]["token"].as_str().unwrap();
        assert_eq!(everywhere(&cluster, token).await, [200; 3]);
        assert_eq!(cluster.send(makes, token, "POST", "/v1/auth/logout", None).await.0, 204);
        assert_eq!(everywhere(&cluster, token).await, [401; 3]);
        let first = registered["data"]["token"].as_str().unwrap();
        assert_eq!(everywhere(&cluster, first).await, [200; 3]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_use_of_a_key_is_seen_on_every_node() {
    let cluster = TestCluster::start(3).await;
    eventually("the use of the key", || async {
        let mut seen = Vec::new();
        for index in cluster.running() {
            let (_, list) = cluster.send_with_key(index, "GET", "/v1/api-keys", None).await;
            seen.push(list["data"][0]["last_used_at"].clone());
        }
        if seen.iter().all(Value::is_string) { Ok(()) } else { Err(format!("{seen:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operator_may_ask_any_node() {
    let mut cluster = TestCluster::start(3).await;
    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;

    let made = asked(&cluster, follower, "account create --email Ops@Example.com --plan pro").await;
    assert_eq!((&made["email"], &made["plan"]), (&json!("ops@example.com"), &json!("pro")));
    let id = made["id"].as_str().unwrap();
    let accounts = asked(&cluster, leader, "account list").await;
    let accounts = accounts.as_array().unwrap();
    assert_eq!(accounts.len(), 2, "{accounts:?}");
    assert_eq!((&accounts[0]["plan"], &accounts[0]["email"]), (&json!("scale"), &Value::Null));
    assert_eq!(accounts[1], made);

    for account in [id, "ops@example.com"] {
        let key = asked(&cluster, leader, &format!("key create --account {account} --name ci")).await;
        assert_eq!((&key["account_id"], &key["name"]), (&json!(id), &json!("ci")));
        assert_eq!(everywhere(&cluster, key["key"].as_str().unwrap()).await, [200; 3]);
    }

    // Who was given a password signs in to the dashboard; who was not does not.
    let line = "account create --email ada@example.com --plan free --password-stdin";
    let text = justrun(&cluster, follower, "secret", line, "correct horse\n").await.unwrap();
    let suggested =
        text.lines().find_map(|line| line.trim().strip_prefix("justrun key create --account acc_"));
    let rest = suggested.unwrap_or_else(|| panic!("{text}"));
    assert!(rest.ends_with(&format!(" --rpc-addr {}", cluster.rpc_addr(follower))), "the same node: {text}");
    for (email, password, expected) in [
        ("ada@example.com", "correct horse", 200),
        ("ops@example.com", "correct horse", 401),
        ("ops@example.com", " ", 401),
    ] {
        let words = Some(json!({"email": email, "password": password}));
        let (status, answer) = cluster.send(follower, "", "POST", "/v1/auth/login", words).await;
        assert_eq!(status, expected, "{email}: {answer}");
    }

    // The same as over the REST API, also of what each node says.
    let status = asked(&cluster, leader, "cluster status").await;
    let shown = cluster.send_with_key(leader, "GET", "/v1/cluster", None).await.1["data"].clone();
    for field in ["node_id", "leader_id", "term", "feature_level", "shard_map_version"] {
        assert_eq!(status[field], shown[field], "{field}");
    }
    let names = |value: &Value| -> Vec<String> { value.as_object().unwrap().keys().cloned().collect() };
    assert_eq!(names(&status["members"][0]), names(&shown["members"][0]));
    let table = justrun(&cluster, follower, "secret", "cluster status", "").await.unwrap();
    assert!(table.starts_with(&format!("Node {} says: node {} leads", follower + 1, leader + 1)), "{table}");
    let state = table.lines().nth(1).unwrap_or_default();
    assert!(state.starts_with("Its state after entry ") && state.contains(" has the digest "), "{table}");
    assert_eq!(table.lines().nth(2), Some("The cluster is at feature level 1."));
    assert_eq!(table.lines().count(), 8, "{table}");
    let said = justrun(&cluster, follower, "secret", "cluster upgrade", "").await.unwrap();
    assert_eq!(said, "The cluster is at feature level 1, the highest that all nodes support.\n");

    // What goes wrong is said in one line.
    let error = |result: Result<String, OperateError>| result.unwrap_err().to_string();
    let create = "account create --email ops@example.com --plan pro";
    assert_eq!(
        error(justrun(&cluster, leader, "secret", create, "").await),
        "an account with this email exists already"
    );
    for account in ["acc_00000000001", "eve@example.com"] {
        let line = format!("key create --account {account} --name ci");
        assert_eq!(
            error(justrun(&cluster, leader, "secret", &line, "").await),
            "there is no such account; see justrun account list"
        );
    }
    let refused = justrun(&cluster, leader, "another", "account list", "").await;
    assert!(matches!(refused, Err(OperateError::Node(OperatorError::WrongSecret { .. }))), "{refused:?}");
    let line = format!("account list --rpc-addr {}", cluster.api_addr(leader));
    let refused = justrun(&cluster, leader, "secret", &line, "").await;
    assert!(matches!(refused, Err(OperateError::Node(OperatorError::NotANode { .. }))), "{refused:?}");

    // Without a leader the cluster can still be looked at.
    cluster.kill(leader);
    let refused = justrun(&cluster, leader, "secret", "account list", "").await;
    assert!(matches!(refused, Err(OperateError::Node(OperatorError::Unreachable { .. }))), "{refused:?}");
    cluster.kill(follower);
    let last = (0..3).find(|index| ![leader, follower].contains(index)).unwrap();
    let refused = justrun(&cluster, last, "secret", "account list", "").await;
    assert!(matches!(refused, Err(OperateError::Node(OperatorError::NoLeader))), "{refused:?}");
    let line = "account create --email bob@example.com --plan pro";
    let refused = justrun(&cluster, last, "secret", line, "").await;
    let unsure = [OperatorError::NoLeader, OperatorError::Unknown];
    assert!(
        matches!(&refused, Err(OperateError::Node(error)) if unsure.contains(error)),
        "never said to be done: {refused:?}"
    );
    assert_eq!(asked(&cluster, last, "cluster status").await["members"].as_array().unwrap().len(), 3);
}
