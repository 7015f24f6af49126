//! Messages to channels, as the state has them: made with the outcome they tell of, claimed by one, and gone
//! once they have arrived.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use domain::account::{Account, Plan};
use domain::channel::{Channel, ChannelConfig, EventKind, LastDelivery};
use domain::delivery::{Delivery, DeliveryOutcome, DeliveryResult};
use domain::execution::{Attempt, AttemptResult, DueItem, ErrorKind, Failure, Outcome};
use domain::id::{AccountId, ChannelId, DeliveryId, ExecutionId, JobId, NodeId};
use domain::job::{Job, Method, MisfirePolicy, OverlapPolicy, Request, Retry};
use domain::node::{Incarnation, SessionId};
use domain::rejection::Rejection;
use domain::time::Timestamp;
use raft::apply::{Effect, apply};
use raft::command::{
    Claim, ClaimTarget, Command, CreateAccount, CreateChannel, CreateJob, DeleteChannel, DeleteJob,
    ExpireNode, Proposal, RegisterNode, Reply, UpdateChannel,
};
use std::time::Duration;
use storage::schema::{Channels, Deliveries, DeliveryClaims, Due, DueKey, Metas};
use storage::{Read, Settings, Storage};
use tempfile::TempDir;

const ACCOUNT: AccountId = AccountId(1);
const OTHER: AccountId = AccountId(2);
const JOB: JobId = JobId(7);
const SLACK: ChannelId = ChannelId(11);
const HOOK: ChannelId = ChannelId(12);
const THEIRS: ChannelId = ChannelId(13);
const NODE: NodeId = NodeId(1);
const START: u64 = 6_000;

struct Bench {
    storage: Storage,
    now: Timestamp,
    sequence: u64,
    /// Of the nodes 1 and 2.
    incarnations: [Incarnation; 2],
    effects: Vec<Effect>,
    _dir: TempDir,
}

