//! The raft log and vote, as bytes by index.
//!
//! One thread writes. It takes everything that waits, forms one batch of it, writes and syncs that once,
//! and then tells everybody whose part was in it: many appends share a sync. The newest entries also stay
//! in memory, so that replication and apply hardly ever read the disk; what is not on disk yet is always
//! there.
//!
//! The engine cannot cut off a log's tail except by overwriting it. Where the log ends is therefore a record of
//! its own, written with everything that moves the end; what the engine holds behind it does not count. The record
//! is only ever replaced, never deleted, so that nothing depends on how the engine forgets what was deleted.

mod stored; // what the engine holds

use crate::error::Error;
use crate::log_check;
use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use protobuf::well_known_types::BytesValue;
use raft_engine::{Command, Config, Engine, LogBatch, MessageExt, ReadableSize, RecoveryMode};
use std::collections::VecDeque;
use std::fs::File;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use stored::{
    KEY_BEGIN, KEY_COMMITTED, KEY_COVERED, KEY_END, KEY_PURGED, KEY_VOTE, REGION, Stored, from_stored,
    number, recover, to_stored,
};

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
    /// A committed position, as a hint for the next start. Goes to disk with whatever is written next; nobody
    /// waits for it, so it is acknowledged at once.
    Committed,
}

/// Told from the log's thread when the operation is on disk, or has failed. Must not block.
pub type Flushed = Box<dyn FnOnce(Result<(), Error>) + Send>;

enum Op {
    Append(Vec<LogEntry>),
    TruncateAfter(Option<u64>),
    Purge(u64, Bytes),
    Vote(Bytes),
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
    engine: Arc<Engine>,
    /// The number of the newest synced flush of the state.
    flushes: Arc<AtomicU64>,
    inner: Mutex<Inner>,
    work: Condvar,
}

struct Inner {
    bounds: LogBounds,
    /// The newest entries, without a gap, up to `bounds.last`.
    tail: VecDeque<LogEntry>,
    tail_bytes: usize,
    /// Entries below this index are on disk (or gone).
    flushed_end: u64,
    vote: Option<Bytes>,
    committed: Option<Bytes>,
    /// Whether `committed` is newer than what is on disk.
    committed_is_new: bool,
    queue: VecDeque<(Op, Flushed)>,
    appended_bytes: u64,
    poisoned: Option<String>,
    closed: bool,
}

/// Ends the log's thread when the last handle goes, after everything that was queued is written.
struct Writer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
    /// The data directory is taken for as long as the log may write to it.
    _lock: Arc<File>,
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

