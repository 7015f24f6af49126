//! `/v1/jobs/{id}/executions` and `/v1/executions`

use super::{Data, data};
use crate::Deps;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::extract::{Id, Named, Query};
use crate::fields::Issues;
use crate::page::{self, Page, PageRequest};
use crate::resources::jobs;
use crate::time::Rfc3339;
use axum::extract::State;
use domain::execution::{
    Attempt, Diagnosis, ErrorKind, Execution, ExecutionState, ExecutionStatus, Failure, MissedFirings,
    ResponseBody, Trigger,
};
use domain::id::{AccountId, ExecutionId, JobId};
use domain::job::{Job, JobState};
use domain::time::Timestamp;
use serde::Serialize;
use std::collections::HashSet;
use storage::Read;
use storage::schema::{Diagnoses, ExecutionHours, Executions, JobHour, Jobs, ResponseBodies};

/// Hours of a history looked at in one view: about a millisecond, so that applies are not held back.
const HOURS_AT_ONCE: usize = 1_000;

impl Named for ExecutionId {
    const NOUN: &'static str = "execution";
}

/// `GET /v1/jobs/{id}/executions`, newest first.
pub(crate) async fn list(
    State(deps): State<Deps>,
    principal: Principal,
    Id(job): Id<JobId>,
    query: Query,
) -> Result<axum::Json<Page<ExecutionOutput>>, ApiError> {
    let mut issues = Issues::default();
    let request = PageRequest::read(&query, &mut issues);
    let (_, state) = jobs::find(&deps, principal.account, job)?;
    issues.refuse()?;

    let now = deps.clock.now();
    let waiting: HashSet<ExecutionId> = not_yet_due(&state, now).collect();
    let hidden = u64::try_from(waiting.len()).expect("a job has few open executions");
    let total = state.executions_total.saturating_sub(hidden);
    let keys = if request.offset() < total { keys(&deps, job, request, &waiting).await? } else { Vec::new() };
    let mut executions = Vec::with_capacity(keys.len());
    for id in keys {
        executions
            .extend(read(&deps, id)?.map(|(execution, body)| ExecutionOutput::new(&execution, body, now)));
    }
    Ok(axum::Json(Page::new(request, total, executions)))
}

/// Firings that are claimed ahead of their instant. They are no part of the history yet: the job can still be changed or
/// paused.
pub(super) fn not_yet_due(state: &JobState, now: Timestamp) -> impl Iterator<Item = ExecutionId> {
    state.open.iter().copied().filter(move |id| id.is_scheduled() && id.at > now)
}

/// The executions of one page, without the `hidden` ones. What lies before it is passed over an hour at a time, so
/// that the last page of a year's history is as near as the first.
async fn keys(
    deps: &Deps,
    job: JobId,
    request: PageRequest,
    hidden: &HashSet<ExecutionId>,
) -> Result<Vec<ExecutionId>, ApiError> {
    let prefix = job.0.to_be_bytes();
    let mut skip = request.offset();
    let mut passed: Option<JobHour> = None;
    loop {
        let hours =
            deps.read(|view| view.prefix::<ExecutionHours>(&prefix, passed.as_ref(), HOURS_AT_ONCE))?;
        for (hour, count) in &hours {
            let hidden_then = hidden.iter().filter(|id| JobHour::of(id) == *hour).count() as u64;
            let shown = count.saturating_sub(hidden_then);
            if skip < shown {
                let after = Some(hour.threshold());
                let wanted = |id: &ExecutionId| !hidden.contains(id);
                return page::keys_behind::<Executions>(deps, &prefix, after, skip, request.len(), wanted)
                    .await;
            }
            skip -= shown;
        }
        if hours.len() < HOURS_AT_ONCE {
            return Ok(Vec::new());
        }
        passed = hours.last().map(|(hour, _)| *hour);
        tokio::task::yield_now().await;
    }
}

/// `GET /v1/executions/{id}`
pub(crate) async fn get(
    State(deps): State<Deps>,
    principal: Principal,
    Id(id): Id<ExecutionId>,
) -> Result<axum::Json<Data<ExecutionDetail>>, ApiError> {
    let (_, execution, body) = find(&deps, principal.account, id)?;
    let diagnosis = deps.read(|view| view.get::<Diagnoses>(&id))?;
    Ok(data(ExecutionDetail {
        attempts: execution.attempts.iter().map(AttemptOutput::new).collect(),
        execution: ExecutionOutput::new(&execution, body, deps.clock.now()),
        diagnosis: diagnosis.map(|diagnosis| DiagnosisOutput::new(id, diagnosis)),
    }))
}

/// An execution of `account`, with its job and what the target answered.
pub(crate) fn find(
    deps: &Deps,
    account: AccountId,
    id: ExecutionId,
) -> Result<(Job, Execution, Option<ResponseBody>), ApiError> {
    let not_found = || ApiError::NotFound(ExecutionId::NOUN);
    // A job that is gone took its history along, even while that is still being removed.
    let job = deps.read(|view| view.get::<Jobs>(&id.job))?;
    let job = job.filter(|job| job.account == account).ok_or_else(not_found)?;
    let (execution, body) = read(deps, id)?.ok_or_else(not_found)?;
    Ok((job, execution, body))
}

fn read(deps: &Deps, id: ExecutionId) -> Result<Option<(Execution, Option<ResponseBody>)>, ApiError> {
    deps.read(|view| {
        let Some(execution) = view.get::<Executions>(&id)? else { return Ok(None) };
        Ok(Some((execution, view.get::<ResponseBodies>(&id)?)))
    })
}

