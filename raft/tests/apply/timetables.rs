//! What is kept of when each job was due, so that its history can be proven complete.

use crate::machine::{Machine, ONE, at};
use crate::samples::{ACCOUNT, create_space, job};
use domain::execution::{Execution, MissedFirings};
use domain::id::{ExecutionId, JobId, SpaceId};
use domain::job::{Job, JobVersion};
use domain::ledger::{Entry, Fault, Findings, Instants, Span, Timetable, verify};
use domain::time::Timestamp;
use raft::command::{
    AlignSpace, Applied, ClaimTarget, Command, CreateJob, DeleteJob, Overdue, PauseJob, PauseSpace, Prune,
    ResumeJob, Sweep, UpdateJob,
};
use std::time::Duration;
use storage::schema::{DeletedJobs, Executions, JobChange, Timetables};

const JOB: JobId = JobId(1);

/// The timetables of the job, oldest first.
fn timetables(machine: &Machine) -> Vec<Timetable> {
    let mut keys = machine.keys::<Timetables>();
    keys.reverse();
    keys.into_iter().map(|key| machine.get::<Timetables>(&key).unwrap()).collect()
}

/// Cursors that each change found and left, oldest first.
fn cursors(machine: &Machine) -> Vec<(Option<Timestamp>, Option<Timestamp>)> {
    timetables(machine).into_iter().map(|timetable| (timetable.found, timetable.first)).collect()
}

fn findings(machine: &Machine, entries: &[Execution], to: u64) -> Findings {
    let mut entries: Vec<Entry> = entries.iter().filter_map(Entry::of).collect();
    entries.reverse();
    let span = Span { from: at(0), to: at(to) };
    verify(&timetables(machine), machine.cursor(JOB), &entries, span).unwrap()
}

/// The history of the job, newest first.
fn history(machine: &Machine) -> Vec<Execution> {
    machine.keys::<Executions>().into_iter().map(|id| machine.execution(id)).collect()
}

fn version(machine: &Machine) -> JobVersion {
    machine.job_state(JOB).version()
}

fn pause() -> Command {
    Command::PauseJob(PauseJob { account: ACCOUNT, job: JOB, at: at(0), overdue: None })
}

fn resume(machine: &Machine, next: u64) -> Command {
    let expected = version(machine);
    Command::ResumeJob(ResumeJob {
        account: ACCOUNT,
        job: JOB,
        expected,
        next_run_at: Some(at(next)),
        at: at(0),
    })
}

fn update(machine: &Machine, job: Job, next: Option<Timestamp>) -> Command {
    let expected = version(machine);
    Command::UpdateJob(Box::new(UpdateJob { job, expected, next_run_at: next, overdue: None }))
}

fn run(machine: &mut Machine, secs: u64) {
    machine.set(at(secs));
    machine.run(JOB, 200);
}

#[test]
fn each_change_says_where_it_found_the_cursor_and_where_it_left_it() {
    let mut machine = Machine::new();
    machine.create_job(1, at(60));
    run(&mut machine, 60);
    machine.set(at(90));
    machine.done(pause());
    machine.set(at(290));
    let command = resume(&machine, 300);
    machine.done(command);
    run(&mut machine, 300);
    let hourly = Job { cron_expression: "0 * * * *".to_owned(), ..job(1) };
    let command = update(&machine, hourly.clone(), Some(at(3_600)));
    machine.done(command);
    let change = |found: Option<u64>, first: Option<u64>| (found.map(at), first.map(at));
    // Nothing came due between the pause and the resumption, so one record stands for both.
    let expected = [change(None, Some(60)), change(Some(120), Some(300)), change(Some(360), Some(3_600))];
    assert_eq!(cursors(&machine), expected);
    assert_eq!(timetables(&machine)[2].cron_expression, "0 * * * *");

    // Another name changes nothing of that, and neither do claims.
    let cursor = machine.cursor(JOB);
    let command = update(&machine, Job { name: "another".to_owned(), ..hourly }, cursor);
    machine.done(command);
    assert_eq!(cursors(&machine), expected);
    assert_eq!(findings(&machine, &history(&machine), 3_600), Findings { proven: 2, ..Findings::default() });
}

#[test]
fn a_paused_space_takes_the_cursors_of_its_jobs_with_it() {
    let mut machine = Machine::new();
    let space = SpaceId(1);
    machine.done(create_space(ACCOUNT, 1));
    let in_space = Job { space: Some(space), ..job(1) };
    let create = CreateJob { job: in_space, next_run_at: Some(at(60)), paused: false, jobs_max: None };
    machine.done(Command::CreateJob(Box::new(create)));
    run(&mut machine, 60);
    machine.set(at(90));
    machine.done(Command::PauseSpace(PauseSpace { account: ACCOUNT, space, at: at(90) }));
    let jobs = vec![(JOB, version(&machine), None)];
    machine.done(Command::AlignSpace(AlignSpace {
        space,
        generation: 1,
        jobs,
        done: false,
        overdue: Vec::new(),
    }));
    assert_eq!(cursors(&machine), [(None, Some(at(60))), (Some(at(120)), None)]);
    assert_eq!(findings(&machine, &history(&machine), 600).faults, []);
}

