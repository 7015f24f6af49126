//! What a cluster with a great many jobs needs, and what it is like to work with.

mod disk; // what a node has on its disk
mod load; // jobs by imports
mod writes; // while snapshots are written

use crate::{
    cost::Cost,
    idle::{self, Idle},
    raw::Outcome,
    scene::{CONNECTIONS, GRACE, READY_DEADLINE, Scene, WARM_UP, follower, say},
    table::{Table, hundredths, tenths},
};
use clap::Args;
use cluster_tests::{
    Error, api::Api, binary::Binary, cluster::Cluster, history::JobCreated, wait::eventually,
};
use disk::Sizes;
use futures::{StreamExt, TryStreamExt, stream};
use http::Method;
use load::Loaded;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::time::sleep;
use writes::{Latencies, Parted};

/// Jobs that are stored when the cost of a firing is measured for the first time.
const FEW: usize = 1_000;
/// Jobs that fire every second while it is.
const FIRING: usize = 300;
/// How long it is.
const FIRED_FOR: Duration = Duration::from_secs(20);
/// After a load or a restart: flushes end, buffers are given back.
const SETTLE: Duration = Duration::from_secs(10);
/// How long a node may take to come back, or to be filled.
const BACK_DEADLINE: Duration = Duration::from_secs(900);

/// Memory of a node at most.
const RSS_MIB_GOAL: f64 = 600.0;
/// From its start until a node serves.
const READY_S_GOAL: f64 = 10.0;
/// How many times as long a write takes while a snapshot is written, by the 99th percentile.
const SNAPSHOT_GOAL: f64 = 2.0;
/// How many times as much a firing costs with all jobs as with few.
const COST_GOAL: f64 = 1.2;

#[derive(Args, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Jobs that are stored, spread over the year
    #[arg(long, default_value_t = 1_000_000)]
    jobs: usize,
    /// Connections that write while snapshots are written
    #[arg(long, default_value_t = 16)]
    writers: usize,
}

/// What was measured against a goal.
#[derive(Debug, Default)]
struct Figures {
    rss_mib: Vec<f64>,
    ready_s: Vec<f64>,
    snapshot_ratio: Option<f64>,
    cost_ratio: Option<f64>,
}

pub(crate) async fn run(binary: Binary, arguments: &Arguments) -> Result<(), Error> {
    let mut scene = Scene::open(binary).await?;
    let nodes = scene.cluster.apis();
    let url = scene.target.url("/ok");
    let mut figures = Figures::default();

    let few = FEW.min(arguments.jobs);
    load::load(&nodes, 0..few, &url).await?;
    let firing = scene.start_jobs(FIRING).await?;
    let cost_few = cost_of_firing(&scene).await?;
    turn(&nodes, &firing, "pause").await?;

    let loaded = load::load(&nodes, few..arguments.jobs, &url).await?;
    load_table(&loaded).print();
    look_at_nodes(&scene, "loaded", &mut figures).await?;

    turn(&nodes, &firing, "resume").await?;
    let cost_all = cost_of_firing(&scene).await?;
    turn(&nodes, &firing, "pause").await?;
    sleep(GRACE).await;
    let mut table = Table::new("million_firing", &["stored", "cpu_s_per_1000", "times_few"]);
    for (stored, cost) in [(few, cost_few), (arguments.jobs, cost_all)] {
        table.row(vec![json!(stored), json!(hundredths(cost)), json!(hundredths(cost / cost_few))]);
    }
    table.print();
    figures.cost_ratio = Some(cost_all / cost_few);

    let seen = writes::watch(&scene.cluster, &nodes, &loaded.ids, arguments.writers).await?;
    snapshots_table(&seen).print();
    figures.snapshot_ratio = writes_table(&seen);

    restarts(&mut scene, &mut figures).await?;
    goals_table(&figures).print();
    scene.close(&[]).await
}

/// Seconds of processor time of all nodes for a thousand executions, of jobs that fire every second.
async fn cost_of_firing(scene: &Scene) -> Result<f64, Error> {
    sleep(WARM_UP + GRACE).await;
    let (cost, before) = (Cost::begin(&scene.cluster)?, scene.target.count());
    sleep(FIRED_FOR).await;
    cost.per_thousand(scene.target.count() - before)
}

