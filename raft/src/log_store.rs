//! openraft's log over [`storage::Log`], which knows only indexes and bytes.

use crate::codec;
use crate::types::{Entry, IOFlushed, LogId, LogState, TypeConfig, Vote};
use futures::Stream;
use openraft::OptionalSend;
use openraft::entry::RaftEntry;
use openraft::storage::{RaftLogReader, RaftLogStorage};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use storage::{LogEntry, MetaSlot};
use tokio::sync::oneshot;

/// Bytes of entries read at once, for one request of replication or one step of an apply.
const READ_BYTES_MAX: usize = 1024 * 1024;

/// The log of one node. Clones are the same log.
#[derive(Clone, Debug)]
pub struct LogStore {
    log: storage::Log,
}

impl LogStore {
    /// The log that `log` holds.
    #[must_use]
    pub fn new(log: storage::Log) -> Self {
        Self { log }
    }

    /// Entries from `range` on, fewer than asked for when they are large.
    fn read(&self, start: u64, end: u64, bytes_max: usize) -> io::Result<Vec<Entry>> {
        let stored = self.log.read(start..end, bytes_max).map_err(io::Error::other)?;
        stored.into_iter().map(|entry| Ok(codec::decode_entry(entry.bytes)?)).collect()
    }

    fn indexes(&self, range: &impl RangeBounds<u64>) -> (u64, u64) {
        let start = match range.start_bound() {
            Bound::Included(start) => *start,
            Bound::Excluded(before) => before.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(last) => last.saturating_add(1),
            Bound::Excluded(end) => *end,
            Bound::Unbounded => u64::MAX,
        };
        // What was purged is left out, as openraft expects; anything else missing is an error.
        let first = self.log.bounds().purged.map_or(0, |(purged, _)| purged + 1);
        (start.max(first), end)
    }

    /// Waits until the log's thread has carried out what `submit` gave it.
    async fn done(submit: impl FnOnce(storage::Flushed)) -> io::Result<()> {
        let (sender, receiver) = oneshot::channel();
        submit(Box::new(move |result| {
            // Nobody waits any more when the node is stopping.
            let _ = sender.send(result);
        }));
        receiver.await.map_err(|_| io::Error::other("the log was closed"))?.map_err(io::Error::other)
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> io::Result<Vec<Entry>> {
        let (start, end) = self.indexes(&range);
        self.read(start, end, usize::MAX)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        self.read(start, end, READ_BYTES_MAX)
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = io::Result<Entry>> + OptionalSend
    where
        RB: RangeBounds<u64> + Clone + Debug + OptionalSend,
    {
        let (start, end) = self.indexes(&range);
        let read = self.clone();
        let parts = futures::stream::unfold(Some(start), move |next| {
            let start = next.filter(|start| *start < end);
            let part = start.map(|start| read.read(start, end, READ_BYTES_MAX));
            let (items, next): (Vec<io::Result<Entry>>, Option<u64>) = match part {
                None => (Vec::new(), None),
                Some(Ok(entries)) => {
                    let next = entries.last().map(|entry| entry.index() + 1);
                    (entries.into_iter().map(Ok).collect(), next)
                }
                Some(Err(error)) => (vec![Err(error)], None),
            };
            std::future::ready((!items.is_empty()).then(|| (futures::stream::iter(items), next)))
        });
        Box::pin(futures::StreamExt::flatten(parts))
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.log.meta(MetaSlot::Vote).map(|bytes| codec::decode_vote(&bytes)).transpose()?)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> io::Result<LogState> {
        let bounds = self.log.bounds();
        let purged = match bounds.purged {
            Some((_, mark)) => codec::decode_log_id(&mark)?,
            None => None,
        };
        let last = match bounds.last {
            None => purged,
            Some(last) => {
                let entries = self.log.read(last..last + 1, usize::MAX).map_err(io::Error::other)?;
                let entry =
                    entries.first().ok_or_else(|| io::Error::other("the last log entry is missing"))?;
                Some(codec::entry_log_id(&entry.bytes)?)
            }
        };
        Ok(LogState { last_purged_log_id: purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let bytes = codec::encode_vote(vote);
        Self::done(|done| self.log.save_meta(MetaSlot::Vote, bytes, done)).await
    }

    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        // A hint for the next start, so nobody waits for it; if the write fails, so does the next append.
        let bytes = codec::encode_log_id(committed.as_ref());
        self.log.save_meta(MetaSlot::Committed, bytes, Box::new(drop));
        Ok(())
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        match self.log.meta(MetaSlot::Committed) {
            Some(bytes) => Ok(codec::decode_log_id(&bytes)?),
            None => Ok(None),
        }
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries = entries
            .into_iter()
            .map(|entry| LogEntry { index: entry.index(), bytes: codec::encode_entry(&entry) })
            .collect();
        self.log
            .append(entries, Box::new(move |result| callback.io_completed(result.map_err(io::Error::other))));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        Self::done(|done| self.log.truncate_after(last.map(|id| id.index), done)).await
    }

    async fn purge(&mut self, upto: LogId) -> io::Result<()> {
        let mark = codec::encode_log_id(Some(&upto));
        Self::done(|done| self.log.purge(upto.index, mark, done)).await
    }
}
