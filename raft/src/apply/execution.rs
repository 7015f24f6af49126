//! Executions: claims, outcomes, and the history.

use super::job::set_cursor;
use super::{Context, Effect, delivery, history, job, space, timetable};
use crate::command::{Applied, Claim, ClaimTarget, Prune, Release, Reply, RunJob, Sweep};
use domain::execution::{
    AttemptResult, DueItem, Execution, ExecutionState, ExecutionStatus, MissedFirings, Outcome, Trigger,
};
use domain::id::{AccountId, ExecutionId, JobId, NodeId};
use domain::job::{Job, JobState, LastRun};
use domain::limits;
use domain::node::Incarnation;
use domain::rejection::Rejection;
use domain::time::Timestamp;
use std::time::Duration;
use storage::Read;
use storage::schema::{
    AccountUsage, Claims, DeletedJobs, Diagnoses, Due, DueKey, Executions, JobStates, Jobs, Nodes,
    ResponseBodies,
};

pub(super) fn run(context: &mut Context<'_, '_>, command: RunJob) -> Result<Reply, storage::Error> {
    let RunJob { account, execution: id } = command;
    let Some((_, mut state)) = job::load(context.txn, account, id.job)? else {
        return Ok(Err(Rejection::NoSuchJob));
    };
    if context.txn.contains::<Executions>(&id)? {
        return Ok(Err(Rejection::Exists));
    }
    if state.open.len() >= limits::OPEN_EXECUTIONS_MAX {
        return Ok(Err(Rejection::TooManyOpen));
    }
    state.opened(id);
    context.txn.put::<JobStates>(&id.job, &state)?;
    let execution = Execution::manual(id);
    context.put_due(DueKey::new(execution.due, DueItem::Execution(id)))?;
    context.txn.put::<Executions>(&id, &execution)?;
    history::added(context, &id)?;
    Ok(Ok(Applied::Done))
}

pub(super) fn claim(context: &mut Context<'_, '_>, command: Claim) -> Result<Reply, storage::Error> {
    let Claim { node, incarnation, target } = command;
    if context.live != Some((node, incarnation)) {
        if !context.txn.get::<Nodes>(&node)?.is_some_and(|known| known.is_live(incarnation)) {
            return Ok(Err(Rejection::NotLive));
        }
        context.live = Some((node, incarnation));
    }
    let holder = Holder { node, incarnation };
    match target {
        ClaimTarget::Firing { job, generation, scheduled_at, next_run_at } => {
            let cursor = Cursor { job, generation, at: scheduled_at, until: scheduled_at, next_run_at };
            claim_instants(context, holder, cursor, None, Some((scheduled_at, scheduled_at)))
        }
        ClaimTarget::Missed { job, generation, first, skipped, run, run_due, next_run_at } => {
            let until = skipped.map(|missed| missed.until).max(run).unwrap_or(first);
            let cursor = Cursor { job, generation, at: first, until, next_run_at };
            claim_instants(context, holder, cursor, skipped, run.map(|run| (run, run_due)))
        }
        ClaimTarget::Execution { id, attempt } => claim_pending(context, holder, id, attempt),
        ClaimTarget::Delivery { id, attempt } => delivery::claim(context, node, incarnation, id, attempt),
    }
}

/// Who claims.
#[derive(Clone, Copy)]
struct Holder {
    node: NodeId,
    incarnation: Incarnation,
}

/// The compare-and-swap of a job's cursor.
struct Cursor {
    job: JobId,
    generation: u64,
    at: Timestamp,
    /// The last instant this accounts for.
    until: Timestamp,
    next_run_at: Option<Timestamp>,
}

fn claim_instants(
    context: &mut Context<'_, '_>,
    holder: Holder,
    cursor: Cursor,
    skipped: Option<MissedFirings>,
    run: Option<(Timestamp, Timestamp)>,
) -> Result<Reply, storage::Error> {
    let Cursor { job, generation, at, until, next_run_at } = cursor;
    let Some(mut state) = context.txn.get::<JobStates>(&job)? else {
        return Ok(Err(Rejection::NoSuchJob));
    };
    let forward = until >= at && next_run_at.is_none_or(|next| next > until);
    if state.generation != generation || state.next_run_at != Some(at) || !forward {
        return Ok(Err(Rejection::Stale));
    }

    if let Some(found) = skipped {
        missed(context, job, &mut state, at, found, "Missed while the cluster was down")?;
    }
    let mut claimed = None;
    if let Some((instant, due)) = run {
        let id = ExecutionId::scheduled(job, instant);
        let mut execution = Execution::scheduled(id, due, holder.node, holder.incarnation);
        if state.open.len() >= limits::OPEN_EXECUTIONS_MAX {
            let reason = format!("The job has {} unfinished executions", state.open.len());
            execution.cancel(context.now, reason);
            history::ended(context, &id, ExecutionStatus::Skipped)?;
            state.executions_total += 1;
        } else {
            state.opened(id);
            hold(context, holder, id, due)?;
            claimed = Some(id);
        }
        context.txn.put::<Executions>(&id, &execution)?;
        history::added(context, &id)?;
    }
    state.claimed_until = Some(until);
    set_cursor(context, job, &mut state, next_run_at)?;
    context.txn.put::<JobStates>(&job, &state)?;
    Ok(Ok(Applied::Claimed(claimed)))
}

