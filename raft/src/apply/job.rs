//! Jobs and their cursors.

use super::execution::{self, Loaded};
use super::{Context, Effect, space, timetable};
use crate::command::{Applied, CreateJob, DeleteJob, Overdue, PauseJob, Reply, ResumeJob, UpdateJob};
use domain::execution::{DueItem, ExecutionState, Trigger};
use domain::id::{AccountId, JobId, SpaceId};
use domain::job::{Job, JobState};
use domain::rejection::Rejection;
use domain::time::Timestamp;
use std::time::Duration;
use storage::schema::{
    AccountJob, AccountJobs, AccountUsage, Accounts, Claims, DeletedJobs, Due, DueKey, Executions, JobStates,
    Jobs, Pulses, SpaceJobs, Spaces,
};
use storage::{Read, StateTxn};

pub(super) fn create(context: &mut Context<'_, '_>, command: CreateJob) -> Result<Reply, storage::Error> {
    let CreateJob { job, next_run_at, paused, jobs_max } = command;
    if !context.txn.contains::<Accounts>(&job.account)? {
        return Ok(Err(Rejection::NoSuchAccount));
    }
    // A job and its state come and go together, and a state lies on a far smaller page, most of which are not in memory.
    if context.txn.contains::<JobStates>(&job.id)? || context.txn.contains::<DeletedJobs>(&job.id)? {
        return Ok(Err(Rejection::Exists));
    }
    let mut usage = context.txn.get::<AccountUsage>(&job.account)?.unwrap_or_default();
    if let Some(jobs_max) = jobs_max
        && usage.jobs >= jobs_max
    {
        return Ok(Err(Rejection::TooManyJobs { jobs_max }));
    }
    let space_paused = match space_paused(context.txn, job.account, job.space)? {
        Ok(paused) => paused,
        Err(rejection) => return Ok(Err(rejection)),
    };

    usage.jobs += 1;
    context.txn.put::<AccountUsage>(&job.account, &usage)?;
    context.txn.put::<AccountJobs>(&place(&job), &())?;
    if let Some(space) = job.space {
        context.txn.put::<SpaceJobs>(&(space, job.id), &())?;
        space::count(context, space, 1)?;
    }
    let mut state = JobState {
        account: job.account,
        generation: 1,
        paused_at: paused.then_some(job.created_at),
        ..JobState::default()
    };
    count(context, paused, 1);
    let cursor = next_run_at.filter(|_| !paused && !space_paused);
    set_cursor(context, job.id, &mut state, cursor)?;
    timetable::begun(context, &job, cursor)?;
    context.txn.put::<JobStates>(&job.id, &state)?;
    context.txn.put::<Jobs>(&job.id, &job)?;
    Ok(Ok(Applied::Done))
}

pub(super) fn update(context: &mut Context<'_, '_>, command: UpdateJob) -> Result<Reply, storage::Error> {
    let UpdateJob { job, expected, next_run_at, overdue } = command;
    let (old, mut state) = match load(context.txn, job.account, job.id)? {
        Some(found) => found,
        None => return Ok(Err(Rejection::NoSuchJob)),
    };
    let overtakes = next_run_at.is_none_or(|next| state.claimed_until.is_none_or(|until| next > until));
    if state.version() != expected || old.created_at != job.created_at || !overtakes {
        return Ok(Err(Rejection::Stale));
    }
    let space_paused = match space_paused(context.txn, job.account, job.space)? {
        Ok(paused) => paused,
        Err(rejection) => return Ok(Err(rejection)),
    };

    if old.space != job.space {
        if let Some(space) = old.space {
            context.txn.remove::<SpaceJobs>(&(space, job.id))?;
            space::count(context, space, -1)?;
        }
        if let Some(space) = job.space {
            context.txn.put::<SpaceJobs>(&(space, job.id), &())?;
            space::count(context, space, 1)?;
        }
    }
    let found = leave_behind(context, job.id, &mut state, overdue, "The schedule was changed")?;
    state.generation += 1;
    let cursor = next_run_at.filter(|_| state.paused_at.is_none() && !space_paused);
    set_cursor(context, job.id, &mut state, cursor)?;
    let same_schedule = old.cron_expression == job.cron_expression && old.timezone == job.timezone;
    if found != cursor || !same_schedule {
        timetable::changed(context, &job, found, cursor)?;
    }
    context.txn.put::<JobStates>(&job.id, &state)?;
    context.txn.put::<Jobs>(&job.id, &job)?;
    if space_paused && old.space != job.space {
        cancel_waiting(context, &state, "The space was paused")?;
    }
    Ok(Ok(Applied::Done))
}

