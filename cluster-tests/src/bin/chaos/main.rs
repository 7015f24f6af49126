//! Breaks a cluster on purpose and says whether it kept its promises:
//! `cargo run --release -p cluster-tests --bin chaos -- --seed 1 --minutes 5 --faults all`.

mod bad_disk; // one without room, or that fails
mod faults; // what is done to the nodes
mod ground; // what that needs of the machine
mod load; // what users do meanwhile
mod plan; // THE TABLE of faults, and their order
mod signals; // that end a run early
mod verdict; // the page at the end
mod versions; // two releases in one cluster

use clap::{Parser, Subcommand};
use cluster_tests::{
    Error,
    binary::{Binary, Profile},
    check::{
        CLAIM_AHEAD, Observation, alerts_delivered,
        on_time::{Bound, Scope},
    },
    cluster::{Cluster, Settings},
    history::{Event, History, Proven, ShownBy, Stop},
    registers::{self, Node, Registers},
    relay::{self, Impairment},
    target::Target,
    time::{SECOND_US, micros, now_us},
    wait::eventually,
    workload,
};
use ground::Ground;
use load::Crowd;
use std::{
    collections::HashSet, error::Error as _, io::Write, path::PathBuf, process::ExitCode, time::Duration,
};
use tokio::time::{Instant, sleep};

const CONNECTIONS: usize = 8;
/// Short, so that many operations are under way, and many without an answer, when something breaks.
const OPERATION_TIMEOUT: Duration = Duration::from_millis(700);
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// What may be under way at the edges of the observation: as late as the latest call may be.
const GRACE: Duration = Duration::from_secs(12);
/// An instant is troubled from before a fault, since nodes claim ahead, until this long after its node came back: an
/// election, the death noticed (2.5 s), executions given to others; and a node that comes back reads its state on the same
/// two cores.
const TAKEOVER: Duration = Duration::from_secs(8);
/// Far from any fault, on a machine that three nodes, the target and this program share.
const CALM_P99_US_MAX: i64 = SECOND_US / 4;
const CALM_MAX_US_MAX: i64 = 2 * SECOND_US;
/// What is called at all is called this soon: the longest that a majority stays away, and a little until the cluster is one again.
const AFTER_OUTAGE_US_MAX: i64 = 25 * SECOND_US;
/// The run itself could not be carried out, or was ended from outside.
const EXIT_NOT_RUN: u8 = 2;

/// Runs real nodes, users and faults, all of them chosen by a seed, checks everything that was seen, and prints a page.
///
/// Ends with 1 if a promise was broken; with 2 if the run could not be carried out or was ended by a signal, and then the page
/// is about what was seen until then.
#[derive(Debug, Parser)]
#[command(name = "chaos", version)]
struct Arguments {
    /// Chooses faults, nodes and times; any number if there is none
    #[arg(long)]
    seed: Option<u64>,
    /// How long faults go on
    #[arg(long, default_value_t = 5.0)]
    minutes: f64,
    #[arg(long, default_value = "all", help = plan::help())]
    faults: String,
    /// An older release, for the fault mixed-version
    #[arg(long, value_name = "FILE", env = "JUSTRUN_OLD_BIN")]
    old_binary: Option<PathBuf>,
    /// Nodes of the cluster
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=7))]
    nodes: u8,
    /// Jobs that fire all the time
    #[arg(long, default_value_t = 40)]
    jobs: usize,
    /// Users who make, change, pause, resume and delete jobs, and as many who ask for runs
    #[arg(long, default_value_t = 4)]
    users: usize,
    /// Reads and writes a second whose order is checked
    #[arg(long, default_value_t = 60)]
    operations: u32,
    /// A mistake that all nodes make on purpose, to see it found, as POINT=ACTION: bug::missed=5%return. The points are
    /// bug::missed, bug::doubled, bug::late, bug::lost-record and bug::stale-read
    #[arg(long, value_name = "POINT=ACTION")]
    plant: Option<String>,
    /// Checks the history of an earlier run instead of making one
    #[arg(long, value_name = "FILE")]
    check: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

