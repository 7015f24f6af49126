use crate::client::CallError;
use std::{io, process::ExitStatus, time::Duration};

/// Why a run could not be carried out. A promise that was broken is a [`crate::check::Violation`] instead.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine refused: a file, a port, a process.
    #[error("cannot {what}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// The binary under test could not be made.
    #[error("cannot build justrun: {0}")]
    Build(String),
    /// A node stopped that nobody stopped.
    #[error("node {node} ended by itself ({status}); its log ends:\n{log_tail}")]
    NodeEnded {
        /// Which node.
        node: u64,
        /// How it ended.
        status: ExitStatus,
        /// The last lines of its log.
        log_tail: String,
    },
    /// Something that had to happen did not.
    #[error("no {what} within {deadline:?}; last seen: {seen}")]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        deadline: Duration,
        /// What there was instead.
        seen: String,
    },
    /// Nodes that have applied the same entries of the log have written different things.
    #[error("replicas differ at log entry {index}: {nodes}")]
    Diverged {
        /// The entry.
        index: u64,
        /// Each node's digest.
        nodes: String,
    },
    /// A request was not answered.
    #[error(transparent)]
    Call(#[from] CallError),
    /// A request was answered otherwise than the run needs.
    #[error("{request} answered {status}: {body}")]
    Answered {
        /// Method and address.
        request: String,
        /// HTTP status.
        status: u16,
        /// The start of the body.
        body: String,
    },
    /// An answer lacks what the contract says it has.
    #[error("{request} answered without {missing}: {body}")]
    Contract {
        /// Method and address.
        request: String,
        /// The field that is missing or of another type.
        missing: &'static str,
        /// The start of the body.
        body: String,
    },
    /// A history file or an argument makes no sense.
    #[error("{0}")]
    Input(String),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }
}
