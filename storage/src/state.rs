//! The state: an ordered overlay in memory over a tree on disk.
//!
//! A transaction's writes go to the overlay together with a mark (the applied position of the log). The
//! flusher moves the overlay to disk now and then; see [`crate::flush`]. Readers see one mark.

mod txn; // a change

use crate::backup;
use crate::codec::decode_value;
use crate::digest::Digest;
use crate::directory;
use crate::error::Error;
use crate::flush::{self, Flusher};
use crate::keyspace::{Keyspace, full_key};
use crate::overlay::{self, Changes};
use crate::snapshot::{self, SnapshotFile, SnapshotWriter};
use crate::tree::Tree;
use bytes::Bytes;
use domain::node::SessionId;
use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use std::fs::File;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
pub use txn::StateTxn;

/// What a state in memory alone cannot do.
pub(crate) const IN_MEMORY: Error = Error::Inconsistent("a state in memory has nothing to do with snapshots");

/// The state of one node. Clones are the same state.
#[derive(Clone)]
pub struct State {
    pub(crate) shared: Arc<Shared>,
    /// None when there is no disk to flush to.
    _flusher: Option<Arc<Flusher>>,
}

pub(crate) struct Shared {
    /// The node's data directory.
    pub(crate) dir: PathBuf,
    pub(crate) settings: crate::Settings,
    pub(crate) layers: RwLock<Layers>,
    /// There is one writer at a time.
    writing: Mutex<()>,
    /// Held by whoever moves changes to disk, and by whoever wants the disk to stand still.
    pub(crate) flushing: Mutex<()>,
    pub(crate) wake: flush::Wake,
    /// How many wait until what is committed is on disk.
    pub(crate) waiting: AtomicUsize,
    /// The number of the newest synced flush.
    pub(crate) flushes: Arc<AtomicU64>,
    /// Held while a snapshot file is given its name.
    pub(crate) naming: Mutex<()>,
    /// The data directory is taken for as long as the state may write to it.
    _lock: Option<Arc<File>>,
}

/// What a lookup goes through, newest first.
pub(crate) struct Layers {
    pub(crate) active: Changes,
    /// Bytes that `active` takes, about.
    pub(crate) active_bytes: usize,
    /// On its way to disk, or there since the last flush if it is not large.
    pub(crate) frozen: Option<Arc<Changes>>,
    /// What is on disk. None when the state is in memory alone.
    pub(crate) tree: Option<Tree>,
    /// The mark of the last commit.
    pub(crate) applied: Option<Bytes>,
    /// The mark that a synced flush covers.
    pub(crate) flushed: Option<Bytes>,
    /// Why nothing more may be written.
    pub(crate) poisoned: Option<String>,
}

impl Layers {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        let known = match &self.frozen {
            Some(frozen) => overlay::get(&[&self.active, frozen], key),
            None => overlay::get(&[&self.active], key),
        };
        match known {
            Some(change) => Ok(change.clone()),
            None => self.tree.as_ref().map_or(Ok(None), |tree| tree.get(key)),
        }
    }

    fn range(
        &self,
        own: Option<&Changes>,
        lower: &[u8],
        upper: &[u8],
        limit: usize,
    ) -> Result<Vec<(Vec<u8>, Bytes)>, Error> {
        if lower >= upper {
            return Ok(Vec::new());
        }
        let mut layers: Vec<&Changes> = Vec::with_capacity(3);
        layers.extend(own);
        layers.push(&self.active);
        layers.extend(self.frozen.as_deref());
        let stored = self.tree.iter().flat_map(|tree| tree.range(lower, upper));
        overlay::range(&layers, stored, lower, upper, limit)
    }

    fn note_damage(&self, error: &Error) {
        if let Some(tree) = &self.tree {
            tree.suspect(error);
        }
    }
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").field("dir", &self.shared.dir).finish_non_exhaustive()
    }
}

