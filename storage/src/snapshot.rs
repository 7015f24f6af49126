//! Snapshots: the state at one mark as a file that can travel.
//!
//! While one is written, flushes wait and commits go on: the tree on disk stands still at one mark, and the overlay
//! grows by what is committed meanwhile.

use crate::chunk_file::{ChunkReader, ChunkWriter};
use crate::error::Error;
use crate::flush;
use crate::pace::{Pace, Trickle};
use crate::state::{IN_MEMORY, Shared};
use crate::tree::{Tree, sync_dir};
use crate::{Settings, directory};
use bytes::Bytes;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const SUFFIX: &str = ".snap";
/// Snapshot files kept: the newest, and the one before for whoever still reads it.
const KEPT: usize = 2;
/// Changes may pile up to so many times what calls for a flush before a snapshot takes no more rests.
const OVERLAYS_MAX: usize = 2;

/// A whole, checked snapshot on this node's disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SnapshotFile {
    /// Where it is.
    pub path: PathBuf,
    /// Its size in bytes.
    pub size_bytes: u64,
    /// The mark of the state it holds; empty when nothing was ever applied to it.
    pub mark: Bytes,
}

/// Receives a snapshot from elsewhere.
pub struct SnapshotWriter {
    shared: Arc<Shared>,
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

impl std::fmt::Debug for SnapshotWriter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SnapshotWriter").field("path", &self.path).finish_non_exhaustive()
    }
}

impl SnapshotWriter {
    pub(crate) fn create(shared: Arc<Shared>) -> Result<Self, Error> {
        if shared.layers.read_recursive().tree.is_none() {
            return Err(IN_MEMORY);
        }
        let (path, file) = create(&shared, "incoming")?;
        Ok(Self { shared, path, file: Some(BufWriter::new(file)) })
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        match &mut self.file {
            Some(file) => file.write_all(bytes).map_err(Error::io("writing a snapshot file")),
            None => Err(Error::Inconsistent("a snapshot file was written to after its end")),
        }
    }

    /// Checks that all has arrived, and keeps it.
    ///
    /// # Errors
    /// [`Error::Snapshot`] when it is damaged or not whole; otherwise when the disk fails.
    pub fn finish(self) -> Result<SnapshotFile, Error> {
        let kept = self.finish_if(|_| true)?;
        kept.ok_or(Error::Inconsistent("a snapshot file that was wanted was not kept"))
    }

    /// As [`SnapshotWriter::finish`], but keeps the file only if it is wanted, by its mark. The newest file is what a
    /// damaged state is rebuilt from, so one that tells of the past must not become it.
    ///
    /// # Errors
    /// As [`SnapshotWriter::finish`].
    pub fn finish_if(mut self, is_wanted: impl FnOnce(&[u8]) -> bool) -> Result<Option<SnapshotFile>, Error> {
        let Some(file) = self.file.take() else {
            return Err(Error::Inconsistent("a snapshot file was finished twice"));
        };
        file.into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .map_err(Error::io("writing a snapshot file"))?;
        let file = check(&self.path)?;
        if is_wanted(&file.mark) { name(&self.shared, file).map(Some) } else { Ok(None) }
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        // Gone already when it was finished.
        let _ = fs::remove_file(&self.path);
    }
}

/// Creates a file that is not yet a snapshot.
pub(crate) fn create(shared: &Shared, extension: &str) -> Result<(PathBuf, File), Error> {
    let _naming = shared.naming.lock();
    let dir = directory::snapshots(&shared.dir);
    let path = dir.join(format!("{:020}.{extension}", next_number(&dir)?));
    let file = File::create_new(&path).map_err(Error::io("creating a snapshot file"))?;
    Ok((path, file))
}

/// Checks a file that has been written and synced, gives it its name, and drops old ones.
fn keep(shared: &Shared, written: &Path) -> Result<SnapshotFile, Error> {
    name(shared, check(written)?)
}

/// As [`keep`], for a file that has been checked.
fn name(shared: &Shared, file: SnapshotFile) -> Result<SnapshotFile, Error> {
    let dir = directory::snapshots(&shared.dir);
    let _naming = shared.naming.lock();
    // Numbered when it is done, not when it was begun: the newest is the one with the highest number.
    let path = dir.join(format!("{:020}{SUFFIX}", next_number(&dir)?));
    fs::rename(&file.path, &path).map_err(Error::io("naming a snapshot file"))?;
    sync_dir(&dir)?;
    let mut numbered = list(&dir)?;
    numbered.truncate(numbered.len().saturating_sub(KEPT));
    for old in numbered {
        if let Err(error) = fs::remove_file(&old) {
            tracing::warn!(path = %old.display(), %error, "an old snapshot stays behind");
        }
    }
    Ok(SnapshotFile { path, ..file })
}

/// Reads a whole file, and says what it is if it is good.
fn check(path: &Path) -> Result<SnapshotFile, Error> {
    let unusable =
        |error: std::io::Error| Error::Snapshot { path: path.to_owned(), reason: error.to_string() };
    let file = File::open(path).map_err(unusable)?;
    let size_bytes = file.metadata().map_err(unusable)?.len();
    let mut reader = ChunkReader::new(BufReader::new(file)).map_err(unusable)?;
    while reader.next_chunk().map_err(unusable)?.is_some() {}
    Ok(SnapshotFile { path: path.to_owned(), size_bytes, mark: reader.mark().clone() })
}

