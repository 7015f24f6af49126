//! When a job is due, computed a second time and without a line of the product's own code: an error made
//! there must not be repeated here.
//!
//! Only what the runs use: `@every <n>s|m|h` and five numeric cron fields, in zones whose clocks never change.

use crate::{Error, time::Civil};

/// Zones without summer time, and their offsets from UTC in seconds.
pub const ZONES: &[(&str, i64)] =
    &[("UTC", 0), ("Asia/Kolkata", 19_800), ("Asia/Tokyo", 32_400), ("America/Bogota", -18_000)];

/// The due instants of one expression, in whole seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Every multiple of the period, counted from the epoch.
    Every {
        /// In seconds, at least 1.
        period_s: i64,
    },
    /// The minutes that match five fields.
    Cron(Fields),
}

/// Five cron fields; bit n of a field says that n is in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fields {
    minute: u64,
    hour: u64,
    day: u64,
    month: u64,
    weekday: u64,
    /// Both day fields are restricted, so that either may match (POSIX `crontab`).
    either_day: bool,
    /// What the zone's clocks are ahead of UTC, in seconds.
    offset_s: i64,
}

impl Due {
    /// Reads an expression that is meant in a zone of [`ZONES`].
    ///
    /// # Errors
    /// [`Error::Input`] for names, nicknames and whatever else is not listed at the top.
    pub fn parse(expression: &str, timezone: &str) -> Result<Self, Error> {
        let refused =
            || Error::Input(format!("the harness cannot compute the schedule {expression:?} in {timezone}"));
        let (_, offset_s) = *ZONES.iter().find(|(zone, _)| *zone == timezone).ok_or_else(refused)?;
        if let Some(period) = expression.strip_prefix("@every ") {
            let (count, unit) =
                period.split_at_checked(period.len().saturating_sub(1)).ok_or_else(refused)?;
            let unit_s = match unit {
                "s" => 1,
                "m" => 60,
                "h" => 3_600,
                _ => return Err(refused()),
            };
            let count = count.parse::<u32>().ok().filter(|count| *count > 0).ok_or_else(refused)?;
            return Ok(Self::Every { period_s: i64::from(count) * unit_s });
        }
        let fields: Vec<_> = expression.split_whitespace().collect();
        let [minute, hour, day, month, weekday] = fields[..] else { return Err(refused()) };
        let set = |field, first, last| field_bits(field, first, last).ok_or_else(refused);
        let weekday_bits = set(weekday, 0, 7)?;
        Ok(Self::Cron(Fields {
            minute: set(minute, 0, 59)?,
            hour: set(hour, 0, 23)?,
            day: set(day, 1, 31)?,
            month: set(month, 1, 12)?,
            // 7 is Sunday too.
            weekday: (weekday_bits | weekday_bits >> 7) & 0x7f,
            either_day: !day.starts_with('*') && !weekday.starts_with('*'),
            offset_s,
        }))
    }

    /// Whether this second is a due instant.
    pub fn is_due(&self, unix_s: i64) -> bool {
        match self {
            Self::Every { period_s } => unix_s.rem_euclid(*period_s) == 0,
            Self::Cron(fields) => {
                unix_s.rem_euclid(60) == 0 && fields.matches(&Civil::from_unix(unix_s + fields.offset_s))
            }
        }
    }

    /// The due instants after `after_s` up to and including `until_s`, earliest first.
    pub fn between(&self, after_s: i64, until_s: i64) -> impl Iterator<Item = i64> + '_ {
        let step_s = match self {
            Self::Every { period_s } => *period_s,
            Self::Cron(_) => 60,
        };
        let first_s = (after_s.div_euclid(step_s) + 1) * step_s;
        (0..)
            .map(move |count: i64| first_s + count * step_s)
            .take_while(move |unix_s| *unix_s <= until_s)
            .filter(|unix_s| self.is_due(*unix_s))
    }
}

impl Fields {
    fn matches(&self, civil: &Civil) -> bool {
        let holds = |set: u64, value: i64| set >> value & 1 == 1;
        let (day, weekday) = (holds(self.day, civil.day), holds(self.weekday, civil.weekday));
        let on_day = if self.either_day { day || weekday } else { day && weekday };
        on_day
            && holds(self.minute, civil.minute)
            && holds(self.hour, civil.hour)
            && holds(self.month, civil.month)
    }
}

