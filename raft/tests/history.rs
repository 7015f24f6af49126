//! What is kept of a history beside it, and what goes with it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod machine;

use domain::execution::ExecutionStatus::{Failed, Skipped, Success};
use domain::execution::{DueItem, MissedFirings};
use domain::id::{ExecutionId, JobId, NodeId};
use domain::limits;
use domain::node::Incarnation;
use domain::pulse::Uptime;
use machine::{ACCOUNT, Machine, START, at};
use raft::command::{Applied, Claim, ClaimTarget, Command, DeleteJob, Prune, RunJob, Sweep};
use storage::schema::{DeletedJobs, Due, DueKey, ExecutionHours, Executions, JobHour, Pulses};

const HOUR: u64 = 3_600;

/// The executions of each hour since the start, newest first.
fn hours(machine: &Machine, job: u64) -> Vec<(u64, u64)> {
    let first = START.as_secs() / HOUR;
    let items = machine.items::<ExecutionHours>(&job.to_be_bytes());
    items.into_iter().map(|(JobHour { hour, .. }, count)| (hour - first, count)).collect()
}

fn run(machine: &mut Machine, job: u64, salt: u16, secs: u64) -> ExecutionId {
    let execution = ExecutionId::manual(JobId(job), at(secs), salt);
    machine.apply(Command::RunJob(RunJob { account: ACCOUNT, execution }));
    execution
}

fn prune(machine: &mut Machine, job: u64, secs: u64) -> Applied {
    machine.apply(Command::Prune(Prune { job: JobId(job), before: at(secs) }))
}

#[test]
fn every_execution_counts_in_its_hour_and_every_end_in_the_pulse() {
    let mut machine = Machine::start();
    machine.make_job(1, None, 60);
    for (secs, failed) in [(60, false), (120, true), (180, false)] {
        machine.at(secs);
        let id = machine.claim(1, secs);
        machine.record(id, failed, None);
    }
    machine.at(HOUR + 30);
    let target = ClaimTarget::Missed {
        job: JobId(1),
        generation: 1,
        first: at(240),
        skipped: Some(MissedFirings { until: at(3_600), count: 57, exact: true }),
        run: None,
        run_due: at(HOUR + 30),
        next_run_at: Some(at(HOUR + 60)),
    };
    machine.apply(Command::Claim(Claim { node: NodeId(1), incarnation: Incarnation(1), target }));
    machine.at(HOUR + 60);
    let open = machine.claim(1, HOUR + 60);

    assert_eq!(hours(&machine, 1), [(1, 1), (0, 4)]);
    let pulse = machine.get::<Pulses>(&JobId(1)).unwrap();
    assert_eq!(pulse.recent(at(HOUR + 60)).collect::<Vec<_>>(), [Success, Failed, Success, Skipped]);
    assert_eq!(pulse.uptime(at(HOUR + 60)), Some(Uptime { succeeded: 2, ran: 3 }));

    machine.record(open, true, Some(HOUR + 70));
    assert_eq!(machine.get::<Pulses>(&JobId(1)).unwrap(), pulse, "a retry is no end");
}

#[test]
fn pruning_takes_what_is_old_and_over() {
    let mut machine = Machine::start();
    machine.make_job(1, None, 60);
    machine.at(60);
    let old = machine.claim(1, 60);
    let unfinished = run(&mut machine, 1, 1, 90);
    machine.at(HOUR + 1);
    let new = run(&mut machine, 1, 2, HOUR + 1);
    machine.record(old, false, None);

    assert_eq!(prune(&mut machine, 1, 60), Applied::Swept(0), "from that instant on all is kept");
    assert_eq!(prune(&mut machine, 1, HOUR), Applied::Swept(1));
    let left: Vec<_> =
        machine.items::<Executions>(&1u64.to_be_bytes()).into_iter().map(|(id, _)| id).collect();
    assert_eq!(left, [new, unfinished]);
    assert_eq!(hours(&machine, 1), [(1, 1), (0, 1)]);
    assert_eq!(machine.state(1).executions_total, 2);
    assert!(machine.state(1).last_run.is_some(), "how it went last is still known");
    let waits = DueKey::new(at(90), DueItem::Execution(unfinished));
    assert!(machine.get::<Due>(&waits).is_some());
}

#[test]
fn a_deleted_job_leaves_nothing_behind() {
    let mut machine = Machine::start();
    machine.make_job(1, None, 60);
    machine.make_job(2, None, 60);
    let count = u16::try_from(limits::OPEN_EXECUTIONS_MAX).unwrap();
    for salt in 0..count {
        run(&mut machine, 1, salt, u64::from(salt) * HOUR);
    }
    run(&mut machine, 2, 0, 0);
    machine.at(60);
    let other = machine.claim(2, 60);
    machine.record(other, false, None);
    machine.apply(Command::DeleteJob(DeleteJob { account: ACCOUNT, job: JobId(1) }));
    let mut sweeps = 0;
    while machine.get::<DeletedJobs>(&JobId(1)).is_some() {
        machine.apply(Command::Sweep(Sweep { job: JobId(1) }));
        sweeps += 1;
    }
    assert_eq!(sweeps, 2, "some at a time");
    assert_eq!((hours(&machine, 1), hours(&machine, 2)), (vec![], vec![(0, 2)]));
    assert!(machine.items::<Executions>(&1u64.to_be_bytes()).is_empty());
    assert!(machine.get::<Pulses>(&JobId(1)).is_none() && machine.get::<Pulses>(&JobId(2)).is_some());
}
