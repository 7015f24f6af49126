//! A process that writes is killed at random instants, again and again, on the same directory.
//!
//! The writer says on its standard output what it is about to do, before it does it, and what is on disk, once it is told
//! so. The pipe outlives it. From that the test knows what the directory may hold after a kill: the log is one of the
//! versions between the last that was acknowledged and the last that was begun, and the state is what exactly the entries up
//! to its mark make of nothing.
//!
//! A run is repeated with `STORAGE_CRASH_SEED=<the seed it printed>`, as far as the operating system lets it.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

mod replay;

use bytes::Bytes;
use replay::{Model, PATIENCE, Random, end_of, entry, mark, open, read_all, salt};
use std::collections::VecDeque;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use storage::{Flushed, MetaSlot, Settings, Storage};

const DIR: &str = "STORAGE_CRASH_DIR";
const SEED: &str = "STORAGE_CRASH_SEED";
const KILLS: u64 = 64;

fn say(line: &str) {
    // Not the macro: the test harness would keep what it prints.
    let mut out = std::io::stdout().lock();
    out.write_all(format!("#{line}\n").as_bytes()).and_then(|()| out.flush()).unwrap();
}

/// The writer. Does nothing unless it is the process that is to be killed.
#[test]
fn the_process_that_is_killed() {
    let Ok(dir) = std::env::var(DIR) else { return };
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    let settings = Settings {
        sled_cache_bytes: 4 << 20,
        flush_interval: Duration::from_millis(3),
        flush_bytes: 8 * 1024,
    };
    let storage = Storage::open(Path::new(&dir), settings).unwrap();
    Writer::new(&storage, seed).run();
}

/// All ends are one behind the last index.
struct Writer<'a> {
    storage: &'a Storage,
    random: Random,
    log_end: u64,
    purge_end: u64,
    applied_end: u64,
    /// What was applied once is never replaced, even if an installation goes back before it.
    committed_end: u64,
    snapshot_end: u64,
    begun: u64,
    acknowledged: Arc<AtomicU64>,
    acknowledgements: mpsc::Receiver<()>,
    acknowledge: mpsc::Sender<()>,
}

impl<'a> Writer<'a> {
    fn new(storage: &'a Storage, seed: u64) -> Self {
        let bounds = storage.log.bounds();
        let purge_end = bounds.purged.map_or(0, |(purged, _)| purged + 1);
        let (acknowledge, acknowledgements) = mpsc::channel();
        Self {
            storage,
            random: Random(seed),
            log_end: bounds.last.map_or(purge_end, |last| last + 1),
            purge_end,
            applied_end: end_of(storage.state.applied().as_ref()),
            committed_end: end_of(storage.state.applied().as_ref()),
            snapshot_end: end_of(storage.state.latest_snapshot().unwrap().map(|file| file.mark).as_ref()),
            begun: 0,
            acknowledged: Arc::default(),
            acknowledgements,
            acknowledge,
        }
    }

    fn run(mut self) {
        say("ready");
        loop {
            match self.random.below(100) {
                0..=39 => self.append(self.log_end),
                40..=47 => {
                    let first = self.committed_end + self.random.below(self.log_end - self.committed_end + 1);
                    self.append(first);
                }
                48..=51 => self.truncate(),
                52..=56 => self.vote(),
                57..=61 => self.purge(),
                62..=89 => self.apply(),
                90..=94 => {
                    self.storage.state.flush().unwrap();
                    self.say_flushed();
                }
                95..=97 => {
                    self.snapshot_end = end_of(Some(&self.storage.state.snapshot().unwrap().mark));
                    self.say_flushed();
                }
                _ => self.install(),
            }
        }
    }

    fn say_flushed(&self) {
        say(&format!("flushed {}", end_of(self.storage.state.flushed().as_ref())));
    }

    /// Counts an operation of the log that has been announced; what it gives says when it is on disk.
    fn begin(&mut self) -> Flushed {
        self.begun += 1;
        let (number, acknowledged) = (self.begun, Arc::clone(&self.acknowledged));
        let acknowledge = self.acknowledge.clone();
        Box::new(move |result| {
            result.unwrap();
            say(&format!("done {number}"));
            acknowledged.store(number, Ordering::SeqCst);
            let _ = acknowledge.send(());
        })
    }

    /// Waits until at most `pending` operations are not on disk.
    fn settle(&self, pending: u64) {
        while self.begun - self.acknowledged.load(Ordering::SeqCst) > pending {
            self.acknowledgements.recv_timeout(PATIENCE).unwrap();
        }
    }

