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
use std::sync::atomic::{AtomicBool, Ordering};
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
/// How long it waits if more requests were to leave at any time then than this machine got to. Bringing outcomes into the state costs
/// all nodes as much as sending did, and what is due now is due on all of them: a request that is late is worse than a result that is.
const RUSH_GATHERED_FOR: Duration = Duration::from_millis(200);
/// Outcomes that are taken up before the next ones are left to wait where they are.
const GATHERED_MAX: usize = 4_096;
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

/// Whether this node has more to send right now than it gets to. Clones are the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rush(Arc<AtomicBool>);

impl Rush {
    /// Says so.
    pub(crate) fn set(&self, is_on: bool) {
        self.0.store(is_on, Ordering::Relaxed);
    }

    /// Whether it was said last.
    pub(crate) fn is_on(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// Told of each attempt that the state has the outcome of, or that this process can do no more for.
type OnEnd<Id> = Box<dyn Fn(Id, u32) + Send + Sync>;

/// Proposes outcomes.
pub(crate) struct Recorder<R: Report> {
    cluster: Cluster,
    sleeper: Arc<dyn Sleeper>,
    outcomes: mpsc::Receiver<R>,
    rush: Rush,
    end: OnEnd<R::Id>,
}

impl<R: Report> Recorder<R> {
    /// A recorder with which at most `waiting_max` outcomes wait, and where they are handed over. It stands back during a `rush`.
    pub(crate) fn new(
        cluster: Cluster,
        sleeper: Arc<dyn Sleeper>,
        waiting_max: usize,
        rush: Rush,
        end: impl Fn(R::Id, u32) + Send + Sync + 'static,
    ) -> (Self, mpsc::Sender<R>) {
        let (sender, outcomes) = mpsc::channel(waiting_max);
        (Self { cluster, sleeper, outcomes, rush, end: Box::new(end) }, sender)
    }

    /// Runs until `stop`, and then until everything handed over is recorded.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        loop {
            let first = tokio::select! {
                biased;
                Some(first) = self.outcomes.recv() => first,
                () = stop.cancelled(), if !self.outcomes.is_closed() => {
                    self.outcomes.close();
                    continue;
                }
                else => break,
            };
            let mut waiting =
                gather(first, &mut self.outcomes, &self.rush, self.sleeper.as_ref(), &stop).await;
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

/// Lets others join the first, until they make a proposal or have had their time.
async fn gather<R: Report>(
    first: R,
    outcomes: &mut mpsc::Receiver<R>,
    rush: &Rush,
    sleeper: &dyn Sleeper,
    stop: &CancellationToken,
) -> VecDeque<R> {
    let mut bytes = first.bytes();
    let mut waiting = VecDeque::from([first]);
    let mut waits_for = GATHERED_FOR;
    let began = sleeper.elapsed();
    loop {
        while waiting.len() < GATHERED_MAX
            && let Ok(next) = outcomes.try_recv()
        {
            bytes += next.bytes();
            waiting.push_back(next);
        }
        if rush.is_on() {
            waits_for = RUSH_GATHERED_FOR;
        }
        let is_enough = waits_for == GATHERED_FOR && waiting.len() >= TOGETHER_MAX;
        let waited = sleeper.elapsed().saturating_sub(began);
        // Bodies are not left to pile up.
        if is_enough || waited >= waits_for || bytes >= BYTES_TOGETHER_MAX || stop.is_cancelled() {
            return waiting;
        }
        sleeper.sleep(GATHERED_FOR).await;
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
    use crate::clock::SystemClock;
    use domain::id::NodeId;
    use domain::node::Incarnation;
    use domain::time::Clock;
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

    /// What gathers around `first` of `all`, and how long that takes.
    async fn gathered(first: usize, all: &[usize], rush: &Rush, stops: bool) -> (usize, Duration) {
        let (sender, mut outcomes) = mpsc::channel(all.len().max(1));
        for bytes in all {
            sender.send(Carrying(*bytes)).await.unwrap();
        }
        let stop = CancellationToken::new();
        if stops {
            stop.cancel();
        }
        let clock = SystemClock::new();
        let waiting = gather(Carrying(first), &mut outcomes, rush, &clock, &stop).await;
        (waiting.len(), clock.elapsed())
    }

    #[tokio::test(start_paused = true)]
    async fn outcomes_wait_for_others_but_not_long() {
        let rush = Rush::default();
        // Timers are good to a millisecond.
        let check = |(count, took): (usize, Duration), expected, rounds| {
            assert_eq!((count, took.as_millis() / GATHERED_FOR.as_millis()), (expected, rounds));
        };
        check(gathered(0, &[0; 3], &rush, false).await, 4, 1);
        check(gathered(0, &[0; 255], &rush, false).await, 256, 0);
        check(gathered(0, &[0; 3], &rush, true).await, 4, 0);

        rush.set(true);
        let most = RUSH_GATHERED_FOR.as_millis() / GATHERED_FOR.as_millis();
        check(gathered(0, &[0; 3], &rush, false).await, 4, most);
        check(gathered(0, &[0; 999], &rush, false).await, 1_000, most);
        check(gathered(0, &[0; 3], &rush, true).await, 4, 0);
        check(gathered(0, &[0; GATHERED_MAX + 5], &rush, false).await, GATHERED_MAX, most);
        // What carries much does not wait.
        check(gathered(300_000, &[300_000], &rush, false).await, 2, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn outcomes_of_a_rush_wait_until_others_have_sent_theirs_too() {
        let rush = Rush::default();
        let short = async {
            tokio::time::sleep(GATHERED_FOR / 2).await;
            rush.set(true);
            tokio::time::sleep(GATHERED_FOR).await;
            rush.set(false);
        };
        let ((count, took), ()) = tokio::join!(gathered(0, &[0; 9], &rush, false), short);
        assert_eq!(count, 10);
        assert!(took >= RUSH_GATHERED_FOR, "{took:?}");
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
