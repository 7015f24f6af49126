//! Executions: one firing of one job and all its attempts, from claim to outcome.
//!
//! ```text
//!            claim                 success, or nothing left to try
//! Pending ──────────► Claimed ─────────────────────────────────────► Finished
//!    ▲                   │                                              ▲
//!    └───────────────────┘                                              │
//!      retry, release, orphaned (at_least_once)    orphaned (at_most_once), cancelled
//! ```
//!
//! A scheduled firing is born claimed: the claim creates it. Retries, manual runs and orphaned
//! executions wait as pending in the due index until the owner of their shard claims them.

use crate::id::{DeliveryId, ExecutionId, JobId, NodeId};
use crate::job::Delivery;
use crate::limits;
use crate::node::Incarnation;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What started an execution.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// The job's cron expression.
    Schedule,
    /// A request to the API.
    Manual,
}

impl Trigger {
    /// Every trigger.
    pub const ALL: [Self; 2] = [Self::Schedule, Self::Manual];

    /// As the API and the metrics write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Schedule => "schedule",
            Self::Manual => "manual",
        }
    }
}

/// How an execution ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionStatus {
    /// The target answered 2xx in time.
    Success,
    /// The last attempt failed and there is none left.
    Failed,
    /// No request was sent, for the reason given.
    Skipped,
}

impl ExecutionStatus {
    /// Every way to end.
    pub const ALL: [Self; 3] = [Self::Success, Self::Failed, Self::Skipped];

    /// As the API and the metrics write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Skipped => "skipped",
        }
    }
}

/// Why an attempt failed (documented names).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorKind {
    /// The exchange took longer than the job allows.
    Timeout,
    /// No connection, or it broke.
    Connect,
    /// The host name has no address.
    Dns,
    /// The TLS handshake failed.
    Tls,
    /// The target answered something other than 2xx.
    HttpStatus,
    /// The egress policy forbids the target.
    BlockedTarget,
    /// The node died during the attempt.
    NodeLost,
}

impl ErrorKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Timeout,
        Self::Connect,
        Self::Dns,
        Self::Tls,
        Self::HttpStatus,
        Self::BlockedTarget,
        Self::NodeLost,
    ];

    /// As the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connect => "connect",
            Self::Dns => "dns",
            Self::Tls => "tls",
            Self::HttpStatus => "http_status",
            Self::BlockedTarget => "blocked_target",
            Self::NodeLost => "node_lost",
        }
    }
}

/// What went wrong, for people and for programs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// For programs.
    pub kind: ErrorKind,
    /// For people; at most [`limits::ERROR_BYTES_MAX`] bytes.
    pub message: String,
}

/// One request that was sent, or that may have been sent by a node that died.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// 1, 2, …
    pub number: u32,
    /// Who sent it.
    pub node: NodeId,
    /// When it was sent.
    pub started_at: Timestamp,
    /// When it was over.
    pub finished_at: Timestamp,
    /// Milliseconds, by a clock that does not step.
    pub duration_ms: u64,
    /// What the target answered, if it did.
    #[serde(default)]
    pub status_code: Option<u16>,
    /// What went wrong, if something did.
    #[serde(default)]
    pub failure: Option<Failure>,
}

/// Where an execution stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ExecutionState {
    /// Waits in the due index for a claim.
    Pending,
    /// Held by one process, which will send it at its due instant or is sending it.
    Claimed {
        /// Whose process.
        node: NodeId,
        /// Which process.
        incarnation: Incarnation,
    },
    /// Over.
    Finished {
        /// How.
        status: ExecutionStatus,
        /// When.
        at: Timestamp,
    },
}

/// Firings that nobody made while the cluster was down, in one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissedFirings {
    /// The last of them; the first is the execution's `scheduled_at`.
    pub until: Timestamp,
    /// How many.
    pub count: u64,
    /// False when there were more than anyone counted: `count` is then a lower bound.
    pub exact: bool,
}