/// Puts instants from `first` on, which nobody has claimed, on record as skipped. The caller stores `state`.
pub(super) fn missed(
    context: &mut Context<'_, '_>,
    job: JobId,
    state: &mut JobState,
    first: Timestamp,
    missed: MissedFirings,
    reason: &str,
) -> Result<(), storage::Error> {
    let id = ExecutionId::skipped(job, first);
    context.txn.put::<Executions>(&id, &Execution::missed(id, missed, context.now, reason.to_owned()))?;
    history::added(context, &id)?;
    history::ended(context, &id, ExecutionStatus::Skipped)?;
    state.executions_total += 1;
    Ok(())
}

fn claim_pending(
    context: &mut Context<'_, '_>,
    holder: Holder,
    id: ExecutionId,
    attempt: u32,
) -> Result<Reply, storage::Error> {
    let Some(Loaded { mut execution, .. }) = Loaded::get(context, id)? else {
        return Ok(Err(Rejection::NoSuchExecution));
    };
    if execution.attempt != attempt || !execution.claim(holder.node, holder.incarnation) {
        return Ok(Err(Rejection::NotClaimable));
    }
    context.txn.remove::<Due>(&DueKey::new(execution.due, DueItem::Execution(id)))?;
    hold(context, holder, id, execution.due)?;
    context.txn.put::<Executions>(&id, &execution)?;
    Ok(Ok(Applied::Claimed(Some(id))))
}

/// Notes who holds an execution, and tells that process.
fn hold(
    context: &mut Context<'_, '_>,
    holder: Holder,
    id: ExecutionId,
    due: Timestamp,
) -> Result<(), storage::Error> {
    let Holder { node, incarnation } = holder;
    context.txn.put::<Claims>(&(node, id), &())?;
    context.effects.push(Effect::Claimed { id, due, node, incarnation });
    Ok(())
}

pub(super) fn release(context: &mut Context<'_, '_>, command: Release) -> Result<Reply, storage::Error> {
    let Release { node, incarnation, execution: id } = command;
    let Some(mut loaded) = Loaded::get(context, id)? else {
        return Ok(Err(Rejection::NoSuchExecution));
    };
    if !loaded.execution.release(node, incarnation) {
        return Ok(Err(Rejection::NotClaimable));
    }
    store(context, loaded)?;
    Ok(Ok(Applied::Done))
}

pub(super) fn record(context: &mut Context<'_, '_>, outcome: Outcome) -> Result<Reply, storage::Error> {
    let Some(mut loaded) = Loaded::get(context, outcome.execution)? else {
        return Ok(Err(Rejection::NoSuchExecution));
    };
    if let Err(reason) = loaded.execution.record(&outcome) {
        return Ok(Err(Rejection::NotRecorded(reason)));
    }
    // The job or its space may have been paused while the attempt ran; its retry must not fire then.
    if loaded.execution.state == ExecutionState::Pending && loaded.execution.trigger == Trigger::Schedule {
        if loaded.state.paused_at.is_some() {
            loaded.execution.cancel(context.now, "The job was paused".to_owned());
        } else if space::is_paused(context.txn, loaded.job(context)?.space)? {
            loaded.execution.cancel(context.now, "The space was paused".to_owned());
        }
    }
    if let AttemptResult::Sent { body: Some(body), .. } = &outcome.result {
        context.txn.put::<ResponseBodies>(&outcome.execution, body)?;
    }
    store(context, loaded)?;
    Ok(Ok(Applied::Done))
}

pub(super) fn sweep(context: &mut Context<'_, '_>, command: Sweep) -> Result<Reply, storage::Error> {
    let Sweep { job } = command;
    if !context.txn.contains::<DeletedJobs>(&job)? {
        return Ok(Ok(Applied::Swept(0)));
    }
    let ids = context.txn.keys_prefix::<Executions>(&job.0.to_be_bytes(), None, limits::SWEEP_MAX)?;
    for id in &ids {
        remove(context, id)?;
    }
    let hours_are_gone = history::forget(context, job)?;
    let timetables_are_gone = timetable::forget(context, job, None)?;
    if ids.len() < limits::SWEEP_MAX && hours_are_gone && timetables_are_gone {
        context.txn.remove::<DeletedJobs>(&job)?;
    }
    let swept = u64::try_from(ids.len()).expect("a sweep is bounded");
    Ok(Ok(Applied::Swept(swept)))
}

