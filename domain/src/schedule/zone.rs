//! What the wall clocks of a zone show, as a table made once from the bundled IANA database.
//!
//! Only the bundled database is asked, never that of the system, so that every node of a release
//! has the same rules. The tables stay for the life of the process: 15 kB at most for each zone
//! in use, of which there are some 600 at most.

use super::civil::{DAY_SECS, Date};
use jiff::tz::{TimeZone, TimeZoneDatabase};
use std::collections::BTreeMap;
use std::sync::OnceLock;

/// The last year in which anything is due.
pub(super) const YEAR_LAST: i64 = 2_199;

/// Where the tables end.
const END_SECS: i64 = Date { year: YEAR_LAST + 1, month: 1, day: 1 }.to_days() * DAY_SECS;

/// Where the tables start: before the epoch, so that a clock change shortly before it counts.
const START_SECS: i64 = -31 * DAY_SECS;

/// The name by which the database says that no zone has been chosen.
const NO_ZONE: &str = "Factory";

/// The clock of one zone, cut where its distance from UTC changes.
#[derive(Debug)]
pub(super) struct Zone {
    /// In order and without holes, from [`START_SECS`] to [`END_SECS`].
    stretches: Vec<Stretch>,
}

/// A time without clock changes. All but the offset in civil seconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stretch {
    /// What the clock shows first.
    pub(super) begin: i64,
    /// What it would show at the moment it changes.
    pub(super) end: i64,
    /// What is to be added to UTC.
    pub(super) offset_secs: i64,
    /// How far the clock has ever got before `begin`: less than `begin` after a gap, more when it
    /// shows again what it has shown before.
    pub(super) reached: i64,
}

impl Stretch {
    /// Whether the clock skipped something just before.
    pub(super) fn begins_after_gap(&self) -> bool {
        self.reached < self.begin
    }

    /// The part of this stretch from a moment in it on, in seconds since the Unix epoch.
    fn from(self, low_secs: i64) -> Self {
        let begin = low_secs + self.offset_secs;
        if begin <= self.begin {
            return self;
        }
        // A gap is over once the first full minute after it is, and by then it has been passed.
        let first_minute = super::civil::ceil_to_minute(self.begin);
        let reached = if begin <= first_minute { self.reached } else { self.reached.max(begin) };
        Self { begin, reached, ..self }
    }
}

/// The names of the database, each with its table once somebody has asked for it.
fn zones() -> &'static BTreeMap<String, OnceLock<Zone>> {
    static ZONES: OnceLock<BTreeMap<String, OnceLock<Zone>>> = OnceLock::new();
    ZONES.get_or_init(|| {
        let names = TimeZoneDatabase::bundled();
        names
            .available()
            .map(|name| (name.as_str().to_owned(), OnceLock::new()))
            .filter(|(name, _)| name != NO_ZONE)
            .collect()
    })
}

/// Whether the bundled database has a zone of exactly this name.
pub(super) fn exists(name: &str) -> bool {
    zones().contains_key(name)
}

/// The zone of exactly this name.
pub(super) fn find(name: &str) -> Option<&'static Zone> {
    let zone = zones().get(name)?;
    Some(zone.get_or_init(|| {
        let rules = TimeZoneDatabase::bundled().get(name).expect("the database lists this name itself");
        Zone::new(&rules)
    }))
}

impl Zone {
    fn new(rules: &TimeZone) -> Self {
        let start = jiff::Timestamp::from_second(START_SECS).expect("1969 is in range");
        let mut changes = vec![(START_SECS, i64::from(rules.to_offset(start).seconds()))];
        for change in rules.following(start) {
            let (at, offset) = (change.timestamp().as_second(), i64::from(change.offset().seconds()));
            if at >= END_SECS {
                break;
            }
            // The database also lists changes of the name alone.
            if changes.last().is_some_and(|(_, before)| *before != offset) {
                changes.push((at, offset));
            }
        }

        let ends = changes.iter().skip(1).map(|(at, _)| *at).chain([END_SECS]);
        let mut reached = None;
        let stretches = changes
            .iter()
            .zip(ends)
            .map(|((at, offset_secs), end)| {
                let (begin, end) = (at + offset_secs, end + offset_secs);
                let reached_before = reached.unwrap_or(begin);
                reached = Some(reached_before.max(end));
                Stretch { begin, end, offset_secs: *offset_secs, reached: reached_before }
            })
            .collect();
        Self { stretches }
    }

    /// The clock from a moment on, which is in seconds since the Unix epoch and not before it.
    pub(super) fn stretches_from(&self, low_secs: i64) -> impl Iterator<Item = Stretch> {
        let past = self.stretches.partition_point(|stretch| stretch.end - stretch.offset_secs <= low_secs);
        let rest = self.stretches.get(past..).unwrap_or_default();
        rest.iter().map(move |stretch| stretch.from(low_secs))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_clock_changes_twice_within_an_hour() {
        // What is moved out of a gap runs at the first minute after it, which must be one that the
        // clock shows before it changes again.
        for name in zones().keys() {
            let zone = find(name).unwrap();
            for stretch in &zone.stretches {
                assert!(stretch.end - stretch.begin >= 3_600, "{name}: {stretch:?}");
            }
        }
    }

    #[test]
    fn tables_have_no_holes_and_agree_with_the_rules_they_came_from() {
        for name in ["UTC", "Europe/Stockholm", "Africa/Casablanca", "Pacific/Apia", "Africa/Monrovia"] {
            let rules = TimeZoneDatabase::bundled().get(name).unwrap();
            let mut at = START_SECS;
            for stretch in &find(name).unwrap().stretches {
                let (begin, end) = (stretch.begin - stretch.offset_secs, stretch.end - stretch.offset_secs);
                assert_eq!(begin, at, "{name}");
                for moment in [begin, end - 1] {
                    let moment = jiff::Timestamp::from_second(moment).unwrap();
                    assert_eq!(i64::from(rules.to_offset(moment).seconds()), stretch.offset_secs, "{name}");
                }
                at = end;
            }
            assert_eq!(at, END_SECS, "{name}");
        }
    }
}
