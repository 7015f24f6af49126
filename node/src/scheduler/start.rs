//! The last look before a request leaves: may this execution still start? Pure.
//!
//! An execution is claimed up to claim-ahead before its instant. What people change in between counts,
//! so the question is asked of the state as it is when the instant has come.

use super::plans::Plan;
use domain::execution::{Execution, Trigger};
use domain::id::ExecutionId;
use domain::job::{Job, JobState, OverlapPolicy};

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Start {
    /// Send it.
    Go,
    /// Record it as skipped, for this reason.
    Skip(&'static str),
}

/// Decides whether a claimed execution is sent.
///
/// `settled` tells of an execution whether its last outcome is known on this node though not yet in
/// the state: such a one no longer runs. Without a `plan` (its schedule cannot be read by this build)
/// what was claimed runs.
pub(crate) fn decide(
    execution: &Execution,
    job: &Job,
    state: &JobState,
    space_paused: bool,
    plan: Option<&Plan>,
    settled: impl Fn(&ExecutionId) -> bool,
) -> Start {
    if !state.admits(execution.trigger, space_paused) {
        let paused = state.paused_at.is_some();
        return Start::Skip(if paused { "The job was paused" } else { "The space was paused" });
    }
    if execution.trigger == Trigger::Manual || execution.attempt > 1 {
        return Start::Go;
    }
    if plan.is_some_and(|plan| !plan.schedule.is_due(execution.scheduled_at)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::{AccountId, JobId, NodeId};
    use domain::job::{Method, MisfirePolicy, Request};
    use domain::node::Incarnation;
    use domain::schedule::Schedule;
    use domain::time::Timestamp;

    const JOB: JobId = JobId(7);

    fn id(secs: u64) -> ExecutionId {
        ExecutionId::scheduled(JOB, Timestamp::from_secs(secs))
    }

    fn job(overlap: OverlapPolicy) -> Job {
        Job {
            id: JOB,
            account: AccountId(1),
            space: None,
            name: "payroll".to_owned(),
            cron_expression: "* * * * *".to_owned(),
            timezone: "UTC".to_owned(),
            request: Request {
                url: "https://example.com".to_owned(),
                method: Method::Get,
                headers: Vec::new(),
                body: None,
                timeout_sec: 30,
            },
            retry: domain::job::Retry::default(),
            tags: Vec::new(),
            store_response_body: false,
            alert_channels: None,
            overlap,
            misfire: MisfirePolicy::RunOnce,
            delivery: domain::job::Delivery::AtLeastOnce,
            created_at: Timestamp::EPOCH,
            updated_at: Timestamp::EPOCH,
        }
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
        let schedule = Schedule::parse("* * * * *", "UTC").unwrap();
        let plan = Plan { schedule, misfire: MisfirePolicy::RunOnce, space: None };
        let start =
            decide(execution, &job(overlap), state, false, Some(&plan), |open| settled.contains(open));
        assert_eq!(start, expected);
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
        let (job, state) = (job(OverlapPolicy::Allow), JobState::default());
        let decide = |execution| decide(&execution, &job, &state, true, None, |_| false);
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
