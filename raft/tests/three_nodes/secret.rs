//! Who may call, and what an outsider learns.

use crate::nodes::{Nodes, SECRET, assert_unanswered, create_job, eventually, id};
use crate::peer::{self, token};
use parking_lot::Mutex;
use proto::admin::{ChangeMembersRequest, change_members_request};
use proto::cluster::{FormationRequest, PingRequest, ProposeRequest, ReadIndexRequest, SupportRequest};
use proto::raft::{Ballot, SnapshotChunk, TransferLeaderRequest, VoteRequest, snapshot_chunk};
use raft::ReadError;
use std::fmt::{Debug, Write};
use std::sync::Arc;
use std::time::Duration;
use tonic::Code;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

const WRONG: &str = "wrong-secret-of-an-outsider";

/// Keeps all that is logged, by whatever library.
#[derive(Clone, Default)]
struct Logged(Arc<Mutex<String>>);

struct Text<'a>(&'a mut String);

impl Visit for Text<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").unwrap();
    }
}

impl Subscriber for Logged {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::DEBUG
    }

    fn new_span(&self, span: &Attributes<'_>) -> Id {
        let mut text = self.0.lock();
        span.record(&mut Text(&mut text));
        text.push('\n');
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, values: &Record<'_>) {
        values.record(&mut Text(&mut self.0.lock()));
    }

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = self.0.lock();
        write!(text, "{}", event.metadata().target()).unwrap();
        event.record(&mut Text(&mut text));
        text.push('\n');
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// Fails if a text gives away a secret, or what opens a node.
fn assert_discreet(text: &str) {
    for secret in [SECRET, WRONG] {
        assert!(!text.contains(secret), "a secret was told");
        for node in 0..3 {
            assert!(!text.contains(&token(secret, id(node))), "the token of node {node} was told");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_with_another_secret_is_refused_changes_nothing_and_nothing_is_told() {
    let logged = Logged::default();
    let logging = |logged: &Logged| {
        let logged = logged.clone();
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            // For as long as the thread lives.
            .on_thread_start(move || std::mem::forget(tracing::subscriber::set_default(logged.clone())))
            .build()
            .unwrap()
    };
    let mut nodes = Nodes::new().await;
    for node in 0..3 {
        let settings = nodes.settings(node, SECRET);
        nodes.start_with(node, settings, logging(&logged)).await;
    }
    nodes.set_up().await;
    let leader = nodes.leader().await;
    let (stranger, other) = ((leader + 1) % 3, (leader + 2) % 3);
    nodes.same_state(&[0, 1, 2]).await;
    nodes.stop(stranger).await;
    let before = (nodes.storage(leader).state.digest().unwrap(), nodes.cluster(leader).status());

    let settings = nodes.settings(stranger, WRONG);
    assert_discreet(&format!("{settings:?} {:?}", settings.secret));
    nodes.start_with(stranger, settings, logging(&logged)).await;
    let cluster = nodes.cluster(stranger).clone();
    let patience = Duration::from_secs(2);
    let command = create_job(1, 10);
    let (refused, read) = tokio::join!(cluster.propose_all(vec![command], patience), cluster.read_barrier());
    assert_unanswered(&refused);
    assert_eq!(read, Err(ReadError::NoLeader));
    eventually("a refusal in the log", || async {
        let found = logged.0.lock().contains("wrong cluster secret");
        found.then_some(()).ok_or_else(|| "nothing about the secret".to_owned())
    })
    .await;
    assert_discreet(&format!(
        "{refused:?} {read:?} {cluster:?} {:?} {:?}",
        cluster.status(),
        cluster.contact()
    ));

    let after = (nodes.storage(leader).state.digest().unwrap(), nodes.cluster(leader).status());
    assert_eq!(after.0, before.0);
    assert_eq!((after.1.leader, after.1.term), (before.1.leader, before.1.term), "no election");
    assert_eq!(nodes.leader_among(&[leader, other]).await, leader);
    assert!(logged.0.lock().len() > 10_000, "the log was not kept");
    assert_discreet(&logged.0.lock());

    // With the right one it is welcome again.
    drop(cluster);
    nodes.stop(stranger).await;
    nodes.start(stranger).await;
    nodes.register(stranger).await;
    nodes.same_state(&[0, 1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_without_the_nodes_own_token_is_refused_and_changes_nothing() {
    let nodes = Nodes::started().await;
    let leader = nodes.leader().await;
    nodes.same_state(&[0, 1, 2]).await;
    let seen = || (nodes.storage(leader).state.digest().unwrap(), nodes.cluster(leader).status());
    let before = seen();
    let (addr, me, other) = (nodes.addr(leader), id(leader), id((leader + 1) % 3));
    let right = token(SECRET, me);
    let mut flipped = right.clone().into_bytes();
    flipped[63] ^= 1;
    let tokens = [
        None,
        Some(String::new()),
        Some(token(WRONG, me)),
        // Another node's: what leaks from one node opens no other.
        Some(token(SECRET, other)),
        Some(String::from_utf8(flipped).unwrap()),
        Some(right[..63].to_owned()),
        Some(format!("{right}0")),
        Some(right.to_uppercase()),
    ];
    let ballot = Some(Ballot { term: 1_000_000, node: 3, committed: true });
    let vote = VoteRequest { ballot, last: None, transfer: true };
    let chunk = SnapshotChunk { part: ballot.map(snapshot_chunk::Part::Ballot) };
    let append = proto::raft::AppendRequest { ballot, ..Default::default() };
    let transfer = TransferLeaderRequest { from: ballot, to: me.0, last: None };
    let remove = ChangeMembersRequest {
        change: Some(change_members_request::Change::Remove(other.0)),
        passed_on: true,
    };
    for token in tokens {
        let mut cluster = peer::cluster(addr, me, token.clone());
        let mut raft = peer::raft(addr, me, token.clone());
        let mut admin = peer::admin(addr, me, token.clone());
        let refusals = [
            cluster.propose(ProposeRequest { proposal: vec![1].into() }).await.map(drop),
            cluster.read_index(ReadIndexRequest::default()).await.map(drop),
            cluster.support(SupportRequest {}).await.map(drop),
            cluster.ping(PingRequest { node: 2, session: 1, applied: 0, clock: None }).await.map(drop),
            cluster.formation(FormationRequest::default()).await.map(drop),
            admin.change_members(remove.clone()).await.map(drop),
            raft.vote(vote).await.map(drop),
            raft.pre_vote(vote).await.map(drop),
            raft.append(futures::stream::iter([append.clone()])).await.map(drop),
            raft.snapshot(futures::stream::iter([chunk.clone()])).await.map(drop),
            raft.transfer_leader(transfer).await.map(drop),
        ];
        for refusal in refusals {
            let status = refusal.unwrap_err();
            assert_eq!(status.code(), Code::Unauthenticated, "{token:?}: {status}");
            assert_discreet(&format!("{status:?} {status}"));
        }
    }
    // The right token of another node, addressed to that node, but sent here.
    let mut misled = peer::cluster(addr, other, Some(token(SECRET, other)));
    assert_eq!(
        misled.formation(FormationRequest::default()).await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    let after = seen();
    assert_eq!(after.0, before.0);
    assert_eq!((after.1.leader, after.1.term), (before.1.leader, before.1.term));

    // And with it they are heard.
    assert!(
        peer::cluster(addr, me, Some(right))
            .formation(FormationRequest::default())
            .await
            .unwrap()
            .into_inner()
            .formed
    );
}
