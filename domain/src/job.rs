//! Jobs: what to call and when, and how far they have got.

use crate::execution::{ExecutionStatus, Trigger};
use crate::id::{AccountId, ChannelId, ExecutionId, JobId, SpaceId};
use crate::limits;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How a target is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// The default.
    #[default]
    Get,
    /// With the job's body.
    Post,
    /// With the job's body.
    Put,
    /// With the job's body.
    Patch,
    /// Without a body.
    Delete,
}

impl Method {
    /// Every method with its name, in documented order.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::Get, "GET"),
        (Self::Post, "POST"),
        (Self::Put, "PUT"),
        (Self::Patch, "PATCH"),
        (Self::Delete, "DELETE"),
    ];

    /// Whether a request of this method carries the job's body (documented for POST, PUT, PATCH).
    #[must_use]
    pub fn has_body(self) -> bool {
        match self {
            Self::Post | Self::Put | Self::Patch => true,
            Self::Get | Self::Delete => false,
        }
    }
}

/// The request a firing sends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Where to; its query may hold placeholders.
    pub url: String,
    /// How.
    pub method: Method,
    /// Custom headers in the order given; values may hold placeholders.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// Sent as it is with methods that have a body.
    #[serde(default)]
    pub body: Option<String>,
    /// Seconds for the whole exchange, 1 to 300.
    pub timeout_sec: u32,
}

/// How the wait before a retry grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RetryPolicy {
    /// Not at all: there are no retries.
    #[default]
    None,
    /// Always the base delay.
    Fixed,
    /// The n-th wait is n times the base delay.
    Linear,
    /// The n-th wait is 2^(n-1) times the base delay.
    Exponential,
}

impl RetryPolicy {
    /// Every policy.
    pub const ALL: [Self; 4] = [Self::None, Self::Fixed, Self::Linear, Self::Exponential];
}

/// Whether and when a failed attempt is made again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// How the wait grows.
    pub policy: RetryPolicy,
    /// Retries at most, 0 to 10.
    pub max: u32,
    /// Base delay in seconds.
    pub delay_sec: u32,
}

impl Default for Retry {
    fn default() -> Self {
        Self { policy: RetryPolicy::None, max: 0, delay_sec: limits::RETRY_DELAY_SEC_DEFAULT }
    }
}

/// What happens when a firing is due while the last one still runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlapPolicy {
    /// Both run.
    #[default]
    Allow,
    /// The new one is recorded as skipped.
    Skip,
}

impl OverlapPolicy {
    /// Every policy.
    pub const ALL: [Self; 2] = [Self::Allow, Self::Skip];
}

/// What happens to firings missed while the whole cluster was down.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MisfirePolicy {
    /// The last of them runs now, the others are recorded as skipped.
    #[default]
    RunOnce,
    /// All are recorded as skipped.
    Skip,
}

impl MisfirePolicy {
    /// Every policy.
    pub const ALL: [Self; 2] = [Self::RunOnce, Self::Skip];
}

/// What happens to an execution whose node died while its request may have been under way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Delivery {
    /// It is sent again, with the same execution id and a higher attempt.
    #[default]
    AtLeastOnce,
    /// It fails with `node_lost`.
    AtMostOnce,
}

impl Delivery {
    /// Every guarantee.
    pub const ALL: [Self; 2] = [Self::AtLeastOnce, Self::AtMostOnce];
}

/// What people set: changed only by a request to the API.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its id.
    pub id: JobId,
    /// Whose it is.
    pub account: AccountId,
    /// The group it belongs to.
    #[serde(default)]
    pub space: Option<SpaceId>,
    /// What people call it.
    pub name: String,
    /// Five fields, a nickname or `@every`.
    pub cron_expression: String,
    /// IANA name.
    pub timezone: String,
    /// What a firing sends.
    pub request: Request,
    /// Whether and when a failed attempt is made again.
    #[serde(default)]
    pub retry: Retry,
    /// For finding it.
    #[serde(default)]
    pub tags: Vec<String>,
    /// Whether the history keeps what the target answered.
    #[serde(default)]
    pub store_response_body: bool,
    /// Which channels hear of its outcomes; `None` means every channel of the account.
    #[serde(default)]
    pub alert_channels: Option<Vec<ChannelId>>,
    /// See [`OverlapPolicy`].
    #[serde(default)]
    pub overlap: OverlapPolicy,
    /// See [`MisfirePolicy`].
    #[serde(default)]
    pub misfire: MisfirePolicy,
    /// See [`Delivery`].
    #[serde(default)]
    pub delivery: Delivery,
    /// When it was made.
    pub created_at: Timestamp,
    /// When its configuration was last changed.
    pub updated_at: Timestamp,
}

/// How the last execution that ended went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastRun {
    /// Which one.
    pub execution: ExecutionId,
    /// When its last attempt started.
    pub at: Timestamp,
    /// How it ended.
    pub status: ExecutionStatus,
    /// What the target answered, if it did.
    #[serde(default)]
    pub status_code: Option<u16>,
    /// Milliseconds of its last attempt.
    #[serde(default)]
    pub duration_ms: u64,
}

/// How far a job has got: changed by every firing, and therefore small and stored apart.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobState {
    /// Whose job it is, so that an outcome is counted without reading the configuration.
    #[serde(default)]
    pub account: AccountId,
    /// Rises with every change of the configuration or the pause state. A claim names the
    /// generation it was computed from and is refused when that is no longer the current one.
    pub generation: u64,
    /// Since when the job itself is paused, if it is.
    #[serde(default)]
    pub paused_at: Option<Timestamp>,
    /// The cursor: the next instant to claim. `None` while the job or its space is paused, or when
    /// the schedule has no further instant.
    #[serde(default)]
    pub next_run_at: Option<Timestamp>,
    /// The last instant that was claimed or recorded as missed; the cursor is always after it.
    #[serde(default)]
    pub claimed_until: Option<Timestamp>,
    /// Executions that have not ended, oldest first.
    #[serde(default)]
    pub open: Vec<ExecutionId>,
    /// Executions in the history, ended or not.
    #[serde(default)]
    pub executions_total: u64,
    /// The last one that ended and was not skipped.
    #[serde(default)]
    pub last_run: Option<LastRun>,
}

impl JobState {
    /// Notes a new execution.
    pub fn opened(&mut self, id: ExecutionId) {
        self.open.push(id);
        self.executions_total += 1;
    }

    /// Notes that an execution has ended.
    pub fn closed(&mut self, id: ExecutionId) {
        self.open.retain(|open| *open != id);
    }

    /// The version a change of this job must name.
    #[must_use]
    pub fn version(&self) -> JobVersion {
        JobVersion { generation: self.generation, next_run_at: self.next_run_at }
    }

    /// Whether executions started by `trigger` may run now as far as pauses are concerned;
    /// manual runs always may.
    #[must_use]
    pub fn admits(&self, trigger: Trigger, space_paused: bool) -> bool {
        match trigger {
            Trigger::Manual => true,
            Trigger::Schedule => self.paused_at.is_none() && !space_paused,
        }
    }
}

/// What a change of a job was computed from. The cursor is part of it because the new cursor must
/// lie after everything that has been claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobVersion {
    /// See [`JobState::generation`].
    pub generation: u64,
    /// See [`JobState::next_run_at`].
    pub next_run_at: Option<Timestamp>,
}
