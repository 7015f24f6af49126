//! Messages to channels: stored with the outcome they tell of.

use super::{Context, Effect};
use crate::command::{Applied, Reply};
use domain::channel::{EventKind, LastDelivery};
use domain::delivery::{Delivery, DeliveryOutcome, DeliveryResult};
use domain::execution::{DueItem, Execution, ExecutionStatus};
use domain::id::{AccountId, DeliveryId, NodeId};
use domain::limits;
use domain::node::Incarnation;
use domain::rejection::Rejection;
use storage::Read;
use storage::schema::{Channels, Deliveries, DeliveryClaims, Due, DueKey, Jobs};

/// Deliveries taken from a dead process at a time. All go in one command; this bounds only memory.
const ORPHANS_AT_ONCE: usize = 1_000;

/// Stores what the end of `execution` is to tell to whom. `before` is how the job's last one ended.
pub(super) fn open(
    context: &mut Context<'_, '_>,
    account: AccountId,
    execution: &Execution,
    status: ExecutionStatus,
    before: Option<ExecutionStatus>,
) -> Result<(), storage::Error> {
    let wanted = |kind: &EventKind| match kind {
        EventKind::Executed => context.meta.channels_of_all > 0,
        EventKind::Failed | EventKind::Recovered => context.meta.channels > 0,
    };
    let events: Vec<EventKind> = EventKind::of(status, before).filter(wanted).collect();
    if events.is_empty() {
        return Ok(());
    }
    let prefix = account.0.to_be_bytes();
    let channels = context.txn.prefix::<Channels>(&prefix, None, limits::CHANNELS_MAX)?;
    if channels.is_empty() {
        return Ok(());
    }
    let Some(job) = context.txn.get::<Jobs>(&execution.id.job)? else {
        return Err(storage::Error::Inconsistent("an outcome of a job that is not there"));
    };
    let last = execution.attempts.last();
    for (_, channel) in channels {
        if job.alert_channels.as_ref().is_some_and(|chosen| !chosen.contains(&channel.id)) {
            continue;
        }
        for event in events.iter().copied().filter(|event| channel.hears(*event)) {
            let delivery = Delivery {
                id: DeliveryId { execution: execution.id, event, channel: channel.id },
                account,
                job_name: job.name.clone(),
                job_url: job.request.url.clone(),
                status_code: last.and_then(|last| last.status_code),
                duration_ms: last.map_or(0, |last| last.duration_ms),
                error: last.and_then(|last| last.failure.as_ref()).map(|failure| failure.message.clone()),
                executed_at: last.map_or(execution.scheduled_at, |last| last.started_at),
                created_at: context.now,
                due: context.now,
                attempt: 1,
                holder: None,
            };
            put_waiting(context, &delivery)?;
        }
    }
    Ok(())
}

fn due_key(delivery: &Delivery) -> DueKey {
    DueKey::new(delivery.due, DueItem::Delivery(delivery.id))
}

fn put_waiting(context: &mut Context<'_, '_>, delivery: &Delivery) -> Result<(), storage::Error> {
    context.put_due(due_key(delivery))?;
    context.txn.put::<Deliveries>(&delivery.id, delivery)
}

pub(super) fn claim(
    context: &mut Context<'_, '_>,
    node: NodeId,
    incarnation: Incarnation,
    id: DeliveryId,
    attempt: u32,
) -> Result<Reply, storage::Error> {
    let Some(mut delivery) = context.txn.get::<Deliveries>(&id)? else {
        return Ok(Err(Rejection::NoSuchDelivery));
    };
    if delivery.attempt != attempt || !delivery.claim(node, incarnation) {
        return Ok(Err(Rejection::NotClaimable));
    }
    context.txn.remove::<Due>(&due_key(&delivery))?;
    context.txn.put::<DeliveryClaims>(&(node, id), &())?;
    context.txn.put::<Deliveries>(&id, &delivery)?;
    context.effects.push(Effect::ClaimedDelivery { id, due: delivery.due, node, incarnation });
    Ok(Ok(Applied::Done))
}

pub(super) fn record(
    context: &mut Context<'_, '_>,
    outcome: DeliveryOutcome,
) -> Result<Reply, storage::Error> {
    let DeliveryOutcome { delivery: id, attempt, node, incarnation, at, result } = outcome;
    let Some(mut delivery) = context.txn.get::<Deliveries>(&id)? else {
        return Ok(Err(Rejection::NoSuchDelivery));
    };
    let held = delivery.is_held_by(node, incarnation, attempt);
    // What has arrived has arrived, whoever was to send it by then.
    if !held && result != DeliveryResult::Delivered {
        return Ok(Err(Rejection::NotClaimable));
    }
    match delivery.holder {
        Some((holder, _)) => context.txn.remove::<DeliveryClaims>(&(holder, id))?,
        None => context.txn.remove::<Due>(&due_key(&delivery))?,
    }
    let (error, again) = match result {
        DeliveryResult::Delivered => (None, None),
        DeliveryResult::Failed { error, retry_at } => (Some(error), Some(retry_at)),
        DeliveryResult::GivenUp { error } => (Some(error), None),
    };
    match again.filter(|due| !delivery.is_given_up(*due)) {
        Some(due) => {
            delivery.failed(due);
            put_waiting(context, &delivery)?;
        }
        None => context.txn.remove::<Deliveries>(&id)?,
    }
    let key = (delivery.account, id.channel);
    if let Some(mut channel) = context.txn.get::<Channels>(&key)? {
        channel.last_delivery = Some(LastDelivery { at, error });
        context.txn.put::<Channels>(&key, &channel)?;
    }
    Ok(Ok(Applied::Done))
}

/// Has a delivery wait that came from another cluster, whoever was sending it there.
pub(super) fn place(context: &mut Context<'_, '_>, mut delivery: Delivery) -> Result<(), storage::Error> {
    if delivery.holder.is_some() {
        delivery.orphan(context.now);
    }
    put_waiting(context, &delivery)
}

/// Takes everything that `node` is delivering away from it: due again at once.
pub(super) fn orphan(context: &mut Context<'_, '_>, node: NodeId) -> Result<(), storage::Error> {
    loop {
        let prefix = node.0.to_be_bytes();
        let claims = context.txn.keys_prefix::<DeliveryClaims>(&prefix, None, ORPHANS_AT_ONCE)?;
        if claims.is_empty() {
            return Ok(());
        }
        for claim in claims {
            context.txn.remove::<DeliveryClaims>(&claim)?;
            if let Some(mut delivery) = context.txn.get::<Deliveries>(&claim.1)? {
                delivery.orphan(context.now);
                put_waiting(context, &delivery)?;
            }
        }
    }
}
