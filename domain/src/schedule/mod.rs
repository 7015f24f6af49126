//! When a job is due: cron expressions, their nicknames and `@every`, in a time zone.
//!
//! An expression is parsed once into a [`Schedule`], which then answers in pure arithmetic: no
//! clock, no lock, no allocation. The grammar and the treatment of clock changes are those of
//! Debian's cron:
//!
//! 1. A schedule is *wild* when its minute or hour field starts with `*` (`*/15 2 * * *`), and
//!    *fixed* otherwise (`0 2 * * *`, but also `0 0-23 * * *`).
//! 2. Wild schedules follow the wall clock: minutes that the clock skips are not made up for, and
//!    minutes that it repeats run twice.
//! 3. Fixed schedules whose minute is skipped run at the first minute after the gap; several such
//!    minutes, or one that coincides with an ordinary run, are one run. The day fields are
//!    compared with the skipped minute, not with the minute it moved to.
//! 4. Fixed schedules whose minute is repeated run in the first pass only.
//! 5. Every due instant is strictly later than the one before.
//! 6. When day of month or day of week starts with `*` (also `*/2`, `*,10`) both must match;
//!    otherwise either will do. 0 and 7 are both Sunday.
//! 7. An expression that can never fire is refused; `a/n` means `a` to the end of the field in
//!    steps of `n`.

mod civil; // dates as day counts
mod error; // why an expression or a zone is refused
mod every; // `@every`: a fixed period
mod expression; // the five fields, and the next wall-clock minute that matches them
mod field; // the grammar of one field
mod zone; // what wall clocks show, from the bundled database

use self::every::Every;
use self::expression::Expression;
use self::zone::{Stretch, Zone};
use crate::time::Timestamp;

pub use self::error::ScheduleError;

/// Longest expression accepted, in bytes. The most that one could need is far shorter; the bound
/// keeps hostile input cheap.
pub const EXPRESSION_BYTES_MAX: usize = 256;

/// A parsed cron expression, nickname or `@every`, in one time zone.
///
/// Parse once, ask often; cloning costs nothing. Cron schedules know the instants from 1970 to the
/// end of 2199; `@every` has no such end.
#[derive(Clone, Debug)]
pub struct Schedule {
    rhythm: Rhythm,
}

#[derive(Clone, Debug)]
enum Rhythm {
    Cron { expression: Expression, zone: &'static Zone },
    Every(Every),
}

/// What was due in a span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The earliest due instant.
    pub first: Timestamp,
    /// The latest due instant, always exact.
    pub last: Timestamp,
    /// The due instant just before `last`, when there are at least two.
    pub before_last: Option<Timestamp>,
    /// How many instants were due, at least 1.
    pub count: u64,
    /// Whether `count` is the true number; otherwise it is a lower bound.
    pub exact: bool,
}

/// Refuses everything but the name of a zone in the bundled IANA database, spelt as there.
pub fn validate_timezone(timezone: &str) -> Result<(), ScheduleError> {
    if zone::exists(timezone) { Ok(()) } else { Err(ScheduleError::UnknownTimezone) }
}

/// What the clocks of a zone show at `at`, read as if it were UTC. `None` when there is no such zone, or when it lies
/// outside the years that schedules know.
#[must_use]
pub fn wall_clock(timezone: &str, at: Timestamp) -> Option<Timestamp> {
    let secs = i64::try_from(at.as_secs()).ok()?;
    let stretch = zone::find(timezone)?.stretches_from(secs).next()?;
    u64::try_from(secs.checked_add(stretch.offset_secs)?).ok().map(Timestamp::from_secs)
}

impl Schedule {
    /// Parses `expression` in the IANA zone `timezone`.
    ///
    /// Fields are separated by spaces or tabs. Nicknames are lower case only: `@hourly`, `@daily`,
    /// `@midnight`, `@weekly`, `@monthly`, `@yearly`, `@annually`, each the same as the five fields
    /// it stands for. `@every <n>s|m|h` is due at the multiples of that period since the Unix epoch
    /// whatever the zone, which must exist all the same.
    ///
    /// # Errors
    /// See [`ScheduleError`]. A fault in the expression is reported before one in the zone.
    pub fn parse(expression: &str, timezone: &str) -> Result<Self, ScheduleError> {
        let expression = expression::check_text(expression)?;
        if let Some(period) = every::period_text(expression) {
            let every = Every::parse(period)?;
            validate_timezone(timezone)?;
            return Ok(Self { rhythm: Rhythm::Every(every) });
        }
        let expression = Expression::parse(expression)?;
        let zone = zone::find(timezone).ok_or(ScheduleError::UnknownTimezone)?;
        Ok(Self { rhythm: Rhythm::Cron { expression, zone } })
    }

