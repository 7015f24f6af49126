//! Every node has the same record of every execution that ended a while before it was asked.

use super::{Observation, Violation};
use crate::{
    history::{Differs, Execution, History},
    time::{SECOND_US, micros},
};

/// See the module.
pub fn check(history: &History, observation: &Observation) -> Vec<Violation> {
    let settled_before_us = |differs: &Differs| differs.asked_us - micros(observation.grace);
    let is_settled = |differs: &&Differs| {
        differs
            .shown
            .iter()
            .flatten()
            .filter_map(ended_us)
            .any(|ended_us| ended_us < settled_before_us(differs))
    };
    let differs = history.differences().filter(is_settled);
    differs
        .map(|Differs { execution, nodes, shown, .. }| Violation::ReplicasDiffer {
            execution: execution.clone(),
            first: format!("node {} shows {}", nodes[0], text(&shown[0])),
            second: format!("node {} shows {}", nodes[1], text(&shown[1])),
        })
        .collect()
}

/// How many executions were compared.
pub fn judged(history: &History, _: &Observation) -> usize {
    history.comparisons().map(|compared| compared.executions).sum()
}

/// The end of the second in which an execution ended, or all that it stands for was due; none of one that has not ended.
fn ended_us(execution: &Execution) -> Option<i64> {
    if matches!(execution.status.as_str(), "pending" | "running") {
        return None;
    }
    let ended_s = execution.finished_s.or(execution.missed_until_s).or(execution.scheduled_s)?;
    Some((ended_s + 1) * SECOND_US)
}

fn text(shown: &Option<Execution>) -> String {
    shown.as_ref().map_or_else(|| "nothing".to_owned(), |execution| format!("{execution:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::fixture::{T0_S, execution, observation},
        history::{Compared, Event},
    };

    /// The nodes were asked at T0+10; the grace is 1.5 s.
    fn differ(shown: [Option<Execution>; 2]) -> usize {
        let asked_us = (T0_S + 10) * SECOND_US;
        let (job, nodes) = ("a".to_owned(), [1, 2]);
        let mut history = History::default();
        history.record(Event::Compared(Compared { job: job.clone(), nodes, executions: 5, asked_us }));
        let execution = "x".to_owned();
        history.record(Event::Differs(Box::new(Differs { job, execution, nodes, shown, asked_us })));
        assert_eq!(judged(&history, &observation(T0_S + 10)), 5);
        check(&history, &observation(T0_S + 10)).len()
    }

    #[test]
    fn what_ended_a_while_ago_is_the_same_everywhere() {
        let ended = |offset: i64, status: &str| Some(execution("a", T0_S + offset, "x", status));
        assert_eq!(differ([ended(5, "success"), None]), 1);
        assert_eq!(differ([None, ended(5, "skipped")]), 1);
        assert_eq!(differ([ended(5, "success"), ended(5, "failed")]), 1);
        assert_eq!(differ([ended(5, "running"), ended(5, "failed")]), 1);
        let several = |until| {
            let record = execution("a", T0_S + 2, "x", "skipped");
            Some(Execution { finished_s: None, missed_until_s: Some(until), ..record })
        };
        assert_eq!((differ([several(T0_S + 3), None]), differ([several(T0_S + 9), None])), (1, 0));
    }

    #[test]
    fn what_runs_or_has_only_just_ended_may_be_seen_by_one_and_not_by_another() {
        let shown = |offset: i64, status: &str| Some(execution("a", T0_S + offset, "x", status));
        assert_eq!(differ([shown(5, "running"), shown(5, "pending")]), 0);
        assert_eq!(differ([shown(8, "success"), None]), 0);
        assert_eq!(differ([shown(8, "success"), shown(8, "running")]), 0);
        assert_eq!(check(&History::default(), &observation(T0_S)), []);
    }
}
