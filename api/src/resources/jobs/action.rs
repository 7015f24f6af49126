//! Running, pausing and resuming a job.

use super::output::next_run_at;
use super::{TRIES_MAX, find, is_idle, next_run};
use crate::Shared;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::extract::{Id, NoBody};
use crate::once::OnceKey;
use crate::openapi::shape::IdInPath;
use crate::openapi::words::{ExecutionStatusWord, StatusWord, TriggerWord};
use crate::resources::{Data, data};
use crate::time::Rfc3339;
use axum::extract::State;
use axum::http::StatusCode;
use domain::execution::Trigger;
use domain::id::{ExecutionId, JobId};
use domain::job::JobState;
use raft::command::{Command, Overdue, PauseJob, ResumeJob, RunJob};
use serde::Serialize;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub(crate) struct Started {
    execution_id: String,
    job_id: String,
    #[schema(value_type = ExecutionStatusWord)]
    status: &'static str,
    #[schema(value_type = TriggerWord)]
    triggered_by: &'static str,
    #[schema(value_type = String, format = DateTime)]
    started_at: Rfc3339,
}

#[derive(Serialize, ToSchema)]
#[schema(as = PausedJob)]
pub(crate) struct Paused {
    id: String,
    #[schema(value_type = StatusWord)]
    status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    paused_at: Rfc3339,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ResumedJob)]
pub(crate) struct Resumed {
    id: String,
    #[schema(value_type = StatusWord)]
    status: &'static str,
    /// Null while the job's space is paused.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    next_run_at: Option<Rfc3339>,
    #[schema(value_type = String, format = DateTime)]
    resumed_at: Rfc3339,
}

/// Run a job now.
///
/// Trigger an immediate, out-of-schedule execution of a job. The job runs with the same configuration (URL, method,
/// headers, body) as a scheduled run. This does not affect the normal cron schedule. Rate limited in a bucket of its
/// own. A paused job can be run, too.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/run", operation_id = "runJob", tag = "Jobs", params(IdInPath<JobId>),
    responses((status = 200, description = "It starts at once.", body = Started)),
)]
pub(crate) async fn run(
    State(deps): State<Shared>,
    principal: Principal,
    once: OnceKey,
    Id(job): Id<JobId>,
    NoBody: NoBody,
) -> Result<axum::Json<Data<Started>>, ApiError> {
    let now = deps.clock.now();
    for salt in 0..TRIES_MAX {
        // The lowest bits of a number that is random, or the request's own.
        let execution = ExecutionId::manual(job, now, once.number(salt) as u16);
        let answer = data(Started {
            execution_id: execution.to_string(),
            job_id: job.to_string(),
            status: "pending",
            triggered_by: Trigger::Manual.as_str(),
            started_at: Rfc3339(now),
        });
        let command = Command::RunJob(RunJob { account: principal.account, execution });
        match deps.propose_once(&once, command, StatusCode::OK, &answer.0).await {
            // Another run of the same millisecond drew the same salt.
            Err(ApiError::Taken) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(answer),
        }
    }
    Err(ApiError::Taken)
}

/// Pause a job.
///
/// Pause a job. While paused, the job will not execute on its cron schedule. You can still trigger manual runs.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/pause", operation_id = "pauseJob", tag = "Jobs", params(IdInPath<JobId>),
    responses(
        (status = 200, description = "Paused.", body = Paused),
        (status = 409, description = "It is paused already, or the idempotency key was used with another request."),
    ),
)]
pub(crate) async fn pause(
    State(deps): State<Shared>,
    principal: Principal,
    once: OnceKey,
    Id(id): Id<JobId>,
    NoBody: NoBody,
) -> Result<axum::Json<Data<Paused>>, ApiError> {
    for _ in 0..TRIES_MAX {
        let (job, state) = find(&deps, principal.account, id)?;
        let at = deps.clock.now();
        let answer = data(Paused { id: id.to_string(), status: "paused", paused_at: Rfc3339(at) });
        let overdue = Overdue::of(&job, &state, at);
        let command = Command::PauseJob(PauseJob { account: principal.account, job: id, at, overdue });
        match deps.propose_once(&once, command, StatusCode::OK, &answer.0).await {
            // It became due or was claimed meanwhile: compute again from what it is now.
            Err(ApiError::Stale) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(answer),
        }
    }
    Err(ApiError::Stale)
}

/// Resume a job.
///
/// Resume a paused job. The next execution is rescheduled automatically based on the cron expression.
#[utoipa::path(
    post, path = "/v1/jobs/{id}/resume", operation_id = "resumeJob", tag = "Jobs", params(IdInPath<JobId>),
    responses(
        (status = 200, description = "Active.", body = Resumed),
        (status = 409, description = "It is active already, or the idempotency key was used with another request."),
    ),
)]
pub(crate) async fn resume(
    State(deps): State<Shared>,
    principal: Principal,
    once: OnceKey,
    Id(id): Id<JobId>,
    NoBody: NoBody,
) -> Result<axum::Json<Data<Resumed>>, ApiError> {
    for _ in 0..TRIES_MAX {
        let (job, state) = find(&deps, principal.account, id)?;
        let now = deps.clock.now();
        let cursor = next_run(&job, &state, now)?;
        let is_idle = deps.read(|view| is_idle(view, job.space))?;
        // What applying the command will make of it.
        let resumed = JobState { next_run_at: cursor.filter(|_| !is_idle), ..state.clone() };
        let answer = data(Resumed {
            id: id.to_string(),
            status: "active",
            next_run_at: next_run_at(&job, &resumed, now).map(Rfc3339),
            resumed_at: Rfc3339(now),
        });
        let command = Command::ResumeJob(ResumeJob {
            account: principal.account,
            job: id,
            expected: state.version(),
            next_run_at: cursor,
            at: now,
        });
        match deps.propose_once(&once, command, StatusCode::OK, &answer.0).await {
            // It was changed meanwhile: compute again from what it is now.
            Err(ApiError::Stale) => {}
            Err(error) => return Err(error),
            Ok(_) => return Ok(answer),
        }
    }
    Err(ApiError::Stale)
}
