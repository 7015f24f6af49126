//! The loop: due index → wheel → claim → wheel → executor.

mod messages; // to channels

use super::claims;
use super::holding::Holding;
use super::horizon::{HORIZON, Horizon};
use super::lookout::{Lookout, Sight};
use super::start::Start;
use super::wheel::Wheel;
use crate::clock::Sleeper;
use crate::executor::{ExecutorHandle, Order};
use crate::notifier::{Lanes, NotifierHandle};
use crate::recorder::{self, RecorderHandle};
use domain::execution::{DueItem, ExecutionStatus, Trigger};
use domain::id::{DeliveryId, ExecutionId, NodeId, SpaceId};
use domain::job::OverlapPolicy;
use domain::node::Incarnation;
use domain::rejection::Rejection;
use domain::time::Timestamp;
use futures::future::BoxFuture;
use futures::stream::{FuturesUnordered, StreamExt};
use raft::apply::Effect;
use raft::changes::{Change, ChangesReceiver};
use raft::command::{Applied, Claim, ClaimTarget, Command, DrainNode, Release, Reply};
use raft::{Cluster, ProposeError};
use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use storage::Read;
use storage::schema::{Claims, Due, DueKey, Executions, JobStates, Jobs, ShardMaps, Spaces, UnalignedSpaces};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Claims in one proposal.
const CLAIMS_TOGETHER_MAX: usize = 256;
/// Proposals of claims under way at once.
const CLAIM_PROPOSALS_MAX: usize = 8;
/// How long a proposal of claims may take before they are made again.
const CLAIM_TIMEOUT: Duration = Duration::from_secs(3);
/// Wait before a claim that found no leader is made again.
const CLAIM_AGAIN_AFTER: Duration = Duration::from_millis(100);
/// Entries of the due index read at once, and from one shard in one round.
const READ_MAX: usize = 10_000;
/// How often the index is searched for what is overdue and was not claimed: the net under lost hints.
const OVERDUE_EVERY: Duration = Duration::from_secs(5);
/// Something is overdue once a claim for it should have been answered long ago.
const OVERDUE_AFTER: Duration = Duration::from_secs(1);
/// The longest sleep, so that a step of the clock is seen.
const SLEEP_MAX: Duration = Duration::from_secs(1);
/// How often a clock that cannot be believed is looked at again.
const STANDSTILL: Duration = Duration::from_millis(50);
/// Own claims read at once.
const CLAIMS_READ_MAX: usize = 10_000;

/// What comes of a claim, as the metrics say it.
pub(crate) const CLAIM_RESULTS: [&str; 4] = [CLAIMED, NOT_LIVE, STALE, FAILED];
const CLAIMED: &str = "claimed";
const NOT_LIVE: &str = "not_live";
const STALE: &str = "stale";
const FAILED: &str = "failed";

/// What waits in the wheel.
#[derive(Clone, Copy, Debug)]
enum Timer {
    /// Time to claim something.
    Claim(DueKey),
    /// Time to send something that this process has claimed.
    Fire(ExecutionId, Incarnation),
    /// Time to deliver a message that this process has claimed.
    Deliver(DeliveryId, Incarnation),
}

/// Claims what is due on this node's shards and hands it to the executor at its instant.
pub(crate) struct Scheduler {
    cluster: Cluster,
    node: NodeId,
    sleeper: Arc<dyn Sleeper>,
    claim_ahead: Duration,
    incarnation: watch::Receiver<Option<Incarnation>>,
    changes: ChangesReceiver,
    executor: ExecutorHandle,
    recorder: RecorderHandle,
    holding: Holding,
    notifier: NotifierHandle,
    lanes: Lanes,
    wheel: Wheel<Timer>,
    horizon: Horizon,
    lookout: Lookout,
    /// To be claimed as soon as there is a place for a proposal.
    ready: VecDeque<DueKey>,
    /// In `ready` or under way; keeps one thing from being claimed twice at once.
    claiming: HashSet<DueKey>,
    overdue_at: Duration,
}

/// What the scheduler works with.
pub(crate) struct Parts {
    pub(crate) cluster: Cluster,
    pub(crate) node: NodeId,
    pub(crate) sleeper: Arc<dyn Sleeper>,
    pub(crate) claim_ahead: Duration,
    pub(crate) incarnation: watch::Receiver<Option<Incarnation>>,
    pub(crate) changes: ChangesReceiver,
    pub(crate) executor: ExecutorHandle,
    pub(crate) recorder: RecorderHandle,
    pub(crate) holding: Holding,
    pub(crate) notifier: NotifierHandle,
    pub(crate) lanes: Lanes,
    pub(crate) lookout: Lookout,
}

