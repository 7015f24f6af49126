//! `/v1/jobs/{id}/executions` and `/v1/executions`

use super::{Data, data};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::extract::{Id, Named, Query};
use crate::fields::Issues;
use crate::openapi::shape::IdInPath;
use crate::openapi::words::{ErrorKindWord, ExecutionStatusWord, TriggerWord};
use crate::page::{self, Page, PageRequest};
use crate::resources::jobs;
use crate::time::Rfc3339;
use crate::{Deps, Shared};
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
use utoipa::ToSchema;

/// Hours of a history looked at in one view: about a millisecond, so that applies are not held back.
const HOURS_AT_ONCE: usize = 1_000;

impl Named for ExecutionId {
    const NOUN: &'static str = "execution";
}

/// List a job's executions.
///
/// Retrieve a paginated list of past executions for a specific job, newest first. Each execution includes the HTTP
/// status code, duration, and optionally the response body if `store_response_body` is enabled. Those that run or wait
/// for a retry are listed, too.
#[utoipa::path(
    get, path = "/v1/jobs/{id}/executions", operation_id = "listExecutions", tag = "Executions",
    params(IdInPath<JobId>, PageRequest),
    responses((status = 200, description = "A page of executions.", body = Vec<ExecutionOutput>)),
)]
pub(crate) async fn list(
    State(deps): State<Shared>,
    principal: Principal,
    Id(job): Id<JobId>,
    query: Query,
) -> Result<axum::Json<Page<ExecutionOutput>>, ApiError> {
    let mut issues = Issues::default();
    let request = PageRequest::read(&query, &mut issues);
    let now = deps.clock.now();
    let history = History::of(&deps, principal.account, job, now)?;
    issues.refuse()?;

    let total = history.total;
    let keys = if request.offset() < total { history.keys(&deps, request).await? } else { Vec::new() };
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

/// A job's history, without what is not yet due, as it was in one view.
struct History {
    job: JobId,
    /// How many executions it has.
    total: u64,
    now: Timestamp,
    hidden: HashSet<ExecutionId>,
    /// Of its newest hours, how many executions each has, the hidden ones among them.
    newest: Vec<(JobHour, u64)>,
}

impl History {
    /// What is hidden and how many there are must be of the same view: what is claimed in between would move the pages by one.
    fn of(deps: &Deps, account: AccountId, job: JobId, now: Timestamp) -> Result<Self, ApiError> {
        let found = deps.read(|view| {
            let Some((_, state)) = jobs::load(view, account, job)? else { return Ok(None) };
            let hidden: HashSet<ExecutionId> = not_yet_due(&state, now).collect();
            let hidden_count = u64::try_from(hidden.len()).expect("a job has few open executions");
            let total = state.executions_total.saturating_sub(hidden_count);
            let newest = view.prefix::<ExecutionHours>(&job.0.to_be_bytes(), None, HOURS_AT_ONCE)?;
            Ok(Some(Self { job, total, now, hidden, newest }))
        })?;
        found.ok_or(ApiError::NotFound(JobId::NOUN))
    }

    /// The executions of one page. What lies before it is passed over an hour at a time, so that the last page of a year's
    /// history is as near as the first.
    async fn keys(self, deps: &Deps, request: PageRequest) -> Result<Vec<ExecutionId>, ApiError> {
        let prefix = self.job.0.to_be_bytes();
        let mut skip = request.offset();
        let mut hours = self.newest;
        loop {
            for (hour, count) in &hours {
                let hidden_then = self.hidden.iter().filter(|id| JobHour::of(id) == *hour).count() as u64;
                let shown = count.saturating_sub(hidden_then);
                if skip < shown {
                    let after = Some(hour.threshold());
                    // What is claimed ahead from here on is not in the list of what is hidden.
                    let is_to_come = |id: &ExecutionId| id.is_scheduled() && id.at > self.now;
                    let wanted = |id: &ExecutionId| !self.hidden.contains(id) && !is_to_come(id);
                    return page::keys_behind::<Executions>(
                        deps,
                        &prefix,
                        after,
                        skip,
                        request.len(),
                        wanted,
                    )
                    .await;
                }
                skip -= shown;
            }
            if hours.len() < HOURS_AT_ONCE {
                return Ok(Vec::new());
            }
            let passed = hours.last().map(|(hour, _)| *hour);
            tokio::task::yield_now().await;
            hours =
                deps.read(|view| view.prefix::<ExecutionHours>(&prefix, passed.as_ref(), HOURS_AT_ONCE))?;
        }
    }
}

/// Get an execution.
///
/// One execution, with every attempt, and its diagnosis if one was made.
#[utoipa::path(
    get, path = "/v1/executions/{id}", operation_id = "getExecution", tag = "Executions",
    params(IdInPath<ExecutionId>),
    responses((status = 200, description = "The execution.", body = ExecutionDetail)),
)]
pub(crate) async fn get(
    State(deps): State<Shared>,
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

/// An execution: one firing, through all its attempts.
#[derive(Serialize, ToSchema)]
#[schema(as = Execution)]
pub(crate) struct ExecutionOutput {
    /// Sorts by time. One execution keeps it through all its attempts.
    id: String,
    job_id: String,
    #[schema(value_type = ExecutionStatusWord)]
    status: &'static str,
    /// What the target answered; 503 when it did not within the timeout, null when it could not be reached.
    #[schema(required)]
    status_code: Option<u16>,
    /// Of the last attempt.
    #[schema(required)]
    duration_ms: Option<u64>,
    #[schema(value_type = TriggerWord)]
    triggered_by: &'static str,
    /// The first 64 KiB, if the job stores them.
    #[schema(required)]
    response_body: Option<String>,
    /// Why it failed or was skipped, or what went wrong with the last attempt while another one follows.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<String>,
    #[schema(value_type = String, format = DateTime)]
    executed_at: Rfc3339,
    /// The instant it was due.
    #[schema(value_type = String, format = DateTime)]
    scheduled_at: Rfc3339,
    /// When the attempt that is under way began, or else the last one that was made; to a second while it runs.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    started_at: Option<Rfc3339>,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    finished_at: Option<Rfc3339>,
    /// The attempt that is under way or waits, or the last that was made; 0 when none was.
    attempt: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = ErrorKindWord, required = false)]
    error_kind: Option<&'static str>,
    /// The node that has it or had it last.
    #[schema(required)]
    node_id: Option<u64>,
    /// Present and true when the response was longer than what is stored.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    response_truncated: bool,
    /// On a record of firings that were missed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    missed: Option<MissedOutput>,
}

