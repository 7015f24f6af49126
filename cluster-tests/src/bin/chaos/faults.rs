//! Carries out the steps of a plan, and heals what they broke.

use crate::plan::{Fault, Step};
use crate::{bad_disk, versions};
use cluster_tests::{
    Error,
    binary::Binary,
    cluster::Cluster,
    history::{self, Event, FaultKind, Healed, History, Mode, Skewed},
    target::Target,
    time::{micros, now_us},
};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// A node that comes back reads its state, on two cores that three nodes share.
const READY_DEADLINE: Duration = Duration::from_secs(60);
/// From when all nodes run until they are one cluster again. Not a bound on what is promised, which the verdict shows, but
/// on how long a run waits before it says that the cluster does not come back.
pub(crate) const WHOLE_DEADLINE: Duration = Duration::from_secs(60);
/// A node that is told to stop lets its requests end.
const STOP_DEADLINE: Duration = Duration::from_secs(60);

/// Does what a step says, with `old` as the older release, and waits until the cluster is whole again.
///
/// # Errors
/// A node that ended by itself or does not stop; a cluster that does not come back.
pub(crate) async fn carry_out(
    step: &Step,
    old: Option<&Binary>,
    cluster: &mut Cluster,
    target: &Target,
    history: &mut History,
) -> Result<Healed, Error> {
    let leader = cluster.leader(WHOLE_DEADLINE).await?;
    let mut others = cluster.ids();
    others.retain(|id| *id != leader);
    let follower = others[step.pick % others.len()];
    others.retain(|id| *id != follower);
    // Among all nodes: the leader as often as not.
    let any = if step.seed.is_multiple_of(2) { leader } else { follower };
    let all_but_one: Vec<_> = std::iter::once(leader).chain(others).collect();
    // What a node with a bad disk takes to keep up with the others again is counted there.
    let mut before = Duration::ZERO;

    match step.fault {
        Fault::KillLeader => kill(&[leader], step.lasting, cluster, history).await?,
        Fault::KillFollower => kill(&[follower], step.lasting, cluster, history).await?,
        Fault::KillMajority => kill(&all_but_one, step.lasting, cluster, history).await?,
        Fault::KillAll => kill(&cluster.ids(), step.lasting, cluster, history).await?,
        Fault::PauseLeader => pause(&[leader], step.lasting, cluster, history).await?,
        Fault::PauseFollower => pause(&[follower], step.lasting, cluster, history).await?,
        Fault::PauseMajority => pause(&all_but_one, step.lasting, cluster, history).await?,
        Fault::CutLeader => {
            cut(leader, both_ways(leader, &cluster.ids()), step.lasting, cluster, history).await?;
        }
        Fault::CutFollower => {
            cut(follower, both_ways(follower, &cluster.ids()), step.lasting, cluster, history).await?;
        }
        Fault::CutOneWay => {
            let mut pairs = both_ways(leader, &cluster.ids());
            pairs.retain(|(from, _)| (*from == leader) == step.pick.is_multiple_of(2));
            cut(leader, pairs, step.lasting, cluster, history).await?;
        }
        Fault::CutBridge => {
            cut(follower, both_ways(leader, &[follower]), step.lasting, cluster, history).await?;
        }
        Fault::Roll => roll(None, cluster, history).await?,
        Fault::LoseDisk => {
            history.record(Event::Fault(cluster.kill(follower).await?));
            sleep(step.lasting).await;
            history.record(Event::Fault(cluster.restart_empty(follower)?));
        }
        Fault::ClockForward => {
            wrong_clock(any, step.fault.jump_ms(step.seed), step.lasting, cluster, history).await?
        }
        Fault::ClockBack => {
            wrong_clock(any, -step.fault.jump_ms(step.seed), step.lasting, cluster, history).await?
        }
        Fault::ClockSkew => skew_clock(any, step, cluster, history).await?,
        Fault::SlowDisk => {
            let points = sync_point(&format!("sleep({})", step.fault.sync_ms(step.seed)));
            stand_still(any, &points, step.lasting, cluster, history).await?;
        }
        Fault::FsyncFails => before = bad_disk::fsync_fails(any, step.lasting, cluster, history).await?,
        Fault::NetSlow | Fault::NetLossy => {
            let ids = cluster.ids();
            let pairs: Vec<_> = ids.iter().flat_map(|from| ids.iter().map(|to| (*from, *to))).collect();
            impair(step, leader, &pairs, cluster, history).await?;
        }
        Fault::NetMessy => {
            impair(step, leader, &both_ways(leader, &cluster.ids()), cluster, history).await?;
        }
        Fault::DiskFull => before = bad_disk::disk_full(any, step.lasting, cluster, history).await?,
        Fault::TornWrite => {
            history.record(Event::Fault(cluster.kill(any).await?));
            sleep(step.lasting).await;
            cluster.tear_last_write(any, step.seed)?;
            history.record(Event::Fault(cluster.restart(any)?));
        }
        Fault::MixedVersion => versions::mixed(old, step.lasting, cluster, history).await?,
        Fault::TargetFail => misbehave(Mode::Fail, step.lasting, target, history).await,
        Fault::TargetHang => misbehave(Mode::Hang, step.lasting, target, history).await,
        Fault::TargetRefuse => misbehave(Mode::Refuse, step.lasting, target, history).await,
    }

    let (healed, at_us) = (Instant::now(), now_us());
    cluster.ready(READY_DEADLINE).await?;
    let ready = before + healed.elapsed();
    cluster.whole(WHOLE_DEADLINE).await?;
    let whole = before + healed.elapsed();
    cluster.check_running()?;
    let (fault, lasting_us) = (step.fault.name().to_owned(), micros(step.lasting));
    Ok(Healed { fault, leader, lasting_us, at_us, ready_us: micros(ready), whole_us: micros(whole) })
}

