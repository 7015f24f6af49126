//! Snapshots: the state at one mark as a file that can travel.
//!
//! While one is written, flushes wait and commits go on: the tree on disk stands still at one mark, and the overlay
//! grows by what is committed meanwhile.

use crate::chunk_file::{ChunkReader, ChunkWriter};
use crate::error::Error;
use crate::flush;
use crate::state::Shared;
use crate::tree::{Tree, sync_dir};
use crate::{Settings, directory};
use bytes::Bytes;
use std::fs::{self, File};
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

const SUFFIX: &str = ".snap";
/// Snapshot files kept: the newest, and the one before for whoever still reads it.
const KEPT: usize = 2;

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
#[derive(Debug)]
pub struct SnapshotWriter {
    dir: PathBuf,
    path: PathBuf,
    file: Option<BufWriter<File>>,
}

impl SnapshotWriter {
    pub(crate) fn create(data_dir: &Path) -> Result<Self, Error> {
        let dir = directory::snapshots(data_dir);
        let path = dir.join(format!("{:020}.incoming", next_number(&dir)?));
        let file = File::create(&path).map_err(Error::io("creating a snapshot file"))?;
        Ok(Self { dir, path, file: Some(BufWriter::new(file)) })
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
    pub fn finish(mut self) -> Result<SnapshotFile, Error> {
        let Some(file) = self.file.take() else {
            return Err(Error::Inconsistent("a snapshot file was finished twice"));
        };
        file.into_inner()
            .map_err(std::io::IntoInnerError::into_error)
            .and_then(|file| file.sync_all())
            .map_err(Error::io("writing a snapshot file"))?;
        keep(&self.dir, &self.path)
    }
}

impl Drop for SnapshotWriter {
    fn drop(&mut self) {
        // Gone already when it was finished.
        let _ = fs::remove_file(&self.path);
    }
}

/// Checks a file that has been written and synced, gives it its name, and drops old ones.
fn keep(dir: &Path, written: &Path) -> Result<SnapshotFile, Error> {
    check(written)?;
    let path = written.with_extension(&SUFFIX[1..]);
    fs::rename(written, &path).map_err(Error::io("naming a snapshot file"))?;
    sync_dir(dir)?;
    let mut numbered = list(dir)?;
    numbered.truncate(numbered.len().saturating_sub(KEPT));
    for old in numbered {
        if let Err(error) = fs::remove_file(&old) {
            tracing::warn!(path = %old.display(), %error, "an old snapshot stays behind");
        }
    }
    check(&path)
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

/// The newest snapshot that is whole.
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
    // While the gate is held nothing goes to the tree: it shows the state at one mark.
    let gate = shared.flushing.lock();
    flush::flush(shared, &gate)?;
    let (tree, mark) = {
        let layers = shared.layers.read_recursive();
        (layers.tree.clone(), layers.flushed.clone())
    };
    // Before anything was applied there is no mark, and a snapshot of nothing.
    let mark = mark.unwrap_or_default();
    let dir = directory::snapshots(&shared.dir);
    let path = dir.join(format!("{:020}.writing", next_number(&dir)?));
    let io = |error| Error::Io { what: "writing a snapshot file".to_owned(), source: error };
    let file = BufWriter::new(File::create(&path).map_err(io)?);
    let mut writer = ChunkWriter::new(file, &mark).map_err(io)?;
    for item in tree.range(&[1], &[u8::MAX]) {
        let (key, value) = item?;
        writer.push(&key, Some(&value)).map_err(io)?;
    }
    let file = writer.finish().map_err(io)?.into_inner().map_err(|error| io(error.into_error()))?;
    file.sync_all().map_err(io)?;
    drop(gate);
    keep(&dir, &path)
}

/// Takes a snapshot that lies elsewhere among this node's own.
pub(crate) fn adopt(data_dir: &Path, file: &SnapshotFile) -> Result<SnapshotFile, Error> {
    let dir = directory::snapshots(data_dir);
    if file.path.parent() == Some(&dir) {
        return Ok(file.clone());
    }
    let path = dir.join(format!("{:020}.incoming", next_number(&dir)?));
    fs::copy(&file.path, &path)
        .and_then(|_| File::open(&path)?.sync_all())
        .map_err(Error::io("copying a snapshot file"))?;
    keep(&dir, &path)
}

/// Makes a state directory of a snapshot, and makes it the live one.
pub(crate) fn load(data_dir: &Path, file: &SnapshotFile, settings: &Settings) -> Result<Tree, Error> {
    check(&file.path)?;
    let name = directory::next_state(data_dir)?;
    let path = data_dir.join(&name);
    let tree = Tree::open(&path, settings.sled_cache_bytes)?;
    let unusable =
        |error: std::io::Error| Error::Snapshot { path: file.path.clone(), reason: error.to_string() };
    let opened = File::open(&file.path).map_err(unusable)?;
    let mut reader = ChunkReader::new(BufReader::new(opened)).map_err(unusable)?;
    while let Some(changes) = reader.next_chunk().map_err(unusable)? {
        tree.apply(changes.iter().map(|(key, value)| (key.as_slice(), value.as_deref())))?;
    }
    if !reader.mark().is_empty() {
        tree.set_mark(reader.mark())?;
    }
    tree.sync()?;
    directory::set_current(data_dir, &name)?;
    Ok(tree)
}
