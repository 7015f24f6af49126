//! From commands of this node to entries of the log, and from their application here to replies.
//!
//! What arrives while proposals are under way goes into the next one together. A proposal is sent to whoever
//! leads until it is seen applied here, however often that takes: applying it twice does nothing twice.

use crate::codec;
use crate::command::{Command, Proposal, Reply};
use crate::error::ProposeError;
use crate::settings::PROPOSAL_BYTES_MAX;
use crate::waiters::Waiters;
use crate::way::{Refused, Way};
use bytes::Bytes;
use domain::id::NodeId;
use domain::node::SessionId;
use futures::stream::{FuturesUnordered, StreamExt};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::CancellationToken;

/// Submissions that wait to become part of a proposal; beyond it whoever submits waits.
pub(crate) const WAITING_MAX: usize = 4_096;
/// Commands in one proposal, as far as they come from several submissions.
const COMMANDS_TOGETHER: usize = 512;
/// Bytes in one proposal, as far as they come from several submissions.
const BYTES_TOGETHER: usize = 512 * 1024;
/// Proposals under way at once.
const FLIGHTS_MAX: usize = 8;
/// Wait before a proposal is sent again that a leader has taken but that is not seen here.
const SEND_AGAIN: Duration = Duration::from_millis(500);
/// Wait before somebody is asked again after nobody would take it.
const ASK_AGAIN: Duration = Duration::from_millis(25);

/// Commands that one caller wants applied in this order.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) commands: Vec<Command>,
    /// Encoded size, roughly.
    pub(crate) bytes: usize,
    pub(crate) deadline: Instant,
    pub(crate) ticket: Ticket,
    pub(crate) reply: oneshot::Sender<Result<Vec<Reply>, ProposeError>>,
}

/// Decides between the proposer, which takes a submission, and whoever submitted it and withdraws it: the first has it.
/// Clones are the same ticket.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ticket(Arc<AtomicBool>);

impl Ticket {
    /// True for the first who asks.
    pub(crate) fn take(&self) -> bool {
        !self.0.swap(true, Ordering::AcqRel)
    }
}

/// Makes proposals of submissions.
pub(crate) struct Proposer {
    pub(crate) way: Arc<dyn Way>,
    pub(crate) node: NodeId,
    pub(crate) session: SessionId,
    pub(crate) waiters: Waiters,
    pub(crate) submissions: mpsc::Receiver<Submission>,
}

/// Who gets how many of a proposal's replies.
type Parts = Vec<(usize, oneshot::Sender<Result<Vec<Reply>, ProposeError>>)>;

impl Proposer {
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut flights = FuturesUnordered::new();
        let mut under_way = BTreeSet::new();
        let mut sequence = 0;
        loop {
            let first = tokio::select! {
                biased;
                () = stop.cancelled() => break,
                Some((landed, parts, answer)) = flights.next() => {
                    under_way.remove(&landed);
                    hand_out(parts, answer);
                    continue;
                }
                Some(first) = self.submissions.recv(), if flights.len() < FLIGHTS_MAX => first,
                else => break,
            };
            if !first.ticket.take() {
                continue;
            }
            let submissions = self.gather(first);
            sequence += 1;
            under_way.insert(sequence);
            let acknowledged_below = under_way.first().copied().unwrap_or(sequence);
            let deadline = submissions.iter().map(|submission| submission.deadline).max();
            let mut commands = Vec::new();
            let mut parts = Vec::with_capacity(submissions.len());
            for submission in submissions {
                parts.push((submission.commands.len(), submission.reply));
                commands.extend(submission.commands);
            }
            let proposal =
                Proposal { node: self.node, session: self.session, sequence, acknowledged_below, commands };
            let bytes = codec::encode_proposal(&proposal);
            let flight =
                Flight { way: Arc::clone(&self.way), waiters: self.waiters.clone(), sequence, bytes };
            flights.push(async move {
                let answer = flight.fly(deadline.unwrap_or_else(Instant::now)).await;
                (sequence, parts, answer)
            });
        }
        // Whoever still waits learns of the end from the closed channel.
    }

    /// What else waits and fits into one proposal. Registrations come first: nothing of a process counts before.
    fn gather(&mut self, first: Submission) -> Vec<Submission> {
        let mut commands = first.commands.len();
        let mut bytes = first.bytes;
        let mut gathered = vec![first];
        while commands < COMMANDS_TOGETHER
            && bytes < BYTES_TOGETHER
            && let Ok(next) = self.submissions.try_recv()
        {
            if !next.ticket.take() {
                continue;
            }
            commands += next.commands.len();
            bytes += next.bytes;
            if matches!(next.commands.first(), Some(Command::RegisterNode(_))) {
                gathered.insert(0, next);
            } else {
                gathered.push(next);
            }
        }
        gathered
    }
}

const _: () = assert!(BYTES_TOGETHER < PROPOSAL_BYTES_MAX);

fn hand_out(parts: Parts, answer: Result<Vec<Reply>, ProposeError>) {
    match answer {
        Ok(replies) => {
            let mut replies = replies.into_iter();
            for (count, reply) in parts {
                // Whoever asked may have gone.
                let _ = reply.send(Ok(replies.by_ref().take(count).collect()));
            }
        }
        Err(error) => {
            for (_, reply) in parts {
                let _ = reply.send(Err(error.clone()));
            }
        }
    }
}

/// One proposal on its way.
struct Flight {
    way: Arc<dyn Way>,
    waiters: Waiters,
    sequence: u64,
    bytes: Bytes,
}

impl Flight {
    async fn fly(self, deadline: Instant) -> Result<Vec<Reply>, ProposeError> {
        let mut applied = self.waiters.wait(self.sequence);
        let mut may_be_in = false;
        let mut hint = None;
        loop {
            let leader = hint.take().or_else(|| self.way.leader());
            let pause = match leader {
                None => ASK_AGAIN,
                Some(leader) => {
                    tokio::select! {
                        biased;
                        Ok(replies) = &mut applied => return Ok(replies),
                        sent = self.way.propose_to(leader, self.bytes.clone()) => match sent {
                            Ok(_) => {
                                may_be_in = true;
                                SEND_AGAIN
                            }
                            Err(Refused::NotLeader(Some(other))) => {
                                hint = Some(other);
                                ASK_AGAIN
                            }
                            Err(Refused::NotLeader(None)) => ASK_AGAIN,
                            Err(Refused::Unknown) => {
                                may_be_in = true;
                                ASK_AGAIN
                            }
                        },
                        // A leader that does not answer may be a leader no longer.
                        () = sleep(SEND_AGAIN * 2) => {
                            may_be_in = true;
                            Duration::ZERO
                        }
                        () = sleep_until(deadline) => {
                            may_be_in = true;
                            Duration::ZERO
                        }
                    }
                }
            };
            tokio::select! {
                biased;
                Ok(replies) = &mut applied => return Ok(replies),
                () = sleep_until(deadline) => {
                    self.waiters.forget(self.sequence);
                    return Err(if may_be_in { ProposeError::Unknown } else { ProposeError::NoLeader });
                }
                () = sleep(pause) => {}
            }
        }
    }
}
