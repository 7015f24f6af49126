//! When what is otherwise forbidden is excused: stretches of time that follow from the faults.

use crate::{
    history::{Fault, FaultKind, History, Mode},
    time::{SECOND_US, micros},
};
use std::{collections::BTreeSet, time::Duration};

/// A stretch of time, both ends included, in microseconds since the Unix epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its start.
    pub from_us: i64,
    /// Its end.
    pub until_us: i64,
}

impl Window {
    /// From `before` an instant to `after` it.
    pub fn around(at_us: i64, before: Duration, after: Duration) -> Self {
        Self { from_us: at_us.saturating_sub(micros(before)), until_us: at_us.saturating_add(micros(after)) }
    }

    /// Whether the instant lies in it.
    pub fn contains(&self, at_us: i64) -> bool {
        (self.from_us..=self.until_us).contains(&at_us)
    }
}

/// For each node that was killed, stopped by a signal or cut off: from one job timeout before, when the oldest request that could
/// still be in flight had left, to five seconds after it died or ran on, when its executions have been given to others.
pub fn disturbed_windows(history: &History) -> Vec<Window> {
    let configurations =
        history.jobs().map(|job| &job.configuration).chain(history.edits().map(|edited| &edited.to));
    let timeout_sec = configurations.map(|configuration| configuration.timeout_sec).max().unwrap_or(0);
    let before = Duration::from_secs(u64::from(timeout_sec));
    let ends = |fault: &Fault| match fault.kind {
        FaultKind::Kill => Some(fault.at_us),
        FaultKind::Pause | FaultKind::Cut => Some(back_us(history, fault)),
        FaultKind::Terminate | FaultKind::Resume | FaultKind::Restart | FaultKind::Heal => None,
    };
    let window = |fault: &Fault| {
        let after = Window::around(ends(fault)?, Duration::ZERO, Duration::from_secs(5));
        Some(Window { from_us: Window::around(fault.at_us, before, before).from_us, ..after })
    };
    history.faults().filter_map(window).collect()
}

/// When a node that went away came back, or something else was done to it; never, if it did not.
pub fn back_us(history: &History, away: &Fault) -> i64 {
    let later = history.faults().filter(|fault| fault.node == away.node && fault.at_us > away.at_us);
    later.map(|fault| fault.at_us).min().unwrap_or(i64::MAX)
}

/// When fewer than a majority of `nodes` ran, and `recovery` longer: until then an election and a look at what is due
/// may take.
pub fn outage_windows(history: &History, nodes: usize, recovery: Duration) -> Vec<Window> {
    let mut faults: Vec<_> = history.faults().collect();
    faults.sort_by_key(|fault| fault.at_us);
    let mut down = BTreeSet::new();
    let mut windows = Vec::new();
    let mut since = None;
    for fault in faults {
        match fault.kind {
            FaultKind::Kill | FaultKind::Terminate | FaultKind::Pause | FaultKind::Cut => {
                down.insert(fault.node)
            }
            FaultKind::Resume | FaultKind::Restart | FaultKind::Heal => down.remove(&fault.node),
        };
        let is_out = (nodes - down.len()) * 2 <= nodes;
        match since {
            None if is_out => since = Some(fault.at_us),
            Some(from_us) if !is_out => {
                let until_us = fault.at_us.saturating_add(micros(recovery));
                windows.push(Window { from_us, until_us });
                since = None;
            }
            None | Some(_) => {}
        }
    }
    windows.extend(since.map(|from_us| Window { from_us, until_us: i64::MAX }));
    windows
}

/// When the target refused connections. Some margin, since ends of executions are shown in whole seconds.
pub(super) fn refusals(history: &History) -> impl Iterator<Item = Window> {
    let refusing = history.misbehaviour().filter(|misbehaved| misbehaved.mode == Mode::Refuse);
    refusing.map(|misbehaved| Window {
        from_us: misbehaved.from_us - SECOND_US,
        until_us: misbehaved.until_us + SECOND_US,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{check::fixture::job, history::Event};

    fn with_faults(faults: &[(u64, FaultKind, i64)]) -> History {
        let mut history = History::default();
        history.record(Event::JobCreated(job("a")));
        for (node, kind, at_s) in faults {
            history.record(Event::Fault(Fault { node: *node, kind: *kind, at_us: at_s * SECOND_US }));
        }
        history
    }

    fn window(from_s: i64, until_s: i64) -> Window {
        Window { from_us: from_s * SECOND_US, until_us: until_s * SECOND_US }
    }

    #[test]
    fn a_kill_disturbs_from_a_timeout_before_to_five_seconds_after() {
        let history = with_faults(&[(1, FaultKind::Kill, 100), (1, FaultKind::Restart, 110)]);
        assert_eq!(disturbed_windows(&history), [window(98, 105)]);
        assert!(window(98, 105).contains(98 * SECOND_US) && window(98, 105).contains(105 * SECOND_US));
        assert!(!window(98, 105).contains(98 * SECOND_US - 1));
        assert!(!window(98, 105).contains(105 * SECOND_US + 1));
    }

    #[test]
    fn a_pause_disturbs_until_after_the_node_runs_on() {
        let history = with_faults(&[
            (1, FaultKind::Pause, 100),
            (2, FaultKind::Terminate, 101),
            (2, FaultKind::Restart, 103),
            (1, FaultKind::Resume, 110),
        ]);
        assert_eq!(disturbed_windows(&history), [window(98, 115)]);
    }

    #[test]
    fn an_outage_is_when_a_majority_is_down() {
        let recovery = Duration::from_secs(10);
        let history = with_faults(&[
            (1, FaultKind::Kill, 100),
            (2, FaultKind::Pause, 101),
            (3, FaultKind::Terminate, 102),
            (3, FaultKind::Restart, 103),
            (2, FaultKind::Resume, 104),
            (1, FaultKind::Restart, 105),
            (2, FaultKind::Kill, 200),
            (2, FaultKind::Restart, 201),
            (2, FaultKind::Kill, 300),
            (3, FaultKind::Kill, 301),
        ]);
        let last = Window { from_us: 301 * SECOND_US, until_us: i64::MAX };
        assert_eq!(outage_windows(&history, 3, recovery), [window(101, 114), last]);
    }
}
