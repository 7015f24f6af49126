//! A cluster of real `justrun server` processes on the loopback interface.

mod members; // nodes that join and leave
mod opinion; // of its histories, by the service itself

use crate::{
    Error,
    api::{Api, ClusterView},
    binary::{Binary, forget_settings},
    client::Client,
    disk::Disk,
    history::{Fault, FaultKind},
    net::Net,
    process::NodeProcess,
    relay::Impairment,
    wait::eventually,
};
use std::{
    collections::BTreeMap,
    env,
    fs::{File, OpenOptions},
    io::Write,
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    sync::Arc,
    time::Duration,
};
use tempfile::TempDir;
use tokio::process::Command;

/// Where ports are chosen from: below what Linux gives to outgoing connections (32768 and up), so that
/// none of those sits on a node's port while the node is down.
const PORTS: std::ops::Range<u16> = 15_000..32_000;
/// The ports of a node that is a host of its own.
const API_PORT: u16 = 7_070;
const RPC_PORT: u16 = 7_071;
/// How often a taken port is skipped before the machine counts as full.
const PORT_TRIES: usize = 1_000;
/// A request of the harness to a node: longer than an election.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(10);
/// How many lines of a node's log an error shows.
const LOG_TAIL_LINES: usize = 20;

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The binary to run.
    pub binary: Binary,
    /// How many nodes, all of them first members.
    pub nodes: usize,
    /// Further flags for every node.
    pub flags: Vec<String>,
    /// The nodes' own network; without it all are on the loopback interface.
    pub net: Option<Arc<Net>>,
    /// Whether each node has a small disk of its own, which can be filled.
    pub disks: bool,
}

impl Settings {
    /// Three nodes without limits on requests, which a run would soon reach.
    pub fn new(binary: Binary) -> Self {
        let flags = ["--rate-limit-general=0", "--rate-limit-run=0"].map(str::to_owned).to_vec();
        Self { binary, nodes: 3, flags, net: None, disks: false }
    }
}

/// Running nodes, numbered from 1. Dropping it kills them and keeps data and logs; [`Cluster::finish`]
/// removes both.
#[derive(Debug)]
pub struct Cluster {
    settings: Settings,
    nodes: Vec<Node>,
    disks: BTreeMap<u64, Disk>,
    dir: RunDir,
    client: Client,
    secret: String,
    key: String,
}

#[derive(Debug)]
struct Node {
    id: u64,
    api: SocketAddr,
    rpc: SocketAddr,
    /// What it is started as, if not as the others.
    binary: Option<Binary>,
    place: members::Place,
    /// None while it is down on purpose.
    process: Option<NodeProcess>,
}

