//! Moves the overlay to disk.
//!
//! The overlay is frozen and a new one takes over. What was frozen goes to a redo file, which is synced; then into the tree,
//! one change after the other; then the tree gets the mark and is synced, and the
//! redo file goes. After a crash a whole redo file is applied once more, and half a one means that the tree was not
//! touched: either way the tree shows the state at one mark, an exact prefix of the log. What was frozen stays in memory until the
//! next changes follow it, unless it is large, since what was written last is what is read next: executions are claimed, sent and ended
//! within seconds.
//!
//! The tree itself says whether changes are under way, so that a redo file damaged later is not taken for half a one.
//! The redo file lies in the state directory whose changes it holds, and never meets another.

use crate::chunk_file::{ChunkReader, ChunkWriter};
use crate::error::Error;
use crate::overlay::Changes;
use crate::pace::{Pace, Trickle};
use crate::state::{IN_MEMORY, Shared};
use crate::tree::{Tree, sync_dir};
use bytes::Bytes;
use parking_lot::{Condvar, Mutex, MutexGuard};
use std::fs::{self, File};
use std::io::{BufReader, BufWriter};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

const REDO: &str = "redo";
/// Bytes that what was flushed may take in memory until the next flush, counted as [`crate::Settings::flush_bytes`] are: what a
/// steady load writes between two flushes, with some room. It is more when the flusher falls behind, by an import or while a
/// snapshot is written, and that would only be in the way.
const KEPT_BYTES_MAX: usize = 24 * 1024 * 1024;

/// Calls the flusher before its time, or to its end.
#[derive(Default)]
pub(crate) struct Wake {
    called: Mutex<Called>,
    condvar: Condvar,
}

#[derive(Default)]
struct Called {
    now: bool,
    ended: bool,
}

impl Wake {
    pub(crate) fn now(&self) {
        self.called.lock().now = true;
        self.condvar.notify_one();
    }
}