impl Arguments {
    /// The command that makes this run once more.
    fn again(&self, seed: u64) -> String {
        let Self { minutes, faults, nodes, jobs, users, operations, .. } = self;
        let mut again = format!(
            "again: cargo run --release -p cluster-tests --bin chaos -- --seed {seed} --minutes {minutes} --faults {faults} --nodes {nodes} --jobs {jobs} --users {users} --operations {operations}"
        );
        // Without it the same seed chooses the same faults, and passes over one.
        if let Some(old) = &self.old_binary {
            again.push_str(&format!(" --old-binary {}", old.display()));
        }
        if let Some(plant) = &self.plant {
            again.push_str(&format!(" --plant '{plant}'"));
        }
        again
    }
}

/// What a run starts this program as beside itself.
#[derive(Debug, Subcommand)]
enum Part {
    /// Holds up, drops and doubles what enters a TUN device, until standard input ends
    #[command(hide = true)]
    Relay {
        /// Which
        #[arg(long)]
        device: String,
        /// Chooses which packets
        #[arg(long)]
        seed: u64,
        #[command(flatten)]
        impairment: Impairment,
    },
}

#[tokio::main]
async fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments).await {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            let source = error.source().map(|source| format!(": {source}")).unwrap_or_default();
            say(format!("error: {error}{source}"));
            ExitCode::from(EXIT_NOT_RUN)
        }
    }
}

/// Prints a line.
fn say(text: impl AsRef<str>) {
    // A closed standard output is no reason to end a run.
    let _ = writeln!(std::io::stdout(), "{}", text.as_ref());
}

async fn run(arguments: &Arguments) -> Result<bool, Error> {
    if let Some(Part::Relay { device, seed, impairment }) = &arguments.part {
        return relay::run(device, *impairment, *seed).map(|()| true);
    }
    let faults = plan::parse(&arguments.faults).map_err(Error::Input)?;
    if let Some(path) = &arguments.check {
        return Ok(judge(&History::read(path)?, usize::from(arguments.nodes), None));
    }
    let seed = arguments.seed.unwrap_or_else(rand::random);
    let again = arguments.again(seed);
    say(&again);
    let ids: Vec<u64> = (1..=u64::from(arguments.nodes)).collect();
    let ground =
        ground::prepare(faults, &ids, arguments.plant.is_some(), arguments.old_binary.clone()).await?;
    let profile = Some(Profile::Release);
    let binary = if ground.has_faults { Binary::with_faults(profile) } else { Binary::locate(profile) }?;
    say(format!("running {binary}"));
    let target = match &ground.net {
        Some(net) => Target::start_at(net.harness())?,
        None => Target::start()?,
    };
    let settings =
        Settings { nodes: ids.len(), net: ground.net.clone(), disks: ground.disks, ..Settings::new(binary) };
    let mut cluster = Cluster::start(settings)?;
    let path = cluster.dir().join("history.jsonl");
    let mut history = History::default();
    let mut crowd = None;
    let outcome = tokio::select! {
        outcome = live(arguments, seed, &ground, &target, &mut cluster, &mut history, &mut crowd) => outcome,
        error = signals::come() => Err(error),
    };
    // Whatever went wrong, what was seen until then must be there to look at.
    if let Some(crowd) = crowd {
        history.events.extend(crowd.break_off().await);
    }
    history.events.extend(target.behave().map(Event::Misbehaved));
    history.events.extend(target.events());
    history.write(&path)?;

    if outcome.is_err() {
        say("the run did not get to its end; this is what was seen until then");
    }
    let wanted = verdict::Wanted { asked: &ground.asked, possible: &ground.possible };
    let is_valid = judge(&history, usize::from(arguments.nodes), Some(wanted));
    say(&again);
    if let Err(error) = outcome {
        say(format!("history: {}", path.display()));
        return Err(error);
    }
    if is_valid {
        cluster.finish().await?;
    } else {
        say(format!("history: {}", path.display()));
    }
    Ok(is_valid)
}

