//! Writes to jobs all over the state, before, while and after the nodes write their snapshots.

use super::disk;
use crate::raw::{Connection, Request};
use cluster_tests::{Error, api::Api, cluster::Cluster};
use serde_json::json;
use std::{
    collections::BTreeMap,
    path::PathBuf,
    time::{Duration, Instant},
};
use tokio::{sync::watch, task::JoinSet, time::sleep};

/// How often the folders of the snapshots are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// What must have been seen without a snapshot.
const QUIET_MIN: Duration = Duration::from_secs(20);
/// How long after the last snapshot writes are still told from those without one: what was held back by it is made up for.
const AFTERMATH: Duration = Duration::from_secs(10);
/// The log calls for a snapshot after 200,000 entries at the latest.
const DEADLINE: Duration = Duration::from_secs(900);

/// One write that was answered.
#[derive(Clone, Copy, Debug)]
struct Write {
    asked: Instant,
    took: Duration,
}

/// One snapshot that a node has written.
#[derive(Clone, Copy, Debug)]
pub(super) struct Snapshot {
    pub(super) node: u64,
    pub(super) from: Instant,
    pub(super) until: Instant,
    pub(super) bytes: u64,
}

/// What was seen.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) start: Instant,
    pub(super) snapshots: Vec<Snapshot>,
    /// Writes that were answered otherwise than with 200.
    pub(super) refused: usize,
    end: Instant,
    writes: Vec<Write>,
}

/// Latencies, and how long they were gathered.
#[derive(Clone, Debug, Default)]
pub(super) struct Latencies {
    pub(super) span: Duration,
    pub(super) each: Vec<Duration>,
}

/// The writes by what the nodes did meanwhile.
#[derive(Clone, Debug, Default)]
pub(super) struct Parted {
    pub(super) without: Latencies,
    /// While at least one node wrote a snapshot.
    pub(super) during: Latencies,
    /// Shortly after one did.
    pub(super) after: Latencies,
}

impl Seen {
    pub(super) fn parted(&self) -> Parted {
        let mut parted = Parted::default();
        for Write { asked, took } in &self.writes {
            self.part(&mut parted, *asked, *asked + *took).each.push(*took);
        }
        let mut at = self.start;
        while at < self.end {
            let next = self.end.min(at + LOOK_EVERY);
            self.part(&mut parted, at, at).span += next - at;
            at = next;
        }
        parted
    }

    /// Where something belongs that lasted from one instant to another.
    fn part<'a>(&self, parted: &'a mut Parted, from: Instant, until: Instant) -> &'a mut Latencies {
        if self.snapshots.iter().any(|snapshot| from <= snapshot.until && until >= snapshot.from) {
            &mut parted.during
        } else if self
            .snapshots
            .iter()
            .any(|snapshot| from > snapshot.until && from <= snapshot.until + AFTERMATH)
        {
            &mut parted.after
        } else {
            &mut parted.without
        }
    }
}

