//! `@every`: a fixed period, aligned to the Unix epoch.

use super::ScheduleError;
use crate::time::Timestamp;

/// Longest period: a leap year. Beyond it a date in a calendar is what is meant.
const PERIOD_SECS_MAX: u64 = 366 * 24 * 60 * 60;

/// Due at every multiple of a period since the Unix epoch, so that every node agrees on the
/// instants without knowing when the job was made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Every {
    /// 1 to [`PERIOD_SECS_MAX`].
    period_secs: u64,
}

/// What follows `@every`, when the expression is one.
pub(super) fn period_text(expression: &str) -> Option<&str> {
    let rest = expression.strip_prefix("@every")?;
    rest.starts_with([' ', '\t']).then(|| rest.trim_start_matches([' ', '\t']))
}

impl Every {
    /// Parses a number and one of the units `s`, `m`, `h`.
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        let refused = |reason: &str| ScheduleError::Expression(format!("@every: {reason}"));
        let unit_secs = match text.bytes().last() {
            Some(b's') => 1,
            Some(b'm') => 60,
            Some(b'h') => 3_600,
            _ => return Err(refused("expected a number and a unit, s, m or h, such as 90s")),
        };
        let number = &text[..text.len() - 1];
        if number.is_empty() || !number.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(refused("expected one whole number before the unit, such as 90s"));
        }
        let period_secs = number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit_secs));
        match period_secs {
            Some(0) => Err(refused("the period must be at least 1s")),
            Some(period_secs) if period_secs <= PERIOD_SECS_MAX => Ok(Self { period_secs }),
            _ => Err(refused("the period must be at most 366 days, 8784h")),
        }
    }

    /// The first multiple of the period at or after `low_secs`, if it is a [`Timestamp`].
    pub(super) fn first_from(self, low_secs: u64) -> Option<Timestamp> {
        let due_secs = low_secs.div_ceil(self.period_secs).checked_mul(self.period_secs)?;
        Some(Timestamp::from_millis(due_secs.checked_mul(1_000)?))
    }

    /// The last multiple of the period at or before `until`.
    pub(super) fn last_until(self, until: Timestamp) -> Timestamp {
        Timestamp::from_secs(until.as_secs() / self.period_secs * self.period_secs)
    }

    /// How many are due in `first..=last`, both of which are.
    pub(super) fn count(self, first: Timestamp, last: Timestamp) -> u64 {
        (last.as_secs() - first.as_secs()) / self.period_secs + 1
    }
}
