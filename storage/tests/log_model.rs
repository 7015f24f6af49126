//! The log against a model of it.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod replay;

use bytes::Bytes;
use proptest::prelude::*;
use replay::{Random, done, open, read_all};
use std::collections::BTreeMap;
use storage::{Error, Log, LogEntry, MetaSlot};

fn entries(first: u64, count: u64, salt: u64) -> Vec<LogEntry> {
    (first..first + count).map(|index| replay::entry(index, salt ^ index)).collect()
}

/// What the log should be. Ends rather than last indexes, so that nothing is a number too.
#[derive(Clone, Debug, Default)]
struct Model {
    begin: Option<u64>,
    entries: BTreeMap<u64, LogEntry>,
    mark: Bytes,
    vote: Option<Bytes>,
}

impl Model {
    fn end(&self) -> u64 {
        self.entries.last_key_value().map_or_else(|| self.begin.unwrap_or(0), |(last, _)| last + 1)
    }

    fn check(&self, log: &Log, random: &mut Random) {
        let bounds = log.bounds();
        assert_eq!(bounds.purged, self.begin.map(|begin| (begin - 1, self.mark.clone())));
        assert_eq!(bounds.last, self.entries.last_key_value().map(|(last, _)| *last));
        assert_eq!(log.meta(MetaSlot::Vote), self.vote);
        assert!(read_all(log).iter().eq(self.entries.values()), "the entries differ");

        let begin = self.begin.unwrap_or(0);
        let from = begin + random.below(self.end() - begin + 2);
        let until = from + random.below(40);
        let limit = usize::try_from(random.below(3_000)).unwrap();
        let read = log.read(from..until, limit).unwrap();
        let there: Vec<_> = self.entries.range(from..until).map(|(_, entry)| entry.clone()).collect();
        assert_eq!(read, there[..read.len()], "{from}..{until} within {limit} bytes");
        let bytes: usize = read.iter().map(|entry| entry.bytes.len()).sum();
        assert!(bytes <= limit || read.len() == 1, "{bytes} bytes of at most {limit}");
        assert_eq!(read.is_empty(), there.is_empty(), "one entry at least");
        if begin > 0 {
            assert!(matches!(log.read(begin - 1..begin + 3, 10), Err(Error::LogHole { .. })));
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    /// At this many entries before the end, this many.
    Append(u64, u64, u64),
    /// At this many entries before the end.
    Truncate(u64),
    /// This far from the beginning, possibly beyond the end.
    Purge(u64),
    Vote(u8),
    Committed(u8),
    /// Waits for the disk.
    Settle,
    Reopen,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u64..1, 1u64..20, any::<u64>()).prop_map(|(back, count, salt)| Step::Append(back, count, salt)),
        3 => (0u64..12, 1u64..12, any::<u64>()).prop_map(|(back, count, salt)| Step::Append(back, count, salt)),
        3 => prop_oneof![0u64..8, Just(u64::MAX)].prop_map(Step::Truncate),
        2 => (0u64..25).prop_map(Step::Purge),
        1 => any::<u8>().prop_map(Step::Vote),
        1 => any::<u8>().prop_map(Step::Committed),
        2 => Just(Step::Settle),
        2 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_log_is_what_was_done_to_it(steps in proptest::collection::vec(step(), 1..60), seed in any::<u64>()) {
        let dir = tempfile::tempdir().unwrap();
        let mut random = Random(seed);
        let mut storage = open(dir.path());
        let mut model = Model::default();
        let mut waiting = Vec::new();
        for step in steps {
            let (sender, receiver) = std::sync::mpsc::channel();
            let flushed = Box::new(move |result| drop(sender.send(result)));
            let log = &storage.log;
            let begin = model.begin.unwrap_or(0);
            match step {
                Step::Append(back, count, salt) => {
                    let first = model.end().saturating_sub(back).max(begin);
                    let new = entries(first, count, salt);
                    model.entries.retain(|index, _| *index < first);
                    model.entries.extend(new.iter().map(|entry| (entry.index, entry.clone())));
                    log.append(new, flushed);
                }
                Step::Truncate(back) => {
                    let end = model.end().saturating_sub(back).max(begin);
                    model.entries.retain(|index, _| *index < end);
                    log.truncate_after(end.checked_sub(1), flushed);
                }
                Step::Purge(forth) => {
                    let index = begin + forth;
                    model.entries.retain(|kept, _| *kept > index);
                    model.begin = Some(index + 1);
                    model.mark = Bytes::from(format!("mark {index}"));
                    log.purge(index, model.mark.clone(), flushed);
                }
                Step::Vote(vote) => {
                    model.vote = Some(Bytes::copy_from_slice(&[vote]));
                    log.save_meta(MetaSlot::Vote, Bytes::copy_from_slice(&[vote]), flushed);
                }
                Step::Committed(hint) => {
                    log.save_meta(MetaSlot::Committed, Bytes::copy_from_slice(&[hint]), flushed);
                    prop_assert_eq!(log.meta(MetaSlot::Committed), Some(Bytes::copy_from_slice(&[hint])));
                }
                Step::Settle => {
                    drop(flushed);
                    for receiver in waiting.drain(..) {
                        let receiver: std::sync::mpsc::Receiver<Result<(), Error>> = receiver;
                        receiver.recv_timeout(replay::PATIENCE).unwrap().unwrap();
                    }
                    model.check(&storage.log, &mut random);
                    continue;
                }
                Step::Reopen => {
                    drop(flushed);
                    // What was queued is written before the log is closed.
                    let hint = log.meta(MetaSlot::Committed);
                    drop(storage);
                    storage = open(dir.path());
                    prop_assert_eq!(storage.log.meta(MetaSlot::Committed), hint);
                    model.check(&storage.log, &mut random);
                    continue;
                }
            }
            waiting.push(receiver);
            model.check(&storage.log, &mut random);
        }
        for receiver in waiting {
            receiver.recv_timeout(replay::PATIENCE).unwrap().unwrap();
        }
        drop(storage);
        model.check(&open(dir.path()).log, &mut random);
    }
}

#[test]
fn a_log_cut_to_nothing_is_empty_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    done(|flushed| storage.log.append(entries(0, 5, 1), flushed)).unwrap();
    done(|flushed| storage.log.truncate_after(None, flushed)).unwrap();
    assert_eq!(storage.log.bounds().last, None);
    drop(storage);

