//! Every failure, and every recovery from one, is told to each channel that hears of the job: at least once, soon, about
//! the right execution and under one id. Nothing is told that did not happen.
//!
//! Judged for every job whose executions were read. Soon means within [`SOON`] of when the execution ended; if something was done
//! to a node by then, of when that was over. What is done to a node after that excuses nothing, however soon it follows. Which of two executions ended first is known where seconds lie between them and nothing
//! was done to a node: there it is known whether the second is a recovery, and that its message must not overtake the first's.

use super::{Observation, Violation, Window};
use crate::{
    history::{Alert, Execution, ExecutionId, History, JobCreated},
    time::{SECOND_US, micros},
};
use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

/// From the end of an execution to the arrival of its message: two attempts, with the wait of some 5 s between them, and what
/// may stand before it.
pub const SOON: Duration = Duration::from_secs(45);
/// From the end of an execution to when it is surely in the state.
const RECORDED_AFTER_US: i64 = 5 * SECOND_US;
/// Seconds between two ends whose order is known: they are shown in whole ones.
const APART_S: i64 = 2;
/// Older executions of a job that are looked at for a message that should have come first.
const OLDER_MAX: usize = 32;

const FAILED: &str = "job.failed";
const RECOVERED: &str = "job.recovered";

/// A message that has to arrive: the path of its channel, its kind, its execution.
type Message<'a> = (&'a str, &'a str, &'a str);

/// See the module.
pub fn check(history: &History, observation: &Observation) -> Vec<Violation> {
    let facts = Facts::of(history, observation);
    let mut violations = Vec::new();
    ids(history, &mut violations);
    for alert in history.alerts() {
        if let Some(fault) = facts.invented(alert) {
            let (kind, execution) = (shown(&alert.kind), shown(&alert.execution));
            violations.push(Violation::AlertInvented { path: alert.path.clone(), kind, execution, fault });
        }
    }
    let arrivals = Arrivals::of(history.alerts());
    for of_job in &facts.ended {
        for path in &of_job.paths {
            for (place, execution) in of_job.executions.iter().enumerate() {
                let Some(kind) = facts.owed(of_job, place) else { continue };
                let told = || (kind.to_owned(), execution.execution.clone(), (*path).to_owned());
                match arrivals.taken.get(&(*path, kind, execution.execution.as_str())) {
                    None => {
                        let (kind, execution, path) = told();
                        violations.push(Violation::AlertLost { kind, execution, path });
                    }
                    Some(arrived_us) => {
                        let late_us = arrived_us - facts.due_us(execution);
                        if late_us > 0 {
                            let (kind, execution, path) = told();
                            violations.push(Violation::AlertLate { kind, execution, path, late_us });
                        }
                    }
                }
                if let Some(older) = facts.overtaken(of_job, place, kind, path, &arrivals) {
                    let (kind, execution, path) = told();
                    let older = older.execution.clone();
                    violations.push(Violation::AlertOvertook { kind, execution, path, older });
                }
            }
        }
    }
    violations
}

/// How many messages have to arrive.
pub fn judged(history: &History, observation: &Observation) -> usize {
    Owed::of(history, observation).0.len()
}

/// The messages that have to arrive, so that a run can wait for them.
#[derive(Debug)]
pub struct Owed<'a>(HashSet<Message<'a>>);

impl<'a> Owed<'a> {
    /// Those about the executions that were read.
    pub fn of(history: &'a History, observation: &'a Observation) -> Self {
        let facts = Facts::of(history, observation);
        let mut owed = HashSet::new();
        for of_job in &facts.ended {
            for (place, execution) in of_job.executions.iter().enumerate() {
                let kind = facts.owed(of_job, place);
                let paths = of_job.paths.iter();
                owed.extend(paths.filter_map(|path| Some((*path, kind?, execution.execution.as_str()))));
            }
        }
        Self(owed)
    }

    /// How many of them have not arrived yet.
    pub fn left(&self, alerts: &[Alert]) -> usize {
        let arrived = Arrivals::of(alerts.iter());
        self.0.iter().filter(|message| !arrived.taken.contains_key(*message)).count()
    }
}

/// When messages arrived, in microseconds since the Unix epoch.
struct Arrivals<'a> {
    /// For the first time.
    first: HashMap<Message<'a>, i64>,
    /// For the first time that the sender was told so.
    taken: HashMap<Message<'a>, i64>,
}

