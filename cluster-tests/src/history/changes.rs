//! What users do to jobs, and what the API shows of it.

use super::{ExecutionId, JobId};
use serde::{Deserialize, Serialize};

/// What a call of a job depends on, and users change.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    /// The cron expression.
    pub expression: String,
    /// The IANA time zone that it is meant in.
    pub timezone: String,
    /// The path at the target.
    pub path: String,
    /// Seconds that an attempt may take.
    pub timeout_sec: u32,
}

/// A change of a job's configuration. One that the API refused has no effect and is not in the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edited {
    /// Whose.
    pub job: JobId,
    /// All of it, as it is afterwards.
    pub to: Configuration,
    /// When the first request left: from here on it may hold.
    pub asked_us: i64,
    /// When it was known to hold, by an acknowledgement or because the API showed it. None if nobody ever was told: it may
    /// take effect at any time since, or never.
    pub acknowledged_us: Option<i64>,
}

/// A stretch in which a job must not fire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stopped {
    /// Which.
    pub job: JobId,
    /// How.
    pub how: Stop,
    /// When the first request to pause or delete it left: from here on it need not fire.
    pub asked_us: i64,
    /// When the API had acknowledged one: from here on, but for what was claimed before, it must not. `i64::MAX` if the run ended
    /// before it had.
    pub acknowledged_us: i64,
    /// When the first request to resume it left: from here on it may fire again. None for ever.
    pub resume_asked_us: Option<i64>,
    /// When that was acknowledged: from here on it must.
    pub resumed_us: Option<i64>,
}

/// See [`Stopped`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stop {
    /// It is there and does nothing by itself.
    Paused,
    /// It is gone.
    Deleted,
}

/// Somebody asked for a run out of schedule. One that the API refused has no effect and is not in the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunAsked {
    /// Of which job.
    pub job: JobId,
    /// The request's name, if it has one; it was then repeated until it was answered.
    pub key: Option<String>,
    /// When the first request left.
    pub asked_us: i64,
    /// The execution of the answer. None if there was none: it may run, or not.
    pub execution: Option<ExecutionId>,
}

/// A node was asked for all its jobs at the end of the run, and answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownBy {
    /// Which.
    pub node: u64,
    /// When it was asked.
    pub asked_us: i64,
}

/// One job as one node shows it at the end of the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shown {
    /// The node that was asked.
    pub node: u64,
    /// Which job.
    pub job: JobId,
    /// Its name.
    pub name: String,
    /// What it is to do.
    pub configuration: Configuration,
    /// `active` or `paused`.
    pub status: String,
}