/// Pauses or resumes the jobs.
async fn turn(nodes: &[Api], jobs: &[JobCreated], word: &str) -> Result<(), Error> {
    stream::iter(jobs.iter().zip(nodes.iter().cycle()))
        .map(|(job, api)| async move {
            let path = format!("/v1/jobs/{}/{word}", job.job);
            let answer = api.send(Method::POST, &path, None).await?;
            if answer.is_success() {
                return Ok(());
            }
            let (status, body) = (answer.status, answer.excerpt());
            Err(Error::Answered { request: format!("POST {path}"), status, body })
        })
        .buffer_unordered(CONNECTIONS)
        .try_collect()
        .await
}

fn load_table(loaded: &Loaded) -> Table {
    let columns = &[
        "jobs",
        "seconds",
        "jobs_per_second",
        "first_tenth_per_second",
        "last_tenth_per_second",
        "repeated_imports",
    ];
    let mut table = Table::new("million_load", columns);
    table.row(vec![
        json!(loaded.count()),
        json!(tenths(loaded.took.as_secs_f64())),
        json!(loaded.rate(0.0, 1.0).round()),
        json!(loaded.rate(0.0, 0.1).round()),
        json!(loaded.rate(0.9, 1.0).round()),
        json!(loaded.repeated),
    ]);
    table
}

/// Memory, disk and idle processor time of each node, once it has settled.
async fn look_at_nodes(scene: &Scene, when: &str, figures: &mut Figures) -> Result<(), Error> {
    let ids = scene.cluster.ids();
    eventually("end of the snapshots", BACK_DEADLINE, async || {
        match ids.iter().find(|id| disk::is_being_written(&disk::snapshots(&scene.cluster, **id))) {
            Some(id) => Err(format!("node {id} writes one")),
            None => Ok(()),
        }
    })
    .await?;
    sleep(SETTLE).await;
    let columns = &[
        "when",
        "node",
        "role",
        "rss_mib",
        "peak_mib",
        "cpu_percent",
        "disk_mib",
        "state_mib",
        "log_mib",
        "snapshots_mib",
    ];
    let mut table = Table::new("million_nodes", columns);
    for Idle { node, role, rss_mib, peak_mib, cpu_percent } in idle::watch(scene).await? {
        let sizes = Sizes::of(&scene.cluster, node);
        figures.rss_mib.push(rss_mib);
        table.row(vec![
            json!(when),
            json!(node),
            json!(role),
            json!(tenths(rss_mib)),
            json!(tenths(peak_mib)),
            json!(tenths(cpu_percent)),
            mib(sizes.all()),
            mib(sizes.state),
            mib(sizes.log),
            mib(sizes.snapshots),
        ]);
    }
    table.print();
    Ok(())
}

fn snapshots_table(seen: &writes::Seen) -> Table {
    let mut table = Table::new("million_snapshots", &["node", "begun_s", "seconds", "size_mib"]);
    for snapshot in &seen.snapshots {
        table.row(vec![
            json!(snapshot.node),
            json!(tenths((snapshot.from - seen.start).as_secs_f64())),
            json!(hundredths((snapshot.until - snapshot.from).as_secs_f64())),
            mib(snapshot.bytes),
        ]);
    }
    table
}

/// Prints what became of the writes. How many times as long they took while a snapshot was written.
fn writes_table(seen: &writes::Seen) -> Option<f64> {
    let Parted { without, during, after } = seen.parted();
    let columns =
        &["snapshot", "seconds", "writes", "per_second", "p50_ms", "p99_ms", "max_ms", "times_without"];
    let mut table = Table::new("million_writes", columns);
    let p99 = |latencies: &Latencies| outcome(latencies).quantile_ms(0.99);
    let base = p99(&without);
    for (when, latencies) in [("none", &without), ("under way", &during), ("just over", &after)] {
        let found = outcome(latencies);
        table.row(vec![
            json!(when),
            json!(tenths(latencies.span.as_secs_f64())),
            json!(latencies.each.len()),
            json!(found.rate),
            json!(found.quantile_ms(0.5)),
            json!(found.quantile_ms(0.99)),
            json!(found.quantile_ms(1.0)),
            json!(hundredths(found.quantile_ms(0.99) / base)),
        ]);
    }
    table.print();
    if seen.refused > 0 {
        say(format!("{} writes were refused", seen.refused));
    }
    (!during.each.is_empty()).then(|| p99(&during) / base)
}

