//! Every due instant of every acknowledged job is called under one execution id, once; nothing else is
//! called.
//!
//! A second call is excused in two cases, both with the same execution id and a higher attempt: the attempt
//! before was answered with a failure and the job has retries left, of which what was lost with a node takes none; or the job is sent at least once and
//! the attempt before may have been in flight in a disturbed window, on a node that died: it arrived in it, or by no more than the job's
//! timeout before it. A job sent at most once may miss an instant there. While no quorum ran for so long that an instant was
//! [`MISFIRE_AFTER`] late, it may be on record as skipped instead; and so may one that was due when the job was changed or paused, or
//! just before it: so long before as a call may be late at that time. One whose target refused the connection is on record as
//! failed. Runs out of schedule are [`super::manual_runs`]'s.

use super::{
    Instant, Observation, Violation, accounted::Records, manual_runs, timeline::Timeline, timeline::Timelines,
};
use crate::{
    history::{Call, Delivery, History},
    time::{SECOND_US, micros},
};
use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

/// What is late by less is called late; what is later was missed.
const MISFIRE_AFTER: Duration = Duration::from_secs(30);
/// As late as any call comes while nothing is done to a node.
const CALM_LATE: Duration = Duration::from_secs(2);

/// The calls of each instant, in order of arrival.
type Runs<'a> = BTreeMap<Instant, Vec<&'a Call>>;

/// How many calls repeated an attempt that may have been in flight on a dead node: allowed, and worth a
/// look when there are many.
pub fn repeats(history: &History) -> usize {
    runs(history, &mut Vec::new()).values().map(|calls| calls.len() - 1).sum()
}

/// See the module.
pub fn check(history: &History, observation: &Observation) -> Vec<Violation> {
    let mut violations = Vec::new();
    let runs = runs(history, &mut violations);
    let records = Records::of(history);
    let timelines = Timelines::of(history, observation, &mut violations);
    for timeline in timelines.iter() {
        missing(timeline, &records, &runs, observation, &mut violations);
    }

    let mut instants = HashMap::new();
    for (instant, calls) in &runs {
        match timelines.get(&instant.job).filter(|timeline| timeline.may(instant.due_s)) {
            Some(timeline) => {
                doubled(timeline, instant, calls, observation, &mut violations);
            }
            None => violations.push(Violation::Unasked(instant.clone())),
        }
        for execution in calls.iter().filter_map(|call| call.execution.as_ref()) {
            let first = *instants.entry(execution).or_insert(instant);
            if first != instant {
                violations.push(Violation::TwoInstants {
                    execution: execution.clone(),
                    first: first.clone(),
                    second: instant.clone(),
                });
            }
        }
    }
    violations
}

/// How many calls there are, but those of runs that somebody asked for.
pub fn judged(history: &History, _: &Observation) -> usize {
    runs(history, &mut Vec::new()).values().map(Vec::len).sum()
}

fn runs<'a>(history: &'a History, violations: &mut Vec<Violation>) -> Runs<'a> {
    let manual = manual_runs::ids(history);
    let mut runs = Runs::new();
    for call in history.calls() {
        if call.execution.as_deref().is_some_and(|execution| manual.contains(execution)) {
            continue;
        }
        let unlabelled = |missing| Violation::Unlabelled { path: call.path.clone(), missing };
        match (&call.job, call.scheduled_s) {
            (Some(job), Some(due_s)) => {
                runs.entry(Instant { job: job.clone(), due_s }).or_default().push(call);
                if call.execution.is_none() {
                    violations.push(unlabelled("its execution id"));
                }
                if call.attempt.is_none() {
                    violations.push(unlabelled("its attempt"));
                }
            }
            (None, _) => violations.push(unlabelled("its job id")),
            (Some(_), None) => violations.push(unlabelled("its due instant")),
        }
    }
    for calls in runs.values_mut() {
        calls.sort_by_key(|call| call.arrived_us);
    }
    runs
}

