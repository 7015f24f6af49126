//! Every task of a node: its name, what its end means, and when it is stopped.
//!
//! A task belongs to a [`Phase`] of the shutdown and is told to stop when that comes. A task that
//! panics, or ends although the node cannot do without it, makes the node stop: never a
//! half-dead node.

use futures::FutureExt;
use parking_lot::Mutex;
use std::any::Any;
use std::collections::BTreeMap;
use std::error::Error;
use std::fmt;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What each later phase gets when an earlier one has used up the whole deadline: results still have
/// to be recorded and the storage to be closed.
const PHASE_GRACE: Duration = Duration::from_secs(1);

/// Any error: the supervisor only reports it.
pub type TaskError = Box<dyn Error + Send + Sync>;

/// What is stopped together, in the order of the shutdown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// Requests from outside.
    Api,
    /// What only a leader does.
    Leadership,
    /// What makes things due.
    Shards,
    /// Requests to targets.
    Executor,
    /// What records their outcomes.
    Outcomes,
    /// What others still need it for.
    Quorum,
    /// Consensus and storage.
    Storage,
}

impl Phase {
    /// In the order of the shutdown.
    pub const ALL: [Self; 7] = [
        Self::Api,
        Self::Leadership,
        Self::Shards,
        Self::Executor,
        Self::Outcomes,
        Self::Quorum,
        Self::Storage,
    ];
}

/// What it means when a task ends before it was told to. A panic always stops the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnEnd {
    /// The node cannot do without it and stops.
    StopNode,
    /// It may end; an error is logged.
    Log,
}

/// Why a node stops by itself.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("task {task} {cause}")]
pub struct StopReason {
    /// The task that ended.
    pub task: &'static str,
    /// How it ended.
    pub cause: Cause,
}

/// How a task that should have gone on has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Without an error.
    Ended,
    /// With this error.
    Failed(String),
    /// With this panic.
    Panicked(String),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended => f.write_str("ended unexpectedly"),
            Self::Failed(error) => write!(f, "failed: {error}"),
            Self::Panicked(message) => write!(f, "panicked: {message}"),
        }
    }
}

/// How a shutdown went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drained {
    /// Tasks that did not end in time and were dropped, with their phase.
    pub stuck: Vec<(Phase, &'static str)>,
}

/// Starts tasks and stops them. Cheap to clone; all clones are one supervisor.
#[derive(Clone)]
pub struct Supervisor {
    inner: Arc<Inner>,
}

struct Inner {
    groups: [Group; Phase::ALL.len()],
    /// The first reason for which the node must stop.
    reason: watch::Sender<Option<StopReason>>,
    /// Stops all tasks where they are.
    #[cfg(test)]
    gate: crate::simulation::Gate,
}

