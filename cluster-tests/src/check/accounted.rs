//! Every due instant is on record, for every job whose executions were read: it ran, or it failed or was skipped and the
//! record says why. A record of several firings that were missed counts for all of them.
//!
//! That holds up to the very instant at which a job was changed, paused or deleted, and again from the instant at which it was
//! resumed: see [`super::timeline`].

use super::{
    Instant, Observation, Violation,
    timeline::{Timeline, Timelines},
};
use crate::{
    history::{Execution, History, JobRead},
    time::{SECOND_US, micros},
};
use std::{
    collections::{BTreeMap, HashMap},
    ops::RangeInclusive,
};

/// What the API shows, by job.
#[derive(Default)]
pub(super) struct Records<'a>(HashMap<&'a str, OfJob<'a>>);

/// What the API shows of one job's schedule.
#[derive(Default)]
pub(super) struct OfJob<'a> {
    /// Whether its executions were read at all.
    pub(super) is_read: bool,
    by_instant: BTreeMap<i64, &'a Execution>,
    /// The stretches that are on record as missed, in seconds since the Unix epoch.
    skips: Vec<RangeInclusive<i64>>,
}

static NOTHING: OfJob<'static> = OfJob { is_read: false, by_instant: BTreeMap::new(), skips: Vec::new() };

impl<'a> Records<'a> {
    pub(super) fn of(history: &'a History) -> Self {
        let mut records = Self::default();
        for read in history.reads() {
            records.0.entry(&read.job).or_default().is_read = true;
        }
        for execution in history.executions().filter(|execution| execution.triggered_by == "schedule") {
            let Some(due_s) = execution.scheduled_s else { continue };
            let of_job = records.0.entry(&execution.job).or_default();
            // One record of several may begin where another execution is.
            match execution.missed_until_s {
                Some(until_s) => of_job.skips.push(due_s..=until_s),
                None => drop(of_job.by_instant.insert(due_s, execution)),
            }
        }
        records
    }

    pub(super) fn of_job(&self, job: &str) -> &OfJob<'a> {
        self.0.get(job).unwrap_or(&NOTHING)
    }
}

impl OfJob<'_> {
    /// If an instant is on record as one that was not called: the first instant of that record, which is the instant itself unless
    /// the record stands for several.
    pub(super) fn skipped_from(&self, due_s: i64) -> Option<i64> {
        let is_skipped = |execution: &&Execution| execution.status == "skipped";
        let alone = self.by_instant.get(&due_s).copied().filter(is_skipped).map(|_| due_s);
        alone.or_else(|| {
            self.skips.iter().filter(|skip| skip.contains(&due_s)).map(|skip| *skip.start()).min()
        })
    }

    /// Whether it is on record as failed, for whatever reason.
    pub(super) fn has_failed(&self, due_s: i64) -> bool {
        self.by_instant.get(&due_s).is_some_and(|execution| execution.status == "failed")
    }

    /// Whether it is on record as one that never reached the target, or may not have.
    pub(super) fn is_unreached(&self, due_s: i64) -> bool {
        let is_unreached = |execution: &&&Execution| {
            execution.status == "failed"
                && matches!(execution.error_kind.as_deref(), Some("connect" | "timeout"))
        };
        self.by_instant.get(&due_s).as_ref().is_some_and(is_unreached)
    }

    fn is_missed(&self, due_s: i64) -> bool {
        self.skips.iter().any(|skip| skip.contains(&due_s))
    }

    fn is_recorded(&self, due_s: i64) -> bool {
        self.by_instant.contains_key(&due_s) || self.is_missed(due_s)
    }
}

/// See the module.
pub fn check(history: &History, observation: &Observation) -> Vec<Violation> {
    let mut violations = Vec::new();
    let timelines = Timelines::of(history, observation, &mut violations);
    let records = Records::of(history);
    for read in history.reads() {
        if let Some(timeline) = timelines.get(&read.job) {
            unaccounted(timeline, records.of_job(&read.job), read, observation, &mut violations);
        }
    }
    for execution in history.executions() {
        let ran = matches!(execution.status.as_str(), "success" | "pending" | "running");
        let explained = execution.error.as_ref().is_some_and(|error| !error.trim().is_empty());
        if let (false, false, Some(due_s)) = (ran, explained, execution.scheduled_s) {
            violations.push(Violation::Unexplained {
                execution: execution.execution.clone(),
                instant: Instant { job: execution.job.clone(), due_s },
                status: execution.status.clone(),
            });
        }
    }
    violations
}

/// How many due instants must be on record.
pub fn judged(history: &History, observation: &Observation) -> usize {
    let timelines = Timelines::of(history, observation, &mut Vec::new());
    let of_job = |read: &JobRead| Some(due(timelines.get(&read.job)?, read, observation).count());
    history.reads().filter_map(of_job).sum()
}

