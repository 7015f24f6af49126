use crate::service::{Answer, KEY, Service, request};
use hyper::header::AUTHORIZATION;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const REGISTER: &str = "/v1/auth/register";
const LOGIN: &str = "/v1/auth/login";
const LOGOUT: &str = "/v1/auth/logout";

/// A request without a credential.
async fn ask(service: &Service, path: &str, body: Value) -> Answer {
    ask_once(service, None, path, body).await
}

async fn ask_once(service: &Service, name: Option<&str>, path: &str, body: Value) -> Answer {
    let mut request = request("", "POST", path, body.to_string());
    request.headers_mut().remove(AUTHORIZATION);
    if let Some(name) = name {
        request.headers_mut().insert("idempotency-key", name.parse().unwrap());
    }
    service.send(request).await
}

fn words(email: &str, password: &str) -> Value {
    json!({"email": email, "password": password})
}

#[tokio::test]
async fn who_registers_is_signed_in_on_the_free_plan() {
    let service = Service::start().await;
    let data = ask(&service, REGISTER, words(" Ada@Example.com ", "correct horse")).await.data(201);
    assert_eq!(data.as_object().unwrap().len(), 4);
    assert_eq!(data["email"], "ada@example.com");
    assert_eq!(data["expires_at"], "2026-04-17T14:22:00Z");
    assert!(data["account_id"].as_str().unwrap().starts_with("acc_"));
    let token = data["token"].as_str().unwrap();

    // Just like a key, for an account of its own.
    let jobs = service.call_as(token, "GET", "/v1/jobs", Value::Null).await;
    assert_eq!(jobs.data(200), json!([]));
    let job = |number: u32| json!({"name": format!("{number}"), "cron_expression": "* * * * *", "url": "https://a.example"});
    for number in 0..10 {
        service.call_as(token, "POST", "/v1/jobs", job(number)).await.data(201);
    }
    let refused = service.call_as(token, "POST", "/v1/jobs", job(10)).await;
    assert_eq!(refused.code(403), "plan_limit_exceeded");
    let created = service.call_as(token, "POST", "/v1/api-keys", json!({"name": "a"})).await.data(201);
    let key = created["key"].as_str().unwrap();
    assert_eq!(service.call_as(key, "GET", "/v1/jobs", Value::Null).await.json()["meta"]["total"], 10);
    assert_eq!(service.call_as(token, "GET", "/v1/cluster", Value::Null).await.status.as_u16(), 200);
}

#[tokio::test]
async fn an_address_is_taken_once() {
    let service = Service::start().await;
    service.sign_up("ada@example.com").await;
    for email in ["ada@example.com", "ADA@example.com"] {
        let refused = ask(&service, REGISTER, words(email, "another one")).await;
        assert_eq!(refused.code(409), "conflict");
    }
    // Two at once: both pass the first look, and applying the command decides.
    let (one, two) = tokio::join!(
        ask(&service, REGISTER, words("bob@example.com", "correct horse")),
        ask(&service, REGISTER, words("bob@example.com", "battery staple")),
    );
    let mut codes = [one.status.as_u16(), two.status.as_u16()];
    codes.sort_unstable();
    assert_eq!(codes, [201, 409]);
}

#[tokio::test]
async fn registration_can_be_switched_off() {
    let mut service = Service::start().await;
    service.sign_up("ada@example.com").await;
    service.close_registration();
    for body in [words("bob@example.com", "correct horse"), json!({})] {
        assert_eq!(ask(&service, REGISTER, body).await.code(403), "registration_closed");
    }
    ask(&service, LOGIN, words("ada@example.com", "correct horse")).await.data(200);
}

#[tokio::test]
async fn every_bad_field_is_named() {
    let service = Service::start().await;
    for path in [REGISTER, LOGIN] {
        assert_eq!(ask(&service, path, json!({})).await.faults(400), ["email", "password"]);
        assert_eq!(ask(&service, path, json!("a")).await.faults(400), ["$"]);
        let answer = ask(&service, path, json!({"email": 1, "password": null, "name": "a"})).await;
        assert_eq!(answer.faults(400), ["email", "password", "name"]);
        assert_eq!(ask(&service, path, words("", "")).await.faults(422), ["email", "password"]);
    }
    for email in ["a", "a@", "@b", "a@b@c", "a b@c.d", &format!("{}@b.c", "a".repeat(260))] {
        assert_eq!(ask(&service, REGISTER, words(email, "correct horse")).await.faults(422), ["email"]);
    }
    for password in ["1234567", &"a".repeat(201)] {
        assert_eq!(ask(&service, REGISTER, words("a@b.c", password)).await.faults(422), ["password"]);
    }
    ask(&service, REGISTER, words("a@b.c", &"ä".repeat(200))).await.data(201);
    ask(&service, REGISTER, words("a@b.d", "12345678")).await.data(201);
    let mut untyped = request("", "POST", LOGIN, "{}");
    untyped.headers_mut().remove("content-type");
    assert_eq!(service.send(untyped).await.code(415), "unsupported_media_type");
}

