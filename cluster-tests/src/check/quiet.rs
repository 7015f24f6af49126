//! A job that was paused or deleted fires nothing that was due later than what nodes had claimed by then, and calls nothing
//! any more a moment later, whatever it was due for.
//!
//! Claimed is what is due within `claim_ahead` of the acknowledgement. Before each attempt, retries too, nodes look at the job as it is
//! then; one that hears nothing of it stops starting requests after as long. So no call arrives later than that and
//! [`ON_ITS_WAY`], but the first attempt that was about to leave when its node was stopped by a signal, which arrives when the
//! node runs on. Runs that somebody asked for are made all the same.

use super::{
    Instant, Observation, Violation, Window, manual_runs,
    windows::{self, skew_us},
};
use crate::{
    history::{Call, History},
    time::micros,
};
use std::{collections::HashMap, time::Duration};

/// From the last look at the job to the arrival of the request, also of one whose node has only just begun to run on.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// A request whose node is stopped may have been due so long before, or after: nodes keep time in their own way, and what they
/// record as the instant of a signal is not when it takes effect.
const DUE_BEFORE: Duration = Duration::from_millis(500);
/// See [`DUE_BEFORE`].
const DUE_AFTER: Duration = Duration::from_millis(100);

/// See the module.
pub fn check(history: &History, observation: &Observation) -> Vec<Violation> {
    let manual = manual_runs::ids(history);
    let is_manual = |call: &Call| call.execution.as_deref().is_some_and(|id| manual.contains(id));
    let mut calls: HashMap<&str, Vec<&Call>> = HashMap::new();
    for call in history.calls().filter(|call| !is_manual(call)) {
        if let Some(job) = &call.job {
            calls.entry(job).or_default().push(call);
        }
    }
    let freezes: Vec<_> = windows::freezes(history).collect();
    let mut violations = Vec::new();
    for stopped in history.stops() {
        // By a clock that is ahead, more is claimed ahead.
        let ahead_us = micros(observation.claim_ahead) + skew_us(&observation.skews, stopped.acknowledged_us);
        let claimed_us = stopped.acknowledged_us.saturating_add(ahead_us);
        let silent_us = claimed_us.saturating_add(micros(ON_ITS_WAY));
        let until_us = stopped.resume_asked_us.unwrap_or(i64::MAX);
        for call in calls.get(stopped.job.as_str()).map_or(&[][..], Vec::as_slice) {
            let Some(due_s) = call.scheduled_s else { continue };
            let instant = Instant { job: stopped.job.clone(), due_s };
            let is_within = |from_us: i64, at_us: i64| from_us < at_us && at_us < until_us;
            if is_within(claimed_us, instant.due_us()) {
                let late_us = instant.due_us() - stopped.acknowledged_us;
                violations.push(Violation::NotQuiet { instant, late_us });
            } else if is_within(silent_us, call.arrived_us)
                && !freezes.iter().any(|freeze| was_about_to_leave(call, instant.due_us(), freeze))
            {
                let late_us = call.arrived_us - stopped.acknowledged_us;
                let attempt = call.attempt.unwrap_or_default();
                violations.push(Violation::StillCalled { instant, attempt, late_us });
            }
        }
    }
    violations
}

/// How many pauses and deletions there are to judge.
pub fn judged(history: &History, _: &Observation) -> usize {
    history.stops().count()
}

