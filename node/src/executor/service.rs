//! The loop: an order for each claimed execution whose instant has come, a place for it, an outcome for each attempt.

use super::http::{AttemptReport, AttemptRequest, HttpClient};
use super::places::{Bounds, Place, Places};
use crate::clock::Sleeper;
use crate::recorder::RecorderHandle;
use crate::scheduler::{Holding, Sight, Start};
use domain::execution::{AttemptResult, Execution, Outcome, Trigger};
use domain::id::{AccountId, ExecutionId, NodeId};
use domain::job::Job;
use domain::node::Incarnation;
use domain::retry;
use domain::time::{Clock, Timestamp};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Orders that wait to be taken up. That takes next to no time, so hardly any ever do.
const WAITING_MAX: usize = 65_536;
/// Attempts that are started before those get a chance to run.
const STARTED_TOGETHER: usize = 32;
/// When it takes longer until they have, this machine and not the targets is what is busy.
const LAG_MAX: Duration = Duration::from_millis(5);
/// Attempts under way on a machine that is busy: enough to keep it so. More would only stand in each other's way, and in that of whoever
/// is next.
const UNDER_WAY_MAX: usize = 96;
/// How often an order that was held back looks whether the leader is heard again.
const CONTACT_INTERVAL: Duration = Duration::from_millis(50);

/// An execution that this process has claimed and is to send now: what decides whose turn it is.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) execution: ExecutionId,
    pub(crate) incarnation: Incarnation,
    pub(crate) account: AccountId,
    /// Scheme, name and port of the target.
    pub(crate) host: Arc<str>,
    pub(crate) due: Timestamp,
    /// When it was given.
    pub(crate) ordered_at: Timestamp,
}

/// Asked when the turn of an order has come: what is to be sent, or why nothing is.
pub(crate) type Look = Arc<dyn Fn(&Order) -> Result<Option<Sight>, storage::Error> + Send + Sync>;

/// Why an order is not sent.
#[derive(Debug)]
pub(crate) enum Withheld {
    /// This node has not heard from a leader lately: what it holds may be another's. To be asked again.
    Wait,
    /// The job does not want it any more, for this reason.
    Skip(&'static str),
    /// It is no longer this process's, or the job is gone.
    Gone,
    /// The state cannot be read.
    Failed(storage::Error),
}

/// Asked when an execution would be sent, which this process holds under that incarnation. The instant is the one as of which
/// it could have been sent, so that waiting for a place does not count as being missed. Behind a closure so that the
/// executor knows nothing of consensus.
pub(crate) type MayStart =
    Arc<dyn Fn(&Execution, Incarnation, Timestamp) -> Result<(), Withheld> + Send + Sync>;

/// Makes one attempt: over HTTP, or as a simulation has it. See [`HttpClient::send`].
pub(crate) trait Client: Send + Sync + 'static {
    fn send(
        &self,
        attempt: AttemptRequest<'_>,
        clock: &dyn Clock,
        may_start: impl FnOnce(Timestamp) -> Result<(), Withheld> + Send,
    ) -> impl Future<Output = Result<AttemptReport, Withheld>> + Send;
}

impl Client for HttpClient {
    async fn send(
        &self,
        attempt: AttemptRequest<'_>,
        clock: &dyn Clock,
        may_start: impl FnOnce(Timestamp) -> Result<(), Withheld> + Send,
    ) -> Result<AttemptReport, Withheld> {
        Self::send(self, attempt, clock, may_start).await
    }
}

/// Takes orders.
#[derive(Clone, Debug)]
pub(crate) struct ExecutorHandle {
    orders: mpsc::Sender<Order>,
}

impl ExecutorHandle {
    /// Starts an attempt as soon as the bounds on requests in flight allow; see [`Places`] for whose turn it is.
    pub(crate) async fn start(&self, order: Order) {
        // The executor outlives the scheduler; it is gone only when the process ends.
        if self.orders.send(order).await.is_err() {
            tracing::error!("an order came after the executor had ended");
        }
    }
}

