use super::*;
use crate::{
    check::fixture::{T0_S, alert, execution, failed, job, observation},
    history::{Channel, Event, JobRead},
};

/// Job `a` of which one channel hears, executions of it every ten seconds from T0 on (named by their offset; `true` went
/// well), and what arrived. All was read at T0+200.
struct Case {
    executions: Vec<Execution>,
    alerts: Vec<Alert>,
    disturbed: Vec<Window>,
}

impl Case {
    fn of(went_well: &[bool]) -> Self {
        let executions = (0..).zip(went_well).map(|(number, went_well)| {
            let (due_s, id) = (T0_S + number * 10, format!("x{}", number * 10));
            match went_well {
                true => execution("a", due_s, &id, "success"),
                false => failed("a", due_s, &id, "http_status"),
            }
        });
        Self { executions: executions.collect(), alerts: Vec::new(), disturbed: Vec::new() }
    }

    /// A message about the execution of this offset, so many seconds after it.
    fn told(mut self, kind: &str, offset: i64, after_s: i64) -> Self {
        self.alerts.push(alert(kind, &format!("x{offset}"), T0_S + offset + after_s));
        self
    }

    fn last(mut self, change: impl FnOnce(&mut Alert)) -> Self {
        change(self.alerts.last_mut().unwrap());
        self
    }

    /// As if something had been done to a node from one offset to the other.
    fn disturbed(mut self, from: i64, until: i64) -> Self {
        self.disturbed
            .push(Window { from_us: (T0_S + from) * SECOND_US, until_us: (T0_S + until) * SECOND_US });
        self
    }

    fn history(&self) -> History {
        let mut history = History::default();
        let channel = |channel: &str, path: &str| {
            Event::Channel(Channel { channel: channel.to_owned(), path: path.to_owned() })
        };
        history.record(channel("ch_a", "/alerts/ready"));
        history.record(channel("ch_b", "/alerts/other"));
        let heard = JobCreated { channels: vec!["ch_a".to_owned()], ..job("a") };
        history.record(Event::JobCreated(heard));
        history.record(Event::JobCreated(job("quiet")));
        for job in ["a", "quiet"] {
            let asked_us = (T0_S + 200) * SECOND_US;
            history.record(Event::JobRead(JobRead { job: job.to_owned(), asked_us }));
        }
        history.events.extend(self.executions.iter().cloned().map(Event::Execution));
        history.events.extend(self.alerts.iter().cloned().map(Event::Alert));
        history
    }

    fn observation(&self) -> Observation {
        Observation { disturbed: self.disturbed.clone(), ..observation(T0_S + 300) }
    }

    fn check(&self) -> Vec<Violation> {
        check(&self.history(), &self.observation())
    }

    fn left(&self) -> usize {
        Owed::of(&self.history(), &self.observation()).left(&self.alerts)
    }
}

fn path() -> String {
    "/alerts/ready".to_owned()
}

fn lost(kind: &str, offset: i64) -> [Violation; 1] {
    [Violation::AlertLost { kind: kind.to_owned(), execution: format!("x{offset}"), path: path() }]
}

fn invented(case: Case, expected: &str) {
    let violations = case.check();
    let [Violation::AlertInvented { fault, .. }] = &violations[..] else { panic!("{violations:?}") };
    assert_eq!(fault, expected);
}

#[test]
fn what_happened_is_told() {
    let case = Case::of(&[true, false, false, true, true]);
    let case = case.told(FAILED, 10, 1).told(FAILED, 20, 1).told(RECOVERED, 30, 1);
    assert_eq!((case.check(), case.left()), (vec![], 0));
    // Twice is as good, under one id.
    assert_eq!(case.told(FAILED, 10, 3).check(), []);
}

#[test]
fn what_is_not_told_is_lost() {
    let case = Case::of(&[true, false, true]).told(RECOVERED, 20, 1);
    assert_eq!((case.check(), case.left()), (lost(FAILED, 10).to_vec(), 1));
    let case = Case::of(&[true, false, true]).told(FAILED, 10, 1);
    assert_eq!((case.check(), case.left()), (lost(RECOVERED, 20).to_vec(), 1));
    // Nobody told the sender that it has arrived.
    let refused = Case::of(&[false]).told(FAILED, 0, 1).last(|alert| alert.status = 503);
    assert_eq!((refused.check(), refused.left()), (lost(FAILED, 0).to_vec(), 1));
    assert_eq!(refused.told(FAILED, 0, 7).check(), []);
    // Nor does another channel, kind or execution stand for it.
    let elsewhere =
        Case::of(&[false]).told(FAILED, 0, 1).last(|alert| alert.path = "/alerts/other".to_owned());
    assert!(elsewhere.check().contains(&lost(FAILED, 0)[0]));
}

#[test]
fn what_is_told_too_late_is_late() {
    let soon_s = 1 + 45;
    assert_eq!(Case::of(&[false]).told(FAILED, 0, soon_s).check(), []);
    let late = |late_us| {
        [Violation::AlertLate { kind: FAILED.to_owned(), execution: "x0".to_owned(), path: path(), late_us }]
    };
    assert_eq!(Case::of(&[false]).told(FAILED, 0, soon_s + 1).check(), late(SECOND_US));
    // What was done to a node in between counts, and what was over before it does not.
    assert_eq!(Case::of(&[false]).told(FAILED, 0, 105).disturbed(20, 60).check(), []);
    assert_eq!(Case::of(&[false]).told(FAILED, 0, 106).disturbed(20, 60).check(), late(SECOND_US));
    assert_eq!(Case::of(&[false]).told(FAILED, 0, 60).disturbed(-20, -1).check(), late(14 * SECOND_US));
}

