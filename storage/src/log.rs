//! The raft log and vote, as bytes by index.
//!
//! One thread writes. It takes everything that waits, forms one batch of it, writes and syncs that once,
//! and then tells everybody whose part was in it: many appends share a sync. The newest entries also stay
//! in memory, so that replication and apply hardly ever read the disk; what is not on disk yet is always
//! there.
//!
//! The engine cannot cut off a log's tail except by overwriting it. A cut without new entries is therefore
//! a mark with the last valid index, stored in the engine and lifted by the next append.

use crate::error::Error;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use protobuf::well_known_types::BytesValue;
use raft_engine::{Command, Config, Engine, LogBatch, MessageExt, ReadableSize};
use std::collections::VecDeque;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::thread::JoinHandle;

/// The engine can hold many logs; ours is this one.
const REGION: u64 = 1;
const KEY_VOTE: &[u8] = b"vote";
const KEY_COMMITTED: &[u8] = b"committed";
const KEY_PURGED: &[u8] = b"purged";
const KEY_LAST: &[u8] = b"last";
/// Bytes of entries kept in memory behind what waits for the disk.
const TAIL_BYTES_MAX: usize = 16 * 1024 * 1024;
/// Bytes written at once.
const BATCH_BYTES_MAX: usize = 16 * 1024 * 1024;

/// One entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its place in the log.
    pub index: u64,
    /// What it holds.
    pub bytes: Bytes,
}

/// Which entries there are.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogBounds {
    /// Up to where the log was purged, with the mark that was given then.
    pub purged: Option<(u64, Bytes)>,
    /// The last entry.
    pub last: Option<u64>,
}

/// A small record beside the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetaSlot {
    /// The vote. Synced before it counts.
    Vote,
    /// A committed position, as a hint for the next start.
    Committed,
}

impl MetaSlot {
    fn key(self) -> &'static [u8] {
        match self {
            Self::Vote => KEY_VOTE,
            Self::Committed => KEY_COMMITTED,
        }
    }
}

/// Told from the log's thread when the operation is on disk, or has failed. Must not block.
pub type Flushed = Box<dyn FnOnce(Result<(), Error>) + Send>;

enum Op {
    Append(Vec<LogEntry>),
    TruncateAfter(Option<u64>),
    Purge(u64, Bytes),
    Meta(MetaSlot, Bytes),
}

/// The log of one node. Clones are the same log.
#[derive(Clone)]
pub struct Log {
    shared: Arc<Shared>,
    _writer: Arc<Writer>,
}

impl std::fmt::Debug for Log {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Log").field("bounds", &self.bounds()).finish_non_exhaustive()
    }
}

struct Shared {
    engine: Engine,
    inner: Mutex<Inner>,
    work: Condvar,
}

struct Inner {
    bounds: LogBounds,
    /// The newest entries, without a gap, up to `bounds.last`.
    tail: VecDeque<LogEntry>,
    tail_bytes: usize,
    /// Entries up to here are on disk (or gone).
    flushed: Option<u64>,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    queue: VecDeque<(Op, Flushed)>,
    appended_bytes: u64,
    poisoned: Option<String>,
    closed: bool,
}

/// Ends the log's thread when the last handle goes, after everything that was queued is written.
struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.shared.inner.lock().closed = true;
        self.shared.work.notify_one();
        if let Some(thread) = self.thread.lock().take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the log's thread panicked");
        }
    }
}

struct Stored;

impl MessageExt for Stored {
    type Entry = BytesValue;

    fn index(entry: &BytesValue) -> u64 {
        entry.value.first_chunk().copied().map_or(0, u64::from_be_bytes)
    }
}

fn to_stored(entry: &LogEntry) -> BytesValue {
    let mut value = Vec::with_capacity(8 + entry.bytes.len());
    value.extend_from_slice(&entry.index.to_be_bytes());
    value.extend_from_slice(&entry.bytes);
    BytesValue { value, ..BytesValue::default() }
}

fn from_stored(stored: BytesValue) -> LogEntry {
    let index = Stored::index(&stored);
    LogEntry { index, bytes: Bytes::from(stored.value).slice(8..) }
}

