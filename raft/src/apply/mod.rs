//! The only door to the replicated state: one proposal, applied.
//!
//! A plain function of the state and the proposal: no clock, no randomness, no map order, no network.
//! Each arm reads "load, ask the domain, store"; the rules live in `domain`.

mod account;
mod channel;
mod delivery;
mod execution;
mod history;
mod job;
mod node;
mod once;
pub(crate) mod restore;
mod space;
mod timetable;

use crate::command::{Command, Proposal, Reply};
use domain::id::{DeliveryId, ExecutionId, JobId, NodeId};
use domain::node::Incarnation;
use domain::rejection::Rejection;
use domain::time::Timestamp;
use storage::schema::{Due, DueKey, Meta, Metas, RemovedNodes, Session, Sessions};
use storage::{Read, StateTxn};

/// A hint for this node's scheduler about what has just changed. What to do is always read from the
/// state; a lost hint delays, it never loses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Something new waits for a claim.
    Due(DueKey),
    /// A process has something to send.
    Claimed {
        /// What.
        id: ExecutionId,
        /// When.
        due: Timestamp,
        /// Whose process.
        node: NodeId,
        /// Which process.
        incarnation: Incarnation,
    },
    /// A process has a message to deliver.
    ClaimedDelivery {
        /// Which.
        id: DeliveryId,
        /// When.
        due: Timestamp,
        /// Whose process.
        node: NodeId,
        /// Which process.
        incarnation: Incarnation,
    },
    /// The shards have new owners.
    ShardMap,
    /// A node registered, was counted as dead, or was removed.
    Node(NodeId),
    /// A job was deleted; its history waits to be swept.
    Deleted(JobId),
    /// A backup was restored: everything is to be read afresh.
    Restored,
}

/// What the application of one command works with.
struct Context<'a, 'txn> {
    txn: &'a mut StateTxn<'txn>,
    /// The state's clock: never runs backwards, though leaders' clocks disagree.
    now: Timestamp,
    meta: Meta,
    /// The process that claims, once it was seen to be live: claims come by the hundred.
    live: Option<(NodeId, Incarnation)>,
    effects: &'a mut Vec<Effect>,
}

impl Context<'_, '_> {
    /// Puts something in the due index and says so.
    fn put_due(&mut self, key: DueKey) -> Result<(), storage::Error> {
        self.txn.put::<Due>(&key, &())?;
        self.effects.push(Effect::Due(key));
        Ok(())
    }
}

/// Applies `proposal`, stamped `at` by the leader that appended it. One reply for each command.
///
/// A proposal that was applied before changes nothing and gets the replies of the first time.
///
/// # Errors
/// Only when the storage is broken; a refusal is a reply.
pub fn apply(
    txn: &mut StateTxn<'_>,
    at: Timestamp,
    proposal: Proposal,
    effects: &mut Vec<Effect>,
) -> Result<Vec<Reply>, storage::Error> {
    let Proposal { node, session, sequence, acknowledged_below, commands } = proposal;
    let refuse = |rejection: Rejection| Ok(commands.iter().map(|_| Err(rejection.clone())).collect());
    let refused = || refuse(Rejection::UnknownSession);

    let mut record = match txn.get::<Sessions>(&node)? {
        Some(record) if record.session == session => record,
        known => {
            // Sessions rise with every start of a node's process, so a late copy of an earlier
            // process's registration cannot push out the present one.
            let newer = known.is_none_or(|known| known.session < session);
            let registers = matches!(
                commands.first(),
                Some(Command::RegisterNode(register)) if register.node == node && register.session == session
            );
            if !newer || !registers {
                return refused();
            }
            if txn.contains::<RemovedNodes>(&node)? {
                return refuse(Rejection::NodeRemoved);
            }
            Session { session, acknowledged_below: 0, replies: std::collections::BTreeMap::new() }
        }
    };
    if let Some(replies) = record.replies.get(&sequence) {
        return storage::codec::decode_body(replies);
    }
    if sequence < record.acknowledged_below {
        return refused();
    }

    let leaves = commands.iter().any(|command| matches!(command, Command::RemoveNode(it) if it.node == node));
    let before = txn.get::<Metas>(&())?.unwrap_or_default();
    let mut context = Context { now: before.now.max(at), meta: before.clone(), live: None, txn, effects };
    context.meta.now = context.now;
    let replies =
        commands.into_iter().map(|command| dispatch(&mut context, command)).collect::<Result<Vec<_>, _>>()?;

    let Context { txn, meta, .. } = context;
    if meta != before {
        txn.put::<Metas>(&(), &meta)?;
    }
    if leaves {
        // Its session went with it.
        return Ok(replies);
    }
    record.acknowledged_below = record.acknowledged_below.max(acknowledged_below);
    record.replies = record.replies.split_off(&record.acknowledged_below);
    record.replies.insert(sequence, storage::codec::encode_body(&replies));
    txn.put::<Sessions>(&node, &record)?;
    Ok(replies)
}