/// One execution with everything that was tried.
#[derive(Serialize, ToSchema)]
pub(crate) struct ExecutionDetail {
    #[serde(flatten)]
    execution: ExecutionOutput,
    attempts: Vec<AttemptOutput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    diagnosis: Option<DiagnosisOutput>,
}

/// What an assistant made of a failure.
#[derive(Serialize, ToSchema)]
#[schema(as = Diagnosis)]
pub(crate) struct DiagnosisOutput {
    execution_id: String,
    diagnosis: String,
    /// Which model made it.
    model: String,
    #[schema(value_type = String, format = DateTime)]
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

#[derive(Serialize, ToSchema)]
#[schema(as = Attempt)]
struct AttemptOutput {
    /// 1, 2, …
    attempt: u32,
    node_id: u64,
    #[schema(value_type = String, format = DateTime)]
    started_at: Rfc3339,
    #[schema(value_type = String, format = DateTime)]
    finished_at: Rfc3339,
    duration_ms: u64,
    #[schema(required)]
    status_code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = ErrorKindWord, required = false)]
    error_kind: Option<&'static str>,
}

/// Firings missed while the cluster was down; the first of them is `scheduled_at`.
#[derive(Serialize, ToSchema)]
#[schema(as = Missed)]
struct MissedOutput {
    /// How many.
    count: u64,
    /// The last of them.
    #[schema(value_type = String, format = DateTime)]
    until: Rfc3339,
    /// Whether there may be more than were counted.
    exact: bool,
}

impl ExecutionOutput {
    fn new(execution: &Execution, body: Option<ResponseBody>, now: Timestamp) -> Self {
        let last = execution.attempts.last();
        let failure = last.and_then(|attempt| attempt.failure.as_ref());
        let stage = Stage::of(execution, now);
        let began = match stage {
            // What begins later than it was due waited for its place; nobody has written that down yet.
            Stage::Running => Some(execution.due),
            Stage::Pending | Stage::Finished(_) => last.map(|attempt| attempt.started_at),
        };
        let truncated = body.as_ref().is_some_and(|body| body.truncated);
        Self {
            id: execution.id.to_string(),
            job_id: execution.id.job.to_string(),
            status: stage.as_str(),
            status_code: last.and_then(|attempt| attempt.status_code),
            duration_ms: last.map(|attempt| attempt.duration_ms),
            triggered_by: Trigger::as_str(execution.trigger),
            response_body: body.map(|body| body.text),
            error: error(execution, failure),
            executed_at: Rfc3339(last.map_or(execution.scheduled_at, |attempt| attempt.started_at)),
            scheduled_at: Rfc3339(execution.scheduled_at),
            started_at: began.map(Rfc3339),
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

/// How far an execution is.
#[derive(Clone, Copy)]
enum Stage {
    Pending,
    Running,
    Finished(ExecutionStatus),
}

impl Stage {
    /// Claims are made ahead of time: until its instant comes, a claimed execution only waits.
    fn of(execution: &Execution, now: Timestamp) -> Self {
        match execution.state {
            ExecutionState::Pending => Self::Pending,
            ExecutionState::Claimed { .. } if execution.due > now => Self::Pending,
            ExecutionState::Claimed { .. } => Self::Running,
            ExecutionState::Finished { status, .. } => Self::Finished(status),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Running => "running",
            Self::Finished(status) => status.as_str(),
        }
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
    let reason = execution.skip_reason.as_ref().map(|reason| match execution.missed {
        Some(missed) if missed.count > 1 => format!("{reason}: {}", extent(&missed)),
        Some(_) | None => reason.clone(),
    });
    match (execution.status(), reason, failure) {
        (Some(ExecutionStatus::Success), _, _) => None,
        (_, Some(reason), Some(failure)) => Some(format!("{failure}; not tried again: {reason}")),
        (_, reason, failure) => reason.or(failure),
    }
}

/// How many firings one record stands for.
fn extent(missed: &MissedFirings) -> String {
    let at_least = if missed.exact { "" } else { "at least " };
    format!("{at_least}{} firings until {}", missed.count, Rfc3339(missed.until))
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
