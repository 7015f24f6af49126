//! What runs beside consensus as long as it does.

use crate::contact::Contact;
use crate::error::ServiceError;
use crate::office::Office;
use crate::settings::{Settings, SnapshotSettings};
use crate::types::Raft;
use crate::way::Way;
use domain::id::NodeId;
use openraft::async_runtime::WatchReceiver;
use openraft::impls::BasicNode;
use proto::cluster::FormationRequest;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use storage::Log;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long a peer may take to say whether the cluster exists.
const FORMATION_TIMEOUT: Duration = Duration::from_millis(500);
/// Wait between two rounds of asking.
const FORMATION_INTERVAL: Duration = Duration::from_millis(200);
/// Rounds after which silent peers no longer hold up the first election. They find the cluster formed later on.
const FORMATION_ROUNDS: u32 = 8;
/// An unanswered sign of life is given up after so many intervals.
const PING_PATIENCE: u32 = 2;

/// Forms the cluster if it does not exist yet, then sends signs of life until `stop`.
pub(crate) async fn keep_in_touch(
    office: Office,
    settings: Settings,
    mut applied: watch::Receiver<u64>,
    stop: CancellationToken,
) {
    let formed = async {
        form(&office, &settings.members).await;
        if !office.may_vote.load(Ordering::Acquire) {
            // Signs of life go on meanwhile: the leader is to know how far this node is.
            tokio::select! {
                () = catch_up(&office, applied.clone()) => {}
                () = signs_of_life(&office, &office.contact, &settings, applied.clone()) => {}
            }
        }
    };
    tokio::select! {
        () = stop.cancelled() => return,
        () = formed => {}
    }
    applied.mark_unchanged();
    tokio::select! {
        () = stop.cancelled() => {}
        () = signs_of_life(&office, &office.contact, &settings, applied) => {}
    }
}

/// Tells the leader again and again that this node is alive. Never ends.
pub(crate) async fn signs_of_life(
    way: &dyn Way,
    contact: &Contact,
    settings: &Settings,
    mut applied: watch::Receiver<u64>,
) {
    let mut ticks = interval(settings.ping_interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        contact.follow_office();
        let Some(leader) = way.leader().filter(|leader| *leader != settings.node) else { continue };
        let patience = settings.ping_interval * PING_PATIENCE;
        let sent = contact.elapsed();
        let now_applied = *applied.borrow();
        let Some(heard) = way.ping(leader, now_applied, patience).await else { continue };
        contact.learn(heard.members);
        // A node that was frozen hears of the leader before it hears of what happened meanwhile, such as that what it
        // holds was given to others. It is in touch only once it has applied that.
        let caught_up = applied.wait_for(|applied| *applied >= heard.committed);
        if timeout(patience, caught_up).await.is_ok_and(|applied| applied.is_ok()) {
            contact.leader_answered(sent);
        }
    }
}

/// Keeps a node that knows nothing out of elections until [`form`] has found out whether it lost its disk. To be called
/// before the node serves its peers.
pub(crate) async fn abstain_if_empty(office: &Office, members: &BTreeMap<NodeId, String>) {
    if !members.is_empty() && matches!(office.raft.is_initialized().await, Ok(false)) {
        abstain(office, true);
    }
}

/// Forms the cluster of `members`, unless this node knows of it or it exists.
///
/// All members may do this at once: the entry that founds a cluster is the same for all. A member that has lost its
/// disk must not, so it asks the others first; and it must not vote or stand for election until it has been filled, since
/// it no longer knows what it voted for and what it had acknowledged.
async fn form(office: &Office, members: &BTreeMap<NodeId, String>) {
    if office.may_vote.load(Ordering::Acquire) {
        return;
    }
    for round in 0.. {
        let others = members.keys().copied().filter(|node| *node != office.me);
        let answers = futures::future::join_all(others.map(|node| is_formed(office, node))).await;
        if answers.contains(&Some(true)) {
            tracing::info!("the cluster exists and this node is empty; it is filled before it may vote");
            return;
        }
        if !answers.contains(&None) || round >= FORMATION_ROUNDS {
            abstain(office, false);
            let nodes: BTreeMap<u64, BasicNode> =
                members.iter().map(|(node, addr)| (node.0, BasicNode::new(addr))).collect();
            if let Err(error) = office.raft.initialize(nodes).await {
                tracing::debug!(%error, "not formed by this node");
            }
            return;
        }
        sleep(FORMATION_INTERVAL).await;
    }
}

/// Waits until this node has applied everything that may have been acknowledged with its help before it lost its disk.
async fn catch_up(office: &Office, mut applied: watch::Receiver<u64>) {
    loop {
        if let Some(leader) = office.leader().filter(|leader| *leader != office.me)
            && let Ok(index) = office.read_index_of(leader).await
            && applied.wait_for(|applied| *applied >= index).await.is_ok()
        {
            tracing::info!(applied = index, "this node has been filled and may vote again");
            abstain(office, false);
            return;
        }
        sleep(FORMATION_INTERVAL).await;
    }
}

/// Whether this node keeps out of elections.
fn abstain(office: &Office, abstains: bool) {
    office.may_vote.store(!abstains, Ordering::Release);
    office.raft.runtime_config().elect(!abstains);
}

/// Whether a peer knows of the cluster; `None` when it does not say.
async fn is_formed(office: &Office, node: NodeId) -> Option<bool> {
    let mut client = office.peers.cluster(node).ok()?;
    let answer = timeout(FORMATION_TIMEOUT, client.formation(FormationRequest {})).await.ok()?.ok()?;
    Some(answer.into_inner().formed)
}

/// Folds the log into a snapshot whenever it has grown enough, until `stop`.
pub(crate) async fn fold(
    raft: Raft,
    log: Log,
    snapshot_bytes: Arc<AtomicU64>,
    settings: SnapshotSettings,
    stop: CancellationToken,
) {
    let mut folded_bytes = 0;
    let mut ticks = interval(settings.interval);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = ticks.tick() => {}
        }
        let (applied, snapshot) = {
            let metrics = raft.metrics().borrow_watched().clone();
            (metrics.last_applied.map_or(0, |id| id.index), metrics.snapshot.map_or(0, |id| id.index))
        };
        let appended = log.bytes_appended();
        // A snapshot costs as much as it is large, so the log may grow as large before the next.
        let bytes_max = settings.log_bytes.max(snapshot_bytes.load(Ordering::Relaxed));
        let due =
            appended - folded_bytes > bytes_max || applied.saturating_sub(snapshot) > settings.log_entries;
        if due && applied > snapshot {
            folded_bytes = appended;
            if let Err(error) = raft.trigger().snapshot().await {
                tracing::debug!(%error, "no snapshot");
            }
        }
    }
}

/// Waits until consensus has stopped by itself, which it does when the disk fails.
pub(crate) async fn watch(raft: Raft, stop: CancellationToken) -> Result<(), ServiceError> {
    let mut metrics = raft.metrics();
    loop {
        let failed = metrics.borrow_watched().running_state.as_ref().err().map(ToString::to_string);
        if let Some(reason) = failed {
            return if stop.is_cancelled() { Ok(()) } else { Err(ServiceError::Consensus(reason)) };
        }
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            changed = metrics.changed() => {
                if changed.is_err() && !stop.is_cancelled() {
                    return Err(ServiceError::Consensus("its task has ended".to_owned()));
                }
            }
        }
    }
}