impl Log {
    pub(crate) fn open(dir: &Path) -> Result<Self, Error> {
        let engine = Engine::open(Config {
            dir: dir.to_string_lossy().into_owned(),
            target_file_size: ReadableSize::mb(16),
            purge_threshold: ReadableSize::mb(64),
            // One region: the rewrite queue is never needed to free a file.
            recovery_threads: 2,
            ..Config::default()
        })?;
        let purged = match engine.get(REGION, KEY_PURGED) {
            Some(record) => {
                let Some((index, mark)) = record.split_first_chunk() else {
                    return Err(Error::Inconsistent("the purge mark of the log is too short"));
                };
                Some((u64::from_be_bytes(*index), Bytes::copy_from_slice(mark)))
            }
            None => None,
        };
        let cut = match engine.get(REGION, KEY_LAST) {
            Some(record) => {
                let Some(index) = record.first_chunk() else {
                    return Err(Error::Inconsistent("the end mark of the log is too short"));
                };
                Some(u64::from_be_bytes(*index))
            }
            None => None,
        };
        let stored = engine.last_index(REGION);
        let last = match (stored, cut) {
            (Some(stored), Some(cut)) => Some(stored.min(cut)),
            (stored, None) => stored,
            (None, Some(_)) => None,
        }
        .filter(|last| purged.as_ref().is_none_or(|(purged, _)| last > purged));
        let inner = Inner {
            bounds: LogBounds { purged, last },
            tail: VecDeque::new(),
            tail_bytes: 0,
            flushed: last,
            vote: engine.get(REGION, KEY_VOTE).map(Bytes::from),
            committed: engine.get(REGION, KEY_COMMITTED).map(Bytes::from),
            queue: VecDeque::new(),
            appended_bytes: 0,
            poisoned: None,
            closed: false,
        };
        let shared = Arc::new(Shared { engine, inner: Mutex::new(inner), work: Condvar::new() });
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("log-writer".to_owned())
                .spawn(move || shared.write_all())
                .map_err(Error::io("starting the log's thread"))?
        };
        let writer = Arc::new(Writer { shared: Arc::clone(&shared), thread: Mutex::new(Some(thread)) });
        Ok(Self { shared, _writer: writer })
    }

    /// Which entries there are, those that wait for the disk included.
    #[must_use]
    pub fn bounds(&self) -> LogBounds {
        self.shared.inner.lock().bounds.clone()
    }

    /// Bytes of entries appended since the log was opened.
    #[must_use]
    pub fn bytes_appended(&self) -> u64 {
        self.shared.inner.lock().appended_bytes
    }

    /// Appends entries with rising indexes and without a gap. An entry whose index exists replaces
    /// that entry and all after it. Readable at once; `flushed` is called when they are on disk.
    pub fn append(&self, entries: Vec<LogEntry>, flushed: Flushed) {
        {
            let mut inner = self.shared.inner.lock();
            if let Some(first) = entries.first() {
                inner.cut_tail(first.index);
                for entry in &entries {
                    inner.tail_bytes += entry.bytes.len();
                    inner.appended_bytes += entry.bytes.len() as u64;
                    inner.tail.push_back(entry.clone());
                }
                inner.bounds.last = entries.last().map(|entry| entry.index);
            }
        }
        self.submit(Op::Append(entries), flushed);
    }

    /// Drops every entry behind `index`, or all of them.
    pub fn truncate_after(&self, index: Option<u64>, flushed: Flushed) {
        {
            let mut inner = self.shared.inner.lock();
            inner.cut_tail(index.map_or(0, |index| index + 1));
            let purged = inner.bounds.purged.as_ref().map(|(purged, _)| *purged);
            inner.bounds.last =
                inner.bounds.last.min(index).filter(|last| purged.is_none_or(|purged| *last > purged));
        }
        self.submit(Op::TruncateAfter(index), flushed);
    }

    /// Drops every entry up to and including `index`. `mark` is given back by [`Log::bounds`].
    pub fn purge(&self, index: u64, mark: Bytes, flushed: Flushed) {
        {
            let mut inner = self.shared.inner.lock();
            while inner.tail.front().is_some_and(|entry| entry.index <= index) {
                if let Some(entry) = inner.tail.pop_front() {
                    inner.tail_bytes -= entry.bytes.len();
                }
            }
            inner.bounds.last = inner.bounds.last.filter(|last| *last > index);
            inner.bounds.purged = Some((index, mark.clone()));
        }
        self.submit(Op::Purge(index, mark), flushed);
    }

    /// Stores a small record.
    pub fn save_meta(&self, slot: MetaSlot, value: Bytes, flushed: Flushed) {
        {
            let mut inner = self.shared.inner.lock();
            match slot {
                MetaSlot::Vote => inner.vote = Some(value.clone()),
                MetaSlot::Committed => inner.committed = Some(value.clone()),
            }
        }
        self.submit(Op::Meta(slot, value), flushed);
    }

    /// Reads a small record, as last saved.
    #[must_use]
    pub fn meta(&self, slot: MetaSlot) -> Option<Bytes> {
        let inner = self.shared.inner.lock();
        match slot {
            MetaSlot::Vote => inner.vote.clone(),
            MetaSlot::Committed => inner.committed.clone(),
        }
    }

    /// Reads entries from `range` on, as far as they exist, until `bytes_max` are reached; one entry at least.
    ///
    /// # Errors
    /// [`Error::LogHole`] when the range begins with purged entries; otherwise when the disk cannot be
    /// read.
    pub fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<LogEntry>, Error> {
        let mut entries = Vec::new();
        let mut bytes = 0;
        let (until, tail_start, is_purged) = {
            let inner = self.shared.inner.lock();
            if let Some((purged, _)) = &inner.bounds.purged
                && range.start <= *purged
                && range.start < range.end
            {
                return Err(Error::LogHole { from: range.start, until: range.end });
            }
            let until = inner.bounds.last.map_or(0, |last| range.end.min(last + 1));
            let tail_start = inner.tail.front().map_or(until, |entry| entry.index);
            if range.start >= tail_start {
                let skip = usize::try_from(range.start - tail_start).unwrap_or(usize::MAX);
                for entry in inner.tail.iter().skip(skip).take_while(|entry| entry.index < until) {
                    if !entries.is_empty() && bytes + entry.bytes.len() > bytes_max {
                        break;
                    }
                    bytes += entry.bytes.len();
                    entries.push(entry.clone());
                }
                return Ok(entries);
            }
            (until, tail_start, inner.bounds.purged.is_some())
        };

        let disk_until = until.min(tail_start);
        // A log need not begin with index 0; what lies before its beginning was never there.
        let stored_first = self.shared.engine.first_index(REGION).unwrap_or(disk_until).min(disk_until);
        let start = if is_purged { range.start } else { range.start.max(stored_first) };
        if start < disk_until {
            let mut stored = Vec::new();
            self.shared.engine.fetch_entries_to::<Stored>(
                REGION,
                start,
                disk_until,
                Some(bytes_max),
                &mut stored,
            )?;
            entries.extend(stored.into_iter().map(from_stored));
            if entries.first().is_none_or(|entry| entry.index != start) {
                return Err(Error::LogHole { from: start, until: range.end });
            }
            bytes = entries.iter().map(|entry| entry.bytes.len()).sum();
        }
        let next = entries.last().map_or(start, |entry| entry.index + 1);
        if next == tail_start && next < until && bytes < bytes_max {
            entries.extend(self.read(next..until, bytes_max - bytes)?);
        }
        Ok(entries)
    }

    fn submit(&self, op: Op, flushed: Flushed) {
        let mut inner = self.shared.inner.lock();
        if let Some(reason) = &inner.poisoned {
            let error = Error::Poisoned(reason.clone());
            drop(inner);
            flushed(Err(error));
            return;
        }
        inner.queue.push_back((op, flushed));
        drop(inner);
        self.shared.work.notify_one();
    }
}

