//! Alert channels.

use super::Context;
use crate::command::{Applied, CreateChannel, DeleteChannel, Reply, UpdateChannel};
use domain::channel::{Channel, EventKind};
use domain::limits;
use domain::rejection::Rejection;
use storage::Read;
use storage::schema::{Accounts, Channels};

pub(super) fn create(context: &mut Context<'_, '_>, command: CreateChannel) -> Result<Reply, storage::Error> {
    let CreateChannel { channel } = command;
    if !context.txn.contains::<Accounts>(&channel.account)? {
        return Ok(Err(Rejection::NoSuchAccount));
    }
    if context.txn.contains::<Channels>(&(channel.account, channel.id))? {
        return Ok(Err(Rejection::Exists));
    }
    let prefix = channel.account.0.to_be_bytes();
    let known = context.txn.keys_prefix::<Channels>(&prefix, None, limits::CHANNELS_MAX)?;
    if known.len() >= limits::CHANNELS_MAX {
        return Ok(Err(Rejection::TooMany { max: limits::CHANNELS_MAX as u64 }));
    }
    count(context, &channel, 1);
    context.txn.put::<Channels>(&(channel.account, channel.id), &channel)?;
    Ok(Ok(Applied::Done))
}

pub(super) fn update(context: &mut Context<'_, '_>, command: UpdateChannel) -> Result<Reply, storage::Error> {
    let UpdateChannel { channel, expected } = command;
    let key = (channel.account, channel.id);
    let Some(old) = context.txn.get::<Channels>(&key)? else {
        return Ok(Err(Rejection::NoSuchChannel));
    };
    if old.updated_at != expected {
        return Ok(Err(Rejection::Stale));
    }
    count(context, &old, -1);
    count(context, &channel, 1);
    let channel = Channel { last_delivery: old.last_delivery, created_at: old.created_at, ..channel };
    context.txn.put::<Channels>(&key, &channel)?;
    Ok(Ok(Applied::Done))
}

pub(super) fn delete(context: &mut Context<'_, '_>, command: DeleteChannel) -> Result<Reply, storage::Error> {
    let DeleteChannel { account, channel } = command;
    let Some(old) = context.txn.get::<Channels>(&(account, channel))? else {
        return Ok(Err(Rejection::NoSuchChannel));
    };
    count(context, &old, -1);
    context.txn.remove::<Channels>(&(account, channel))?;
    Ok(Ok(Applied::Done))
}

/// Keeps the numbers by which an outcome knows whether anybody wants to hear of it.
fn count(context: &mut Context<'_, '_>, channel: &Channel, change: i64) {
    let meta = &mut context.meta;
    meta.channels = meta.channels.saturating_add_signed(change);
    if channel.hears(EventKind::Executed) {
        meta.channels_of_all = meta.channels_of_all.saturating_add_signed(change);
    }
}
