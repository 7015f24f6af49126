//! Three nodes with an account, asked in turn, and a clock that stands still until it is moved.

use crate::conform;
use crate::nodes::{Node, Setup, Start, start_all};
use crate::outside::Outside;
use api::services::Services;
use api::{ChannelTester, TargetPolicy};
use axum::Router;
use axum::body::{Body, Bytes};
use domain::account::{Account, ApiKey, Plan};
use domain::channel::Channel;
use domain::execution::{Attempt, AttemptResult, ErrorKind, Failure, Outcome};
use domain::id::{AccountId, DeliveryId, ExecutionId, JobId, KeyId, NodeId, SpaceId};
use domain::node::Incarnation;
use domain::space::Space;
use domain::time::{Clock, Timestamp};
use futures::FutureExt;
use futures::future::{BoxFuture, join_all};
use hyper::http::response::Parts;
use hyper::{HeaderMap, Request, StatusCode};
use raft::command::{
    Bootstrap, Claim, ClaimTarget, Command, CreateAccount, CreateKey, CreateSpace, SetSessionKey,
};
use raft::{Cluster, Status};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use url::Url;

/// The account's key.
pub(crate) const KEY: &str = "jrun_sk_0123456789abcdefghijABCDEFGHIJ01";
/// Another account's key.
pub(crate) const FOREIGN_KEY: &str = "jrun_sk_ffffffffffffffffffffffffffffffff";
/// The account.
pub(crate) const ACCOUNT: AccountId = AccountId(11);
/// Another one.
pub(crate) const FOREIGN_ACCOUNT: AccountId = AccountId(12);
/// What session tokens are signed with.
pub(crate) const SESSION_KEY: &[u8] = b"0123456789abcdef0123456789abcdef";
/// Whoever claims something claims it as this node.
pub(crate) const NODE: NodeId = NodeId(1);
/// 2026-04-10T14:22:00Z, a moment of the documentation.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_775_830_920);

/// How long anything may take that must come about, on a machine that is busy with other tests.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// So that something can have been before.
const BEFORE: Duration = Duration::from_secs(3_600);

/// Shows the time it was set to.
pub(crate) struct ManualClock {
    now: AtomicU64,
}