impl Shared {
    fn new(
        dir: PathBuf,
        settings: crate::Settings,
        layers: Layers,
        flushes: Arc<AtomicU64>,
        lock: Option<Arc<File>>,
    ) -> Self {
        Self {
            dir,
            settings,
            layers: RwLock::new(layers),
            writing: Mutex::new(()),
            flushing: Mutex::new(()),
            wake: flush::Wake::default(),
            waiting: AtomicUsize::new(0),
            flushes,
            naming: Mutex::new(()),
            _lock: lock,
        }
    }
}

impl Shared {
    /// Whether changes have piled up in memory to so many times what calls for a flush.
    pub(crate) fn is_behind(&self, times: usize) -> bool {
        self.layers.read_recursive().active_bytes >= self.settings.flush_bytes.saturating_mul(times)
    }
}

impl State {
    /// A state over `tree`. `flushes` is kept at the number of the newest synced flush.
    pub(crate) fn open(
        dir: PathBuf,
        settings: crate::Settings,
        tree: Tree,
        flushes: Arc<AtomicU64>,
        lock: Arc<File>,
    ) -> Result<Self, Error> {
        let mark = tree.mark()?;
        flushes.store(tree.flush_number()?, Ordering::SeqCst);
        let layers = Layers {
            active: Changes::new(),
            active_bytes: 0,
            frozen: None,
            tree: Some(tree),
            applied: mark.clone(),
            flushed: mark,
            poisoned: None,
        };
        let shared = Arc::new(Shared::new(dir, settings, layers, flushes, Some(lock)));
        let flusher = Arc::new(Flusher::start(Arc::clone(&shared))?);
        Ok(Self { shared, _flusher: Some(flusher) })
    }

    /// An empty state in memory alone: no file, no thread, and nothing is left of it. For simulations, which start
    /// thousands. It cannot be written to snapshots or made from them.
    #[must_use]
    pub fn in_memory() -> Self {
        let layers = Layers {
            active: Changes::new(),
            active_bytes: 0,
            frozen: None,
            tree: None,
            applied: None,
            flushed: None,
            poisoned: None,
        };
        let settings = crate::Settings { flush_bytes: usize::MAX, ..crate::Settings::default() };
        let shared = Shared::new(PathBuf::new(), settings, layers, Arc::default(), None);
        Self { shared: Arc::new(shared), _flusher: None }
    }

    /// Replaces everything in this state by what `other` holds; both are in memory alone. As [`State::install`] for those.
    ///
    /// # Errors
    /// [`Error::Inconsistent`] when one of them is on disk.
    pub fn become_copy_of(&self, other: &Self) -> Result<(), Error> {
        let on_disk = || Error::Inconsistent("only states in memory are copied");
        let _writing = self.shared.writing.lock();
        let (active, active_bytes, applied) = {
            let layers = other.shared.layers.read_recursive();
            if layers.tree.is_some() {
                return Err(on_disk());
            }
            (layers.active.clone(), layers.active_bytes, layers.applied.clone())
        };
        let mut layers = self.shared.layers.write();
        if layers.tree.is_some() {
            return Err(on_disk());
        }
        layers.active = active;
        layers.active_bytes = active_bytes;
        layers.applied = applied;
        Ok(())
    }

