//! Each due instant of a job is accounted for once: by a claim, or by a record of missed ones. What is due is computed
//! here, without the product's schedules.

use super::{Promise, Story, Violation, broken};
use crate::simulation::clock::START;
use crate::simulation::facts::{Fact, Of, Short, Within};
use domain::execution::MissedFirings;
use domain::id::{ExecutionId, JobId};
use domain::limits;
use domain::time::Timestamp;
use raft::command::{ClaimTarget, Command};
use std::collections::BTreeMap;
use std::time::Duration;
use storage::Read;
use storage::schema::Executions;

/// How long after its instant something may be unclaimed while nothing is wrong.
const UNCLAIMED_MAX: Duration = Duration::from_millis(500);

/// Milliseconds between two instants of an expression.
pub(super) fn period_ms(expression: &str) -> u64 {
    match expression.strip_prefix("@every ").and_then(|period| period.strip_suffix('s')) {
        Some(secs) => secs.parse::<u64>().unwrap() * 1_000,
        None => 60_000,
    }
}

fn next(expression: &str, after: Timestamp) -> Timestamp {
    let period = period_ms(expression);
    Timestamp::from_millis((after.as_millis() / period + 1) * period)
}

#[derive(Default)]
struct Job {
    expression: String,
    cursor: Option<Timestamp>,
    claimed_until: Option<Timestamp>,
    paused: bool,
    claimed: Vec<ExecutionId>,
}

pub(super) fn check(story: &Story<'_>) -> Vec<Violation> {
    let mut walk = Walk { story, jobs: BTreeMap::new(), found: Vec::new() };
    for (at, fact) in story.facts() {
        if let Fact::Applied { command, reply: Ok(_), .. } = fact {
            walk.apply(*at, command);
        }
    }
    let Walk { jobs, mut found, .. } = walk;
    let view = story.ran.truth.view();
    for id in jobs.values().flat_map(|job| &job.claimed) {
        if !view.contains::<Executions>(id).unwrap() {
            found.push(broken(Promise::EveryInstantAccountedFor, format!("{} left no record", Of(*id))));
        }
    }
    found
}

struct Walk<'a> {
    story: &'a Story<'a>,
    jobs: BTreeMap<JobId, Job>,
    found: Vec<Violation>,
}

