//! How often what happened in many runs: seeds that pass prove little if nothing came to pass in them.

use super::facts::Fact;
use super::judge::is_retried;
use super::run::Ran;
use domain::execution::ExecutionStatus;
use domain::rejection::Rejection;
use raft::command::{ClaimTarget, Command};
use std::collections::BTreeMap;
use std::fmt;
use storage::Read;
use storage::schema::Executions;

/// Counts by what is counted.
#[derive(Debug, Default)]
pub(super) struct Tally(BTreeMap<String, u64>);

impl Tally {
    pub(super) fn add(&mut self, ran: &Ran) {
        self.count("runs");
        for (_, fact) in &ran.facts {
            match fact {
                Fact::Step(step) => {
                    let step = format!("{step:?}");
                    self.count(&format!("step {}", step.split(' ').next().unwrap_or_default()));
                }
                Fact::Elected { .. } => self.count("elections"),
                Fact::Repeated { .. } => self.count("proposals that came again"),
                Fact::Sent(sent) => {
                    self.count("requests");
                    if sent.attempt > 1 {
                        self.count("requests of a further attempt");
                    }
                }
                Fact::Applied { command, reply, .. } => self.applied(command, reply),
                Fact::Gone { drained: true, .. } => self.count("drains to the end"),
                _ => {}
            }
        }
        for (_, execution) in ran.truth.view().prefix::<Executions>(&[], None, usize::MAX).unwrap() {
            match execution.status() {
                Some(ExecutionStatus::Success) => self.count("executions: success"),
                Some(ExecutionStatus::Failed) => self.count("executions: failed"),
                Some(ExecutionStatus::Skipped) => {
                    let reason = execution.skip_reason.unwrap_or_default();
                    self.count(&format!("executions: skipped, {reason}"));
                }
                None => self.count("executions: not ended"),
            }
            if execution.attempts.iter().any(|attempt| {
                attempt.failure.as_ref().is_some_and(|it| it.kind == domain::execution::ErrorKind::NodeLost)
            }) {
                self.count("executions that lost their node");
            }
        }
    }

    fn applied(&mut self, command: &Command, reply: &raft::command::Reply) {
        match (command, reply) {
            (Command::ExpireNode(_), Ok(_)) => self.count("nodes counted as dead"),
            (Command::SetShardMap(_), Ok(_)) => self.count("shards dealt"),
            (Command::Release(_), Ok(_)) => self.count("claims given back"),
            (Command::Record(outcome), Ok(_)) if is_retried(outcome) => self.count("retries"),
            (Command::Record(_), Err(Rejection::NotRecorded(_))) => self.count("outcomes that came too late"),
            (Command::Claim(claim), Ok(_)) if matches!(claim.target, ClaimTarget::Missed { .. }) => {
                self.count("claims of missed instants");
            }
            (Command::Claim(_), Err(Rejection::Stale | Rejection::NotClaimable)) => {
                self.count("claims that lost a race");
            }
            (Command::Claim(_), Err(Rejection::NotLive)) => self.count("claims of the dead"),
            _ => {}
        }
    }

    fn count(&mut self, what: &str) {
        *self.0.entry(what.to_owned()).or_default() += 1;
    }

    pub(super) fn merge(&mut self, other: Self) {
        for (what, count) in other.0 {
            *self.0.entry(what).or_default() += count;
        }
    }

    pub(super) fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or_default()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(what, count)| writeln!(f, "{count:>10}  {what}"))
    }
}
