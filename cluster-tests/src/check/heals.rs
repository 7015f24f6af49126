//! After every fault the cluster is one again, soon: every node is alive, and every shard of the timer wheel has an owner that lives.

use super::{Observation, Violation};
use crate::{history::History, time::micros};
use std::time::Duration;

/// From the end of a fault: an election, and nodes that read their state, on a machine that all of them share.
pub const WHOLE_WITHIN: Duration = Duration::from_secs(20);

/// See the module.
pub fn check(history: &History, _: &Observation) -> Vec<Violation> {
    let allowed_us = micros(WHOLE_WITHIN);
    let late = history.healed().filter(|healed| healed.ready_us.max(healed.whole_us) > allowed_us);
    late.map(|healed| Violation::HealedLate {
        fault: healed.fault.clone(),
        at_us: healed.at_us,
        took_us: healed.ready_us.max(healed.whole_us),
        allowed_us,
    })
    .collect()
}

/// How many faults are over.
pub fn judged(history: &History, _: &Observation) -> usize {
    history.healed().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::fixture::{T0_S, observation},
        history::{Event, Healed},
    };

    fn healed(ready_us: i64, whole_us: i64) -> Vec<Violation> {
        let (fault, leader, lasting_us, at_us) = ("roll".to_owned(), 1, 5, T0_S);
        let healed = Healed { fault, leader, lasting_us, at_us, ready_us, whole_us };
        let history = History { events: vec![Event::Healed(healed)] };
        assert_eq!(judged(&history, &observation(T0_S)), 1);
        check(&history, &observation(T0_S))
    }

    #[test]
    fn what_is_whole_too_late_is_refused() {
        assert_eq!(healed(1, 20_000_000), []);
        let late = |took_us| {
            let fault = "roll".to_owned();
            [Violation::HealedLate { fault, at_us: T0_S, took_us, allowed_us: 20_000_000 }]
        };
        assert_eq!(healed(1, 20_000_001), late(20_000_001));
        assert_eq!(healed(20_000_001, 1), late(20_000_001));
    }
}
