//! Accounts and keys.

use super::Context;
use crate::command::{Applied, Bootstrap, Reply};
use domain::rejection::Rejection;
use storage::schema::{AccountUsage, Accounts, ApiKeys, Usage};

pub(super) fn bootstrap(context: &mut Context<'_, '_>, command: Bootstrap) -> Result<Reply, storage::Error> {
    if context.meta.bootstrapped {
        return Ok(Err(Rejection::AlreadyBootstrapped));
    }
    let Bootstrap { account, key } = command;
    context.meta.bootstrapped = true;
    context.txn.put::<AccountUsage>(&account.id, &Usage::default())?;
    context.txn.put::<Accounts>(&account.id, &account)?;
    context.txn.put::<ApiKeys>(&key.hash, &key)?;
    Ok(Ok(Applied::Done))
}
