//! Nodes whose wall clock is wrong.

use crate::nodes::{Nodes, START, bootstrap, create_job, eventually};
use domain::limits::NODE_TIMEOUT;
use raft::ProposeError;
use std::time::Duration;

const HOUR_MS: i64 = 3_600_000;

async fn wait_until_astray(nodes: &Nodes, node: usize, is_astray: bool) {
    let contact = nodes.cluster(node).contact();
    eventually("what a node thinks of its clock", || async {
        if contact.is_astray() == is_astray { Ok(()) } else { Err(format!("{contact:?}")) }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_whose_clock_jumps_does_nothing_until_it_is_right_again() {
    for offset_ms in [HOUR_MS, -HOUR_MS, 1_500, -1_500] {
        let nodes = Nodes::started().await;
        let leader = nodes.leader().await;
        let wrong = (leader + 1) % 3;
        let contact = nodes.cluster(wrong).contact();
        eventually("touch", || async {
            if contact.is_in_touch(Duration::from_secs(2)) { Ok(()) } else { Err(format!("{contact:?}")) }
        })
        .await;

        nodes.set_clock(wrong, offset_ms);
        // At once, before anybody has said anything.
        assert!(contact.is_astray() && !contact.is_in_touch(Duration::from_secs(2)));
        let refused = nodes.cluster(wrong).propose(create_job(1, 10)).await;
        assert_eq!(refused, Err(ProposeError::ClockAstray));

        // To the leader it is as good as dead; the others go on.
        let heard = nodes.cluster(leader).contact();
        eventually("silence", || async {
            let since = heard.heard()[&crate::nodes::id(wrong)];
            if since >= NODE_TIMEOUT { Ok(()) } else { Err(format!("{since:?}")) }
        })
        .await;
        nodes.must(leader, create_job(2, 10)).await;
        assert_eq!(nodes.leader().await, leader);

        nodes.set_clock(wrong, 0);
        wait_until_astray(&nodes, wrong, false).await;
        nodes.must(wrong, create_job(3, 10)).await;
        nodes.same_state(&[0, 1, 2]).await;
        assert!(!nodes.has_job(leader, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_clock_jumps_gives_its_office_away_and_stamps_nothing() {
    for offset_ms in [HOUR_MS, -HOUR_MS] {
        let nodes = Nodes::started().await;
        let wrong = nodes.leader().await;
        let others = [(wrong + 1) % 3, (wrong + 2) % 3];
        nodes.set_clock(wrong, offset_ms);
        // Asked while the wrong one still leads.
        nodes.must(others[0], create_job(1, 10)).await;
        let leader = nodes.leader().await;
        assert_ne!(leader, wrong);
        wait_until_astray(&nodes, wrong, true).await;
        let right = START.plus(Duration::from_secs(1_800));
        assert!(nodes.time_of_state(leader) < right, "nothing was written an hour ahead of time");

        nodes.set_clock(wrong, 0);
        wait_until_astray(&nodes, wrong, false).await;
        nodes.must(wrong, create_job(2, 10)).await;
        nodes.same_state(&[0, 1, 2]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_begins_with_a_wrong_clock_does_nothing() {
    for wrong in 0..3 {
        let mut nodes = Nodes::new().await;
        nodes.set_clock(wrong, HOUR_MS);
        for node in 0..3 {
            nodes.start(node).await;
        }
        let others = [(wrong + 1) % 3, (wrong + 2) % 3];
        for node in others {
            nodes.register(node).await;
        }
        // It may have been elected, but not for long.
        wait_until_astray(&nodes, wrong, true).await;
        assert!(nodes.time_of_state(others[0]) < START.plus(Duration::from_secs(1_800)));
        nodes.set_clock(wrong, 0);
        wait_until_astray(&nodes, wrong, false).await;
        nodes.set_up().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_no_two_clocks_agree_the_cluster_survives_its_leader() {
    let mut nodes = Nodes::new().await;
    // Ten seconds apart.
    for node in 0..3 {
        nodes.set_clock(node, 10_000 * i64::try_from(node).unwrap());
        nodes.start(node).await;
    }
    eventually("a first leader", || async {
        let node = nodes.running().into_iter().find(|node| nodes.cluster(*node).status().is_leader());
        node.filter(|node| !nodes.cluster(*node).contact().is_astray()).ok_or_else(|| "none".to_owned())
    })
    .await;
    let leader = nodes.leader().await;
    nodes.register(leader).await;
    nodes.must(leader, bootstrap()).await;
    let others = [(leader + 1) % 3, (leader + 2) % 3];
    for node in others {
        wait_until_astray(&nodes, node, true).await;
    }
    nodes.kill(leader);
    write_through_any(&nodes, &others, 1).await;

    // And a jump of the one that leads.
    let leader = nodes.leader().await;
    nodes.set_clock(leader, HOUR_MS);
    write_through_any(&nodes, &others, 2).await;
}

/// Makes a job through whichever of these takes it.
async fn write_through_any(nodes: &Nodes, among: &[usize], job: u64) {
    eventually("a write", || async {
        let mut refusals = Vec::new();
        for node in among {
            let cluster = nodes.cluster(*node);
            let written = match cluster.register().await {
                Ok(_) => cluster.propose(create_job(job, 10)).await.map(drop),
                Err(error) => Err(error),
            };
            match written {
                Err(error) if !nodes.has_job(*node, job) => refusals.push(error.to_string()),
                _ => return Ok(()),
            }
        }
        Err(refusals.join("; "))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_put_right_everywhere_is_believed_again() {
    let nodes = Nodes::started().await;
    nodes.leader().await;
    for node in 0..3 {
        nodes.set_clock(node, HOUR_MS);
    }
    for node in 0..3 {
        wait_until_astray(&nodes, node, false).await;
    }
    nodes.must(0, create_job(1, 10)).await;
}
