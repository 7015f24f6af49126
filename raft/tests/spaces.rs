//! Spaces turn at once; the cursors and retries of their jobs follow.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod machine;

use domain::execution::{DueItem, ExecutionState, ExecutionStatus};
use domain::id::{AccountId, JobId, SpaceId};
use domain::job::JobVersion;
use domain::rejection::Rejection;
use domain::time::Timestamp;
use machine::{ACCOUNT, Machine, at, job};
use raft::command::{
    AlignSpace, Command, DeleteJob, DeleteSpace, PauseJob, PauseSpace, ResumeSpace, UpdateJob,
};
use storage::schema::{Due, DueKey, UnalignedSpaces};

const SPACE: SpaceId = SpaceId(7);

fn pause(at: Timestamp) -> Command {
    Command::PauseSpace(PauseSpace { account: ACCOUNT, space: SPACE, at })
}

fn resume(at: Timestamp) -> Command {
    Command::ResumeSpace(ResumeSpace { account: ACCOUNT, space: SPACE, at })
}

fn align(generation: u64, jobs: &[(u64, JobVersion, Option<u64>)], done: bool) -> Command {
    let jobs = jobs.iter().map(|(job, version, cursor)| (JobId(*job), *version, cursor.map(at))).collect();
    Command::AlignSpace(AlignSpace { space: SPACE, generation, jobs, done })
}

fn move_to(machine: &Machine, id: u64, space: Option<SpaceId>, next: u64) -> Command {
    let expected = machine.state(id).version();
    let update = UpdateJob { job: job(id, space), expected, next_run_at: Some(at(next)) };
    Command::UpdateJob(Box::new(update))
}

/// A space with two jobs that are due at 60 s.
fn scene() -> Machine {
    let mut machine = Machine::start();
    machine.make_space(SPACE.0);
    machine.make_job(1, Some(SPACE.0), 60);
    machine.make_job(2, Some(SPACE.0), 60);
    machine
}

#[test]
fn cursors_go_with_the_pause_and_come_back_with_the_resumption() {
    let mut machine = scene();
    machine.at(10);
    machine.apply(pause(at(10)));
    assert_eq!(machine.space(SPACE.0).paused_at, Some(at(10)));
    assert!(machine.get::<UnalignedSpaces>(&SPACE).is_some());
    machine.refuse(pause(at(11)), Rejection::AlreadyPaused);

    let (one, two) = (machine.state(1).version(), machine.state(2).version());
    machine.apply(align(1, &[(1, one, None), (2, two, None)], false));
    assert_eq!((machine.state(1).next_run_at, machine.state(2).next_run_at), (None, None));
    assert!(machine.items::<Due>(&[]).is_empty());
    machine.apply(align(1, &[], true));
    assert!(machine.get::<UnalignedSpaces>(&SPACE).is_none());

    machine.apply(resume(at(100)));
    machine.refuse(resume(at(101)), Rejection::AlreadyActive);
    assert_eq!(machine.space(SPACE.0).turned_at, at(100));
    let one = machine.state(1).version();
    machine.refuse(align(1, &[(1, one, Some(120))], true), Rejection::Stale);
    machine.apply(align(2, &[(1, one, Some(120))], false));
    assert_eq!((machine.state(1).next_run_at, machine.state(2).next_run_at), (Some(at(120)), None));
    let due: Vec<_> = machine.items::<Due>(&[]).into_iter().map(|(key, ())| key).collect();
    assert_eq!(due, [DueKey::new(at(120), DueItem::Firing(JobId(1)))]);
}