/// Owns the flusher's thread.
pub(crate) struct Flusher {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Flusher {
    pub(crate) fn start(shared: Arc<Shared>) -> Result<Self, Error> {
        let thread = {
            let shared = Arc::clone(&shared);
            std::thread::Builder::new()
                .name("state-flusher".to_owned())
                .spawn(move || run(&shared))
                .map_err(Error::io("starting the flusher's thread"))?
        };
        Ok(Self { shared, thread: Mutex::new(Some(thread)) })
    }
}

impl Drop for Flusher {
    fn drop(&mut self) {
        self.shared.wake.called.lock().ended = true;
        self.shared.wake.condvar.notify_one();
        if let Some(thread) = self.thread.lock().take()
            && thread.thread().id() != std::thread::current().id()
            && thread.join().is_err()
        {
            tracing::error!("the flusher's thread panicked");
        }
    }
}

fn run(shared: &Shared) {
    loop {
        {
            let mut called = shared.wake.called.lock();
            if !called.now && !called.ended {
                let _ = shared.wake.condvar.wait_for(&mut called, shared.settings.flush_interval);
            }
            called.now = false;
            if called.ended {
                return;
            }
        }
        let gate = shared.flushing.lock();
        let mut pace = Pace::begin();
        // Changes come faster than they go, or somebody waits for them.
        let is_urgent = || shared.is_behind(1) || shared.waiting.load(Ordering::Relaxed) > 0;
        if flush_at(shared, &gate, || pace.rest(is_urgent)).is_err() {
            // Said where it happened, and by `State::failure`.
            return;
        }
    }
}

/// Moves everything committed so far to disk.
pub(crate) fn flush(shared: &Shared, gate: &MutexGuard<'_, ()>) -> Result<(), Error> {
    flush_at(shared, gate, || {})
}

/// As [`flush`], with `pause` now and then.
fn flush_at(shared: &Shared, _gate: &MutexGuard<'_, ()>, pause: impl FnMut()) -> Result<(), Error> {
    let (tree, frozen, bytes, mark, before) = {
        let mut layers = shared.layers.write();
        // In memory alone there is nowhere to go.
        let Some(tree) = layers.tree.clone() else { return Ok(()) };
        if let Some(reason) = &layers.poisoned {
            return Err(Error::Poisoned(reason.clone()));
        }
        let is_clean = layers.active.is_empty() && layers.applied == layers.flushed;
        let Some(mark) = layers.applied.clone().filter(|_| !is_clean) else {
            let before = layers.frozen.take();
            drop(layers);
            drop(before);
            return Ok(());
        };
        let frozen = Arc::new(std::mem::take(&mut layers.active));
        let bytes = std::mem::take(&mut layers.active_bytes);
        let before = layers.frozen.replace(Arc::clone(&frozen));
        (tree, frozen, bytes, mark, before)
    };
    // It may be large, and nobody is to wait while it is taken apart.
    drop(before);
    // Only this function replaces the frozen layer, and an installed snapshot waits for the gate, so the tree is
    // the same throughout.
    let moved = move_to_disk(shared, &tree, &frozen, &mark, pause);
    let mut layers = shared.layers.write();
    match moved {
        Ok(()) => {
            if bytes > KEPT_BYTES_MAX {
                layers.frozen = None;
            }
            layers.flushed = Some(mark);
            Ok(())
        }
        Err(error) => {
            tracing::error!(error = &error as &dyn std::error::Error, "the state cannot be written");
            layers.poisoned = Some(error.in_words());
            Err(error)
        }
    }
}

/// Moves everything committed so far to disk, and gives what is there then with its mark; the mark is empty before anything was
/// committed. While the gate is held nothing goes to the tree, so it shows the state at that mark.
pub(crate) fn settle(shared: &Shared, gate: &MutexGuard<'_, ()>) -> Result<(Tree, Bytes), Error> {
    flush(shared, gate)?;
    let layers = shared.layers.read_recursive();
    let tree = layers.tree.clone().ok_or(IN_MEMORY)?;
    Ok((tree, layers.flushed.clone().unwrap_or_default()))
}

fn move_to_disk(
    shared: &Shared,
    tree: &Tree,
    frozen: &Changes,
    mark: &Bytes,
    pause: impl FnMut(),
) -> Result<(), Error> {
    let path = tree.path().join(REDO);
    let write = || {
        fail::fail_point!("state::flush", |_| Err(std::io::Error::other("a test has failed this")));
        let mut redo = ChunkWriter::new(BufWriter::new(Trickle::new(File::create(&path)?)), mark)?;
        for (key, value) in frozen {
            redo.push(key, value.as_deref())?;
        }
        redo.finish()?.into_inner().map_err(std::io::IntoInnerError::into_error)?.sync_all()
    };
    write().map_err(Error::io("writing the redo file"))?;
    sync_dir(tree.path())?;

    tree.begin_changes(mark)?;
    tree.apply(frozen.iter().map(|(key, value)| (key.as_slice(), value.as_deref())), pause)?;
    let number = shared.flushes.load(Ordering::SeqCst) + 1;
    tree.end_changes(mark, number)?;
    shared.flushes.store(number, Ordering::SeqCst);
    fs::remove_file(&path).map_err(Error::io("removing the redo file"))
}

/// Finishes a flush that was cut off, if one was.
pub(crate) fn redo(tree: &Tree) -> Result<(), Error> {
    let path = tree.path().join(REDO);
    let under_way = tree.under_way()?;
    if !path.exists() {
        return match under_way {
            Some(_) => Err(Error::Inconsistent("a flush was cut off, and its redo file is missing")),
            None => Ok(()),
        };
    }
    let open = || ChunkReader::new(BufReader::new(File::open(&path)?));
    let check = || {
        let mut reader = open()?;
        while reader.next_chunk()?.is_some() {}
        Ok::<_, std::io::Error>(reader.mark().clone())
    };
    match (check(), under_way) {
        (Ok(mark), under_way) if under_way.as_ref().is_none_or(|under_way| *under_way == mark) => {
            let mut reader = open().map_err(Error::io("reading the redo file"))?;
            tree.begin_changes(&mark)?;
            while let Some(changes) = reader.next_chunk().map_err(Error::io("reading the redo file"))? {
                tree.apply(changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref())), || {})?;
            }
            tree.end_changes(&mark, tree.flush_number()? + 1)?;
            tracing::info!("a flush that was cut off has been finished");
        }
        (Ok(_), _) => {
            return Err(Error::Inconsistent("the redo file is not that of the flush that was cut off"));
        }
        (Err(_), Some(_)) => {
            return Err(Error::Inconsistent("a flush was cut off, and its redo file is damaged"));
        }
        (Err(error), None) => tracing::debug!(%error, "half a redo file: the tree was not touched"),
    }
    fs::remove_file(&path).map_err(Error::io("removing the redo file"))?;
    sync_dir(tree.path())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

    use crate::schema::{DeletedJobs, ResponseBodies};
    use crate::state::State;
    use crate::{Read, Settings, Storage};
    use bytes::Bytes;
    use domain::execution::ResponseBody;
    use domain::id::{ExecutionId, JobId};
    use domain::time::Timestamp;
    use std::time::Duration;

    fn commit(state: &State, job: u64, mark: &'static [u8]) {
        let mut txn = state.begin();
        txn.put::<DeletedJobs>(&JobId(job), &()).unwrap();
        txn.commit(Bytes::from_static(mark)).unwrap();
    }

    #[test]
    fn what_was_flushed_last_stays_at_hand_until_the_next_flush() {
        let dir = tempfile::tempdir().unwrap();
        let settings = Settings {
            flush_interval: Duration::from_secs(3_600),
            flush_bytes: usize::MAX,
            ..Settings::default()
        };
        let state = Storage::open(dir.path(), settings).unwrap().state;
        let at_hand = || state.shared.layers.read().frozen.as_ref().map_or(0, |frozen| frozen.len());
        let has = |job| state.view().contains::<DeletedJobs>(&JobId(job)).unwrap();

        commit(&state, 1, b"a");
        state.flush().unwrap();
        assert_eq!((at_hand(), state.flushed()), (1, Some(Bytes::from_static(b"a"))));
        commit(&state, 2, b"b");
        commit(&state, 3, b"b");
        state.flush().unwrap();
        assert_eq!((at_hand(), has(1), has(2)), (2, true, true));
        // There is nothing to flush, so this frees it.
        state.flush().unwrap();
        assert_eq!((at_hand(), has(1), has(3), has(4)), (0, true, true, false));

        let body = ResponseBody { text: "x".repeat(1024 * 1024), truncated: false };
        let mut txn = state.begin();
        for secs in 0..25 {
            let execution = ExecutionId::scheduled(JobId(5), Timestamp::from_secs(secs));
            txn.put::<ResponseBodies>(&execution, &body).unwrap();
        }
        txn.commit(Bytes::from_static(b"c")).unwrap();
        state.flush().unwrap();
        let count = state.view().keys::<ResponseBodies>(&[], None, 100).map(|keys| keys.len()).ok();
        assert_eq!((at_hand(), count), (0, Some(25)));
    }
}
