//! The instants that were due and the records of a history, both in order, side by side.

use super::{Entry, Fault, Findings, Instants, Span};
use crate::limits;
use crate::schedule::Schedule;
use crate::time::Timestamp;

/// Goes through both once.
pub(super) struct Walk<'a> {
    /// Records that were not looked at yet; the first one may be under way.
    entries: &'a [Entry],
    span: Span,
    /// The last instant for which a record was found.
    covered: Option<Timestamp>,
    /// What was found so far of the record of several instants that comes next.
    several: Option<Found>,
    /// Instants in a row for which nothing was found, the last of which was the last looked for.
    missing: Option<Instants>,
    findings: Findings,
}

/// The instants of a record of several that were due.
#[derive(Clone, Copy)]
struct Found {
    first: Timestamp,
    count: u64,
    /// Whether its first instant has another record.
    is_second: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(entries: &'a [Entry], span: Span) -> Self {
        let before = entries.iter().take_while(|entry| entry.until() < span.from).count();
        let entries = entries.get(before..).unwrap_or_default();
        Self { entries, span, covered: None, several: None, missing: None, findings: Findings::default() }
    }

    /// What `schedule` made due from `first` on and before `end`.
    pub(super) fn through(&mut self, schedule: &Schedule, first: Timestamp, end: Timestamp) {
        let end = end.min(self.span.to);
        // The first one was given by whoever changed the job, and stands for itself.
        let mut due = if first < self.span.from { first_from(schedule, self.span.from) } else { Some(first) };
        while let Some(instant) = due.filter(|instant| *instant < end) {
            self.expect(instant);
            due = schedule.next_after(instant);
        }
    }

    fn expect(&mut self, instant: Timestamp) {
        while let Some(entry) = self.entries.first().filter(|entry| entry.until() < instant) {
            self.close(*entry);
        }
        let Some(entry) = self.entries.first().filter(|entry| entry.at <= instant).copied() else {
            return self.miss(instant);
        };
        self.flush();
        if entry.several.is_none() {
            if entry.ended {
                self.findings.proven += 1;
            } else {
                self.findings.open.push(instant);
            }
            self.entries = &self.entries[1..];
        } else {
            let is_second = self.covered.is_some_and(|covered| entry.at <= covered);
            let found = self.several.get_or_insert(Found { first: instant, count: 0, is_second });
            found.count += 1;
            self.findings.proven += 1;
            if entry.until() == instant {
                self.close(entry);
            }
        }
        self.covered = Some(instant);
    }

    fn miss(&mut self, instant: Timestamp) {
        let run = self.missing.get_or_insert(Instants { first: instant, last: instant, count: 0 });
        run.last = instant;
        run.count += 1;
    }

    /// Ends a row of instants for which nothing was found.
    fn flush(&mut self) {
        self.findings.faults.extend(self.missing.take().map(Fault::Missing));
    }

    /// Is done with the record that comes next, whether or not anything was due for which it stands.
    fn close(&mut self, entry: Entry) {
        self.entries = &self.entries[1..];
        let found = self.several.take();
        if entry.at < self.span.from {
            // Its beginning was not looked at.
            return;
        }
        let is_second = match found {
            Some(found) => found.is_second,
            None => self.covered.is_some_and(|covered| entry.at <= covered),
        };
        let fault = if is_second {
            Some(Fault::Twice(entry.at))
        } else if found.is_none_or(|found| found.first != entry.at) {
            Some(Fault::NotDue(entry.at))
        } else {
            miscounted(&entry, found.map_or(0, |found| found.count))
        };
        self.findings.faults.extend(fault);
    }

    /// What had come when a change gave it up: from `found` on, up to `until`.
    pub(super) fn give_up(&mut self, schedule: &Schedule, found: Timestamp, until: Timestamp) {
        let given_up = self.due_in(schedule, found, until);
        self.findings.given_up.extend(given_up);
    }

    /// What has come and is still to be taken up: from the cursor on.
    pub(super) fn wait(&mut self, schedule: &Schedule, cursor: Timestamp) {
        self.findings.waiting = self.due_in(schedule, cursor, self.span.to);
    }

    fn due_in(&self, schedule: &Schedule, first: Timestamp, last: Timestamp) -> Option<Instants> {
        let to = Timestamp::from_millis(self.span.to.as_millis().saturating_sub(1));
        let (from, until) = (first.max(self.span.from), last.min(to));
        if from > until {
            return None;
        }
        let due = schedule.missed(from, until, limits::MISSED_COUNT_MAX)?;
        Some(Instants { first: due.first, last: due.last, count: due.count })
    }

    pub(super) fn end(mut self) -> Findings {
        while let Some(entry) = self.entries.first().copied() {
            if entry.at >= self.span.to {
                break;
            }
            if entry.until() >= self.span.to {
                // Its end is not looked at.
                self.entries = &self.entries[1..];
                if self.several.take().is_none() && entry.at >= self.span.from {
                    self.findings.faults.push(Fault::NotDue(entry.at));
                }
                continue;
            }
            self.close(entry);
        }
        self.flush();
        self.findings
    }
}

fn miscounted(entry: &Entry, are: u64) -> Option<Fault> {
    let several = entry.several?;
    let fits = if several.exact { several.count == are } else { several.count <= are };
    (!fits).then_some(Fault::Miscounted { at: entry.at, until: several.until, says: several.count, are })
}

/// The first instant at or after `from`.
fn first_from(schedule: &Schedule, from: Timestamp) -> Option<Timestamp> {
    let secs = from.as_millis().div_ceil(1_000);
    let at = Timestamp::from_secs(secs);
    if schedule.is_due(at) { Some(at) } else { schedule.next_after(at) }
}
