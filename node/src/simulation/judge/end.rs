//! How a run ends: everything is done, everybody lives and agrees, and what is on record is what happened.

use super::{Promise, Story, Violation, broken};
use crate::scheduler::is_node_lost;
use crate::simulation::facts::{Fact, Of};
use crate::simulation::invariants;
use crate::simulation::run::instant;
use domain::execution::{AttemptResult, Execution, ExecutionStatus, Outcome};
use domain::id::ExecutionId;
use domain::job::OverlapPolicy;
use domain::retry;
use raft::Position;
use raft::command::Command;
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;
use storage::Read;
use storage::schema::{Executions, Jobs, Nodes};

/// How long after its instant an execution may last: the longest timeout, and its outcome.
const LASTS_FOR: Duration = Duration::from_secs(8);

pub(super) fn check(story: &Story<'_>) -> Vec<Violation> {
    let mut found = Vec::new();
    replicas(story, &mut found);
    processes(story, &mut found);
    wishes(story, &mut found);
    answers(story, &mut found);
    let view = story.ran.truth.view();
    for (id, execution) in view.prefix::<Executions>(&[], None, usize::MAX).unwrap() {
        if view.contains::<Jobs>(&id.job).unwrap() {
            record(story, id, &execution, &mut found);
        }
    }
    found
}

fn replicas(story: &Story<'_>, found: &mut Vec<Violation>) {
    let truth = story.ran.truth.digest().unwrap();
    let mut chains = BTreeSet::new();
    for (node, state) in &story.ran.states {
        if state.digest().unwrap() != truth {
            let text = format!("the state of node {node} is not what the log makes of it");
            found.push(broken(Promise::ReplicasAgree, text));
        }
        chains.insert(Position::of(&state.view()).unwrap().digest.map(|digest| digest.to_u64()));
    }
    if chains.len() > 1 {
        found.push(broken(Promise::ReplicasAgree, "the nodes show different digests"));
    }
    let sound = catch_unwind(AssertUnwindSafe(|| invariants::check(&story.ran.truth)));
    if let Err(panic) = sound {
        let text = panic.downcast_ref::<String>().cloned().unwrap_or_default();
        found.push(broken(Promise::StateIsSound, text));
    }
}

fn processes(story: &Story<'_>, found: &mut Vec<Violation>) {
    for (_, fact) in story.facts() {
        if let Fact::Ended { node, cause } = fact {
            // Of a machine that has forgotten its earlier processes and whose clock is behind the new one seems to be the older.
            // It is started once more, and has learned of them by then.
            let is_mistaken =
                cause.contains("does another process run as this node?") && story.is_past_forgotten();
            if is_mistaken {
                continue;
            }
            found.push(broken(Promise::NobodyFails, format!("node {node}: {cause}")));
        }
    }
    let nodes = story.ran.truth.view().prefix::<Nodes>(&[], None, usize::MAX).unwrap();
    let live = nodes.iter().filter(|(_, node)| node.expired_at.is_none() && !node.draining).count();
    if live as u64 != story.plan.nodes || story.ran.states.len() as u64 != story.plan.nodes {
        let text = format!("{live} of {} nodes live at the end", story.plan.nodes);
        found.push(broken(Promise::Heals, text));
    }
}

/// What somebody was told is done has been done.
fn wishes(story: &Story<'_>, found: &mut Vec<Violation>) {
    let mut done: BTreeMap<(u64, &str), i64> = BTreeMap::new();
    for (_, fact) in story.facts() {
        match fact {
            Fact::Applied { command, reply: Ok(_), .. } => {
                let (job, what) = match command.as_ref() {
                    Command::CreateJob(it) => (it.job.id, "create"),
                    Command::UpdateJob(it) => (it.job.id, "update"),
                    Command::PauseJob(it) => (it.job, "pause"),
                    Command::ResumeJob(it) => (it.job, "resume"),
                    Command::DeleteJob(it) => (it.job, "delete"),
                    Command::RunJob(it) => (it.execution.job, "run"),
                    _ => continue,
                };
                *done.entry((job.0, what)).or_default() += 1;
            }
            Fact::Told { job, what, answer } if answer == "done" => {
                let told = done.entry((story.plan.jobs[*job].id.0, what)).or_default();
                *told -= 1;
                if *told < 0 {
                    found.push(broken(Promise::AcknowledgedIsDone, format!("{what} of job {job}")));
                }
            }
            _ => {}
        }
    }
}

