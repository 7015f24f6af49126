//! The tree on disk: sled, and what it takes to trust it.
//!
//! sled 0.34 asks the kernel to write but does not wait for the disk, so its files are synced here. It also holds all
//! readers while it applies a batch, so changes go in as many small batches; what makes them one is the
//! redo file of [`crate::flush`].

use crate::error::Error;
use bytes::Bytes;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// No keyspace has this prefix.
const KEY_MARK: &[u8] = &[0];
/// Changes in one batch: a few milliseconds for which readers wait.
const BATCH_MAX: usize = 256;

/// One state directory.
#[derive(Clone)]
pub(crate) struct Tree {
    path: PathBuf,
    db: sled::Db,
}

impl Tree {
    pub(crate) fn open(path: &Path, cache_bytes: u64) -> Result<Self, Error> {
        let db = sled::Config::new()
            .path(path)
            .cache_capacity(cache_bytes)
            // The flusher says when.
            .flush_every_ms(None)
            .mode(sled::Mode::HighThroughput)
            .open()?;
        Ok(Self { path: path.to_owned(), db })
    }

    pub(crate) fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        Ok(self.db.get(key)?.map(|value| Bytes::copy_from_slice(&value)))
    }

    pub(crate) fn range(
        &self,
        lower: &[u8],
        upper: &[u8],
    ) -> impl Iterator<Item = Result<(Vec<u8>, Bytes), Error>> + use<> {
        self.db.range(lower.to_vec()..upper.to_vec()).map(|item| {
            let (key, value) = item?;
            Ok((key.to_vec(), Bytes::copy_from_slice(&value)))
        })
    }

    /// Applies changes in small batches. Not atomic.
    pub(crate) fn apply<'a>(
        &self,
        changes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)>,
    ) -> Result<(), Error> {
        let mut batch = sled::Batch::default();
        let mut size = 0;
        for (key, value) in changes {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
            size += 1;
            if size == BATCH_MAX {
                self.db.apply_batch(std::mem::take(&mut batch))?;
                size = 0;
            }
        }
        Ok(self.db.apply_batch(batch)?)
    }

    /// The mark of the last changes that went in completely, with its own checksum.
    pub(crate) fn mark(&self) -> Result<Option<Bytes>, Error> {
        let Some(record) = self.db.get(KEY_MARK)? else { return Ok(None) };
        match record.split_first_chunk() {
            Some((checksum, mark)) if crc32fast::hash(mark) == u32::from_le_bytes(*checksum) => {
                Ok(Some(Bytes::copy_from_slice(mark)))
            }
            Some(_) | None => {
                Err(Error::Corrupt { keyspace: "mark", reason: "the checksum does not match".to_owned() })
            }
        }
    }

    /// Notes that everything up to `mark` is in.
    pub(crate) fn set_mark(&self, mark: &[u8]) -> Result<(), Error> {
        let record = [&crc32fast::hash(mark).to_le_bytes()[..], mark].concat();
        self.db.insert(KEY_MARK, record)?;
        Ok(())
    }

    /// Waits until everything is on the disk.
    pub(crate) fn sync(&self) -> Result<(), Error> {
        self.db.flush()?;
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

/// Makes what happened to the names in a directory durable.
pub(crate) fn sync_dir(path: &Path) -> Result<(), Error> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(Error::io("syncing a directory"))
}
