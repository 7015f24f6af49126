//! Planted bugs: what the judge must find. Each changes the world around the real code, never the code.

use bytes::Bytes;
use domain::execution::{AttemptResult, ErrorKind, Failure};
use domain::job::Delivery;
use raft::codec;
use raft::command::{ClaimTarget, Command};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mutation {
    /// Claims move some cursors one instant too far.
    SkipsAnInstant,
    /// Some requests leave twice.
    SendsTwice,
    /// Orders are sent also when the node is out of touch or has lost them.
    IgnoresStanding,
    /// Every wait takes a quarter of a second longer.
    Oversleeps,
    /// Some outcomes never reach the state.
    LosesOutcomes,
    /// Some successes are recorded as failures.
    FlipsOutcomes,
    /// Some failures are not tried again.
    GivesUp,
    /// Nobody is ever counted as dead.
    NeverExpires,
    /// Nodes count as dead before they know it.
    BuriesEarly,
    /// What is to be sent at most once is sent again when its node dies.
    RepeatsAtMostOnce,
    /// One node applies something else than the others.
    Diverges,
}

impl Mutation {
    pub(super) fn oversleep(self) -> Duration {
        if self == Self::Oversleeps { Duration::from_millis(250) } else { Duration::ZERO }
    }

    pub(super) fn node_timeout(self, node_timeout: Duration) -> Duration {
        if self == Self::BuriesEarly { Duration::from_millis(700) } else { node_timeout }
    }

    /// What a leader makes of a proposal.
    pub(super) fn proposal(self, bytes: Bytes) -> Bytes {
        let mut proposal = codec::decode_proposal(&bytes).expect("it was encoded by us");
        for command in &mut proposal.commands {
            self.command(command);
        }
        codec::encode_proposal(&proposal)
    }

    fn command(self, command: &mut Command) {
        match (self, command) {
            (
                Self::SkipsAnInstant,
                Command::Claim(raft::command::Claim {
                    target: ClaimTarget::Firing { scheduled_at, next_run_at: Some(next), .. },
                    ..
                }),
            ) if scheduled_at.as_secs().is_multiple_of(7) => {
                *next = next.plus(next.since(*scheduled_at));
            }
            (Self::LosesOutcomes, Command::Record(outcome))
                if outcome.execution.at.as_secs().is_multiple_of(7) =>
            {
                outcome.incarnation.0 += 1_000;
                outcome.attempt += 1_000;
                if let AttemptResult::Sent { attempt, .. } = &mut outcome.result {
                    attempt
                        .failure
                        .get_or_insert(Failure { kind: ErrorKind::Connect, message: String::new() });
                }
            }
            (Self::FlipsOutcomes | Self::GivesUp, Command::Record(outcome))
                if outcome.execution.at.as_secs().is_multiple_of(7) =>
            {
                let AttemptResult::Sent { attempt, retry_at, .. } = &mut outcome.result else { return };
                if self == Self::GivesUp {
                    *retry_at = None;
                } else if attempt.failure.is_none() {
                    attempt.failure = Some(Failure { kind: ErrorKind::HttpStatus, message: String::new() });
                }
            }
            (Self::NeverExpires, Command::ExpireNode(expire)) => expire.incarnation.0 += 1_000,
            (Self::RepeatsAtMostOnce, Command::CreateJob(create)) => {
                create.job.delivery = Delivery::AtLeastOnce;
            }
            _ => {}
        }
    }
}
