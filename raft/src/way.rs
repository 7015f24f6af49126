//! What the rest of this crate asks of consensus and of the other nodes: the seam below which simulations begin.
//!
//! Above it are proposals, read barriers and signs of life; below it openraft and gRPC ([`crate::office::Office`]), or what
//! stands for them.

use crate::Member;
use crate::belief::ClockReading;
use crate::error::TransferError;
use crate::quotas::{Granted, Take};
use bytes::Bytes;
use domain::id::NodeId;
use futures::future::BoxFuture;
use std::collections::BTreeMap;
use std::time::Duration;

/// Why a leader did not do what it was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It does not lead; perhaps it knows who does. Nothing has happened.
    NotLeader(Option<NodeId>),
    /// Nobody can say whether it has happened.
    Unknown,
}

/// Consensus as one node sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sight {
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// The current term.
    pub term: u64,
    /// How long ago a quorum confirmed this node as the leader; `None` when it does not lead, by its own knowledge.
    pub since_quorum: Option<Duration>,
    /// Whether this node, while it leads, has applied all that was committed before it came into office. Until then its state
    /// is no ground to act on.
    pub is_caught_up: bool,
    /// Index of the last entry that this node knows to be committed.
    pub committed: u64,
    /// Index of the last entry that it has applied.
    pub applied: u64,
    /// All members.
    pub members: Vec<Member>,
}

/// What a leader says that has heard a sign of life.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Heard {
    /// Index of the last entry in its log: what is committed, by whomever, lies before.
    pub log_end: u64,
    /// How far each member is, as far as it knows.
    pub members: BTreeMap<NodeId, u64>,
    /// What it says of its clock, if it does.
    pub clock: Option<ClockReading>,
    /// Whether it counts the node as silent all the same, since it says that its clock is wrong.
    pub discounted: bool,
}

/// The way to whoever leads. Cheap to ask; what takes time is a future that may be dropped.
pub trait Way: Send + Sync + 'static {
    /// See [`Sight`].
    fn sight(&self) -> Sight;

    /// As [`Sight::leader`].
    fn leader(&self) -> Option<NodeId> {
        self.sight().leader
    }

    /// Whether this node takes part in elections.
    fn may_vote(&self) -> bool {
        true
    }

    /// Puts an encoded proposal into the log of `leader`. Returns its index once `leader` has applied it.
    fn propose_to(&self, leader: NodeId, proposal: Bytes) -> BoxFuture<'_, Result<u64, Refused>>;

    /// How far the log must be applied to show everything that was acknowledged before this call, asked of `leader`.
    fn read_index_of(&self, leader: NodeId) -> BoxFuture<'_, Result<u64, Refused>>;

    /// Tells `leader` that this node is alive, has applied the log that far, and what its clock shows. `None` when it does not answer within
    /// `patience`, or does not lead.
    fn ping(
        &self,
        leader: NodeId,
        applied: u64,
        clock: ClockReading,
        patience: Duration,
    ) -> BoxFuture<'_, Option<Heard>>;

    /// Asks the others whether this node still belongs to them, while it knows of no leader.
    fn ask_around(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }

    /// Takes from what an account may still ask for, counted at the leader. `None` when it cannot be asked.
    fn take(&self, take: Take) -> BoxFuture<'_, Option<Granted>>;

    /// Gives leadership to `successor`, or to the voter that is furthest, if this node has it. Who leads then, unless that is
    /// not known in time.
    fn transfer_leadership(
        &self,
        successor: Option<NodeId>,
    ) -> BoxFuture<'_, Result<Option<NodeId>, TransferError>>;

    /// Ends consensus on this node.
    fn shutdown(&self) -> BoxFuture<'_, ()>;
}
