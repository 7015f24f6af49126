//! When a job must fire and when it may: its configurations, one after the other, and its pauses.
//!
//! A change takes effect at some instant between its question and its acknowledgement. Nodes claim what is due up to
//! `claim_ahead` later by the configuration that they have; what was claimed by the old one may still be called by it. A change
//! that nobody was told the fate of may take effect at any time, or never.

use super::{
    Instant, Observation, Violation,
    windows::{Skew, skew_us},
};
use crate::{
    due::Due,
    history::{Configuration, Edited, History, JobCreated, Stopped},
    target::FRAIL,
    time::{SECOND_US, micros},
};
use std::collections::{BTreeSet, HashMap};

/// Nodes keep time in whole milliseconds.
const EDGE_US: i64 = 2_000;
/// How long after it was superseded an address may still be called: what was looked up just before by a node that had not
/// heard yet, and then waited for its connection. A node that hears nothing stops starting requests after `claim_ahead`.
const STALE_ADDRESS_US: i64 = 3 * SECOND_US;

/// The jobs of a history, each with what was done to it.
pub(super) struct Timelines<'a> {
    by_job: HashMap<&'a str, Timeline<'a>>,
    /// In the order in which they were acknowledged.
    order: Vec<&'a str>,
}

/// One job's.
pub(super) struct Timeline<'a> {
    pub(super) job: &'a JobCreated,
    spans: Vec<Span<'a>>,
    stops: Vec<&'a Stopped>,
    ahead_us: i64,
    skews: Vec<Skew>,
}

/// A configuration, and when it held.
struct Span<'a> {
    configuration: &'a Configuration,
    due: Due,
    /// From here on it may hold.
    from_us: i64,
    /// From here on something else does; `i64::MAX` if nothing ever certainly does.
    until_us: i64,
}

impl<'a> Timelines<'a> {
    /// What cannot be computed is added to `violations`.
    pub(super) fn of(
        history: &'a History,
        observation: &Observation,
        violations: &mut Vec<Violation>,
    ) -> Self {
        let mut edits: HashMap<&str, Vec<&Edited>> = HashMap::new();
        for edited in history.edits() {
            edits.entry(&edited.job).or_default().push(edited);
        }
        let mut stops: HashMap<&str, Vec<&Stopped>> = HashMap::new();
        for stopped in history.stops() {
            stops.entry(&stopped.job).or_default().push(stopped);
        }
        let ahead_us = micros(observation.claim_ahead);
        let mut all = Self { by_job: HashMap::new(), order: Vec::new() };
        for job in history.jobs() {
            let of_job = edits.get(job.job.as_str()).map_or(&[][..], Vec::as_slice);
            match spans(job, of_job) {
                Ok(spans) => {
                    let stops = stops.remove(job.job.as_str()).unwrap_or_default();
                    all.by_job.insert(
                        &job.job,
                        Timeline { job, spans, stops, ahead_us, skews: observation.skews.clone() },
                    );
                    all.order.push(&job.job);
                }
                Err(error) => violations.push(Violation::Unreadable(error.to_string())),
            }
        }
        all
    }

    pub(super) fn get(&self, job: &str) -> Option<&Timeline<'a>> {
        self.by_job.get(job)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Timeline<'a>> {
        self.order.iter().filter_map(|job| self.by_job.get(job))
    }
}