    /// The state at one mark. Holds back commits while it lives, so it is for a few reads in a row and
    /// never kept across anything that waits.
    #[must_use]
    pub fn view(&self) -> StateView<'_> {
        // Recursive, because a reader that waited behind a writer while it holds a view would wait for ever.
        StateView { layers: self.shared.layers.read_recursive() }
    }

    /// Begins the next change. Waits for the one under way.
    #[must_use]
    pub fn begin(&self) -> StateTxn<'_> {
        StateTxn {
            shared: &self.shared,
            writes: Changes::new(),
            written: Digest::default(),
            _writing: self.shared.writing.lock(),
        }
    }

    /// The mark of the last commit.
    #[must_use]
    pub fn applied(&self) -> Option<Bytes> {
        self.shared.layers.read_recursive().applied.clone()
    }

    /// The mark up to which everything is synced to disk.
    #[must_use]
    pub fn flushed(&self) -> Option<Bytes> {
        self.shared.layers.read_recursive().flushed.clone()
    }

    /// Syncs everything that has been committed. Blocks.
    ///
    /// # Errors
    /// When the disk fails; the state takes no writes from then on.
    pub fn flush(&self) -> Result<(), Error> {
        self.shared.waiting.fetch_add(1, Ordering::Relaxed);
        let gate = self.shared.flushing.lock();
        self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
        flush::flush(&self.shared, &gate)
    }

    /// Writes the state to a file, at one mark, while commits go on. Blocks.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn snapshot(&self) -> Result<SnapshotFile, Error> {
        snapshot::write(&self.shared)
    }

    /// Writes what a backup carries of the state to a file, at one mark, while commits go on. What describes the file is made of
    /// the mark. The file has no name and goes when it is closed. Blocks.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn backup(&self, header: impl FnOnce(&[u8]) -> Vec<u8>) -> Result<File, Error> {
        backup::write(&self.shared, header)
    }

    /// A file on this node's disk for a backup that comes from elsewhere. It has no name and goes when it is closed.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn incoming_backup(&self) -> Result<File, Error> {
        backup::nameless(&self.shared)
    }

    /// The newest usable snapshot file of this node.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn latest_snapshot(&self) -> Result<Option<SnapshotFile>, Error> {
        if self.shared.layers.read_recursive().tree.is_none() {
            return Ok(None);
        }
        snapshot::latest(&self.shared.dir)
    }

    /// Begins to receive a snapshot of another node.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn incoming_snapshot(&self) -> Result<SnapshotWriter, Error> {
        SnapshotWriter::create(Arc::clone(&self.shared))
    }

    /// Whether this node may have lost what it had acknowledged and has not got it back, as [`State::set_filling`] said last.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn is_filling(&self) -> Result<bool, Error> {
        directory::is_filling(&self.shared.dir)
    }

    /// Notes, so that a restart does not forget it, that this node is being filled by others after it began with nothing, or that it
    /// has been.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn set_filling(&self, is_filling: bool) -> Result<(), Error> {
        directory::set_filling(&self.shared.dir, is_filling)
    }

    /// The session of the process that was started on this node's disk last, as [`State::set_last_session`] said. The state may not
    /// know of it yet.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn last_session(&self) -> Result<Option<SessionId>, Error> {
        directory::last_session(&self.shared.dir)
    }

    /// Notes the session of this process, so that the next one's is higher whatever the clock shows then.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn set_last_session(&self, session: SessionId) -> Result<(), Error> {
        directory::set_last_session(&self.shared.dir, session)
    }

    /// Why nothing more can be written, once that is so: a flush has failed. What is committed then would never reach the
    /// disk, so nothing is, and the node has to end.
    #[must_use]
    pub fn failure(&self) -> Option<String> {
        self.shared.layers.read_recursive().poisoned.clone()
    }

    /// Replaces the state by that of a snapshot, as a whole or not at all, even under `kill -9`. Returns its mark. Blocks.
    ///
    /// # Errors
    /// [`Error::Snapshot`] when the file is damaged, which leaves the state as it was; otherwise when the disk fails.
    pub fn install(&self, file: &SnapshotFile) -> Result<Bytes, Error> {
        let _writing = self.shared.writing.lock();
        let _gate = self.shared.flushing.lock();
        {
            let layers = self.shared.layers.read_recursive();
            if let Some(reason) = &layers.poisoned {
                return Err(Error::Poisoned(reason.clone()));
            }
            if layers.tree.is_none() {
                return Err(IN_MEMORY);
            }
        }
        let file = snapshot::adopt(&self.shared, file)?;
        let number = self.shared.flushes.load(Ordering::SeqCst) + 1;
        let tree = snapshot::load(&self.shared.dir, &file, &self.shared.settings, number)?;
        self.shared.flushes.store(number, Ordering::SeqCst);
        let mark = tree.mark()?;
        // Taken apart once nobody waits.
        let (_active, _frozen, old) = {
            let mut layers = self.shared.layers.write();
            layers.active_bytes = 0;
            layers.applied.clone_from(&mark);
            layers.flushed.clone_from(&mark);
            (std::mem::take(&mut layers.active), layers.frozen.take(), layers.tree.replace(tree))
        };
        if let Some(old) = old {
            old.destroy();
        }
        Ok(mark.unwrap_or_default())
    }

    /// A hash over all keys and values at the present mark, the same on every replica there. Blocks commits.
    ///
    /// # Errors
    /// When the disk cannot be read.
    pub fn digest(&self) -> Result<u64, Error> {
        const TOGETHER: usize = 4_096;
        let view = self.view();
        let mut hash = Digest::default();
        let mut lower = vec![1];
        loop {
            let items = view.layers.range(None, &lower, &[u8::MAX], TOGETHER)?;
            for (key, value) in &items {
                hash.update(&key.len().to_be_bytes());
                hash.update(key);
                hash.update(&value.len().to_be_bytes());
                hash.update(value);
            }
            match items.last() {
                Some((last, _)) if items.len() == TOGETHER => lower = [last, &[0][..]].concat(),
                Some(_) | None => return Ok(hash.to_u64()),
            }
        }
    }
}

