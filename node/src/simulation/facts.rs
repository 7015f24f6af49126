//! What happened in a run, in order: what is judged, and what is printed of one that failed.

use super::plan::Step;
use domain::execution::AttemptResult;
use domain::id::{ExecutionId, JobId, NodeId};
use domain::node::SessionId;
use domain::time::Timestamp;
use raft::command::{ClaimTarget, Command, Reply};
use std::fmt;
use std::time::Duration;

/// One thing that happened.
#[derive(Clone, Debug)]
pub(super) enum Fact {
    /// The plan had this in store.
    Step(Step),
    /// A process began.
    Began { node: NodeId, session: SessionId },
    /// A process ended by itself.
    Ended { node: NodeId, cause: String },
    /// A process was killed, or has drained.
    Gone { node: NodeId, session: SessionId, drained: bool },
    /// A node was elected.
    Elected { node: NodeId, term: u64 },
    /// The quorum is gone.
    Headless,
    /// A command took effect, or was refused, by the log.
    Applied { index: u64, by: NodeId, command: Box<Command>, reply: Reply },
    /// By the log, a process holds an execution from now on.
    Held { execution: ExecutionId, attempt: u32, node: NodeId, session: SessionId },
    /// By the log, it holds it no longer.
    Lost { execution: ExecutionId, node: NodeId },
    /// A proposal that had been applied came again.
    Repeated { index: u64, by: NodeId },
    /// A request left.
    Sent(Sent),
    /// The target answered, and the process heard it.
    Answered { node: NodeId, session: SessionId, execution: ExecutionId, attempt: u32, success: bool },
    /// A user was answered.
    Told { job: usize, what: &'static str, answer: String },
    /// From here on nothing is wrong any more.
    Healed,
}

/// A request as it left.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) node: NodeId,
    pub(super) session: SessionId,
    pub(super) job: JobId,
    pub(super) execution: ExecutionId,
    pub(super) attempt: u32,
    /// What the sender's clock showed.
    pub(super) at: Timestamp,
}

/// A fact and when it came about, since the beginning of the run.
pub(super) type Dated = (Duration, Fact);

/// A job in a line of the trace.
pub(super) struct Short(pub(super) JobId);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "job{:02x}", self.0.0 & 0xff)
    }
}

/// An execution in a line of the trace: its job and its instant within the run.
pub(super) struct Of(pub(super) ExecutionId);

impl fmt::Display for Of {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(id) = self;
        let kind = match id.sequence {
            0 => "",
            ExecutionId::SKIPPED => "skipped ",
            _ => "manual ",
        };
        write!(f, "{kind}{}@{}", Short(id.job), Within(id.at))
    }
}

/// An instant as seconds since the beginning of the run.
pub(super) struct Within(pub(super) Timestamp);

impl fmt::Display for Within {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.since(super::clock::START).as_millis();
        write!(f, "{}.{:03}", millis / 1_000, millis % 1_000)
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Step(step) => write!(f, "== {step:?}"),
            Self::Began { node, session } => write!(f, "node {node} starts, session {}", session.0 & 0xfff),
            Self::Ended { node, cause } => write!(f, "node {node} stops by itself: {cause}"),
            Self::Gone { node, drained, .. } => {
                write!(f, "node {node} {}", if *drained { "has drained" } else { "is killed" })
            }
            Self::Elected { node, term } => write!(f, "node {node} leads in term {term}"),
            Self::Headless => f.write_str("nobody leads"),
            Self::Applied { index, by, command, reply, .. } => {
                write!(f, "#{index} of node {by}: {}: ", Brief(command))?;
                match reply {
                    Ok(applied) => write!(f, "{applied:?}"),
                    Err(rejection) => write!(f, "refused, {rejection}"),
                }
            }
            Self::Held { execution, attempt, node, .. } => {
                write!(f, "    node {node} holds {} attempt {attempt}", Of(*execution))
            }
            Self::Lost { execution, node } => write!(f, "    node {node} holds {} no longer", Of(*execution)),
            Self::Repeated { index, by } => write!(f, "#{index} of node {by}: once more, without effect"),
            Self::Sent(sent) => {
                write!(f, "node {} SENDS {} attempt {}", sent.node, Of(sent.execution), sent.attempt)?;
                write!(f, " (its clock: {})", Within(sent.at))
            }
            Self::Answered { node, execution, attempt, success, .. } => {
                let how = if *success { "success" } else { "failure" };
                write!(f, "node {node} hears of {} attempt {attempt}: {how}", Of(*execution))
            }
            Self::Told { job, what, answer } => write!(f, "user: {what} of job {job}: {answer}"),
            Self::Healed => f.write_str("== all is well"),
        }
    }
}