fn outcome(latencies: &Latencies) -> Outcome {
    Outcome::of(latencies.each.clone(), latencies.span)
}

/// A follower that is killed and comes back, then all nodes, then a follower that has lost its disk.
async fn restarts(scene: &mut Scene, figures: &mut Figures) -> Result<(), Error> {
    let mut table = Table::new("million_restart", &["what", "ready_s", "caught_up_s"]);
    let victim = follower(&scene.cluster, scene.cluster.leader(READY_DEADLINE).await?)?;
    let back = come_back(&mut scene.cluster, &[victim], Cluster::restart).await?;
    figures.ready_s.push(back.ready_s);
    table.row(back.row("a follower"));
    let all = scene.cluster.ids();
    let back = come_back(&mut scene.cluster, &all, Cluster::restart).await?;
    figures.ready_s.push(back.ready_s);
    table.row(back.row("all nodes"));
    look_at_nodes(scene, "restarted", figures).await?;

    let victim = follower(&scene.cluster, scene.cluster.leader(READY_DEADLINE).await?)?;
    let back = come_back(&mut scene.cluster, &[victim], Cluster::restart_empty).await?;
    table.row(back.row("an empty node"));
    table.print();
    look_at_nodes(scene, "one was empty", figures).await
}

/// How long nodes took that came back, from their start on.
#[derive(Debug)]
struct Back {
    /// Until all served.
    ready_s: f64,
    /// Until all had applied what had been applied before the kill.
    caught_up_s: f64,
}

impl Back {
    fn row(&self, what: &str) -> Vec<Value> {
        vec![json!(what), json!(tenths(self.ready_s)), json!(tenths(self.caught_up_s))]
    }
}

/// Kills nodes and starts them again by `start`.
async fn come_back<T>(
    cluster: &mut Cluster,
    ids: &[u64],
    start: impl Fn(&mut Cluster, u64) -> Result<T, Error>,
) -> Result<Back, Error> {
    let leader = cluster.leader(READY_DEADLINE).await?;
    let applied = cluster.api(leader).cluster().await?.applied_index;
    for id in ids {
        cluster.kill(*id).await?;
    }
    for id in ids {
        start(cluster, *id)?;
    }
    let started = Instant::now();
    for id in ids {
        cluster.node_ready(*id, BACK_DEADLINE).await?;
    }
    let ready_s = started.elapsed().as_secs_f64();
    for id in ids {
        let api = cluster.api(*id);
        eventually(&format!("node {id} at entry {applied}"), BACK_DEADLINE, async || {
            match api.cluster().await {
                Ok(view) if view.applied_index >= applied => Ok(()),
                Ok(view) => Err(format!("at {}", view.applied_index)),
                Err(error) => Err(error.to_string()),
            }
        })
        .await?;
    }
    let caught_up_s = started.elapsed().as_secs_f64();
    cluster.whole(READY_DEADLINE).await?;
    Ok(Back { ready_s, caught_up_s })
}

fn goals_table(figures: &Figures) -> Table {
    let most = |values: &[f64]| values.iter().copied().reduce(f64::max);
    let mut table = Table::new("million_goals", &["what", "value", "goal", "met"]);
    for (what, value, goal) in [
        ("rss_mib", most(&figures.rss_mib), RSS_MIB_GOAL),
        ("restart_ready_s", most(&figures.ready_s), READY_S_GOAL),
        ("snapshot_write_p99_ratio", figures.snapshot_ratio, SNAPSHOT_GOAL),
        ("firing_cost_ratio", figures.cost_ratio, COST_GOAL),
    ] {
        let met = value.is_some_and(|value| value <= goal);
        table.row(vec![json!(what), json!(value.map(hundredths)), json!(goal), json!(met)]);
    }
    table
}

/// Bytes as MiB with one decimal.
fn mib(bytes: u64) -> Value {
    let kib = u32::try_from(bytes / 1_024).unwrap_or(u32::MAX);
    json!(tenths(f64::from(kib) / 1_024.0))
}