    let storage = open(dir.path());
    assert_eq!(storage.log.bounds().last, None);
    assert_eq!(read_all(&storage.log), []);
    done(|flushed| storage.log.append(entries(0, 2, 2), flushed)).unwrap();
    drop(storage);
    assert_eq!(read_all(&open(dir.path()).log), entries(0, 2, 2));
}

#[test]
fn nothing_that_was_cut_off_shows_before_a_log_that_begins_later() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    done(|flushed| storage.log.append(entries(0, 10, 1), flushed)).unwrap();
    done(|flushed| storage.log.truncate_after(None, flushed)).unwrap();
    done(|flushed| storage.log.append(entries(3, 2, 2), flushed)).unwrap();
    assert_eq!(read_all(&storage.log), entries(3, 2, 2));
    drop(storage);
    assert_eq!(read_all(&open(dir.path()).log), entries(3, 2, 2));
}

#[test]
fn the_first_entry_can_be_replaced_while_it_is_being_written() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    // Many, so that one is queued while another is being written.
    let results: Vec<_> = (0..200)
        .map(|salt| {
            let (sender, receiver) = std::sync::mpsc::channel();
            let flushed = Box::new(move |result| drop(sender.send(result)));
            if salt % 5 == 4 {
                storage.log.truncate_after(None, flushed);
            } else {
                storage.log.append(entries(0, 3, salt), flushed);
            }
            receiver
        })
        .collect();
    for result in results {
        result.recv_timeout(replay::PATIENCE).unwrap().unwrap();
    }
    done(|flushed| storage.log.append(entries(0, 1, 7), flushed)).unwrap();
    drop(storage);
    assert_eq!(read_all(&open(dir.path()).log), entries(0, 1, 7));
}

#[test]
fn a_purge_beyond_the_end_is_followed_by_the_next_index() {
    let dir = tempfile::tempdir().unwrap();
    let mut storage = open(dir.path());
    done(|flushed| storage.log.append(entries(0, 10, 1), flushed)).unwrap();
    done(|flushed| storage.log.truncate_after(Some(5), flushed)).unwrap();
    done(|flushed| storage.log.purge(7, Bytes::from_static(b"seven"), flushed)).unwrap();
    for _ in 0..2 {
        let bounds = storage.log.bounds();
        assert_eq!((bounds.purged, bounds.last), (Some((7, Bytes::from_static(b"seven"))), None));
        assert_eq!(read_all(&storage.log), []);
        drop(storage);
        storage = open(dir.path());
    }
    done(|flushed| storage.log.append(entries(8, 3, 2), flushed)).unwrap();
    drop(storage);
    assert_eq!(read_all(&open(dir.path()).log), entries(8, 3, 2));
}

