//! What is on disk is damaged. The store then says so or makes the state again; it never serves something else. What is
//! detected, and what is not, is listed on top of the crate.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod replay;

use bytes::Bytes;
use domain::id::{AccountId, NodeId};
use replay::{
    Model, PATIENCE, Random, commit, copy_dir, done, end_of, entry, mark, open, quiet, read_all, salt,
};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;
use storage::schema::{AccountUsage, Usage};
use storage::{Error, MetaSlot, Read, Storage};

const ENTRIES: u64 = 3_000;
const PURGE_END: u64 = 1_200;

fn salts(end: u64) -> impl Iterator<Item = u64> {
    (0..end).map(|index| Random(index).next())
}

/// A directory with a purged log, a snapshot, and a state that was flushed several times since. Copied while the store
/// is open, it is as a kill would leave it.
fn fixture(dir: &Path) -> Storage {
    let storage = open(dir);
    let all: Vec<u64> = salts(ENTRIES).collect();
    for (first, together) in (0u64..).step_by(100).zip(all.chunks(100)) {
        let entries = (first..).zip(together).map(|(index, salt)| entry(index, *salt)).collect();
        done(|flushed| storage.log.append(entries, flushed)).unwrap();
        commit(&storage.state, first, together);
        match first {
            1_500 => drop(storage.state.snapshot().unwrap()),
            2_500.. => {}
            _ if first % 300 == 0 => storage.state.flush().unwrap(),
            _ => {}
        }
    }
    storage.state.flush().unwrap();
    done(|flushed| storage.log.save_meta(MetaSlot::Vote, Bytes::from_static(b"vote"), flushed)).unwrap();
    done(|flushed| storage.log.purge(PURGE_END - 1, mark(PURGE_END - 1), flushed)).unwrap();
    storage
}

/// Runs `work`, which must come to an end without a panic.
fn in_time<T: Send + 'static>(what: &str, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    let thread = std::thread::spawn(move || drop(sender.send(work())));
    match receiver.recv_timeout(PATIENCE) {
        Ok(result) => result,
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("{what}: it hangs"),
        Err(mpsc::RecvTimeoutError::Disconnected) => {
            panic!("{what}: {:?}", thread.join().map_err(|panic| panic.downcast::<String>()))
        }
    }
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Found {
    /// The state was right, of this end.
    Right(u64),
    /// The damage was met when the state was read, and the next start made it right.
    OnRead,
    Refused,
}

/// Opens a directory whose state is damaged, and checks that nothing wrong comes out.
fn open_damaged(dir: &Path) -> Found {
    let mut on_read = false;
    for _ in 0..3 {
        let storage = match Storage::open(dir, quiet()) {
            Ok(storage) => storage,
            Err(Error::Damaged { .. }) => return Found::Refused,
            Err(other) => panic!("{other:?}"),
        };
        let (applied, state) = match Model::read(&storage.state) {
            Ok(read) => read,
            Err(Error::Corrupt { .. } | Error::StateEngine(_)) => {
                on_read = true;
                continue;
            }
            Err(other) => panic!("{other:?}"),
        };
        let end = applied.map_or(0, |applied| applied + 1);
        assert!(state == Model::replay(salts(end)), "a wrong state at {end} is served");
        assert!(end >= PURGE_END, "the state ends at {end}, the log begins at {PURGE_END}");
        // The log leads on from there.
        let rest: Vec<u64> = storage.log.read(end..u64::MAX, usize::MAX).unwrap().iter().map(salt).collect();
        assert_eq!(end + rest.len() as u64, ENTRIES);
        if !rest.is_empty() {
            commit(&storage.state, end, &rest);
            storage.state.flush().unwrap();
        }
        assert!(Model::read(&storage.state).unwrap().1 == Model::replay(salts(ENTRIES)));
        return if on_read { Found::OnRead } else { Found::Right(end) };
    }
    panic!("damage is met at each start");
}

