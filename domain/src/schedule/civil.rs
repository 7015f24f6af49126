//! Dates of the proleptic Gregorian calendar as days since 1970-01-01, and back.
//!
//! A civil second is what a wall clock shows, counted from its own 1970-01-01 00:00:00. The
//! conversions are those of Howard Hinnant's "chrono-compatible low-level date algorithms": years
//! begin in March, so that the leap day is the last of the year, in eras of 400 years.

/// Seconds in a minute.
pub(super) const MINUTE_SECS: i64 = 60;
/// Seconds in a civil day, which has no leap seconds.
pub(super) const DAY_SECS: i64 = 86_400;

const ERA_DAYS: i64 = 146_097;
/// Days from 0000-03-01 to 1970-01-01.
const EPOCH_DAYS: i64 = 719_468;

/// A calendar date.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Date {
    pub(super) year: i64,
    /// 1 to 12.
    pub(super) month: i64,
    /// 1 to 31.
    pub(super) day: i64,
}

impl Date {
    pub(super) const fn from_days(days: i64) -> Self {
        let days = days + EPOCH_DAYS;
        let era = days.div_euclid(ERA_DAYS);
        let day_of_era = days.rem_euclid(ERA_DAYS);
        let year_of_era =
            (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let month_from_march = (5 * day_of_year + 2) / 153;
        let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
        let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
        let year = era * 400 + year_of_era + if month <= 2 { 1 } else { 0 };
        Self { year, month, day }
    }

    pub(super) const fn to_days(self) -> i64 {
        let year = if self.month <= 2 { self.year - 1 } else { self.year };
        let era = year.div_euclid(400);
        let year_of_era = year.rem_euclid(400);
        let month_from_march = if self.month > 2 { self.month - 3 } else { self.month + 9 };
        let day_of_year = (153 * month_from_march + 2) / 5 + self.day - 1;
        let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
        era * ERA_DAYS + day_of_era - EPOCH_DAYS
    }
}

/// Days in a month of a given year.
pub(super) const fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

/// Day of the week, 0 for Sunday.
pub(super) const fn weekday(days: i64) -> i64 {
    // 1970-01-01 was a Thursday.
    (days + 4).rem_euclid(7)
}

/// The first full minute at or after a civil second.
pub(super) const fn ceil_to_minute(secs: i64) -> i64 {
    let past = secs.rem_euclid(MINUTE_SECS);
    if past == 0 { secs } else { secs - past + MINUTE_SECS }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_agree_with_an_independent_calendar_over_an_era() {
        let epoch = jiff::civil::date(1970, 1, 1);
        for days in -1_000..ERA_DAYS {
            let expected = epoch + jiff::Span::new().days(days);
            let date = Date::from_days(days);
            let found = (date.year, date.month, date.day);
            assert_eq!(found, (expected.year().into(), expected.month().into(), expected.day().into()));
            assert_eq!(date.to_days(), days);
            assert_eq!(weekday(days), i64::from(expected.weekday().to_sunday_zero_offset()));
            assert_eq!(days_in_month(date.year, date.month), i64::from(expected.days_in_month()));
        }
    }

    #[test]
    fn minutes_round_up_on_both_sides_of_the_epoch() {
        let rounded = [-61, -60, -59, 0, 1, 59, 60].map(ceil_to_minute);
        assert_eq!(rounded, [-60, -60, 0, 0, 60, 60, 60]);
    }
}
