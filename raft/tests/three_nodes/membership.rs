//! Nodes that join and leave, that are replaced, and that come back though they were removed.

use crate::link::Mode;
use crate::nodes::{Nodes, PATIENCE, SECRET, create_job, eventually, id, runtime};
use raft::{Dismissed, MemberChange, OperatorError, ProposeError, ReadError};
use std::fs;
use std::time::Duration;
use tokio::time::timeout;

/// Asks a node for a change until it is known to have come about.
pub(crate) async fn change(nodes: &Nodes, asked: usize, change: MemberChange) {
    let operator = nodes.operator(asked).await;
    eventually("a change of members", || async {
        match operator.change(&change).await {
            Ok(()) => Ok(()),
            Err(error @ (OperatorError::Unknown | OperatorError::NoLeader)) => Err(error.to_string()),
            Err(error) => panic!("{change:?}: {error}"),
        }
    })
    .await;
}

pub(crate) async fn refused(nodes: &Nodes, asked: usize, change: MemberChange) -> String {
    let operator = nodes.operator(asked).await;
    eventually("a refusal", || async {
        match operator.change(&change).await {
            Err(OperatorError::Refused(reason)) => Ok(reason),
            Err(error @ (OperatorError::Unknown | OperatorError::NoLeader)) => Err(error.to_string()),
            other => panic!("{change:?}: {other:?}"),
        }
    })
    .await
}

async fn remove(nodes: &Nodes, asked: usize, node: usize) {
    change(nodes, asked, MemberChange::Remove(id(node))).await;
}

pub(crate) async fn dismissed(nodes: &Nodes, node: usize) -> Dismissed {
    timeout(PATIENCE, nodes.cluster(node).dismissed()).await.expect("the node is told that it may not go on")
}

