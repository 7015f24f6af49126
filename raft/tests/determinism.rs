//! The same log makes the same state, byte for byte, however it is cut into commits, flushed, or carried over
//! by a snapshot.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use domain::account::{Account, ApiKey, Plan};
use domain::execution::{Attempt, AttemptResult, ErrorKind, Failure, MissedFirings, Outcome, ResponseBody};
use domain::id::{AccountId, ExecutionId, JobId, KeyId, NodeId, SpaceId};
use domain::job::{Delivery, Job, JobVersion, Method, MisfirePolicy, OverlapPolicy, Request, Retry};
use domain::node::{Incarnation, SessionId};
use domain::shard::SHARDS;
use domain::space::Space;
use domain::time::Timestamp;
use raft::apply::apply;
use raft::command::{
    AlignSpace, Bootstrap, Claim, ClaimTarget, Command, CreateJob, CreateSpace, DeleteJob, DeleteSpace,
    DrainNode, ExpireNode, PauseJob, PauseSpace, Proposal, Prune, RegisterNode, Release, Reply, ResumeJob,
    ResumeSpace, RunJob, SetShardMap, Sweep, UpdateJob,
};
use storage::schema::{ExecutionHours, Executions, JobStates, Metas, Nodes, SpaceJobs, Spaces};
use storage::{Read, Settings, State, Storage};
use tempfile::TempDir;

const PROPOSALS: usize = 3_000;
const ACCOUNT: AccountId = AccountId(1);

/// SplitMix64 (Steele, Lea, Flood, 2014): a seed is a run.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    fn chance(&mut self, of: u64) -> bool {
        self.below(of) == 0
    }

    fn job(&mut self) -> JobId {
        JobId(self.below(12))
    }

    fn node(&mut self) -> NodeId {
        NodeId(1 + self.below(3))
    }
}

/// Makes commands, most of which fit the state they will meet.
struct Writer {
    random: Random,
    now: u64,
    sequences: [u64; 4],
}

impl Writer {
    fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    fn proposal(&mut self, state: &State) -> (Timestamp, Proposal) {
        // Leaders' clocks disagree a little.
        self.now += self.random.below(900);
        let at = Timestamp::from_millis(self.now - self.random.below(300));
        let node = self.random.node();
        let slot = usize::try_from(node.0).unwrap();
        self.sequences[slot] += u64::from(!self.random.chance(20));
        let sequence = self.sequences[slot];
        let mut commands = Vec::new();
        if sequence <= 1 {
            commands.push(register(node));
        }
        for _ in 0..=self.random.below(4) {
            let command = self.command(state, node);
            commands.push(command);
        }
        let acknowledged_below = sequence.saturating_sub(self.random.below(6));
        let session = SessionId(node.0 * 1_000);
        (at, Proposal { node, session, sequence, acknowledged_below, commands })
    }

