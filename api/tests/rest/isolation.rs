//! Every route with every credential that must not open it. The routes are read from the table itself, so
//! that a new one cannot be forgotten: it is guarded, or it stands in [`OPEN`].

use crate::service::{
    ACCOUNT, FOREIGN_ACCOUNT, FOREIGN_KEY, KEY, NODE, SESSION_KEY, START, Service, request,
};
use axum::body::Body;
use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use domain::channel::{Channel, ChannelConfig, EventKind};
use domain::id::{AccountId, ChannelId};
use hyper::Request;
use hyper::header::AUTHORIZATION;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use raft::command::{Command, CreateChannel};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::time::Duration;
use storage::Read;
use storage::schema::{Channels, Spaces};

const TABLE: &str = include_str!("../../src/routes.rs");

/// What is there for everybody.
const OPEN: [(&str, &str); 9] = [
    ("GET", "/openapi.json"),
    ("GET", "/badges/{id}/status.svg"),
    ("GET", "/badges/{id}/uptime.svg"),
    ("GET", "/healthz"),
    ("GET", "/readyz"),
    ("GET", "/metrics"),
    ("POST", "/v1/auth/register"),
    ("POST", "/v1/auth/login"),
    ("POST", "/v1/billing/stripe/webhook"),
];

/// Every method and path of a table of routes.
fn routes_of(table: &str) -> Vec<(&'static str, String)> {
    const METHODS: [(&str, &str); 5] =
        [("GET", "get("), ("POST", "post("), ("PUT", "put("), ("PATCH", "patch("), ("DELETE", "delete(")];
    let mut routes = Vec::new();
    for route in table.split(".route(").skip(1) {
        let mut depth = 1;
        let end = route.find(|character| {
            depth += i32::from(character == '(') - i32::from(character == ')');
            depth == 0
        });
        let route = &route[..end.expect("parentheses are closed")];
        let path = route.split('"').nth(1).expect("a path is a text");
        let handlers = &route[route.rfind('"').unwrap()..];
        for (method, call) in METHODS {
            let stands_alone = |at: usize| {
                !handlers[..at].ends_with(|before: char| before.is_alphanumeric() || before == '_')
            };
            if handlers.match_indices(call).any(|(at, _)| stands_alone(at)) {
                routes.push((method, path.to_owned()));
            }
        }
    }
    routes
}

/// Every method and path that can be called.
pub(crate) fn routes() -> Vec<(&'static str, String)> {
    routes_of(TABLE)
}

fn guarded() -> Vec<(&'static str, String)> {
    let mut routes = routes_of(TABLE);
    routes.retain(|(method, path)| !OPEN.contains(&(*method, path.as_str())));
    routes
}

#[test]
fn the_table_is_read_whole() {
    let table = r#".route("/a", get(a::get).post(a::create))
        .route(
            "/b/{id}",
            axum::routing::delete(b::forget).patch(b::patch),
        ).route_layer(x())"#;
    let expected = [("GET", "/a"), ("POST", "/a"), ("PATCH", "/b/{id}"), ("DELETE", "/b/{id}")];
    assert_eq!(routes_of(table), expected.map(|(method, path)| (method, path.to_owned())));

    let routes = routes_of(TABLE);
    for (method, path) in OPEN.into_iter().chain([("GET", "/v1/cluster"), ("DELETE", "/v1/api-keys/{id}")]) {
        assert!(routes.contains(&(method, path.to_owned())), "{method} {path}");
    }
    for unread in [".nest(", ".route_service(", ".nest_service(", "any(", "on("] {
        assert!(!TABLE.contains(unread), "{unread} hides routes from this test");
    }
}

/// What stands in place of the id in a path.
struct Things {
    job: String,
    execution: String,
    space: String,
    channel: String,
    key: String,
}

impl Things {
    async fn of_the_account(service: &Service) -> Self {
        let job = service.make_job().await.to_string();
        let run = service.post(&format!("/v1/jobs/{job}/run")).await.data(200);
        let space = service.add_space(1, ACCOUNT, "UTC").await;
        let channel = Channel {
            id: ChannelId(1),
            account: ACCOUNT,
            name: "Engineering Alerts".to_owned(),
            config: ChannelConfig::Email { addresses: vec!["ops@example.com".to_owned()] },
            events: vec![EventKind::Failed],
            last_delivery: None,
            created_at: START,
            updated_at: START,
        };
        let create = Command::CreateChannel(Box::new(CreateChannel { channel }));
        service.cluster().await.propose(create).await.unwrap();
        let keys = service.get("/v1/api-keys").await.data(200);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        Self {
            job,
            execution: text(&run["execution_id"]),
            space,
            channel: ChannelId(1).to_string(),
            key: text(&keys[0]["id"]),
        }
    }

