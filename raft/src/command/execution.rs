//! Commands about executions.

use domain::execution::MissedFirings;
use domain::id::{AccountId, DeliveryId, ExecutionId, JobId, NodeId};
use domain::node::Incarnation;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A process takes something that is or becomes due. Refused unless the process is live.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Whose process.
    pub node: NodeId,
    /// Which process.
    pub incarnation: Incarnation,
    /// What it takes.
    pub target: ClaimTarget,
}

/// What a claim takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClaimTarget {
    /// The next instant of a job: a compare-and-swap of its cursor.
    Firing {
        /// The job.
        job: JobId,
        /// The generation this was computed from.
        generation: u64,
        /// The instant; must be the cursor.
        scheduled_at: Timestamp,
        /// The new cursor.
        next_run_at: Option<Timestamp>,
    },
    /// Instants of a job that nobody claimed in time: a compare-and-swap of its cursor.
    Missed {
        /// The job.
        job: JobId,
        /// The generation this was computed from.
        generation: u64,
        /// The first missed instant; must be the cursor.
        first: Timestamp,
        /// Recorded as skipped from `first` on, unless the only missed instant is to run.
        skipped: Option<MissedFirings>,
        /// The missed instant that is made up for now.
        run: Option<Timestamp>,
        /// When the run is due: the present.
        run_due: Timestamp,
        /// The new cursor, in the future.
        next_run_at: Option<Timestamp>,
    },
    /// A message to a channel.
    Delivery {
        /// Which.
        id: DeliveryId,
        /// The attempt the claimer means to make; refused when it is another one's turn.
        attempt: u32,
    },
    /// A pending execution.
    Execution {
        /// Which.
        id: ExecutionId,
        /// The attempt the claimer means to make; refused when it is another one's turn.
        attempt: u32,
    },
}

/// A process gives back what it has not started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Whose process.
    pub node: NodeId,
    /// Which process.
    pub incarnation: Incarnation,
    /// What it gives back.
    pub execution: ExecutionId,
}

/// A run out of schedule, due at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunJob {
    /// Whose job it must be.
    pub account: AccountId,
    /// The run; holds the job.
    pub execution: ExecutionId,
}

/// History of deleted jobs goes, at most [`domain::limits::SWEEP_MAX`] records at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// A job that was deleted.
    pub job: JobId,
}

/// History that is older than the account's plan keeps goes, at most [`domain::limits::SWEEP_MAX`] records at
/// a time. What has not ended stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prune {
    /// Of which job.
    pub job: JobId,
    /// Executions before this instant go.
    pub before: Timestamp,
}
