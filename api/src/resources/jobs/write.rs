//! Creating, changing and deleting jobs.

use super::input::{JobInput, NO_SUCH_SPACE};
use super::output::JobOutput;
use super::schema::{JobChanges, NewJob};
use super::{TRIES_MAX, find, load, next_run, shown};
use crate::Shared;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::extract::{Id, Json, Named};
use crate::fields::{self, Issues};
use crate::once::OnceKey;
use crate::openapi::shape::IdInPath;
use crate::resources::{Data, data};
use axum::extract::State;
use axum::http::StatusCode;
use domain::id::{AccountId, JobId, SpaceId};
use domain::job::{Delivery, Job, JobState, Method, MisfirePolicy, OverlapPolicy, Request, Retry};
use domain::limits;
use domain::rejection::Rejection;
use domain::space::Space;
use domain::time::Timestamp;
use raft::ProposeError;
use raft::command::{Command, CreateJob, DeleteJob, Overdue, UpdateJob};

/// The zone of jobs and spaces for which nobody names one (documented).
pub(crate) const DEFAULT_TIMEZONE: &str = "UTC";

/// Create a job.
///
/// Create a new cron job. At minimum you need a name, cron expression, and target URL. JustRun validates the cron
/// expression and schedules the first execution immediately.
#[utoipa::path(
    post, path = "/v1/jobs", operation_id = "createJob", tag = "Jobs", request_body = NewJob,
    responses(
        (status = 201, description = "Created.", body = JobOutput),
        (status = 403, description = "`plan_limit_exceeded`: one job more than the plan allows."),
    ),
)]
pub(crate) async fn create(
    State(deps): State<Shared>,
    principal: Principal,
    once: OnceKey,
    Json(body): Json,
) -> Result<(StatusCode, axum::Json<Data<JobOutput>>), ApiError> {
    let mut issues = Issues::default();
    let input = JobInput::for_create(&body, "", deps.targets.as_ref(), &mut issues);
    let space = deps.read(|view| input.resolve(view, principal.account, &mut issues))?;
    issues.refuse()?;

    let mut job = new_job(&input, space.as_ref(), principal.account, deps.clock.now());
    let next_run_at = next_run(&job, &JobState::default(), job.created_at)?;
    // What applying the command will make of it.
    let is_idle = space.is_some_and(|space| space.is_paused());
    let state = JobState { next_run_at: next_run_at.filter(|_| !is_idle), ..JobState::default() };
    for salt in 0..TRIES_MAX {
        job.id = JobId(once.number(salt));
        let answer = data(JobOutput::new(job.clone(), &state, job.created_at));
        let jobs_max = deps.plans.of(principal.plan).jobs_max;
        let command = CreateJob { job: job.clone(), next_run_at, paused: false, jobs_max };
        let command = Command::CreateJob(Box::new(command));
        match deps.propose_once(&once, command, StatusCode::CREATED, &answer.0).await {
            // Two random ids met; the next ones will not.
            Err(ApiError::Taken) => {}
            Err(error) => return Err(refused(error)),
            Ok(_) => return Ok((StatusCode::CREATED, answer)),
        }
    }
    Err(ApiError::Taken)
}

