//! Requests that nobody means well with, by the thousand: each gets a documented answer in time, and one that was
//! refused has changed nothing.
//!
//! The same requests every time: `FUZZ_SEED=7 FUZZ_COUNT=100000 cargo test …` makes others, or more. A failure says
//! which.

mod mutation; // what becomes of a body

use crate::outside::{CRONJOB_ORG, EASYCRON, Fault, stripe};
use crate::service::{ACCOUNT, Answer, KEY, START, Service};
use axum::body::Body;
use hyper::Request;
use hyper::header::{HeaderName, HeaderValue};
use mutation::{mutated, pick, some_text, spoil};
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

/// Of the requests made when nobody asks for others.
const SEED: u64 = 20_260_410;
/// For one answer, on a machine that has other things to do as well.
const PATIENCE: Duration = Duration::from_secs(10);
/// What a client may be answered. 502 is for the services outside.
const STATUSES: [u16; 15] = [200, 201, 204, 400, 401, 403, 404, 405, 408, 409, 413, 415, 422, 429, 502];
/// Answers that are no JSON, by the start of their path.
const NO_JSON: [&str; 2] = ["/badges/", "/metrics"];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// The requests of one test.
struct Requests {
    seed: u64,
    count: u64,
}

impl Requests {
    fn new(count: u64) -> Self {
        Self { seed: setting("FUZZ_SEED", SEED), count: setting("FUZZ_COUNT", count) }
    }

    /// Each with what it is made of.
    fn each(&self) -> impl Iterator<Item = (String, SmallRng)> {
        let seed = self.seed;
        (0..self.count).map(move |number| {
            let random = SmallRng::seed_from_u64(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number);
            (format!("FUZZ_SEED={seed}, number {number}"), random)
        })
    }
}

/// A request as text, for whoever has to find out what was wrong.
fn shown(request: &Request<()>, body: &[u8]) -> String {
    let text: String = String::from_utf8_lossy(body).chars().take(2_000).collect();
    format!("{} {} {:?} {text:?}", request.method(), request.uri(), request.headers())
}

/// A service, and what its account has by the last look at it.
struct Watched {
    service: Service,
    digest: u64,
    has: Vec<String>,
}

impl Watched {
    async fn start() -> (Self, Things) {
        let service = Service::start_unlimited().await;
        let things = Things::new(&service).await;
        let digest = service.cluster().await.state().digest().unwrap();
        let has = lists(&service).await;
        (Self { service, digest, has }, things)
    }

    /// Sends a request, and holds the answer against what is promised of all answers.
    async fn check(&mut self, name: &str, request: Request<()>, body: Vec<u8>) -> Answer {
        let shown = shown(&request, &body);
        let path = request.uri().path().to_owned();
        let is_head = request.method() == "HEAD";
        let sent = self.service.send(request.map(|()| Body::from(body)));
        let answer = timeout(PATIENCE, sent).await.unwrap_or_else(|_| panic!("{name}: no answer to {shown}"));
        let status = answer.status.as_u16();
        assert!(STATUSES.contains(&status), "{name}: {answer:?} to {shown}");
        let digest = self.service.cluster().await.state().digest().unwrap();
        if digest != self.digest {
            // It changes also when a proposal is refused: the refusal is remembered for whoever asks again.
            let has = lists(&self.service).await;
            assert!(status < 400 || has == self.has, "{name}: something changed, with {answer:?} to {shown}");
            (self.digest, self.has) = (digest, has);
        }
        let is_json = !is_head && status != 204 && !NO_JSON.iter().any(|start| path.starts_with(start));
        if is_json {
            check_shape(&answer).unwrap_or_else(|wrong| panic!("{name}: {wrong}: {answer:?} to {shown}"));
        }
        answer
    }
}

