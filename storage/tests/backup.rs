//! A backup shows one moment, however much is committed meanwhile, and leaves nothing on the disk.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use domain::id::{AccountId, JobId, NodeId};
use std::fs;
use std::io::BufReader;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use storage::backup::BackupReader;
use storage::schema::{AccountUsage, Claims, ExecutionHours, JobHour, Usage};
use storage::{Settings, State, Storage};
use tempfile::TempDir;

const ACCOUNT: AccountId = AccountId(1);
const HOUR: JobHour = JobHour { job: JobId(1), hour: 1 };

fn commit(state: &State, number: u64) {
    let mut txn = state.begin();
    txn.put::<AccountUsage>(&ACCOUNT, &Usage { jobs: number, ..Usage::default() }).unwrap();
    // Between the two lies most of what there is.
    for job in 0..40 {
        let id = domain::id::ExecutionId { job: JobId(number % 50 * 40 + job), ..sample() };
        txn.put::<Claims>(&(NodeId(1), id), &()).unwrap();
        txn.put::<storage::schema::DeletedJobs>(&id.job, &()).unwrap();
    }
    txn.put::<ExecutionHours>(&HOUR, &number).unwrap();
    txn.commit(number.to_string().into_bytes().into()).unwrap();
}

fn sample() -> domain::id::ExecutionId {
    domain::id::ExecutionId::scheduled(JobId(0), domain::time::Timestamp::from_secs(1))
}

#[test]
fn a_backup_shows_one_moment() {
    let dir = TempDir::new().unwrap();
    let storage = Storage::open(dir.path(), Settings::default()).unwrap();
    let state = storage.state;
    commit(&state, 1);
    let ends = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            for number in 2.. {
                if ends.load(Ordering::Relaxed) {
                    break;
                }
                commit(&state, number);
            }
        });
        let mut last = 0;
        for _ in 0..8 {
            let acknowledged = String::from_utf8(state.applied().unwrap().to_vec()).unwrap();
            let file = state.backup(|mark| mark.to_vec()).unwrap();
            let mut reader = BackupReader::new(BufReader::new(file)).unwrap();
            let (mut usage, mut hours, mut claims) = (0, 0, 0);
            while let Some(part) = reader.next_part().unwrap() {
                for record in part.records {
                    if let Some((_, found)) = record.read::<AccountUsage>().unwrap() {
                        usage = found.jobs;
                    } else if let Some((_, found)) = record.read::<ExecutionHours>().unwrap() {
                        hours = found;
                    } else if record.is::<Claims>() {
                        claims += 1;
                    }
                }
            }
            assert_eq!((usage, claims), (hours, 0));
            assert_eq!(reader.header(), &usage.to_string().into_bytes()[..], "as its head says");
            assert!(
                usage >= acknowledged.parse().unwrap() && usage >= last,
                "{usage}, {last}, {acknowledged}"
            );
            last = usage;
        }
        ends.store(true, Ordering::Relaxed);
    });
    let left = fs::read_dir(dir.path().join("snapshots")).unwrap().count();
    assert_eq!(left, 0, "no file stays");
}
