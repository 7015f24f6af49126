//! One node with an account, its router, and a clock that stands still until it is moved.

use crate::outside::Outside;
use api::services::Services;
use api::{ChannelTester, Deps, KeyUse, Passwords, RateLimits, TargetPolicy};
use axum::Router;
use axum::body::Body;
use domain::account::{Account, ApiKey, Plan};
use domain::channel::Channel;
use domain::execution::{Attempt, AttemptResult, ErrorKind, Failure, Outcome};
use domain::id::{AccountId, DeliveryId, ExecutionId, JobId, KeyId, NodeId, SpaceId};
use domain::node::{Incarnation, SessionId};
use domain::space::Space;
use domain::time::{Clock, Timestamp};
use futures::FutureExt;
use futures::future::BoxFuture;
use http_body_util::BodyExt;
use hyper::{HeaderMap, Request, StatusCode};
use raft::command::{
    Bootstrap, Claim, ClaimTarget, Command, CreateAccount, CreateKey, CreateSpace, SetSessionKey,
};
use raft::{Cluster, Secret};
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use storage::Storage;
use tempfile::TempDir;
use tower::ServiceExt;
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
/// The one node.
pub(crate) const NODE: NodeId = NodeId(1);
/// 2026-04-10T14:22:00Z, a moment of the documentation.
pub(crate) const START: Timestamp = Timestamp::from_secs(1_775_830_920);

/// Shows the time it was set to.
pub(crate) struct ManualClock {
    now: AtomicU64,
    start: Instant,
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
        self.start.elapsed()
    }
}

/// As in production, as far as the scheme goes.
struct HttpsOnly;

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

