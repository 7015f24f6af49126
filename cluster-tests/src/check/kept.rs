//! What was acknowledged of jobs is what every node shows at the end: which there are, how they are configured, and whether
//! they are paused. A change that nobody was told the fate of may show or not. A node that was asked and shows nothing shows none of them.

use super::{Observation, Violation, timeline::Timelines};
use crate::history::{History, Shown, Stop};
use std::collections::{BTreeMap, HashMap, HashSet};

/// See the module.
pub fn check(history: &History, observation: &Observation) -> Vec<Violation> {
    let mut nodes: BTreeMap<u64, HashMap<&str, &Shown>> = BTreeMap::new();
    for asked in history.shown_by() {
        nodes.entry(asked.node).or_default();
    }
    for shown in history.shown() {
        nodes.entry(shown.node).or_default().insert(&shown.job, shown);
    }
    // Those that cannot be computed are told of by others.
    let timelines = Timelines::of(history, observation, &mut Vec::new());
    let mut violations = Vec::new();
    for (node, jobs) in &nodes {
        let kept = |job: &str, expected: String, found: String| Violation::NotKept {
            node: *node,
            job: job.to_owned(),
            expected,
            found,
        };
        for timeline in timelines.iter() {
            let job = timeline.job.job.as_str();
            let last = timeline.last_stop();
            let is_deleted = last.is_some_and(|stopped| stopped.how == Stop::Deleted);
            let status = match last {
                Some(stopped) if stopped.resume_asked_us.is_none() => "paused",
                Some(_) | None => "active",
            };
            let configurations: Vec<_> = timeline.last().collect();
            match jobs.get(job) {
                None if is_deleted => {}
                None => violations.push(kept(job, "a job".to_owned(), "nothing".to_owned())),
                Some(_) if is_deleted => violations.push(kept(job, "nothing".to_owned(), "a job".to_owned())),
                Some(shown) if shown.status != status => {
                    violations.push(kept(job, status.to_owned(), shown.status.clone()));
                }
                Some(shown) if !configurations.contains(&&shown.configuration) => {
                    violations.push(kept(
                        job,
                        format!("{configurations:?}"),
                        format!("{:?}", shown.configuration),
                    ));
                }
                Some(_) => {}
            }
        }
        twins(*node, jobs, &timelines, &mut violations);
    }
    violations
}

/// How many jobs nodes show, by which they are judged.
pub fn judged(history: &History, _: &Observation) -> usize {
    history.shown().count()
}