    fn fill(&self, path: &str) -> String {
        let Some(open) = path.find('{') else { return path.to_owned() };
        let id = match &path[..open] {
            "/v1/jobs/" => &self.job,
            "/v1/executions/" => &self.execution,
            "/v1/spaces/" => &self.space,
            "/v1/alerts/channels/" => &self.channel,
            "/v1/api-keys/" => &self.key,
            _ => panic!("say in this test whose id stands in {path}"),
        };
        let close = path.find('}').expect("braces are closed");
        format!("{}{id}{}", &path[..open], &path[close + 1..])
    }

    fn all(&self) -> [&str; 5] {
        [&self.job, &self.execution, &self.space, &self.channel, &self.key]
    }
}

/// The claims of a good token of `account`; `number` names the session.
fn claims(account: AccountId, number: u64) -> Value {
    json!({
        "iss": "justrun",
        "sub": account.to_string(),
        "jti": format!("{number:016x}"),
        "iat": START.as_secs(),
        "exp": START.as_secs() + 3_600,
    })
}

fn sign(algorithm: Algorithm, claims: &Value, key: &[u8]) -> String {
    jsonwebtoken::encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(key)).unwrap()
}

fn good_token(account: AccountId, number: u64) -> String {
    sign(Algorithm::HS256, &claims(account, number), SESSION_KEY)
}

fn unsigned(header: &Value, claims: &Value, signature: &str) -> String {
    let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
    format!("{}.{}.{signature}", part(header), part(claims))
}

/// Values of the `Authorization` header that must open nothing.
async fn bad_credentials(service: &Service) -> Vec<(&'static str, Option<String>)> {
    let created = service.call("POST", "/v1/api-keys", json!({"name": "revoked"})).await.data(201);
    let path = format!("/v1/api-keys/{}", created["id"].as_str().unwrap());
    assert_eq!(service.call("DELETE", &path, Value::Null).await.status.as_u16(), 204);

    let good = good_token(ACCOUNT, 1);
    assert_eq!(service.call_as(&good, "GET", "/v1/jobs", Value::Null).await.status.as_u16(), 200);
    let ended = good_token(ACCOUNT, 2);
    assert_eq!(service.call_as(&ended, "POST", "/v1/auth/logout", Value::Null).await.status.as_u16(), 204);
    let with = |field: &str, value: Value| {
        let mut claims = claims(ACCOUNT, 3);
        claims[field] = value;
        sign(Algorithm::HS256, &claims, SESSION_KEY)
    };
    let (head, signature) = good.rsplit_once('.').unwrap();
    let (header, _) = head.split_once('.').unwrap();
    let foreign = claims(FOREIGN_ACCOUNT, 1).to_string();
    let bearer = |credential: &str| Some(format!("Bearer {credential}"));
    vec![
        ("no header", None),
        ("an empty header", Some(String::new())),
        ("no credential", Some("Bearer".to_owned())),
        ("another scheme", Some(format!("Basic {KEY}"))),
        ("no scheme", Some(KEY.to_owned())),
        ("an unknown key", bearer("jrun_sk_00000000000000000000000000000000")),
        ("a key cut off", bearer(&KEY[..KEY.len() - 1])),
        ("a revoked key", bearer(created["key"].as_str().unwrap())),
        ("an expired token", bearer(&with("exp", json!(START.as_secs())))),
        ("a token without an end", bearer(&with("exp", Value::Null))),
        ("a token of nobody", bearer(&good_token(AccountId(99), 1))),
        ("a token of another issuer", bearer(&with("iss", json!("other")))),
        ("a token that was ended", bearer(&ended)),
        ("a forged token", bearer(&sign(Algorithm::HS256, &claims(ACCOUNT, 3), b"another key"))),
        ("an empty key", bearer(&sign(Algorithm::HS256, &claims(ACCOUNT, 3), b""))),
        ("another algorithm", bearer(&sign(Algorithm::HS512, &claims(ACCOUNT, 3), SESSION_KEY))),
        ("alg none", bearer(&unsigned(&json!({"alg": "none", "typ": "JWT"}), &claims(ACCOUNT, 3), ""))),
        ("alg none, signed", bearer(&unsigned(&json!({"alg": "none"}), &claims(ACCOUNT, 3), signature))),
        ("alg nOnE", bearer(&unsigned(&json!({"alg": "nOnE"}), &claims(ACCOUNT, 3), signature))),
        ("alg RS256", bearer(&unsigned(&json!({"alg": "RS256"}), &claims(ACCOUNT, 3), signature))),
        ("without its signature", bearer(&format!("{head}."))),
        (
            "other claims under its signature",
            bearer(&format!("{header}.{}.{signature}", BASE64_URL_SAFE_NO_PAD.encode(foreign))),
        ),
    ]
}