/// Whether a call may have been on its way out of a node when that was stopped.
fn was_about_to_leave(call: &Call, due_us: i64, freeze: &Window) -> bool {
    call.attempt == Some(1)
        && Window::around(freeze.from_us, DUE_BEFORE, DUE_AFTER).contains(due_us)
        && Window::around(freeze.until_us, Duration::ZERO, ON_ITS_WAY).contains(call.arrived_us)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::fixture::{CallBuilder, T0_S, call, instant, observation, stopped},
        history::{Event, Fault, FaultKind, RunAsked},
        time::SECOND_US,
    };

    /// What is said when a job that was stopped from T0 on, up to `until`, is called so, and what else there is in the history.
    fn with(
        until: Option<i64>,
        called: CallBuilder,
        events: impl IntoIterator<Item = Event>,
    ) -> Vec<Violation> {
        let mut history = History::default();
        history.record(Event::Stopped(stopped("a", T0_S, until.map(|until| T0_S + until))));
        history.record(Event::Call(called.build()));
        history.record(Event::Call(call("b", T0_S + 5, "y").build()));
        events.into_iter().for_each(|event| history.record(event));
        check(&history, &observation(T0_S + 20))
    }

    /// A call for T0 plus `due`.
    fn called(due: i64, until: Option<i64>) -> Vec<Violation> {
        with(until, call("a", T0_S + due, "x"), [])
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

    /// What is said of a call for T0 plus `due` that arrives at T0 plus so many microseconds.
    fn arrived(due: i64, at_us: i64, attempt: u32, until: Option<i64>) -> Vec<Violation> {
        with(until, call("a", T0_S + due, "x").late(at_us - due * SECOND_US).attempt(attempt), [])
    }

    fn still_called(due: i64, at_us: i64, attempt: u32) -> [Violation; 1] {
        [Violation::StillCalled { instant: instant("a", T0_S + due), attempt, late_us: at_us - 50_000 }]
    }

    #[test]
    fn what_was_claimed_before_is_not_called_for_ever() {
        // Acknowledged at T0+0.05 s; claimed up to T0+2.05 s, and a second to arrive.
        let last_us = 3 * SECOND_US + 50_000;
        assert_eq!(arrived(2, last_us, 1, None), []);
        assert_eq!(arrived(2, last_us + 1, 1, None), still_called(2, last_us + 1, 1));
        // Nor are what was due before, and its retries.
        assert_eq!(arrived(-1, last_us, 3, None), []);
        assert_eq!(arrived(-1, 8 * SECOND_US, 3, None), still_called(-1, 8 * SECOND_US, 3));
        assert_eq!(arrived(-1, 8 * SECOND_US, 3, Some(10)), still_called(-1, 8 * SECOND_US, 3));
        assert_eq!(arrived(-1, 8 * SECOND_US, 3, Some(8)), []);
    }

    /// A node that is stopped at T0 plus 1.2 s and runs on at T0 plus 9 s.
    fn freeze() -> [Event; 2] {
        let fault = |kind, at_us| Event::Fault(Fault { node: 1, kind, at_us: T0_S * SECOND_US + at_us });
        [fault(FaultKind::Pause, 1_200_000), fault(FaultKind::Resume, 9_000_000)]
    }

    #[test]
    fn what_was_about_to_leave_when_its_node_was_stopped_arrives_when_it_runs_on() {
        let froze = |due: i64, at_us: i64, attempt: u32| {
            with(None, call("a", T0_S + due, "x").late(at_us - due * SECOND_US).attempt(attempt), freeze())
        };
        assert_eq!(froze(1, 9_020_000, 1), []);
        assert_eq!(froze(1, 10_000_000, 1), []);
        // Later than that, before the node runs on, as a retry, or due long before or after it was stopped.
        for (due, at_us, attempt) in
            [(1, 10_000_001, 1), (1, 8_999_999, 1), (1, 9_020_000, 2), (0, 9_020_000, 1), (2, 9_020_000, 1)]
        {
            assert_eq!(
                froze(due, at_us, attempt),
                still_called(due, at_us, attempt),
                "{due} {at_us} {attempt}"
            );
        }
        // No node was stopped.
        assert_eq!(arrived(1, 9_020_000, 1, None), still_called(1, 9_020_000, 1));
    }

    #[test]
    fn a_job_that_was_resumed_fires_again() {
        for due in [5, 6] {
            assert_eq!(called(due, Some(5)), [], "{due}");
        }
    }

    #[test]
    fn who_asks_for_a_run_gets_it() {
        let run = |asked: bool| {
            let (job, execution) = ("a".to_owned(), Some("x".to_owned()));
            let asked_us = T0_S * SECOND_US;
            let run = Event::RunAsked(RunAsked { job, key: None, asked_us, execution });
            with(None, call("a", T0_S + 5, "x"), asked.then_some(run)).len()
        };
        assert_eq!((run(false), run(true)), (1, 0));
    }
}
