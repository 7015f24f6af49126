//! Members, incarnations, and what the dead leave behind.

use super::execution::{self, Loaded};
use super::{Context, Effect, delivery};
use crate::command::{
    Applied, DrainNode, ExpireNode, RaiseLevel, RegisterNode, RemoveNode, Reply, SetShardMap,
};
use domain::id::NodeId;
use domain::node::{Incarnation, Node};
use domain::rejection::Rejection;
use domain::shard::SHARDS;
use domain::time::Timestamp;
use storage::Read;
use storage::schema::{Claims, Nodes, RemovedNode, RemovedNodes, Sessions, ShardMaps};

/// Nodes in a cluster at most, by far.
const NODES_MAX: usize = 1_000;
/// Claims taken from a dead process at a time. All go in one command; this bounds only memory.
const ORPHANS_AT_ONCE: usize = 1_000;

pub(super) fn register(
    context: &mut Context<'_, '_>,
    command: RegisterNode,
) -> Result<Reply, storage::Error> {
    let RegisterNode { node, session, api_url, rpc_addr, version, level, at } = command;
    if context.txn.contains::<RemovedNodes>(&node)? {
        return Ok(Err(Rejection::NodeRemoved));
    }
    if level < context.meta.level {
        return Ok(Err(Rejection::LevelUnsupported { node, supported: level }));
    }
    if let Some(known) = context.txn.get::<Nodes>(&node)?
        && known.session == session
        && known.expired_at.is_none()
    {
        return Ok(Ok(Applied::Registered(known.incarnation)));
    }
    // What an earlier process has sent it has sent by the clock of the same machine, whatever leaders' clocks show.
    orphan_claims(context, node, context.now.max(at))?;
    delivery::orphan(context, node)?;
    context.meta.last_incarnation += 1;
    let incarnation = Incarnation(context.meta.last_incarnation);
    let record = Node {
        id: node,
        session,
        incarnation,
        api_url,
        rpc_addr,
        version,
        level,
        registered_at: context.now,
        draining: false,
        expired_at: None,
    };
    context.txn.put::<Nodes>(&node, &record)?;
    context.effects.push(Effect::Node(node));
    Ok(Ok(Applied::Registered(incarnation)))
}

pub(super) fn drain(context: &mut Context<'_, '_>, command: DrainNode) -> Result<Reply, storage::Error> {
    let DrainNode { node, incarnation } = command;
    let Some(mut record) = context.txn.get::<Nodes>(&node)? else {
        return Ok(Err(Rejection::NoSuchNode));
    };
    if !record.is_live(incarnation) {
        return Ok(Err(Rejection::NotLive));
    }
    record.draining = true;
    context.txn.put::<Nodes>(&node, &record)?;
    context.effects.push(Effect::Node(node));
    Ok(Ok(Applied::Done))
}

pub(super) fn expire(context: &mut Context<'_, '_>, command: ExpireNode) -> Result<Reply, storage::Error> {
    let ExpireNode { node, incarnation } = command;
    let Some(mut record) = context.txn.get::<Nodes>(&node)? else {
        return Ok(Err(Rejection::NoSuchNode));
    };
    if record.incarnation != incarnation || record.expired_at.is_some() {
        return Ok(Err(Rejection::NotLive));
    }
    record.expired_at = Some(context.now);
    context.txn.put::<Nodes>(&node, &record)?;
    // Nobody here knows what its clock showed. Nobody counts as dead before claims made ahead have come to their instant.
    orphan_claims(context, node, Timestamp::MAX)?;
    delivery::orphan(context, node)?;
    context.effects.push(Effect::Node(node));
    Ok(Ok(Applied::Done))
}

pub(super) fn remove(context: &mut Context<'_, '_>, command: RemoveNode) -> Result<Reply, storage::Error> {
    let RemoveNode { node } = command;
    if context.txn.contains::<RemovedNodes>(&node)? {
        return Ok(Ok(Applied::Done));
    }
    orphan_claims(context, node, Timestamp::MAX)?;
    delivery::orphan(context, node)?;
    context.txn.remove::<Nodes>(&node)?;
    context.txn.remove::<Sessions>(&node)?;
    context.txn.put::<RemovedNodes>(&node, &RemovedNode { removed_at: context.now })?;
    context.effects.push(Effect::Node(node));
    Ok(Ok(Applied::Done))
}

pub(super) fn raise_level(
    context: &mut Context<'_, '_>,
    command: RaiseLevel,
) -> Result<Reply, storage::Error> {
    let RaiseLevel { to } = command;
    if to <= context.meta.level {
        return Ok(Ok(Applied::Done));
    }
    let nodes = context.txn.prefix::<Nodes>(&[], None, NODES_MAX)?;
    if let Some((node, known)) = nodes.into_iter().find(|(_, node)| node.level < to) {
        return Ok(Err(Rejection::LevelUnsupported { node, supported: known.level }));
    }
    context.meta.level = to;
    Ok(Ok(Applied::Done))
}

pub(super) fn set_shard_map(
    context: &mut Context<'_, '_>,
    command: SetShardMap,
) -> Result<Reply, storage::Error> {
    let SetShardMap { expected_version, owners } = command;
    let mut map = context.txn.get::<ShardMaps>(&())?.unwrap_or_default();
    if map.version != expected_version || owners.len() != SHARDS {
        return Ok(Err(Rejection::Stale));
    }
    map.version += 1;
    map.owners = owners;
    context.txn.put::<ShardMaps>(&(), &map)?;
    context.effects.push(Effect::ShardMap);
    Ok(Ok(Applied::Done))
}

/// Takes everything `node` holds away from it: due again, or failed, as each job's delivery says. `its_clock` is the latest
/// that the clock of the process may have shown.
fn orphan_claims(
    context: &mut Context<'_, '_>,
    node: NodeId,
    its_clock: Timestamp,
) -> Result<(), storage::Error> {
    loop {
        let claims = context.txn.keys_prefix::<Claims>(&node.0.to_be_bytes(), None, ORPHANS_AT_ONCE)?;
        if claims.is_empty() {
            return Ok(());
        }
        for claim in claims {
            context.txn.remove::<Claims>(&claim)?;
            if let Some(mut loaded) = Loaded::get(context, claim.1)? {
                let delivery = loaded.job(context)?.delivery;
                if loaded.execution.orphan(context.now, its_clock, delivery).is_some() {
                    execution::store(context, loaded)?;
                }
            }
        }
    }
}
