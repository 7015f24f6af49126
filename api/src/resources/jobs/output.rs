//! What a client sees of a job.

use crate::openapi::words::{
    DeliveryWord, MethodWord, MisfirePolicyWord, OverlapPolicyWord, ResultWord, RetryPolicyWord, StatusWord,
};
use crate::resources::executions;
use crate::time::Rfc3339;
use domain::execution::ExecutionStatus;
use domain::job::{Delivery, Job, JobState, LastRun, Method, MisfirePolicy, OverlapPolicy, RetryPolicy};
use domain::schedule::Schedule;
use domain::time::Timestamp;
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use utoipa::ToSchema;

/// A job.
#[derive(Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobOutput {
    #[schema(example = "job_7kR3mNxQ2v1")]
    id: String,
    name: String,
    #[schema(example = "0 3 * * *")]
    cron_expression: String,
    url: String,
    #[schema(value_type = MethodWord)]
    method: &'static str,
    /// IANA time zone of the cron expression.
    timezone: String,
    #[schema(value_type = StatusWord)]
    pub(super) status: &'static str,
    /// Seconds a target may take for the whole exchange.
    timeout_sec: u32,
    #[schema(value_type = RetryPolicyWord)]
    retry_policy: &'static str,
    retry_max: u32,
    retry_delay_sec: u32,
    tags: Vec<String>,
    #[schema(required)]
    space_id: Option<String>,
    #[schema(value_type = HashMap<String, String>)]
    headers: Headers,
    #[schema(required)]
    body: Option<String>,
    store_response_body: bool,
    /// When it fires next. Null while the job or its space is paused.
    #[schema(value_type = Option<String>, format = DateTime, required)]
    next_run_at: Option<Rfc3339>,
    #[schema(value_type = Option<String>, format = DateTime, required)]
    last_run_at: Option<Rfc3339>,
    #[schema(value_type = Option<ResultWord>, required)]
    last_status: Option<&'static str>,
    #[schema(required)]
    last_duration_ms: Option<u64>,
    /// Null when the target could not be reached.
    #[schema(required)]
    last_status_code: Option<u16>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Rfc3339,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Rfc3339,
    /// The channels that hear of this job. Null means every channel of the account.
    #[schema(required)]
    alert_channel_ids: Option<Vec<String>>,
    #[schema(value_type = OverlapPolicyWord)]
    overlap_policy: &'static str,
    #[schema(value_type = MisfirePolicyWord)]
    misfire_policy: &'static str,
    #[schema(value_type = DeliveryWord)]
    delivery: &'static str,
    /// Since when it is paused, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = String, format = DateTime, required = false)]
    paused_at: Option<Rfc3339>,
}

/// Headers as an object whose members keep their order.
pub(in crate::resources) struct Headers(pub(in crate::resources) Vec<(String, String)>);

impl Serialize for Headers {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (name, value) in &self.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()
    }
}

impl JobOutput {
    pub(crate) fn new(job: Job, state: &JobState, now: Timestamp) -> Self {
        let last = state.last_run.as_ref();
        let next_run_at = next_run_at(&job, state, now);
        Self {
            id: job.id.to_string(),
            name: job.name,
            cron_expression: job.cron_expression,
            url: job.request.url,
            method: method(job.request.method),
            timezone: job.timezone,
            status: status(state.paused_at.is_some()),
            timeout_sec: job.request.timeout_sec,
            retry_policy: retry_policy(job.retry.policy),
            retry_max: job.retry.max,
            retry_delay_sec: job.retry.delay_sec,
            tags: job.tags,
            space_id: job.space.map(|id| id.to_string()),
            headers: Headers(job.request.headers),
            body: job.request.body,
            store_response_body: job.store_response_body,
            next_run_at: next_run_at.map(Rfc3339),
            last_run_at: last.map(|last| Rfc3339(last.at)),
            last_status: last.map(|last| last.status).map(ExecutionStatus::as_str),
            last_duration_ms: last.map(|last| last.duration_ms),
            last_status_code: last.and_then(|LastRun { status_code, .. }| *status_code),
            created_at: Rfc3339(job.created_at),
            updated_at: Rfc3339(job.updated_at),
            alert_channel_ids: job.alert_channels.map(|ids| ids.iter().map(ToString::to_string).collect()),
            overlap_policy: overlap_policy(job.overlap),
            misfire_policy: misfire_policy(job.misfire),
            delivery: delivery(job.delivery),
            paused_at: state.paused_at.map(Rfc3339),
        }
    }
}

