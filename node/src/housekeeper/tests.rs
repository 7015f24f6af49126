//! On a cluster of one node, whose clock is moved by hand.

use super::*;
use crate::samples;
use domain::account::{Account, ApiKey, Plan};
use domain::execution::{Attempt, AttemptResult, Outcome};
use domain::id::{ExecutionId, KeyId, NodeId};
use domain::job::{Job, JobState};
use domain::node::{Incarnation, SessionId};
use domain::space::Space;
use domain::time::Clock;
use parking_lot::Mutex;
use raft::command::{Bootstrap, Claim, ClaimTarget, CreateJob, CreateSpace, PauseSpace, ResumeSpace, RunJob};
use std::future::Future;
use std::net::TcpListener;
use std::pin::Pin;
use std::time::Instant;
use storage::Storage;
use storage::schema::{ExecutionHours, JobHour};
use tempfile::TempDir;

const ACCOUNT: AccountId = AccountId(11);
const SPACE: SpaceId = SpaceId(5);
const NODE: NodeId = NodeId(1);
/// 2026-06-01, a whole day.
const START: Timestamp = Timestamp::from_secs(1_780_272_000);
const DAY: Duration = Duration::from_secs(24 * 3_600);

/// A clock that stands still until it is moved; by it, sleeping takes no time.
struct StillClock(Mutex<Duration>);

impl Clock for StillClock {
    fn now(&self) -> Timestamp {
        START.plus(self.elapsed())
    }

    fn elapsed(&self) -> Duration {
        *self.0.lock()
    }
}

impl Sleeper for StillClock {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(tokio::task::yield_now())
    }
}

struct Scene {
    cluster: Cluster,
    clock: Arc<StillClock>,
    housekeeper: Housekeeper,
    incarnation: Incarnation,
    _dir: TempDir,
}

impl Scene {
    async fn start(plan: Plan) -> Self {
        Self::start_with(plan, Plans::default()).await
    }