fn missing(
    timeline: &Timeline<'_>,
    records: &Records<'_>,
    runs: &Runs<'_>,
    observation: &Observation,
    violations: &mut Vec<Violation>,
) {
    let job = timeline.job;
    let grace_us = micros(observation.grace);
    let after_s = (job.acknowledged_us + grace_us).div_euclid(SECOND_US);
    let until_s = (observation.until_us - grace_us).div_euclid(SECOND_US);
    let of_job = records.of_job(&job.job);
    for due_s in timeline.instants(after_s + 1, until_s) {
        let instant = Instant { job: job.job.clone(), due_s };
        if runs.contains_key(&instant) || !timeline.must(due_s) {
            continue;
        }
        let late_us = match observation.is_troubled(instant.due_us()) {
            true => grace_us,
            false => grace_us.min(micros(CALM_LATE)),
        };
        let is_changed = timeline.is_changed_around(&instant, late_us);
        let may_be_lost = job.delivery == Delivery::AtMostOnce
            && observation.may_be_lost(instant.due_us(), timeline.timeout_sec_max());
        let is_missed = |first_s: i64| {
            let missed_from_us = first_s * SECOND_US + micros(MISFIRE_AFTER);
            let mut outages = observation.outages.iter();
            outages.any(|outage| outage.contains(instant.due_us()) && outage.until_us >= missed_from_us)
        };
        // Where there is no record to look at, it may have been skipped; and what was lost with its node is not sent again
        // once the job is paused.
        let may_be_skipped = is_changed && (!of_job.is_read || of_job.has_failed(due_s));
        match of_job.skipped_from(due_s) {
            Some(first_s) if is_changed || is_missed(first_s) => {}
            Some(_) => violations.push(Violation::NeedlesslySkipped(instant)),
            None if may_be_lost || may_be_skipped || of_job.is_unreached(due_s) => {}
            None => violations.push(Violation::Missing(instant)),
        }
    }
}