impl ManualClock {
    pub(crate) fn advance(&self, by: Duration) {
        self.now.fetch_add(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl ManualClock {
    /// As somebody does who sets a machine's clock.
    pub(crate) fn set_back(&self, by: Duration) {
        self.now.fetch_sub(u64::try_from(by.as_millis()).unwrap(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.now.load(Ordering::SeqCst))
    }

    fn elapsed(&self) -> Duration {
        // As far as the wall clock has gone: to a node, one that goes otherwise is a wall clock that is wrong.
        BEFORE + self.now().since(Timestamp::EPOCH)
    }
}

/// As in production, as far as the scheme goes.
pub(crate) struct HttpsOnly;

impl TargetPolicy for HttpsOnly {
    fn check(&self, url: &Url) -> Result<(), String> {
        if url.scheme() == "https" { Ok(()) } else { Err("must use https".to_owned()) }
    }
}

/// Delivers to every channel but those that are called "broken" or "hanging". Counts the messages.
#[derive(Default)]
pub(crate) struct FakeTester {
    pub(crate) sent: AtomicU64,
}

impl ChannelTester for FakeTester {
    fn test<'a>(
        &'a self,
        channel: &'a Channel,
        id: DeliveryId,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<(), String>> {
        assert_eq!((id.channel, at), (channel.id, START));
        self.sent.fetch_add(1, Ordering::SeqCst);
        match channel.name.as_str() {
            "broken" => async { Err("Slack answered 404: no_service".to_owned()) }.boxed(),
            "hanging" => std::future::pending().boxed(),
            _ => async { Ok(()) }.boxed(),
        }
    }
}

/// A running service. Requests go to its nodes in turn, so that what one of them was told is asked of another.
pub(crate) struct Service {
    nodes: Vec<Node>,
    /// Those that are asked in turn.
    asked: Vec<NodeId>,
    turn: AtomicUsize,
    pub(crate) clock: Arc<ManualClock>,
    /// Of [`NODE`].
    pub(crate) incarnation: Incarnation,
    pub(crate) tester: Arc<FakeTester>,
    pub(crate) outside: Arc<Outside>,
}

/// What was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error} in {self:?}"))
    }

    /// The `data` of an answer with `status`.
    #[track_caller]
    pub(crate) fn data(&self, status: u16) -> Value {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self.json()["data"].clone()
    }

    /// The `code` of a refusal with `status`.
    #[track_caller]
    pub(crate) fn code(&self, status: u16) -> String {
        assert_eq!(self.status.as_u16(), status, "{self:?}");
        self.json()["error"]["code"].as_str().expect("every refusal has a code").to_owned()
    }

    /// What a refusal says to people.
    #[track_caller]
    pub(crate) fn message(&self) -> String {
        self.json()["error"]["message"].as_str().expect("every refusal has a message").to_owned()
    }

    /// The fields at fault in a refusal with `status`.
    #[track_caller]
    pub(crate) fn faults(&self, status: u16) -> Vec<String> {
        assert_eq!(self.code(status), "validation_error");
        let details = self.json()["error"]["details"].as_array().expect("details are listed").clone();
        assert!(details.iter().all(|detail| detail["issue"].is_string()), "{self:?}");
        details.iter().map(|detail| detail["field"].as_str().expect("a field is named").to_owned()).collect()
    }
}

impl Service {
    pub(crate) async fn start() -> Self {
        Self::start_on(Plan::Scale).await
    }

    pub(crate) async fn start_on(plan: Plan) -> Self {
        Self::set_up(Setup { plan, ..Setup::default() }).await
    }

    /// With settings of services outside that are not the usual ones.
    pub(crate) async fn start_with(plan: Plan, services: Services) -> Self {
        Self::set_up(Setup { plan, services, ..Setup::default() }).await
    }

    /// A cluster that has an account and its key.
    pub(crate) async fn set_up(setup: Setup) -> Self {
        let mut service = Self::start_nodes(&setup, &[NodeId(1), NodeId(2), NodeId(3)]).await;
        let registered = join_all(service.nodes.iter().map(|node| node.cluster.register())).await;
        let incarnations: Vec<_> = registered.into_iter().map(Result::unwrap).collect();
        service.incarnation = incarnations[0];
        let commands = vec![
            Command::Bootstrap(Bootstrap { account: account(ACCOUNT, setup.plan), key: key(KEY, ACCOUNT) }),
            Command::SetSessionKey(SetSessionKey { key: SESSION_KEY.to_vec() }),
        ];
        let replies = service.node(NODE).cluster.propose_all(commands, PATIENCE).await.unwrap();
        replies.into_iter().for_each(|reply| assert!(reply.is_ok(), "{reply:?}"));
        service
    }

    /// On which everybody may ask as often as they like.
    pub(crate) async fn start_unlimited() -> Self {
        Self::set_up(Setup { limit: Some(0), ..Setup::default() }).await
    }

    /// A node that never finds the others, so that nobody leads.
    pub(crate) async fn start_without_quorum() -> Self {
        let setup = Setup { read_timeout: Duration::from_millis(500), ..Setup::default() };
        Self::start_nodes(&setup, &[NODE]).await
    }

    async fn start_nodes(setup: &Setup, nodes: &[NodeId]) -> Self {
        let clock = Arc::new(ManualClock { now: AtomicU64::new(START.as_millis()) });
        let (tester, outside) = (Arc::default(), Arc::new(Outside::new()));
        let start = Start { setup, clock: &clock, tester: &tester, outside: &outside };
        let (nodes, asked) = (start_all(&start, nodes).await, nodes.to_vec());
        Self { nodes, asked, turn: AtomicUsize::new(0), clock, incarnation: Incarnation(0), tester, outside }
    }

    /// The nodes that run.
    pub(crate) fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    pub(crate) fn node(&self, id: NodeId) -> &Node {
        self.nodes.iter().find(|node| node.id == id).expect("the node runs")
    }

    /// Whose turn it is.
    fn next(&self) -> &Node {
        self.node(self.asked[self.turn.fetch_add(1, Ordering::SeqCst) % self.asked.len()])
    }

    /// Lets one node answer everything from now on, for what each node counts for itself. The others live on.
    pub(crate) fn ask_only(&mut self, id: NodeId) {
        self.asked = vec![id];
    }

    /// Drops everything a node was doing, as `kill -9` does.
    pub(crate) fn kill(&mut self, id: NodeId) {
        self.asked.retain(|asked| *asked != id);
        self.nodes.retain(|node| node.id != id);
    }

    /// Who leads, as all nodes see it that run, once all of them could choose another one.
    pub(crate) async fn leader(&self) -> NodeId {
        eventually("a leader", async || {
            let seen: Vec<_> = self.nodes.iter().map(|node| node.cluster.status()).collect();
            let leader = seen[0].leader.filter(|leader| {
                let agrees = |status: &Status| status.leader == Some(*leader) && status.term == seen[0].term;
                seen.iter().all(|status| agrees(status) && status.may_vote)
            });
            let leader = leader.filter(|leader| self.nodes.iter().any(|node| node.id == *leader));
            leader.ok_or_else(|| format!("{seen:?}"))
        })
        .await
    }

    /// The next node's part in the cluster, once it has seen everything that was acknowledged.
    pub(crate) async fn cluster(&self) -> &Cluster {
        let cluster = &self.next().cluster;
        cluster.read_barrier().await.unwrap();
        cluster
    }

    /// Waits until every node has seen everything that was acknowledged, for what answers by what a node knows itself.
    pub(crate) async fn caught_up(&self) {
        for node in &self.nodes {
            node.cluster.read_barrier().await.unwrap();
        }
    }

    /// The router of the node whose turn it is.
    pub(crate) fn router(&self) -> Router {
        self.next().router.clone()
    }

    /// The same service as an operator sets it up who takes no new accounts.
    pub(crate) fn close_registration(&mut self) {
        self.nodes.iter_mut().for_each(Node::close_registration);
    }

    /// Writes down what each node has noted of the use of keys.
    pub(crate) async fn write_down_key_use(&self) {
        for node in &self.nodes {
            node.key_use.write_down().await;
        }
    }

    /// Makes a second account beside the first.
    pub(crate) async fn add_foreign_account(&self) {
        let account = account(FOREIGN_ACCOUNT, Plan::Free);
        let create = Command::CreateAccount(Box::new(CreateAccount { account, user: None }));
        let cluster = self.cluster().await;
        cluster.propose(create).await.unwrap();
        let key = key(FOREIGN_KEY, FOREIGN_ACCOUNT);
        cluster.propose(Command::CreateKey(CreateKey { key })).await.unwrap();
    }

    pub(crate) async fn add_space(&self, id: u64, account: AccountId, timezone: &str) -> String {
        let space = Space {
            id: SpaceId(id),
            account,
            name: "Production".to_owned(),
            timezone: timezone.to_owned(),
            paused_at: None,
            generation: 0,
            turned_at: Timestamp::EPOCH,
            jobs: 0,
            created_at: START,
            updated_at: START,
        };
        self.cluster().await.propose(Command::CreateSpace(CreateSpace { space })).await.unwrap();
        SpaceId(id).to_string()
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        self.next().send(request).await
    }

    /// As [`Service::send`], whatever the body is; not compared with the document.
    pub(crate) async fn send_raw(&self, request: Request<Body>) -> (Parts, Bytes) {
        self.next().send_raw(request).await
    }

    /// Sends a request with the account's key and a JSON text.
    pub(crate) async fn call_text(&self, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        self.send(request(KEY, method, path, body)).await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        let answer = self.call_text(method, path, body.to_string()).await;
        if answer.status.is_success() {
            conform::check_request(method, path, &body, &answer);
        }
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(request(KEY, "GET", path, Body::empty())).await
    }

    /// Sends a request with another credential than the account's key.
    pub(crate) async fn call_as(&self, credential: &str, method: &str, path: &str, body: Value) -> Answer {
        let body = if body.is_null() { Body::empty() } else { Body::from(body.to_string()) };
        self.send(request(credential, method, path, body)).await
    }

    /// Sends a POST that names itself.
    pub(crate) async fn post_once(&self, name: &str, path: &str, body: &Value) -> Answer {
        let mut request = request(KEY, "POST", path, body.to_string());
        request.headers_mut().insert("idempotency-key", name.parse().unwrap());
        self.send(request).await
    }

    /// Registers somebody, and returns the session token.
    pub(crate) async fn sign_up(&self, email: &str) -> String {
        let body = serde_json::json!({"email": email, "password": "correct horse"});
        let data = self.call_as("", "POST", "/v1/auth/register", body).await.data(201);
        data["token"].as_str().unwrap().to_owned()
    }

    /// Sends a POST without a body or a content type.
    pub(crate) async fn post(&self, path: &str) -> Answer {
        let builder = Request::builder().method("POST").uri(path).header("authorization", bearer(KEY));
        self.send(builder.body(Body::empty()).unwrap()).await
    }

    /// Sends a request that names itself.
    pub(crate) async fn call_once(&self, name: &str, method: &str, path: &str, body: Value) -> Answer {
        let mut request = request(KEY, method, path, body.to_string());
        request.headers_mut().insert("idempotency-key", name.parse().unwrap());
        self.send(request).await
    }

    /// Runs a job by hand to the end; its target answers with `status_code`.
    pub(crate) async fn run_to_end(&self, job: JobId, status_code: u16) -> ExecutionId {
        let run = self.post(&format!("/v1/jobs/{job}/run")).await.data(200);
        let id: ExecutionId = run["execution_id"].as_str().unwrap().parse().unwrap();
        let (node, incarnation) = (NODE, self.incarnation);
        let target = ClaimTarget::Execution { id, attempt: 1 };
        self.cluster().await.propose(Command::Claim(Claim { node, incarnation, target })).await.unwrap();
        let now = self.clock.now();
        let attempt = Attempt {
            number: 1,
            node,
            started_at: now,
            finished_at: now,
            duration_ms: 5,
            status_code: Some(status_code),
            failure: (status_code >= 300)
                .then(|| Failure { kind: ErrorKind::HttpStatus, message: format!("HTTP {status_code}") }),
        };
        let result = AttemptResult::Sent { attempt, body: None, retry_at: None };
        let outcome = Outcome { execution: id, attempt: 1, node, incarnation, result };
        self.cluster().await.propose(Command::Record(Box::new(outcome))).await.unwrap();
        id
    }

    /// Makes a job that is due every five minutes, and returns its id.
    pub(crate) async fn make_job(&self) -> JobId {
        let body = serde_json::json!({
            "name": "Health Check",
            "cron_expression": "*/5 * * * *",
            "url": "https://api.example.com/health",
        });
        let data = self.call("POST", "/v1/jobs", body).await.data(201);
        data["id"].as_str().unwrap().parse().unwrap()
    }
}

pub(crate) fn request(key: &str, method: &str, path: &str, body: impl Into<Body>) -> Request<Body> {
    Request::builder()
        .method(method)
        .uri(path)
        .header("authorization", bearer(key))
        .header("content-type", "application/json")
        .body(body.into())
        .unwrap()
}

fn bearer(key: &str) -> String {
    format!("Bearer {key}")
}

fn key(text: &str, account: AccountId) -> ApiKey {
    ApiKey {
        id: KeyId(account.0),
        account,
        name: "test".to_owned(),
        hash: Sha256::digest(text).into(),
        last_four: text[text.len() - 4..].to_owned(),
        created_at: START,
        last_used_at: None,
    }
}

fn account(id: AccountId, plan: Plan) -> Account {
    Account { id, plan, email: None, billing: None, created_at: START }
}

/// Waits for something to be so, and says what was seen last when it does not come about.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match look().await {
            Ok(seen) => return seen,
            Err(seen) => assert!(Instant::now() < deadline, "waited in vain for {what}; last seen: {seen}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
