//! A change of the state.

use super::{Read, Shared};
use crate::backup;
use crate::codec::encode_value;
use crate::digest::Digest;
use crate::error::Error;
use crate::keyspace::{Keyspace, full_key};
use crate::overlay::Changes;
use bytes::Bytes;
use parking_lot::MutexGuard;

/// What a change in memory takes beside its key and value: the map's own, two allocations and what holds them.
const OVERHEAD_BYTES: usize = 96;

/// A change of the state that takes effect as a whole with [`StateTxn::commit`], or not at all.
pub struct StateTxn<'a> {
    pub(super) shared: &'a Shared,
    pub(super) writes: Changes,
    /// Over the writes since it was last taken.
    pub(super) written: Digest,
    pub(super) _writing: MutexGuard<'a, ()>,
}

impl std::fmt::Debug for StateTxn<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateTxn").field("writes", &self.writes.len()).finish_non_exhaustive()
    }
}

impl StateTxn<'_> {
    /// Gives a key a value.
    ///
    /// # Errors
    /// Never at present; the signature leaves room for engines that write through.
    pub fn put<K: Keyspace>(&mut self, key: &K::Key, value: &K::Value) -> Result<(), Error> {
        self.write(full_key::<K>(key), Some(encode_value(value).into()));
        Ok(())
    }

    /// Takes a key's value away, if it has one.
    ///
    /// # Errors
    /// As [`StateTxn::put`].
    pub fn remove<K: Keyspace>(&mut self, key: &K::Key) -> Result<(), Error> {
        self.write(full_key::<K>(key), None);
        Ok(())
    }

    fn write(&mut self, key: Vec<u8>, value: Option<Bytes>) {
        self.written.update_write(&key, value.as_deref());
        self.writes.insert(key, value);
    }

    /// A hash over the writes since the last call, or since the beginning, in their order. It begins anew.
    pub fn take_digest(&mut self) -> Digest {
        std::mem::take(&mut self.written)
    }

    /// Gives the key of a record that was stored elsewhere its value, both as they were there.
    ///
    /// # Errors
    /// As [`StateTxn::put`].
    pub fn put_record(&mut self, record: backup::Record) -> Result<(), Error> {
        let (key, value) = record.into_parts();
        self.write(key, Some(value));
        Ok(())
    }

    /// Takes away what backups carry and what follows from it, at most `limit` records. Returns how many there were.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn clear(&mut self, limit: usize) -> Result<usize, Error> {
        let mut cleared = 0;
        for prefix in backup::cleared() {
            let found = self.range_bytes(&[prefix], &[prefix + 1], limit - cleared)?;
            cleared += found.len();
            for (key, _) in found {
                self.write(key, None);
            }
            if cleared == limit {
                break;
            }
        }
        Ok(cleared)
    }

    /// Makes the change visible, under `mark`.
    ///
    /// # Errors
    /// [`Error::Poisoned`] after a failed flush.
    pub fn commit(self, mark: Bytes) -> Result<(), Error> {
        let mut layers = self.shared.layers.write();
        if let Some(reason) = &layers.poisoned {
            return Err(Error::Poisoned(reason.clone()));
        }
        for (key, value) in self.writes {
            layers.active_bytes += key.len() + value.as_ref().map_or(0, Bytes::len) + OVERHEAD_BYTES;
            layers.active.insert(key, value);
        }
        layers.applied = Some(mark);
        let full = layers.active_bytes >= self.shared.settings.flush_bytes;
        drop(layers);
        if full {
            self.shared.wake.now();
        }
        Ok(())
    }
}

impl Read for StateTxn<'_> {
    fn get_bytes(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        match self.writes.get(key) {
            Some(change) => Ok(change.clone()),
            None => self.shared.layers.read_recursive().get(key),
        }
    }

    fn range_bytes(&self, lower: &[u8], upper: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Bytes)>, Error> {
        self.shared.layers.read_recursive().range(Some(&self.writes), lower, upper, limit)
    }

    fn note_damage(&self, error: &Error) {
        self.shared.layers.read_recursive().note_damage(error);
    }
}