impl Inner {
    /// Drops the part of the tail from `index` on.
    fn cut_tail(&mut self, index: u64) {
        while self.tail.back().is_some_and(|entry| entry.index >= index) {
            if let Some(entry) = self.tail.pop_back() {
                self.tail_bytes -= entry.bytes.len();
            }
        }
        self.flushed = self.flushed.min(index.checked_sub(1));
    }

    /// Drops what is on disk from the front of the tail while it is too large.
    fn trim_tail(&mut self) {
        while self.tail_bytes > TAIL_BYTES_MAX
            && self.tail.front().is_some_and(|entry| Some(entry.index) <= self.flushed)
        {
            if let Some(entry) = self.tail.pop_front() {
                self.tail_bytes -= entry.bytes.len();
            }
        }
    }
}

impl Shared {
    /// The log's thread: until the log is closed and everything is written.
    fn write_all(&self) {
        loop {
            let mut taken = Vec::new();
            {
                let mut inner = self.inner.lock();
                while inner.queue.is_empty() && !inner.closed {
                    self.work.wait(&mut inner);
                }
                let mut bytes = 0;
                while bytes < BATCH_BYTES_MAX
                    && let Some((op, flushed)) = inner.queue.pop_front()
                {
                    if let Op::Append(entries) = &op {
                        bytes += entries.iter().map(|entry| entry.bytes.len()).sum::<usize>();
                    }
                    taken.push((op, flushed));
                }
            }
            if taken.is_empty() {
                return;
            }
            let (ops, callbacks): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
            // The engine panics when a sync fails. What is on disk is unknown then, and nothing may
            // be acknowledged any more.
            let written = std::panic::catch_unwind(AssertUnwindSafe(|| self.write(ops)))
                .unwrap_or_else(|_| Err(Error::Poisoned("the log could not be synced".to_owned())));
            if let Err(error) = &written {
                tracing::error!(error = error as &dyn std::error::Error, "the log cannot be written");
                self.inner.lock().poisoned = Some(error.to_string());
            }
            let failed = written.err().map(|error| error.to_string());
            for flushed in callbacks {
                flushed(failed.clone().map_or(Ok(()), |reason| Err(Error::Poisoned(reason))));
            }
            if failed.is_some() {
                let waiting = std::mem::take(&mut self.inner.lock().queue);
                for (_, flushed) in waiting {
                    flushed(Err(Error::Poisoned("the log cannot be written".to_owned())));
                }
            }
        }
    }