#[test]
fn what_a_pause_found_overdue_is_on_record_and_proven() {
    let mut machine = Machine::new();
    machine.create_job(1, at(60));
    run(&mut machine, 60);
    // Nobody claimed 120 to 240.
    machine.set(at(250));
    let missed = MissedFirings { until: at(240), count: 3, exact: true };
    let overdue = Some(Overdue { first: at(120), missed });
    machine.done(Command::PauseJob(PauseJob { account: ACCOUNT, job: JOB, at: at(250), overdue }));
    let found = at(240).plus(Duration::from_millis(1));
    assert_eq!(cursors(&machine), [(None, Some(at(60))), (Some(found), None)]);
    assert_eq!(findings(&machine, &history(&machine), 600), Findings { proven: 4, ..Findings::default() });
}

#[test]
fn a_record_that_is_gone_from_the_state_is_the_one_that_is_named() {
    let mut machine = Machine::new();
    machine.create_job(1, at(60));
    for secs in [60, 120, 180] {
        run(&mut machine, secs);
    }
    let mut history = history(&machine);
    assert_eq!(findings(&machine, &history, 200), Findings { proven: 3, ..Findings::default() });
    let gone = history.remove(1);
    assert_eq!(gone.id, ExecutionId::scheduled(JOB, at(120)));
    let missing = Fault::Missing(Instants { first: at(120), last: at(120), count: 1 });
    assert_eq!(findings(&machine, &history, 200).faults, [missing]);
}

#[test]
fn what_explained_a_history_that_was_pruned_goes() {
    let mut machine = Machine::new();
    machine.create_job(1, at(60));
    for (fires, paused, next) in [(60, 90, 180), (180, 200, 300), (300, 310, 600)] {
        run(&mut machine, fires);
        machine.set(at(paused));
        machine.done(pause());
        let command = resume(&machine, next);
        machine.done(command);
    }
    assert_eq!(timetables(&machine).len(), 4);
    let prune = |before: u64| Command::Prune(Prune { job: JOB, before: at(before) });
    assert_eq!(machine.apply(prune(200)), Ok(Applied::Swept(2)));
    let kept = timetables(&machine);
    assert_eq!(kept.len(), 3, "{kept:?}");
    assert_eq!(kept[0].kept_from, Some(at(200)));
    assert_eq!(findings(&machine, &history(&machine), 500), Findings { proven: 1, ..Findings::default() });
    assert_eq!(machine.apply(prune(400)), Ok(Applied::Swept(1)));
    assert_eq!(timetables(&machine).len(), 1);
    assert_eq!(machine.keys::<Timetables>(), [JobChange { job: JOB, number: 3 }]);
    assert_eq!(findings(&machine, &[], 500).faults, []);
}

#[test]
fn a_record_of_several_that_was_pruned_takes_all_of_them_with_it() {
    let mut machine = Machine::new();
    machine.create_job(1, at(60));
    machine.set(at(600));
    let generation = machine.job_state(JOB).generation;
    let target = ClaimTarget::Missed {
        job: JOB,
        generation,
        first: at(60),
        skipped: Some(MissedFirings { until: at(540), count: 9, exact: true }),
        run: Some(at(600)),
        run_due: at(600),
        next_run_at: Some(at(660)),
    };
    let id = ExecutionId::scheduled(JOB, at(600));
    assert_eq!(machine.claim(ONE, target), Ok(Applied::Claimed(Some(id))));
    assert_eq!(findings(&machine, &history(&machine), 600).proven, 9);
    assert_eq!(machine.apply(Command::Prune(Prune { job: JOB, before: at(100) })), Ok(Applied::Swept(1)));
    let found = findings(&machine, &history(&machine), 601);
    assert_eq!((found.faults, found.open), (vec![], vec![at(600)]));
}

#[test]
fn it_goes_with_a_job_that_is_deleted() {
    let mut machine = Machine::new();
    let delete = Command::DeleteJob(DeleteJob { account: ACCOUNT, job: JOB });
    machine.create_job(1, at(60));
    machine.done(delete.clone());
    assert_eq!(machine.keys::<Timetables>(), []);
    assert_eq!(machine.keys::<DeletedJobs>(), []);
    machine.create_job(1, at(60));
    run(&mut machine, 60);
    machine.done(delete);
    assert_eq!(machine.keys::<Timetables>().len(), 1, "as long as its history");
    assert_eq!(machine.apply(Command::Sweep(Sweep { job: JOB })), Ok(Applied::Swept(1)));
    assert_eq!(machine.keys::<Timetables>(), []);
    assert_eq!(machine.keys::<DeletedJobs>(), []);
}