impl Cluster {
    /// Starts every node; none needs to be ready yet.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn start(settings: Settings) -> Result<Self, Error> {
        let dir = RunDir::new()?;
        let nodes = match &settings.net {
            Some(net) => {
                let node = |id: u64| Node {
                    id,
                    api: (net.address(id), API_PORT).into(),
                    rpc: (net.address(id), RPC_PORT).into(),
                    binary: None,
                    place: members::Place::Founder,
                    process: None,
                };
                (1..).take(settings.nodes).map(node).collect()
            }
            None => (1..)
                .zip(free_addresses(settings.nodes * 2)?.chunks_exact(2))
                .map(|(id, pair)| Node {
                    id,
                    api: pair[0],
                    rpc: pair[1],
                    place: members::Place::Founder,
                    binary: None,
                    process: None,
                })
                .collect(),
        };
        let client = Client::new(REQUEST_TIMEOUT);
        let key = format!("jrun_sk_{}", random_base62(32));
        let disks = BTreeMap::new();
        let mut cluster = Self { settings, nodes, disks, dir, client, secret: random_base62(32), key };
        if cluster.settings.disks {
            for id in cluster.ids() {
                let disk = Disk::make(cluster.dir(), id)?;
                cluster.disks.insert(id, disk);
            }
        }
        for id in cluster.ids() {
            cluster.launch(id)?;
        }
        Ok(cluster)
    }

    /// The numbers of all nodes, running or not.
    pub fn ids(&self) -> Vec<u64> {
        self.nodes.iter().map(|node| node.id).collect()
    }

    /// The numbers of the nodes that were not stopped.
    pub fn running(&self) -> Vec<u64> {
        self.nodes.iter().filter(|node| node.process.is_some()).map(|node| node.id).collect()
    }

    /// Where logs and data are and where the history may go.
    pub fn dir(&self) -> &Path {
        &self.dir.path
    }

    /// One node's API with the cluster's first key.
    pub fn api(&self, id: u64) -> Api {
        self.api_with(id, self.client.clone())
    }

    /// As [`Cluster::api`] with connections and a timeout of its own.
    pub fn api_with(&self, id: u64, client: Client) -> Api {
        Api::new(client, format!("http://{}", self.node(id).api), self.key.as_str())
    }

    /// The APIs of the nodes that were not stopped.
    pub fn apis(&self) -> Vec<Api> {
        self.running().into_iter().map(|id| self.api(id)).collect()
    }

    /// The nodes that were not stopped, each with its API.
    pub fn nodes(&self) -> Vec<(u64, Api)> {
        self.running().into_iter().map(|id| (id, self.api(id))).collect()
    }

    /// A node's process id; none while it is stopped.
    pub fn pid(&self, id: u64) -> Option<u32> {
        self.node(id).process.as_ref().and_then(NodeProcess::pid)
    }

    /// Waits until every node that was not stopped answers `/readyz` with 200.
    ///
    /// # Errors
    /// [`Error::NodeEnded`] as soon as one ends by itself, [`Error::Deadline`].
    pub async fn ready(&mut self, deadline: Duration) -> Result<(), Error> {
        for id in self.running() {
            self.node_ready(id, deadline).await?;
        }
        Ok(())
    }

    /// As [`Cluster::ready`], for one node.
    ///
    /// # Errors
    /// [`Error::NodeEnded`], [`Error::Deadline`].
    pub async fn node_ready(&mut self, id: u64, deadline: Duration) -> Result<(), Error> {
        let api = self.api(id);
        eventually(&format!("readiness of node {id}"), deadline, async || {
            match self.ended(id) {
                // Carried through the loop as a success: it will not get better.
                Ok(Some(error)) | Err(error) => Ok(Err(error)),
                Ok(None) => api.ready().await.map(Ok),
            }
        })
        .await?
    }

    /// Waits until a running node sees every node alive, a leader and an owner for every shard.
    ///
    /// # Errors
    /// [`Error::Deadline`] with what it saw last.
    pub async fn whole(&self, deadline: Duration) -> Result<ClusterView, Error> {
        let nodes = self.belonging().len();
        self.agreed("whole cluster", deadline, |view| view.not_whole(nodes)).await
    }

    /// Waits until a running node knows a leader that is running.
    ///
    /// # Errors
    /// [`Error::Deadline`] with what it saw last.
    pub async fn leader(&self, deadline: Duration) -> Result<u64, Error> {
        let running = self.running();
        let view = self
            .agreed("leader", deadline, |view| match view.leader_id {
                Some(leader) if running.contains(&leader) => None,
                _ => Some(format!("{view:?}")),
            })
            .await?;
        Ok(view.leader_id.unwrap_or_default())
    }

    async fn agreed(
        &self,
        what: &str,
        deadline: Duration,
        objection: impl Fn(&ClusterView) -> Option<String>,
    ) -> Result<ClusterView, Error> {
        let apis = self.apis();
        eventually(what, deadline, async || {
            let mut seen = "no running node".to_owned();
            for api in &apis {
                match api.cluster().await {
                    Ok(view) => match objection(&view) {
                        None => return Ok(view),
                        Some(objection) => seen = objection,
                    },
                    Err(error) => seen = error.to_string(),
                }
            }
            Err(seen)
        })
        .await
    }

    /// SIGKILL; returns when the process is gone. The fault bears the instant the signal was sent.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Deadline`].
    pub async fn kill(&mut self, id: u64) -> Result<Fault, Error> {
        let fault = Fault::now(id, FaultKind::Kill);
        if let Some(process) = self.node_mut(id).process.take() {
            process.kill().await?;
        }
        Ok(fault)
    }

    /// SIGTERM; returns how the node ended.
    ///
    /// # Errors
    /// [`Error::Deadline`] if it does not; it is killed then. [`Error::Input`] if it does not run.
    pub async fn terminate(&mut self, id: u64, deadline: Duration) -> Result<(Fault, ExitStatus), Error> {
        let fault = Fault::now(id, FaultKind::Terminate);
        let process = self.node_mut(id).process.take();
        let process = process.ok_or_else(|| Error::Input(format!("node {id} does not run")))?;
        Ok((fault, process.terminate(deadline).await?))
    }

    /// SIGSTOP.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn pause(&self, id: u64) -> Result<Fault, Error> {
        let fault = Fault::now(id, FaultKind::Pause);
        self.node(id).process.as_ref().map_or(Ok(()), NodeProcess::pause)?;
        Ok(fault)
    }

    /// SIGCONT.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn resume(&self, id: u64) -> Result<Fault, Error> {
        let fault = Fault::now(id, FaultKind::Resume);
        self.node(id).process.as_ref().map_or(Ok(()), NodeProcess::resume)?;
        Ok(fault)
    }

    /// Loses what the first of each pair sends to the second. The fault is said to be `node`'s.
    ///
    /// # Errors
    /// [`Error::Input`] without a network of their own, or with what cannot be done to it.
    pub fn cut(&self, node: u64, pairs: impl IntoIterator<Item = (u64, u64)>) -> Result<Fault, Error> {
        let fault = Fault::now(node, FaultKind::Cut);
        pairs.into_iter().try_for_each(|(from, to)| self.net()?.cut(from, to))?;
        Ok(fault)
    }

    /// Impairs what the first of each pair sends to the second. The fault is said to be `node`'s.
    ///
    /// # Errors
    /// As [`Net::impair`]; [`Error::Input`] without a network of their own.
    pub fn impair(
        &self,
        node: u64,
        pairs: &[(u64, u64)],
        impairment: Impairment,
        seed: u64,
    ) -> Result<Fault, Error> {
        let program = env::current_exe().map_err(Error::io("find the harness's own binary"))?;
        let fault = Fault::now(node, FaultKind::Cut);
        self.net()?.impair(pairs, impairment, seed, &program)?;
        Ok(fault)
    }

    /// Loses and impairs nothing any more.
    ///
    /// # Errors
    /// As [`Cluster::cut`].
    pub fn heal(&self, node: u64) -> Result<Fault, Error> {
        let fault = Fault::now(node, FaultKind::Heal);
        self.net()?.heal()?;
        Ok(fault)
    }

    /// Puts faults into a node, in place of those it has; see `node/src/faults.rs`. It has them within a moment.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Input`] if what it is started as takes none.
    pub fn put_faults(&self, id: u64, faults: &str) -> Result<(), Error> {
        if !self.binary_of(id).takes_faults {
            return Err(Error::Input(format!("node {id} is of a build that takes no faults")));
        }
        // Under its name it is whole.
        let (path, draft) = (self.faults_path(id), self.faults_path(id).with_extension("draft"));
        std::fs::write(&draft, faults).map_err(Error::io("write a file of faults"))?;
        std::fs::rename(&draft, &path).map_err(Error::io("put faults into a node"))
    }

    fn faults_path(&self, id: u64) -> PathBuf {
        self.dir.path.join(format!("node-{id}.faults"))
    }

    fn net(&self) -> Result<&Net, Error> {
        let none = || Error::Input("the nodes have no network of their own".to_owned());
        self.settings.net.as_deref().ok_or_else(none)
    }

    /// Starts a stopped node on its old data and addresses.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn restart(&mut self, id: u64) -> Result<Fault, Error> {
        let fault = Fault::now(id, FaultKind::Restart);
        self.launch(id)?;
        Ok(fault)
    }

    /// As [`Cluster::restart`], from now on as this binary.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn restart_as(&mut self, id: u64, binary: &Binary) -> Result<Fault, Error> {
        self.node_mut(id).binary = Some(binary.clone());
        self.restart(id)
    }

    /// What a node is started as.
    fn binary_of(&self, id: u64) -> &Binary {
        self.node(id).binary.as_ref().unwrap_or(&self.settings.binary)
    }

    /// What nodes are started as, unless they were told otherwise.
    pub fn binary(&self) -> &Binary {
        &self.settings.binary
    }

    /// Whether a node has ended by itself.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn has_ended(&mut self, id: u64) -> Result<bool, Error> {
        Ok(self.ended(id)?.is_some())
    }

    /// Starts a node again if it has ended by itself with a word and an exit code, as a service manager does. Both faults,
    /// if it had.
    ///
    /// # Errors
    /// [`Error::NodeEnded`] if it ended well, or by a signal; [`Error::Io`].
    pub fn revive(&mut self, id: u64) -> Result<Option<[Fault; 2]>, Error> {
        let Some(process) = self.node_mut(id).process.as_mut() else { return Ok(None) };
        match process.ended()? {
            None => Ok(None),
            Some(status) if status.code().is_some_and(|code| code != 0) => {
                let ended = Fault::now(id, FaultKind::Kill);
                Ok(Some([ended, self.restart(id)?]))
            }
            Some(status) => {
                let log_tail = log_tail(&self.log_path(id));
                Err(Error::NodeEnded { node: id, status, log_tail })
            }
        }
    }

    /// As [`Cluster::restart`], but without its data: its disk was lost, and the others fill it.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Input`] if it runs.
    pub fn restart_empty(&mut self, id: u64) -> Result<Fault, Error> {
        if self.node(id).process.is_some() {
            return Err(Error::Input(format!("node {id} still runs")));
        }
        std::fs::remove_dir_all(self.data_dir(id)).map_err(Error::io("remove the data of a node"))?;
        self.restart(id)
    }

    /// Where a node keeps its data.
    pub fn data_dir(&self, id: u64) -> PathBuf {
        self.disks.get(&id).map_or_else(|| self.dir.path.join(format!("node-{id}")), Disk::data_dir)
    }

    pub(crate) fn disk(&self, id: u64) -> Result<&Disk, Error> {
        let none = || Error::Input(format!("node {id} has no disk of its own"));
        self.disks.get(&id).ok_or_else(none)
    }

    /// Fails if a node has ended by itself.
    ///
    /// # Errors
    /// [`Error::NodeEnded`].
    pub fn check_running(&mut self) -> Result<(), Error> {
        self.running().into_iter().try_for_each(|id| self.ended(id)?.map_or(Ok(()), Err))
    }

    /// Kills every node and removes logs and data: the run went well.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::Deadline`].
    pub async fn finish(mut self) -> Result<(), Error> {
        for id in self.running() {
            self.kill(id).await?;
        }
        self.disks.clear();
        self.dir.remove()
    }

    fn launch(&mut self, id: u64) -> Result<(), Error> {
        let log = log_file(&self.log_path(id))?;
        let errors = log.try_clone().map_err(Error::io("open a log twice"))?;
        let whose = self.whose(id);
        let (api, rpc) = (self.node(id).api, self.node(id).rpc);

        let binary = self.binary_of(id);
        let mut command = match &self.settings.net {
            Some(net) => net.command(id, &binary.path),
            None => Command::new(&binary.path),
        };
        forget_settings(&mut command);
        command.arg("server");
        if binary.takes_faults {
            command.arg("--faults-file").arg(self.faults_path(id));
        }
        command
            .args(["--node-id", &id.to_string()])
            .arg("--data-dir")
            .arg(self.data_dir(id))
            .args(["--api-addr", &api.to_string()])
            .args(["--rpc-addr", &rpc.to_string()])
            .args(whose)
            .args(["--environment", "development"])
            .args(["--bootstrap-api-key", &self.key])
            .args(&self.settings.flags)
            .env("JUSTRUN_CLUSTER_SECRET", &self.secret)
            // The runs ask more of one account in a minute than any plan allows.
            .env("JUSTRUN_RATE_LIMIT_GENERAL", "0")
            .env("JUSTRUN_RATE_LIMIT_RUN", "0")
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        self.node_mut(id).process = Some(NodeProcess::spawn(command)?);
        Ok(())
    }

    fn ended(&mut self, id: u64) -> Result<Option<Error>, Error> {
        let log_path = self.log_path(id);
        let Some(process) = self.node_mut(id).process.as_mut() else { return Ok(None) };
        let ended = process.ended()?;
        Ok(ended.map(|status| Error::NodeEnded { node: id, status, log_tail: log_tail(&log_path) }))
    }

    fn log_path(&self, id: u64) -> PathBuf {
        self.dir.path.join(format!("node-{id}.log"))
    }

    fn node(&self, id: u64) -> &Node {
        self.nodes.iter().find(|node| node.id == id).expect("ids come from this cluster")
    }

    fn node_mut(&mut self, id: u64) -> &mut Node {
        self.nodes.iter_mut().find(|node| node.id == id).expect("ids come from this cluster")
    }
}

