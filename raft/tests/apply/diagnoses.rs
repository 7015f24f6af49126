//! Diagnoses: so many a day, of executions that are there.

use crate::machine::{Machine, START, at};
use crate::samples::{ACCOUNT, OTHER};
use domain::execution::Diagnosis;
use domain::id::{AccountId, ExecutionId, JobId};
use domain::rejection::Rejection;
use raft::command::{Command, DeleteJob, SaveDiagnosis};
use storage::schema::{AccountUsage, Diagnoses};

fn save(account: AccountId, execution: ExecutionId, text: &str, max: Option<u64>) -> Command {
    let diagnosis = Diagnosis { text: text.to_owned(), model: "model".to_owned(), created_at: START };
    Command::SaveDiagnosis(Box::new(SaveDiagnosis { account, execution, diagnosis, diagnoses_max: max }))
}

#[test]
fn an_account_has_so_many_a_day() {
    const DAY: u64 = 86_400;
    let mut machine = Machine::new();
    let job = machine.create_job(1, at(60));
    let id = machine.run(job, 500);
    let mut made = |secs, max, expected| {
        machine.set(at(secs));
        let reply = machine.apply(save(ACCOUNT, id, "it is down", max));
        assert_eq!(reply.err(), expected, "after {secs} s with {max:?}");
        machine.get::<AccountUsage>(&ACCOUNT).unwrap().diagnoses_on_day_of(at(secs))
    };
    let none_left = |diagnoses_max| Some(Rejection::TooManyDiagnoses { diagnoses_max });
    assert_eq!(made(100, Some(0), none_left(0)), 0);
    assert_eq!(made(100, Some(2), None), 1);
    assert_eq!(made(DAY - 1, Some(2), None), 2);
    assert_eq!(made(DAY - 1, Some(2), none_left(2)), 2);
    assert_eq!(made(DAY, Some(2), None), 1);
    assert_eq!(made(DAY, None, None), 2);
    assert_eq!(made(DAY, None, None), 3);
    assert_eq!(made(DAY, Some(3), none_left(3)), 3);
    assert_eq!(made(5 * DAY, Some(1), None), 1);
}

#[test]
fn a_diagnosis_is_of_ones_own_execution() {
    let mut machine = Machine::new();
    let job = machine.create_job(1, at(60));
    let id = machine.run(job, 500);
    machine.refused(save(OTHER, id, "foreign", None), Rejection::NoSuchExecution);
    let unknown = [ExecutionId::scheduled(job, at(9_999)), ExecutionId::scheduled(JobId(99), at(60))];
    for unknown in unknown {
        machine.refused(save(ACCOUNT, unknown, "unknown", None), Rejection::NoSuchExecution);
    }
    machine.done(save(ACCOUNT, id, "first", None));
    machine.done(save(ACCOUNT, id, "second", None));
    assert_eq!(machine.get::<Diagnoses>(&id).unwrap().text, "second");
    assert_eq!(machine.get::<AccountUsage>(&OTHER).unwrap().diagnoses, 0);

    machine.done(Command::DeleteJob(DeleteJob { account: ACCOUNT, job }));
    machine.refused(save(ACCOUNT, id, "too late", None), Rejection::NoSuchExecution);
}