/// The set of a list of `*`, `n`, `a-b`, each but the second with an optional `/step`.
fn field_bits(field: &str, first: u32, last: u32) -> Option<u64> {
    field.split(',').try_fold(0_u64, |set, part| {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, Some(step.parse::<u32>().ok().filter(|step| *step > 0)?)),
            None => (part, None),
        };
        let (from, to) = match range.split_once('-') {
            _ if range == "*" => (first, last),
            Some((from, to)) => (from.parse().ok()?, to.parse().ok()?),
            None if step.is_none() => range.parse().ok().map(|only| (only, only))?,
            None => return None,
        };
        if from < first || to > last || from > to {
            return None;
        }
        let step = usize::try_from(step.unwrap_or(1)).ok()?;
        Some((from..=to).step_by(step).fold(set, |set, value| set | 1 << value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::{format_rfc3339, parse_rfc3339};

    fn check(expression: &str, after: &str, until: &str, expected: &[&str]) {
        check_in("UTC", expression, after, until, expected);
    }

    fn check_in(timezone: &str, expression: &str, after: &str, until: &str, expected: &[&str]) {
        let due = Due::parse(expression, timezone).unwrap();
        let (after, until) = (parse_rfc3339(after).unwrap(), parse_rfc3339(until).unwrap());
        let found: Vec<_> = due.between(after, until).map(format_rfc3339).collect();
        assert_eq!(found, expected, "{expression}");
    }

    #[test]
    fn every_counts_from_the_epoch_and_excludes_the_start() {
        check(
            "@every 7s",
            "1970-01-01T00:00:07Z",
            "1970-01-01T00:00:28Z",
            &["1970-01-01T00:00:14Z", "1970-01-01T00:00:21Z", "1970-01-01T00:00:28Z"],
        );
        check("@every 1h", "2026-01-01T00:30:00Z", "2026-01-01T01:59:59Z", &["2026-01-01T01:00:00Z"]);
    }

    #[test]
    fn cron_fields() {
        check(
            "*/20 3 * * *",
            "2026-01-01T00:00:00Z",
            "2026-01-02T03:00:00Z",
            &["2026-01-01T03:00:00Z", "2026-01-01T03:20:00Z", "2026-01-01T03:40:00Z", "2026-01-02T03:00:00Z"],
        );
        check(
            "5,10-12/2 0 1 1 *",
            "2026-01-01T00:00:00Z",
            "2026-12-31T00:00:00Z",
            &["2026-01-01T00:05:00Z", "2026-01-01T00:10:00Z", "2026-01-01T00:12:00Z"],
        );
        check("0 0 29 2 *", "2025-01-01T00:00:00Z", "2029-01-01T00:00:00Z", &["2028-02-29T00:00:00Z"]);
    }

    #[test]
    fn either_day_field_may_match_when_both_are_restricted() {
        // The 1st, or a Sunday (4 January 2026); 7 is Sunday too.
        for expression in ["0 0 1 * 0", "0 0 1 * 7"] {
            check(
                expression,
                "2025-12-31T12:00:00Z",
                "2026-01-05T00:00:00Z",
                &["2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"],
            );
        }
        check("0 0 * * 0", "2025-12-31T12:00:00Z", "2026-01-05T00:00:00Z", &["2026-01-04T00:00:00Z"]);
    }

    #[test]
    fn a_zone_moves_the_fields_and_not_the_period() {
        check_in(
            "Asia/Kolkata",
            "15 9 1 * *",
            "2026-01-31T00:00:00Z",
            "2026-03-31T00:00:00Z",
            &["2026-02-01T03:45:00Z", "2026-03-01T03:45:00Z"],
        );
        check_in(
            "America/Bogota",
            "0 22 * * 6",
            "2026-01-01T00:00:00Z",
            "2026-01-05T00:00:00Z",
            &["2026-01-04T03:00:00Z"],
        );
        check_in(
            "Asia/Kolkata",
            "@every 1h",
            "2026-01-01T00:30:00Z",
            "2026-01-01T01:59:59Z",
            &["2026-01-01T01:00:00Z"],
        );
        // Its clocks change.
        assert!(Due::parse("0 0 * * *", "Europe/Stockholm").is_err());
    }

    #[test]
    fn what_it_cannot_compute_it_refuses() {
        for expression in [
            "",
            "@daily",
            "@every 0s",
            "@every s",
            "@every 5",
            "* * * *",
            "60 * * * *",
            "5/2 * * * *",
            "* * * JAN *",
        ] {
            assert!(Due::parse(expression, "UTC").is_err(), "{expression}");
        }
    }
}
