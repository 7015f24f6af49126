//! The nodes, and what they are asked.

use crate::link::{Link, Mode};
use domain::account::{Account, ApiKey, Plan};
use domain::id::{AccountId, ExecutionId, JobId, KeyId, NodeId};
use domain::job::{Delivery, Job, Method, MisfirePolicy, OverlapPolicy, Request, Retry};
use domain::node::{FeatureLevel, SessionId};
use domain::rejection::Rejection;
use domain::time::{Clock, Timestamp};
use raft::command::{Applied, Bootstrap, Command, CreateJob, RunJob};
use raft::{Cluster, Operator, Position, ProposeError, Secret, Settings, SnapshotSettings, StartError};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};
use storage::schema::{Executions, Jobs, Metas};
use storage::{Read, Storage};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

/// How long anything may take that is waited for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
pub(crate) const SECRET: &str = "correct-horse-battery-staple";
pub(crate) const ACCOUNT: AccountId = AccountId(1);
pub(crate) const START: Timestamp = Timestamp::from_secs(1_780_272_000);

/// One cluster at a time: elections are timed, and the machine may have two cores.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

#[derive(Debug)]
struct TestClock {
    start: Instant,
    /// By how much the wall clock is wrong.
    offset_ms: AtomicI64,
}

impl TestClock {
    fn right(start: Instant) -> Arc<Self> {
        Arc::new(Self { start, offset_ms: AtomicI64::new(0) })
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        let right = START.plus(self.start.elapsed()).as_millis();
        Timestamp::from_millis(right.saturating_add_signed(self.offset_ms.load(Ordering::SeqCst)))
    }

    fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }
}

/// Nodes there can be: those that found the cluster, and those that join it.
const COUNT: usize = 6;

/// Three nodes, or another number, and those that may join them; and a link from each to each. A node that joins is reached by
/// all over the link from itself to itself, which is the address that it tells.
pub(crate) struct Nodes {
    _alone: tokio::sync::MutexGuard<'static, ()>,
    dir: TempDir,
    clocks: Vec<Arc<TestClock>>,
    network: Option<Runtime>,
    links: BTreeMap<(usize, usize), Link>,
    running: Vec<Option<Running>>,
    sessions: u64,
    founders: usize,
    pub(crate) snapshots: SnapshotSettings,
    pub(crate) propose_timeout: Duration,
    /// Sessions of several nodes may be the same: only those of one are told apart by them.
    pub(crate) same_session: bool,
}

struct Running {
    cluster: Cluster,
    storage: Storage,
    runtime: Runtime,
    services: Vec<JoinHandle<()>>,
    addr: SocketAddr,
    session: SessionId,
}

impl Nodes {
    /// Nodes that do not run yet.
    pub(crate) async fn new() -> Self {
        Self::of(3).await
    }

    /// As many that found the cluster; they do not run yet.
    pub(crate) async fn of(founders: usize) -> Self {
        let alone = ALONE.lock().await;
        let start = Instant::now();
        let network = runtime();
        let pairs = (0..COUNT).flat_map(|from| (0..COUNT).map(move |to| (from, to)));
        let links = pairs.map(|pair| (pair, Link::start(network.handle()))).collect();
        Self {
            _alone: alone,
            dir: TempDir::new().unwrap(),
            clocks: (0..COUNT).map(|_| TestClock::right(start)).collect(),
            network: Some(network),
            links,
            running: (0..COUNT).map(|_| None).collect(),
            sessions: 1_000,
            founders,
            snapshots: SnapshotSettings::default(),
            propose_timeout: Duration::from_secs(10),
            same_session: false,
        }
    }

    /// A cluster that has an account.
    pub(crate) async fn started() -> Self {
        let mut nodes = Self::new().await;
        nodes.form().await;
        nodes
    }

    /// Starts all nodes, and gives them an account.
    pub(crate) async fn form(&mut self) {
        for node in 0..self.founders {
            self.start(node).await;
        }
        self.set_up().await;
    }

    /// Registers all nodes, and gives them an account.
    pub(crate) async fn set_up(&self) {
        for node in 0..self.founders {
            self.register(node).await;
        }
        self.must(0, bootstrap()).await;
        // So that what follows begins with nothing under way.
        self.same_state(&self.running()).await;
    }