/// Finds the calls of one execution, in order of arrival, that are one too many.
pub(super) fn doubled(
    timeline: &Timeline<'_>,
    instant: &Instant,
    calls: &[&Call],
    observation: &Observation,
    violations: &mut Vec<Violation>,
) {
    let job = timeline.job;
    let mut retries = 0;
    for pair in calls.windows(2) {
        let (earlier, later) = (pair[0], pair[1]);
        if let (Some(first), Some(second)) = (&earlier.execution, &later.execution)
            && first != second
        {
            violations.push(Violation::TwoIds {
                instant: instant.clone(),
                first: first.clone(),
                second: second.clone(),
            });
            continue;
        }
        // A call without a number was reported already; 0 makes it the one too many.
        let (before, attempt) = (earlier.attempt.unwrap_or(0), later.attempt.unwrap_or(0));
        let is_repeated = job.delivery == Delivery::AtLeastOnce;
        let repeated = is_repeated && observation.may_be_lost(earlier.arrived_us, timeline.timeout_sec_max());
        // Attempts that never arrived, because their node died before, have numbers too.
        let is_numbered = attempt <= job.retry_max.saturating_add(1)
            || is_repeated && observation.may_have_lost(instant.due_us(), earlier.arrived_us);
        let retried = !earlier.succeeded() && retries < job.retry_max && is_numbered;
        retries += u32::from(!repeated && retried);
        if attempt <= before || !(retried || repeated) {
            violations.push(Violation::Doubled { instant: instant.clone(), earlier: before, attempt });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::Window,
        check::fixture::{
            CallBuilder, T0_S, call, configuration, edited, execution, failed, instant, job, observation,
            stopped,
        },
        history::{Configuration, Event, JobCreated, JobRead, RunAsked},
    };

    /// A job, calls of it and what the checker says. The instants T0 to T0+7 must have been called.
    struct Case {
        job: JobCreated,
        calls: Vec<Call>,
        disturbed: Vec<Window>,
    }

    impl Case {
        /// Every instant of the job once, from its creation on and up to the end.
        fn clean() -> Self {
            let calls = (-1..=9).map(|offset| call("a", T0_S + offset, &format!("x{offset}")).build());
            Self { job: job("a"), calls: calls.collect(), disturbed: Vec::new() }
        }

        fn with(mut self, call: CallBuilder) -> Self {
            self.calls.push(call.build());
            self
        }

        fn without(mut self, due_s: i64) -> Self {
            self.calls.retain(|call| call.scheduled_s != Some(due_s));
            self
        }

        fn job(mut self, change: impl FnOnce(&mut JobCreated)) -> Self {
            change(&mut self.job);
            self
        }

        /// As if a node had been killed at this instant.
        fn killed_at(mut self, at_s: i64) -> Self {
            self.disturbed = vec![Window { from_us: at_s * SECOND_US, until_us: (at_s + 5) * SECOND_US }];
            self
        }

        fn check(self) -> Vec<Violation> {
            let mut history = History::default();
            history.record(Event::JobCreated(self.job));
            self.calls.into_iter().for_each(|call| history.record(Event::Call(call)));
            let observation = Observation { disturbed: self.disturbed, ..observation(T0_S + 9) };
            check(&history, &observation)
        }
    }

    #[test]
    fn every_instant_once_is_fine() {
        assert_eq!(Case::clean().check(), []);
    }

    #[test]
    fn an_instant_without_a_call_is_missing() {
        for offset in [0, 3, 7] {
            let expected = Violation::Missing(instant("a", T0_S + offset));
            assert_eq!(Case::clean().without(T0_S + offset).check(), [expected], "T0+{offset}");
        }
        // Even if a node died then: the job is sent at least once.
        let expected = Violation::Missing(instant("a", T0_S + 3));
        assert_eq!(Case::clean().without(T0_S + 3).killed_at(T0_S + 3).check(), [expected]);
    }

    #[test]
    fn the_edges_of_the_observation_need_no_call() {
        let case = Case::clean().without(T0_S - 1).without(T0_S + 8).without(T0_S + 9);
        assert_eq!(case.check(), []);
    }

    #[test]
    fn nothing_at_all_is_missing_everywhere() {
        let case = Case { calls: Vec::new(), ..Case::clean() };
        assert_eq!(case.check().len(), 8);
    }

    #[test]
    fn at_most_once_may_miss_what_a_dead_node_held() {
        let case = || Case::clean().without(T0_S + 3).job(|job| job.delivery = Delivery::AtMostOnce);
        assert_eq!(case().killed_at(T0_S + 3).check(), []);
        assert_eq!(case().check(), [Violation::Missing(instant("a", T0_S + 3))]);
    }

    /// As if the API said that these instants were missed.
    fn check_skipped(case: Case, until_s: i64, outages: Vec<Window>) -> Vec<Violation> {
        let mut history = History::default();
        history.record(Event::JobCreated(case.job));
        case.calls.into_iter().for_each(|call| history.record(Event::Call(call)));
        let mut record = execution("a", T0_S + 3, "s", "skipped");
        record.missed_until_s = Some(until_s);
        history.record(Event::Execution(record));
        check(&history, &Observation { outages, ..observation(T0_S + 9) })
    }

    #[test]
    fn what_is_on_record_as_skipped_needs_no_call_while_no_quorum_ran() {
        let case = || Case::clean().without(T0_S + 3).without(T0_S + 4);
        let outage =
            |until_s| vec![Window { from_us: (T0_S + 2) * SECOND_US, until_us: until_s * SECOND_US }];
        // Of several on one record the first is half a minute late, and the others go with it.
        assert_eq!(check_skipped(case(), T0_S + 4, outage(T0_S + 33)), []);
        assert_eq!(
            check_skipped(case(), T0_S + 3, outage(T0_S + 33)),
            [Violation::Missing(instant("a", T0_S + 4))]
        );
        let needless = |offset| Violation::NeedlesslySkipped(instant("a", T0_S + offset));
        // Called late, if there is somebody to call it.
        assert_eq!(check_skipped(case(), T0_S + 4, outage(T0_S + 32)), [needless(3), needless(4)]);
        assert_eq!(check_skipped(case(), T0_S + 4, outage(T0_S + 3)), [needless(3), needless(4)]);
    }

    #[test]
    fn a_change_long_after_an_instant_is_no_reason_to_skip_it_while_all_is_calm() {
        let skipped = |edit_offset: i64, disturbed: Vec<Window>| {
            let mut history = History::default();
            history.record(Event::JobCreated(job("a")));
            for offset in (-1..=60).filter(|offset| *offset != 20) {
                let call = call("a", T0_S + offset, &format!("x{offset}"));
                history.record(Event::Call(call.build()));
            }
            history.record(Event::Execution(execution("a", T0_S + 20, "s", "skipped")));
            let to = Configuration { path: "/ok/2".to_owned(), ..configuration() };
            history.record(Event::Edited(edited("a", T0_S + edit_offset, to, Some(50_000))));
            let grace = Duration::from_secs(12);
            check(&history, &Observation { grace, disturbed, ..observation(T0_S + 60) })
        };
        let needless = [Violation::NeedlesslySkipped(instant("a", T0_S + 20))];
        assert_eq!((skipped(21, vec![]), skipped(22, vec![])), (vec![], vec![]));
        assert_eq!(skipped(23, vec![]), needless);
        // It may be that late where a node was killed.
        let killed = || vec![Window { from_us: (T0_S + 21) * SECOND_US, until_us: (T0_S + 26) * SECOND_US }];
        assert_eq!((skipped(23, killed()), skipped(32, killed())), (vec![], vec![]));
        assert_eq!(skipped(33, killed()), needless);
    }

    #[test]
    fn a_job_that_is_stopped_needs_no_call() {
        let with_stop = |from, until: Option<i64>| {
            let case = Case::clean().without(T0_S + 3);
            let mut history = History::default();
            history.record(Event::JobCreated(case.job));
            case.calls.into_iter().for_each(|call| history.record(Event::Call(call)));
            history.record(Event::Stopped(stopped("a", T0_S + from, until.map(|until| T0_S + until))));
            check(&history, &observation(T0_S + 9))
        };
        // Within the grace before it, too.
        for (from, until) in [(3, Some(4)), (4, None), (0, Some(3)), (1, None)] {
            assert_eq!(with_stop(from, until), [], "{from} {until:?}");
        }
        for (from, until) in [(5, None), (0, Some(2))] {
            assert_eq!(
                with_stop(from, until),
                [Violation::Missing(instant("a", T0_S + 3))],
                "{from} {until:?}"
            );
        }
    }

    #[test]
    fn a_second_call_is_doubled() {
        let doubled =
            |earlier, attempt| Violation::Doubled { instant: instant("a", T0_S + 3), earlier, attempt };
        let again = |attempt| call("a", T0_S + 3, "x3").late(900_000).attempt(attempt);
        assert_eq!(Case::clean().with(again(1)).check(), [doubled(1, 1)]);
        assert_eq!(Case::clean().with(again(2)).check(), [doubled(1, 2)]);
        // Not excused by a death: the same attempt twice, too long before it, or sent at most once.
        assert_eq!(Case::clean().with(again(1)).killed_at(T0_S + 3).check(), [doubled(1, 1)]);
        assert_eq!(Case::clean().with(again(2)).killed_at(T0_S + 7).check(), [doubled(1, 2)]);
        let at_most_once = Case::clean().with(again(2)).job(|job| job.delivery = Delivery::AtMostOnce);
        assert_eq!(at_most_once.killed_at(T0_S + 3).check(), [doubled(1, 2)]);
    }

    #[test]
    fn a_repeat_in_place_of_a_dead_node_is_fine() {
        let case = Case::clean().with(call("a", T0_S + 3, "x3").late(3_000_000).attempt(2));
        assert_eq!(case.killed_at(T0_S + 4).check(), []);
        // Claimed, never sent, and taken over: its only call is attempt 2.
        let case = Case::clean().without(T0_S + 3).with(call("a", T0_S + 3, "x3").late(3_000_000).attempt(2));
        assert_eq!(case.check(), []);
    }

    #[test]
    fn what_was_lost_with_its_node_takes_no_retry() {
        // Claimed as attempt 1 by a node that died; attempt 2 fails, and attempt 3 is the one retry.
        let case = |attempts: &[u32], at_s: i64| {
            let case = Case::clean().without(T0_S + 3).job(|job| job.retry_max = 1).killed_at(at_s);
            attempts.iter().fold(case, |case, attempt| {
                let late_us = 6_000_000 + i64::from(*attempt) * 1_000_000;
                case.with(call("a", T0_S + 3, "x3").late(late_us).attempt(*attempt).status(Some(500)))
            })
        };
        let doubled =
            |earlier, attempt| [Violation::Doubled { instant: instant("a", T0_S + 3), earlier, attempt }];
        assert_eq!(case(&[2, 3], T0_S + 2).check(), []);
        assert_eq!(case(&[2, 3, 4], T0_S + 2).check(), doubled(3, 4));
        // No node has died by then.
        assert_eq!(case(&[2, 3], T0_S + 30).check(), doubled(2, 3));
        let at_most_once = case(&[2, 3], T0_S + 2).job(|job| job.delivery = Delivery::AtMostOnce);
        assert_eq!(at_most_once.check(), doubled(2, 3));
    }

    #[test]
    fn a_retry_after_a_failure_is_fine_as_long_as_there_are_some() {
        let failing = |retry_max, status| {
            Case::clean()
                .without(T0_S + 3)
                .job(|job| job.retry_max = retry_max)
                .with(call("a", T0_S + 3, "x3").status(status))
                .with(call("a", T0_S + 3, "x3").late(1_000_000).attempt(2))
        };
        let doubled = || Violation::Doubled { instant: instant("a", T0_S + 3), earlier: 1, attempt: 2 };
        assert_eq!(failing(1, Some(500)).check(), []);
        assert_eq!(failing(1, None).check(), []);
        assert_eq!(failing(0, Some(500)).check(), [doubled()]);
        assert_eq!(failing(1, Some(200)).check(), [doubled()]);
    }

    #[test]
    fn two_ids_for_one_instant_are_refused_even_when_a_node_died() {
        let case = Case::clean().with(call("a", T0_S + 3, "y").late(900_000).attempt(2));
        let expected = Violation::TwoIds {
            instant: instant("a", T0_S + 3),
            first: "x3".to_owned(),
            second: "y".to_owned(),
        };
        assert_eq!(case.killed_at(T0_S + 3).check(), [expected]);
    }

    #[test]
    fn one_id_for_two_instants_is_refused() {
        let case = Case::clean().without(T0_S + 4).with(call("a", T0_S + 4, "x3"));
        let expected = Violation::TwoInstants {
            execution: "x3".to_owned(),
            first: instant("a", T0_S + 3),
            second: instant("a", T0_S + 4),
        };
        assert_eq!(case.check(), [expected]);
    }

    #[test]
    fn calls_that_nobody_asked_for_are_refused() {
        let unasked = |job: &str, due_s| [Violation::Unasked(instant(job, due_s))];
        assert_eq!(Case::clean().with(call("b", T0_S, "y")).check(), unasked("b", T0_S));
        // Due by its schedule, but before the job was asked for.
        assert_eq!(Case::clean().with(call("a", T0_S - 2, "y")).check(), unasked("a", T0_S - 2));
        // Not due by its schedule; its own instants are then missing.
        let case = Case { calls: Vec::new(), ..Case::clean() }
            .job(|job| job.configuration.expression = "@every 1h".to_owned())
            .with(call("a", T0_S + 3, "y"));
        assert_eq!(case.check()[1..], unasked("a", T0_S + 3));
    }

    #[test]
    fn calls_without_headers_are_refused() {
        let mut case = Case::clean();
        let mut bare = call("a", T0_S + 3, "x3").build();
        (bare.job, bare.scheduled_s) = (None, None);
        case.calls.push(bare);
        assert_eq!(case.check(), [Violation::Unlabelled { path: "/ok".to_owned(), missing: "its job id" }]);
        let mut case = Case::clean();
        case.calls[4].attempt = None;
        assert_eq!(case.check(), [Violation::Unlabelled { path: "/ok".to_owned(), missing: "its attempt" }]);
    }

    #[test]
    fn a_schedule_that_cannot_be_computed_is_not_passed_over() {
        let case = Case { calls: Vec::new(), ..Case::clean() }
            .job(|job| job.configuration.expression = "@daily".to_owned());
        assert!(matches!(case.check()[..], [Violation::Unreadable(_)]));
    }

    #[test]
    fn repeats_are_counted() {
        let mut history = History::default();
        for attempt in 1..=3 {
            history.record(Event::Call(call("a", T0_S, "x").attempt(attempt).build()));
        }
        history.record(Event::Call(call("a", T0_S + 1, "y").build()));
        assert_eq!(repeats(&history), 2);
    }

    /// What is said of a job with these calls missing, and these events beside.
    fn check_without(missing: &[i64], events: impl IntoIterator<Item = Event>) -> Vec<Violation> {
        let case = missing.iter().fold(Case::clean(), |case, offset| case.without(T0_S + offset));
        let mut history = History::default();
        history.record(Event::JobCreated(case.job));
        case.calls.into_iter().for_each(|call| history.record(Event::Call(call)));
        events.into_iter().for_each(|event| history.record(event));
        check(&history, &observation(T0_S + 9))
    }

    fn missing_at(offsets: &[i64]) -> Vec<Violation> {
        offsets.iter().map(|offset| Violation::Missing(instant("a", T0_S + offset))).collect()
    }

    #[test]
    fn a_job_whose_schedule_was_changed_is_called_by_one_or_the_other() {
        // From T0+3 on it is due every three seconds only: of T0+4 and T0+5 either is right.
        let every_3s = || Configuration { expression: "@every 3s".to_owned(), ..configuration() };
        let edit = |after_us| Event::Edited(edited("a", T0_S + 3, every_3s(), after_us));
        assert_eq!(check_without(&[4, 7, 8], [edit(Some(50_000))]), []);
        assert_eq!(check_without(&[4, 5, 7, 8, 9], [edit(Some(50_000))]), []);
        assert_eq!(check_without(&[6, 7, 8, 9], [edit(Some(50_000))]), missing_at(&[6]));
        // Long after the acknowledgement, by the old schedule.
        let unasked = |offset| Violation::Unasked(instant("a", T0_S + offset));
        assert_eq!(check_without(&[], [edit(Some(50_000))]), [7, 8].map(unasked));
        // Nobody knows whether it was changed: both are right, and what is due by both must be called.
        assert_eq!(check_without(&[], [edit(None)]), []);
        assert_eq!(check_without(&[4, 5, 7, 8], [edit(None)]), []);
        let read = Event::JobRead(JobRead { job: "a".to_owned(), asked_us: (T0_S + 12) * SECOND_US });
        assert_eq!(check_without(&[6], [edit(None), read]), missing_at(&[6]));
    }

    #[test]
    fn what_was_due_just_before_a_change_may_be_skipped_if_there_is_a_record() {
        let edit = || {
            let to = Configuration { path: "/ok/2".to_owned(), ..configuration() };
            Event::Edited(edited("a", T0_S + 4, to, Some(50_000)))
        };
        let read = || Event::JobRead(JobRead { job: "a".to_owned(), asked_us: (T0_S + 12) * SECOND_US });
        let skipped = || Event::Execution(execution("a", T0_S + 3, "s", "skipped"));
        assert_eq!(check_without(&[3], [edit(), read(), skipped()]), []);
        assert_eq!(check_without(&[3], [edit(), read()]), missing_at(&[3]));
        // Nobody can look.
        assert_eq!(check_without(&[3], [edit()]), []);
        let needless = Violation::NeedlesslySkipped(instant("a", T0_S + 3));
        assert_eq!(check_without(&[3], [read(), skipped()]), [needless]);
    }

    #[test]
    fn what_was_lost_before_a_pause_may_be_left_so() {
        let read = || Event::JobRead(JobRead { job: "a".to_owned(), asked_us: (T0_S + 12) * SECOND_US });
        let lost = || Event::Execution(failed("a", T0_S + 3, "x3", "node_lost"));
        let stop = |offset| Event::Stopped(stopped("a", T0_S + offset, Some(T0_S + offset)));
        assert_eq!(check_without(&[3], [read(), lost(), stop(4)]), []);
        assert_eq!(check_without(&[3], [read(), stop(4)]), missing_at(&[3]));
        assert_eq!(check_without(&[3], [read(), lost(), stop(6)]), missing_at(&[3]));
    }

    #[test]
    fn what_could_not_connect_is_on_record_as_failed() {
        let record = |kind| Event::Execution(failed("a", T0_S + 3, "x3", kind));
        assert_eq!(check_without(&[3], [record("connect")]), []);
        for kind in ["http_status", "node_lost"] {
            assert_eq!(check_without(&[3], [record(kind)]), missing_at(&[3]), "{kind}");
        }
    }

    #[test]
    fn a_run_out_of_schedule_is_no_firing() {
        let asked = || RunAsked {
            job: "a".to_owned(),
            key: None,
            asked_us: T0_S * SECOND_US,
            execution: Some("m".to_owned()),
        };
        let call = || Event::Call(call("a", T0_S + 3, "m").build());
        assert_eq!(check_without(&[], [Event::RunAsked(asked()), call()]), []);
        let unknown = RunAsked { execution: None, ..asked() };
        let of_api = execution("a", T0_S + 3, "m", "success");
        let of_api =
            Event::Execution(crate::history::Execution { triggered_by: "manual".to_owned(), ..of_api });
        assert_eq!(check_without(&[], [Event::RunAsked(unknown), call(), of_api]), []);
        // Nor does it stand for one.
        assert_eq!(check_without(&[3], [Event::RunAsked(asked()), call()]), missing_at(&[3]));
        assert!(matches!(check_without(&[], [call()])[..], [Violation::TwoIds { .. }]));
    }
}
