//! `justrun dev`: a whole cluster on this machine, to try it.
//!
//! Each node is a child process, as it would be in earnest, and is started again when it dies. A small
//! target lives in this process, so that there is something to call without the internet.

mod target; // what the first job calls

use crate::config::DevSettings;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use std::error::Error;
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn Error>;

/// How long the cluster may take to be ready.
const READY_TIMEOUT: Duration = Duration::from_secs(30);
const READY_INTERVAL: Duration = Duration::from_millis(50);
/// Pause before a node that died is started again: long enough to see that the others go on.
const RESTART_AFTER: Duration = Duration::from_secs(3);
/// How long a node may drain before it is killed; it needs 35 s at most.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(40);
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
    check_ports(&settings)?;
    std::fs::create_dir_all(&settings.data_dir)
        .map_err(|error| format!("--data-dir {} cannot be used: {error}", settings.data_dir.display()))?;
    let identity = identity(&settings)?;
    let target_url =
        target::start(settings.api_port.saturating_add(TARGET_PORT_OFFSET), stop.clone()).await?;

    let mut nodes = JoinSet::new();
    let (pids, mut started) = tokio::sync::mpsc::channel(usize::from(settings.nodes));
    for number in 1..=settings.nodes {
        let node = Node::new(number, &settings, &identity)?;
        nodes.spawn(node.keep_running(pids.clone(), stop.clone()));
    }
    drop(pids);

    let mut printed = Vec::new();
    while printed.len() < usize::from(settings.nodes) {
        match started.recv().await {
            Some(pid) => printed.push(pid),
            None => return Err("a node could not be started".into()),
        }
    }
    printed.sort_unstable();
    match wait_until_ready(&settings, &stop).await {
        Ok(true) => say(&welcome(&settings, &identity, &printed, &target_url)),
        Ok(false) => {}
        Err(error) => {
            stop.cancel();
            while nodes.join_next().await.is_some() {}
            return Err(error);
        }
    }

    // Said from here, so that lines of several nodes do not mix.
    let mut open = true;
    while open {
        tokio::select! {
            pid = started.recv(), if !started.is_closed() || !started.is_empty() => match pid {
                Some((number, pid)) => say(&format!("node {number} is back, pid {pid}\n")),
                None => open = false,
            },
            () = stop.cancelled() => open = false,
        }
    }
    stop.cancelled().await;
    say("\nstopping\n");
    while nodes.join_next().await.is_some() {}
    Ok(())
}

/// One child process.
struct Node {
    number: u16,
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(&'static str, String)>,
    log: PathBuf,
}

impl Node {
    fn new(number: u16, settings: &DevSettings, identity: &Identity) -> Result<Self, Failure> {
        let data_dir = settings.data_dir.join(format!("node-{number}"));
        let offset = number - 1;
        let cluster = (1..=settings.nodes)
            .map(|other| format!("{other}=127.0.0.1:{}", settings.rpc_port + other - 1))
            .collect::<Vec<_>>()
            .join(",");
        let args = [
            "server".to_owned(),
            format!("--node-id={number}"),
            format!("--data-dir={}", data_dir.display()),
            format!("--api-addr=127.0.0.1:{}", settings.api_port + offset),
            format!("--rpc-addr=127.0.0.1:{}", settings.rpc_port + offset),
            format!("--cluster={cluster}"),
            "--environment=development".to_owned(),
            "--exit-with-stdin".to_owned(),
            format!("--log-format={}", settings.log_format.as_str()),
        ];
        Ok(Self {
            number,
            program: std::env::current_exe()?,
            args: args.to_vec(),
            // Not among the arguments, which everybody on this machine can read.
            env: vec![
                ("JUSTRUN_CLUSTER_SECRET", identity.cluster_secret.clone()),
                ("JUSTRUN_BOOTSTRAP_API_KEY", identity.api_key.clone()),
            ],
            log: settings.data_dir.join(format!("node-{number}.log")),
        })
    }

    /// Starts the process, and again whenever it ends, until `stop`.
    async fn keep_running(self, pids: tokio::sync::mpsc::Sender<(u16, u32)>, stop: CancellationToken) {
        loop {
            let mut child = match self.start() {
                Ok(child) => child,
                Err(error) => {
                    say(&format!("node {} cannot be started: {error}\n", self.number));
                    return;
                }
            };
            // Waiting for a child closes its standard input unless it is taken out first.
            let stdin = child.stdin.take();
            if let Some(pid) = child.id() {
                let _ = pids.send((self.number, pid)).await;
            }
            tokio::select! {
                ended = child.wait() => {
                    let how = ended.map_or_else(|error| error.to_string(), |status| status.to_string());
                    say(&format!(
                        "node {} has ended ({how}); the others go on, and it starts again in {} s\n",
                        self.number,
                        RESTART_AFTER.as_secs()
                    ));
                }
                () = stop.cancelled() => {
                    drop(stdin);
                    wait_for_drain(&mut child).await;
                    return;
                }
            }
            tokio::select! {
                () = sleep(RESTART_AFTER) => {}
                () = stop.cancelled() => return,
            }
        }
    }

    fn start(&self) -> std::io::Result<Child> {
        let log = std::fs::File::options().create(true).append(true).open(&self.log)?;
        Command::new(&self.program)
            .args(&self.args)
            // Its keys are this command's, not the server's.
            .env_remove("JUSTRUN_CONFIG")
            .envs(self.env.iter().map(|(key, value)| (*key, value.as_str())))
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            // Ctrl-C in a terminal goes to the whole group; this process passes it on in its own time.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
    }
}

/// Waits for a node that drains because its standard input was closed.
async fn wait_for_drain(child: &mut Child) {
    if timeout(DRAIN_TIMEOUT, child.wait()).await.is_err() {
        // It is stuck. Its data does not mind.
        let _ = child.kill().await;
    }
}

fn check_ports(settings: &DevSettings) -> Result<(), Failure> {
    let ports = |flag, first: u16| (0..settings.nodes).map(move |offset| (flag, first + offset));
    for (flag, port) in ports("api-port", settings.api_port).chain(ports("rpc-port", settings.rpc_port)) {
        TcpListener::bind(("127.0.0.1", port))
            .map_err(|error| format!("port {port} cannot be used ({error}); choose others with --{flag}"))?;
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

/// Waits until every node is ready. False when `stop` came first.
async fn wait_until_ready(settings: &DevSettings, stop: &CancellationToken) -> Result<bool, Failure> {
    let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(1)).build()?;
    let deadline = Instant::now() + READY_TIMEOUT;
    for offset in 0..settings.nodes {
        let url = format!("http://127.0.0.1:{}/readyz", settings.api_port + offset);
        loop {
            let ready = client.get(&url).send().await.is_ok_and(|answer| answer.status().is_success());
            if ready {
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
