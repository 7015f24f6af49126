//! A run that somebody asked for is on record once if it was acknowledged, and at most once if nobody knows; nothing else
//! runs out of schedule.
//!
//! Judged for every job whose executions were read. Its calls are held to the rules of those of the schedule: a second one
//! is the retry of a failure or takes the place of one that was in flight on a node that died. That a success has a call
//! and a failure a reason is for [`super::history_agrees`] and [`super::accounted`].

use super::{Instant, Observation, Violation, every_firing_once, timeline::Timelines, windows::skew_us};
use crate::{
    history::{Call, Execution, History, RunAsked},
    time::SECOND_US,
};
use std::collections::{BTreeMap, HashMap, HashSet};

/// The executions that are no firings of a schedule, as far as anybody was told.
pub(super) fn ids(history: &History) -> HashSet<&str> {
    let asked = history.runs_asked().filter_map(|asked| asked.execution.as_deref());
    let shown = history.executions().filter(|execution| execution.triggered_by == "manual");
    asked.chain(shown.map(|execution| execution.execution.as_str())).collect()
}

/// See the module.
pub fn check(history: &History, observation: &Observation) -> Vec<Violation> {
    let mut violations = Vec::new();
    answers(history, &mut violations);
    records(history, observation, &mut violations);

    let manual = ids(history);
    // Those that cannot be computed are told of by others.
    let timelines = Timelines::of(history, observation, &mut Vec::new());
    let mut calls: BTreeMap<&str, Vec<&Call>> = BTreeMap::new();
    for call in history.calls() {
        if let Some(execution) = call.execution.as_deref().filter(|execution| manual.contains(execution)) {
            calls.entry(execution).or_default().push(call);
        }
    }
    for of_run in calls.values_mut() {
        of_run.sort_by_key(|call| call.arrived_us);
        let known = of_run[0].job.as_deref().and_then(|job| timelines.get(job));
        if let (Some(timeline), Some(due_s)) = (known, of_run[0].scheduled_s) {
            let instant = Instant { job: timeline.job.job.clone(), due_s };
            every_firing_once::doubled(timeline, &instant, of_run, observation, &mut violations);
        }
    }
    violations
}

/// How many runs were asked for.
pub fn judged(history: &History, _: &Observation) -> usize {
    history.runs_asked().count()
}

/// A request that names itself has one answer.
fn answers(history: &History, violations: &mut Vec<Violation>) {
    let mut first: HashMap<&str, &str> = HashMap::new();
    for asked in history.runs_asked() {
        if let (Some(key), Some(execution)) = (&asked.key, &asked.execution) {
            let answered = *first.entry(key).or_insert(execution);
            if answered != execution {
                violations.push(Violation::TwoRuns {
                    key: key.clone(),
                    first: answered.to_owned(),
                    second: execution.clone(),
                });
            }
        }
    }
}