/// Sends what it is told to and reports what came of it.
pub(crate) struct Executor<C> {
    node: NodeId,
    client: Arc<C>,
    sleeper: Arc<dyn Sleeper>,
    look: Look,
    may_start: MayStart,
    recorder: RecorderHandle,
    holding: Holding,
    bounds: Bounds,
    orders: mpsc::Receiver<Order>,
}

impl<C: Client> Executor<C> {
    pub(crate) fn new(
        node: NodeId,
        client: C,
        sleeper: Arc<dyn Sleeper>,
        (look, may_start): (Look, MayStart),
        recorder: RecorderHandle,
        holding: Holding,
        bounds: Bounds,
    ) -> (Self, ExecutorHandle) {
        let (sender, orders) = mpsc::channel(WAITING_MAX);
        let client = Arc::new(client);
        let executor = Self { node, client, sleeper, look, may_start, recorder, holding, bounds, orders };
        (executor, ExecutorHandle { orders: sender })
    }

    /// Runs until `stop`, and then until every attempt that was ordered is over.
    pub(crate) async fn run(mut self, stop: CancellationToken) -> Result<(), storage::Error> {
        let mut places = Places::new(self.bounds);
        let mut attempts = JoinSet::new();
        let waiting = metrics::gauge!("justrun_executions_waiting");
        let mut lags = false;
        loop {
            // All that are there, before the next ones get their places: whose turn it is depends on them.
            while let Ok(order) = self.orders.try_recv() {
                take_up(&mut places, order);
            }
            while let Some(attempt) = attempts.try_join_next() {
                pass_on(attempt, &mut places)?;
            }
            let room = if lags { UNDER_WAY_MAX.saturating_sub(attempts.len()) } else { STARTED_TOGETHER };
            // One always, so that accounts go on taking turns.
            let room = room.clamp(1, STARTED_TOGETHER);
            let mut started = 0;
            while started < room
                && let Some((place, order)) = places.next()
            {
                let attempt = self.attempt(order);
                attempts.spawn(async move { attempt.await.map(|()| place) });
                started += 1;
            }
            waiting.set(f64::from(u32::try_from(places.waiting()).unwrap_or(u32::MAX)));
            let is_rush = started == room;
            self.recorder.set_rush(is_rush);
            if is_rush {
                let before = self.sleeper.elapsed();
                tokio::task::yield_now().await;
                lags = self.sleeper.elapsed().saturating_sub(before) > LAG_MAX;
                continue;
            }
            lags = false;
            tokio::select! {
                biased;
                Some(order) = self.orders.recv() => take_up(&mut places, order),
                Some(attempt) = attempts.join_next() => pass_on(attempt, &mut places)?,
                () = stop.cancelled(), if !self.orders.is_closed() => self.orders.close(),
                // No order comes any more, and nothing is under way, so nothing waits either.
                else => break,
            }
        }
        // Whoever gave orders may be gone before this is told to end.
        stop.cancelled().await;
        Ok(())
    }