    /// What a node is told. It sees the others through its own links, so that each can be cut alone.
    pub(crate) fn settings(&mut self, node: usize, secret: &str) -> Settings {
        self.sessions += u64::from(!self.same_session);
        let members = (0..self.founders)
            .map(|other| (id(other), self.links[&(node, other)].addr.to_string()))
            .collect();
        let mut settings = Settings::new(id(node), SessionId(self.sessions), members, Secret::new(secret));
        settings.heartbeat = Duration::from_millis(100);
        settings.election_timeout = (Duration::from_millis(500), Duration::from_millis(1_000));
        settings.propose_timeout = self.propose_timeout;
        settings.read_timeout = Duration::from_secs(2);
        settings.snapshots = self.snapshots.clone();
        settings
    }

    /// As [`Nodes::settings`], for a node that asks another one to be added.
    pub(crate) fn joining(&mut self, node: usize, via: usize) -> Settings {
        let mut settings = self.settings(node, SECRET);
        settings.join = Some(self.link(node, via).addr.to_string());
        settings.rpc_addr = self.link(node, node).addr.to_string();
        settings
    }

    /// As [`Nodes::start`], with a build that supports up to this feature level.
    pub(crate) async fn start_build(&mut self, node: usize, level: u32) {
        let settings = Settings { supported: FeatureLevel(level), ..self.settings(node, SECRET) };
        self.start_with(node, settings, runtime()).await;
    }

    /// Tries to start a node that cannot start, and says why.
    pub(crate) async fn cannot_start(&mut self, node: usize, settings: Settings) -> StartError {
        let storage = self.open(node).await;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let clock = Arc::clone(&self.clocks[node]) as Arc<dyn Clock>;
        match Cluster::start(settings, storage, clock, listener).await {
            Ok(_) => panic!("node {node} starts"),
            Err(error) => error,
        }
    }

    /// Starts a node that joins through another one.
    pub(crate) async fn join(&mut self, node: usize, via: usize) {
        let settings = self.joining(node, via);
        self.start_with(node, settings, runtime()).await;
    }

    /// A node, as its operator asks it.
    pub(crate) async fn operator(&self, node: usize) -> Operator {
        let addr = self.addr(node).to_string();
        Operator::connect(&addr, &Secret::new(SECRET), None).await.unwrap()
    }