/// One firing of one job.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Execution {
    /// Its id.
    pub id: ExecutionId,
    /// What started it.
    pub trigger: Trigger,
    /// The instant of the schedule, or when the manual run was asked for.
    pub scheduled_at: Timestamp,
    /// When the current attempt is to start.
    pub due: Timestamp,
    /// Where it stands.
    pub state: ExecutionState,
    /// The number of the current or last attempt, from 1.
    pub attempt: u32,
    /// How many attempts were retries by the job's policy; attempts lost with a node do not count.
    #[serde(default)]
    pub retries: u32,
    /// Attempts that are over, oldest first, at most [`limits::ATTEMPTS_KEPT_MAX`].
    #[serde(default)]
    pub attempts: Vec<Attempt>,
    /// Why it was skipped, if it was.
    #[serde(default)]
    pub skip_reason: Option<String>,
    /// Set on a record of missed firings.
    #[serde(default)]
    pub missed: Option<MissedFirings>,
}

/// The answer to "what came of it", proposed by the process that held the execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// Of which execution.
    pub execution: ExecutionId,
    /// Of which attempt.
    pub attempt: u32,
    /// Who reports it.
    pub node: NodeId,
    /// Under which claim.
    pub incarnation: Incarnation,
    /// What happened.
    pub result: AttemptResult,
}

/// What happened to one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum AttemptResult {
    /// A request was sent.
    Sent {
        /// How it went.
        attempt: Attempt,
        /// What the target answered, when the job keeps it.
        #[serde(default)]
        body: Option<ResponseBody>,
        /// When to try again. Computed by the proposer, so that apply needs no policy.
        #[serde(default)]
        retry_at: Option<Timestamp>,
    },
    /// No request was sent.
    Skipped {
        /// When that was decided.
        at: Timestamp,
        /// Why, for the history.
        reason: String,
    },
}

/// What a target answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResponseBody {
    /// The first [`limits::RESPONSE_BODY_BYTES_MAX`] bytes, decoded lossily.
    pub text: String,
    /// Whether there was more.
    pub truncated: bool,
}

/// What an assistant made of a failed execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diagnosis {
    /// What it said.
    pub text: String,
    /// Which model said it.
    pub model: String,
    /// When.
    pub created_at: Timestamp,
}

/// Why an outcome changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum NotRecorded {
    /// The execution is over: the first outcome recorded wins.
    Finished,
    /// A later attempt is under way, and this one failed: it says nothing new.
    Superseded,
}

/// What became of an execution whose node died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Orphaned {
    /// It is due again.
    Pending,
    /// It has failed with `node_lost`.
    Lost,
}

/// Something in the due index.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum DueItem {
    /// The next instant of a job's schedule.
    Firing(JobId),
    /// A pending execution.
    Execution(ExecutionId),
    /// A message to a channel.
    Delivery(DeliveryId),
}

impl DueItem {
    /// The job it belongs to.
    #[must_use]
    pub fn job(self) -> JobId {
        match self {
            Self::Firing(job) => job,
            Self::Execution(id) => id.job,
            Self::Delivery(id) => id.execution.job,
        }
    }
}

impl Execution {
    /// A scheduled firing, claimed by the process that will send it at `due`.
    ///
    /// `due` is the instant itself, or the present for one that is made up for.
    #[must_use]
    pub fn scheduled(id: ExecutionId, due: Timestamp, node: NodeId, incarnation: Incarnation) -> Self {
        Self {
            id,
            trigger: Trigger::Schedule,
            scheduled_at: id.at,
            due,
            state: ExecutionState::Claimed { node, incarnation },
            attempt: 1,
            retries: 0,
            attempts: Vec::new(),
            skip_reason: None,
            missed: None,
        }
    }

