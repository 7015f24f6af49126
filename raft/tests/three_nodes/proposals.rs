//! What is answered is done, once, and stays done.

use crate::link::Mode;
use crate::nodes::{Nodes, assert_unanswered, create_job, eventually, id, run_job};
use crate::peer;
use proto::cluster::propose_response::Result as Answer;
use raft::codec::{decode_entry, decode_proposal, encode_proposal};
use raft::command::{Applied, Command, Proposal, RegisterNode};
use raft::{PROPOSAL_BYTES_MAX, ProposeError, TransferError};
use std::collections::BTreeMap;
use std::time::Duration;
use storage::Read;
use storage::schema::Sessions;

/// How often each proposal stands in a node's log.
fn copies(nodes: &Nodes, node: usize) -> BTreeMap<(u64, u64), usize> {
    let mut copies = BTreeMap::new();
    for stored in nodes.storage(node).log.read(0..u64::MAX, usize::MAX).unwrap() {
        if let openraft::EntryPayload::Normal(payload) = decode_entry(stored.bytes).unwrap().payload {
            let proposal = decode_proposal(&payload.proposal).unwrap();
            *copies.entry((proposal.session.0, proposal.sequence)).or_default() += 1;
        }
    }
    copies
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_whose_answer_is_lost_is_sent_again_and_done_once() {
    const ROUNDS: u64 = 3;
    let nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let (far, other) = ((leader + 1) % 3, (leader + 2) % 3);
    nodes.must(far, create_job(1, 10)).await;

    let cluster = nodes.cluster(far);
    for round in 0..ROUNDS {
        // The leader hears the node, but the node hears neither the leader's answers nor what it replicates.
        nodes.link(far, leader).set(Mode::Mute);
        nodes.link(leader, far).set(Mode::Held);
        let number = u16::try_from(round).unwrap();
        let healed = async {
            eventually("a second copy", || async {
                let copies = copies(&nodes, leader);
                let again = copies.values().filter(|copies| **copies > 1).count() as u64;
                if again > round { Ok(()) } else { Err(format!("{copies:?}")) }
            })
            .await;
            nodes.link(far, leader).set(Mode::Open);
            nodes.link(leader, far).set(Mode::Open);
        };
        let commands = vec![create_job(10 + round, 10), run_job(1, number), run_job(1, number)];
        let (replies, ()) = tokio::join!(cluster.propose_all(commands, Duration::from_secs(20)), healed);
        let replies = replies.unwrap();
        assert_eq!(replies[..2], [Ok(Applied::Done), Ok(Applied::Done)], "as when it was first applied");
        assert_eq!(replies[2], Err(domain::rejection::Rejection::Exists));
    }
    assert_eq!(nodes.leader_among(&[leader, other]).await, leader, "no election helped");
    nodes.same_state(&[0, 1, 2]).await;
    for node in 0..3 {
        assert_eq!(nodes.runs(node, 1), usize::try_from(ROUNDS).unwrap());
        assert!((10..10 + ROUNDS).all(|job| nodes.has_job(node, job)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_takes_no_other_nodes_answers_for_its_own() {
    let mut nodes = Nodes::new().await;
    nodes.same_session = true;
    nodes.form().await;
    let leader = nodes.leader().await;
    let far = (leader + 1) % 3;
    // It hears what the others do, but nobody hears what it wants.
    nodes.link(far, leader).set(Mode::Cut);
    let patience = Duration::from_secs(2);
    let cluster = nodes.cluster(far);
    let writes = async {
        for job in 0..20 {
            nodes.must(leader, create_job(100 + job, 10)).await;
        }
    };
    let (answer, ()) = tokio::join!(cluster.propose_all(vec![create_job(1, 10)], patience), writes);
    assert_unanswered(&answer);
    assert!(nodes.has_job(far, 119) && !nodes.has_job(far, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_copy_that_arrives_after_its_process_was_replaced_is_refused() {
    let mut nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let (node, session) = ((leader + 1) % 3, nodes.session((leader + 1) % 3));
    nodes.must(node, create_job(1, 10)).await;
    let record = nodes.storage(leader).state.view().get::<Sessions>(&id(node)).unwrap().unwrap();
    let last = *record.replies.last_key_value().unwrap().0;
    nodes.stop(node).await;
    nodes.start(node).await;
    nodes.register(node).await;

    let proposal =
        |sequence, commands| Proposal { node: id(node), session, sequence, acknowledged_below: 0, commands };
    let registration = Command::RegisterNode(RegisterNode {
        node: id(node),
        session,
        api_url: String::new(),
        rpc_addr: String::new(),
        version: String::new(),
        level: domain::node::FeatureLevel::FIRST,
        at: domain::time::Timestamp::EPOCH,
    });
    // What it had sent, what it never sent, and its registration with something behind it.
    let late = [
        proposal(last, vec![create_job(1, 10)]),
        proposal(last + 1, vec![create_job(2, 10)]),
        proposal(1, vec![registration, create_job(3, 10)]),
    ];
    let leader = nodes.leader().await;
    nodes.same_state(&[0, 1, 2]).await;
    let before = nodes.storage(leader).state.digest().unwrap();
    for proposal in late {
        let answer = peer::propose(nodes.addr(leader), id(leader), encode_proposal(&proposal)).await.unwrap();
        // In the log, which is all that the answer says.
        assert!(matches!(answer.result, Some(Answer::Applied(_))), "{answer:?}");
    }
    nodes.same_state(&[0, 1, 2]).await;
    assert_eq!(nodes.storage(leader).state.digest().unwrap(), before);
    nodes.must(node, create_job(4, 10)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_proposals_pass_together_and_a_larger_one_is_refused() {
    let nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let cluster = nodes.cluster((leader + 1) % 3);
    // What stands around a request's body takes less.
    let largest = PROPOSAL_BYTES_MAX - 1_000;
    let answers = futures::future::join_all((0..3).flat_map(|job| {
        let propose = |job, bytes| cluster.propose(create_job(job, bytes));
        // The small ones are under way when the next come, which are sent together then.
        [propose(job, 10), propose(100 + job, 500_000), propose(200 + job, largest)]
    }))
    .await;
    assert!(answers.iter().all(|answer| *answer == Ok(Applied::Done)), "{answers:?}");
    let refused = cluster.propose(create_job(300, PROPOSAL_BYTES_MAX)).await;
    assert!(matches!(refused, Err(ProposeError::TooLarge { .. })), "{refused:?}");
    nodes.same_state(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proposal_that_cannot_be_read_does_not_get_into_the_log() {
    let nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let good = encode_proposal(&Proposal {
        node: id(leader),
        session: nodes.session(leader),
        sequence: 1_000,
        acknowledged_below: 0,
        commands: vec![run_job(1, 1)],
    });
    let mut newer = good.to_vec();
    newer[0] = 2;
    let at = good.windows(6).position(|window| window == b"RunJob").unwrap();
    let mut unknown = good.to_vec();
    unknown[at..at + 6].copy_from_slice(b"RunAll");
    let applied = nodes.cluster(leader).status().applied;
    for bad in [Vec::new(), b"nonsense".to_vec(), newer, unknown, good[..good.len() - 3].to_vec()] {
        let refused = peer::propose(nodes.addr(leader), id(leader), bad.into()).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument, "{refused}");
    }
    assert_eq!(nodes.cluster(leader).status().applied, applied);
    for node in 0..3 {
        nodes.must(node, create_job(node as u64, 10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_survives_the_end_of_any_node_and_of_all() {
    let mut nodes = Nodes::started().await;
    let mut written = Vec::new();
    let mut next = 0;
    for victim in [0, 1, 2] {
        let writers = nodes.running();
        for writer in writers.into_iter().filter(|writer| *writer != victim) {
            next += 1;
            nodes.must(writer, create_job(next, 1_000)).await;
            written.push(next);
        }
        // In order or not; the last write was answered just now.
        if victim == 1 {
            nodes.stop(victim).await;
        } else {
            nodes.kill(victim);
        }
        let writer = (victim + 1) % 3;
        next += 1;
        nodes.must(writer, create_job(next, 1_000)).await;
        written.push(next);
        nodes.start(victim).await;
        nodes.register(victim).await;
    }
    for node in 0..3 {
        nodes.kill(node);
    }
    for node in 0..3 {
        nodes.start(node).await;
    }
    for node in 0..3 {
        eventually("a read", || async {
            nodes.cluster(node).read_barrier().await.map_err(|error| error.to_string())
        })
        .await;
        let missing: Vec<_> = written.iter().filter(|job| !nodes.has_job(node, **job)).collect();
        assert!(missing.is_empty(), "node {node} lost {missing:?}");
    }
    nodes.same_state(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leadership_is_handed_over_and_writes_go_on() {
    let nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let follower = (leader + 1) % 3;
    let term = nodes.cluster(leader).status().term;
    assert_eq!(nodes.cluster(follower).transfer_leadership().await, Err(TransferError::NotLeader));

    let writes = async {
        for job in 0..40 {
            let answer = nodes.cluster(follower).propose(create_job(job, 10)).await;
            assert_eq!(answer, Ok(Applied::Done));
        }
    };
    let (transferred, ()) = tokio::join!(nodes.cluster(leader).transfer_leadership(), writes);
    assert_eq!(transferred, Ok(()));
    assert_ne!(nodes.leader().await, leader);
    assert!(nodes.cluster(leader).status().term > term);
    assert_eq!(nodes.cluster(leader).propose(create_job(100, 10)).await, Ok(Applied::Done));
    nodes.same_state(&[0, 1, 2]).await;
    assert!((0..40).all(|job| nodes.has_job(leader, job)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_nobody_takes_ends_and_the_cluster_goes_on() {
    let nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    for other in [(leader + 1) % 3, (leader + 2) % 3] {
        nodes.link(leader, other).set(Mode::Held);
    }
    let answer =
        tokio::time::timeout(Duration::from_secs(8), nodes.cluster(leader).transfer_leadership()).await;
    // Whoever is not told stands for election by itself in the end.
    assert!(matches!(answer, Ok(Ok(()) | Err(TransferError::TimedOut))), "{answer:?}");
    for other in [(leader + 1) % 3, (leader + 2) % 3] {
        nodes.link(leader, other).set(Mode::Open);
    }
    nodes.must(leader, create_job(1, 10)).await;
    nodes.same_state(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_stops_says_so() {
    let mut nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let cluster = nodes.cluster((leader + 1) % 3).clone();
    nodes.stop((leader + 1) % 3).await;
    assert_eq!(cluster.propose(create_job(1, 10)).await, Err(ProposeError::Stopping));
    assert_eq!(cluster.read_barrier().await, Err(raft::ReadError::Stopping));
    nodes.must(leader, create_job(2, 10)).await;
}
