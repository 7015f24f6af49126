//! One process of a node: the real tasks, over a simulated world.

use super::clock::NodeClock;
use super::facts::Fact;
use super::gate::Gate;
use super::mutation::Mutation;
use super::target::SimClient;
use super::way::SimWay;
use super::world::Shared;
use crate::bootstrap::{Work, mint_session};
use crate::executor::Bounds;
use crate::notifier::{Lanes, Notifier};
use crate::supervisor::{OnEnd, Phase, Supervisor};
use domain::id::NodeId;
use domain::limits;
use domain::node::SessionId;
use raft::{Cluster, Position, StateMachine};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use storage::State;
use tokio::sync::Notify;
use tokio::time::Instant;

/// How old what is on disk may be.
const FLUSH_EVERY: Duration = Duration::from_secs(1);

pub(super) struct Process {
    pub(super) node: NodeId,
    pub(super) session: SessionId,
    pub(super) cluster: Cluster,
    pub(super) state: State,
    pub(super) supervisor: Supervisor,
    pub(super) gate: Gate,
    pub(super) draining: bool,
    /// Tells its replica to take over a copy of a state, as a snapshot.
    pub(super) reload: Arc<Reload>,
    /// What was flushed last.
    pub(super) flushed: State,
}

/// A state that waits to be taken over.
#[derive(Default)]
pub(super) struct Reload {
    waiting: parking_lot::Mutex<Option<State>>,
    news: Notify,
}

impl Reload {
    pub(super) fn put(&self, state: State) {
        *self.waiting.lock() = Some(state);
        self.news.notify_one();
    }
}

impl Process {
    /// Starts a process on what is on the node's disk.
    pub(super) fn start(world: &Shared, node: NodeId, disk: &State) -> Self {
        let supervisor = Supervisor::new();
        let gate = supervisor.gate();
        let mutation = world.lock().mutation;
        let (clock, random) = {
            let mut world = world.lock();
            let clock = NodeClock {
                run_start: world.run_start,
                process_start: Instant::now(),
                skew: world.peer(node).skew.clone(),
                gate: gate.clone(),
                oversleep: mutation.map_or(Duration::ZERO, Mutation::oversleep),
            };
            let random = world.dice.throw() as u32;
            (clock, random)
        };
        let state = State::in_memory();
        state.become_copy_of(disk).unwrap();
        let last = world.lock().peer(node).last_session;
        let session = mint_session(&state, last, node, &clock, random).unwrap();
        let members: BTreeMap<NodeId, String> =
            world.lock().peers.keys().map(|node| (*node, String::new())).collect();
        let settings = raft::Settings::new(node, session, members, raft::Secret::new(""));
        let way = SimWay { world: Arc::clone(world), me: node };
        let (cluster, changes, services, machine) =
            Cluster::over(Arc::new(way), settings, state.clone(), Arc::new(clock.clone())).unwrap();
        let applied = Position::of(&state.view()).unwrap().applied;
        {
            let mut world = world.lock();
            world.note(Fact::Began { node, session });
            let peer = world.peer(node);
            peer.session = Some(session);
            peer.last_session = Some(session);
            peer.frozen = false;
            peer.clock = Some(clock.clone());
            peer.contact = Some(cluster.contact());
            peer.applied = applied;
            peer.known = applied;
        }

        let (reload, flushed) = (Arc::new(Reload::default()), State::in_memory());
        flushed.become_copy_of(&state).unwrap();
        supervisor.spawn("consensus", Phase::Storage, OnEnd::StopNode, {
            let cluster = cluster.clone();
            let replica = Replica {
                world: Arc::clone(world),
                node,
                machine,
                state: state.clone(),
                flushed: flushed.clone(),
                flushed_at: Instant::now(),
                reload: Arc::clone(&reload),
            };
            |stop| async move {
                let running = services.into_iter().map(|(_, service)| service);
                let mut running = Box::pin(futures::future::try_join_all(running));
                tokio::select! {
                    biased;
                    ended = &mut running => return ended.map(drop).map_err(Into::into),
                    ended = replica.run() => return ended.map_err(Into::into),
                    () = stop.cancelled() => {}
                }
                cluster.shutdown().await;
                running.await.map(drop).map_err(Into::into)
            }
        });
        let (notifier, orders) = Notifier::orders();
        supervisor.spawn("notifier", Phase::Executor, OnEnd::StopNode, |stop| async move {
            stop.cancelled().await;
            // There are no channels, so nobody has ordered anything.
            drop(orders);
            Ok(())
        });
        let work = Work {
            cluster: cluster.clone(),
            node,
            session,
            sleeper: Arc::new(clock),
            claim_ahead: limits::CLAIM_AHEAD_DEFAULT,
            in_flight: Bounds::default(),
            node_timeout: mutation
                .map_or(limits::NODE_TIMEOUT, |mutation| mutation.node_timeout(limits::NODE_TIMEOUT)),
            client: SimClient { world: Arc::clone(world), session, gate: gate.clone() },
            changes,
            notifier,
            lanes: Lanes::default(),
        };
        work.start(&supervisor);
        Self { node, session, cluster, state, supervisor, gate, draining: false, reload, flushed }
    }
}

/// Applies what is committed.
struct Replica {
    world: Shared,
    node: NodeId,
    machine: StateMachine,
    state: State,
    flushed: State,
    flushed_at: Instant,
    reload: Arc<Reload>,
}

impl Replica {
    async fn run(mut self) -> std::io::Result<()> {
        let news = Arc::clone(&self.world.lock().peer(self.node).news);
        loop {
            let snapshot = self.reload.waiting.lock().take();
            if let Some(snapshot) = snapshot {
                let index = Position::of(&snapshot.view()).unwrap().applied;
                // An older one is not taken.
                if index > Position::of(&self.state.view()).unwrap().applied {
                    self.machine.adopt(&snapshot)?;
                    self.world.lock().has_applied(self.node, index);
                }
            }
            let mut run = self.world.lock().run_of(self.node);
            let Some((last, _)) = run.last() else {
                tokio::select! {
                    biased;
                    () = news.notified() => {}
                    () = self.reload.news.notified() => {}
                }
                continue;
            };
            let index = last.index;
            if self.world.lock().mutation == Some(Mutation::Diverges)
                && self.node == NodeId(2)
                && let Some((_, Some(payload))) = run.iter_mut().find(|(place, _)| place.index == 40)
            {
                payload.at = payload.at.plus(Duration::from_secs(1));
            }
            self.machine.apply_committed(run)?;
            self.world.lock().has_applied(self.node, index);
            if self.flushed_at.elapsed() >= FLUSH_EVERY {
                self.flushed_at = Instant::now();
                self.flushed.become_copy_of(&self.state).unwrap();
            }
            tokio::task::yield_now().await;
        }
    }
}
