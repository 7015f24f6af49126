//! A minute in the life of three nodes, two of which are killed and come back, one of them with an empty disk, under jobs
//! that fire every second.

use cluster_tests::{
    Error,
    api::NewJob,
    binary::Binary,
    check::{
        CLAIM_AHEAD, Observation, Window, check_all, every_firing_once,
        on_time::{Bound, Scope, samples, summarize},
        report,
    },
    cluster::{Cluster, Settings},
    history::{Event, FaultKind, History},
    target::Target,
    time::{SECOND_US, now_us},
    wait::eventually,
    workload,
};
use std::{io::Write, path::Path, time::Duration};
use tokio::time::{Instant, sleep_until, timeout};

const NODES: usize = 3;
const JOBS: usize = 50;
const CONNECTIONS: usize = 8;
/// Start, elections and a state to read; a debug build on a small machine takes its time.
const READY_DEADLINE: Duration = Duration::from_secs(30);
const HEALED_DEADLINE: Duration = Duration::from_secs(15);
/// The whole test, so that a hang fails it instead of the run it is part of.
const TEST_DEADLINE: Duration = Duration::from_secs(240);
/// What may be under way at the edges of the observation: as late as the latest call may be.
const GRACE: Duration = Duration::from_secs(8);

/// A node counts as dead after 2.5 s, an election may come first, and then its executions are given to others.
const TAKEOVER: Duration = Duration::from_secs(6);
/// Instants far from any fault. Loose, because debug builds of three nodes share a small machine with whatever
/// else runs on it; the release figures are the bench's.
const CALM_P99_US_MAX: i64 = SECOND_US / 4;
const CALM_MAX_US_MAX: i64 = SECOND_US;
/// Instants whose node was killed.
const FAULT_MAX_US_MAX: i64 = 7 * SECOND_US;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts real processes; run by .ci/run"]
async fn every_job_fires_once_while_nodes_die_and_return() {
    timeout(TEST_DEADLINE, run()).await.expect("the run hangs").unwrap_or_else(|error| panic!("{error}"));
}

async fn run() -> Result<(), Error> {
    let mut log = std::io::stdout();
    let mut say = move |text: String| {
        // A closed standard output must not end the run.
        let _ = writeln!(log, "{text}");
    };
    let binary = Binary::locate(None)?;
    say(format!("running {binary}"));

    let target = Target::start()?;
    let mut cluster = Cluster::start(Settings::new(binary))?;
    cluster.ready(READY_DEADLINE).await?;
    cluster.whole(READY_DEADLINE).await?;
    let history_path = cluster.dir().join("history.jsonl");
    let mut history = History::default();

    let url = target.url("/ok");
    let jobs = (0..JOBS).map(|number| NewJob::new(format!("smoke {number}"), "@every 1s", url.clone()));
    let created = workload::create(&cluster.apis(), jobs, CONNECTIONS).await?;
    created.iter().cloned().for_each(|job| history.record(Event::JobCreated(job)));

    let outcome = faults(&mut cluster, &mut history, &mut say).await;
    // Whatever went wrong, what was seen until then must be there to look at.
    if outcome.is_err() {
        target.calls().into_iter().for_each(|call| history.record(Event::Call(call)));
        history.write(&history_path)?;
    }
    outcome?;
    let until_us = now_us();

    // Healed means more than running: the jobs go on, and all three nodes are part of it.
    cluster.check_running()?;
    cluster.whole(HEALED_DEADLINE).await?;
    let before = target.count();
    eventually("calls after the last fault", HEALED_DEADLINE, async || {
        let more = target.count() - before;
        if more >= 2 * JOBS { Ok(()) } else { Err(format!("{more} calls")) }
    })
    .await?;
    let index = cluster.same_state(HEALED_DEADLINE).await?;
    say(format!("all nodes have written the same up to log entry {index}"));

    let pages = workload::read_executions(&cluster.nodes(), &created, CONNECTIONS).await?;
    history.events.extend(pages);
    target.calls().into_iter().for_each(|call| history.record(Event::Call(call)));
    history.write(&history_path)?;

    judge(&history, until_us, &history_path, &mut say);
    cluster.finish().await
}

