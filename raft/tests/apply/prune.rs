//! History that is too old goes, a bounded step at a time.

use crate::machine::{Machine, ONE, START, at};
use crate::samples::ACCOUNT;
use domain::execution::Diagnosis;
use domain::id::{ExecutionId, JobId};
use domain::limits::{OPEN_EXECUTIONS_MAX, SWEEP_MAX};
use domain::rejection::Rejection;
use domain::time::Timestamp;
use raft::command::{
    Applied, Claim, ClaimTarget, Command, DeleteJob, Prune, Reply, RunJob, SaveDiagnosis, Sweep,
};
use storage::schema::{DeletedJobs, Diagnoses, Executions, ResponseBodies};

fn prune(machine: &mut Machine, job: JobId, before: Timestamp) -> Reply {
    machine.apply(Command::Prune(Prune { job, before }))
}

/// The manual run of an instant.
fn id(job: JobId, secs: u64) -> ExecutionId {
    ExecutionId::manual(job, at(secs), 1)
}

fn open(job: JobId, secs: std::ops::Range<u64>) -> Vec<Command> {
    secs.map(|secs| Command::RunJob(RunJob { account: ACCOUNT, execution: id(job, secs) })).collect()
}

/// Runs that have ended, one a second.
fn ended(machine: &mut Machine, job: JobId, secs: std::ops::Range<u64>) {
    let incarnation = machine.incarnation(ONE);
    let ids: Vec<_> = secs.map(|secs| id(job, secs)).collect();
    // Only so many may be open at a time.
    for ids in ids.chunks(200) {
        let first = (ids[0].at.since(START)).as_secs();
        let mut commands = open(job, first..first + ids.len() as u64);
        commands.extend(ids.iter().map(|id| {
            let target = ClaimTarget::Execution { id: *id, attempt: 1 };
            Command::Claim(Claim { node: ONE, incarnation, target })
        }));
        let replies = machine.apply_all(commands);
        assert!(replies.iter().all(Result::is_ok), "{replies:?}");
        let outcomes = ids.iter().map(|id| machine.outcome(*id, 200, None)).collect();
        let replies = machine.apply_all(outcomes);
        assert!(replies.iter().all(Result::is_ok), "{replies:?}");
    }
}

#[test]
fn what_is_before_the_instant_goes_with_all_that_belongs_to_it() {
    let mut machine = Machine::new();
    let job = machine.create_job(1, at(5_000));
    let neighbour = machine.create_job(2, at(5_000));
    ended(&mut machine, job, 0..10);
    ended(&mut machine, neighbour, 0..10);
    let diagnosis = Diagnosis { text: String::new(), model: String::new(), created_at: START };
    for secs in [6, 7] {
        let execution = id(job, secs);
        let diagnosis = diagnosis.clone();
        let save = SaveDiagnosis { account: ACCOUNT, execution, diagnosis, diagnoses_max: None };
        machine.done(Command::SaveDiagnosis(Box::new(save)));
    }

    assert_eq!(prune(&mut machine, job, at(0)), Ok(Applied::Swept(0)));
    assert_eq!(prune(&mut machine, job, at(7)), Ok(Applied::Swept(7)));
    let left: Vec<_> = machine.keys::<Executions>().into_iter().filter(|id| id.job == job).collect();
    assert_eq!(left, [9, 8, 7].map(|secs| id(job, secs)), "newest first");
    assert_eq!(machine.keys::<ResponseBodies>().len(), 3 + 10);
    assert_eq!(machine.keys::<Diagnoses>(), [id(job, 7)]);
    assert_eq!(machine.job_state(job).executions_total, 3);
    assert_eq!(machine.job_state(neighbour).executions_total, 10);
    assert_eq!(prune(&mut machine, job, at(7)), Ok(Applied::Swept(0)));
    assert_eq!(prune(&mut machine, JobId(99), at(7)), Err(Rejection::NoSuchJob));
}

#[test]
fn a_step_is_bounded_and_a_short_one_is_the_last() {
    let max = SWEEP_MAX as u64;
    let mut machine = Machine::new();
    let job = machine.create_job(1, at(5_000));
    ended(&mut machine, job, 0..max + 20);
    let replies = machine.apply_all(open(job, max + 20..max + 30));
    assert!(replies.iter().all(Result::is_ok), "{replies:?}");
    ended(&mut machine, job, max + 30..max + 40);

    // Those that are open lie among the first that a step looks at.
    assert_eq!(prune(&mut machine, job, at(9_999)), Ok(Applied::Swept(max)));
    assert_eq!(machine.job_state(job).executions_total, 40);
    assert_eq!(prune(&mut machine, job, at(9_999)), Ok(Applied::Swept(30)));
    assert_eq!(machine.job_state(job).executions_total, 10);
    assert_eq!(machine.job_state(job).open.len(), 10);
    assert_eq!(prune(&mut machine, job, at(9_999)), Ok(Applied::Swept(0)));
}

#[test]
fn what_has_not_ended_stays_and_is_not_in_the_way() {
    let open_max = OPEN_EXECUTIONS_MAX as u64;
    let mut machine = Machine::new();
    let job = machine.create_job(1, at(5_000));
    ended(&mut machine, job, 0..20);
    let replies = machine.apply_all(open(job, 100..100 + open_max));
    assert!(replies.iter().all(Result::is_ok), "{replies:?}");

    assert_eq!(prune(&mut machine, job, at(9_999)), Ok(Applied::Swept(20)));
    let state = machine.job_state(job);
    assert_eq!((state.executions_total, state.open.len() as u64), (open_max, open_max));
}

#[test]
fn after_pruning_a_deleted_job_leaves_nothing_or_is_swept() {
    let mut machine = Machine::new();
    for (number, left) in [(1, 0), (2, 3)] {
        let job = machine.create_job(number, at(5_000));
        ended(&mut machine, job, 0..10);
        assert_eq!(prune(&mut machine, job, at(10 - left)), Ok(Applied::Swept(10 - left)));
        machine.done(Command::DeleteJob(DeleteJob { account: ACCOUNT, job }));
        assert_eq!(machine.get::<DeletedJobs>(&job).is_some(), left > 0);
        assert_eq!(machine.apply(Command::Sweep(Sweep { job })), Ok(Applied::Swept(left)));
        assert_eq!(machine.get::<DeletedJobs>(&job), None);
        assert_eq!(machine.keys::<Executions>(), []);
        assert_eq!(machine.keys::<ResponseBodies>(), []);
    }
}