    /// The first due instant strictly after `after`.
    ///
    /// `None` when there is none before the year 2200, which until 2155 is a search over at least 45
    /// years; the rarest dates, leap days on one weekday, are 40 years apart at most. For `@every`,
    /// `None` only at the end of the number range.
    #[must_use]
    pub fn next_after(&self, after: Timestamp) -> Option<Timestamp> {
        self.first_from(after.as_secs().checked_add(1)?)
    }

    /// Whether `instant` is due.
    #[must_use]
    pub fn is_due(&self, instant: Timestamp) -> bool {
        self.first_from(instant.as_secs()) == Some(instant)
    }

    /// What was due in `from..=until`, both included; `None` when nothing was.
    ///
    /// `count_max` bounds the work for cron schedules: where more instants than that were due, the
    /// count is a lower bound (see [`Missed::exact`]). Everything else is exact however long the
    /// span is, and so is the count for `@every`.
    #[must_use]
    pub fn missed(&self, from: Timestamp, until: Timestamp, count_max: u64) -> Option<Missed> {
        let from_secs = from.as_millis().div_ceil(1_000);
        let first = self.first_from(from_secs).filter(|first| *first <= until)?;
        let last = self.last_until(first, until);
        let before_last = (first < last).then(|| {
            let until = Timestamp::from_secs(last.as_secs() - 1);
            self.last_until(first, until)
        });
        let (count, exact) = match &self.rhythm {
            Rhythm::Every(every) => (every.count(first, last), true),
            Rhythm::Cron { .. } => self.count(first, before_last, last, count_max),
        };
        Some(Missed { first, last, before_last, count, exact })
    }

    /// The first due instant at or after the second `low_secs`.
    fn first_from(&self, low_secs: u64) -> Option<Timestamp> {
        match &self.rhythm {
            Rhythm::Cron { expression, zone } => {
                let due = first_cron(expression, zone.stretches_from(i64::try_from(low_secs).ok()?))?;
                Some(Timestamp::from_secs(u64::try_from(due).ok()?))
            }
            Rhythm::Every(every) => every.first_from(low_secs),
        }
    }

    /// The last due instant at or before `until`, given that `first` is one.
    ///
    /// The first due instant from `x` on never decreases as `x` grows, so that the largest `x` for
    /// which it is not too late is the answer, and bisection finds it. The search starts at the end
    /// of the span, where the answer nearly always is.
    fn last_until(&self, first: Timestamp, until: Timestamp) -> Timestamp {
        if let Rhythm::Every(every) = &self.rhythm {
            return every.last_until(until);
        }
        let mut due = first;
        let mut high_secs = until.as_secs();
        let mut reach_secs = 60;
        while due.as_secs() < high_secs {
            let (low_secs, near) = (due.as_secs(), high_secs.saturating_sub(reach_secs));
            let probe_secs =
                if near > low_secs { near } else { low_secs + (high_secs - low_secs).div_ceil(2) };
            match self.first_from(probe_secs).filter(|found| *found <= until) {
                Some(found) => {
                    due = found;
                    reach_secs = u64::MAX;
                }
                None => {
                    high_secs = probe_secs - 1;
                    reach_secs = reach_secs.saturating_mul(8);
                }
            }
        }
        due
    }

    /// Counts the due instants in `first..=last` by stepping, over at most `count_max` of them.
    fn count(
        &self,
        first: Timestamp,
        before_last: Option<Timestamp>,
        last: Timestamp,
        count_max: u64,
    ) -> (u64, bool) {
        let known = match before_last {
            None => 1,
            Some(before_last) if before_last == first => 2,
            Some(_) => 3,
        };
        let mut at = first;
        let mut count = 1;
        while at < last {
            if count >= count_max {
                return (count.max(known), false);
            }
            match self.next_after(at) {
                Some(next) => at = next,
                None => break,
            }
            count += 1;
        }
        (count, true)
    }
}

/// The first due instant on the clock that `stretches` describe, in seconds since the Unix epoch.
fn first_cron(expression: &Expression, stretches: impl Iterator<Item = Stretch>) -> Option<i64> {
    // A minute that was searched for and found stays right for every later stretch until the clock
    // reaches it, so that a leap day is looked up once and not once for every clock change before it.
    let mut known: Option<(i64, i64)> = None;
    for stretch in stretches {
        let shown = civil::ceil_to_minute(stretch.begin);
        let reached = civil::ceil_to_minute(stretch.reached);
        let search_from = if expression.is_wild() {
            shown
        } else if stretch.begins_after_gap() {
            reached
        } else {
            shown.max(reached)
        };
        let found = match known {
            Some((from, found)) if from <= search_from && search_from <= found => found,
            _ => expression.next_minute(search_from)?,
        };
        known = Some((search_from, found));
        // What was found inside a gap runs at the first minute that the clock shows after it.
        let due = found.max(shown);
        if due < stretch.end {
            return Some(due - stretch.offset_secs);
        }
    }
    None
}