    async fn start_with(plan: Plan, plans: Plans) -> Self {
        let dir = TempDir::new().unwrap();
        let storage = Storage::open(dir.path(), storage::Settings::default()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let members = BTreeMap::from([(NODE, listener.local_addr().unwrap().to_string())]);
        let settings = raft::Settings::new(NODE, SessionId(1), members, raft::Secret::new("secret"));
        let clock = Arc::new(StillClock(Mutex::new(Duration::ZERO)));
        // Consensus goes by real time, the state by the clock of the scene.
        let (cluster, _, services) =
            Cluster::start(settings, storage, Arc::<StillClock>::clone(&clock), listener).await.unwrap();
        for (_, service) in services {
            #[expect(clippy::disallowed_methods, reason = "the runtime of the test ends it")]
            tokio::spawn(service);
        }
        let incarnation = cluster.register().await.unwrap();
        let created_at = START;
        let account = Account { id: ACCOUNT, plan, email: None, billing: None, created_at };
        let key = ApiKey {
            id: KeyId(1),
            account: ACCOUNT,
            name: "test".to_owned(),
            hash: [7; 32],
            last_four: "abcd".to_owned(),
            created_at,
            last_used_at: None,
        };
        let sleeper: Arc<dyn Sleeper> = Arc::<StillClock>::clone(&clock);
        let housekeeper = Housekeeper::new(cluster.clone(), sleeper, Arc::new(plans));
        let scene = Self { cluster, clock, housekeeper, incarnation, _dir: dir };
        scene.propose(vec![Command::Bootstrap(Bootstrap { account, key })]).await;
        scene
    }

    /// Proposes what must not be refused.
    async fn propose(&self, commands: Vec<Command>) {
        for reply in self.cluster.propose_all(commands, PATIENCE).await.unwrap() {
            reply.unwrap();
        }
    }

    fn advance(&self, by: Duration) {
        *self.clock.0.lock() += by;
    }

    fn job(&self, id: u64, space: Option<SpaceId>) -> Command {
        let now = self.clock.now();
        let job = Job {
            account: ACCOUNT,
            space,
            cron_expression: "*/5 * * * *".to_owned(),
            created_at: now,
            updated_at: now,
            ..samples::job(JobId(id))
        };
        let next_run_at = Some(now.plus(Duration::from_secs(300)));
        Command::CreateJob(Box::new(CreateJob { job, next_run_at, paused: false, jobs_max: None }))
    }

    /// Runs a job `count` times at this moment, to the end.
    async fn run(&self, job: JobId, count: u16) {
        for salt in (0..count).step_by(100) {
            let ids: Vec<_> = (salt..count.min(salt + 100))
                .map(|salt| ExecutionId::manual(job, self.clock.now(), salt))
                .collect();
            for step in [Self::ask, Self::claim, Self::succeed] {
                self.propose(ids.iter().map(|id| step(self, *id)).collect()).await;
            }
        }
    }

    fn ask(&self, execution: ExecutionId) -> Command {
        Command::RunJob(RunJob { account: ACCOUNT, execution })
    }

    fn claim(&self, id: ExecutionId) -> Command {
        let target = ClaimTarget::Execution { id, attempt: 1 };
        Command::Claim(Claim { node: NODE, incarnation: self.incarnation, target })
    }

    fn succeed(&self, execution: ExecutionId) -> Command {
        let now = self.clock.now();
        let attempt = Attempt {
            number: 1,
            node: NODE,
            started_at: now,
            finished_at: now,
            duration_ms: 1,
            status_code: Some(200),
            failure: None,
        };
        let result = AttemptResult::Sent { attempt, body: None, retry_at: None };
        let (node, incarnation) = (NODE, self.incarnation);
        Command::Record(Box::new(Outcome { execution, attempt: 1, node, incarnation, result }))
    }

    fn state(&self, job: u64) -> JobState {
        self.cluster.state().view().get::<JobStates>(&JobId(job)).unwrap().unwrap()
    }

    fn left(&self, job: u64) -> usize {
        let view = self.cluster.state().view();
        view.keys_prefix::<Executions>(&job.to_be_bytes(), None, 100_000).unwrap().len()
    }

    fn is_unaligned(&self) -> bool {
        self.cluster.state().view().contains::<UnalignedSpaces>(&SPACE).unwrap()
    }

    /// Makes a space with some jobs that its owner pauses and dies before their cursors have followed.
    async fn abandon(&self, jobs: u64) {
        let at = self.clock.now();
        let space = Space { account: ACCOUNT, created_at: at, updated_at: at, ..samples::space(SPACE) };
        self.propose(vec![Command::CreateSpace(CreateSpace { space })]).await;
        for first in (0..jobs).step_by(100) {
            let jobs = (first..jobs.min(first + 100)).map(|id| self.job(id, Some(SPACE)));
            self.propose(jobs.collect()).await;
        }
        self.propose(vec![Command::PauseSpace(PauseSpace { account: ACCOUNT, space: SPACE, at })]).await;
    }
}

#[tokio::test]
async fn what_a_dead_node_left_half_turned_is_finished() {
    let mut scene = Scene::start(Plan::Scale).await;
    scene.abandon(600).await;
    scene.housekeeper.step().await;
    assert!(scene.is_unaligned(), "whoever turned it has a moment to finish it");
    scene.advance(LEFT_AFTER);
    scene.housekeeper.step().await;
    assert!(!scene.is_unaligned());
    assert!((0..600).all(|job| scene.state(job).next_run_at.is_none()));

    scene.advance(Duration::from_secs(60));
    let at = scene.clock.now();
    scene.propose(vec![Command::ResumeSpace(ResumeSpace { account: ACCOUNT, space: SPACE, at })]).await;
    scene.housekeeper.step().await;
    scene.advance(Duration::from_secs(600));
    scene.housekeeper.step().await;
    assert!(!scene.is_unaligned());
    let first = START.plus(Duration::from_secs(300));
    assert!(
        (0..600).all(|job| scene.state(job).next_run_at == Some(first)),
        "the first after the resumption"
    );
}

#[tokio::test]
async fn a_space_turned_back_before_anybody_followed_keeps_what_is_still_right() {
    let mut scene = Scene::start(Plan::Scale).await;
    scene.abandon(3).await;
    scene.advance(Duration::from_secs(400));
    scene.propose(vec![scene.job(3, Some(SPACE))]).await;
    let at = scene.clock.now();
    scene.propose(vec![Command::ResumeSpace(ResumeSpace { account: ACCOUNT, space: SPACE, at })]).await;
    scene.propose(vec![scene.job(4, Some(SPACE))]).await;
    let late = scene.state(4).next_run_at;
    scene.housekeeper.step().await;
    scene.advance(LEFT_AFTER);
    scene.housekeeper.step().await;
    let next = Some(START.plus(Duration::from_secs(600)));
    let cursors: Vec<_> = (0..5).map(|job| scene.state(job).next_run_at).collect();
    assert_eq!(cursors, [next, next, next, next, late]);
}

#[tokio::test]
async fn history_goes_when_the_plan_no_longer_keeps_it() {
    let mut scene = Scene::start(Plan::Free).await;
    scene.propose((0..3).map(|id| scene.job(id, None)).collect()).await;
    scene.run(JobId(1), 1_200).await;
    scene.run(JobId(2), 5).await;
    scene.advance(3 * DAY);
    scene.run(JobId(2), 7).await;
    // Long unfinished, and kept for that.
    scene.propose(vec![scene.ask(ExecutionId::manual(JobId(1), START, 5_000))]).await;

    scene.housekeeper.step().await;
    assert_eq!((scene.left(1), scene.left(2)), (1_201, 12), "seven days are kept");
    scene.advance(5 * DAY);
    let deadline = Instant::now() + Duration::from_secs(20);
    while (scene.left(1), scene.left(2)) != (1, 7) {
        assert!(Instant::now() < deadline, "left: {} {}", scene.left(1), scene.left(2));
        scene.housekeeper.step().await;
    }
    assert_eq!((scene.state(1).executions_total, scene.state(2).executions_total), (1, 7));
    let hours = scene.cluster.state().view().prefix::<ExecutionHours>(&2u64.to_be_bytes(), None, 10).unwrap();
    let hour = JobHour { job: JobId(2), hour: START.plus(3 * DAY).as_secs() / 3_600 };
    assert_eq!(hours, [(hour, 7)]);
}

#[tokio::test]
async fn history_is_kept_for_as_long_as_the_operator_says() {
    for (history_days, left) in [(2, 0), (4, 5), (u64::MAX, 5)] {
        let mut plans = Plans::default();
        plans.free.history_days = history_days;
        let mut scene = Scene::start_with(Plan::Free, plans).await;
        scene.propose(vec![scene.job(1, None)]).await;
        scene.run(JobId(1), 5).await;
        scene.advance(3 * DAY);
        scene.housekeeper.step().await;
        assert_eq!(scene.left(1), left, "{history_days} days");
    }
}

#[tokio::test]
async fn a_walk_that_has_ended_rests() {
    let mut scene = Scene::start(Plan::Free).await;
    scene.propose((0..250).map(|id| scene.job(id, None)).collect()).await;
    for after in [Some(JobId(99)), Some(JobId(199)), None] {
        scene.housekeeper.step().await;
        assert_eq!(scene.housekeeper.walk.after, after);
    }
    scene.housekeeper.step().await;
    assert_eq!(scene.housekeeper.walk.after, None);
    scene.advance(REST);
    scene.housekeeper.step().await;
    assert_eq!(scene.housekeeper.walk.after, Some(JobId(99)));
}
