//! THE TABLE: everything that can change the replicated state.
//!
//! A command carries every outside fact it needs: ids, instants, zone arithmetic already done. Its
//! application ([`crate::apply`]) is a plain function of the state and the command.
//!
//! Adding one: a variant and a struct here, a transition in `domain`, an arm in `apply`, and a line in
//! `tests/golden.rs`. A command is proposed only once every member can decode it.

mod account;
mod channel;
mod execution;
mod job;
mod node;
mod restore;
mod space;

pub use account::{
    Bootstrap, ChangeBilling, CreateAccount, CreateKey, EndSession, NoteKeyUse, RevokeKey, SaveDiagnosis,
    SetSessionKey,
};
pub use channel::{CreateChannel, DeleteChannel, UpdateChannel};
pub use execution::{Claim, ClaimTarget, Prune, Release, RunJob, Sweep};
pub use job::{CreateJob, DeleteJob, Overdue, PauseJob, ResumeJob, UpdateJob};
pub use node::{DrainNode, ExpireNode, RaiseLevel, RegisterNode, RemoveNode, SetShardMap};
pub use restore::{BeginRestore, RestorePart, StepRestore};
pub use space::{AlignSpace, CreateSpace, DeleteSpace, PauseSpace, ResumeSpace, UpdateSpace};

use domain::delivery::DeliveryOutcome;
use domain::execution::Outcome;
use domain::id::{AccountId, ExecutionId, NodeId};
use domain::node::{Incarnation, SessionId};
use domain::rejection::Rejection;
use domain::time::Timestamp;
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
    /// A node does not belong to the cluster any more.
    RemoveNode(RemoveNode),
    /// The cluster can do more from now on.
    RaiseLevel(RaiseLevel),
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
    /// History that is too old goes, a bounded step at a time.
    Prune(Prune),
    /// A new account.
    CreateAccount(Box<CreateAccount>),
    /// A new API key.
    CreateKey(CreateKey),
    /// An API key is of no use any more.
    RevokeKey(RevokeKey),
    /// API keys were presented.
    NoteKeyUse(NoteKeyUse),
    /// What session tokens are signed with.
    SetSessionKey(SetSessionKey),
    /// A session token is of no use any more.
    EndSession(EndSession),
    /// What an account pays for.
    ChangeBilling(Box<ChangeBilling>),
    /// A diagnosis was made.
    SaveDiagnosis(Box<SaveDiagnosis>),
    /// Another name or zone for a space.
    UpdateSpace(UpdateSpace),
    /// A space goes.
    DeleteSpace(DeleteSpace),
    /// The jobs of a space stop firing.
    PauseSpace(PauseSpace),
    /// The jobs of a space fire again.
    ResumeSpace(ResumeSpace),
    /// The cursors of a space's jobs follow, a bounded step at a time.
    AlignSpace(AlignSpace),
    /// A new alert channel.
    CreateChannel(Box<CreateChannel>),
    /// Another configuration for an alert channel.
    UpdateChannel(Box<UpdateChannel>),
    /// An alert channel goes.
    DeleteChannel(DeleteChannel),
    /// What came of an attempt to deliver.
    RecordDelivery(Box<DeliveryOutcome>),
    /// Commands of a request that is to be answered once.
    Once(Box<Once>),
    /// A backup is to be restored.
    BeginRestore(BeginRestore),
    /// A part of a backup comes in.
    RestorePart(RestorePart),
    /// What a restoration needs besides, a bounded step at a time.
    StepRestore(StepRestore),
}

/// Commands of one request that named itself with an idempotency key: they take effect together with a
/// record of that, once. Sent again they are refused with [`Rejection::Answered`].
///
/// With a single command, nothing is recorded when that is refused. With several, each reply is part of the
/// record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Once {
    /// Whose request.
    pub account: AccountId,
    /// SHA-256 of the idempotency key.
    pub name: [u8; 32],
    /// SHA-256 of the request.
    pub request: [u8; 32],
    /// How long it is remembered.
    pub expires_at: Timestamp,
    /// What the proposer wants to remember of its answer.
    pub memo: Vec<u8>,
    /// The commands; none of them is another [`Once`].
    pub commands: Vec<Command>,
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
    /// The replies to the commands of a [`Once`].
    All(Vec<Reply>),
    /// How many records a sweep removed; fewer than it could means that nothing is left.
    Swept(u64),
}
