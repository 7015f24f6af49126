//! Messages to channels: claimed like executions, but at their instant and no more of them than can be
//! sent, and in order where the order matters.

use super::{CLAIMS_READ_MAX, Scheduler, Timer};
use crate::notifier::Order;
use domain::channel::EventKind;
use domain::delivery::Delivery;
use domain::id::DeliveryId;
use domain::node::Incarnation;
use domain::time::Timestamp;
use raft::command::ClaimTarget;
use std::time::Duration;
use storage::schema::{Channels, Deliveries, DeliveryClaims, DueKey};
use storage::{Read, StateView};

/// Older messages of a job that are looked at to keep the order. After a long outage of a receiver there may
/// be more; then the order is not kept.
const OLDER_MAX: usize = 512;
/// How soon to look again whether an older message has arrived.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

impl Scheduler {
    /// The claim for a message, or `None` when it is not to be claimed now.
    pub(super) fn claim_message(
        &mut self,
        key: &DueKey,
        id: DeliveryId,
        now: Timestamp,
    ) -> Result<Option<ClaimTarget>, storage::Error> {
        let waiting = {
            let view = self.cluster.state().view();
            match view.get::<Deliveries>(&id)?.filter(|it| it.holder.is_none() && it.due == key.due) {
                Some(delivery) => {
                    let older = held_up_by(&view, &delivery)?;
                    Some((delivery.attempt, older))
                }
                None => None,
            }
        };
        match waiting {
            // Somebody else was faster; another one of the channel may go in its place.
            None => self.lanes.leave(id),
            Some((_, Some(older))) => {
                // At once when the older one is on its way, else when that is tried again.
                let at = older.holder.map_or(older.due, |_| now).max(now).plus(LOOK_AGAIN);
                self.wheel.insert(at, Timer::Claim(*key));
            }
            Some((attempt, None)) => {
                if self.lanes.admit(*key, id) {
                    return Ok(Some(ClaimTarget::Delivery { id, attempt }));
                }
            }
        }
        Ok(None)
    }

    /// Takes note of a message that a process of this node has claimed.
    pub(super) fn message_claimed(&mut self, id: DeliveryId, due: Timestamp, incarnation: Incarnation) {
        if Some(incarnation) == *self.incarnation.borrow() {
            self.wheel.insert(due, Timer::Deliver(id, incarnation));
        } else {
            self.lanes.leave(id);
        }
    }

    /// Hands a claimed message to the notifier, if this process still holds it.
    pub(super) async fn deliver(
        &mut self,
        id: DeliveryId,
        incarnation: Incarnation,
    ) -> Result<(), storage::Error> {
        let found = {
            let view = self.cluster.state().view();
            match view.get::<Deliveries>(&id)? {
                Some(delivery) if delivery.is_held_by(self.node, incarnation, delivery.attempt) => {
                    let channel = view.get::<Channels>(&(delivery.account, id.channel))?;
                    Some((delivery, channel))
                }
                Some(_) | None => None,
            }
        };
        match found {
            Some((delivery, channel)) => {
                if self.lanes.begin(id, delivery.attempt) {
                    self.notifier.start(Order { delivery, channel, incarnation }).await;
                }
            }
            None => self.lanes.leave(id),
        }
        Ok(())
    }

    /// Puts the messages that this process holds and has not begun to send into the wheel.
    pub(super) fn rearm_messages(&mut self, incarnation: Incarnation) -> Result<(), storage::Error> {
        let held = self.held_messages(incarnation)?;
        self.lanes.restart(held.iter().map(|(id, ..)| *id));
        for (id, due, attempt) in held {
            if !self.lanes.has_begun(id, attempt) {
                self.wheel.insert(due, Timer::Deliver(id, incarnation));
            }
        }
        Ok(())
    }

    fn held_messages(
        &self,
        incarnation: Incarnation,
    ) -> Result<Vec<(DeliveryId, Timestamp, u32)>, storage::Error> {
        let view = self.cluster.state().view();
        let mut held = Vec::new();
        let mut after = None;
        loop {
            let prefix = self.node.0.to_be_bytes();
            let claims = view.keys_prefix::<DeliveryClaims>(&prefix, after.as_ref(), CLAIMS_READ_MAX)?;
            for (_, id) in &claims {
                if let Some(delivery) = view.get::<Deliveries>(id)?
                    && delivery.is_held_by(self.node, incarnation, delivery.attempt)
                {
                    held.push((*id, delivery.due, delivery.attempt));
                }
            }
            if claims.len() < CLAIMS_READ_MAX {
                return Ok(held);
            }
            after = claims.last().copied();
        }
    }
}

/// The older message that this one must not overtake, if there is one.
///
/// What this node knows may be behind, but only in that an older message has arrived meanwhile: outcomes
/// enter the state in the order in which they are told.
fn held_up_by(view: &StateView<'_>, delivery: &Delivery) -> Result<Option<Delivery>, storage::Error> {
    let id = delivery.id;
    if id.event == EventKind::Executed {
        return Ok(None);
    }
    // The newest execution comes first, so that those behind this message's own key are older.
    let prefix = id.execution.job.0.to_be_bytes();
    let older = view.keys_prefix::<Deliveries>(&prefix, Some(&id), OLDER_MAX)?;
    let mut config = None;
    for other in older {
        if other.channel != id.channel || !id.event.answers(other.event) {
            continue;
        }
        if config.is_none() {
            config = view.get::<Channels>(&(delivery.account, id.channel))?.map(|channel| channel.config);
        }
        // To a channel that has gone, any order is right.
        let Some(config) = &config else { return Ok(None) };
        if let Some(older) = view.get::<Deliveries>(&other)?.filter(|older| older.holds_up(id.event, config))
        {
            return Ok(Some(older));
        }
    }
    Ok(None)
}
