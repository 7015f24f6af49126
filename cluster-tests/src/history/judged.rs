//! What was judged while the run went on, because nobody can look at it afterwards.

use super::{Execution, ExecutionId, JobId};
use serde::{Deserialize, Serialize};

/// What two nodes show of a job's executions was compared, one by one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// Whose.
    pub job: JobId,
    /// The one whose record is in the history, and the other.
    pub nodes: [u64; 2],
    /// How many executions either of them shows.
    pub executions: usize,
    /// When the first of them was asked.
    pub asked_us: i64,
}

/// An execution of which two nodes do not show the same. While it runs, that is their right.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Differs {
    /// Of which job.
    pub job: JobId,
    /// Which.
    pub execution: ExecutionId,
    /// Who was asked.
    pub nodes: [u64; 2],
    /// What each of them shows; none where it shows nothing.
    pub shown: [Option<Execution>; 2],
    /// When the first of them was asked.
    pub asked_us: i64,
}

/// A fault that is over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healed {
    /// Its name on the command line.
    pub fault: String,
    /// Who led before it.
    pub leader: u64,
    /// How long it lasted.
    pub lasting_us: i64,
    /// When it was over.
    pub at_us: i64,
    /// From then until every node said that it is ready.
    pub ready_us: i64,
    /// From then until every node was alive and every shard had an owner.
    pub whole_us: i64,
}

/// What `justrun verify` says of a backup that was taken of one node at the end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proven {
    /// Of which.
    pub node: u64,
    /// `complete`, `gaps`, `unknown`, or `failed` if there was no backup or no answer.
    pub verdict: String,
    /// How many due instants it has accounted for.
    pub instants: usize,
    /// The start of what it found to be wrong, or why there is no answer.
    pub said: String,
}
