//! The loop: an order for each message that this process has claimed, an outcome for each attempt.

use super::message::Message;
use super::outcomes::OutcomeHandle;
use super::{Again, Lanes, Refusal, Senders};
use crate::clock::Sleeper;
use domain::channel::Channel;
use domain::delivery::{Delivery, DeliveryOutcome, DeliveryResult};
use domain::id::{DeliveryId, NodeId};
use domain::limits;
use domain::node::Incarnation;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// Orders that wait to be taken up. Taking one up starts a task, so hardly any ever wait; see [`Lanes`] for
/// how many there can be.
const WAITING_MAX: usize = 4_096;
/// How long a receiver may take, in real time.
const SEND_TIMEOUT: Duration = Duration::from_secs(15);
/// How often an order that was held back looks whether the leader is heard again.
const CONTACT_INTERVAL: Duration = Duration::from_millis(50);

/// A message that this process has claimed and is to send now.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) delivery: Delivery,
    /// None when the channel has gone, and the message goes nowhere.
    pub(crate) channel: Option<Channel>,
    pub(crate) incarnation: Incarnation,
}

/// Takes orders.
#[derive(Clone, Debug)]
pub(crate) struct NotifierHandle {
    orders: mpsc::Sender<Order>,
}

impl NotifierHandle {
    /// Sends a message as soon as this node may.
    pub(crate) async fn start(&self, order: Order) {
        // The notifier outlives the scheduler; it is gone only when the process ends.
        if self.orders.send(order).await.is_err() {
            tracing::error!("a message came after the notifier had ended");
        }
    }
}

/// Whether this process may send a message it was told to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It holds the claim.
    Ours,
    /// It held the claim when it last heard from a leader.
    OutOfTouch,
    /// The claim has gone, or another attempt is under way.
    Gone,
}

/// Tells how a message stands by its id, attempt and claim, by the state as it is now.
pub(crate) type Stand =
    Arc<dyn Fn(DeliveryId, u32, Incarnation) -> Result<Standing, storage::Error> + Send + Sync>;

/// Sends what it is told to and reports what came of it.
pub(crate) struct Notifier {
    pub(crate) node: NodeId,
    pub(crate) senders: Senders,
    pub(crate) sleeper: Arc<dyn Sleeper>,
    pub(crate) stand: Stand,
    pub(crate) outcomes: OutcomeHandle,
    pub(crate) lanes: Lanes,
}

impl Notifier {
    /// Takes orders from the handle.
    pub(crate) fn orders() -> (NotifierHandle, mpsc::Receiver<Order>) {
        let (sender, orders) = mpsc::channel(WAITING_MAX);
        (NotifierHandle { orders: sender }, orders)
    }

    /// Runs until `stop`, and then until every message that is on its way has got an answer. What has not
    /// left by then goes to others as soon as this process takes its leave.
    ///
    /// # Errors
    /// When the state cannot be read.
    pub(crate) async fn run(
        self,
        mut orders: mpsc::Receiver<Order>,
        stop: CancellationToken,
    ) -> Result<(), storage::Error> {
        let mut attempts = JoinSet::new();
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(order) = orders.recv() => {
                    attempts.spawn(self.attempt(order, stop.clone()));
                }
                Some(ended) = attempts.join_next() => {
                    end(ended)?;
                }
            }
        }
        while let Some(ended) = attempts.join_next().await {
            end(ended)?;
        }
        Ok(())
    }

    fn attempt(
        &self,
        order: Order,
        stop: CancellationToken,
    ) -> impl Future<Output = Result<(), storage::Error>> + Send + 'static {
        let node = self.node;
        let senders = self.senders.clone();
        let sleeper = Arc::clone(&self.sleeper);
        let stand = Arc::clone(&self.stand);
        let outcomes = self.outcomes.clone();
        let lanes = self.lanes.clone();
        async move {
            let Order { delivery, channel, incarnation: claimed_under } = order;
            let id = delivery.id;
            // Asked at the moment of sending: the message may have become another node's meanwhile.
            loop {
                match stand(id, delivery.attempt, claimed_under)? {
                    Standing::Ours => break,
                    Standing::OutOfTouch if !stop.is_cancelled() => sleeper.sleep(CONTACT_INTERVAL).await,
                    Standing::OutOfTouch | Standing::Gone => {
                        tracing::debug!(message = %id, "given up unsent: the claim is no longer ours");
                        lanes.end(id, delivery.attempt);
                        return Ok(());
                    }
                }
            }
            let sent = match &channel {
                Some(channel) => {
                    let message = Message::of(&delivery);
                    let sending = senders.send(&channel.config, &message);
                    let late =
                        || Err(Refusal::later(format!("No answer within {}s", SEND_TIMEOUT.as_secs())));
                    Some(tokio::time::timeout(SEND_TIMEOUT, sending).await.unwrap_or_else(|_| late()))
                }
                None => None,
            };
            let at = sleeper.now();
            let (result, told) = match sent {
                Some(Ok(())) => (DeliveryResult::Delivered, "delivered"),
                Some(Err(Refusal { reason, again })) => {
                    let error = bounded(reason);
                    let retry_at = match again {
                        Again::Never => None,
                        Again::Later { asked } => delivery.next_attempt(at, asked, rand::random()),
                    };
                    match retry_at {
                        Some(retry_at) => (DeliveryResult::Failed { error, retry_at }, "retried"),
                        None => (DeliveryResult::GivenUp { error }, "failed"),
                    }
                }
                None => (DeliveryResult::GivenUp { error: "The channel was deleted".to_owned() }, "dropped"),
            };
            let channel_type = channel.as_ref().map_or("deleted", |channel| channel.config.type_name());
            metrics::counter!("justrun_alert_deliveries_total", "channel_type" => channel_type, "result" => told)
                .increment(1);
            if let DeliveryResult::GivenUp { error } = &result {
                tracing::info!(message = %id, channel = %id.channel, reason = error, "message given up");
            }
            let attempt = delivery.attempt;
            outcomes
                .record(DeliveryOutcome {
                    delivery: id,
                    attempt,
                    node,
                    incarnation: claimed_under,
                    at,
                    result,
                })
                .await;
            Ok(())
        }
    }
}

/// A reason as the state keeps it.
fn bounded(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(limits::ERROR_BYTES_MAX));
    reason
}

/// A panic in an attempt is a panic of the notifier, which ends the node, and so does its error.
fn end(ended: Result<Result<(), storage::Error>, JoinError>) -> Result<(), storage::Error> {
    match ended {
        Ok(ended) => ended,
        Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
        Err(_) => Ok(()),
    }
}
