//! The one clock of a run: microseconds since the Unix epoch, beside a monotonic count that shows whether
//! that clock stepped.

use std::{
    sync::OnceLock,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

/// Microseconds in a second.
pub const SECOND_US: i64 = 1_000_000;

/// Now, in microseconds since the Unix epoch (`CLOCK_REALTIME`).
#[expect(clippy::disallowed_methods, reason = "the one place of the harness that reads the wall clock")]
pub fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the machine's clock is past 1970");
    i64::try_from(since.as_micros()).expect("microseconds fit in 63 bits for 292,000 years")
}

/// Microseconds since the first call in this process (`CLOCK_MONOTONIC`).
pub fn monotonic_us() -> i64 {
    static START: OnceLock<Instant> = OnceLock::new();
    let elapsed = START.get_or_init(Instant::now).elapsed();
    i64::try_from(elapsed.as_micros()).expect("no run lasts 292,000 years")
}

/// As [`now_us`] when this process first asked, and counted on from there by the monotonic clock: what the order of
/// two instants is judged by, because it never steps.
pub fn steady_us() -> i64 {
    static START_US: OnceLock<i64> = OnceLock::new();
    let elapsed_us = monotonic_us();
    START_US.get_or_init(|| now_us() - elapsed_us) + elapsed_us
}

/// A duration in microseconds.
pub fn micros(duration: std::time::Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

/// A calendar date and time of day in UTC.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Civil {
    /// Year.
    pub year: i64,
    /// 1 to 12.
    pub month: i64,
    /// 1 to 31.
    pub day: i64,
    /// 0 to 23.
    pub hour: i64,
    /// 0 to 59.
    pub minute: i64,
    /// 0 to 59.
    pub second: i64,
    /// 0 (Sunday) to 6.
    pub weekday: i64,
}

impl Civil {
    /// The date and time in UTC of a count of seconds since the Unix epoch.
    ///
    /// Method: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms", `civil_from_days`.
    pub fn from_unix(seconds: i64) -> Self {
        let (days, of_day) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
        let shifted = days + 719_468;
        let (era, of_era) = (shifted.div_euclid(146_097), shifted.rem_euclid(146_097));
        let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let march_month = (5 * of_year + 2) / 153;
        let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
        Self {
            year: year_of_era + era * 400 + i64::from(month <= 2),
            month,
            day: of_year - (153 * march_month + 2) / 5 + 1,
            hour: of_day / 3_600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
            weekday: (days + 4).rem_euclid(7),
        }
    }

    /// Seconds since the Unix epoch; the weekday is not looked at.
    pub fn to_unix(self) -> i64 {
        let year = self.year - i64::from(self.month <= 2);
        let (era, year_of_era) = (year.div_euclid(400), year.rem_euclid(400));
        let march_month = if self.month > 2 { self.month - 3 } else { self.month + 9 };
        let of_year = (153 * march_month + 2) / 5 + self.day - 1;
        let of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + of_year;
        let days = era * 146_097 + of_era - 719_468;
        days * 86_400 + self.hour * 3_600 + self.minute * 60 + self.second
    }
}

/// Seconds since the Unix epoch of an RFC 3339 time in UTC with whole seconds, as the API and the
/// `X-JustRun-Scheduled-At` header write it (`2026-04-11T03:00:00Z`). Anything else is `None`.
pub fn parse_rfc3339(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    let separators = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'Z')];
    if bytes.len() != 20 || separators.iter().any(|&(at, byte)| bytes[at] != byte) {
        return None;
    }
    let number = |from: usize, to: usize| {
        bytes[from..to]
            .iter()
            .try_fold(0_i64, |sum, byte| byte.is_ascii_digit().then(|| sum * 10 + i64::from(byte - b'0')))
    };
    let civil = Civil {
        year: number(0, 4)?,
        month: number(5, 7)?,
        day: number(8, 10)?,
        hour: number(11, 13)?,
        minute: number(14, 16)?,
        second: number(17, 19)?,
        weekday: 0,
    };
    let seconds = civil.to_unix();
    // The 31st of February would come out as a day in March.
    (Civil { weekday: 0, ..Civil::from_unix(seconds) } == civil).then_some(seconds)
}

/// The reverse of [`parse_rfc3339`].
pub fn format_rfc3339(seconds: i64) -> String {
    let Civil { year, month, day, hour, minute, second, .. } = Civil::from_unix(seconds);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_instants() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", 0),
            ("2000-02-29T12:00:00Z", 951_825_600),
            ("2026-04-11T03:00:00Z", 1_775_876_400),
            ("2099-12-31T23:59:59Z", 4_102_444_799),
        ] {
            assert_eq!(parse_rfc3339(text), Some(seconds), "{text}");
            assert_eq!(format_rfc3339(seconds), text);
        }
        // 11 April 2026 is a Saturday.
        assert_eq!(Civil::from_unix(1_775_876_400).weekday, 6);
    }

    #[test]
    fn the_steady_clock_goes_with_the_wall_clock_and_never_back() {
        let before_us = now_us();
        let readings: Vec<_> = (0..1_000).map(|_| steady_us()).collect();
        assert!(readings.is_sorted());
        // Loose: the wall clock may be corrected meanwhile, by less than a minute.
        assert!((readings[0] - before_us).abs() < 60 * SECOND_US, "{} {before_us}", readings[0]);
    }

    #[test]
    fn every_day_of_two_centuries_survives_the_round_trip() {
        for day in 0..73_000 {
            let seconds = day * 86_400 + 45_296;
            assert_eq!(Civil::from_unix(seconds).to_unix(), seconds);
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in [
            "",
            "2026-04-11",
            "2026-04-11T03:00:00",
            "2026-04-11T03:00:00+00:00",
            "2026-04-11T03:00:00.5Z",
            "2026-02-31T03:00:00Z",
            "2026-04-11T24:00:00Z",
            "2o26-04-11T03:00:00Z",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }
}
