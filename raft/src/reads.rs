//! Read barriers: who asks together is answered together.

use crate::error::ReadError;
use crate::way::{Refused, Way};
use futures::stream::{FuturesUnordered, StreamExt};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::yield_now;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

/// Readers that wait for the next question; beyond it they wait to be let in.
pub(crate) const WAITING_MAX: usize = 16_384;
/// Questions under way at once: while the answer to one is on its way, another is asked for those who have come since.
const QUESTIONS_MAX: usize = 2;
/// Answered questions whose readers wait for the log; beyond it no new one is asked.
const BEHIND_MAX: usize = 4;
/// Wait before a question is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(25);

type Reader = oneshot::Sender<Result<(), ReadError>>;

/// Asks for read indexes on behalf of all readers of this node.
pub(crate) struct Reads {
    pub(crate) way: Arc<dyn Way>,
    pub(crate) applied: watch::Receiver<u64>,
    pub(crate) readers: mpsc::Receiver<Reader>,
    pub(crate) patience: Duration,
}

impl Reads {
    /// Asks few questions at a time: whoever comes meanwhile shares the next, so that the more readers there are, the
    /// less each costs.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut asked = FuturesUnordered::new();
        let mut behind = FuturesUnordered::new();
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some((readers, deadline, answer)) = asked.next() => {
                    match answer {
                        Ok(index) if *self.applied.borrow() < index => {
                            behind.push(catch_up(self.applied.clone(), index, deadline, readers));
                        }
                        Ok(_) => answer_all(readers, Ok(())),
                        Err(error) => answer_all(readers, Err(error)),
                    }
                    continue;
                }
                Some(()) = behind.next() => continue,
                Some(first) = self.readers.recv(), if asked.len() < QUESTIONS_MAX && behind.len() < BEHIND_MAX => first,
                else => break,
            };
            // Requests that have arrived already and have only to be worked on come along.
            yield_now().await;
            let mut readers: Vec<Reader> = vec![first];
            while let Ok(next) = self.readers.try_recv() {
                readers.push(next);
            }
            let way = Arc::clone(&self.way);
            let deadline = Instant::now() + self.patience;
            asked.push(async move {
                let answer = timeout_at(deadline, ask(way.as_ref())).await.map_err(|_| ReadError::NoLeader);
                (readers, deadline, answer)
            });
        }
    }
}

fn answer_all(readers: Vec<Reader>, answer: Result<(), ReadError>) {
    for reader in readers {
        // It may have given up.
        let _ = reader.send(answer);
    }
}

/// Answers the readers once this node has applied the log up to `index`.
async fn catch_up(mut applied: watch::Receiver<u64>, index: u64, deadline: Instant, readers: Vec<Reader>) {
    let caught_up = timeout_at(deadline, applied.wait_for(|applied| *applied >= index)).await;
    answer_all(
        readers,
        match caught_up {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(ReadError::Stopping),
            Err(_) => Err(ReadError::NoLeader),
        },
    );
}

/// How far this node must have applied the log to show everything that was acknowledged before the call.
async fn ask(way: &dyn Way) -> u64 {
    let mut hint = None;
    loop {
        if let Some(leader) = hint.take().or_else(|| way.leader()) {
            match way.read_index_of(leader).await {
                Ok(index) => return index,
                Err(Refused::NotLeader(other)) => hint = other,
                Err(Refused::Unknown) => {}
            }
        }
        sleep(ASK_AGAIN).await;
    }
}
