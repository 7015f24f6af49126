//! `/v1/…`: how often an account may ask, whichever node it asks, and what it is told about it.

use crate::nodes::Setup;
use crate::service::{Answer, KEY, NODE, PATIENCE, Service, eventually, request};
use axum::body::Body;
use domain::account::{Plan, Plans};
use domain::id::NodeId;
use futures::future::join_all;
use serde_json::{Value, json};
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
    let mut service = Service::start().await;
    // Each node counts addresses by itself.
    service.ask_only(NODE);
    let guess = || async { service.send(request("jrun_sk_wrong", "GET", "/v1/jobs", Body::empty())).await };
    for _ in 0..600 {
        assert_eq!(guess().await.status.as_u16(), 401);
    }
    assert_eq!(guess().await.code(429), "rate_limit_exceeded");
    // Whoever has a key is not held up by those who guess, and neither is who signs in or looks at a badge.
    assert_eq!(service.send(request(KEY, "GET", "/v1/jobs", Body::empty())).await.status.as_u16(), 200);
    let login = json!({"email": "ops@example.com", "password": "correct horse"});
    assert_eq!(service.call_as("", "POST", "/v1/auth/login", login).await.code(401), "unauthorized");
    let badge = "/badges/job_00000000001/status.svg";
    assert_eq!(service.send(request("", "GET", badge, Body::empty())).await.status.as_u16(), 404);
}

#[tokio::test]
async fn answers_of_no_route_show_where_the_caller_stands() {
    let mut service = Service::start().await;
    service.ask_only(NODE);
    for (method, path, status, left) in
        [("GET", "/v1/nope", 404, 5_999), ("PUT", "/v1/jobs", 405, 5_998), ("GET", "/nope", 404, 5_997)]
    {
        let answer = service.send(request(KEY, method, path, Body::empty())).await;
        assert_eq!(answer.status.as_u16(), status, "{method} {path}");
        assert_eq!(header(&answer, "x-ratelimit-remaining"), left.to_string(), "{method} {path}");
    }
}

fn shown(answer: &Answer) -> [String; 3] {
    ["limit", "remaining", "reset"].map(|name| header(answer, &format!("x-ratelimit-{name}")))
}

/// Asks one node until it refuses; how often it did not.
async fn admitted_by(service: &Service, node: NodeId, path: &str) -> u64 {
    for admitted in 0.. {
        let answer = service.node(node).send(request(KEY, "GET", path, Body::empty())).await;
        match answer.status.as_u16() {
            200 => {}
            429 => return admitted,
            _ => panic!("{answer:?}"),
        }
    }
    unreachable!("a limit is reached")
}

#[tokio::test]
async fn a_limit_holds_over_all_nodes_together() {
    // A node takes three tokens at a time.
    let service = Service::start_on(Plan::Maker).await;
    let mut admitted = 0;
    loop {
        let answer = service.get("/v1/jobs").await;
        if answer.status.as_u16() == 429 {
            break;
        }
        admitted += 1;
    }
    // Never more than the limit under one leader. Less by what the two other nodes may have taken and not spent.
    assert!((300 - 2 * 3..=300).contains(&admitted), "{admitted}");
    for node in [1, 2, 3].map(NodeId) {
        admitted += admitted_by(&service, node, "/v1/jobs").await;
    }
    assert_eq!(admitted, 300, "what a node has taken it gives");
    // In the next minute all of them begin anew, also when one alone is asked.
    service.clock.advance(Duration::from_secs(60));
    assert_eq!(admitted_by(&service, NodeId(2), "/v1/jobs").await, 300);
    assert_eq!(admitted_by(&service, NodeId(3), "/v1/jobs").await, 0);
}

#[tokio::test]
async fn a_limit_holds_against_many_clients_at_once() {
    let service = Service::start_on(Plan::Pro).await;
    let client = async || {
        let mut admitted = 0;
        let mut refused = 0;
        // Each node refuses on its own account.
        while refused < 6 {
            match service.get("/v1/jobs").await.status.as_u16() {
                200 => admitted += 1,
                429 => refused += 1,
                status => panic!("{status}"),
            }
        }
        admitted
    };
    let admitted: Vec<u64> = join_all((0..8).map(|_| client())).await;
    let mut sum = admitted.iter().sum::<u64>();
    for node in [1, 2, 3].map(NodeId) {
        sum += admitted_by(&service, node, "/v1/jobs").await;
    }
    assert_eq!(sum, 1_000, "{admitted:?}");
}

