//! Makes a log of commands, most of which fit the state they will meet.

use crate::records::{
    ACCOUNT, account, billing, bootstrap, channel, diagnosis, hash, job, key, register, space, user,
};
use crate::restored::Backup;
use domain::account::Plan;
use domain::delivery::{DeliveryOutcome, DeliveryResult};
use domain::execution::{Attempt, AttemptResult, ErrorKind, Failure, MissedFirings, Outcome, ResponseBody};
use domain::id::{AccountId, ChannelId, ExecutionId, JobId, KeyId, NodeId, SpaceId};
use domain::job::JobVersion;
use domain::node::{FeatureLevel, Incarnation, SessionId};
use domain::shard::SHARDS;
use domain::time::Timestamp;
use raft::command::{
    AlignSpace, ChangeBilling, Claim, ClaimTarget, Command, CreateAccount, CreateChannel, CreateJob,
    CreateKey, CreateSpace, DeleteChannel, DeleteJob, DeleteSpace, DrainNode, EndSession, ExpireNode,
    NoteKeyUse, Once, Overdue, PauseJob, PauseSpace, Proposal, Prune, RaiseLevel, Release, RemoveNode,
    ResumeJob, ResumeSpace, RevokeKey, RunJob, SaveDiagnosis, SetSessionKey, SetShardMap, Sweep,
    UpdateChannel, UpdateJob, UpdateSpace,
};
use std::time::Duration;
use storage::schema::{Accounts, Channels, Deliveries, Executions, JobStates, Nodes, SpaceJobs, Spaces};
use storage::{Read, State, StateView};

/// SplitMix64 (Steele, Lea, Flood, 2014): a seed is a run.
pub(crate) struct Random(pub(crate) u64);

