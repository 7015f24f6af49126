//! Requests that are answered once.

use super::{Context, dispatch};
use crate::command::{Applied, Once, Reply};
use domain::limits;
use domain::rejection::Rejection;
use storage::Read;
use storage::codec::encode_body;
use storage::schema::{Answer, Answers, AnswersByExpiry};

pub(super) fn once(context: &mut Context<'_, '_>, command: Once) -> Result<Reply, storage::Error> {
    let Once { account, name, request, expires_at, memo, commands } = command;
    forget_expired(context)?;
    let key = (account, name);
    if let Some(known) = context.txn.get::<Answers>(&key)? {
        if known.expires_at > context.now {
            return Ok(Err(Rejection::Answered));
        }
        // Both, whatever comes of the commands: one without the other would never be forgotten.
        context.txn.remove::<AnswersByExpiry>(&(known.expires_at, account, name))?;
        context.txn.remove::<Answers>(&key)?;
    }
    let single = commands.len() == 1;
    let mut replies = Vec::with_capacity(commands.len());
    for command in commands {
        let reply = dispatch(context, command)?;
        if single && let Err(rejection) = reply {
            return Ok(Err(rejection));
        }
        replies.push(reply);
    }
    let answer = Answer { request, memo, replies: encode_body(&replies), expires_at };
    context.txn.put::<Answers>(&key, &answer)?;
    context.txn.put::<AnswersByExpiry>(&(expires_at, account, name), &())?;
    Ok(Ok(Applied::All(replies)))
}

/// Removes a few answers that have outlived their time, so that they do not pile up.
fn forget_expired(context: &mut Context<'_, '_>) -> Result<(), storage::Error> {
    let expired = context.now.as_millis().to_be_bytes();
    let keys = context.txn.keys::<AnswersByExpiry>(&[], Some(&expired), limits::ANSWERS_FORGOTTEN_MAX)?;
    for key in keys {
        let (_, account, name) = key;
        context.txn.remove::<AnswersByExpiry>(&key)?;
        context.txn.remove::<Answers>(&(account, name))?;
    }
    Ok(())
}
