//! What ordinary clients notice of hostile ones, and what is left of these once they are gone.

mod crowd; // those who mean no good

use crate::{
    scene::{Scene, say},
    table::{Table, tenths},
};
use clap::Args;
use cluster_tests::{Error, api::Api, binary::Binary, client::Client, usage, wait::eventually};
use crowd::Crowd;
use http::Method;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Longer than any answer may take, so that a hang is told from slowness.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Ordinary requests of one measurement, each on a connection of its own.
const REQUESTS: usize = 200;
/// The slowest of them, while the crowd stands at the door.
const SLOWEST_MAX: Duration = Duration::from_secs(1);
/// After so many rounds the allocator has what it keeps for another time; what grows from then on is lost.
const ROUNDS_TO_SETTLE: usize = 3;
/// After the crowd has left, the server still holds what it has not noticed to be gone for as long as a client may
/// stop reading.
const GONE_DEADLINE: Duration = Duration::from_secs(45);
/// Open files that may come and go beside the crowd's.
const FILES_SLACK: usize = 32;
/// Memory that may come and go from then on.
const RSS_SLACK_KIB: u64 = 48 * 1_024;
/// What the bench itself needs open.
const FILES_NEEDED: u64 = 1_000;

#[derive(Args, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Connections on which nothing is ever said
    #[arg(long, default_value_t = 10_000)]
    idle: usize,
    /// Connections that send heads, send bodies, or read answers, too slowly; so many of each
    #[arg(long, default_value_t = 500)]
    slow: usize,
    /// Connections that send no HTTP
    #[arg(long, default_value_t = 2_000)]
    garbage: usize,
    /// How often all of them come
    #[arg(long, default_value_t = 5)]
    rounds: usize,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { idle: 10_000, slow: 500, garbage: 2_000, rounds: 5 }
    }
}

pub(crate) async fn run(binary: Binary, arguments: &Arguments) -> Result<(), Error> {
    raise_limit(arguments)?;
    let mut scene = Scene::open(binary).await?;
    scene.start_jobs(20).await?;
    let node = scene.cluster.leader(TIMEOUT).await?;
    let pid = scene.cluster.pid(node).ok_or_else(|| Error::Input(format!("node {node} does not run")))?;
    let api = scene.cluster.api_with(node, Client::new(TIMEOUT));

    let mut faults = Vec::new();
    let mut times =
        Table::new("hostile", &["when", "answered", "p50_ms", "p99_ms", "max_ms", "rss_mib", "files"]);
    let mut said = Table::new("hostile_answers", &["round", "client", "count", "answers"]);
    // So that what a first request costs is not counted as the crowd's.
    probe(&api).await;
    let calm = measure("before", &api, pid, &mut times, &mut faults).await?;
    let mut left_kib = Vec::new();
    for round in 1..=arguments.rounds {
        let mut crowd = Crowd::new(api.address()?, api.key());
        let (mut gathered, meanwhile) =
            tokio::join!(crowd.gather(arguments.idle, arguments.slow), probe(&api));
        row(&format!("round {round}: while they come"), &meanwhile, pid, &mut times, &mut faults)?;
        measure(&format!("round {round}: while they stay"), &api, pid, &mut times, &mut faults).await?;
        let garbage = crowd.shout(arguments.garbage);
        let (garbage, meanwhile) = tokio::join!(garbage, probe(&api));
        row(&format!("round {round}: while they shout"), &meanwhile, pid, &mut times, &mut faults)?;
        gathered.push(("no HTTP", garbage));
        for (client, seen) in gathered {
            said.row(vec![json!(round), json!(client), json!(seen.count()), json!(seen.to_string())]);
            faults.extend(seen.faults().map(|fault| format!("round {round}: {client}: {fault}")));
        }
        crowd.leave().await;
        eventually("end of the crowd's connections", GONE_DEADLINE, async || {
            let files = files(pid).map_err(|error| error.to_string())?;
            if files <= calm + FILES_SLACK {
                Ok(())
            } else {
                Err(format!("{files} open files, {calm} before"))
            }
        })
        .await?;
        measure(&format!("round {round}: when they are gone"), &api, pid, &mut times, &mut faults).await?;
        left_kib.push(usage::of(pid)?.rss_kib);
    }
    times.print();
    said.print();
    let settled = left_kib.get(ROUNDS_TO_SETTLE - 1).zip(left_kib.last());
    if let Some((settled, last)) = settled.filter(|(settled, last)| **last > **settled + RSS_SLACK_KIB) {
        faults.push(format!("memory grew from {settled} to {last} KiB after round {ROUNDS_TO_SETTLE}"));
    }
    scene.cluster.check_running()?;
    let text = faults.join("\n");
    if faults.is_empty() { scene.close(&[]).await } else { Err(Error::Input(text)) }
}

