//! Executions that ended, by account and month.

use crate::machine::{Machine, ONE, at};
use crate::samples::{ACCOUNT, OTHER};
use domain::execution::{AttemptResult, Outcome};
use domain::time::Timestamp;
use raft::command::Command;
use storage::schema::{AccountUsage, Usage};

/// From the first of June to the first of July.
const MONTH: u64 = 30 * 86_400;

fn usage(machine: &Machine) -> Usage {
    machine.get::<AccountUsage>(&ACCOUNT).unwrap()
}

#[test]
fn what_ended_counts_for_the_month_it_ended_in() {
    let mut machine = Machine::new();
    let job = machine.create_job(1, at(60));
    let count = |machine: &Machine, now: Timestamp| usage(machine).executions_in_month_of(now);
    assert_eq!(count(&machine, at(0)), 0);
    machine.run(job, 200);
    machine.run(job, 500);
    assert_eq!(count(&machine, at(0)), 2, "well or not");

    // It counts when it ends, not when it starts or is tried again.
    let id = machine.fire(job);
    let retry = machine.outcome(id, 500, Some(at(500)));
    machine.done(retry);
    assert_eq!(count(&machine, at(0)), 2);
    machine.set(at(MONTH));
    assert_eq!(count(&machine, at(MONTH)), 0);
    machine.claim(ONE, raft::command::ClaimTarget::Execution { id, attempt: 2 }).unwrap();
    let success = machine.outcome(id, 200, None);
    machine.done(success);
    assert_eq!((count(&machine, at(MONTH)), count(&machine, at(0))), (1, 0));

    // A leader whose clock is behind does not bring the old month back.
    machine.set(at(MONTH - 1));
    machine.run(job, 200);
    assert_eq!(count(&machine, at(MONTH)), 2);
    assert_eq!(usage(&machine).jobs, 1);
    assert_eq!(machine.get::<AccountUsage>(&OTHER), Some(Usage::default()));
}

#[test]
fn what_was_skipped_does_not_count() {
    let mut machine = Machine::new();
    let job = machine.create_job(1, at(60));
    let id = machine.fire(job);
    let incarnation = machine.incarnation(ONE);
    let result = AttemptResult::Skipped { at: at(60), reason: "for a test".to_owned() };
    let outcome = Outcome { execution: id, attempt: 1, node: ONE, incarnation, result };
    machine.done(Command::Record(Box::new(outcome)));
    assert_eq!(usage(&machine).executions, 0);
    assert_eq!(machine.job_state(job).executions_total, 1, "but it is in the history");
}