    fn command(&mut self, state: &State, node: NodeId) -> Command {
        let id = self.random.job();
        let view = state.view();
        let job_state = view.get::<JobStates>(&id).unwrap();
        let incarnation = view.get::<Nodes>(&node).unwrap().map_or(Incarnation(0), |node| node.incarnation);
        let expected =
            job_state.as_ref().map_or(JobVersion { generation: 1, next_run_at: None }, |s| s.version());
        let next = Some(self.at().plus(std::time::Duration::from_millis(1 + self.random.below(5_000))));
        let open = job_state.as_ref().and_then(|job_state| {
            let count = job_state.open.len() as u64;
            (count > 0).then(|| job_state.open[usize::try_from(self.random.below(count)).unwrap()])
        });
        match (self.random.below(20), job_state, open) {
            (0, ..) => Command::Bootstrap(bootstrap()),
            (1, ..) => self.space_command(state),
            (2 | 3, None, _) | (4..=9, None, _) => Command::CreateJob(Box::new(CreateJob {
                job: self.job(id),
                next_run_at: next,
                paused: self.random.chance(5),
                jobs_max: None,
            })),
            (2, Some(_), _) => {
                Command::UpdateJob(Box::new(UpdateJob { job: self.job(id), expected, next_run_at: next }))
            }
            (3, Some(_), _) if self.random.chance(3) => {
                Command::DeleteJob(DeleteJob { account: ACCOUNT, job: id })
            }
            (3, ..) if self.random.chance(3) => {
                let before = self.at().minus(std::time::Duration::from_secs(self.random.below(600)));
                Command::Prune(Prune { job: id, before })
            }
            (3, ..) => Command::Sweep(Sweep { job: id }),
            (4, ..) => Command::PauseJob(PauseJob { account: ACCOUNT, job: id }),
            (5, ..) => {
                Command::ResumeJob(ResumeJob { account: ACCOUNT, job: id, expected, next_run_at: next })
            }
            (6, ..) => {
                let salt = u16::try_from(self.random.below(1_000)).unwrap();
                Command::RunJob(RunJob {
                    account: ACCOUNT,
                    execution: ExecutionId::manual(id, self.at(), salt),
                })
            }
            (7, ..) if self.random.chance(10) => Command::ExpireNode(ExpireNode { node, incarnation }),
            (7, ..) if self.random.chance(10) => Command::DrainNode(DrainNode { node, incarnation }),
            (7, ..) => register(node),
            (8, ..) => Command::SetShardMap(SetShardMap {
                expected_version: self.random.below(4),
                owners: vec![node; SHARDS],
            }),
            (9..=12, Some(job_state), _) if job_state.next_run_at.is_some() => {
                let cursor = job_state.next_run_at.unwrap();
                let target = if self.random.chance(8) {
                    let until = cursor.plus(std::time::Duration::from_secs(5));
                    ClaimTarget::Missed {
                        job: id,
                        generation: job_state.generation,
                        first: cursor,
                        skipped: Some(MissedFirings { until, count: 3, exact: true }),
                        run: Some(until.plus(std::time::Duration::from_secs(1))),
                        run_due: self.at(),
                        next_run_at: Some(until.plus(std::time::Duration::from_secs(9))),
                    }
                } else {
                    ClaimTarget::Firing {
                        job: id,
                        generation: job_state.generation,
                        scheduled_at: cursor,
                        next_run_at: Some(cursor.plus(std::time::Duration::from_secs(1))),
                    }
                };
                Command::Claim(Claim { node, incarnation, target })
            }
            (13, _, Some(open)) => Command::Release(Release { node, incarnation, execution: open }),
            (_, _, Some(open)) => {
                let attempt = view.get::<Executions>(&open).unwrap().map_or(1, |execution| execution.attempt);
                if self.random.chance(2) {
                    let target = ClaimTarget::Execution { id: open, attempt };
                    Command::Claim(Claim { node, incarnation, target })
                } else {
                    self.outcome(open, attempt, node, incarnation)
                }
            }
            _ => register(node),
        }
    }

    fn space_command(&mut self, state: &State) -> Command {
        let (account, at, id) = (ACCOUNT, self.at(), SpaceId(self.random.below(3)));
        let Some(known) = state.view().get::<Spaces>(&id).unwrap() else {
            return Command::CreateSpace(CreateSpace { space: space(id, at) });
        };
        match self.random.below(8) {
            0 => Command::PauseSpace(PauseSpace { account, space: id, at }),
            1 | 2 => Command::ResumeSpace(ResumeSpace { account, space: id, at }),
            3 => Command::DeleteSpace(DeleteSpace { account, space: id }),
            _ => {
                let keys = state.view().keys_prefix::<SpaceJobs>(&id.0.to_be_bytes(), None, 100).unwrap();
                let jobs = keys.into_iter().map(|(_, job)| {
                    let version = state.view().get::<JobStates>(&job).unwrap().unwrap().version();
                    let next = at.plus(std::time::Duration::from_millis(1 + self.random.below(5_000)));
                    (job, version, Some(next).filter(|_| known.paused_at.is_none()))
                });
                let jobs = jobs.collect();
                let (generation, done) = (known.generation, self.random.chance(2));
                Command::AlignSpace(AlignSpace { space: id, generation, jobs, done })
            }
        }
    }

    fn outcome(
        &mut self,
        execution: ExecutionId,
        attempt: u32,
        node: NodeId,
        incarnation: Incarnation,
    ) -> Command {
        let failed = self.random.chance(2);
        let result = if self.random.chance(8) {
            AttemptResult::Skipped { at: self.at(), reason: "for a test".to_owned() }
        } else {
            AttemptResult::Sent {
                attempt: Attempt {
                    number: attempt,
                    node,
                    started_at: self.at(),
                    finished_at: self.at(),
                    duration_ms: self.random.below(500),
                    status_code: Some(if failed { 500 } else { 200 }),
                    failure: failed
                        .then(|| Failure { kind: ErrorKind::HttpStatus, message: "HTTP 500".to_owned() }),
                },
                body: self.random.chance(3).then(|| ResponseBody { text: "x".repeat(300), truncated: false }),
                retry_at: self.random.chance(2).then(|| self.at()),
            }
        };
        Command::Record(Box::new(Outcome { execution, attempt, node, incarnation, result }))
    }

