//! Schedules compared with a matcher that walks the clock minute by minute, and other properties.

use domain::schedule::{Missed, Schedule};
use domain::time::Timestamp;
use jiff::tz::{TimeZone, TimeZoneDatabase};
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

const MINUTE_SECS: i64 = 60;
const DAY_SECS: i64 = 86_400;

/// Zones, each with moments close to which its clock changes.
const ZONES: [(&str, &[&str]); 9] = [
    ("UTC", &["2024-02-29T00:00:00Z", "2100-02-28T00:00:00Z"]),
    ("Europe/Stockholm", &["2026-03-29T01:00:00Z", "2026-10-25T01:00:00Z", "2080-03-31T01:00:00Z"]),
    ("America/New_York", &["2026-03-08T07:00:00Z", "2026-11-01T06:00:00Z"]),
    ("Australia/Lord_Howe", &["2026-04-04T15:00:00Z", "2026-10-03T15:30:00Z", "1985-03-02T14:00:00Z"]),
    ("America/St_Johns", &["2010-03-14T03:31:00Z", "2010-11-07T02:31:00Z", "1988-04-03T03:31:00Z"]),
    ("Africa/Casablanca", &["2026-02-15T02:00:00Z", "2026-03-22T02:00:00Z", "2019-05-05T02:00:00Z"]),
    ("Pacific/Apia", &["2011-12-30T10:00:00Z", "2011-04-02T14:00:00Z", "2021-04-03T14:00:00Z"]),
    ("America/Sao_Paulo", &["2018-11-04T03:00:00Z", "2019-02-17T02:00:00Z"]),
    ("Pacific/Kwajalein", &["1993-08-21T12:00:00Z"]),
];

/// What is mutated: rare dates, the bounds of every field, and what other crons know.
const WRITTEN: [&str; 14] = [
    "* * * * *",
    "*/5 * * * *",
    "0 0 29 2 *",
    "0 0 29 2 1",
    "0 0 31 2 *",
    "59 23 31 12 7",
    "0-59/7 0-23/5 1-31/3 1-12/2 0-7",
    "0 3 * * MON-FRI",
    "30 2 1,15 jan,JUL sun",
    "@hourly",
    "@every 90s",
    "@every 8784h",
    "0 0 L * *",
    "0 9 * * 1#2",
];
const SIGNS: [char; 26] = [
    '0', '1', '2', '5', '6', '7', '9', '*', '/', ',', '-', ' ', '\t', '@', '#', 'L', 'W', '?', 's', 'm', 'h',
    'J', 'a', 'n', '\u{663}', '\0',
];
/// For reading one, and five of its instants.
const TIME_MAX: Duration = Duration::from_secs(2);

/// One field as it was written, with the values it names.
#[derive(Clone, Debug)]
struct Written {
    text: String,
    values: BTreeSet<i64>,
}

fn item(min: i64, max: i64) -> impl Strategy<Value = Written> {
    let range = (min..=max, min..=max).prop_map(|(a, b)| (a.min(b), a.max(b)));
    prop_oneof![
        4 => (min..=max).prop_map(|value| (value.to_string(), vec![value])),
        2 => Just(("*".to_owned(), (min..=max).collect())),
        2 => (1..=40_i64).prop_map(move |step| {
            (format!("*/{step}"), (min..=max).filter(|value| (value - min) % step == 0).collect())
        }),
        1 => (min..=max, 1..=40_i64).prop_map(move |(first, step)| {
            (format!("{first}/{step}"), (first..=max).filter(|value| (value - first) % step == 0).collect())
        }),
        2 => range.clone().prop_map(|(first, last)| (format!("{first}-{last}"), (first..=last).collect())),
        1 => (range, 1..=40_i64).prop_map(|((first, last), step)| {
            let values = (first..=last).filter(|value| (value - first) % step == 0).collect();
            (format!("{first}-{last}/{step}"), values)
        }),
    ]
    .prop_map(|(text, values): (String, Vec<i64>)| Written { text, values: values.into_iter().collect() })
}