/// Whoever heard an answer, and was not killed, has told the state.
fn answers(story: &Story<'_>, found: &mut Vec<Violation>) {
    for (_, fact) in story.facts() {
        let Fact::Answered { node, session, execution, attempt, success } = fact else { continue };
        if story.killed.contains(&(*node, *session)) {
            continue;
        }
        let told = story.outcomes.get(&(*execution, *attempt)).into_iter().flatten();
        let agrees = |outcome: &Outcome| match &outcome.result {
            AttemptResult::Sent { attempt, .. } => attempt.failure.is_none() == *success,
            AttemptResult::Skipped { .. } => false,
        };
        let told = told.filter(|(outcome, _)| outcome.node == *node && agrees(outcome));
        if told.count() == 0 {
            let how = if *success { "success" } else { "failure" };
            let text =
                format!("node {node} heard of {} attempt {attempt}: {how}, and told nobody", Of(*execution));
            found.push(broken(Promise::OutcomesAgree, text));
        }
    }
}

/// What is on record of an execution is what happened.
fn record(story: &Story<'_>, id: ExecutionId, execution: &Execution, found: &mut Vec<Violation>) {
    let sent =
        |attempt: u32| story.sent.iter().any(|(_, sent)| sent.execution == id && sent.attempt == attempt);
    let ended = instant(story.ran.ended_at).minus(LASTS_FOR);
    match execution.status() {
        // A clock that was far ahead has claimed what was yet to come.
        None if execution.due > ended => {}
        None => {
            found.push(broken(Promise::Heals, format!("{} has not ended: {:?}", Of(id), execution.state)))
        }
        Some(ExecutionStatus::Success) => {
            let answered = story.facts().iter().any(|(_, fact)| {
                matches!(fact, Fact::Answered { execution, success: true, .. } if *execution == id)
            });
            if !answered {
                found.push(broken(
                    Promise::OutcomesAgree,
                    format!("{} has succeeded without an answer", Of(id)),
                ));
            }
        }
        Some(ExecutionStatus::Failed) => failed(story, id, execution, found),
        Some(ExecutionStatus::Skipped) => skipped(story, id, execution, found),
    }
    for attempt in execution.attempts.iter().filter(|attempt| attempt.status_code.is_some()) {
        if !sent(attempt.number) {
            let text = format!("{} attempt {} is on record and was not sent", Of(id), attempt.number);
            found.push(broken(Promise::OutcomesAgree, text));
        }
    }
}

/// A failure is what the target answered last, with no retry left, or the loss of the node.
fn failed(story: &Story<'_>, id: ExecutionId, execution: &Execution, found: &mut Vec<Violation>) {
    if execution.attempts.iter().any(is_node_lost) {
        if !story.has_trouble() {
            found.push(broken(
                Promise::OutcomesAgree,
                format!("{} has lost a node and none was lost", Of(id)),
            ));
        }
        return;
    }
    // The next one may have been claimed already when its job was paused.
    let last = execution.attempts.last().map(|attempt| attempt.number);
    let failed = story.facts().iter().any(|(_, fact)| {
        matches!(fact, Fact::Answered { execution: of, attempt, success: false, .. }
            if *of == id && Some(*attempt) == last)
    });
    if !failed {
        found.push(broken(
            Promise::OutcomesAgree,
            format!("{} has failed and the target had no part in it", Of(id)),
        ));
    }
    // Who pauses a job ends its retries: the next one is skipped.
    let outcomes = story.outcomes.range((id, 0)..=(id, u32::MAX)).flat_map(|(_, outcomes)| outcomes);
    let ends = outcomes.filter(|(_, reply)| reply.is_ok()).any(|(outcome, _)| {
        matches!(&outcome.result, AttemptResult::Sent { retry_at: None, attempt, .. } if attempt.failure.is_some())
    });
    if ends && retry::delay(story.job(id.job).retry, execution.retries + 1).is_some() {
        let text = format!("{} was given up after {} retries", Of(id), execution.retries);
        found.push(broken(Promise::OutcomesAgree, text));
    }
}

fn skipped(story: &Story<'_>, id: ExecutionId, execution: &Execution, found: &mut Vec<Violation>) {
    let reason = execution.skip_reason.as_deref().unwrap_or_default();
    let applied = |wanted: fn(&Command) -> bool| {
        story.facts().iter().any(|(_, fact)| match fact {
            Fact::Applied { command, reply: Ok(_), .. } => wanted(command),
            _ => false,
        })
    };
    let may = match reason {
        "Missed while the cluster was down" => story.has_trouble(),
        "The job was paused" => applied(|command| matches!(command, Command::PauseJob(_))),
        "The schedule was changed" => applied(|command| matches!(command, Command::UpdateJob(_))),
        "The previous execution was still running" => story.job(id.job).overlap == OverlapPolicy::Skip,
        _ => false,
    };
    if !may {
        found.push(broken(Promise::SkipsHaveReasons, format!("{}: {reason}", Of(id))));
    }
}
