//! From "this is due" to the claim that takes it. Pure.

use super::plans::Plan;
use domain::execution::{Execution, ExecutionState, MissedFirings};
use domain::id::JobId;
use domain::job::{JobState, MisfirePolicy};
use domain::limits;
use domain::time::Timestamp;
use raft::command::ClaimTarget;
use std::time::Duration;

/// Steps over which the claims of what is due at one instant are spread. Few, so that those of one step go into the log
/// together.
const STEPS: u32 = 8;
/// The share of claim-ahead that a step takes.
const STEP_SHARE: u32 = 40;

/// How long before its instant a job is claimed: between three quarters of `claim_ahead` and nearly all of it.
///
/// Most of what is due is due at a whole second, and claim-ahead is whole seconds. Claimed all at once, it would be claimed while what is due then is sent.
pub(crate) fn ahead(job: JobId, claim_ahead: Duration) -> Duration {
    // The first steps stay free for what is due.
    let step = STEP_SHARE / 4 - STEPS + 1 + (job.0 % u64::from(STEPS)) as u32;
    claim_ahead - claim_ahead / STEP_SHARE * step
}

/// The claim for the next instant of a job, or `None` when it has none.
///
/// An instant that is late by less than [`limits::MISFIRE_AFTER`] fires late: elections and restarts
/// cost lateness, never a firing. One that is later was missed with all that followed it up to `now`,
/// and the job's misfire policy decides.
pub(crate) fn firing(job: JobId, state: &JobState, plan: &Plan, now: Timestamp) -> Option<ClaimTarget> {
    let schedule = plan.schedule.as_ref()?;
    let cursor = state.next_run_at?;
    let generation = state.generation;
    if now.since(cursor) < limits::MISFIRE_AFTER {
        let next_run_at = schedule.next_after(cursor);
        return Some(ClaimTarget::Firing { job, generation, scheduled_at: cursor, next_run_at });
    }

    // The cursor is due by the schedule it was computed from. Should this build's zone data disagree,
    // it stands for itself alone.
    let missed =
        schedule.missed(cursor, now, limits::MISSED_COUNT_MAX).filter(|missed| missed.first == cursor);
    let (last, before_last, count, exact) = match &missed {
        Some(missed) => (missed.last, missed.before_last, missed.count, missed.exact),
        None => (cursor, None, 1, true),
    };
    let (run, skipped) = match plan.job.misfire {
        MisfirePolicy::RunOnce => {
            let skipped =
                before_last.map(|until| MissedFirings { until, count: count.saturating_sub(1), exact });
            (Some(last), skipped)
        }
        MisfirePolicy::Skip => (None, Some(MissedFirings { until: last, count, exact })),
    };
    let next_run_at = schedule.next_after(last.max(now));
    Some(ClaimTarget::Missed { job, generation, first: cursor, skipped, run, run_due: now, next_run_at })
}

/// The claim for a pending execution, or `None` when it does not wait for one.
pub(crate) fn pending(execution: &Execution) -> Option<ClaimTarget> {
    match execution.state {
        ExecutionState::Pending => {
            Some(ClaimTarget::Execution { id: execution.id, attempt: execution.attempt })
        }
        ExecutionState::Claimed { .. } | ExecutionState::Finished { .. } => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples;
    use domain::job::Job;

    const JOB: JobId = JobId(7);

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn plan(expression: &str, misfire: MisfirePolicy) -> Plan {
        Plan::of(Job { cron_expression: expression.to_owned(), misfire, ..samples::job(JOB) })
    }

    fn check(expression: &str, misfire: MisfirePolicy, cursor: u64, now: u64, expected: ClaimTarget) {
        let plan = plan(expression, misfire);
        let state = JobState { generation: 3, next_run_at: Some(at(cursor)), ..JobState::default() };
        assert_eq!(firing(JOB, &state, &plan, at(now)), Some(expected));
    }

    #[test]
    fn claims_are_spread_and_keep_off_the_whole_second() {
        let ms: Vec<_> = (0..8).map(|job| ahead(JobId(job), Duration::from_secs(2)).as_millis()).collect();
        assert_eq!(ms, [1_850, 1_800, 1_750, 1_700, 1_650, 1_600, 1_550, 1_500]);
        assert_eq!(ahead(JobId(u64::MAX), Duration::from_millis(251)).as_millis(), 188);
    }

    #[test]
    fn ahead_of_time_and_a_little_late_are_ordinary() {
        for now in [5_998, 6_000, 6_029] {
            check(
                "* * * * *",
                MisfirePolicy::Skip,
                6_000,
                now,
                ClaimTarget::Firing {
                    job: JOB,
                    generation: 3,
                    scheduled_at: at(6_000),
                    next_run_at: Some(at(6_060)),
                },
            );
        }
    }

    #[test]
    fn after_an_outage_one_run_stands_for_all() {
        check(
            "* * * * *",
            MisfirePolicy::RunOnce,
            6_000,
            6_190,
            ClaimTarget::Missed {
                job: JOB,
                generation: 3,
                first: at(6_000),
                skipped: Some(MissedFirings { until: at(6_120), count: 3, exact: true }),
                run: Some(at(6_180)),
                run_due: at(6_190),
                next_run_at: Some(at(6_240)),
            },
        );
    }

    #[test]
    fn a_single_missed_instant_runs_and_nothing_is_skipped() {
        check(
            "0 * * * *",
            MisfirePolicy::RunOnce,
            7_200,
            7_300,
            ClaimTarget::Missed {
                job: JOB,
                generation: 3,
                first: at(7_200),
                skipped: None,
                run: Some(at(7_200)),
                run_due: at(7_300),
                next_run_at: Some(at(10_800)),
            },
        );
    }

    #[test]
    fn skip_leaves_a_record_and_runs_nothing() {
        check(
            "@every 1s",
            MisfirePolicy::Skip,
            6_000,
            6_099,
            ClaimTarget::Missed {
                job: JOB,
                generation: 3,
                first: at(6_000),
                skipped: Some(MissedFirings { until: at(6_099), count: 100, exact: true }),
                run: None,
                run_due: at(6_099),
                next_run_at: Some(at(6_100)),
            },
        );
    }

    #[test]
    fn a_paused_job_has_nothing_to_claim() {
        let plan = plan("* * * * *", MisfirePolicy::RunOnce);
        assert_eq!(firing(JOB, &JobState::default(), &plan, at(9)), None);
    }
}
