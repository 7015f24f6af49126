//! What we promise. The table is [`PROPERTIES`]; each property has a file, and each file has histories that
//! it must refuse.

pub mod accounted;
pub mod answered_once;
pub mod every_firing_once;
pub mod history_agrees;
pub mod linearizable;
pub mod on_time;
pub mod quiet;

#[cfg(test)]
mod fixture;

use crate::{
    history::{ExecutionId, Fault, FaultKind, History, JobId},
    time::{SECOND_US, format_rfc3339, micros},
};
use std::{collections::BTreeSet, time::Duration};

/// One promise and the function that reads a history for breaches of it.
#[derive(Debug)]
pub struct Property {
    /// Its file's name.
    pub name: &'static str,
    /// The promise in a sentence.
    pub promise: &'static str,
    /// Finds every breach.
    pub check: fn(&History, &Observation) -> Vec<Violation>,
}

/// THE TABLE: every property.
pub const PROPERTIES: &[Property] = &[
    Property {
        name: "every_firing_once",
        promise: "every due instant of every acknowledged job is called under one execution id, once, and again \
                  only as the retry of a failure or in place of a node that died; nothing else is called",
        check: every_firing_once::check,
    },
    Property {
        name: "on_time",
        promise: "no call comes before its instant, and none later after it than the run's bounds allow",
        check: on_time::check,
    },
    Property {
        name: "history_agrees",
        promise: "what the API says happened is what the target saw: no success without a call, no answered \
                  call without a success, nothing left unfinished",
        check: history_agrees::check,
    },
    Property {
        name: "answered_once",
        promise: "a POST that names itself takes effect once however often it is repeated, and every repetition \
                  gets the same answer, byte for byte",
        check: answered_once::check,
    },
    Property {
        name: "accounted",
        promise: "every due instant is on record: it ran, or it failed or was skipped and the record says why",
        check: accounted::check,
    },
    Property {
        name: "quiet",
        promise: "a job that was paused or deleted fires nothing that was due later than what was claimed by then",
        check: quiet::check,
    },
    Property {
        name: "linearizable",
        promise: "what is written and read through the API, on any node, looks as if it happened one after the other, \
                  each between its question and its answer",
        check: linearizable::check,
    },
];

/// What a checker has to know beside the events.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The end: later instants were not waited for. Microseconds since the Unix epoch, as all times here.
    pub until_us: i64,
    /// Instants this close behind a create's acknowledgement, or this close before the end, need not have
    /// been called yet.
    pub grace: Duration,
    /// When a request may have been in flight on a node that died, was stopped or cut off, see [`disturbed_windows`].
    pub disturbed: Vec<Window>,
    /// When no quorum ran, so that firings may be recorded as missed, see [`outage_windows`].
    pub outages: Vec<Window>,
    /// How far ahead nodes claim what they will fire: `--claim-ahead-ms`.
    pub claim_ahead: Duration,
    /// What "on time" means in this run.
    pub lateness: Vec<on_time::Bound>,
}

/// The default of `--claim-ahead-ms`: nobody else may start what a node claimed before it died, so instants up to this long
/// after its death belong to it.
pub const CLAIM_AHEAD: Duration = Duration::from_secs(2);
/// After a quorum runs again: an election, the nodes' signs of life, and a look at what is due.
const RECOVERY: Duration = Duration::from_secs(15);

impl Observation {
    /// What follows from the history of a cluster of `nodes` with default settings that was looked at until then.
    pub fn of(history: &History, nodes: usize, until_us: i64, grace: Duration) -> Self {
        Self {
            until_us,
            grace,
            disturbed: disturbed_windows(history),
            outages: outage_windows(history, nodes, RECOVERY),
            claim_ahead: CLAIM_AHEAD,
            lateness: Vec::new(),
        }
    }
}

/// A stretch of time, both ends included, in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its start.
    pub from_us: i64,
    /// Its end.
    pub until_us: i64,
}

impl Window {
    /// From `before` an instant to `after` it.
    pub fn around(at_us: i64, before: Duration, after: Duration) -> Self {
        Self { from_us: at_us.saturating_sub(micros(before)), until_us: at_us.saturating_add(micros(after)) }
    }

    /// Whether the instant lies in it.
    pub fn contains(&self, at_us: i64) -> bool {
        (self.from_us..=self.until_us).contains(&at_us)
    }
}

