//! `Retry-After` (RFC 9110, section 10.2.3): how long an answer asks to be left alone.

use domain::time::Timestamp;
use http::HeaderMap;
use http::header::{DATE, RETRY_AFTER};
use std::time::Duration;

/// The wait that an answer received at `now` asks for, in a number of seconds (Discord's has a fraction) or by a date. `None` when it
/// asks for none, or nobody can tell.
pub(crate) fn asked(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(secs) = text.parse::<f64>() {
        return Duration::try_from_secs_f64(secs.ceil()).ok();
    }
    // By the clock of whoever wrote it, if that is said: ours may show another time.
    let written = headers.get(DATE).and_then(|date| seconds(date.to_str().ok()?)).unwrap_or(now.as_secs());
    Some(Duration::from_secs(seconds(text)?.saturating_sub(written)))
}

/// A date in Unix seconds.
fn seconds(text: &str) -> Option<u64> {
    u64::try_from(jiff::fmt::rfc2822::parse(text.trim()).ok()?.timestamp().as_second()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 2026-06-01T12:00:00Z
    const NOW: Timestamp = Timestamp::from_secs(1_780_315_200);

    fn check(retry_after: &str, date: Option<&str>, expected: Option<u64>) {
        let mut headers = HeaderMap::new();
        headers.insert(RETRY_AFTER, retry_after.parse().unwrap());
        if let Some(date) = date {
            headers.insert(DATE, date.parse().unwrap());
        }
        assert_eq!(asked(&headers, NOW), expected.map(Duration::from_secs), "{retry_after} {date:?}");
    }

    #[test]
    fn seconds_and_dates_are_understood() {
        check("120", None, Some(120));
        check(" 0 ", None, Some(0));
        check("1.2", None, Some(2));
        check("Mon, 01 Jun 2026 12:01:30 GMT", None, Some(90));
        check("Mon, 01 Jun 2026 11:59:00 GMT", None, Some(0));
    }

    #[test]
    fn a_date_counts_by_the_clock_of_the_target() {
        let sent = Some("Mon, 01 Jun 2026 13:00:00 GMT");
        check("Mon, 01 Jun 2026 13:00:45 GMT", sent, Some(45));
        check("Mon, 01 Jun 2026 12:01:30 GMT", Some("yesterday"), Some(90));
    }

    #[test]
    fn nonsense_asks_for_nothing() {
        for nonsense in ["soon", "-5", "NaN", "inf", "", "1e400", "Mon, 99 Jun 2026 12:01:30 GMT"] {
            check(nonsense, None, None);
        }
        assert_eq!(asked(&HeaderMap::new(), NOW), None);
    }
}