/// Everything that an account can see of what it has.
async fn lists(service: &Service) -> Vec<String> {
    let mut texts = Vec::new();
    for path in ["/v1/jobs/export", "/v1/spaces", "/v1/alerts/channels", "/v1/api-keys", "/v1/billing/usage"]
    {
        let answer = service.get(path).await;
        assert_eq!(answer.status.as_u16(), 200, "{path}: {answer:?}");
        texts.push(answer.text);
    }
    texts
}

fn check_shape(answer: &Answer) -> Result<(), &'static str> {
    let body: Value = serde_json::from_str(&answer.text).map_err(|_| "no JSON")?;
    if answer.status.is_success() {
        return Ok(());
    }
    let error = &body["error"];
    let code = error["code"].as_str().ok_or("no code")?;
    if error["message"].as_str().is_none_or(str::is_empty) {
        return Err("no message");
    }
    let Some(details) = error.get("details") else {
        return if code == "validation_error" { Err("no details") } else { Ok(()) };
    };
    let details = details.as_array().filter(|details| !details.is_empty()).ok_or("no details")?;
    let is_whole = |detail: &Value| detail["field"].is_string() && detail["issue"].is_string();
    if details.iter().all(is_whole) { Ok(()) } else { Err("a detail without a field or an issue") }
}

fn request(method: &str, path: &str) -> Request<()> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", format!("Bearer {KEY}"))
        .header("content-type", "application/json")
        .body(())
        .unwrap()
}

/// What an account has that requests can name.
struct Things {
    job: String,
    space: String,
    channel: String,
}

impl Things {
    async fn new(service: &Service) -> Self {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let space = service.call("POST", "/v1/spaces", json!({"name": "Production"})).await.data(201);
        let channel = json!({"type": "email", "name": "On-Call", "config": {"addresses": ["a@b.example"]}});
        let channel = service.call("POST", "/v1/alerts/channels", channel).await.data(201);
        let job = service.make_job().await.to_string();
        Self { job, space: text(&space["id"]), channel: text(&channel["id"]) }
    }

    /// Every route that reads a body, with a documented one.
    fn documented(&self) -> Vec<(&'static str, String, Value)> {
        let Self { job, space, channel } = self;
        let whole_job = json!({
            "name": "Daily DB Backup", "cron_expression": "0 3 * * *", "url": "https://api.example.com/backup",
            "method": "POST", "timezone": "America/New_York", "timeout_sec": 60, "retry_policy": "exponential",
            "retry_max": 3, "retry_delay_sec": 60, "tags": ["production", "database"], "space_id": space,
            "headers": {"X-Api-Key": "secret123", "X-Run": "{{execution_id}}"}, "body": "{\"full\": true}",
            "store_response_body": true, "alert_channel_ids": [channel], "overlap_policy": "skip",
            "misfire_policy": "run_once", "delivery": "at_least_once",
        });
        let channel_of = |kind: &str, config: Value| json!({"type": kind, "name": "Alerts", "config": config, "events": ["job.failed"]});
        let slack =
            channel_of("slack", json!({"webhook_url": "https://hooks.slack.com/services/T00/B00/xxx"}));
        let webhook = json!({"url": "https://hooks.example.com/in", "secret": "whsec_0123456789abcdef"});
        let pager = json!({"url": "https://events.pagerduty.com/v2/enqueue", "routing_key": "R0123456789abcdef0123456789abcdef"});
        let jobs = "/v1/jobs".to_owned();
        let channels = "/v1/alerts/channels".to_owned();
        let import = json!({"jobs": [whole_job, {"name": "a", "cron_expression": "* * * * *", "url": "https://a.example"}], "space_id": space});
        let person = json!({"email": "ops@example.com", "password": "correct horse"});
        vec![
            ("POST", jobs, whole_job.clone()),
            ("PATCH", format!("/v1/jobs/{job}"), whole_job),
            (
                "POST",
                "/v1/jobs/bulk".to_owned(),
                json!({"action": "pause", "job_ids": [job, "job_7kR3mNxQ2v"]}),
            ),
            ("POST", format!("/v1/jobs/{job}/run"), json!({})),
            ("POST", format!("/v1/jobs/{job}/pause"), json!({})),
            ("POST", format!("/v1/jobs/{job}/resume"), json!({})),
            ("POST", "/v1/spaces".to_owned(), json!({"name": "Staging", "timezone": "Europe/Berlin"})),
            ("PATCH", format!("/v1/spaces/{space}"), json!({"name": "Staging", "timezone": "UTC"})),
            ("POST", channels.clone(), slack.clone()),
            ("POST", channels.clone(), channel_of("webhook", webhook)),
            ("POST", channels.clone(), channel_of("webhook", pager)),
            ("POST", channels, channel_of("email", json!({"addresses": ["ops@example.com"]}))),
            ("PATCH", format!("/v1/alerts/channels/{channel}"), slack),
            ("POST", format!("/v1/alerts/channels/{channel}/test"), json!({})),
            ("POST", "/v1/api-keys".to_owned(), json!({"name": "CI/CD Pipeline"})),
            ("POST", "/v1/auth/register".to_owned(), person.clone()),
            ("POST", "/v1/auth/login".to_owned(), person),
            ("POST", "/v1/billing/checkout".to_owned(), json!({"price_id": "price_pro_monthly"})),
            ("POST", "/v1/billing/portal".to_owned(), json!({})),
            ("POST", "/v1/migrate/json".to_owned(), import),
            (
                "POST",
                "/v1/migrate/easycron".to_owned(),
                json!({"api_key": "ec_your_easycron_api_key", "space_id": space}),
            ),
            ("POST", "/v1/migrate/cronjob-org".to_owned(), json!({"api_key": "co_key", "space_id": null})),
        ]
    }
}