/// A job that was made by a request that was repeated is there once: nobody else bears its name.
fn twins(
    node: u64,
    jobs: &HashMap<&str, &Shown>,
    timelines: &Timelines<'_>,
    violations: &mut Vec<Violation>,
) {
    let names: HashSet<&str> = jobs
        .values()
        .filter(|shown| timelines.get(&shown.job).is_some())
        .map(|shown| shown.name.as_str())
        .collect();
    let mut twins: Vec<_> = jobs
        .values()
        .filter(|shown| timelines.get(&shown.job).is_none() && names.contains(shown.name.as_str()))
        .collect();
    twins.sort_by_key(|shown| &shown.job);
    violations.extend(twins.into_iter().map(|shown| Violation::NotKept {
        node,
        job: shown.job.clone(),
        expected: "nothing".to_owned(),
        found: format!("another job of the name {:?}", shown.name),
    }));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::fixture::{T0_S, configuration, edited, job, observation, stopped},
        history::{Configuration, Event, ShownBy, Stopped},
    };

    fn shown(node: u64, configuration: Configuration, status: &str) -> Event {
        let status = status.to_owned();
        Event::Shown(Shown { node, job: "a".to_owned(), name: "n".to_owned(), configuration, status })
    }

    /// Some other job, so that a node that shows no `a` has been asked.
    fn other(node: u64, name: &str) -> Event {
        let (name, status) = (name.to_owned(), "active".to_owned());
        Event::Shown(Shown { node, job: "b".to_owned(), name, configuration: configuration(), status })
    }

    /// What was expected and what was found, of job `a`.
    fn found(events: impl IntoIterator<Item = Event>) -> Vec<(u64, String, String)> {
        let mut history = History::default();
        history.record(Event::JobCreated(job("a")));
        events.into_iter().for_each(|event| history.record(event));
        let violations = check(&history, &observation(T0_S + 100));
        let mut found = Vec::new();
        for violation in violations {
            let Violation::NotKept { node, expected, found: shown, .. } = violation else {
                panic!("{violation}")
            };
            found.push((node, expected, shown));
        }
        found
    }

    fn not_kept(node: u64, expected: &str, found: &str) -> Vec<(u64, String, String)> {
        vec![(node, expected.to_owned(), found.to_owned())]
    }

    #[test]
    fn a_create_is_kept_on_every_node() {
        let both = || [shown(1, configuration(), "active"), shown(2, configuration(), "active")];
        assert_eq!(found(both()), []);
        let [first, _] = both();
        assert_eq!(found([first.clone(), other(2, "o")]), not_kept(2, "a job", "nothing"));
        // A node that shows nothing at all has been asked, too.
        let asked = |node| Event::ShownBy(ShownBy { node, asked_us: T0_S });
        assert_eq!(found([asked(1), first.clone()]), []);
        assert_eq!(found([asked(1), first, asked(2)]), not_kept(2, "a job", "nothing"));
    }

    #[test]
    fn a_delete_is_kept() {
        let deleted = || Event::Stopped(stopped("a", T0_S, None));
        assert_eq!(found([deleted(), other(1, "o")]), []);
        assert_eq!(found([deleted(), shown(1, configuration(), "active")]), not_kept(1, "nothing", "a job"));
    }

    #[test]
    fn a_pause_and_a_resume_are_kept() {
        let paused = || Event::Stopped(Stopped { how: Stop::Paused, ..stopped("a", T0_S + 20, None) });
        let resumed = || Event::Stopped(stopped("a", T0_S, Some(T0_S + 2)));
        let status = |status| shown(1, configuration(), status);
        assert_eq!(found([resumed(), status("active")]), []);
        assert_eq!(found([resumed(), paused(), status("paused")]), []);
        assert_eq!(found([resumed(), status("paused")]), not_kept(1, "active", "paused"));
        assert_eq!(found([resumed(), paused(), status("active")]), not_kept(1, "paused", "active"));
    }

    #[test]
    fn a_change_is_kept_and_one_of_unknown_fate_may_be() {
        let to = |timeout_sec| Configuration { timeout_sec, ..configuration() };
        let edit = |timeout_sec, after_us| Event::Edited(edited("a", T0_S, to(timeout_sec), after_us));
        let shows = |timeout_sec| shown(1, to(timeout_sec), "active");
        assert_eq!(found([edit(7, Some(1)), shows(7)]), []);
        for (events, allowed) in [
            (vec![edit(7, Some(1))], vec![to(7)]),
            (vec![edit(7, Some(1)), edit(9, Some(1)), edit(7, Some(1))], vec![to(7)]),
            (vec![edit(7, None)], vec![configuration(), to(7)]),
        ] {
            let found = found(events.into_iter().chain([shows(8)]));
            assert_eq!(
                found,
                not_kept(1, &format!("{:?}", allowed.iter().collect::<Vec<_>>()), &format!("{:?}", to(8)))
            );
        }
        for timeout_sec in [configuration().timeout_sec, 7] {
            assert_eq!(found([edit(7, None), shows(timeout_sec)]), []);
        }
        assert!(!found([edit(7, Some(1)), shows(configuration().timeout_sec)]).is_empty());
    }

    #[test]
    fn a_job_that_is_there_twice_is_found() {
        let events = || [shown(1, configuration(), "active"), other(1, "n")];
        assert_eq!(found(events()), not_kept(1, "nothing", "another job of the name \"n\""));
    }
}
