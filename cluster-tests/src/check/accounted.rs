//! Every due instant is on record, for every job whose executions were read: it ran, or it failed or was skipped and the
//! record says why. A record of several firings that were missed counts for all of them.

use super::{Fires, Instant, Observation, Violation};
use crate::{
    due::Due,
    history::{History, JobCreated, JobRead},
    time::{SECOND_US, micros},
};
use std::{
    collections::{HashMap, HashSet},
    ops::RangeInclusive,
};

/// The stretches of a job that are on record as missed, in seconds since the Unix epoch.
pub fn skips(history: &History, job: &str) -> Vec<RangeInclusive<i64>> {
    let of_job =
        history.executions().filter(|execution| execution.job == job && execution.status == "skipped");
    of_job
        .filter_map(|execution| {
            let from_s = execution.scheduled_s?;
            Some(from_s..=execution.missed_until_s.unwrap_or(from_s))
        })
        .collect()
}

/// See the module.
pub fn check(history: &History, observation: &Observation) -> Vec<Violation> {
    let jobs: HashMap<_, _> = history.jobs().map(|job| (job.job.as_str(), job)).collect();
    let mut violations = Vec::new();
    for read in history.reads() {
        if let Some(job) = jobs.get(read.job.as_str()) {
            unaccounted(history, job, read, observation, &mut violations);
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

fn unaccounted(
    history: &History,
    job: &JobCreated,
    read: &JobRead,
    observation: &Observation,
    violations: &mut Vec<Violation>,
) {
    let due = match Due::parse(&job.expression) {
        Ok(due) => due,
        Err(error) => {
            violations.push(Violation::Unreadable(error.to_string()));
            return;
        }
    };
    let shown = history.executions().filter(|execution| execution.job == job.job);
    let recorded: HashSet<_> = shown.filter_map(|execution| execution.scheduled_s).collect();
    let skips = skips(history, &job.job);
    let fires = Fires::of(history, &job.job, observation.grace);
    let grace_us = micros(observation.grace);
    let after_s = (job.acknowledged_us + grace_us).div_euclid(SECOND_US);
    let until_s = (observation.until_us.min(read.asked_us) - grace_us).div_euclid(SECOND_US);
    for due_s in due.between(after_s, until_s) {
        let instant = Instant { job: job.job.clone(), due_s };
        let is_recorded = recorded.contains(&due_s) || skips.iter().any(|skip| skip.contains(&due_s));
        if !is_recorded && fires.at(&instant) {
            violations.push(Violation::Unaccounted(instant));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::fixture::{T0_S, execution, instant, job, observation, stopped},
        history::{Event, Execution},
    };

    /// A job with a record of every instant but T0+3, and what else is in the history.
    fn with(events: impl IntoIterator<Item = Event>) -> Vec<Violation> {
        let mut history = History::default();
        history.record(Event::JobCreated(job("a")));
        history.record(Event::JobRead(JobRead { job: "a".to_owned(), asked_us: (T0_S + 12) * SECOND_US }));
        for offset in (-1..=9).filter(|offset| *offset != 3) {
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
}