fn state_dir(dir: &Path) -> PathBuf {
    dir.join(fs::read_to_string(dir.join("CURRENT")).unwrap())
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file() && path.metadata().unwrap().len() > 0)
        .collect();
    files.sort();
    files
}

/// One way to damage bytes.
#[derive(Clone, Copy, Debug)]
enum Damage {
    Cut(usize),
    Flip(usize),
    Zero(usize, usize),
}

impl Damage {
    fn apply(self, path: &Path) {
        let mut bytes = fs::read(path).unwrap();
        match self {
            Self::Cut(at) => bytes.truncate(at),
            Self::Flip(at) => bytes[at] ^= 1 << (at % 8),
            Self::Zero(from, until) => {
                let until = until.min(bytes.len());
                bytes[from..until].fill(0);
            }
        }
        fs::write(path, bytes).unwrap();
    }
}

#[test]
fn a_damaged_state_is_made_again_or_refused_but_not_served() {
    let whole = tempfile::tempdir().unwrap();
    let _open = fixture(whole.path());
    let mut random = Random(std::env::var("STORAGE_DAMAGE_SEED").map_or(11, |seed| seed.parse().unwrap()));
    let mut counts = std::collections::BTreeMap::new();
    let copy = tempfile::tempdir().unwrap();
    copy_dir(whole.path(), &copy.path().join("data"));
    assert_eq!(open_damaged(&copy.path().join("data")), Found::Right(ENTRIES), "without damage");
    for file in files(&state_dir(whole.path())) {
        let size = usize::try_from(file.metadata().unwrap().len()).unwrap();
        let mut at = || usize::try_from(random.below(size as u64)).unwrap();
        let mut damages = vec![Damage::Cut(0), Damage::Flip(0), Damage::Zero(0, size)];
        let tries = if size > 10_000 { 14 } else { 5 };
        for _ in 0..tries {
            let from = at();
            damages.extend([Damage::Flip(at()), Damage::Cut(at()), Damage::Zero(from, from + 4_096)]);
        }
        for damage in damages {
            let damaged = tempfile::tempdir().unwrap();
            let dir = damaged.path().join("data");
            copy_dir(whole.path(), &dir);
            damage.apply(&dir.join(file.strip_prefix(whole.path()).unwrap()));
            let what = format!("{} {damage:?}", file.file_name().unwrap().to_string_lossy());
            let found = in_time(&what, move || open_damaged(&dir));
            // There is a whole snapshot, and the log reaches back to it.
            assert_ne!(found, Found::Refused, "{what}");
            *counts.entry(found).or_insert(0) += 1;
        }
    }
    assert!(counts.len() > 1, "no damage was met: {counts:?}");
}

/// The file of the log that was written last.
fn newest_log_file(dir: &Path) -> PathBuf {
    let mut found = files(&dir.join("log"));
    found.retain(|path| path.extension().is_some_and(|extension| extension == "raftlog"));
    found.pop().unwrap()
}

/// A log of so many batches, each with one vote and some entries, and the size of its file after each.
fn log_of_batches(dir: &Path, batches: u64) -> (Storage, Vec<usize>) {
    let storage = open(dir);
    let mut sizes = vec![written(&newest_log_file(dir))];
    for batch in 0..batches {
        // One operation is one batch, as each waits for the disk.
        let entries =
            (batch * 3..batch * 3 + 3).map(|index| entry(index, Random(index).next() | 1)).collect();
        done(|flushed| storage.log.append(entries, flushed)).unwrap();
        sizes.push(written(&newest_log_file(dir)));
    }
    (storage, sizes)
}