/// Kills and restarts at fixed offsets from now; returns after a minute.
async fn faults(
    cluster: &mut Cluster,
    history: &mut History,
    say: &mut impl FnMut(String),
) -> Result<(), Error> {
    let start = Instant::now();
    let at = |second| sleep_until(start + Duration::from_secs(second));

    at(15).await;
    let leader = cluster.leader(HEALED_DEADLINE).await?;
    history.record(Event::Fault(cluster.kill(leader).await?));
    say(format!("{:>5.1} s: killed node {leader}, the leader", start.elapsed().as_secs_f64()));

    at(22).await;
    history.record(Event::Fault(cluster.restart(leader)?));
    say(format!("{:>5.1} s: restarted node {leader}", start.elapsed().as_secs_f64()));
    cluster.node_ready(leader, READY_DEADLINE).await?;
    say(format!("{:>5.1} s: node {leader} is ready", start.elapsed().as_secs_f64()));

    at(35).await;
    let leader = cluster.leader(HEALED_DEADLINE).await?;
    let follower = cluster.running().into_iter().find(|id| *id != leader);
    let follower = follower.ok_or_else(|| Error::Input("no follower runs".to_owned()))?;
    history.record(Event::Fault(cluster.kill(follower).await?));
    say(format!("{:>5.1} s: killed node {follower}, a follower", start.elapsed().as_secs_f64()));

    at(42).await;
    history.record(Event::Fault(cluster.restart_empty(follower)?));
    say(format!("{:>5.1} s: restarted node {follower} with an empty disk", start.elapsed().as_secs_f64()));
    cluster.node_ready(follower, READY_DEADLINE).await?;
    say(format!("{:>5.1} s: node {follower} is ready", start.elapsed().as_secs_f64()));

    at(60).await;
    Ok(())
}

fn judge(history: &History, until_us: i64, history_path: &Path, say: &mut impl FnMut(String)) {
    let around = |fault: &cluster_tests::history::Fault| match fault.kind {
        FaultKind::Kill => Window::around(fault.at_us, CLAIM_AHEAD, TAKEOVER),
        // A node that comes back takes work over in an orderly way, but reads its state on the same two cores.
        _ => Window::around(fault.at_us, Duration::ZERO, TAKEOVER),
    };
    let troubled: Vec<_> = history.faults().map(around).collect();
    let calm = Bound {
        name: "calm".to_owned(),
        scope: Scope::Outside(troubled.clone()),
        p99_us_max: CALM_P99_US_MAX,
        max_us_max: CALM_MAX_US_MAX,
    };
    let fault = Bound {
        name: "around a fault".to_owned(),
        scope: Scope::Within(troubled),
        p99_us_max: FAULT_MAX_US_MAX,
        max_us_max: FAULT_MAX_US_MAX,
    };

    let samples = samples(history);
    for bound in [&calm, &fault] {
        let inside = samples.iter().filter(|sample| bound.scope.contains(&sample.instant));
        if let Some(summary) = summarize(inside) {
            let ms = |us: i64| us / 1_000;
            say(format!(
                "lateness, {}: {} instants, p50 {} ms, p99 {} ms, max {} ms",
                bound.name,
                summary.count,
                ms(summary.p50_us),
                ms(summary.p99_us),
                ms(summary.max_us)
            ));
        }
    }
    say(format!(
        "{} calls, {} of them repeats; {} executions read",
        history.calls().count(),
        every_firing_once::repeats(history),
        history.executions().count()
    ));

    let observation =
        Observation { lateness: vec![calm, fault], ..Observation::of(history, NODES, until_us, GRACE) };
    let violations = check_all(history, &observation);
    if let Some(text) = report(&violations, 20) {
        panic!("{text}\nhistory: {}", history_path.display());
    }
}
