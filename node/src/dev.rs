//! `justrun dev`: a whole cluster on this machine, to try it.
//!
//! Each node is a child process, as it would be in earnest, and is started again when it dies. A small
//! target lives in this process, so that there is something to call without the internet.

mod child; // one node
mod target; // what the first job calls

use crate::bootstrap::explain_bind;
use crate::config::DevSettings;
use child::Node;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn Error>;

/// How long the cluster may take to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const READY_INTERVAL: Duration = Duration::from_millis(50);
/// The target's port, counted from the first API port.
const TARGET_PORT_OFFSET: u16 = 100;

const SECRET_CHARS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// What later starts on the same directory need to be the same cluster.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Identity {
    nodes: u16,
    api_key: String,
    cluster_secret: String,
}

/// Runs the cluster until `stop`.
pub async fn run(settings: DevSettings, stop: CancellationToken) -> Result<(), Failure> {
    let _lock = take(&settings.data_dir)?;
    check_ports(&settings)?;
    let identity = identity(&settings)?;
    let target_url =
        target::start(settings.api_port.saturating_add(TARGET_PORT_OFFSET), stop.clone()).await?;

    let mut nodes = JoinSet::new();
    let (pids, started) = tokio::sync::mpsc::channel(usize::from(settings.nodes));
    for number in 1..=settings.nodes {
        let node = Node::new(number, &settings, &identity)?;
        nodes.spawn(node.keep_running(pids.clone(), stop.clone()));
    }
    drop(pids);

    let ended = tokio::select! {
        // A node ends before it is told to only when it cannot go on.
        Some(ended) = nodes.join_next() => ended?.map_err(Into::into),
        attended = attend(&settings, &identity, &target_url, started, &stop) => attended,
    };
    stop.cancel();
    say("\nstopping\n");
    while nodes.join_next().await.is_some() {}
    ended
}

/// Says what there is to know of the nodes, until `stop`.
async fn attend(
    settings: &DevSettings,
    identity: &Identity,
    target_url: &str,
    mut started: tokio::sync::mpsc::Receiver<(u16, u32)>,
    stop: &CancellationToken,
) -> Result<(), Failure> {
    let mut pids = Vec::new();
    while pids.len() < usize::from(settings.nodes) {
        match started.recv().await {
            Some(pid) => pids.push(pid),
            // All have ended, which is said elsewhere.
            None => std::future::pending().await,
        }
    }
    pids.sort_unstable();
    if wait_until_ready(settings, identity, stop).await? {
        say(&welcome(settings, identity, &pids, target_url));
    }
    // Said from here, so that lines of several nodes do not mix.
    loop {
        tokio::select! {
            Some((number, pid)) = started.recv() => say(&format!("node {number} is back, pid {pid}\n")),
            () = stop.cancelled() => return Ok(()),
        }
    }
}

/// Takes the data directory for this process, making it if need be, for as long as the file lives.
fn take(data_dir: &Path) -> Result<File, Failure> {
    let shown = data_dir.display();
    let unusable = |error: std::io::Error| format!("--data-dir {shown} cannot be used: {error}");
    std::fs::create_dir_all(data_dir).map_err(unusable)?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(data_dir.join("dev.lock"))
        .map_err(unusable)?;
    match lock.try_lock() {
        Ok(()) => Ok(lock),
        Err(TryLockError::WouldBlock) => {
            Err(format!("--data-dir {shown} is in use by another justrun dev").into())
        }
        Err(TryLockError::Error(error)) => Err(unusable(error).into()),
    }
}

fn check_ports(settings: &DevSettings) -> Result<(), Failure> {
    let ports = |flag, first: u16| (0..settings.nodes).map(move |offset| (flag, first + offset));
    for (flag, port) in ports("api-port", settings.api_port).chain(ports("rpc-port", settings.rpc_port)) {
        TcpListener::bind(("127.0.0.1", port))
            .map_err(|error| format!("port {port} {}; choose others with --{flag}", explain_bind(&error)))?;
    }
    Ok(())
}

fn identity(settings: &DevSettings) -> Result<Identity, Failure> {
    let path = settings.data_dir.join("dev.toml");
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let identity: Identity = toml::from_str(&text)
                .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
            if identity.nodes != settings.nodes {
                return Err(format!(
                    "{} holds a cluster of {} nodes; start it with --nodes {} or choose another --data-dir",
                    settings.data_dir.display(),
                    identity.nodes,
                    identity.nodes
                )
                .into());
            }
            Ok(identity)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let identity =
                Identity { nodes: settings.nodes, api_key: api::mint_key(), cluster_secret: random_text(32) };
            write_private(&path, &toml::to_string(&identity)?)?;
            Ok(identity)
        }
        Err(error) => Err(format!("{} cannot be read: {error}", path.display()).into()),
    }
}

fn random_text(length: usize) -> String {
    let mut rng = rand::rng();
    (0..length).map(|_| char::from(SECRET_CHARS[rng.random_range(0..SECRET_CHARS.len())])).collect()
}

/// Only its owner may read it: it holds secrets.
fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?
        .write_all(text.as_bytes())
}

/// Waits until every node is ready and takes the key that is about to be shown. False when `stop` came first.
async fn wait_until_ready(
    settings: &DevSettings,
    identity: &Identity,
    stop: &CancellationToken,
) -> Result<bool, Failure> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1)).build()?;
    let deadline = Instant::now() + READY_TIMEOUT;
    for offset in 0..settings.nodes {
        // The first leader makes the account of the key only once the cluster is ready.
        let url = format!("http://127.0.0.1:{}/v1/cluster", settings.api_port + offset);
        loop {
            let answer = client.get(&url).bearer_auth(&identity.api_key).send().await;
            if answer.is_ok_and(|answer| answer.status().is_success()) {
                break;
            }
            if Instant::now() > deadline {
                let log = settings.data_dir.join(format!("node-{}.log", offset + 1));
                return Err(format!("node {} does not get ready; see {}", offset + 1, log.display()).into());
            }
            tokio::select! {
                () = sleep(READY_INTERVAL) => {}
                () = stop.cancelled() => return Ok(false),
            }
        }
    }
    Ok(true)
}

fn welcome(settings: &DevSettings, identity: &Identity, pids: &[(u16, u32)], target_url: &str) -> String {
    let api = |offset: u16| format!("http://127.0.0.1:{}", settings.api_port + offset);
    let mut text =
        format!("JustRun is ready: {} nodes, data in {}\n\n", settings.nodes, settings.data_dir.display());
    for (number, pid) in pids {
        text += &format!("  node {number}   {}   pid {pid}\n", api(number - 1));
    }
    text += &format!(
        "
  API key  {key}

A job that fires every five seconds (each call is shown here):

  curl -X POST {api}/v1/jobs \\
    -H 'Authorization: Bearer {key}' -H 'Content-Type: application/json' \\
    -d '{{\"name\": \"Hello\", \"cron_expression\": \"@every 5s\", \"url\": \"{target_url}\"}}'

Any node answers, and any one of them may be killed: kill -9 {pid}
Ctrl-C stops them all.

",
        key = identity.api_key,
        api = api(0),
        pid = pids.first().map_or(0, |(_, pid)| *pid),
    );
    text
}

/// Shows something to whoever started this.
fn say(text: &str) {
    // Nobody is left to be told when standard output is closed.
    let _ = std::io::stdout().write_all(text.as_bytes());
}