/// Bytes of a file without the space it was given ahead. May be a little short: a checksum can end in zeros.
fn written(path: &Path) -> usize {
    fs::read(path).unwrap().iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

#[test]
fn a_last_write_of_the_log_that_was_cut_off_costs_only_itself() {
    let whole = tempfile::tempdir().unwrap();
    let (_open, sizes) = log_of_batches(whole.path(), 12);
    let name = newest_log_file(whole.path()).file_name().unwrap().to_owned();
    let last = *sizes.last().unwrap();
    let mut random = Random(3);
    let cuts =
        (0..60).map(|_| usize::try_from(random.below(last as u64)).unwrap()).chain([0, 1, 69, last - 1]);
    for cut in cuts {
        let damaged = tempfile::tempdir().unwrap();
        let dir = damaged.path().join("data");
        copy_dir(whole.path(), &dir);
        // Sizes may be short by zeros that end a checksum; a cut there may or may not reach the batch.
        let before = sizes.iter().rposition(|size| size + 4 <= cut).unwrap_or(0) as u64;
        let until = sizes.iter().rposition(|size| *size <= cut).unwrap_or(0) as u64;
        Damage::Cut(cut).apply(&dir.join("log").join(&name));
        in_time(&format!("cut at {cut}"), move || {
            let storage = open(&dir);
            let kept = read_all(&storage.log);
            let count = kept.len() as u64;
            assert!(
                before * 3 <= count && count <= until * 3 && count.is_multiple_of(3),
                "{count} entries, cut at {cut}"
            );
            for (index, kept) in (0..).zip(kept) {
                assert_eq!(kept, entry(index, Random(index).next() | 1));
            }
            // It goes on from there.
            done(|flushed| storage.log.append(vec![entry(count, 5)], flushed)).unwrap();
            drop(storage);
            assert_eq!(read_all(&open(&dir).log).len() as u64, count + 1);
        });
    }
}

#[test]
fn a_log_is_not_silently_shorter_because_of_damage_before_its_end() {
    let whole = tempfile::tempdir().unwrap();
    let (_open, sizes) = log_of_batches(whole.path(), 12);
    let name = newest_log_file(whole.path()).file_name().unwrap().to_owned();
    let (last_begin, last_end) = (sizes[11], sizes[12]);
    let mut random = Random(4);
    let mut damages: Vec<_> = (0..last_end)
        .step_by(last_end / 60)
        .chain((0..70).step_by(3))
        .chain([61, 68])
        .map(Damage::Flip)
        .collect();
    for _ in 0..30 {
        let from = usize::try_from(random.below(last_end as u64)).unwrap();
        damages.push(Damage::Zero(from, from + 200));
    }
    for damage in damages {
        let damaged = tempfile::tempdir().unwrap();
        let dir = damaged.path().join("data");
        copy_dir(whole.path(), &dir);
        let path = dir.join("log").join(&name);
        damage.apply(&path);
        let is_harmless = fs::read(&path).unwrap() == fs::read(whole.path().join("log").join(&name)).unwrap();
        let from = match damage {
            Damage::Flip(at) | Damage::Cut(at) | Damage::Zero(at, _) => at,
        };
        in_time(&format!("{damage:?}"), move || match Storage::open(&dir, quiet()) {
            Ok(storage) => {
                let count = read_all(&storage.log).len();
                if is_harmless {
                    assert_eq!(count, 36);
                } else {
                    assert!(from + 4 >= last_begin, "{damage:?} before {last_begin} goes unnoticed");
                    assert!(count == 33 || count == 36, "{count} entries");
                }
            }
            Err(Error::Damaged { path, .. }) => assert!(path.starts_with(dir.join("log"))),
            Err(other) => panic!("{other:?}"),
        });
    }
}

#[test]
fn a_log_without_one_of_its_files_is_refused() {
    let whole = tempfile::tempdir().unwrap();
    let storage = open(whole.path());
    let mut random = Random(9);
    for index in 0..40 {
        let large = storage::LogEntry { index, bytes: Bytes::from(random.bytes(1 << 20)) };
        done(|flushed| storage.log.append(vec![large], flushed)).unwrap();
    }
    let mut log_files = files(&whole.path().join("log"));
    log_files.retain(|path| path.extension().is_some_and(|extension| extension == "raftlog"));
    assert!(log_files.len() >= 3);
    // Without the last it is a shorter log, which nothing on this disk can tell.
    for missing in &log_files[..log_files.len() - 1] {
        let damaged = tempfile::tempdir().unwrap();
        let dir = damaged.path().join("data");
        copy_dir(whole.path(), &dir);
        fs::remove_file(dir.join("log").join(missing.file_name().unwrap())).unwrap();
        let opened = in_time("a missing file", move || {
            Storage::open(&dir, quiet()).map(|storage| storage.log.bounds())
        });
        if let Ok(bounds) = &opened {
            panic!("without {} there is a log of {bounds:?}", missing.display());
        }
    }
}

/// Writes into the tree behind the store's back.
fn with_tree(dir: &Path, work: impl FnOnce(&sled::Db)) {
    let db = sled::Config::new().path(state_dir(dir)).flush_every_ms(None).open().unwrap();
    work(&db);
    db.flush().unwrap();
}

/// A record of the tree itself.
fn record(content: &[u8]) -> Vec<u8> {
    [&crc32fast::hash(content).to_le_bytes()[..], content].concat()
}

const UNDER_WAY: &[u8] = &[0, 2];

/// Puts only, so that the snapshot of a later state can stand for the changes that lead there.
fn put_usage(storage: &Storage, index: u64) {
    let mut txn = storage.state.begin();
    for account in 0..20 {
        txn.put::<AccountUsage>(&AccountId(index * 10 + account), &Usage { jobs: index, ..Usage::default() })
            .unwrap();
    }
    txn.commit(mark(index)).unwrap();
}

/// A directory whose state is flushed at mark 1 and has a redo file that leads to mark 2, and the digests of both.
fn with_redo(dir: &Path) -> [u64; 2] {
    let storage = open(dir);
    put_usage(&storage, 1);
    storage.state.flush().unwrap();
    let one = storage.state.digest().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let other = open(elsewhere.path());
    put_usage(&other, 1);
    put_usage(&other, 2);
    let file = other.state.snapshot().unwrap();
    drop(storage);
    fs::copy(file.path, state_dir(dir).join("redo")).unwrap();
    [one, other.state.digest().unwrap()]
}

#[test]
fn half_a_redo_file_beside_an_untouched_tree_is_dropped() {
    let whole = tempfile::tempdir().unwrap();
    let [one, two] = with_redo(whole.path());
    let redo = state_dir(whole.path()).join("redo");
    let size = usize::try_from(fs::metadata(&redo).unwrap().len()).unwrap();
    let damages = (0..size).step_by(7).flat_map(|at| [Damage::Cut(at), Damage::Flip(at)]);
    for damage in damages.map(Some).chain([None]) {
        let damaged = tempfile::tempdir().unwrap();
        let dir = damaged.path().join("data");
        copy_dir(whole.path(), &dir);
        if let Some(damage) = damage {
            damage.apply(&state_dir(&dir).join("redo"));
        }
        let storage = open(&dir);
        let (at, digest) = if damage.is_some() { (1, one) } else { (2, two) };
        assert_eq!(storage.state.applied(), Some(mark(at)), "{damage:?}");
        assert_eq!(storage.state.digest().unwrap(), digest, "{damage:?}");
        assert!(!state_dir(&dir).join("redo").exists());
    }
}

#[test]
fn a_damaged_redo_file_beside_a_touched_tree_is_not_taken_for_half_a_one() {
    let whole = tempfile::tempdir().unwrap();
    let [_, two] = with_redo(whole.path());
    // As a kill in the middle of the changes leaves it.
    with_tree(whole.path(), |db| {
        db.insert(UNDER_WAY, record(&mark(2))).unwrap();
        let key = [&[0x34][..], &25u64.to_be_bytes()].concat();
        db.insert(key, storage::codec::encode_value(&Usage { jobs: 2, ..Usage::default() })).unwrap();
    });
    let redo = state_dir(whole.path()).join("redo");
    let size = usize::try_from(fs::metadata(&redo).unwrap().len()).unwrap();
    let damages = (0..size).step_by(23).flat_map(|at| [Damage::Cut(at), Damage::Flip(at)]);
    for damage in damages.map(Some).chain([None]) {
        let damaged = tempfile::tempdir().unwrap();
        let dir = damaged.path().join("data");
        copy_dir(whole.path(), &dir);
        if let Some(damage) = damage {
            damage.apply(&state_dir(&dir).join("redo"));
        }
        let storage = open(&dir);
        // Nothing was purged, so the log leads on from nothing.
        let at = if damage.is_some() { None } else { Some(mark(2)) };
        assert_eq!(storage.state.applied(), at, "{damage:?}");
        if damage.is_none() {
            assert_eq!(storage.state.digest().unwrap(), two);
        } else {
            assert!(storage.state.view().keys::<AccountUsage>(&[], None, 10).unwrap().is_empty());
        }
    }
    fs::remove_file(redo).unwrap();
    assert_eq!(open(whole.path()).state.applied(), None, "without its redo file");
}

#[test]
fn the_redo_file_of_a_damaged_state_does_not_reach_the_one_made_instead() {
    let dir = tempfile::tempdir().unwrap();
    with_redo(dir.path());
    for file in files(&state_dir(dir.path())) {
        if !file.ends_with("redo") {
            Damage::Flip(0).apply(&file);
            Damage::Cut(50).apply(&file);
        }
    }
    let made = open(dir.path()).state.applied();
    let again = open(dir.path()).state.applied();
    assert_eq!(made, again);
}

#[test]
fn a_missing_state_is_made_again() {
    for missing in ["state", "CURRENT", "CURRENT says something else"] {
        let dir = tempfile::tempdir().unwrap();
        drop(fixture(dir.path()));
        match missing {
            "state" => fs::remove_dir_all(state_dir(dir.path())).unwrap(),
            "CURRENT" => fs::remove_file(dir.path().join("CURRENT")).unwrap(),
            _ => fs::write(dir.path().join("CURRENT"), "../elsewhere").unwrap(),
        }
        // The snapshot was taken after 1,600 entries.
        assert_eq!(open_damaged(dir.path()), Found::Right(1_600), "{missing}");
    }
}

#[test]
fn a_state_that_cannot_be_made_again_is_refused_each_time() {
    for damage in ["no snapshot", "a damaged snapshot"] {
        let dir = tempfile::tempdir().unwrap();
        let storage = fixture(dir.path());
        // An older one does not help: the log does not reach back to it.
        let old = storage.state.latest_snapshot().unwrap().unwrap().path;
        let new = storage.state.snapshot().unwrap().path;
        done(|flushed| storage.log.purge(ENTRIES - 10, mark(ENTRIES - 10), flushed)).unwrap();
        drop(storage);
        match damage {
            "no snapshot" => {
                fs::remove_file(old).unwrap();
                fs::remove_file(new).unwrap();
            }
            _ => Damage::Flip(1_000).apply(&new),
        }
        fs::remove_dir_all(state_dir(dir.path())).unwrap();
        for _ in 0..2 {
            let error = Storage::open(dir.path(), quiet()).unwrap_err();
            assert!(matches!(error, Error::Damaged { .. }), "{error:?}");
            let text = error.to_string();
            assert!(text.contains("move its data directory aside") && !text.contains('\n'), "{text}");
        }
    }
}

#[test]
fn a_state_that_went_back_to_before_the_log_is_not_used() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let all: Vec<u64> = salts(300).collect();
    let entries = (0..).zip(&all).map(|(index, salt)| entry(index, *salt)).collect();
    done(|flushed| storage.log.append(entries, flushed)).unwrap();
    commit(&storage.state, 0, &all[..100]);
    storage.state.flush().unwrap();
    let kept = tempfile::tempdir().unwrap();
    let older = kept.path().join("older");
    copy_dir(&state_dir(dir.path()), &older);
    commit(&storage.state, 100, &all[100..200]);
    storage.state.snapshot().unwrap();
    done(|flushed| storage.log.purge(150, mark(150), flushed)).unwrap();
    drop(storage);

    let live = state_dir(dir.path());
    fs::remove_dir_all(&live).unwrap();
    copy_dir(&older, &live);
    let storage = open(dir.path());
    assert_eq!(end_of(storage.state.applied().as_ref()), 200);
    assert!(Model::read(&storage.state).unwrap().1 == Model::replay(salts(200)));
}