impl Walk<'_> {
    fn expect(&mut self, job: JobId, what: &str, found: Option<Timestamp>, expected: Option<Timestamp>) {
        if found != expected {
            let show =
                |at: Option<Timestamp>| at.map_or_else(|| "never".to_owned(), |at| Within(at).to_string());
            let text = format!("{what} of {} is {}, should be {}", Short(job), show(found), show(expected));
            self.found.push(broken(Promise::EveryInstantAccountedFor, text));
        }
    }

    /// A wish moves the cursor: what was due before and is not claimed is lost.
    fn leaves(&mut self, id: JobId, at: Duration) {
        let Some(cursor) = self.jobs.get(&id).and_then(|job| job.cursor) else { return };
        let due = cursor.since(START);
        let late = at.saturating_sub(due);
        if late > UNCLAIMED_MAX && self.story.is_calm(due.saturating_sub(Duration::from_secs(3)), at) {
            let text = format!("{}@{} was not claimed after {late:?}", Short(id), Within(cursor));
            self.found.push(broken(Promise::EveryInstantAccountedFor, text));
        }
    }

    fn apply(&mut self, at: Duration, command: &Command) {
        match command {
            Command::CreateJob(create) => {
                let job = &create.job;
                let cursor = Some(next(&job.cron_expression, job.created_at));
                self.expect(job.id, "the first instant", create.next_run_at, cursor);
                let expression = job.cron_expression.clone();
                self.jobs.insert(job.id, Job { expression, cursor, ..Job::default() });
            }
            Command::UpdateJob(update) => {
                let id = update.job.id;
                if self.jobs[&id].expression != update.job.cron_expression {
                    self.leaves(id, at);
                    let job = self.jobs.get_mut(&id).unwrap();
                    job.expression.clone_from(&update.job.cron_expression);
                    let from = job
                        .claimed_until
                        .map_or(update.job.updated_at, |until| until.max(update.job.updated_at));
                    let cursor = Some(next(&job.expression, from));
                    job.cursor = cursor.filter(|_| !job.paused);
                    self.expect(id, "the instant after a change", update.next_run_at, cursor);
                }
            }
            Command::PauseJob(pause) => {
                self.leaves(pause.job, at);
                let job = self.jobs.get_mut(&pause.job).unwrap();
                (job.cursor, job.paused) = (None, true);
            }
            Command::ResumeJob(resume) => {
                let job = self.jobs.get_mut(&resume.job).unwrap();
                let from = job.claimed_until.map_or(resume.at, |until| until.max(resume.at));
                (job.cursor, job.paused) = (Some(next(&job.expression, from)), false);
                let cursor = job.cursor;
                self.expect(resume.job, "the instant after a pause", resume.next_run_at, cursor);
            }
            Command::DeleteJob(delete) => {
                self.leaves(delete.job, at);
                self.jobs.remove(&delete.job);
            }
            Command::Claim(claim) => match &claim.target {
                ClaimTarget::Firing { job, scheduled_at, next_run_at, .. } => {
                    self.claimed(*job, *scheduled_at, *scheduled_at, *next_run_at);
                    self.jobs.get_mut(job).unwrap().claimed.push(ExecutionId::scheduled(*job, *scheduled_at));
                }
                ClaimTarget::Missed { job, first, skipped, run, run_due, next_run_at, .. } => {
                    self.missed(*job, *first, *skipped, *run, *run_due);
                    let until = skipped.map(|missed| missed.until).max(*run).unwrap_or(*first);
                    self.claimed(*job, *first, until.max(*run_due), *next_run_at);
                    self.jobs.get_mut(job).unwrap().claimed_until = Some(until);
                }
                ClaimTarget::Execution { .. } | ClaimTarget::Delivery { .. } => {}
            },
            _ => {}
        }
    }

    fn claimed(&mut self, id: JobId, first: Timestamp, until: Timestamp, next_run_at: Option<Timestamp>) {
        let (cursor, following) = {
            let job = &self.jobs[&id];
            (job.cursor, next(&job.expression, until))
        };
        self.expect(id, "what is claimed", Some(first), cursor);
        self.expect(id, "the instant after a claim", next_run_at, Some(following));
        let job = self.jobs.get_mut(&id).unwrap();
        (job.cursor, job.claimed_until) = (next_run_at, Some(until));
    }

    /// A record of missed instants counts each of them.
    fn missed(
        &mut self,
        id: JobId,
        first: Timestamp,
        skipped: Option<MissedFirings>,
        run: Option<Timestamp>,
        now: Timestamp,
    ) {
        let period = period_ms(&self.jobs[&id].expression);
        let last = Timestamp::from_millis(now.as_millis() / period * period).max(first);
        let due = (last.as_millis() - first.as_millis()) / period + 1;
        let counted = skipped.map_or(0, |missed| missed.count) + u64::from(run.is_some());
        if counted != due || run.is_some_and(|run| run != last) {
            let text = format!(
                "of {} {due} instants were missed from {}, {counted} are on record",
                Short(id),
                Within(first)
            );
            self.found.push(broken(Promise::EveryInstantAccountedFor, text));
        }
        if now.since(first) < limits::MISFIRE_AFTER || !self.story.has_trouble() {
            let text = format!("{}@{} counts as missed at {}", Short(id), Within(first), Within(now));
            self.found.push(broken(Promise::SkipsHaveReasons, text));
        }
        let job = self.jobs.get_mut(&id).unwrap();
        if skipped.is_some() {
            job.claimed.push(ExecutionId::skipped(id, first));
        }
        job.claimed.extend(run.map(|run| ExecutionId::scheduled(id, run)));
    }
}
