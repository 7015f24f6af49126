//! One run: a plan carried out in one thread, in virtual time.

use super::clock::{NodeClock, START};
use super::facts::{Dated, Fact};
use super::mutation::Mutation;
use super::plan::{Disk, Plan, Step, Who};
use super::process::Process;
use super::users::User;
use super::world::{Action, Shared, World};
use crate::supervisor::Drained;
use domain::id::NodeId;
use domain::node::SessionId;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use storage::State;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

/// How long everything runs on after it has healed. Longer than what was missed takes to be noticed.
const SETTLES_FOR: Duration = Duration::from_secs(25);
/// How long what is under way may take after all jobs were paused: the longest timeout and its outcome.
const ENDS_FOR: Duration = Duration::from_secs(12);
/// As the real drain.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(35);

/// What a run leaves to be judged.
pub(super) struct Ran {
    pub(super) plan: Plan,
    pub(super) facts: Vec<Dated>,
    pub(super) ended_at: Duration,
    /// What the log makes of the state.
    pub(super) truth: State,
    pub(super) states: Vec<(NodeId, State)>,
}

/// Carries out a plan.
pub(super) fn run(plan: &Plan, mutation: Option<Mutation>) -> Ran {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let world = World::new(plan, mutation);
        let mut driver = Driver {
            disks: plan_nodes(plan).map(|node| (node, State::in_memory())).collect(),
            world,
            processes: BTreeMap::new(),
            users: JoinSet::new(),
            drains: JoinSet::new(),
            salt: 0,
        };
        driver.drive().await
    })
}

fn plan_nodes(plan: &Plan) -> impl Iterator<Item = NodeId> + use<> {
    (1..=plan.nodes).map(NodeId)
}

struct Driver {
    world: Shared,
    processes: BTreeMap<NodeId, Process>,
    /// What is on disk where no process runs.
    disks: BTreeMap<NodeId, State>,
    users: JoinSet<()>,
    /// Processes that drain, and how long they stay away.
    drains: JoinSet<(NodeId, SessionId, Drained, u64)>,
    salt: u16,
}

impl Driver {
    async fn drive(&mut self) -> Ran {
        let (plan, run_start, earlier) = {
            let world = self.world.lock();
            (world.plan.clone(), world.run_start, Arc::clone(&world.earlier))
        };
        for node in plan_nodes(&plan) {
            self.start(node);
        }
        let founder = self.user(1).expect("it runs");
        self.users.spawn(founder.found());
        self.world.lock().put(plan.heals_at, Action::Heal);
        loop {
            let next = run_start + self.world.lock().next_at();
            tokio::select! {
                biased;
                () = sleep_until(next) => {}
                () = earlier.notified() => continue,
                Some(drained) = self.drains.join_next() => {
                    let (node, session, drained, down_ms) = drained.expect("a drain does not panic");
                    self.has_drained(node, session, &drained, down_ms);
                    continue;
                }
            }
            loop {
                let Some(action) = self.world.lock().take_due() else { break };
                if let Action::End = action {
                    return self.end(plan);
                }
                self.act(action);
            }
            self.watch();
        }
    }

    fn act(&mut self, action: Action) {
        let mut world = self.world.lock();
        match action {
            Action::Heartbeat => world.heartbeat(),
            Action::Commit { term, upto } => world.commit_of(term, upto),
            Action::Deliver { node, index } => world.delivered(node, index),
            Action::Copy { proposal } => {
                if let Some(leader) = world.leader {
                    drop(world.accept(leader, proposal));
                }
            }
            Action::Mend { from, to } => {
                if let Some(cuts) = world.cut.get_mut(&(from, to)) {
                    *cuts -= 1;
                    if *cuts == 0 {
                        world.cut.remove(&(from, to));
                    }
                }
            }
            Action::Fast { node } => world.peer(node).lag = Duration::ZERO,
            Action::Lossless => world.lossy_permille = 0,
            Action::Step(step) => {
                world.note(Fact::Step(step.clone()));
                drop(world);
                self.step(step);
            }
            Action::Start { node } => {
                drop(world);
                self.start(node);
            }
            Action::Thaw { node } => {
                drop(world);
                self.thaw(node);
            }
            Action::Heal => {
                drop(world);
                self.heal();
            }
            Action::PauseAll => {
                drop(world);
                self.pause_all();
            }
            Action::End => {}
        }
    }

