//! No call comes before its instant, and none later after it than the run's bounds allow.
//!
//! Lateness is measured where it counts, at the target: arrival of an instant's first call minus the
//! instant. Target and nodes share one machine's clock.

use super::{Instant, Observation, Skew, Violation, Window, manual_runs, windows};
use crate::{
    history::{Call, History},
    target::FRAIL,
    time::SECOND_US,
};
use std::collections::BTreeMap;

/// A call may seem this much early: nodes keep time in whole milliseconds.
const EARLY_ALLOWED_US: i64 = 1_000;

/// From when a clock was set right until its node has seen it, and what it sent by then has arrived.
const SKEW_SEEN_US: i64 = 100_000;

/// How late one instant's first call was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sample {
    /// What was called.
    pub instant: Instant,
    /// Arrival minus instant, in microseconds.
    pub lateness_us: i64,
}

/// The distribution of some samples, in microseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    /// How many.
    pub count: usize,
    /// Half are at most this late.
    pub p50_us: i64,
    /// 99 of 100 are at most this late.
    pub p99_us: i64,
    /// The latest.
    pub max_us: i64,
}

/// A promise about a part of a run.
#[derive(Clone, Debug)]
pub struct Bound {
    /// For the report.
    pub name: String,
    /// The instants it is about.
    pub scope: Scope,
    /// The 99th percentile may be this, in microseconds.
    pub p99_us_max: i64,
    /// The latest may be this, in microseconds.
    pub max_us_max: i64,
}

/// Some of a run's instants.
#[derive(Clone, Debug)]
pub enum Scope {
    /// All.
    Everywhere,
    /// Those in any of the windows.
    Within(Vec<Window>),
    /// Those in none of them.
    Outside(Vec<Window>),
}

impl Scope {
    /// Whether an instant belongs.
    pub fn contains(&self, instant: &Instant) -> bool {
        let within = |windows: &[Window]| windows.iter().any(|window| window.contains(instant.due_us()));
        match self {
            Self::Everywhere => true,
            Self::Within(windows) => within(windows),
            Self::Outside(windows) => !within(windows),
        }
    }
}

/// The lateness of every instant that was called, by instant. Retries, repeats and runs out of schedule do not count, nor does
/// what found a target that refused the connection: its first call that is seen is a retry.
pub fn samples(history: &History) -> Vec<Sample> {
    let manual = manual_runs::ids(history);
    let refusals: Vec<_> = windows::refusals(history).collect();
    let mut first = BTreeMap::new();
    let scheduled =
        |call: &&Call| call.execution.as_deref().is_none_or(|execution| !manual.contains(execution));
    for call in history.calls().filter(scheduled) {
        let due_us = call.scheduled_s.unwrap_or_default() * SECOND_US;
        if call.path.starts_with(FRAIL) && refusals.iter().any(|refusal| refusal.contains(due_us)) {
            continue;
        }
        if let (Some(job), Some(due_s)) = (&call.job, call.scheduled_s) {
            let arrival = first.entry(Instant { job: job.clone(), due_s }).or_insert(call.arrived_us);
            *arrival = call.arrived_us.min(*arrival);
        }
    }
    let sample = |(instant, arrived_us): (Instant, i64)| Sample {
        lateness_us: arrived_us - instant.due_s * SECOND_US,
        instant,
    };
    first.into_iter().map(sample).collect()
}

/// The distribution by nearest rank; none of nothing.
pub fn summarize<'a>(samples: impl IntoIterator<Item = &'a Sample>) -> Option<Summary> {
    let mut sorted: Vec<_> = samples.into_iter().map(|sample| sample.lateness_us).collect();
    sorted.sort_unstable();
    let rank = |percent: usize| sorted[(sorted.len() * percent).div_ceil(100) - 1];
    let max_us = *sorted.last()?;
    Some(Summary { count: sorted.len(), p50_us: rank(50), p99_us: rank(99), max_us })
}

/// See the module.
pub fn check(history: &History, observation: &Observation) -> Vec<Violation> {
    let samples = samples(history);
    let early = samples.iter().filter(|sample| {
        let arrived_us = sample.instant.due_us() + sample.lateness_us;
        let is_off =
            |skew: &&Skew| (skew.window.from_us..=skew.window.until_us + SKEW_SEEN_US).contains(&arrived_us);
        let off_us = observation.skews.iter().filter(is_off).map(|skew| skew.off_us).max();
        sample.lateness_us < -EARLY_ALLOWED_US - off_us.unwrap_or_default()
    });
    let mut violations: Vec<_> = early
        .map(|sample| Violation::Early { instant: sample.instant.clone(), early_us: -sample.lateness_us })
        .collect();
    for bound in &observation.lateness {
        let inside: Vec<_> = samples.iter().filter(|sample| bound.scope.contains(&sample.instant)).collect();
        let worst = inside.iter().max_by_key(|sample| sample.lateness_us);
        let (Some(summary), Some(worst)) = (summarize(inside.iter().copied()), worst) else {
            violations.push(Violation::Unmeasured { bound: bound.name.clone() });
            continue;
        };
        let figures = [("p99", summary.p99_us, bound.p99_us_max), ("max", summary.max_us, bound.max_us_max)];
        for (figure, found_us, allowed_us) in figures {
            if found_us > allowed_us {
                violations.push(Violation::Late {
                    bound: bound.name.clone(),
                    figure,
                    found_us,
                    allowed_us,
                    worst: worst.instant.clone(),
                });
            }
        }
    }
    violations
}

