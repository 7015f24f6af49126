//! The nodes, and a client of their REST API.

use crate::target::Target;
use domain::time::{Clock, Timestamp};
use node::bootstrap::{Listeners, Outside, RunError, run};
use node::clock::{ScaledClock, Sleeper};
use node::config::{self, Invocation, ServerSettings};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

/// How much faster than the real one the clock runs. A node that is frozen for claim-ahead counts as
/// dead, so this leaves it half a second on a busy machine.
const FACTOR: u32 = 4;
/// The fixed start of all tests: a whole minute, on 2026-06-01.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_780_272_000);
/// Real time that anything may take that is waited for.
const PATIENCE: Duration = Duration::from_secs(40);
const API_KEY: &str = "jrun_sk_0123456789abcdefghijABCDEFGHIJ01";

/// One cluster at a time: the machine may have two cores, and a fast clock leaves no time to wait for one.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

pub(crate) struct TestCluster {
    _alone: tokio::sync::MutexGuard<'static, ()>,
    dir: TempDir,
    pub(crate) clock: ScaledClock,
    pub(crate) target: Target,
    members: Vec<Member>,
    client: reqwest::Client,
}

struct Member {
    api: SocketAddr,
    rpc: SocketAddr,
    /// Whom it asks to be added; the first members ask nobody.
    join: Option<SocketAddr>,
    running: Option<Running>,
}

struct Running {
    runtime: Runtime,
    stop: CancellationToken,
    ended: tokio::sync::oneshot::Receiver<Result<(), String>>,
}

