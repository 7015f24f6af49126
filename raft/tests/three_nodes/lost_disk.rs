//! A node that has lost its disk, and peers that are not there.

use crate::link::Mode;
use crate::nodes::{Nodes, SECRET, create_job, eventually, id};
use crate::peer;
use proto::cluster::{Support, SupportRequest};
use std::fs;
use std::time::{Duration, Instant};

/// Longer than several elections.
const A_WHILE: Duration = Duration::from_secs(3);

fn wipe(nodes: &Nodes, node: usize) {
    fs::remove_dir_all(nodes.data_dir(node)).unwrap();
}

/// For whom a node says that it has voted.
async fn support(nodes: &Nodes, node: usize) -> Option<Support> {
    let mut client = peer::cluster(nodes.addr(node), id(node), Some(peer::token(SECRET, id(node))));
    client.support(SupportRequest {}).await.unwrap().into_inner().support
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_disk_is_filled_and_counts_again() {
    let mut nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let (empty, other) = ((leader + 1) % 3, (leader + 2) % 3);
    nodes.must(leader, create_job(1, 10)).await;
    nodes.same_state(&[0, 1, 2]).await;
    nodes.stop(empty).await;
    wipe(&nodes, empty);
    nodes.must(leader, create_job(2, 10)).await;
    nodes.start(empty).await;
    nodes.same_state(&[0, 1, 2]).await;
    assert!(nodes.has_job(empty, 1) && nodes.has_job(empty, 2));

    // Without the other one, the quorum needs it.
    nodes.register(empty).await;
    nodes.stop(other).await;
    nodes.must(empty, create_job(3, 10)).await;
    nodes.same_state(&[leader, empty]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_disk_elects_nobody_who_lacks_what_it_had_acknowledged() {
    let mut nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let (empty, lacking) = ((leader + 1) % 3, (leader + 2) % 3);
    // Acknowledged by the leader and the one that will lose its disk, unknown to the third.
    nodes.around(lacking, Mode::Cut);
    nodes.must(leader, create_job(1, 10)).await;
    nodes.stop(leader).await;
    nodes.stop(empty).await;
    wipe(&nodes, empty);
    nodes.around(lacking, Mode::Open);
    nodes.start(empty).await;

    let until = Instant::now() + A_WHILE;
    eventually("a while without a leader", || async {
        for node in [empty, lacking] {
            let status = nodes.cluster(node).status();
            assert!(!status.is_leader(), "a leader that lacks an acknowledged write: {status:?}");
        }
        if Instant::now() > until { Ok(()) } else { Err("not long enough".to_owned()) }
    })
    .await;
    // Nor is its word worth anything to a leader: it may have voted for another and forgotten it.
    assert_eq!(support(&nodes, empty).await, None);

    nodes.start(leader).await;
    nodes.same_state(&[0, 1, 2]).await;
    eventually("a word", || async { support(&nodes, empty).await.ok_or_else(|| "none".to_owned()) }).await;
    assert!((0..3).all(|node| nodes.has_job(node, 1)));
    nodes.register(leader).await;
    nodes.must(leader, create_job(2, 10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_started_anew_while_it_is_filled_still_does_not_vote() {
    let mut nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let (empty, lacking) = ((leader + 1) % 3, (leader + 2) % 3);
    nodes.around(lacking, Mode::Cut);
    nodes.must(leader, create_job(1, 10)).await;
    nodes.stop(empty).await;
    wipe(&nodes, empty);
    // It hears from the leader, whom it cannot ask how far it has to be filled.
    nodes.link(empty, leader).set(Mode::Cut);
    nodes.start(empty).await;
    eventually("the first entries", || async {
        let status = nodes.cluster(empty).status();
        if status.term > 0 && status.applied > 0 { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    nodes.stop(empty).await;
    nodes.start(empty).await;
    assert_eq!(support(&nodes, empty).await, None);
    assert!(!nodes.cluster(empty).status().may_vote);

    nodes.link(empty, leader).set(Mode::Open);
    eventually("a word", || async { support(&nodes, empty).await.ok_or_else(|| "none".to_owned()) }).await;
    nodes.stop(empty).await;
    nodes.start(empty).await;
    assert!(nodes.cluster(empty).status().may_vote, "it was filled");
    nodes.around(lacking, Mode::Open);
    nodes.same_state(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_lost_its_disk_and_reaches_nobody_does_not_think_itself_new() {
    let mut nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let (empty, lacking) = ((leader + 1) % 3, (leader + 2) % 3);
    nodes.around(lacking, Mode::Cut);
    nodes.must(leader, create_job(1, 10)).await;
    for node in [leader, empty, lacking] {
        nodes.stop(node).await;
    }
    wipe(&nodes, empty);
    nodes.start(empty).await;
    let until = Instant::now() + A_WHILE;
    eventually("a while alone", || async {
        let status = nodes.cluster(empty).status();
        assert!(!status.may_vote && status.members.is_empty(), "{status:?}");
        if Instant::now() > until { Ok(()) } else { Err("not long enough".to_owned()) }
    })
    .await;

    // Who comes first lacks what was acknowledged.
    nodes.around(lacking, Mode::Open);
    nodes.start(lacking).await;
    let until = Instant::now() + A_WHILE;
    eventually("a while without a leader", || async {
        assert!(!nodes.cluster(lacking).status().is_leader() && !nodes.cluster(empty).status().is_leader());
        if Instant::now() > until { Ok(()) } else { Err("not long enough".to_owned()) }
    })
    .await;
    nodes.start(leader).await;
    nodes.same_state(&[0, 1, 2]).await;
    assert!((0..3).all(|node| nodes.has_job(node, 1)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_is_not_there_is_tried_now_and_then() {
    let mut nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let gone = (leader + 1) % 3;
    nodes.kill(gone);
    nodes.must(leader, create_job(1, 10)).await;
    let link = nodes.link(leader, gone).clone();
    let (before, until) = (link.asked(), Instant::now() + A_WHILE);
    eventually("a while", || async {
        if Instant::now() > until { Ok(()) } else { Err("not long enough".to_owned()) }
    })
    .await;
    // Replication every half second, heartbeats and signs of life a few times a second.
    let asked = link.asked() - before;
    assert!((1..200).contains(&asked), "{asked} connections in {A_WHILE:?}");
}
