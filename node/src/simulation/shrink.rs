//! Makes a failing plan smaller, for as long as it breaks the same promise: after Zeller and Hildebrandt, "Simplifying and
//! Isolating Failure-Inducing Input" (2002).

use super::judge::{Promise, judge};
use super::mutation::Mutation;
use super::plan::Plan;
use super::run::run;
use std::time::Duration;

/// Runs that it may take.
const RUNS_MAX: u32 = 300;

/// The smallest plan found that breaks `promise` as `plan` does.
pub(super) fn shrink(plan: &Plan, mutation: Option<Mutation>, promise: Promise) -> Plan {
    let mut runs = 0;
    let mut breaks = |plan: &Plan| {
        runs += 1;
        runs <= RUNS_MAX && judge(&run(plan, mutation)).iter().any(|found| found.promise == promise)
    };
    let mut smallest = plan.clone();
    let mut parts = 2;
    while smallest.steps.len() > 1 {
        let size = smallest.steps.len().div_ceil(parts);
        let smaller = (0..smallest.steps.len()).step_by(size).find_map(|from| {
            let mut plan = smallest.clone();
            plan.steps.drain(from..(from + size).min(smallest.steps.len()));
            breaks(&plan).then_some(plan)
        });
        match smaller {
            Some(plan) => {
                smallest = plan;
                parts = (parts - 1).max(2);
            }
            None if size == 1 => break,
            None => parts = (parts * 2).min(smallest.steps.len()),
        }
    }
    // The end of the trouble comes sooner when less of it is left.
    let last = smallest.steps.last().map_or(Duration::ZERO, |(at, _)| *at);
    for after in [Duration::from_secs(1), Duration::from_secs(5), Duration::from_secs(15)] {
        let heals_at = last + after;
        let plan = Plan { heals_at, ..smallest.clone() };
        if heals_at < smallest.heals_at && breaks(&plan) {
            return plan;
        }
    }
    smallest
}