    /// Writes what `ops` come to together as one batch, and syncs it.
    fn write(&self, ops: Vec<Op>) -> Result<(), Error> {
        let mut batch = LogBatch::default();
        let mut entries: Vec<BytesValue> = Vec::new();
        let mut cut: Option<Option<u64>> = None;
        let mut purge: Option<(u64, Bytes)> = None;
        let mut sync = false;
        for op in ops {
            match op {
                Op::Append(appended) => {
                    let Some(first) = appended.first().map(|entry| entry.index) else { continue };
                    entries.retain(|entry| Stored::index(entry) < first);
                    entries.extend(appended.iter().map(to_stored));
                    cut = None;
                    sync = true;
                }
                Op::TruncateAfter(index) => {
                    entries.retain(|entry| index.is_some_and(|index| Stored::index(entry) <= index));
                    if entries.is_empty() {
                        cut = Some(index);
                    }
                    sync = true;
                }
                Op::Purge(index, mark) => {
                    entries.retain(|entry| Stored::index(entry) > index);
                    purge = Some((index, mark));
                    sync = true;
                }
                Op::Meta(slot, value) => {
                    batch.put(REGION, slot.key().to_vec(), value.to_vec())?;
                    sync |= slot == MetaSlot::Vote;
                }
            }
        }

        let stored_last = self.engine.last_index(REGION);
        let first = entries.first().map(Stored::index);
        if let Some((index, mark)) = &purge {
            batch.put(REGION, KEY_PURGED.to_vec(), [&index.to_be_bytes()[..], mark].concat())?;
            if let Some(last) = stored_last {
                batch.add_command(REGION, Command::Compact { index: (index + 1).min(last + 1) });
            }
        } else if let (Some(first), Some(last)) = (first, stored_last)
            && first > last + 1
        {
            return Err(Error::LogHole { from: last + 1, until: first });
        }
        let last = entries.last().map(Stored::index);
        if !entries.is_empty() {
            batch.add_entries::<Stored>(REGION, &entries)?;
            batch.delete(REGION, KEY_LAST.to_vec());
        } else if let Some(index) = cut {
            batch.put(REGION, KEY_LAST.to_vec(), index.unwrap_or(0).to_be_bytes().to_vec())?;
        }
        self.engine.write(&mut batch, sync)?;
        if purge.is_some() {
            self.engine.purge_expired_files()?;
        }

        let mut inner = self.inner.lock();
        if let Some(last) = last {
            // Entries that were replaced while this was written wait in the queue once more.
            let waiting = inner.queue.iter().filter_map(|(op, _)| match op {
                Op::Append(entries) => entries.first().map(|entry| entry.index - 1),
                Op::TruncateAfter(index) => Some(index.unwrap_or(0)),
                Op::Purge(..) | Op::Meta(..) => None,
            });
            let flushed = waiting.fold(last, u64::min);
            inner.flushed = inner.flushed.max(Some(flushed)).min(inner.bounds.last);
        }
        inner.trim_tail();
        Ok(())
    }
}
