//! What the API says happened is what the target saw, for every job whose executions were read.
//!
//! An execution that the API calls a success has a call that was answered well, of the attempt it names. One that it calls failed
//! has what the failure says: a call of that attempt that was answered otherwise or not at all, or a target that refused the connection,
//! and as many attempts as the job wants. What is lost with its node ends while a process may have been given up. A call that was
//! answered well is a success in the API; a job sent at most once, or paused by then, may instead be failed with `node_lost` if the call
//! may have been in flight in a disturbed window, and any job with `timeout` if its node was stopped by a signal then, and had waited for longer than
//! that when it ran on. No instant has two executions, none is left
//! unfinished beyond the job's timeout, and both sides name the same instant.

use super::{
    Instant, Observation, Violation, Window,
    timeline::{Timeline, Timelines},
    windows,
};
use crate::{
    history::{Call, Delivery, Execution, History, JobRead},
    time::{SECOND_US, micros},
};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// A node that was stopped by a signal ends what has timed out meanwhile when it runs on. The end is shown in whole seconds.
const ENDS_BEFORE: Duration = Duration::from_secs(1);
/// See [`ENDS_BEFORE`].
const ENDS_AFTER: Duration = Duration::from_secs(1);

/// See the module.
pub fn check(history: &History, observation: &Observation) -> Vec<Violation> {
    let mut calls: HashMap<&str, Vec<&Call>> = HashMap::new();
    for call in history.calls() {
        if let Some(execution) = &call.execution {
            calls.entry(execution).or_default().push(call);
        }
    }
    let executions: HashMap<&str, &Execution> =
        history.executions().map(|execution| (execution.execution.as_str(), execution)).collect();
    // Those that cannot be computed are told of by others.
    let jobs = Timelines::of(history, observation, &mut Vec::new());
    let reads: HashMap<&str, &JobRead> = history.reads().map(|read| (read.job.as_str(), read)).collect();
    let refusals = windows::refusals(history).collect();
    let freezes = windows::freezes(history).collect();
    let facts = Facts { observation, calls, executions, jobs, reads, refusals, freezes };

    let mut violations = Vec::new();
    for execution in history.executions() {
        violations.extend(facts.shown(execution));
        violations.extend(facts.failed(execution));
    }
    violations.extend(two_executions(history));
    for call in history.calls() {
        violations.extend(facts.forgotten(call));
    }
    violations
}

/// How many executions were read.
pub fn judged(history: &History, _: &Observation) -> usize {
    history.executions().count()
}

/// The history by id.
struct Facts<'a> {
    observation: &'a Observation,
    calls: HashMap<&'a str, Vec<&'a Call>>,
    executions: HashMap<&'a str, &'a Execution>,
    jobs: Timelines<'a>,
    reads: HashMap<&'a str, &'a JobRead>,
    /// When the target refused connections.
    refusals: Vec<Window>,
    /// When nodes were stopped by a signal.
    freezes: Vec<Window>,
}

