//! What is known of a history without reading it: how many executions each hour holds, and each job's pulse.

use super::Context;
use domain::execution::ExecutionStatus;
use domain::id::{ExecutionId, JobId};
use domain::limits;
use std::collections::BTreeMap;
use storage::Read;
use storage::schema::{ExecutionHours, JobHour, Pulses};

/// Notes an execution that was not there before.
pub(super) fn added(context: &mut Context<'_, '_>, id: &ExecutionId) -> Result<(), storage::Error> {
    let hour = JobHour::of(id);
    let count = context.txn.get::<ExecutionHours>(&hour)?.unwrap_or(0);
    context.txn.put::<ExecutionHours>(&hour, &(count + 1))
}

/// Notes that executions are gone.
pub(super) fn removed(context: &mut Context<'_, '_>, ids: &[ExecutionId]) -> Result<(), storage::Error> {
    let mut gone: BTreeMap<JobHour, u64> = BTreeMap::new();
    for id in ids {
        *gone.entry(JobHour::of(id)).or_default() += 1;
    }
    for (hour, gone) in gone {
        let count = context.txn.get::<ExecutionHours>(&hour)?.unwrap_or(0);
        match count.saturating_sub(gone) {
            0 => context.txn.remove::<ExecutionHours>(&hour)?,
            left => context.txn.put::<ExecutionHours>(&hour, &left)?,
        }
    }
    Ok(())
}

/// Notes how an execution ended.
pub(super) fn ended(
    context: &mut Context<'_, '_>,
    id: &ExecutionId,
    status: ExecutionStatus,
) -> Result<(), storage::Error> {
    let mut pulse = context.txn.get::<Pulses>(&id.job)?.unwrap_or_default();
    pulse.beat(id.at, status, context.now);
    context.txn.put::<Pulses>(&id.job, &pulse)
}

/// Forgets the hours of a job that is gone, some at a time. Whether all are gone.
pub(super) fn forget(context: &mut Context<'_, '_>, job: JobId) -> Result<bool, storage::Error> {
    let prefix = job.0.to_be_bytes();
    let hours = context.txn.keys_prefix::<ExecutionHours>(&prefix, None, limits::SWEEP_MAX)?;
    for hour in &hours {
        context.txn.remove::<ExecutionHours>(hour)?;
    }
    Ok(hours.len() < limits::SWEEP_MAX)
}
