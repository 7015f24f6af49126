//! Clients that write and read on all nodes while the node that leads is killed and comes back: what they are told has an order.

use cluster_tests::{
    Error,
    binary::Binary,
    check::{Observation, check_all, report},
    cluster::{Cluster, Settings},
    history::{Event, History, Operation, OperationKind, Outcome},
    registers::{self, Node, Registers},
    time::now_us,
    wait::eventually,
};
use std::{
    collections::BTreeSet,
    io::Write,
    time::{Duration, Instant},
};
use tokio::time::{sleep, timeout};

/// The clients' work on the whole; the leader dies in the middle.
const LENGTH: Duration = Duration::from_secs(20);
/// How long the leader stays away.
const AWAY: Duration = Duration::from_secs(4);
/// Operations that must be acknowledged once it is back.
const ACKNOWLEDGED_AFTER: usize = 200;
/// Shorter than an election, so that many changes are given up that take effect afterwards.
const REQUEST_TIMEOUT: Duration = Duration::from_millis(500);
/// Start and elections; a debug build on a small machine takes its time.
const READY_DEADLINE: Duration = Duration::from_secs(30);
/// The whole test, so that a hang fails it instead of the run it is part of.
const TEST_DEADLINE: Duration = Duration::from_secs(180);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "starts real processes"]
async fn what_clients_are_told_has_an_order_while_a_leader_dies() {
    timeout(TEST_DEADLINE, run()).await.expect("the run hangs").unwrap_or_else(|error| panic!("{error}"));
}

async fn run() -> Result<(), Error> {
    let mut log = std::io::stdout();
    let mut say = move |text: String| {
        // A closed standard output must not end the run.
        let _ = writeln!(log, "{text}");
    };
    let settings = registers::Settings {
        registers: 3,
        processes: 10,
        per_second: 500,
        deletes_per_thousand: 3,
        timeout: REQUEST_TIMEOUT,
        seed: rand::random(),
    };
    let binary = Binary::locate(None)?;
    say(format!("running {binary}, {settings:?}"));
    let mut cluster = Cluster::start(Settings::new(binary))?;
    cluster.ready(READY_DEADLINE).await?;
    cluster.whole(READY_DEADLINE).await?;
    let history_path = cluster.dir().join("history.jsonl");
    let mut history = History::default();

    let nodes: Vec<Node> = cluster.ids().into_iter().map(|id| (id, cluster.api(id))).collect();
    let clients = Registers::start(&nodes, settings)?;
    sleep(LENGTH / 2).await;
    let leader = cluster.leader(READY_DEADLINE).await?;
    history.record(Event::Fault(cluster.kill(leader).await?));
    sleep(AWAY).await;
    history.record(Event::Fault(cluster.restart(leader)?));
    cluster.node_ready(leader, READY_DEADLINE).await?;
    sleep((LENGTH / 2).saturating_sub(AWAY)).await;
    // Healed means that there is something to check.
    let before = clients.acknowledged();
    eventually("acknowledged operations at the end", READY_DEADLINE, async || {
        let more = clients.acknowledged() - before;
        if more >= ACKNOWLEDGED_AFTER { Ok(()) } else { Err(format!("{more} operations")) }
    })
    .await?;
    let operations = clients.stop(&nodes).await?;
    cluster.check_running()?;
    history.events.extend(operations.into_iter().map(Event::Operation));
    history.write(&history_path)?;

    let observation = Observation::of(&history, cluster.ids().len(), now_us(), Duration::ZERO);
    let start = Instant::now();
    let violations = check_all(&history, &observation);
    say(summary(&history, start.elapsed()));
    if let Some(text) = report(&violations, 20) {
        panic!("{text}\nhistory: {}", history_path.display());
    }
    // All of it took place: each node answered at the end, and something was under way when the leader died.
    let last: Vec<_> =
        history.operations().filter(|operation| operation.process == settings.processes).collect();
    assert!(
        last.iter().all(|operation| matches!(operation.outcome, Outcome::Acknowledged { .. })),
        "{last:?}"
    );
    let is_unknown = |operation: &Operation| matches!(operation.outcome, Outcome::Unknown { .. });
    assert!(history.operations().any(is_unknown), "nothing was under way when the leader died");
    cluster.finish().await
}

fn summary(history: &History, took: Duration) -> String {
    let registers: BTreeSet<_> = history.operations().map(|operation| operation.register).collect();
    let count = |kind: fn(&OperationKind) -> bool, outcome: fn(&Outcome) -> bool| {
        history.operations().filter(|operation| kind(&operation.kind) && outcome(&operation.outcome)).count()
    };
    let any = |_: &OperationKind| true;
    let changes = |kind: &OperationKind| !matches!(kind, OperationKind::Read);
    let unknown = |outcome: &Outcome| matches!(outcome, Outcome::Unknown { .. });
    format!(
        "{} operations on {} registers: {} acknowledged, {} refused, {} unknown ({} of them changes); {} deletes; \
         checked in {} ms",
        history.operations().count(),
        registers.len(),
        count(any, |outcome| matches!(outcome, Outcome::Acknowledged { .. })),
        count(any, |outcome| matches!(outcome, Outcome::Refused { .. })),
        count(any, unknown),
        count(changes, unknown),
        count(|kind| matches!(kind, OperationKind::Delete), |_| true),
        took.as_millis()
    )
}
