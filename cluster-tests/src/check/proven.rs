//! A second opinion: `justrun verify`, which computes by the service's own means what was due, finds the histories in a backup
//! of one node complete.

use super::{Observation, Violation};
use crate::history::History;

/// See the module.
pub fn check(history: &History, _: &Observation) -> Vec<Violation> {
    let open = history.proofs().filter(|proven| proven.verdict != "complete");
    open.map(|proven| Violation::NotProven {
        node: proven.node,
        verdict: proven.verdict.clone(),
        said: proven.said.clone(),
    })
    .collect()
}

/// How many due instants were accounted for; one at least if it was tried.
pub fn judged(history: &History, _: &Observation) -> usize {
    history.proofs().map(|proven| proven.instants.max(1)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::fixture::{T0_S, observation},
        history::{Event, Proven},
    };

    #[test]
    fn only_a_complete_history_is_proven() {
        for (verdict, is_refused) in
            [("complete", false), ("gaps", true), ("unknown", true), ("failed", true)]
        {
            let (verdict, said) = (verdict.to_owned(), "this".to_owned());
            let proven = Proven { node: 2, verdict: verdict.clone(), instants: 7, said: said.clone() };
            let history = History { events: vec![Event::Proven(proven)] };
            let refused = Violation::NotProven { node: 2, verdict, said };
            let expected: Vec<_> = is_refused.then_some(refused).into_iter().collect();
            assert_eq!(check(&history, &observation(T0_S)), expected);
            assert_eq!(judged(&history, &observation(T0_S)), 7);
        }
        assert_eq!(judged(&History::default(), &observation(T0_S)), 0);
    }
}
