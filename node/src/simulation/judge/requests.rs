//! What the target hears: each attempt once, by who holds it, in time, and not what nobody wants any more.

use super::{FAILS_OVER_FOR, Promise, Story, Violation, broken, is_retried};
use crate::simulation::clock::START;
use crate::simulation::facts::{Fact, Of, Sent, Within};
use domain::execution::AttemptResult;
use domain::id::{ExecutionId, JobId, NodeId};
use domain::job::Delivery;
use domain::limits;
use domain::node::SessionId;
use raft::command::Command;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// How late a request may leave when nothing is wrong.
const LATE_MAX: Duration = Duration::from_millis(100);
/// What a job wants has to be known for so long before its next instant is sure to be in time.
const KNOWN_FOR: Duration = Duration::from_secs(3);

pub(super) fn check(story: &Story<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    let mut holders: BTreeMap<ExecutionId, (NodeId, SessionId, u32)> = BTreeMap::new();
    let mut heard = BTreeSet::new();
    // Since when an attempt is known to have been the last.
    let mut settled: BTreeMap<(ExecutionId, u32), Duration> = BTreeMap::new();
    // Since when the process that holds it is gone.
    let mut orphaned: BTreeMap<ExecutionId, Duration> = BTreeMap::new();
    // Since when a job is paused or gone.
    let mut silent: BTreeMap<JobId, Duration> = BTreeMap::new();
    let mut turned: BTreeMap<JobId, Duration> = BTreeMap::new();
    for (at, fact) in story.facts() {
        match fact {
            Fact::Held { execution, attempt, node, session } => {
                holders.insert(*execution, (*node, *session, *attempt));
            }
            Fact::Lost { execution, .. } => {
                holders.remove(execution);
                if let Some(since) = orphaned.remove(execution) {
                    goes_on(story, *execution, since, *at, &mut found);
                }
            }
            Fact::Gone { node, session, drained: false } => {
                let held = holders.iter().filter(|(_, (by, process, _))| (by, process) == (node, session));
                orphaned.extend(held.map(|(execution, _)| (*execution, *at)));
            }
            Fact::Applied { command, reply: Ok(_), .. } => {
                let job = match command.as_ref() {
                    Command::Record(outcome) if is_retried(outcome) => continue,
                    Command::Record(outcome) => {
                        settled.insert((outcome.execution, outcome.attempt), *at);
                        continue;
                    }
                    Command::PauseJob(pause) => {
                        silent.insert(pause.job, *at);
                        pause.job
                    }
                    Command::DeleteJob(delete) => {
                        silent.insert(delete.job, *at);
                        delete.job
                    }
                    Command::ResumeJob(resume) => {
                        silent.remove(&resume.job);
                        resume.job
                    }
                    Command::CreateJob(create) => create.job.id,
                    Command::UpdateJob(update) => update.job.id,
                    _ => continue,
                };
                turned.insert(job, *at);
            }
            Fact::Sent(sent) => {
                let what =
                    || format!("{} attempt {} at {}", Of(sent.execution), sent.attempt, Within(sent.at));
                if !heard.insert((sent.execution, sent.attempt)) {
                    found.push(broken(Promise::EachAttemptOnce, what()));
                }
                let silence = silent.get(&sent.job).copied();
                let of_schedule = sent.execution.is_scheduled();
                if let Some(since) = silence
                    && of_schedule
                    && *at > since + limits::CLAIM_AHEAD_DEFAULT
                {
                    let text = format!("{} though it was over {:?} before", what(), *at - since);
                    found.push(broken(Promise::Quiet, text));
                }
                let holder = holders.get(&sent.execution);
                let holds = holder == Some(&(sent.node, sent.session, sent.attempt));
                let lately = |since: &Duration| *at <= *since + limits::CLAIM_AHEAD_DEFAULT;
                // What was deleted is known a little later; so is that an attempt was not lost after all, whose node was counted
                // as dead and has told its outcome late. That costs a repetition at most.
                let before = settled.get(&(sent.execution, sent.attempt.saturating_sub(1)));
                let may_repeat = story.job(sent.job).delivery == Delivery::AtLeastOnce;
                let is_excused =
                    silence.as_ref().is_some_and(lately) || (may_repeat && before.is_some_and(lately));
                if !holds && !is_excused {
                    let text = format!("{} by node {}, held: {holder:?}", what(), sent.node);
                    found.push(broken(Promise::OnlyWhatIsHeld, text));
                }
                repeats(story, sent, &mut found);
                let known = turned.get(&sent.job).map_or(Duration::MAX, |turned| *turned + KNOWN_FOR);
                on_time(story, *at, sent, known, &mut found);
            }
            _ => {}
        }
    }
    found
}

/// What the dead held is taken from them.
fn goes_on(
    story: &Story<'_>,
    execution: ExecutionId,
    since: Duration,
    at: Duration,
    found: &mut Vec<Violation>,
) {
    let taken_by = since + FAILS_OVER_FOR + Duration::from_millis(1);
    if at > taken_by && story.is_calm(taken_by, taken_by) {
        let text = format!("{} was held by the dead for {:?}", Of(execution), at - since);
        found.push(broken(Promise::OrphansGoOn, text));
    }
}

/// A second attempt follows from a failure, or, if the job allows, from the death of a process.
fn repeats(story: &Story<'_>, sent: &Sent, found: &mut Vec<Violation>) {
    if sent.attempt == 1 || story.job(sent.job).delivery == Delivery::AtLeastOnce {
        return;
    }
    let before = story.outcomes.get(&(sent.execution, sent.attempt - 1));
    let retried = before
        .is_some_and(|outcomes| outcomes.iter().any(|(outcome, reply)| reply.is_ok() && is_retried(outcome)));
    if !retried {
        found.push(broken(Promise::AtMostOnce, format!("{} attempt {}", Of(sent.execution), sent.attempt)));
    }
}

fn on_time(story: &Story<'_>, at: Duration, sent: &Sent, known: Duration, found: &mut Vec<Violation>) {
    let due = match sent.attempt {
        1 => sent.execution.at,
        _ => {
            let before = story.outcomes.get(&(sent.execution, sent.attempt - 1)).into_iter().flatten();
            let retried =
                before.filter(|(_, reply)| reply.is_ok()).find_map(|(outcome, _)| match &outcome.result {
                    AttemptResult::Sent { retry_at, .. } => *retry_at,
                    AttemptResult::Skipped { .. } => None,
                });
            let Some(retry_at) = retried else { return };
            retry_at
        }
    };
    if sent.at < due {
        let text = format!("{} attempt {} was early: {}", Of(sent.execution), sent.attempt, Within(sent.at));
        found.push(broken(Promise::OnTime, text));
    }
    let due = due.since(START);
    let late = at.saturating_sub(due);
    let is_first = sent.attempt == 1 && sent.execution.is_scheduled();
    if is_first
        && late > LATE_MAX
        && due > known
        && story.is_calm(due.saturating_sub(KNOWN_FOR), due + LATE_MAX)
    {
        found.push(broken(Promise::OnTime, format!("{} was late by {late:?}", Of(sent.execution))));
    }
}
