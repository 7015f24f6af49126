//! Brings what came of messages into the replicated state, for as long as it takes.
//!
//! As the recorder does for executions: proposed again until the state has an answer. Saying it twice does no
//! harm, since the first time either removes the message or makes it another attempt.

use super::Lanes;
use crate::clock::Sleeper;
use domain::delivery::DeliveryOutcome;
use raft::command::Command;
use raft::{Cluster, ProposeError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Outcomes that wait here; hardly more than there are messages on their way.
const WAITING_MAX: usize = 4_096;
/// Outcomes in one proposal.
const TOGETHER_MAX: usize = 256;
/// How long one proposal may take before it is made again.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a proposal that found no leader.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// Takes outcomes.
#[derive(Clone, Debug)]
pub(crate) struct OutcomeHandle {
    outcomes: mpsc::Sender<DeliveryOutcome>,
}

impl OutcomeHandle {
    /// Hands over what came of an attempt. Waits while too much waits already.
    pub(super) async fn record(&self, outcome: DeliveryOutcome) {
        // The recorder outlives the notifier; it is gone only when the process ends.
        if self.outcomes.send(outcome).await.is_err() {
            tracing::error!("the outcome of a message came after its recorder had ended");
        }
    }
}

/// Proposes outcomes.
pub(crate) struct OutcomeRecorder {
    cluster: Cluster,
    sleeper: Arc<dyn Sleeper>,
    lanes: Lanes,
    outcomes: mpsc::Receiver<DeliveryOutcome>,
}

impl OutcomeRecorder {
    pub(crate) fn new(cluster: Cluster, sleeper: Arc<dyn Sleeper>, lanes: Lanes) -> (Self, OutcomeHandle) {
        let (sender, outcomes) = mpsc::channel(WAITING_MAX);
        (Self { cluster, sleeper, lanes, outcomes }, OutcomeHandle { outcomes: sender })
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

    async fn propose(&self, outcomes: Vec<DeliveryOutcome>) {
        let ids: Vec<_> = outcomes.iter().map(|outcome| (outcome.delivery, outcome.attempt)).collect();
        let commands: Vec<Command> =
            outcomes.into_iter().map(|outcome| Command::RecordDelivery(Box::new(outcome))).collect();
        loop {
            match self.cluster.propose_all(commands.clone(), PROPOSE_TIMEOUT).await {
                Ok(replies) => {
                    for ((id, _), reply) in ids.iter().zip(replies) {
                        if let Err(rejection) = reply {
                            tracing::debug!(message = %id, %rejection, "outcome of a message not taken");
                        }
                    }
                    break;
                }
                Err(ProposeError::Stopping) => {
                    tracing::warn!(
                        outcomes = ids.len(),
                        "stopped before the outcomes of messages were recorded"
                    );
                    break;
                }
                Err(error) => {
                    tracing::debug!(%error, outcomes = ids.len(), "outcomes of messages wait for a leader");
                    self.sleeper.sleep(RETRY_AFTER).await;
                }
            }
        }
        for (id, attempt) in ids {
            self.lanes.end(id, attempt);
        }
    }
}