fn at(secs: u64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn channel(id: ChannelId, account: AccountId, config: ChannelConfig) -> Channel {
    let events = config.default_events();
    Channel {
        id,
        account,
        name: "Alerts".to_owned(),
        config,
        events,
        last_delivery: None,
        created_at: at(START),
        updated_at: at(START),
    }
}

fn slack(id: ChannelId, account: AccountId) -> Channel {
    channel(id, account, ChannelConfig::Slack { webhook_url: "https://hooks.slack.com/x".to_owned() })
}

fn hook() -> Channel {
    let (url, secret) = ("https://a.example".to_owned(), "s".to_owned());
    channel(HOOK, ACCOUNT, ChannelConfig::Webhook { url, headers: Vec::new(), secret })
}

fn job(alert_channels: Option<Vec<ChannelId>>) -> Job {
    Job {
        id: JOB,
        account: ACCOUNT,
        space: None,
        name: "payroll".to_owned(),
        cron_expression: "* * * * *".to_owned(),
        timezone: "UTC".to_owned(),
        request: Request {
            url: "https://example.com".to_owned(),
            method: Method::Get,
            headers: Vec::new(),
            body: None,
            timeout_sec: 30,
        },
        retry: Retry::default(),
        tags: Vec::new(),
        store_response_body: false,
        alert_channels,
        overlap: OverlapPolicy::Allow,
        misfire: MisfirePolicy::RunOnce,
        delivery: domain::job::Delivery::AtLeastOnce,
        created_at: at(START),
        updated_at: at(START),
    }
}

impl Bench {
    /// Two nodes, two accounts, and a job of the first that is due every minute.
    fn new(alert_channels: Option<Vec<ChannelId>>) -> Self {
        let dir = TempDir::new().unwrap();
        let storage = Storage::open(dir.path(), Settings::default()).unwrap();
        let incarnations = [Incarnation(1), Incarnation(2)];
        let mut bench =
            Self { storage, now: at(START), sequence: 1, incarnations, effects: Vec::new(), _dir: dir };
        for node in [NodeId(1), NodeId(2)] {
            bench.apply_as(node, register(node)).unwrap();
        }
        for id in [ACCOUNT, OTHER] {
            let account =
                Account { id, plan: Plan::Scale, email: None, billing: None, created_at: at(START) };
            bench.apply(Command::CreateAccount(Box::new(CreateAccount { account, user: None }))).unwrap();
        }
        let create = CreateJob {
            job: job(alert_channels),
            next_run_at: Some(at(START + 60)),
            paused: false,
            jobs_max: None,
        };
        bench.apply(Command::CreateJob(Box::new(create))).unwrap();
        bench
    }

    fn with_channels(alert_channels: Option<Vec<ChannelId>>) -> Self {
        let mut bench = Self::new(alert_channels);
        for channel in [slack(SLACK, ACCOUNT), hook(), slack(THEIRS, OTHER)] {
            bench.apply(Command::CreateChannel(Box::new(CreateChannel { channel }))).unwrap();
        }
        bench
    }

    fn apply(&mut self, command: Command) -> Reply {
        self.apply_as(NODE, command)
    }

    fn apply_as(&mut self, node: NodeId, command: Command) -> Reply {
        self.sequence += 1;
        let proposal = Proposal {
            node,
            session: SessionId(node.0),
            sequence: self.sequence,
            acknowledged_below: 0,
            commands: vec![command],
        };
        let mut txn = self.storage.state.begin();
        self.effects.clear();
        let mut replies = apply(&mut txn, self.now, proposal, &mut self.effects).unwrap();
        txn.commit(Vec::new().into()).unwrap();
        replies.pop().unwrap()
    }

    /// Claims and ends the next firing of the job.
    fn run(&mut self, minute: u64, failed: bool) {
        let scheduled_at = at(START + 60 * minute);
        self.now = scheduled_at.plus(Duration::from_secs(1));
        let target = ClaimTarget::Firing {
            job: JOB,
            generation: 1,
            scheduled_at,
            next_run_at: Some(at(START + 60 * (minute + 1))),
        };
        let incarnation = self.incarnations[0];
        self.apply(Command::Claim(Claim { node: NODE, incarnation, target })).unwrap();
        let failure = failed.then(|| Failure { kind: ErrorKind::HttpStatus, message: "HTTP 500".to_owned() });
        let attempt = Attempt {
            number: 1,
            node: NODE,
            started_at: scheduled_at,
            finished_at: self.now,
            duration_ms: 1_000,
            status_code: Some(if failed { 500 } else { 200 }),
            failure,
        };
        let outcome = Outcome {
            execution: ExecutionId::scheduled(JOB, scheduled_at),
            attempt: 1,
            node: NODE,
            incarnation,
            result: AttemptResult::Sent { attempt, body: None, retry_at: None },
        };
        self.apply(Command::Record(Box::new(outcome))).unwrap();
    }

    fn claim(&mut self, node: u64, id: DeliveryId, attempt: u32) -> Reply {
        let incarnation = self.incarnations[usize::try_from(node).unwrap() - 1];
        let target = ClaimTarget::Delivery { id, attempt };
        self.apply_as(NodeId(node), Command::Claim(Claim { node: NodeId(node), incarnation, target }))
    }

    fn record(&mut self, node: u64, delivery: DeliveryId, attempt: u32, result: DeliveryResult) -> Reply {
        let incarnation = self.incarnations[usize::try_from(node).unwrap() - 1];
        let node = NodeId(node);
        let outcome = DeliveryOutcome { delivery, attempt, node, incarnation, at: self.now, result };
        self.apply_as(node, Command::RecordDelivery(Box::new(outcome)))
    }

    fn delivery(&self, id: DeliveryId) -> Option<Delivery> {
        self.storage.state.view().get::<Deliveries>(&id).unwrap()
    }

    /// All messages, and a check that each is either in the due index or in the claims, never both.
    fn messages(&self) -> Vec<DeliveryId> {
        let view = self.storage.state.view();
        let all = view.prefix::<Deliveries>(&[], None, 1_000).unwrap();
        let due: Vec<DueKey> = view.keys::<Due>(&[], None, 1_000).unwrap();
        let claims = view.keys::<DeliveryClaims>(&[], None, 1_000).unwrap();
        let mut indexed = 0;
        for (id, delivery) in &all {
            let key = DueKey::new(delivery.due, DueItem::Delivery(*id));
            match delivery.holder {
                Some((node, _)) => {
                    assert!(claims.contains(&(node, *id)) && !due.contains(&key), "{delivery:?}");
                }
                None => {
                    assert!(due.contains(&key), "{delivery:?}");
                    indexed += 1;
                }
            }
        }
        let in_index = due.iter().filter(|key| matches!(key.item, DueItem::Delivery(_))).count();
        assert_eq!((in_index, claims.len()), (indexed, all.len() - indexed), "nothing is left behind");
        all.into_iter().map(|(id, _)| id).collect()
    }

    /// Channel and event of each message, in the order of the keys.
    fn told(&self) -> Vec<(ChannelId, EventKind)> {
        self.messages().iter().map(|id| (id.channel, id.event)).collect()
    }
}

fn register(node: NodeId) -> Command {
    Command::RegisterNode(RegisterNode {
        node,
        session: SessionId(node.0),
        api_url: String::new(),
        rpc_addr: String::new(),
        version: String::new(),
    })
}

fn id(minute: u64, event: EventKind, channel: ChannelId) -> DeliveryId {
    DeliveryId { execution: ExecutionId::scheduled(JOB, at(START + 60 * minute)), event, channel }
}

#[test]
fn an_outcome_tells_every_channel_of_the_account_what_it_wants_to_hear() {
    let mut bench = Bench::with_channels(None);
    bench.run(1, true);
    let failed = [(HOOK, EventKind::Executed), (SLACK, EventKind::Failed), (HOOK, EventKind::Failed)];
    assert_eq!(bench.told(), failed);
    let delivery = bench.delivery(id(1, EventKind::Failed, SLACK)).unwrap();
    assert_eq!((delivery.job_name.as_str(), delivery.error.as_deref()), ("payroll", Some("HTTP 500")));
    assert_eq!((delivery.created_at, delivery.due, delivery.attempt), (at(START + 61), at(START + 61), 1));
    assert_eq!(delivery.executed_at, at(START + 60));
    let due = bench
        .effects
        .iter()
        .filter(|effect| matches!(effect, Effect::Due(key) if matches!(key.item, DueItem::Delivery(_))));
    assert_eq!(due.count(), 3, "the scheduler is told of each");

    bench.run(2, false);
    let recovered: Vec<_> =
        bench.messages().into_iter().filter(|id| id.event == EventKind::Recovered).collect();
    assert_eq!(recovered, [id(2, EventKind::Recovered, SLACK), id(2, EventKind::Recovered, HOOK)]);
    let before = bench.messages().len();
    bench.run(3, false);
    assert_eq!(bench.messages().len(), before + 1, "a success after a success is just executed");
}

#[test]
fn a_job_chooses_its_channels() {
    let mut bench = Bench::with_channels(Some(vec![SLACK]));
    bench.run(1, true);
    assert_eq!(bench.told(), [(SLACK, EventKind::Failed)]);
    for nobody in [vec![], vec![THEIRS, ChannelId(99)]] {
        let mut bench = Bench::with_channels(Some(nobody));
        bench.run(1, true);
        bench.run(2, false);
        assert_eq!(bench.told(), []);
    }
}

#[test]
fn without_channels_nothing_is_made() {
    let mut bench = Bench::new(None);
    bench.run(1, true);
    assert_eq!(bench.told(), []);
    let channels = |bench: &Bench| {
        let meta = bench.storage.state.view().get::<Metas>(&()).unwrap().unwrap();
        (meta.channels, meta.channels_of_all)
    };
    assert_eq!(channels(&bench), (0, 0));
    let mut bench = Bench::with_channels(None);
    assert_eq!(channels(&bench), (3, 1));
    for (account, channel) in [(ACCOUNT, SLACK), (ACCOUNT, HOOK), (OTHER, THEIRS)] {
        bench.apply(Command::DeleteChannel(DeleteChannel { account, channel })).unwrap();
    }
    assert_eq!(channels(&bench), (0, 0));
    bench.run(1, true);
    assert_eq!(bench.told(), []);
}

#[test]
fn one_process_has_a_message_at_a_time() {
    let mut bench = Bench::with_channels(Some(vec![SLACK]));
    bench.run(1, true);
    let id = id(1, EventKind::Failed, SLACK);
    assert_eq!(bench.claim(1, id, 2), Err(Rejection::NotClaimable), "not that attempt's turn");
    bench.claim(1, id, 1).unwrap();
    let incarnation = bench.incarnations[0];
    let claimed = Effect::ClaimedDelivery { id, due: at(START + 61), node: NODE, incarnation };
    assert_eq!(bench.effects, [claimed]);
    assert_eq!(bench.claim(2, id, 1), Err(Rejection::NotClaimable));
    assert_eq!(bench.messages(), [id]);

    let failed = || DeliveryResult::Failed { error: "500".to_owned(), retry_at: at(START + 70) };
    assert_eq!(bench.record(2, id, 1, failed()), Err(Rejection::NotClaimable), "not its holder");
    bench.record(1, id, 1, failed()).unwrap();
    assert_eq!(bench.record(1, id, 1, failed()), Err(Rejection::NotClaimable), "said twice");
    let delivery = bench.delivery(id).unwrap();
    assert_eq!((delivery.attempt, delivery.due, delivery.holder), (2, at(START + 70), None));
    assert_eq!(bench.claim(2, id, 1), Err(Rejection::NotClaimable), "that attempt is over");
    bench.claim(2, id, 2).unwrap();
    bench.record(2, id, 2, DeliveryResult::Delivered).unwrap();
    assert_eq!(bench.messages(), []);
    assert_eq!(bench.record(2, id, 2, DeliveryResult::Delivered), Err(Rejection::NoSuchDelivery));
}

#[test]
fn the_channel_shows_how_the_last_message_went() {
    let mut bench = Bench::with_channels(Some(vec![SLACK]));
    let last = |bench: &Bench| {
        bench.storage.state.view().get::<Channels>(&(ACCOUNT, SLACK)).unwrap().unwrap().last_delivery
    };
    bench.run(1, true);
    let id = id(1, EventKind::Failed, SLACK);
    bench.claim(1, id, 1).unwrap();
    let failed = DeliveryResult::Failed { error: "500".to_owned(), retry_at: at(START + 70) };
    bench.record(1, id, 1, failed).unwrap();
    assert_eq!(last(&bench), Some(LastDelivery { at: bench.now, error: Some("500".to_owned()) }));
    bench.claim(1, id, 2).unwrap();
    bench.record(1, id, 2, DeliveryResult::Delivered).unwrap();
    assert_eq!(last(&bench), Some(LastDelivery { at: bench.now, error: None }));
}

#[test]
fn what_a_dead_process_was_sending_goes_to_another_under_the_same_id() {
    let mut bench = Bench::with_channels(Some(vec![SLACK]));
    bench.run(1, true);
    let id = id(1, EventKind::Failed, SLACK);
    bench.claim(1, id, 1).unwrap();
    bench.now = at(START + 90);
    let incarnation = bench.incarnations[0];
    bench.apply_as(NodeId(2), Command::ExpireNode(ExpireNode { node: NODE, incarnation })).unwrap();
    assert!(bench.effects.contains(&Effect::Due(DueKey::new(at(START + 90), DueItem::Delivery(id)))));
    assert_eq!(bench.messages(), [id]);
    assert_eq!(bench.claim(1, id, 1), Err(Rejection::NotLive));
    bench.claim(2, id, 1).unwrap();

    let given_up = DeliveryResult::GivenUp { error: "no answer".to_owned() };
    assert_eq!(bench.record(1, id, 1, given_up), Err(Rejection::NotClaimable), "the dead decide nothing");
    bench.record(1, id, 1, DeliveryResult::Delivered).unwrap();
    assert_eq!(bench.messages(), [], "but what has arrived has arrived");
}

#[test]
fn a_message_is_tried_for_more_than_a_day_and_then_no_more() {
    let mut bench = Bench::with_channels(Some(vec![SLACK]));
    bench.run(1, true);
    let id = id(1, EventKind::Failed, SLACK);
    let made = bench.now.as_secs();
    for (attempt, hours) in [(1, 24), (2, 26)] {
        bench.claim(1, id, attempt).unwrap();
        let retry_at = at(made + hours * 3_600);
        let result = DeliveryResult::Failed { error: "500".to_owned(), retry_at };
        bench.record(1, id, attempt, result).unwrap();
        assert_eq!(bench.delivery(id).unwrap().due, retry_at);
    }
    bench.claim(1, id, 3).unwrap();
    let retry_at = at(made + 26 * 3_600 + 1);
    bench.record(1, id, 3, DeliveryResult::Failed { error: "500".to_owned(), retry_at }).unwrap();
    assert_eq!(bench.messages(), []);
}

#[test]
fn messages_outlive_their_job_and_leave_with_their_channel() {
    let mut bench = Bench::with_channels(Some(vec![SLACK]));
    bench.run(1, true);
    let id = id(1, EventKind::Failed, SLACK);
    bench.apply(Command::DeleteJob(DeleteJob { account: ACCOUNT, job: JOB })).unwrap();
    assert_eq!(bench.messages(), [id], "people still want to know");
    bench.apply(Command::DeleteChannel(DeleteChannel { account: ACCOUNT, channel: SLACK })).unwrap();
    bench.claim(1, id, 1).unwrap();
    bench.record(1, id, 1, DeliveryResult::GivenUp { error: "deleted".to_owned() }).unwrap();
    assert_eq!(bench.messages(), []);
}

#[test]
fn a_change_of_a_channel_names_what_it_was_computed_from() {
    let mut bench = Bench::with_channels(None);
    let changed = |expected| {
        let mut channel = slack(SLACK, ACCOUNT);
        channel.events = EventKind::ALL.to_vec();
        channel.updated_at = at(START + 1);
        Command::UpdateChannel(Box::new(UpdateChannel { channel, expected }))
    };
    bench.apply(changed(at(START))).unwrap();
    assert_eq!(bench.apply(changed(at(START))), Err(Rejection::Stale));
    bench.apply(changed(at(START + 1))).unwrap();
    assert_eq!(bench.storage.state.view().get::<Metas>(&()).unwrap().unwrap().channels_of_all, 2);
    let foreign = UpdateChannel { channel: slack(THEIRS, ACCOUNT), expected: at(START) };
    let refused = bench.apply(Command::UpdateChannel(Box::new(foreign)));
    assert_eq!(refused, Err(Rejection::NoSuchChannel));
}
