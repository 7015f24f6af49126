//! What a leader does for others, and the way to whoever leads.

use crate::Member;
use crate::belief::ClockReading;
use crate::belonging::Belonging;
use crate::contact::Contact;
use crate::error::TransferError;
use crate::members::{MemberChange, Unchanged};
use crate::network::Peers;
use crate::quotas::{Granted, Quotas, Take};
use crate::services;
use crate::settings::PROPOSAL_BYTES_MAX;
use crate::support::{self, Support};
use crate::types::{ClientWriteError, LogId, Payload, Raft};
use crate::way::{Heard, Refused, Sight, Way};
use bytes::Bytes;
use domain::id::NodeId;
use domain::node::SessionId;
use domain::time::{Clock, Timestamp};
use futures::future::BoxFuture;
use openraft::async_runtime::WatchReceiver;
use openraft::errors::RaftError;
use openraft::raft::ReadPolicy;
use openraft::{Instant, ServerState};
use parking_lot::Mutex;
use proto::cluster::{
    PingRequest, ProposeRequest, ReadIndexRequest, SupportRequest, TakeRequest, ping_response,
    propose_response, read_index_response, take_response,
};
use std::collections::BTreeSet;
use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tonic::{Code, ConnectError, Status};

/// How long a leader may take to confirm its office for a read.
const READ_INDEX_TIMEOUT: Duration = Duration::from_secs(1);
/// How long one node may take to give its word before all are asked.
const SUPPORT_TIMEOUT: Duration = Duration::from_millis(50);
/// How long a transfer of leadership may take.
const TRANSFER_TIMEOUT: Duration = Duration::from_secs(2);
/// How often a transfer looks whether it has come about.
const TRANSFER_INTERVAL: Duration = Duration::from_millis(20);

/// The leader's desk on this node, and its address elsewhere. Clones are the same.
#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) me: NodeId,
    session: SessionId,
    pub(crate) raft: Raft,
    pub(crate) peers: Peers,
    pub(crate) contact: Contact,
    pub(crate) belonging: Belonging,
    /// Whether this node may vote. One that has lost its disk has forgotten what it voted for and what it had
    /// acknowledged, so it may not until it has all of that again.
    pub(crate) may_vote: Arc<AtomicBool>,
    clock: Arc<dyn Clock>,
    pub(crate) quotas: Quotas,
    /// The last instant an entry was stamped with.
    stamped: Arc<Mutex<Timestamp>>,
}