#[test]
fn a_damaged_value_is_met_once_and_made_again_by_the_next_start() {
    let dir = tempfile::tempdir().unwrap();
    drop(fixture(dir.path()));
    with_tree(dir.path(), |db| {
        let key = [&[0x34][..], &0u64.to_be_bytes()].concat();
        let mut value = db.get(&key).unwrap().unwrap().to_vec();
        *value.last_mut().unwrap() ^= 1;
        db.insert(key, value).unwrap();
    });
    let storage = open(dir.path());
    let read = storage.state.view().get::<AccountUsage>(&AccountId(0));
    assert!(matches!(read, Err(Error::Corrupt { keyspace: "account_usage", .. })), "{read:?}");
    drop(storage);
    assert_eq!(open_damaged(dir.path()), Found::Right(1_600));
}

#[test]
fn a_value_of_a_newer_version_is_refused_and_is_no_damage() {
    let dir = tempfile::tempdir().unwrap();
    drop(fixture(dir.path()));
    with_tree(dir.path(), |db| {
        let key = [&[0x34][..], &0u64.to_be_bytes()].concat();
        let mut value = db.get(&key).unwrap().unwrap().to_vec();
        value[0] = 9;
        db.insert(key, value).unwrap();
    });
    for _ in 0..2 {
        let storage = open(dir.path());
        let read = storage.state.view().get::<AccountUsage>(&AccountId(0));
        assert!(matches!(read, Err(Error::TooNew { keyspace: "account_usage", found: 9 })), "{read:?}");
    }
}

