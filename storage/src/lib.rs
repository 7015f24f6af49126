//! Durable state of one node: the raft log, the state tree and snapshots.
//!
//! **Never**: decides anything, knows consensus, reads the clock.
//! **Uses**: `domain`, for the types it stores. **Used by**: `raft`; `api` and `node` for read views.
//!
//! Start at [`schema`] for what is on disk, then [`StateTxn`] for how it changes.

mod chunk_file; // changes in a file that can be checked
pub mod codec; // values to bytes
mod directory; // what lies where
mod error;
mod flush; // from memory to disk
mod keyspace;
mod log;
mod overlay; // changes in memory, over what is on disk
pub mod schema; // THE TABLE: the keyspaces
mod snapshot;
mod state;
mod tree; // sled

pub use error::Error;
pub use keyspace::Keyspace;
pub use log::{Flushed, Log, LogBounds, LogEntry, MetaSlot};
pub use snapshot::{SnapshotFile, SnapshotWriter};
pub use state::{Items, Read, State, StateTxn, StateView};

use std::fs::{self, File};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tree::Tree;

/// How a store uses memory and disk.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Bytes of the state kept in memory for reading.
    pub sled_cache_bytes: u64,
    /// How long a change stays in memory alone at most (it is in the log).
    pub flush_interval: Duration,
    /// Bytes of changes in memory that call for a flush before its time.
    pub flush_bytes: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sled_cache_bytes: 64 * 1024 * 1024,
            flush_interval: Duration::from_secs(1),
            flush_bytes: 4 * 1024 * 1024,
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
    /// Given up by the operating system when the last clone goes, or the process.
    _lock: Arc<File>,
}

impl Storage {
    /// Opens a data directory, making it if need be.
    ///
    /// A state that turns out to be damaged is rebuilt from this node's newest snapshot and its log if they allow it.
    ///
    /// # Errors
    /// [`Error::Locked`], [`Error::FormatTooNew`], [`Error::Damaged`]; otherwise when the disk fails.
    pub fn open(dir: &Path, settings: Settings) -> Result<Self, Error> {
        let lock = directory::take(dir)?;
        let log = Log::open(&directory::log(dir))?;
        let tree = open_tree(dir, &settings, &log)?;
        let state = State::open(dir.to_owned(), settings, tree)?;
        Ok(Self { log, state, _lock: Arc::new(lock) })
    }
}

fn open_tree(dir: &Path, settings: &Settings, log: &Log) -> Result<Tree, Error> {
    let Some(name) = directory::current(dir)? else {
        let name = directory::next_state(dir)?;
        let tree = Tree::open(&dir.join(&name), settings.sled_cache_bytes)?;
        tree.sync()?;
        directory::set_current(dir, &name)?;
        return Ok(tree);
    };
    let path = dir.join(&name);
    let opened = if path.exists() {
        Tree::open(&path, settings.sled_cache_bytes).and_then(|tree| {
            flush::redo(dir, &tree)?;
            tree.mark()?;
            Ok(tree)
        })
    } else {
        Err(Error::Inconsistent("the live state directory is missing"))
    };
    let reason = match opened {
        Ok(tree) => return Ok(tree),
        Err(error) => error.to_string(),
    };

    // The log reaches back to the last snapshot, so the two together make up the state again.
    tracing::error!(path = %path.display(), reason, "the state is damaged; rebuilding it");
    let damaged = || Error::Damaged { path: path.clone(), reason: reason.clone() };
    if path.exists() {
        let aside = dir.join(format!("{name}.damaged"));
        if aside.exists() {
            fs::remove_dir_all(&aside).map_err(Error::io("removing an older damaged state"))?;
        }
        fs::rename(&path, &aside).map_err(Error::io("moving the damaged state aside"))?;
    }
    match snapshot::latest(dir)? {
        Some(file) => snapshot::load(dir, &file, settings),
        None if log.bounds().purged.is_some() => Err(damaged()),
        None => {
            let name = directory::next_state(dir)?;
            let tree = Tree::open(&dir.join(&name), settings.sled_cache_bytes)?;
            tree.sync()?;
            directory::set_current(dir, &name)?;
            Ok(tree)
        }
    }
}
