//! THE TABLE: everything that can change the replicated state.
//!
//! A command carries every outside fact it needs: ids, instants, zone arithmetic already done. Its
//! application ([`crate::apply`]) is a plain function of the state and the command.
//!
//! Adding one: a variant and a struct here, a transition in `domain`, an arm in `apply`, and a line in
//! `tests/golden.rs`. A command is proposed only once every member can decode it.

mod account;
mod execution;
mod job;
mod node;
mod space;

pub use account::Bootstrap;
pub use execution::{Claim, ClaimTarget, Release, RunJob, Sweep};
pub use job::{CreateJob, DeleteJob, PauseJob, ResumeJob, UpdateJob};
pub use node::{DrainNode, ExpireNode, RegisterNode, SetShardMap};
pub use space::CreateSpace;

use domain::execution::Outcome;
use domain::id::{ExecutionId, NodeId};
use domain::node::{Incarnation, SessionId};
use domain::rejection::Rejection;
use serde::{Deserialize, Serialize};

/// One change of the state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// A process takes its place in the cluster.
    RegisterNode(RegisterNode),
    /// A process is about to end.
    DrainNode(DrainNode),
    /// The leader counts a process as dead, or a process that has drained takes its leave.
    ExpireNode(ExpireNode),
    /// The leader deals the shards.
    SetShardMap(SetShardMap),
    /// The first account and its key.
    Bootstrap(Bootstrap),
    /// A new space.
    CreateSpace(CreateSpace),
    /// A new job.
    CreateJob(Box<CreateJob>),
    /// Another configuration for a job.
    UpdateJob(Box<UpdateJob>),
    /// A job and its history go.
    DeleteJob(DeleteJob),
    /// A job stops firing.
    PauseJob(PauseJob),
    /// A job fires again.
    ResumeJob(ResumeJob),
    /// A run out of schedule.
    RunJob(RunJob),
    /// A process takes something that is or becomes due.
    Claim(Claim),
    /// A process gives back what it has not started.
    Release(Release),
    /// What came of an attempt.
    Record(Box<Outcome>),
    /// History of deleted jobs goes, a bounded step at a time.
    Sweep(Sweep),
}

/// What one process proposes at once: one entry of the log.
///
/// `(session, sequence)` names it for ever, so that a proposal sent again after a lost answer is
/// recognised and answered, not done twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal {
    /// Which node proposes.
    pub node: NodeId,
    /// Which of its processes.
    pub session: SessionId,
    /// Rises with every proposal of the session, from 1.
    pub sequence: u64,
    /// The proposer will never ask again for a lower sequence: its answers may be forgotten, and a
    /// copy of it that turns up later is refused.
    pub acknowledged_below: u64,
    /// Applied in this order.
    pub commands: Vec<Command>,
}

/// "Yes" or "no" to one command: replicated data, the same on every node.
pub type Reply = Result<Applied, Rejection>;

/// What a command did, as far as its proposer cannot know it beforehand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Applied {
    /// It took effect.
    Done,
    /// The process's number.
    Registered(Incarnation),
    /// The execution that a claim opened or took; `None` when the claim only recorded missed firings.
    Claimed(Option<ExecutionId>),
    /// How many records a sweep removed; fewer than it could means that nothing is left.
    Swept(u64),
}