/// Update a job.
///
/// Update one or more fields on an existing job. Only include the fields you want to change. The schedule is
/// recalculated if you update the cron expression or timezone.
#[utoipa::path(
    patch, path = "/v1/jobs/{id}", operation_id = "updateJob", tag = "Jobs", params(IdInPath<JobId>),
    request_body = JobChanges,
    responses(
        (status = 200, description = "The whole job as it is now.", body = JobOutput),
        (status = 409, description = "Others kept changing the job at the same time; try again."),
    ),
)]
pub(crate) async fn update(
    State(deps): State<Shared>,
    principal: Principal,
    Id(id): Id<JobId>,
    Json(body): Json,
) -> Result<axum::Json<Data<JobOutput>>, ApiError> {
    let mut issues = Issues::default();
    let input = JobInput::for_update(&body, deps.targets.as_ref(), &mut issues);
    let found = deps.read(|view| {
        input.resolve(view, principal.account, &mut issues)?;
        load(view, principal.account, id)
    })?;
    let (mut old, mut state) = found.ok_or(ApiError::NotFound(JobId::NOUN))?;
    issues.refuse()?;

    for _ in 0..TRIES_MAX {
        let mut job = old.clone();
        input.apply_to(&mut job);
        let Some(command) = change(&old, &state, job, deps.clock.now())? else {
            return Ok(data(deps.read(|view| shown(view, old, state, deps.clock.now()))?));
        };
        let (job, next_run_at) = (command.job.clone(), command.next_run_at);
        match deps.cluster.propose(Command::UpdateJob(Box::new(command))).await {
            // It fired or was changed meanwhile: compute again from what it is now.
            Err(ProposeError::Rejected(Rejection::Stale)) => {}
            Err(error) => return Err(refused(error.into())),
            // The answer is what was written. By now the job may be another's, or gone.
            Ok(_) => {
                state.next_run_at = next_run_at.filter(|_| state.paused_at.is_none());
                return Ok(data(deps.read(|view| shown(view, job, state, deps.clock.now()))?));
            }
        }
        (old, state) = find(&deps, principal.account, id)?;
    }
    Err(Rejection::Stale.into())
}

/// Delete a job.
///
/// Permanently delete a job and all of its execution history. This action cannot be undone.
#[utoipa::path(
    delete, path = "/v1/jobs/{id}", operation_id = "deleteJob", tag = "Jobs", params(IdInPath<JobId>),
    responses((status = 204, description = "Deleted.")),
)]
pub(crate) async fn delete(
    State(deps): State<Shared>,
    principal: Principal,
    Id(id): Id<JobId>,
) -> Result<StatusCode, ApiError> {
    let command = DeleteJob { account: principal.account, job: id };
    deps.cluster.propose(Command::DeleteJob(command)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The job that `input` asks for, without an id.
pub(super) fn new_job(input: &JobInput, space: Option<&Space>, account: AccountId, now: Timestamp) -> Job {
    let mut job = blank(account, now);
    if let Some(space) = space.filter(|_| input.names_no_zone()) {
        job.timezone.clone_from(&space.timezone);
    }
    input.apply_to(&mut job);
    job
}

/// A job with every default (documented) and without what a client must say.
fn blank(account: AccountId, now: Timestamp) -> Job {
    Job {
        id: JobId(0),
        account,
        space: None,
        name: String::new(),
        cron_expression: String::new(),
        timezone: DEFAULT_TIMEZONE.to_owned(),
        request: Request {
            url: String::new(),
            method: Method::default(),
            headers: Vec::new(),
            body: None,
            timeout_sec: limits::TIMEOUT_SEC_DEFAULT,
        },
        retry: Retry::default(),
        tags: Vec::new(),
        store_response_body: false,
        alert_channels: None,
        overlap: OverlapPolicy::default(),
        misfire: MisfirePolicy::default(),
        delivery: Delivery::default(),
        created_at: now,
        updated_at: now,
    }
}

/// The command that makes `job` of the job that is `old`; `None` when they are the same.
pub(super) fn change(
    old: &Job,
    state: &JobState,
    mut job: Job,
    now: Timestamp,
) -> Result<Option<UpdateJob>, ApiError> {
    if job == *old {
        return Ok(None);
    }
    job.updated_at = now.max(old.updated_at);
    let (next_run_at, overdue) = if reschedules(old, &job) {
        (next_run(&job, state, now)?, Overdue::of(old, state, now))
    } else {
        (state.next_run_at, None)
    };
    Ok(Some(UpdateJob { job, expected: state.version(), next_run_at, overdue }))
}

/// Whether the cursor must be computed anew. A move counts too: the old or the new space may be paused.
fn reschedules(old: &Job, new: &Job) -> bool {
    old.cron_expression != new.cron_expression || old.timezone != new.timezone || old.space != new.space
}

/// The space went away between the look-up and the proposal: still the field's fault.
fn refused(error: ApiError) -> ApiError {
    match error {
        ApiError::NotFound(SpaceId::NOUN) => fields::senseless("space_id", NO_SUCH_SPACE),
        error => error,
    }
}
