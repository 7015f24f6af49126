//! What a process that is gone had claimed ahead of its instant.

use crate::machine::{Machine, ONE, at};
use domain::execution::{Execution, ExecutionState};
use domain::id::{ExecutionId, JobId};
use domain::time::Timestamp;

/// A firing that is due at 60 s and was claimed at 58 s, after its process is gone.
fn orphaned(gone: impl FnOnce(&mut Machine)) -> Execution {
    let mut machine = Machine::new();
    let job = machine.create_job(1, at(60));
    machine.set(at(58));
    let target = machine.firing(job, Some(at(120)));
    machine.claim(ONE, target).unwrap();
    gone(&mut machine);
    machine.execution(ExecutionId::scheduled(JobId(1), at(60)))
}

fn check(execution: &Execution, attempt: u32, due: Timestamp) {
    assert_eq!(execution.state, ExecutionState::Pending);
    assert_eq!((execution.attempt, execution.due), (attempt, due));
}

#[test]
fn what_an_earlier_process_may_have_sent_is_judged_by_the_clock_of_its_machine() {
    for (clock, attempt) in [(Timestamp::EPOCH, 1), (at(59), 1), (at(60), 2), (at(61), 2)] {
        let execution = orphaned(|machine| {
            machine.clocks.insert(ONE, clock);
            machine.register(ONE, 2);
        });
        check(&execution, attempt, at(60));
    }
}

#[test]
fn what_the_dead_may_have_sent_nobody_knows() {
    check(&orphaned(|machine| machine.expire(ONE)), 2, at(60));
    let late = orphaned(|machine| {
        machine.set(at(63));
        machine.expire(ONE);
    });
    check(&late, 2, at(63));
}