pub(super) fn delete(context: &mut Context<'_, '_>, command: DeleteJob) -> Result<Reply, storage::Error> {
    let DeleteJob { account, job: id } = command;
    let Some((job, mut state)) = load(context.txn, account, id)? else {
        return Ok(Err(Rejection::NoSuchJob));
    };
    for open in std::mem::take(&mut state.open) {
        let Some(execution) = context.txn.get::<Executions>(&open)? else { continue };
        match execution.state {
            ExecutionState::Pending => {
                let key = DueKey::new(execution.due, DueItem::Execution(open));
                context.txn.remove::<Due>(&key)?;
            }
            ExecutionState::Claimed { node, .. } => context.txn.remove::<Claims>(&(node, open))?,
            ExecutionState::Finished { .. } => {}
        }
    }
    set_cursor(context, id, &mut state, None)?;
    context.txn.remove::<AccountJobs>(&place(&job))?;
    if let Some(space) = job.space {
        context.txn.remove::<SpaceJobs>(&(space, id))?;
        space::count(context, space, -1)?;
    }
    let mut usage = context.txn.get::<AccountUsage>(&account)?.unwrap_or_default();
    usage.jobs = usage.jobs.saturating_sub(1);
    context.txn.put::<AccountUsage>(&account, &usage)?;
    count(context, state.paused_at.is_some(), -1);
    context.txn.remove::<Pulses>(&id)?;
    context.txn.remove::<JobStates>(&id)?;
    context.txn.remove::<Jobs>(&id)?;
    // What explains a history goes with it.
    let is_swept = state.executions_total == 0 && timetable::forget(context, id, None)?;
    if !is_swept {
        context.txn.put::<DeletedJobs>(&id, &())?;
        context.effects.push(Effect::Deleted(id));
    }
    Ok(Ok(Applied::Done))
}

pub(super) fn pause(context: &mut Context<'_, '_>, command: PauseJob) -> Result<Reply, storage::Error> {
    let PauseJob { account, job: id, at, overdue } = command;
    let Some((job, mut state)) = load(context.txn, account, id)? else {
        return Ok(Err(Rejection::NoSuchJob));
    };
    if state.paused_at.is_some() {
        return Ok(Err(Rejection::AlreadyPaused));
    }
    if state.next_run_at.filter(|cursor| *cursor <= at) != overdue.map(|overdue| overdue.first) {
        return Ok(Err(Rejection::Stale));
    }
    let found = leave_behind(context, id, &mut state, overdue, "The job was paused")?;
    state.paused_at = Some(context.now);
    state.generation += 1;
    count(context, false, -1);
    count(context, true, 1);
    timetable::changed(context, &job, found, None)?;
    set_cursor(context, id, &mut state, None)?;
    context.txn.put::<JobStates>(&id, &state)?;
    turned(context, job, at)?;

    cancel_waiting(context, &state, "The job was paused")?;
    Ok(Ok(Applied::Done))
}

/// Puts on record what was due and nobody has claimed, since the cursor is about to move away from it. Up to where everything
/// is on record then: the cursor, or what comes after the record.
pub(super) fn leave_behind(
    context: &mut Context<'_, '_>,
    job: JobId,
    state: &mut JobState,
    overdue: Option<Overdue>,
    reason: &str,
) -> Result<Option<Timestamp>, storage::Error> {
    match overdue {
        Some(Overdue { first, missed }) if state.next_run_at == Some(first) => {
            state.claimed_until = Some(missed.until);
            execution::missed(context, job, state, first, missed, reason)?;
            Ok(Some(missed.until.plus(Duration::from_millis(1))))
        }
        Some(_) | None => Ok(state.next_run_at),
    }
}

