//! Requests one after the other on each of many connections, by the library that the nodes send with, set up as they do
//! (`node/src/executor/guarded.rs`). In a process of its own, so that its time is known apart from the target's.

use crate::{
    cost::Cost,
    raw::{self, Outcome},
    scene::say,
    table::thousandths,
};
use clap::Args;
use cluster_tests::Error;
use reqwest::{Client, redirect};
use serde::{Deserialize, Serialize};
use std::{
    path::Path,
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::{process::Command, task::JoinSet};

/// How long a connection is kept for its next request, as in a node.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_millis(1_500);
/// How long a connection may take to be made, as in a node.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Before anything is measured: connections are made.
const WARM_UP: Duration = Duration::from_millis(500);
/// What the process may take besides the measurement.
const OVER: Duration = Duration::from_secs(15);

#[derive(Args, Debug)]
pub(crate) struct Arguments {
    /// What is asked for
    #[arg(long)]
    url: String,
    /// Loops at once
    #[arg(long)]
    connections: usize,
    /// Seconds of the measurement
    #[arg(long)]
    seconds: u64,
}

/// What the process found out.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Found {
    pub(super) requests: usize,
    pub(super) per_second: f64,
    pub(super) p50_ms: f64,
    pub(super) p99_ms: f64,
    /// Seconds of its processor time for each thousand requests.
    pub(super) cpu_s_per_1000: f64,
}

/// Starts the process and waits for what it finds out.
pub(super) async fn measure(url: &str, connections: usize, seconds: u64, dir: &Path) -> Result<Found, Error> {
    let input = |error: std::io::Error| Error::Input(format!("client: {error}"));
    let child = Command::new(std::env::current_exe().map_err(input)?)
        .args(["client", "--url", url])
        .args(["--connections", &connections.to_string(), "--seconds", &seconds.to_string()])
        .current_dir(dir)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(Duration::from_secs(seconds) + OVER, child)
        .await
        .map_err(|_| Error::Input("the client does not end".to_owned()))?
        .map_err(input)?;
    serde_json::from_slice(&output.stdout).map_err(|_| {
        Error::Input(format!("client ({}): {}", output.status, String::from_utf8_lossy(&output.stdout)))
    })
}

/// Sends, and prints what it found out.
pub(crate) async fn run(arguments: &Arguments) -> Result<(), Error> {
    let client = Client::builder()
        .no_proxy()
        .redirect(redirect::Policy::none())
        .referer(false)
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(arguments.connections)
        .tcp_nodelay(true)
        .build()
        .map_err(|error| Error::Input(format!("client: {error}")))?;
    send(&client, &arguments.url, arguments.connections, WARM_UP).await?;
    let spent = Cost::of([std::process::id()])?;
    let outcome =
        send(&client, &arguments.url, arguments.connections, Duration::from_secs(arguments.seconds)).await?;
    let found = Found {
        requests: outcome.count(),
        per_second: outcome.rate,
        p50_ms: outcome.quantile_ms(0.5),
        p99_ms: outcome.quantile_ms(0.99),
        cpu_s_per_1000: thousandths(spent.per_thousand(outcome.count())?),
    };
    say(serde_json::to_string(&found).map_err(|error| Error::Input(error.to_string()))?);
    Ok(())
}

async fn send(client: &Client, url: &str, connections: usize, span: Duration) -> Result<Outcome, Error> {
    let start = Instant::now();
    let mut loops = JoinSet::new();
    for _ in 0..connections {
        let (client, url) = (client.clone(), url.to_owned());
        loops.spawn(raw::repeat(start + span, async move |_| {
            ask(&client, &url).await.map_err(|error| Error::Input(format!("client: {error}")))
        }));
    }
    raw::gather(loops, start).await
}

async fn ask(client: &Client, url: &str) -> Result<(), reqwest::Error> {
    let answer = client.get(url).send().await?.error_for_status()?;
    // To its end, as in a node: the connection is free for the next request then.
    answer.bytes().await?;
    Ok(())
}