    /// Waits until this node sees just these voters, and nobody else.
    pub(crate) async fn voters(&self, node: usize, expected: &[usize]) {
        let expected: Vec<(NodeId, bool)> = expected.iter().map(|node| (id(*node), true)).collect();
        eventually("these voters", || async {
            let members = self.cluster(node).status().members;
            let seen: Vec<_> = members.iter().map(|member| (member.id, member.voter)).collect();
            if seen == expected { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    }

    /// Starts a node on the data it left behind.
    pub(crate) async fn start(&mut self, node: usize) {
        let settings = self.settings(node, SECRET);
        self.start_with(node, settings, runtime()).await;
    }

    async fn open(&self, node: usize) -> Storage {
        let dir = self.data_dir(node);
        // What was killed may still be letting go of the directory.
        eventually("the data directory", || async {
            match Storage::open(&dir, storage::Settings::default()) {
                Err(storage::Error::Locked { path }) => Err(format!("{path:?} is locked")),
                opened => Ok(opened.unwrap()),
            }
        })
        .await
    }

    pub(crate) async fn start_with(&mut self, node: usize, settings: Settings, runtime: Runtime) {
        assert!(self.running[node].is_none(), "node {node} runs");
        let storage = self.open(node).await;
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap();
        let (opened, clock) = (storage.clone(), Arc::clone(&self.clocks[node]));
        let session = settings.session;
        let (cluster, services) = runtime
            .spawn(async move {
                let (cluster, _, services) = Cluster::start(settings, opened, clock, listener).await.unwrap();
                let services = services
                    .into_iter()
                    .map(|(name, service)| {
                        tokio::runtime::Handle::current().spawn(async move {
                            service.await.unwrap_or_else(|error| panic!("{name} has failed: {error}"));
                        })
                    })
                    .collect();
                (cluster, services)
            })
            .await
            .unwrap();
        for (_, link) in self.links.iter().filter(|((_, to), _)| *to == node) {
            link.lead_to(Some(addr));
        }
        self.running[node] = Some(Running { cluster, storage, runtime, services, addr, session });
    }

    /// Ends a node in order, and starts nothing in its place.
    pub(crate) async fn stop(&mut self, node: usize) {
        let running = self.running[node].take().expect("the node runs");
        running.cluster.shutdown().await;
        for service in running.services {
            tokio::time::timeout(PATIENCE, service).await.expect("services end").unwrap();
        }
        running.runtime.shutdown_background();
        self.lead_nowhere(node);
    }

    /// Drops everything a node was doing.
    pub(crate) fn kill(&mut self, node: usize) {
        let running = self.running[node].take().expect("the node runs");
        running.runtime.shutdown_background();
        self.lead_nowhere(node);
    }

    fn lead_nowhere(&self, node: usize) {
        for (_, link) in self.links.iter().filter(|((_, to), _)| *to == node) {
            link.lead_to(None);
        }
    }

    pub(crate) fn data_dir(&self, node: usize) -> std::path::PathBuf {
        self.dir.path().join(format!("node-{}", node + 1))
    }

    fn node(&self, node: usize) -> &Running {
        self.running[node].as_ref().expect("the node runs")
    }

    pub(crate) fn cluster(&self, node: usize) -> &Cluster {
        &self.node(node).cluster
    }

    pub(crate) fn storage(&self, node: usize) -> &Storage {
        &self.node(node).storage
    }

    pub(crate) fn addr(&self, node: usize) -> SocketAddr {
        self.node(node).addr
    }

    pub(crate) fn session(&self, node: usize) -> SessionId {
        self.node(node).session
    }

    pub(crate) fn link(&self, from: usize, to: usize) -> &Link {
        &self.links[&(from, to)]
    }

    pub(crate) fn running(&self) -> Vec<usize> {
        (0..COUNT).filter(|node| self.running[*node].is_some()).collect()
    }

    /// What becomes of everything between a node and the others.
    pub(crate) fn around(&self, node: usize, mode: Mode) {
        for (_, link) in self.links.iter().filter(|((from, to), _)| *from == node || *to == node) {
            link.set(mode);
        }
    }

    pub(crate) async fn register(&self, node: usize) {
        eventually("a registration", || async {
            self.cluster(node).register().await.map_err(|error| error.to_string())
        })
        .await;
    }

    /// Makes the wall clock of a node wrong.
    pub(crate) fn set_clock(&self, node: usize, offset_ms: i64) {
        self.clocks[node].offset_ms.store(offset_ms, Ordering::SeqCst);
    }

    /// The time of the state, which is what commands were applied at.
    pub(crate) fn time_of_state(&self, node: usize) -> Timestamp {
        self.storage(node).state.view().get::<Metas>(&()).unwrap().unwrap_or_default().now
    }

    /// Who leads, as all running nodes see it.
    pub(crate) async fn leader(&self) -> usize {
        self.leader_among(&self.running()).await
    }

    /// Who leads, as all of these see it.
    pub(crate) async fn leader_among(&self, nodes: &[usize]) -> usize {
        eventually("a leader", || async {
            let seen: Vec<_> = nodes.iter().map(|node| self.cluster(*node).status()).collect();
            let leader = seen[0].leader.filter(|leader| {
                seen.iter().all(|status| status.leader == Some(*leader) && status.term == seen[0].term)
            });
            let leader = leader.map(|leader| usize::try_from(leader.0).unwrap() - 1);
            leader.filter(|leader| nodes.contains(leader)).ok_or_else(|| format!("{seen:?}"))
        })
        .await
    }

    /// Proposes until it is known to be done.
    pub(crate) async fn must(&self, node: usize, command: Command) -> Applied {
        eventually("a write", || async {
            match self.cluster(node).propose(command.clone()).await {
                // An attempt that was not answered has done it.
                Err(ProposeError::Rejected(Rejection::Exists | Rejection::AlreadyBootstrapped)) => {
                    Ok(Applied::Done)
                }
                answer => answer.map_err(|error| error.to_string()),
            }
        })
        .await
    }

    /// Waits until these nodes have applied the same log, have the same state, and have come to it by the same writes.
    pub(crate) async fn same_state(&self, nodes: &[usize]) {
        eventually("equal states", || async {
            let seen: Vec<_> = nodes
                .iter()
                .map(|node| {
                    let state = &self.storage(*node).state;
                    (Position::of(&state.view()).unwrap(), state.digest().unwrap())
                })
                .collect();
            let is_known = seen[0].0.digest.is_some();
            if is_known && seen.iter().all(|one| *one == seen[0]) { Ok(()) } else { Err(format!("{seen:?}")) }
        })
        .await;
    }

    pub(crate) fn has_job(&self, node: usize, job: u64) -> bool {
        self.storage(node).state.view().contains::<Jobs>(&JobId(job)).unwrap()
    }

    pub(crate) fn runs(&self, node: usize, job: u64) -> usize {
        let view = self.storage(node).state.view();
        view.keys_prefix::<Executions>(&job.to_be_bytes(), None, 10_000).unwrap().len()
    }
}

impl Drop for Nodes {
    fn drop(&mut self) {
        for running in self.running.iter_mut().filter_map(Option::take) {
            running.runtime.shutdown_background();
        }
        if let Some(network) = self.network.take() {
            network.shutdown_background();
        }
    }
}

pub(crate) fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

pub(crate) fn id(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

pub(crate) fn bootstrap() -> Command {
    Command::Bootstrap(Bootstrap {
        account: Account { id: ACCOUNT, plan: Plan::Scale, email: None, billing: None, created_at: START },
        key: ApiKey {
            id: KeyId(3),
            account: ACCOUNT,
            name: "key".to_owned(),
            hash: [7; 32],
            last_four: "abcd".to_owned(),
            created_at: START,
            last_used_at: None,
        },
    })
}

/// A job whose request has a body of so many bytes that cannot be compressed.
pub(crate) fn create_job(job: u64, bytes: usize) -> Command {
    // SplitMix64 (Steele, Lea, Flood, 2014).
    let mut seed = job;
    let mut letter = || {
        seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        char::from(b' ' + u8::try_from((z ^ (z >> 31)) % 90).unwrap())
    };
    let job = Job {
        id: JobId(job),
        account: ACCOUNT,
        space: None,
        name: format!("job {job}"),
        cron_expression: "@daily".to_owned(),
        timezone: "UTC".to_owned(),
        request: Request {
            url: "http://localhost".to_owned(),
            method: Method::Post,
            headers: Vec::new(),
            body: Some((0..bytes).map(|_| letter()).collect()),
            timeout_sec: 30,
        },
        retry: Retry::default(),
        tags: Vec::new(),
        store_response_body: false,
        alert_channels: None,
        overlap: OverlapPolicy::Allow,
        misfire: MisfirePolicy::RunOnce,
        delivery: Delivery::AtLeastOnce,
        created_at: START,
        updated_at: START,
    };
    Command::CreateJob(Box::new(CreateJob { job, next_run_at: None, paused: false, jobs_max: None }))
}

/// A run of a job. Refused when it was asked for before.
pub(crate) fn run_job(job: u64, number: u16) -> Command {
    Command::RunJob(RunJob { account: ACCOUNT, execution: ExecutionId::manual(JobId(job), START, number) })
}

/// A proposal that was not answered in time may have taken effect or not, but nothing else came of it.
pub(crate) fn assert_unanswered<T: Debug>(answer: &Result<T, ProposeError>) {
    assert!(matches!(answer, Err(ProposeError::NoLeader | ProposeError::Unknown)), "{answer:?}");
}

/// Waits for something to be so, and says what was seen last when it does not come about.
pub(crate) async fn eventually<T, F: Future<Output = Result<T, String>>>(
    what: &str,
    look: impl Fn() -> F,
) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(seen) => return seen,
            Err(seen) => assert!(Instant::now() < deadline, "waited in vain for {what}; last seen: {seen}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