impl Facts<'_> {
    /// What is wrong with an execution that the API shows.
    fn shown(&self, execution: &Execution) -> Option<Violation> {
        let calls = self.calls.get(execution.execution.as_str()).map_or(&[][..], Vec::as_slice);
        if execution.status == "success" {
            let answered = |call: &&Call| {
                call.succeeded() && execution.attempt.is_none_or(|attempt| call.attempt == Some(attempt))
            };
            if !calls.iter().any(answered) {
                return Some(Violation::Invented(execution.execution.clone()));
            }
        }
        let shown = Instant { job: execution.job.clone(), due_s: execution.scheduled_s? };
        for call in calls {
            if let (Some(job), Some(due_s)) = (&call.job, call.scheduled_s) {
                let called = Instant { job: job.clone(), due_s };
                if called != shown {
                    return Some(Violation::Misdated {
                        execution: execution.execution.clone(),
                        called,
                        shown,
                    });
                }
            }
        }
        let open = matches!(execution.status.as_str(), "pending" | "running");
        (open && self.should_have_finished(&shown)).then(|| Violation::Unfinished {
            execution: execution.execution.clone(),
            instant: shown,
            status: execution.status.clone(),
        })
    }

    fn should_have_finished(&self, instant: &Instant) -> bool {
        let (Some(timeline), Some(read)) =
            (self.jobs.get(instant.job.as_str()), self.reads.get(instant.job.as_str()))
        else {
            return false;
        };
        // Each attempt may take the timeout, and one second lies between two of them.
        let attempts_s = i64::from(timeline.job.retry_max + 1) * i64::from(timeline.timeout_sec_max() + 1);
        instant.due_us() + attempts_s * SECOND_US + micros(self.observation.grace) < read.asked_us
    }

    /// What is wrong with a failure that the API shows.
    fn failed(&self, execution: &Execution) -> Option<Violation> {
        if execution.status != "failed" {
            return None;
        }
        let timeline = self.jobs.get(&execution.job)?;
        let job = timeline.job;
        let kind = execution.error_kind.as_deref().unwrap_or("nothing");
        let ended_us = execution.finished_s.map(|finished_s| finished_s * SECOND_US);
        // It is shown in whole seconds.
        let within = |windows: &[Window]| {
            ended_us.is_some_and(|ended_us| windows.iter().any(|window| window.meets(ended_us, SECOND_US)))
        };
        let disturbed = &self.observation.disturbed;
        let of_attempt = |is: fn(&Call) -> bool| {
            let calls = self.calls.get(execution.execution.as_str()).map_or(&[][..], Vec::as_slice);
            calls.iter().any(|call| call.attempt == execution.attempt && is(call))
        };
        let is_founded = match kind {
            "http_status" => of_attempt(|call| call.status.is_some() && !call.succeeded()),
            "timeout" => of_attempt(|call| !call.succeeded()) || within(disturbed),
            "connect" => timeline.calls_frail() && within(&self.refusals) || within(disturbed),
            "node_lost" => {
                let is_given_up = within(&self.observation.losses) || within(&self.observation.outages);
                is_given_up && may_stay_lost(timeline, execution)
            }
            _ => false,
        };
        let wanted = job.retry_max + 1;
        match execution.attempt.unwrap_or(0) {
            _ if !is_founded => {
                Some(Violation::Unfounded { execution: execution.execution.clone(), kind: kind.to_owned() })
            }
            attempt if kind != "node_lost" && attempt < wanted => {
                Some(Violation::GivenUp { execution: execution.execution.clone(), attempt, wanted })
            }
            _ => None,
        }
    }

    /// Whether a call that was answered well is no success in the API.
    fn forgotten(&self, call: &Call) -> Option<Violation> {
        let execution = call.execution.as_deref()?;
        let read = self.reads.get(call.job.as_deref()?)?;
        let early_enough = call.arrived_us + micros(self.observation.grace) < read.asked_us;
        if !call.succeeded() || !early_enough {
            return None;
        }
        let shown = self.executions.get(execution);
        let job = self.jobs.get(read.job.as_str());
        let lost = |shown: &&&Execution| {
            job.is_some_and(|timeline| {
                may_stay_lost(timeline, shown)
                    && self.observation.may_be_lost(call.arrived_us, timeline.timeout_sec_max())
            }) && shown.error_kind.as_deref() == Some("node_lost")
        };
        let timed_out = |shown: &&&Execution| {
            let timeout_us = job.map_or(0, |timeline| i64::from(timeline.timeout_sec_max()) * SECOND_US);
            shown.error_kind.as_deref() == Some("timeout")
                && shown.attempt == call.attempt
                && self.freezes.iter().any(|freeze| {
                    freeze.meets(call.arrived_us, timeout_us)
                        && Window::around(freeze.until_us, ENDS_BEFORE, ENDS_AFTER)
                            .contains(shown.finished_s.unwrap_or_default() * SECOND_US)
                })
        };
        match shown {
            Some(shown) if shown.status == "success" || lost(&shown) || timed_out(&shown) => None,
            _ => Some(Violation::Forgotten {
                execution: execution.to_owned(),
                shown: shown.map_or_else(|| "nothing".to_owned(), |shown| shown.status.clone()),
            }),
        }
    }
}

