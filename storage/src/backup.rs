//! Backups: what of the state outlives its cluster, as a file that can be checked and read without one.
//!
//! The file is one of changes (see [`crate::chunk_file`]) that only puts, in the order of the keys. It says in front what it
//! is, and at the end how much it is, so that a part of it is never taken for the whole. What belongs to the nodes stays
//! behind: who they are, which shards they own, what they have proposed, what they hold. So do the indexes that follow from
//! the records.

use crate::chunk_file::{self, Change, ChunkReader, ChunkWriter};
use crate::codec::decode_value;
use crate::digest::Digest;
use crate::error::Error;
use crate::keyspace::{Keyspace, full_key};
use crate::schema::{
    AccountJobs, AccountKeys, AccountSpaces, AccountUsage, Accounts, Answers, AnswersByExpiry, ApiKeys,
    Channels, Claims, Customers, DeletedJobs, Deliveries, DeliveryClaims, Diagnoses, Due, EndedSessions,
    ExecutionHours, Executions, JobStates, Jobs, Metas, Pulses, ResponseBodies, SecretsOf, SpaceJobs, Spaces,
    Timetables, UnalignedSpaces, Users,
};
use crate::state::Shared;
use crate::tree::Tree;
use crate::{flush, snapshot};
use bytes::Bytes;
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek};

/// What a backup begins with. The last two digits are the version of what follows.
const MAGIC: &[u8; 8] = b"JRBKUP01";
const FAMILY_BYTES: usize = 6;

/// Whether key and value are a record of a keyspace.
type Check = fn(&[u8], &[u8]) -> Result<(), Error>;

fn check<K: Keyspace>(key: &[u8], value: &[u8]) -> Result<(), Error> {
    if K::decode_key(key).is_none() {
        return Err(Error::Corrupt { keyspace: K::NAME, reason: "a key cannot be read".to_owned() });
    }
    decode_value::<K>(value).map(drop)
}

/// Keyspaces with what tells whether something is a record of theirs.
macro_rules! keyspaces {
    ($($keyspace:ty),* $(,)?) => { &[$((<$keyspace as Keyspace>::PREFIX, check::<$keyspace>)),*] };
}

/// What a backup carries, in the order of the prefixes.
const CARRIED: &[(u8, Check)] = keyspaces![
    Metas,
    SecretsOf,
    Accounts,
    ApiKeys,
    AccountKeys,
    Users,
    EndedSessions,
    Customers,
    Spaces,
    AccountSpaces,
    UnalignedSpaces,
    Channels,
    Jobs,
    JobStates,
    AccountJobs,
    SpaceJobs,
    AccountUsage,
    Timetables,
    Executions,
    ResponseBodies,
    DeletedJobs,
    Diagnoses,
    Pulses,
    ExecutionHours,
    Deliveries,
    Answers,
    AnswersByExpiry,
];

/// What is made anew from what it carries.
const DERIVED: [u8; 3] = [Due::PREFIX, Claims::PREFIX, DeliveryClaims::PREFIX];

fn carried(prefix: u8) -> Option<Check> {
    CARRIED.iter().find(|(carried, _)| *carried == prefix).map(|(_, check)| *check)
}

/// What has to go before a backup comes in, but for the one record about the state as a whole.
pub(crate) fn cleared() -> impl Iterator<Item = u8> {
    let carried = CARRIED.iter().map(|(prefix, _)| *prefix);
    carried.filter(|prefix| *prefix != Metas::PREFIX).chain(DERIVED)
}

/// Why a file cannot be used as a backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It is something else.
    #[error("it is no backup")]
    Foreign,
    /// Its format is of a newer release.
    #[error("a newer release wrote it (format {0})")]
    TooNew(String),
    /// It ends too early.
    #[error("it is cut off: its end is missing")]
    CutOff,
    /// It is not as it was written.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// It is as it was written, and holds what this build does not know.
    #[error("it holds what this release cannot read, so a newer one may have written it: {0}")]
    Unreadable(String),
    /// It cannot be read at all.
    #[error("it cannot be read")]
    Io(#[source] io::Error),
}

