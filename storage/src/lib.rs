//! Durable state of one node: the raft log, the state tree and snapshots.
//!
//! **Never**: decides anything, knows consensus, reads the clock.
//! **Uses**: `domain`, for the types it stores. **Used by**: `raft`; `api` and `node` for read views.
//!
//! Start at [`schema`] for what is on disk, then [`StateTxn`] for how it changes.
//!
//! # Damage
//!
//! A state that cannot be trusted is made again from this node's newest snapshot and the log behind it; when these do not
//! suffice, and whenever the log is damaged, [`Storage::open`] refuses the directory with [`Error::Damaged`].
//!
//! Detected when a directory is opened:
//! - of the state: that it is missing, that sled cannot open it, that a flush was cut off and its redo file is missing or
//!   damaged, that it went back to before where the log begins, that an earlier run found damage in it;
//! - of the log: anything in its newest file but its very last batch, a missing file other than the newest, records in
//!   older files that say what entries there are.
//!
//! Detected when it is read: an entry, a value or a key that does not match its checksum, and whatever makes sled fail or
//! panic. In the state this is noted, and the next start makes it again.
//!
//! Not detected:
//! - damage to the last batch of the log, or the loss of its newest file: both look like a write that was cut off;
//! - a record of the state that is whole but stale or gone, should sled lose one without noticing. To find it would take a
//!   scan of everything at each start. Replicas that differ are found by comparing [`State::digest`].

pub mod backup; // what of the state goes into a backup
mod chunk_file; // changes in a file that can be checked
pub mod codec; // values to bytes
mod digest; // by which replicas are compared
mod directory; // what lies where
mod error;
mod flush; // from memory to disk
mod keyspace;
mod log;
mod log_check; // a write cut off, or damage?
mod overlay; // changes in memory, over what is on disk
mod pace; // work that gives way
pub mod schema; // THE TABLE: the keyspaces
mod snapshot;
mod state;
mod tree; // sled

pub use backup::BackupError;
pub use digest::Digest;
pub use error::Error;
pub use keyspace::Keyspace;
pub use log::{Flushed, Log, LogBounds, LogEntry, MetaSlot};
pub use snapshot::{SnapshotFile, SnapshotWriter};
pub use state::{Items, Read, State, StateTxn, StateView};

use domain::id::NodeId;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;
use tree::Tree;

/// How a store uses memory and disk.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of the state kept in memory for reading.
    pub sled_cache_bytes: u64,
    /// How long a change stays in memory alone at most (it is in the log).
    pub flush_interval: Duration,
    /// Bytes that changes take in memory, about, which call for a flush before its time.
    pub flush_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            // In memory a page takes more than twice what sled counts.
            sled_cache_bytes: 16 * 1024 * 1024,
            flush_interval: Duration::from_secs(5),
            flush_bytes: 16 * 1024 * 1024,
        }
    }
}

/// An open data directory. Clones are the same one.
#[derive(Clone, Debug)]
pub struct Storage {
    /// The raft log.
    pub log: Log,
    /// The state.
    pub state: State,
}

impl Storage {
    /// Opens a data directory, making it if need be. It is taken until the last clone of its log and of its state is
    /// gone.
    ///
    /// A state that turns out to be damaged is rebuilt from this node's newest snapshot and its log if they allow it.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::FormatTooNew`], [`Error::Damaged`]; otherwise when the disk fails.
    pub fn open(dir: &Path, settings: Settings) -> Result<Self, Error> {
        let lock = Arc::new(directory::take(dir)?);
        let flushes = Arc::new(AtomicU64::new(0));
        let log = Log::open(&directory::log(dir), Arc::clone(&flushes), Arc::clone(&lock))?;
        let tree = open_tree(dir, &settings, &log)?;
        let state = State::open(dir.to_owned(), settings, tree, flushes, lock)?;
        Ok(Self { log, state })
    }

    /// As [`Storage::open`], for this node alone: a directory that was opened for another one is refused.
    ///
    /// # Errors
    /// [`Error::OtherNode`]; otherwise as [`Storage::open`].
    pub fn open_for(dir: &Path, settings: Settings, node: NodeId) -> Result<Self, Error> {
        let storage = Self::open(dir, settings)?;
        directory::belong_to(dir, node)?;
        Ok(storage)
    }
}

fn open_tree(dir: &Path, settings: &Settings, log: &Log) -> Result<Tree, Error> {
    let covered = log.covered()?;
    let current = directory::current(dir)?;
    let path = dir.join(current.as_deref().unwrap_or("CURRENT"));
    let reason = match &current {
        Some(_) => match open_live(&path, settings, covered) {
            Ok(tree) => return Ok(tree),
            // To be started again once there is room; to rebuild it would take even more.
            Err(error) if error.is_full() => return Err(error),
            Err(error) => {
                let cause = std::error::Error::source(&error);
                cause.map_or_else(|| error.to_string(), |cause| format!("{error}: {cause}"))
            }
        },
        None if log.bounds().purged.is_none() => return empty_tree(dir, settings),
        None => "nothing says which state directory is the live one".to_owned(),
    };

    // The log reaches back to the newest snapshot, so the two together make up the state again.
    let damaged = |reason: String| Error::Damaged { path: path.clone(), reason };
    let snapshot = match snapshot::newest(dir) {
        Ok(found) => found,
        Err(Error::Snapshot { .. }) if log.bounds().purged.is_none() => None,
        Err(Error::Snapshot { reason: of_snapshot, .. }) => {
            return Err(damaged(format!("{reason}; the newest snapshot too: {of_snapshot}")));
        }
        Err(error) => return Err(error),
    };
    if snapshot.is_none() && log.bounds().purged.is_some() {
        return Err(damaged(format!("{reason}; there is no snapshot")));
    }
    tracing::error!(path = %path.display(), reason, "the state is damaged; rebuilding it");
    if path.is_dir() {
        let aside = path.with_extension("damaged");
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(Error::io("removing an older damaged state"))?;
        }
        fs::rename(&path, &aside).map_err(Error::io("moving the damaged state aside"))?;
    }
    match snapshot {
        Some(file) => snapshot::load(dir, &file, settings, covered + 1),
        None => empty_tree(dir, settings),
    }
}

/// Opens the live state, finishes what was cut off in it, and looks whether it can be trusted.
fn open_live(path: &Path, settings: &Settings, covered: u64) -> Result<Tree, Error> {
    if !path.is_dir() {
        return Err(Error::Inconsistent("the live state directory is missing"));
    }
    if let Some(reason) = Tree::suspicion(path) {
        return Err(Error::Corrupt { keyspace: "an earlier run", reason });
    }
    let tree = Tree::open(path, settings.sled_cache_bytes)?;
    flush::redo(&tree)?;
    tree.mark()?;
    // sled drops what it cannot read at the end of its files. The state is then an older one, which the log leads on
    // from unless it was purged in between.
    if tree.flush_number()? < covered {
        return Err(Error::Inconsistent("it is older than where the log begins"));
    }
    Ok(tree)
}

fn empty_tree(dir: &Path, settings: &Settings) -> Result<Tree, Error> {
    let name = directory::next_state(dir)?;
    let tree = Tree::open(&dir.join(&name), settings.sled_cache_bytes)?;
    tree.sync()?;
    directory::set_current(dir, &name)?;
    Ok(tree)
}