impl Office {
    pub(crate) fn new(
        me: NodeId,
        session: SessionId,
        raft: Raft,
        peers: Peers,
        contact: Contact,
        belonging: Belonging,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            me,
            session,
            raft,
            peers,
            contact,
            belonging,
            may_vote: Arc::new(AtomicBool::new(true)),
            clock,
            quotas: Quotas::default(),
            stamped: Arc::default(),
        }
    }

    /// Puts a proposal into the log, if this node leads. Returns its index once it is applied here.
    pub(crate) async fn accept(&self, proposal: Bytes) -> Result<u64, Refused> {
        if proposal.len() > PROPOSAL_BYTES_MAX * 2 {
            return Err(Refused::NotLeader(None));
        }
        // An entry says when it is, and the state's time never goes back.
        let now = self.clock.now();
        if !self.contact.believes(now) {
            return Err(Refused::NotLeader(None));
        }
        let at = {
            let mut stamped = self.stamped.lock();
            *stamped = now.max(*stamped);
            *stamped
        };
        if let Err(forward) = self.raft.as_leader() {
            return Err(Refused::NotLeader(
                forward.leader_id.map(NodeId).filter(|leader| *leader != self.me),
            ));
        }
        match self.raft.client_write(Payload { at, proposal }).await {
            Ok(written) => Ok(written.log_id.index),
            // Said only before the entry is appended: a quorum is out of reach, or leadership is being handed over.
            Err(RaftError::APIError(ClientWriteError::ForwardToLeader(forward))) => {
                Err(Refused::NotLeader(forward.leader_id.map(NodeId).filter(|leader| *leader != self.me)))
            }
            // An entry can outlive the office of the leader that appended it.
            Err(_) => Err(Refused::Unknown),
        }
    }

    /// This node's word for whom it has voted, unless it may have forgotten.
    pub(crate) async fn support(&self) -> Option<Support> {
        if !self.may_vote.load(Ordering::Acquire) {
            return None;
        }
        let me = self.me;
        self.raft.with_raft_state(move |state| Support::of(me, state)).await.ok()
    }

    /// The word of the other node that was heard last, if one is enough.
    async fn support_of_another(&self) -> Option<Support> {
        let voters: BTreeSet<u64> = {
            let metrics = self.raft.metrics();
            let metrics = metrics.borrow_watched();
            let membership = metrics.membership_config.membership();
            support::is_enough(membership).then(|| membership.voter_ids().collect())?
        };
        let heard = self.contact.heard().into_iter().filter(|(node, _)| voters.contains(&node.0));
        let (other, _) = heard.min_by_key(|(_, since)| *since)?;
        let mut client = self.peers.cluster(other).ok()?;
        let asked = tokio::time::timeout(SUPPORT_TIMEOUT, client.support(SupportRequest {})).await;
        let answer = asked.ok()?.inspect_err(|refusal| self.belonging.heed(refusal));
        answer.ok()?.into_inner().support.map(Into::into)
    }

    async fn read_index_with(&self, support: Support) -> Option<u64> {
        let me = self.me;
        self.raft.with_raft_state(move |state| support::read_index(me, state, support)).await.ok()?
    }

    /// How far the log must be applied to show everything acknowledged before this call, or before the asking node gave
    /// its word, if this node leads.
    pub(crate) async fn read_index(&self, asker: Option<Support>) -> Result<u64, Refused> {
        let support = match asker {
            Some(support) => Some(support),
            None => self.support_of_another().await,
        };
        if let Some(support) = support
            && let Some(index) = self.read_index_with(support).await
        {
            return Ok(index);
        }
        // Everybody is asked.
        let asked = self.raft.get_read_log_id(ReadPolicy::ReadIndex);
        match tokio::time::timeout(READ_INDEX_TIMEOUT, asked).await {
            Ok(Ok((read, _))) => Ok(read.index()),
            Ok(Err(_)) | Err(_) => Err(Refused::NotLeader(self.leader().filter(|leader| *leader != self.me))),
        }
    }

    /// Has the leader change the members.
    pub(crate) async fn change_at(&self, leader: NodeId, change: &MemberChange) -> Result<(), Unchanged> {
        let Ok(mut client) = self.peers.admin(leader) else { return Err(Unchanged::NotLeader(None)) };
        match client.change_members(change.to_request(true)).await {
            Ok(response) => Unchanged::from_response(response.into_inner()),
            Err(status) if never_sent(&status) => Err(Unchanged::NotLeader(None)),
            Err(status) => Err(Unchanged::Unknown(self.heeded(&status).message().to_owned())),
        }
    }

    /// A refusal, which this node has looked at: it may have been removed.
    fn heeded<'a>(&self, refusal: &'a Status) -> &'a Status {
        self.belonging.heed(refusal);
        refusal
    }

    /// What this node answers to a sign of life of `node` that it has heard.
    pub(crate) fn heard(&self, node: NodeId, discounted: bool) -> ping_response::Heard {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let progress = |(node, matched): (&u64, &Option<LogId>)| ping_response::Progress {
            node: *node,
            matched: matched.as_ref().map_or(0, |id| id.index),
        };
        ping_response::Heard {
            // The metrics may be a moment old, and what is applied is of their log as well.
            log_end: metrics.last_log_index.max(metrics.last_applied.map(|id| id.index)).unwrap_or_default(),
            members: metrics.replication.iter().flatten().map(progress).collect(),
            clock: Some(self.contact.clock_for(node).into()),
            discounted,
        }
    }

    /// Whether anything was ever committed here, as far as this node knows.
    pub(crate) fn has_applied(&self) -> bool {
        self.raft.metrics().borrow_watched().last_applied.is_some()
    }
}

