//! Clients that repeat a POST under the same name until it is answered, on any node, while the node that leads is killed
//! and comes back: each takes effect once, and has one answer.

use cluster_tests::{
    Error,
    api::{Api, Asked, NewJob},
    binary::Binary,
    check::{Observation, check_all, report},
    client::Client,
    cluster::{Cluster, Settings},
    history::{Event, History, Posted},
    time::now_us,
    wait::eventually,
};
use std::{
    collections::BTreeSet,
    io::Write,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::{task::JoinSet, time::timeout};

const WRITERS: usize = 6;
/// How often the leader is killed.
const KILLS: usize = 6;
/// POSTs answered between two faults: some before the cluster has noticed, some after.
const POSTS_BETWEEN: usize = 40;
/// Longer than an election, shorter than a node takes to come back, so that clients move on to another.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(2);
/// Start and elections; a debug build on a small machine takes its time.
const READY_DEADLINE: Duration = Duration::from_secs(30);
const PROGRESS_DEADLINE: Duration = Duration::from_secs(20);
/// The whole test, so that a hang fails it instead of the run it is part of.
const TEST_DEADLINE: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts real processes; run by .ci/run"]
async fn a_repeated_post_takes_effect_once_while_leaders_die() {
    timeout(TEST_DEADLINE, run()).await.expect("the run hangs").unwrap_or_else(|error| panic!("{error}"));
}

/// What the writers have seen. Clones are the same.
#[derive(Clone, Default)]
struct Seen {
    posts: Arc<Mutex<Vec<Posted>>>,
    stop: Arc<AtomicBool>,
}

impl Seen {
    fn add(&self, posted: Posted) {
        self.posts.lock().expect("nobody panics with it").push(posted);
    }

    fn count(&self) -> usize {
        self.posts.lock().expect("nobody panics with it").len()
    }

    /// Waits for so many more answers.
    async fn more(&self, count: usize) -> Result<(), Error> {
        let before = self.count();
        eventually("answers to POSTs", PROGRESS_DEADLINE, async || {
            let more = self.count() - before;
            if more >= count { Ok(()) } else { Err(format!("{more} answers")) }
        })
        .await
    }
}

async fn run() -> Result<(), Error> {
    let mut log = std::io::stdout();
    let binary = Binary::locate(None)?;
    let mut cluster = Cluster::start(Settings::new(binary))?;
    cluster.ready(READY_DEADLINE).await?;
    cluster.whole(READY_DEADLINE).await?;
    let history_path = cluster.dir().join("history.jsonl");
    let mut history = History::default();

    let seen = Seen::default();
    let mut writers = JoinSet::new();
    for number in 0..WRITERS {
        // Of all nodes, also of those that are down.
        let ids = cluster.ids().into_iter();
        let nodes = ids.map(|id| cluster.api_with(id, Client::new(REQUEST_TIMEOUT))).collect();
        writers.spawn(write(number, nodes, seen.clone()));
    }
    for _ in 0..KILLS {
        seen.more(POSTS_BETWEEN).await?;
        let leader = cluster.leader(READY_DEADLINE).await?;
        history.record(Event::Fault(cluster.kill(leader).await?));
        seen.more(POSTS_BETWEEN).await?;
        history.record(Event::Fault(cluster.restart(leader)?));
        cluster.node_ready(leader, READY_DEADLINE).await?;
    }
    seen.more(POSTS_BETWEEN).await?;
    seen.stop.store(true, Ordering::Relaxed);
    let mut unknown = 0;
    while let Some(written) = writers.join_next().await {
        unknown += written.map_err(|error| Error::Input(error.to_string()))??;
    }
    cluster.check_running()?;

    let posts = std::mem::take(&mut *seen.posts.lock().expect("nobody panics with it"));
    let keys = posts.iter().map(|posted| posted.key.clone()).collect::<BTreeSet<_>>().len();
    let answers = posts.len();
    history.events.extend(posts.into_iter().map(Event::Posted));
    let api = cluster.api(cluster.running()[0]);
    history.events.extend(api.jobs().await?.into_iter().map(Event::Listed));
    history.write(&history_path)?;
    // A closed standard output must not end the run.
    let _ = writeln!(
        log,
        "{keys} keys, {answers} answers, {unknown} POSTs without one, {} jobs",
        history.listed().count()
    );
    assert!(unknown > 0, "no POST was under way when a leader died");

    let observation = Observation::of(&history, cluster.ids().len(), now_us(), Duration::ZERO);
    if let Some(text) = report(&check_all(&history, &observation), 20) {
        panic!("{text}\nhistory: {}", history_path.display());
    }
    assert_eq!(history.listed().count(), keys, "every job has a key that was answered in the end");
    cluster.finish().await
}

/// Makes one job after the other until it is told to stop; each POST is repeated on another node until it is answered, and
/// every other one once more after that. Returns how often nobody could say whether one had taken effect.
async fn write(number: usize, nodes: Vec<Api>, seen: Seen) -> Result<usize, Error> {
    let mut unknown = 0;
    let mut node = number;
    for count in 0.. {
        if seen.stop.load(Ordering::Relaxed) {
            break;
        }
        // In the far future, so that nothing fires.
        let job = NewJob::new(format!("{number}-{count}"), "0 0 1 1 *", "http://127.0.0.1:1/");
        let mut answers = 0;
        while answers < 1 + count % 2 {
            // Any other than the last.
            node = (node + rand::random_range(1..nodes.len())) % nodes.len();
            match nodes[node].create_once(&job).await? {
                Asked::Answered(posted) => {
                    seen.add(posted);
                    answers += 1;
                }
                Asked::NotSent => {}
                Asked::Unknown => unknown += 1,
            }
        }
    }
    Ok(unknown)
}
