//! Read barriers: who asks together is answered together.

use crate::error::ReadError;
use crate::office::{Office, Refused};
use futures::stream::{FuturesUnordered, StreamExt};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;

/// Readers that wait for the next question; beyond it they wait to be let in.
pub(crate) const WAITING_MAX: usize = 16_384;
/// Questions under way at once: the answer to one may be waiting for the log while the next is asked.
const QUESTIONS_MAX: usize = 2;
/// Wait before a question is asked again.
const ASK_AGAIN: Duration = Duration::from_millis(25);

/// Asks for read indexes on behalf of all readers of this node.
pub(crate) struct Reads {
    pub(crate) office: Office,
    pub(crate) applied: watch::Receiver<u64>,
    pub(crate) readers: mpsc::Receiver<oneshot::Sender<Result<(), ReadError>>>,
    pub(crate) patience: Duration,
}

impl Reads {
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut questions = FuturesUnordered::new();
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some(()) = questions.next() => continue,
                Some(first) = self.readers.recv(), if questions.len() < QUESTIONS_MAX => first,
                else => break,
            };
            let mut readers: Vec<oneshot::Sender<Result<(), ReadError>>> = vec![first];
            while let Ok(next) = self.readers.try_recv() {
                readers.push(next);
            }
            let (office, applied) = (self.office.clone(), self.applied.clone());
            let deadline = Instant::now() + self.patience;
            questions.push(async move {
                let answer =
                    timeout_at(deadline, ask(&office, applied)).await.unwrap_or(Err(ReadError::NoLeader));
                for reader in readers {
                    // It may have given up.
                    let _ = reader.send(answer);
                }
            });
        }
    }
}

/// Waits until this node has applied everything that was acknowledged before the call.
async fn ask(office: &Office, mut applied: watch::Receiver<u64>) -> Result<(), ReadError> {
    let mut hint = None;
    loop {
        if let Some(leader) = hint.take().or_else(|| office.leader()) {
            match office.read_index_of(leader).await {
                Ok(index) => {
                    return match applied.wait_for(|applied| *applied >= index).await {
                        Ok(_) => Ok(()),
                        Err(_) => Err(ReadError::Stopping),
                    };
                }
                Err(Refused::NotLeader(other)) => hint = other,
                Err(Refused::Unknown) => {}
            }
        }
        sleep(ASK_AGAIN).await;
    }
}