/// Whether an execution that was lost with its node is not tried again: by its delivery, or because the job was paused or deleted by
/// then.
fn may_stay_lost(timeline: &Timeline<'_>, execution: &Execution) -> bool {
    let due_us = execution.scheduled_s.unwrap_or_default() * SECOND_US;
    let is_stopped = |ended_s: i64| timeline.is_stopped_between(due_us, (ended_s + 1) * SECOND_US);
    timeline.job.delivery == Delivery::AtMostOnce || execution.finished_s.is_some_and(is_stopped)
}

fn two_executions(history: &History) -> Vec<Violation> {
    let mut first: BTreeMap<Instant, &Execution> = BTreeMap::new();
    let mut violations = Vec::new();
    for execution in history.executions().filter(|execution| execution.triggered_by == "schedule") {
        let Some(due_s) = execution.scheduled_s else { continue };
        let instant = Instant { job: execution.job.clone(), due_s };
        match first.get(&instant) {
            Some(other) => violations.push(Violation::TwoExecutions {
                instant,
                first: other.execution.clone(),
                second: execution.execution.clone(),
            }),
            None => drop(first.insert(instant, execution)),
        }
    }
    violations
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::{
            Window,
            fixture::{self, CallBuilder, T0_S, call, instant, job, observation},
        },
        history::{Configuration, Event, Fault, FaultKind, JobCreated, Misbehaved, Mode},
    };

    fn execution(id: &str, due_s: i64, status: &str) -> Execution {
        fixture::execution("a", due_s, id, status)
    }

    fn failed(id: &str, due_s: i64) -> Execution {
        fixture::failed("a", due_s, id, "http_status")
    }

    /// The pages were asked for at T0+10; the grace is 1.5 s and the job's timeout 2 s.
    fn check_pages(
        delivery: Delivery,
        calls: impl IntoIterator<Item = CallBuilder>,
        executions: impl IntoIterator<Item = Execution>,
    ) -> Vec<Violation> {
        let mut history = History::default();
        history.record(Event::JobCreated(JobCreated { delivery, ..job("a") }));
        calls.into_iter().for_each(|call| history.record(Event::Call(call.build())));
        let asked_us = (T0_S + 10) * SECOND_US;
        history.record(Event::JobRead(JobRead { job: "a".to_owned(), asked_us }));
        executions.into_iter().for_each(|execution| history.record(Event::Execution(execution)));
        let killed = Window { from_us: T0_S * SECOND_US, until_us: (T0_S + 2) * SECOND_US };
        let (disturbed, losses) = (vec![killed], vec![killed]);
        check(&history, &Observation { disturbed, losses, ..observation(T0_S + 10) })
    }

    fn check_one(calls: impl IntoIterator<Item = CallBuilder>, shown: Option<Execution>) -> Vec<Violation> {
        check_pages(Delivery::AtLeastOnce, calls, shown)
    }

    fn forgotten(shown: &str) -> [Violation; 1] {
        [Violation::Forgotten { execution: "x".to_owned(), shown: shown.to_owned() }]
    }

    #[test]
    fn both_sides_agree() {
        assert_eq!(check_one([call("a", T0_S, "x")], Some(execution("x", T0_S, "success"))), []);
        let answered = call("a", T0_S, "x").status(Some(500));
        assert_eq!(check_one([answered], Some(failed("x", T0_S))), []);
        // Claimed ahead, not sent yet; and called too shortly before the pages were read.
        assert_eq!(check_one([], Some(execution("x", T0_S + 11, "pending"))), []);
        assert_eq!(check_one([call("a", T0_S + 9, "x")], None), []);
    }

    #[test]
    fn a_success_without_an_answered_call_is_invented() {
        let invented = [Violation::Invented("x".to_owned())];
        let success = || Some(execution("x", T0_S, "success"));
        assert_eq!(check_one([], success()), invented);
        assert_eq!(check_one([call("a", T0_S, "x").status(Some(500))], success()), invented);
        assert_eq!(check_one([call("a", T0_S, "x").status(None)], success()), invented);
        // Another attempt than the one that was answered.
        let third = Execution { attempt: Some(3), ..execution("x", T0_S, "success") };
        assert_eq!(check_one([call("a", T0_S, "x")], Some(third)), invented);
    }

    #[test]
    fn an_answered_call_without_a_success_is_forgotten() {
        assert_eq!(check_one([call("a", T0_S, "x")], None), forgotten("nothing"));
        let other_attempt = call("a", T0_S, "x").attempt(2).status(Some(500));
        let second = Execution { attempt: Some(2), ..failed("x", T0_S) };
        assert_eq!(check_one([call("a", T0_S, "x"), other_attempt], Some(second)), forgotten("failed"));
    }

    #[test]
    fn only_at_most_once_may_be_lost_with_its_node() {
        let lost =
            |due_s| Execution { error_kind: Some("node_lost".to_owned()), ..execution("x", due_s, "failed") };
        let check_lost = |delivery, due_s| check_pages(delivery, [call("a", due_s, "x")], [lost(due_s)]);
        assert_eq!(check_lost(Delivery::AtMostOnce, T0_S), []);
        let unfounded = || Violation::Unfounded { execution: "x".to_owned(), kind: "node_lost".to_owned() };
        let [forgotten] = forgotten("failed");
        let both = [unfounded(), forgotten];
        // Nothing was done to a node then.
        assert_eq!(check_lost(Delivery::AtMostOnce, T0_S + 5), both);
        assert_eq!(check_lost(Delivery::AtLeastOnce, T0_S), both);
        assert_eq!(check_pages(Delivery::AtMostOnce, [], [lost(T0_S)]), []);
        assert_eq!(check_pages(Delivery::AtMostOnce, [], [lost(T0_S + 5)]), [unfounded()]);
    }

    #[test]
    fn what_a_job_sent_at_most_once_was_answered_may_be_lost_for_its_own_timeout_only() {
        // Killed from T0 on: the timeout is 2 s, and its outcome may be a second on its way.
        let check_lost = |due_s| {
            let shown = fixture::failed("a", due_s, "x", "node_lost");
            let shown = Execution { finished_s: Some(T0_S + 1), ..shown };
            check_pages(Delivery::AtMostOnce, [call("a", due_s, "x").late(0)], [shown])
        };
        assert_eq!(check_lost(T0_S - 3), []);
        assert_eq!(check_lost(T0_S - 4), forgotten("failed"));
    }

    #[test]
    fn jobs_whose_pages_were_not_read_are_not_judged() {
        assert_eq!(check_one([call("b", T0_S, "y")], None), []);
    }

    #[test]
    fn what_should_have_finished_is_refused() {
        let running = |due_s| Some(execution("x", due_s, "running"));
        let expected = Violation::Unfinished {
            execution: "x".to_owned(),
            instant: instant("a", T0_S + 5),
            status: "running".to_owned(),
        };
        assert_eq!(check_one([], running(T0_S + 5)), [expected]);
        assert_eq!(check_one([], running(T0_S + 6)), []);
    }

    #[test]
    fn two_executions_of_one_instant_are_refused() {
        let shown = || [execution("x", T0_S, "skipped"), execution("y", T0_S, "skipped")];
        let expected = Violation::TwoExecutions {
            instant: instant("a", T0_S),
            first: "x".to_owned(),
            second: "y".to_owned(),
        };
        assert_eq!(check_pages(Delivery::AtLeastOnce, [], shown()), [expected]);
        let manual = shown().map(|shown| Execution { triggered_by: "manual".to_owned(), ..shown });
        assert_eq!(check_pages(Delivery::AtLeastOnce, [], manual), []);
    }

    #[test]
    fn both_sides_must_name_the_same_instant() {
        let expected = Violation::Misdated {
            execution: "x".to_owned(),
            called: instant("a", T0_S),
            shown: instant("a", T0_S + 1),
        };
        assert_eq!(check_one([call("a", T0_S, "x")], Some(execution("x", T0_S + 1, "success"))), [expected]);
    }

    #[test]
    fn a_failure_that_the_target_had_no_part_in_is_refused() {
        let shown = |kind, calls: Vec<CallBuilder>, due_s| {
            check_pages(Delivery::AtLeastOnce, calls, [fixture::failed("a", due_s, "x", kind)])
        };
        let unfounded =
            |kind: &str| [Violation::Unfounded { execution: "x".to_owned(), kind: kind.to_owned() }];
        let answered = |status| vec![call("a", T0_S + 5, "x").status(status)];
        assert_eq!(shown("http_status", answered(Some(500)), T0_S + 5), []);
        assert_eq!(shown("timeout", answered(None), T0_S + 5), []);
        assert_eq!(shown("http_status", answered(None), T0_S + 5), unfounded("http_status"));
        let second = vec![call("a", T0_S + 5, "x").status(Some(500)).attempt(2)];
        assert_eq!(shown("http_status", second, T0_S + 5), unfounded("http_status"));
        for kind in ["http_status", "timeout", "connect", "dns", "node_lost"] {
            assert_eq!(shown(kind, vec![], T0_S + 5), unfounded(kind));
        }
        // A node was killed then.
        assert_eq!((shown("timeout", vec![], T0_S), shown("connect", vec![], T0_S)), (vec![], vec![]));
    }

    #[test]
    fn what_was_lost_with_its_node_is_not_tried_again_in_a_pause() {
        let shown = |stop_s: i64, lost_s: i64| {
            let mut history = History::default();
            history.record(Event::JobCreated(job("a")));
            let lost = fixture::failed("a", T0_S, "x", "node_lost");
            history.record(Event::Execution(Execution { finished_s: Some(T0_S + 8), ..lost }));
            history.record(Event::Stopped(fixture::stopped("a", T0_S + stop_s, None)));
            let killed =
                Window { from_us: (T0_S + lost_s) * SECOND_US, until_us: (T0_S + lost_s + 6) * SECOND_US };
            check(&history, &Observation { losses: vec![killed], ..observation(T0_S + 20) }).len()
        };
        assert_eq!((shown(4, 4), shown(8, 4), shown(12, 4)), (0, 0, 1));
        // The node was killed long before, or afterwards.
        assert_eq!((shown(4, 1), shown(4, 10)), (1, 1));
    }

    #[test]
    fn what_was_answered_while_its_node_was_stopped_may_have_timed_out() {
        // Called at T0+2, with 2 s to go; stopped at T0+3 and running on at T0+8.
        let shown = |kind: &str, finished: i64, paused: bool| {
            let mut history = History::default();
            history.record(Event::JobCreated(job("a")));
            history.record(Event::Call(call("a", T0_S + 2, "x").build()));
            let asked_us = (T0_S + 20) * SECOND_US;
            history.record(Event::JobRead(JobRead { job: "a".to_owned(), asked_us }));
            let failed = fixture::failed("a", T0_S + 2, "x", kind);
            history.record(Event::Execution(Execution { finished_s: Some(T0_S + finished), ..failed }));
            for (kind, at_s) in [(FaultKind::Pause, 3), (FaultKind::Resume, 8)].into_iter().filter(|_| paused)
            {
                history.record(Event::Fault(Fault { node: 1, kind, at_us: (T0_S + at_s) * SECOND_US }));
            }
            let disturbed =
                vec![Window { from_us: (T0_S + 3) * SECOND_US, until_us: (T0_S + 13) * SECOND_US }];
            check(&history, &Observation { disturbed, ..observation(T0_S + 20) })
        };
        assert_eq!((shown("timeout", 8, true), shown("timeout", 9, true)), (vec![], vec![]));
        assert_eq!(shown("timeout", 8, false), forgotten("failed"));
        assert_eq!(shown("timeout", 6, true), forgotten("failed"));
        assert_eq!(shown("timeout", 12, true), forgotten("failed"));
        assert_eq!(shown("connect", 8, true), forgotten("failed"));
    }

    #[test]
    fn what_was_answered_to_a_node_that_was_lost_is_not_tried_again_in_a_pause() {
        // Called at T0+2; the node was cut off from T0+1 on, until T0+10 at the latest.
        let shown = |stop_s: i64, cut_s: i64| {
            let mut history = History::default();
            history.record(Event::JobCreated(job("a")));
            history.record(Event::Call(call("a", T0_S + 2, "x").build()));
            let asked_us = (T0_S + 40) * SECOND_US;
            history.record(Event::JobRead(JobRead { job: "a".to_owned(), asked_us }));
            let lost = fixture::failed("a", T0_S + 2, "x", "node_lost");
            history.record(Event::Execution(Execution { finished_s: Some(T0_S + cut_s + 4), ..lost }));
            history.record(Event::Stopped(fixture::stopped("a", T0_S + stop_s, None)));
            let cut = vec![Window {
                from_us: (T0_S + cut_s) * SECOND_US,
                until_us: (T0_S + cut_s + 9) * SECOND_US,
            }];
            check(&history, &Observation { disturbed: cut.clone(), losses: cut, ..observation(T0_S + 40) })
        };
        assert_eq!((shown(1, 1), shown(4, 1)), (vec![], vec![]));
        // Nothing was done to a node while it was called.
        assert_eq!(shown(20, 20), forgotten("failed"));
        // The job was not paused by then.
        assert_eq!(shown(15, 1).len(), 2);
    }

    #[test]
    fn a_connection_may_fail_while_the_target_refuses_them() {
        let shown_at = |path: &str, mode, due_s| {
            let mut history = History::default();
            let configuration = Configuration { path: path.to_owned(), ..fixture::configuration() };
            history.record(Event::JobCreated(JobCreated { configuration, ..job("a") }));
            history.record(Event::Execution(fixture::failed("a", due_s, "x", "connect")));
            let (from_us, until_us) = (T0_S * SECOND_US, (T0_S + 5) * SECOND_US);
            history.record(Event::Misbehaved(Misbehaved { mode, from_us, until_us }));
            check(&history, &observation(T0_S + 10)).len()
        };
        // Nobody refuses what is not frail.
        assert_eq!(shown_at("/ok", Mode::Refuse, T0_S + 2), 1);
        let shown = |mode, due_s| shown_at("/frail/ok", mode, due_s);
        assert_eq!((shown(Mode::Refuse, T0_S + 2), shown(Mode::Refuse, T0_S + 8)), (0, 1));
        assert_eq!((shown(Mode::Hang, T0_S + 2), shown(Mode::Fail, T0_S + 2)), (1, 1));
    }

    #[test]
    fn what_was_given_up_too_soon_is_refused() {
        let attempts = |attempt, retry_max| {
            let mut history = History::default();
            history.record(Event::JobCreated(JobCreated { retry_max, ..job("a") }));
            let call = call("a", T0_S, "x").attempt(attempt).status(Some(500));
            history.record(Event::Call(call.build()));
            let shown = Execution { attempt: Some(attempt), ..failed("x", T0_S) };
            history.record(Event::Execution(shown));
            check(&history, &observation(T0_S + 10))
        };
        assert_eq!((attempts(1, 0), attempts(3, 2), attempts(4, 2)), (vec![], vec![], vec![]));
        let given_up = Violation::GivenUp { execution: "x".to_owned(), attempt: 2, wanted: 3 };
        assert_eq!(attempts(2, 2), [given_up]);
    }
}
