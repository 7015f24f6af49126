//! What came of messages, on its way into the replicated state.

use super::Lanes;
use crate::clock::Sleeper;
use crate::outcomes::{Recorder, Report, Rush};
use domain::delivery::DeliveryOutcome;
use domain::id::DeliveryId;
use raft::Cluster;
use raft::command::Command;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Outcomes that wait here; hardly more than there are messages on their way.
const WAITING_MAX: usize = 4_096;

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

impl Report for DeliveryOutcome {
    type Id = DeliveryId;
    const OF: &'static str = "message";

    fn of(&self) -> (DeliveryId, u32) {
        (self.delivery, self.attempt)
    }

    fn bytes(&self) -> usize {
        // A few words.
        0
    }

    fn command(self) -> Command {
        Command::RecordDelivery(Box::new(self))
    }
}

/// Proposes outcomes of messages. The first time either removes the message or makes it another attempt, so saying
/// it twice does no harm.
pub(crate) fn outcome_recorder(
    cluster: Cluster,
    sleeper: Arc<dyn Sleeper>,
    lanes: Lanes,
) -> (Recorder<DeliveryOutcome>, OutcomeHandle) {
    let end = move |id, attempt| lanes.end(id, attempt);
    let (recorder, outcomes) = Recorder::new(cluster, sleeper, WAITING_MAX, Rush::default(), end);
    (recorder, OutcomeHandle { outcomes })
}
