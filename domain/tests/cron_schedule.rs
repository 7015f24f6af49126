//! Nicknames, periods, zones, and what was missed.

use domain::schedule::{Missed, Schedule, ScheduleError, validate_timezone, wall_clock};
use domain::time::Timestamp;
use std::time::Duration;

fn at(text: &str) -> Timestamp {
    let instant: jiff::Timestamp = text.parse().expect("tests name RFC 3339 instants");
    Timestamp::from_millis(u64::try_from(instant.as_millisecond()).expect("no instant is before 1970"))
}

fn check_next(expression: &str, timezone: &str, after: &str, expected: &[&str]) {
    let schedule = Schedule::parse(expression, timezone).expect("the schedule is valid");
    let mut after = at(after);
    for expected in expected {
        let next = schedule.next_after(after).expect("more is due");
        assert_eq!(next, at(expected), "{expression} in {timezone} after {after:?}");
        assert!(schedule.is_due(next), "{expression} in {timezone} at {next:?}");
        after = next;
    }
}

fn refusal(expression: &str, timezone: &str) -> ScheduleError {
    Schedule::parse(expression, timezone).expect_err("the schedule is refused")
}

#[test]
fn nicknames_are_the_fields_they_stand_for() {
    for (nickname, fields) in [
        ("@hourly", "0 * * * *"),
        ("@daily", "0 0 * * *"),
        ("@midnight", "0 0 * * *"),
        ("@weekly", "0 0 * * 0"),
        ("@monthly", "0 0 1 * *"),
        ("@yearly", "0 0 1 1 *"),
        ("@annually", "0 0 1 1 *"),
    ] {
        let nickname = Schedule::parse(nickname, "Europe/Stockholm").unwrap();
        let fields = Schedule::parse(fields, "Europe/Stockholm").unwrap();
        let mut after = at("2026-01-01T00:00:00Z");
        for _ in 0..150 {
            let next = nickname.next_after(after);
            assert_eq!(next, fields.next_after(after));
            after = next.unwrap();
        }
    }
    assert_eq!(refusal("@Daily", "UTC").field(), "cron_expression");
}

#[test]
fn a_midnight_that_the_clock_skips_is_made_up_for() {
    let expected = ["2018-11-03T03:00:00Z", "2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"];
    check_next("@daily", "America/Sao_Paulo", "2018-11-03T00:00:00Z", &expected);
}

#[test]
fn a_date_that_the_clock_skips_moves_to_the_first_minute_after_it() {
    check_next("0 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", &["2011-12-30T10:00:00Z"]);
    check_next("*/30 12 30 12 *", "Pacific/Apia", "2011-12-01T00:00:00Z", &["2012-12-29T22:00:00Z"]);
}

#[test]
fn a_gap_that_ends_within_a_minute_ends_with_that_minute() {
    // Liberia's clocks went from 00:00:00 to 00:44:30 on 7 January 1972.
    let expected = ["1972-01-06T01:14:30Z", "1972-01-07T00:45:00Z", "1972-01-08T00:30:00Z"];
    check_next("30 0 * * *", "Africa/Monrovia", "1972-01-06T00:00:00Z", &expected);
    check_next("30 0 * * *", "Africa/Monrovia", "1972-01-07T00:44:45Z", &expected[1..]);
}

#[test]
fn fractions_of_a_second_lie_between_due_instants() {
    let schedule = Schedule::parse("* * * * *", "UTC").unwrap();
    for (after_ms, due_ms) in [(0, 60_000), (59_999, 60_000), (60_000, 120_000), (60_001, 120_000)] {
        let next = schedule.next_after(Timestamp::from_millis(after_ms)).unwrap();
        assert_eq!(next, Timestamp::from_millis(due_ms));
    }
    let due = [0, 1, 59_999, 60_000, 60_001].map(|ms| schedule.is_due(Timestamp::from_millis(ms)));
    assert_eq!(due, [true, false, false, true, false]);
}

