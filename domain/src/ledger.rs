//! Whether a job's history is complete: what its schedules made due, against what stands there. Pure.
//!
//! A job's cursor is moved by claims, each of which leaves a record, and by changes: somebody makes, edits, pauses or resumes the
//! job or its space. Each change leaves a [`Timetable`], which says where the cursor stood and where it stands. Between two of
//! them the schedule is one, so the instants that claims must have taken up follow from the earlier one: from the first cursor
//! it was given up to the cursor at which the later one found it. No clock decides which side of a change an instant is on.

mod walk; // instants and records side by side

use crate::execution::Execution;
use crate::schedule::Schedule;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use walk::Walk;

/// What made a job due from one change of its configuration to the next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timetable {
    /// When the change took effect, by the state's clock.
    pub since: Timestamp,
    /// Where the cursor stood before: what was due earlier had been taken up. `None` when nothing was to come.
    #[serde(default)]
    pub found: Option<Timestamp>,
    /// Where the cursor stands from then on. `None` when nothing is to come.
    #[serde(default)]
    pub first: Option<Timestamp>,
    /// The job's expression from then on.
    pub cron_expression: String,
    /// The job's zone from then on.
    pub timezone: String,
    /// Where the history begins, once what was older has been removed from it.
    #[serde(default)]
    pub kept_from: Option<Timestamp>,
}

impl Timetable {
    /// Whether what follows makes the same due.
    #[must_use]
    pub fn makes_due_as(&self, next: &Self) -> bool {
        next.first == next.found
            && self.cron_expression == next.cron_expression
            && self.timezone == next.timezone
    }

    /// The one that stands for both when nothing came due under this one: a job that is edited again and again between two
    /// firings leaves no more than its firings do.
    #[must_use]
    pub fn followed_by(&self, next: &Self) -> Option<Self> {
        let came_due = self.first != next.found || next.found.is_some_and(|found| found <= next.since);
        // What the first of the two gave up, it gave up then.
        let Self { since, found, kept_from, .. } = *self;
        (!came_due).then(|| Self { since, found, kept_from, ..next.clone() })
    }

    /// Whether all that was due before this one came in force lies before `kept_from`.
    #[must_use]
    pub fn has_ended_by(&self, kept_from: Timestamp) -> bool {
        self.since <= kept_from && self.found.is_none_or(|found| found <= kept_from)
    }
}

/// A span of time, without its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its beginning.
    pub from: Timestamp,
    /// Its end, which is not part of it.
    pub to: Timestamp,
}

/// What a record of a history accounts for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The instant, or the first of several.
    pub at: Timestamp,
    /// Whether it has ended.
    pub ended: bool,
    /// Set on a record of several instants that were missed.
    pub several: Option<Several>,
}

/// Instants that one record stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Several {
    /// The last of them.
    pub until: Timestamp,
    /// How many it says they are.
    pub count: u64,
    /// Whether that is exact and not just the least.
    pub exact: bool,
}

impl Entry {
    /// What an execution accounts for; `None` for a manual run, which no schedule asks for.
    #[must_use]
    pub fn of(execution: &Execution) -> Option<Self> {
        let several = execution.missed.map(|missed| Several {
            until: missed.until,
            count: missed.count,
            exact: missed.exact,
        });
        if !execution.id.is_scheduled() && several.is_none() {
            return None;
        }
        Some(Self { at: execution.id.at, ended: execution.status().is_some(), several })
    }

    /// The last instant it accounts for.
    #[must_use]
    pub fn until(&self) -> Timestamp {
        self.several.map_or(self.at, |several| several.until)
    }
}

/// Instants of a schedule, one or more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Instants {
    /// The first.
    pub first: Timestamp,
    /// The last.
    pub last: Timestamp,
    /// How many; more than [`crate::limits::MISSED_COUNT_MAX`] are not all counted.
    pub count: u64,
}

/// Something in a history that is not as its schedules want it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// These were due and nothing stands for them.
    Missing(Instants),
    /// A record of an instant that was not due.
    NotDue(Timestamp),
    /// A record of an instant for which another one stands already.
    Twice(Timestamp),
    /// A record of several instants that says another number.
    Miscounted {
        /// The first of them.
        at: Timestamp,
        /// The last.
        until: Timestamp,
        /// How many it says.
        says: u64,
        /// How many there are.
        are: u64,
    },
}

/// What was found of one job.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// Instants that were due and have ended: each ran, or stands there as failed or skipped, with the reason.
    pub proven: u64,
    /// Instants whose execution has not ended yet.
    pub open: Vec<Timestamp>,
    /// Instants that are due and for which the cursor still stands.
    pub waiting: Option<Instants>,
    /// Instants that had come, and that a change gave up before anybody had taken them up: somebody paused or edited the job,
    /// or its space, at that moment.
    pub given_up: Vec<Instants>,
    /// What is wrong.
    pub faults: Vec<Fault>,
}

/// Why nothing can be said of a job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unknown {
    /// Nothing says what made it due.
    #[error("nothing says when it was due")]
    NoTimetable,
    /// This build cannot read one of its schedules.
    #[error("its schedule \"{cron_expression}\" in {timezone} cannot be read")]
    Schedule {
        /// The expression.
        cron_expression: String,
        /// The zone.
        timezone: String,
    },
}

/// Compares the history of one job with what was due in `span`.
///
/// `timetables` are the job's, oldest first, `cursor` is where its cursor stands now, and `entries` are what its history holds,
/// in order, at least for the span. All of them are of one moment, and the span does not go beyond it.
///
/// # Errors
/// [`Unknown`].
pub fn verify(
    timetables: &[Timetable],
    cursor: Option<Timestamp>,
    entries: &[Entry],
    span: Span,
) -> Result<Findings, Unknown> {
    let Some(oldest) = timetables.first() else { return Err(Unknown::NoTimetable) };
    // What has been removed from the history cannot be missing from it.
    let from = span.from.max(oldest.kept_from.unwrap_or(Timestamp::EPOCH));
    let span = Span { from, to: span.to };
    let mut walk = Walk::new(entries, span);
    for (index, timetable) in timetables.iter().enumerate() {
        let next = timetables.get(index + 1);
        let Some(first) = timetable.first else { continue };
        let schedule = read(timetable)?;
        // A schedule that has come to its end leaves no cursor behind.
        let found = next.map_or(cursor, |next| next.found);
        let end = found.unwrap_or_else(|| next.map_or(span.to, |next| next.since));
        walk.through(&schedule, first, end);
        let Some(found) = found else { continue };
        match next {
            Some(next) => {
                let until = next.first.map_or(next.since, |first| next.since.min(before(first)));
                walk.give_up(&schedule, found, until);
            }
            None => walk.wait(&schedule, found),
        }
    }
    Ok(walk.end())
}

fn read(timetable: &Timetable) -> Result<Schedule, Unknown> {
    let Timetable { cron_expression, timezone, .. } = timetable;
    Schedule::parse(cron_expression, timezone).map_err(|_| Unknown::Schedule {
        cron_expression: cron_expression.clone(),
        timezone: timezone.clone(),
    })
}

fn before(at: Timestamp) -> Timestamp {
    Timestamp::from_millis(at.as_millis().saturating_sub(1))
}

#[cfg(test)]
mod tests;