#[tokio::test]
async fn signing_in_takes_the_right_words() {
    let service = Service::start().await;
    service.sign_up("ada@example.com").await;
    service.clock.advance(Duration::from_secs(60));
    let data = ask(&service, LOGIN, words("Ada@example.com", "correct horse")).await.data(200);
    assert_eq!(
        (&data["email"], &data["expires_at"]),
        (&json!("ada@example.com"), &json!("2026-04-17T14:23:00Z"))
    );
    let token = data["token"].as_str().unwrap();
    assert_eq!(service.call_as(token, "GET", "/v1/jobs", Value::Null).await.status.as_u16(), 200);

    let mut messages = std::collections::BTreeSet::new();
    for (email, password) in [
        ("ada@example.com", "correct horse "),
        ("ada@example.com", "Correct horse"),
        ("eve@example.com", "correct horse"),
        ("no address", "correct horse"),
        ("ada@example.com", &"a".repeat(100_000)),
    ] {
        let refused = ask(&service, LOGIN, words(email, password)).await;
        assert_eq!(refused.code(401), "unauthorized", "{email}");
        messages.insert(refused.text);
    }
    assert_eq!(messages.len(), 1, "no answer tells which word was wrong: {messages:?}");
}

#[tokio::test]
async fn how_long_a_refusal_takes_does_not_tell_who_exists() {
    let service = Service::start().await;
    service.sign_up("ada@example.com").await;
    let mut shortest = [Duration::MAX; 2];
    for _ in 0..5 {
        for (email, shortest) in ["ada@example.com", "eve@example.com"].into_iter().zip(&mut shortest) {
            let started = Instant::now();
            assert_eq!(ask(&service, LOGIN, words(email, "battery staple")).await.status.as_u16(), 401);
            *shortest = (*shortest).min(started.elapsed());
        }
    }
    // Without a hash for strangers the second would take next to nothing.
    assert!(shortest[1] > shortest[0] / 4, "{shortest:?}");
}

#[tokio::test]
async fn signing_out_ends_one_session_and_no_other() {
    let service = Service::start().await;
    let first = service.sign_up("ada@example.com").await;
    let data = ask(&service, LOGIN, words("ada@example.com", "correct horse")).await.data(200);
    let second = data["token"].as_str().unwrap();
    assert_ne!(first, second);
    let ended = service.call_as(&first, "POST", LOGOUT, Value::Null).await;
    assert_eq!((ended.status.as_u16(), ended.text.as_str()), (204, ""));
    // `/v1/cluster` goes by what a node knows itself.
    service.caught_up().await;
    for path in [LOGOUT, "/v1/jobs/job_00000000001/run"] {
        assert_eq!(service.call_as(&first, "POST", path, Value::Null).await.code(401), "unauthorized");
    }
    assert_eq!(service.call_as(&first, "GET", "/v1/cluster", Value::Null).await.code(401), "unauthorized");
    assert_eq!(service.call_as(second, "GET", "/v1/jobs", Value::Null).await.status.as_u16(), 200);

    assert_eq!(service.call_as(KEY, "POST", LOGOUT, Value::Null).await.code(409), "conflict");
    assert_eq!(ask(&service, LOGOUT, json!({})).await.code(401), "unauthorized");
}

#[tokio::test]
async fn a_session_ends_by_itself_and_stays_ended() {
    let service = Service::start().await;
    let token = service.sign_up("ada@example.com").await;
    let ended = service.sign_up("bob@example.com").await;
    assert_eq!(service.call_as(&ended, "POST", LOGOUT, Value::Null).await.status.as_u16(), 204);
    let works =
        async |token: &str| service.call_as(token, "GET", "/v1/jobs", Value::Null).await.status.as_u16();
    service.clock.advance(Duration::from_secs(7 * 86_400 - 1));
    assert_eq!(works(&token).await, 200);
    assert_eq!(works(&ended).await, 401);
    service.clock.advance(Duration::from_secs(2));
    assert_eq!(works(&token).await, 401);

    // The state's clock goes on; ended sessions are forgotten by it. A node whose clock is set back
    // must not take the tokens again.
    let other = service.sign_up("eve@example.com").await;
    assert_eq!(service.call_as(&other, "POST", LOGOUT, Value::Null).await.status.as_u16(), 204);
    service.clock.set_back(Duration::from_secs(3_600));
    assert_eq!(works(&token).await, 401);
    assert_eq!(works(&ended).await, 401);
}

#[tokio::test]
async fn a_repeated_request_gets_the_same_token() {
    let service = Service::start().await;
    let ada = || words("ada@example.com", "correct horse");
    let first = ask_once(&service, Some("1"), REGISTER, ada()).await.data(201);
    assert_eq!(ask_once(&service, Some("1"), REGISTER, ada()).await.data(201), first);
    let other = words("ada@example.com", "battery staple");
    assert_eq!(ask_once(&service, Some("1"), REGISTER, other).await.code(409), "conflict");
    // Somebody else may choose the same name.
    ask_once(&service, Some("1"), REGISTER, words("bob@example.com", "correct horse")).await.data(201);

    let login = ask_once(&service, Some("2"), LOGIN, ada()).await.data(200);
    assert_eq!(ask_once(&service, Some("2"), LOGIN, ada()).await.data(200), login);
    assert_ne!(ask_once(&service, Some("3"), LOGIN, ada()).await.data(200)["token"], login["token"]);
    let nonsense = ask_once(&service, Some("4"), LOGIN, json!([])).await;
    assert_eq!(nonsense.faults(400), ["$"]);
}

#[tokio::test]
async fn nothing_that_was_typed_is_said_again() {
    let service = Service::start().await;
    for path in [REGISTER, LOGIN] {
        let answer =
            ask(&service, path, json!({"email": "hush", "password": "hush-hush", "x": "hush"})).await;
        assert!(!answer.text.contains("hush"), "{answer:?}");
    }
}

#[tokio::test]
async fn without_a_leader_nobody_signs_in() {
    let service = Service::start_without_quorum().await;
    for path in [REGISTER, LOGIN] {
        let answer = ask(&service, path, words("ada@example.com", "correct horse")).await;
        assert_eq!(answer.code(503), "no_leader");
    }
}
