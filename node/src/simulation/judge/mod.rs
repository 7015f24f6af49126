//! What must hold of every run. THE LIST: one file a group of promises.

mod end; // how a run ends
mod instants; // what is due, and what accounts for it
mod requests; // what the target hears

use super::facts::{Dated, Fact, Sent};
use super::plan::{Disk, JobPlan, Plan, Step};
use super::run::Ran;
use domain::execution::{AttemptResult, Outcome};
use domain::id::{ExecutionId, JobId, NodeId};
use domain::node::SessionId;
use raft::command::{Command, Reply};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

/// How long after the last trouble everything is as if there had been none.
const RECOVERS_FOR: Duration = Duration::from_secs(12);
/// How long the others need to go on without one that was killed.
const FAILS_OVER_FOR: Duration = Duration::from_secs(7);

/// A promise that was broken.
#[derive(Clone, Debug)]
pub(super) struct Violation {
    pub(super) promise: Promise,
    pub(super) text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Promise {
    /// A due instant that nothing accounts for, or that is accounted for in the wrong way.
    EveryInstantAccountedFor,
    /// A request left before its instant, or late though nothing was wrong.
    OnTime,
    /// An attempt was sent twice.
    EachAttemptOnce,
    /// What a dead process held was not taken from it in time.
    OrphansGoOn,
    /// A job that is to be sent at most once was sent again.
    AtMostOnce,
    /// A request left for what its process did not hold.
    OnlyWhatIsHeld,
    /// A request left although its job was paused or deleted.
    Quiet,
    /// What the target answered is not in the state, or the state says what it did not answer.
    OutcomesAgree,
    /// Something was skipped that should not have been.
    SkipsHaveReasons,
    /// An acknowledged wish is not in the log.
    AcknowledgedIsDone,
    /// Replicas differ.
    ReplicasAgree,
    /// Records and indexes of the state contradict each other.
    StateIsSound,
    /// After everything healed something is left undone.
    Heals,
    /// A process ended by itself.
    NobodyFails,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}: {}", self.promise, self.text)
    }
}

/// All that was broken in a run.
pub(super) fn judge(ran: &Ran) -> Vec<Violation> {
    let story = Story::of(ran);
    let mut found = Vec::new();
    found.extend(instants::check(&story));
    found.extend(requests::check(&story));
    found.extend(end::check(&story));
    found
}

fn broken(promise: Promise, text: impl Into<String>) -> Violation {
    Violation { promise, text: text.into() }
}

/// A run, sorted for those who judge it.
struct Story<'a> {
    ran: &'a Ran,
    plan: &'a Plan,
    /// Outcomes that were proposed, whatever came of it.
    outcomes: BTreeMap<(ExecutionId, u32), Vec<(&'a Outcome, &'a Reply)>>,
    sent: Vec<(Duration, &'a Sent)>,
    /// Processes that were killed.
    killed: BTreeSet<(NodeId, SessionId)>,
    /// Trouble, with the time that it takes to get over it.
    troubles: Vec<(Duration, Duration)>,
}

impl<'a> Story<'a> {
    fn of(ran: &'a Ran) -> Self {
        let mut story = Self {
            ran,
            plan: &ran.plan,
            outcomes: BTreeMap::new(),
            sent: Vec::new(),
            killed: BTreeSet::new(),
            troubles: vec![(Duration::ZERO, super::plan::CALM_START)],
        };
        for (at, fact) in &ran.facts {
            match fact {
                Fact::Applied { command, reply, .. } => {
                    if let Command::Record(outcome) = command.as_ref() {
                        let key = (outcome.execution, outcome.attempt);
                        story.outcomes.entry(key).or_default().push((outcome.as_ref(), reply));
                    }
                }
                Fact::Sent(sent) => story.sent.push((*at, sent)),
                Fact::Gone { node, session, drained: false } => {
                    story.killed.insert((*node, *session));
                }
                Fact::Step(step) if is_trouble(step) => {
                    story.troubles.extend(trouble(&ran.plan, *at, step));
                }
                Fact::Ended { .. } => story.troubles.push((*at, *at + RECOVERS_FOR)),
                _ => {}
            }
        }
        story
    }

    fn facts(&self) -> &'a [Dated] {
        &self.ran.facts
    }

    fn job(&self, id: JobId) -> &'a JobPlan {
        self.plan.jobs.iter().find(|job| job.id == id).expect("every job is of the plan")
    }

    /// Whether nothing was wrong in a span of the run.
    fn is_calm(&self, from: Duration, to: Duration) -> bool {
        self.troubles.iter().all(|(began, over)| to < *began || from > *over)
    }

    /// Whether a node may start without its disk and with a clock that is behind where it was.
    fn is_past_forgotten(&self) -> bool {
        let has = |is: fn(&Step) -> bool| self.plan.steps.iter().any(|(_, step)| is(step));
        has(|step| matches!(step, Step::Kill { disk: Disk::Lost, .. }))
            && has(|step| matches!(step, Step::Skew { .. }))
    }

    /// Whether there was any trouble.
    fn has_trouble(&self) -> bool {
        self.plan.steps.iter().any(|(_, step)| is_trouble(step))
    }
}

/// The spans in which a step may make things late.
fn trouble(plan: &Plan, at: Duration, step: &Step) -> Vec<(Duration, Duration)> {
    let is_only = plan.steps.iter().filter(|(_, step)| is_trouble(step)).count() == 1;
    match step {
        // The others must go on without it.
        Step::Kill { down_ms, .. } if is_only && plan.nodes > 1 => {
            let back = (at + Duration::from_millis(*down_ms)).min(plan.heals_at);
            vec![(at, at + FAILS_OVER_FOR), (back, back + RECOVERS_FOR)]
        }
        _ => vec![(at, plan.heals_at + RECOVERS_FOR)],
    }
}

/// Whether something is wrong after a step, other than that somebody wants something.
fn is_trouble(step: &Step) -> bool {
    match step {
        Step::Create { .. }
        | Step::Update { .. }
        | Step::Pause { .. }
        | Step::Resume { .. }
        | Step::Delete { .. }
        | Step::RunNow { .. } => false,
        Step::Kill { disk: Disk::Whole | Disk::Older | Disk::Lost, .. }
        | Step::KillAll { .. }
        | Step::Freeze { .. }
        | Step::Isolate { .. }
        | Step::CutOneWay { .. }
        | Step::Slow { .. }
        | Step::Lossy { .. }
        | Step::Skew { .. }
        | Step::Drain { .. }
        | Step::DrainAll { .. }
        | Step::Transfer
        | Step::Reload { .. } => true,
    }
}

/// Whether an outcome makes another attempt due.
pub(super) fn is_retried(outcome: &Outcome) -> bool {
    matches!(&outcome.result, AttemptResult::Sent { retry_at: Some(_), attempt, .. } if attempt.failure.is_some())
}
