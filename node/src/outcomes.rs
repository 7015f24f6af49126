//! Brings what came of something into the replicated state, for as long as it takes.
//!
//! Outcomes are kept while no leader is known, and proposed again until the state has an answer. Whatever is reported
//! must bear to be said twice.

use crate::clock::Sleeper;
use raft::command::Command;
use raft::{Cluster, ProposeError};
use std::collections::VecDeque;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Outcomes in one proposal.
const TOGETHER_MAX: usize = 256;
/// Bytes of what they carry beside themselves, bodies above all, in one proposal that has more than one.
const BYTES_TOGETHER_MAX: usize = 512 * 1024;
/// How long the first one waits for others: what is due at one instant ends at nearly one instant, and is written down once the
/// requests are out. Short enough that nobody waits for a result, and that a death takes few outcomes along.
const GATHERED_FOR: Duration = Duration::from_millis(20);
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

    /// Bytes of what it carries beside itself.
    fn bytes(&self) -> usize;

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
        let mut waiting = VecDeque::with_capacity(TOGETHER_MAX);
        loop {
            tokio::select! {
                biased;
                Some(first) = self.outcomes.recv() => waiting.push_back(first),
                () = stop.cancelled(), if !self.outcomes.is_closed() => {
                    self.outcomes.close();
                    continue;
                }
                else => break,
            }
            if self.outcomes.len() < TOGETHER_MAX && !stop.is_cancelled() {
                self.sleeper.sleep(GATHERED_FOR).await;
            }
            while waiting.len() < TOGETHER_MAX
                && let Ok(next) = self.outcomes.try_recv()
            {
                waiting.push_back(next);
            }
            // One proposal after the other: what is to be sent goes before what was.
            while !waiting.is_empty() {
                self.propose(together(&mut waiting)).await;
            }
        }
        // Where everybody who could hand something over has ended before.
        stop.cancelled().await;
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

/// Takes from what waits as much as goes into one proposal.
fn together<R: Report>(waiting: &mut VecDeque<R>) -> Vec<R> {
    let mut bytes = 0;
    let fits = |outcome: &&R| {
        bytes += outcome.bytes();
        bytes <= BYTES_TOGETHER_MAX
    };
    let count = waiting.iter().take(TOGETHER_MAX).take_while(fits).count();
    waiting.drain(..count.max(1).min(waiting.len())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::id::NodeId;
    use domain::node::Incarnation;
    use raft::command::DrainNode;

    struct Carrying(usize);

    impl Report for Carrying {
        type Id = usize;
        const OF: &'static str = "test";

        fn of(&self) -> (usize, u32) {
            (self.0, 1)
        }

        fn bytes(&self) -> usize {
            self.0
        }

        fn command(self) -> Command {
            Command::DrainNode(DrainNode { node: NodeId(1), incarnation: Incarnation(1) })
        }
    }

    fn check(bytes: impl IntoIterator<Item = usize>, expected: &[usize]) {
        let mut waiting: VecDeque<_> = bytes.into_iter().map(Carrying).collect();
        let mut sizes = Vec::new();
        while !waiting.is_empty() {
            sizes.push(together(&mut waiting).len());
        }
        assert_eq!(sizes, expected);
    }

    #[test]
    fn a_proposal_holds_no_more_than_may_be_proposed() {
        check([0; 600], &[256, 256, 88]);
        // A herd of jobs that keep the longest bodies.
        check([64 * 1024; 20], &[8, 8, 4]);
        check([0, 500_000, 500_000, 10, 3_000_000, 1], &[2, 2, 1, 1]);
    }
}
