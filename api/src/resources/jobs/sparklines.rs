//! `GET /v1/jobs/sparklines`: the last day of every job in a few numbers.

use crate::auth::Principal;
use crate::error::ApiError;
use crate::resources::{Data, data};
use crate::{Deps, Shared};
use axum::extract::State;
use domain::execution::ExecutionStatus;
use domain::id::{AccountId, JobId};
use domain::limits;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use std::collections::HashSet;
use storage::Read;
use storage::schema::{AccountJob, AccountJobs, AccountSpaces, JobStates, Pulses, SpaceJobs, Spaces};
use utoipa::openapi::schema::ArrayBuilder;
use utoipa::openapi::{ObjectBuilder, RefOr, Schema, Type};

/// Jobs read in one view: about a millisecond, so that applies are not held back.
const JOBS_AT_ONCE: usize = 100;
/// Keys of jobs read in one view.
const KEYS_AT_ONCE: usize = 1_000;

/// Values by job, newest job first.
pub(crate) struct Sparklines(Vec<(JobId, Vec<i8>)>);

impl utoipa::PartialSchema for Sparklines {
    fn schema() -> RefOr<Schema> {
        let value = ObjectBuilder::new().schema_type(Type::Integer).enum_values(Some([-1, 0, 1]));
        let line = ArrayBuilder::new().items(value).max_items(Some(limits::SPARKLINE_MAX));
        ObjectBuilder::new().schema_type(Type::Object).additional_properties(Some(RefOr::from(line))).into()
    }
}

impl utoipa::ToSchema for Sparklines {}

impl Serialize for Sparklines {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (job, values) in &self.0 {
            map.serialize_entry(&job.to_string(), values)?;
        }
        map.end()
    }
}

/// Get sparklines.
///
/// Retrieve execution sparkline data for all of your jobs. Returns the last 24 hours of execution results as compact
/// arrays, suitable for rendering mini status charts in a dashboard. Each value is 1 for success, 0 for failure, or -1
/// for skipped/paused. Arrays are ordered oldest to newest and hold 60 values at most; that of a paused job ends in -1.
#[utoipa::path(
    get, path = "/v1/jobs/sparklines", operation_id = "getSparklines", tag = "Jobs",
    responses((status = 200, description = "Values by job ID.", body = Sparklines)),
)]
pub(crate) async fn sparklines(
    State(deps): State<Shared>,
    principal: Principal,
) -> Result<axum::Json<Data<Sparklines>>, ApiError> {
    let account = principal.account;
    let idle = idle(&deps, account).await?;
    let now = deps.clock.now();
    let mut lines = Vec::new();
    let mut after: Option<AccountJob> = None;
    loop {
        let read = deps.read(|view| {
            let prefix = account.0.to_be_bytes();
            let keys = view.keys_prefix::<AccountJobs>(&prefix, after.as_ref(), JOBS_AT_ONCE)?;
            for AccountJob { job, .. } in &keys {
                let Some(state) = view.get::<JobStates>(job)? else { continue };
                let pulse = view.get::<Pulses>(job)?.unwrap_or_default();
                let paused = state.paused_at.is_some() || idle.contains(job);
                lines.push((*job, line(pulse.recent(now), paused)));
            }
            Ok(keys)
        })?;
        if read.len() < JOBS_AT_ONCE {
            return Ok(data(Sparklines(lines)));
        }
        after = read.last().copied();
        tokio::task::yield_now().await;
    }
}

/// The documented values, of which the last says that the job is paused if it is.
fn line(recent: impl Iterator<Item = ExecutionStatus>, paused: bool) -> Vec<i8> {
    let mut values: Vec<i8> = recent
        .map(|status| match status {
            ExecutionStatus::Success => 1,
            ExecutionStatus::Failed => 0,
            ExecutionStatus::Skipped => -1,
        })
        .chain(paused.then_some(-1))
        .collect();
    values.drain(..values.len().saturating_sub(limits::SPARKLINE_MAX));
    values
}

/// The jobs in spaces that are paused. Found from the spaces, so that no configuration is read for it.
async fn idle(deps: &Deps, account: AccountId) -> Result<HashSet<JobId>, ApiError> {
    let paused = deps.read(|view| {
        let keys = view.keys_prefix::<AccountSpaces>(&account.0.to_be_bytes(), None, limits::SPACES_MAX)?;
        let mut paused = Vec::new();
        for (_, id) in keys {
            paused.extend(view.get::<Spaces>(&id)?.filter(|space| space.is_paused()).map(|space| space.id));
        }
        Ok(paused)
    })?;
    let mut idle = HashSet::new();
    for space in paused {
        let mut after = None;
        loop {
            let keys = deps.read(|view| {
                view.keys_prefix::<SpaceJobs>(&space.0.to_be_bytes(), after.as_ref(), KEYS_AT_ONCE)
            })?;
            idle.extend(keys.iter().map(|(_, job)| *job));
            if keys.len() < KEYS_AT_ONCE {
                break;
            }
            after = keys.last().copied();
            tokio::task::yield_now().await;
        }
    }
    Ok(idle)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ExecutionStatus::{Failed, Skipped, Success};

    fn check(recent: &[ExecutionStatus], paused: bool, expected: &[i8]) {
        assert_eq!(line(recent.iter().copied(), paused), expected);
    }

    #[test]
    fn values_are_the_documented_ones() {
        check(&[], false, &[]);
        check(&[], true, &[-1]);
        check(&[Success, Failed, Skipped, Success], false, &[1, 0, -1, 1]);
        check(&[Success, Skipped], true, &[1, -1, -1]);
    }

    #[test]
    fn a_full_line_of_a_paused_job_gives_up_its_oldest_value() {
        let mut recent = vec![Success; limits::SPARKLINE_MAX];
        recent[0] = Failed;
        let values = line(recent.into_iter(), true);
        assert_eq!((values.len(), values[0], values[59]), (60, 1, -1));
    }
}