async fn kill(
    nodes: &[u64],
    lasting: Duration,
    cluster: &mut Cluster,
    history: &mut History,
) -> Result<(), Error> {
    for node in nodes {
        history.record(Event::Fault(cluster.kill(*node).await?));
    }
    sleep(lasting).await;
    for node in nodes {
        history.record(Event::Fault(cluster.restart(*node)?));
    }
    Ok(())
}

async fn pause(
    nodes: &[u64],
    lasting: Duration,
    cluster: &Cluster,
    history: &mut History,
) -> Result<(), Error> {
    for node in nodes {
        history.record(Event::Fault(cluster.pause(*node)?));
    }
    sleep(lasting).await;
    for node in nodes {
        history.record(Event::Fault(cluster.resume(*node)?));
    }
    Ok(())
}

/// The pairs of one node with others, in both directions.
fn both_ways(node: u64, others: &[u64]) -> Vec<(u64, u64)> {
    let others = others.iter().filter(|other| **other != node);
    others.flat_map(|other| [(node, *other), (*other, node)]).collect()
}

async fn cut(
    node: u64,
    pairs: Vec<(u64, u64)>,
    lasting: Duration,
    cluster: &Cluster,
    history: &mut History,
) -> Result<(), Error> {
    history.record(Event::Fault(cluster.cut(node, pairs)?));
    sleep(lasting).await;
    history.record(Event::Fault(cluster.heal(node)?));
    Ok(())
}

/// A node whose clock is wrong does nothing: to the others and to the checkers it is one that was stopped.
async fn wrong_clock(
    node: u64,
    offset_ms: i64,
    lasting: Duration,
    cluster: &Cluster,
    history: &mut History,
) -> Result<(), Error> {
    stand_still(node, &format!("clock_offset_ms = {offset_ms}\n"), lasting, cluster, history).await
}

/// A node whose clock is off by less than what counts as wrong goes on, by its own time.
async fn skew_clock(node: u64, step: &Step, cluster: &Cluster, history: &mut History) -> Result<(), Error> {
    let (offset_ms, from_us) = (step.fault.skew_ms(step.seed), now_us());
    cluster.put_faults(node, &format!("clock_offset_ms = {offset_ms}\n"))?;
    sleep(step.lasting).await;
    cluster.put_faults(node, "")?;
    history.record(Event::Skewed(Skewed { node, offset_ms, from_us, until_us: now_us() }));
    Ok(())
}

/// What happens when a node's log is synced.
pub(crate) fn sync_point(action: &str) -> String {
    format!("[points]\n\"log_fd::sync::err\" = \"{action}\"\n")
}

/// Puts faults into a node under which it may do nothing.
async fn stand_still(
    node: u64,
    faults: &str,
    lasting: Duration,
    cluster: &Cluster,
    history: &mut History,
) -> Result<(), Error> {
    let fault = |kind| Event::Fault(history::Fault::now(node, kind));
    history.record(fault(FaultKind::Pause));
    cluster.put_faults(node, faults)?;
    sleep(lasting).await;
    cluster.put_faults(node, "")?;
    history.record(fault(FaultKind::Resume));
    Ok(())
}

async fn impair(
    step: &Step,
    node: u64,
    pairs: &[(u64, u64)],
    cluster: &Cluster,
    history: &mut History,
) -> Result<(), Error> {
    let pairs: Vec<_> = pairs.iter().copied().filter(|(from, to)| from != to).collect();
    let impairment = step.fault.impairment(step.seed);
    history.record(Event::Fault(cluster.impair(node, &pairs, impairment, step.seed)?));
    sleep(step.lasting).await;
    history.record(Event::Fault(cluster.heal(node)?));
    Ok(())
}

async fn misbehave(mode: Mode, lasting: Duration, target: &Target, history: &mut History) {
    target.misbehave(mode);
    sleep(lasting).await;
    history.events.extend(target.behave().map(Event::Misbehaved));
}

/// Stops one node after the other and starts it again, as another build if one is named.
pub(crate) async fn roll(
    binary: Option<&Binary>,
    cluster: &mut Cluster,
    history: &mut History,
) -> Result<(), Error> {
    for node in cluster.ids() {
        let (fault, status) = cluster.terminate(node, STOP_DEADLINE).await?;
        history.record(Event::Fault(fault));
        if !status.success() {
            return Err(Error::Input(format!("node {node} was told to stop and ended with {status}")));
        }
        let restarted = match binary {
            Some(binary) => cluster.restart_as(node, binary)?,
            None => cluster.restart(node)?,
        };
        history.record(Event::Fault(restarted));
        cluster.node_ready(node, READY_DEADLINE).await?;
        cluster.whole(WHOLE_DEADLINE).await?;
    }
    Ok(())
}
