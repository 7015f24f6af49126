//! Tells a log whose last write was cut off from one that is damaged.
//!
//! The engine drops what it cannot read at the end of its newest file, and everything behind it. That is right for a
//! write that was cut off, and wrong for a flipped bit before entries that were acknowledged: the log would silently be
//! shorter. Each batch is synced before the next is written, so behind a write that was cut off there is nothing; a whole
//! batch behind one that cannot be read means damage. Not told apart from a write that was cut off: damage to the very
//! last batch.
//!
//! ```text
//! file:    magic, version u64, alignment u64 (from version 2 on), batches, zeros
//! batch:   length << 8 | compression u64, offset of the items u64, entries with their crc32, items with theirs
//! ```
//!
//! The lengths are big-endian, the checksums little-endian, and that of the items is mixed with the number of the file,
//! because files are used again.

use crate::error::Error;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

const MAGIC: &[u8] = b"RAFT-LOG-FILE-HEADER-9986AB3E47F320B394C8E84916EB0ED5";
const FILE_HEADER_BYTES: usize = MAGIC.len() + 16;
const HEADER_BYTES: usize = 16;
const CHECKSUM_BYTES: usize = 4;
const APPENDED: &str = ".raftlog";
const REWRITTEN: &str = ".rewrite";

/// Refuses a log whose newest file is damaged before its last batch, or of which a file has a form that this build does
/// not write.
pub(crate) fn check(dir: &Path) -> Result<(), Error> {
    let mut newest = None;
    for entry in fs::read_dir(dir).map_err(Error::io("listing the log"))? {
        let path = entry.map_err(Error::io("listing the log"))?.path();
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        let number = name.strip_suffix(APPENDED).and_then(|digits| digits.parse::<u64>().ok());
        if number.is_some() || name.ends_with(REWRITTEN) {
            check_header(&path)?;
        }
        newest = newest.max(number.map(|number| (number, path)));
    }
    newest.map_or(Ok(()), |(number, path)| check_tail(number, path))
}

/// The engine believes what a header says, and ends the process when it is absurd.
fn check_header(path: &Path) -> Result<(), Error> {
    let mut header = Vec::new();
    File::open(path)
        .and_then(|file| file.take(FILE_HEADER_BYTES as u64).read_to_end(&mut header))
        .map_err(Error::io("reading a file of the log"))?;
    if header.len() == FILE_HEADER_BYTES && header.starts_with(MAGIC) && form(&header, 0).is_none() {
        return Err(Error::Damaged { path: path.to_owned(), reason: "its header is damaged".to_owned() });
    }
    Ok(())
}

fn check_tail(number: u64, path: PathBuf) -> Result<(), Error> {
    let bytes = fs::read(&path).map_err(Error::io("reading the newest file of the log"))?;
    // The file is given its space ahead.
    let written = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);

    let (mut at, signature) = form(&bytes, number).unwrap_or_else(|| (0, signature(number)));
    while let Some(length) = batch(&bytes[at..], signature) {
        at += length;
    }
    match (at + 1..written).find(|behind| batch(&bytes[*behind..], signature).is_some()) {
        Some(behind) => Err(Error::Damaged {
            path,
            reason: format!("something cannot be read at byte {at}, before whole records at byte {behind}"),
        }),
        None => Ok(()),
    }
}

/// How long the header of a file is and what its batches are signed with, if it is of a form that is written: of version
/// 2 and not aligned; or of version 1, which is how the engine begins a file anew after its header was cut off.
fn form(bytes: &[u8], number: u64) -> Option<(usize, u32)> {
    let (version, rest) = bytes.strip_prefix(MAGIC)?.split_first_chunk()?;
    match u64::from_be_bytes(*version) {
        1 => Some((MAGIC.len() + 8, 0)),
        2 if rest.starts_with(&[0; 8]) => Some((FILE_HEADER_BYTES, signature(number))),
        _ => None,
    }
}

/// The engine signs with the low half of the number of the file.
fn signature(number: u64) -> u32 {
    let [.., a, b, c, d] = number.to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

/// The length of the whole batch that `bytes` begin with, if they do.
fn batch(bytes: &[u8], signature: u32) -> Option<usize> {
    let (length, rest) = bytes.split_first_chunk()?;
    let (items, _) = rest.split_first_chunk()?;
    let length = usize::try_from(u64::from_be_bytes(*length) >> 8).ok()?;
    let items = usize::try_from(u64::from_be_bytes(*items)).ok()?;
    let whole = bytes.get(..length)?;
    let entries = whole.get(HEADER_BYTES..items)?;
    let items_whole = is_whole(whole.get(items..)?, signature);
    (items_whole && (entries.is_empty() || is_whole(entries, 0))).then_some(length)
}

/// Whether `bytes` end in their checksum, mixed with `signature`.
fn is_whole(bytes: &[u8], signature: u32) -> bool {
    bytes.split_last_chunk::<CHECKSUM_BYTES>().is_some_and(|(content, checksum)| {
        !content.is_empty() && crc32fast::hash(content) ^ signature == u32::from_le_bytes(*checksum)
    })
}
