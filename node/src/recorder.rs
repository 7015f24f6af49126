//! What came of attempts, on its way into the replicated state.

use crate::clock::Sleeper;
use crate::outcomes::{Recorder, Report, Rush};
use crate::scheduler::Holding;
use domain::execution::{AttemptResult, Execution, ExecutionStatus, Outcome, Trigger};
use domain::id::{ExecutionId, NodeId};
use domain::node::Incarnation;
use domain::time::Timestamp;
use raft::Cluster;
use raft::command::Command;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Outcomes that wait here. Beyond it the executor waits, and so starts nothing new.
const WAITING_MAX: usize = 65_536;

/// Takes outcomes.
#[derive(Clone, Debug)]
pub(crate) struct RecorderHandle {
    outcomes: mpsc::Sender<Outcome>,
    holding: Holding,
    rush: Rush,
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

    /// Says whether there is more to send right now than can be; what came of the rest is written down later then.
    pub(crate) fn set_rush(&self, is_on: bool) {
        self.rush.set(is_on);
    }

    #[cfg(test)]
    pub(crate) fn is_rush(&self) -> bool {
        self.rush.is_on()
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
        (Self { outcomes, holding, rush: Rush::default() }, receiver)
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

impl Report for Outcome {
    type Id = ExecutionId;
    const OF: &'static str = "execution";

    fn of(&self) -> (ExecutionId, u32) {
        (self.execution, self.attempt)
    }

    fn bytes(&self) -> usize {
        match &self.result {
            AttemptResult::Sent { body: Some(body), .. } => body.text.len(),
            AttemptResult::Sent { body: None, .. } | AttemptResult::Skipped { .. } => 0,
        }
    }

    fn command(self) -> Command {
        Command::Record(Box::new(self))
    }
}

/// Proposes outcomes of executions: the first one wins, so saying it twice does no harm.
pub(crate) fn recorder(
    cluster: Cluster,
    sleeper: Arc<dyn Sleeper>,
    holding: Holding,
) -> (Recorder<Outcome>, RecorderHandle) {
    let held = holding.clone();
    let end = move |id, attempt| held.end(id, attempt);
    let rush = Rush::default();
    let (recorder, outcomes) = Recorder::new(cluster, sleeper, WAITING_MAX, rush.clone(), end);
    (recorder, RecorderHandle { outcomes, holding, rush })
}
