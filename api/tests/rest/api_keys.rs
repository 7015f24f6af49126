use crate::service::{FOREIGN_ACCOUNT, FOREIGN_KEY, KEY, NODE, Service};
use domain::id::KeyId;
use domain::limits;
use serde_json::{Value, json};
use std::time::Duration;

fn key_of(created: &Value) -> String {
    created["key"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn a_key_is_shown_once_as_documented_and_works_at_once() {
    let service = Service::start().await;
    let created = service.call("POST", "/v1/api-keys", json!({"name": "Deploy Script"})).await.data(201);
    let names: Vec<_> = created.as_object().unwrap().keys().collect();
    assert_eq!(names.len(), 4, "{names:?}");
    assert!(created["id"].as_str().unwrap().starts_with("key_"));
    assert_eq!(created["name"], "Deploy Script");
    assert_eq!(created["created_at"], "2026-04-10T14:22:00Z");
    let key = key_of(&created);
    let digits = key.strip_prefix("jrun_sk_").unwrap();
    assert!(digits.len() == 32 && digits.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{key}");
    assert_eq!(service.call_as(&key, "GET", "/v1/jobs", Value::Null).await.status.as_u16(), 200);

    let list = service.get("/v1/api-keys").await;
    assert!(!list.text.contains(digits), "the key is shown once");
    let shown = list.data(200)[0].clone();
    let expected = json!({
        "id": created["id"],
        "name": "Deploy Script",
        "prefix": "jrun_sk_",
        "last_four": &key[key.len() - 4..],
        "last_used_at": null,
        "created_at": "2026-04-10T14:22:00Z",
    });
    assert_eq!(shown, expected);
    assert!(list.json().get("meta").is_none(), "keys come whole");
}

#[tokio::test]
async fn keys_are_listed_newest_first_and_for_their_account_alone() {
    let service = Service::start().await;
    service.add_foreign_account().await;
    for name in ["one", "two", "three"] {
        service.clock.advance(Duration::from_secs(1));
        service.call("POST", "/v1/api-keys", json!({"name": name})).await.data(201);
    }
    let names = |list: Value| -> Vec<String> {
        let list = list.as_array().unwrap().clone();
        list.iter().map(|key| key["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names(service.get("/v1/api-keys").await.data(200)), ["three", "two", "one", "test"]);
    let foreign = service.call_as(FOREIGN_KEY, "GET", "/v1/api-keys", Value::Null).await.data(200);
    assert_eq!(names(foreign), ["test"]);
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_and_for_ever() {
    let service = Service::start().await;
    service.add_foreign_account().await;
    let created = service.call("POST", "/v1/api-keys", json!({"name": "a"})).await.data(201);
    let (key, path) = (key_of(&created), format!("/v1/api-keys/{}", created["id"].as_str().unwrap()));

    let foreign = service.call_as(FOREIGN_KEY, "DELETE", &path, Value::Null).await;
    assert_eq!(foreign.code(404), "not_found");
    assert_eq!(service.call_as(&key, "GET", "/v1/jobs", Value::Null).await.status.as_u16(), 200);

    // A key may revoke itself.
    let revoked = service.call_as(&key, "DELETE", &path, Value::Null).await;
    assert_eq!((revoked.status.as_u16(), revoked.text.as_str()), (204, ""));
    // `/v1/cluster` goes by what a node knows itself.
    service.caught_up().await;
    for path in ["/v1/jobs", "/v1/cluster", "/v1/api-keys"] {
        assert_eq!(service.call_as(&key, "GET", path, Value::Null).await.code(401), "unauthorized");
    }
    assert_eq!(service.call("DELETE", &path, Value::Null).await.code(404), "not_found");
    for id in ["key_0", "job_00000000001", "key_ääääääääääa", &KeyId(9).to_string()] {
        let answer = service.call("DELETE", &format!("/v1/api-keys/{}", urlencoded(id)), Value::Null).await;
        assert_eq!(answer.code(404), "not_found", "{id}");
    }
}

fn urlencoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect()
}

#[tokio::test]
async fn every_bad_field_is_named() {
    let service = Service::start().await;
    let answer = |body: Value| service.call("POST", "/v1/api-keys", body);
    assert_eq!(answer(json!({})).await.faults(400), ["name"]);
    assert_eq!(answer(json!([])).await.faults(400), ["$"]);
    assert_eq!(answer(json!({"name": 1})).await.faults(400), ["name"]);
    assert_eq!(answer(json!({"name": null})).await.faults(400), ["name"]);
    assert_eq!(answer(json!({"nmae": "a"})).await.faults(400), ["name", "nmae"]);
    assert_eq!(answer(json!({"name": " "})).await.faults(422), ["name"]);
    assert_eq!(answer(json!({"name": "a\nb"})).await.faults(422), ["name"]);
    assert_eq!(answer(json!({"name": "ä".repeat(101)})).await.faults(422), ["name"]);
    answer(json!({"name": "ä".repeat(100)})).await.data(201);
    // What was read can be sent again.
    let read = service.get("/v1/api-keys").await.data(200)[0].clone();
    answer(read).await.data(201);
}

#[tokio::test]
async fn an_account_has_a_bounded_number_of_keys() {
    let service = Service::start().await;
    for _ in 1..limits::KEYS_MAX {
        service.call("POST", "/v1/api-keys", json!({"name": "a"})).await.data(201);
    }
    let refused = service.call("POST", "/v1/api-keys", json!({"name": "a"})).await;
    assert_eq!(refused.code(409), "conflict");
    assert_eq!(refused.message(), "an account has at most 100 API keys");
    assert_eq!(service.get("/v1/api-keys").await.data(200).as_array().unwrap().len(), limits::KEYS_MAX);
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_key() {
    let service = Service::start().await;
    let body = json!({"name": "a"});
    let first = service.post_once("deploy-1", "/v1/api-keys", &body).await.data(201);
    let again = service.post_once("deploy-1", "/v1/api-keys", &body).await.data(201);
    assert_eq!(first, again);
    assert_eq!(service.get("/v1/api-keys").await.data(200).as_array().unwrap().len(), 2);
    let other = service.post_once("deploy-1", "/v1/api-keys", &json!({"name": "b"})).await;
    assert_eq!(other.code(409), "conflict");
}

#[tokio::test]
async fn the_last_use_is_written_down_at_most_once_a_minute() {
    let mut service = Service::start().await;
    service.add_foreign_account().await;
    // Each node writes down what it has noted itself.
    service.ask_only(NODE);
    let last_use = || async { service.get("/v1/api-keys").await.data(200)[0]["last_used_at"].clone() };
    let applied = || service.node(NODE).cluster.status().applied;

    assert_eq!(last_use().await, Value::Null, "a request never waits for it");
    service.call_as(FOREIGN_KEY, "GET", "/v1/jobs", Value::Null).await;
    let before = applied();
    service.write_down_key_use().await;
    assert_eq!(applied(), before + 1, "one entry for all keys");
    assert_eq!(last_use().await, "2026-04-10T14:22:00Z");

    service.clock.advance(Duration::from_secs(59));
    service.get("/v1/jobs").await;
    let before = applied();
    service.write_down_key_use().await;
    assert_eq!(applied(), before, "nothing new");
    service.clock.advance(Duration::from_secs(1));
    service.call_as(KEY, "GET", "/v1/cluster", Value::Null).await;
    service.write_down_key_use().await;
    assert_eq!(last_use().await, "2026-04-10T14:23:00Z");
    // The other account's key was used, too, and nothing else about it has changed.
    let foreign = service.call_as(FOREIGN_KEY, "GET", "/v1/api-keys", Value::Null).await.data(200);
    assert_eq!(foreign[0]["id"], KeyId(FOREIGN_ACCOUNT.0).to_string());
    assert_eq!(foreign[0]["last_used_at"], "2026-04-10T14:22:00Z");
}

#[tokio::test]
async fn uses_wait_while_there_is_no_leader() {
    let service = Service::start_without_quorum().await;
    // Nobody is known here, so nothing is noted; the service ends all the same.
    service.get("/v1/cluster").await;
    service.write_down_key_use().await;
}
