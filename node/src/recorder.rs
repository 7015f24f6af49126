//! Brings what came of attempts into the replicated state, for as long as it takes.
//!
//! Outcomes are kept while no leader is known, and proposed again until the state has an answer: the
//! first outcome of an execution wins, so saying it twice does no harm.

use crate::clock::Sleeper;
use crate::scheduler::Holding;
use domain::execution::{AttemptResult, Execution, ExecutionStatus, Outcome, Trigger};
use domain::id::NodeId;
use domain::node::Incarnation;
use domain::time::Timestamp;
use raft::command::Command;
use raft::{Cluster, ProposeError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Outcomes that wait here. Beyond it the executor waits, and so starts nothing new.
const WAITING_MAX: usize = 65_536;
/// Outcomes in one proposal.
const TOGETHER_MAX: usize = 256;
/// How long one proposal may take before it is made again.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a proposal that found no leader.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Takes outcomes.
#[derive(Clone, Debug)]
pub(crate) struct RecorderHandle {
    outcomes: mpsc::Sender<Outcome>,
    holding: Holding,
}

impl RecorderHandle {
    /// Hands over what came of an attempt of `execution`. Waits while too much waits already.
    pub(crate) async fn record(&self, execution: &Execution, outcome: Outcome) {
        if let Some(status) = ends_as(execution, &outcome) {
            self.holding.settle(outcome.execution);
            count_ended(status, execution.trigger, 1);
        }
        // The recorder outlives the executor; it is gone only when the process ends.
        if self.outcomes.send(outcome).await.is_err() {
            tracing::error!("an outcome came after the recorder had ended");
        }
    }

    /// Hands over that an execution, held by this process, is not sent.
    pub(crate) async fn skip(
        &self,
        execution: &Execution,
        node: NodeId,
        incarnation: Incarnation,
        at: Timestamp,
        reason: &'static str,
    ) {
        tracing::info!(execution = %execution.id, attempt = execution.attempt, reason, "execution skipped");
        let outcome = Outcome {
            execution: execution.id,
            attempt: execution.attempt,
            node,
            incarnation,
            result: AttemptResult::Skipped { at, reason: reason.to_owned() },
        };
        self.record(execution, outcome).await;
    }

    /// A handle whose outcomes go nowhere but to the receiver.
    #[cfg(test)]
    pub(crate) fn for_test(holding: Holding) -> (Self, mpsc::Receiver<Outcome>) {
        let (outcomes, receiver) = mpsc::channel(WAITING_MAX);
        (Self { outcomes, holding }, receiver)
    }
}

/// How the execution ends with this outcome; `None` when something follows it.
fn ends_as(execution: &Execution, outcome: &Outcome) -> Option<ExecutionStatus> {
    match &outcome.result {
        AttemptResult::Sent { attempt, retry_at, .. } => match (&attempt.failure, retry_at) {
            (None, _) => Some(ExecutionStatus::Success),
            (Some(_), None) => Some(ExecutionStatus::Failed),
            (Some(_), Some(_)) => None,
        },
        // As in the state: with something sent before, it is that which failed.
        AttemptResult::Skipped { .. } if execution.attempts.is_empty() => Some(ExecutionStatus::Skipped),
        AttemptResult::Skipped { .. } => Some(ExecutionStatus::Failed),
    }
}

/// Counts executions that ended on this node.
pub(crate) fn count_ended(status: ExecutionStatus, trigger: Trigger, count: u64) {
    metrics::counter!("justrun_executions_total", "status" => status.as_str(), "trigger" => trigger.as_str())
        .increment(count);
}

/// Proposes outcomes.
pub(crate) struct Recorder {
    cluster: Cluster,
    sleeper: Arc<dyn Sleeper>,
    outcomes: mpsc::Receiver<Outcome>,
    holding: Holding,
}

impl Recorder {
    pub(crate) fn new(
        cluster: Cluster,
        sleeper: Arc<dyn Sleeper>,
        holding: Holding,
    ) -> (Self, RecorderHandle) {
        let (sender, outcomes) = mpsc::channel(WAITING_MAX);
        let handle = RecorderHandle { outcomes: sender, holding: holding.clone() };
        (Self { cluster, sleeper, outcomes, holding }, handle)
    }

    /// Runs until `stop`, and then until everything handed over is recorded.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(TOGETHER_MAX);
        loop {
            tokio::select! {
                biased;
                received = self.outcomes.recv_many(&mut batch, TOGETHER_MAX) => {
                    if received == 0 {
                        // Everybody who could hand something over has ended.
                        stop.cancelled().await;
                        return;
                    }
                }
                () = stop.cancelled() => {
                    self.outcomes.close();
                    if self.outcomes.recv_many(&mut batch, TOGETHER_MAX).await == 0 {
                        return;
                    }
                }
            }
            self.propose(std::mem::take(&mut batch)).await;
        }
    }

    async fn propose(&self, outcomes: Vec<Outcome>) {
        let ids: Vec<_> = outcomes.iter().map(|outcome| (outcome.execution, outcome.attempt)).collect();
        let commands: Vec<Command> =
            outcomes.into_iter().map(|outcome| Command::Record(Box::new(outcome))).collect();
        loop {
            match self.cluster.propose_all(commands.clone(), PROPOSE_TIMEOUT).await {
                Ok(replies) => {
                    for ((id, _), reply) in ids.iter().zip(replies) {
                        if let Err(rejection) = reply {
                            tracing::debug!(execution = %id, %rejection, "outcome not taken");
                        }
                    }
                    break;
                }
                Err(ProposeError::Stopping) => {
                    tracing::warn!(outcomes = ids.len(), "stopped before the outcomes were recorded");
                    break;
                }
                Err(error) => {
                    tracing::debug!(%error, outcomes = ids.len(), "outcomes wait for a leader");
                    self.sleeper.sleep(RETRY_AFTER).await;
                }
            }
        }
        for (id, attempt) in ids {
            self.holding.end(id, attempt);
        }
    }
}