/// For each node that was killed, stopped by a signal or cut off: from one job timeout before, when the oldest request that could
/// still be in flight had left, to five seconds after it died or ran on, when its executions have been given to others.
pub fn disturbed_windows(history: &History) -> Vec<Window> {
    let timeout_sec = history.jobs().map(|job| job.timeout_sec).max().unwrap_or(0);
    let before = Duration::from_secs(u64::from(timeout_sec));
    let ends = |fault: &Fault| match fault.kind {
        FaultKind::Kill => Some(fault.at_us),
        FaultKind::Pause | FaultKind::Cut => Some(back_us(history, fault)),
        FaultKind::Terminate | FaultKind::Resume | FaultKind::Restart | FaultKind::Heal => None,
    };
    let window = |fault: &Fault| {
        let after = Window::around(ends(fault)?, Duration::ZERO, Duration::from_secs(5));
        Some(Window { from_us: Window::around(fault.at_us, before, before).from_us, ..after })
    };
    history.faults().filter_map(window).collect()
}

/// When a node that went away came back, or something else was done to it; never, if it did not.
pub fn back_us(history: &History, away: &Fault) -> i64 {
    let later = history.faults().filter(|fault| fault.node == away.node && fault.at_us > away.at_us);
    later.map(|fault| fault.at_us).min().unwrap_or(i64::MAX)
}

/// When fewer than a majority of `nodes` ran, and `recovery` longer: until then an election and a look at what is due
/// may take.
pub fn outage_windows(history: &History, nodes: usize, recovery: Duration) -> Vec<Window> {
    let mut faults: Vec<_> = history.faults().collect();
    faults.sort_by_key(|fault| fault.at_us);
    let mut down = BTreeSet::new();
    let mut windows = Vec::new();
    let mut since = None;
    for fault in faults {
        match fault.kind {
            FaultKind::Kill | FaultKind::Terminate | FaultKind::Pause | FaultKind::Cut => {
                down.insert(fault.node)
            }
            FaultKind::Resume | FaultKind::Restart | FaultKind::Heal => down.remove(&fault.node),
        };
        let is_out = (nodes - down.len()) * 2 <= nodes;
        match since {
            None if is_out => since = Some(fault.at_us),
            Some(from_us) if !is_out => {
                let until_us = fault.at_us.saturating_add(micros(recovery));
                windows.push(Window { from_us, until_us });
                since = None;
            }
            None | Some(_) => {}
        }
    }
    windows.extend(since.map(|from_us| Window { from_us, until_us: i64::MAX }));
    windows
}

/// When a job must fire: not while it was paused or gone, nor about to be, nor only just back.
struct Fires {
    /// When it need not.
    stopped: Vec<Window>,
}

impl Fires {
    fn of(history: &History, job: &str, grace: Duration) -> Self {
        let grace_us = micros(grace);
        let stops = history.stops().filter(|stopped| stopped.job == job);
        let stopped = stops.map(|stopped| Window {
            from_us: stopped.asked_us - grace_us,
            until_us: stopped.resumed_us.map_or(i64::MAX, |resumed_us| resumed_us + grace_us),
        });
        Self { stopped: stopped.collect() }
    }

    fn at(&self, instant: &Instant) -> bool {
        !self.stopped.iter().any(|window| window.contains(instant.due_us()))
    }
}

/// Checks every property of the table.
pub fn check_all(history: &History, observation: &Observation) -> Vec<Violation> {
    PROPERTIES.iter().flat_map(|property| (property.check)(history, observation)).collect()
}

/// The start of a list of violations and how many there are, for people; none for none.
pub fn report(violations: &[Violation], lines_max: usize) -> Option<String> {
    if violations.is_empty() {
        return None;
    }
    let mut lines = vec![format!("{} violations", violations.len())];
    lines.extend(violations.iter().take(lines_max).map(|violation| format!("  {violation}")));
    if violations.len() > lines_max {
        lines.push(format!("  and {} more", violations.len() - lines_max));
    }
    Some(lines.join("\n"))
}

/// A due instant of a job, in whole seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    /// Whose.
    pub job: JobId,
    /// When.
    pub due_s: i64,
}

impl Instant {
    fn due_us(&self) -> i64 {
        self.due_s * SECOND_US
    }
}

impl std::fmt::Display for Instant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.job, format_rfc3339(self.due_s))
    }
}