fn records(history: &History, observation: &Observation, violations: &mut Vec<Violation>) {
    let read: HashSet<&str> = history.reads().map(|read| read.job.as_str()).collect();
    let shown: HashMap<&str, &Execution> =
        history.executions().map(|execution| (execution.execution.as_str(), execution)).collect();
    let mut acknowledged = HashSet::new();
    // What may or may not have run, by job.
    let mut unknown: HashMap<&str, Vec<&RunAsked>> = HashMap::new();
    for asked in history.runs_asked().filter(|asked| read.contains(asked.job.as_str())) {
        let Some(execution) = &asked.execution else {
            unknown.entry(&asked.job).or_default().push(asked);
            continue;
        };
        // Asked for again by its name, it has its answer already.
        if !acknowledged.insert(execution.as_str()) {
            continue;
        }
        let fault = match shown.get(execution.as_str()) {
            None => Some("nowhere on record".to_owned()),
            Some(shown) if shown.job != asked.job => Some(format!("an execution of {}", shown.job)),
            Some(shown) if shown.triggered_by != "manual" => Some(format!("there by {}", shown.triggered_by)),
            // Nothing keeps a run from being made that was accepted.
            Some(shown) if shown.status == "skipped" => Some("skipped".to_owned()),
            Some(_) => None,
        };
        violations.extend(fault.map(|fault| Violation::RunLost { execution: execution.clone(), fault }));
    }
    let unasked = history.executions().filter(|execution| {
        execution.triggered_by == "manual" && !acknowledged.contains(execution.execution.as_str())
    });
    let mut unasked: Vec<_> = unasked.collect();
    unasked.sort_by_key(|execution| execution.scheduled_s);
    for execution in unasked {
        let of_job = unknown.entry(&execution.job).or_default();
        let began_us = |asked: &&RunAsked| {
            let until_us = (execution.scheduled_s? + 1) * SECOND_US;
            Some(until_us + skew_us(&observation.skews, until_us) - asked.asked_us)
        };
        // The latest question that it may be the answer to, so that others are left to those before it.
        let last = of_job.iter().rposition(|asked| began_us(asked).is_some_and(|since_us| since_us >= 0));
        match last {
            Some(place) => drop(of_job.remove(place)),
            None => violations.push(Violation::RunUnasked(execution.execution.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::{
            Window,
            fixture::{self, T0_S, call, instant, job, observation},
        },
        history::{Delivery, Event, JobCreated, JobRead},
    };

    fn asked(key: Option<&str>, execution: Option<&str>) -> Event {
        Event::RunAsked(RunAsked {
            job: "a".to_owned(),
            key: key.map(str::to_owned),
            asked_us: T0_S * SECOND_US,
            execution: execution.map(str::to_owned),
        })
    }

    fn manual(id: &str, due_s: i64) -> Execution {
        Execution { triggered_by: "manual".to_owned(), ..fixture::execution("a", due_s, id, "success") }
    }

    fn record(id: &str) -> Event {
        Event::Execution(manual(id, T0_S))
    }

    fn with(created: JobCreated, events: impl IntoIterator<Item = Event>) -> Vec<Violation> {
        let mut history = History::default();
        history.record(Event::JobCreated(created));
        history.record(Event::JobRead(JobRead { job: "a".to_owned(), asked_us: (T0_S + 10) * SECOND_US }));
        events.into_iter().for_each(|event| history.record(event));
        let killed = Window { from_us: T0_S * SECOND_US, until_us: (T0_S + 2) * SECOND_US };
        check(&history, &Observation { disturbed: vec![killed], ..observation(T0_S + 10) })
    }

    fn lost(fault: &str) -> [Violation; 1] {
        [Violation::RunLost { execution: "x".to_owned(), fault: fault.to_owned() }]
    }

    #[test]
    fn what_was_acknowledged_is_on_record() {
        assert_eq!(with(job("a"), [asked(None, Some("x")), record("x")]), []);
        assert_eq!(
            with(job("a"), [asked(Some("k"), Some("x")), asked(Some("k"), Some("x")), record("x")]),
            []
        );
        assert_eq!(with(job("a"), [asked(None, Some("x"))]), lost("nowhere on record"));
    }

    #[test]
    fn a_record_of_something_else_is_none() {
        let wrong = |change: fn(&mut Execution)| {
            let mut execution = manual("x", T0_S);
            change(&mut execution);
            with(job("a"), [asked(None, Some("x")), Event::Execution(execution)])
        };
        assert_eq!(wrong(|it| it.job = "b".to_owned()), lost("an execution of b"));
        assert_eq!(wrong(|it| it.triggered_by = "schedule".to_owned()), lost("there by schedule"));
        assert_eq!(wrong(|it| it.status = "skipped".to_owned()), lost("skipped"));
    }

    #[test]
    fn what_nobody_knows_of_runs_at_most_once() {
        let unasked = |id: &str| [Violation::RunUnasked(id.to_owned())];
        assert_eq!(with(job("a"), [asked(None, None)]), []);
        assert_eq!(with(job("a"), [asked(None, None), record("x")]), []);
        assert_eq!(with(job("a"), [asked(None, None), record("x"), record("y")]).len(), 1);
        assert_eq!(with(job("a"), [record("x")]), unasked("x"));
        // It is no answer to what was asked later.
        let before = Event::Execution(manual("x", T0_S - 2));
        assert_eq!(with(job("a"), [asked(None, None), before]), unasked("x"));
    }

    #[test]
    fn a_key_has_one_run() {
        let two = with(
            job("a"),
            [asked(Some("k"), Some("x")), asked(Some("k"), Some("y")), record("x"), record("y")],
        );
        let (first, second) = ("x".to_owned(), "y".to_owned());
        assert_eq!(two, [Violation::TwoRuns { key: "k".to_owned(), first, second }]);
    }

    #[test]
    fn a_run_is_called_once_but_for_retries_and_deaths() {
        let twice = |created: JobCreated, at: i64| {
            let call = |attempt: u32| {
                let call = call("a", T0_S, "x").late(at + i64::from(attempt)).attempt(attempt);
                Event::Call(call.build())
            };
            with(created, [asked(None, Some("x")), record("x"), call(1), call(2)])
        };
        let doubled = [Violation::Doubled { instant: instant("a", T0_S), earlier: 1, attempt: 2 }];
        assert_eq!(twice(job("a"), 0), []);
        assert_eq!(twice(job("a"), 5 * SECOND_US), doubled);
        let at_most_once = JobCreated { delivery: Delivery::AtMostOnce, ..job("a") };
        assert_eq!(twice(at_most_once, 0), doubled);
    }

    #[test]
    fn jobs_whose_pages_were_not_read_are_not_judged() {
        let mut history = History::default();
        history.record(Event::JobCreated(job("a")));
        history.record(asked(None, Some("x")));
        assert_eq!(check(&history, &observation(T0_S + 10)), []);
    }
}