#[tokio::test]
async fn mutated_bodies_get_documented_answers() {
    let (mut watched, things) = Watched::start().await;
    let documented = things.documented();
    let mut refused = 0;
    let requests = Requests::new(3_000);
    for (name, mut random) in requests.each() {
        let (method, path, body) = pick(&documented, &mut random);
        // Each of these takes a while by design: a password is hashed, or another service is read politely.
        if (path.contains("/auth/") || path.contains("/migrate/")) && random.random_bool(0.9) {
            continue;
        }
        let body = mutated(body, &mut random);
        let answer = watched.check(&name, request(method, path), body).await;
        refused += u64::from(!answer.status.is_success());
    }
    assert!(refused > requests.count / 4, "only {refused} were refused: the mutations are too tame");
}

/// Paths whose ids and queries are made up.
const PATHS: [&str; 22] = [
    "/v1/jobs",
    "/v1/jobs/{}",
    "/v1/jobs/{}/run",
    "/v1/jobs/{}/pause",
    "/v1/jobs/{}/executions",
    "/v1/jobs/sparklines",
    "/v1/jobs/export",
    "/v1/jobs/bulk",
    "/v1/executions/{}",
    "/v1/executions/{}/diagnosis",
    "/v1/spaces",
    "/v1/spaces/{}",
    "/v1/spaces/{}/resume",
    "/v1/alerts/channels/{}",
    "/v1/alerts/channels/{}/test",
    "/v1/api-keys/{}",
    "/v1/billing/usage",
    "/v1/cluster",
    "/v1/{}",
    "/{}",
    "/badges/{}/status.svg",
    "/badges/{}/uptime.svg",
];
const METHODS: [&str; 9] = ["GET", "GET", "GET", "HEAD", "POST", "PATCH", "DELETE", "PUT", "OPTIONS"];
const IDS: [&str; 14] = [
    "",
    "job_",
    "job_0000000000",
    "job_zzzzzzzzzzz",
    "job_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
    "exec_00000000000000000000000000000000",
    "sp_0000000001",
    "ch_1",
    "key_00000000000",
    "%00",
    "%ff%fe",
    "..%2f..%2fetc",
    "%F0%9F%98%80",
    "-1",
];
const QUERIES: [&str; 24] = [
    "page=1",
    "page=0",
    "page=-1",
    "page=18446744073709551616",
    "page=4294967295&per_page=100",
    "page=1&page=2",
    "page=",
    "page",
    "per_page=0",
    "per_page=101",
    "per_page=1e2",
    "status=active",
    "status=ACTIVE",
    "status=%00",
    "space_id=sp_0000000001",
    "space_id=null",
    "search=%",
    "search=%zz%",
    "search=%ff",
    "tag=%F0%9F%98%80",
    "tag=a&tag=b",
    "=",
    "&&&&",
    "a=b=c&d",
];