/// A running service.
pub(crate) struct Service {
    pub(crate) router: Router,
    pub(crate) cluster: Cluster,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) incarnation: Incarnation,
    pub(crate) key_use: api::key_use::Service,
    pub(crate) tester: Arc<FakeTester>,
    pub(crate) outside: Arc<Outside>,
    _dir: TempDir,
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
        Self::start_with(plan, Outside::services()).await
    }

    /// With settings of services outside that are not the usual ones.
    pub(crate) async fn start_with(plan: Plan, services: Services) -> Self {
        let clock = clock();
        let (cluster, dir) = start_node(&clock, &[NODE]).await;
        let incarnation = cluster.register().await.unwrap();
        let account = account(ACCOUNT, plan);
        let key = key(KEY, ACCOUNT);
        cluster.propose(Command::Bootstrap(Bootstrap { account, key })).await.unwrap();
        let session_key = SESSION_KEY.to_vec();
        cluster.propose(Command::SetSessionKey(SetSessionKey { key: session_key })).await.unwrap();
        let (key_use, noted) = api::key_use::Service::new(cluster.clone());
        let tester = Arc::default();
        let outside = Arc::new(Outside::new());
        let router = api::router(deps(&cluster, &clock, &tester, &noted, &outside, services));
        Self { router, cluster, clock, incarnation, key_use, tester, outside, _dir: dir }
    }

    /// On which everybody may ask as often as they like.
    pub(crate) async fn start_unlimited() -> Self {
        let mut service = Self::start().await;
        let rate_limits = RateLimits { general: Some(0), run: Some(0) };
        service.router = api::router(Deps { rate_limits, ..service.deps() });
        service
    }

    fn deps(&self) -> Deps {
        let key_use = KeyUse::default();
        deps(&self.cluster, &self.clock, &self.tester, &key_use, &self.outside, Outside::services())
    }

    /// A node that never finds the others, so that nobody leads.
    pub(crate) async fn start_without_quorum() -> Self {
        let clock = clock();
        let (cluster, dir) = start_node(&clock, &[NODE, NodeId(2), NodeId(3)]).await;
        let (key_use, noted) = api::key_use::Service::new(cluster.clone());
        let tester = Arc::default();
        let outside = Arc::new(Outside::new());
        let services = Outside::services();
        let router = api::router(deps(&cluster, &clock, &tester, &noted, &outside, services));
        Self { router, cluster, clock, incarnation: Incarnation(0), key_use, tester, outside, _dir: dir }
    }

    /// The same service as an operator sets it up who takes no new accounts.
    pub(crate) fn close_registration(&mut self) {
        self.router = api::router(Deps { registration_open: false, ..self.deps() });
    }

    /// Makes a second account beside the first.
    pub(crate) async fn add_foreign_account(&self) {
        let account = account(FOREIGN_ACCOUNT, Plan::Free);
        let create = Command::CreateAccount(Box::new(CreateAccount { account, user: None }));
        self.cluster.propose(create).await.unwrap();
        let key = key(FOREIGN_KEY, FOREIGN_ACCOUNT);
        self.cluster.propose(Command::CreateKey(CreateKey { key })).await.unwrap();
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
        self.cluster.propose(Command::CreateSpace(CreateSpace { space })).await.unwrap();
        SpaceId(id).to_string()
    }

    /// Sends a request as it is.
    pub(crate) async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    /// Sends a request with the account's key and a JSON text.
    pub(crate) async fn call_text(&self, method: &str, path: &str, body: impl Into<Body>) -> Answer {
        self.send(request(KEY, method, path, body)).await
    }

    pub(crate) async fn call(&self, method: &str, path: &str, body: Value) -> Answer {
        self.call_text(method, path, body.to_string()).await
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

    /// Waits until everything is on disk. A test that writes megabytes ends with this: the directory goes before
    /// the storage does, and sled waits for ever for a large value whose file it could not make.
    pub(crate) fn settle(&self) {
        self.cluster.state().flush().unwrap();
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
        self.cluster.propose(Command::Claim(Claim { node, incarnation, target })).await.unwrap();
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
        self.cluster.propose(Command::Record(Box::new(outcome))).await.unwrap();
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

/// Starts a node that is one of `members`; the others cannot be reached.
async fn start_node(clock: &Arc<ManualClock>, members: &[NodeId]) -> (Cluster, TempDir) {
    let dir = TempDir::new().unwrap();
    let storage = Storage::open(dir.path(), storage::Settings::default()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = listener.local_addr().unwrap().to_string();
    // Nothing listens on port 1.
    let address = |node: &NodeId| if *node == NODE { ours.clone() } else { "127.0.0.1:1".to_owned() };
    let members = members.iter().map(|node| (*node, address(node))).collect();
    let mut settings = raft::Settings::new(NODE, SessionId(1), members, Secret::new("secret"));
    settings.api_url = "http://127.0.0.1:8080".to_owned();
    settings.read_timeout = Duration::from_millis(500);
    let clock: Arc<dyn Clock> = clock.clone();
    let (cluster, _, services) = Cluster::start(settings, storage, clock, listener).await.unwrap();
    for (_, service) in services {
        #[expect(clippy::disallowed_methods, reason = "the runtime of the test ends it")]
        tokio::spawn(service);
    }
    (cluster, dir)
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock { now: AtomicU64::new(START.as_millis()), start: Instant::now() })
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

/// On which everybody may register, and which knows no limits but those of plans.
fn deps(
    cluster: &Cluster,
    clock: &Arc<ManualClock>,
    tester: &Arc<FakeTester>,
    key_use: &KeyUse,
    outside: &Arc<Outside>,
    services: Services,
) -> Deps {
    Deps {
        cluster: cluster.clone(),
        clock: clock.clone(),
        targets: Arc::new(HttpsOnly),
        tester: tester.clone(),
        plans: Arc::default(),
        rate_limits: RateLimits::default(),
        key_use: key_use.clone(),
        passwords: Passwords::default(),
        registration_open: true,
        outbound: outside.clone(),
        services: Arc::new(services),
        metrics: Arc::new(|| "justrun_raft_term 1\n".to_owned()),
    }
}