impl TestCluster {
    /// Starts a cluster and waits until it can be used and its shards are dealt.
    pub(crate) async fn start(nodes: usize) -> Self {
        let alone = ALONE.lock().await;
        let clock = ScaledClock::new(FACTOR, START);
        let target = Target::start(Arc::new(clock)).await;
        let client = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(8)).build().unwrap();
        let dir = TempDir::new().unwrap();
        let mut cluster = Self { _alone: alone, dir, clock, target, members: Vec::new(), client };
        cluster.begin(nodes).await;
        cluster
    }

    /// A new cluster with nothing on its disks takes the place of this one, whose nodes die. Its clock shows `now`.
    pub(crate) async fn begin_anew(&mut self, nodes: usize, now: Timestamp) {
        for index in self.running() {
            self.kill(index);
        }
        self.dir = TempDir::new().unwrap();
        self.set_clock(now);
        self.begin(nodes).await;
    }

    async fn begin(&mut self, nodes: usize) {
        // Held open together, so that no two get the same.
        let sockets: Vec<_> = (0..nodes * 2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
        self.members = sockets
            .chunks(2)
            .map(|pair| Member {
                api: pair[0].local_addr().unwrap(),
                rpc: pair[1].local_addr().unwrap(),
                join: None,
                running: None,
            })
            .collect();
        drop(sockets);
        for index in 0..nodes {
            self.restart(index);
        }
        self.wait_until_dealt().await;
    }

    /// Starts a node that asks another one to be added. Its index.
    pub(crate) fn join(&mut self, via: usize) -> usize {
        let sockets = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [api, rpc] = sockets.map(|socket| socket.local_addr().unwrap());
        let join = Some(self.members[via].rpc);
        self.members.push(Member { api, rpc, join, running: None });
        self.restart(self.members.len() - 1);
        self.members.len() - 1
    }

    /// Starts a node that is not running, on the data it left behind.
    pub(crate) fn restart(&mut self, index: usize) {
        let settings = self.settings(index);
        let member = &mut self.members[index];
        assert!(member.running.is_none(), "node {} is running", index + 1);
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let stop = CancellationToken::new();
        let (tell, ended) = tokio::sync::oneshot::channel();
        let outside = Outside {
            sleeper: Arc::new(self.clock) as Arc<dyn Sleeper>,
            metrics: Arc::new(String::new),
            upkeep: Arc::new(|| {}),
            ping_interval: Duration::from_millis(250) / FACTOR,
        };
        let (api, rpc, node_stop) = (member.api, member.rpc, stop.clone());
        runtime.spawn(async move {
            let deadline = Instant::now() + PATIENCE;
            let ended = loop {
                let listeners = Listeners { api: bind(api).await, rpc: bind(rpc).await };
                match run(settings.clone(), listeners, outside.clone(), node_stop.clone()).await {
                    // What was killed may still be letting go of the directory, one file after the other.
                    Err(RunError::Storage(_)) if Instant::now() < deadline => {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                    }
                    ended => break ended.map_err(|error| error.to_string()),
                }
            };
            let _ = tell.send(ended);
        });
        member.running = Some(Running { runtime, stop, ended });
    }

    fn settings(&self, index: usize) -> ServerSettings {
        let founders = (1..).zip(&self.members).filter(|(_, member)| member.join.is_none());
        let founders: Vec<_> = founders.map(|(id, member)| format!("{id}={}", member.rpc)).collect();
        let whose = match self.members[index].join {
            None => ("JUSTRUN_CLUSTER", founders.join(",")),
            Some(via) => ("JUSTRUN_JOIN", via.to_string()),
        };
        let env = BTreeMap::from([
            ("JUSTRUN_NODE_ID", (index + 1).to_string()),
            ("JUSTRUN_DATA_DIR", self.dir.path().join(format!("node-{}", index + 1)).display().to_string()),
            ("JUSTRUN_API_ADDR", self.members[index].api.to_string()),
            ("JUSTRUN_RPC_ADDR", self.members[index].rpc.to_string()),
            whose,
            ("JUSTRUN_CLUSTER_SECRET", "secret".to_owned()),
            ("JUSTRUN_ENVIRONMENT", "development".to_owned()),
            ("JUSTRUN_BOOTSTRAP_API_KEY", API_KEY.to_owned()),
            ("JUSTRUN_REGISTRATION", "open".to_owned()),
            ("JUSTRUN_PLANS", "scale.diagnoses_per_day=7".to_owned()),
        ]);
        match config::parse(["justrun".into(), "server".into()], |key| env.get(key).cloned()).unwrap() {
            Invocation::Server(settings) => *settings,
            other => panic!("{other:?}"),
        }
    }

    /// Drops everything a node was doing, as `kill -9` does.
    pub(crate) fn kill(&mut self, index: usize) {
        let running = self.members[index].running.take().expect("the node runs");
        running.runtime.shutdown_background();
    }

    /// Drains a node, as SIGTERM does, and waits for its end.
    pub(crate) async fn stop(&mut self, index: usize) {
        self.tell_to_stop(index);
        self.wait_for_end(index).await;
    }

    /// Has a node begin to drain.
    pub(crate) fn tell_to_stop(&self, index: usize) {
        self.members[index].running.as_ref().expect("the node runs").stop.cancel();
    }

    /// Waits until a node that was told to stop has ended.
    pub(crate) async fn wait_for_end(&mut self, index: usize) {
        let running = self.members[index].running.take().expect("the node runs");
        tokio::time::timeout(PATIENCE, running.ended).await.expect("the drain ends").unwrap().unwrap();
        running.runtime.shutdown_background();
    }

    /// Waits until a node has ended by itself. What it says.
    pub(crate) async fn wait_for_failure(&mut self, index: usize) -> String {
        let running = self.members[index].running.take().expect("the node runs");
        let ended = tokio::time::timeout(PATIENCE, running.ended).await.expect("it ends by itself").unwrap();
        running.runtime.shutdown_background();
        ended.unwrap_err()
    }

    /// The nodes that run.
    pub(crate) fn running(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|index| self.members[*index].running.is_some()).collect()
    }

    /// Sets the cluster's clock to `now`. Only while no node runs.
    pub(crate) fn set_clock(&mut self, now: Timestamp) {
        assert!(self.running().is_empty());
        self.clock = ScaledClock::new(FACTOR, now);
    }

    pub(crate) async fn wait_until_dealt(&self) {
        eventually("shards dealt to live nodes", || async {
            let cluster = self.get("/v1/cluster").await?;
            let running: Vec<u64> = self.running().iter().map(|index| *index as u64 + 1).collect();
            let members = cluster["data"]["members"].as_array().cloned().unwrap_or_default();
            let shards: u64 = members
                .iter()
                .filter(|member| {
                    let id = member["node_id"].as_u64().unwrap();
                    member["live"] == json!(true) && running.contains(&id)
                })
                .filter_map(|member| member["shards"].as_u64())
                .sum();
            let live = members.iter().filter(|member| member["live"] == json!(true)).count();
            if shards == 256 && live == running.len() { Ok(()) } else { Err(cluster.to_string()) }
        })
        .await;
    }

    /// Index of the node that leads.
    pub(crate) async fn leader(&self) -> usize {
        eventually("a leader", || async {
            let cluster = self.get("/v1/cluster").await?;
            let leader = cluster["data"]["leader_id"].as_u64().ok_or_else(|| cluster.to_string())?;
            let index = usize::try_from(leader).unwrap() - 1;
            if self.running().contains(&index) { Ok(index) } else { Err(format!("{index} does not run")) }
        })
        .await
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Value, String> {
        self.ask(reqwest::Method::GET, path, None).await
    }

    pub(crate) async fn post(&self, path: &str, body: Option<Value>) -> Value {
        self.ask(reqwest::Method::POST, path, body).await.unwrap()
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Value {
        self.ask(reqwest::Method::PATCH, path, Some(body)).await.unwrap()
    }

    pub(crate) async fn delete(&self, path: &str) {
        self.ask(reqwest::Method::DELETE, path, None).await.unwrap();
    }

    /// As [`TestCluster::get`], of the node with this index.
    pub(crate) async fn get_from(&self, index: usize, path: &str) -> Result<Value, String> {
        self.ask_node(index, reqwest::Method::GET, path, None).await
    }

    /// A POST to the node with this index, which may die over it.
    pub(crate) async fn post_to(&self, index: usize, path: &str) -> Result<Value, String> {
        self.ask_node(index, reqwest::Method::POST, path, None).await
    }

    async fn ask(&self, method: reqwest::Method, path: &str, body: Option<Value>) -> Result<Value, String> {
        self.ask_node(*self.running().last().expect("a node runs"), method, path, body).await
    }

    async fn ask_node(
        &self,
        index: usize,
        method: reqwest::Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, String> {
        let mut request = self
            .client
            .request(method, format!("http://{}{path}", self.members[index].api))
            .bearer_auth(API_KEY);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let text = answer.text().await.map_err(|error| error.to_string())?;
        if status == reqwest::StatusCode::NO_CONTENT {
            Ok(Value::Null)
        } else if status.is_success() {
            serde_json::from_str(&text).map_err(|error| error.to_string())
        } else {
            Err(format!("{status}: {text}"))
        }
    }

    /// Where operators and peers reach a node.
    pub(crate) fn rpc_addr(&self, index: usize) -> SocketAddr {
        self.members[index].rpc
    }

    /// Where clients reach a node.
    pub(crate) fn api_addr(&self, index: usize) -> SocketAddr {
        self.members[index].api
    }

    /// Sends a request to one node, with any credential, and returns its status and body.
    pub(crate) async fn send(
        &self,
        index: usize,
        credential: &str,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let url = format!("http://{}{path}", self.members[index].api);
        let mut request = self.client.request(method, url).bearer_auth(credential);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, serde_json::from_str(&answer.text().await.unwrap()).unwrap_or_default())
    }

    /// As [`TestCluster::send`], with the key of the first account.
    pub(crate) async fn send_with_key(
        &self,
        index: usize,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> (u16, Value) {
        self.send(index, API_KEY, method, path, body).await
    }

    /// Creates a job that calls `path`; `extra` adds to or changes its fields. Returns its id.
    pub(crate) async fn create_job(&self, cron: &str, path: &str, extra: Value) -> String {
        let mut body = json!({"name": path, "cron_expression": cron, "url": self.target.url(path)});
        for (key, value) in extra.as_object().cloned().unwrap_or_default() {
            body[key] = value;
        }
        let created = self.post("/v1/jobs", Some(body)).await;
        created["data"]["id"].as_str().unwrap().to_owned()
    }

    /// The history of a job, newest first.
    pub(crate) async fn executions(&self, job: &str) -> Result<Vec<Value>, String> {
        let page = self.get(&format!("/v1/jobs/{job}/executions?per_page=100")).await?;
        Ok(page["data"].as_array().cloned().unwrap_or_default())
    }

    /// Waits until the cluster's clock shows `at`.
    pub(crate) async fn until(&self, at: Timestamp) {
        while self.clock.now() < at {
            self.clock.sleep(at.since(self.clock.now())).await;
        }
    }
}

impl Drop for TestCluster {
    fn drop(&mut self) {
        for member in &mut self.members {
            if let Some(running) = member.running.take() {
                running.runtime.shutdown_background();
            }
        }
    }
}

/// Takes a port of a node that has just been killed, as soon as it is free.
async fn bind(addr: SocketAddr) -> TcpListener {
    eventually("the port", || async { TcpListener::bind(addr).map_err(|error| error.to_string()) }).await
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