#[test]
fn periods_are_aligned_to_the_epoch_whatever_the_zone() {
    // 5 hours do not divide a day, and the first of these is when Stockholm's clocks go forward.
    let expected = ["2026-03-29T01:00:00Z", "2026-03-29T06:00:00Z", "2026-03-29T11:00:00Z"];
    assert_eq!(at(expected[0]).as_secs() % (5 * 3_600), 0);
    check_next("@every 5h", "Europe/Stockholm", "2026-03-29T00:59:59.999Z", &expected);
    check_next("@every \t 300m", "Pacific/Apia", "2026-03-28T20:00:00Z", &expected);
    check_next("@every 18000s", "UTC", "2026-03-28T20:00:00Z", &expected);
}

#[test]
fn periods_are_bounded() {
    for accepted in ["@every 1s", "@every 8784h", "@every 31622400s", "@every 007m"] {
        assert!(Schedule::parse(accepted, "UTC").is_ok(), "{accepted}");
    }
    for refused in [
        "@every",
        "@every ",
        "@every5m",
        "@every 0s",
        "@every 8785h",
        "@every 31622401s",
        "@every 5",
        "@every m",
        "@every 5d",
        "@every 1h30m",
        "@every -5m",
        "@every +5m",
        "@every 1.5h",
        "@every 5 m",
        "@every 5M",
        "@every 18446744073709551616s",
        "@every 18446744073709551615h",
    ] {
        let error = refusal(refused, "UTC");
        assert!(matches!(error, ScheduleError::Expression(_)), "{refused}: {error}");
    }
}

#[test]
fn zones_are_those_of_the_database_spelt_as_there() {
    for accepted in
        ["UTC", "Etc/UTC", "Europe/Stockholm", "Asia/Calcutta", "America/Argentina/Ushuaia", "Etc/GMT+5"]
    {
        assert_eq!(validate_timezone(accepted), Ok(()), "{accepted}");
    }
    let long = "Europe/Stockholm".repeat(1_000);
    for refused in [
        "",
        " ",
        "utc",
        "europe/stockholm",
        "Europe/Atlantis",
        " UTC",
        "UTC\0",
        "local",
        "localtime",
        "+02:00",
        "-05",
        "CET-1CEST,M3.5.0,M10.5.0/3",
        ":UTC",
        "../etc/localtime",
        "/usr/share/zoneinfo/UTC",
        "posix/UTC",
        "Etc/Unknown",
        "Factory",
        "Europe/Malmö",
        &long,
    ] {
        assert_eq!(validate_timezone(refused), Err(ScheduleError::UnknownTimezone), "{refused:?}");
        assert_eq!(refusal("* * * * *", refused).field(), "timezone", "{refused:?}");
        assert_eq!(refusal("@every 5m", refused).field(), "timezone", "{refused:?}");
    }
    assert_eq!(refusal("* * * *", "nowhere").field(), "cron_expression");
}

#[test]
fn the_zone_database_is_newer_than_the_abolition_of_clock_changes_in_vancouver() {
    check_next("0 12 * * *", "America/Vancouver", "2027-01-10T00:00:00Z", &["2027-01-10T19:00:00Z"]);
}

#[test]
fn cron_ends_with_the_year_2199_and_periods_with_the_numbers() {
    let cron = Schedule::parse("* * * * *", "Asia/Tokyo").unwrap();
    let last = at("2199-12-31T23:59:00Z");
    assert_eq!(cron.next_after(last.minus(Duration::from_secs(1))), Some(last));
    assert_eq!(cron.next_after(last), None);
    assert_eq!(cron.next_after(Timestamp::MAX), None);
    assert!(!cron.is_due(Timestamp::MAX));

    let every = Schedule::parse("@every 366m", "UTC").unwrap();
    let missed = every.missed(Timestamp::EPOCH, Timestamp::MAX, 0).unwrap();
    assert!(every.is_due(missed.last));
    assert_eq!(every.next_after(missed.last), None);
    assert_eq!(missed.count - 1, missed.last.as_secs() / (366 * 60));
}

