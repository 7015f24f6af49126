//! Spaces: made, changed, counted, deleted. What pausing one does to its jobs is in `alignment`.

use crate::machine::{Machine, at};
use crate::samples::{ACCOUNT, OTHER, create_space, job, space};
use domain::id::{AccountId, JobId, SpaceId};
use domain::job::Job;
use domain::limits::SPACES_MAX;
use domain::rejection::Rejection;
use domain::space::Space;
use domain::time::Timestamp;
use raft::command::{
    Command, CreateJob, DeleteJob, DeleteSpace, PauseSpace, ResumeSpace, UpdateJob, UpdateSpace,
};
use storage::schema::{Spaces, UnalignedSpaces};

const SPACE: SpaceId = SpaceId(1);

fn create_job(id: u64, space: Option<u64>) -> Command {
    let job = Job { space: space.map(SpaceId), ..job(id) };
    let command = CreateJob { job, next_run_at: Some(at(60)), paused: false, jobs_max: None };
    Command::CreateJob(Box::new(command))
}

fn delete(account: AccountId) -> Command {
    Command::DeleteSpace(DeleteSpace { account, space: SPACE })
}

fn pause(account: AccountId, at: Timestamp) -> Command {
    Command::PauseSpace(PauseSpace { account, space: SPACE, at })
}

fn resume(account: AccountId, at: Timestamp) -> Command {
    Command::ResumeSpace(ResumeSpace { account, space: SPACE, at })
}

#[test]
fn another_accounts_space_is_as_good_as_none() {
    let mut machine = Machine::new();
    machine.done(create_space(ACCOUNT, 1));
    let update = |account| {
        Command::UpdateSpace(UpdateSpace { account, space: SPACE, name: None, timezone: None, at: at(1) })
    };
    machine.refused(create_space(ACCOUNT, 1), Rejection::Exists);
    machine.refused(create_space(OTHER, 1), Rejection::Exists);
    machine.refused(create_space(AccountId(99), 2), Rejection::NoSuchAccount);
    for command in [update(OTHER), delete(OTHER), pause(OTHER, at(1)), resume(OTHER, at(1))] {
        machine.refused(command, Rejection::NoSuchSpace);
    }
    let foreign = Job { account: OTHER, space: Some(SPACE), ..job(1) };
    let foreign = CreateJob { job: foreign, next_run_at: None, paused: false, jobs_max: None };
    machine.refused(Command::CreateJob(Box::new(foreign)), Rejection::NoSuchSpace);
}

#[test]
fn an_account_has_so_many_spaces() {
    let mut machine = Machine::new();
    let max = SPACES_MAX as u64;
    let replies = machine.apply_all((1..=max).map(|id| create_space(ACCOUNT, id)).collect());
    assert!(replies.iter().all(Result::is_ok), "{replies:?}");
    machine.refused(create_space(ACCOUNT, max + 1), Rejection::TooMany { max });
    machine.done(create_space(OTHER, max + 2));
    machine.done(delete(ACCOUNT));
    machine.done(create_space(ACCOUNT, max + 1));
}

#[test]
fn an_update_changes_what_it_names() {
    let mut machine = Machine::new();
    machine.done(create_space(ACCOUNT, 1));
    let mut check = |name: Option<&str>, timezone: Option<&str>, secs, expected: Space| {
        machine.done(Command::UpdateSpace(UpdateSpace {
            account: ACCOUNT,
            space: SPACE,
            name: name.map(str::to_owned),
            timezone: timezone.map(str::to_owned),
            at: at(secs),
        }));
        assert_eq!(machine.get::<Spaces>(&SPACE), Some(expected));
    };
    let original = space(ACCOUNT, 1);
    check(None, None, 10, Space { updated_at: at(10), ..original.clone() });
    let named = Space { name: "new".to_owned(), updated_at: at(20), ..original };
    check(Some("new"), None, 20, named.clone());
    let zoned = Space { timezone: "Europe/Berlin".to_owned(), ..named };
    check(None, Some("Europe/Berlin"), 15, zoned); // asked for before, arrived after: the date stays
}

#[test]
fn a_space_is_paused_and_resumed_by_turns() {
    let mut machine = Machine::new();
    machine.done(create_space(ACCOUNT, 1));
    let paused = |machine: &Machine| {
        let space = machine.get::<Spaces>(&SPACE).unwrap();
        (space.paused_at, space.generation, space.updated_at)
    };
    machine.refused(resume(ACCOUNT, at(5)), Rejection::AlreadyActive);
    machine.done(pause(ACCOUNT, at(10)));
    assert_eq!(paused(&machine), (Some(at(10)), 1, at(10)));
    machine.refused(pause(ACCOUNT, at(11)), Rejection::AlreadyPaused);
    machine.done(resume(ACCOUNT, at(20)));
    assert_eq!(paused(&machine), (None, 2, at(20)));
    assert_eq!(machine.keys::<UnalignedSpaces>(), [], "there are no jobs to follow");

    machine.done(create_job(1, Some(1)));
    machine.done(pause(ACCOUNT, at(30)));
    assert_eq!(machine.keys::<UnalignedSpaces>(), [SPACE]);
}

#[test]
fn jobs_count_where_they_are_and_only_an_empty_space_goes() {
    let mut machine = Machine::new();
    machine.done(create_space(ACCOUNT, 1));
    machine.done(create_space(ACCOUNT, 2));
    let counts = |machine: &Machine| [1, 2].map(|id| machine.get::<Spaces>(&SpaceId(id)).unwrap().jobs);
    let moved = |machine: &Machine, id, space: Option<u64>| {
        let job = Job { space: space.map(SpaceId), ..job(id) };
        let expected = machine.job_state(JobId(id)).version();
        Command::UpdateJob(Box::new(UpdateJob { job, expected, next_run_at: Some(at(60)), overdue: None }))
    };
    machine.done(create_job(1, Some(1)));
    machine.done(create_job(2, Some(1)));
    machine.done(create_job(3, None));
    assert_eq!(counts(&machine), [2, 0]);
    machine.refused(delete(ACCOUNT), Rejection::SpaceNotEmpty);

    for (id, space, expected) in [
        (1, Some(2), [1, 1]),
        (1, Some(2), [1, 1]),
        (3, Some(1), [2, 1]),
        (1, None, [2, 0]),
        (2, None, [1, 0]),
    ] {
        let command = moved(&machine, id, space);
        machine.done(command);
        assert_eq!(counts(&machine), expected);
    }
    let nowhere = moved(&machine, 3, Some(9));
    machine.refused(nowhere, Rejection::NoSuchSpace);
    machine.refused(delete(ACCOUNT), Rejection::SpaceNotEmpty);
    machine.done(pause(ACCOUNT, at(5)));
    machine.done(Command::DeleteJob(DeleteJob { account: ACCOUNT, job: JobId(3) }));
    assert_eq!(counts(&machine), [0, 0]);
    machine.done(delete(ACCOUNT));
    assert_eq!(machine.keys::<UnalignedSpaces>(), [], "nobody aligns what is gone");
    machine.refused(delete(ACCOUNT), Rejection::NoSuchSpace);
    machine.refused(create_job(4, Some(1)), Rejection::NoSuchSpace);
}
