//! Instants and the door through which code learns what time it is.

use serde::{Deserialize, Serialize};
use std::time::Duration;

/// A point in time: milliseconds since the Unix epoch, UTC.
///
/// Instants before 1970 do not exist here; nothing this service does can be due then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timestamp(u64);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);
    /// Later than everything that can be scheduled.
    pub const MAX: Self = Self(u64::MAX);

    /// From milliseconds since the Unix epoch.
    #[must_use]
    pub const fn from_millis(millis: u64) -> Self {
        Self(millis)
    }

    /// From whole seconds since the Unix epoch.
    #[must_use]
    pub const fn from_secs(secs: u64) -> Self {
        Self(secs.saturating_mul(1_000))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn as_millis(self) -> u64 {
        self.0
    }

    /// Whole seconds since the Unix epoch, rounded down.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0 / 1_000
    }

    /// Whole days since the Unix epoch, rounded down.
    #[must_use]
    pub const fn as_days(self) -> u64 {
        self.0 / 86_400_000
    }

    /// The month this lies in, UTC.
    #[must_use]
    pub const fn month(self) -> Month {
        let (year, month, _) = civil(self.as_days());
        Month(year * 12 + month - 1)
    }

    /// This instant plus `duration`; stops at [`Timestamp::MAX`].
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(saturating_millis(duration)))
    }

    /// This instant minus `duration`; stops at the epoch.
    #[must_use]
    pub fn minus(self, duration: Duration) -> Self {
        Self(self.0.saturating_sub(saturating_millis(duration)))
    }

    /// How long after `earlier` this is; zero when it is not after it.
    #[must_use]
    pub const fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

/// A month of the calendar, UTC: months since year 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Month(u64);

impl Month {
    /// Its first instant.
    #[must_use]
    pub const fn start(self) -> Timestamp {
        Timestamp::from_secs(days_before(self.0 / 12, self.0 % 12 + 1) * 86_400)
    }

    /// The month after it.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

const DAYS_OF_400_YEARS: u64 = 146_097;
/// From 0000-03-01 to 1970-01-01.
const DAYS_BEFORE_1970: u64 = 719_468;

/// Year, month and day of a count of days since the Unix epoch (Howard Hinnant, "chrono-Compatible
/// Low-Level Date Algorithms", 2013, for days that are not negative).
#[must_use]
pub const fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + DAYS_BEFORE_1970;
    let (era, day_of_era) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (era * 400 + year_of_era + (month <= 2) as u64, month, day)
}

/// Days from the Unix epoch to the first of a month; zero for months before it. The inverse of [`civil`].
const fn days_before(year: u64, month: u64) -> u64 {
    let year = if month <= 2 { year.saturating_sub(1) } else { year };
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let (era, year_of_era) = (year / 400, year % 400);
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + (153 * march_month + 2) / 5;
    (era * DAYS_OF_400_YEARS + day_of_era).saturating_sub(DAYS_BEFORE_1970)
}

fn saturating_millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The only way to learn what time it is. Implemented in `node`, faked in tests.
pub trait Clock: Send + Sync + 'static {
    /// Wall-clock time. It may step in either direction.
    fn now(&self) -> Timestamp;

    /// Time since some fixed moment of this process. It never steps, and it goes on while the
    /// process is stopped, so that a node that was frozen knows how long it was away.
    fn elapsed(&self) -> Duration;
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn months_begin_where_the_calendar_says() {
        let month = Timestamp::from_secs(1_775_876_400).month();
        assert_eq!(month.start(), Timestamp::from_secs(1_775_001_600), "2026-04-01");
        assert_eq!(month.next().start(), Timestamp::from_secs(1_777_593_600), "2026-05-01");
        assert_eq!(Timestamp::EPOCH.month().start(), Timestamp::EPOCH);
        assert_eq!(Month::default().start(), Timestamp::EPOCH, "nothing lies before the epoch");
    }

    proptest! {
        #[test]
        fn every_instant_lies_in_its_month(secs in 0u64..253_402_300_800) {
            let at = Timestamp::from_secs(secs);
            prop_assert!(at.month().start() <= at && at < at.month().next().start());
        }
    }
}
