//! What we promise. The table is [`PROPERTIES`]; each property has a file, and each file has histories that
//! it must refuse.

pub mod accounted;
pub mod alerts_delivered;
pub mod answered_once;
pub mod as_configured;
pub mod every_firing_once;
pub mod history_agrees;
pub mod kept;
pub mod linearizable;
pub mod manual_runs;
pub mod on_time;
pub mod quiet;
mod timeline; // when a job must fire
mod violation; // what can be wrong
mod windows; // what is excused when

#[cfg(test)]
mod fixture;

pub use violation::{Instant, Violation};
pub use windows::{Window, back_us, disturbed_windows, outage_windows};

use crate::history::History;
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
                  call without a success, no failure that the target had no part in, as many attempts as the job \
                  wants, nothing left unfinished",
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
        name: "as_configured",
        promise: "every call goes where the job says at that time: a change that was acknowledged holds",
        check: as_configured::check,
    },
    Property {
        name: "manual_runs",
        promise: "a run that was asked for and acknowledged is on record once, and was called once but for retries and \
                  deaths; one without an answer at most once; nothing else runs out of schedule",
        check: manual_runs::check,
    },
    Property {
        name: "alerts_delivered",
        promise: "every failure and recovery is told to each channel of its job, soon, under one id, the recovery after the \
                  failure; nothing is told that did not happen",
        check: alerts_delivered::check,
    },
    Property {
        name: "kept",
        promise: "what was acknowledged of jobs is what every node shows at the end",
        check: kept::check,
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
    use crate::{history::Event, time::SECOND_US};
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

    #[test]
    fn a_report_is_short() {
        assert_eq!(report(&[], 2), None);
        let violation = Violation::Invented("x".to_owned());
        let text = report(&[violation.clone(), violation.clone(), violation], 2).unwrap();
        assert_eq!(text.lines().count(), 4);
        assert!(text.starts_with("3 violations\n") && text.ends_with("and 1 more"));
    }
}
