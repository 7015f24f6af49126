//! Spaces.

use super::Context;
use crate::command::{Applied, CreateSpace, Reply};
use domain::rejection::Rejection;
use storage::Read;
use storage::schema::{Accounts, Spaces};

pub(super) fn create(context: &mut Context<'_, '_>, command: CreateSpace) -> Result<Reply, storage::Error> {
    let CreateSpace { space } = command;
    if !context.txn.contains::<Accounts>(&space.account)? {
        return Ok(Err(Rejection::NoSuchAccount));
    }
    if context.txn.contains::<Spaces>(&space.id)? {
        return Ok(Err(Rejection::Exists));
    }
    context.txn.put::<Spaces>(&space.id, &space)?;
    Ok(Ok(Applied::Done))
}
