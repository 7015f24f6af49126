//! Commands about jobs.

use domain::execution::MissedFirings;
use domain::id::{AccountId, JobId};
use domain::job::{Job, JobState, JobVersion};
use domain::limits;
use domain::schedule::{Missed, Schedule};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A new job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateJob {
    /// The job.
    pub job: Job,
    /// Its first instant; ignored while its space is paused.
    pub next_run_at: Option<Timestamp>,
    /// Whether it starts paused.
    #[serde(default)]
    pub paused: bool,
    /// How many jobs the account's plan allows; `None` means no limit.
    #[serde(default)]
    pub jobs_max: Option<u64>,
}

/// Another configuration for a job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateJob {
    /// The whole new configuration. Its id, account and creation date must be the old ones.
    pub job: Job,
    /// What the change was computed from; refused as stale when the job has moved on.
    pub expected: JobVersion,
    /// The new cursor, after everything claimed so far; ignored while the job or its space is paused.
    pub next_run_at: Option<Timestamp>,
    /// What the old cursor leaves behind, if the schedule is another one.
    #[serde(default)]
    pub overdue: Option<Overdue>,
}

/// Instants of a job that were due and that nobody has claimed, because nobody could: they go on record as skipped
/// before the cursor moves away from them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Overdue {
    /// The first: the cursor.
    pub first: Timestamp,
    /// All of them.
    pub missed: MissedFirings,
}

impl Overdue {
    /// What was due by `now` and nobody has claimed: whoever moves the job's cursor away from it has to say so.
    #[must_use]
    pub fn of(job: &Job, state: &JobState, now: Timestamp) -> Option<Self> {
        let first = state.next_run_at.filter(|cursor| *cursor <= now)?;
        let found = Schedule::parse(&job.cron_expression, &job.timezone)
            .ok()
            .and_then(|schedule| schedule.missed(first, now, limits::MISSED_COUNT_MAX))
            .filter(|found| found.first == first);
        // Should this build's zone data disagree with the cursor, it stands for itself alone.
        let missed = match found {
            Some(Missed { last, count, exact, .. }) => MissedFirings { until: last, count, exact },
            None => MissedFirings { until: first, count: 1, exact: true },
        };
        Some(Self { first, missed })
    }
}

/// A job and its history go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteJob {
    /// Whose it must be.
    pub account: AccountId,
    /// Which.
    pub job: JobId,
}

/// A job stops firing. Refused as stale when its cursor was due and is not what `overdue` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseJob {
    /// Whose it must be.
    pub account: AccountId,
    /// Which.
    pub job: JobId,
    /// When that was asked for.
    #[serde(default)]
    pub at: Timestamp,
    /// What was due by then and nobody has claimed.
    #[serde(default)]
    pub overdue: Option<Overdue>,
}

/// A job fires again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeJob {
    /// Whose it must be.
    pub account: AccountId,
    /// Which.
    pub job: JobId,
    /// What the cursor was computed from; refused as stale when the job has moved on.
    pub expected: JobVersion,
    /// The cursor, after everything claimed so far; ignored while the space is paused.
    pub next_run_at: Option<Timestamp>,
    /// When that was asked for.
    #[serde(default)]
    pub at: Timestamp,
}