fn field(min: i64, max: i64) -> impl Strategy<Value = Written> {
    prop::collection::vec(item(min, max), 1..=3).prop_map(|items| Written {
        text: items.iter().map(|item| item.text.clone()).collect::<Vec<_>>().join(","),
        values: items.into_iter().flat_map(|item| item.values).collect(),
    })
}

fn star() -> impl Strategy<Value = Written> {
    Just(Written { text: "*".to_owned(), values: (0..60).collect() })
}

/// Minute, hour, day of month, month, day of week. Hours of the night are frequent, because that
/// is when clocks change; months are mostly free, so that something is due in a short window.
fn fields() -> impl Strategy<Value = [Written; 5]> {
    let night = prop::collection::btree_set(0..=4_i64, 1..=2).prop_map(|values| Written {
        text: values.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        values,
    });
    let hour = prop_oneof![2 => night, 2 => field(0, 23), 1 => star()];
    let month = prop_oneof![5 => star(), 1 => field(1, 12)];
    let day = prop_oneof![2 => star(), 1 => field(1, 31)];
    let weekday = prop_oneof![2 => star(), 1 => field(0, 7)];
    (prop_oneof![3 => field(0, 59), 1 => star()], hour, day, month, weekday)
        .prop_map(|(minute, hour, day, month, weekday)| [minute, hour, day, month, weekday])
}

fn moment() -> impl Strategy<Value = (&'static str, i64)> {
    let around = prop::sample::select(ZONES.to_vec()).prop_flat_map(|(zone, changes)| {
        let change = prop::sample::select(changes.to_vec());
        (Just(zone), change, -2 * DAY_SECS..=DAY_SECS).prop_map(|(zone, change, distance)| {
            (
                zone,
                change.parse::<jiff::Timestamp>().expect("the table holds RFC 3339 instants").as_second()
                    + distance,
            )
        })
    });
    let anywhere = (prop::sample::select(ZONES.to_vec()), 10 * 365 * DAY_SECS..200 * 365 * DAY_SECS)
        .prop_map(|((zone, _), secs)| (zone, secs));
    prop_oneof![3 => around, 1 => anywhere]
}

fn text([minute, hour, day, month, weekday]: &[Written; 5]) -> String {
    format!("{} {} {} {} {}", minute.text, hour.text, day.text, month.text, weekday.text)
}

/// Whether a minute, counted on the wall clock from its own 1970, matches the fields.
fn matches([minute, hour, day, month, weekday]: &[Written; 5], wall_minute: i64) -> bool {
    let shown = jiff::civil::date(1970, 1, 1).at(0, 0, 0, 0) + jiff::SignedDuration::from_mins(wall_minute);
    let day_matches = day.values.contains(&i64::from(shown.day()));
    let today = i64::from(shown.weekday().to_sunday_zero_offset());
    let weekday_matches = weekday.values.contains(&today) || today == 0 && weekday.values.contains(&7);
    let date_matches = if day.text.starts_with('*') || weekday.text.starts_with('*') {
        day_matches && weekday_matches
    } else {
        day_matches || weekday_matches
    };
    date_matches
        && minute.values.contains(&i64::from(shown.minute()))
        && hour.values.contains(&i64::from(shown.hour()))
        && month.values.contains(&i64::from(shown.month()))
}

fn wall_minute(zone: &TimeZone, secs: i64) -> i64 {
    let offset = zone.to_offset(jiff::Timestamp::from_second(secs).expect("the instant is in range"));
    (secs + i64::from(offset.seconds())).div_euclid(MINUTE_SECS)
}