impl Log {
    /// Opens the log in `dir`. `flushes` is the number of the newest synced flush of the state.
    pub(crate) fn open(dir: &Path, flushes: Arc<AtomicU64>, lock: Arc<File>) -> Result<Self, Error> {
        let damaged = |reason: String| Error::Damaged { path: dir.to_owned(), reason };
        log_check::check(dir)?;
        let config = Config {
            dir: dir.to_string_lossy().into_owned(),
            target_file_size: ReadableSize::mb(16),
            purge_threshold: ReadableSize::mb(64),
            // A write that was cut off is dropped. What else can be wrong with the end of the newest file has
            // been looked for, and anything wrong elsewhere is refused.
            recovery_mode: RecoveryMode::TolerateTailCorruption,
            // One region: the rewrite queue is never needed to free a file.
            recovery_threads: 2,
            ..Config::default()
        };
        // The engine takes for granted that entries follow each other, and panics on files in which they do not.
        let engine = std::panic::catch_unwind(AssertUnwindSafe(|| Engine::open(config)))
            .map_err(|_| damaged("the log engine cannot make sense of its files".to_owned()))?
            .map_err(|error| match error {
                raft_engine::Error::Corruption(reason) => damaged(reason),
                other => Error::from(other),
            })?;
        let bounds = recover(&engine).map_err(|reason| damaged(reason.to_owned()))?;
        let end = bounds.last.map_or(0, |last| last + 1);
        let inner = Inner {
            bounds,
            tail: VecDeque::new(),
            tail_bytes: 0,
            flushed_end: end,
            vote: engine.get(REGION, KEY_VOTE).map(Bytes::from),
            committed: engine.get(REGION, KEY_COMMITTED).map(Bytes::from),
            committed_is_new: false,
            queue: VecDeque::new(),
            appended_bytes: 0,
            poisoned: None,
            closed: false,
        };
        let shared = Arc::new(Shared {
            engine: Arc::new(engine),
            flushes,
            inner: Mutex::new(inner),
            work: Condvar::new(),
        });
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("log-writer".to_owned())
                .spawn(move || shared.write_all(end))
                .map_err(Error::io("starting the log's thread"))?
        };
        let writer =
            Arc::new(Writer { shared: Arc::clone(&shared), thread: Mutex::new(Some(thread)), _lock: lock });
        Ok(Self { shared, _writer: writer })
    }

    /// The number of the synced flush that the state must have reached, because the log was purged
    /// relying on it.
    pub(crate) fn covered(&self) -> Result<u64, Error> {
        Ok(number(&self.shared.engine, KEY_COVERED).map_err(Error::Inconsistent)?.unwrap_or(0))
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
    ///
    /// Entries that would leave a gap or lie among purged ones are refused with [`Error::LogHole`], and nothing
    /// changes.
    pub fn append(&self, entries: Vec<LogEntry>, flushed: Flushed) {
        let mut inner = self.shared.inner.lock();
        if let Some(error) = inner.misplaced(&entries) {
            drop(inner);
            flushed(Err(error));
            return;
        }
        if let Some(first) = entries.first() {
            inner.cut_tail(first.index);
            for entry in &entries {
                inner.tail_bytes += entry.bytes.len();
                inner.appended_bytes += entry.bytes.len() as u64;
                inner.tail.push_back(entry.clone());
            }
            inner.bounds.last = entries.last().map(|entry| entry.index);
        }
        self.submit(inner, Op::Append(entries), flushed);
    }

    /// Drops every entry behind `index`, or all of them.
    pub fn truncate_after(&self, index: Option<u64>, flushed: Flushed) {
        let mut inner = self.shared.inner.lock();
        inner.cut_tail(index.map_or(0, |index| index + 1));
        let purged = inner.bounds.purged.as_ref().map(|(purged, _)| *purged);
        inner.bounds.last =
            inner.bounds.last.min(index).filter(|last| purged.is_none_or(|purged| *last > purged));
        self.submit(inner, Op::TruncateAfter(index), flushed);
    }

    /// Drops every entry up to and including `index`. `mark` is given back by [`Log::bounds`]. What lies
    /// within an earlier purge changes nothing.
    pub fn purge(&self, index: u64, mark: Bytes, flushed: Flushed) {
        let mut inner = self.shared.inner.lock();
        if inner.bounds.purged.as_ref().is_none_or(|(purged, _)| *purged < index) {
            while inner.tail.front().is_some_and(|entry| entry.index <= index) {
                if let Some(entry) = inner.tail.pop_front() {
                    inner.tail_bytes -= entry.bytes.len();
                }
            }
            inner.bounds.last = inner.bounds.last.filter(|last| *last > index);
            inner.bounds.purged = Some((index, mark.clone()));
        }
        self.submit(inner, Op::Purge(index, mark), flushed);
    }

    /// Stores a small record.
    pub fn save_meta(&self, slot: MetaSlot, value: Bytes, flushed: Flushed) {
        let mut inner = self.shared.inner.lock();
        match slot {
            MetaSlot::Vote => {
                inner.vote = Some(value.clone());
                self.submit(inner, Op::Vote(value), flushed);
            }
            MetaSlot::Committed => {
                let poisoned = inner.poisoned.clone();
                inner.committed = Some(value);
                inner.committed_is_new = true;
                drop(inner);
                flushed(poisoned.map_or(Ok(()), |reason| Err(Error::Poisoned(reason))));
            }
        }
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
            self.shared
                .engine
                .fetch_entries_to::<Stored>(REGION, start, disk_until, Some(bytes_max), &mut stored)
                .map_err(|error| match error {
                    // Purged or cut off since the look at the bounds.
                    raft_engine::Error::EntryCompacted | raft_engine::Error::EntryNotFound => {
                        Error::LogHole { from: start, until: range.end }
                    }
                    other => Error::from(other),
                })?;
            entries.extend(stored.into_iter().map(from_stored));
            if entries.first().is_none_or(|entry| entry.index != start) {
                return Err(Error::LogHole { from: start, until: range.end });
            }
            bytes = entries.iter().map(|entry| entry.bytes.len()).sum();
        }
        let next = entries.last().map_or(start, |entry| entry.index + 1);
        if next == tail_start && next < until && bytes < bytes_max {
            let more = self.read(next..until, bytes_max - bytes)?;
            // Reading gives one entry at least, which may be one too many here.
            let fits = |bytes: &mut usize, entry: &LogEntry| {
                *bytes += entry.bytes.len();
                *bytes <= bytes_max
            };
            entries.extend(more.into_iter().scan(bytes, |bytes, entry| fits(bytes, &entry).then_some(entry)));
        }
        Ok(entries)
    }

    /// Queues `op` under the lock under which its effect became visible, so that the log's thread sees operations
    /// in the order in which readers do.
    fn submit(&self, mut inner: MutexGuard<'_, Inner>, op: Op, flushed: Flushed) {
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
    /// Why entries cannot be appended, if they cannot.
    fn misplaced(&self, entries: &[LogEntry]) -> Option<Error> {
        let first = entries.first()?.index;
        let begin = self.bounds.purged.as_ref().map(|(purged, _)| purged + 1);
        let expected = self.bounds.last.map(|last| last + 1).or(begin);
        if let Some(expected) = expected.filter(|expected| first > *expected) {
            return Some(Error::LogHole { from: expected, until: first });
        }
        if let Some(begin) = begin.filter(|begin| first < *begin) {
            return Some(Error::LogHole { from: first, until: begin });
        }
        let gap = entries.windows(2).find(|pair| pair[1].index != pair[0].index + 1)?;
        Some(Error::LogHole { from: gap[0].index + 1, until: gap[1].index })
    }

    /// Drops the part of the tail from `index` on.
    fn cut_tail(&mut self, index: u64) {
        while self.tail.back().is_some_and(|entry| entry.index >= index) {
            if let Some(entry) = self.tail.pop_back() {
                self.tail_bytes -= entry.bytes.len();
            }
        }
        self.flushed_end = self.flushed_end.min(index);
    }

    /// Drops what is on disk from the front of the tail while it is too large.
    fn trim_tail(&mut self) {
        while self.tail_bytes > TAIL_BYTES_MAX
            && self.tail.front().is_some_and(|entry| entry.index < self.flushed_end)
        {
            if let Some(entry) = self.tail.pop_front() {
                self.tail_bytes -= entry.bytes.len();
            }
        }
    }
}