#[tokio::test]
async fn every_refusal_says_where_the_account_stands_and_counts() {
    let service = Service::start_on(Plan::Free).await;
    let job = service.make_job().await;
    let pause = format!("/v1/jobs/{job}/pause");
    service.post(&pause).await.data(200);
    let mut untyped = request(KEY, "POST", "/v1/jobs", "{}");
    untyped.headers_mut().remove("content-type");
    let refusals = [
        (400, service.call_text("POST", "/v1/jobs", "{").await),
        (422, service.get("/v1/jobs?page=0").await),
        (404, service.get("/v1/jobs/job_00000000001").await),
        (409, service.post(&pause).await),
        (413, service.call_text("POST", "/v1/jobs", "a".repeat(1_100_000)).await),
        (415, service.send(untyped).await),
        (422, service.post_once(" ", "/v1/jobs", &json!({})).await),
    ];
    for ((status, answer), remaining) in refusals.into_iter().zip((0..58).rev()) {
        assert_eq!(answer.status.as_u16(), status, "{answer:?}");
        assert_eq!(shown(&answer), ["60", &remaining.to_string(), RESET], "{answer:?}");
        assert!(!answer.headers.contains_key("retry-after"), "{answer:?}");
    }
}

#[tokio::test]
async fn an_operator_may_set_other_limits_or_none() {
    let mut plans = Plans::default();
    plans.free.general_per_minute = None;
    plans.free.run_per_minute = Some(2);
    plans.free.jobs_max = Some(1);
    let service = Service::set_up(Setup { plan: Plan::Free, plans, ..Setup::default() }).await;
    let job = service.make_job().await;
    for _ in 0..70 {
        let answer = service.get("/v1/jobs").await;
        assert_eq!((answer.status.as_u16(), shown(&answer)), (200, [""; 3].map(str::to_owned)));
    }
    let run = format!("/v1/jobs/{job}/run");
    for remaining in ["1", "0"] {
        let answer = service.post(&run).await;
        assert_eq!(
            (answer.status.as_u16(), shown(&answer)),
            (200, ["2", remaining, RESET].map(str::to_owned))
        );
    }
    assert_eq!(service.post(&run).await.code(429), "rate_limit_exceeded");
    let body = json!({"name": "a", "cron_expression": "* * * * *", "url": "https://a.example"});
    assert_eq!(service.call("POST", "/v1/jobs", body).await.code(403), "plan_limit_exceeded");
    let usage = service.get("/v1/billing/usage").await.data(200);
    assert_eq!(usage["jobs"], json!({"used": 1, "limit": 1}));
}

#[tokio::test]
async fn a_new_leader_counts_anew() {
    let setup = Setup { plan: Plan::Free, limit_patience: PATIENCE, ..Setup::mortal() };
    let mut service = Service::set_up(setup).await;
    let leader = service.leader().await;
    let mut admitted = 0;
    for _ in 0..40 {
        admitted += u64::from(service.get("/v1/jobs").await.status.as_u16() == 200);
    }
    assert_eq!(admitted, 40);
    service.kill(leader);
    eventually("an answer", async || {
        let answer = service.get("/v1/jobs").await;
        if answer.status.as_u16() == 200 { Ok(()) } else { Err(format!("{answer:?}")) }
    })
    .await;
    admitted += 1;
    service.leader().await;
    let nodes: Vec<_> = service.nodes().iter().map(|node| node.id).collect();
    for node in &nodes {
        admitted += admitted_by(&service, *node, "/v1/jobs").await;
    }
    // In the minute of the change an account may get as much again.
    assert!((100..=120).contains(&admitted), "{admitted}");
    service.clock.advance(Duration::from_secs(60));
    let mut admitted = 0;
    for node in nodes {
        admitted += admitted_by(&service, node, "/v1/jobs").await;
    }
    assert_eq!(admitted, 60, "the next minute is as any other");
}

#[tokio::test]
async fn a_node_that_finds_no_leader_gives_its_share() {
    let read_timeout = Duration::from_millis(500);
    let mut service = Service::set_up(Setup { plan: Plan::Free, read_timeout, ..Setup::mortal() }).await;
    let leader = service.leader().await;
    service.caught_up().await;
    let last = service.nodes().iter().map(|node| node.id).find(|id| *id != leader).unwrap();
    for node in [1, 2, 3].map(NodeId).into_iter().filter(|id| *id != last) {
        service.kill(node);
    }
    // What needs the others is refused anyway, but counts; the cluster can be looked at.
    let refused = service.get("/v1/jobs").await;
    assert_eq!(refused.code(503), "no_leader");
    assert_eq!(shown(&refused)[..2], ["60", "19"], "{refused:?}");
    assert_eq!(admitted_by(&service, last, "/v1/cluster").await, 60 / 3 - 1);
    service.clock.advance(Duration::from_secs(60));
    assert_eq!(admitted_by(&service, last, "/v1/cluster").await, 60 / 3);
    // One that speaks for nobody is told where its address stands.
    service.clock.advance(Duration::from_secs(60));
    let stranger = service.call_as("jrun_sk_unknown", "GET", "/v1/jobs", Value::Null).await;
    assert_eq!(stranger.code(503), "no_leader");
    assert_eq!(shown(&stranger)[..2], ["600", "599"], "{stranger:?}");
}