impl<'a> Arrivals<'a> {
    fn of(alerts: impl Iterator<Item = &'a Alert>) -> Self {
        let mut arrivals = Self { first: HashMap::new(), taken: HashMap::new() };
        for alert in alerts {
            let (Some(kind), Some(execution)) = (&alert.kind, &alert.execution) else { continue };
            let message = (alert.path.as_str(), kind.as_str(), execution.as_str());
            arrivals.first.entry(message).or_insert(alert.arrived_us);
            if alert.is_taken() {
                arrivals.taken.entry(message).or_insert(alert.arrived_us);
            }
        }
        arrivals
    }
}

/// The history by id.
struct Facts<'a> {
    observation: &'a Observation,
    jobs: HashMap<&'a str, &'a JobCreated>,
    /// When the executions of a job were read.
    reads: HashMap<&'a str, i64>,
    executions: HashMap<&'a str, &'a Execution>,
    /// The ids of channels, by path.
    channels: HashMap<&'a str, &'a str>,
    /// Of each job of which somebody hears.
    ended: Vec<Ended<'a>>,
    /// Where an execution stands among those of its job that have ended.
    places: HashMap<&'a str, (usize, usize)>,
}

/// The executions of a job that have ended, well or not, in the order in which they did.
struct Ended<'a> {
    paths: Vec<&'a str>,
    executions: Vec<&'a Execution>,
}

impl<'a> Facts<'a> {
    fn of(history: &'a History, observation: &'a Observation) -> Self {
        let reads: HashMap<_, _> = history.reads().map(|read| (read.job.as_str(), read.asked_us)).collect();
        let mut by_job: HashMap<&str, Vec<&Execution>> = HashMap::new();
        let has_ended = |execution: &&Execution| matches!(execution.status.as_str(), "success" | "failed");
        for execution in history.executions().filter(has_ended) {
            by_job.entry(&execution.job).or_default().push(execution);
        }
        let mut ended = Vec::new();
        let mut places = HashMap::new();
        for job in history.jobs().filter(|job| reads.contains_key(job.job.as_str())) {
            let mut executions = by_job.remove(job.job.as_str()).unwrap_or_default();
            executions.sort_by_key(|execution| (execution.finished_s, execution.scheduled_s));
            let heard = history.channels().filter(|channel| job.channels.contains(&channel.channel));
            let paths = heard.map(|channel| channel.path.as_str()).collect();
            for (place, execution) in executions.iter().enumerate() {
                places.insert(execution.execution.as_str(), (ended.len(), place));
            }
            ended.push(Ended { paths, executions });
        }
        Self {
            observation,
            jobs: history.jobs().map(|job| (job.job.as_str(), job)).collect(),
            reads,
            executions: history.executions().map(|it| (it.execution.as_str(), it)).collect(),
            channels: history.channels().map(|it| (it.path.as_str(), it.channel.as_str())).collect(),
            ended,
            places,
        }
    }