    /// A run that somebody asked for, due at once.
    #[must_use]
    pub fn manual(id: ExecutionId) -> Self {
        Self {
            id,
            trigger: Trigger::Manual,
            scheduled_at: id.at,
            due: id.at,
            state: ExecutionState::Pending,
            attempt: 1,
            retries: 0,
            attempts: Vec::new(),
            skip_reason: None,
            missed: None,
        }
    }

    /// The record of firings that nobody made.
    #[must_use]
    pub fn missed(id: ExecutionId, missed: MissedFirings, at: Timestamp, reason: String) -> Self {
        Self {
            id,
            trigger: Trigger::Schedule,
            scheduled_at: id.at,
            due: id.at,
            state: ExecutionState::Finished { status: ExecutionStatus::Skipped, at },
            attempt: 0,
            retries: 0,
            attempts: Vec::new(),
            skip_reason: Some(reason),
            missed: Some(missed),
        }
    }

    /// How it ended, if it has.
    #[must_use]
    pub fn status(&self) -> Option<ExecutionStatus> {
        match self.state {
            ExecutionState::Finished { status, .. } => Some(status),
            ExecutionState::Pending | ExecutionState::Claimed { .. } => None,
        }
    }

    /// Whether this process holds it.
    #[must_use]
    pub fn is_held_by(&self, by_node: NodeId, by_incarnation: Incarnation) -> bool {
        match self.state {
            ExecutionState::Claimed { node, incarnation } => node == by_node && incarnation == by_incarnation,
            ExecutionState::Pending | ExecutionState::Finished { .. } => false,
        }
    }

    /// Gives a pending execution to a process. False when it is not pending.
    pub fn claim(&mut self, node: NodeId, incarnation: Incarnation) -> bool {
        match self.state {
            ExecutionState::Pending => {
                self.state = ExecutionState::Claimed { node, incarnation };
                true
            }
            ExecutionState::Claimed { .. } | ExecutionState::Finished { .. } => false,
        }
    }

    /// Gives back what was claimed and never started, for others to claim.
    /// False when the process does not hold it.
    pub fn release(&mut self, node: NodeId, incarnation: Incarnation) -> bool {
        let held = self.is_held_by(node, incarnation);
        if held {
            self.state = ExecutionState::Pending;
        }
        held
    }

    /// Takes the execution from a process that is gone. `None` when it holds no claim.
    ///
    /// `its_clock` is the latest instant that the clock of that process may have shown. If that was before the instant
    /// of the execution, no request can have been sent, and the same attempt is due again. Otherwise one may have
    /// been: that attempt is over, and `delivery` decides.
    pub fn orphan(&mut self, at: Timestamp, its_clock: Timestamp, delivery: Delivery) -> Option<Orphaned> {
        let ExecutionState::Claimed { node, .. } = self.state else { return None };
        if its_clock < self.due {
            self.state = ExecutionState::Pending;
            return Some(Orphaned::Pending);
        }
        // By the clocks of others its instant may be yet to come.
        let at = at.max(self.due);
        self.push_attempt(Attempt {
            number: self.attempt,
            node,
            started_at: self.due,
            finished_at: at,
            duration_ms: u64::try_from(at.since(self.due).as_millis()).unwrap_or(u64::MAX),
            status_code: None,
            failure: Some(Failure {
                kind: ErrorKind::NodeLost,
                message: format!("Node {node} was lost while it held the execution"),
            }),
        });
        match delivery {
            Delivery::AtLeastOnce => {
                self.attempt += 1;
                self.due = at;
                self.state = ExecutionState::Pending;
                Some(Orphaned::Pending)
            }
            Delivery::AtMostOnce => {
                self.state = ExecutionState::Finished { status: ExecutionStatus::Failed, at };
                Some(Orphaned::Lost)
            }
        }
    }

