//! `/v1/…`: how often an account may ask, and what it is told about it.

use crate::service::{Answer, KEY, Service, request};
use axum::body::Body;
use domain::account::Plan;
use std::time::Duration;

/// The service starts with a minute.
const RESET: &str = "1775830980";

fn header(answer: &Answer, name: &str) -> String {
    answer.headers.get(name).map_or_else(String::new, |value| value.to_str().unwrap().to_owned())
}

#[tokio::test]
async fn every_answer_says_where_the_account_stands() {
    let service = Service::start_on(Plan::Free).await;
    let first = service.get("/v1/jobs").await;
    assert_eq!(first.status.as_u16(), 200);
    let shown = |answer: &Answer| {
        ["limit", "remaining", "reset"].map(|name| header(answer, &format!("x-ratelimit-{name}")))
    };
    assert_eq!(shown(&first), ["60", "59", RESET]);
    // What is refused for another reason counts as well.
    let second = service.get("/v1/jobs/job_00000000001").await;
    assert_eq!(
        (second.code(404).as_str(), shown(&second)),
        ("not_found", ["60", "58", RESET].map(str::to_owned))
    );
    assert_eq!(shown(&service.get("/v1/cluster").await), ["60", "57", RESET]);
}

#[tokio::test]
async fn one_request_too_many_is_told_when_to_come_back() {
    let service = Service::start_on(Plan::Free).await;
    for number in 0..60 {
        assert_eq!(service.get("/v1/jobs").await.status.as_u16(), 200, "request {number}");
    }
    let refused = service.get("/v1/jobs").await;
    assert_eq!(refused.code(429), "rate_limit_exceeded");
    assert_eq!(header(&refused, "retry-after"), "60");
    assert_eq!(header(&refused, "x-ratelimit-remaining"), "0");
    let error = refused.json()["error"].clone();
    assert_eq!(error["retry_after"], 60);
    assert_eq!(error["message"], "Too many requests. Please retry after 60 seconds.");

    service.clock.advance(Duration::from_secs(59));
    assert_eq!(header(&service.get("/v1/jobs").await, "retry-after"), "1");
    service.clock.advance(Duration::from_secs(1));
    assert_eq!(service.get("/v1/jobs").await.status.as_u16(), 200, "the next minute");
}

#[tokio::test]
async fn manual_runs_have_a_limit_of_their_own() {
    let service = Service::start_on(Plan::Free).await;
    let job = service.make_job().await;
    let path = format!("/v1/jobs/{job}/run");
    for left in (0..5).rev() {
        let answer = service.post(&path).await;
        assert_eq!(answer.status.as_u16(), 200);
        assert_eq!(header(&answer, "x-ratelimit-limit"), "5");
        assert_eq!(header(&answer, "x-ratelimit-remaining"), left.to_string());
    }
    assert_eq!(service.post(&path).await.code(429), "rate_limit_exceeded");
    assert_eq!(service.get("/v1/jobs").await.status.as_u16(), 200, "other requests go on");
}

#[tokio::test]
async fn guessing_keys_is_limited_by_address() {
    let service = Service::start().await;
    let guess = || async { service.send(request("jrun_sk_wrong", "GET", "/v1/jobs", Body::empty())).await };
    for _ in 0..600 {
        assert_eq!(guess().await.status.as_u16(), 401);
    }
    assert_eq!(guess().await.code(429), "rate_limit_exceeded");
    // Whoever has a key is not held up by those who guess.
    assert_eq!(service.send(request(KEY, "GET", "/v1/jobs", Body::empty())).await.status.as_u16(), 200);
}