/// A read that shows what was acknowledged, on every one of these.
async fn read(nodes: &Nodes, on: &[usize], job: u64) {
    for node in on {
        eventually("a read", || async {
            nodes.cluster(*node).read_barrier().await.map_err(|error| error.to_string())
        })
        .await;
        assert!(nodes.has_job(*node, job), "node {node} shows an older state");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_node_grows_to_three_and_five_and_shrinks_to_three() {
    let mut nodes = Nodes::of(1).await;
    nodes.form().await;
    nodes.must(0, create_job(1, 10)).await;
    for (node, via) in [(1, 0), (2, 1)] {
        nodes.join(node, via).await;
    }
    for node in 0..3 {
        nodes.voters(node, &[0, 1, 2]).await;
    }
    nodes.register(1).await;
    nodes.register(2).await;
    nodes.must(1, create_job(2, 10)).await;
    read(&nodes, &[0, 1, 2], 2).await;

    nodes.join(3, 2).await;
    nodes.join(4, 0).await;
    let five = [0, 1, 2, 3, 4];
    for node in five {
        nodes.voters(node, &five).await;
    }
    nodes.register(3).await;
    nodes.register(4).await;
    for node in five {
        let job = 10 + node as u64;
        nodes.must(node, create_job(job, 10)).await;
        read(&nodes, &five, job).await;
    }
    nodes.same_state(&five).await;
    // Two of five may be away.
    let leader = nodes.leader().await;
    let away = [(leader + 1) % 5, (leader + 2) % 5];
    let left: Vec<usize> = five.into_iter().filter(|node| !away.contains(node)).collect();
    away.iter().for_each(|node| nodes.around(*node, Mode::Cut));
    nodes.must(leader, create_job(20, 10)).await;
    read(&nodes, &left, 20).await;
    away.iter().for_each(|node| nodes.around(*node, Mode::Open));
    nodes.same_state(&five).await;

    // The node that leads, and one that does not; asked of one of those that go.
    let leader = nodes.leader().await;
    let other = (leader + 1) % 5;
    remove(&nodes, leader, leader).await;
    assert_eq!(dismissed(&nodes, leader).await, Dismissed::Removed(id(leader)));
    remove(&nodes, other, other).await;
    assert_eq!(dismissed(&nodes, other).await, Dismissed::Removed(id(other)));
    let left: Vec<usize> = five.into_iter().filter(|node| ![leader, other].contains(node)).collect();
    for node in &left {
        nodes.voters(*node, &left).await;
    }
    nodes.must(left[0], create_job(30, 10)).await;
    read(&nodes, &left, 30).await;
    nodes.same_state(&left).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_node_is_replaced_by_one_with_another_id() {
    let mut nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let (dead, other) = ((leader + 1) % 3, (leader + 2) % 3);
    nodes.kill(dead);
    nodes.must(leader, create_job(1, 10)).await;
    remove(&nodes, other, dead).await;
    // As often as one likes.
    remove(&nodes, leader, dead).await;
    let left: Vec<usize> = (0..3).filter(|node| *node != dead).collect();
    nodes.voters(leader, &left).await;

    nodes.join(3, other).await;
    let now: Vec<usize> = left.into_iter().chain([3]).collect();
    for node in &now {
        nodes.voters(*node, &now).await;
    }
    nodes.register(3).await;
    read(&nodes, &now, 1).await;
    // The new one counts: without it there would be no quorum.
    nodes.kill(other);
    nodes.must(3, create_job(2, 10)).await;
    nodes.same_state(&[leader, 3]).await;

    assert_eq!(
        refused(
            &nodes,
            leader,
            MemberChange::Add { node: id(dead), addr: "127.0.0.1:2".to_owned(), level: None }
        )
        .await,
        format!(
            "node {} was removed from this cluster, and its id is not used again; give the new node another one",
            id(dead)
        )
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_removed_whom_the_quorum_needs() {
    let mut nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let (dead, other) = ((leader + 1) % 3, (leader + 2) % 3);
    nodes.kill(dead);
    for node in [other, leader] {
        let reason = refused(&nodes, other, MemberChange::Remove(id(node))).await;
        assert!(reason.contains("1 of 2 voters would be alive, which is no quorum"), "{reason}");
    }
    nodes.voters(leader, &[0, 1, 2]).await;
    remove(&nodes, other, dead).await;
    remove(&nodes, leader, other).await;
    nodes.voters(leader, &[leader]).await;
    let reason = refused(&nodes, leader, MemberChange::Remove(id(leader))).await;
    assert!(reason.contains("is the only one that has a vote"), "{reason}");
    let reason = refused(&nodes, leader, MemberChange::Remove(id(5))).await;
    assert_eq!(reason, "there is no node 6; see justrun cluster status");
    nodes.must(leader, create_job(1, 10)).await;
    read(&nodes, &[leader], 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_removed_while_the_quorum_would_need_one_that_is_being_filled() {
    let mut nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let (empty, dead) = ((leader + 1) % 3, (leader + 2) % 3);
    nodes.must(leader, create_job(1, 10)).await;
    nodes.stop(empty).await;
    fs::remove_dir_all(nodes.data_dir(empty)).unwrap();
    // Nobody tells it how far it has to be filled.
    nodes.link(empty, leader).set(Mode::Cut);
    nodes.link(empty, dead).set(Mode::Cut);
    nodes.start(empty).await;
    nodes.kill(dead);
    let reason = refused(&nodes, leader, MemberChange::Remove(id(dead))).await;
    assert!(reason.contains(&format!("node {}, which is being filled", id(empty))), "{reason}");
    nodes.link(empty, leader).set(Mode::Open);
    remove(&nodes, leader, dead).await;
    nodes.must(leader, create_job(2, 10)).await;
    nodes.same_state(&[leader, empty]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_learner_that_is_removed_learns_of_it_though_whom_it_followed_is_dead() {
    let mut nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let others: Vec<usize> = (0..3).filter(|node| *node != leader).collect();
    // It gets no vote: the leader does not hear how far it is.
    let gone = 3;
    nodes.link(gone, leader).set(Mode::Cut);
    let (mut settings, addr) = (nodes.settings(gone, SECRET), nodes.link(gone, gone).addr.to_string());
    settings.members.insert(id(gone), addr.clone());
    nodes.start_with(gone, settings, runtime()).await;
    change(&nodes, leader, MemberChange::Add { node: id(gone), addr, level: None }).await;
    eventually("a learner that follows the leader", || async {
        let status = nodes.cluster(gone).status();
        if status.leader == Some(id(leader)) { Ok(()) } else { Err(format!("{status:?}")) }
    })
    .await;
    nodes.around(gone, Mode::Cut);
    remove(&nodes, others[0], gone).await;
    nodes.kill(leader);
    nodes.around(gone, Mode::Open);
    assert_eq!(dismissed(&nodes, gone).await, Dismissed::Removed(id(gone)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_node_that_comes_back_is_told_and_disturbs_nobody() {
    let mut nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let (gone, other) = ((leader + 1) % 3, (leader + 2) % 3);
    nodes.must(leader, create_job(1, 10)).await;
    nodes.same_state(&[0, 1, 2]).await;
    nodes.stop(gone).await;
    remove(&nodes, other, gone).await;
    nodes.must(leader, create_job(2, 10)).await;
    let term = nodes.cluster(leader).status().term;

    for is_empty in [false, true] {
        if is_empty {
            fs::remove_dir_all(nodes.data_dir(gone)).unwrap();
        }
        nodes.start(gone).await;
        let cluster = nodes.cluster(gone);
        let (why, read, written) = tokio::join!(
            dismissed(&nodes, gone),
            cluster.read_barrier(),
            cluster.propose_all(vec![create_job(3, 10)], Duration::from_secs(2)),
        );
        assert_eq!(why, Dismissed::Removed(id(gone)), "empty: {is_empty}");
        assert_eq!(read, Err(ReadError::NoLeader));
        assert!(matches!(written, Err(ProposeError::NoLeader | ProposeError::Unknown)), "{written:?}");
        assert!(!nodes.has_job(gone, 2), "nobody tells it anything more");
        nodes.stop(gone).await;
    }
    nodes.must(other, create_job(4, 10)).await;
    assert!(!nodes.has_job(leader, 3));
    let status = nodes.cluster(leader).status();
    assert_eq!((status.leader, status.term), (Some(id(leader)), term), "no election was held");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_removed_while_it_is_cut_off_reads_nothing_when_it_is_back() {
    let nodes = Nodes::started().await;
    let alone = nodes.leader().await;
    let others = [(alone + 1) % 3, (alone + 2) % 3];
    nodes.around(alone, Mode::Cut);
    let leader = nodes.leader_among(&others).await;
    nodes.must(leader, create_job(1, 10)).await;
    remove(&nodes, others[0], alone).await;
    assert_eq!(nodes.cluster(alone).read_barrier().await, Err(ReadError::NoLeader));
    nodes.around(alone, Mode::Open);
    let (why, read) = tokio::join!(dismissed(&nodes, alone), nodes.cluster(alone).read_barrier());
    assert_eq!((why, read), (Dismissed::Removed(id(alone)), Err(ReadError::NoLeader)));
    assert!(!nodes.has_job(alone, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_join_is_told_why() {
    let mut nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let check = async |nodes: &mut Nodes, node: usize, settings: raft::Settings, expected: &str| {
        nodes.start_with(node, settings, runtime()).await;
        match dismissed(nodes, node).await {
            Dismissed::Refused(reason) => assert!(reason.contains(expected), "{reason}"),
            other => panic!("{other:?}"),
        }
        nodes.stop(node).await;
    };
    let mut settings = nodes.joining(3, leader);
    settings.secret = raft::Secret::new("another");
    check(&mut nodes, 3, settings, "refuses this cluster secret").await;

    // An id that another node has, from another address.
    nodes.stop((leader + 1) % 3).await;
    fs::remove_dir_all(nodes.data_dir((leader + 1) % 3)).unwrap();
    let settings = nodes.joining((leader + 1) % 3, leader);
    check(&mut nodes, (leader + 1) % 3, settings, "is a member already, at 127.0.0.1:").await;

    let mut settings = nodes.joining(3, leader);
    settings.rpc_addr = nodes.joining(4, leader).rpc_addr;
    change(&nodes, leader, MemberChange::Add { node: id(4), addr: settings.rpc_addr.clone(), level: None })
        .await;
    check(&mut nodes, 3, settings, "is the address of node 5 already").await;

    let settings = nodes.joining(3, 3);
    check(&mut nodes, 3, settings, "is node 4 already").await;
    let members = nodes.cluster(leader).status().members;
    let learners: Vec<_> = members.iter().filter(|member| !member.voter).map(|member| member.id).collect();
    assert_eq!(learners, [id(4)], "nobody else was added, and who is not there does not vote");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_joins_waits_for_whom_it_asks_and_may_ask_again() {
    let mut nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let via = (leader + 1) % 3;
    nodes.must(leader, create_job(1, 10)).await;
    nodes.link(3, via).set(Mode::Cut);
    nodes.join(3, via).await;
    eventually("several tries", || async {
        let asked = nodes.link(3, via).asked();
        if asked >= 2 { Ok(()) } else { Err(format!("{asked}")) }
    })
    .await;
    assert_eq!(nodes.cluster(leader).status().members.len(), 3);
    nodes.link(3, via).set(Mode::Open);
    nodes.voters(3, &[0, 1, 2, 3]).await;
    read(&nodes, &[3], 1).await;

    // Its disk is kept, or lost: either way it belongs.
    for is_empty in [false, true] {
        nodes.stop(3).await;
        if is_empty {
            fs::remove_dir_all(nodes.data_dir(3)).unwrap();
        }
        nodes.join(3, leader).await;
        nodes.register(3).await;
        nodes.same_state(&[0, 1, 2, 3]).await;
    }
    // Later starts need not say where the others are: the log does.
    nodes.stop(3).await;
    let mut settings = nodes.settings(3, SECRET);
    settings.members.clear();
    settings.rpc_addr = nodes.link(3, 3).addr.to_string();
    nodes.start_with(3, settings, runtime()).await;
    nodes.register(3).await;
    nodes.must(3, create_job(2, 10)).await;
    nodes.same_state(&[0, 1, 2, 3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_goes_on_when_the_leader_dies_over_it() {
    let mut nodes = Nodes::of(5).await;
    nodes.form().await;
    for (delay_ms, number) in [(0, 0), (5, 1)] {
        let running = nodes.running();
        let leader = nodes.leader().await;
        let mut others = running.iter().copied().filter(|node| *node != leader);
        let (asked, gone) = (others.next().unwrap(), others.next_back().unwrap());
        let operator = nodes.operator(asked).await;
        #[expect(clippy::disallowed_methods, reason = "it goes on while the test does something else")]
        let asking = tokio::spawn(async move { operator.change(&MemberChange::Remove(id(gone))).await });
        tokio::time::sleep(Duration::from_millis(delay_ms)).await;
        nodes.kill(leader);
        match asking.await.unwrap() {
            Ok(()) => {}
            Err(OperatorError::Unknown | OperatorError::NoLeader) => remove(&nodes, asked, gone).await,
            Err(error) => panic!("{error}"),
        }
        assert_eq!(dismissed(&nodes, gone).await, Dismissed::Removed(id(gone)));
        nodes.stop(gone).await;
        let left: Vec<usize> = running.into_iter().filter(|node| *node != gone).collect();
        nodes.voters(asked, &left).await;
        nodes.start(leader).await;
        nodes.register(leader).await;
        nodes.must(asked, create_job(10 + number, 10)).await;
        nodes.same_state(&left).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_goes_to_whom_the_operator_names() {
    let mut nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let (next, dead) = ((leader + 1) % 3, (leader + 2) % 3);
    for asked in [leader, next, dead, leader] {
        change(&nodes, asked, MemberChange::TransferLeader(id(next))).await;
        assert_eq!(nodes.leader().await, next);
    }
    nodes.must(leader, create_job(1, 10)).await;
    nodes.kill(dead);
    let reason = eventually("silence", || async {
        match nodes.operator(leader).await.change(&MemberChange::TransferLeader(id(dead))).await {
            Err(OperatorError::Refused(reason)) if reason.contains("not been heard of") => Ok(reason),
            // It died only now.
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert!(reason.contains(&format!("node {}", id(dead))), "{reason}");
    assert!(refused(&nodes, next, MemberChange::TransferLeader(id(5))).await.contains("there is no node 6"));
    nodes.must(leader, create_job(2, 10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_node_that_names_the_first_members_waits_until_it_is_added() {
    let mut nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    nodes.must(leader, create_job(1, 10)).await;
    let mut settings = nodes.settings(3, SECRET);
    let addr = nodes.link(3, 3).addr.to_string();
    settings.members.insert(id(3), addr.clone());
    nodes.start_with(3, settings, runtime()).await;
    assert_eq!(nodes.cluster(3).read_barrier().await, Err(ReadError::NoLeader));
    assert_eq!(nodes.cluster(leader).status().members.len(), 3, "it forms no cluster and is in none");
    change(&nodes, leader, MemberChange::Add { node: id(3), addr, level: None }).await;
    nodes.voters(3, &[0, 1, 2, 3]).await;
    read(&nodes, &[3], 1).await;
}