/// Text as it may stand in a URL that can be parsed at all.
fn in_url(text: &str) -> String {
    let keeps = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=:@".contains(&byte);
    text.bytes()
        .map(|byte| if keeps(byte) { char::from(byte).to_string() } else { format!("%{byte:02x}") })
        .collect()
}

fn some_id(random: &mut SmallRng, known: &str) -> String {
    match random.random_range(0..5) {
        0 => in_url(known),
        1 | 2 => (*pick(&IDS, random)).to_owned(),
        3 => in_url(&some_text(random)),
        _ => {
            let mut bytes = known.as_bytes().to_vec();
            spoil(&mut bytes, random);
            bytes.iter().map(|byte| format!("%{byte:02x}")).collect()
        }
    }
}

fn some_query(random: &mut SmallRng) -> String {
    let parts = (0..random.random_range(0..4)).map(|_| match random.random_range(0..4) {
        0 => in_url(&some_text(random)),
        1 => {
            format!("{}={}", pick(&["page", "per_page", "status", "tag"], random), in_url(&some_text(random)))
        }
        _ => (*pick(&QUERIES, random)).to_owned(),
    });
    parts.collect::<Vec<_>>().join("&")
}

#[tokio::test]
async fn made_up_paths_and_queries_get_documented_answers() {
    let (mut watched, things) = Watched::start().await;
    for (name, mut random) in Requests::new(3_000).each() {
        let path = *pick(&PATHS, &mut random);
        let known = match path {
            path if path.starts_with("/v1/spaces") => &things.space,
            path if path.starts_with("/v1/alerts") => &things.channel,
            _ => &things.job,
        };
        let path = path.replace("{}", &some_id(&mut random, known));
        let query = some_query(&mut random);
        let target = if random.random_bool(0.5) { path } else { format!("{path}?{query}") };
        let method = *pick(&METHODS, &mut random);
        let answer = watched.check(&name, request(method, &target), Vec::new()).await;
        assert!(!answer.text.contains("<script"), "{name}: {answer:?}");
    }
}

/// Values of a header, of which few are one.
fn some_header_value(random: &mut SmallRng) -> HeaderValue {
    const VALUES: [&[u8]; 16] = [
        b"",
        b" ",
        b"Bearer",
        b"Bearer ",
        b"bearer jrun_sk_ffffffffffffffffffffffffffffffff",
        b"Basic dXNlcjpwYXNz",
        b"Bearer a.b.c",
        b"Bearer eyJhbGciOiJub25lIn0.e30.",
        b"application/json; charset=utf-8",
        b"application/json, text/html",
        b"text/plain",
        b"application/x-www-form-urlencoded",
        b"APPLICATION/JSON",
        b"multipart/form-data; boundary=\"",
        b"gzip",
        b"\xff\xfe\x80",
    ];
    let bytes = match random.random_range(0..4) {
        0 => vec![b'x'; random.random_range(0..2_000)],
        1 => some_text(random).into_bytes(),
        _ => pick(&VALUES, random).to_vec(),
    };
    HeaderValue::from_bytes(&bytes).unwrap_or_else(|_| HeaderValue::from_static("?"))
}