/// The run itself. The crowd is there from its start to its end.
async fn live(
    arguments: &Arguments,
    seed: u64,
    ground: &Ground,
    target: &Target,
    cluster: &mut Cluster,
    history: &mut History,
    crowd: &mut Option<Crowd>,
) -> Result<(), Error> {
    cluster.ready(READY_DEADLINE).await?;
    cluster.whole(READY_DEADLINE).await?;
    if let Some(plant) = &arguments.plant {
        let (point, action) =
            plant.split_once('=').ok_or_else(|| Error::Input(format!("{plant} is not POINT=ACTION")))?;
        for node in cluster.ids() {
            cluster.put_faults(node, &format!("[points]\n\"{point}\" = \"{action}\"\n"))?;
        }
    }
    let channels = load::channels(&cluster.apis()[0], target).await?;
    history.events.extend(channels.iter().cloned().map(Event::Channel));
    let jobs = (0..arguments.jobs).map(|number| load::lasting_job(number, target, &channels));
    let lasting = workload::create(&cluster.apis(), jobs, CONNECTIONS).await?;
    history.events.extend(lasting.iter().cloned().map(Event::JobCreated));

    let nodes: Vec<Node> = cluster.nodes();
    let registers = Registers::start(
        &nodes,
        registers::Settings {
            registers: 3,
            processes: 10,
            per_second: arguments.operations.max(1),
            deletes_per_thousand: 5,
            timeout: OPERATION_TIMEOUT,
            seed,
        },
    )?;

    let jobs: Vec<_> = lasting.iter().map(|created| created.job.clone()).collect();
    let people = Crowd::start(arguments.users, seed, &cluster.apis(), target, &jobs, registers);
    let crowd = crowd.insert(people);
    tokio::select! {
        done = break_things(arguments, seed, ground, target, cluster, history) => done?,
        error = crowd.failure() => return Err(error),
    }
    history.events.extend(crowd.end(&nodes).await?);
    // Healed means more than running: every job goes on.
    let before = target.count();
    eventually("calls after the last fault", READY_DEADLINE, async || {
        let more = target.count() - before;
        if more >= 2 * arguments.jobs { Ok(()) } else { Err(format!("{more} calls")) }
    })
    .await?;
    // So that what was due until now is over, one way or the other.
    sleep(GRACE).await;
    let index = cluster.same_state(READY_DEADLINE).await?;
    say(format!("all nodes have written the same up to log entry {index}"));
    look(&nodes, history).await?;
    let proven = second_opinion(cluster, seed, history).await;
    history.events.extend(proven.map(Event::Proven));
    // What they tell of is over; the last messages may be on their way.
    let observation = Observation::of(history, nodes.len(), now_us(), GRACE);
    let owed = alerts_delivered::Owed::of(history, &observation);
    let waited = eventually("messages to channels", alerts_delivered::SOON, async || {
        match owed.left(&target.alerts()) {
            0 => Ok(()),
            left => Err(format!("{left} to come")),
        }
    });
    if let Err(error) = waited.await {
        say(error.to_string());
    }
    cluster.check_running()
}

/// One fault after the other, until the time is up.
async fn break_things(
    arguments: &Arguments,
    seed: u64,
    ground: &Ground,
    target: &Target,
    cluster: &mut Cluster,
    history: &mut History,
) -> Result<(), Error> {
    let start = Instant::now();
    let end = start + Duration::from_secs_f64(arguments.minutes * 60.0);
    for step in plan::steps(seed, ground.asked.clone(), ground.possible.clone()) {
        sleep(step.calm).await;
        if Instant::now() >= end {
            break;
        }
        let at = start.elapsed().as_secs_f64();
        let over = faults::carry_out(&step, ground.old.as_ref(), cluster, target, history).await?;
        say(format!(
            "{at:>6.1} s: {} for {:.1} s (leader {}); whole {:.1} s later",
            over.fault,
            seconds(over.lasting_us),
            over.leader,
            seconds(over.whole_us)
        ));
        history.record(Event::Healed(over));
    }
    // With no faults to be had, time passes without.
    sleep(end.saturating_duration_since(Instant::now())).await;
    Ok(())
}

fn seconds(time_us: i64) -> f64 {
    time_us as f64 / SECOND_US as f64
}

/// What the service itself says of the time from when all was set up until the executions were read, by a node that the seed
/// chooses; nothing of a run that was shorter than what may be under way at its edges.
async fn second_opinion(cluster: &Cluster, seed: u64, history: &History) -> Option<Proven> {
    let from_us = history.jobs().map(|job| job.acknowledged_us).min()? + micros(GRACE);
    let until_us = history.reads().map(|read| read.asked_us).min()?;
    let (from_s, until_s) = (from_us.div_euclid(SECOND_US), until_us.div_euclid(SECOND_US));
    let ids = cluster.ids();
    let node = ids.get(seed as usize % ids.len().max(1))?;
    if from_s >= until_s {
        return None;
    }
    Some(cluster.second_opinion(*node, from_s, until_s).await)
}

