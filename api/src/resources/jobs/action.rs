//! Running, pausing and resuming a job.

use super::output::next_run_at;
use super::{TRIES_MAX, find, is_idle, next_run};
use crate::Deps;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::extract::Id;
use crate::once::OnceKey;
use crate::resources::{Data, data};
use crate::time::Rfc3339;
use axum::extract::State;
use axum::http::StatusCode;
use domain::execution::Trigger;
use domain::id::{ExecutionId, JobId};
use domain::job::JobState;
use raft::command::{Command, PauseJob, ResumeJob, RunJob};
use serde::Serialize;

#[derive(Serialize)]
pub(crate) struct Started {
    execution_id: String,
    job_id: String,
    status: &'static str,
    triggered_by: &'static str,
    started_at: Rfc3339,
}

#[derive(Serialize)]
pub(crate) struct Paused {
    id: String,
    status: &'static str,
    paused_at: Rfc3339,
}

#[derive(Serialize)]
pub(crate) struct Resumed {
    id: String,
    status: &'static str,
    next_run_at: Option<Rfc3339>,
    resumed_at: Rfc3339,
}

/// `POST /v1/jobs/{id}/run`
pub(crate) async fn run(
    State(deps): State<Deps>,
    principal: Principal,
    once: OnceKey,
    Id(job): Id<JobId>,
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

/// `POST /v1/jobs/{id}/pause`
pub(crate) async fn pause(
    State(deps): State<Deps>,
    principal: Principal,
    once: OnceKey,
    Id(id): Id<JobId>,
) -> Result<axum::Json<Data<Paused>>, ApiError> {
    let answer = data(Paused { id: id.to_string(), status: "paused", paused_at: Rfc3339(deps.clock.now()) });
    let command = Command::PauseJob(PauseJob { account: principal.account, job: id });
    deps.propose_once(&once, command, StatusCode::OK, &answer.0).await?;
    Ok(answer)
}

/// `POST /v1/jobs/{id}/resume`
pub(crate) async fn resume(
    State(deps): State<Deps>,
    principal: Principal,
    once: OnceKey,
    Id(id): Id<JobId>,
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