/// Keys of a keyspace with their values.
pub type Items<K> = Vec<(<K as Keyspace>::Key, <K as Keyspace>::Value)>;

/// Reading, from a view or within a transaction.
pub trait Read {
    #[doc(hidden)]
    fn get_bytes(&self, key: &[u8]) -> Result<Option<Bytes>, Error>;
    #[doc(hidden)]
    fn range_bytes(&self, lower: &[u8], upper: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Bytes)>, Error>;
    /// Notes that something read is damaged, so that the next start rebuilds the state.
    #[doc(hidden)]
    fn note_damage(&self, error: &Error);

    /// The value of a key.
    ///
    /// # Errors
    /// When the disk cannot be read or the value is damaged.
    fn get<K: Keyspace>(&self, key: &K::Key) -> Result<Option<K::Value>, Error> {
        self.get_bytes(&full_key::<K>(key))?
            .map(|bytes| decode_value::<K>(&bytes))
            .transpose()
            .inspect_err(|error| self.note_damage(error))
    }

    /// Whether a key has a value.
    ///
    /// # Errors
    /// When the disk cannot be read.
    fn contains<K: Keyspace>(&self, key: &K::Key) -> Result<bool, Error> {
        Ok(self.get_bytes(&full_key::<K>(key))?.is_some())
    }

    /// At most `limit` items whose key bytes lie in `[lower, upper)`, ascending. Without `upper`, to the end
    /// of the keyspace.
    ///
    /// # Errors
    /// When the disk cannot be read or something read is damaged.
    fn range<K: Keyspace>(
        &self,
        lower: &[u8],
        upper: Option<&[u8]>,
        limit: usize,
    ) -> Result<Items<K>, Error> {
        let (lower, upper) = bounds::<K>(lower, upper);
        self.range_bytes(&lower, &upper, limit)?
            .into_iter()
            .map(|(key, value)| Ok((decode_key::<K>(&key)?, decode_value::<K>(&value)?)))
            .collect::<Result<_, _>>()
            .inspect_err(|error| self.note_damage(error))
    }

    /// As [`Read::range`], without the values.
    ///
    /// # Errors
    /// As [`Read::range`].
    fn keys<K: Keyspace>(
        &self,
        lower: &[u8],
        upper: Option<&[u8]>,
        limit: usize,
    ) -> Result<Vec<K::Key>, Error> {
        let (lower, upper) = bounds::<K>(lower, upper);
        self.range_bytes(&lower, &upper, limit)?
            .into_iter()
            .map(|(key, _)| decode_key::<K>(&key))
            .collect::<Result<_, _>>()
            .inspect_err(|error| self.note_damage(error))
    }