pub(super) fn prune(context: &mut Context<'_, '_>, command: Prune) -> Result<Reply, storage::Error> {
    let Prune { job, before } = command;
    let Some(mut state) = context.txn.get::<JobStates>(&job)? else {
        return Ok(Err(Rejection::NoSuchJob));
    };
    let (lower, upper) = Executions::before(job, before);
    // What has not ended must not take the place of what goes: a short step says that nothing is left.
    let looked_at = limits::SWEEP_MAX + state.open.len();
    let old = context.txn.range::<Executions>(&lower, upper.as_deref(), looked_at)?;
    let ended = old.into_iter().filter(|(_, execution)| execution.status().is_some());
    let mut kept_from = before;
    let mut old = Vec::new();
    for (id, execution) in ended.take(limits::SWEEP_MAX) {
        // A record of several may stand for some that come later.
        let until = execution.missed.map(|missed| missed.until.plus(Duration::from_millis(1)));
        kept_from = kept_from.max(until.unwrap_or(before));
        old.push(id);
    }
    for id in &old {
        remove(context, id)?;
    }
    history::removed(context, &old)?;
    let pruned = u64::try_from(old.len()).expect("a sweep is bounded");
    if pruned > 0 {
        timetable::pruned(context, job, kept_from)?;
        state.executions_total = state.executions_total.saturating_sub(pruned);
        context.txn.put::<JobStates>(&job, &state)?;
    }
    Ok(Ok(Applied::Swept(pruned)))
}

/// Takes an execution out of the history, with all that belongs to it.
fn remove(context: &mut Context<'_, '_>, id: &ExecutionId) -> Result<(), storage::Error> {
    context.txn.remove::<ResponseBodies>(id)?;
    context.txn.remove::<Diagnoses>(id)?;
    context.txn.remove::<Executions>(id)
}

/// An execution of a job that still exists, with what a change of it touches.
pub(super) struct Loaded {
    pub(super) execution: Execution,
    state: JobState,
    /// As it was stored, to know which index entry is its.
    before: (ExecutionState, Timestamp),
}

impl Loaded {
    pub(super) fn get(context: &Context<'_, '_>, id: ExecutionId) -> Result<Option<Self>, storage::Error> {
        // A deleted job's executions stay on disk until they are swept, but are gone for everybody.
        let Some(state) = context.txn.get::<JobStates>(&id.job)? else { return Ok(None) };
        Ok(context.txn.get::<Executions>(&id)?.map(|execution| {
            let before = (execution.state.clone(), execution.due);
            Self { execution, state, before }
        }))
    }

    /// The configuration of its job.
    pub(super) fn job(&self, context: &Context<'_, '_>) -> Result<Job, storage::Error> {
        let id = self.execution.id.job;
        context.txn.get::<Jobs>(&id)?.ok_or(storage::Error::Inconsistent("a job state without its job"))
    }
}

/// Stores a changed execution and moves it from the index entry it had to the one it needs now.
pub(super) fn store(context: &mut Context<'_, '_>, loaded: Loaded) -> Result<(), storage::Error> {
    let Loaded { execution, mut state, before: (old_state, old_due) } = loaded;
    let id = execution.id;
    match old_state {
        ExecutionState::Pending => {
            context.txn.remove::<Due>(&DueKey::new(old_due, DueItem::Execution(id)))?;
        }
        ExecutionState::Claimed { node, .. } => context.txn.remove::<Claims>(&(node, id))?,
        ExecutionState::Finished { .. } => {}
    }
    match execution.state {
        ExecutionState::Pending => context.put_due(DueKey::new(execution.due, DueItem::Execution(id)))?,
        ExecutionState::Claimed { node, .. } => context.txn.put::<Claims>(&(node, id), &())?,
        ExecutionState::Finished { status, .. } => {
            state.closed(id);
            history::ended(context, &id, status)?;
            if status != ExecutionStatus::Skipped {
                count(context, state.account)?;
                let before = state.last_run.as_ref().map(|last| last.status);
                delivery::open(context, state.account, &execution, status, before)?;
            }
            if status != ExecutionStatus::Skipped
                && let Some(last) = execution.attempts.last()
            {
                state.last_run = Some(LastRun {
                    execution: id,
                    at: last.started_at,
                    status,
                    status_code: last.status_code,
                    duration_ms: last.duration_ms,
                });
            }
            context.txn.put::<JobStates>(&id.job, &state)?;
        }
    }
    context.txn.put::<Executions>(&id, &execution)
}

/// Counts an execution that ended in its account's usage of this month.
fn count(context: &mut Context<'_, '_>, account: AccountId) -> Result<(), storage::Error> {
    let mut usage = context.txn.get::<AccountUsage>(&account)?.unwrap_or_default();
    usage.executions = usage.executions_in_month_of(context.now) + 1;
    usage.month = context.now.month();
    context.txn.put::<AccountUsage>(&account, &usage)
}