    /// What there is to tell of an execution, as far as that is known.
    fn owed(&self, of_job: &Ended<'_>, place: usize) -> Option<&'static str> {
        match of_job.executions[place].status.as_str() {
            "failed" => Some(FAILED),
            _ if self.before(of_job, place)?.status == "failed" => Some(RECOVERED),
            _ => None,
        }
    }

    /// The execution that ended before this one, if it is known which.
    fn before<'b>(&self, of_job: &Ended<'b>, place: usize) -> Option<&'b Execution> {
        let ended = &of_job.executions;
        let ended_s = |place: usize| ended.get(place)?.finished_s;
        let (last_s, this_s) = (ended_s(place.checked_sub(1)?)?, ended_s(place)?);
        let is_alone = |other: Option<usize>, at_s: i64| {
            other.and_then(ended_s).is_none_or(|other_s| (other_s - at_s).abs() >= APART_S)
        };
        let is_known = this_s - last_s >= APART_S
            && is_alone(place.checked_sub(2), last_s)
            && is_alone(place.checked_add(1), this_s)
            && self.is_calm(last_s * SECOND_US, this_s * SECOND_US);
        is_known.then(|| ended[place - 1])
    }

    fn windows(&self) -> impl Iterator<Item = &Window> {
        self.observation.disturbed.iter().chain(&self.observation.outages)
    }

    /// Whether nothing was done to a node or its clock for a while before these instants, between them, and since.
    fn is_calm(&self, from_us: i64, until_us: i64) -> bool {
        let (from_us, until_us) = (from_us - RECORDED_AFTER_US, until_us + RECORDED_AFTER_US);
        // What ended when is known by the clocks of nodes.
        let skews = self.observation.skews.iter().map(|skew| &skew.window);
        !self.windows().chain(skews).any(|window| window.from_us <= until_us && window.until_us >= from_us)
    }

    /// When a message about an execution must have arrived.
    fn due_us(&self, execution: &Execution) -> i64 {
        let ended_s = execution.finished_s.or(execution.scheduled_s).unwrap_or(i64::MAX / SECOND_US - 1);
        let calm_us = ((ended_s + 1) * SECOND_US).saturating_add(micros(SOON));
        // Only what overlaps the stretch that a calm run would have: else a fault now and then would put it off for ever.
        let overlapping = self
            .windows()
            .filter(|window| window.from_us <= calm_us && window.until_us >= ended_s * SECOND_US);
        overlapping.map(|window| window.until_us.saturating_add(micros(SOON))).fold(calm_us, i64::max)
    }

    /// The older execution whose message should have arrived before this one's.
    fn overtaken<'b>(
        &self,
        of_job: &Ended<'b>,
        place: usize,
        kind: &str,
        path: &str,
        arrivals: &Arrivals<'_>,
    ) -> Option<&'b Execution> {
        let execution = of_job.executions[place];
        let came_us = *arrivals.first.get(&(path, kind, execution.execution.as_str()))?;
        let older = (0..place).rev().take(OLDER_MAX).map(|place| (place, of_job.executions[place]));
        older.filter(|(_, older)| older.scheduled_s < execution.scheduled_s).find_map(|(place, older)| {
            let before = self.owed(of_job, place).filter(|before| *before != kind)?;
            let ended_us = older.finished_s? * SECOND_US;
            let stood =
                ended_us + SECOND_US + RECORDED_AFTER_US <= came_us && self.is_calm(ended_us, came_us);
            let taken_us = arrivals.taken.get(&(path, before, older.execution.as_str()));
            // One that never came is lost, which is told elsewhere.
            (stood && taken_us.is_some_and(|taken_us| *taken_us > came_us)).then_some(older)
        })
    }

    /// What is wrong with what a message says.
    fn invented(&self, alert: &Alert) -> Option<String> {
        let Alert { delivery, id, .. } = alert;
        if delivery.is_none() || delivery != id {
            return Some(format!("its header says {}, its body {}", shown(delivery), shown(id)));
        }
        let job = alert.job.as_deref().and_then(|job| self.jobs.get(job));
        let Some(job) = job else { return Some(format!("nobody made the job {}", shown(&alert.job))) };
        let channel = self.channels.get(alert.path.as_str());
        if !channel.is_some_and(|channel| job.channels.iter().any(|heard| heard == channel)) {
            return Some(format!("this channel does not hear of {}", job.job));
        }
        let read_us = *self.reads.get(job.job.as_str())?;
        let execution = alert.execution.as_deref().and_then(|id| self.executions.get(id));
        let Some(execution) = execution else {
            // It may have been opened after the pages were read.
            return (alert.arrived_us < read_us).then(|| "there is no such execution".to_owned());
        };
        if execution.job != job.job {
            return Some(format!("that is an execution of {}", execution.job));
        }
        let was_over = || alert.arrived_us < read_us;
        match (alert.kind.as_deref(), execution.status.as_str()) {
            (Some(FAILED), "failed") => None,
            (Some(RECOVERED), "success") => {
                let (of_job, place) = *self.places.get(execution.execution.as_str())?;
                let of_job = &self.ended[of_job];
                let nothing_before =
                    || of_job.executions.iter().all(|execution| execution.status != "failed");
                let after_success =
                    self.before(of_job, place).is_some_and(|before| before.status == "success");
                (after_success || nothing_before()).then(|| "the one before had not failed".to_owned())
            }
            (Some(FAILED | RECOVERED), "success" | "failed" | "skipped") => {
                Some(format!("it is {}", execution.status))
            }
            (Some(FAILED | RECOVERED), status) => was_over().then(|| format!("it is {status}")),
            (_, _) => Some("the channel does not want such".to_owned()),
        }
    }
}

/// One message has one id, and one id is one message.
fn ids(history: &History, violations: &mut Vec<Violation>) {
    let mut by_message: HashMap<_, &str> = HashMap::new();
    let mut by_id: HashMap<&str, _> = HashMap::new();
    for alert in history.alerts() {
        let Some(id) = alert.id.as_deref() else { continue };
        let message = (&alert.path, &alert.kind, &alert.execution);
        let (first_id, first) =
            (*by_message.entry(message).or_insert(id), *by_id.entry(id).or_insert(message));
        if first_id != id || first != message {
            violations.push(Violation::AlertUnstable {
                kind: shown(&alert.kind),
                execution: shown(&alert.execution),
                first: if first_id == id {
                    format!("{id} of {}", shown(first.2))
                } else {
                    first_id.to_owned()
                },
                second: id.to_owned(),
            });
        }
    }
}

fn shown(text: &Option<ExecutionId>) -> String {
    text.clone().unwrap_or_else(|| "nothing".to_owned())
}

#[cfg(test)]
mod tests;
