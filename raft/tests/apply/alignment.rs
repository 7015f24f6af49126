//! The jobs of a space that is paused or resumed: their cursors follow step by step, while everything else goes on.

use crate::machine::{Machine, ONE, at};
use crate::samples::{ACCOUNT, create_space, job};
use domain::execution::{ExecutionState, ExecutionStatus, MissedFirings};
use domain::id::{ExecutionId, JobId, SpaceId};
use domain::job::{Job, JobVersion};
use domain::rejection::Rejection;
use domain::time::Timestamp;
use raft::command::{
    AlignSpace, ClaimTarget, Command, CreateJob, DeleteJob, Overdue, PauseJob, PauseSpace, ResumeJob,
    ResumeSpace, RunJob, UpdateJob,
};
use storage::schema::{Due, Spaces, UnalignedSpaces};

const SPACE: SpaceId = SpaceId(1);
const A: JobId = JobId(1);
const B: JobId = JobId(2);

/// A space with two jobs that are due after a minute.
fn machine() -> Machine {
    let mut machine = Machine::new();
    machine.done(create_space(ACCOUNT, 1));
    machine.done(create(A));
    machine.done(create(B));
    machine
}

fn member(id: JobId) -> Job {
    Job { space: Some(SPACE), ..job(id.0) }
}

fn create(id: JobId) -> Command {
    let command = CreateJob { job: member(id), next_run_at: Some(at(60)), paused: false, jobs_max: None };
    Command::CreateJob(Box::new(command))
}

fn pause() -> Command {
    Command::PauseSpace(PauseSpace { account: ACCOUNT, space: SPACE, at: at(1) })
}

fn resume() -> Command {
    Command::ResumeSpace(ResumeSpace { account: ACCOUNT, space: SPACE, at: at(2) })
}

/// Pauses the space, with all that follows.
fn pause_whole(machine: &mut Machine) {
    machine.done(pause());
    let jobs = [A, B].map(|job| (job, machine.job_state(job).version(), None));
    let generation = machine.get::<Spaces>(&SPACE).unwrap().generation;
    machine.done(step(generation, &jobs, false));
    machine.done(step(generation, &[], true));
}

fn step(generation: u64, jobs: &[(JobId, JobVersion, Option<Timestamp>)], done: bool) -> Command {
    Command::AlignSpace(AlignSpace {
        space: SPACE,
        generation,
        jobs: jobs.to_vec(),
        done,
        overdue: Vec::new(),
    })
}

fn version(machine: &Machine, job: JobId) -> JobVersion {
    machine.job_state(job).version()
}

fn cursors(machine: &Machine) -> [Option<Timestamp>; 2] {
    [A, B].map(|job| machine.cursor(job))
}

fn moved(machine: &Machine, id: JobId, space: Option<SpaceId>, next: Timestamp) -> Command {
    let (job, expected) = (Job { space, ..job(id.0) }, version(machine, id));
    Command::UpdateJob(Box::new(UpdateJob { job, expected, next_run_at: Some(next), overdue: None }))
}

#[test]
fn cursors_follow_a_pause_and_a_resumption_in_steps() {
    let mut machine = machine();
    machine.done(pause());
    assert_eq!(cursors(&machine), [Some(at(60)); 2], "not with the pause itself");
    assert_eq!(machine.keys::<UnalignedSpaces>(), [SPACE]);

    let first = step(1, &[(A, version(&machine, A), None)], false);
    machine.done(first.clone());
    assert_eq!(cursors(&machine), [None, Some(at(60))]);
    machine.done(first);
    let second = step(1, &[(B, version(&machine, B), None)], false);
    machine.done(second);
    assert_eq!(machine.keys::<UnalignedSpaces>(), [SPACE], "until somebody has looked at all");
    machine.done(step(1, &[], true));
    assert_eq!(machine.keys::<UnalignedSpaces>(), []);
    assert_eq!(machine.keys::<Due>(), []);

    machine.done(resume());
    assert_eq!(machine.keys::<UnalignedSpaces>(), [SPACE]);
    let jobs = [A, B].map(|job| (job, version(&machine, job), Some(at(600))));
    machine.done(step(2, &jobs, false));
    assert_eq!(cursors(&machine), [Some(at(600)); 2]);
    machine.done(step(2, &[], true));
    assert_eq!(machine.keys::<UnalignedSpaces>(), []);
}

