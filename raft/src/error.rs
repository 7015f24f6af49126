//! What can go wrong, as far as a caller acts differently.

use crate::belonging::Dismissed;
use crate::codec::DecodeError;
use domain::rejection::Rejection;
use std::io;

/// Why a proposal brought no answer, or a refusal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// The state machine said no: tell whoever asked.
    #[error(transparent)]
    Rejected(#[from] Rejection),
    /// No leader was found in time. The proposal was accepted nowhere and will never take effect.
    #[error("no leader")]
    NoLeader,
    /// No answer came in time. The proposal may have taken effect, or may still do so for a short while.
    #[error("proposal timed out; it may still take effect")]
    Unknown,
    /// It is larger than an entry of the log may be.
    #[error("proposal has {bytes} bytes, at most {bytes_max} are allowed", bytes_max = crate::settings::PROPOSAL_BYTES_MAX)]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// This node is stopping. The proposal was accepted nowhere.
    #[error("this node is stopping")]
    Stopping,
    /// The instants in it may be wrong. The proposal was accepted nowhere.
    #[error("the clock of this node differs from those of the others")]
    ClockAstray,
}

/// Why the state cannot be shown to be up to date.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// No leader with a quorum answered in time.
    #[error("no leader")]
    NoLeader,
    /// This node is stopping.
    #[error("this node is stopping")]
    Stopping,
}

/// Why leadership stays where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// This node does not lead.
    #[error("this node does not lead")]
    NotLeader,
    /// No other voter is there to take over.
    #[error("no other voter can take over")]
    NoSuccessor,
    /// Nobody took over in time.
    #[error("nobody took over in time")]
    TimedOut,
}

/// Why consensus cannot begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings contradict each other.
    #[error("unusable consensus settings: {0}")]
    Settings(String),
    /// The listener cannot be used.
    #[error("the rpc listener cannot be used")]
    Listener(#[source] io::Error),
    /// What is on disk cannot be used.
    #[error("the log or the state cannot be used")]
    Storage(#[source] io::Error),
    /// The node may not take part any more.
    #[error(transparent)]
    Dismissed(#[from] Dismissed),
    /// Consensus refused to start.
    #[error("consensus cannot start: {0}")]
    Consensus(String),
}

impl From<DecodeError> for StartError {
    fn from(error: DecodeError) -> Self {
        Self::Storage(error.into())
    }
}

impl From<storage::Error> for StartError {
    fn from(error: storage::Error) -> Self {
        Self::Storage(io::Error::other(error))
    }
}

/// Why a service of this crate ended before it was told to. The node must end with it.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// Consensus stopped: the disk failed, or an entry could not be applied.
    #[error("consensus has stopped: {0}")]
    Consensus(String),
    /// What is applied does not get to disk any more.
    #[error("the state cannot be written: {0}")]
    State(String),
    /// Nobody can reach this node any more.
    #[error("the rpc server has failed")]
    Server(#[source] tonic::transport::Error),
}