/// A claim that was proposed.
#[derive(Clone, Copy, Debug)]
struct Asked {
    key: DueKey,
    /// Whether it leaves a record of missed firings.
    records: bool,
    /// Whether it opens an execution.
    opens: bool,
}

/// Whether an instant of a job must wait because its space is paused, or because the instant belongs to a pause
/// that is over and from which the job's cursor has yet to follow. Neither lasts: the cursor will move away.
fn is_held_up(view: &impl Read, space: SpaceId, instant: Timestamp) -> Result<bool, storage::Error> {
    let Some(space) = view.get::<Spaces>(&space)? else { return Ok(false) };
    let belongs_to_pause = instant <= space.turned_at;
    Ok(space.is_paused() || (belongs_to_pause && view.contains::<UnalignedSpaces>(&space.id)?))
}

type ClaimAnswer = (Vec<Asked>, Result<Vec<Reply>, ProposeError>);

impl Scheduler {
    pub(crate) fn new(parts: Parts) -> Self {
        let Parts {
            cluster,
            node,
            sleeper,
            claim_ahead,
            incarnation,
            changes,
            executor,
            recorder,
            holding,
            notifier,
            lanes,
            lookout,
        } = parts;
        let wheel = Wheel::new(sleeper.now());
        Self {
            cluster,
            node,
            sleeper,
            claim_ahead,
            incarnation,
            changes,
            executor,
            recorder,
            holding,
            notifier,
            lanes,
            wheel,
            horizon: Horizon::default(),
            lookout,
            ready: VecDeque::new(),
            claiming: HashSet::new(),
            overdue_at: Duration::ZERO,
        }
    }

