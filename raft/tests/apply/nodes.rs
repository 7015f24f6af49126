//! Nodes that are removed from the cluster, and what all of them support.

use crate::machine::{Machine, ONE, TWO, at};
use domain::execution::{DueItem, ExecutionState};
use domain::id::{ExecutionId, NodeId};
use domain::node::{FeatureLevel, SessionId};
use domain::rejection::Rejection;
use raft::apply::Effect;
use raft::command::{Applied, Claim, ClaimTarget, Command, RaiseLevel, RegisterNode, RemoveNode};
use storage::schema::{Due, DueKey, Nodes, RemovedNodes, Sessions};

fn remove(node: NodeId) -> Command {
    Command::RemoveNode(RemoveNode { node })
}

fn register(node: NodeId, session: u64) -> Command {
    register_with(node, session, 1)
}

fn register_with(node: NodeId, session: u64, level: u32) -> Command {
    Command::RegisterNode(RegisterNode {
        node,
        session: SessionId(session),
        api_url: String::new(),
        rpc_addr: String::new(),
        version: String::new(),
        level: FeatureLevel(level),
        at: domain::time::Timestamp::EPOCH,
    })
}

fn raise(to: u32) -> Command {
    Command::RaiseLevel(RaiseLevel { to: FeatureLevel(to) })
}

#[test]
fn what_a_removed_node_holds_is_due_again_at_once() {
    let mut machine = Machine::new();
    let job = machine.create_job(1, at(10));
    let target = machine.firing(job, Some(at(70)));
    let id = ExecutionId::scheduled(job, at(10));
    let incarnation = machine.incarnation(TWO);
    assert_eq!(machine.claim(TWO, target), Ok(Applied::Claimed(Some(id))));

    machine.set(at(11));
    machine.done(remove(TWO));
    assert!(machine.effects.contains(&Effect::Node(TWO)));
    assert_eq!(machine.get::<Nodes>(&TWO), None);
    assert_eq!(machine.get::<RemovedNodes>(&TWO).unwrap().removed_at, at(11));
    let execution = machine.execution(id);
    assert_eq!((&execution.state, execution.attempt), (&ExecutionState::Pending, 2));
    assert!(machine.keys::<Due>().contains(&DueKey::new(execution.due, DueItem::Execution(id))));

    // Neither the process that was removed nor another one of the node takes it back.
    let target = ClaimTarget::Execution { id, attempt: 2 };
    machine.refused(Command::Claim(Claim { node: TWO, incarnation, target }), Rejection::NotLive);
    machine.refused(register(TWO, 2), Rejection::NodeRemoved);
    // Asked twice, done once.
    machine.set(at(12));
    machine.done(remove(TWO));
    assert_eq!(machine.get::<RemovedNodes>(&TWO).unwrap().removed_at, at(11));
}

#[test]
fn a_removed_node_proposes_nothing_more() {
    let mut machine = Machine::new();
    assert_eq!(machine.apply_of(TWO, 5, vec![register(TWO, 5)]).len(), 1);
    machine.done(remove(TWO));
    let job = machine.create_job(1, at(10));
    let run = |number| {
        let execution = ExecutionId::manual(job, at(0), number);
        Command::RunJob(raft::command::RunJob { account: crate::samples::ACCOUNT, execution })
    };
    assert_eq!(machine.apply_of(TWO, 5, vec![run(1)]), [Err(Rejection::UnknownSession)]);
    let answers = machine.apply_of(TWO, 6, vec![register(TWO, 6), run(2)]);
    assert_eq!(answers, [Err(Rejection::NodeRemoved), Err(Rejection::NodeRemoved)]);
    assert_eq!(machine.get::<Sessions>(&TWO), None);
}

#[test]
fn a_node_that_removes_itself_leaves_no_session() {
    let mut machine = Machine::new();
    assert!(machine.get::<Sessions>(&ONE).is_some());
    assert_eq!(machine.apply_all(vec![remove(ONE)]), [Ok(Applied::Done)]);
    assert_eq!(machine.get::<Sessions>(&ONE), None);
    assert_eq!(machine.apply_all(vec![remove(TWO)]), [Err(Rejection::UnknownSession)]);
}

#[test]
fn an_id_that_was_never_registered_can_be_removed_for_good() {
    let mut machine = Machine::new();
    machine.done(remove(NodeId(9)));
    machine.refused(register(NodeId(9), 1), Rejection::NodeRemoved);
}

#[test]
fn the_level_rises_once_every_node_that_was_ever_heard_of_supports_it() {
    let mut machine = Machine::new();
    let refusal = |node| Rejection::LevelUnsupported { node, supported: FeatureLevel(1) };
    machine.refused(raise(2), refusal(ONE));
    machine.apply_of(ONE, 2, vec![register_with(ONE, 2, 3)]);
    let as_one = |machine: &mut Machine, command| machine.apply_of(ONE, 2, vec![command]).swap_remove(0);
    assert_eq!(as_one(&mut machine, raise(2)), Err(refusal(TWO)));
    // A dead one may come back.
    let incarnation = machine.incarnation(TWO);
    let expire = Command::ExpireNode(raft::command::ExpireNode { node: TWO, incarnation });
    assert_eq!(as_one(&mut machine, expire), Ok(Applied::Done));
    assert_eq!(as_one(&mut machine, raise(2)), Err(refusal(TWO)));
    assert_eq!(machine.meta().level, FeatureLevel(1));
    let registered = as_one(&mut machine, register_with(TWO, 3, 2));
    assert!(matches!(registered, Ok(Applied::Registered(_))), "{registered:?}");
    assert_eq!(as_one(&mut machine, raise(2)), Ok(Applied::Done));
    assert_eq!(machine.meta().level, FeatureLevel(2));

    // It never falls, and is not raised beyond what one supports.
    assert_eq!(as_one(&mut machine, raise(1)), Ok(Applied::Done));
    let refusal = Rejection::LevelUnsupported { node: TWO, supported: FeatureLevel(2) };
    assert_eq!(as_one(&mut machine, raise(3)), Err(refusal));
    assert_eq!(machine.meta().level, FeatureLevel(2));
    // Who does not support it stays outside.
    let refusal = Rejection::LevelUnsupported { node: TWO, supported: FeatureLevel(1) };
    assert_eq!(as_one(&mut machine, register_with(TWO, 4, 1)), Err(refusal));
    // Unless it is removed.
    assert_eq!(as_one(&mut machine, remove(TWO)), Ok(Applied::Done));
    assert_eq!(as_one(&mut machine, raise(3)), Ok(Applied::Done));
}