impl Way for Office {
    fn sight(&self) -> Sight {
        sight(&self.raft)
    }

    fn leader(&self) -> Option<NodeId> {
        self.raft.metrics().borrow_watched().current_leader.map(NodeId)
    }

    fn may_vote(&self) -> bool {
        self.may_vote.load(Ordering::Acquire)
    }

    fn propose_to(&self, leader: NodeId, proposal: Bytes) -> BoxFuture<'_, Result<u64, Refused>> {
        Box::pin(async move {
            if leader == self.me {
                return self.accept(proposal).await;
            }
            let Ok(mut client) = self.peers.cluster(leader) else { return Err(Refused::NotLeader(None)) };
            match client.propose(ProposeRequest { proposal }).await {
                Ok(response) => match response.into_inner().result {
                    Some(propose_response::Result::Applied(applied)) => Ok(applied.index),
                    Some(propose_response::Result::NotLeader(other)) => {
                        Err(Refused::NotLeader(other.leader.map(NodeId)))
                    }
                    None => Err(Refused::Unknown),
                },
                Err(status) if never_sent(&status) => Err(Refused::NotLeader(None)),
                Err(status) => Err(match self.heeded(&status).code() {
                    Code::Unauthenticated
                    | Code::PermissionDenied
                    | Code::FailedPrecondition
                    | Code::InvalidArgument
                    | Code::Unimplemented => Refused::NotLeader(None),
                    _ => Refused::Unknown,
                }),
            }
        })
    }

    fn read_index_of(&self, leader: NodeId) -> BoxFuture<'_, Result<u64, Refused>> {
        Box::pin(async move {
            if leader == self.me {
                return self.read_index(None).await;
            }
            let Ok(mut client) = self.peers.cluster(leader) else { return Err(Refused::NotLeader(None)) };
            let support = self.support().await.map(Into::into);
            let asked = client.read_index(ReadIndexRequest { support });
            match tokio::time::timeout(READ_INDEX_TIMEOUT, asked).await {
                Ok(Ok(response)) => match response.into_inner().result {
                    Some(read_index_response::Result::Index(index)) => Ok(index),
                    Some(read_index_response::Result::NotLeader(other)) => {
                        Err(Refused::NotLeader(other.leader.map(NodeId)))
                    }
                    None => Err(Refused::Unknown),
                },
                Ok(Err(status)) => {
                    self.heeded(&status);
                    Err(Refused::Unknown)
                }
                Err(_) => Err(Refused::Unknown),
            }
        })
    }

    fn ping(
        &self,
        leader: NodeId,
        applied: u64,
        clock: ClockReading,
        patience: Duration,
    ) -> BoxFuture<'_, Option<Heard>> {
        Box::pin(async move {
            let mut client = self.peers.cluster(leader).ok()?;
            let clock = Some(clock.into());
            let asked = client.ping(PingRequest { node: self.me.0, session: self.session.0, applied, clock });
            let answer = tokio::time::timeout(patience, asked).await.ok()?;
            match answer.inspect_err(|status| self.belonging.heed(status)).ok()?.into_inner().result? {
                ping_response::Result::Heard(heard) => Some(Heard {
                    log_end: heard.log_end,
                    members: heard
                        .members
                        .iter()
                        .map(|member| (NodeId(member.node), member.matched))
                        .collect(),
                    clock: heard.clock.map(Into::into),
                    discounted: heard.discounted,
                }),
                ping_response::Result::NotLeader(_) => None,
            }
        })
    }

    fn ask_around(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            let asked = self.peers.others().into_iter().map(|node| services::is_formed(self, node));
            futures::future::join_all(asked).await;
        })
    }

    fn take(&self, take: Take) -> BoxFuture<'_, Option<Granted>> {
        Box::pin(async move {
            let leader = self.leader()?;
            if leader == self.me {
                return Some(self.quotas.take(take));
            }
            let Take { account, bucket, window, limit, wanted } = take;
            let request = TakeRequest { account: account.0, bucket: bucket.into(), window, limit, wanted };
            let response = self.peers.cluster(leader).ok()?.take(request).await.ok()?;
            match response.into_inner().result? {
                take_response::Result::Granted(granted) => {
                    Some(Granted { tokens: granted.tokens.min(wanted), left: granted.left })
                }
                take_response::Result::NotLeader(_) => None,
            }
        })
    }

    fn transfer_leadership(
        &self,
        successor: Option<NodeId>,
    ) -> BoxFuture<'_, Result<Option<NodeId>, TransferError>> {
        Box::pin(async move {
            let Sight { leader, members, .. } = self.sight();
            if leader != Some(self.me) {
                return Err(TransferError::NotLeader);
            }
            let others = members.iter().filter(|member| member.voter && member.id != self.me);
            let furthest = || others.max_by_key(|member| member.matched).map(|member| member.id);
            let successor = successor.or_else(furthest).ok_or(TransferError::NoSuccessor)?;
            if self.raft.trigger().transfer_leader(successor.0).await.is_err() {
                return Err(TransferError::NotLeader);
            }
            let deadline = tokio::time::Instant::now() + TRANSFER_TIMEOUT;
            let gone = async {
                while self.raft.metrics().borrow_watched().state == ServerState::Leader {
                    tokio::time::sleep(TRANSFER_INTERVAL).await;
                }
            };
            tokio::time::timeout_at(deadline, gone).await.map_err(|_| TransferError::TimedOut)?;
            let known = async {
                loop {
                    if let Some(leader) = self.leader() {
                        return leader;
                    }
                    tokio::time::sleep(TRANSFER_INTERVAL).await;
                }
            };
            Ok(tokio::time::timeout_at(deadline, known).await.ok())
        })
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            if let Err(error) = self.raft.shutdown().await {
                tracing::warn!(%error, "consensus did not end cleanly");
            }
        })
    }
}