#[test]
fn one_fault_after_the_other_does_not_put_a_message_off_for_ever() {
    let told = |after_s| {
        let case = Case::of(&[false]).told(FAILED, 0, after_s);
        (0..12).fold(case, |case, number| case.disturbed(number * 20, number * 20 + 10)).check()
    };
    // The last that begins within 45 s is over at T0+50.
    assert_eq!(told(95), []);
    let late_us = (240 - 95) * SECOND_US;
    let late =
        Violation::AlertLate { kind: FAILED.to_owned(), execution: "x0".to_owned(), path: path(), late_us };
    assert_eq!(told(240), [late]);
}

#[test]
fn where_the_order_is_not_known_a_recovery_may_be_told_or_not() {
    let case = || Case::of(&[true, false, true]).disturbed(12, 13).told(FAILED, 10, 1);
    assert_eq!(case().check(), []);
    assert_eq!(case().told(RECOVERED, 20, 1).check(), []);
    let mut together = Case::of(&[true, false, true]).told(FAILED, 10, 1);
    together.executions[2].finished_s = Some(T0_S + 11);
    assert_eq!(together.check(), []);
}

#[test]
fn what_did_not_happen_is_not_told() {
    invented(Case::of(&[true]).told(FAILED, 0, 1), "it is success");
    invented(Case::of(&[false]).told(FAILED, 0, 1).told(RECOVERED, 0, 2), "it is failed");
    invented(Case::of(&[true, true]).told(RECOVERED, 10, 1), "the one before had not failed");
    let case = Case::of(&[true, false, true, true]).told(FAILED, 10, 1).told(RECOVERED, 20, 1);
    invented(case.told(RECOVERED, 30, 1), "the one before had not failed");
    invented(Case::of(&[true]).told(FAILED, 70, 1), "there is no such execution");
    invented(Case::of(&[true]).told("job.executed", 0, 1), "the channel does not want such");
    let mut skipped = Case::of(&[true]).told(FAILED, 0, 1);
    skipped.executions[0].status = "skipped".to_owned();
    invented(skipped, "it is skipped");
    let mut running = Case::of(&[true]).told(FAILED, 0, 1);
    running.executions[0].status = "running".to_owned();
    invented(running, "it is running");
}

#[test]
fn what_happened_after_the_pages_were_read_may_be_told() {
    assert_eq!(Case::of(&[true]).told(FAILED, 70, 200).check(), []);
    let mut running = Case::of(&[true]).told(FAILED, 0, 201);
    running.executions[0].status = "running".to_owned();
    assert_eq!(running.check(), []);
}

#[test]
fn a_message_is_about_its_own_job_and_goes_to_its_own_channels() {
    let told = |change: fn(&mut Alert)| Case::of(&[false]).told(FAILED, 0, 1).told(FAILED, 0, 2).last(change);
    let wrong = |change: fn(&mut Alert), expected: &str| invented(told(change), expected);
    wrong(|alert| alert.job = Some("b".to_owned()), "nobody made the job b");
    wrong(|alert| alert.job = None, "nobody made the job nothing");
    wrong(|alert| alert.job = Some("quiet".to_owned()), "this channel does not hear of quiet");
    let mut other = Case::of(&[false, false]).told(FAILED, 0, 1).told(FAILED, 10, 1);
    other.executions[1].job = "quiet".to_owned();
    invented(other, "that is an execution of quiet");
}

#[test]
fn a_message_has_one_id() {
    let unstable = |case: Case, first: &str, second: &str| {
        let (first, second) = (first.to_owned(), second.to_owned());
        let violations = case.check();
        let [Violation::AlertUnstable { first: found_first, second: found_second, .. }] = &violations[..]
        else {
            panic!("{violations:?}")
        };
        assert_eq!((found_first, found_second), (&first, &second));
    };
    let rename = |alert: &mut Alert, id: &str| {
        alert.id = Some(id.to_owned());
        alert.delivery = alert.id.clone();
    };
    let case = || Case::of(&[false, false]).told(FAILED, 0, 1);
    let second_id = case().told(FAILED, 10, 1).told(FAILED, 0, 3).last(|alert| rename(alert, "e"));
    unstable(second_id, "job.failed x0", "e");
    let second_meaning = case().told(FAILED, 10, 1).last(|alert| rename(alert, "job.failed x0"));
    unstable(second_meaning, "job.failed x0 of x0", "job.failed x0");
    let split = case().told(FAILED, 10, 1).last(|alert| alert.delivery = Some("e".to_owned()));
    invented(split, "its header says e, its body job.failed x10");
}

#[test]
fn a_recovery_does_not_overtake_its_failure() {
    let overtook = |kind: &str, offset: i64, older: i64| {
        [Violation::AlertOvertook {
            kind: kind.to_owned(),
            execution: format!("x{offset}"),
            path: path(),
            older: format!("x{older}"),
        }]
    };
    let case = Case::of(&[true, false, true]).told(RECOVERED, 20, 2).told(FAILED, 10, 15);
    assert_eq!(case.check(), overtook(RECOVERED, 20, 10));
    // A failure does not overtake the recovery before it, either.
    let case = Case::of(&[false, true, false]).told(FAILED, 0, 1).told(FAILED, 20, 2).told(RECOVERED, 10, 15);
    assert_eq!(case.check(), overtook(FAILED, 20, 10));
    // Two failures may come in any order, and so may all when something was done to a node.
    let case = Case::of(&[true, false, false]).told(FAILED, 20, 2).told(FAILED, 10, 15);
    assert_eq!(case.check(), []);
    let case = Case::of(&[true, false, true]).told(RECOVERED, 20, 2).told(FAILED, 10, 15);
    assert_eq!(case.disturbed(11, 12).check(), []);
}