/// The snapshot files of a directory, oldest first.
fn list(dir: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).map_err(Error::io("listing snapshots"))? {
        let path = entry.map_err(Error::io("listing snapshots"))?.path();
        if path.to_string_lossy().ends_with(SUFFIX) {
            found.push(path);
        }
    }
    found.sort();
    Ok(found)
}

fn next_number(dir: &Path) -> Result<u64, Error> {
    let mut next = 1;
    for entry in fs::read_dir(dir).map_err(Error::io("listing snapshots"))? {
        let name = entry.map_err(Error::io("listing snapshots"))?.file_name();
        let number = name.to_string_lossy().split('.').next().and_then(|digits| digits.parse::<u64>().ok());
        next = next.max(number.map_or(0, |number| number + 1));
    }
    Ok(next)
}

/// The newest snapshot, provided that it is whole: the log is purged up to there, so that an older one does not
/// lead to the present state.
pub(crate) fn newest(data_dir: &Path) -> Result<Option<SnapshotFile>, Error> {
    list(&directory::snapshots(data_dir))?.last().map(|path| check(path)).transpose()
}

/// The newest snapshot among those that are whole.
pub(crate) fn latest(data_dir: &Path) -> Result<Option<SnapshotFile>, Error> {
    for path in list(&directory::snapshots(data_dir))?.into_iter().rev() {
        match check(&path) {
            Ok(file) => return Ok(Some(file)),
            Err(error) => tracing::warn!(path = %path.display(), %error, "a snapshot cannot be used"),
        }
    }
    Ok(None)
}

pub(crate) fn write(shared: &Shared) -> Result<SnapshotFile, Error> {
    let gate = shared.flushing.lock();
    // Before anything was applied the mark is empty, and the snapshot one of nothing.
    let (tree, mark) = flush::settle(shared, &gate)?;
    let (path, file) = create(shared, "writing")?;
    let written = write_tree(shared, &tree, &mark, file).and_then(|()| {
        drop(gate);
        keep(shared, &path)
    });
    remove_unless_kept(&path, written)
}

fn write_tree(shared: &Shared, tree: &Tree, mark: &[u8], file: File) -> Result<(), Error> {
    let io = |error| Error::Io { what: "writing a snapshot file".to_owned(), source: error };
    let mut writer = ChunkWriter::new(BufWriter::new(Trickle::new(file)), mark).map_err(io)?;
    let mut pace = Pace::begin();
    for item in tree.range(&[1], &[u8::MAX]) {
        let (key, value) = item?;
        writer.push(&key, Some(&value)).map_err(io)?;
        // What is committed meanwhile takes memory until this is done.
        pace.rest(|| shared.is_behind(OVERLAYS_MAX));
    }
    let file = writer.finish().map_err(io)?.into_inner().map_err(|error| io(error.into_error()))?;
    file.sync_all().map_err(io)
}

fn remove_unless_kept(written: &Path, kept: Result<SnapshotFile, Error>) -> Result<SnapshotFile, Error> {
    if kept.is_err() {
        // Would be removed by the next start; what matters is the error.
        let _ = fs::remove_file(written);
    }
    kept
}

/// Takes a snapshot that lies elsewhere among this node's own.
pub(crate) fn adopt(shared: &Shared, file: &SnapshotFile) -> Result<SnapshotFile, Error> {
    let dir = directory::snapshots(&shared.dir);
    if file.path.parent() == Some(&dir) {
        return Ok(file.clone());
    }
    check(&file.path)?;
    let (path, mut to) = create(shared, "incoming")?;
    let copied = File::open(&file.path)
        .and_then(|mut from| std::io::copy(&mut from, &mut to))
        .and_then(|_| to.sync_all())
        .map_err(Error::io("copying a snapshot file"))
        .and_then(|()| keep(shared, &path));
    remove_unless_kept(&path, copied)
}

/// Makes a state directory of a snapshot, and makes it the live one. It counts as the flush of this number.
pub(crate) fn load(
    data_dir: &Path,
    file: &SnapshotFile,
    settings: &Settings,
    flush_number: u64,
) -> Result<Tree, Error> {
    check(&file.path)?;
    let name = directory::next_state(data_dir)?;
    let path = data_dir.join(&name);
    let tree = Tree::open(&path, settings.sled_cache_bytes)?;
    let unusable =
        |error: std::io::Error| Error::Snapshot { path: file.path.clone(), reason: error.to_string() };
    let opened = File::open(&file.path).map_err(unusable)?;
    let mut reader = ChunkReader::new(BufReader::new(opened)).map_err(unusable)?;
    while let Some(changes) = reader.next_chunk().map_err(unusable)? {
        tree.apply(changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref())), || {})?;
    }
    tree.end_changes(reader.mark(), flush_number)?;
    directory::set_current(data_dir, &name)?;
    Ok(tree)
}