/// Consensus as `raft` has it.
pub(crate) fn sight(raft: &Raft) -> Sight {
    let metrics = raft.metrics().borrow_watched().clone();
    let membership = metrics.membership_config.membership();
    let members: Vec<Member> = membership
        .nodes()
        .map(|(id, node)| Member {
            id: NodeId(*id),
            rpc_addr: node.addr.clone(),
            voter: membership.voter_ids().any(|voter| voter == *id),
            matched: metrics
                .replication
                .as_ref()
                .and_then(|replication| replication.get(id))
                .and_then(|matched| matched.as_ref().map(|id| id.index)),
        })
        .collect();
    let since_quorum = (metrics.state == ServerState::Leader).then(|| {
        if membership.voter_ids().count() == 1 {
            return Duration::ZERO;
        }
        metrics.last_quorum_acked.map_or(Duration::MAX, |acked| acked.into_inner().elapsed())
    });
    // A leader begins its office with an entry, so that everything before that is committed.
    let is_caught_up =
        metrics.last_applied.is_some_and(|applied| applied.leader_id.term == metrics.current_term);
    let leader = metrics.current_leader.map(NodeId);
    Sight {
        leader,
        term: metrics.current_term,
        since_quorum,
        is_caught_up,
        committed: metrics.cluster_committed.map_or(0, |id| id.index),
        applied: metrics.last_applied.map_or(0, |id| id.index),
        members,
    }
}

/// Whether a call failed because there was no connection for it.
fn never_sent(status: &Status) -> bool {
    std::iter::successors(status.source(), |error| (*error).source()).any(|error| error.is::<ConnectError>())
}
