//! Jobs that are paused, resumed and changed.

use crate::machine::{Machine, at};
use crate::samples::ACCOUNT;
use domain::execution::{ExecutionStatus, MissedFirings};
use domain::id::{ExecutionId, JobId};
use domain::job::Job;
use domain::rejection::Rejection;
use domain::time::Timestamp;
use raft::command::{Command, Overdue, PauseJob, ResumeJob, UpdateJob};
use storage::schema::Jobs;

const JOB: JobId = JobId(1);

#[test]
fn a_job_was_changed_when_it_was_paused_or_resumed_and_its_dates_only_rise() {
    let mut machine = Machine::new();
    let job = machine.create_job(JOB.0, at(60));
    let made_at = machine.get::<Jobs>(&job).unwrap().updated_at;
    let check = |machine: &Machine, expected: Timestamp| {
        assert_eq!(machine.get::<Jobs>(&job).unwrap().updated_at, expected);
    };
    let pause = |at| Command::PauseJob(PauseJob { account: ACCOUNT, job, at, overdue: None });
    let resume = |machine: &Machine, at| {
        let expected = machine.job_state(job).version();
        Command::ResumeJob(ResumeJob { account: ACCOUNT, job, expected, next_run_at: None, at })
    };
    // As in logs of releases that did not say when.
    machine.done(pause(Timestamp::EPOCH));
    check(&machine, made_at);
    let command = resume(&machine, at(200));
    machine.done(command);
    check(&machine, at(200));
    machine.done(pause(at(300)));
    check(&machine, at(300));
    let command = resume(&machine, at(250));
    machine.done(command);
    check(&machine, at(300));
}

/// Three instants, a minute apart, that nobody has claimed.
fn overdue() -> Option<Overdue> {
    let missed = MissedFirings { until: at(180), count: 3, exact: true };
    Some(Overdue { first: at(60), missed })
}

fn check_record(machine: &Machine, job: JobId, reason: &str) {
    let record = machine.execution(ExecutionId::skipped(job, at(60)));
    assert_eq!(record.status(), Some(ExecutionStatus::Skipped));
    assert_eq!(record.missed, overdue().map(|overdue| overdue.missed));
    assert_eq!(record.skip_reason.as_deref(), Some(reason));
    let state = machine.job_state(job);
    assert_eq!((state.executions_total, state.claimed_until), (1, Some(at(180))));
}

#[test]
fn what_was_due_before_a_pause_and_nobody_claimed_is_on_record() {
    let mut machine = Machine::new();
    let job = machine.create_job(JOB.0, at(60));
    machine.set(at(200));
    let pause = |at, overdue| Command::PauseJob(PauseJob { account: ACCOUNT, job, at, overdue });
    // What was asked for before something became due, or claimed, is computed again.
    machine.refused(pause(at(190), None), Rejection::Stale);
    machine.refused(pause(at(190), overdue().map(|it| Overdue { first: at(120), ..it })), Rejection::Stale);
    machine.done(pause(at(190), overdue()));
    assert_eq!(machine.cursor(job), None);
    check_record(&machine, job, "The job was paused");
}

#[test]
fn what_was_due_by_the_old_schedule_and_nobody_claimed_is_on_record() {
    let mut machine = Machine::new();
    let job = machine.create_job(JOB.0, at(60));
    machine.set(at(200));
    let old = machine.get::<Jobs>(&job).unwrap();
    let expected = machine.job_state(job).version();
    let new = Job { cron_expression: "0 0 1 1 *".to_owned(), ..old };
    let next_run_at = Some(at(9_000));
    let update = UpdateJob { job: new, expected, next_run_at, overdue: overdue() };
    machine.done(Command::UpdateJob(Box::new(update)));
    assert_eq!(machine.cursor(job), next_run_at);
    check_record(&machine, job, "The schedule was changed");
}
