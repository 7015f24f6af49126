//! Snapshots: one mark each, taken and moved while commits go on.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod replay;

use bytes::Bytes;
use replay::{Model, Random, commit, index_of, mark, open, quiet};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use storage::{Error, Settings, Storage};

fn salts(count: u64) -> Vec<u64> {
    let mut random = Random(count);
    (0..count).map(|_| random.next()).collect()
}

/// What a snapshot file holds, by way of another store.
fn contents(file: &storage::SnapshotFile) -> (Option<u64>, Model) {
    let dir = tempfile::tempdir().unwrap();
    let other = open(dir.path());
    other.state.install(file).unwrap();
    Model::read(&other.state).unwrap()
}

#[test]
fn a_snapshot_shows_one_mark_while_commits_go_on() {
    let dir = tempfile::tempdir().unwrap();
    // Flushes are called for all the time, and have to wait while a snapshot is written.
    let settings = Settings { flush_interval: Duration::from_millis(1), flush_bytes: 1_000, ..quiet() };
    let storage = Storage::open(dir.path(), settings).unwrap();
    let salt_at = |index: u64| Random(index).next();
    let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            for index in 0.. {
                commit(&storage.state, index, &[salt_at(index)]);
                next.store(index + 1, Ordering::SeqCst);
                if stop.load(Ordering::SeqCst) {
                    return;
                }
            }
        });
        let mut last = None;
        let mut checked = 0;
        while checked < 8 && !writer.is_finished() {
            let before = next.load(Ordering::SeqCst);
            let file = storage.state.snapshot().unwrap();
            let after = next.load(Ordering::SeqCst);
            if file.mark.is_empty() {
                continue;
            }
            let (applied, state) = contents(&file);
            let at = applied.unwrap();
            assert_eq!(at, index_of(&file.mark));
            // The commit may be visible before its number was noted.
            assert!(before <= at + 1 && at <= after, "{before} <= {at} <= {after}");
            assert!(last <= Some(at), "snapshots go back from {last:?} to {at}");
            last = Some(at);
            checked += 1;
            assert!(state == Model::replay((0..=at).map(salt_at)), "not the state at {at}");
        }
        stop.store(true, Ordering::SeqCst);
    });
}

/// Counts commits rather than time: were they held back, at most the one that waited would go through each time.
#[test]
fn commits_and_reads_go_through_while_a_snapshot_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let mut salts = salts(20_000);
    for (first, together) in (0u64..).step_by(1_000).zip(salts.chunks(1_000)) {
        commit(&storage.state, first, together);
    }
    let is_under_way = || {
        std::fs::read_dir(dir.path().join("snapshots")).unwrap().any(|entry| {
            entry.is_ok_and(|entry| entry.path().extension().is_some_and(|name| name == "writing"))
        })
    };
    let mut through = 0;
    let mut snapshots = 0;
    while through < 1_000 {
        snapshots += 1;
        assert!(snapshots <= 200, "only {through} commits went through while 200 snapshots were written");
        let at = salts.len() as u64 - 1;
        let file = std::thread::scope(|scope| {
            let snapshot = scope.spawn(|| storage.state.snapshot().unwrap());
            while !is_under_way() && !snapshot.is_finished() {
                std::thread::yield_now();
            }
            while !snapshot.is_finished() {
                let (index, salt) = (salts.len() as u64, Random(salts.len() as u64).next());
                commit(&storage.state, index, &[salt]);
                assert_eq!(storage.state.view().applied().map(index_of), Some(index));
                salts.push(salt);
                through += u64::from(is_under_way());
            }
            snapshot.join().unwrap()
        });
        assert_eq!(file.mark, mark(at));
        if snapshots == 1 {
            let end = usize::try_from(at).unwrap() + 1;
            assert!(contents(&file).1 == Model::replay(salts[..end].iter().copied()));
        }
    }
}

