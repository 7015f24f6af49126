//! Every call goes where its job said at that time: to the address of before a change until it was asked for, and to that of
//! after it from a few seconds behind its acknowledgement on.

use super::{Observation, Violation, timeline::Timelines};
use crate::history::History;

/// See the module.
pub fn check(history: &History, observation: &Observation) -> Vec<Violation> {
    // Those that cannot be computed are told of by others.
    let timelines = Timelines::of(history, observation, &mut Vec::new());
    let misled = history.calls().filter(|call| {
        let timeline = call.job.as_deref().and_then(|job| timelines.get(job));
        timeline.is_some_and(|timeline| !timeline.may_call(&call.path, call.arrived_us))
    });
    misled
        .map(|call| Violation::Misled {
            job: call.job.clone().unwrap_or_default(),
            path: call.path.clone(),
            arrived_us: call.arrived_us,
        })
        .collect()
}

/// How many changes were acknowledged.
pub fn judged(history: &History, _: &Observation) -> usize {
    history.edits().filter(|edited| edited.acknowledged_us.is_some()).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::fixture::{T0_S, call, configuration, edited, job, observation},
        history::{Configuration, Event},
        time::SECOND_US,
    };

    /// What is said of a call of `path` at T0 plus `offset`, when the job was moved at T0+10.
    fn called(path: &str, offset: i64, acknowledged_after_us: Option<i64>) -> Vec<Violation> {
        let mut history = History::default();
        history.record(Event::JobCreated(job("a")));
        let to = Configuration { path: "/ok/2".to_owned(), ..configuration() };
        history.record(Event::Edited(edited("a", T0_S + 10, to, acknowledged_after_us)));
        history.record(Event::Call(call("a", T0_S + offset, "x").late(0).path(path).build()));
        check(&history, &observation(T0_S + 100))
    }

    fn misled(path: &str, offset: i64) -> [Violation; 1] {
        let arrived_us = (T0_S + offset) * SECOND_US;
        [Violation::Misled { job: "a".to_owned(), path: path.to_owned(), arrived_us }]
    }

    #[test]
    fn calls_go_where_the_job_says() {
        for (path, offset) in [("/ok", 9), ("/ok", 15), ("/ok/2", 10), ("/ok/2", 99)] {
            assert_eq!(called(path, offset, Some(50_000)), [], "{path} {offset}");
        }
    }

    #[test]
    fn an_old_address_a_new_one_too_soon_and_any_other_are_refused() {
        for (path, offset) in [("/ok", 16), ("/ok/2", 9), ("/ok/3", 12)] {
            assert_eq!(called(path, offset, Some(50_000)), misled(path, offset), "{path} {offset}");
        }
    }

    #[test]
    fn a_change_of_unknown_fate_allows_both_and_nothing_else() {
        assert_eq!((called("/ok", 99, None), called("/ok/2", 99, None)), (vec![], vec![]));
        assert_eq!(called("/ok/2", 9, None), misled("/ok/2", 9));
        assert_eq!(called("/ok/3", 99, None), misled("/ok/3", 99));
    }
}
