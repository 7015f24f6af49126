//! One node grows to three and five, loses one for good that is replaced, and shrinks to three again, while jobs fire every
//! second and clients read and write on all nodes there are.

use cluster_tests::{
    Error,
    api::NewJob,
    binary::Binary,
    check::{
        Observation, check_all, every_firing_once,
        on_time::{Bound, Scope},
        report,
    },
    cluster::{Cluster, Settings},
    history::{Event, Fault, FaultKind, History},
    registers::{self, Node, Registers},
    target::Target,
    time::{SECOND_US, now_us},
    wait::eventually,
    workload,
};
use std::{io::Write, time::Duration};
use tokio::time::timeout;

const JOBS: usize = 20;
const CONNECTIONS: usize = 4;
/// Start, elections and a state to read; a debug build on a small machine takes its time.
const READY_DEADLINE: Duration = Duration::from_secs(40);
const DRAIN_DEADLINE: Duration = Duration::from_secs(40);
/// The whole test, so that a hang fails it instead of the run it is part of.
const TEST_DEADLINE: Duration = Duration::from_secs(420);
/// What may be under way at the edges of the observation: as late as the latest call may be.
const GRACE: Duration = Duration::from_secs(9);
/// A killed node counts as dead after 2.5 s, an election may come first, and debug builds of five nodes share two cores.
const LATE_MAX_US: i64 = 8 * SECOND_US;
/// The quorum is never lost here, so that nothing may be skipped for its sake: of so many nodes a few do not matter.
const NEVER_WITHOUT_QUORUM: usize = 100;
/// How a node ends that may not go on.
const EXIT_NOT_STARTED: i32 = 2;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts real processes; run by .ci/run"]
async fn every_job_fires_once_while_nodes_join_leave_and_are_replaced() {
    timeout(TEST_DEADLINE, run()).await.expect("the run hangs").unwrap_or_else(|error| panic!("{error}"));
}

fn say(text: &str) {
    // A closed standard output must not end the run.
    let _ = writeln!(std::io::stdout(), "{text}");
}

async fn run() -> Result<(), Error> {
    let binary = Binary::locate(None)?;
    say(&format!("running {binary}"));
    let target = Target::start()?;
    let mut cluster = Cluster::start(Settings { nodes: 1, ..Settings::new(binary) })?;
    cluster.reserve(5)?;
    cluster.ready(READY_DEADLINE).await?;
    let history_path = cluster.dir().join("history.jsonl");
    let mut history = History::default();

    let url = target.url("/ok");
    let jobs = (0..JOBS).map(|number| NewJob::new(format!("member {number}"), "@every 1s", url.clone()));
    let created = workload::create(&cluster.apis(), jobs, CONNECTIONS).await?;
    created.iter().cloned().for_each(|job| history.record(Event::JobCreated(job)));
    // Also on those that do not run yet or any more.
    let nodes: Vec<Node> = cluster.ids().into_iter().map(|id| (id, cluster.api(id))).collect();
    let clients = Registers::start(
        &nodes,
        registers::Settings {
            registers: 4,
            processes: 6,
            per_second: 60,
            deletes_per_thousand: 5,
            timeout: Duration::from_secs(5),
            seed: 1,
        },
    )?;

    let outcome = changes(&mut cluster, &mut history, &target, &clients).await;
    // Whatever went wrong, what was seen until then must be there to look at.
    if outcome.is_err() {
        target.calls().into_iter().for_each(|call| history.record(Event::Call(call)));
        history.write(&history_path)?;
    }
    outcome?;
    let until_us = now_us();

    let left: Vec<Node> = cluster.running().into_iter().map(|id| (id, cluster.api(id))).collect();
    let operations = clients.stop(&left).await?;
    cluster.check_running()?;
    let index = cluster.same_state(READY_DEADLINE).await?;
    say(&format!("nodes {:?} have written the same up to log entry {index}", cluster.running()));
    history.events.extend(operations.into_iter().map(Event::Operation));
    let pages = workload::read_executions(&cluster.nodes(), &created, CONNECTIONS).await?;
    history.events.extend(pages);
    target.calls().into_iter().for_each(|call| history.record(Event::Call(call)));
    history.write(&history_path)?;
    say(&format!(
        "{} calls, {} of them repeats; {} executions read; {} operations on registers",
        history.calls().count(),
        every_firing_once::repeats(&history),
        history.executions().count(),
        history.operations().count(),
    ));

    let throughout = Bound {
        name: "throughout".to_owned(),
        scope: Scope::Outside(Vec::new()),
        p99_us_max: LATE_MAX_US,
        max_us_max: LATE_MAX_US,
    };
    let observation = Observation::of(&history, NEVER_WITHOUT_QUORUM, until_us, GRACE);
    let observation = Observation { lateness: vec![throughout], ..observation };
    if let Some(text) = report(&check_all(&history, &observation), 20) {
        panic!("{text}\nhistory: {}", history_path.display());
    }
    cluster.finish().await
}

