//! When what is otherwise forbidden is excused: stretches of time that follow from the faults.

use crate::{
    history::{Fault, FaultKind, History, Mode, Skewed},
    time::{SECOND_US, micros},
};
use std::{collections::BTreeSet, time::Duration};

/// Before and after a clock was off: what nodes claim ahead, and a second.
const SKEW_HOLDS_US: i64 = 3 * SECOND_US;
/// After a node has died or runs on: until what it held has been given to others.
const GIVEN_AWAY_AFTER: Duration = Duration::from_secs(5);

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

    /// Whether what began at an instant and may have taken so long was under way in it.
    pub fn meets(&self, began_us: i64, lasting_us: i64) -> bool {
        began_us <= self.until_us && began_us.saturating_add(lasting_us) >= self.from_us
    }
}

/// How many of the microseconds from one instant to another lie in any of the windows.
pub fn covered_us(windows: &[Window], from_us: i64, until_us: i64) -> i64 {
    let mut windows = windows.to_vec();
    windows.sort_by_key(|window| window.from_us);
    let (mut covered_us, mut counted_us) = (0, from_us);
    for window in windows {
        let (first_us, last_us) = (window.from_us.max(counted_us), window.until_us.min(until_us));
        covered_us += (last_us - first_us).max(0);
        counted_us = counted_us.max(last_us);
    }
    covered_us
}

/// For each node that was killed, stopped by a signal or cut off: from then to five seconds after it died or ran on, when its
/// executions have been given to others. What was under way when it began is disturbed as well, see [`Window::meets`].
pub fn disturbed_windows(history: &History) -> Vec<Window> {
    let ends = |fault: &Fault| match fault.kind {
        FaultKind::Kill => Some(fault.at_us),
        FaultKind::Pause | FaultKind::Cut => Some(back_us(history, fault)),
        FaultKind::Terminate | FaultKind::Resume | FaultKind::Restart | FaultKind::Heal => None,
    };
    let window = |fault: &Fault| {
        let after = Window::around(ends(fault)?, Duration::ZERO, GIVEN_AWAY_AFTER);
        Some(Window { from_us: fault.at_us, ..after })
    };
    history.faults().filter_map(window).collect()
}