fn spans<'a>(job: &'a JobCreated, edits: &[&'a Edited]) -> Result<Vec<Span<'a>>, crate::Error> {
    let due = |configuration: &Configuration| Due::parse(&configuration.expression, &configuration.timezone);
    let mut spans = vec![Span {
        configuration: &job.configuration,
        due: due(&job.configuration)?,
        from_us: job.asked_us,
        until_us: i64::MAX,
    }];
    // What nobody was told the fate of may take effect after all that follows.
    let mut is_settled = vec![true];
    for edited in edits {
        if let Some(acknowledged_us) = edited.acknowledged_us {
            for (span, _) in spans.iter_mut().zip(&is_settled).filter(|(_, is_settled)| **is_settled) {
                span.until_us = span.until_us.min(acknowledged_us);
            }
        }
        is_settled.push(edited.acknowledged_us.is_some());
        spans.push(Span {
            configuration: &edited.to,
            due: due(&edited.to)?,
            from_us: edited.asked_us,
            until_us: i64::MAX,
        });
    }
    Ok(spans)
}

impl Timeline<'_> {
    /// The instants at which it may have been due in a stretch of seconds, both ends included, by any configuration.
    pub(super) fn instants(&self, from_s: i64, until_s: i64) -> BTreeSet<i64> {
        let mut instants = BTreeSet::new();
        for span in &self.spans {
            let last_us = span.until_us.saturating_add(self.ahead_us + EDGE_US);
            let first_s = from_s.max(span.from_us.div_euclid(SECOND_US));
            let last_s = until_s.min(last_us.div_euclid(SECOND_US));
            instants.extend(span.due.between(first_s - 1, last_s));
        }
        instants
    }

    /// How far apart nodes and harness may be about what was due when.
    fn edge_us(&self, due_us: i64) -> i64 {
        EDGE_US + skew_us(&self.skews, due_us)
    }

    /// Whether it may be called for this instant, whatever it was paused for.
    pub(super) fn may(&self, due_s: i64) -> bool {
        let due_us = due_s * SECOND_US;
        let edge_us = self.edge_us(due_us);
        due_us > self.job.asked_us - (edge_us - EDGE_US)
            && self.spans.iter().any(|span| {
                span.due.is_due(due_s)
                    && span.from_us < due_us + edge_us
                    && due_us <= span.until_us.saturating_add(self.ahead_us + edge_us)
            })
    }

    /// Whether this instant must leave a record: it is due by every configuration by which it may have been claimed, and the
    /// job was neither paused nor gone.
    pub(super) fn must(&self, due_s: i64) -> bool {
        let due_us = due_s * SECOND_US;
        let edge_us = self.edge_us(due_us);
        let claimed_from_us = due_us - self.ahead_us - edge_us;
        let possible =
            |span: &&Span<'_>| span.from_us <= due_us + edge_us && span.until_us >= claimed_from_us;
        let is_stopped = |stopped: &&Stopped| {
            let until_us = stopped.resumed_us.map_or(i64::MAX, |resumed_us| resumed_us + edge_us);
            (stopped.asked_us - edge_us..=until_us).contains(&due_us)
        };
        due_us > self.job.acknowledged_us + edge_us
            && self.spans.iter().filter(possible).all(|span| span.due.is_due(due_s))
            && !self.stops.iter().any(is_stopped)
    }

    /// Whether the job was changed or stopped when an instant was due, or so soon after it that a call which was late by at most
    /// `late_us` was not made for that.
    pub(super) fn is_changed_around(&self, instant: &Instant, late_us: i64) -> bool {
        let due_us = instant.due_us();
        let overlaps = |from_us: i64, until_us: i64| {
            from_us <= due_us.saturating_add(late_us) && until_us >= due_us - EDGE_US
        };
        // The first configuration is no change.
        let mut edits = self.spans.iter().zip(self.spans.iter().skip(1));
        let mut stops = self.stops.iter();
        edits.any(|(before, edit)| overlaps(edit.from_us, before.until_us))
            || stops.any(|stopped| overlaps(stopped.asked_us, stopped.resumed_us.unwrap_or(i64::MAX)))
    }

    /// Whether it was paused or deleted at some time from one instant to the other.
    pub(super) fn is_stopped_between(&self, from_us: i64, until_us: i64) -> bool {
        self.stops.iter().any(|stopped| {
            stopped.asked_us <= until_us && stopped.resumed_us.is_none_or(|resumed_us| resumed_us >= from_us)
        })
    }

    /// Whether a call that arrived then may have gone to this path.
    pub(super) fn may_call(&self, path: &str, arrived_us: i64) -> bool {
        let stale_us = self.ahead_us + STALE_ADDRESS_US;
        self.spans.iter().any(|span| {
            span.configuration.path == path
                && span.from_us <= arrived_us
                && arrived_us <= span.until_us.saturating_add(stale_us)
        })
    }

    /// The longest that an attempt may take by any configuration, in seconds.
    pub(super) fn timeout_sec_max(&self) -> u32 {
        self.spans.iter().map(|span| span.configuration.timeout_sec).max().unwrap_or_default()
    }

    /// Whether it calls, by any configuration, what misbehaves at times.
    pub(super) fn calls_frail(&self) -> bool {
        self.spans.iter().any(|span| span.configuration.path.starts_with(FRAIL))
    }

    /// What it may be configured as at the end.
    pub(super) fn last(&self) -> impl Iterator<Item = &Configuration> {
        self.spans.iter().filter(|span| span.until_us == i64::MAX).map(|span| span.configuration)
    }

    /// The last time it was paused or deleted, and whatever became of it.
    pub(super) fn last_stop(&self) -> Option<&Stopped> {
        self.stops.iter().max_by_key(|stopped| stopped.asked_us).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::Window,
        check::fixture::{T0_S, configuration, edited, job, observation, stopped},
        history::Event,
    };

    /// A job that fires every second, changed as said.
    fn with<T>(events: impl IntoIterator<Item = Event>, look: impl FnOnce(&Timeline<'_>) -> T) -> T {
        let mut history = History::default();
        history.record(Event::JobCreated(job("a")));
        events.into_iter().for_each(|event| history.record(event));
        let mut violations = Vec::new();
        let observation = observation(T0_S + 100);
        let timelines = Timelines::of(&history, &observation, &mut violations);
        assert_eq!(violations, []);
        look(timelines.get("a").unwrap())
    }

    /// Which of the offsets to T0 hold.
    fn offsets(range: std::ops::RangeInclusive<i64>, is: impl Fn(i64) -> bool) -> Vec<i64> {
        range.filter(|offset| is(T0_S + offset)).collect()
    }

    fn every(period: &str) -> Configuration {
        Configuration { expression: format!("@every {period}"), ..configuration() }
    }

    #[test]
    fn a_change_leaves_a_stretch_in_which_either_may_be_called() {
        // Asked at T0+10, acknowledged 50 ms later.
        let edit = || Event::Edited(edited("a", T0_S + 10, every("4s"), Some(50_000)));
        let must = with([edit()], |timeline| offsets(5..=20, |due_s| timeline.must(due_s)));
        // Claimed by the old one up to T0+12; what is due by both must be called throughout.
        assert_eq!(must, [5, 6, 7, 8, 9, 12, 16, 20]);
        let may = with([edit()], |timeline| offsets(5..=20, |due_s| timeline.may(due_s)));
        assert_eq!(may, [5, 6, 7, 8, 9, 10, 11, 12, 16, 20]);
        let instants = with([edit()], |timeline| timeline.instants(T0_S + 8, T0_S + 17));
        assert_eq!(instants, [8, 9, 10, 11, 12, 16].map(|offset| T0_S + offset).into());
    }

    #[test]
    fn a_change_back_to_more_instants_need_not_call_what_was_claimed_ahead() {
        let edits = || {
            [
                Event::Edited(edited("a", T0_S + 10, every("4s"), Some(50_000))),
                Event::Edited(edited("a", T0_S + 20, every("1s"), Some(50_000))),
            ]
        };
        let must = with(edits(), |timeline| offsets(17..=26, |due_s| timeline.must(due_s)));
        assert_eq!(must, [20, 23, 24, 25, 26]);
        let may = with(edits(), |timeline| offsets(17..=26, |due_s| timeline.may(due_s)));
        assert_eq!(may, [20, 21, 22, 23, 24, 25, 26]);
    }

    #[test]
    fn a_change_of_unknown_fate_may_hold_for_ever_or_never() {
        let edit = || Event::Edited(edited("a", T0_S + 10, every("4s"), None));
        assert_eq!(with([edit()], |timeline| offsets(8..=17, |due_s| timeline.must(due_s))), [8, 9, 12, 16]);
        assert_eq!(with([edit()], |timeline| offsets(8..=99, |due_s| timeline.may(due_s))).len(), 92);
        assert_eq!(with([edit()], |timeline| timeline.last().count()), 2);
        // And one that is acknowledged afterwards does not end it.
        let later = || Event::Edited(edited("a", T0_S + 20, every("3s"), Some(50_000)));
        let last = with([edit(), later()], |timeline| timeline.last().cloned().collect::<Vec<_>>());
        assert_eq!(last, [every("4s"), every("3s")]);
    }

    #[test]
    fn what_is_stopped_must_not_be_called() {
        let stop = || Event::Stopped(stopped("a", T0_S + 10, Some(T0_S + 15)));
        let must = with([stop()], |timeline| offsets(8..=18, |due_s| timeline.must(due_s)));
        assert_eq!(must, [8, 9, 16, 17, 18]);
    }

    #[test]
    fn an_old_address_is_good_for_a_moment() {
        let to = Configuration { path: "/ok/2".to_owned(), ..configuration() };
        let edit = Event::Edited(edited("a", T0_S + 10, to, Some(50_000)));
        with([edit], |timeline| {
            let at = |offset: i64| (T0_S + offset) * SECOND_US;
            assert!(timeline.may_call("/ok", at(9)) && !timeline.may_call("/ok/2", at(9)));
            assert!(timeline.may_call("/ok", at(15)) && timeline.may_call("/ok/2", at(10)));
            assert!(!timeline.may_call("/ok", at(16)) && timeline.may_call("/ok/2", at(99)));
            assert!(!timeline.may_call("/ok/3", at(11)));
        });
    }

    #[test]
    fn near_a_change_a_clock_that_is_off_decides() {
        let at = |offset: i64| (T0_S + offset) * SECOND_US;
        let edit = || Event::Edited(edited("a", T0_S + 10, every("4s"), Some(200_000)));
        let resumed_us = Some(at(35) + 200_000);
        let stop = || Event::Stopped(Stopped { resumed_us, ..stopped("a", T0_S + 30, Some(T0_S + 35)) });
        let with_skew = |look: &dyn Fn(&Timeline<'_>) -> Vec<i64>| {
            let history = History { events: vec![Event::JobCreated(job("a")), edit(), stop()] };
            let window = Window { from_us: at(5), until_us: at(40) };
            let skews = vec![Skew { window, off_us: 900_000 }];
            let observation = Observation { skews, ..observation(T0_S + 100) };
            look(Timelines::of(&history, &observation, &mut Vec::new()).get("a").unwrap())
        };
        // Changed at T0+10.2; by a clock that is 0.9 s ahead the old one has claimed up to T0+13.1.
        let may = with_skew(&|timeline| offsets(8..=20, |due_s| timeline.may(due_s)));
        assert_eq!(may, [8, 9, 10, 11, 12, 13, 16, 20]);
        let must = with_skew(&|timeline| offsets(6..=17, |due_s| timeline.must(due_s)));
        assert_eq!(must, [6, 7, 8, 9, 12, 16]);
        // Resumed at T0+35.2, which that clock may call T0+36.1.
        assert_eq!(with_skew(&|timeline| offsets(26..=44, |due_s| timeline.must(due_s))), [28, 40, 44]);
    }

    #[test]
    fn changes_around_an_instant_are_found() {
        let edit = || Event::Edited(edited("a", T0_S + 10, every("4s"), Some(50_000)));
        let stop = || Event::Stopped(stopped("a", T0_S + 30, Some(T0_S + 35)));
        let found = with([edit(), stop()], |timeline| {
            offsets(0..=50, |due_s| {
                timeline.is_changed_around(&Instant { job: "a".to_owned(), due_s }, 3 * SECOND_US)
            })
        });
        let expected: Vec<_> = (7..=10).chain(27..=35).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_schedule_that_cannot_be_computed_is_said() {
        let mut history = History::default();
        history.record(Event::JobCreated(job("a")));
        let to = Configuration { expression: "@daily".to_owned(), ..configuration() };
        history.record(Event::Edited(edited("a", T0_S, to, None)));
        let mut violations = Vec::new();
        let observation = observation(T0_S + 100);
        assert!(Timelines::of(&history, &observation, &mut violations).get("a").is_none());
        assert!(matches!(violations[..], [Violation::Unreadable(_)]));
    }
}