    fn append(&mut self, first: u64) {
        let count = 1 + self.random.below(40);
        let salts: Vec<u64> = (0..count).map(|_| self.random.next()).collect();
        let list: Vec<String> = salts.iter().map(u64::to_string).collect();
        say(&format!("append {first} {}", list.join(" ")));
        let entries = (first..).zip(salts).map(|(index, salt)| entry(index, salt)).collect();
        self.log_end = first + count;
        let flushed = self.begin();
        self.storage.log.append(entries, flushed);
        self.settle(3);
    }

    fn truncate(&mut self) {
        let end = self.committed_end + self.random.below(self.log_end - self.committed_end + 1);
        say(&format!("truncate {end}"));
        self.log_end = end;
        let flushed = self.begin();
        self.storage.log.truncate_after(end.checked_sub(1), flushed);
        self.settle(3);
    }

    fn vote(&mut self) {
        let vote = self.random.next();
        say(&format!("vote {vote}"));
        let flushed = self.begin();
        self.storage.log.save_meta(MetaSlot::Vote, Bytes::copy_from_slice(&vote.to_be_bytes()), flushed);
        self.settle(3);
    }

    fn purge(&mut self) {
        let end = self.snapshot_end.min(end_of(self.storage.state.flushed().as_ref()));
        if end <= self.purge_end {
            return;
        }
        self.purge_end += 1 + self.random.below(end - self.purge_end);
        say(&format!("purge {}", self.purge_end));
        let flushed = self.begin();
        self.storage.log.purge(self.purge_end - 1, mark(self.purge_end - 1), flushed);
        self.settle(3);
    }

    fn apply(&mut self) {
        // Only what is on disk may be applied.
        self.settle(0);
        let end = self.applied_end + self.random.below(self.log_end - self.applied_end + 1);
        say(&format!("commit {end}"));
        self.committed_end = self.committed_end.max(end);
        while self.applied_end < end {
            let until = end.min(self.applied_end + 1 + self.random.below(20));
            let entries = self.storage.log.read(self.applied_end..until, 100_000).unwrap();
            let salts: Vec<u64> = entries.iter().map(salt).collect();
            replay::commit(&self.storage.state, self.applied_end, &salts);
            self.applied_end += entries.len() as u64;
        }
        if self.random.below(4) == 0 {
            self.say_flushed();
        }
    }

    /// Goes back to this node's newest snapshot, from which the log leads on.
    fn install(&mut self) {
        let Some(file) = self.storage.state.latest_snapshot().unwrap() else { return };
        say(&format!("install {}", end_of(Some(&file.mark))));
        self.applied_end = end_of(Some(&self.storage.state.install(&file).unwrap()));
    }
}

/// What the log may be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Version {
    /// Of all entries ever, those purged included.
    salts: Vec<u64>,
    purge_end: usize,
    vote: Option<u64>,
}

/// What the writer has said.
#[derive(Default)]
struct Known {
    /// The last that was acknowledged, and those that were begun since.
    versions: VecDeque<Version>,
    acknowledged: u64,
    /// Entries that were applied and never change any more.
    committed: Vec<u64>,
    /// The state covers at least this.
    flushed_end: u64,
    lines: u64,
}

impl Known {
    fn hear(&mut self, line: &str) {
        let mut words = line.split(' ');
        let verb = words.next().unwrap();
        let numbers: Vec<u64> = words.map(|word| u64::from_str(word).unwrap()).collect();
        let size = |number: u64| usize::try_from(number).unwrap();
        let mut next = self.versions.back().unwrap().clone();
        match (verb, &numbers[..]) {
            ("append", [first, salts @ ..]) => {
                next.salts.truncate(size(*first));
                assert_eq!(next.salts.len(), size(*first));
                next.salts.extend_from_slice(salts);
                self.versions.push_back(next);
            }
            ("truncate", [end]) => {
                next.salts.truncate(size(*end));
                self.versions.push_back(next);
            }
            ("vote", [vote]) => self.versions.push_back(Version { vote: Some(*vote), ..next }),
            ("purge", [end]) => self.versions.push_back(Version { purge_end: size(*end), ..next }),
            ("done", [number]) => {
                while self.acknowledged < *number {
                    self.acknowledged += 1;
                    self.versions.pop_front();
                }
            }
            ("commit", [end]) => {
                if size(*end) > self.committed.len() {
                    self.committed = next.salts[..size(*end)].to_vec();
                }
            }
            ("flushed", [end]) => self.flushed_end = *end,
            ("install", [end]) => self.flushed_end = self.flushed_end.min(*end),
            ("ready", []) => {}
            _ => panic!("the writer said {line:?}"),
        }
        self.lines += 1;
    }