#[test]
fn a_damaged_snapshot_is_refused_and_the_state_stays() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (storage, other) = (open(here.path()), open(there.path()));
    commit(&storage.state, 0, &salts(100).collect::<Vec<_>>());
    commit(&other.state, 0, &salts(500).collect::<Vec<_>>());
    let file = other.state.snapshot().unwrap();
    let (digest, whole) = (storage.state.digest().unwrap(), fs::read(&file.path).unwrap());
    let names = || fs::read_dir(here.path().join("snapshots")).unwrap().count();
    for damage in
        (0..whole.len()).step_by(whole.len() / 15).flat_map(|at| [Damage::Cut(at), Damage::Flip(at)])
    {
        fs::write(&file.path, &whole).unwrap();
        damage.apply(&file.path);
        let installed = storage.state.install(&file);
        assert!(matches!(installed, Err(Error::Snapshot { .. })), "{damage:?}: {installed:?}");
        let mut writer = storage.state.incoming_snapshot().unwrap();
        writer.write(&fs::read(&file.path).unwrap()).unwrap();
        assert!(matches!(writer.finish(), Err(Error::Snapshot { .. })), "{damage:?}");
        assert_eq!(storage.state.applied(), Some(mark(99)));
        assert_eq!(storage.state.digest().unwrap(), digest);
        assert_eq!(names(), 0, "nothing stays behind");
    }
    // It was refused, and that is all.
    commit(&storage.state, 100, &[1]);
    storage.state.flush().unwrap();
    fs::write(&file.path, &whole).unwrap();
    assert_eq!(storage.state.install(&file).unwrap(), mark(499));
}

