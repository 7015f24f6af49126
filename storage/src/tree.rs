//! The tree on disk: sled, and what it takes to trust it.
//!
//! sled 0.34 asks the kernel to write but does not wait for the disk, so its files are synced here. It also holds all
//! readers while it applies a batch, and has them take a lock from the first batch on. So there are none: changes go in one
//! by one, and what makes them one is the redo file of [`crate::flush`].

use crate::error::Error;
use bytes::Bytes;
use std::fs::{self, File};
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

/// No keyspace has this prefix.
const KEY_MARK: &[u8] = &[0];
/// The number of the flush that set the mark.
const KEY_FLUSH: &[u8] = &[0, 1];
/// There while changes go in: the mark that the tree will have.
const KEY_UNDER_WAY: &[u8] = &[0, 2];
/// A file in the state directory that says why the state is not to be trusted any more.
const SUSPECT: &str = "SUSPECT";
/// One state directory.
#[derive(Clone)]
pub(crate) struct Tree {
    path: PathBuf,
    db: sled::Db,
}

impl Tree {
    pub(crate) fn open(path: &Path, cache_bytes: u64) -> Result<Self, Error> {
        let db = guarded(|| {
            sled::Config::new()
                .path(path)
                .cache_capacity(cache_bytes)
                // The flusher says when.
                .flush_every_ms(None)
                .mode(sled::Mode::HighThroughput)
                .open()
        })?;
        Ok(Self { path: path.to_owned(), db })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let value = guarded(|| self.db.get(key)).inspect_err(|error| self.suspect(error))?;
        Ok(value.map(|value| Bytes::copy_from_slice(&value)))
    }

    pub(crate) fn range(
        &self,
        lower: &[u8],
        upper: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, Bytes), Error>> + use<> {
        let tree = self.clone();
        let mut items = self.db.range(lower.to_vec()..upper.to_vec());
        std::iter::from_fn(move || {
            let next = guarded(|| items.next().transpose()).inspect_err(|error| tree.suspect(error));
            next.map(|item| item.map(|(key, value)| (key.to_vec(), Bytes::copy_from_slice(&value))))
                .transpose()
        })
    }

    /// Notes that changes are under way which lead to `mark`, until [`Tree::end_changes`]. A tree that still says so
    /// after a crash may hold some of them.
    pub(crate) fn begin_changes(&self, mark: &[u8]) -> Result<(), Error> {
        // The tree comes back as it was at some instant, so if any of the changes are there, so is this.
        guarded(|| self.db.insert(KEY_UNDER_WAY, checked(mark))).map(drop)
    }

    /// Applies changes one after the other, with `pause` after each. Not atomic.
    pub(crate) fn apply<'a>(
        &self,
        changes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
        mut pause: impl FnMut(),
    ) -> Result<(), Error> {
        for (key, value) in changes {
            match value {
                Some(value) => guarded(|| self.db.insert(key, value))?,
                None => guarded(|| self.db.remove(key))?,
            };
            pause();
        }
        Ok(())
    }

    /// Notes that everything up to `mark` is in, put there by the flush of this number, and syncs.
    pub(crate) fn end_changes(&self, mark: &[u8], flush: u64) -> Result<(), Error> {
        if !mark.is_empty() {
            guarded(|| self.db.insert(KEY_MARK, checked(mark)))?;
        }
        guarded(|| self.db.insert(KEY_FLUSH, checked(&flush.to_be_bytes())))?;
        // Last: as long as it is there, all of this is done again.
        guarded(|| self.db.remove(KEY_UNDER_WAY))?;
        self.sync()
    }

    /// The mark of the last changes that went in completely.
    pub(crate) fn mark(&self) -> Result<Option<Bytes>, Error> {
        self.record(KEY_MARK)
    }

    /// The mark that the changes under way lead to, if there are any.
    pub(crate) fn under_way(&self) -> Result<Option<Bytes>, Error> {
        self.record(KEY_UNDER_WAY)
    }

    /// The number of the last flush that went in completely.
    pub(crate) fn flush_number(&self) -> Result<u64, Error> {
        match self.record(KEY_FLUSH)? {
            Some(number) => number.as_ref().try_into().map(u64::from_be_bytes).map_err(|_| Error::Corrupt {
                keyspace: "flush",
                reason: format!("{} bytes are no number", number.len()),
            }),
            None => Ok(0),
        }
    }

    /// A record of the tree itself, which has its own checksum.
    fn record(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let Some(record) = self.get(key)? else { return Ok(None) };
        match record.split_first_chunk() {
            Some((checksum, content)) if crc32fast::hash(content) == u32::from_le_bytes(*checksum) => {
                Ok(Some(record.slice(checksum.len()..)))
            }
            Some(_) | None => {
                Err(Error::Corrupt { keyspace: "mark", reason: "the checksum does not match".to_owned() })
            }
        }
    }

    /// Notes on disk that something in this tree cannot be read, so that the next start rebuilds it instead of
    /// meeting the same again.
    pub(crate) fn suspect(&self, found: &Error) {
        let damage = matches!(found, Error::Corrupt { .. } | Error::StateEngine(_)) && !found.is_full();
        if damage && let Err(error) = fs::write(self.path.join(SUSPECT), found.to_string()) {
            tracing::error!(%error, "damage cannot be noted");
        }
    }

    /// Why the tree in a directory is not to be trusted, if an earlier process said so.
    pub(crate) fn suspicion(path: &Path) -> Option<String> {
        let path = path.join(SUSPECT);
        path.exists().then(|| fs::read_to_string(path).unwrap_or_else(|error| error.to_string()))
    }

    /// Waits until everything is on the disk.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        guarded(|| self.db.flush())?;
        for entry in fs::read_dir(&self.path).map_err(Error::io("listing the state directory"))? {
            let path = entry.map_err(Error::io("listing the state directory"))?.path();
            if path.is_file() {
                File::open(&path).and_then(|file| file.sync_all()).map_err(Error::io("syncing the state"))?;
            }
        }
        sync_dir(&self.path)
    }

    /// Closes the tree and removes it from the disk.
    pub(crate) fn destroy(self) {
        let Self { path, db } = self;
        drop(db);
        if let Err(error) = fs::remove_dir_all(&path) {
            tracing::warn!(path = %path.display(), %error, "an old state directory stays behind");
        }
    }
}

/// A record with its checksum in front.
fn checked(content: &[u8]) -> Vec<u8> {
    [&crc32fast::hash(content).to_le_bytes()[..], content].concat()
}

/// Runs something of sled's, which panics on much of the damage it meets.
fn guarded<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, Error> {
    match std::panic::catch_unwind(AssertUnwindSafe(work)) {
        Ok(result) => Ok(result?),
        Err(_) => Err(Error::StateEngine("it panicked".into())),
    }
}

/// Makes what happened to the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::io("syncing a directory"))
}
