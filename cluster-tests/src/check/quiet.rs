//! A job that was paused or deleted fires nothing that was due later than what nodes had claimed by then.
//!
//! Claimed is what is due within `claim_ahead` of the acknowledgement. Retries of what was claimed may follow. Runs that somebody
//! asked for are made all the same.

use super::{Instant, Observation, Violation, manual_runs};
use crate::{
    history::History,
    time::{SECOND_US, micros},
};
use std::collections::BTreeSet;

/// See the module.
pub fn check(history: &History, observation: &Observation) -> Vec<Violation> {
    let manual = manual_runs::ids(history);
    let called: BTreeSet<_> = history
        .calls()
        .filter(|call| call.execution.as_deref().is_none_or(|execution| !manual.contains(execution)))
        .filter_map(|call| Some(Instant { job: call.job.clone()?, due_s: call.scheduled_s? }))
        .collect();
    let mut violations = Vec::new();
    for stopped in history.stops() {
        let from_us = stopped.acknowledged_us + micros(observation.claim_ahead);
        let until_us = stopped.resume_asked_us.unwrap_or(i64::MAX);
        let first = Instant { job: stopped.job.clone(), due_s: from_us.div_euclid(SECOND_US) };
        let of_job = called.range(first..).take_while(|instant| instant.job == stopped.job);
        for instant in of_job.filter(|instant| (from_us + 1..until_us).contains(&instant.due_us())) {
            let late_us = instant.due_us() - stopped.acknowledged_us;
            violations.push(Violation::NotQuiet { instant: instant.clone(), late_us });
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::fixture::{T0_S, call, instant, observation, stopped},
        history::{Event, RunAsked},
        time::SECOND_US,
    };

    /// What is said when a job that was stopped from T0 on, up to `until`, is called for T0 plus `due`.
    fn called(due: i64, until: Option<i64>) -> Vec<Violation> {
        let mut history = History::default();
        history.record(Event::Stopped(stopped("a", T0_S, until.map(|until| T0_S + until))));
        history.record(Event::Call(call("a", T0_S + due, "x").build()));
        history.record(Event::Call(call("b", T0_S + 5, "y").build()));
        check(&history, &observation(T0_S + 20))
    }

    #[test]
    fn what_was_claimed_before_may_fire_and_nothing_else() {
        let refused = |due: i64| {
            let late_us = due * SECOND_US - 50_000;
            [Violation::NotQuiet { instant: instant("a", T0_S + due), late_us }]
        };
        for due in [-1, 0, 2] {
            assert_eq!(called(due, None), [], "{due}");
        }
        for due in [3, 9] {
            assert_eq!(called(due, None), refused(due), "{due}");
            assert_eq!(called(due, Some(10)), refused(due), "{due}");
        }
    }

    #[test]
    fn a_job_that_was_resumed_fires_again() {
        for due in [5, 6] {
            assert_eq!(called(due, Some(5)), [], "{due}");
        }
    }

    #[test]
    fn who_asks_for_a_run_gets_it() {
        let mut history = History::default();
        history.record(Event::Stopped(stopped("a", T0_S, None)));
        history.record(Event::Call(call("a", T0_S + 5, "x").build()));
        assert_eq!(check(&history, &observation(T0_S + 20)).len(), 1);
        let (job, execution) = ("a".to_owned(), Some("x".to_owned()));
        history.record(Event::RunAsked(RunAsked { job, key: None, asked_us: T0_S * SECOND_US, execution }));
        assert_eq!(check(&history, &observation(T0_S + 20)), []);
    }
}
