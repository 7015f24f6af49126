//! Jobs by the hundred, over many connections and all nodes.

use crate::{
    Error,
    api::{Api, NewJob},
    history::{Compared, Differs, Event, Execution, ExecutionId, JobCreated, JobRead},
    registers::Node,
};
use futures::{StreamExt, TryStreamExt, stream};
use std::collections::{BTreeSet, HashMap};

/// Creates every job, `connections` at a time, on the nodes in turn.
///
/// # Errors
/// The first answer that is not a 201: a create with an unknown outcome would fire without the history
/// knowing of it.
pub async fn create(
    nodes: &[Api],
    jobs: impl IntoIterator<Item = NewJob>,
    connections: usize,
) -> Result<Vec<JobCreated>, Error> {
    stream::iter(jobs.into_iter().zip(nodes.iter().cycle()))
        .map(|(job, api)| async move { api.create(&job).await })
        .buffer_unordered(connections)
        .try_collect()
        .await
}

/// Reads every execution of the jobs on every node, `connections` jobs at a time. What one node shows, the nodes in turn, is
/// given; of what the others show, where it is something else.
///
/// # Errors
/// The first page that cannot be read.
pub async fn read_executions(
    nodes: &[Node],
    jobs: impl IntoIterator<Item = &JobCreated>,
    connections: usize,
) -> Result<Vec<Event>, Error> {
    stream::iter(jobs.into_iter().enumerate())
        .map(|(number, created)| async move {
            let (before, from) = nodes.split_at(number % nodes.len().max(1));
            let mut in_turn = from.iter().chain(before);
            let Some((first, api)) = in_turn.next() else { return Ok(Vec::new()) };
            let mut events = api.executions(&created.job).await?;
            let mut compared = Vec::new();
            for (other, api) in in_turn {
                compared.extend(compare([*first, *other], &events, &api.executions(&created.job).await?));
            }
            events.extend(compared);
            Ok(events)
        })
        .buffer_unordered(connections)
        .try_concat()
        .await
}

/// What differs between the executions of one job that two nodes have shown one after the other.
fn compare(nodes: [u64; 2], first: &[Event], second: &[Event]) -> Vec<Event> {
    let Some(Event::JobRead(JobRead { job, asked_us })) = first.first() else { return Vec::new() };
    let by_id = |events: &'_ [Event]| -> HashMap<ExecutionId, Execution> {
        let executions = events.iter().filter_map(|event| match event {
            Event::Execution(execution) => Some((execution.execution.clone(), execution.clone())),
            _ => None,
        });
        executions.collect()
    };
    let (first, second) = (by_id(first), by_id(second));
    let ids: BTreeSet<_> = first.keys().chain(second.keys()).collect();
    let compared = Compared { job: job.clone(), nodes, executions: ids.len(), asked_us: *asked_us };
    let mut events = vec![Event::Compared(compared)];
    for id in ids {
        let shown = [first.get(id).cloned(), second.get(id).cloned()];
        if shown[0] != shown[1] {
            let (job, execution) = (job.clone(), id.clone());
            events.push(Event::Differs(Box::new(Differs {
                job,
                execution,
                nodes,
                shown,
                asked_us: *asked_us,
            })));
        }
    }
    events
}

/// Reads the newest execution of each job that has one, `connections` at a time, from the nodes in turn.
///
/// # Errors
/// The first page that cannot be read.
pub async fn newest_executions(
    nodes: &[Api],
    jobs: impl IntoIterator<Item = &JobCreated>,
    connections: usize,
) -> Result<Vec<Execution>, Error> {
    stream::iter(jobs.into_iter().zip(nodes.iter().cycle()))
        .map(|(created, api)| async move { api.newest_execution(&created.job).await })
        .buffer_unordered(connections)
        .try_filter_map(|execution| async move { Ok(execution) })
        .try_collect()
        .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::fixture::{T0_S, execution};

    fn pages(executions: impl IntoIterator<Item = (&'static str, &'static str)>) -> Vec<Event> {
        let mut events = vec![Event::JobRead(JobRead { job: "a".to_owned(), asked_us: 7 })];
        let shown = |(id, status)| Event::Execution(execution("a", T0_S, id, status));
        events.extend(executions.into_iter().map(shown));
        events
    }

    #[test]
    fn what_two_nodes_show_is_compared_one_by_one() {
        let first = pages([("x", "success"), ("y", "success"), ("z", "failed")]);
        let same = compare([1, 2], &first, &pages([("z", "failed"), ("y", "success"), ("x", "success")]));
        let compared = |executions| {
            let (job, nodes, asked_us) = ("a".to_owned(), [1, 2], 7);
            Event::Compared(Compared { job, nodes, executions, asked_us })
        };
        assert_eq!(same, [compared(3)]);

        let other = compare([1, 2], &first, &pages([("w", "success"), ("y", "running"), ("z", "failed")]));
        let shown = |id: &str, status: Option<&str>| status.map(|status| execution("a", T0_S, id, status));
        let differs = |id: &str, one, other| {
            let (job, execution, asked_us) = ("a".to_owned(), id.to_owned(), 7);
            let shown = [shown(id, one), shown(id, other)];
            Event::Differs(Box::new(Differs { job, execution, nodes: [1, 2], shown, asked_us }))
        };
        let expected = [
            compared(4),
            differs("w", None, Some("success")),
            differs("x", Some("success"), None),
            differs("y", Some("success"), Some("running")),
        ];
        assert_eq!(other, expected);
    }
}
