//! Requests that are answered once.

use crate::machine::{Machine, at};
use crate::samples::{ACCOUNT, OTHER, job};
use domain::id::{AccountId, ExecutionId, JobId};
use domain::limits::ANSWERS_FORGOTTEN_MAX;
use domain::rejection::Rejection;
use domain::time::Timestamp;
use raft::command::{Applied, Command, CreateJob, Once, PauseJob, Reply, RunJob};
use storage::codec::decode_body;
use storage::schema::{Answer, Answers, AnswersByExpiry, Executions};

const JOB: JobId = JobId(1);

fn once(account: AccountId, name: u8, expires_at: Timestamp, commands: Vec<Command>) -> Command {
    let (name, request, memo) = ([name; 32], [name + 100; 32], vec![name]);
    Command::Once(Box::new(Once { account, name, request, expires_at, memo, commands }))
}

fn create(id: u64) -> Command {
    let command = CreateJob { job: job(id), next_run_at: None, paused: false, jobs_max: None };
    Command::CreateJob(Box::new(command))
}

fn run(job: JobId, salt: u16) -> Command {
    Command::RunJob(RunJob { account: ACCOUNT, execution: ExecutionId::manual(job, at(0), salt) })
}

fn answer(machine: &Machine, account: AccountId, name: u8) -> Option<Answer> {
    machine.get::<Answers>(&(account, [name; 32]))
}

#[test]
fn a_request_that_comes_again_is_not_done_again() {
    let mut machine = Machine::new();
    let request = |id| once(ACCOUNT, 1, at(100), vec![create(id)]);
    assert_eq!(machine.apply(request(1)), Ok(Applied::All(vec![Ok(Applied::Done)])));
    machine.refused(request(1), Rejection::Answered);
    machine.refused(request(2), Rejection::Answered);
    assert_eq!(machine.meta().jobs_active, 1);

    let known = answer(&machine, ACCOUNT, 1).unwrap();
    assert_eq!((known.request, known.memo, known.expires_at), ([101; 32], vec![1], at(100)));
    let replies: Vec<Reply> = decode_body(&known.replies).unwrap();
    assert_eq!(replies, [Ok(Applied::Done)]);

    // A name is its account's.
    let foreign = once(OTHER, 1, at(100), vec![create(2)]);
    assert_eq!(machine.apply(foreign), Ok(Applied::All(vec![Ok(Applied::Done)])));
}

#[test]
fn of_a_single_command_that_is_refused_nothing_is_remembered() {
    let mut machine = Machine::new();
    let request = || once(ACCOUNT, 1, at(100), vec![run(JOB, 1)]);
    machine.refused(request(), Rejection::NoSuchJob);
    assert_eq!(answer(&machine, ACCOUNT, 1), None);
    machine.done(create(1));
    assert_eq!(machine.apply(request()), Ok(Applied::All(vec![Ok(Applied::Done)])));
    machine.refused(request(), Rejection::Answered);
}

#[test]
fn of_several_commands_each_reply_is_remembered() {
    let mut machine = Machine::new();
    machine.done(create(1));
    let pause = |job| Command::PauseJob(PauseJob { account: ACCOUNT, job, at: at(5), overdue: None });
    let commands = vec![pause(JobId(9)), run(JOB, 1), run(JOB, 1), pause(JOB)];
    let expected =
        vec![Err(Rejection::NoSuchJob), Ok(Applied::Done), Err(Rejection::Exists), Ok(Applied::Done)];
    let request = once(ACCOUNT, 1, at(100), commands);
    assert_eq!(machine.apply(request.clone()), Ok(Applied::All(expected.clone())));
    assert!(!machine.effects.is_empty(), "the run is due");
    machine.refused(request, Rejection::Answered);
    let replies: Vec<Reply> = decode_body(&answer(&machine, ACCOUNT, 1).unwrap().replies).unwrap();
    assert_eq!(replies, expected);
    assert_eq!(machine.keys::<Executions>().len(), 1);

    let refused = vec![pause(JobId(8)), pause(JobId(9))];
    let refused = once(ACCOUNT, 2, at(100), refused);
    let expected = vec![Err(Rejection::NoSuchJob), Err(Rejection::NoSuchJob)];
    assert_eq!(machine.apply(refused), Ok(Applied::All(expected)));
    assert!(answer(&machine, ACCOUNT, 2).is_some(), "even if each is a refusal");
    let nothing = once(ACCOUNT, 3, at(100), Vec::new());
    assert_eq!(machine.apply(nothing.clone()), Ok(Applied::All(Vec::new())));
    machine.refused(nothing, Rejection::Answered);
}

#[test]
fn a_name_may_be_used_again_once_it_has_expired() {
    let mut machine = Machine::new();
    machine.apply(once(ACCOUNT, 1, at(100), vec![create(1)])).unwrap();
    machine.set(at(99));
    machine.refused(once(ACCOUNT, 1, at(200), vec![create(2)]), Rejection::Answered);
    machine.set(at(100));
    machine.apply(once(ACCOUNT, 1, at(200), vec![create(2)])).unwrap();
    assert_eq!(machine.keys::<AnswersByExpiry>(), [(at(200), ACCOUNT, [1; 32])]);
    assert_eq!(machine.meta().jobs_active, 2);
}

#[test]
fn a_refusal_under_an_expired_name_leaves_nothing_behind() {
    for now in [100, 101] {
        let mut machine = Machine::new();
        machine.apply(once(ACCOUNT, 1, at(100), vec![create(1)])).unwrap();
        machine.set(at(now));
        machine.refused(once(ACCOUNT, 1, at(200), vec![create(1)]), Rejection::Exists);
        assert_eq!(answer(&machine, ACCOUNT, 1), None);
        assert_eq!(machine.keys::<AnswersByExpiry>(), []);
    }
}

#[test]
fn expired_answers_go_a_few_at_a_time() {
    let mut machine = Machine::new();
    for name in 0..10 {
        machine.apply(once(ACCOUNT, name, at(100), Vec::new())).unwrap();
    }
    machine.set(at(101));
    let mut left = 10;
    for name in 10..14 {
        machine.apply(once(ACCOUNT, name, at(500), Vec::new())).unwrap();
        left = left + 1 - ANSWERS_FORGOTTEN_MAX.min(left - usize::from(name - 10));
        assert_eq!(machine.keys::<AnswersByExpiry>().len(), left);
    }
    assert!(answer(&machine, ACCOUNT, 0).is_none());
    assert!(answer(&machine, ACCOUNT, 13).is_some());
}