/// The tasks of one phase.
#[derive(Default)]
struct Group {
    stop: CancellationToken,
    drop_now: CancellationToken,
    tasks: TaskTracker,
    running: Mutex<BTreeMap<&'static str, usize>>,
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(Phase::ALL.iter().map(|phase| (phase, self.running(*phase)))).finish()
    }
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// Without tasks.
    #[must_use]
    pub fn new() -> Self {
        Self {
            inner: Arc::new(Inner {
                groups: Default::default(),
                reason: watch::Sender::new(None),
                #[cfg(test)]
                gate: crate::simulation::Gate::default(),
            }),
        }
    }

    /// What holds the tasks of a simulated process.
    #[cfg(test)]
    pub(crate) fn gate(&self) -> crate::simulation::Gate {
        self.inner.gate.clone()
    }

    /// Drops all tasks where they are.
    #[cfg(test)]
    pub(crate) fn kill(&self) {
        self.inner.gate.kill();
        for group in &self.inner.groups {
            group.drop_now.cancel();
        }
    }

    /// Starts a task. `task` is given the token by which it is told to stop.
    ///
    /// A task of a phase that is already over is not started: nobody would wait for it.
    ///
    /// # Panics
    /// Outside a tokio runtime.
    pub fn spawn<F, R>(&self, name: &'static str, phase: Phase, on_end: OnEnd, task: F)
    where
        F: FnOnce(CancellationToken) -> R,
        R: Future<Output = Result<(), TaskError>> + Send + 'static,
    {
        let group = self.inner.group(phase);
        if group.drop_now.is_cancelled() {
            tracing::debug!(task = name, "not started: its phase is over");
            return;
        }
        let task = task(group.stop.clone());
        #[cfg(test)]
        let task = self.inner.gate.hold(task);
        // Counted from here on, and off again when the future is dropped, however that happens.
        let entry = Entry::new(Arc::clone(&self.inner), phase, name);
        group.tasks.spawn(async move {
            let group = entry.inner.group(phase);
            let ended = tokio::select! {
                biased;
                ended = AssertUnwindSafe(task).catch_unwind() => ended,
                () = group.drop_now.cancelled() => return,
            };
            let cause = match ended {
                Ok(Ok(())) => Cause::Ended,
                Ok(Err(error)) => Cause::Failed(chain(&*error)),
                Err(panic) => Cause::Panicked(message_of(&*panic)),
            };
            entry.inner.ended(StopReason { task: name, cause }, on_end, group.stop.is_cancelled());
        });
    }

    /// The token that is cancelled when `phase` is to stop.
    #[must_use]
    pub fn stop_token(&self, phase: Phase) -> CancellationToken {
        self.inner.group(phase).stop.clone()
    }

    /// Waits until a task makes the node stop. The first reason stays.
    pub async fn failed(&self) -> StopReason {
        let mut reason = self.inner.reason.subscribe();
        let reason = reason.wait_for(Option::is_some).await.expect("the sender is in self");
        reason.clone().expect("waited for")
    }

    /// The reason for which the node must stop, if there is one: also one that came up while it stopped.
    #[must_use]
    pub fn failure(&self) -> Option<StopReason> {
        self.inner.reason.borrow().clone()
    }

    /// Which tasks of `phase` are running, and how many of each name.
    #[must_use]
    pub fn running(&self, phase: Phase) -> BTreeMap<&'static str, usize> {
        self.inner.group(phase).running.lock().clone()
    }

    /// Stops everything, one phase after the other: tells its tasks, and waits until they have ended.
    ///
    /// All phases together get `deadline`; tasks that are not done by then are dropped. Each
    /// later phase gets one second even so.
    pub async fn drain(&self, deadline: Duration) -> Drained {
        let until = Instant::now() + deadline;
        let mut drained = Drained::default();
        for phase in Phase::ALL {
            let group = self.inner.group(phase);
            group.stop.cancel();
            group.tasks.close();
            let until = until.max(Instant::now() + PHASE_GRACE);
            if tokio::time::timeout_at(until, group.tasks.wait()).await.is_err() {
                let stuck = group.running.lock().keys().copied().collect::<Vec<_>>();
                tracing::warn!(?phase, ?stuck, "tasks did not stop in time");
                drained.stuck.extend(stuck.into_iter().map(|task| (phase, task)));
            }
            group.drop_now.cancel();
            tracing::debug!(?phase, "stopped");
        }
        drained
    }
}

impl Inner {
    fn group(&self, phase: Phase) -> &Group {
        &self.groups[phase as usize]
    }

    fn ended(&self, end: StopReason, on_end: OnEnd, was_told: bool) {
        let stops_node = match (&end.cause, on_end) {
            (Cause::Panicked(_), _) => true,
            (Cause::Failed(_), OnEnd::StopNode) => true,
            (Cause::Ended, OnEnd::StopNode) => !was_told,
            (Cause::Failed(_) | Cause::Ended, OnEnd::Log) => false,
        };
        match (&end.cause, stops_node) {
            (_, true) => tracing::error!(task = end.task, cause = %end.cause, "node must stop"),
            (Cause::Failed(_) | Cause::Panicked(_), false) => {
                tracing::warn!(task = end.task, cause = %end.cause, "task failed");
            }
            (Cause::Ended, false) => tracing::debug!(task = end.task, "task ended"),
        }
        if stops_node {
            self.reason.send_if_modified(|reason| {
                let is_first = reason.is_none();
                reason.get_or_insert(end);
                is_first
            });
        }
    }
}

/// A running task in the count of its group.
struct Entry {
    inner: Arc<Inner>,
    phase: Phase,
    name: &'static str,
}

impl Entry {
    fn new(inner: Arc<Inner>, phase: Phase, name: &'static str) -> Self {
        *inner.group(phase).running.lock().entry(name).or_default() += 1;
        Self { inner, phase, name }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut running = self.inner.group(self.phase).running.lock();
        if let Some(count) = running.get_mut(self.name) {
            *count -= 1;
            if *count == 0 {
                running.remove(self.name);
            }
        }
    }
}

/// An error and its causes in one line.
fn chain(error: &(dyn Error + 'static)) -> String {
    let causes = std::iter::successors(Some(error), |&error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn message_of(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|message| (*message).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "without a message".to_owned())
}

#[cfg(test)]
mod tests;