/// Notes that a job was paused or resumed.
fn turned(context: &mut Context<'_, '_>, mut job: Job, at: Timestamp) -> Result<(), storage::Error> {
    job.updated_at = job.updated_at.max(at);
    context.txn.put::<Jobs>(&job.id, &job)
}

/// Ends the retries that wait: they belong to the schedule and would fire after the pause. What a process has
/// claimed already is for that process to look at before it sends anything.
pub(super) fn cancel_waiting(
    context: &mut Context<'_, '_>,
    state: &JobState,
    reason: &str,
) -> Result<(), storage::Error> {
    for open in &state.open {
        if let Some(mut loaded) = Loaded::get(context, *open)?
            && loaded.execution.state == ExecutionState::Pending
            && loaded.execution.trigger == Trigger::Schedule
        {
            loaded.execution.cancel(context.now, reason.to_owned());
            execution::store(context, loaded)?;
        }
    }
    Ok(())
}

pub(super) fn resume(context: &mut Context<'_, '_>, command: ResumeJob) -> Result<Reply, storage::Error> {
    let ResumeJob { account, job: id, expected, next_run_at, at } = command;
    let Some((job, mut state)) = load(context.txn, account, id)? else {
        return Ok(Err(Rejection::NoSuchJob));
    };
    if state.paused_at.is_none() {
        return Ok(Err(Rejection::AlreadyActive));
    }
    let overtakes = next_run_at.is_none_or(|next| state.claimed_until.is_none_or(|until| next > until));
    if state.version() != expected || !overtakes {
        return Ok(Err(Rejection::Stale));
    }
    let space_paused = match space_paused(context.txn, account, job.space)? {
        Ok(paused) => paused,
        Err(rejection) => return Ok(Err(rejection)),
    };
    state.paused_at = None;
    state.generation += 1;
    count(context, true, -1);
    count(context, false, 1);
    let cursor = next_run_at.filter(|_| !space_paused);
    timetable::changed(context, &job, state.next_run_at, cursor)?;
    set_cursor(context, id, &mut state, cursor)?;
    context.txn.put::<JobStates>(&id, &state)?;
    turned(context, job, at)?;
    Ok(Ok(Applied::Done))
}

/// The job if it is the account's; another account's is as good as none.
pub(super) fn load(
    txn: &StateTxn<'_>,
    account: AccountId,
    id: JobId,
) -> Result<Option<(Job, JobState)>, storage::Error> {
    let Some(job) = txn.get::<Jobs>(&id)?.filter(|job| job.account == account) else {
        return Ok(None);
    };
    Ok(txn.get::<JobStates>(&id)?.map(|state| (job, state)))
}

/// Moves a job's cursor and its entry in the due index. The caller stores `state`.
pub(super) fn set_cursor(
    context: &mut Context<'_, '_>,
    job: JobId,
    state: &mut JobState,
    cursor: Option<Timestamp>,
) -> Result<(), storage::Error> {
    if state.next_run_at == cursor {
        return Ok(());
    }
    if let Some(old) = state.next_run_at {
        context.txn.remove::<Due>(&DueKey::new(old, DueItem::Firing(job)))?;
    }
    state.next_run_at = cursor;
    match cursor {
        Some(due) => context.put_due(DueKey::new(due, DueItem::Firing(job))),
        None => Ok(()),
    }
}

fn place(job: &Job) -> AccountJob {
    AccountJob { account: job.account, created_at: job.created_at, job: job.id }
}

/// Whether the space is paused; a refusal when it is not the account's.
fn space_paused(
    txn: &StateTxn<'_>,
    account: AccountId,
    space: Option<SpaceId>,
) -> Result<Result<bool, Rejection>, storage::Error> {
    let Some(id) = space else { return Ok(Ok(false)) };
    Ok(match txn.get::<Spaces>(&id)?.filter(|space| space.account == account) {
        Some(space) => Ok(space.paused_at.is_some()),
        None => Err(Rejection::NoSuchSpace),
    })
}

/// Keeps the number of active and paused jobs.
fn count(context: &mut Context<'_, '_>, paused: bool, change: i64) {
    let counter = if paused { &mut context.meta.jobs_paused } else { &mut context.meta.jobs_active };
    *counter = counter.saturating_add_signed(change);
}
