//! What is told to channels.

use super::{ExecutionId, JobId};
use serde::{Deserialize, Serialize};

/// A webhook channel that hears of failures and recoveries of the jobs that name it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Its id.
    pub channel: String,
    /// The path at the target that it calls.
    pub path: String,
}

/// One message that arrived at the target. What it lacks is none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Alert {
    /// When its body had been read.
    pub arrived_us: i64,
    /// The path asked for.
    pub path: String,
    /// `X-JustRun-Delivery`.
    pub delivery: Option<String>,
    /// The envelope's `id`.
    pub id: Option<String>,
    /// The envelope's `type`.
    pub kind: Option<String>,
    /// `data.job_id`.
    pub job: Option<JobId>,
    /// `data.execution_id`.
    pub execution: Option<ExecutionId>,
    /// The status answered.
    pub status: u16,
}

impl Alert {
    /// Whether the sender was told that it has arrived.
    pub fn is_taken(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// A stretch in which the target did not do what is asked of it under `/frail`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Misbehaved {
    /// How.
    pub mode: Mode,
    /// From when on.
    pub from_us: i64,
    /// Until when.
    pub until_us: i64,
}

/// See [`Misbehaved`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Answers 500.
    Fail,
    /// Takes requests and never answers.
    Hang,
    /// Resets connections.
    Refuse,
}