    /// Runs until `stop`, then gives back what it has not started.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), storage::Error> {
        let sleeper = Arc::clone(&self.sleeper);
        let lanes = self.lanes.clone();
        let contact = self.cluster.contact();
        let mut stands_still = false;
        let mut proposals: FuturesUnordered<BoxFuture<'static, ClaimAnswer>> = FuturesUnordered::new();
        self.reload()?;
        loop {
            let now = self.sleeper.now();
            if !contact.believes(now) {
                stands_still = true;
                tokio::select! {
                    biased;
                    () = stop.cancelled() => break,
                    () = sleeper.sleep(STANDSTILL) => continue,
                }
            }
            if std::mem::take(&mut stands_still) {
                // The wheel may have been turned by a clock that was wrong.
                self.reload()?;
            }
            self.turn(now).await?;
            self.refill(now)?;
            self.search_overdue(now)?;
            while proposals.len() < CLAIM_PROPOSALS_MAX
                && let Some(proposal) = self.next_claims(now)?
            {
                proposals.push(proposal);
            }
            let pause = self.pause(now);
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                change = self.changes.next() => self.take(change)?,
                Ok(()) = self.incarnation.changed() => self.rearm()?,
                Some((asked, answer)) = proposals.next() => self.answered(asked, answer),
                () = lanes.freed() => {
                    for key in lanes.take_freed() {
                        self.queue_claim(key);
                    }
                }
                () = sleeper.sleep(pause) => {}
            }
        }
        self.hand_back().await
    }

    /// How long nothing is due.
    fn pause(&self, now: Timestamp) -> Duration {
        self.wheel.next_due().map_or(SLEEP_MAX, |due| due.since(now).min(SLEEP_MAX))
    }

    /// Takes what has become due from the wheel.
    async fn turn(&mut self, now: Timestamp) -> Result<(), storage::Error> {
        for (due, timer) in self.wheel.advance(now) {
            match timer {
                Timer::Claim(key) => self.queue_claim(key),
                Timer::Fire(id, incarnation) => self.fire(id, incarnation, due, now).await?,
                Timer::Deliver(id, incarnation) => self.deliver(id, incarnation).await?,
            }
        }
        Ok(())
    }

    fn queue_claim(&mut self, key: DueKey) {
        if self.horizon.owns(key.shard) && self.claiming.insert(key) {
            self.ready.push_back(key);
        }
    }

    fn arm_claim(&mut self, key: DueKey) {
        let at = match key.item {
            DueItem::Firing(job) => key.due.minus(claims::ahead(job, self.claim_ahead)),
            DueItem::Execution(_) => key.due.minus(self.claim_ahead),
            // Nobody counts the milliseconds of a message, and one that is claimed keeps others waiting.
            DueItem::Delivery(_) => key.due,
        };
        self.wheel.insert(at, Timer::Claim(key));
    }

    /// Takes over what has changed in the state.
    fn take(&mut self, change: Change) -> Result<(), storage::Error> {
        match change {
            Change::Reload => self.reload(),
            Change::Effects(effects) => {
                for effect in effects {
                    match effect {
                        Effect::Due(key) => {
                            if self.horizon.covers(key.shard, key.due) {
                                self.arm_claim(key);
                            }
                        }
                        Effect::Claimed { id, due, node, incarnation } => {
                            if node == self.node && Some(incarnation) == *self.incarnation.borrow() {
                                self.wheel.insert(due, Timer::Fire(id, incarnation));
                            }
                        }
                        Effect::ClaimedDelivery { id, due, node, incarnation } => {
                            if node == self.node {
                                self.message_claimed(id, due, incarnation);
                            }
                        }
                        Effect::ShardMap => self.follow_map()?,
                        Effect::Restored => self.reload()?,
                        Effect::Node(_) | Effect::Deleted(_) => {}
                    }
                }
                Ok(())
            }
        }
    }

    fn follow_map(&mut self) -> Result<(), storage::Error> {
        let map = self.cluster.state().view().get::<ShardMaps>(&())?.unwrap_or_default();
        self.horizon.follow(&map, self.node);
        let owned = u32::try_from(self.horizon.owned()).expect("there are 256 shards");
        metrics::gauge!("justrun_shards_owned").set(f64::from(owned));
        Ok(())
    }

    /// Starts afresh from the state, after hints were lost.
    fn reload(&mut self) -> Result<(), storage::Error> {
        self.wheel = Wheel::new(self.sleeper.now());
        self.follow_map()?;
        self.horizon.forget();
        self.rearm()
    }

    /// Puts what this process holds and has not started into the wheel.
    fn rearm(&mut self) -> Result<(), storage::Error> {
        let Some(incarnation) = *self.incarnation.borrow_and_update() else { return Ok(()) };
        for (id, due, attempt) in self.held(incarnation)? {
            if !self.holding.has_begun(id, attempt) {
                self.wheel.insert(due, Timer::Fire(id, incarnation));
            }
        }
        self.rearm_messages(incarnation)
    }

    /// What this process holds by the state: execution, instant, attempt.
    fn held(&self, incarnation: Incarnation) -> Result<Vec<(ExecutionId, Timestamp, u32)>, storage::Error> {
        let view = self.cluster.state().view();
        let mut held = Vec::new();
        let mut after = None;
        loop {
            let claims =
                view.keys_prefix::<Claims>(&self.node.0.to_be_bytes(), after.as_ref(), CLAIMS_READ_MAX)?;
            for (_, id) in &claims {
                if let Some(execution) = view.get::<Executions>(id)?
                    && execution.is_held_by(self.node, incarnation)
                {
                    held.push((*id, execution.due, execution.attempt));
                }
            }
            if claims.len() < CLAIMS_READ_MAX {
                return Ok(held);
            }
            after = claims.last().copied();
        }
    }

    /// Reads on those shards of which little is left in the wheel.
    fn refill(&mut self, now: Timestamp) -> Result<(), storage::Error> {
        let target = now.plus(HORIZON);
        for (shard, from) in self.horizon.thirsty(now) {
            let (lower, upper) = DueKey::range(shard, from, target);
            let keys = self.cluster.state().view().keys::<Due>(&lower, Some(&upper), READ_MAX)?;
            // A shard with more than that is read in slices that end between two instants.
            let read_until = match keys.last() {
                Some(last) if keys.len() == READ_MAX => last.due.max(from.plus(Duration::from_millis(1))),
                Some(_) | None => target,
            };
            for key in keys {
                if key.due < read_until || read_until == target {
                    self.arm_claim(key);
                }
            }
            self.horizon.has_read(shard, read_until);
        }
        Ok(())
    }

    /// Finds what should have been claimed long ago. Normally there is nothing.
    fn search_overdue(&mut self, now: Timestamp) -> Result<(), storage::Error> {
        let elapsed = self.sleeper.elapsed();
        if elapsed < self.overdue_at {
            return Ok(());
        }
        self.overdue_at = elapsed + OVERDUE_EVERY;
        let until = now.plus(self.claim_ahead).minus(OVERDUE_AFTER);
        for shard in
            domain::shard::ShardId::all().filter(|shard| self.horizon.owns(*shard)).collect::<Vec<_>>()
        {
            let (lower, upper) = DueKey::range(shard, Timestamp::EPOCH, until);
            let keys = self.cluster.state().view().keys::<Due>(&lower, Some(&upper), READ_MAX)?;
            for key in keys {
                self.queue_claim(key);
            }
        }
        Ok(())
    }

    /// The next proposal of claims, if anything is ready and this process may claim.
    fn next_claims(
        &mut self,
        now: Timestamp,
    ) -> Result<Option<BoxFuture<'static, ClaimAnswer>>, storage::Error> {
        let Some(incarnation) = *self.incarnation.borrow() else { return Ok(None) };
        let mut asked = Vec::new();
        let mut commands = Vec::new();
        while asked.len() < CLAIMS_TOGETHER_MAX
            && let Some(key) = self.ready.pop_front()
        {
            match self.claim(&key, now)? {
                Some(target) => {
                    asked.push(Asked::of(key, &target));
                    commands.push(Command::Claim(Claim { node: self.node, incarnation, target }));
                }
                None => {
                    self.claiming.remove(&key);
                }
            }
        }
        if asked.is_empty() {
            return Ok(None);
        }
        let cluster = self.cluster.clone();
        Ok(Some(Box::pin(async move {
            let answer = cluster.propose_all(commands, CLAIM_TIMEOUT).await;
            (asked, answer)
        })))
    }

    /// The claim for an entry of the due index, or `None` when the entry is no longer there.
    fn claim(&mut self, key: &DueKey, now: Timestamp) -> Result<Option<ClaimTarget>, storage::Error> {
        if let DueItem::Delivery(id) = key.item {
            return self.claim_message(key, id, now);
        }
        let view = self.cluster.state().view();
        match key.item {
            DueItem::Firing(job) => {
                let Some(state) =
                    view.get::<JobStates>(&job)?.filter(|state| state.next_run_at == Some(key.due))
                else {
                    return Ok(None);
                };
                let plan = self.lookout.plans().get(job, state.generation, || view.get::<Jobs>(&job))?;
                if let Some(space) = plan.as_ref().and_then(|plan| plan.job.space)
                    && is_held_up(&view, space, key.due)?
                {
                    self.wheel.insert(now.plus(CLAIM_AGAIN_AFTER), Timer::Claim(*key));
                    return Ok(None);
                }
                let claim = plan.as_ref().and_then(|plan| claims::firing(job, &state, plan, now));
                #[cfg(feature = "faults")]
                if let (Some(schedule), true) = (
                    plan.as_ref().and_then(|plan| plan.schedule.as_ref()),
                    crate::faults::is_planted("bug::missed"),
                ) {
                    return Ok(claim.map(|claim| crate::faults::skipping(claim, schedule)));
                }
                Ok(claim)
            }
            DueItem::Execution(id) => {
                let execution = view.get::<Executions>(&id)?.filter(|execution| execution.due == key.due);
                Ok(execution.as_ref().and_then(claims::pending))
            }
            DueItem::Delivery(_) => Ok(None),
        }
    }

    fn answered(&mut self, asked: Vec<Asked>, answer: Result<Vec<Reply>, ProposeError>) {
        let again = self.sleeper.now().plus(CLAIM_AGAIN_AFTER);
        let count =
            |result: &'static str| metrics::counter!("justrun_claims_total", "result" => result).increment(1);
        match answer {
            Ok(replies) => {
                for (asked, reply) in asked.into_iter().zip(replies) {
                    self.claiming.remove(&asked.key);
                    match reply {
                        Ok(
                            applied @ (Applied::Done
                            | Applied::Registered(_)
                            | Applied::Claimed(_)
                            | Applied::All(_)
                            | Applied::Swept(_)),
                        ) => {
                            count(CLAIMED);
                            let skipped = asked.skipped(&applied);
                            recorder::count_ended(ExecutionStatus::Skipped, Trigger::Schedule, skipped);
                        }
                        // The registration sees to it; the claim is made again under the new number.
                        Err(Rejection::NotLive | Rejection::UnknownSession) => {
                            count(NOT_LIVE);
                            self.give_way(&asked.key);
                            self.wheel.insert(again, Timer::Claim(asked.key));
                        }
                        Err(_) => {
                            count(STALE);
                            self.give_way(&asked.key);
                            // The job may have been changed and be due at the same instant again, of which nobody else
                            // tells: this claim was under way when that was said.
                            self.wheel.insert(again, Timer::Claim(asked.key));
                        }
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, claims = asked.len(), "claims to be made again");
                for asked in asked {
                    count(FAILED);
                    self.claiming.remove(&asked.key);
                    self.give_way(&asked.key);
                    self.wheel.insert(again, Timer::Claim(asked.key));
                }
            }
        }
    }

    /// Gives back the place that was taken for a message whose claim came to nothing.
    fn give_way(&self, key: &DueKey) {
        if let DueItem::Delivery(id) = key.item {
            self.lanes.leave(id);
        }
    }

    /// Hands a claimed execution whose instant has come to the executor.
    ///
    /// The state is asked when its turn has come; here, where thousands pass at once, only what cannot wait until then:
    /// whether the previous one still runs, and what is not known of the job.
    async fn fire(
        &mut self,
        id: ExecutionId,
        incarnation: Incarnation,
        due: Timestamp,
        now: Timestamp,
    ) -> Result<(), storage::Error> {
        let known = self.lookout.plans().peek(id.job).filter(|plan| plan.job.overlap == OverlapPolicy::Allow);
        let plan = match known {
            Some(plan) => plan,
            None => {
                let Some(Sight { execution, plan, start }) = self.lookout.look(id, incarnation, now)? else {
                    return Ok(());
                };
                if let Start::Skip(reason) = start {
                    if self.holding.begin(id, execution.attempt) {
                        self.recorder.skip(&execution, self.node, incarnation, now, reason).await;
                    }
                    return Ok(());
                }
                plan
            }
        };
        if self.holding.order(id, incarnation) {
            let (account, host) = (plan.job.account, Arc::clone(&plan.host));
            self.executor
                .start(Order { execution: id, incarnation, account, host, due, ordered_at: now })
                .await;
        }
        Ok(())
    }

    /// Gives back what was claimed and not started, and takes nothing new, so that others go on at once.
    async fn hand_back(mut self) -> Result<(), storage::Error> {
        let Some(incarnation) = *self.incarnation.borrow_and_update() else { return Ok(()) };
        let drain = Command::DrainNode(DrainNode { node: self.node, incarnation });
        match self.cluster.propose_all(vec![drain], CLAIM_TIMEOUT).await {
            Ok(_) => {}
            Err(error) => {
                tracing::warn!(%error, "could not announce the end; the cluster will notice it");
                return Ok(());
            }
        }
        let releases: Vec<Command> = self
            .held(incarnation)?
            .into_iter()
            // What the executor has been given and has not begun must not begin any more.
            .filter(|(id, _, attempt)| self.holding.begin(*id, *attempt))
            .map(|(execution, _, _)| Command::Release(Release { node: self.node, incarnation, execution }))
            .collect();
        let count = releases.len();
        if count > 0
            && let Err(error) = self.cluster.propose_all(releases, CLAIM_TIMEOUT).await
        {
            tracing::warn!(%error, "could not give back all claims; the cluster will notice it");
            return Ok(());
        }
        tracing::info!(released = count, "shards released");
        Ok(())
    }
}

