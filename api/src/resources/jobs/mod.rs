//! `/v1/jobs`

pub(crate) mod action; // run, pause, resume
pub(crate) mod bulk; // one action on many
mod draft; // new jobs that come in numbers
pub(crate) mod export; // all of them, to be imported again
mod input; // what a client may set
pub(crate) mod list; // pages, with and without filters
mod output; // what a client sees
mod schema; // what a client may send, as the document says it
pub(crate) mod sparklines; // how they have been doing
pub(crate) mod write; // create, update, delete

pub(crate) use action::{pause, resume, run};
pub(crate) use bulk::{WORDS as BULK_ACTIONS, bulk};
pub(crate) use draft::Draft;
pub(crate) use export::export;
pub(super) use input::{headers, url};
pub(crate) use input::{is_forbidden_header, timezone};
pub(crate) use list::list;
pub(super) use output::Headers;
pub(crate) use output::{delivery, misfire_policy, overlap_policy, retry_policy, status};
pub(crate) use schema::ImportedJob;
pub(crate) use sparklines::sparklines;
pub(crate) use write::{DEFAULT_TIMEZONE, create, delete, update};

use super::{Data, data};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::extract::{Id, Named};
use crate::fields;
use crate::openapi::shape::IdInPath;
use crate::{Deps, Shared};
use axum::extract::State;
use domain::id::{AccountId, JobId, SpaceId};
use domain::job::{Job, JobState};
use domain::schedule::{Schedule, ScheduleError};
use domain::time::Timestamp;
use output::JobOutput;
use storage::Read;
use storage::schema::{Channels, JobStates, Jobs, Spaces};

/// How often a change is computed again when the job moves on in between. A job fires once a second
/// at most, so that even one lost race is rare.
const TRIES_MAX: u64 = 10;

impl Named for SpaceId {
    const NOUN: &'static str = "space";
}

impl Named for JobId {
    const NOUN: &'static str = "job";
}

/// Get a job.
///
/// Retrieve full details for a single job, including its current status, schedule, configuration, and last execution
/// result.
#[utoipa::path(
    get, path = "/v1/jobs/{id}", operation_id = "getJob", tag = "Jobs", params(IdInPath<JobId>),
    responses((status = 200, description = "The job.", body = JobOutput)),
)]
pub(crate) async fn get(
    State(deps): State<Shared>,
    principal: Principal,
    Id(id): Id<JobId>,
) -> Result<axum::Json<Data<JobOutput>>, ApiError> {
    let now = deps.clock.now();
    let found = deps.read(|view| match load(view, principal.account, id)? {
        Some((job, state)) => shown(view, job, state, now).map(Some),
        None => Ok(None),
    })?;
    found.map(data).ok_or(ApiError::NotFound(JobId::NOUN))
}

/// A job as a client sees it. In a paused space it has no next run, also while its cursor has yet to follow.
fn shown(
    view: &impl Read,
    job: Job,
    mut state: JobState,
    now: Timestamp,
) -> Result<JobOutput, storage::Error> {
    if is_idle(view, job.space)? {
        state.next_run_at = None;
    }
    Ok(JobOutput::new(job, &state, now))
}

/// Whether the jobs that belong there do not fire.
fn is_idle(view: &impl Read, space: Option<SpaceId>) -> Result<bool, storage::Error> {
    let Some(space) = space else { return Ok(false) };
    Ok(view.get::<Spaces>(&space)?.is_some_and(|space| space.is_paused()))
}

/// A job of `account`, configuration and progress of one moment.
pub(crate) fn find(deps: &Deps, account: AccountId, id: JobId) -> Result<(Job, JobState), ApiError> {
    let found = deps.read(|view| load(view, account, id))?;
    found.ok_or(ApiError::NotFound(JobId::NOUN))
}

/// As [`find`], within a look at the state; `None` when there is no such job of the account.
pub(super) fn load(
    view: &impl Read,
    account: AccountId,
    id: JobId,
) -> Result<Option<(Job, JobState)>, storage::Error> {
    let Some(mut job) = view.get::<Jobs>(&id)?.filter(|job| job.account == account) else {
        return Ok(None);
    };
    if let Some(channels) = job.alert_channels.take() {
        // A channel that was deleted is no longer one of the job's, and nobody should see that it was.
        let mut known = Vec::with_capacity(channels.len());
        for channel in channels {
            if view.contains::<Channels>(&(account, channel))? {
                known.push(channel);
            }
        }
        job.alert_channels = Some(known);
    }
    Ok(view.get::<JobStates>(&id)?.map(|state| (job, state)))
}

/// The first instant of a job's schedule that nothing has accounted for yet.
fn next_run(job: &Job, state: &JobState, now: Timestamp) -> Result<Option<Timestamp>, ApiError> {
    let schedule = Schedule::parse(&job.cron_expression, &job.timezone).map_err(refused)?;
    // Claims are made ahead of time: what is claimed already will run and must not run twice.
    Ok(schedule.next_after(state.claimed_until.map_or(now, |until| until.max(now))))
}

fn refused(error: ScheduleError) -> ApiError {
    fields::senseless(error.field(), error.to_string())
}