    /// Records what came of an attempt.
    ///
    /// The first outcome wins. A success of an attempt that was given up as lost still counts while
    /// the execution is open; a failure of such an attempt does not, since a later one is on its way.
    ///
    /// # Errors
    /// [`NotRecorded`] when the outcome changes nothing.
    pub fn record(&mut self, outcome: &Outcome) -> Result<(), NotRecorded> {
        if self.status().is_some() {
            return Err(NotRecorded::Finished);
        }
        let held = self.is_held_by(outcome.node, outcome.incarnation) && self.attempt == outcome.attempt;
        match &outcome.result {
            AttemptResult::Sent { attempt, retry_at, .. } => {
                let failed = attempt.failure.is_some();
                if !held && failed {
                    return Err(NotRecorded::Superseded);
                }
                // The lost attempt's own record gives way to what really happened.
                self.attempts.retain(|known| known.number != attempt.number);
                self.push_attempt(attempt.clone());
                match retry_at.filter(|_| failed) {
                    Some(due) => {
                        self.attempt += 1;
                        self.retries += 1;
                        self.due = due;
                        self.state = ExecutionState::Pending;
                    }
                    None => {
                        let status = if failed { ExecutionStatus::Failed } else { ExecutionStatus::Success };
                        self.state = ExecutionState::Finished { status, at: attempt.finished_at };
                    }
                }
            }
            AttemptResult::Skipped { at, reason } => {
                if !held {
                    return Err(NotRecorded::Superseded);
                }
                self.cancel(*at, reason.clone());
            }
        }
        Ok(())
    }

    /// Ends an execution without sending anything more: skipped if nothing was ever sent, failed as
    /// its last attempt did otherwise.
    pub fn cancel(&mut self, at: Timestamp, reason: String) {
        let status =
            if self.attempts.is_empty() { ExecutionStatus::Skipped } else { ExecutionStatus::Failed };
        self.skip_reason = Some(reason);
        self.state = ExecutionState::Finished { status, at };
    }

