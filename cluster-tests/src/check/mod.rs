//! What we promise. The table is [`PROPERTIES`]; each property has a file, and each file has histories that
//! it must refuse.

pub mod accounted;
pub mod alerts_delivered;
pub mod answered_once;
pub mod as_configured;
pub mod every_firing_once;
pub mod heals;
pub mod history_agrees;
pub mod kept;
pub mod linearizable;
pub mod manual_runs;
pub mod on_time;
pub mod proven;
pub mod quiet;
pub mod replicas_agree;
mod timeline; // when a job must fire
mod violation; // what can be wrong
mod windows; // what is excused when

#[cfg(test)]
pub(crate) mod fixture;

pub use violation::{Instant, Violation};
pub use windows::{
    Skew, Window, back_us, covered_us, disturbed_windows, loss_windows, outage_windows, skews,
};

use crate::{history::History, time::micros};
use std::time::Duration;

/// One promise and the function that reads a history for breaches of it.
#[derive(Debug)]
pub struct Property {
    /// Its file's name.
    pub name: &'static str,
    /// The promise in a sentence.
    pub promise: &'static str,
    /// Finds every breach.
    pub check: fn(&History, &Observation) -> Vec<Violation>,
    /// How much there was to judge by: of nothing, nothing can be said.
    pub judged: fn(&History, &Observation) -> usize,
    /// What is counted there.
    pub unit: &'static str,
}