fn dispatch(context: &mut Context<'_, '_>, command: Command) -> Result<Reply, storage::Error> {
    if context.meta.restoring && !restore::admits(&command) {
        return Ok(Err(Rejection::Restoring));
    }
    let needed = command.needs();
    if needed > context.meta.level {
        return Ok(Err(Rejection::LevelTooLow { needed }));
    }
    if !matches!(command, Command::Claim(_)) {
        context.live = None;
    }
    match command {
        Command::RegisterNode(command) => node::register(context, command),
        Command::DrainNode(command) => node::drain(context, command),
        Command::ExpireNode(command) => node::expire(context, command),
        Command::RemoveNode(command) => node::remove(context, command),
        Command::RaiseLevel(command) => node::raise_level(context, command),
        Command::SetShardMap(command) => node::set_shard_map(context, command),
        Command::Bootstrap(command) => account::bootstrap(context, command),
        Command::CreateSpace(command) => space::create(context, command),
        Command::CreateJob(command) => job::create(context, *command),
        Command::UpdateJob(command) => job::update(context, *command),
        Command::DeleteJob(command) => job::delete(context, command),
        Command::PauseJob(command) => job::pause(context, command),
        Command::ResumeJob(command) => job::resume(context, command),
        Command::RunJob(command) => execution::run(context, command),
        Command::Claim(command) => execution::claim(context, command),
        Command::Release(command) => execution::release(context, command),
        Command::Record(command) => execution::record(context, *command),
        Command::Sweep(command) => execution::sweep(context, command),
        Command::Prune(command) => execution::prune(context, command),
        Command::CreateAccount(command) => account::create(context, *command),
        Command::CreateKey(command) => account::create_key(context, command),
        Command::RevokeKey(command) => account::revoke_key(context, command),
        Command::NoteKeyUse(command) => account::note_key_use(context, command),
        Command::SetSessionKey(command) => account::set_session_key(context, command),
        Command::EndSession(command) => account::end_session(context, command),
        Command::ChangeBilling(command) => account::change_billing(context, *command),
        Command::SaveDiagnosis(command) => account::save_diagnosis(context, *command),
        Command::UpdateSpace(command) => space::update(context, command),
        Command::DeleteSpace(command) => space::delete(context, command),
        Command::PauseSpace(command) => space::pause(context, command),
        Command::ResumeSpace(command) => space::resume(context, command),
        Command::AlignSpace(command) => space::align(context, command),
        Command::CreateChannel(command) => channel::create(context, *command),
        Command::UpdateChannel(command) => channel::update(context, *command),
        Command::DeleteChannel(command) => channel::delete(context, command),
        Command::RecordDelivery(command) => delivery::record(context, *command),
        Command::Once(command) => once::once(context, *command),
        Command::BeginRestore(command) => restore::begin(context, command),
        Command::RestorePart(command) => restore::part(context, command),
        Command::StepRestore(command) => restore::step(context, command),
    }
}
