use super::*;

fn parse(text: &str) -> Result<Expression, ScheduleError> {
    Expression::parse(check_text(text)?)
}

fn check_next(text: &str, low: (i64, i64, i64), expected: (i64, i64, i64)) {
    let days = |(year, month, day)| Date { year, month, day }.to_days();
    let found = parse(text).unwrap().next_minute(days(low) * DAY_SECS).unwrap();
    assert_eq!(Date::from_days(found.div_euclid(DAY_SECS)), Date::from_days(days(expected)), "{text}");
}

#[test]
fn both_day_fields_must_match_when_one_starts_with_a_star() {
    check_next("0 0 13 * FRI", (2026, 1, 1), (2026, 1, 2));
    check_next("0 0 */12 * FRI", (2026, 1, 1), (2026, 2, 13));
    check_next("0 0 13 * */5", (2026, 1, 14), (2026, 2, 13));
    check_next("0 0 *,10 * MON", (2026, 1, 6), (2026, 1, 12));
}

#[test]
fn leap_days_are_found_across_a_century_that_is_no_leap_year() {
    check_next("0 0 29 2 *", (2096, 3, 1), (2104, 2, 29));
    check_next("0 0 29 2 */7", (2088, 3, 1), (2128, 2, 29));
}

#[test]
fn a_search_ends_with_the_last_year() {
    let low = Date { year: zone::YEAR_LAST + 1, month: 2, day: 1 }.to_days() * DAY_SECS;
    assert_eq!(parse("0 0 31 1 *").unwrap().next_minute(low), None);
}

#[test]
fn only_dates_that_do_not_exist_never_fire() {
    for text in ["0 0 30 2 *", "0 0 31 4,6,9,11 */2", "*/5 * 30-31 FEB *"] {
        assert_eq!(parse(text).unwrap_err(), ScheduleError::NeverFires, "{text}");
    }
    for text in ["0 0 31 2 MON", "0 0 29 2 *", "0 0 */30 2 *", "0 0 31 4,5 *"] {
        assert!(parse(text).is_ok(), "{text}");
    }
}

#[test]
fn blanks_may_be_several_tabs_or_around_the_fields() {
    assert!(parse(" \t0  0\t* * * ").is_ok());
    assert!(parse("0 0 * * *\n").is_err());
    assert!(parse("0\u{a0}0 * * *").is_err());
}

#[test]
fn the_length_is_bounded_in_bytes() {
    let padded = |bytes: usize| format!("{:<bytes$}", "* * * * *");
    assert!(parse(&padded(EXPRESSION_BYTES_MAX)).is_ok());
    assert!(parse(&padded(EXPRESSION_BYTES_MAX + 1)).is_err());
}

#[test]
fn refusals_tell_users_what_is_wrong() {
    let check = |text: &str, expected: &str| assert_eq!(parse(text).unwrap_err().to_string(), expected);
    check("", "the expression is empty");
    check("* * *", "expected 5 fields, found 3");
    check("* * * * * *", "expected 5 fields, found 6");
    check("* 24 * * *", "hour: 24 is out of range 0-23");
    check("@reboot", "@reboot names no time");
}