/// Every one of the crowd's connections is a file of this process, too.
fn raise_limit(arguments: &Arguments) -> Result<(), Error> {
    let needed = arguments.idle + 3 * arguments.slow + arguments.garbage;
    let needed = u64::try_from(needed).unwrap_or(u64::MAX).saturating_add(FILES_NEEDED);
    let failed =
        |error| Error::Io { what: format!("have {needed} files open"), source: std::io::Error::from(error) };
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).map_err(failed)?;
    if soft < needed {
        setrlimit(Resource::RLIMIT_NOFILE, needed, hard.max(needed)).map_err(failed)
    } else {
        Ok(())
    }
}

/// How long ordinary requests took, and what was wrong with one.
struct Probe {
    took: Vec<Duration>,
    faults: Vec<String>,
}

/// Ordinary requests, one after the other, each by a client that was never there before.
async fn probe(api: &Api) -> Probe {
    let mut found = Probe { took: Vec::new(), faults: Vec::new() };
    for _ in 0..REQUESTS {
        let newcomer = api.with_client(Client::new(TIMEOUT));
        let start = Instant::now();
        let answer = newcomer.send(Method::GET, "/v1/jobs", None).await;
        found.took.push(start.elapsed());
        match answer {
            Ok(answer) if answer.status == 200 => {}
            Ok(answer) => found.faults.push(format!("{} {}", answer.status, answer.excerpt())),
            Err(error) => found.faults.push(error.to_string()),
        }
    }
    found.took.sort();
    found
}

/// Probes, adds a row, and says how many files the node has open.
async fn measure(
    when: &str,
    api: &Api,
    pid: u32,
    table: &mut Table,
    faults: &mut Vec<String>,
) -> Result<usize, Error> {
    row(when, &probe(api).await, pid, table, faults)
}

fn row(
    when: &str,
    probe: &Probe,
    pid: u32,
    table: &mut Table,
    faults: &mut Vec<String>,
) -> Result<usize, Error> {
    let at = |part: usize| probe.took.get((probe.took.len() * part / 100).min(probe.took.len() - 1)).copied();
    let ms =
        |took: Option<Duration>| took.map_or(Value::Null, |took| json!(tenths(took.as_secs_f64() * 1_000.0)));
    let rss = f64::from(u32::try_from(usage::of(pid)?.rss_kib).unwrap_or(u32::MAX)) / 1_024.0;
    let files = files(pid)?;
    table.row(vec![
        json!(when),
        json!(probe.took.len() - probe.faults.len()),
        ms(at(50)),
        ms(at(99)),
        ms(probe.took.last().copied()),
        json!(tenths(rss)),
        json!(files),
    ]);
    say(format!(
        "{when}: {} answered, the slowest in {:?}",
        probe.took.len() - probe.faults.len(),
        probe.took.last()
    ));
    faults.extend(probe.faults.iter().take(3).map(|fault| format!("{when}: an ordinary request: {fault}")));
    if let Some(slowest) = probe.took.last().filter(|slowest| **slowest > SLOWEST_MAX) {
        faults.push(format!("{when}: an ordinary request took {slowest:?}"));
    }
    Ok(files)
}

/// Files and sockets that a process has open.
fn files(pid: u32) -> Result<usize, Error> {
    let path = format!("/proc/{pid}/fd");
    let what = format!("read {path}");
    Ok(std::fs::read_dir(path).map_err(|source| Error::Io { what, source })?.count())
}