/// A breach of a promise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Due, and never called.
    #[error("missing: {0} was never called")]
    Missing(Instant),
    /// Called, and not due: another instant, an unknown job, or one due before the job was made.
    #[error("unasked: {0} was called and is not due")]
    Unasked(Instant),
    /// A call without the headers that say what it is for.
    #[error("unlabelled: a call of {path} lacks {missing}")]
    Unlabelled {
        /// What was called.
        path: String,
        /// The header.
        missing: &'static str,
    },
    /// Called again without an excuse.
    #[error("doubled: {instant} was called again as attempt {attempt} after attempt {earlier}")]
    Doubled {
        /// What was called.
        instant: Instant,
        /// The attempt before.
        earlier: u32,
        /// The one too many.
        attempt: u32,
    },
    /// Two executions of one instant.
    #[error("two ids: {instant} was called as {first} and as {second}")]
    TwoIds {
        /// What was called.
        instant: Instant,
        /// The id of its first call.
        first: ExecutionId,
        /// Another.
        second: ExecutionId,
    },
    /// Two instants of one execution.
    #[error("two instants: {execution} was called for {first} and for {second}")]
    TwoInstants {
        /// The id.
        execution: ExecutionId,
        /// The instant of its first call.
        first: Instant,
        /// Another.
        second: Instant,
    },
    /// Called before its time.
    #[error("early: {instant} was called {early_us} us before its time")]
    Early {
        /// What was called.
        instant: Instant,
        /// By how much.
        early_us: i64,
    },
    /// Later than a bound of the run allows.
    #[error("late: {bound}: {figure} is {found_us} us, allowed are {allowed_us} us (worst: {worst})")]
    Late {
        /// The bound's name.
        bound: String,
        /// `p99` or `max`.
        figure: &'static str,
        /// What was measured.
        found_us: i64,
        /// What the bound says.
        allowed_us: i64,
        /// The latest instant under this bound.
        worst: Instant,
    },
    /// A bound that nothing was measured under says nothing.
    #[error("unmeasured: no call falls under the bound {bound}")]
    Unmeasured {
        /// The bound's name.
        bound: String,
    },
    /// The API reports a success that the target never answered.
    #[error("invented: {0} is a success in the API without an answered call")]
    Invented(ExecutionId),
    /// The target answered well and the API does not say so.
    #[error("forgotten: {execution} was answered well, the API says {shown}")]
    Forgotten {
        /// The id.
        execution: ExecutionId,
        /// Its status in the API, or "nothing".
        shown: String,
    },
    /// Neither finished nor overdue for a reason.
    #[error("unfinished: {execution} of {instant} is still {status}")]
    Unfinished {
        /// The id.
        execution: ExecutionId,
        /// What it is for.
        instant: Instant,
        /// Its status in the API.
        status: String,
    },
    /// Two executions of one instant in the API.
    #[error("two executions: the API shows {first} and {second} for {instant}")]
    TwoExecutions {
        /// What they are for.
        instant: Instant,
        /// One.
        first: ExecutionId,
        /// The other.
        second: ExecutionId,
    },
    /// The API and the call name different instants.
    #[error("misdated: {execution} was called for {called}, the API says {shown}")]
    Misdated {
        /// The id.
        execution: ExecutionId,
        /// Of the call.
        called: Instant,
        /// Of the API.
        shown: Instant,
    },
    /// Two answers to one POST.
    #[error("two answers: {key} was answered {first} and {second}")]
    TwoAnswers {
        /// Its name.
        key: String,
        /// The first answer.
        first: String,
        /// Another.
        second: String,
    },
    /// A POST that was acknowledged has not had the one effect that was answered.
    #[error("not once: {key} was answered with {answered}, the API lists {listed:?}")]
    NotOnce {
        /// Its name.
        key: String,
        /// The job that was answered.
        answered: JobId,
        /// The jobs there are.
        listed: Vec<JobId>,
    },
    /// Nothing on record.
    #[error("unaccounted: the API has no record of {0}")]
    Unaccounted(Instant),
    /// It did not run, and the record does not say why.
    #[error("unexplained: {execution} of {instant} is {status} without a reason")]
    Unexplained {
        /// The id.
        execution: ExecutionId,
        /// What it is for.
        instant: Instant,
        /// Its status in the API.
        status: String,
    },
    /// Recorded as missed while a quorum was there to make it.
    #[error("needlessly skipped: {0} while a quorum ran")]
    NeedlesslySkipped(Instant),
    /// Called though the job was paused or gone.
    #[error("not quiet: {instant} was called, {late_us} us after the job was stopped")]
    NotQuiet {
        /// What was called.
        instant: Instant,
        /// How long after the acknowledgement it was due.
        late_us: i64,
    },
    /// No order of the operations explains the answers.
    #[error(
        "not linearizable: register {register}, first {asked} operations: {operation}; before it the register can only be {}; \
         under way beside it: {}",
        states.join(" or "),
        if beside.is_empty() { "nothing".to_owned() } else { beside.join("; ") }
    )]
    NotLinearizable {
        /// Which.
        register: u64,
        /// The first answer that has no place.
        operation: String,
        /// How many operations that count had been asked by then: these refute by themselves.
        asked: usize,
        /// What the register can have been before that operation, all earlier answers being right.
        states: Vec<String>,
        /// What was not answered yet, and may have taken effect before it or not.
        beside: Vec<String>,
    },
    /// Nobody knows whether a register's operations have an order.
    #[error(
        "undecided: the search for an order of the {operations} operations on register {register} was given up"
    )]
    Undecided {
        /// Which.
        register: u64,
        /// How many there are.
        operations: usize,
    },
    /// The history itself is no use: a schedule that cannot be computed, an answer that does not fit its question.
    #[error("unreadable: {0}")]
    Unreadable(String),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::Event;
    use fixture::{T0_S, call, job};

    #[test]
    fn names_are_the_files_and_all_are_checked() {
        let names: Vec<_> = PROPERTIES.iter().map(|property| property.name).collect();
        assert_eq!(
            names,
            [
                "every_firing_once",
                "on_time",
                "history_agrees",
                "answered_once",
                "accounted",
                "quiet",
                "linearizable"
            ]
        );
        // A history that is wrong in several ways.
        let mut history = History::default();
        history.record(Event::Operation(fixture::create("0", 0, 1)));
        history.record(Event::Operation(fixture::read("1", 2, 3)));
        history.record(Event::JobCreated(job("a")));
        history.record(Event::Call(call("a", T0_S + 5, "x").early(SECOND_US).build()));
        let observation = fixture::observation(T0_S + 20);
        let violations = check_all(&history, &observation);
        assert!(violations.iter().any(|violation| matches!(violation, Violation::Missing(_))));
        assert!(violations.iter().any(|violation| matches!(violation, Violation::Early { .. })));
        assert!(violations.iter().any(|violation| matches!(violation, Violation::NotLinearizable { .. })));
    }

    fn with_faults(faults: &[(u64, FaultKind, i64)]) -> History {
        let mut history = History::default();
        history.record(Event::JobCreated(job("a")));
        for (node, kind, at_s) in faults {
            history.record(Event::Fault(Fault { node: *node, kind: *kind, at_us: at_s * SECOND_US }));
        }
        history
    }

    fn window(from_s: i64, until_s: i64) -> Window {
        Window { from_us: from_s * SECOND_US, until_us: until_s * SECOND_US }
    }

    #[test]
    fn a_kill_disturbs_from_a_timeout_before_to_five_seconds_after() {
        let history = with_faults(&[(1, FaultKind::Kill, 100), (1, FaultKind::Restart, 110)]);
        assert_eq!(disturbed_windows(&history), [window(98, 105)]);
        assert!(window(98, 105).contains(98 * SECOND_US) && window(98, 105).contains(105 * SECOND_US));
        assert!(!window(98, 105).contains(98 * SECOND_US - 1));
        assert!(!window(98, 105).contains(105 * SECOND_US + 1));
    }

    #[test]
    fn a_pause_disturbs_until_after_the_node_runs_on() {
        let history = with_faults(&[
            (1, FaultKind::Pause, 100),
            (2, FaultKind::Terminate, 101),
            (2, FaultKind::Restart, 103),
            (1, FaultKind::Resume, 110),
        ]);
        assert_eq!(disturbed_windows(&history), [window(98, 115)]);
    }

    #[test]
    fn an_outage_is_when_a_majority_is_down() {
        let recovery = Duration::from_secs(10);
        let history = with_faults(&[
            (1, FaultKind::Kill, 100),
            (2, FaultKind::Pause, 101),
            (3, FaultKind::Terminate, 102),
            (3, FaultKind::Restart, 103),
            (2, FaultKind::Resume, 104),
            (1, FaultKind::Restart, 105),
            (2, FaultKind::Kill, 200),
            (2, FaultKind::Restart, 201),
            (2, FaultKind::Kill, 300),
            (3, FaultKind::Kill, 301),
        ]);
        let last = Window { from_us: 301 * SECOND_US, until_us: i64::MAX };
        assert_eq!(outage_windows(&history, 3, recovery), [window(101, 114), last]);
    }

    #[test]
    fn a_report_is_short() {
        assert_eq!(report(&[], 2), None);
        let violation = Violation::Invented("x".to_owned());
        let text = report(&[violation.clone(), violation.clone(), violation], 2).unwrap();
        assert_eq!(text.lines().count(), 4);
        assert!(text.starts_with("3 violations\n") && text.ends_with("and 1 more"));
    }
}