/// An execution, in documented order; our extensions follow.
#[derive(Serialize)]
pub(crate) struct ExecutionOutput {
    id: String,
    job_id: String,
    status: &'static str,
    status_code: Option<u16>,
    duration_ms: Option<u64>,
    triggered_by: &'static str,
    response_body: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    executed_at: Rfc3339,
    scheduled_at: Rfc3339,
    started_at: Option<Rfc3339>,
    finished_at: Option<Rfc3339>,
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_kind: Option<&'static str>,
    node_id: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    response_truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    missed: Option<MissedOutput>,
}

/// One execution with everything that was tried.
#[derive(Serialize)]
pub(crate) struct ExecutionDetail {
    #[serde(flatten)]
    execution: ExecutionOutput,
    attempts: Vec<AttemptOutput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    diagnosis: Option<DiagnosisOutput>,
}

/// What an assistant made of a failure.
#[derive(Serialize)]
pub(crate) struct DiagnosisOutput {
    execution_id: String,
    diagnosis: String,
    model: String,
    created_at: Rfc3339,
}

impl DiagnosisOutput {
    pub(crate) fn new(id: ExecutionId, diagnosis: Diagnosis) -> Self {
        Self {
            execution_id: id.to_string(),
            diagnosis: diagnosis.text,
            model: diagnosis.model,
            created_at: Rfc3339(diagnosis.created_at),
        }
    }
}

#[derive(Serialize)]
struct AttemptOutput {
    attempt: u32,
    node_id: u64,
    started_at: Rfc3339,
    finished_at: Rfc3339,
    duration_ms: u64,
    status_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_kind: Option<&'static str>,
}

/// Firings missed while the cluster was down; the first of them is `scheduled_at`.
#[derive(Serialize)]
struct MissedOutput {
    count: u64,
    until: Rfc3339,
    exact: bool,
}

impl ExecutionOutput {
    fn new(execution: &Execution, body: Option<ResponseBody>, now: Timestamp) -> Self {
        let last = execution.attempts.last();
        let failure = last.and_then(|attempt| attempt.failure.as_ref());
        let truncated = body.as_ref().is_some_and(|body| body.truncated);
        Self {
            id: execution.id.to_string(),
            job_id: execution.id.job.to_string(),
            status: status(execution, now),
            status_code: last.and_then(|attempt| attempt.status_code),
            duration_ms: last.map(|attempt| attempt.duration_ms),
            triggered_by: Trigger::as_str(execution.trigger),
            response_body: body.map(|body| body.text),
            error: error(execution, failure),
            executed_at: Rfc3339(last.map_or(execution.scheduled_at, |attempt| attempt.started_at)),
            scheduled_at: Rfc3339(execution.scheduled_at),
            started_at: last.map(|attempt| Rfc3339(attempt.started_at)),
            finished_at: finished_at(execution).map(Rfc3339),
            attempt: attempt(execution),
            error_kind: kind(failure),
            node_id: holder(execution).or_else(|| last.map(|attempt| attempt.node.0)),
            response_truncated: truncated,
            missed: execution.missed.map(|MissedFirings { until, count, exact }| MissedOutput {
                count,
                until: Rfc3339(until),
                exact,
            }),
        }
    }
}

/// Claims are made ahead of time: until its instant comes, a claimed execution only waits.
fn status(execution: &Execution, now: Timestamp) -> &'static str {
    match &execution.state {
        ExecutionState::Pending => "pending",
        ExecutionState::Claimed { .. } if execution.due > now => "pending",
        ExecutionState::Claimed { .. } => "running",
        ExecutionState::Finished { status, .. } => status.as_str(),
    }
}

/// The attempt that is under way or waits, or the last that was made. One that was called off was none.
fn attempt(execution: &Execution) -> u32 {
    match execution.state {
        ExecutionState::Pending | ExecutionState::Claimed { .. } => execution.attempt,
        ExecutionState::Finished { .. } => execution.attempts.last().map_or(0, |attempt| attempt.number),
    }
}

/// What went wrong with the last attempt, and why there is no other where one was due.
fn error(execution: &Execution, failure: Option<&Failure>) -> Option<String> {
    let failure = failure.map(|failure| failure.message.clone());
    match (execution.status()?, execution.skip_reason.clone(), failure) {
        (ExecutionStatus::Success, _, _) => None,
        (_, Some(reason), Some(failure)) => Some(format!("{failure}; not tried again: {reason}")),
        (_, reason, failure) => reason.or(failure),
    }
}

fn finished_at(execution: &Execution) -> Option<Timestamp> {
    match execution.state {
        ExecutionState::Finished { at, .. } => Some(at),
        ExecutionState::Pending | ExecutionState::Claimed { .. } => None,
    }
}

/// The node that has it now.
fn holder(execution: &Execution) -> Option<u64> {
    match execution.state {
        ExecutionState::Claimed { node, .. } => Some(node.0),
        ExecutionState::Pending | ExecutionState::Finished { .. } => None,
    }
}

fn kind(failure: Option<&Failure>) -> Option<&'static str> {
    failure.map(|failure| ErrorKind::as_str(failure.kind))
}

impl AttemptOutput {
    fn new(attempt: &Attempt) -> Self {
        let failure = attempt.failure.as_ref();
        Self {
            attempt: attempt.number,
            node_id: attempt.node.0,
            started_at: Rfc3339(attempt.started_at),
            finished_at: Rfc3339(attempt.finished_at),
            duration_ms: attempt.duration_ms,
            status_code: attempt.status_code,
            error: failure.map(|failure| failure.message.clone()),
            error_kind: kind(failure),
        }
    }
}