#[tokio::test]
async fn no_route_opens_to_a_bad_credential() {
    let service = Service::start().await;
    service.add_foreign_account().await;
    let things = Things::of_the_account(&service).await;
    let before = service.cluster().await.state().digest().unwrap();
    let credentials = bad_credentials(&service).await;
    service.caught_up().await;
    let settled = service.cluster().await.state().digest().unwrap();
    assert_ne!(before, settled, "a digest sees changes");
    for (method, path) in guarded() {
        // An address that guesses too much is told to wait for the next minute.
        service.clock.advance(Duration::from_secs(60));
        for (what, header) in &credentials {
            let mut request = request("", method, &things.fill(&path), "{}");
            request.headers_mut().remove(AUTHORIZATION);
            if let Some(header) = header {
                request.headers_mut().insert(AUTHORIZATION, header.parse().unwrap());
            }
            let answer = service.send(request).await;
            let place = format!("{method} {path} with {what}");
            assert_eq!(answer.status.as_u16(), 401, "{place}: {answer:?}");
            assert_eq!(answer.code(401), "unauthorized", "{place}");
            assert_eq!(answer.headers["www-authenticate"], "Bearer realm=\"justrun\"", "{place}");
            let secret = header.as_ref().and_then(|header| header.split_once(' ')).map(|(_, secret)| secret);
            let is_repeated = secret.is_some_and(|secret| !secret.is_empty() && answer.text.contains(secret));
            assert!(!is_repeated, "{place}: {answer:?}");
        }
    }
    assert_eq!(service.cluster().await.state().digest().unwrap(), settled, "nothing has changed");
}

#[tokio::test]
async fn no_route_shows_or_changes_what_is_another_accounts() {
    let service = Service::start().await;
    service.add_foreign_account().await;
    let things = Things::of_the_account(&service).await;
    let job = format!("/v1/jobs/{}", things.job);
    let space = format!("/v1/spaces/{}", things.space);
    let looks = [&job, &format!("{job}/executions"), &space, "/v1/api-keys"];
    let mut before = Vec::new();
    for path in looks {
        before.push(service.get(path).await.data(200));
    }
    let mut number = 0;
    for (method, path) in guarded() {
        // The other account is on the smallest plan.
        service.clock.advance(Duration::from_secs(2));
        number += 1;
        for credential in [FOREIGN_KEY, &good_token(FOREIGN_ACCOUNT, number)] {
            let answer = service.call_as(credential, method, &things.fill(&path), json!({})).await;
            let place = format!("{method} {path}: {answer:?}");
            if path.contains('{') {
                // Not even that it exists.
                assert_eq!(answer.code(404), "not_found", "{place}");
            }
            assert!(answer.status.as_u16() < 500, "{place}");
            assert!(!things.all().iter().any(|id| answer.text.contains(id)), "{place}");
        }
    }
    for (path, before) in looks.into_iter().zip(before) {
        assert_eq!(service.get(path).await.data(200), before, "{path}");
    }
    let state = service.cluster().await.state().view();
    assert!(state.contains::<Channels>(&(ACCOUNT, ChannelId(1))).unwrap());
    assert!(state.contains::<Spaces>(&things.space.parse().unwrap()).unwrap());
}

#[tokio::test]
async fn keys_and_tokens_open_the_same_routes() {
    let mut service = Service::start().await;
    // `/v1/cluster` says who answers.
    service.ask_only(NODE);
    let things = Things::of_the_account(&service).await;
    let mut number = 0;
    let mut seen = BTreeSet::new();
    for (method, path) in guarded() {
        if path == "/v1/auth/logout" {
            continue;
        }
        number += 1;
        // Reads alone: what a write answers depends on the one before.
        if method == "GET" {
            let path = things.fill(&path);
            let by_key = service.get(&path).await;
            let by_token = service.call_as(&good_token(ACCOUNT, number), "GET", &path, Value::Null).await;
            assert_eq!((by_key.status, &by_key.text), (by_token.status, &by_token.text), "{path}");
            assert_eq!(by_key.status.as_u16(), 200, "{path}");
            seen.insert(path);
        }
    }
    assert!(seen.len() >= 6, "{seen:?}");
    // And a write.
    let run = format!("/v1/jobs/{}/run", things.job);
    service.call_as(&good_token(ACCOUNT, 99), "POST", &run, Value::Null).await.data(200);
}

#[tokio::test]
async fn health_needs_no_credential() {
    let service = Service::start().await;
    for (path, part) in [("/healthz", "ok"), ("/readyz", "ready"), ("/metrics", "justrun_raft_term 1")] {
        let answer = service.send(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status.as_u16(), 200);
        assert!(answer.text.contains(part), "{path}: {}", answer.text);
    }
}