#[test]
fn entries_that_do_not_fit_are_refused_and_change_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let log = &storage.log;
    done(|flushed| log.append(entries(0, 10, 1), flushed)).unwrap();
    done(|flushed| log.purge(3, Bytes::new(), flushed)).unwrap();
    let refused = |new: Vec<LogEntry>| {
        let result = done(|flushed| log.append(new, flushed));
        assert!(matches!(result, Err(Error::LogHole { .. })), "{result:?}");
    };
    refused(entries(11, 1, 2));
    refused(entries(3, 1, 2));
    refused([entries(10, 1, 2), entries(12, 1, 2)].concat());
    // An older purge is over.
    done(|flushed| log.purge(1, Bytes::from_static(b"older"), flushed)).unwrap();
    assert_eq!(log.bounds().purged, Some((3, Bytes::new())));

    done(|flushed| log.append(entries(10, 1, 1), flushed)).unwrap();
    drop(storage);
    assert_eq!(read_all(&open(dir.path()).log), entries(4, 7, 1));
}

#[test]
fn purged_entries_are_a_hole() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    done(|flushed| storage.log.append(entries(0, 10, 1), flushed)).unwrap();
    done(|flushed| storage.log.purge(4, Bytes::new(), flushed)).unwrap();
    for from in [0, 4] {
        let read = storage.log.read(from..7, usize::MAX);
        assert!(matches!(read, Err(Error::LogHole { until: 7, .. })), "{read:?}");
    }
    assert_eq!(storage.log.read(5..7, usize::MAX).unwrap(), entries(5, 2, 1));
    assert_eq!(storage.log.read(2..2, usize::MAX).unwrap(), []);
}

#[test]
fn what_is_done_together_is_done_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let log = &storage.log;
    // The first operation keeps the log's thread busy, so that the others form one batch.
    for round in 0..20 {
        let first = round * 100;
        log.append(entries(first, 50, 1), Box::new(|result| result.unwrap()));
        log.truncate_after(Some(first + 20), Box::new(|result| result.unwrap()));
        log.append(entries(first + 21, 9, 2), Box::new(|result| result.unwrap()));
        log.purge(first + 10, Bytes::new(), Box::new(|result| result.unwrap()));
        log.truncate_after(Some(first + 25), Box::new(|result| result.unwrap()));
        log.purge(first + 25, Bytes::new(), Box::new(|result| result.unwrap()));
        log.purge(first + 99, Bytes::from_static(b"all"), Box::new(|result| result.unwrap()));
        done(|flushed| log.append(entries(first + 100, 1, 3), flushed)).unwrap();
        assert_eq!(read_all(log), entries(first + 100, 1, 3));
    }
    drop(storage);
    assert_eq!(read_all(&open(dir.path()).log), entries(2_000, 1, 3));
}

#[test]
fn a_cut_does_not_come_back_when_the_engine_has_moved_its_files() {
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(1);
    let mut large = |first: u64, count: u64| -> Vec<LogEntry> {
        (first..first + count)
            .map(|index| LogEntry { index, bytes: Bytes::from(random.bytes(1 << 20)) })
            .collect()
    };
    let storage = open(dir.path());
    let log = &storage.log;
    done(|flushed| log.save_meta(MetaSlot::Vote, Bytes::from_static(b"vote"), flushed)).unwrap();
    done(|flushed| log.append(entries(0, 10, 1), flushed)).unwrap();
    done(|flushed| log.truncate_after(Some(4), flushed)).unwrap();
    // Twice more than the engine holds before it makes room: once with the cut, once without.
    let mut next = 5;
    for _ in 0..2 {
        for _ in 0..6 {
            let new = large(next, 14);
            next += 14;
            done(|flushed| log.append(new, flushed)).unwrap();
            done(|flushed| log.purge(next - 2, Bytes::new(), flushed)).unwrap();
        }
    }
    drop(storage);
    let storage = open(dir.path());
    assert_eq!(storage.log.bounds().last, Some(next - 1));
    assert_eq!(storage.log.bounds().purged, Some((next - 2, Bytes::new())));
    assert_eq!(storage.log.meta(MetaSlot::Vote), Some(Bytes::from_static(b"vote")));
    assert_eq!(read_all(&storage.log).len(), 1);
}
