//! What can go wrong with what is on disk.

use domain::id::NodeId;
use std::io::ErrorKind;
use std::path::PathBuf;

/// A broken or unusable store. None of these is the fault of a request: a node that meets one while
/// it runs ends itself.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The data directory was written by a newer release.
    #[error("data directory {} has format {found}, this build reads up to {readable}", path.display())]
    FormatTooNew {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format this build knows.
        readable: u32,
    },
    /// The data directory is another node's: under its own id that node could vote twice.
    #[error("data directory {} belongs to node {found}, not to node {expected}", path.display())]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// Whose it is.
        found: String,
        /// Who wanted it.
        expected: NodeId,
    },
    /// Another process holds the data directory.
    #[error("data directory {} is in use by another process", path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The log or the state is damaged and cannot be rebuilt from what is on this disk.
    #[error(
        "{} is damaged ({reason}); stop the node, move its data directory aside and start it again, so that it is filled from the other nodes",
        path.display()
    )]
    Damaged {
        /// What is damaged.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// A stored value does not match its checksum or its type.
    #[error("a value of {keyspace} is damaged: {reason}")]
    Corrupt {
        /// Where it is stored.
        keyspace: &'static str,
        /// What was found.
        reason: String,
    },
    /// A stored value was written by a newer release.
    #[error("a value of {keyspace} has version {found}, which this build cannot read")]
    TooNew {
        /// Where it is stored.
        keyspace: &'static str,
        /// Its version.
        found: u8,
    },
    /// Records that belong together do not.
    #[error("the state contradicts itself: {0}")]
    Inconsistent(&'static str),
    /// A snapshot file cannot be used.
    #[error("snapshot {} is not usable: {reason}", path.display())]
    Snapshot {
        /// The file.
        path: PathBuf,
        /// What was found.
        reason: String,
    },
    /// The log has no such entries.
    #[error("log entries {from}..{until} are not all there")]
    LogHole {
        /// The first index wanted.
        from: u64,
        /// One behind the last index wanted.
        until: u64,
    },
    /// An earlier write failed. What is on disk is unknown from there on, so nothing more is written.
    #[error("an earlier write failed: {0}")]
    Poisoned(String),
    /// The file system said no.
    #[error("{what}")]
    Io {
        /// What was being done.
        what: String,
        /// What it said.
        source: std::io::Error,
    },
    /// The log engine said no.
    #[error("log engine")]
    LogEngine(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The state engine said no.
    #[error("state engine")]
    StateEngine(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl Error {
    pub(crate) fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |source| Self::Io { what, source }
    }

    /// Whether the disk has no room, which is no damage: what is there is good once there is room again.
    pub(crate) fn is_full(&self) -> bool {
        let of_engine = |error: &(dyn std::error::Error + Send + Sync + 'static)| match error.downcast_ref() {
            Some(sled::Error::Io(error)) => Some(error.kind()),
            _ => None,
        };
        let kind = match self {
            Self::Io { source, .. } => Some(source.kind()),
            Self::StateEngine(error) => of_engine(error.as_ref()),
            _ => None,
        };
        matches!(kind, Some(ErrorKind::StorageFull | ErrorKind::QuotaExceeded))
    }

    /// The error and its causes in one line, for where only the words are kept: whoever ends over them should read that the
    /// disk is full, not only what could not be written.
    pub(crate) fn in_words(&self) -> String {
        let first: &dyn std::error::Error = self;
        let causes = std::iter::successors(Some(first), |error| error.source());
        causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
    }
}

impl From<sled::Error> for Error {
    fn from(error: sled::Error) -> Self {
        Self::StateEngine(Box::new(error))
    }
}

impl From<raft_engine::Error> for Error {
    fn from(error: raft_engine::Error) -> Self {
        Self::LogEngine(Box::new(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io;

    #[test]
    fn a_full_disk_is_told_from_damage() {
        let full = || io::Error::from_raw_os_error(28);
        assert!(Error::io("writing")(full()).is_full());
        assert!(Error::from(sled::Error::Io(full())).is_full());
        assert!(!Error::from(sled::Error::Io(io::Error::from_raw_os_error(5))).is_full());
        assert!(!Error::StateEngine("it panicked".into()).is_full());
        assert!(!Error::Inconsistent("x").is_full());
    }
}
