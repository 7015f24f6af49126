//! How a job has been doing lately: enough for a sparkline and an uptime, small whatever its history.
//!
//! A job that fires every second has 2.6 million executions in 30 days. Nobody can read those for a badge, so
//! this is kept up to date with every execution that ends.

use crate::execution::ExecutionStatus;
use crate::limits;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The last results of a job one by one, and its last days in numbers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pulse {
    /// Second of the execution and result, oldest first; at most [`limits::SPARKLINE_MAX`].
    #[serde(default)]
    recent: Vec<(u32, Beat)>,
    /// Days since the Unix epoch and what ended on them, oldest first; at most [`limits::UPTIME_DAYS`].
    #[serde(default)]
    days: Vec<Day>,
}

/// A status in one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "u8", into = "u8")]
struct Beat(ExecutionStatus);

impl From<u8> for Beat {
    fn from(number: u8) -> Self {
        Self(match number {
            0 => ExecutionStatus::Failed,
            1 => ExecutionStatus::Success,
            _ => ExecutionStatus::Skipped,
        })
    }
}

impl From<Beat> for u8 {
    fn from(beat: Beat) -> Self {
        match beat.0 {
            ExecutionStatus::Failed => 0,
            ExecutionStatus::Success => 1,
            ExecutionStatus::Skipped => 2,
        }
    }
}

/// One day: its number, successes, failures. A tuple, because its bytes are written with every outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Day(u32, u32, u32);

/// What ran in the last days; skipped executions did not run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Uptime {
    /// How many succeeded.
    pub succeeded: u64,
    /// How many ran.
    pub ran: u64,
}

impl Pulse {
    /// Notes how the execution of the instant `at` ended.
    pub fn beat(&mut self, at: Timestamp, status: ExecutionStatus, now: Timestamp) {
        let at_secs = secs(at);
        let place = self.recent.partition_point(|(known, _)| *known <= at_secs);
        self.recent.insert(place, (at_secs, Beat(status)));
        let surplus = self.recent.len().saturating_sub(limits::SPARKLINE_MAX);
        self.recent.drain(..surplus.max(self.outlived(now)));

        if status == ExecutionStatus::Skipped {
            return;
        }
        let today = day(now);
        // The state's clock never runs backwards, so the last day is this one or an earlier one.
        if self.days.last().is_none_or(|last| last.0 < today) {
            self.days.push(Day(today, 0, 0));
        }
        if let Some(Day(_, succeeded, failed)) = self.days.last_mut() {
            let count = if status == ExecutionStatus::Success { succeeded } else { failed };
            *count = count.saturating_add(1);
        }
        self.days.retain(|day| is_recent(day, today));
    }

    /// The results of the last 24 hours, oldest first.
    pub fn recent(&self, now: Timestamp) -> impl Iterator<Item = ExecutionStatus> + '_ {
        self.recent[self.outlived(now)..].iter().map(|(_, beat)| beat.0)
    }

    /// What ran today and on the 29 days before; `None` when nothing did.
    #[must_use]
    pub fn uptime(&self, now: Timestamp) -> Option<Uptime> {
        let today = day(now);
        let recent = self.days.iter().filter(|day| is_recent(day, today));
        let (succeeded, failed) = recent.fold((0, 0), |(succeeded, failed), day| {
            (succeeded + u64::from(day.1), failed + u64::from(day.2))
        });
        (succeeded + failed > 0).then_some(Uptime { succeeded, ran: succeeded + failed })
    }

    /// How many of the results are too old to be shown.
    fn outlived(&self, now: Timestamp) -> usize {
        let oldest = secs(now.minus(limits::SPARKLINE_SPAN));
        self.recent.partition_point(|(known, _)| *known < oldest)
    }
}

fn secs(at: Timestamp) -> u32 {
    u32::try_from(at.as_secs()).unwrap_or(u32::MAX)
}

fn day(at: Timestamp) -> u32 {
    u32::try_from(at.as_days()).unwrap_or(u32::MAX)
}

fn is_recent(Day(day, ..): &Day, today: u32) -> bool {
    day.saturating_add(limits::UPTIME_DAYS) > today
}

#[cfg(test)]
mod tests {
    use super::*;
    use ExecutionStatus::{Failed, Skipped, Success};

    const HOUR: u64 = 3_600;
    const DAY: u64 = 24 * HOUR;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(1_780_272_000 + secs)
    }

    fn recent(pulse: &Pulse, secs: u64) -> Vec<ExecutionStatus> {
        pulse.recent(at(secs)).collect()
    }

    #[test]
    fn results_stand_in_the_order_of_their_instants_whenever_they_came() {
        let mut pulse = Pulse::default();
        pulse.beat(at(60), Success, at(61));
        pulse.beat(at(120), Skipped, at(121));
        pulse.beat(at(0), Failed, at(130));
        assert_eq!(recent(&pulse, 131), [Failed, Success, Skipped]);
    }

    #[test]
    fn only_the_last_day_and_the_newest_sixty_are_shown() {
        let mut pulse = Pulse::default();
        for n in 0..100 {
            pulse.beat(at(n), if n < 90 { Success } else { Failed }, at(n));
        }
        let shown = recent(&pulse, 100);
        assert_eq!((shown.len(), shown[49], shown[50]), (60, Success, Failed));
        assert_eq!(recent(&pulse, DAY + 97).len(), 3, "the older ones are older than 24 hours");
        assert_eq!(recent(&pulse, 2 * DAY), []);
        pulse.beat(at(3 * DAY), Success, at(3 * DAY));
        assert_eq!(pulse.recent.len(), 1, "what is not shown any more is not kept");
    }

    #[test]
    fn the_uptime_is_that_of_thirty_days_without_what_did_not_run() {
        let mut pulse = Pulse::default();
        assert_eq!(pulse.uptime(at(0)), None);
        pulse.beat(at(0), Skipped, at(0));
        assert_eq!(pulse.uptime(at(0)), None);
        for n in 0..40 {
            pulse.beat(at(n * DAY), if n == 5 || n == 39 { Failed } else { Success }, at(n * DAY));
        }
        assert_eq!(pulse.uptime(at(39 * DAY)), Some(Uptime { succeeded: 29, ran: 30 }));
        assert_eq!(pulse.days.len(), 30);
        assert_eq!(pulse.uptime(at(60 * DAY)), Some(Uptime { succeeded: 8, ran: 9 }));
        assert_eq!(pulse.uptime(at(200 * DAY)), None);
    }
}
