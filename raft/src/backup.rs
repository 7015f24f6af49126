//! What a backup file says of itself, and whether it is good.

use crate::codec::{self, DecodeError, Mark};
use crate::level::SUPPORTED;
use crate::settings::PROPOSAL_BYTES_MAX;
use domain::node::FeatureLevel;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::io::Read;
use storage::backup::{BackupReader, Record};
use storage::schema::{Accounts, Executions, Jobs, Metas, SecretsOf};
use storage::{BackupError, Digest, State};

/// What is left of an entry for whatever stands around a part.
const AROUND_A_PART: usize = 1_024;

/// What a backup file says in front.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    /// Term, node and index of the last entry it holds.
    #[serde(default)]
    applied: Option<(u64, u64, u64)>,
    /// The chain up to there.
    #[serde(default)]
    digest: Option<u64>,
    /// The release that wrote it.
    release: String,
}

/// What is in a backup. Known only once all of it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Another file has another number.
    pub number: u64,
    /// Its parts; each becomes one entry of the log.
    pub parts: u64,
    /// The term of the last entry it holds; 0 before the first.
    pub term: u64,
    /// The index of that entry.
    pub applied: u64,
    /// What the replicas' digest was there.
    pub digest: Option<Digest>,
    /// The release that wrote it.
    pub release: String,
    /// What time it was by the state's clock.
    pub at: Timestamp,
    /// How many accounts.
    pub accounts: u64,
    /// How many jobs.
    pub jobs: u64,
    /// How many executions in the histories of all jobs.
    pub executions: u64,
    /// What the cluster it was taken of could do.
    pub(crate) level: FeatureLevel,
    /// Whether a backup was being restored there.
    is_unfinished: bool,
    /// Whether it holds what session tokens are signed with.
    has_session_key: bool,
}