impl Random {
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % bound
    }

    pub(crate) fn chance(&mut self, of: u64) -> bool {
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
pub(crate) struct Writer {
    random: Random,
    now: u64,
    sequences: [u64; 4],
    /// The last request that was to be answered once.
    once: Option<Command>,
    /// What is restored before anything else.
    backup: Option<Backup>,
}

impl Writer {
    /// A writer that begins with a backup of another cluster.
    pub(crate) fn new(seed: u64) -> Self {
        Self { backup: Some(Backup::of_another(seed + 1_000)), ..Self::bare(seed) }
    }

    /// A writer that begins with nothing.
    pub(crate) fn bare(seed: u64) -> Self {
        let (random, now, sequences) = (Random(seed), 1_780_000_000_000, [0; 4]);
        Self { random, now, sequences, once: None, backup: None }
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_millis(self.now)
    }

    pub(crate) fn proposal(&mut self, state: &State) -> (Timestamp, Proposal) {
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
        let restores = self.backup.as_mut().and_then(|backup| backup.next(state));
        // Until the restoration has begun the cluster must stay empty.
        let others = match &restores {
            Some(Command::Bootstrap(_) | Command::BeginRestore(_)) => 0,
            Some(_) | None => 1 + self.random.below(4),
        };
        match restores {
            Some(command) => commands.push(command),
            None => self.backup = None,
        }
        for _ in 0..others {
            let command = self.any(state, node);
            commands.push(command);
        }
        let acknowledged_below = sequence.saturating_sub(self.random.below(6));
        let session = SessionId(node.0 * 1_000);
        (at, Proposal { node, session, sequence, acknowledged_below, commands })
    }

    fn any(&mut self, state: &State, node: NodeId) -> Command {
        if state.view().keys_prefix::<Accounts>(&[], None, 1).unwrap().is_empty() {
            return Command::Bootstrap(bootstrap());
        }
        match self.random.below(20) {
            0..=11 => self.command(state, node),
            12 | 13 => self.of_account(),
            14 | 15 => self.of_space(&state.view()),
            16 => self.of_channel(&state.view()),
            17 | 18 => self.of_delivery(&state.view(), node),
            _ => self.of_once(state, node),
        }
    }

    fn command(&mut self, state: &State, node: NodeId) -> Command {
        let (id, at) = (self.random.job(), self.at());
        let view = state.view();
        let job_state = view.get::<JobStates>(&id).unwrap();
        let incarnation = view.get::<Nodes>(&node).unwrap().map_or(Incarnation(0), |node| node.incarnation);
        let expected =
            job_state.as_ref().map_or(JobVersion { generation: 1, next_run_at: None }, |s| s.version());
        let next = Some(self.at().plus(Duration::from_millis(1 + self.random.below(5_000))));
        let open = job_state.as_ref().and_then(|job_state| {
            let count = job_state.open.len() as u64;
            (count > 0).then(|| job_state.open[usize::try_from(self.random.below(count)).unwrap()])
        });
        match (self.random.below(20), job_state, open) {
            (0, ..) => {
                let before = at.minus(Duration::from_millis(self.random.below(400_000)));
                Command::Prune(Prune { job: id, before })
            }
            (1, ..) => {
                let known = view.keys_prefix::<Executions>(&id.0.to_be_bytes(), None, 20).unwrap();
                let execution = known.last().copied().unwrap_or_else(|| ExecutionId::scheduled(id, at));
                let diagnosis = diagnosis(at);
                let diagnoses_max = Some(20);
                let save = SaveDiagnosis { account: ACCOUNT, execution, diagnosis, diagnoses_max };
                Command::SaveDiagnosis(Box::new(save))
            }
            (2 | 3, None, _) | (4..=9, None, _) => Command::CreateJob(Box::new(CreateJob {
                job: job(&mut self.random, id, at),
                next_run_at: next,
                paused: self.random.chance(5),
                jobs_max: self.random.chance(3).then_some(9),
            })),
            (2, Some(_), _) => Command::UpdateJob(Box::new(UpdateJob {
                job: job(&mut self.random, id, at),
                expected,
                next_run_at: next,
                overdue: overdue(expected.next_run_at, at),
            })),
            (3, Some(_), _) if self.random.chance(3) => {
                Command::DeleteJob(DeleteJob { account: ACCOUNT, job: id })
            }
            (3, ..) => Command::Sweep(Sweep { job: id }),
            (4, ..) => {
                let overdue = overdue(expected.next_run_at, at);
                Command::PauseJob(PauseJob { account: ACCOUNT, job: id, at, overdue })
            }
            (5, ..) => {
                Command::ResumeJob(ResumeJob { account: ACCOUNT, job: id, expected, next_run_at: next, at })
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
            (7, ..) if self.random.chance(10) => {
                let to = FeatureLevel(1 + u32::try_from(self.random.below(3)).unwrap());
                Command::RaiseLevel(RaiseLevel { to })
            }
            // Of a node that proposes nothing more.
            (7, ..) if self.random.chance(10) => Command::RemoveNode(RemoveNode { node: NodeId(9) }),
            (7, ..) => register(node),
            (8, ..) => Command::SetShardMap(SetShardMap {
                expected_version: self.random.below(4),
                owners: vec![node; SHARDS],
            }),
            (9..=12, Some(job_state), _) if job_state.next_run_at.is_some() => {
                let cursor = job_state.next_run_at.unwrap();
                let target = if self.random.chance(8) {
                    let until = cursor.plus(Duration::from_secs(5));
                    ClaimTarget::Missed {
                        job: id,
                        generation: job_state.generation,
                        first: cursor,
                        skipped: Some(MissedFirings { until, count: 3, exact: true }),
                        run: Some(until.plus(Duration::from_secs(1))),
                        run_due: self.at(),
                        next_run_at: Some(until.plus(Duration::from_secs(9))),
                    }
                } else {
                    ClaimTarget::Firing {
                        job: id,
                        generation: job_state.generation,
                        scheduled_at: cursor,
                        next_run_at: Some(cursor.plus(Duration::from_secs(1))),
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

    /// About accounts, keys, users, sessions, and what they pay for.
    fn of_account(&mut self) -> Command {
        let (account_id, at) = (AccountId(1 + self.random.below(3)), self.at());
        let number = self.random.below(6);
        match self.random.below(8) {
            0 => {
                let user = self.random.chance(2).then(|| user(account_id, number, at));
                Command::CreateAccount(Box::new(CreateAccount { account: account(account_id), user }))
            }
            1 => Command::CreateKey(CreateKey { key: key(account_id, number) }),
            2 => Command::RevokeKey(RevokeKey { account: account_id, key: KeyId(number) }),
            3 => Command::NoteKeyUse(NoteKeyUse { used: vec![(hash(number), at), (hash(number + 1), at)] }),
            4 => Command::SetSessionKey(SetSessionKey { key: hash(number).to_vec() }),
            5 => Command::EndSession(EndSession { session: number, expires_at: self.later(20) }),
            _ => {
                let changed_at = at.minus(Duration::from_millis(self.random.below(2_000)));
                let plan = self.random.chance(2).then_some(Plan::Pro);
                let billing = billing(self.random.below(4), changed_at);
                Command::ChangeBilling(Box::new(ChangeBilling { account: account_id, plan, billing }))
            }
        }
    }

    /// About a space and its jobs.
    fn of_space(&mut self, view: &StateView<'_>) -> Command {
        let (account, at) = (ACCOUNT, self.at());
        let id = SpaceId(self.random.below(5));
        let known = view.get::<Spaces>(&id).unwrap();
        match (self.random.below(8), known) {
            (0, _) | (_, None) => Command::CreateSpace(CreateSpace { space: space(id, at) }),
            (1, _) => {
                let name = Some(format!("space {}", self.random.below(9)));
                Command::UpdateSpace(UpdateSpace { account, space: id, name, timezone: None, at })
            }
            (2, _) => Command::DeleteSpace(DeleteSpace { account, space: id }),
            (3, _) => Command::PauseSpace(PauseSpace { account, space: id, at }),
            (4, _) => Command::ResumeSpace(ResumeSpace { account, space: id, at }),
            (_, Some(known)) => {
                let generation = known.generation - u64::from(known.generation > 0 && self.random.chance(8));
                let members = view.keys_prefix::<SpaceJobs>(&id.0.to_be_bytes(), None, 100).unwrap();
                let mut jobs = Vec::new();
                let mut done = true;
                for (_, job) in members {
                    let state = view.get::<JobStates>(&job).unwrap().unwrap();
                    let fires = known.paused_at.is_none() && state.paused_at.is_none();
                    if state.next_run_at.is_some() == fires {
                        continue;
                    }
                    done = false;
                    let cursor = fires.then(|| self.later(5));
                    if !self.random.chance(3) {
                        jobs.push((job, state.version(), cursor));
                    }
                }
                Command::AlignSpace(AlignSpace { space: id, generation, jobs, done, overdue: Vec::new() })
            }
        }
    }

    fn of_channel(&mut self, view: &StateView<'_>) -> Command {
        let at = self.at();
        let channel = channel(&mut self.random, at);
        match self.random.below(4) {
            0 | 1 => Command::CreateChannel(Box::new(CreateChannel { channel })),
            2 => {
                let known = view.get::<Channels>(&(ACCOUNT, channel.id)).unwrap();
                let expected = known.map_or(at, |known| known.updated_at);
                Command::UpdateChannel(Box::new(UpdateChannel { channel, expected }))
            }
            _ => {
                let channel = ChannelId(self.random.below(4));
                Command::DeleteChannel(DeleteChannel { account: ACCOUNT, channel })
            }
        }
    }

    /// A claim or an outcome of one of the first deliveries there are.
    fn of_delivery(&mut self, view: &StateView<'_>, node: NodeId) -> Command {
        let known = view.prefix::<Deliveries>(&[], None, 20).unwrap();
        if known.is_empty() {
            return self.of_channel(view);
        }
        let (id, delivery) = &known[usize::try_from(self.random.below(known.len() as u64)).unwrap()];
        let at = self.at();
        let own = view.get::<Nodes>(&node).unwrap().map_or(Incarnation(0), |node| node.incarnation);
        match delivery.holder {
            None if !self.random.chance(4) => {
                let target = ClaimTarget::Delivery { id: *id, attempt: delivery.attempt };
                Command::Claim(Claim { node, incarnation: own, target })
            }
            holder => {
                let (node, incarnation) = holder.filter(|_| !self.random.chance(5)).unwrap_or((node, own));
                let result = match self.random.below(4) {
                    0 => DeliveryResult::Failed { error: "no".to_owned(), retry_at: self.later(60) },
                    1 => DeliveryResult::Failed { error: "no".to_owned(), retry_at: self.later(200_000) },
                    2 => DeliveryResult::GivenUp { error: "no".to_owned() },
                    _ => DeliveryResult::Delivered,
                };
                let attempt = delivery.attempt - u32::from(delivery.attempt > 1 && self.random.chance(5));
                let outcome = DeliveryOutcome { delivery: *id, attempt, node, incarnation, at, result };
                Command::RecordDelivery(Box::new(outcome))
            }
        }
    }

    /// A request that is to be answered once, often the last one again.
    fn of_once(&mut self, state: &State, node: NodeId) -> Command {
        if let Some(last) = self.once.clone().filter(|_| self.random.chance(3)) {
            return last;
        }
        let commands = (0..self.random.below(4)).map(|_| self.command(state, node)).collect();
        let once = Once {
            account: AccountId(1 + self.random.below(2)),
            name: hash(self.random.below(12)),
            request: hash(self.random.below(100)),
            expires_at: self.later(30),
            memo: vec![1; usize::try_from(self.random.below(40)).unwrap()],
            commands,
        };
        self.once.insert(Command::Once(Box::new(once))).clone()
    }

    /// An instant within so many seconds from now.
    fn later(&mut self, secs: u64) -> Timestamp {
        self.at().plus(Duration::from_millis(1 + self.random.below(secs * 1_000)))
    }
}

/// What a cursor that was due leaves behind.
fn overdue(cursor: Option<Timestamp>, at: Timestamp) -> Option<Overdue> {
    let first = cursor.filter(|cursor| *cursor <= at)?;
    Some(Overdue { first, missed: MissedFirings { until: first.max(at), count: 2, exact: true } })
}
