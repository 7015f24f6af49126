//! A POST that names itself takes effect once, and every repetition gets the answer of the first.
//!
//! What made a job bears the key as its name, so the list of all jobs at the end tells how often each took effect.
//! POSTs without an answer are not in the history: their job may or may not be there.

use super::{Observation, Violation};
use crate::history::History;
use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

/// See the module.
pub fn check(history: &History, _: &Observation) -> Vec<Violation> {
    let mut listed: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for job in history.listed() {
        listed.entry(&job.name).or_default().push(job.job.clone());
    }
    let mut violations = Vec::new();
    let mut first_answers = BTreeMap::new();
    for posted in history.posts() {
        match first_answers.entry(&posted.key) {
            Entry::Vacant(place) => {
                place.insert(&posted.answer);
                let jobs = listed.get(posted.key.as_str()).cloned().unwrap_or_default();
                if jobs != [posted.job.as_str()] {
                    let (key, answered) = (posted.key.clone(), posted.job.clone());
                    violations.push(Violation::NotOnce { key, answered, listed: jobs });
                }
            }
            Entry::Occupied(first) if **first.get() != posted.answer => {
                let (first, second) = ((*first.get()).clone(), posted.answer.clone());
                violations.push(Violation::TwoAnswers { key: posted.key.clone(), first, second });
            }
            Entry::Occupied(_) => {}
        }
    }
    violations
}

/// How many answers there are to POSTs that name themselves.
pub fn judged(history: &History, _: &Observation) -> usize {
    history.posts().count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::fixture;
    use crate::history::{Event, Listed, Posted};

    /// A history of these answers (key, job, answer) and these jobs at the end (job, name).
    fn found(posts: &[(&str, &str, &str)], jobs: &[(&str, &str)]) -> Vec<Violation> {
        let mut history = History::default();
        for (key, job, answer) in posts {
            history.record(Event::Posted(Posted {
                key: (*key).to_owned(),
                job: (*job).to_owned(),
                answer: (*answer).to_owned(),
                asked_us: 1,
                answered_us: 2,
            }));
        }
        for (job, name) in jobs {
            history.record(Event::Listed(Listed { job: (*job).to_owned(), name: (*name).to_owned() }));
        }
        check(&history, &fixture::observation(fixture::T0_S))
    }

    fn not_once(answered: &str, listed: &[&str]) -> Vec<Violation> {
        let listed = listed.iter().map(|job| (*job).to_owned()).collect();
        vec![Violation::NotOnce { key: "k".to_owned(), answered: answered.to_owned(), listed }]
    }

    #[test]
    fn repetitions_with_one_answer_and_one_job_are_fine() {
        let posts = [("k", "a", "201 a"), ("l", "b", "201 b"), ("k", "a", "201 a")];
        // `m` was never answered, and yet took effect.
        assert_eq!(found(&posts, &[("a", "k"), ("b", "l"), ("c", "m")]), []);
    }

    #[test]
    fn answers_that_differ_are_found() {
        let violations = found(&[("k", "a", "201 a"), ("k", "a", "201 A")], &[("a", "k")]);
        let (first, second) = ("201 a".to_owned(), "201 A".to_owned());
        assert_eq!(violations, [Violation::TwoAnswers { key: "k".to_owned(), first, second }]);
    }

    #[test]
    fn what_took_effect_twice_or_not_at_all_is_found() {
        let post = [("k", "a", "201 a")];
        assert_eq!(found(&post, &[("a", "k"), ("b", "k")]), not_once("a", &["a", "b"]));
        assert_eq!(found(&post, &[]), not_once("a", &[]));
        assert_eq!(found(&post, &[("b", "k")]), not_once("a", &["b"]));
    }
}