/// THE TABLE: every property.
pub const PROPERTIES: &[Property] = &[
    Property {
        name: "every_firing_once",
        promise: "every due instant of every acknowledged job is called under one execution id, once, and again \
                  only as the retry of a failure or in place of a node that died; nothing else is called",
        check: every_firing_once::check,
        judged: every_firing_once::judged,
        unit: "calls",
    },
    Property {
        name: "on_time",
        promise: "no call comes before its instant, and none later after it than the run's bounds allow",
        check: on_time::check,
        judged: on_time::judged,
        unit: "instants",
    },
    Property {
        name: "history_agrees",
        promise: "what the API says happened is what the target saw: no success without a call, no answered \
                  call without a success, no failure that the target had no part in, as many attempts as the job \
                  wants, nothing left unfinished",
        check: history_agrees::check,
        judged: history_agrees::judged,
        unit: "executions",
    },
    Property {
        name: "answered_once",
        promise: "a POST that names itself takes effect once however often it is repeated, and every repetition \
                  gets the same answer, byte for byte",
        check: answered_once::check,
        judged: answered_once::judged,
        unit: "answers",
    },
    Property {
        name: "accounted",
        promise: "every due instant is on record: it ran, or it failed or was skipped and the record says why",
        check: accounted::check,
        judged: accounted::judged,
        unit: "due instants",
    },
    Property {
        name: "quiet",
        promise: "a job that was paused or deleted fires nothing that was due later than what was claimed by then",
        check: quiet::check,
        judged: quiet::judged,
        unit: "pauses and deletions",
    },
    Property {
        name: "as_configured",
        promise: "every call goes where the job says at that time: a change that was acknowledged holds",
        check: as_configured::check,
        judged: as_configured::judged,
        unit: "changes",
    },
    Property {
        name: "manual_runs",
        promise: "a run that was asked for and acknowledged is on record once, and was called once but for retries and \
                  deaths; one without an answer at most once; nothing else runs out of schedule",
        check: manual_runs::check,
        judged: manual_runs::judged,
        unit: "runs asked for",
    },
    Property {
        name: "alerts_delivered",
        promise: "every failure and recovery is told to each channel of its job, soon, under one id, the recovery after the \
                  failure; nothing is told that did not happen",
        check: alerts_delivered::check,
        judged: alerts_delivered::judged,
        unit: "messages owed",
    },
    Property {
        name: "kept",
        promise: "what was acknowledged of jobs is what every node shows at the end",
        check: kept::check,
        judged: kept::judged,
        unit: "jobs shown",
    },
    Property {
        name: "linearizable",
        promise: "what is written and read through the API, on any node, looks as if it happened one after the other, \
                  each between its question and its answer",
        check: linearizable::check,
        judged: linearizable::judged,
        unit: "operations",
    },
    Property {
        name: "replicas_agree",
        promise: "every node has the same record of every execution that is over",
        check: replicas_agree::check,
        judged: replicas_agree::judged,
        unit: "executions compared",
    },
    Property {
        name: "heals",
        promise: "within seconds of the end of every fault the cluster is one again",
        check: heals::check,
        judged: heals::judged,
        unit: "faults",
    },
    Property {
        name: "proven",
        promise: "justrun verify finds the histories complete",
        check: proven::check,
        judged: proven::judged,
        unit: "due instants",
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
    /// When a node died, was stopped or cut off, see [`disturbed_windows`].
    pub disturbed: Vec<Window>,
    /// When a process may have been given up for lost, see [`loss_windows`].
    pub losses: Vec<Window>,
    /// When no quorum ran, so that firings may be recorded as missed, see [`outage_windows`].
    pub outages: Vec<Window>,
    /// When the clock of a node was off by less than what counts as wrong.
    pub skews: Vec<Skew>,
    /// How far ahead nodes claim what they will fire: `--claim-ahead-ms`.
    pub claim_ahead: Duration,
    /// What "on time" means in this run.
    pub lateness: Vec<on_time::Bound>,
}

/// The default of `--claim-ahead-ms`: nobody else may start what a node claimed before it died, so instants up to this long
/// after its death belong to it.
pub const CLAIM_AHEAD: Duration = Duration::from_secs(2);
/// From the end of an attempt until its outcome is in the state; and until it has been noticed that a node ended by itself.
const OUTCOME_UNDER_WAY: Duration = Duration::from_secs(1);
/// After a quorum runs again: an election, the nodes' signs of life, and a look at what is due.
const RECOVERY: Duration = Duration::from_secs(15);

impl Observation {
    /// What follows from the history of a cluster of `nodes` with default settings that was looked at until then.
    pub fn of(history: &History, nodes: usize, until_us: i64, grace: Duration) -> Self {
        Self {
            until_us,
            grace,
            disturbed: disturbed_windows(history),
            losses: loss_windows(history),
            outages: outage_windows(history, nodes, RECOVERY),
            skews: skews(history),
            claim_ahead: CLAIM_AHEAD,
            lateness: Vec::new(),
        }
    }

    /// Whether a request that arrived then may have been in flight on a node that died, was stopped or cut off, or its outcome on
    /// its way to the state, if it may take `timeout_sec` seconds.
    fn may_be_lost(&self, arrived_us: i64, timeout_sec: u32) -> bool {
        let lasting_us = micros(Duration::from_secs(u64::from(timeout_sec)) + OUTCOME_UNDER_WAY);
        self.disturbed.iter().any(|window| window.meets(arrived_us, lasting_us))
    }

    /// Whether what was due at an instant may have been given to a node that died or was stopped before that other instant.
    fn may_have_lost(&self, due_us: i64, until_us: i64) -> bool {
        let claimed_us = due_us - micros(self.claim_ahead);
        self.disturbed.iter().any(|window| window.meets(claimed_us, until_us - claimed_us))
    }

    /// Whether anything was done to a node when something was due, or no quorum ran.
    fn is_troubled(&self, due_us: i64) -> bool {
        let mut windows = self.disturbed.iter().chain(&self.losses).chain(&self.outages);
        windows.any(|window| window.meets(due_us, micros(self.claim_ahead)))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        history::{Channel, Event, JobCreated, JobRead, RunAsked, Shown},
        time::SECOND_US,
    };
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
                "as_configured",
                "manual_runs",
                "alerts_delivered",
                "kept",
                "linearizable",
                "replicas_agree",
                "heals",
                "proven"
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

    #[test]
    fn of_nothing_there_is_nothing_to_judge() {
        let observation = fixture::observation(T0_S + 20);
        let judged = |history: &History| -> Vec<usize> {
            PROPERTIES.iter().map(|property| (property.judged)(history, &observation)).collect()
        };
        assert_eq!(judged(&History::default()), [0; 14]);
        let read = JobRead { job: "a".to_owned(), asked_us: (T0_S + 20) * SECOND_US };
        let (node, name, status) = (1, "n".to_owned(), "active".to_owned());
        let shown =
            Shown { node, job: "a".to_owned(), name, configuration: fixture::configuration(), status };
        let lost = fixture::failed("a", T0_S + 6, "y", "http_status");
        let heard = JobCreated { channels: vec!["c".to_owned()], ..job("a") };
        let run = RunAsked { job: "a".to_owned(), key: None, asked_us: T0_S, execution: None };
        let history = History {
            events: vec![
                Event::Channel(Channel { channel: "c".to_owned(), path: "/alerts/ready".to_owned() }),
                Event::JobCreated(heard),
                Event::Call(call("a", T0_S + 5, "x").build()),
                Event::JobRead(read),
                Event::Execution(lost),
                Event::Stopped(fixture::stopped("a", T0_S + 7, None)),
                Event::Edited(fixture::edited("a", T0_S + 6, fixture::configuration(), Some(1))),
                Event::Edited(fixture::edited("a", T0_S + 7, fixture::configuration(), None)),
                Event::RunAsked(run),
                Event::Shown(shown),
                Event::Operation(fixture::create("0", 0, 1)),
            ],
        };
        // The instants from T0-1 to T0+6 must be on record.
        assert_eq!(judged(&history), [1, 1, 1, 0, 8, 1, 1, 1, 1, 1, 1, 0, 0, 0]);
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