/// The instants of a job that must be on record.
fn due(timeline: &Timeline<'_>, read: &JobRead, observation: &Observation) -> impl Iterator<Item = i64> {
    let from_s = timeline.job.acknowledged_us.div_euclid(SECOND_US);
    let until_us = observation.until_us.min(read.asked_us) - micros(observation.grace);
    let instants = timeline.instants(from_s, until_us.div_euclid(SECOND_US));
    instants.into_iter().filter(|due_s| timeline.must(*due_s))
}

fn unaccounted(
    timeline: &Timeline<'_>,
    records: &OfJob<'_>,
    read: &JobRead,
    observation: &Observation,
    violations: &mut Vec<Violation>,
) {
    for due_s in due(timeline, read, observation).filter(|due_s| !records.is_recorded(*due_s)) {
        violations.push(Violation::Unaccounted(Instant { job: read.job.clone(), due_s }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::fixture::{T0_S, configuration, edited, execution, instant, job, observation, stopped},
        history::{Configuration, Event, Execution, JobRead},
    };

    /// A job with a record of every instant but T0+3, and what else is in the history.
    fn with(events: impl IntoIterator<Item = Event>) -> Vec<Violation> {
        let mut history = History::default();
        history.record(Event::JobCreated(job("a")));
        history.record(Event::JobRead(JobRead { job: "a".to_owned(), asked_us: (T0_S + 12) * SECOND_US }));
        for offset in (-2..=9).filter(|offset| *offset != 3) {
            history.record(Event::Execution(execution("a", T0_S + offset, &format!("x{offset}"), "success")));
        }
        events.into_iter().for_each(|event| history.record(event));
        check(&history, &observation(T0_S + 9))
    }

    fn because(execution: Execution, error: &str) -> Event {
        Event::Execution(Execution { error: Some(error.to_owned()), ..execution })
    }

    #[test]
    fn an_instant_that_is_not_on_record_is_unaccounted() {
        assert_eq!(with([]), [Violation::Unaccounted(instant("a", T0_S + 3))]);
        let another = execution("b", T0_S + 3, "y", "success");
        assert_eq!(with([Event::Execution(another)]), [Violation::Unaccounted(instant("a", T0_S + 3))]);
    }

    #[test]
    fn any_record_with_a_reason_accounts_for_it() {
        assert_eq!(with([Event::Execution(execution("a", T0_S + 3, "x3", "success"))]), []);
        for status in ["failed", "skipped"] {
            assert_eq!(with([because(execution("a", T0_S + 3, "x3", status), "the node died")]), []);
        }
        let mut several = execution("a", T0_S + 2, "s", "skipped");
        several.missed_until_s = Some(T0_S + 4);
        assert_eq!(with([because(several, "the cluster was down")]), []);
    }

    #[test]
    fn a_record_without_a_reason_is_refused() {
        for (status, error) in [("failed", None), ("skipped", Some(" "))] {
            let mut record = execution("a", T0_S + 3, "x3", status);
            record.error = error.map(str::to_owned);
            let expected = Violation::Unexplained {
                execution: "x3".to_owned(),
                instant: instant("a", T0_S + 3),
                status: status.to_owned(),
            };
            assert_eq!(with([Event::Execution(record)]), [expected]);
        }
    }

    #[test]
    fn what_need_not_fire_need_not_be_on_record() {
        assert_eq!(with([Event::Stopped(stopped("a", T0_S + 3, Some(T0_S + 4)))]), []);
    }

    #[test]
    fn what_was_due_before_a_change_must_be_on_record() {
        let unaccounted = |offset| Violation::Unaccounted(instant("a", T0_S + offset));
        // To the second; T0+3 is the one without a record.
        for (from, expected) in [(3, vec![]), (4, vec![unaccounted(3)])] {
            let stop = Event::Stopped(stopped("a", T0_S + from, None));
            assert_eq!(with([stop]), expected, "stopped at T0+{from}");
            let to = Configuration { expression: "@every 5s".to_owned(), ..configuration() };
            let edit = Event::Edited(edited("a", T0_S + from, to, Some(50_000)));
            assert_eq!(with([edit]), expected, "changed at T0+{from}");
        }
        // Resumed before it.
        let stop = Event::Stopped(stopped("a", T0_S, Some(T0_S + 2)));
        assert_eq!(with([stop]), [unaccounted(3)]);
    }

    #[test]
    fn a_manual_run_accounts_for_nothing() {
        let manual = execution("a", T0_S + 3, "m", "success");
        let manual = Event::Execution(Execution { triggered_by: "manual".to_owned(), ..manual });
        assert_eq!(with([manual]), [Violation::Unaccounted(instant("a", T0_S + 3))]);
    }
}
