//! One node, as a child process.

use super::{Failure, Identity, say};
use crate::config::DevSettings;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// Pause before a node that died is started again: long enough to see that the others go on.
const RESTART_AFTER: Duration = Duration::from_secs(3);
/// How long a node may drain before it is killed; it needs 35 s at most.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(40);
/// How a node ends that cannot be started, now or later.
const NOT_STARTED: i32 = 2;

/// One child process.
pub(super) struct Node {
    number: u16,
    program: PathBuf,
    args: Vec<String>,
    env: Vec<(&'static str, String)>,
    log: PathBuf,
}

impl Node {
    pub(super) fn new(number: u16, settings: &DevSettings, identity: &Identity) -> Result<Self, Failure> {
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
    ///
    /// # Errors
    /// When it cannot be started: what it said last.
    pub(super) async fn keep_running(
        self,
        pids: tokio::sync::mpsc::Sender<(u16, u32)>,
        stop: CancellationToken,
    ) -> Result<(), String> {
        loop {
            let mut child =
                self.start().map_err(|error| format!("node {} cannot be started: {error}", self.number))?;
            // Waiting for a child closes its standard input unless it is taken out first.
            let stdin = child.stdin.take();
            if let Some(pid) = child.id() {
                let _ = pids.send((self.number, pid)).await;
            }
            tokio::select! {
                ended = child.wait() => {
                    if ended.as_ref().is_ok_and(|status| status.code() == Some(NOT_STARTED)) {
                        return Err(format!("node {} cannot be started: {}", self.number, self.last_words()));
                    }
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
                    return Ok(());
                }
            }
            tokio::select! {
                () = sleep(RESTART_AFTER) => {}
                () = stop.cancelled() => return Ok(()),
            }
        }
    }

    /// The last line of its log.
    fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let last = log.lines().rev().find(|line| !line.trim().is_empty());
        match last.map(|line| line.strip_prefix("justrun: ").unwrap_or(line)) {
            Some(line) => line.to_owned(),
            None => format!("see {}", self.log.display()),
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
