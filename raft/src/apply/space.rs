//! Spaces.

use super::{Context, job, timetable};
use crate::command::{
    AlignSpace, Applied, CreateSpace, DeleteSpace, Overdue, PauseSpace, Reply, ResumeSpace, UpdateSpace,
};
use domain::id::{AccountId, JobId, SpaceId};
use domain::limits;
use domain::rejection::Rejection;
use domain::space::Space;
use domain::time::Timestamp;
use std::collections::BTreeMap;
use storage::schema::{AccountSpaces, Accounts, JobStates, Jobs, SpaceJobs, Spaces, UnalignedSpaces};
use storage::{Read, StateTxn};

pub(super) fn create(context: &mut Context<'_, '_>, command: CreateSpace) -> Result<Reply, storage::Error> {
    let CreateSpace { space } = command;
    if !context.txn.contains::<Accounts>(&space.account)? {
        return Ok(Err(Rejection::NoSuchAccount));
    }
    if context.txn.contains::<Spaces>(&space.id)? {
        return Ok(Err(Rejection::Exists));
    }
    let prefix = space.account.0.to_be_bytes();
    let known = context.txn.keys_prefix::<AccountSpaces>(&prefix, None, limits::SPACES_MAX)?;
    if known.len() >= limits::SPACES_MAX {
        return Ok(Err(Rejection::TooMany { max: limits::SPACES_MAX as u64 }));
    }
    context.txn.put::<AccountSpaces>(&(space.account, space.id), &())?;
    context.txn.put::<Spaces>(&space.id, &space)?;
    Ok(Ok(Applied::Done))
}

pub(super) fn update(context: &mut Context<'_, '_>, command: UpdateSpace) -> Result<Reply, storage::Error> {
    let UpdateSpace { account, space: id, name, timezone, at } = command;
    let Some(mut space) = load(context, account, id)? else { return Ok(Err(Rejection::NoSuchSpace)) };
    space.name = name.unwrap_or(space.name);
    space.timezone = timezone.unwrap_or(space.timezone);
    space.updated_at = space.updated_at.max(at);
    context.txn.put::<Spaces>(&id, &space)?;
    Ok(Ok(Applied::Done))
}

pub(super) fn delete(context: &mut Context<'_, '_>, command: DeleteSpace) -> Result<Reply, storage::Error> {
    let DeleteSpace { account, space: id } = command;
    if load(context, account, id)?.is_none() {
        return Ok(Err(Rejection::NoSuchSpace));
    }
    if !context.txn.keys_prefix::<SpaceJobs>(&id.0.to_be_bytes(), None, 1)?.is_empty() {
        return Ok(Err(Rejection::SpaceNotEmpty));
    }
    context.txn.remove::<AccountSpaces>(&(account, id))?;
    context.txn.remove::<UnalignedSpaces>(&id)?;
    context.txn.remove::<Spaces>(&id)?;
    Ok(Ok(Applied::Done))
}

pub(super) fn pause(context: &mut Context<'_, '_>, command: PauseSpace) -> Result<Reply, storage::Error> {
    let PauseSpace { account, space: id, at } = command;
    let Some(space) = load(context, account, id)? else { return Ok(Err(Rejection::NoSuchSpace)) };
    if space.paused_at.is_some() {
        return Ok(Err(Rejection::AlreadyPaused));
    }
    turn(context, space, Some(at), at)
}

pub(super) fn resume(context: &mut Context<'_, '_>, command: ResumeSpace) -> Result<Reply, storage::Error> {
    let ResumeSpace { account, space: id, at } = command;
    let Some(space) = load(context, account, id)? else { return Ok(Err(Rejection::NoSuchSpace)) };
    if space.paused_at.is_none() {
        return Ok(Err(Rejection::AlreadyActive));
    }
    turn(context, space, None, at)
}

fn turn(
    context: &mut Context<'_, '_>,
    mut space: Space,
    paused_at: Option<Timestamp>,
    at: Timestamp,
) -> Result<Reply, storage::Error> {
    space.paused_at = paused_at;
    space.generation += 1;
    space.turned_at = at;
    space.updated_at = space.updated_at.max(at);
    if space.jobs > 0 {
        context.txn.put::<UnalignedSpaces>(&space.id, &())?;
    }
    context.txn.put::<Spaces>(&space.id, &space)?;
    Ok(Ok(Applied::Done))
}

pub(super) fn align(context: &mut Context<'_, '_>, command: AlignSpace) -> Result<Reply, storage::Error> {
    let AlignSpace { space: id, generation, jobs, done, overdue } = command;
    let Some(space) = context.txn.get::<Spaces>(&id)?.filter(|space| space.generation == generation) else {
        return Ok(Err(Rejection::Stale));
    };
    let mut overdue: BTreeMap<JobId, Overdue> = overdue.into_iter().collect();
    for (job, expected, cursor) in jobs {
        let Some(mut state) = context.txn.get::<JobStates>(&job)? else { continue };
        // A cursor that overtook something claimed would fire it twice.
        let overtakes = cursor.is_none_or(|next| state.claimed_until.is_none_or(|until| next > until));
        let fires = state.paused_at.is_none() && space.paused_at.is_none();
        if state.version() == expected
            && overtakes
            && (cursor.is_none() || fires)
            && context.txn.contains::<SpaceJobs>(&(id, job))?
        {
            let left = overdue.remove(&job);
            let found = job::leave_behind(context, job, &mut state, left, "The space was paused")?;
            let Some(config) = context.txn.get::<Jobs>(&job)? else {
                return Err(storage::Error::Inconsistent("a job state without its job"));
            };
            timetable::changed(context, &config, found, cursor)?;
            job::set_cursor(context, job, &mut state, cursor)?;
            context.txn.put::<JobStates>(&job, &state)?;
            if space.paused_at.is_some() {
                job::cancel_waiting(context, &state, "The space was paused")?;
            }
        }
    }
    if done {
        context.txn.remove::<UnalignedSpaces>(&id)?;
    }
    Ok(Ok(Applied::Done))
}

/// Whether a job that belongs there does not fire because of its space.
pub(super) fn is_paused(txn: &StateTxn<'_>, space: Option<SpaceId>) -> Result<bool, storage::Error> {
    let Some(id) = space else { return Ok(false) };
    Ok(txn.get::<Spaces>(&id)?.is_some_and(|space| space.is_paused()))
}

/// The space if it is the account's; another account's is as good as none.
fn load(context: &Context<'_, '_>, account: AccountId, id: SpaceId) -> Result<Option<Space>, storage::Error> {
    Ok(context.txn.get::<Spaces>(&id)?.filter(|space| space.account == account))
}

/// Keeps the number of jobs that a space holds.
pub(super) fn count(context: &mut Context<'_, '_>, id: SpaceId, change: i64) -> Result<(), storage::Error> {
    let Some(mut space) = context.txn.get::<Spaces>(&id)? else {
        return Err(storage::Error::Inconsistent("a job in a space that is not there"));
    };
    space.jobs = space.jobs.saturating_add_signed(change);
    context.txn.put::<Spaces>(&id, &space)
}