    fn job(&mut self, id: JobId) -> Job {
        Job {
            id,
            account: ACCOUNT,
            space: self.random.chance(3).then(|| SpaceId(self.random.below(4))),
            name: format!("job {}", self.random.below(100)),
            cron_expression: "@every 1s".to_owned(),
            timezone: "UTC".to_owned(),
            request: Request {
                url: "https://example.com".to_owned(),
                method: Method::Post,
                headers: vec![("X-A".to_owned(), "b".to_owned())],
                body: Some("y".repeat(usize::try_from(self.random.below(2_000)).unwrap())),
                timeout_sec: 30,
            },
            retry: Retry::default(),
            tags: vec!["t".to_owned()],
            store_response_body: true,
            alert_channels: None,
            overlap: OverlapPolicy::Allow,
            misfire: MisfirePolicy::RunOnce,
            delivery: if self.random.chance(2) { Delivery::AtLeastOnce } else { Delivery::AtMostOnce },
            created_at: Timestamp::from_secs(1_000 + id.0),
            updated_at: self.at(),
        }
    }
}

fn register(node: NodeId) -> Command {
    Command::RegisterNode(RegisterNode {
        node,
        session: SessionId(node.0 * 1_000),
        api_url: "http://localhost".to_owned(),
        rpc_addr: "localhost:1".to_owned(),
        version: "0".to_owned(),
    })
}

fn bootstrap() -> Bootstrap {
    let created_at = Timestamp::from_secs(5);
    Bootstrap {
        account: Account { id: ACCOUNT, plan: Plan::Scale, email: None, billing: None, created_at },
        key: ApiKey {
            id: KeyId(3),
            account: ACCOUNT,
            name: "k".to_owned(),
            hash: [7; 32],
            last_four: "abcd".to_owned(),
            created_at,
            last_used_at: None,
        },
    }
}

fn space(id: SpaceId, at: Timestamp) -> Space {
    Space {
        id,
        account: ACCOUNT,
        name: "s".to_owned(),
        timezone: "UTC".to_owned(),
        paused_at: None,
        generation: 0,
        turned_at: Timestamp::EPOCH,
        jobs: 0,
        created_at: at,
        updated_at: at,
    }
}

type Log = Vec<(Timestamp, Proposal)>;

fn open() -> (TempDir, Storage) {
    let dir = TempDir::new().unwrap();
    let storage = Storage::open(dir.path(), Settings::default()).unwrap();
    (dir, storage)
}

fn commit(state: &State, run: &[(Timestamp, Proposal)], mark: usize) -> Vec<Vec<Reply>> {
    let mut effects = Vec::new();
    let mut txn = state.begin();
    let replies = run
        .iter()
        .map(|(at, proposal)| apply(&mut txn, *at, proposal.clone(), &mut effects).unwrap())
        .collect();
    txn.commit(mark.to_string().into_bytes().into()).unwrap();
    replies
}

/// A log, the replies to it, and the state that one commit for each proposal makes of it.
fn write(seed: u64) -> (Log, Vec<Vec<Reply>>, u64) {
    let (_dir, storage) = open();
    let mut writer = Writer { random: Random(seed), now: 1_780_000_000_000, sequences: [0; 4] };
    let mut log = Log::new();
    let mut replies = Vec::new();
    for index in 0..PROPOSALS {
        let entry = writer.proposal(&storage.state);
        replies.extend(commit(&storage.state, std::slice::from_ref(&entry), index));
        log.push(entry);
    }
    let accepted = replies.iter().flatten().filter(|reply| reply.is_ok()).count();
    assert!(accepted > PROPOSALS, "only {accepted} commands took effect; the log is too tame");
    (log, replies, storage.state.digest().unwrap())
}