impl From<io::Error> for BackupError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::UnexpectedEof => Self::CutOff,
            io::ErrorKind::InvalidData => Self::Damaged(error.to_string()),
            _ => Self::Io(error),
        }
    }
}

/// A key of a keyspace with its value.
pub type Item<K> = (<K as Keyspace>::Key, <K as Keyspace>::Value);

/// A key with its value, as they are stored. Known to be a record of a keyspace that backups carry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    key: Vec<u8>,
    value: Bytes,
}

impl Record {
    fn new((key, value): Change) -> Result<Self, BackupError> {
        let damaged = |reason: &str| BackupError::Damaged(reason.to_owned());
        let value = value.ok_or_else(|| damaged("it takes something away"))?;
        let (prefix, rest) = key.split_first().ok_or_else(|| damaged("it has a record without a key"))?;
        let check = carried(*prefix)
            .ok_or_else(|| BackupError::Unreadable(format!("records with the prefix {prefix:#04x}")))?;
        check(rest, &value).map_err(|error| BackupError::Unreadable(error.to_string()))?;
        Ok(Self { key, value: value.into() })
    }

    /// Whether it is a record of this keyspace.
    #[must_use]
    pub fn is<K: Keyspace>(&self) -> bool {
        self.key.starts_with(&[K::PREFIX])
    }

    /// The record, if it is one of this keyspace.
    ///
    /// # Errors
    /// Never: that it can be read was checked.
    pub fn read<K: Keyspace>(&self) -> Result<Option<Item<K>>, Error> {
        let Some(key) = self.key.strip_prefix(&[K::PREFIX]) else { return Ok(None) };
        let key = K::decode_key(key)
            .ok_or_else(|| Error::Corrupt { keyspace: K::NAME, reason: "a key cannot be read".to_owned() })?;
        Ok(Some((key, decode_value::<K>(&self.value)?)))
    }

    pub(crate) fn into_parts(self) -> (Vec<u8>, Bytes) {
        (self.key, self.value)
    }
}

/// A part of a backup: some of its records, as they stand in the file and read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// As it stands in the file: packed.
    pub block: Bytes,
    /// What it holds.
    pub records: Vec<Record>,
}

/// The records of a part as it stands in the file.
///
/// # Errors
/// [`BackupError`] when it is none.
pub fn unpack(block: &[u8]) -> Result<Vec<Record>, BackupError> {
    chunk_file::unpack(block)?.into_iter().map(Record::new).collect()
}

/// Reads a backup from its beginning to its end, and refuses whatever is damaged. It is whole once the end was reached.
#[derive(Debug)]
pub struct BackupReader<R> {
    chunks: ChunkReader<R>,
    parts: u64,
    last: Vec<u8>,
}

impl<R: Read> BackupReader<R> {
    /// Reads what describes the file.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn new(mut from: R) -> Result<Self, BackupError> {
        let mut magic = Vec::with_capacity(MAGIC.len());
        (&mut from).take(MAGIC.len() as u64).read_to_end(&mut magic).map_err(BackupError::Io)?;
        if magic.len() < MAGIC.len() {
            return Err(if MAGIC.starts_with(&magic) { BackupError::CutOff } else { BackupError::Foreign });
        }
        let (family, version) = magic.split_at(FAMILY_BYTES);
        if family != &MAGIC[..FAMILY_BYTES] {
            return Err(BackupError::Foreign);
        }
        if version != &MAGIC[FAMILY_BYTES..] {
            return Err(BackupError::TooNew(String::from_utf8_lossy(version).escape_debug().to_string()));
        }
        Ok(Self { chunks: ChunkReader::behind_magic(from)?, parts: 0, last: Vec::new() })
    }

    /// What describes the file, as whoever wrote it made it.
    #[must_use]
    pub fn header(&self) -> &Bytes {
        self.chunks.mark()
    }

    /// The next part; `None` at the end of a whole file.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn next_part(&mut self) -> Result<Option<Part>, BackupError> {
        let Some((block, changes)) = self.chunks.next_block()? else { return Ok(None) };
        let mut records = Vec::with_capacity(changes.len());
        for change in changes {
            if change.0 <= self.last {
                return Err(BackupError::Damaged("records are out of place".to_owned()));
            }
            self.last.clone_from(&change.0);
            records.push(Record::new(change)?);
        }
        self.parts += 1;
        Ok(Some(Part { block: block.into(), records }))
    }

    /// How many parts were read.
    #[must_use]
    pub fn parts(&self) -> u64 {
        self.parts
    }

    /// A number for what was read so far, and at the end for the whole file: another file has another one.
    #[must_use]
    pub fn number(&self) -> u64 {
        let mut digest = Digest::default();
        digest.update(self.header());
        digest.update(&self.parts.to_be_bytes());
        digest.update(&self.chunks.checksum().to_be_bytes());
        digest.to_u64()
    }
}