impl Shared {
    /// The log's thread: until the log is closed and everything is written.
    fn write_all(&self, mut end: u64) {
        loop {
            let mut taken = Vec::new();
            let committed;
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
                let is_new = std::mem::take(&mut inner.committed_is_new) && inner.poisoned.is_none();
                committed = inner.committed.clone().filter(|_| is_new);
            }
            if taken.is_empty() && committed.is_none() {
                return;
            }
            let (ops, callbacks): (Vec<_>, Vec<_>) = taken.into_iter().unzip();
            // The engine panics when a sync fails. What is on disk is unknown then, and nothing may
            // be acknowledged any more.
            let written = std::panic::catch_unwind(AssertUnwindSafe(|| self.write(ops, committed, end)))
                .unwrap_or_else(|_| Err(Error::Poisoned("the log could not be synced".to_owned())));
            let failed = match written {
                Ok(new_end) => {
                    end = new_end;
                    None
                }
                Err(error) => {
                    tracing::error!(error = &error as &dyn std::error::Error, "the log cannot be written");
                    let reason = error.in_words();
                    if self.inner.lock().poisoned.replace(reason.clone()).is_none() {
                        // The engine syncs once more when it is dropped, and panics when that fails, which would end the
                        // process without a word. It lives as long as the process, which has nothing left to do.
                        std::mem::forget(Arc::clone(&self.engine));
                    }
                    Some(reason)
                }
            };
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

    /// Writes what `ops` come to together as one batch, and syncs it. `stored_end` is one behind the last entry in the
    /// engine that counts; gives back the new one.
    fn write(&self, ops: Vec<Op>, committed: Option<Bytes>, stored_end: u64) -> Result<u64, Error> {
        let mut batch = LogBatch::default();
        // What the log is afterwards: entries of the engine below `kept_end`, then `entries`; of both only what
        // lies behind the purge.
        let mut kept_end = stored_end;
        let mut entries: Vec<BytesValue> = Vec::new();
        let mut purge: Option<(u64, Bytes)> = None;
        for op in ops {
            match op {
                Op::Append(appended) => {
                    let Some(first) = appended.first().map(|entry| entry.index) else { continue };
                    kept_end = kept_end.min(first);
                    entries.retain(|entry| Stored::index(entry) < first);
                    entries.extend(appended.iter().map(to_stored));
                }
                Op::TruncateAfter(index) => {
                    let end = index.map_or(0, |index| index + 1);
                    kept_end = kept_end.min(end);
                    entries.retain(|entry| Stored::index(entry) < end);
                }
                Op::Purge(index, mark) => {
                    entries.retain(|entry| Stored::index(entry) > index);
                    if purge.as_ref().is_none_or(|(purged, _)| *purged < index) {
                        purge = Some((index, mark));
                    }
                }
                Op::Vote(value) => batch.put(REGION, KEY_VOTE.to_vec(), value.to_vec())?,
            }
        }
        let before = self.purged()?;
        let purge = purge.filter(|(index, _)| before.is_none_or(|before| before < *index));
        let begin = purge.as_ref().map(|(index, _)| *index).or(before).map_or(0, |purged| purged + 1);

        let first = entries.first().map(Stored::index);
        let stored = self.engine.first_index(REGION).zip(self.engine.last_index(REGION));
        let kept = stored.filter(|(stored_first, _)| begin.max(*stored_first) < kept_end);
        match (stored, kept) {
            (Some(_), Some(_)) => {
                if let Some(first) = first.filter(|first| *first > kept_end) {
                    return Err(Error::LogHole { from: kept_end, until: first });
                }
                if purge.is_some() {
                    batch.add_command(REGION, Command::Compact { index: begin });
                }
            }
            // Nothing in the engine counts any more. Cleared, because entries that begin elsewhere would not
            // overwrite it.
            (Some((stored_first, stored_last)), None) if first != Some(stored_first) => {
                batch.add_command(REGION, Command::Compact { index: stored_last + 1 });
            }
            (Some(_) | None, _) => {}
        }
        if let Some((index, mark)) = &purge {
            batch.put(REGION, KEY_PURGED.to_vec(), [&index.to_be_bytes()[..], mark].concat())?;
            let flushes = self.flushes.load(Ordering::SeqCst);
            batch.put(REGION, KEY_COVERED.to_vec(), flushes.to_be_bytes().to_vec())?;
        }
        let end = match (entries.last(), kept) {
            (Some(last), _) => Stored::index(last) + 1,
            (None, Some(_)) => kept_end,
            (None, None) => 0,
        };
        if !entries.is_empty() {
            batch.add_entries::<Stored>(REGION, &entries)?;
            if kept.is_none()
                && let Some(first) = first
            {
                batch.put(REGION, KEY_BEGIN.to_vec(), first.to_be_bytes().to_vec())?;
            }
        }
        if !entries.is_empty() || end != stored_end {
            batch.put(REGION, KEY_END.to_vec(), end.to_be_bytes().to_vec())?;
        }
        if let Some(committed) = committed {
            batch.put(REGION, KEY_COMMITTED.to_vec(), committed.to_vec())?;
        }
        // Always synced: a batch is on disk before the next is written, which is what tells a write that was cut
        // off from damage. See `log_check`.
        self.engine.write(&mut batch, true)?;
        if purge.is_some() {
            self.engine.purge_expired_files()?;
        }

        let mut inner = self.inner.lock();
        // Entries that were replaced while this was written wait in the queue once more.
        let waiting = inner.queue.iter().filter_map(|(op, _)| match op {
            Op::Append(entries) => entries.first().map(|entry| entry.index),
            Op::TruncateAfter(index) => Some(index.map_or(0, |index| index + 1)),
            Op::Purge(..) | Op::Vote(_) => None,
        });
        inner.flushed_end = waiting.fold(end, u64::min);
        inner.trim_tail();
        Ok(end)
    }

    /// Up to where the engine's log is purged.
    fn purged(&self) -> Result<Option<u64>, Error> {
        match self.engine.get(REGION, KEY_PURGED) {
            Some(record) => match record.first_chunk() {
                Some(index) => Ok(Some(u64::from_be_bytes(*index))),
                None => Err(Error::Inconsistent("the purge mark of the log is too short")),
            },
            None => Ok(None),
        }
    }
}