/// The folder of a run, kept unless it is removed on purpose.
#[derive(Debug)]
struct RunDir {
    path: PathBuf,
    removed: bool,
}

impl RunDir {
    fn new() -> Result<Self, Error> {
        let dir = TempDir::with_prefix("justrun-").map_err(Error::io("make a folder for the run"))?;
        Ok(Self { path: dir.keep(), removed: false })
    }

    fn remove(&mut self) -> Result<(), Error> {
        self.removed = true;
        std::fs::remove_dir_all(&self.path).map_err(Error::io(format!("remove {}", self.path.display())))
    }
}

impl Drop for RunDir {
    fn drop(&mut self) {
        if !self.removed {
            // Nothing can be done about a standard error that is closed.
            let _ = writeln!(std::io::stderr(), "logs, data and history are kept in {}", self.path.display());
        }
    }
}

fn log_file(path: &Path) -> Result<File, Error> {
    let opened = OpenOptions::new().create(true).append(true).open(path);
    opened.map_err(Error::io(format!("open {}", path.display())))
}

fn log_tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
}

/// Loopback addresses that are free now and differ from each other.
///
/// # Errors
/// [`Error::Io`] if none is found in a number of tries.
pub fn free_addresses(count: usize) -> Result<Vec<SocketAddr>, Error> {
    // Held until all are chosen, so that none is chosen twice.
    let mut held = Vec::with_capacity(count);
    let mut refusal = None;
    for _ in 0..PORT_TRIES {
        if held.len() == count {
            break;
        }
        match TcpListener::bind((Ipv4Addr::LOCALHOST, rand::random_range(PORTS))) {
            Ok(listener) => held.push(listener),
            Err(error) => refusal = Some(error),
        }
    }
    if let (true, Some(error)) = (held.len() < count, refusal) {
        return Err(Error::io("find free ports")(error));
    }
    held.iter().map(|listener| listener.local_addr().map_err(Error::io("read a port"))).collect()
}

