//! The state of a cluster to a file, and back.
//!
//! A file has its name only once it is whole and on the disk.

use super::OperateError;
use domain::time::Clock;
use raft::backup::{Summary, inspect};
use raft::{Operator, OperatorError};
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Seek};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Who may read a backup: its owner. It holds hashes of keys and passwords, and the secrets of channels.
const MODE: u32 = 0o600;

/// What was done with a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Done {
    pub(super) file: PathBuf,
    pub(super) bytes: u64,
    pub(super) summary: Summary,
    pub(super) took: Duration,
}

fn io_error(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OperateError {
    let path = path.to_owned();
    move |source| OperateError::File { doing, path, source }
}

/// Writes a backup. A file that is there is replaced only if `force` says so, and only by one that is whole.
pub(super) async fn save(
    node: &Operator,
    clock: &dyn Clock,
    path: PathBuf,
    force: bool,
) -> Result<Done, OperateError> {
    let begun = clock.elapsed();
    let partial = Partial::create(&path)?;
    // Written beside the connection: a node takes an operator who does not answer for a while for gone.
    let file = partial.file.try_clone().map_err(io_error("write", &partial.path))?;
    let (mut file, mut bytes) = (tokio::fs::File::from_std(file), 0);
    let mut pieces = node.backup().await?;
    while let Some(piece) = pieces.next().await? {
        file.write_all(&piece).await.map_err(io_error("write", &partial.path))?;
        bytes += piece.len() as u64;
    }
    file.sync_all().await.map_err(io_error("write", &partial.path))?;
    let mut file = file.into_std().await;
    file.rewind().map_err(io_error("read", &partial.path))?;
    // What is on the disk, not what has arrived.
    let summary = inspect(BufReader::new(file))
        .map_err(|reason| OperateError::Backup { path: partial.path.clone(), reason })?;
    partial.name(&path, force)?;
    Ok(Done { file: path, bytes, summary, took: clock.elapsed().saturating_sub(begun) })
}

/// Refuses to write over a file, before anybody is asked for what would be written there.
pub(super) fn must_be_free(path: &Path, force: bool) -> Result<(), OperateError> {
    if !force && path.symlink_metadata().is_ok() {
        return Err(OperateError::Refused(exists(path)));
    }
    Ok(())
}

fn exists(path: &Path) -> String {
    format!("{} exists already; --force replaces it", path.display())
}

/// A file that has not its name yet. It goes unless it gets it.
struct Partial {
    path: PathBuf,
    file: File,
}

impl Partial {
    /// Beside the file that it is to become, so that it only has to be named.
    fn create(path: &Path) -> Result<Self, OperateError> {
        let Some(name) = path.file_name() else {
            return Err(OperateError::Refused(format!("{} names no file", path.display())));
        };
        let mut hidden = std::ffi::OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{:08x}.partial", rand::random::<u32>()));
        let path = path.with_file_name(hidden);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(MODE)
            .open(&path)
            .map_err(io_error("write", &path))?;
        Ok(Self { path, file })
    }

    /// Gives it its name, for good.
    fn name(self, path: &Path, force: bool) -> Result<(), OperateError> {
        if force {
            fs::rename(&self.path, path).map_err(io_error("write", path))?;
        } else {
            // A second name, since a file that has come meanwhile would refuse that.
            fs::hard_link(&self.path, path).map_err(|error| match error.kind() {
                io::ErrorKind::AlreadyExists => OperateError::Refused(exists(path)),
                _ => io_error("name", path)(error),
            })?;
        }
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
        File::open(dir).and_then(|dir| dir.sync_all()).map_err(io_error("write", dir))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Gone already when it was renamed.
        let _ = fs::remove_file(&self.path);
    }
}

/// A backup that was found good from its beginning to its end, before anybody is asked to take it.
#[derive(Debug)]
pub(super) struct Checked {
    path: PathBuf,
    file: File,
    bytes: u64,
    summary: Summary,
}

/// Reads the whole file.
pub(super) fn check(path: PathBuf) -> Result<Checked, OperateError> {
    let mut file = File::open(&path).map_err(io_error("read", &path))?;
    let bytes = file.metadata().map_err(io_error("read", &path))?.len();
    let summary = inspect(BufReader::new(&file))
        .map_err(|reason| OperateError::Backup { path: path.clone(), reason })?;
    file.rewind().map_err(io_error("read", &path))?;
    Ok(Checked { path, file, bytes, summary })
}

/// Restores a backup. Returns, with what was done, how far the log of the new cluster has got by then.
pub(super) async fn restore(
    node: &Operator,
    clock: &dyn Clock,
    checked: Checked,
    restart: bool,
) -> Result<(Done, u64), OperateError> {
    let begun = clock.elapsed();
    let Checked { path, file, bytes, summary } = checked;
    let applied = node.restore(file, summary.number, restart).await.map_err(|error| match error {
        OperatorError::NoLeader | OperatorError::Unknown => OperateError::RestoreCutOff,
        other => other.into(),
    })?;
    Ok((Done { file: path, bytes, summary, took: clock.elapsed().saturating_sub(begun) }, applied))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    fn names(dir: &TempDir) -> Vec<String> {
        let names = fs::read_dir(dir.path()).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn written(path: &Path, text: &str) -> Partial {
        let partial = Partial::create(path).unwrap();
        (&partial.file).write_all(text.as_bytes()).unwrap();
        partial
    }

    #[test]
    fn a_file_has_its_name_once_it_is_whole_and_only_its_owner_reads_it() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a.backup");
        let partial = written(&path, "all");
        assert!(!path.exists());
        partial.name(&path, false).unwrap();
        assert_eq!(names(&dir), ["a.backup"]);
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, MODE);
    }

    #[test]
    fn what_is_there_is_replaced_only_by_force() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("a.backup");
        fs::write(&path, "old").unwrap();
        assert!(
            must_be_free(&path, false)
                .unwrap_err()
                .to_string()
                .ends_with("exists already; --force replaces it")
        );
        must_be_free(&path, true).unwrap();
        written(&path, "new").name(&path, false).unwrap_err();
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        written(&path, "new").name(&path, true).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(names(&dir), ["a.backup"]);
    }

    #[test]
    fn what_is_cut_off_leaves_nothing() {
        let dir = TempDir::new().unwrap();
        drop(written(&dir.path().join("a.backup"), "half"));
        assert_eq!(names(&dir), [""; 0]);
    }

    #[test]
    fn what_is_no_backup_is_refused_in_one_line() {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("notes.txt");
        fs::write(&path, "buy milk and bread").unwrap();
        let error = check(path.clone()).unwrap_err();
        assert_eq!(error.to_string(), format!("{} cannot be used: it is no backup", path.display()));
        let error = check(dir.path().join("none")).unwrap_err();
        assert!(error.to_string().starts_with("cannot read "), "{error}");
    }
}
