//! What can be wrong with a history.

use crate::{
    history::{ExecutionId, JobId},
    time::{SECOND_US, format_rfc3339},
};

/// A due instant of a job, in whole seconds since the Unix epoch.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant {
    /// Whose.
    pub job: JobId,
    /// When.
    pub due_s: i64,
}

impl Instant {
    pub(super) fn due_us(&self) -> i64 {
        self.due_s * SECOND_US
    }
}

impl std::fmt::Display for Instant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.job, format_rfc3339(self.due_s))
    }
}

/// A breach of a promise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Violation {
    /// Due, and never called.
    #[error("missing: {0} was never called")]
    Missing(Instant),
    /// Called, and not due: another instant, an unknown job, or one due before the job was made.
    #[error("unasked: {0} was called and is not due")]
    Unasked(Instant),
    /// A call without the headers that say what it is for.
    #[error("unlabelled: a call of {path} lacks {missing}")]
    Unlabelled {
        /// What was called.
        path: String,
        /// The header.
        missing: &'static str,
    },
    /// Called again without an excuse.
    #[error("doubled: {instant} was called again as attempt {attempt} after attempt {earlier}")]
    Doubled {
        /// What was called.
        instant: Instant,
        /// The attempt before.
        earlier: u32,
        /// The one too many.
        attempt: u32,
    },
    /// Two executions of one instant.
    #[error("two ids: {instant} was called as {first} and as {second}")]
    TwoIds {
        /// What was called.
        instant: Instant,
        /// The id of its first call.
        first: ExecutionId,
        /// Another.
        second: ExecutionId,
    },
    /// Two instants of one execution.
    #[error("two instants: {execution} was called for {first} and for {second}")]
    TwoInstants {
        /// The id.
        execution: ExecutionId,
        /// The instant of its first call.
        first: Instant,
        /// Another.
        second: Instant,
    },
    /// Called before its time.
    #[error("early: {instant} was called {early_us} us before its time")]
    Early {
        /// What was called.
        instant: Instant,
        /// By how much.
        early_us: i64,
    },
    /// Later than a bound of the run allows.
    #[error("late: {bound}: {figure} is {found_us} us, allowed are {allowed_us} us (worst: {worst})")]
    Late {
        /// The bound's name.
        bound: String,
        /// `p99` or `max`.
        figure: &'static str,
        /// What was measured.
        found_us: i64,
        /// What the bound says.
        allowed_us: i64,
        /// The latest instant under this bound.
        worst: Instant,
    },
    /// A bound that nothing was measured under says nothing.
    #[error("unmeasured: no call falls under the bound {bound}")]
    Unmeasured {
        /// The bound's name.
        bound: String,
    },
    /// The API reports a success that the target never answered.
    #[error("invented: {0} is a success in the API without an answered call")]
    Invented(ExecutionId),
    /// The target answered well and the API does not say so.
    #[error("forgotten: {execution} was answered well, the API says {shown}")]
    Forgotten {
        /// The id.
        execution: ExecutionId,
        /// Its status in the API, or "nothing".
        shown: String,
    },
    /// A failure that nothing explains: the target did not do what it says.
    #[error("unfounded: {execution} has failed by {kind}, and nothing that was seen explains it")]
    Unfounded {
        /// The id.
        execution: ExecutionId,
        /// What the API says.
        kind: String,
    },
    /// Failed for good with retries left.
    #[error("given up: {execution} has failed with attempt {attempt}, the job wants {wanted}")]
    GivenUp {
        /// The id.
        execution: ExecutionId,
        /// Its last attempt.
        attempt: u32,
        /// The attempts that there must be.
        wanted: u32,
    },
    /// Neither finished nor overdue for a reason.
    #[error("unfinished: {execution} of {instant} is still {status}")]
    Unfinished {
        /// The id.
        execution: ExecutionId,
        /// What it is for.
        instant: Instant,
        /// Its status in the API.
        status: String,
    },
    /// Two executions of one instant in the API.
    #[error("two executions: the API shows {first} and {second} for {instant}")]
    TwoExecutions {
        /// What they are for.
        instant: Instant,
        /// One.
        first: ExecutionId,
        /// The other.
        second: ExecutionId,
    },
    /// The API and the call name different instants.
    #[error("misdated: {execution} was called for {called}, the API says {shown}")]
    Misdated {
        /// The id.
        execution: ExecutionId,
        /// Of the call.
        called: Instant,
        /// Of the API.
        shown: Instant,
    },
    /// Two answers to one POST.
    #[error("two answers: {key} was answered {first} and {second}")]
    TwoAnswers {
        /// Its name.
        key: String,
        /// The first answer.
        first: String,
        /// Another.
        second: String,
    },
    /// A POST that was acknowledged has not had the one effect that was answered.
    #[error("not once: {key} was answered with {answered}, the API lists {listed:?}")]
    NotOnce {
        /// Its name.
        key: String,
        /// The job that was answered.
        answered: JobId,
        /// The jobs there are.
        listed: Vec<JobId>,
    },
    /// Nothing on record.
    #[error("unaccounted: the API has no record of {0}")]
    Unaccounted(Instant),
    /// It did not run, and the record does not say why.
    #[error("unexplained: {execution} of {instant} is {status} without a reason")]
    Unexplained {
        /// The id.
        execution: ExecutionId,
        /// What it is for.
        instant: Instant,
        /// Its status in the API.
        status: String,
    },
    /// Recorded as missed while a quorum was there to make it.
    #[error("needlessly skipped: {0} while a quorum ran")]
    NeedlesslySkipped(Instant),
    /// Called though the job was paused or gone.
    #[error("not quiet: {instant} was called, which was due {late_us} us after the job was stopped")]
    NotQuiet {
        /// What was called.
        instant: Instant,
        /// How long after the acknowledgement it was due.
        late_us: i64,
    },
    /// Called so late that nobody could still think that the job was not paused or gone.
    #[error("not quiet: {instant} was called as attempt {attempt}, {late_us} us after the job was stopped")]
    StillCalled {
        /// What was called.
        instant: Instant,
        /// Which attempt.
        attempt: u32,
        /// How long after the acknowledgement the call arrived.
        late_us: i64,
    },
    /// A call that went where the job did not say.
    #[error("misled: a call of {job} went to {path} at {arrived_us}, which is not where the job said")]
    Misled {
        /// Whose.
        job: JobId,
        /// Where it went.
        path: String,
        /// When it arrived.
        arrived_us: i64,
    },
    /// A run that was acknowledged is not what is on record.
    #[error("run lost: {execution} was acknowledged and is {fault}")]
    RunLost {
        /// Its id.
        execution: ExecutionId,
        /// What it is instead.
        fault: String,
    },
    /// A run that nobody asked for, or not that often.
    #[error("run unasked: {0} ran out of schedule, and nobody asked for it")]
    RunUnasked(ExecutionId),
    /// Two runs for one request that names itself.
    #[error("two runs: {key} was answered with {first} and with {second}")]
    TwoRuns {
        /// Its name.
        key: String,
        /// The first answer.
        first: ExecutionId,
        /// Another.
        second: ExecutionId,
    },
    /// A message that never arrived.
    #[error("alert lost: nobody told {path} of the {kind} of {execution}")]
    AlertLost {
        /// What should have been told.
        kind: String,
        /// Of which execution.
        execution: ExecutionId,
        /// To which channel.
        path: String,
    },
    /// A message that arrived too late.
    #[error("alert late: {path} was told of the {kind} of {execution} {late_us} us later than allowed")]
    AlertLate {
        /// What was told.
        kind: String,
        /// Of which execution.
        execution: ExecutionId,
        /// To which channel.
        path: String,
        /// By how much.
        late_us: i64,
    },
    /// A message that arrived before one that had to come first.
    #[error("alert overtook: {path} was told of the {kind} of {execution} before it was told of {older}")]
    AlertOvertook {
        /// What was told.
        kind: String,
        /// Of which execution.
        execution: ExecutionId,
        /// To which channel.
        path: String,
        /// The execution of which it should have been told first.
        older: ExecutionId,
    },
    /// A message about what did not happen.
    #[error("alert invented: {path} was told of a {kind} of {execution}: {fault}")]
    AlertInvented {
        /// To which channel.
        path: String,
        /// What was told.
        kind: String,
        /// Of which execution.
        execution: ExecutionId,
        /// What is wrong with that.
        fault: String,
    },
    /// A message with two ids, or an id with two messages.
    #[error("alert unstable: the {kind} of {execution} was told as {first} and as {second}")]
    AlertUnstable {
        /// What was told.
        kind: String,
        /// Of which execution.
        execution: ExecutionId,
        /// The first id, or what it stood for.
        first: String,
        /// The other id.
        second: String,
    },
    /// A node shows something else than what was acknowledged.
    #[error("not kept: node {node} shows {found} for {job}, acknowledged is {expected}")]
    NotKept {
        /// Which node.
        node: u64,
        /// Of which job.
        job: JobId,
        /// What it should show.
        expected: String,
        /// What it does.
        found: String,
    },
    /// Two nodes have different records of an execution that is over.
    #[error("replicas differ: {execution}: {first}; {second}")]
    ReplicasDiffer {
        /// Its id.
        execution: ExecutionId,
        /// What one node shows.
        first: String,
        /// What another does.
        second: String,
    },
    /// The cluster was not one again soon enough.
    #[error("healed late: whole {took_us} us after {fault} was over at {at_us}, allowed are {allowed_us} us")]
    HealedLate {
        /// After what.
        fault: String,
        /// When that was over.
        at_us: i64,
        /// How long it took.
        took_us: i64,
        /// How long it may.
        allowed_us: i64,
    },
    /// The service itself does not find its histories complete.
    #[error("not proven: justrun verify says {verdict} of a backup of node {node}: {said}")]
    NotProven {
        /// Whose.
        node: u64,
        /// What it says.
        verdict: String,
        /// And of what.
        said: String,
    },
    /// No order of the operations explains the answers.
    #[error(
        "not linearizable: register {register}, first {asked} operations: {operation}; before it the register can only be {}; \
         under way beside it: {}",
        states.join(" or "),
        if beside.is_empty() { "nothing".to_owned() } else { beside.join("; ") }
    )]
    NotLinearizable {
        /// Which.
        register: u64,
        /// The first answer that has no place.
        operation: String,
        /// How many operations that count had been asked by then: these refute by themselves.
        asked: usize,
        /// What the register can have been before that operation, all earlier answers being right.
        states: Vec<String>,
        /// What was not answered yet, and may have taken effect before it or not.
        beside: Vec<String>,
    },
    /// Nobody knows whether a register's operations have an order.
    #[error(
        "undecided: the search for an order of the {operations} operations on register {register} was given up"
    )]
    Undecided {
        /// Which.
        register: u64,
        /// How many there are.
        operations: usize,
    },
    /// The history itself is no use: a schedule that cannot be computed, an answer that does not fit its question.
    #[error("unreadable: {0}")]
    Unreadable(String),
}