#[test]
fn a_leap_day_on_a_weekday_is_found_within_40_years() {
    check_next("0 0 29 2 */7", "Europe/Stockholm", "2088-03-01T00:00:00Z", &["2128-02-28T23:00:00Z"]);
}

#[test]
fn missed_counts_both_ends_of_the_span() {
    let schedule = Schedule::parse("0 * * * *", "UTC").unwrap();
    let missed = |from, until, count_max| schedule.missed(at(from), at(until), count_max);
    let (one, two, three) = ("2026-01-01T01:00:00Z", "2026-01-01T02:00:00Z", "2026-01-01T03:00:00Z");
    let expected = |first, before_last: Option<_>, last, count, exact| {
        Some(Missed { first: at(first), last: at(last), before_last: before_last.map(at), count, exact })
    };
    assert_eq!(missed("2026-01-01T01:00:00.001Z", "2026-01-01T01:59:59.999Z", 9), None);
    assert_eq!(missed(two, one, 9), None);
    assert_eq!(missed(one, one, 9), expected(one, None, one, 1, true));
    assert_eq!(missed(one, one, 0), expected(one, None, one, 1, true));
    assert_eq!(missed(one, two, 0), expected(one, Some(one), two, 2, false));
    assert_eq!(missed(one, two, 2), expected(one, Some(one), two, 2, true));
    assert_eq!(missed(one, three, 3), expected(one, Some(two), three, 3, true));
    let day = "2026-01-02T01:30:00Z";
    let (before_last, last) = ("2026-01-02T00:00:00Z", "2026-01-02T01:00:00Z");
    assert_eq!(missed(one, day, 25), expected(one, Some(before_last), last, 25, true));
    assert_eq!(missed(one, day, 24), expected(one, Some(before_last), last, 24, false));
    assert_eq!(missed(one, day, 0), expected(one, Some(before_last), last, 3, false));
}

#[test]
fn missed_over_all_time_is_exact_at_both_ends() {
    for (expression, first, last) in [
        ("* * * * *", "1970-01-01T00:00:00Z", "2199-12-31T23:59:00Z"),
        ("0 0 29 2 *", "1972-02-28T23:00:00Z", "2196-02-28T23:00:00Z"),
    ] {
        let schedule = Schedule::parse(expression, "Europe/Stockholm").unwrap();
        let missed = schedule.missed(Timestamp::EPOCH, Timestamp::MAX, 10).unwrap();
        assert_eq!((missed.first, missed.last), (at(first), at(last)));
        assert_eq!((missed.count, missed.exact), (10, false));
    }
}

#[test]
fn missed_ends_with_the_last_instant_wherever_the_span_ends() {
    for (expression, period_secs) in [("* * * * *", 60), ("*/20 * * * *", 1_200), ("0 */6 * * *", 21_600)] {
        let schedule = Schedule::parse(expression, "UTC").unwrap();
        for until_secs in (0..3_000).chain(1_999_999_000..2_000_002_000) {
            let until = Timestamp::from_secs(until_secs);
            let missed = schedule.missed(Timestamp::EPOCH, until, 0).unwrap();
            assert_eq!(missed.last.as_secs(), until_secs / period_secs * period_secs, "{expression}");
        }
    }
}

#[test]
fn wall_clocks_show_what_they_show() {
    let at = Timestamp::from_secs(1_775_830_920);
    for (zone, expected) in [
        ("UTC", Some(1_775_830_920)),
        ("Europe/Stockholm", Some(1_775_838_120)),
        ("America/New_York", Some(1_775_816_520)),
        ("Mars/Olympus", None),
    ] {
        assert_eq!(wall_clock(zone, at), expected.map(Timestamp::from_secs), "{zone}");
    }
}
