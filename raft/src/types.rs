//! The only file with openraft's generics: what it is told about us, and short names for what it gives.

use bytes::Bytes;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a normal entry of the log holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Payload {
    /// When the leader appended it, by its clock; rises from entry to entry of one leader.
    pub at: Timestamp,
    /// An encoded [`crate::command::Proposal`], byte for byte as its proposer made it.
    pub proposal: Bytes,
}

impl fmt::Display for Payload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes at {}", self.proposal.len(), self.at.as_millis())
    }
}

openraft::declare_raft_types!(
    /// What openraft is told about us. Replies do not travel through it: a proposer learns them from its
    /// own application of the log, so that a lost answer or a change of leader loses none.
    pub TypeConfig:
        D = Payload,
        R = (),
        NodeId = u64,
        Node = openraft::impls::BasicNode,
);

pub(crate) type Raft = openraft::Raft<TypeConfig, crate::state_machine::StateMachine>;
pub(crate) type LeaderId = openraft::alias::LeaderIdOf<TypeConfig>;
pub(crate) type LogId = openraft::alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = openraft::alias::VoteOf<TypeConfig>;
pub(crate) type Entry = openraft::alias::EntryOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, openraft::impls::BasicNode>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<TypeConfig>;
pub(crate) type Snapshot = openraft::alias::SnapshotOf<TypeConfig, storage::SnapshotFile>;
pub(crate) type LogState = openraft::storage::LogState<TypeConfig>;
pub(crate) type EntryResponder = openraft::storage::EntryResponder<TypeConfig>;
pub(crate) type IOFlushed = openraft::storage::IOFlushed<TypeConfig>;

pub(crate) type VoteRequest = openraft::raft::VoteRequest<TypeConfig>;
pub(crate) type VoteResponse = openraft::raft::VoteResponse<TypeConfig>;
pub(crate) type AppendRequest = openraft::raft::AppendEntriesRequest<TypeConfig>;
pub(crate) type AppendResult = openraft::raft::StreamAppendResult<TypeConfig>;
pub(crate) type AppendError = openraft::raft::StreamAppendError<TypeConfig>;
pub(crate) type SnapshotResponse = openraft::raft::SnapshotResponse<TypeConfig>;
pub(crate) type TransferRequest = openraft::raft::TransferLeaderRequest<TypeConfig>;
pub(crate) type TransferResponse = openraft::raft::TransferLeaderResponse<TypeConfig>;
pub(crate) type TransferError = openraft::raft::TransferLeaderError<TypeConfig>;

pub(crate) type ClientWriteError = openraft::errors::ClientWriteError<TypeConfig>;
pub(crate) type RpcError = openraft::errors::RPCError<TypeConfig>;
pub(crate) type Unreachable = openraft::errors::Unreachable<TypeConfig>;
pub(crate) type NetworkError = openraft::errors::NetworkError<TypeConfig>;
pub(crate) type StreamingError = openraft::errors::StreamingError<TypeConfig>;
