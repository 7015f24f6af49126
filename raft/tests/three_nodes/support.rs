//! A leader believes in its office by the word of the node that asks, and by nothing less.

use crate::link::Mode;
use crate::nodes::{Nodes, SECRET, create_job, id};
use crate::peer;
use proto::cluster::{ReadIndexRequest, Support, read_index_response};
use raft::ReadError;
use std::net::SocketAddr;

/// What a node answers to whoever asks it for a read index with this word.
async fn read_index(addr: SocketAddr, to: usize, support: Support) -> Option<u64> {
    let mut client = peer::cluster(addr, id(to), Some(peer::token(SECRET, id(to))));
    let response = client.read_index(ReadIndexRequest { support: Some(support) }).await.unwrap();
    match response.into_inner().result.unwrap() {
        read_index_response::Result::Index(index) => Some(index),
        read_index_response::Result::NotLeader(_) => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_hears_nobody_answers_only_a_follower_that_supports_it() {
    let nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let (one, other) = ((leader + 1) % 3, (leader + 2) % 3);
    let (addr, me) = (nodes.addr(leader), id(leader).0);
    let status = nodes.cluster(leader).status();
    nodes.around(leader, Mode::Cut);

    // Both had voted for it when they were asked; nobody else can lead before one of them votes again, and what was
    // acknowledged until they said this is what the leader knows.
    let support = |node: usize| Support { node: id(node).0, term: status.term, candidate: me };
    for node in [one, other] {
        assert_eq!(read_index(addr, leader, support(node)).await, Some(status.applied));
    }

    // The word of one that has voted for another since, of one of an earlier office, of one that is no member, and the
    // leader's own.
    for lacking in [
        Support { term: status.term + 1, candidate: id(one).0, ..support(one) },
        Support { term: status.term - 1, ..support(one) },
        Support { candidate: id(other).0, ..support(one) },
        Support { node: 9, ..support(one) },
        Support { node: me, ..support(one) },
    ] {
        assert_eq!(read_index(addr, leader, lacking).await, None, "{lacking:?}");
    }

    // The others go on, and support their own leader. What the old one could say now would be stale.
    let next = nodes.leader_among(&[one, other]).await;
    nodes.must(next, create_job(2, 10)).await;
    let term = nodes.cluster(next).status().term;
    assert!(term > status.term);
    let support = Support { node: id(one).0, term, candidate: id(next).0 };
    assert_eq!(read_index(addr, leader, support).await, None);

    nodes.around(leader, Mode::Open);
    nodes.same_state(&[0, 1, 2]).await;
    assert_eq!(nodes.cluster(leader).read_barrier().await, Ok(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_reads_from_a_leader_whose_own_questions_are_not_answered() {
    let mut nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let (follower, away) = ((leader + 1) % 3, (leader + 2) % 3);
    nodes.stop(away).await;
    nodes.must(leader, create_job(1, 10)).await;

    // The follower hears the leader and goes on following it; the leader does not learn that.
    nodes.link(leader, follower).set(Mode::Mute);
    let (read, own) =
        tokio::join!(nodes.cluster(follower).read_barrier(), nodes.cluster(leader).read_barrier());
    assert_eq!(read, Ok(()));
    assert!(nodes.has_job(follower, 1));
    assert_eq!(own, Err(ReadError::NoLeader));

    nodes.link(leader, follower).set(Mode::Open);
    nodes.start(away).await;
    nodes.register(away).await;
    nodes.same_state(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_led_before_a_restart_leads_only_once_it_is_elected_anew() {
    let mut nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let term = nodes.cluster(leader).status().term;
    for node in 0..3 {
        nodes.kill(node);
    }
    // Alone, so that nobody can elect it.
    nodes.start(leader).await;
    let status = nodes.cluster(leader).status();
    assert!(!status.is_leader(), "{status:?}");
    for node in (0..3).filter(|node| *node != leader) {
        nodes.start(node).await;
    }
    let leader = nodes.leader().await;
    assert!(nodes.cluster(leader).status().term > term);
}