#[test]
fn a_step_computed_before_the_last_turn_is_stale() {
    let mut machine = machine();
    machine.done(pause());
    let stop = step(1, &[(A, version(&machine, A), None)], true);
    machine.refused(step(0, &[], true), Rejection::Stale);
    machine.done(resume());
    machine.refused(stop, Rejection::Stale);
    assert_eq!(cursors(&machine), [Some(at(60)); 2]);
    assert_eq!(machine.keys::<UnalignedSpaces>(), [SPACE]);
    machine.done(step(2, &[], true));

    let elsewhere =
        AlignSpace { space: SpaceId(9), generation: 0, jobs: Vec::new(), done: true, overdue: Vec::new() };
    machine.refused(Command::AlignSpace(elsewhere), Rejection::Stale);
}

#[test]
fn a_job_that_has_moved_on_is_left_to_the_next_step() {
    let mut machine = machine();
    machine.done(pause());
    let jobs = [A, B].map(|job| (job, version(&machine, job), None));
    machine.fire(A); // a node that has not heard of the pause
    machine.done(step(1, &jobs, false));
    assert_eq!(cursors(&machine), [Some(at(120)), None]);
    let next = step(1, &[(A, version(&machine, A), None)], false);
    machine.done(next);
    assert_eq!(cursors(&machine), [None, None]);
}

#[test]
fn a_step_never_goes_back_behind_what_was_claimed() {
    let mut machine = machine();
    machine.fire(A);
    pause_whole(&mut machine);
    machine.done(resume());
    for (next, expected) in [(at(59), None), (at(60), None), (at(61), Some(at(61)))] {
        let step = step(2, &[(A, version(&machine, A), Some(next))], false);
        machine.done(step);
        assert_eq!(machine.cursor(A), expected);
    }
}

#[test]
fn what_is_paused_itself_or_gone_or_elsewhere_does_not_follow() {
    let mut machine = machine();
    let stranger = machine.create_job(3, at(60));
    pause_whole(&mut machine);
    machine.done(Command::PauseJob(PauseJob { account: ACCOUNT, job: A, at: at(10), overdue: None }));
    let versions = [A, B, stranger].map(|job| (job, version(&machine, job), Some(at(600))));
    machine.done(Command::DeleteJob(DeleteJob { account: ACCOUNT, job: B }));
    machine.done(resume());
    machine.done(step(2, &versions, false));
    assert_eq!(machine.cursor(A), None, "it is paused itself");
    assert_eq!(machine.cursor(stranger), Some(at(60)), "it is in no space");

    let resume_job = |machine: &Machine| {
        let expected = version(machine, A);
        let next_run_at = Some(at(700));
        Command::ResumeJob(ResumeJob { account: ACCOUNT, job: A, expected, next_run_at, at: at(20) })
    };
    let command = resume_job(&machine);
    machine.done(command);
    assert_eq!(machine.cursor(A), Some(at(700)));
}

#[test]
fn in_a_paused_space_no_step_makes_a_job_fire() {
    let mut machine = machine();
    pause_whole(&mut machine);
    let step = step(1, &[(A, version(&machine, A), Some(at(600)))], false);
    machine.done(step);
    assert_eq!(machine.cursor(A), None);
}

#[test]
fn a_job_that_comes_to_a_paused_space_waits_and_one_that_leaves_fires() {
    let mut machine = machine();
    let stranger = machine.create_job(3, at(60));
    machine.done(Command::PauseJob(PauseJob { account: ACCOUNT, job: B, at: at(10), overdue: None }));
    pause_whole(&mut machine);

    machine.done(create(JobId(4)));
    assert_eq!(machine.cursor(JobId(4)), None, "made in it");
    let into = moved(&machine, stranger, Some(SPACE), at(70));
    machine.done(into);
    assert_eq!(machine.cursor(stranger), None, "moved into it");
    let changed = moved(&machine, A, Some(SPACE), at(70));
    machine.done(changed);
    assert_eq!(machine.cursor(A), None, "changed in it");
    let expected = version(&machine, B);
    let resumed = ResumeJob { account: ACCOUNT, job: B, expected, next_run_at: Some(at(70)), at: at(20) };
    machine.done(Command::ResumeJob(resumed));
    assert_eq!(machine.cursor(B), None, "resumed in it");
    assert_eq!(machine.get::<Spaces>(&SPACE).unwrap().jobs, 4);

    let out = moved(&machine, A, None, at(80));
    machine.done(out);
    assert_eq!(machine.cursor(A), Some(at(80)), "moved out of it");
    assert_eq!(machine.get::<Spaces>(&SPACE).unwrap().jobs, 3);
}

