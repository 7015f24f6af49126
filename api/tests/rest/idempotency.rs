//! `Idempotency-Key`: a request that is repeated changes nothing more and gets its first answer again.

use crate::service::Service;
use serde_json::{Value, json};
use std::time::Duration;

fn job(name: &str) -> Value {
    json!({"name": name, "cron_expression": "*/5 * * * *", "url": "https://api.example.com/x"})
}

#[tokio::test]
async fn a_job_is_made_once_and_the_answer_is_the_same() {
    let service = Service::start().await;
    let first = service.post_once("k1", "/v1/jobs", &job("a")).await;
    let id = first.data(201)["id"].clone();
    service.clock.advance(Duration::from_secs(23 * 3_600));
    let again = service.post_once("k1", "/v1/jobs", &job("a")).await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    assert_eq!(service.get("/v1/jobs").await.json()["meta"]["total"], 1);

    assert_eq!(service.post_once("k1", "/v1/jobs", &job("b")).await.code(409), "conflict");
    assert_ne!(service.post_once("k2", "/v1/jobs", &job("a")).await.data(201)["id"], id, "another key");
    service.clock.advance(Duration::from_secs(2 * 3_600));
    assert_ne!(service.post_once("k1", "/v1/jobs", &job("a")).await.data(201)["id"], id, "a day is over");
}

#[tokio::test]
async fn a_run_is_made_once_and_a_pause_is_not_its_own_conflict() {
    let service = Service::start().await;
    let id = service.make_job().await;
    let run = format!("/v1/jobs/{id}/run");
    let first = service.post_once("r", &run, &json!({})).await.data(200);
    assert_eq!(service.post_once("r", &run, &json!({})).await.data(200), first);
    assert_eq!(service.get(&format!("/v1/jobs/{id}/executions")).await.json()["meta"]["total"], 1);

    let pause = format!("/v1/jobs/{id}/pause");
    let paused = service.post_once("p", &pause, &json!({})).await.data(200);
    assert_eq!(service.post_once("p", &pause, &json!({})).await.data(200), paused);
    assert_eq!(service.post_once("p2", &pause, &json!({})).await.code(409), "conflict");
    // What was refused left no trace, so the same name can still do it.
    let resume = format!("/v1/jobs/{id}/resume");
    service.post_once("p3", &resume, &json!({})).await.data(200);
    service.post_once("p2", &pause, &json!({})).await.data(200);
}

#[tokio::test]
async fn repetitions_at_the_same_time_make_one_job() {
    let service = Service::start().await;
    let body = job("a");
    let posts = (0..8).map(|_| service.post_once("same", "/v1/jobs", &body));
    let answers = futures::future::join_all(posts).await;
    for answer in &answers {
        assert_eq!(answer.text, answers[0].text);
        answer.data(201);
    }
    assert_eq!(service.get("/v1/jobs").await.json()["meta"]["total"], 1);
}

#[tokio::test]
async fn a_name_that_is_none_is_refused() {
    let service = Service::start().await;
    for name in ["", " ", &"x".repeat(256)] {
        assert_eq!(service.post_once(name, "/v1/jobs", &job("a")).await.faults(422), ["Idempotency-Key"]);
    }
    // What is wrong with the request is said each time, and leaves the name free.
    assert_eq!(service.post_once("k", "/v1/jobs", &json!({"name": 7})).await.status.as_u16(), 400);
    service.post_once("k", "/v1/jobs", &job("a")).await.data(201);
}