/// Writes to the jobs `ids` over so many connections, one write at a time on each, until each node has written a snapshot and
/// enough was seen without one.
///
/// # Errors
/// A connection that fails, or no snapshot in a very long time.
pub(super) async fn watch(
    cluster: &Cluster,
    nodes: &[Api],
    ids: &[String],
    connections: usize,
) -> Result<Seen, Error> {
    let (stop, stopped) = watch::channel(false);
    let mut writers = JoinSet::new();
    for (number, api) in (0..connections).zip(nodes.iter().cycle()) {
        let connection = Connection::open(api.address()?).await?;
        let jobs: Vec<String> = ids.iter().skip(number).step_by(connections).cloned().collect();
        writers.spawn(write(connection, api.key().to_owned(), jobs, stopped.clone()));
    }

    let folders: BTreeMap<u64, PathBuf> =
        cluster.ids().into_iter().map(|id| (id, disk::snapshots(cluster, id))).collect();
    let start = Instant::now();
    let (mut begun, mut snapshots) = (BTreeMap::<u64, Instant>::new(), Vec::<Snapshot>::new());
    let mut quiet = Duration::ZERO;
    let mut last_look = start;
    loop {
        sleep(LOOK_EVERY).await;
        let now = Instant::now();
        for (id, folder) in &folders {
            match (disk::is_being_written(folder), begun.get(id).copied()) {
                (true, None) => {
                    begun.insert(*id, now);
                }
                (false, Some(from)) => {
                    begun.remove(id);
                    let bytes = disk::newest_snapshot_bytes(folder);
                    snapshots.push(Snapshot { node: *id, from, until: now, bytes });
                }
                (true, Some(_)) | (false, None) => {}
            }
        }
        let last = snapshots.iter().map(|snapshot| snapshot.until).max();
        let is_aftermath = last.is_some_and(|last| now - last <= AFTERMATH);
        if begun.is_empty() && !is_aftermath {
            quiet += now - last_look;
        }
        last_look = now;
        let all = folders.keys().all(|id| snapshots.iter().any(|snapshot| snapshot.node == *id));
        if all && begun.is_empty() && !is_aftermath && quiet >= QUIET_MIN {
            break;
        }
        if start.elapsed() > DEADLINE {
            return Err(Error::Deadline {
                what: "snapshot of every node".to_owned(),
                deadline: DEADLINE,
                seen: format!("{snapshots:?}, under way {begun:?}"),
            });
        }
        if let Some(ended) = writers.try_join_next() {
            let error = ended.map(|outcome| outcome.err().unwrap_or_default());
            return Err(Error::Input(format!("a writer ended: {error:?}")));
        }
    }
    let end = Instant::now();
    drop(stop);
    let (mut writes, mut refused) = (Vec::new(), 0);
    while let Some(writer) = writers.join_next().await {
        let writer = writer.map_err(|error| Error::Input(format!("a writer panicked: {error}")))?;
        let (mut its, its_refused) = writer.map_err(Error::Input)?;
        writes.append(&mut its);
        refused += its_refused;
    }
    Ok(Seen { start, snapshots, refused, end, writes })
}

/// Renames one job after the other until told otherwise. The writes that were answered well, and how many were not.
async fn write(
    mut connection: Connection,
    key: String,
    jobs: Vec<String>,
    stopped: watch::Receiver<bool>,
) -> Result<(Vec<Write>, usize), String> {
    let (mut writes, mut refused) = (Vec::new(), 0);
    for number in 0_u64.. {
        for job in &jobs {
            // Its sender is dropped when it is over.
            if stopped.has_changed().is_err() {
                return Ok((writes, refused));
            }
            let body = json!({"name": format!("written {number}")}).to_string();
            let request = Request::patch(&format!("/v1/jobs/{job}"), &key, &body);
            let asked = Instant::now();
            if connection.ask(&request).await? {
                writes.push(Write { asked, took: asked.elapsed() });
            } else {
                refused += 1;
            }
        }
    }
    Ok((writes, refused))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_are_parted_by_the_snapshots() {
        let start = Instant::now();
        let at = |ms: u64| start + Duration::from_millis(ms);
        let snapshot = |node, from, until| Snapshot { node, from: at(from), until: at(until), bytes: 1 };
        let write = |asked, ms| Write { asked: at(asked), took: Duration::from_millis(ms) };
        let seen = Seen {
            start,
            snapshots: vec![snapshot(1, 1_000, 2_000), snapshot(2, 1_500, 3_000)],
            refused: 0,
            end: at(20_000),
            writes: vec![
                write(0, 5),
                write(995, 7),
                write(1_200, 9),
                write(2_500, 11),
                write(3_001, 13),
                write(12_999, 15),
                write(13_001, 17),
            ],
        };
        let parted = seen.parted();
        let ms = |latencies: &Latencies| latencies.each.iter().map(Duration::as_millis).collect::<Vec<_>>();
        assert_eq!(ms(&parted.without), [5, 17]);
        assert_eq!(ms(&parted.during), [7, 9, 11]);
        assert_eq!(ms(&parted.after), [13, 15]);
        // In steps of a look.
        let near = |span: Duration, ms: u64| span.abs_diff(Duration::from_millis(ms)) <= LOOK_EVERY;
        assert!(near(parted.during.span, 2_000), "{:?}", parted.during.span);
        assert!(near(parted.after.span, 10_000), "{:?}", parted.after.span);
        assert!(near(parted.without.span, 8_000), "{:?}", parted.without.span);
    }
}