#[test]
fn retries_that_wait_end_with_the_step_and_manual_runs_go_on() {
    let mut machine = machine();
    let id = machine.fire(A);
    let failed = machine.outcome(id, 500, Some(at(300)));
    machine.done(failed);
    let manual = ExecutionId::manual(A, at(0), 1);
    machine.done(Command::RunJob(RunJob { account: ACCOUNT, execution: manual }));
    assert_eq!(machine.execution(id).state, ExecutionState::Pending);

    pause_whole(&mut machine);
    let ended = machine.execution(id);
    assert_eq!(ended.status(), Some(ExecutionStatus::Failed), "as its last attempt did");
    assert_eq!(ended.skip_reason.as_deref(), Some("The space was paused"));
    assert_eq!(machine.execution(manual).state, ExecutionState::Pending);
    machine.claim(ONE, ClaimTarget::Execution { id: manual, attempt: 1 }).unwrap();
}

#[test]
fn a_job_that_comes_to_a_paused_space_leaves_its_retries_behind() {
    let mut machine = machine();
    pause_whole(&mut machine);
    let stranger = machine.create_job(3, at(60));
    let id = machine.fire(stranger);
    let failed = machine.outcome(id, 500, Some(at(300)));
    machine.done(failed);
    let into = moved(&machine, stranger, Some(SPACE), at(400));
    machine.done(into);
    assert_eq!(machine.execution(id).status(), Some(ExecutionStatus::Failed));
    assert_eq!(machine.job_state(stranger).open, []);
}

#[test]
fn an_attempt_that_fails_in_a_paused_space_is_not_made_again() {
    let mut machine = machine();
    let scheduled = machine.fire(A);
    let manual = ExecutionId::manual(A, at(0), 1);
    machine.done(Command::RunJob(RunJob { account: ACCOUNT, execution: manual }));
    machine.claim(ONE, ClaimTarget::Execution { id: manual, attempt: 1 }).unwrap();
    pause_whole(&mut machine);

    for id in [scheduled, manual] {
        let failed = machine.outcome(id, 500, Some(at(300)));
        machine.done(failed);
    }
    let ended = machine.execution(scheduled);
    assert_eq!(ended.status(), Some(ExecutionStatus::Failed));
    assert_eq!(ended.skip_reason.as_deref(), Some("The space was paused"));
    assert_eq!(machine.execution(manual).state, ExecutionState::Pending, "somebody asked for it");
}

#[test]
fn what_was_due_before_the_pause_and_nobody_claimed_is_on_record() {
    let mut machine = machine();
    machine.set(at(200));
    machine.done(pause());
    let missed = MissedFirings { until: at(180), count: 3, exact: true };
    let of = |first| Overdue { first, missed };
    let step = AlignSpace {
        space: SPACE,
        generation: 1,
        jobs: vec![(A, version(&machine, A), None), (B, version(&machine, B), None)],
        done: false,
        // That of the second job was computed from another cursor.
        overdue: vec![(A, of(at(60))), (B, of(at(120)))],
    };
    machine.done(Command::AlignSpace(step));
    assert_eq!(cursors(&machine), [None, None]);
    let record = machine.execution(ExecutionId::skipped(A, at(60)));
    assert_eq!((record.status(), record.missed), (Some(ExecutionStatus::Skipped), Some(missed)));
    assert_eq!(record.skip_reason.as_deref(), Some("The space was paused"));
    assert_eq!(machine.job_state(A).claimed_until, Some(at(180)));
    assert_eq!(machine.job_state(B).executions_total, 0);
}
