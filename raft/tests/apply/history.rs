//! What is known of a history without reading it: executions by the hour, and the pulse.

use crate::machine::{Machine, ONE, START, at};
use crate::samples::ACCOUNT;
use domain::execution::ExecutionStatus::{Failed, Skipped, Success};
use domain::execution::MissedFirings;
use domain::id::{ExecutionId, JobId};
use domain::limits::OPEN_EXECUTIONS_MAX;
use domain::pulse::{Pulse, Uptime};
use raft::command::{Applied, ClaimTarget, Command, DeleteJob, Prune, RunJob, Sweep};
use storage::schema::{DeletedJobs, ExecutionHours, JobHour, Pulses};

const HOUR: u64 = 3_600;

/// The executions of each hour since the start, newest first.
fn hours(machine: &Machine, job: JobId) -> Vec<(u64, u64)> {
    let of_job = machine.keys::<ExecutionHours>().into_iter().filter(|hour| hour.job == job);
    let first = START.as_secs() / HOUR;
    of_job.map(|key| (key.hour - first, machine.get::<ExecutionHours>(&key).unwrap())).collect()
}

fn pulse(machine: &Machine, job: JobId) -> Pulse {
    machine.get::<Pulses>(&job).unwrap()
}

#[test]
fn every_execution_counts_in_its_hour_and_every_end_in_the_pulse() {
    let mut machine = Machine::new();
    let job = machine.create_job(1, at(60));
    for status in [200, 500, 204] {
        machine.run(job, status);
    }
    machine.set(at(HOUR + 30));
    let missed = ClaimTarget::Missed {
        job,
        generation: 1,
        first: at(240),
        skipped: Some(MissedFirings { until: at(3_600), count: 57, exact: true }),
        run: None,
        run_due: at(HOUR + 30),
        next_run_at: Some(at(HOUR + 60)),
    };
    assert_eq!(machine.claim(ONE, missed), Ok(Applied::Claimed(None)));
    let open = machine.fire(job);
    assert_eq!(hours(&machine, job), [(1, 1), (0, 4)]);

    let before = pulse(&machine, job);
    let now = at(HOUR + 60);
    assert_eq!(before.recent(now).collect::<Vec<_>>(), [Success, Failed, Success, Skipped]);
    assert_eq!(before.uptime(now), Some(Uptime { succeeded: 2, ran: 3 }));
    let retry = machine.outcome(open, 500, Some(at(HOUR + 70)));
    machine.done(retry);
    assert_eq!(pulse(&machine, job), before, "a retry is no end");
}

#[test]
fn firings_beyond_what_may_be_open_are_skipped_and_count_as_such() {
    let mut machine = Machine::new();
    let job = machine.create_job(1, at(60));
    let runs = (0..OPEN_EXECUTIONS_MAX as u64)
        .map(|n| ExecutionId::manual(job, at(n), 1))
        .map(|execution| Command::RunJob(RunJob { account: ACCOUNT, execution }));
    assert!(machine.apply_all(runs.collect()).iter().all(Result::is_ok));
    let target = machine.firing(job, None);
    assert_eq!(machine.claim(ONE, target), Ok(Applied::Claimed(None)));
    assert_eq!(hours(&machine, job), [(0, OPEN_EXECUTIONS_MAX as u64 + 1)]);
    assert_eq!(pulse(&machine, job).recent(at(60)).collect::<Vec<_>>(), [Skipped]);
    assert_eq!(pulse(&machine, job).uptime(at(60)), None);
}

#[test]
fn hours_shrink_with_the_history_and_go_with_the_job() {
    let mut machine = Machine::new();
    let (job, other) = (machine.create_job(1, at(3_480)), machine.create_job(2, at(60)));
    for _ in 0..4 {
        machine.run(job, 200);
    }
    machine.run(other, 200);
    assert_eq!(hours(&machine, job), [(1, 2), (0, 2)]);
    let pruned = machine.apply(Command::Prune(Prune { job, before: at(3_600) }));
    assert_eq!((pruned, hours(&machine, job)), (Ok(Applied::Swept(2)), vec![(1, 2)]));
    assert_eq!(pulse(&machine, job).recent(at(3_660)).count(), 4, "what is shown of a day is not history");

    // More hours than one step forgets.
    let runs = (0..OPEN_EXECUTIONS_MAX as u64)
        .map(|n| ExecutionId::manual(job, at((n + 2) * HOUR), 1))
        .map(|execution| Command::RunJob(RunJob { account: ACCOUNT, execution }));
    assert!(machine.apply_all(runs.collect()).iter().all(Result::is_ok));
    machine.done(Command::DeleteJob(DeleteJob { account: ACCOUNT, job }));
    assert_eq!(machine.keys::<Pulses>(), [other]);
    let mut steps = 0;
    while machine.get::<DeletedJobs>(&job).is_some() {
        assert!(machine.apply(Command::Sweep(Sweep { job })).is_ok());
        steps += 1;
    }
    assert_eq!((steps, hours(&machine, job), hours(&machine, other)), (2, vec![], vec![(0, 1)]));
    let hour = JobHour { job: other, hour: START.as_secs() / HOUR };
    assert_eq!(hour.threshold(), ExecutionId { at: at(HOUR), sequence: 0, job: other });
}
