//! What a node does that is cut off from the others, and after that.

use crate::link::Mode;
use crate::nodes::{Nodes, assert_unanswered, create_job, eventually};
use raft::{ProposeError, ReadError};
use std::future::Future;
use std::time::{Duration, Instant};

/// On a busy machine an answer may come this much after its deadline.
const SLACK: Duration = Duration::from_millis(1_500);

async fn within<T>(patience: Duration, answer: impl Future<Output = T>) -> T {
    let started = Instant::now();
    let answer = tokio::time::timeout(patience + SLACK, answer).await.expect("an answer in time");
    assert!(started.elapsed() <= patience + SLACK);
    answer
}

/// Waits until a node cannot read any more, so that whatever follows finds it alone.
async fn wait_until_alone(nodes: &Nodes, node: usize) {
    eventually("a refused read", || async {
        match nodes.cluster(node).read_barrier().await {
            Err(ReadError::NoLeader) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_follower_that_is_cut_off_answers_nothing_and_serves_again_when_it_is_healed() {
    for mode in [Mode::Cut, Mode::Held] {
        let nodes = Nodes::started().await;
        let leader = nodes.leader().await;
        let (alone, other) = ((leader + 1) % 3, (leader + 2) % 3);
        nodes.around(alone, mode);

        let patience = Duration::from_secs(1);
        let cluster = nodes.cluster(alone);
        let (lost, read) = tokio::join!(
            within(patience, cluster.propose_all(vec![create_job(1, 10)], patience)),
            within(Duration::from_secs(2), cluster.read_barrier()),
        );
        assert_unanswered(&lost);
        assert_eq!(read, Err(ReadError::NoLeader), "{mode:?}");

        // The others do not notice.
        nodes.must(leader, create_job(2, 10)).await;
        assert!(!nodes.has_job(alone, 2));
        assert_eq!(nodes.leader_among(&[leader, other]).await, leader);

        nodes.around(alone, Mode::Open);
        nodes.must(alone, create_job(3, 10)).await;
        eventually("a read", || async { cluster.read_barrier().await.map_err(|error| error.to_string()) })
            .await;
        assert!(nodes.has_job(alone, 2));
        nodes.same_state(&[0, 1, 2]).await;
        // What got no answer: nowhere if nobody had taken it, otherwise everywhere or nowhere.
        assert!(lost != Err(ProposeError::NoLeader) || !nodes.has_job(alone, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_neither_reads_nor_writes_and_follows_when_it_is_healed() {
    for mode in [Mode::Cut, Mode::Held] {
        let nodes = Nodes::started().await;
        let alone = nodes.leader().await;
        let others = [(alone + 1) % 3, (alone + 2) % 3];
        let cluster = nodes.cluster(alone);
        let applied = cluster.status().applied;
        nodes.around(alone, mode);

        // Both are begun while it still takes itself for the leader.
        let patience = Duration::from_secs(2);
        let (lost, read) = tokio::join!(
            within(patience, cluster.propose_all(vec![create_job(1, 10)], patience)),
            within(Duration::from_secs(2), cluster.read_barrier()),
        );
        assert_eq!(lost, Err(ProposeError::Unknown), "{mode:?}");
        assert_eq!(read, Err(ReadError::NoLeader), "{mode:?}");
        assert_eq!(cluster.status().applied, applied, "nothing is applied without a quorum");
        assert!(!nodes.has_job(alone, 1));

        // The others go on; what they write the old leader does not show, and it does not claim to.
        let leader = nodes.leader_among(&others).await;
        assert_ne!(leader, alone);
        nodes.must(leader, create_job(2, 10)).await;
        assert_eq!(cluster.read_barrier().await, Err(ReadError::NoLeader), "{mode:?}");
        assert!(!nodes.has_job(alone, 2));
        // By now it knows that it is alone, and takes nothing that it might not be able to answer. An attempt that is
        // under way when its time is over counts as taken, so it may need another one.
        let patience = Duration::from_millis(500);
        eventually("a refused write", || async {
            match within(patience, cluster.propose_all(vec![create_job(4, 10)], patience)).await {
                Err(ProposeError::NoLeader) => Ok(()),
                other => Err(format!("{other:?} ({mode:?})")),
            }
        })
        .await;

        nodes.around(alone, Mode::Open);
        eventually("a read", || async { cluster.read_barrier().await.map_err(|error| error.to_string()) })
            .await;
        assert!(nodes.has_job(alone, 2));
        nodes.must(alone, create_job(3, 10)).await;
        nodes.same_state(&[0, 1, 2]).await;
        assert!(!nodes.has_job(leader, 1), "its entry was overwritten by the others'");
        assert!(!nodes.has_job(leader, 4));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_waits_in_line_waits_no_longer_than_for_its_own_deadline() {
    let nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let alone = (leader + 1) % 3;
    nodes.around(alone, Mode::Cut);
    wait_until_alone(&nodes, alone).await;

    let cluster = nodes.cluster(alone);
    let (long, short) = (Duration::from_secs(4), Duration::from_millis(500));
    // More than there can be under way, one at a time so that they are not sent together.
    let patient = futures::future::join_all((0..12).map(|job| async move {
        tokio::time::sleep(Duration::from_millis(10 * job)).await;
        within(long, cluster.propose_all(vec![create_job(100 + job, 10)], long)).await
    }));
    let hasty = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        within(short, cluster.propose_all(vec![create_job(1, 10)], short)).await
    };
    let (patient, hasty) = tokio::join!(patient, hasty);
    assert_unanswered(&hasty);
    patient.iter().for_each(assert_unanswered);
    nodes.around(alone, Mode::Open);
    nodes.must(alone, create_job(2, 10)).await;
    nodes.same_state(&[0, 1, 2]).await;
    for (job, answer) in (100..).zip(&patient).chain([(1, &hasty)]) {
        assert!(*answer != Err(ProposeError::NoLeader) || !nodes.has_job(leader, job), "{job}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_never_sent_is_known_not_to_be_done() {
    let nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    let alone = (leader + 1) % 3;
    nodes.link(alone, leader).refuse();
    let cluster = nodes.cluster(alone);
    let patience = Duration::from_millis(200);
    let mut jobs = 100..200;
    // A proposal on a connection that breaks is another matter.
    let unsent = loop {
        let job = jobs.next().expect("in the end there is no connection");
        match cluster.propose_all(vec![create_job(job, 10)], patience).await {
            Err(ProposeError::NoLeader) => break job,
            answer => assert_eq!(answer, Err(ProposeError::Unknown)),
        }
    };
    assert_eq!(cluster.status().leader, nodes.cluster(leader).status().leader, "it does know a leader");
    nodes.must(leader, create_job(1, 10)).await;
    nodes.same_state(&[0, 1, 2]).await;
    assert!(!nodes.has_job(leader, unsent));
}
