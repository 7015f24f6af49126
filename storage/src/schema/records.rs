//! Values that belong to the state as a whole and to no noun of the domain.

use domain::id::{DeliveryId, JobId};
use domain::node::{FeatureLevel, SessionId};
use domain::time::{Month, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Facts about the state as a whole, in one record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Meta {
    /// The latest instant a command was applied at; the state's clock never runs backwards.
    #[serde(default)]
    pub now: Timestamp,
    /// The last incarnation given out.
    #[serde(default)]
    pub last_incarnation: u64,
    /// Whether there has been a first account.
    #[serde(default)]
    pub bootstrapped: bool,
    /// Jobs that are not paused themselves.
    #[serde(default)]
    pub jobs_active: u64,
    /// Jobs that are.
    #[serde(default)]
    pub jobs_paused: u64,
    /// Alert channels of all accounts. Without any, an outcome need not look for them.
    #[serde(default)]
    pub channels: u64,
    /// Those that are told of every execution.
    #[serde(default)]
    pub channels_of_all: u64,
    /// Whether a backup is being restored: the state holds some of it, and nothing else may change. See [`Restore`].
    #[serde(default)]
    pub restoring: bool,
    /// What the cluster can do. Never falls.
    #[serde(default, skip_serializing_if = "FeatureLevel::is_first")]
    pub level: FeatureLevel,
}

/// A backup that is being restored. Goes with the last step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restore {
    /// Which one: the number that its file has by what is in it.
    pub backup: u64,
    /// How many parts it has.
    pub parts: u64,
    /// Since when.
    pub begun_at: Timestamp,
    /// How far it has got.
    pub stage: RestoreStage,
}

/// How far a restore has got. Each stage is taken in steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreStage {
    /// What was there goes.
    Clearing,
    /// The parts of the file come in, one after the other.
    Filling {
        /// The next one, from 0.
        next: u64,
    },
    /// Jobs and their unfinished executions take their places in the due index.
    Jobs {
        /// The last one that has.
        after: Option<JobId>,
    },
    /// Messages on their way do.
    Deliveries {
        /// The last one that has.
        after: Option<DeliveryId>,
    },
}

/// What only the nodes may know.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Secrets {
    /// What session tokens are signed with; 32 random bytes.
    pub session_key: Vec<u8>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets(…)")
    }
}

/// A node that does not belong to the cluster any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RemovedNode {
    /// Since when.
    pub removed_at: Timestamp,
}

/// The answer to a request that named itself with an idempotency key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// SHA-256 of the request.
    pub request: [u8; 32],
    /// What whoever proposed wants to remember of its answer.
    pub memo: Vec<u8>,
    /// The encoded replies to the commands that were applied with it.
    pub replies: Vec<u8>,
    /// When it is forgotten.
    pub expires_at: Timestamp,
}

/// The proposals of one process that have been applied, and what was answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// The process.
    pub session: SessionId,
    /// Everything below is over and forgotten.
    pub acknowledged_below: u64,
    /// The encoded replies by sequence.
    pub replies: BTreeMap<u64, Vec<u8>>,
}

/// What an account has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// How many jobs.
    #[serde(default)]
    pub jobs: u64,
    /// Which month `executions` counts.
    #[serde(default)]
    pub month: Month,
    /// Executions that ended in that month, skipped ones left out.
    #[serde(default)]
    pub executions: u64,
    /// Which day `diagnoses` counts, in days since the Unix epoch.
    #[serde(default)]
    pub day: u64,
    /// Diagnoses made on that day.
    #[serde(default)]
    pub diagnoses: u64,
}

impl Usage {
    /// Executions that ended in the month of `now`.
    #[must_use]
    pub fn executions_in_month_of(&self, now: Timestamp) -> u64 {
        if self.month == now.month() { self.executions } else { 0 }
    }

    /// Diagnoses made on the day of `now`.
    #[must_use]
    pub fn diagnoses_on_day_of(&self, now: Timestamp) -> u64 {
        if self.day == now.as_days() { self.diagnoses } else { 0 }
    }
}