/// Reads what there is in the end, on every node: the jobs, and what became of their executions.
async fn look(nodes: &[Node], history: &mut History) -> Result<(), Error> {
    for (node, api) in nodes {
        history.record(Event::ShownBy(ShownBy { node: *node, asked_us: now_us() }));
        history.events.extend(api.shown(*node).await?.into_iter().map(Event::Shown));
    }
    let deleted: HashSet<_> =
        history.stops().filter(|stopped| stopped.how == Stop::Deleted).map(|stopped| &stopped.job).collect();
    let left: Vec<_> = history.jobs().filter(|created| !deleted.contains(&created.job)).cloned().collect();
    history.events.extend(workload::read_executions(nodes, &left, CONNECTIONS).await?);
    Ok(())
}

/// Until when there is something to judge: when the executions were read. In a run that did not get there it is when the cluster
/// was last known to be whole, since what it does in the middle of a fault is no lasting loss.
fn observed_until_us(history: &History) -> i64 {
    let read_us = history.reads().map(|read| read.asked_us).min();
    let whole_us = || history.healed().map(|healed| healed.at_us + healed.whole_us).max();
    let arrived_us = || history.calls().map(|call| call.arrived_us).max();
    read_us.or_else(whole_us).or_else(arrived_us).unwrap_or_default()
}

/// Prints the page about a run.
fn judge(history: &History, nodes: usize, wanted: Option<verdict::Wanted<'_>>) -> bool {
    let until_us = observed_until_us(history);
    let troubled = verdict::troubled(history, CLAIM_AHEAD, TAKEOVER);
    let bound = |name: &str, scope, p99_us_max, max_us_max| Bound {
        name: name.to_owned(),
        scope,
        p99_us_max,
        max_us_max,
    };
    let mut lateness =
        vec![bound("calm", Scope::Outside(troubled.clone()), CALM_P99_US_MAX, CALM_MAX_US_MAX)];
    if !troubled.is_empty() {
        let within = Scope::Within(troubled.clone());
        lateness.push(bound("around a fault", within, AFTER_OUTAGE_US_MAX, AFTER_OUTAGE_US_MAX));
    }
    let observation = Observation { lateness, ..Observation::of(history, nodes, until_us, GRACE) };
    let (page, is_valid) = verdict::verdict(history, &observation, wanted, &troubled);
    say(page);
    is_valid
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster_tests::history::{Call, Healed, JobRead};

    fn called(arrived_us: i64) -> Event {
        Event::Call(Call {
            arrived_us,
            arrived_monotonic_us: 0,
            path: "/ok".to_owned(),
            job: None,
            execution: None,
            attempt: None,
            scheduled_s: None,
            status: None,
        })
    }

    #[test]
    fn a_run_that_broke_off_is_judged_until_the_cluster_was_last_whole() {
        let read = |asked_us| Event::JobRead(JobRead { job: "a".to_owned(), asked_us });
        let healed = |at_us| {
            let (fault, leader, lasting_us) = ("roll".to_owned(), 1, 1);
            Event::Healed(Healed { fault, leader, lasting_us, at_us, ready_us: 5, whole_us: 10 })
        };
        let until_us = |events| observed_until_us(&History { events });
        assert_eq!(until_us(vec![healed(100), healed(200), called(300), read(400), read(500)]), 400);
        assert_eq!(until_us(vec![healed(100), healed(200), called(300)]), 210);
        assert_eq!(until_us(vec![called(300), called(400)]), 400);
        assert_eq!(until_us(vec![]), 0);
    }

    #[test]
    fn a_run_can_be_made_once_more() {
        let words =
            ["chaos", "--minutes", "2", "--faults", "roll", "--old-binary", "/tmp/old", "--plant", "a=b"];
        let again = Arguments::parse_from(words).again(7);
        let (_, words) = again.split_once(" chaos -- ").unwrap();
        let words = words.replace('\'', "");
        let arguments = Arguments::parse_from(std::iter::once("chaos").chain(words.split(' ')));
        assert_eq!(arguments.again(7), again);
        assert_eq!((arguments.seed, arguments.plant.as_deref()), (Some(7), Some("a=b")));
    }
}