/// A file that has no name, so that it goes when it is closed, however that comes about.
pub(crate) fn nameless(shared: &Shared) -> Result<File, Error> {
    let (path, file) = snapshot::create(shared, "backup")?;
    fs::remove_file(&path).map_err(Error::io("taking the name of a backup file"))?;
    Ok(file)
}

pub(crate) fn write(shared: &Shared, header: impl FnOnce(&[u8]) -> Vec<u8>) -> Result<File, Error> {
    let mut file = nameless(shared)?;
    {
        let gate = shared.flushing.lock();
        let (tree, mark) = flush::settle(shared, &gate)?;
        write_tree(&tree, &header(&mark), &file)?;
    }
    file.rewind().map_err(Error::io("reading a backup file"))?;
    Ok(file)
}

fn write_tree(tree: &Tree, header: &[u8], file: &File) -> Result<(), Error> {
    let io = |error| Error::Io { what: "writing a backup file".to_owned(), source: error };
    let mut writer = ChunkWriter::with_magic(BufWriter::new(file), MAGIC, header).map_err(io)?;
    for (prefix, _) in CARRIED {
        for item in tree.range(&[*prefix], &[*prefix + 1]) {
            let (key, value) = item?;
            writer.push(&key, Some(&value)).map_err(io)?;
        }
    }
    writer.finish().map_err(io).map(drop)
}

/// A backup of these records, which need not make sense together, in memory.
///
/// # Errors
/// When they are too long.
#[doc(hidden)]
pub fn of_records(header: &[u8], records: &[Record]) -> io::Result<Vec<u8>> {
    let mut writer = ChunkWriter::with_magic(Vec::new(), MAGIC, header)?;
    for record in records {
        writer.push(&record.key, Some(&record.value))?;
    }
    writer.finish()
}

