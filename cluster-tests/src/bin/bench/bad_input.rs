//! What the API says to requests it should refuse, and to any after two nodes have died.

use crate::{scene::Scene, table::Table};
use bytes::Bytes;
use cluster_tests::{
    Error,
    api::Api,
    binary::Binary,
    client::{Answer, CallError, Client},
};
use http::Method;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Longer than any answer may take, so that a hang is told from a slow refusal.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Ten times what a request may have.
const LARGE_BODY_BYTES: usize = 10 * 1024 * 1024;
const CHARACTERS_SHOWN: usize = 160;

pub(crate) async fn run(binary: Binary) -> Result<(), Error> {
    let mut scene = Scene::open(binary).await?;
    let leader = scene.cluster.leader(Duration::from_secs(10)).await?;
    let survivor = scene.cluster.ids().into_iter().find(|id| *id != leader);
    let survivor = survivor.ok_or_else(|| Error::Input("no follower runs".to_owned()))?;
    let api = scene.cluster.api_with(survivor, Client::new(TIMEOUT));
    let url = scene.target.url("/ok");
    let job = |expression: &str, zone: &str, url: &str| json!({"name": "bad", "cron_expression": expression, "timezone": zone, "url": url});

    let mut table = Table::new("bad_input", &["request", "expected", "status", "took_ms", "answer"]);
    for (name, expected, body) in [
        ("cron expression of four fields", "422", job("* * * *", "UTC", &url)),
        ("cron expression that never occurs", "422", job("0 0 31 2 *", "UTC", &url)),
        ("unknown timezone", "422", job("* * * * *", "Mars/Olympus", &url)),
        ("ftp:// target", "422", job("* * * * *", "UTC", "ftp://127.0.0.1/file")),
        ("three bad fields at once", "422", job("61 * * * *", "Mars/Olympus", "no url")),
        ("unknown field", "400", json!({"name": "bad", "retry_polcy": "none"})),
        ("missing fields", "400", json!({})),
    ] {
        let start = Instant::now();
        let answer = api.send(Method::POST, "/v1/jobs", Some(&body)).await;
        table.row(cells(name, expected, start, answer));
    }

    let raw = |key: &'static str, body: Vec<u8>| {
        let api = api.clone();
        async move { api.send_as(key, Method::POST, "/v1/jobs", Some(Bytes::from(body))).await }
    };
    let start = Instant::now();
    let answer = api.send(Method::POST, "/v1/jobs", Some(&json!("x".repeat(LARGE_BODY_BYTES)))).await;
    table.row(cells("body of 10 MiB", "413", start, answer));
    let start = Instant::now();
    let body = job("* * * * *", "UTC", &url).to_string().into_bytes();
    table.row(cells("wrong key", "401", start, raw("jrun_sk_00000000000000000000000000000000", body).await));
    let start = Instant::now();
    let answer = api.send(Method::GET, "/v1/jobs/job_0000000000", None).await;
    table.row(cells("unknown job", "404", start, answer));
    let start = Instant::now();
    let answer = api.send(Method::DELETE, "/v1/jobs", None).await;
    table.row(cells("method that the path lacks", "405", start, answer));

    for id in scene.cluster.running().into_iter().filter(|id| *id != survivor) {
        scene.cluster.kill(id).await?;
    }
    alone(&api, &job("* * * * *", "UTC", &url), "at once", &mut table).await;
    // By then the survivor knows that it is alone.
    tokio::time::sleep(Duration::from_secs(5)).await;
    alone(&api, &job("* * * * *", "UTC", &url), "5 s later", &mut table).await;
    table.print();
    scene.close(&[]).await
}

/// A write and a read on a node without a quorum.
async fn alone(api: &Api, job: &Value, when: &str, table: &mut Table) {
    let start = Instant::now();
    let answer = api.send(Method::POST, "/v1/jobs", Some(job)).await;
    table.row(cells(&format!("write without a quorum, {when}"), "503", start, answer));
    let start = Instant::now();
    let answer = api.send(Method::GET, "/v1/jobs", None).await;
    table.row(cells(&format!("read without a quorum, {when}"), "503", start, answer));
}

fn cells(name: &str, expected: &str, start: Instant, answer: Result<Answer, CallError>) -> Vec<Value> {
    let took_ms = u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX);
    let (status, text) = match answer {
        Ok(answer) => (json!(answer.status), answer.excerpt()),
        Err(error) => (Value::Null, error.to_string()),
    };
    let text: String = text.chars().take(CHARACTERS_SHOWN).collect();
    vec![json!(name), json!(expected), status, json!(took_ms), json!(text)]
}
