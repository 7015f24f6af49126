//! Every "no" the replicated state can say.

use crate::execution::NotRecorded;
use crate::id::NodeId;
use crate::node::FeatureLevel;
use serde::{Deserialize, Serialize};

/// Why a command changed nothing. Part of the replicated log's answers: the same on every node.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum Rejection {
    /// There is no such account.
    #[error("no such account")]
    NoSuchAccount,
    /// There is no such job, or it belongs to another account.
    #[error("no such job")]
    NoSuchJob,
    /// There is no such space, or it belongs to another account.
    #[error("no such space")]
    NoSuchSpace,
    /// There is no such key, or it belongs to another account.
    #[error("no such key")]
    NoSuchKey,
    /// There is no such channel, or it belongs to another account.
    #[error("no such channel")]
    NoSuchChannel,
    /// There is no such delivery any more.
    #[error("no such delivery")]
    NoSuchDelivery,
    /// There is no such execution any more.
    #[error("no such execution")]
    NoSuchExecution,
    /// There is no such node.
    #[error("no such node")]
    NoSuchNode,
    /// The node was removed from the cluster.
    #[error("the node was removed from the cluster")]
    NodeRemoved,
    /// The cluster is not at the feature level that the command needs.
    #[error("this needs feature level {needed}; see justrun cluster upgrade")]
    LevelTooLow {
        /// The level it needs.
        needed: FeatureLevel,
    },
    /// A node's build does not support the feature level.
    #[error("node {node} runs a build that supports feature level {supported} at most")]
    LevelUnsupported {
        /// Which node.
        node: NodeId,
        /// Up to which level its build goes.
        supported: FeatureLevel,
    },
    /// The id is taken.
    #[error("the id is taken")]
    Exists,
    /// The job is paused already.
    #[error("the job is already paused")]
    AlreadyPaused,
    /// The job is active already.
    #[error("the job is already active")]
    AlreadyActive,
    /// The account's plan allows no more jobs.
    #[error("the plan allows at most {jobs_max} jobs")]
    TooManyJobs {
        /// How many it allows.
        jobs_max: u64,
    },
    /// The account's plan allows no more diagnoses today.
    #[error("the plan allows at most {diagnoses_max} diagnoses a day")]
    TooManyDiagnoses {
        /// How many it allows.
        diagnoses_max: u64,
    },
    /// The account has as many of them as it may have.
    #[error("an account has at most {max} of them")]
    TooMany {
        /// How many it may have.
        max: u64,
    },
    /// Somebody is registered with this address.
    #[error("the address is taken")]
    EmailTaken,
    /// The space still holds jobs.
    #[error("the space still has jobs")]
    SpaceNotEmpty,
    /// A request with this idempotency key was answered before.
    #[error("the request was answered before")]
    Answered,
    /// The job has as many unfinished executions as it may have.
    #[error("the job has too many unfinished executions")]
    TooManyOpen,
    /// What the command was computed from has changed; compute it again.
    #[error("the state has moved on")]
    Stale,
    /// The execution is claimed, finished or not due for this claim.
    #[error("the execution cannot be claimed")]
    NotClaimable,
    /// The outcome was not taken.
    #[error("the outcome was not recorded: {0:?}")]
    NotRecorded(NotRecorded),
    /// The node is not live under the incarnation the command names.
    #[error("the node's incarnation is over")]
    NotLive,
    /// The process that proposed has not registered, or another one has taken its place.
    #[error("unknown session")]
    UnknownSession,
    /// The cluster has been set up already.
    #[error("the cluster already has an account")]
    AlreadyBootstrapped,
    /// A backup is being restored; nothing else changes until that is done.
    #[error("a backup is being restored")]
    Restoring,
    /// A backup is restored into an empty cluster only.
    #[error("the cluster is not empty")]
    NotEmpty,
    /// A part of a backup is none.
    #[error("a part of the backup cannot be read")]
    UnreadablePart,
}