fn random_base62(length: usize) -> String {
    const ALPHABET: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    (0..length).map(|_| char::from(ALPHABET[rand::random_range(0..ALPHABET.len())])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{collections::HashSet, fs, os::unix::fs::PermissionsExt};

    /// A cluster whose "nodes" are a shell script.
    fn cluster_of(script: &str, dir: &TempDir) -> Cluster {
        let path = dir.path().join("justrun");
        fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        Cluster::start(Settings::new(Binary::at(path))).unwrap()
    }

    #[test]
    fn addresses_differ() {
        let addresses = free_addresses(20).unwrap();
        assert_eq!(addresses.iter().collect::<HashSet<_>>().len(), 20);
    }

    #[tokio::test]
    async fn nodes_get_the_documented_flags_and_secrets_by_the_environment() {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster =
            cluster_of(r#"echo "$@"; echo "secret=$JUSTRUN_CLUSTER_SECRET"; exec sleep 60"#, &dir);
        let log = cluster.log_path(2);
        let text = eventually("log", Duration::from_secs(5), async || {
            let text = fs::read_to_string(&log).unwrap_or_default();
            if text.contains("secret=") { Ok(text) } else { Err(text) }
        })
        .await
        .unwrap();
        let peers: Vec<_> = cluster.nodes.iter().map(|node| format!("{}={}", node.id, node.rpc)).collect();
        for expected in [
            "server --node-id 2 --data-dir",
            &format!("--api-addr {}", cluster.node(2).api),
            &format!("--rpc-addr {}", cluster.node(2).rpc),
            &format!("--cluster {}", peers.join(",")),
            "--environment development --bootstrap-api-key jrun_sk_",
            &format!("secret={}", cluster.secret),
        ] {
            assert!(text.contains(expected), "{expected} is not in {text}");
        }

        let fault = cluster.kill(1).await.unwrap();
        assert_eq!((fault.node, cluster.running(), cluster.pid(1)), (1, vec![2, 3], None));
        let old = cluster.pid(2);
        cluster.kill(2).await.unwrap();
        cluster.restart(2).unwrap();
        assert_ne!(cluster.pid(2), old);
        cluster.check_running().unwrap();
        let folder = cluster.dir().to_owned();
        cluster.finish().await.unwrap();
        assert!(!folder.exists());
    }

    #[tokio::test]
    async fn only_a_build_that_takes_faults_is_told_of_a_file_of_them() {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = cluster_of(r#"echo "$@"; exec sleep 60"#, &dir);
        let plain = cluster.binary().clone();
        let told = async |cluster: &Cluster, node: u64, lines: usize| {
            let log = cluster.log_path(node);
            eventually("log", Duration::from_secs(5), async || {
                let text = fs::read_to_string(&log).unwrap_or_default();
                let found = text.lines().filter(|line| line.starts_with("server ")).count();
                if found == lines { Ok(text) } else { Err(text) }
            })
            .await
            .unwrap()
        };
        assert!(!told(&cluster, 2, 1).await.contains("--faults-file"));
        assert!(matches!(cluster.put_faults(2, ""), Err(Error::Input(_))));
        cluster.kill(2).await.unwrap();
        cluster.restart_as(2, &Binary { takes_faults: true, ..plain.clone() }).unwrap();
        cluster.put_faults(2, "clock_offset_ms = 1").unwrap();
        let flag = format!("--faults-file {}", cluster.faults_path(2).display());
        assert!(told(&cluster, 2, 2).await.lines().last().unwrap().contains(&flag));
        cluster.kill(2).await.unwrap();
        cluster.restart_as(2, &plain).unwrap();
        assert!(!told(&cluster, 2, 3).await.lines().last().unwrap().contains("--faults-file"));
        assert!(matches!(cluster.put_faults(2, ""), Err(Error::Input(_))));
        cluster.finish().await.unwrap();
    }

    #[tokio::test]
    async fn a_node_that_ends_by_itself_is_reported_with_its_log() {
        let dir = tempfile::tempdir().unwrap();
        let mut cluster = cluster_of("echo 'port in use' >&2; exit 2", &dir);
        let error = cluster.ready(Duration::from_secs(5)).await.unwrap_err();
        let text = error.to_string();
        assert!(matches!(error, Error::NodeEnded { node: 1, .. }), "{text}");
        assert!(text.contains("exit status: 2") && text.contains("port in use"), "{text}");

        let folder = cluster.dir().to_owned();
        drop(cluster);
        assert!(folder.join("node-1.log").exists(), "a failed run keeps its logs");
        fs::remove_dir_all(folder).unwrap();
    }
}
