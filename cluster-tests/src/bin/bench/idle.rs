//! What many jobs cost while none is due, and how long a node takes to come back with them.

use crate::{
    cost::pid,
    scene::{LOADERS, READY_DEADLINE, Scene, follower},
    table::{Table, tenths},
};
use clap::Args;
use cluster_tests::{
    Error,
    api::NewJob,
    binary::Binary,
    usage::{self, Usage},
    workload,
};
use serde_json::json;
use std::time::{Duration, Instant};
use tokio::time::sleep;

/// After the last create: flushes end, buffers are given back.
const SETTLE: Duration = Duration::from_secs(5);
/// How long the idle nodes are watched.
const WATCHED: Duration = Duration::from_secs(20);

#[derive(Args, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Jobs that are due next New Year
    #[arg(long, default_value_t = 100_000)]
    jobs: usize,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { jobs: 100_000 }
    }
}

pub(crate) async fn run(binary: Binary, arguments: &Arguments) -> Result<(), Error> {
    let mut scene = Scene::open(binary).await?;
    let url = scene.target.url("/ok");
    let jobs =
        (0..arguments.jobs).map(|number| NewJob::new(format!("idle {number}"), "0 0 1 1 *", url.clone()));
    let start = Instant::now();
    let created = workload::create(&scene.cluster.apis(), jobs, LOADERS).await?.len();
    let load_s = start.elapsed().as_secs_f64();
    let count = f64::from(u32::try_from(created).unwrap_or(u32::MAX));
    let mut table = Table::new("idle_load", &["jobs", "seconds", "jobs_per_second"]);
    table.row(vec![json!(created), json!(tenths(load_s)), json!(tenths(count / load_s))]);
    table.print();

    sleep(SETTLE).await;
    let mut table = Table::new("idle_nodes", &["node", "role", "rss_mib", "cpu_percent"]);
    for Idle { node, role, rss_mib, cpu_percent, .. } in watch(&scene).await? {
        table.row(vec![json!(node), json!(role), json!(tenths(rss_mib)), json!(tenths(cpu_percent))]);
    }
    table.print();

    let leader = scene.cluster.leader(READY_DEADLINE).await?;
    let mut table = Table::new("idle_restart", &["node", "role", "jobs", "ready_s"]);
    for (role, id) in [("follower", follower(&scene.cluster, leader)?), ("leader", leader)] {
        scene.cluster.kill(id).await?;
        let start = Instant::now();
        scene.cluster.restart(id)?;
        scene.cluster.node_ready(id, READY_DEADLINE).await?;
        table.row(vec![json!(id), json!(role), json!(created), json!(tenths(start.elapsed().as_secs_f64()))]);
        scene.cluster.whole(READY_DEADLINE).await?;
    }
    table.print();
    scene.close(&[]).await
}

/// What a node costs that has nothing to do.
#[derive(Debug)]
pub(crate) struct Idle {
    pub(crate) node: u64,
    pub(crate) role: Option<String>,
    pub(crate) rss_mib: f64,
    /// The most since its start.
    pub(crate) peak_mib: f64,
    /// Of one core.
    pub(crate) cpu_percent: f64,
}

/// Watches all nodes for a while.
pub(crate) async fn watch(scene: &Scene) -> Result<Vec<Idle>, Error> {
    let mut before = Vec::new();
    for id in scene.cluster.ids() {
        let pid = pid(&scene.cluster, id)?;
        before.push((id, pid, usage::of(pid)?));
    }
    let watched = Instant::now();
    sleep(WATCHED).await;
    let view = scene.cluster.whole(READY_DEADLINE).await?;
    let look = |(node, pid, before): (u64, u32, Usage)| {
        let after = usage::of(pid)?;
        let cpu_percent = (after.cpu_s - before.cpu_s) / watched.elapsed().as_secs_f64() * 100.0;
        let role =
            view.members.iter().find(|member| member.node_id == node).map(|member| member.role.clone());
        let mib = |kib: u64| f64::from(u32::try_from(kib).unwrap_or(u32::MAX)) / 1_024.0;
        let (rss_mib, peak_mib) = (mib(after.rss_kib), mib(after.rss_peak_kib));
        Ok(Idle { node, role, rss_mib, peak_mib, cpu_percent })
    };
    before.into_iter().map(look).collect()
}
