//! Three members of etcd on this machine, with its usual settings.

use super::kv;
use cluster_tests::{Error, cluster::free_addresses, process::NodeProcess, wait::eventually};
use std::{fs::File, net::SocketAddr, path::Path, process::Stdio, time::Duration};
use tokio::process::Command;

const COUNT: usize = 3;
/// How long they may take to elect a leader.
const START_DEADLINE: Duration = Duration::from_secs(30);
const STOP_DEADLINE: Duration = Duration::from_secs(10);

/// What the program calls itself.
///
/// # Errors
/// [`Error::Input`] if it is not there, with how to get it.
pub(super) async fn version(program: &Path) -> Result<String, Error> {
    let output = Command::new(program).arg("--version").stdin(Stdio::null()).output().await.map_err(|error| {
        Error::Input(format!(
            "{} cannot be run ({error}): `apt-get install etcd-server` installs it on Debian, --etcd names another",
            program.display()
        ))
    })?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next().filter(|line| line.contains("etcd"));
    line.map(str::to_owned).ok_or_else(|| Error::Input(format!("{} is no etcd", program.display())))
}

/// They are killed with this.
#[derive(Debug)]
pub(super) struct Members {
    addresses: Vec<SocketAddr>,
    processes: Vec<NodeProcess>,
}

impl Members {
    /// Starts them with their data in `dir` and waits until they take writes.
    pub(super) async fn start(program: &Path, dir: &Path) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Input(format!("{}: {error}", dir.display()));
        std::fs::create_dir_all(dir).map_err(failed)?;
        let mut addresses = free_addresses(2 * COUNT)?;
        let peers = addresses.split_off(COUNT);
        let url = |address: &SocketAddr| format!("http://{address}");
        let all: Vec<_> =
            peers.iter().enumerate().map(|(index, peer)| format!("m{index}={}", url(peer))).collect();
        let mut processes = Vec::with_capacity(COUNT);
        for (index, (client, peer)) in addresses.iter().zip(&peers).enumerate() {
            let log = File::create(dir.join(format!("m{index}.log"))).map_err(failed)?;
            let mut command = Command::new(program);
            command
                .args(["--name", &format!("m{index}"), "--data-dir"])
                .arg(dir.join(format!("m{index}")))
                .args(["--listen-client-urls", &url(client), "--advertise-client-urls", &url(client)])
                .args(["--listen-peer-urls", &url(peer), "--initial-advertise-peer-urls", &url(peer)])
                .args(["--initial-cluster", &all.join(","), "--initial-cluster-state", "new"])
                .stdin(Stdio::null())
                .stdout(log.try_clone().map_err(failed)?)
                .stderr(log);
            processes.push(NodeProcess::spawn(command)?);
        }
        let members = Self { addresses, processes };
        for address in &members.addresses {
            eventually("write to etcd", START_DEADLINE, async || {
                kv::revision(std::slice::from_ref(address), "start").await.map_err(|error| error.to_string())
            })
            .await?;
        }
        Ok(members)
    }

    /// Where clients are served.
    pub(super) fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub(super) fn pids(&self) -> Result<Vec<u32>, Error> {
        let pid = |process: &NodeProcess| {
            process.pid().ok_or_else(|| Error::Input("a member of etcd does not run".to_owned()))
        };
        self.processes.iter().map(pid).collect()
    }

    /// Ends them.
    pub(super) async fn stop(self) -> Result<(), Error> {
        for process in self.processes {
            process.terminate(STOP_DEADLINE).await?;
        }
        Ok(())
    }
}
