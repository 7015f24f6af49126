//! Brings what came of something into the replicated state, for as long as it takes.
//!
//! Outcomes are kept while no leader is known, and proposed again until the state has an answer. Whatever is reported
//! must bear to be said twice.

use crate::clock::Sleeper;
use raft::command::Command;
use raft::{Cluster, ProposeError};
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Outcomes in one proposal.
const TOGETHER_MAX: usize = 256;
/// How long one proposal may take before it is made again.
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after a proposal that found no leader.
const RETRY_AFTER: Duration = Duration::from_millis(100);

/// What came of an attempt at something.
pub(crate) trait Report: Send + 'static {
    /// Names that something.
    type Id: Display + Send + Sync + 'static;
    /// What it is, for the log.
    const OF: &'static str;

    /// Of what it is the outcome, and of which attempt.
    fn of(&self) -> (Self::Id, u32);

    /// What the state is told.
    fn command(self) -> Command;
}

/// Told of each attempt that the state has the outcome of, or that this process can do no more for.
type OnEnd<Id> = Box<dyn Fn(Id, u32) + Send + Sync>;

/// Proposes outcomes.
pub(crate) struct Recorder<R: Report> {
    cluster: Cluster,
    sleeper: Arc<dyn Sleeper>,
    outcomes: mpsc::Receiver<R>,
    end: OnEnd<R::Id>,
}

impl<R: Report> Recorder<R> {
    /// A recorder with which at most `waiting_max` outcomes wait, and where they are handed over.
    pub(crate) fn new(
        cluster: Cluster,
        sleeper: Arc<dyn Sleeper>,
        waiting_max: usize,
        end: impl Fn(R::Id, u32) + Send + Sync + 'static,
    ) -> (Self, mpsc::Sender<R>) {
        let (sender, outcomes) = mpsc::channel(waiting_max);
        (Self { cluster, sleeper, outcomes, end: Box::new(end) }, sender)
    }

    /// Runs until `stop`, and then until everything handed over is recorded.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut batch = Vec::with_capacity(TOGETHER_MAX);
        loop {
            tokio::select! {
                biased;
                received = self.outcomes.recv_many(&mut batch, TOGETHER_MAX) => {
                    if received == 0 {
                        // Everybody who could hand something over has ended.
                        stop.cancelled().await;
                        return;
                    }
                }
                () = stop.cancelled() => {
                    self.outcomes.close();
                    if self.outcomes.recv_many(&mut batch, TOGETHER_MAX).await == 0 {
                        return;
                    }
                }
            }
            self.propose(std::mem::take(&mut batch)).await;
        }
    }

    async fn propose(&self, outcomes: Vec<R>) {
        let attempts: Vec<_> = outcomes.iter().map(R::of).collect();
        let commands: Vec<Command> = outcomes.into_iter().map(R::command).collect();
        loop {
            match self.cluster.propose_all(commands.clone(), PROPOSE_TIMEOUT).await {
                Ok(replies) => {
                    for ((id, _), reply) in attempts.iter().zip(replies) {
                        if let Err(rejection) = reply {
                            tracing::debug!(of = R::OF, %id, %rejection, "outcome not taken");
                        }
                    }
                    break;
                }
                Err(ProposeError::Stopping) => {
                    let outcomes = attempts.len();
                    tracing::warn!(of = R::OF, outcomes, "stopped before the outcomes were recorded");
                    break;
                }
                Err(error) => {
                    let outcomes = attempts.len();
                    tracing::debug!(of = R::OF, %error, outcomes, "outcomes wait for a leader");
                    self.sleeper.sleep(RETRY_AFTER).await;
                }
            }
        }
        for (id, attempt) in attempts {
            (self.end)(id, attempt);
        }
    }
}
