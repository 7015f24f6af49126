//! Jobs by the hundred, over many connections and all nodes.

use crate::{
    Error,
    api::{Api, NewJob},
    history::{Event, Execution, JobCreated},
};
use futures::{StreamExt, TryStreamExt, stream};

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

/// Reads every execution of the jobs, `connections` at a time, from the nodes in turn.
///
/// # Errors
/// The first page that cannot be read.
pub async fn read_executions(
    nodes: &[Api],
    jobs: impl IntoIterator<Item = &JobCreated>,
    connections: usize,
) -> Result<Vec<Event>, Error> {
    stream::iter(jobs.into_iter().zip(nodes.iter().cycle()))
        .map(|(created, api)| async move { api.executions(&created.job).await })
        .buffer_unordered(connections)
        .try_concat()
        .await
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