#[test]
fn what_was_cut_off_is_cleared_away() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    commit(&storage.state, 0, &[1, 2, 3]);
    storage.state.flush().unwrap();
    drop(storage);
    for name in ["00000000000000000007.incoming", "00000000000000000008.writing"] {
        fs::write(dir.path().join("snapshots").join(name), b"half").unwrap();
    }
    fs::write(dir.path().join("CURRENT.new"), b"state-").unwrap();
    copy_dir(&state_dir(dir.path()), &dir.path().join("state-9"));
    let storage = open(dir.path());
    assert_eq!(storage.state.applied(), Some(mark(2)));
    assert_eq!(storage.state.latest_snapshot().unwrap(), None);
    assert_eq!(fs::read_dir(dir.path().join("snapshots")).unwrap().count(), 0);
    assert!(!dir.path().join("state-9").exists());
}

#[test]
fn a_directory_belongs_to_one_store_until_its_last_part_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let Storage { log, state } = open(dir.path());
    let locked = || {
        let error = Storage::open(dir.path(), quiet()).unwrap_err();
        assert!(matches!(error, Error::Locked { .. }), "{error:?}");
        assert!(error.to_string().ends_with("is in use by another process"));
    };
    locked();
    drop(log);
    locked();
    let again = state.clone();
    drop(state);
    locked();
    drop(again);
    drop(open(dir.path()));
}