    /// A process that ends by itself is started again, as an operator's supervisor does.
    fn watch(&mut self) {
        let failed: Vec<_> = self
            .processes
            .iter()
            .filter_map(|(node, process)| process.supervisor.failure().map(|reason| (*node, reason)))
            .collect();
        for (node, reason) in failed {
            self.world.lock().note(Fact::Ended { node, cause: reason.to_string() });
            self.kill(node, 1_000, Disk::Whole);
        }
    }

    fn start(&mut self, node: NodeId) {
        let may_start = {
            let world = self.world.lock();
            world.peers[&node].session.is_none()
        };
        if may_start && !self.processes.contains_key(&node) {
            let process = Process::start(&self.world, node, &self.disks[&node]);
            self.processes.insert(node, process);
        }
    }

    fn thaw(&mut self, node: NodeId) {
        if let Some(process) = self.processes.get(&node) {
            self.world.lock().peer(node).frozen = false;
            process.gate.open();
        }
    }

    fn gone(&mut self, process: &Process, drained: bool) {
        let (node, session) = (process.node, process.session);
        let mut world = self.world.lock();
        world.step_down(node);
        let peer = world.peer(node);
        peer.session = None;
        peer.frozen = false;
        peer.contact = None;
        world.note(Fact::Gone { node, session, drained });
    }

    fn kill(&mut self, node: NodeId, down_ms: u64, disk: Disk) {
        let Some(process) = self.processes.remove(&node) else { return };
        process.supervisor.kill();
        self.gone(&process, false);
        let left = match disk {
            Disk::Whole => process.state.clone(),
            Disk::Older => process.flushed.clone(),
            Disk::Lost => {
                // Two empty disks would be more than a cluster of three survives.
                let mut world = self.world.lock();
                let committed = world.committed();
                if committed == 0 || world.peers.values().any(|peer| peer.filled_at.is_some()) {
                    process.flushed.clone()
                } else {
                    let peer = world.peer(node);
                    peer.filled_at = Some(committed);
                    peer.last_session = None;
                    State::in_memory()
                }
            }
        };
        // The state itself may be written to no more, but by nobody either: its tasks are gone.
        self.disks.insert(node, left);
        self.come_back(node, down_ms);
    }

    fn come_back(&mut self, node: NodeId, after_ms: u64) {
        let mut world = self.world.lock();
        let at = world.now() + Duration::from_millis(after_ms);
        world.put(at, Action::Start { node });
    }

    fn drain(&mut self, node: NodeId, down_ms: u64) {
        let Some(process) = self.processes.get_mut(&node).filter(|process| !process.draining) else { return };
        process.draining = true;
        let (session, supervisor) = (process.session, process.supervisor.clone());
        let draining = async move {
            let drained = supervisor.drain(DRAIN_TIMEOUT).await;
            (node, session, drained, down_ms)
        };
        // It may be frozen on the way. One that is killed never comes to its end.
        self.drains.spawn(process.gate.hold(draining));
    }

    fn has_drained(&mut self, node: NodeId, session: SessionId, drained: &Drained, down_ms: u64) {
        let is_of = |process: &Process| process.session == session;
        if !self.processes.get(&node).is_some_and(is_of) {
            return;
        }
        let Some(process) = self.processes.remove(&node) else { return };
        if let Some(reason) = process.supervisor.failure() {
            self.world.lock().note(Fact::Ended { node, cause: reason.to_string() });
        }
        process.supervisor.kill();
        self.gone(&process, drained.stuck.is_empty());
        self.disks.insert(node, process.state.clone());
        self.come_back(node, down_ms);
    }

    fn user(&self, via: u64) -> Option<User> {
        // The REST API ends first.
        let process = self.processes.get(&NodeId(via)).filter(|process| !process.draining)?;
        let clock: NodeClock = self.world.lock().peers[&NodeId(via)].clock.clone()?;
        Some(User {
            world: Arc::clone(&self.world),
            cluster: process.cluster.clone(),
            clock: Box::new(clock),
        })
    }

    fn ask(&mut self, step: Step, job: usize, via: u64) {
        let Some(user) = self.user(via) else { return };
        let plan = self.world.lock().plan.jobs[job].clone();
        self.salt += 1;
        self.users.spawn(user.ask(step, plan, job, self.salt));
    }

    fn cut(&mut self, from: NodeId, to: NodeId, for_ms: u64) {
        let mut world = self.world.lock();
        *world.cut.entry((from, to)).or_default() += 1;
        let at = world.now() + Duration::from_millis(for_ms);
        world.put(at, Action::Mend { from, to });
    }