#[test]
fn the_same_log_makes_the_same_state() {
    for seed in [1, 2, 3] {
        let (log, replies, digest) = write(seed);

        // In runs of any length, with flushes in between, over a restart.
        let mut random = Random(seed + 100);
        let dir = TempDir::new().unwrap();
        let mut storage = Storage::open(dir.path(), Settings::default()).unwrap();
        let mut done = 0;
        let mut other_replies = Vec::new();
        while done < log.len() {
            let run = usize::try_from(1 + random.below(40)).unwrap().min(log.len() - done);
            other_replies.extend(commit(&storage.state, &log[done..done + run], done + run));
            done += run;
            if random.chance(10) {
                storage.state.flush().unwrap();
            }
            if random.chance(40) {
                storage.state.flush().unwrap();
                drop(storage);
                storage = Storage::open(dir.path(), Settings::default()).unwrap();
            }
        }
        assert_eq!(other_replies, replies, "seed {seed}");
        assert_eq!(storage.state.digest().unwrap(), digest, "seed {seed}");

        // Half of it by snapshot.
        let (_first_dir, first) = open();
        let half = log.len() / 2;
        commit(&first.state, &log[..half], half);
        let snapshot = first.state.snapshot().unwrap();
        let (_second_dir, second) = open();
        second.state.install(&snapshot).unwrap();
        assert_eq!(second.state.digest().unwrap(), first.state.digest().unwrap(), "seed {seed}");
        commit(&second.state, &log[half..], log.len());
        assert_eq!(second.state.digest().unwrap(), digest, "seed {seed}");
    }
}

#[test]
fn a_proposal_that_comes_again_changes_nothing_and_gets_its_first_answer() {
    let (_dir, storage) = open();
    let mut writer = Writer { random: Random(9), now: 1_780_000_000_000, sequences: [0; 4] };
    for index in 0..500 {
        let entry = writer.proposal(&storage.state);
        let first = commit(&storage.state, std::slice::from_ref(&entry), index);
        let digest = storage.state.digest().unwrap();
        let now = storage.state.view().get::<Metas>(&()).unwrap();
        let again = commit(&storage.state, std::slice::from_ref(&entry), index);
        assert_eq!(again, first);
        assert_eq!(storage.state.digest().unwrap(), digest);
        assert_eq!(storage.state.view().get::<Metas>(&()).unwrap(), now);
    }
}

#[test]
fn executions_are_pending_or_claimed_or_over_and_indexed_as_such() {
    use domain::execution::{DueItem, ExecutionState};
    use storage::schema::{Claims, Due, DueKey, Jobs};
    let (log, ..) = write(4);
    let (_dir, storage) = open();
    commit(&storage.state, &log, log.len());
    let view = storage.state.view();
    let due = view.keys_prefix::<Due>(&[], None, 100_000).unwrap();
    let claims = view.keys_prefix::<Claims>(&[], None, 100_000).unwrap();
    let mut expected_due = Vec::new();
    let mut expected_claims = Vec::new();
    for (id, _) in view.prefix::<Jobs>(&[], None, 1_000).unwrap() {
        let state = view.get::<JobStates>(&id).unwrap().expect("every job has a state");
        if let Some(cursor) = state.next_run_at {
            assert!(state.claimed_until.is_none_or(|until| cursor > until), "{state:?}");
            expected_due.push(DueKey::new(cursor, DueItem::Firing(id)));
        }
        let executions = view.prefix::<Executions>(&id.0.to_be_bytes(), None, 100_000).unwrap();
        assert_eq!(state.executions_total, executions.len() as u64);
        let hours = view.prefix::<ExecutionHours>(&id.0.to_be_bytes(), None, 100_000).unwrap();
        assert_eq!(state.executions_total, hours.iter().map(|(_, count)| count).sum::<u64>());
        for (execution_id, execution) in executions {
            let is_open = state.open.contains(&execution_id);
            assert_eq!(is_open, execution.status().is_none(), "{execution:?}");
            match execution.state {
                ExecutionState::Pending => {
                    expected_due.push(DueKey::new(execution.due, DueItem::Execution(execution_id)));
                }
                ExecutionState::Claimed { node, .. } => expected_claims.push((node, execution_id)),
                ExecutionState::Finished { .. } => {}
            }
        }
    }
    expected_due.sort_by_key(|key| (key.shard, key.due, key.item));
    let mut due = due;
    due.sort_by_key(|key| (key.shard, key.due, key.item));
    assert_eq!(due, expected_due);
    expected_claims.sort_unstable();
    let mut claims = claims;
    claims.sort_unstable();
    assert_eq!(claims, expected_claims);
}