/// Every job fires and clients are answered, a few times more.
async fn goes_on(target: &Target, clients: &Registers) -> Result<(), Error> {
    let (calls, operations) = (target.count(), clients.acknowledged());
    eventually("calls and answers", READY_DEADLINE, async || {
        let (calls, operations) = (target.count() - calls, clients.acknowledged() - operations);
        if calls >= 3 * JOBS && operations >= 50 {
            Ok(())
        } else {
            Err(format!("{calls} calls, {operations} operations"))
        }
    })
    .await
}

async fn changes(
    cluster: &mut Cluster,
    history: &mut History,
    target: &Target,
    clients: &Registers,
) -> Result<(), Error> {
    goes_on(target, clients).await?;
    for joining in [[2, 3], [4, 5]] {
        for id in joining {
            cluster.join(id)?;
        }
        cluster.all_vote(READY_DEADLINE).await?;
        say(&format!("nodes {joining:?} have joined"));
        goes_on(target, clients).await?;
    }

    // A machine is lost, and another one takes its place.
    let leader = cluster.leader(READY_DEADLINE).await?;
    let dead = if leader == 5 { 4 } else { 5 };
    history.record(Event::Fault(cluster.kill(dead).await?));
    cluster.remove(leader, dead).await?;
    cluster.join(6)?;
    cluster.all_vote(READY_DEADLINE).await?;
    say(&format!("node 6 has replaced node {dead}"));
    goes_on(target, clients).await?;
    cluster.restart(dead)?;
    ends_for_good(cluster, dead).await?;

    // One leaves in order.
    let leader = cluster.leader(READY_DEADLINE).await?;
    let leaves = cluster.running().into_iter().find(|id| *id != leader && *id != 6).unwrap_or_default();
    let (fault, status) = cluster.terminate(leaves, DRAIN_DEADLINE).await?;
    history.record(Event::Fault(fault));
    assert!(status.success(), "node {leaves} ended with {status}");
    cluster.remove(6, leaves).await?;
    cluster.all_vote(READY_DEADLINE).await?;
    say(&format!("node {leaves} was stopped and removed"));
    goes_on(target, clients).await?;

    // One is removed while it leads. For the others it is as if it had been killed.
    let leader = cluster.leader(READY_DEADLINE).await?;
    history.record(Event::Fault(Fault { node: leader, kind: FaultKind::Kill, at_us: now_us() }));
    cluster.remove(leader, leader).await?;
    ends_for_good(cluster, leader).await?;
    cluster.all_vote(READY_DEADLINE).await?;
    say(&format!("node {leader} was removed while it led"));
    goes_on(target, clients).await?;

    let successor = cluster.running().into_iter().find(|id| *id != leader).unwrap_or_default();
    cluster.operate(successor, &["cluster", "transfer-leader", &successor.to_string()]).await?;
    assert_eq!(cluster.leader(READY_DEADLINE).await?, successor);
    goes_on(target, clients).await
}

/// A node that was removed ends by itself, and says why in one line.
async fn ends_for_good(cluster: &mut Cluster, id: u64) -> Result<(), Error> {
    let (status, log) = cluster.ends(id, READY_DEADLINE).await?;
    assert_eq!(status.code(), Some(EXIT_NOT_STARTED), "node {id} ended with {status}; its log ends:\n{log}");
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with(&format!("justrun: node {id} was removed from this cluster")), "{log}");
    say(&format!("node {id} says: {last}"));
    Ok(())
}
