//! What a machine that lost its power in the middle of a write leaves behind: half a record where the next whole one was to
//! be, behind everything that was acknowledged.
//!
//! This is all that the harness knows of a node's folder: `log/*.raftlog`, numbered, in which records follow each other and
//! zeros the last of them; `state-*/redo`, which is there only while changes are moved; `CURRENT`, which names the state.

use crate::{Error, cluster::Cluster};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use std::{
    fs::{self, OpenOptions},
    io::{Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

/// The last record may end in so many bytes that are zero, which must not be taken for the space behind it. A record
/// begins with more of them, unless it is larger than any is.
const ZEROS_MAX: u64 = 4;
/// What a file begins with, which may end in zeros as well.
const FILE_HEADER_BYTES: u64 = 69;
/// What half a record has.
const TORN_BYTES: std::ops::RangeInclusive<usize> = 20..=6_000;

impl Cluster {
    /// Leaves half a record at the end of a stopped node's log, and sometimes half a file of changes beside its state.
    ///
    /// # Errors
    /// [`Error::Input`] if it runs, or has no log; [`Error::Io`].
    pub fn tear_last_write(&self, id: u64, seed: u64) -> Result<(), Error> {
        if self.pid(id).is_some() {
            return Err(Error::Input(format!("node {id} still runs")));
        }
        tear(&self.data_dir(id), &mut StdRng::seed_from_u64(seed))
    }
}

fn tear(data_dir: &Path, random: &mut StdRng) -> Result<(), Error> {
    let log = newest_log_file(&data_dir.join("log"))?;
    let bytes = fs::read(&log).map_err(Error::io("read the log of a node"))?;
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    let torn = half_a_record(random);
    let mut file = OpenOptions::new().write(true).open(&log).map_err(Error::io("open the log of a node"))?;
    let end = (written as u64 + ZEROS_MAX).max(FILE_HEADER_BYTES);
    file.seek(SeekFrom::Start(end))
        .and_then(|_| file.write_all(&torn))
        .map_err(Error::io("write to the log of a node"))?;

    let state = fs::read_to_string(data_dir.join("CURRENT")).unwrap_or_default();
    let redo = data_dir.join(state.trim()).join("redo");
    // A whole one that is there already must stay: the node was killed while it moved the changes.
    if !state.is_empty() && !redo.exists() && random.random() {
        fs::write(&redo, half_a_record(random)).map_err(Error::io("write beside the state of a node"))?;
    }
    Ok(())
}

/// Bytes of a record whose end is missing: a head that promises more than follows, or one that makes no sense at all.
fn half_a_record(random: &mut StdRng) -> Vec<u8> {
    let mut torn = vec![0; random.random_range(TORN_BYTES)];
    random.fill_bytes(&mut torn);
    if random.random() {
        // Length and kind, then where its table begins: without the zeros that they begin with.
        let promised = torn.len() as u64 + random.random_range(100..2_000);
        torn[..4].copy_from_slice(&(promised << 8).to_be_bytes()[4..]);
        torn[4..12].copy_from_slice(&(promised - 90).to_be_bytes());
    }
    // Zeros at the end would be as if nothing was written.
    torn.push(1);
    torn
}

fn newest_log_file(dir: &Path) -> Result<PathBuf, Error> {
    let entries = fs::read_dir(dir).map_err(Error::io("list the log of a node"))?;
    let paths = entries.filter_map(Result::ok).map(|entry| entry.path());
    let files = paths.filter(|path| path.extension().is_some_and(|extension| extension == "raftlog"));
    // Their names are numbers of equal length.
    files.max().ok_or_else(|| Error::Input(format!("there is no log in {}", dir.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seeded() -> impl Iterator<Item = StdRng> {
        (0..50).map(StdRng::seed_from_u64)
    }

    #[test]
    fn what_was_written_stays_and_half_a_record_follows() {
        for mut random in seeded() {
            let dir = tempfile::tempdir().unwrap();
            for folder in ["log", "state-3"] {
                fs::create_dir(dir.path().join(folder)).unwrap();
            }
            fs::write(dir.path().join("CURRENT"), "state-3").unwrap();
            let old = dir.path().join("log/0000000000000009.raftlog");
            let newest = dir.path().join("log/0000000000000010.raftlog");
            fs::write(&old, [7; 100]).unwrap();
            // A record that ends in zeros, and space that was given ahead.
            let record = [&[7; 100][..], &[0; 3]].concat();
            fs::write(&newest, [&record[..], &[0; 200]].concat()).unwrap();

            tear(dir.path(), &mut random).unwrap();
            let torn = fs::read(&newest).unwrap();
            assert_eq!(torn[..record.len()], record);
            assert!(torn[record.len()..].iter().any(|byte| *byte != 0));
            assert_eq!(fs::read(&old).unwrap(), [7; 100]);
        }
    }

    #[test]
    fn changes_that_are_being_moved_are_left_alone() {
        let mut made = 0;
        for mut random in seeded() {
            let dir = tempfile::tempdir().unwrap();
            for folder in ["log", "state-1"] {
                fs::create_dir(dir.path().join(folder)).unwrap();
            }
            fs::write(dir.path().join("log/0000000000000001.raftlog"), [7; 100]).unwrap();
            fs::write(dir.path().join("CURRENT"), "state-1").unwrap();
            let redo = dir.path().join("state-1/redo");
            tear(dir.path(), &mut random).unwrap();
            made += usize::from(redo.exists());
            fs::write(&redo, "whole").unwrap();
            tear(dir.path(), &mut random).unwrap();
            assert_eq!(fs::read_to_string(&redo).unwrap(), "whole");
        }
        assert!((5..45).contains(&made), "{made} of 50");
    }
}