/// When the cluster may give up a process for lost, and with it what the process held: from when it was killed, told to stop,
/// stopped by a signal or cut off until five seconds after it is there again, by when it is known that it is another process or was
/// not heard.
pub fn loss_windows(history: &History) -> Vec<Window> {
    let window = |fault: &Fault| {
        let again = match fault.kind {
            FaultKind::Kill | FaultKind::Terminate => FaultKind::Restart,
            FaultKind::Pause => FaultKind::Resume,
            FaultKind::Cut => FaultKind::Heal,
            FaultKind::Resume | FaultKind::Restart | FaultKind::Heal => return None,
        };
        let is_again =
            |later: &&Fault| later.node == fault.node && later.kind == again && later.at_us > fault.at_us;
        let again_us = history.faults().filter(is_again).map(|later| later.at_us).min().unwrap_or(i64::MAX);
        let after = Window::around(again_us, Duration::ZERO, GIVEN_AWAY_AFTER);
        Some(Window { from_us: fault.at_us, ..after })
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

/// When nodes were stopped by a signal, from then until they ran on.
pub(super) fn freezes(history: &History) -> impl Iterator<Item = Window> {
    let runs_on_us = |pause: &Fault| {
        let is_resume = |fault: &&Fault| fault.node == pause.node && fault.kind == FaultKind::Resume;
        let resumes = history.faults().filter(is_resume).map(|resume| resume.at_us);
        resumes.filter(|at_us| *at_us > pause.at_us).min()
    };
    let pauses = history.faults().filter(|fault| fault.kind == FaultKind::Pause);
    pauses.filter_map(move |pause| Some(Window { from_us: pause.at_us, until_us: runs_on_us(pause)? }))
}

/// When the clock of a node was off, and by how much.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Skew {
    /// From when to when.
    pub window: Window,
    /// By how many microseconds, ahead or behind.
    pub off_us: i64,
}

/// All of a history.
pub fn skews(history: &History) -> Vec<Skew> {
    let skew = |skewed: &Skewed| Skew {
        window: Window { from_us: skewed.from_us, until_us: skewed.until_us },
        off_us: skewed.offset_ms.abs() * 1_000,
    };
    history.skews().map(skew).collect()
}

/// By how much the time that was written down for an instant, or decided on something that was due then, may be off. What a clock
/// that is ahead has said holds for a while: nodes claim ahead, and the time of the state does not go back.
pub(super) fn skew_us(skews: &[Skew], at_us: i64) -> i64 {
    let near = skews.iter().filter(|skew| {
        let Window { from_us, until_us } = skew.window;
        (from_us - SKEW_HOLDS_US..=until_us.saturating_add(SKEW_HOLDS_US)).contains(&at_us)
    });
    near.map(|skew| skew.off_us).max().unwrap_or_default()
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
    use crate::history::Event;

    fn with_faults(faults: &[(u64, FaultKind, i64)]) -> History {
        let mut history = History::default();
        for (node, kind, at_s) in faults {
            history.record(Event::Fault(Fault { node: *node, kind: *kind, at_us: at_s * SECOND_US }));
        }
        history
    }

    fn window(from_s: i64, until_s: i64) -> Window {
        Window { from_us: from_s * SECOND_US, until_us: until_s * SECOND_US }
    }

    #[test]
    fn a_kill_disturbs_until_five_seconds_after() {
        let history = with_faults(&[(1, FaultKind::Kill, 100), (1, FaultKind::Restart, 110)]);
        assert_eq!(disturbed_windows(&history), [window(100, 105)]);
        assert!(window(98, 105).contains(98 * SECOND_US) && window(98, 105).contains(105 * SECOND_US));
        assert!(!window(98, 105).contains(98 * SECOND_US - 1));
        assert!(!window(98, 105).contains(105 * SECOND_US + 1));
    }

    #[test]
    fn what_was_under_way_when_a_window_began_meets_it() {
        let meets =
            |began_s: i64, lasting_s: i64| window(100, 105).meets(began_s * SECOND_US, lasting_s * SECOND_US);
        assert!(meets(98, 2) && meets(105, 0) && meets(100, 0));
        assert!(!meets(97, 2) && !meets(106, 2));
    }

    #[test]
    fn what_windows_have_in_common_is_counted_once() {
        let windows = [
            window(30, 40),
            window(10, 20),
            window(12, 15),
            window(18, 25),
            window(90, i64::MAX / SECOND_US),
        ];
        let covered_s = |from_s: i64, until_s: i64| {
            covered_us(&windows, from_s * SECOND_US, until_s * SECOND_US) / SECOND_US
        };
        assert_eq!((covered_s(0, 100), covered_s(14, 35), covered_s(41, 80)), (35, 16, 0));
        assert_eq!(covered_us(&[], 0, 100), 0);
    }

    #[test]
    fn a_process_may_be_given_up_until_it_is_there_again() {
        let history = with_faults(&[
            (1, FaultKind::Kill, 100),
            (1, FaultKind::Restart, 110),
            (2, FaultKind::Terminate, 120),
            (2, FaultKind::Restart, 121),
            // A full disk, over which the node ends and is started again.
            (3, FaultKind::Cut, 200),
            (3, FaultKind::Kill, 202),
            (3, FaultKind::Restart, 203),
            (3, FaultKind::Heal, 210),
            (1, FaultKind::Pause, 300),
        ]);
        let paused = Window { from_us: 300 * SECOND_US, until_us: i64::MAX };
        let expected = [window(100, 115), window(120, 126), window(200, 215), window(202, 208), paused];
        assert_eq!(loss_windows(&history), expected);
    }

    #[test]
    fn a_pause_disturbs_until_after_the_node_runs_on() {
        let history = with_faults(&[
            (1, FaultKind::Pause, 100),
            (2, FaultKind::Terminate, 101),
            (2, FaultKind::Restart, 103),
            (1, FaultKind::Resume, 110),
        ]);
        assert_eq!(disturbed_windows(&history), [window(100, 115)]);
    }

    #[test]
    fn what_a_clock_that_was_off_has_said_holds_for_a_while() {
        let (from_us, until_us) = (100 * SECOND_US, 110 * SECOND_US);
        let skewed = |offset_ms| Event::Skewed(Skewed { node: 1, offset_ms, from_us, until_us });
        let skews = skews(&History { events: vec![skewed(-300), skewed(200)] });
        let at = |at_s: i64| skew_us(&skews, at_s * SECOND_US);
        assert_eq!([96, 97, 105, 113, 114].map(at), [0, 300_000, 300_000, 300_000, 0]);
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
