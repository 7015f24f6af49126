//! The five fields of a cron expression, and the next wall-clock minute that matches them.

use super::civil::{self, DAY_SECS, Date, MINUTE_SECS};
use super::field::{DAY_OF_MONTH, DAY_OF_WEEK, Field, HOUR, MINUTE, MONTH};
use super::{EXPRESSION_BYTES_MAX, ScheduleError, zone};

/// Nicknames, and the fields they stand for.
const NICKNAMES: [(&str, &str); 7] = [
    ("@hourly", "0 * * * *"),
    ("@daily", "0 0 * * *"),
    ("@midnight", "0 0 * * *"),
    ("@weekly", "0 0 * * 0"),
    ("@monthly", "0 0 1 * *"),
    ("@yearly", "0 0 1 1 *"),
    ("@annually", "0 0 1 1 *"),
];

/// The fields as bit sets: bit `n` for value `n`. None of them is empty.
#[derive(Clone, Copy, Debug)]
pub(super) struct Expression {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    /// The seven days of the week six times over, Sunday first: shifted by the weekday of the first
    /// of a month, it is that month.
    weekdays: u64,
    /// Whether both day fields must match, or either.
    both_days: bool,
    wild: bool,
}

/// Refuses what no expression may contain, before anything else looks at it. Returns the text
/// without the blanks around it.
pub(super) fn check_text(text: &str) -> Result<&str, ScheduleError> {
    if text.len() > EXPRESSION_BYTES_MAX {
        return Err(refused(format!("the expression is longer than {EXPRESSION_BYTES_MAX} bytes")));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ' || byte == b'\t') {
        return Err(refused(
            "the expression contains a character other than ASCII letters, digits and signs",
        ));
    }
    let text = text.trim_matches([' ', '\t']);
    if text.is_empty() { Err(refused("the expression is empty")) } else { Ok(text) }
}

fn refused(reason: impl Into<String>) -> ScheduleError {
    ScheduleError::Expression(reason.into())
}

impl Expression {
    /// Parses five fields or a nickname from text that [`check_text`] has passed.
    pub(super) fn parse(text: &str) -> Result<Self, ScheduleError> {
        if !text.starts_with('@') {
            return Self::parse_fields(text);
        }
        match NICKNAMES.iter().find(|(nickname, _)| *nickname == text) {
            Some((_, fields)) => Self::parse_fields(fields),
            None if text == "@reboot" => Err(refused("@reboot names no time")),
            None => Err(refused(format!(
                "unknown nickname {text:?}: expected @hourly, @daily, @midnight, @weekly, @monthly, @yearly, \
                 @annually or @every with a period"
            ))),
        }
    }

    fn parse_fields(text: &str) -> Result<Self, ScheduleError> {
        let mut fields = text.split([' ', '\t']).filter(|field| !field.is_empty());
        let texts: [Option<&str>; 5] = std::array::from_fn(|_| fields.next());
        let [Some(minute), Some(hour), Some(day), Some(month), Some(weekday)] = texts else {
            let found = texts.iter().flatten().count();
            return Err(refused(format!("expected 5 fields, found {found}")));
        };
        let extra = fields.count();
        if extra > 0 {
            return Err(refused(format!("expected 5 fields, found {}", 5 + extra)));
        }

        let expression = Self {
            minutes: MINUTE.parse(minute)?,
            hours: HOUR.parse(hour)?,
            days: DAY_OF_MONTH.parse(day)?,
            months: MONTH.parse(month)?,
            weekdays: repeat_week(&DAY_OF_WEEK, weekday)?,
            both_days: day.starts_with('*') || weekday.starts_with('*'),
            wild: minute.starts_with('*') || hour.starts_with('*'),
        };
        if expression.can_fire() { Ok(expression) } else { Err(ScheduleError::NeverFires) }
    }

    /// Whether minutes that the clock skips or repeats are left as the clock shows them.
    pub(super) fn is_wild(&self) -> bool {
        self.wild
    }

    /// Any date that exists falls on every day of the week in some year, so that only the day of
    /// the month can be impossible; and where either day field will do, the weekday is not.
    fn can_fire(&self) -> bool {
        const LEAP_YEAR: i64 = 2_000;
        !self.both_days
            || (1..=12).any(|month| {
                self.months >> month & 1 == 1
                    && self.days & days_up_to(civil::days_in_month(LEAP_YEAR, month)) != 0
            })
    }

    /// The first matching minute at or after `low`, which is a full minute. Both are civil seconds.
    pub(super) fn next_minute(&self, low: i64) -> Option<i64> {
        let low_day = low.div_euclid(DAY_SECS);
        let mut day = self.next_day(low_day)?;
        if day == low_day {
            if let Some(secs) = self.next_time(low.rem_euclid(DAY_SECS) / MINUTE_SECS) {
                return Some(day * DAY_SECS + secs);
            }
            day = self.next_day(low_day + 1)?;
        }
        Some(day * DAY_SECS + self.next_time(0)?)
    }

    /// Seconds into the day of the first match at or after a minute of the day.
    fn next_time(&self, low_minute: i64) -> Option<i64> {
        let (low_hour, low_minute) = (low_minute / 60, low_minute % 60);
        let hour = next_bit(self.hours, low_hour)?;
        let minute = if hour == low_hour { next_bit(self.minutes, low_minute) } else { None };
        let (hour, minute) = match minute {
            Some(minute) => (hour, minute),
            None if hour > low_hour => (hour, next_bit(self.minutes, 0)?),
            None => (next_bit(self.hours, low_hour + 1)?, next_bit(self.minutes, 0)?),
        };
        Some((hour * 60 + minute) * MINUTE_SECS)
    }

    /// The first matching day at or after `low_day`, in days since 1970-01-01.
    fn next_day(&self, low_day: i64) -> Option<i64> {
        let Date { mut year, mut month, day: mut low } = Date::from_days(low_day);
        // East of Greenwich the clocks show the year after the last before it is over.
        while year <= zone::YEAR_LAST + 1 {
            match next_bit(self.months, month) {
                Some(next) if next == month => {
                    let first = Date { year, month, day: 1 }.to_days();
                    if let Some(day) = next_bit(self.days_of_month(year, month, first), low) {
                        return Some(first + day - 1);
                    }
                    month += 1;
                }
                Some(next) => month = next,
                None => (year, month) = (year + 1, 1),
            }
            low = 1;
        }
        None
    }

    /// The matching days of a month, bit 1 for the first; `first` is that day since 1970-01-01.
    fn days_of_month(&self, year: i64, month: i64, first: i64) -> u64 {
        let by_weekday = self.weekdays >> civil::weekday(first) << 1;
        let by_day = self.days;
        let matching = if self.both_days { by_day & by_weekday } else { by_day | by_weekday };
        matching & days_up_to(civil::days_in_month(year, month))
    }
}

/// Bits 1 to `last`.
fn days_up_to(last: i64) -> u64 {
    (2 << last) - 2
}

/// The lowest bit at or above `low`, which may be one above the highest bit of a field.
fn next_bit(bits: u64, low: i64) -> Option<i64> {
    let rest = bits >> low;
    if rest == 0 { None } else { Some(low + i64::from(rest.trailing_zeros())) }
}

/// Six weeks, so that a month that starts on a Saturday still fits.
fn repeat_week(field: &Field, text: &str) -> Result<u64, ScheduleError> {
    let bits = field.parse(text)?;
    let week = (bits | bits >> 7) & 0x7f;
    Ok((0..6).fold(0, |weeks, index| weeks | week << (7 * index)))
}

#[cfg(test)]
mod tests;