    /// At most `limit` items whose key bytes begin with `prefix`, ascending, from behind `after` on.
    ///
    /// # Errors
    /// As [`Read::range`].
    fn prefix<K: Keyspace>(
        &self,
        prefix: &[u8],
        after: Option<&K::Key>,
        limit: usize,
    ) -> Result<Items<K>, Error> {
        let (lower, upper) = prefix_bounds::<K>(prefix, after);
        self.range_bytes(&lower, &upper, limit)?
            .into_iter()
            .map(|(key, value)| Ok((decode_key::<K>(&key)?, decode_value::<K>(&value)?)))
            .collect::<Result<_, _>>()
            .inspect_err(|error| self.note_damage(error))
    }

    /// As [`Read::prefix`], without the values.
    ///
    /// # Errors
    /// As [`Read::range`].
    fn keys_prefix<K: Keyspace>(
        &self,
        prefix: &[u8],
        after: Option<&K::Key>,
        limit: usize,
    ) -> Result<Vec<K::Key>, Error> {
        let (lower, upper) = prefix_bounds::<K>(prefix, after);
        self.range_bytes(&lower, &upper, limit)?
            .into_iter()
            .map(|(key, _)| decode_key::<K>(&key))
            .collect::<Result<_, _>>()
            .inspect_err(|error| self.note_damage(error))
    }
}

fn decode_key<K: Keyspace>(bytes: &[u8]) -> Result<K::Key, Error> {
    bytes
        .get(1..)
        .and_then(K::decode_key)
        .ok_or_else(|| Error::Corrupt { keyspace: K::NAME, reason: "a key cannot be read".to_owned() })
}

fn bounds<K: Keyspace>(lower: &[u8], upper: Option<&[u8]>) -> (Vec<u8>, Vec<u8>) {
    let lower = [&[K::PREFIX][..], lower].concat();
    let upper = match upper {
        Some(upper) => [&[K::PREFIX][..], upper].concat(),
        None => vec![K::PREFIX + 1],
    };
    (lower, upper)
}

fn prefix_bounds<K: Keyspace>(prefix: &[u8], after: Option<&K::Key>) -> (Vec<u8>, Vec<u8>) {
    let whole = [&[K::PREFIX][..], prefix].concat();
    let mut upper = whole.clone();
    // The first key behind all that begin so: the last byte that can be raised, raised. The prefix byte of
    // a keyspace always can.
    while let Some(last) = upper.pop() {
        if last < u8::MAX {
            upper.push(last + 1);
            break;
        }
    }
    let lower = match after {
        Some(after) => {
            let mut key = full_key::<K>(after);
            key.push(0);
            key.max(whole)
        }
        None => whole,
    };
    (lower, upper)
}

/// The state at one mark.
pub struct StateView<'a> {
    layers: RwLockReadGuard<'a, Layers>,
}

impl std::fmt::Debug for StateView<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StateView").field("applied", &self.layers.applied).finish_non_exhaustive()
    }
}

impl StateView<'_> {
    /// The mark this view shows.
    #[must_use]
    pub fn applied(&self) -> Option<&Bytes> {
        self.layers.applied.as_ref()
    }
}

impl Read for StateView<'_> {
    fn get_bytes(&self, key: &[u8]) -> Result<Option<Bytes>, Error> {
        self.layers.get(key)
    }

    fn range_bytes(&self, lower: &[u8], upper: &[u8], limit: usize) -> Result<Vec<(Vec<u8>, Bytes)>, Error> {
        self.layers.range(None, lower, upper, limit)
    }

    fn note_damage(&self, error: &Error) {
        self.layers.note_damage(error);
    }
}
