//! The last look before a request leaves: may this execution still start? Pure.
//!
//! An execution is claimed up to claim-ahead before its instant, and may wait for a place or for the
//! leader after it. What people change in between counts, and so does an outage, so the question is asked of the
//! state as it is when the request would leave.

use super::plans::Plan;
use domain::execution::{Attempt, ErrorKind, Execution, Trigger};
use domain::id::ExecutionId;
use domain::job::{Job, JobState, MisfirePolicy, OverlapPolicy};
use domain::limits;
use domain::time::Timestamp;
use std::time::Duration;

/// What the history says of a firing that came while nobody could send it; the record of firings that
/// were not even claimed says the same.
const MISSED: &str = "Missed while the cluster was down";
/// How much longer than its timeout an attempt may be under way, with the death of its node noticed in time.
const ATTEMPT_MARGIN: Duration = Duration::from_secs(5);

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Send it.
    Go,
    /// Record it as skipped, for this reason.
    Skip(&'static str),
}

/// What the state says of an execution.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) execution: &'a Execution,
    pub(crate) state: &'a JobState,
    pub(crate) space_paused: bool,
    pub(crate) plan: &'a Plan,
}

/// Decides whether a claimed execution is sent.
///
/// `as_of` is when it could have been sent, as far as the cluster goes: whether it was missed does not
/// depend on how long it then waits for a busy target. `settled` tells of an execution whether its last outcome is
/// known on this node though not yet in the state: such a one no longer runs.
pub(crate) fn decide(facts: &Facts<'_>, as_of: Timestamp, settled: impl Fn(&ExecutionId) -> bool) -> Start {
    let Facts { execution, state, space_paused, plan } = *facts;
    let job = &plan.job;
    if !state.admits(execution.trigger, space_paused) {
        let paused = state.paused_at.is_some();
        return Start::Skip(if paused { "The job was paused" } else { "The space was paused" });
    }
    if execution.trigger == Trigger::Manual {
        return Start::Go;
    }
    if missed_until(execution, job, as_of).is_some_and(|until| !is_made_up_for(facts, until)) {
        return Start::Skip(MISSED);
    }
    if execution.attempt > 1 {
        return Start::Go;
    }
    if plan.schedule.as_ref().is_some_and(|schedule| !schedule.is_due(execution.scheduled_at)) {
        return Start::Skip("The schedule was changed");
    }
    let still_runs = |open: &&ExecutionId| **open < execution.id && !settled(open);
    match job.overlap {
        OverlapPolicy::Skip if state.open.iter().any(|open| still_runs(&open)) => {
            Start::Skip("The previous execution was still running")
        }
        OverlapPolicy::Skip | OverlapPolicy::Allow => Start::Go,
    }
}

/// The end of the outage in which a scheduled execution was missed; `None` when it was not.
fn missed_until(execution: &Execution, job: &Job, as_of: Timestamp) -> Option<Timestamp> {
    if execution.attempt == 1 {
        // One that is made up for is due at the present, whatever instant it stands for.
        return (as_of.since(execution.due) >= limits::MISFIRE_AFTER).then_some(as_of);
    }
    // An attempt that came to an end was made, and a retry of it is no firing of the schedule.
    if execution.retries > 0 {
        return None;
    }
    // The death of one node is noticed within seconds, at the latest when its attempt is over.
    let outage_min = limits::MISFIRE_AFTER
        .max(Duration::from_secs(job.request.timeout_sec.into()).saturating_add(ATTEMPT_MARGIN));
    let is_of_outage = |attempt: &&Attempt| {
        is_node_lost(attempt) && attempt.finished_at.since(attempt.started_at) >= outage_min
    };
    execution.attempts.iter().filter(is_of_outage).map(|attempt| attempt.finished_at).next_back()
}

/// Whether an attempt was given up because its node was.
pub(crate) fn is_node_lost(attempt: &Attempt) -> bool {
    attempt.failure.as_ref().is_some_and(|failure| failure.kind == ErrorKind::NodeLost)
}