#[tokio::test]
async fn made_up_headers_get_documented_answers() {
    const NAMES: [&str; 12] = [
        "authorization",
        "content-type",
        "idempotency-key",
        "accept",
        "accept-encoding",
        "content-encoding",
        "expect",
        "host",
        "x-forwarded-for",
        "if-none-match",
        "content-length",
        "stripe-signature",
    ];
    let (mut watched, things) = Watched::start().await;
    let mut documented = things.documented();
    documented.retain(|(_, path, _)| !path.contains("/auth/") && !path.contains("/migrate/"));
    documented.push(("GET", format!("/badges/{}/status.svg", things.job), Value::Null));
    documented.push(("POST", "/v1/billing/stripe/webhook".to_owned(), json!({"id": "evt_1"})));
    for (name, mut random) in Requests::new(1_500).each() {
        let (method, path, body) = pick(&documented, &mut random);
        let mut request = request(method, path);
        for _ in 0..random.random_range(1..4) {
            let header = HeaderName::from_static(pick::<&str>(&NAMES, &mut random));
            let value = some_header_value(&mut random);
            if random.random_bool(0.7) {
                request.headers_mut().insert(header, value);
            } else {
                request.headers_mut().append(header, value);
            }
        }
        watched.check(&name, request, body.to_string().into_bytes()).await;
    }
}

#[tokio::test]
async fn badges_show_nothing_of_what_was_asked() {
    let (mut watched, _) = Watched::start().await;
    for (name, mut random) in Requests::new(500).each() {
        let known = "job_<svg onload=alert(1)>&\"'";
        let id = match random.random_range(0..3) {
            0 => in_url(known),
            1 => in_url(&some_text(&mut random)).replace("%2f", "_"),
            _ => some_id(&mut random, known).replace("%2f", "_"),
        };
        // What is no path segment is no badge.
        let id = if id.is_empty() { "-".to_owned() } else { id };
        for kind in ["status", "uptime"] {
            let path = format!("/badges/{id}/{kind}.svg");
            let answer = watched.check(&name, request("GET", &path), Vec::new()).await;
            assert_eq!(answer.status.as_u16(), 404, "{name}: {path}: {answer:?}");
            assert_eq!(answer.headers["content-type"], "image/svg+xml", "{name}: {path}");
            assert!(is_well_formed(&answer.text), "{name}: {path}: {}", answer.text);
            for part in ["onload", "alert", "<script", id.as_str()] {
                // An id as short as "-" or "1" stands in any drawing.
                assert!(part.len() < 6 || !answer.text.contains(part), "{name}: {path}: {}", answer.text);
            }
        }
    }
}

/// Whether tags are closed in the order in which they were opened, and nothing stands open.
fn is_well_formed(svg: &str) -> bool {
    let mut open = Vec::new();
    let mut rest = svg;
    while let Some(start) = rest.find('<') {
        let Some(end) = rest[start..].find('>') else { return false };
        let tag = &rest[start + 1..start + end];
        if !tag.matches('"').count().is_multiple_of(2) || tag.contains('<') {
            return false;
        }
        match (tag.strip_prefix('/'), tag.ends_with('/')) {
            (Some(name), _) => {
                if open.pop() != Some(name) {
                    return false;
                }
            }
            (None, true) => {}
            (None, false) => open.push(tag.split_whitespace().next().unwrap_or_default()),
        }
        rest = &rest[start + end + 1..];
    }
    let entities = ["&amp;", "&lt;", "&gt;", "&quot;", "&#"];
    let escaped =
        svg.match_indices('&').all(|(at, _)| entities.iter().any(|entity| svg[at..].starts_with(entity)));
    open.is_empty() && escaped && !rest.contains('>')
}