#[test]
fn what_has_moved_on_is_left_alone() {
    let mut machine = scene();
    machine.make_job(3, None, 60);
    machine.apply(Command::PauseJob(PauseJob { account: ACCOUNT, job: JobId(2) }));
    let before = machine.state(1).version();
    machine.at(60);
    machine.claim(1, 60);
    machine.apply(pause(at(60)));
    // Its cursor has moved, and the third is no job of the space.
    let third = machine.state(3).version();
    machine.apply(align(1, &[(1, before, None), (3, third, None)], false));
    assert_eq!((machine.state(1).next_run_at, machine.state(3).next_run_at), (Some(at(120)), Some(at(60))));

    let one = machine.state(1).version();
    machine.apply(align(1, &[(1, one, Some(180))], false));
    assert_eq!(machine.state(1).next_run_at, Some(at(120)), "nothing gets a cursor in a paused space");
    machine.apply(align(1, &[(1, one, None)], true));

    machine.apply(resume(at(61)));
    let (one, two) = (machine.state(1).version(), machine.state(2).version());
    machine.apply(align(2, &[(1, one, Some(60)), (2, two, Some(120))], false));
    assert_eq!(machine.state(1).next_run_at, None, "what was claimed is not claimed again");
    assert_eq!(machine.state(2).next_run_at, None, "a job that is paused itself stays so");
}

#[test]
fn retries_that_wait_end_with_the_pause() {
    let mut machine = scene();
    machine.at(60);
    let (waiting, running) = (machine.claim(1, 60), machine.claim(2, 60));
    machine.record(waiting, true, Some(300));
    assert_eq!(machine.execution(waiting).state, ExecutionState::Pending);
    machine.apply(pause(at(70)));
    let one = machine.state(1).version();
    machine.apply(align(1, &[(1, one, None)], false));
    assert_eq!(machine.execution(waiting).status(), Some(ExecutionStatus::Failed));
    assert!(machine.state(1).open.is_empty());

    // The other attempt was under way.
    machine.record(running, true, Some(300));
    let ended = machine.execution(running);
    assert_eq!(ended.status(), Some(ExecutionStatus::Failed));
    assert_eq!(ended.skip_reason.as_deref(), Some("The space was paused"));
}

#[test]
fn jobs_made_in_or_moved_into_a_paused_space_have_no_cursor() {
    let mut machine = scene();
    machine.make_job(3, None, 60);
    machine.apply(pause(at(10)));
    machine.make_job(4, Some(SPACE.0), 60);
    assert_eq!(machine.state(4).next_run_at, None);

    machine.at(60);
    let waiting = machine.claim(3, 60);
    machine.record(waiting, true, Some(300));
    let into = move_to(&machine, 3, Some(SPACE), 120);
    machine.apply(into);
    assert_eq!(machine.state(3).next_run_at, None);
    assert_eq!(machine.execution(waiting).status(), Some(ExecutionStatus::Failed), "its retry would fire");
    let out = move_to(&machine, 3, None, 180);
    machine.apply(out);
    assert_eq!(machine.state(3).next_run_at, Some(at(180)));
}

#[test]
fn a_space_knows_how_many_jobs_it_has_and_goes_only_without_any() {
    let mut machine = scene();
    machine.make_space(8);
    let delete = |id| Command::DeleteSpace(DeleteSpace { account: ACCOUNT, space: id });
    assert_eq!(machine.space(SPACE.0).jobs, 2);
    machine.refuse(delete(SPACE), Rejection::SpaceNotEmpty);
    let into = move_to(&machine, 1, Some(SpaceId(8)), 60);
    machine.apply(into);
    machine.apply(pause(at(10)));
    machine.apply(Command::DeleteJob(DeleteJob { account: ACCOUNT, job: JobId(2) }));
    assert_eq!((machine.space(SPACE.0).jobs, machine.space(8).jobs), (0, 1));
    let foreign = DeleteSpace { account: AccountId(9), space: SPACE };
    machine.refuse(Command::DeleteSpace(foreign), Rejection::NoSuchSpace);
    machine.apply(delete(SPACE));
    assert!(machine.get::<UnalignedSpaces>(&SPACE).is_none());
    machine.refuse(align(1, &[], true), Rejection::Stale);
}
