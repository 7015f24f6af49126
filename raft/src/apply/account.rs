//! Accounts, keys, users, sessions, and what they pay for.

use super::execution::Loaded;
use super::{Context, job};
use crate::command::{
    Applied, Bootstrap, ChangeBilling, CreateAccount, CreateKey, EndSession, NoteKeyUse, Reply, RevokeKey,
    SaveDiagnosis, SetSessionKey,
};
use domain::account::{Account, ApiKey};
use domain::limits;
use domain::rejection::Rejection;
use storage::Read;
use storage::schema::{
    AccountKeys, AccountUsage, Accounts, ApiKeys, Customers, Diagnoses, EndedSessions, Secrets, SecretsOf,
    Usage, Users,
};

/// Ended sessions that have expired and go with each new one, so that they do not pile up.
const FORGOTTEN_SESSIONS_MAX: usize = 4;

pub(super) fn bootstrap(context: &mut Context<'_, '_>, command: Bootstrap) -> Result<Reply, storage::Error> {
    if context.meta.bootstrapped {
        return Ok(Err(Rejection::AlreadyBootstrapped));
    }
    let Bootstrap { account, key } = command;
    put_account(context, &account)?;
    put_key(context, &key)?;
    Ok(Ok(Applied::Done))
}

pub(super) fn create(context: &mut Context<'_, '_>, command: CreateAccount) -> Result<Reply, storage::Error> {
    let CreateAccount { account, user } = command;
    if context.txn.contains::<Accounts>(&account.id)? {
        return Ok(Err(Rejection::Exists));
    }
    if let Some(user) = user {
        if context.txn.contains::<Users>(&user.email)? {
            return Ok(Err(Rejection::EmailTaken));
        }
        context.txn.put::<Users>(&user.email, &user)?;
    }
    put_account(context, &account)?;
    Ok(Ok(Applied::Done))
}

fn put_account(context: &mut Context<'_, '_>, account: &Account) -> Result<(), storage::Error> {
    context.meta.bootstrapped = true;
    context.txn.put::<AccountUsage>(&account.id, &Usage::default())?;
    context.txn.put::<Accounts>(&account.id, account)
}

pub(super) fn create_key(context: &mut Context<'_, '_>, command: CreateKey) -> Result<Reply, storage::Error> {
    let CreateKey { key } = command;
    if !context.txn.contains::<Accounts>(&key.account)? {
        return Ok(Err(Rejection::NoSuchAccount));
    }
    if context.txn.contains::<AccountKeys>(&(key.account, key.id))?
        || context.txn.contains::<ApiKeys>(&key.hash)?
    {
        return Ok(Err(Rejection::Exists));
    }
    let prefix = key.account.0.to_be_bytes();
    if context.txn.keys_prefix::<AccountKeys>(&prefix, None, limits::KEYS_MAX)?.len() >= limits::KEYS_MAX {
        return Ok(Err(Rejection::TooMany { max: limits::KEYS_MAX as u64 }));
    }
    put_key(context, &key)?;
    Ok(Ok(Applied::Done))
}

fn put_key(context: &mut Context<'_, '_>, key: &ApiKey) -> Result<(), storage::Error> {
    context.txn.put::<AccountKeys>(&(key.account, key.id), &key.hash)?;
    context.txn.put::<ApiKeys>(&key.hash, key)
}

pub(super) fn revoke_key(context: &mut Context<'_, '_>, command: RevokeKey) -> Result<Reply, storage::Error> {
    let RevokeKey { account, key } = command;
    let Some(hash) = context.txn.get::<AccountKeys>(&(account, key))? else {
        return Ok(Err(Rejection::NoSuchKey));
    };
    context.txn.remove::<AccountKeys>(&(account, key))?;
    context.txn.remove::<ApiKeys>(&hash)?;
    Ok(Ok(Applied::Done))
}

pub(super) fn note_key_use(
    context: &mut Context<'_, '_>,
    command: NoteKeyUse,
) -> Result<Reply, storage::Error> {
    for (hash, at) in command.used {
        if let Some(mut key) = context.txn.get::<ApiKeys>(&hash)?
            && key.last_used_at < Some(at)
        {
            key.last_used_at = Some(at);
            context.txn.put::<ApiKeys>(&hash, &key)?;
        }
    }
    Ok(Ok(Applied::Done))
}

pub(super) fn set_session_key(
    context: &mut Context<'_, '_>,
    command: SetSessionKey,
) -> Result<Reply, storage::Error> {
    if !context.txn.contains::<SecretsOf>(&())? {
        context.txn.put::<SecretsOf>(&(), &Secrets { session_key: command.key })?;
    }
    Ok(Ok(Applied::Done))
}

pub(super) fn end_session(
    context: &mut Context<'_, '_>,
    command: EndSession,
) -> Result<Reply, storage::Error> {
    let EndSession { session, expires_at } = command;
    let expired = context.now.as_millis().to_be_bytes();
    for key in context.txn.keys::<EndedSessions>(&[], Some(&expired), FORGOTTEN_SESSIONS_MAX)? {
        context.txn.remove::<EndedSessions>(&key)?;
    }
    context.txn.put::<EndedSessions>(&(expires_at, session), &())?;
    Ok(Ok(Applied::Done))
}

pub(super) fn change_billing(
    context: &mut Context<'_, '_>,
    command: ChangeBilling,
) -> Result<Reply, storage::Error> {
    let ChangeBilling { account: id, plan, billing } = command;
    let Some(mut account) = context.txn.get::<Accounts>(&id)? else {
        return Ok(Err(Rejection::NoSuchAccount));
    };
    if account.billing.as_ref().is_some_and(|known| known.changed_at > billing.changed_at) {
        return Ok(Err(Rejection::Stale));
    }
    // The customer may stand for another account by now, for which the same person pays.
    if let Some(known) = &account.billing
        && known.customer != billing.customer
        && context.txn.get::<Customers>(&known.customer)? == Some(id)
    {
        context.txn.remove::<Customers>(&known.customer)?;
    }
    context.txn.put::<Customers>(&billing.customer, &id)?;
    account.plan = plan.unwrap_or(account.plan);
    account.billing = Some(billing);
    context.txn.put::<Accounts>(&id, &account)?;
    Ok(Ok(Applied::Done))
}

pub(super) fn save_diagnosis(
    context: &mut Context<'_, '_>,
    command: SaveDiagnosis,
) -> Result<Reply, storage::Error> {
    let SaveDiagnosis { account, execution, diagnosis, diagnoses_max } = command;
    if job::load(context.txn, account, execution.job)?.is_none() || Loaded::get(context, execution)?.is_none()
    {
        return Ok(Err(Rejection::NoSuchExecution));
    }
    let mut usage = context.txn.get::<AccountUsage>(&account)?.unwrap_or_default();
    let made = usage.diagnoses_on_day_of(context.now);
    if let Some(diagnoses_max) = diagnoses_max
        && made >= diagnoses_max
    {
        return Ok(Err(Rejection::TooManyDiagnoses { diagnoses_max }));
    }
    usage.day = context.now.as_days();
    usage.diagnoses = made + 1;
    context.txn.put::<AccountUsage>(&account, &usage)?;
    context.txn.put::<Diagnoses>(&execution, &diagnosis)?;
    Ok(Ok(Applied::Done))
}