/// A job as an import takes it: what creating one takes, and its status.
#[derive(Serialize, ToSchema)]
pub(super) struct ExportedJob {
    name: String,
    cron_expression: String,
    url: String,
    #[schema(value_type = MethodWord)]
    method: &'static str,
    timezone: String,
    #[schema(value_type = StatusWord)]
    status: &'static str,
    timeout_sec: u32,
    #[schema(value_type = RetryPolicyWord)]
    retry_policy: &'static str,
    retry_max: u32,
    retry_delay_sec: u32,
    tags: Vec<String>,
    #[schema(required)]
    space_id: Option<String>,
    #[schema(value_type = HashMap<String, String>)]
    headers: Headers,
    #[schema(required)]
    body: Option<String>,
    store_response_body: bool,
    #[schema(required)]
    alert_channel_ids: Option<Vec<String>>,
    #[schema(value_type = OverlapPolicyWord)]
    overlap_policy: &'static str,
    #[schema(value_type = MisfirePolicyWord)]
    misfire_policy: &'static str,
    #[schema(value_type = DeliveryWord)]
    delivery: &'static str,
}

impl JobOutput {
    /// Leaves out what another job could not have.
    pub(super) fn exported(self) -> ExportedJob {
        ExportedJob {
            name: self.name,
            cron_expression: self.cron_expression,
            url: self.url,
            method: self.method,
            timezone: self.timezone,
            status: self.status,
            timeout_sec: self.timeout_sec,
            retry_policy: self.retry_policy,
            retry_max: self.retry_max,
            retry_delay_sec: self.retry_delay_sec,
            tags: self.tags,
            space_id: self.space_id,
            headers: self.headers,
            body: self.body,
            store_response_body: self.store_response_body,
            alert_channel_ids: self.alert_channel_ids,
            overlap_policy: self.overlap_policy,
            misfire_policy: self.misfire_policy,
            delivery: self.delivery,
        }
    }
}

/// The next instant at which the job fires.
///
/// The cursor has passed what is claimed already, ahead of its instant. While it rests, nothing fires, and what no longer fits
/// the schedule is going to be skipped.
pub(super) fn next_run_at(job: &Job, state: &JobState, now: Timestamp) -> Option<Timestamp> {
    let cursor = state.next_run_at?;
    let claimed: Vec<_> = executions::not_yet_due(state, now).map(|id| id.at).collect();
    if claimed.is_empty() {
        return Some(cursor);
    }
    let schedule = Schedule::parse(&job.cron_expression, &job.timezone).ok();
    let fits = |at: &Timestamp| schedule.as_ref().is_some_and(|schedule| schedule.is_due(*at));
    Some(claimed.into_iter().filter(fits).fold(cursor, Timestamp::min))
}

/// The job's own status; a paused space does not change it.
pub(crate) fn status(is_paused: bool) -> &'static str {
    if is_paused { "paused" } else { "active" }
}

pub(super) fn method(method: Method) -> &'static str {
    match method {
        Method::Get => "GET",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Patch => "PATCH",
        Method::Delete => "DELETE",
    }
}

pub(crate) fn retry_policy(policy: RetryPolicy) -> &'static str {
    match policy {
        RetryPolicy::None => "none",
        RetryPolicy::Fixed => "fixed",
        RetryPolicy::Linear => "linear",
        RetryPolicy::Exponential => "exponential",
    }
}

pub(crate) fn overlap_policy(policy: OverlapPolicy) -> &'static str {
    match policy {
        OverlapPolicy::Allow => "allow",
        OverlapPolicy::Skip => "skip",
    }
}

pub(crate) fn misfire_policy(policy: MisfirePolicy) -> &'static str {
    match policy {
        MisfirePolicy::RunOnce => "run_once",
        MisfirePolicy::Skip => "skip",
    }
}

pub(crate) fn delivery(delivery: Delivery) -> &'static str {
    match delivery {
        Delivery::AtLeastOnce => "at_least_once",
        Delivery::AtMostOnce => "at_most_once",
    }
}
