//! Jobs that are paused and resumed.

use crate::machine::{Machine, at};
use crate::samples::ACCOUNT;
use domain::id::JobId;
use domain::time::Timestamp;
use raft::command::{Command, PauseJob, ResumeJob};
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
    let pause = |at| Command::PauseJob(PauseJob { account: ACCOUNT, job, at });
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