    fn later(&mut self, after_ms: u64, action: Action) {
        let mut world = self.world.lock();
        let at = world.now() + Duration::from_millis(after_ms);
        world.put(at, action);
    }

    fn resolve(&self, who: Who) -> NodeId {
        self.world.lock().resolve(who)
    }

    fn step(&mut self, step: Step) {
        match step {
            Step::Create { job, via }
            | Step::Update { job, via, .. }
            | Step::Pause { job, via }
            | Step::Resume { job, via }
            | Step::Delete { job, via }
            | Step::RunNow { job, via } => self.ask(step, job, via),
            Step::Kill { who, down_ms, disk } => self.kill(self.resolve(who), down_ms, disk),
            Step::KillAll { down_ms } => {
                for node in self.processes.keys().copied().collect::<Vec<_>>() {
                    self.kill(node, down_ms, Disk::Older);
                }
            }
            Step::Freeze { who, for_ms } => {
                let node = self.resolve(who);
                if let Some(process) = self.processes.get(&node) {
                    process.gate.shut();
                    self.world.lock().peer(node).frozen = true;
                    self.later(for_ms, Action::Thaw { node });
                }
            }
            Step::Isolate { who, for_ms } => {
                let node = self.resolve(who);
                for other in plan_nodes(&self.plan()).filter(|other| *other != node) {
                    self.cut(node, other, for_ms);
                    self.cut(other, node, for_ms);
                }
            }
            Step::CutOneWay { from, to, for_ms } => {
                let from = self.resolve(from);
                if from != NodeId(to) {
                    self.cut(from, NodeId(to), for_ms);
                }
            }
            Step::Slow { who, lag_ms, for_ms } => {
                let node = self.resolve(who);
                self.world.lock().peer(node).lag = Duration::from_millis(lag_ms);
                self.later(for_ms, Action::Fast { node });
            }
            Step::Lossy { permille, for_ms } => {
                self.world.lock().lossy_permille = permille;
                self.later(for_ms, Action::Lossless);
            }
            Step::Skew { who, millis } => {
                let node = self.resolve(who);
                self.world.lock().peer(node).skew.set(millis);
            }
            Step::Drain { who, down_ms } => self.drain(self.resolve(who), down_ms),
            Step::DrainAll { down_ms } => {
                for node in self.processes.keys().copied().collect::<Vec<_>>() {
                    self.drain(node, down_ms);
                }
            }
            Step::Transfer => {
                let mut world = self.world.lock();
                if let Some(leader) = world.leader {
                    world.transfer(leader, None);
                }
            }
            Step::Reload { who } => {
                let node = self.resolve(who);
                let leader = self.world.lock().leader.and_then(|leader| self.processes.get(&leader));
                if let (Some(leader), Some(process)) = (leader, self.processes.get(&node)) {
                    let copy = State::in_memory();
                    copy.become_copy_of(&leader.state).unwrap();
                    process.reload.put(copy);
                }
            }
        }
    }

    fn plan(&self) -> Plan {
        self.world.lock().plan.clone()
    }

    /// From here on nothing goes wrong any more.
    fn heal(&mut self) {
        {
            let mut world = self.world.lock();
            world.note(Fact::Healed);
            world.cut.clear();
            world.lossy_permille = 0;
            for peer in world.peers.values_mut() {
                peer.lag = Duration::ZERO;
                peer.skew.set(0);
            }
            let now = world.now();
            world.put(now + SETTLES_FOR, Action::PauseAll);
        }
        for node in plan_nodes(&self.plan()) {
            self.thaw(node);
            self.start(node);
        }
    }

    fn pause_all(&mut self) {
        for job in 0..self.plan().jobs.len() {
            let runs = self.processes.values().find(|process| !process.draining);
            let via = runs.map_or(1, |process| process.node.0);
            self.ask(Step::Pause { job, via }, job, via);
        }
        let ends_ms = u64::try_from(ENDS_FOR.as_millis()).unwrap();
        self.later(ends_ms, Action::End);
    }

    fn end(&mut self, plan: Plan) -> Ran {
        let states = self.processes.values().map(|process| (process.node, process.state.clone())).collect();
        for process in self.processes.values() {
            process.supervisor.kill();
        }
        let mut world = self.world.lock();
        let (facts, truth) = (std::mem::take(&mut world.facts), world.truth.clone());
        Ran { plan, facts, ended_at: world.now(), truth, states }
    }
}

/// The instant of the run as a timestamp.
pub(super) fn instant(at: Duration) -> domain::time::Timestamp {
    START.plus(at)
}
