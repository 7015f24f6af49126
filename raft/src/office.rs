//! What a leader does for others, and the way to whoever leads.

use crate::belonging::Belonging;
use crate::contact::Contact;
use crate::members::{MemberChange, Unchanged};
use crate::network::Peers;
use crate::quotas::{Granted, Quotas, Take};
use crate::settings::PROPOSAL_BYTES_MAX;
use crate::support::{self, Support};
use crate::types::{ClientWriteError, LogId, Payload, Raft};
use bytes::Bytes;
use domain::id::NodeId;
use domain::time::{Clock, Timestamp};
use openraft::async_runtime::WatchReceiver;
use openraft::errors::RaftError;
use openraft::raft::ReadPolicy;
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

/// Why a leader did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// It does not lead; perhaps it knows who does. Nothing has happened.
    NotLeader(Option<NodeId>),
    /// Nobody can say whether it has happened.
    Unknown,
}

/// The leader's desk on this node, and its address elsewhere. Clones are the same.
#[derive(Clone)]
pub(crate) struct Office {
    pub(crate) me: NodeId,
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
        raft: Raft,
        peers: Peers,
        contact: Contact,
        belonging: Belonging,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self {
            me,
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

    /// Who leads, as far as this node knows.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.raft.metrics().borrow_watched().current_leader.map(NodeId)
    }

    /// Puts a proposal into the log, if this node leads. Returns its index once it is applied here.
    pub(crate) async fn accept(&self, proposal: Bytes) -> Result<u64, Refused> {
        if proposal.len() > PROPOSAL_BYTES_MAX * 2 {
            return Err(Refused::NotLeader(None));
        }
        // An entry says when it is, and the state's time never goes back.
        if !self.contact.believes(self.clock.now()) {
            return Err(Refused::NotLeader(None));
        }
        let at = {
            let mut stamped = self.stamped.lock();
            *stamped = self.clock.now().max(*stamped);
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

    /// Puts a proposal into the log of `leader`.
    pub(crate) async fn propose_to(&self, leader: NodeId, proposal: Bytes) -> Result<u64, Refused> {
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
        if !support::is_enough(self.raft.metrics().borrow_watched().membership_config.membership()) {
            return None;
        }
        let voters: BTreeSet<u64> =
            self.raft.metrics().borrow_watched().membership_config.membership().voter_ids().collect();
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

    /// As [`Office::read_index`], asked of `leader`.
    pub(crate) async fn read_index_of(&self, leader: NodeId) -> Result<u64, Refused> {
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

    /// Counts at the leader, whoever that is.
    pub(crate) async fn take(&self, take: Take) -> Option<Granted> {
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
    }

    /// Asks the voter that was heard of last to take over, if this node leads.
    pub(crate) async fn resign(&self) {
        let Some((successor, _)) = self.contact.heard().into_iter().min_by_key(|(_, since)| *since) else {
            return;
        };
        tracing::warn!(to = %successor, "handing over leadership: the clock of this node cannot be believed");
        if let Err(error) = self.raft.trigger().transfer_leader(successor.0).await {
            tracing::debug!(%error, "leadership not handed over");
        }
    }

    /// Tells `leader` that this node is alive and how far it is. What a leader says that has heard it.
    pub(crate) async fn ping(
        &self,
        leader: NodeId,
        session: u64,
        applied: u64,
        timeout: Duration,
    ) -> Option<ping_response::Heard> {
        let mut client = self.peers.cluster(leader).ok()?;
        let clock = Some(self.contact.clock_for(leader));
        let asked = client.ping(PingRequest { node: self.me.0, session, applied, clock });
        let answer = tokio::time::timeout(timeout, asked).await.ok()?;
        match answer.inspect_err(|status| self.belonging.heed(status)).ok()?.into_inner().result? {
            ping_response::Result::Heard(heard) => Some(heard),
            ping_response::Result::NotLeader(_) => None,
        }
    }

    /// What this node answers to a sign of life of `node` while it leads.
    pub(crate) fn heard(&self, node: NodeId) -> ping_response::Heard {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let progress = |(node, matched): (&u64, &Option<LogId>)| ping_response::Progress {
            node: *node,
            matched: matched.as_ref().map_or(0, |id| id.index),
        };
        ping_response::Heard {
            committed: metrics.last_applied.map_or(0, |id| id.index),
            members: metrics.replication.iter().flatten().map(progress).collect(),
            clock: Some(self.contact.clock_for(node)),
        }
    }

    /// Whether anything was ever committed here, as far as this node knows.
    pub(crate) fn has_applied(&self) -> bool {
        self.raft.metrics().borrow_watched().last_applied.is_some()
    }
}

/// Whether a call failed because there was no connection for it.
fn never_sent(status: &Status) -> bool {
    std::iter::successors(status.source(), |error| (*error).source()).any(|error| error.is::<ConnectError>())
}
