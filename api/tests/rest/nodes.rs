//! The nodes of a cluster in this process: real storage, real RPC on the loopback, and a router each.

use crate::conform;
use crate::outside::Outside;
use crate::service::{Answer, FakeTester, HttpsOnly, ManualClock, PATIENCE};
use api::services::Services;
use api::{Deps, Passwords, RateLimits};
use axum::Router;
use axum::body::{Body, Bytes};
use domain::account::{Plan, Plans};
use domain::id::NodeId;
use domain::node::SessionId;
use domain::time::Clock;
use futures::future::join_all;
use http_body_util::BodyExt;
use hyper::Request;
use hyper::http::response::Parts;
use raft::{Cluster, Secret};
use std::collections::BTreeMap;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use storage::Storage;
use tempfile::TempDir;
use tokio::runtime::{self, Runtime};
use tower::ServiceExt;

/// Members of every cluster.
const MEMBERS: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];
/// How long a runtime may take to let go of what runs on it.
const LETTING_GO: Duration = Duration::from_secs(10);

/// What a cluster is told, where it is not the usual.
pub(crate) struct Setup {
    /// Of its account.
    pub(crate) plan: Plan,
    pub(crate) plans: Plans,
    pub(crate) services: Services,
    /// Long where nobody dies, so that a busy machine changes no leader.
    pub(crate) election_timeout: (Duration, Duration),
    pub(crate) read_timeout: Duration,
    /// How long a request waits for the leader to count it. Long where nobody dies, so that a busy machine does not
    /// look like a dead leader.
    pub(crate) limit_patience: Duration,
    /// Requests a minute in place of the plan's; 0 for no limit.
    pub(crate) limit: Option<u64>,
}

impl Setup {
    /// For tests in which nodes die: the others notice as fast as in production.
    pub(crate) fn mortal() -> Self {
        Self {
            election_timeout: (Duration::from_millis(300), Duration::from_millis(600)),
            limit_patience: RateLimits::default().patience,
            ..Self::default()
        }
    }
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            plan: Plan::Scale,
            plans: Plans::default(),
            services: Outside::services(),
            election_timeout: (Duration::from_secs(3), Duration::from_secs(6)),
            read_timeout: Duration::from_secs(10),
            limit_patience: PATIENCE,
            limit: None,
        }
    }
}

/// What nodes are started with.
pub(crate) struct Start<'a> {
    pub(crate) setup: &'a Setup,
    pub(crate) clock: &'a Arc<ManualClock>,
    pub(crate) tester: &'a Arc<FakeTester>,
    pub(crate) outside: &'a Arc<Outside>,
}

/// One of them. Dropping it drops everything it was doing.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) router: Router,
    pub(crate) cluster: Cluster,
    pub(crate) key_use: api::key_use::Service,
    deps: Deps,
    /// Its own, so that it can die alone.
    runtime: Option<Runtime>,
    _dir: TempDir,
}

impl Node {
    /// Sends it a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let (parts, bytes) = self.send_raw(request).await;
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let answer = Answer { status: parts.status, headers: parts.headers, text };
        conform::check_answer(method.as_str(), &path, &answer);
        answer
    }

    /// As [`Node::send`], whatever the body is; not compared with the document.
    pub(crate) async fn send_raw(&self, request: Request<Body>) -> (Parts, Bytes) {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        (parts, body.collect().await.unwrap().to_bytes())
    }

    pub(crate) fn close_registration(&mut self) {
        self.deps.registration_open = false;
        self.router = api::router(self.deps.clone());
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let Some(runtime) = self.runtime.take() else { return };
        // On a thread of its own, because no runtime may be waited for on another one. The directory goes last: storage
        // that finds its files gone may wait for ever.
        let gone = std::thread::spawn(move || runtime.shutdown_timeout(LETTING_GO)).join();
        assert!(gone.is_ok() || std::thread::panicking(), "the node does not end");
    }
}

/// Starts those of the members that are named. Nobody listens for the others.
pub(crate) async fn start_all(start: &Start<'_>, nodes: &[NodeId]) -> Vec<Node> {
    // Bound together and before any starts, so that each knows all addresses.
    let listeners = nodes.iter().map(|node| (*node, TcpListener::bind("127.0.0.1:0").unwrap()));
    let listeners: BTreeMap<_, _> = listeners.collect();
    let address = |node: &NodeId| match listeners.get(node) {
        Some(listener) => listener.local_addr().unwrap().to_string(),
        // Nothing listens on port 1.
        None => "127.0.0.1:1".to_owned(),
    };
    let members: BTreeMap<_, _> = MEMBERS.iter().map(|node| (*node, address(node))).collect();
    // Its own for each cluster: the port of a node that has died may come to a node of another test.
    let secret = Secret::new(format!("{:016x}", rand::random::<u64>()));
    let settings = |node| raft::Settings::new(node, SessionId(1), members.clone(), secret.clone());
    let started = listeners.into_iter().map(|(node, listener)| start_one(start, settings(node), listener));
    join_all(started).await
}

async fn start_one(start: &Start<'_>, mut settings: raft::Settings, listener: TcpListener) -> Node {
    let id = settings.node;
    settings.api_url = format!("http://127.0.0.1:{}", 8_079 + id.0);
    settings.election_timeout = start.setup.election_timeout;
    settings.propose_timeout = PATIENCE;
    settings.read_timeout = start.setup.read_timeout;
    let runtime = runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let dir = TempDir::new().unwrap();
    let path = dir.path().to_owned();
    let clock: Arc<dyn Clock> = start.clock.clone();
    let starting = runtime.spawn(async move {
        let storage = Storage::open(&path, storage::Settings::default()).unwrap();
        let (cluster, _, services) = Cluster::start(settings, storage, clock, listener).await.unwrap();
        for (name, service) in services {
            runtime::Handle::current().spawn(async move {
                service.await.unwrap_or_else(|error| panic!("{name} has failed: {error}"));
            });
        }
        cluster
    });
    let cluster = starting.await.unwrap();
    let (key_use, noted) = api::key_use::Service::new(cluster.clone());
    let deps = Deps {
        cluster: cluster.clone(),
        clock: start.clock.clone(),
        targets: Arc::new(HttpsOnly),
        tester: start.tester.clone(),
        plans: Arc::new(start.setup.plans),
        rate_limits: RateLimits {
            general: start.setup.limit,
            run: start.setup.limit,
            patience: start.setup.limit_patience,
        },
        proxies: Arc::default(),
        key_use: noted,
        passwords: Passwords::default(),
        registration_open: true,
        outbound: start.outside.clone(),
        services: Arc::new(start.setup.services.clone()),
        metrics: Arc::new(|| "justrun_raft_term 1\n".to_owned()),
    };
    let router = api::router(deps.clone());
    Node { id, router, cluster, key_use, deps, runtime: Some(runtime), _dir: dir }
}