/// Why a file cannot be restored.
#[derive(Debug, thiserror::Error)]
pub enum UnusableBackup {
    /// It is not good, or not whole.
    #[error(transparent)]
    File(#[from] BackupError),
    /// What it says of itself cannot be read.
    #[error("what it says of itself cannot be read")]
    Header(#[from] DecodeError),
    /// A part is too large for an entry of the log.
    #[error("one of its parts has {0} bytes, more than an entry of the log may have")]
    PartTooLarge(usize),
    /// It holds what this build cannot read.
    #[error("it is of feature level {level}, and this build supports {SUPPORTED} at most")]
    TooNew {
        /// Its level.
        level: FeatureLevel,
    },
    /// It holds a part of another backup.
    #[error("it was taken while another backup was being restored, and holds only a part of that")]
    Unfinished,
    /// There is nothing in it to go on with.
    #[error("it was taken before the cluster had an account")]
    Empty,
}

/// Writes a backup of `state`.
pub(crate) fn write(state: &State) -> Result<std::fs::File, storage::Error> {
    state.backup(|mark| {
        // A mark that this build did not write stops the node at its start, so this one can be read.
        let mark =
            if mark.is_empty() { Mark::default() } else { codec::decode_mark(mark).unwrap_or_default() };
        codec::encode_named(&Header {
            applied: mark.applied.map(|id| (id.leader_id.term, id.leader_id.node_id, id.index)),
            digest: mark.digest.map(Digest::to_u64),
            release: env!("CARGO_PKG_VERSION").to_owned(),
        })
    })
}

/// Reads a backup to its end and says what is in it, if it is whole and could be restored.
///
/// # Errors
/// [`UnusableBackup`].
pub fn inspect(from: impl Read) -> Result<Summary, UnusableBackup> {
    inspect_with(from, |_| Ok(()))
}

/// As [`inspect`], and shows each record on the way. What was shown counts only if the file turns out to be good.
///
/// # Errors
/// [`UnusableBackup`], and what `look` says.
pub fn inspect_with(
    from: impl Read,
    mut look: impl FnMut(&Record) -> Result<(), storage::Error>,
) -> Result<Summary, UnusableBackup> {
    let mut reader = BackupReader::new(from)?;
    let header: Header = codec::decode_named("the head of a backup", reader.header())?;
    let (term, _, applied) = header.applied.unwrap_or_default();
    let mut summary = Summary {
        number: 0,
        parts: 0,
        term,
        applied,
        digest: header.digest.map(Digest::from_u64),
        release: header.release,
        at: Timestamp::EPOCH,
        accounts: 0,
        jobs: 0,
        executions: 0,
        level: FeatureLevel::FIRST,
        is_unfinished: false,
        has_session_key: false,
    };
    let unreadable = |error: storage::Error| BackupError::Unreadable(error.to_string());
    while let Some(part) = reader.next_part()? {
        if part.block.len() + AROUND_A_PART > PROPOSAL_BYTES_MAX {
            return Err(UnusableBackup::PartTooLarge(part.block.len()));
        }
        for record in &part.records {
            summary.count(record).and_then(|()| look(record)).map_err(unreadable)?;
        }
    }
    summary.parts = reader.parts();
    summary.number = reader.number();
    if summary.level > SUPPORTED {
        return Err(UnusableBackup::TooNew { level: summary.level });
    }
    if summary.is_unfinished {
        return Err(UnusableBackup::Unfinished);
    }
    if summary.accounts == 0 || !summary.has_session_key {
        return Err(UnusableBackup::Empty);
    }
    Ok(summary)
}

impl Summary {
    fn count(&mut self, record: &Record) -> Result<(), storage::Error> {
        if record.is::<Executions>() {
            self.executions += 1;
        } else if record.is::<Jobs>() {
            self.jobs += 1;
        } else if record.is::<Accounts>() {
            self.accounts += 1;
        } else if record.is::<SecretsOf>() {
            self.has_session_key = true;
        } else if let Some(((), meta)) = record.read::<Metas>()? {
            (self.at, self.level, self.is_unfinished) = (meta.now, meta.level, meta.restoring);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::account::{Account, Plan};
    use domain::id::AccountId;
    use storage::backup::{of_records, record};
    use storage::schema::{Meta, Secrets};

    fn header() -> Header {
        Header { applied: Some((7, 2, 900)), digest: Some(11), release: "0.1.0".to_owned() }
    }

    fn records() -> Vec<Record> {
        let at = Timestamp::from_secs(1_780_272_000);
        let account =
            Account { id: AccountId(1), plan: Plan::Scale, email: None, billing: None, created_at: at };
        vec![
            record::<Metas>(&(), &Meta { now: at, ..Meta::default() }),
            record::<SecretsOf>(&(), &Secrets { session_key: vec![7; 32] }),
            record::<Accounts>(&AccountId(1), &account),
        ]
    }

    fn file(header: &[u8], records: &[Record]) -> Vec<u8> {
        of_records(header, records).unwrap()
    }

    #[test]
    fn a_summary_says_what_is_in_it() {
        let summary = inspect(&file(&codec::encode_named(&header()), &records())[..]).unwrap();
        assert_eq!((summary.term, summary.applied, summary.digest), (7, 900, Some(Digest::from_u64(11))));
        assert_eq!((summary.parts, summary.accounts, summary.jobs), (1, 1, 0));
        assert_eq!(summary.at, Timestamp::from_secs(1_780_272_000));
    }

    #[test]
    fn the_head_is_written_as_it_always_was() {
        let expected = "01\
            83a76170706c69656493 0702cd0384 a6646967657374 0b a772656c65617365 a5302e312e30"
            .replace(' ', "");
        let written: String =
            codec::encode_named(&header()).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(written, expected);
    }

    #[test]
    fn a_head_of_a_newer_release_and_a_cluster_without_an_account_are_refused() {
        let mut newer = codec::encode_named(&header());
        newer[0] = 2;
        let refused = inspect(&file(&newer, &records())[..]).unwrap_err();
        assert!(matches!(refused, UnusableBackup::Header(DecodeError::TooNew { .. })), "{refused}");
        for records in [&records()[..1], &records()[..2]] {
            let refused = inspect(&file(&codec::encode_named(&header()), records)[..]).unwrap_err();
            assert!(matches!(refused, UnusableBackup::Empty), "{refused}");
        }
    }

    #[test]
    fn what_was_taken_in_the_middle_of_a_restoration_is_refused() {
        let mut records = records();
        records[0] = record::<Metas>(&(), &Meta { restoring: true, ..Meta::default() });
        let refused = inspect(&file(&codec::encode_named(&header()), &records)[..]).unwrap_err();
        assert!(matches!(refused, UnusableBackup::Unfinished), "{refused}");
    }
}