/// A command in a line of the trace.
struct Brief<'a>(&'a Command);

impl fmt::Display for Brief<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Command::RegisterNode(it) => write!(f, "register node {} {}", it.node, it.session.0 & 0xfff),
            Command::DrainNode(it) => write!(f, "drain node {} {}", it.node, it.incarnation.0),
            Command::ExpireNode(it) => write!(f, "expire node {} {}", it.node, it.incarnation.0),
            Command::SetShardMap(it) => {
                let owners: std::collections::BTreeSet<_> = it.owners.iter().map(|owner| owner.0).collect();
                write!(f, "shards after version {} to {owners:?}", it.expected_version)
            }
            Command::CreateJob(it) => {
                write!(f, "create {} {}", Short(it.job.id), it.job.cron_expression)
            }
            Command::UpdateJob(it) => write!(f, "update {} {}", Short(it.job.id), it.job.cron_expression),
            Command::DeleteJob(it) => write!(f, "delete {}", Short(it.job)),
            Command::PauseJob(it) => write!(f, "pause {}", Short(it.job)),
            Command::ResumeJob(it) => write!(f, "resume {}", Short(it.job)),
            Command::RunJob(it) => write!(f, "run {}", Of(it.execution)),
            Command::Claim(it) => {
                write!(f, "claim by {}/{} ", it.node, it.incarnation.0)?;
                match &it.target {
                    ClaimTarget::Firing { job, scheduled_at, .. } => {
                        write!(f, "{}@{}", Short(*job), Within(*scheduled_at))
                    }
                    ClaimTarget::Missed { job, first, skipped, run, .. } => {
                        write!(f, "missed {}@{}", Short(*job), Within(*first))?;
                        if let Some(skipped) = skipped {
                            write!(f, " {} skipped until {}", skipped.count, Within(skipped.until))?;
                        }
                        match run {
                            Some(run) => write!(f, ", runs {}", Within(*run)),
                            None => Ok(()),
                        }
                    }
                    ClaimTarget::Execution { id, attempt } => write!(f, "{} attempt {attempt}", Of(*id)),
                    ClaimTarget::Delivery { .. } => f.write_str("a message"),
                }
            }
            Command::Release(it) => write!(f, "release {}", Of(it.execution)),
            Command::Record(it) => {
                write!(f, "outcome of {} attempt {}: ", Of(it.execution), it.attempt)?;
                match &it.result {
                    AttemptResult::Sent { attempt, retry_at, .. } => {
                        f.write_str(if attempt.failure.is_some() { "failure" } else { "success" })?;
                        match retry_at {
                            Some(at) => write!(f, ", again at {}", Within(*at)),
                            None => Ok(()),
                        }
                    }
                    AttemptResult::Skipped { reason, .. } => write!(f, "skipped: {reason}"),
                }
            }
            other => {
                let text = format!("{other:?}");
                f.write_str(text.split(['(', ' ']).next().unwrap_or_default())
            }
        }
    }
}

/// A fingerprint of all facts: two runs are the same when theirs are.
pub(super) fn fingerprint(facts: &[Dated]) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325u64;
    for fact in facts {
        for byte in format!("{fact:?}").bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
    }
    hash
}