impl Asked {
    fn of(key: DueKey, target: &ClaimTarget) -> Self {
        let (records, opens) = match target {
            ClaimTarget::Firing { .. } => (false, true),
            ClaimTarget::Missed { skipped, run, .. } => (skipped.is_some(), run.is_some()),
            ClaimTarget::Execution { .. } | ClaimTarget::Delivery { .. } => (false, false),
        };
        Self { key, records, opens }
    }

    /// How many executions the claim has left in the history as skipped: a record of missed firings, and a firing that was
    /// one too many for the job.
    fn skipped(&self, applied: &Applied) -> u64 {
        let one_too_many = self.opens && *applied == Applied::Claimed(None);
        u64::from(self.records) + u64::from(one_too_many)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::execution::MissedFirings;
    use domain::id::JobId;

    #[test]
    fn what_a_claim_leaves_as_skipped_is_counted() {
        let (job, at) = (JobId(7), Timestamp::from_secs(60));
        let key = DueKey::new(at, DueItem::Firing(job));
        let missed = |skipped, run| ClaimTarget::Missed {
            job,
            generation: 1,
            first: at,
            skipped,
            run,
            run_due: at,
            next_run_at: None,
        };
        let record = Some(MissedFirings { until: at, count: 3, exact: true });
        let firing = ClaimTarget::Firing { job, generation: 1, scheduled_at: at, next_run_at: None };
        let id = ExecutionId::scheduled(job, at);
        for (target, claimed, expected) in [
            (firing.clone(), Some(id), 0),
            (firing, None, 1),
            (missed(record, None), None, 1),
            (missed(record, Some(at)), Some(id), 1),
            (missed(record, Some(at)), None, 2),
            (ClaimTarget::Execution { id, attempt: 2 }, Some(id), 0),
        ] {
            let skipped = Asked::of(key, &target).skipped(&Applied::Claimed(claimed));
            assert_eq!(skipped, expected, "{target:?}");
        }
    }
}