/// A record as it would stand in a backup.
#[doc(hidden)]
#[must_use]
pub fn record<K: Keyspace>(key: &K::Key, value: &K::Value) -> Record {
    Record { key: full_key::<K>(key), value: crate::codec::encode_value(value).into() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::{Nodes, RemovedNodes, Restores, Sessions, ShardMaps};
    use domain::id::{AccountId, JobId};
    use std::collections::BTreeSet;

    fn records() -> Vec<Record> {
        vec![
            record::<Metas>(&(), &Default::default()),
            record::<AccountUsage>(&AccountId(7), &Default::default()),
            record::<DeletedJobs>(&JobId(1), &()),
            record::<DeletedJobs>(&JobId(2), &()),
        ]
    }

    fn read(bytes: &[u8]) -> Result<(Vec<Record>, u64), BackupError> {
        let mut reader = BackupReader::new(bytes)?;
        let mut records = Vec::new();
        while let Some(part) = reader.next_part()? {
            assert_eq!(unpack(&part.block)?, part.records);
            records.extend(part.records);
        }
        Ok((records, reader.number()))
    }

    #[test]
    fn each_keyspace_is_carried_made_anew_or_left_behind() {
        let left =
            [Sessions::PREFIX, Nodes::PREFIX, ShardMaps::PREFIX, Restores::PREFIX, RemovedNodes::PREFIX];
        let decided: Vec<u8> = CARRIED.iter().map(|(prefix, _)| *prefix).chain(DERIVED).chain(left).collect();
        let table = include_str!("schema.rs").lines().filter_map(|line| line.strip_prefix("//! | 0x"));
        let known: BTreeSet<u8> = table.map(|line| u8::from_str_radix(&line[..2], 16).unwrap()).collect();
        assert_eq!(decided.iter().copied().collect::<BTreeSet<_>>(), known);
        assert_eq!(decided.len(), known.len(), "decided once");
        assert!(CARRIED.is_sorted_by_key(|(prefix, _)| *prefix), "keys ascend");
    }

    #[test]
    fn what_was_written_is_read() {
        let file = of_records(b"header", &records()).unwrap();
        let (found, number) = read(&file).unwrap();
        assert_eq!(found, records());
        assert_eq!(BackupReader::new(&file[..]).unwrap().header(), &b"header"[..]);
        assert_eq!(found[2].read::<DeletedJobs>().unwrap(), Some((JobId(1), ())));
        assert_eq!(found[2].read::<Jobs>().unwrap(), None);
        let other = of_records(b"header", &records()[..3]).unwrap();
        assert_ne!(read(&other).unwrap().1, number);
    }

    #[test]
    fn every_flipped_byte_and_every_cut_is_refused() {
        let whole = of_records(b"header", &records()).unwrap();
        for at in 0..whole.len() {
            for bits in [1, 0x80, 0xff] {
                let mut flipped = whole.clone();
                flipped[at] ^= bits;
                assert!(read(&flipped).is_err(), "byte {at} flipped by {bits:#x}");
            }
            let cut = read(&whole[..at]).unwrap_err();
            assert!(matches!(cut, BackupError::CutOff), "cut at {at}: {cut}");
        }
        let more = [&whole[..], b"x"].concat();
        assert!(matches!(read(&more), Err(BackupError::Damaged(_))), "something behind the end");
    }

    #[test]
    fn what_is_something_else_or_newer_is_said_to_be() {
        assert!(matches!(read(b"GIF89a, and so on"), Err(BackupError::Foreign)));
        assert!(matches!(read(b"GIF"), Err(BackupError::Foreign)));
        let snapshot = ChunkWriter::new(Vec::new(), b"mark").unwrap().finish().unwrap();
        assert!(matches!(read(&snapshot), Err(BackupError::Foreign)));
        let mut newer = of_records(b"header", &records()).unwrap();
        newer[7] = b'2';
        assert!(matches!(read(&newer), Err(BackupError::TooNew(version)) if version == "02"));

        let with = |key: &[u8], value: &[u8]| {
            let record = Record { key: key.to_vec(), value: Bytes::copy_from_slice(value) };
            read(&of_records(b"header", &[record]).unwrap()).unwrap_err()
        };
        let unit = crate::codec::encode_value(&());
        assert!(matches!(with(&[0xee, 1], &unit), BackupError::Unreadable(_)), "a keyspace nobody knows");
        assert!(
            matches!(with(&[Due::PREFIX, 1], &unit), BackupError::Unreadable(_)),
            "one that is left behind"
        );
        assert!(matches!(with(&[DeletedJobs::PREFIX, 1], &unit), BackupError::Unreadable(_)), "half a key");
        let key = full_key::<DeletedJobs>(&JobId(1));
        let mut later = unit;
        later[0] = 9;
        assert!(matches!(with(&key, &later), BackupError::Unreadable(_)), "a version nobody knows");
    }

    #[test]
    fn a_file_of_the_first_release_is_read() {
        const HEX: &str = "\
            4a52424b5550303101000000e7066b91681a0000002e60891b1800000072010900000044000100b00106000000\
            013d2d6649c0000000007755d3ed0100000000000000df265a49";
        let byte = |at: usize| u8::from_str_radix(&HEX[at..at + 2], 16).unwrap();
        let file: Vec<u8> = (0..HEX.len()).step_by(2).map(byte).collect();
        let expected = [record::<DeletedJobs>(&JobId(1), &())];
        assert_eq!(read(&file).unwrap().0, expected);
    }

    #[test]
    fn records_out_of_place_are_refused() {
        let mut records = records();
        records.swap(2, 3);
        let file = of_records(b"header", &records).unwrap();
        assert!(matches!(read(&file), Err(BackupError::Damaged(_))));
    }
}