#[tokio::test]
async fn nonsense_from_other_services_is_a_502_or_a_listed_job() {
    let (mut watched, _) = Watched::start().await;
    let easycron = json!({
        "cron_jobs": [{
            "cron_job_id": 1, "cron_job_name": "Backup", "url": "https://api.example.com/run", "http_auth_user": "u",
            "http_auth_pw": "p", "cron_expression": "*/20 * * * *", "timezone": "Europe/Berlin", "http_method": "POST",
            "http_headers": "X-A: 1\nX-B: 2", "http_message_body": "a", "timeout": 30, "success_criterion": 1, "status": 1,
        }],
        "meta": {"page": 1, "page_size": 100, "result_count": 1, "total_count": 1},
    });
    let list = json!({"jobs": [{"jobId": 1, "title": "Backup", "enabled": true, "url": "https://api.example.com/run"}], "someFailed": false});
    let details = json!({"jobDetails": {
        "jobId": 1, "title": "Backup", "enabled": true, "url": "https://api.example.com/run", "saveResponses": true,
        "requestTimeout": 30, "requestMethod": 1, "auth": {"enable": true, "user": "u", "password": "p"},
        "schedule": {"timezone": "Europe/Berlin", "expiresAt": 0, "hours": [-1], "mdays": [-1], "minutes": [0, 30], "months": [-1], "wdays": [1]},
        "extendedData": {"headers": {"X-A": "1"}, "body": "a"},
    }});
    for (name, mut random) in Requests::new(60).each() {
        let is_easycron = random.random_bool(0.5);
        let (path, host, bodies) = if is_easycron {
            ("/v1/migrate/easycron", EASYCRON, vec![mutated(&easycron, &mut random)])
        } else {
            let first = if random.random_bool(0.7) {
                list.to_string().into_bytes()
            } else {
                mutated(&list, &mut random)
            };
            ("/v1/migrate/cronjob-org", CRONJOB_ORG, vec![first, mutated(&details, &mut random)])
        };
        for body in bodies {
            watched.service.outside.fail(host, Fault::Bytes(body));
        }
        let answer = watched.check(&name, request("POST", path), br#"{"api_key":"some_key"}"#.to_vec()).await;
        let status = answer.status.as_u16();
        assert!(matches!(status, 200 | 422 | 502), "{name}: {answer:?}");
        if status == 200 {
            let data = answer.data(200);
            assert!(data["imported"].is_u64() && data["skipped"].is_u64(), "{name}: {answer:?}");
        }
        watched.service.outside.forget_faults();
    }
}

#[tokio::test]
async fn nonsense_from_stripe_changes_nothing_that_it_should_not() {
    let (mut watched, _) = Watched::start().await;
    let account = ACCOUNT.to_string();
    let event = json!({
        "id": "evt_1", "object": "event", "created": 100, "type": "checkout.session.completed",
        "data": {"object": {
            "id": "cs_1", "mode": "subscription", "payment_status": "paid", "customer": "cus_1", "subscription": "sub_1",
            "client_reference_id": account, "metadata": {"account_id": account, "plan": "maker"},
            "items": {"data": [{"price": {"id": "price_1ProMonthly"}}]}, "status": "active",
        }},
    });
    for (name, mut random) in Requests::new(1_500).each() {
        let body = mutated(&event, &mut random);
        let text = String::from_utf8_lossy(&body).into_owned();
        let good = stripe::sign(START.as_secs(), &text);
        let is_good = random.random_bool(0.5) && text.as_bytes() == body;
        let signature = if is_good {
            good
        } else {
            let mut bytes = good.into_bytes();
            spoil(&mut bytes, &mut random);
            String::from_utf8_lossy(&bytes).into_owned()
        };
        let mut request = request("POST", "/v1/billing/stripe/webhook");
        request.headers_mut().remove("authorization");
        if let Ok(signature) = HeaderValue::from_bytes(signature.as_bytes()) {
            request.headers_mut().insert("stripe-signature", signature);
        }
        let answer = watched.check(&name, request, body).await;
        let status = answer.status.as_u16();
        assert!(
            if is_good { matches!(status, 200 | 502) } else { matches!(status, 200 | 400) },
            "{name}: {answer:?}"
        );
    }
}