#[test]
fn a_directory_of_a_newer_release_is_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    drop(open(dir.path()));
    fs::write(dir.path().join("FORMAT"), "2").unwrap();
    let error = Storage::open(dir.path(), quiet()).unwrap_err();
    assert!(matches!(error, Error::FormatTooNew { found: 2, readable: 1, .. }), "{error:?}");
    assert_eq!(
        error.to_string(),
        format!("data directory {} has format 2, this build reads up to 1", dir.path().display()),
    );
    fs::write(dir.path().join("FORMAT"), "one").unwrap();
    assert!(matches!(Storage::open(dir.path(), quiet()), Err(Error::Damaged { .. })));
    fs::write(dir.path().join("FORMAT"), "1\n").unwrap();
    drop(open(dir.path()));
}

#[test]
fn a_state_that_cannot_be_written_takes_nothing_more() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let other_dir = tempfile::tempdir().unwrap();
    let other = open(other_dir.path());
    commit(&other.state, 0, &[4]);
    let file = other.state.snapshot().unwrap();
    commit(&storage.state, 0, &[1]);
    storage.state.flush().unwrap();
    commit(&storage.state, 1, &[2]);
    // A directory in the place of the redo file.
    let redo = state_dir(dir.path()).join("redo");
    fs::create_dir(&redo).unwrap();
    assert_eq!(storage.state.failure(), None);
    assert!(matches!(storage.state.flush(), Err(Error::Io { .. })));
    let failure = storage.state.failure().unwrap();
    assert!(failure.starts_with("writing the redo file: Is a directory"), "with its cause: {failure}");
    // What was committed is still read, and nothing is claimed to be on disk that is not.
    assert_eq!(Model::read(&storage.state).unwrap(), (Some(1), Model::replay([1, 2])));
    assert_eq!(storage.state.flushed(), Some(mark(0)));
    assert!(matches!(storage.state.flush(), Err(Error::Poisoned(_))));
    assert!(matches!(storage.state.snapshot(), Err(Error::Poisoned(_))));
    assert!(matches!(storage.state.install(&file), Err(Error::Poisoned(_))));
    let refused = storage.state.begin().commit(mark(2));
    assert!(matches!(refused, Err(Error::Poisoned(_))));
    drop(storage);
    fs::remove_dir(&redo).unwrap();
    assert_eq!(Model::read(&open(dir.path()).state).unwrap(), (Some(0), Model::replay([1])));
}

#[test]
fn a_directory_of_another_node_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let open_for = |node| Storage::open_for(dir.path(), storage::Settings::default(), NodeId(node));
    drop(open_for(2).unwrap());
    let error = open_for(1).unwrap_err();
    assert!(error.to_string().ends_with("belongs to node 2, not to node 1"), "{error}");
    open_for(2).unwrap();
}