/// The due instants in `from..=until` by the rule, minute after minute, in seconds.
fn walk(fields: &[Written; 5], zone: &TimeZone, from: i64, until: i64) -> Vec<i64> {
    let wild = fields[0].text.starts_with('*') || fields[1].text.starts_with('*');
    // What the clock showed in the two days before decides what it skips and what it repeats.
    let start = (from - 2 * DAY_SECS).div_euclid(MINUTE_SECS) * MINUTE_SECS;
    let mut before = wall_minute(zone, start - MINUTE_SECS);
    let mut shown = BTreeSet::new();
    let mut due = Vec::new();
    let mut secs = start;
    while secs <= until {
        let now = wall_minute(zone, secs);
        let skipped_match =
            || (before + 1..now).any(|skipped| !shown.contains(&skipped) && matches(fields, skipped));
        let runs = if wild {
            matches(fields, now)
        } else {
            !shown.contains(&now) && matches(fields, now) || skipped_match()
        };
        if runs && secs >= from {
            due.push(secs);
        }
        shown.insert(now);
        before = now;
        secs += MINUTE_SECS;
    }
    due
}

fn timestamp(secs: i64) -> Timestamp {
    Timestamp::from_secs(u64::try_from(secs).expect("no instant is before 1970"))
}

/// What `missed` must say of the due instants given.
fn missed_of(due: &[Timestamp], count_max: u64) -> Option<Missed> {
    let (first, last) = (*due.first()?, *due.last()?);
    let before_last = due.iter().rev().nth(1).copied();
    let count = u64::try_from(due.len()).expect("a length fits");
    let exact = count <= count_max.max(1);
    let count = if exact { count } else { count.min(count_max.max(3)) };
    Some(Missed { first, last, before_last, count, exact })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, max_global_rejects: 4_000, ..ProptestConfig::default() })]

    #[test]
    fn due_instants_are_those_that_a_walk_finds(
        fields in fields(),
        (name, from) in moment(),
        days in 1..=3_i64,
        count_max in prop_oneof![0..=5_u64, 0..=5_000_u64],
    ) {
        let expression = text(&fields);
        prop_assume!(expression.len() <= 256);
        let Ok(schedule) = Schedule::parse(&expression, name) else {
            // The only thing wrong with what is written here may be its dates.
            let longest = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
            let possible = (1..).zip(longest).any(|(month, days)| {
                fields[3].values.contains(&month) && fields[2].values.range(1..=days).next().is_some()
            });
            prop_assert!(!possible, "{} is refused", expression);
            return Ok(());
        };
        let zone = TimeZoneDatabase::bundled().get(name).unwrap();
        let until = from + days * DAY_SECS;
        let expected: Vec<_> = walk(&fields, &zone, from, until).into_iter().map(timestamp).collect();

        let mut found = Vec::new();
        let mut after = timestamp(from - 1);
        while let Some(next) = schedule.next_after(after).filter(|next| *next <= timestamp(until)) {
            prop_assert!(next > after);
            found.push(next);
            after = next;
        }
        prop_assert_eq!(&found, &expected, "{} in {}", expression, name);

        let missed = schedule.missed(timestamp(from), timestamp(until), count_max);
        prop_assert_eq!(missed, missed_of(&expected, count_max), "{} in {}", expression, name);

        let due: BTreeSet<_> = expected.into_iter().collect();
        let mut minute = from.div_euclid(MINUTE_SECS) * MINUTE_SECS + MINUTE_SECS;
        while minute <= until {
            let instant = timestamp(minute);
            prop_assert_eq!(schedule.is_due(instant), due.contains(&instant), "{} in {}", expression, name);
            minute += MINUTE_SECS;
        }
    }

    #[test]
    fn what_is_due_next_is_later_and_nothing_is_due_before_it(
        fields in fields(),
        (name, from) in moment(),
        within_ms in 0..1_000_u64,
    ) {
        let expression = text(&fields);
        let Ok(schedule) = Schedule::parse(&expression, name) else { return Ok(()) };
        let after = Timestamp::from_millis(timestamp(from).as_millis() + within_ms);
        let next = schedule.next_after(after);
        prop_assert!(next.is_some() || from > 150 * 365 * DAY_SECS, "{} ends in {}", expression, name);
        if let Some(next) = next {
            prop_assert!(next > after);
            prop_assert!(schedule.is_due(next));
            let between = Timestamp::from_millis(after.as_millis().midpoint(next.as_millis()));
            let expected = if between == next { schedule.next_after(next) } else { Some(next) };
            prop_assert_eq!(schedule.next_after(between), expected);
        }
    }

    #[test]
    fn periods_missed_agree_with_stepping(
        period_secs in 1..=100_000_u64,
        from_ms in 0..4_000_000_000_000_u64,
        span_ms in 0..200_000_000_u64,
    ) {
        let schedule = Schedule::parse(&format!("@every {period_secs}s"), "UTC").unwrap();
        let until_ms = from_ms + span_ms % (period_secs * 200_000);
        let step_ms = usize::try_from(period_secs * 1_000).unwrap();
        let aligned_ms = from_ms.div_ceil(period_secs * 1_000) * period_secs * 1_000;
        let due: Vec<_> = (aligned_ms..=until_ms).step_by(step_ms).map(Timestamp::from_millis).collect();
        let (from, until) = (Timestamp::from_millis(from_ms), Timestamp::from_millis(until_ms));
        prop_assert_eq!(schedule.missed(from, until, 0), missed_of(&due, u64::MAX));
    }

    #[test]
    fn mutated_expressions_are_refused_or_due_in_time(
        start in prop::sample::select(WRITTEN.to_vec()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), 0..3_u8, prop::sample::select(SIGNS.to_vec())), 0..5),
        zone in any::<prop::sample::Index>(),
        after_ms in 0..7_000_000_000_000_u64,
    ) {
        let mut expression: Vec<char> = start.chars().collect();
        for (place, change, sign) in changes {
            let at = place.index(expression.len() + 1);
            match change {
                0 => expression.insert(at, sign),
                1 if at < expression.len() => expression[at] = sign,
                _ if at < expression.len() => drop(expression.remove(at)),
                _ => {}
            }
        }
        let expression: String = expression.into_iter().collect();
        let names: Vec<_> = TimeZoneDatabase::bundled().available().map(|name| name.to_string()).collect();
        let zone = &names[zone.index(names.len())];
        let begun = Instant::now();
        if let Ok(schedule) = Schedule::parse(&expression, zone) {
            let mut after = Timestamp::from_millis(after_ms);
            for _ in 0..5 {
                let Some(next) = schedule.next_after(after) else { break };
                prop_assert!(next > after && schedule.is_due(next), "{} in {}", expression, zone);
                after = next;
            }
        }
        prop_assert!(begun.elapsed() < TIME_MAX, "{} in {}: {:?}", expression, zone, begun.elapsed());
    }

    #[test]
    fn arbitrary_text_and_times_never_panic(
        noise in prop_oneof![
            any::<String>(),
            "[ -~\\t]{0,300}",
            "(@every |@)?[0-9*/,a-zA-Z -]{0,300}",
            "([0-9*/,-]{1,5} ){4}[0-7*/,-]{1,4}",
            "@every [0-9]{1,25}[smh]",
        ],
        timezone in prop_oneof![9 => Just("Europe/Stockholm".to_owned()), 1 => any::<String>()],
        after_ms in prop_oneof![any::<u64>(), 0..8_000_000_000_000_u64, u64::MAX - 5_000..=u64::MAX],
        until_ms in any::<u64>(),
    ) {
        if let Ok(schedule) = Schedule::parse(&noise, &timezone) {
            let (after, until) = (Timestamp::from_millis(after_ms), Timestamp::from_millis(until_ms));
            if let Some(next) = schedule.next_after(after) {
                prop_assert!(next > after && schedule.is_due(next));
            }
            if let Some(missed) = schedule.missed(after, until, 50) {
                prop_assert!(after <= missed.first && missed.first <= missed.last && missed.last <= until);
                prop_assert!(schedule.is_due(missed.first) && schedule.is_due(missed.last));
                prop_assert_eq!(missed.count > 1, missed.before_last.is_some());
            }
        }
    }
}