#[test]
fn a_snapshot_that_travelled_makes_the_same_state() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, to) = (open(here.path()), open(there.path()));
    commit(&from.state, 0, &salts(3_000));
    // What was there before goes.
    commit(&to.state, 0, &salts(500));
    to.state.flush().unwrap();
    commit(&to.state, 500, &[1, 2, 3]);
    assert_ne!(from.state.digest().unwrap(), to.state.digest().unwrap());

    let file = from.state.snapshot().unwrap();
    let bytes = std::fs::read(&file.path).unwrap();
    assert_eq!(bytes.len() as u64, file.size_bytes);
    let mut writer = to.state.incoming_snapshot().unwrap();
    for chunk in bytes.chunks(1_000) {
        writer.write(chunk).unwrap();
    }
    let arrived = writer.finish().unwrap();
    assert_eq!((&arrived.mark, arrived.size_bytes), (&file.mark, file.size_bytes));
    assert_eq!(to.state.install(&arrived).unwrap(), mark(2_999));
    assert_eq!(from.state.digest().unwrap(), to.state.digest().unwrap());
    assert_eq!(Model::read(&from.state).unwrap(), Model::read(&to.state).unwrap());

    // It goes on from there, and is still that after a restart.
    for state in [&from.state, &to.state] {
        commit(state, 3_000, &[7, 8, 9]);
        state.flush().unwrap();
    }
    let digest = from.state.digest().unwrap();
    drop(to);
    let to = open(there.path());
    assert_eq!(to.state.digest().unwrap(), digest);
    assert_eq!(to.state.applied(), Some(mark(3_002)));
}

#[test]
fn a_snapshot_of_nothing_empties_a_state() {
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let (from, to) = (open(here.path()), open(there.path()));
    let file = from.state.snapshot().unwrap();
    assert_eq!(file.mark, Bytes::new());
    commit(&to.state, 0, &salts(50));
    to.state.install(&file).unwrap();
    assert_eq!(Model::read(&to.state).unwrap(), (None, Model::default()));
    assert_eq!(to.state.digest().unwrap(), from.state.digest().unwrap());
}

#[test]
fn only_the_two_newest_files_stay() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    let names = || {
        let mut names: Vec<_> = std::fs::read_dir(dir.path().join("snapshots"))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    };
    let mut files = Vec::new();
    for index in 0..5 {
        commit(&storage.state, index, &[index]);
        files.push(storage.state.snapshot().unwrap());
    }
    let name = |file: &storage::SnapshotFile| file.path.file_name().unwrap().to_str().unwrap().to_owned();
    assert_eq!(names(), [name(&files[3]), name(&files[4])]);
    assert_eq!(storage.state.latest_snapshot().unwrap().as_ref(), files.last());

    // One that arrives counts as well, from when it is whole.
    let bytes = std::fs::read(&files[3].path).unwrap();
    let mut writer = storage.state.incoming_snapshot().unwrap();
    writer.write(&bytes[..20]).unwrap();
    assert_eq!(storage.state.latest_snapshot().unwrap().as_ref(), files.last());
    writer.write(&bytes[20..]).unwrap();
    let arrived = writer.finish().unwrap();
    assert_eq!(names(), [name(&files[4]), name(&arrived)]);

    // One that is given up leaves nothing, and neither does one that is damaged.
    let mut writer = storage.state.incoming_snapshot().unwrap();
    writer.write(&bytes[..20]).unwrap();
    drop(writer);
    let mut writer = storage.state.incoming_snapshot().unwrap();
    writer.write(&bytes[..20]).unwrap();
    assert!(matches!(writer.finish(), Err(Error::Snapshot { .. })));
    assert_eq!(names(), [name(&files[4]), name(&arrived)]);
}

#[test]
fn the_newest_is_the_one_that_was_finished_last() {
    let dir = tempfile::tempdir().unwrap();
    let storage = open(dir.path());
    commit(&storage.state, 0, &[1]);
    let bytes = std::fs::read(&storage.state.snapshot().unwrap().path).unwrap();
    let mut begun_before = storage.state.incoming_snapshot().unwrap();
    commit(&storage.state, 1, &[2]);
    let taken = storage.state.snapshot().unwrap();
    assert_eq!(storage.state.latest_snapshot().unwrap(), Some(taken));
    begun_before.write(&bytes).unwrap();
    let arrived = begun_before.finish().unwrap();
    assert_eq!(storage.state.latest_snapshot().unwrap(), Some(arrived));
}

#[test]
fn replicas_with_one_digest_hold_the_same() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let stores = [open(dirs[0].path()), open(dirs[1].path())];
    let salts = salts(10_000);
    // The same entries in other runs, flushed at other times.
    for (index, salt) in (0..).zip(&salts) {
        commit(&stores[0].state, index, &[*salt]);
    }
    for (first, together) in (0u64..).step_by(777).zip(salts.chunks(777)) {
        commit(&stores[1].state, first, together);
        stores[1].state.flush().unwrap();
    }
    assert_eq!(stores[0].state.digest().unwrap(), stores[1].state.digest().unwrap());
    commit(&stores[0].state, 10_000, &[1]);
    assert_ne!(stores[0].state.digest().unwrap(), stores[1].state.digest().unwrap());
}
