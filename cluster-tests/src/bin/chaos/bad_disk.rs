//! A disk without room, or one that fails. What a node promises then: nothing is acknowledged that is not on disk; it may
//! end, with a word and an exit code; and once the disk is well it comes back whole.

use crate::{
    faults::{WHOLE_DEADLINE, sync_point},
    say,
};
use cluster_tests::{
    Error,
    cluster::Cluster,
    history::{Event, Fault, FaultKind, History},
    time::now_us,
    wait::eventually,
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks at the node. What it frees meanwhile is taken from it.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);
/// From when a node ended until it is started again, as service managers do it.
const RESTART_AFTER: Duration = Duration::from_secs(1);
/// Longer than changes stay in memory: within it a node meets what it could not write.
const SETTLE: Duration = Duration::from_secs(3);

/// Fills a node's disk, starts the node again whenever it ends, gives it its room back, and sees that it keeps up with the
/// others. How long that took it.
///
/// # Errors
/// A node that ended without a word, or does not come back.
pub(crate) async fn disk_full(
    node: u64,
    lasting: Duration,
    cluster: &mut Cluster,
    history: &mut History,
) -> Result<Duration, Error> {
    history.record(Event::Fault(cluster.fill_disk(node)?));
    let ends = outlast(node, lasting, cluster, history, |cluster| cluster.fill_disk(node).map(drop)).await?;
    history.record(Event::Fault(cluster.clear_disk(node)?));
    recover(node, ends, cluster, history).await
}

/// As [`disk_full`], with a log that cannot be synced.
///
/// # Errors
/// As there.
pub(crate) async fn fsync_fails(
    node: u64,
    lasting: Duration,
    cluster: &mut Cluster,
    history: &mut History,
) -> Result<Duration, Error> {
    history.record(Event::Fault(Fault::now(node, FaultKind::Cut)));
    cluster.put_faults(node, &sync_point("return"))?;
    let ends = outlast(node, lasting, cluster, history, |_| Ok(())).await?;
    cluster.put_faults(node, "")?;
    history.record(Event::Fault(Fault::now(node, FaultKind::Heal)));
    recover(node, ends, cluster, history).await
}

/// Starts a node again whenever it ends, while its disk is bad; how often it did. `again` is done now and then.
async fn outlast(
    node: u64,
    lasting: Duration,
    cluster: &mut Cluster,
    history: &mut History,
    again: impl Fn(&Cluster) -> Result<(), Error>,
) -> Result<usize, Error> {
    let end = Instant::now() + lasting;
    let mut ends = 0;
    while Instant::now() < end {
        sleep(LOOK_INTERVAL).await;
        again(cluster)?;
        if cluster.has_ended(node)? {
            let ended_us = now_us();
            sleep(RESTART_AFTER).await;
            ends += revive(node, ended_us, cluster, history)?;
        }
    }
    Ok(ends)
}

/// Waits until a node whose disk is well again keeps up with the others. How long it took, when it did so first.
async fn recover(
    node: u64,
    mut ends: usize,
    cluster: &mut Cluster,
    history: &mut History,
) -> Result<Duration, Error> {
    let well = Instant::now();
    // One that could not write may still be on its way to its end.
    ends += keeps_up(node, cluster, history).await?;
    let took = well.elapsed();
    sleep(SETTLE).await;
    let more = keeps_up(node, cluster, history).await?;
    say(format!("         node {node} ended {} times over its disk", ends + more));
    // It may have ended once more meanwhile, and then all of that counts.
    Ok(if more > 0 { well.elapsed() } else { took })
}

/// Starts a node again if it has ended, by then; how often it had.
fn revive(node: u64, ended_us: i64, cluster: &mut Cluster, history: &mut History) -> Result<usize, Error> {
    let Some([ended, restarted]) = cluster.revive(node)? else { return Ok(0) };
    history.record(Event::Fault(Fault { at_us: ended_us, ..ended }));
    history.record(Event::Fault(restarted));
    Ok(1)
}

/// Waits until a node has applied more than the others had by now, and starts it again meanwhile as often as it ends; how
/// often it did.
async fn keeps_up(node: u64, cluster: &mut Cluster, history: &mut History) -> Result<usize, Error> {
    let mut ends = 0;
    let mut applied = 0;
    for other in cluster.running() {
        if let Ok(view) = cluster.api(other).cluster().await {
            applied = applied.max(view.applied_index);
        }
    }
    eventually(&format!("node {node} that keeps up"), WHOLE_DEADLINE, async || {
        match revive(node, now_us(), cluster, history) {
            Ok(ended) => ends += ended,
            // Carried through the loop as a success: it will not get better.
            Err(error) => return Ok(Err(error)),
        }
        match cluster.api(node).cluster().await {
            Ok(view) if view.applied_index > applied => Ok(Ok(ends)),
            Ok(view) => Err(format!("it has applied {}, the others {applied}", view.applied_index)),
            Err(error) => Err(error.to_string()),
        }
    })
    .await?
}
