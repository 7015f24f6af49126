//! The layout of a node's data directory.
//!
//! ```text
//! FORMAT       version of this layout
//! NODE         which node this is the directory of, once that was said
//! LOCK         locked while a process has the directory open
//! SESSION      session of the process that was started in the directory last
//! FILLING      while the node may have lost what it had acknowledged, and has not got it back from the others
//! CURRENT      name of the live state directory
//! state-<n>/   the state (sled), and in it
//!   redo       changes on their way into the state, while they are
//!   SUSPECT    why it has to be rebuilt, once something in it could not be read
//! log/         the raft log (raft-engine)
//! snapshots/   whole states as files
//! ```

use crate::error::Error;
use crate::tree::sync_dir;
use domain::id::NodeId;
use domain::node::SessionId;
use std::fs::{self, File, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

/// The layout this build writes, and the newest it reads.
const FORMAT: u32 = 1;
const FILLING: &str = "FILLING";
const SESSION: &str = "SESSION";

pub(crate) fn log(dir: &Path) -> PathBuf {
    dir.join("log")
}

pub(crate) fn snapshots(dir: &Path) -> PathBuf {
    dir.join("snapshots")
}

/// Takes the directory for this process, making it if need be.
pub(crate) fn take(dir: &Path) -> Result<File, Error> {
    fs::create_dir_all(dir).map_err(Error::io(format!("creating {}", dir.display())))?;
    let lock = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(dir.join("LOCK"))
        .map_err(Error::io(format!("opening {}", dir.join("LOCK").display())))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(Error::Locked { path: dir.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(Error::io("locking the data directory")(error)),
    }
    check_format(dir)?;
    for sub in [log(dir), snapshots(dir)] {
        fs::create_dir_all(&sub).map_err(Error::io(format!("creating {}", sub.display())))?;
    }
    remove_leftovers(dir)?;
    sync_dir(dir)?;
    Ok(lock)
}

fn check_format(dir: &Path) -> Result<(), Error> {
    let path = dir.join("FORMAT");
    match fs::read_to_string(&path) {
        Ok(text) => {
            let found: u32 = text.trim().parse().map_err(|_| Error::Damaged {
                path: dir.to_owned(),
                reason: "its FORMAT file holds no number".to_owned(),
            })?;
            if found > FORMAT {
                return Err(Error::FormatTooNew { path: dir.to_owned(), found, readable: FORMAT });
            }
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => write_whole(dir, "FORMAT", &FORMAT.to_string()),
        Err(error) => Err(Error::io(format!("reading {}", path.display()))(error)),
    }
}

/// Removes what an installation or a snapshot that was cut off has left.
fn remove_leftovers(dir: &Path) -> Result<(), Error> {
    let current = current(dir)?;
    let list = |dir: &Path| -> Result<Vec<PathBuf>, Error> {
        fs::read_dir(dir)
            .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
            .map_err(Error::io(format!("listing {}", dir.display())))
    };
    for path in list(dir)? {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if state_number(&name).is_some() && current.as_ref() != Some(&name) {
            fs::remove_dir_all(&path).map_err(Error::io(format!("removing {}", path.display())))?;
        }
    }
    for path in list(&snapshots(dir))? {
        if path
            .extension()
            .is_some_and(|of| ["writing", "incoming", "backup"].iter().any(|begun| of == *begun))
        {
            fs::remove_file(&path).map_err(Error::io(format!("removing {}", path.display())))?;
        }
    }
    Ok(())
}

fn state_number(name: &str) -> Option<u64> {
    name.strip_prefix("state-")?.parse().ok()
}

/// The name of the live state directory, once there is one.
pub(crate) fn current(dir: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(dir.join("CURRENT")) {
        // Anything else is damage, and as good as none: the state is rebuilt.
        Ok(name) => Ok(Some(name).filter(|name| state_number(name).is_some())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::io("reading CURRENT")(error)),
    }
}

/// A name for a new state directory.
pub(crate) fn next_state(dir: &Path) -> Result<String, Error> {
    let number = current(dir)?.and_then(|name| state_number(&name)).map_or(1, |number| number + 1);
    let name = format!("state-{number}");
    let path = dir.join(&name);
    if path.exists() {
        // Left by an attempt that failed while this process ran.
        fs::remove_dir_all(&path).map_err(Error::io(format!("removing {}", path.display())))?;
    }
    Ok(name)
}

/// Makes a state directory the live one.
pub(crate) fn set_current(dir: &Path, name: &str) -> Result<(), Error> {
    write_whole(dir, "CURRENT", name)
}

/// Writes a small file as a whole or not at all.
fn write_whole(dir: &Path, name: &str, text: &str) -> Result<(), Error> {
    let written = dir.join(format!("{name}.new"));
    File::create(&written)
        .and_then(|mut file| {
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&written, dir.join(name)))
        .map_err(Error::io(format!("writing {name}")))?;
    sync_dir(dir)
}

/// Whether [`set_filling`] has said so last.
pub(crate) fn is_filling(dir: &Path) -> Result<bool, Error> {
    dir.join(FILLING).try_exists().map_err(Error::io(format!("looking for {FILLING}")))
}

/// Notes that the node is being filled by others, or that it has been.
pub(crate) fn set_filling(dir: &Path, is_filling: bool) -> Result<(), Error> {
    if is_filling {
        return write_whole(dir, FILLING, "");
    }
    match fs::remove_file(dir.join(FILLING)) {
        Ok(()) => sync_dir(dir),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io(format!("removing {FILLING}"))(error)),
    }
}

/// What [`set_last_session`] has noted last, once there was anything.
pub(crate) fn last_session(dir: &Path) -> Result<Option<SessionId>, Error> {
    match fs::read_to_string(dir.join(SESSION)) {
        // Anything else is damage, and as good as none: what the state knows and the clock are still there.
        Ok(text) => Ok(text.trim().parse().ok().map(SessionId)),
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::InvalidData) => Ok(None),
        Err(error) => Err(Error::io(format!("reading {SESSION}"))(error)),
    }
}

/// Notes the session of the process that takes the directory.
pub(crate) fn set_last_session(dir: &Path, session: SessionId) -> Result<(), Error> {
    write_whole(dir, SESSION, &session.0.to_string())
}

/// Notes whose directory this is, or refuses another node's.
pub(crate) fn belong_to(dir: &Path, node: NodeId) -> Result<(), Error> {
    let path = dir.join("NODE");
    match fs::read_to_string(&path) {
        Ok(text) if text.trim() == node.to_string() => Ok(()),
        Ok(text) => {
            Err(Error::OtherNode { path: dir.to_owned(), found: text.trim().to_owned(), expected: node })
        }
        Err(error) if error.kind() == ErrorKind::NotFound => write_whole(dir, "NODE", &node.to_string()),
        Err(error) => Err(Error::io(format!("reading {}", path.display()))(error)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

    use super::*;

    #[test]
    fn the_last_session_is_what_was_noted_and_damage_is_none() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(last_session(dir.path()).unwrap(), None);
        set_last_session(dir.path(), SessionId(7)).unwrap();
        set_last_session(dir.path(), SessionId(u64::MAX)).unwrap();
        assert_eq!(last_session(dir.path()).unwrap(), Some(SessionId(u64::MAX)));
        for damage in [&b""[..], b"seven", b"\xff"] {
            fs::write(dir.path().join(SESSION), damage).unwrap();
            assert_eq!(last_session(dir.path()).unwrap(), None);
        }
    }
}
