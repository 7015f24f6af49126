//! A backup that is restored: what was there goes, the parts of the file come in, and what follows from them is made anew.
//!
//! The record about it says how far it has got, so whoever goes on reads there what is next. While it stands nothing else is
//! applied but what nodes need among themselves, and until the last stages nothing is due.

use super::execution::{self, Loaded};
use super::{Context, Effect, delivery};
use crate::command::{Applied, BeginRestore, Command, Reply, RestorePart, StepRestore};
use domain::execution::{DueItem, ExecutionState};
use domain::id::{DeliveryId, JobId};
use domain::limits;
use domain::rejection::Rejection;
use storage::Read;
use storage::backup;
use storage::schema::{
    AccountKeys, Accounts, Channels, Customers, DeletedJobs, Deliveries, DueKey, JobStates, Jobs, Meta,
    Metas, Restore, RestoreStage, Restores, Spaces, Users,
};

/// Whether a command is applied while a backup is being restored.
pub(super) fn admits(command: &Command) -> bool {
    matches!(
        command,
        Command::RegisterNode(_)
            | Command::DrainNode(_)
            | Command::ExpireNode(_)
            | Command::RemoveNode(_)
            | Command::RaiseLevel(_)
            | Command::SetShardMap(_)
            | Command::BeginRestore(_)
            | Command::RestorePart(_)
            | Command::StepRestore(_)
    )
}

/// Whether a backup may be restored: nobody has put anything there. The account that nodes make by themselves, which has no
/// address, and its first key are nothing; they go.
pub(crate) fn is_empty(view: &impl Read) -> Result<bool, storage::Error> {
    let accounts = view.prefix::<Accounts>(&[], None, 2)?;
    let keys = view.keys_prefix::<AccountKeys>(&[], None, 2)?;
    Ok(accounts.len() < 2
        && accounts.iter().all(|(_, account)| account.email.is_none() && account.billing.is_none())
        && keys.len() < 2
        && view.keys_prefix::<Users>(&[], None, 1)?.is_empty()
        && view.keys_prefix::<Customers>(&[], None, 1)?.is_empty()
        && view.keys_prefix::<Spaces>(&[], None, 1)?.is_empty()
        && view.keys_prefix::<Channels>(&[], None, 1)?.is_empty()
        && view.keys_prefix::<Jobs>(&[], None, 1)?.is_empty()
        && view.keys_prefix::<DeletedJobs>(&[], None, 1)?.is_empty())
}

pub(super) fn begin(context: &mut Context<'_, '_>, command: BeginRestore) -> Result<Reply, storage::Error> {
    let BeginRestore { backup, parts, replaces } = command;
    match context.txn.get::<Restores>(&())? {
        Some(known) if known.backup == backup => return Ok(Ok(Applied::Done)),
        Some(known) if replaces != Some(known.backup) => return Ok(Err(Rejection::Restoring)),
        None if !is_empty(context.txn)? => return Ok(Err(Rejection::NotEmpty)),
        Some(_) | None => {}
    }
    let Meta { now, last_incarnation, level, .. } = context.meta;
    context.meta = Meta { now, last_incarnation, level, restoring: true, ..Meta::default() };
    let begun_at = context.now;
    context.txn.put::<Restores>(&(), &Restore { backup, parts, begun_at, stage: RestoreStage::Clearing })?;
    Ok(Ok(Applied::Done))
}

pub(super) fn part(context: &mut Context<'_, '_>, command: RestorePart) -> Result<Reply, storage::Error> {
    let RestorePart { backup, number, block } = command;
    let Some(restore) = under_way(context, backup)? else { return Ok(Err(Rejection::Stale)) };
    if restore.stage != (RestoreStage::Filling { next: number }) {
        return Ok(Err(Rejection::Stale));
    }
    let Ok(records) = backup::unpack(&block) else { return Ok(Err(Rejection::UnreadablePart)) };
    for record in &records {
        // What it holds may be what older nodes cannot read.
        if let Some(((), meta)) = record.read::<Metas>()?
            && meta.level > context.meta.level
        {
            return Ok(Err(Rejection::LevelTooLow { needed: meta.level }));
        }
    }
    for record in records {
        match record.read::<Metas>()? {
            Some(((), meta)) => take_over(context, meta),
            None => context.txn.put_record(record)?,
        }
    }
    let next = number + 1;
    let stage = if next < restore.parts {
        RestoreStage::Filling { next }
    } else {
        RestoreStage::Jobs { after: None }
    };
    put(context, restore, stage)
}

