//! Running, pausing and resuming a job.

use super::output::next_run_at;
use super::{TRIES_MAX, find, next_run};
use crate::Deps;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::extract::Id;
use crate::resources::{Data, data};
use crate::time::Rfc3339;
use axum::extract::State;
use domain::execution::Trigger;
use domain::id::{ExecutionId, JobId};
use domain::rejection::Rejection;
use raft::ProposeError;
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
    paused_at: Option<Rfc3339>,
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
    Id(job): Id<JobId>,
) -> Result<axum::Json<Data<Started>>, ApiError> {
    for _ in 0..TRIES_MAX {
        let now = deps.clock.now();
        let execution = ExecutionId::manual(job, now, rand::random());
        let command = RunJob { account: principal.account, execution };
        match deps.cluster.propose(Command::RunJob(command)).await {
            // Another run of the same millisecond drew the same salt.
            Err(ProposeError::Rejected(Rejection::Exists)) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {
                return Ok(data(Started {
                    execution_id: execution.to_string(),
                    job_id: job.to_string(),
                    status: "pending",
                    triggered_by: Trigger::Manual.as_str(),
                    started_at: Rfc3339(now),
                }));
            }
        }
    }
    Err(Rejection::Exists.into())
}

/// `POST /v1/jobs/{id}/pause`
pub(crate) async fn pause(
    State(deps): State<Deps>,
    principal: Principal,
    Id(id): Id<JobId>,
) -> Result<axum::Json<Data<Paused>>, ApiError> {
    let command = PauseJob { account: principal.account, job: id };
    deps.cluster.propose(Command::PauseJob(command)).await?;
    let (_, state) = find(&deps, principal.account, id)?;
    // Somebody else may have resumed it by now; this answers what this request did.
    let paused_at = state.paused_at.unwrap_or_else(|| deps.clock.now());
    Ok(data(Paused { id: id.to_string(), status: "paused", paused_at: Some(Rfc3339(paused_at)) }))
}

/// `POST /v1/jobs/{id}/resume`
pub(crate) async fn resume(
    State(deps): State<Deps>,
    principal: Principal,
    Id(id): Id<JobId>,
) -> Result<axum::Json<Data<Resumed>>, ApiError> {
    for _ in 0..TRIES_MAX {
        let (job, state) = find(&deps, principal.account, id)?;
        let now = deps.clock.now();
        let command = ResumeJob {
            account: principal.account,
            job: id,
            expected: state.version(),
            next_run_at: next_run(&job, &state, now)?,
        };
        match deps.cluster.propose(Command::ResumeJob(command)).await {
            // It was changed meanwhile: compute again from what it is now.
            Err(ProposeError::Rejected(Rejection::Stale)) => {}
            Err(error) => return Err(error.into()),
            Ok(_) => {
                let (job, state) = find(&deps, principal.account, id)?;
                return Ok(data(Resumed {
                    id: id.to_string(),
                    status: "active",
                    next_run_at: next_run_at(&job, &state, now).map(Rfc3339),
                    resumed_at: Rfc3339(now),
                }));
            }
        }
    }
    Err(Rejection::Stale.into())
}