/// Whether an execution that was missed is the one that runs when the outage is over: the last.
fn is_made_up_for(facts: &Facts<'_>, until: Timestamp) -> bool {
    match facts.plan.job.misfire {
        MisfirePolicy::Skip => false,
        MisfirePolicy::RunOnce => {
            let schedule = facts.plan.schedule.as_ref();
            let later = schedule.and_then(|schedule| schedule.next_after(facts.execution.scheduled_at));
            later.is_none_or(|later| later > until)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use domain::execution::{AttemptResult, Failure, Outcome};
    use domain::id::{JobId, NodeId};
    use domain::job::Delivery;
    use domain::node::Incarnation;

    const JOB: JobId = JobId(7);

    fn id(secs: u64) -> ExecutionId {
        ExecutionId::scheduled(JOB, Timestamp::from_secs(secs))
    }

    fn job(overlap: OverlapPolicy) -> Job {
        Job { overlap, ..samples::job(JOB) }
    }

    fn scheduled(secs: u64) -> Execution {
        Execution::scheduled(id(secs), Timestamp::from_secs(secs), NodeId(1), Incarnation(1))
    }

    fn check(
        execution: &Execution,
        overlap: OverlapPolicy,
        state: &JobState,
        settled: &[ExecutionId],
        expected: Start,
    ) {
        let start = decide_at(execution, job(overlap), state, execution.due, settled);
        assert_eq!(start, expected);
    }

    fn decide_at(
        execution: &Execution,
        job: Job,
        state: &JobState,
        as_of: Timestamp,
        settled: &[ExecutionId],
    ) -> Start {
        let plan =
            Plan::of(Job { cron_expression: "* * * * *".to_owned(), timezone: "UTC".to_owned(), ..job });
        let facts = Facts { execution, state, space_paused: false, plan: &plan };
        decide(&facts, as_of, |open| settled.contains(open))
    }

    /// The execution due at `due_secs`, as of each of the given moments, under both misfire policies.
    fn check_missed(execution: &Execution, timeout_sec: u32, as_of_secs: u64, skip: Start, run_once: Start) {
        for (misfire, expected) in [(MisfirePolicy::Skip, skip), (MisfirePolicy::RunOnce, run_once)] {
            let mut job = Job { misfire, ..job(OverlapPolicy::Allow) };
            job.request.timeout_sec = timeout_sec;
            let as_of = Timestamp::from_secs(as_of_secs);
            let start = decide_at(execution, job, &JobState::default(), as_of, &[]);
            assert_eq!(start, expected, "{misfire:?}");
        }
    }

    /// The execution due at `due_secs` after its node was counted as dead at `expired_secs`.
    fn orphaned(due_secs: u64, expired_secs: u64) -> Execution {
        let mut execution = scheduled(due_secs);
        execution.orphan(
            Timestamp::from_secs(expired_secs),
            Timestamp::from_secs(expired_secs),
            Delivery::AtLeastOnce,
        );
        execution.claim(NodeId(2), Incarnation(2));
        execution
    }

    #[test]
    fn what_was_lost_to_an_outage_follows_the_misfire_policy() {
        let missed = Start::Skip(MISSED);
        check_missed(&orphaned(120, 155), 30, 156, missed.clone(), Start::Go);
        check_missed(&orphaned(120, 179), 30, 300, missed.clone(), Start::Go);
        check_missed(&orphaned(120, 180), 30, 180, missed.clone(), missed.clone());
        // An attempt that may take that long is no sign of an outage.
        check_missed(&orphaned(120, 300), 300, 300, Start::Go, Start::Go);
        check_missed(&orphaned(120, 425), 300, 425, missed.clone(), missed);
    }

    #[test]
    fn what_was_lost_with_one_node_is_sent_again() {
        check_missed(&orphaned(120, 123), 30, 124, Start::Go, Start::Go);
        check_missed(&orphaned(120, 154), 30, 200, Start::Go, Start::Go);
    }

    #[test]
    fn a_second_death_does_not_make_good_for_the_outage() {
        let mut execution = orphaned(120, 600);
        execution.orphan(Timestamp::from_secs(603), Timestamp::from_secs(603), Delivery::AtLeastOnce);
        check_missed(&execution, 30, 604, Start::Skip(MISSED), Start::Skip(MISSED));
    }

    #[test]
    fn a_first_attempt_that_nobody_could_make_is_missed_too() {
        let missed = Start::Skip(MISSED);
        check_missed(&scheduled(120), 30, 149, Start::Go, Start::Go);
        check_missed(&scheduled(120), 30, 150, missed.clone(), Start::Go);
        check_missed(&scheduled(120), 30, 180, missed.clone(), missed);
        // The one that is made up for is due at the end of the outage.
        let due = Timestamp::from_secs(600);
        let made_up = Execution::scheduled(id(120), due, NodeId(1), Incarnation(1));
        check_missed(&made_up, 30, 601, Start::Go, Start::Go);
    }

    #[test]
    fn manual_runs_and_retries_are_not_missed() {
        let manual = Execution::manual(ExecutionId::manual(JOB, Timestamp::from_secs(61), 5));
        check_missed(&manual, 30, 9_000, Start::Go, Start::Go);

        let mut execution = scheduled(120);
        let attempt = Attempt {
            number: 1,
            node: NodeId(1),
            started_at: Timestamp::from_secs(120),
            finished_at: Timestamp::from_secs(121),
            duration_ms: 1_000,
            status_code: Some(500),
            failure: Some(Failure { kind: ErrorKind::HttpStatus, message: "HTTP 500".to_owned() }),
        };
        let result = AttemptResult::Sent { attempt, body: None, retry_at: Some(Timestamp::from_secs(130)) };
        let outcome = Outcome {
            execution: execution.id,
            attempt: 1,
            node: NodeId(1),
            incarnation: Incarnation(1),
            result,
        };
        execution.record(&outcome).unwrap();
        execution.claim(NodeId(1), Incarnation(1));
        execution.orphan(Timestamp::from_secs(9_000), Timestamp::from_secs(9_000), Delivery::AtLeastOnce);
        check_missed(&execution, 30, 9_000, Start::Go, Start::Go);
    }

    #[test]
    fn a_pause_after_the_claim_counts_but_not_for_manual_runs() {
        let paused = JobState { paused_at: Some(Timestamp::EPOCH), ..JobState::default() };
        check(&scheduled(60), OverlapPolicy::Allow, &paused, &[], Start::Skip("The job was paused"));
        let manual = Execution::manual(ExecutionId::manual(JOB, Timestamp::from_secs(61), 5));
        check(&manual, OverlapPolicy::Allow, &paused, &[], Start::Go);
    }

    #[test]
    fn a_pause_of_the_space_counts_as_well() {
        let state = JobState::default();
        let plan = Plan::of(job(OverlapPolicy::Allow));
        let decide = |execution: Execution| {
            let facts = Facts { execution: &execution, state: &state, space_paused: true, plan: &plan };
            decide(&facts, execution.due, |_| false)
        };
        assert_eq!(decide(scheduled(60)), Start::Skip("The space was paused"));
        let manual = Execution::manual(ExecutionId::manual(JOB, Timestamp::from_secs(61), 5));
        assert_eq!(decide(manual), Start::Go);
    }

    #[test]
    fn an_instant_the_new_schedule_does_not_hold_is_skipped() {
        let state = JobState::default();
        check(&scheduled(61), OverlapPolicy::Allow, &state, &[], Start::Skip("The schedule was changed"));
        check(&scheduled(120), OverlapPolicy::Allow, &state, &[], Start::Go);
    }

    #[test]
    fn overlap_looks_at_earlier_executions_that_still_run() {
        let state = JobState { open: vec![id(60), id(120), id(180)], ..JobState::default() };
        let skip = Start::Skip("The previous execution was still running");
        check(&scheduled(120), OverlapPolicy::Skip, &state, &[], skip);
        check(&scheduled(120), OverlapPolicy::Skip, &state, &[id(60)], Start::Go);
        check(&scheduled(60), OverlapPolicy::Skip, &state, &[], Start::Go);
        check(&scheduled(120), OverlapPolicy::Allow, &state, &[], Start::Go);
    }

    #[test]
    fn a_second_attempt_is_not_held_up_by_its_successors_rules() {
        let mut execution = scheduled(120);
        execution.attempt = 2;
        let state = JobState { open: vec![id(60), id(120)], ..JobState::default() };
        check(&execution, OverlapPolicy::Skip, &state, &[], Start::Go);
    }
}
