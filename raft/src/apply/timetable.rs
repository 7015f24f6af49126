//! What made each job due: a record with each change that moves its cursor or its schedule, for whoever asks whether a history
//! is complete. See [`domain::ledger`].

use super::Context;
use domain::id::JobId;
use domain::job::Job;
use domain::ledger::Timetable;
use domain::limits;
use domain::time::Timestamp;
use storage::Read;
use storage::schema::{JobChange, Timetables};

/// Notes that a change found the job's cursor at `found` and has left it at `first`. The job is as it is by then.
pub(super) fn changed(
    context: &mut Context<'_, '_>,
    job: &Job,
    found: Option<Timestamp>,
    first: Option<Timestamp>,
) -> Result<(), storage::Error> {
    let next = timetable(context, job, found, first);
    let last = context.txn.prefix::<Timetables>(&job.id.0.to_be_bytes(), None, 1)?.pop();
    let (number, next) = match last {
        Some((_, last)) if last.makes_due_as(&next) => return Ok(()),
        Some((key, last)) => match last.followed_by(&next) {
            Some(both) => (key.number, both),
            None => (key.number + 1, next),
        },
        None => (0, next),
    };
    context.txn.put::<Timetables>(&JobChange { job: job.id, number }, &next)
}

/// Notes where the cursor of a new job stands. That there is nothing before it is not looked at.
pub(super) fn begun(
    context: &mut Context<'_, '_>,
    job: &Job,
    first: Option<Timestamp>,
) -> Result<(), storage::Error> {
    let first = timetable(context, job, None, first);
    context.txn.put::<Timetables>(&JobChange { job: job.id, number: 0 }, &first)
}

fn timetable(
    context: &Context<'_, '_>,
    job: &Job,
    found: Option<Timestamp>,
    first: Option<Timestamp>,
) -> Timetable {
    Timetable {
        since: context.now,
        found,
        first,
        cron_expression: job.cron_expression.clone(),
        timezone: job.timezone.clone(),
        kept_from: None,
    }
}

/// Notes that the history of a job begins at `kept_from`, and forgets what explained only what was before.
pub(super) fn pruned(
    context: &mut Context<'_, '_>,
    job: JobId,
    kept_from: Timestamp,
) -> Result<(), storage::Error> {
    let prefix = job.0.to_be_bytes();
    let mut oldest: Option<(JobChange, Timetable)> = None;
    'newest_first: loop {
        let after = oldest.as_ref().map(|(key, _)| *key);
        let page = context.txn.prefix::<Timetables>(&prefix, after.as_ref(), limits::TIMETABLES_TOGETHER)?;
        let ends = page.len() < limits::TIMETABLES_TOGETHER;
        for (key, timetable) in page {
            if oldest.as_ref().is_some_and(|(_, next)| next.has_ended_by(kept_from)) {
                break 'newest_first;
            }
            oldest = Some((key, timetable));
        }
        if ends {
            break;
        }
    }
    let Some((oldest, timetable)) = oldest else { return Ok(()) };
    forget(context, job, Some(oldest))?;
    let kept_from = timetable.kept_from.map_or(kept_from, |known| known.max(kept_from));
    context.txn.put::<Timetables>(&oldest, &Timetable { kept_from: Some(kept_from), ..timetable })
}

/// Forgets the changes of a job that came before `kept`, or all of them, some at a time. Whether all are gone.
pub(super) fn forget(
    context: &mut Context<'_, '_>,
    job: JobId,
    kept: Option<JobChange>,
) -> Result<bool, storage::Error> {
    let prefix = job.0.to_be_bytes();
    let older = context.txn.keys_prefix::<Timetables>(&prefix, kept.as_ref(), limits::SWEEP_MAX)?;
    for key in &older {
        context.txn.remove::<Timetables>(key)?;
    }
    Ok(older.len() < limits::SWEEP_MAX)
}