    /// Checks what was found after a kill, and takes it for the truth from there on.
    fn check(&mut self, storage: &Storage) {
        let bounds = storage.log.bounds();
        let purge_end = end_of(bounds.purged.as_ref().map(|(_, mark)| mark));
        assert_eq!(bounds.purged.map(|(purged, _)| purged), purge_end.checked_sub(1));
        let purge_end = usize::try_from(purge_end).unwrap();
        let vote = storage
            .log
            .meta(MetaSlot::Vote)
            .map(|vote| u64::from_be_bytes(vote.as_ref().try_into().unwrap()));
        let entries = read_all(&storage.log);
        assert_eq!(bounds.last, entries.last().map(|entry| entry.index));
        for (index, found) in (purge_end as u64..).zip(&entries) {
            assert_eq!(found.index, index, "a gap in the log");
        }
        let salts: Vec<u64> = entries.iter().map(salt).collect();
        let found = self.versions.iter().find(|version| {
            version.purge_end == purge_end && version.vote == vote && version.salts[purge_end..] == salts
        });
        let Some(found) = found.cloned() else {
            panic!(
                "of {} versions of the log none is {} entries from {purge_end} on with vote {vote:?}",
                self.versions.len(),
                salts.len(),
            );
        };
        self.versions = VecDeque::from([found]);
        self.acknowledged = 0;

        let (applied, state) = Model::read(&storage.state).unwrap();
        let end = applied.map_or(0, |applied| applied + 1);
        assert!(end >= self.flushed_end, "flushed up to {} and back at {end}", self.flushed_end);
        assert!(end >= purge_end as u64, "the log begins at {purge_end}, behind the state at {end}");
        let replayed = self.committed.get(..usize::try_from(end).unwrap());
        let replayed = replayed.expect("only what was committed is applied").iter().copied();
        assert!(state == Model::replay(replayed), "the state at {end} is not what the log makes it");
        self.committed.truncate(usize::try_from(end).unwrap());
        self.flushed_end = end;
    }
}

#[test]
fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    if std::env::var(DIR).is_ok() {
        return;
    }
    let seed = std::env::var(SEED).map_or_else(
        |_| u64::from(std::process::id()) << 20,
        |seed| seed.parse().expect("a seed is a number"),
    );
    say(&format!("{SEED}={seed}"));
    let dir = tempfile::tempdir().unwrap();
    let mut random = Random(seed);
    let mut known = Known { versions: VecDeque::from([Version::default()]), ..Known::default() };
    for round in 0..KILLS {
        run_and_kill(dir.path(), &mut random, &mut known);
        let context = format!("{SEED}={seed}, kill {round}");
        let checked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let storage = open(dir.path());
            known.check(&storage);
        }));
        assert!(checked.is_ok(), "{context}");
    }
    let end = known.committed.len();
    say(&format!("{KILLS} kills, {} lines, {end} entries applied", known.lines));
    assert!(end > 1_000, "the writer hardly got anywhere: {end} entries");
}

fn run_and_kill(dir: &Path, random: &mut Random, known: &mut Known) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["the_process_that_is_killed", "--exact", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(SEED, random.next().to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        let mut output = output;
        let mut line = String::new();
        // The kill may cut off the last line, which then was not said.
        while output.read_line(&mut line).is_ok_and(|length| length > 0) && line.ends_with('\n') {
            // The harness writes the name of the test before the first line.
            if let Some((_, said)) = line.trim_end().split_once('#') {
                drop(sender.send(said.to_owned()));
            }
            line.clear();
        }
    });

    // Short lives are of interest too: the opening of a directory that a kill left behind is then cut off itself.
    let lines_until_kill = match random.below(10) {
        0 => 0,
        1 => 1,
        _ => 1 + random.below(300),
    };
    let spin = Duration::from_micros(random.below(if lines_until_kill == 0 { 60_000 } else { 3_000 }));
    for _ in 0..lines_until_kill {
        match lines.recv_timeout(PATIENCE) {
            Ok(line) => known.hear(&line),
            Err(error) => {
                child.kill().unwrap();
                panic!("the writer says nothing any more ({error}): {:?}", child.wait());
            }
        }
    }
    let instant = Instant::now() + spin;
    while Instant::now() < instant {
        std::hint::spin_loop();
    }
    // SIGKILL.
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), None, "the writer ended by itself");
    reader.join().unwrap();
    for line in lines {
        known.hear(&line);
    }
}