    fn attempt(&self, order: Order) -> impl Future<Output = Result<(), storage::Error>> + Send + use<C> {
        let node = self.node;
        let client = Arc::clone(&self.client);
        let sleeper = Arc::clone(&self.sleeper);
        let (look, may_start) = (Arc::clone(&self.look), Arc::clone(&self.may_start));
        let recorder = self.recorder.clone();
        let holding = self.holding.clone();
        async move {
            holding.take_up(order.execution, order.incarnation);
            let Some(Sight { execution, plan, start }) = look(&order)? else { return Ok(()) };
            let Order { incarnation, ordered_at, .. } = order;
            let job = &plan.job;
            if !holding.begin(execution.id, execution.attempt) {
                return Ok(());
            }
            if let Start::Skip(reason) = start {
                recorder.skip(&execution, node, incarnation, ordered_at, reason).await;
                return Ok(());
            }
            let request = AttemptRequest {
                request: &job.request,
                job: job.id,
                job_name: &job.name,
                execution: execution.id,
                attempt: execution.attempt,
                scheduled_at: execution.scheduled_at,
                node,
                store_response_body: job.store_response_body,
            };
            let clock: &dyn Clock = sleeper.as_ref();
            let in_flight = InFlight::default();
            #[cfg(feature = "faults")]
            if crate::faults::is_planted("bug::late") {
                sleeper.sleep(Duration::from_secs(3)).await;
            }
            let mut begun = clock.elapsed();
            let mut ready_at = ordered_at;
            loop {
                // Unlike a busy target, a cluster without a leader can make it a missed one. The wall clock may be why it had
                // to wait.
                let as_of = ready_at.plus(clock.elapsed().saturating_sub(begun));
                let mut early = Duration::ZERO;
                let start = |at: Timestamp| {
                    // The order was given by a clock that was ahead, and has been put right while it had to wait.
                    early = execution.due.since(at);
                    if !early.is_zero() {
                        return Err(Withheld::Wait);
                    }
                    may_start(&execution, incarnation, as_of)?;
                    in_flight.begin();
                    observe_lateness(&execution, at);
                    Ok(())
                };
                match client.send(request, clock, start).await {
                    Ok(report) => {
                        drop(in_flight);
                        #[cfg(feature = "faults")]
                        if crate::faults::is_planted("bug::doubled") {
                            let _ = client.send(request, clock, |_| Ok::<(), Withheld>(())).await;
                        }
                        #[cfg(feature = "faults")]
                        if crate::faults::is_planted("bug::lost-record") {
                            return Ok(());
                        }
                        recorder
                            .record(&execution, outcome(&execution, job, node, incarnation, report))
                            .await;
                        return Ok(());
                    }
                    Err(Withheld::Wait) if !early.is_zero() => {
                        sleeper.sleep(early.min(CONTACT_INTERVAL)).await;
                        (begun, ready_at) = (clock.elapsed(), execution.due);
                    }
                    Err(Withheld::Wait) => sleeper.sleep(CONTACT_INTERVAL).await,
                    Err(Withheld::Skip(reason)) => {
                        recorder.skip(&execution, node, incarnation, clock.now(), reason).await;
                        return Ok(());
                    }
                    Err(Withheld::Gone) => {
                        tracing::info!(execution = %execution.id, "given up unsent: it is no longer ours");
                        holding.end(execution.id, execution.attempt);
                        return Ok(());
                    }
                    Err(Withheld::Failed(error)) => return Err(error),
                }
            }
        }
    }
}

fn take_up(places: &mut Places<Order>, order: Order) {
    places.wait(order.account, Arc::clone(&order.host), order.due, order);
}

/// What ends an attempt without an outcome ends the executor, and so the node; a panic too.
fn pass_on(
    ended: Result<Result<Place, storage::Error>, JoinError>,
    places: &mut Places<Order>,
) -> Result<(), storage::Error> {
    match ended {
        Ok(ended) => {
            places.leave(ended?);
            Ok(())
        }
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        // Nobody cancels an attempt but the end of the executor itself.
        Err(_) => Ok(()),
    }
}

/// Counts a request as in flight from its start until this is dropped.
#[derive(Default)]
struct InFlight(AtomicBool);

impl InFlight {
    fn begin(&self) {
        self.0.store(true, Ordering::Relaxed);
        metrics::gauge!("justrun_executions_in_flight").increment(1.0);
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        if *self.0.get_mut() {
            metrics::gauge!("justrun_executions_in_flight").decrement(1.0);
        }
    }
}

fn observe_lateness(execution: &Execution, at: Timestamp) {
    if execution.trigger == Trigger::Schedule && execution.attempt == 1 {
        let lateness = at.since(execution.scheduled_at);
        metrics::histogram!("justrun_firing_lateness_seconds").record(lateness.as_secs_f64());
    }
}

/// What to record of an attempt, with the instant of the retry if there is to be one.
fn outcome(
    execution: &Execution,
    job: &Job,
    node: NodeId,
    incarnation: Incarnation,
    report: AttemptReport,
) -> Outcome {
    let AttemptReport { attempt, retry_after, body } = report;
    let retry_at = attempt
        .failure
        .as_ref()
        .and_then(|_| retry::delay_asked(job.retry, execution.retries + 1, retry_after))
        .map(|wait| attempt.finished_at.plus(wait));
    Outcome {
        execution: execution.id,
        attempt: execution.attempt,
        node,
        incarnation,
        result: AttemptResult::Sent { attempt, body, retry_at },
    }
}

#[cfg(test)]
mod tests;