    fn push_attempt(&mut self, attempt: Attempt) {
        if self.attempts.len() >= limits::ATTEMPTS_KEPT_MAX {
            self.attempts.remove(0);
        }
        self.attempts.push(attempt);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: NodeId = NodeId(2);
    const INCARNATION: Incarnation = Incarnation(7);

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn claimed() -> Execution {
        let id = ExecutionId::scheduled(JobId(1), at(100));
        Execution::scheduled(id, at(100), NODE, INCARNATION)
    }

    fn sent(attempt: u32, failed: bool, retry_at: Option<Timestamp>) -> Outcome {
        Outcome {
            execution: ExecutionId::scheduled(JobId(1), at(100)),
            attempt,
            node: NODE,
            incarnation: INCARNATION,
            result: AttemptResult::Sent {
                attempt: Attempt {
                    number: attempt,
                    node: NODE,
                    started_at: at(100),
                    finished_at: at(101),
                    duration_ms: 1_000,
                    status_code: Some(if failed { 500 } else { 200 }),
                    failure: failed
                        .then(|| Failure { kind: ErrorKind::HttpStatus, message: "HTTP 500".to_owned() }),
                },
                body: None,
                retry_at,
            },
        }
    }

    #[test]
    fn a_success_ends_it_and_nothing_after_counts() {
        let mut execution = claimed();
        assert_eq!(execution.record(&sent(1, false, None)), Ok(()));
        assert_eq!(execution.status(), Some(ExecutionStatus::Success));
        assert_eq!(execution.record(&sent(1, true, None)), Err(NotRecorded::Finished));
        assert_eq!(execution.status(), Some(ExecutionStatus::Success));
    }

    #[test]
    fn a_failure_with_a_retry_is_due_again() {
        let mut execution = claimed();
        execution.record(&sent(1, true, Some(at(160)))).unwrap();
        assert_eq!(execution.state, ExecutionState::Pending);
        assert_eq!((execution.due, execution.attempt, execution.retries), (at(160), 2, 1));
        assert!(execution.claim(NodeId(3), Incarnation(9)));
        assert_eq!(execution.record(&sent(1, true, None)), Err(NotRecorded::Superseded));
    }

    #[test]
    fn a_failure_without_a_retry_ends_it() {
        let mut execution = claimed();
        execution.record(&sent(1, true, None)).unwrap();
        assert_eq!(execution.status(), Some(ExecutionStatus::Failed));
        assert!(!execution.claim(NODE, INCARNATION));
    }

    #[test]
    fn an_orphan_that_may_have_been_sent_is_a_new_attempt() {
        let mut execution = claimed();
        assert_eq!(execution.orphan(at(103), at(103), Delivery::AtLeastOnce), Some(Orphaned::Pending));
        assert_eq!((execution.attempt, execution.retries, execution.due), (2, 0, at(103)));
        assert_eq!(execution.attempts[0].failure.as_ref().unwrap().kind, ErrorKind::NodeLost);
        assert_eq!(execution.orphan(at(104), at(104), Delivery::AtLeastOnce), None, "nobody holds it");
    }

    #[test]
    fn an_orphan_whose_instant_has_not_come_keeps_its_attempt() {
        for delivery in [Delivery::AtLeastOnce, Delivery::AtMostOnce] {
            let mut execution = claimed();
            assert_eq!(execution.orphan(at(99), at(99), delivery), Some(Orphaned::Pending));
            assert_eq!((execution.attempt, execution.due), (1, at(100)));
            assert!(execution.attempts.is_empty());
        }
    }

    #[test]
    fn an_orphan_of_a_process_whose_clock_was_ahead_may_have_been_sent() {
        let mut execution = claimed();
        assert_eq!(execution.orphan(at(98), at(100), Delivery::AtMostOnce), Some(Orphaned::Lost));
        let mut execution = claimed();
        assert_eq!(execution.orphan(at(98), at(101), Delivery::AtLeastOnce), Some(Orphaned::Pending));
        assert_eq!((execution.attempt, execution.due), (2, at(100)), "again, and not before its instant");
    }

    #[test]
    fn at_most_once_fails_rather_than_repeats() {
        let mut execution = claimed();
        assert_eq!(execution.orphan(at(103), at(103), Delivery::AtMostOnce), Some(Orphaned::Lost));
        assert_eq!(execution.status(), Some(ExecutionStatus::Failed));
    }

    #[test]
    fn a_late_success_of_a_lost_attempt_counts_once() {
        let mut execution = claimed();
        execution.orphan(at(103), at(103), Delivery::AtLeastOnce);
        execution.claim(NodeId(3), Incarnation(9));
        assert_eq!(execution.record(&sent(1, false, None)), Ok(()));
        assert_eq!(execution.status(), Some(ExecutionStatus::Success));
        assert_eq!(execution.attempts.len(), 1, "the guess gave way to the fact");
    }

    #[test]
    fn a_release_keeps_the_attempt_and_needs_the_holder() {
        let mut execution = claimed();
        assert!(!execution.release(NODE, Incarnation(8)));
        assert!(execution.release(NODE, INCARNATION));
        assert_eq!((execution.state.clone(), execution.attempt), (ExecutionState::Pending, 1));
    }

    #[test]
    fn cancelling_after_an_attempt_is_a_failure() {
        let mut execution = claimed();
        execution.cancel(at(100), "the job is paused".to_owned());
        assert_eq!(execution.status(), Some(ExecutionStatus::Skipped));
        let mut execution = claimed();
        execution.record(&sent(1, true, Some(at(160)))).unwrap();
        execution.cancel(at(120), "the job is paused".to_owned());
        assert_eq!(execution.status(), Some(ExecutionStatus::Failed));
    }

    #[test]
    fn the_history_of_attempts_is_bounded() {
        let mut execution = claimed();
        for _ in 0..100 {
            execution.orphan(at(200), at(200), Delivery::AtLeastOnce);
            execution.claim(NODE, INCARNATION);
        }
        assert_eq!(execution.attempts.len(), limits::ATTEMPTS_KEPT_MAX);
        assert_eq!(execution.attempt, 101);
    }
}