/// How many instants were called.
pub fn judged(history: &History, _: &Observation) -> usize {
    samples(history).len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::fixture::{T0_S, call, instant, observation},
        history::{Event, Misbehaved, Mode},
    };

    /// One instant a second from T0 on, late by so much.
    fn history(lateness_us: &[i64]) -> History {
        let calls = (T0_S..).zip(lateness_us);
        let events = calls.map(|(due_s, late_us)| Event::Call(call("a", due_s, "x").late(*late_us).build()));
        History { events: events.collect() }
    }

    fn check_bound(lateness_us: &[i64], scope: Scope) -> Vec<Violation> {
        let bound = Bound { name: "b".to_owned(), scope, p99_us_max: 100, max_us_max: 1_000 };
        check(&history(lateness_us), &Observation { lateness: vec![bound], ..observation(T0_S + 999) })
    }

    fn late(figure: &'static str, found_us: i64, allowed_us: i64, due_s: i64) -> Violation {
        Violation::Late { bound: "b".to_owned(), figure, found_us, allowed_us, worst: instant("a", due_s) }
    }

    #[test]
    fn percentiles_by_nearest_rank() {
        let lateness_us: Vec<_> = (1..=200).rev().collect();
        let summary = summarize(&samples(&history(&lateness_us))).unwrap();
        assert_eq!(summary, Summary { count: 200, p50_us: 100, p99_us: 198, max_us: 200 });
        let one = summarize(&samples(&history(&[7]))).unwrap();
        assert_eq!(one, Summary { count: 1, p50_us: 7, p99_us: 7, max_us: 7 });
        assert_eq!(summarize(&[]), None);
    }

    #[test]
    fn only_the_first_call_of_an_instant_counts() {
        let mut history = history(&[50]);
        history.record(Event::Call(call("a", T0_S, "x").late(9_000_000).attempt(2).build()));
        assert_eq!(samples(&history), [Sample { instant: instant("a", T0_S), lateness_us: 50 }]);
    }

    #[test]
    fn what_found_a_target_that_refuses_is_not_measured() {
        let frail = |due_s| Event::Call(call("a", due_s, "x").late(9).path("/frail/ok").build());
        let mut history = history(&[50]);
        let (from_us, until_us) = (T0_S * SECOND_US, (T0_S + 5) * SECOND_US);
        let mode = Mode::Refuse;
        history.record(Event::Misbehaved(Misbehaved { mode, from_us, until_us }));
        history.events.extend([frail(T0_S + 4), frail(T0_S + 9)]);
        let measured: Vec<_> =
            samples(&history).into_iter().map(|sample| sample.instant.due_s - T0_S).collect();
        assert_eq!(measured, [0, 9]);
    }

    #[test]
    fn punctual_calls_are_fine() {
        assert_eq!(check_bound(&[100; 20], Scope::Everywhere), []);
        // One in a hundred may pass the 99th percentile.
        let mut lateness_us = vec![50; 99];
        lateness_us.push(1_000);
        assert_eq!(check_bound(&lateness_us, Scope::Everywhere), []);
    }

    #[test]
    fn late_calls_are_refused() {
        assert_eq!(check_bound(&[50, 101], Scope::Everywhere), [late("p99", 101, 100, T0_S + 1)]);
        let mut lateness_us = vec![50; 99];
        lateness_us.push(1_001);
        assert_eq!(check_bound(&lateness_us, Scope::Everywhere), [late("max", 1_001, 1_000, T0_S + 99)]);
    }

    #[test]
    fn a_bound_is_about_its_own_instants_only() {
        let windows = || vec![Window { from_us: T0_S * SECOND_US, until_us: (T0_S + 1) * SECOND_US }];
        let lateness_us = [50, 200, 50];
        assert_eq!(check_bound(&lateness_us, Scope::Outside(windows())), []);
        assert_eq!(check_bound(&lateness_us, Scope::Within(windows())), [late("p99", 200, 100, T0_S + 1)]);
    }

    #[test]
    fn a_bound_without_a_call_is_refused() {
        assert_eq!(
            check_bound(&[50], Scope::Within(Vec::new())),
            [Violation::Unmeasured { bound: "b".to_owned() }]
        );
    }

    #[test]
    fn a_call_before_its_instant_is_refused() {
        assert_eq!(check_bound(&[-1_000, 0], Scope::Everywhere), []);
        let expected = Violation::Early { instant: instant("a", T0_S), early_us: 1_001 };
        assert_eq!(check_bound(&[-1_001, 0], Scope::Everywhere), [expected]);
    }

    #[test]
    fn a_clock_that_is_off_makes_calls_early_by_no_more_than_that() {
        let check_skewed = |lateness_us: i64, from_us: i64| {
            let window = Window { from_us: T0_S * SECOND_US + from_us, until_us: T0_S * SECOND_US + 9 };
            let skews = vec![Skew { window, off_us: 300_000 }];
            check(&history(&[lateness_us]), &Observation { skews, ..observation(T0_S + 9) }).len()
        };
        assert_eq!(check_skewed(-301_000, -400_000), 0);
        assert_eq!(check_skewed(-301_001, -400_000), 1);
        // Its clock was right then.
        assert_eq!(check_skewed(-301_000, -300_000), 1);
    }
}
