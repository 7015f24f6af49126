//! A node that was away for so long that the log it needs is gone.

use crate::link::Trip;
use crate::nodes::{Nodes, create_job, eventually};
use raft::SnapshotSettings;
use std::fs;
use std::time::Duration;

/// Bytes of one job's request: with some tens of them a snapshot takes several messages.
const BODY_BYTES: usize = 200_000;
const JOBS: u64 = 20;

/// A cluster of which one node is down and lacks what the others no longer have in their logs. The node's index, and
/// the leader's.
async fn one_behind() -> (Nodes, usize, usize) {
    let mut nodes = Nodes::new().await;
    nodes.snapshots = SnapshotSettings {
        interval: Duration::from_millis(50),
        log_bytes: u64::MAX,
        log_entries: 10,
        entries_kept: 2,
    };
    nodes.form().await;
    let leader = nodes.leader().await;
    let behind = (leader + 1) % 3;
    nodes.stop(behind).await;
    for job in 0..JOBS {
        nodes.must(leader, create_job(job, BODY_BYTES)).await;
    }
    // Until what is left of the log holds none of them.
    let mut job = 1_000;
    while nodes.storage(leader).log.bounds().purged.is_none_or(|(purged, _)| purged < JOBS + 5) {
        job += 1;
        assert!(job < 2_000, "the log is not purged: {:?}", nodes.storage(leader).log.bounds());
        nodes.must(leader, create_job(job, 10)).await;
    }
    let leader = nodes.leader().await;
    (nodes, behind, leader)
}

async fn assert_caught_up(nodes: &Nodes, behind: usize) {
    // A barrier, so that the state is not an old one that all happen to share.
    eventually("a read", || async {
        nodes.cluster(behind).read_barrier().await.map_err(|error| error.to_string())
    })
    .await;
    assert!((0..JOBS).all(|job| nodes.has_job(behind, job)));
    nodes.same_state(&[0, 1, 2]).await;
    let snapshot = nodes.storage(behind).state.latest_snapshot().unwrap().expect("it came by snapshot");
    assert!(snapshot.size_bytes > 3_000_000, "{snapshot:?}");
    // What was begun and not finished goes.
    let dir = nodes.data_dir(behind).join("snapshots");
    eventually("no leftovers", || async {
        let names: Vec<_> = fs::read_dir(&dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        if names.iter().any(|name| name.ends_with(".incoming")) { Err(format!("{names:?}")) } else { Ok(()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lacks_purged_entries_catches_up_by_snapshot_and_goes_on() {
    let (mut nodes, behind, leader) = one_behind().await;
    let purged = nodes.storage(leader).log.bounds().purged.unwrap().0;
    nodes.start(behind).await;
    let before = nodes.storage(behind).log.bounds();
    assert!(before.last.unwrap_or_default() < purged, "{before:?} reaches {purged}");
    assert_caught_up(&nodes, behind).await;

    // It takes part again: its own writes, and a quorum that needs it.
    nodes.register(behind).await;
    nodes.must(behind, create_job(100, 10)).await;
    let other = (0..3).find(|node| *node != behind && *node != leader).unwrap();
    nodes.stop(other).await;
    nodes.must(behind, create_job(101, 10)).await;
    nodes.same_state(&[behind, leader]).await;

    // What was installed is on disk.
    nodes.stop(behind).await;
    nodes.start(behind).await;
    nodes.must(leader, create_job(102, 10)).await;
    nodes.same_state(&[behind, leader]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_whose_transfer_is_cut_off_arrives_in_the_end() {
    let (mut nodes, behind, leader) = one_behind().await;
    let link = nodes.link(leader, behind).clone();
    let before = link.passed();
    link.trip_after(1_500_000, Trip::Reset);
    nodes.start(behind).await;
    for bytes in [700_000, 2_500_000] {
        eventually("a reset", || async { link.has_tripped().then_some(()).ok_or_else(String::new) }).await;
        link.trip_after(bytes, Trip::Reset);
    }
    assert_caught_up(&nodes, behind).await;
    assert!(link.has_tripped());
    assert!(link.passed() - before > 3_000_000 + 1_500_000 + 700_000, "nothing was interrupted");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_whose_connection_is_forgotten_arrives_in_the_end_and_leaves_nothing_behind() {
    let (mut nodes, behind, leader) = one_behind().await;
    let link = nodes.link(leader, behind).clone();
    link.trip_after(1_500_000, Trip::Forget);
    nodes.start(behind).await;
    assert_caught_up(&nodes, behind).await;
    assert!(link.has_tripped());
}
