//! Builds that support other feature levels than the cluster has.

use crate::membership::{change, dismissed, refused};
use crate::nodes::{Nodes, SECRET, create_job, eventually, id, runtime};
use domain::node::FeatureLevel;
use raft::{Dismissed, MemberChange, Settings, SnapshotSettings, StartError};
use std::time::Duration;

const TOO_OLD: Dismissed = Dismissed::TooOld { level: FeatureLevel(2), supported: FeatureLevel(1) };

/// A cluster of three whose builds support these levels.
async fn builds(levels: [u32; 3], snapshots: SnapshotSettings) -> Nodes {
    let mut nodes = Nodes::new().await;
    nodes.snapshots = snapshots;
    for (node, level) in levels.into_iter().enumerate() {
        nodes.start_build(node, level).await;
    }
    nodes.set_up().await;
    nodes
}

async fn level(nodes: &Nodes, node: usize, expected: u32) {
    eventually("the level", || async {
        let seen = nodes.cluster(node).level().unwrap();
        if seen == FeatureLevel(expected) { Ok(()) } else { Err(seen.to_string()) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_level_rises_when_the_operator_says_so_and_all_support_it() {
    let mut nodes = builds([2, 2, 1], SnapshotSettings::default()).await;
    change(&nodes, 0, MemberChange::Upgrade).await;
    let overview = nodes.operator(1).await.overview().await.unwrap();
    assert_eq!((overview.level, overview.upgrade()), (FeatureLevel(1), None), "one does not support more");
    let levels: Vec<_> = overview.members.iter().map(|member| member.level.unwrap().0).collect();
    assert_eq!(levels, [2, 2, 1]);

    nodes.stop(2).await;
    nodes.start_build(2, 2).await;
    nodes.register(2).await;
    nodes.must(2, create_job(1, 10)).await;
    nodes.same_state(&[0, 1, 2]).await;
    let overview = nodes.operator(2).await.overview().await.unwrap();
    assert_eq!((overview.level, overview.upgrade()), (FeatureLevel(1), Some(FeatureLevel(2))));
    for asked in 0..3 {
        change(&nodes, asked, MemberChange::Upgrade).await;
        level(&nodes, asked, 2).await;
    }
    nodes.same_state(&[0, 1, 2]).await;

    // Who goes back is told before anything is done, and has lost nothing.
    nodes.stop(2).await;
    let settings = Settings { supported: FeatureLevel(1), ..nodes.settings(2, SECRET) };
    let error = nodes.cannot_start(2, settings).await;
    assert!(matches!(&error, StartError::Dismissed(why) if *why == TOO_OLD), "{error}");
    let settings = Settings { supported: FeatureLevel(1), ..nodes.joining(3, 0) };
    nodes.start_with(3, settings, runtime()).await;
    let Dismissed::Refused(reason) = dismissed(&nodes, 3).await else { panic!("node 4 may join") };
    assert!(reason.contains("supports feature level 1 at most, and the cluster is at level 2"), "{reason}");
    nodes.stop(3).await;
    nodes.start_build(2, 2).await;
    nodes.register(2).await;
    nodes.same_state(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_not_said_what_it_supports_holds_the_level_back() {
    let nodes = builds([2, 2, 2], SnapshotSettings::default()).await;
    let addr = nodes.link(3, 3).addr.to_string();
    change(&nodes, 1, MemberChange::Add { node: id(3), addr, level: None }).await;
    let reason = refused(&nodes, 0, MemberChange::Upgrade).await;
    assert_eq!(reason, "node 4 has not said yet which feature level it supports; start it, or remove it");
    change(&nodes, 2, MemberChange::Remove(id(3))).await;
    change(&nodes, 0, MemberChange::Upgrade).await;
    level(&nodes, 0, 2).await;
}

/// A node is away while the level rises, and comes back with a build that does not support it.
async fn comes_back_too_old(snapshots: SnapshotSettings) -> (Nodes, usize) {
    let mut nodes = builds([2, 2, 2], snapshots).await;
    let leader = nodes.leader().await;
    let away = (leader + 1) % 3;
    nodes.stop(away).await;
    change(&nodes, leader, MemberChange::Upgrade).await;
    for job in 0..40 {
        nodes.must(leader, create_job(job, 10)).await;
    }
    (nodes, away)
}

async fn stops_before_it_reads(mut nodes: Nodes, away: usize) {
    // Its own state says nothing of the level yet.
    nodes.start_build(away, 1).await;
    assert_eq!(dismissed(&nodes, away).await, TOO_OLD);
    assert_eq!(nodes.cluster(away).level().unwrap(), FeatureLevel(1), "nothing was taken over");
    assert!(!nodes.has_job(away, 0));
    nodes.stop(away).await;
    nodes.start_build(away, 2).await;
    nodes.register(away).await;
    nodes.same_state(&[0, 1, 2]).await;
    assert!(nodes.has_job(away, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_is_too_old_stops_at_the_entry_that_says_so() {
    let (nodes, away) = comes_back_too_old(SnapshotSettings::default()).await;
    stops_before_it_reads(nodes, away).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_that_is_too_old_installs_no_snapshot() {
    let snapshots = SnapshotSettings {
        interval: Duration::from_millis(50),
        log_bytes: u64::MAX,
        log_entries: 10,
        entries_kept: 2,
    };
    let (nodes, away) = comes_back_too_old(snapshots).await;
    let leader = nodes.leader().await;
    let behind = nodes.cluster(leader).status();
    let last = behind.members.iter().find(|member| member.id == id(away)).and_then(|member| member.matched);
    let mut job = 1_000;
    while nodes.storage(leader).log.bounds().purged.is_none_or(|(purged, _)| purged < last.unwrap_or(0) + 10)
    {
        job += 1;
        assert!(job < 2_000, "the log is not purged: {:?}", nodes.storage(leader).log.bounds());
        nodes.must(leader, create_job(job, 10)).await;
    }
    stops_before_it_reads(nodes, away).await;
}