/// What of the state as a whole comes with a backup. Incarnations are those of this cluster's processes, and
/// its feature level is what they support.
fn take_over(context: &mut Context<'_, '_>, meta: Meta) {
    let last_incarnation = context.meta.last_incarnation.max(meta.last_incarnation);
    context.now = context.now.max(meta.now);
    let level = context.meta.level;
    context.meta = Meta { now: context.now, last_incarnation, level, restoring: true, ..meta };
}

pub(super) fn step(context: &mut Context<'_, '_>, command: StepRestore) -> Result<Reply, storage::Error> {
    let Some(restore) = under_way(context, command.backup)? else { return Ok(Err(Rejection::Stale)) };
    match restore.stage {
        RestoreStage::Clearing => {
            let cleared = context.txn.clear(limits::RESTORED_TOGETHER_MAX)?;
            let is_clear = cleared < limits::RESTORED_TOGETHER_MAX;
            let stage = if is_clear { RestoreStage::Filling { next: 0 } } else { RestoreStage::Clearing };
            put(context, restore, stage)
        }
        RestoreStage::Filling { .. } => Ok(Err(Rejection::Stale)),
        RestoreStage::Jobs { after } => {
            let last = place_jobs(context, after)?;
            let stage = match last {
                Some(last) => RestoreStage::Jobs { after: Some(last) },
                None => RestoreStage::Deliveries { after: None },
            };
            put(context, restore, stage)
        }
        RestoreStage::Deliveries { after } => match place_deliveries(context, after)? {
            Some(last) => put(context, restore, RestoreStage::Deliveries { after: Some(last) }),
            None => {
                context.meta.restoring = false;
                context.effects.push(Effect::Restored);
                context.txn.remove::<Restores>(&())?;
                Ok(Ok(Applied::Done))
            }
        },
    }
}

/// The record about this backup, if it is the one that is being restored.
fn under_way(context: &Context<'_, '_>, backup: u64) -> Result<Option<Restore>, storage::Error> {
    Ok(context.txn.get::<Restores>(&())?.filter(|restore| restore.backup == backup))
}

fn put(
    context: &mut Context<'_, '_>,
    restore: Restore,
    stage: RestoreStage,
) -> Result<Reply, storage::Error> {
    context.txn.put::<Restores>(&(), &Restore { stage, ..restore })?;
    Ok(Ok(Applied::Done))
}

/// Puts the cursors and unfinished executions of some jobs in the due index. What processes of the other cluster held is taken
/// from them as from any process that is gone. Returns the last job, if there may be more behind it.
fn place_jobs(context: &mut Context<'_, '_>, after: Option<JobId>) -> Result<Option<JobId>, storage::Error> {
    let jobs = context.txn.prefix::<JobStates>(&[], after.as_ref(), limits::RESTORED_TOGETHER_MAX)?;
    let is_last_page = jobs.len() < limits::RESTORED_TOGETHER_MAX;
    let mut open = 0;
    for (job, state) in jobs.iter() {
        if let Some(cursor) = state.next_run_at {
            context.put_due(DueKey::new(cursor, DueItem::Firing(*job)))?;
        }
        for id in &state.open {
            place_execution(context, *id)?;
        }
        open += state.open.len();
        if open > limits::RESTORED_TOGETHER_MAX {
            return Ok(Some(*job));
        }
    }
    Ok(jobs.last().map(|(job, _)| *job).filter(|_| !is_last_page))
}

fn place_execution(context: &mut Context<'_, '_>, id: domain::id::ExecutionId) -> Result<(), storage::Error> {
    let Some(mut loaded) = Loaded::get(context, id)? else { return Ok(()) };
    match loaded.execution.state {
        ExecutionState::Pending => context.put_due(DueKey::new(loaded.execution.due, DueItem::Execution(id))),
        ExecutionState::Claimed { .. } => {
            let delivery = loaded.job(context)?.delivery;
            loaded.execution.orphan(context.now, context.now, delivery);
            execution::store(context, loaded)
        }
        ExecutionState::Finished { .. } => Ok(()),
    }
}

/// As [`place_jobs`], for messages on their way.
fn place_deliveries(
    context: &mut Context<'_, '_>,
    after: Option<DeliveryId>,
) -> Result<Option<DeliveryId>, storage::Error> {
    let found = context.txn.prefix::<Deliveries>(&[], after.as_ref(), limits::RESTORED_TOGETHER_MAX)?;
    let last = found.last().map(|(id, _)| *id).filter(|_| found.len() == limits::RESTORED_TOGETHER_MAX);
    for (_, delivery) in found {
        delivery::place(context, delivery)?;
    }
    Ok(last)
}
