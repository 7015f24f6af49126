//! What is late, lost or refused when a node is killed under load: first the leader, then a follower.

use crate::{
    scene::{CONNECTIONS, GRACE, READY_DEADLINE, Scene, WARM_UP, follower, say},
    table::{Table, lateness_cells, ms},
    writer::{Availability, Write, Writer},
};
use clap::Args;
use cluster_tests::{
    Error,
    api::NewJob,
    binary::Binary,
    check::{
        Window, every_firing_once,
        on_time::{Sample, Scope, samples},
    },
    client::Client,
    history::{Event, JobCreated},
    time::{micros, now_us},
    workload,
};
use serde_json::{Value, json};
use std::{collections::HashMap, time::Duration};
use tokio::time::sleep;

/// Calm before the kill, for comparison.
const BEFORE: Duration = Duration::from_secs(10);
/// After the kill; the dead node is still down.
const AFTER: Duration = Duration::from_secs(15);
/// A write of the loop: shorter than the harness's usual patience, so that one lost request does not look
/// like a gap of ten seconds.
const WRITE_TIMEOUT: Duration = Duration::from_secs(2);
/// How long before the kill instants count as hit: they may have been in flight.
const IN_FLIGHT: Duration = Duration::from_secs(1);

#[derive(Args, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Jobs that fire every second, all at the same instant
    #[arg(long, default_value_t = 200)]
    jobs: usize,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { jobs: 200 }
    }
}

/// What one kill did.
#[derive(Debug)]
struct Kill {
    role: &'static str,
    victim: u64,
    at_us: i64,
    /// The node of each job's newest execution before the kill.
    owners: HashMap<String, u64>,
    writes: Vec<Write>,
}

pub(crate) async fn run(binary: Binary, arguments: &Arguments) -> Result<(), Error> {
    let mut scene = Scene::open(binary).await?;
    let created = scene.start_jobs(arguments.jobs).await?;
    // Far from due, so that changing it again and again changes no firing.
    let written = NewJob::new("written", "0 0 1 1 *", scene.target.url("/ok"));
    let written = workload::create(&scene.cluster.apis(), [written], 1).await?.swap_remove(0);
    sleep(WARM_UP).await;

    let mut kills = Vec::new();
    for role in ["leader", "follower"] {
        kills.push(kill(&mut scene, role, &created, &written.job).await?);
        let victim = kills[kills.len() - 1].victim;
        scene.history.record(Event::Fault(scene.cluster.restart(victim)?));
        scene.cluster.node_ready(victim, READY_DEADLINE).await?;
        scene.cluster.whole(READY_DEADLINE).await?;
        sleep(WARM_UP).await;
    }
    sleep(GRACE).await;
    let violations = scene.judge(now_us())?;

    let samples = samples(&scene.history);
    lateness_table(&kills, &samples).print();
    writes_table(&kills).print();
    say(format!(
        "repeated calls: {}; violations of every_firing_once: {}",
        every_firing_once::repeats(&scene.history),
        violations.len()
    ));
    scene.close(&violations).await
}

async fn kill(
    scene: &mut Scene,
    role: &'static str,
    created: &[JobCreated],
    written: &str,
) -> Result<Kill, Error> {
    let leader = scene.cluster.leader(READY_DEADLINE).await?;
    let victim = if role == "leader" { leader } else { follower(&scene.cluster, leader)? };
    // The leader stays where a follower is the victim; otherwise any survivor must find the new one.
    let survivor = scene.cluster.running().into_iter().find(|id| *id != victim);
    let survivor = survivor.ok_or_else(|| Error::Input("nobody would survive".to_owned()))?;
    let api = scene.cluster.api_with(survivor, Client::new(WRITE_TIMEOUT));
    let writer = Writer::start(api, written.to_owned());
    sleep(BEFORE).await;

    let newest = workload::newest_executions(&scene.cluster.apis(), created, CONNECTIONS).await?;
    let owners = newest.into_iter().filter_map(|execution| Some((execution.job, execution.node?))).collect();
    let fault = scene.cluster.kill(victim).await?;
    let at_us = fault.at_us;
    say(format!("killed node {victim}, the {role}; writing through node {survivor}"));
    scene.history.record(Event::Fault(fault));
    sleep(AFTER).await;
    Ok(Kill { role, victim, at_us, owners, writes: writer.stop().await })
}

fn lateness_table(kills: &[Kill], samples: &[Sample]) -> Table {
    let mut table = Table::new(
        "failover_lateness",
        &["killed", "instants", "jobs_of", "jobs", "calls", "p50_ms", "p99_ms", "max_ms"],
    );
    for kill in kills {
        let before =
            Window { from_us: kill.at_us - micros(BEFORE), until_us: kill.at_us - micros(IN_FLIGHT) };
        let after = Window::around(kill.at_us, IN_FLIGHT, AFTER);
        let dead = |job: &str| kill.owners.get(job) == Some(&kill.victim);
        for (when, window) in [("before", before), ("after", after)] {
            let scope = Scope::Within(vec![window]);
            for (whose, of_dead) in [("dead node", true), ("survivors", false)] {
                let inside = samples.iter().filter(|sample| {
                    // Jobs whose node is not known count with neither.
                    scope.contains(&sample.instant)
                        && kill.owners.contains_key(&sample.instant.job)
                        && dead(&sample.instant.job) == of_dead
                });
                let [count, p50, p99, max] = lateness_cells(inside);
                let jobs = kill.owners.keys().filter(|job| dead(job) == of_dead).count();
                table.row(vec![
                    json!(kill.role),
                    json!(when),
                    json!(whose),
                    json!(jobs),
                    count,
                    p50,
                    p99,
                    max,
                ]);
            }
        }
    }
    table
}

fn writes_table(kills: &[Kill]) -> Table {
    let columns = &["killed", "when", "writes", "refused", "unknown", "slowest_ms", "longest_gap_ms"];
    let mut table = Table::new("failover_writes", columns);
    for kill in kills {
        let ends = [
            ("before", kill.at_us - micros(BEFORE) / 2, kill.at_us),
            ("after", kill.at_us, kill.at_us + micros(AFTER)),
        ];
        for (when, from_us, until_us) in ends {
            let found = Availability::between(&kill.writes, from_us, until_us);
            let inside = kill.writes.iter().filter(|write| (from_us..=until_us).contains(&write.ended_us));
            let slowest = inside.map(|write| write.ended_us - write.asked_us).max();
            table.row(vec![
                json!(kill.role),
                json!(when),
                json!(found.writes),
                json!(found.refused),
                json!(found.unknown),
                slowest.map_or(Value::Null, ms),
                ms(found.longest_gap_us),
            ]);
        }
    }
    table
}
