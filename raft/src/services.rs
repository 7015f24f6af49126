//! What runs beside consensus as long as it does.

use crate::belonging::{Belonging, Dismissed};
use crate::contact::Contact;
use crate::error::ServiceError;
use crate::members::MemberChange;
use crate::network::{Operator, OperatorError};
use crate::office::Office;
use crate::settings::{Settings, SnapshotSettings};
use crate::types::Raft;
use crate::way::Way;
use domain::id::NodeId;
use domain::limits::NODE_TIMEOUT;
use openraft::async_runtime::WatchReceiver;
use openraft::impls::BasicNode;
use proto::cluster::{FormationRequest, FormationResponse};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use storage::{Log, State};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How long a peer may take to say whether the cluster exists.
const FORMATION_TIMEOUT: Duration = Duration::from_millis(500);
/// Wait between two rounds of asking.
const FORMATION_INTERVAL: Duration = Duration::from_millis(200);
/// Rounds after which silent peers no longer hold up the first election. They find the cluster formed later on.
const FORMATION_ROUNDS: u32 = 8;
/// Wait before a cluster that could not be joined is asked again, and before that is said again for the same reason.
const JOIN_INTERVAL: Duration = Duration::from_millis(500);
const JOIN_REMINDER: Duration = Duration::from_secs(30);
/// How often a node that hears of no leader asks the others whether it still belongs to them.
const FORLORN_INTERVAL: Duration = Duration::from_secs(1);
/// An unanswered sign of life is given up after so many intervals.
const PING_PATIENCE: u32 = 2;
/// Intervals for which a leader whose clock is astray waits before it gives its office to another.
const ASTRAY_TICKS: u32 = 3;
/// Between two looks at whether the state can be written.
const STATE_INTERVAL: Duration = Duration::from_millis(250);

/// Forms the cluster if it does not exist yet, then sends signs of life until `stop`.
pub(crate) async fn keep_in_touch(
    office: Office,
    settings: Settings,
    state: State,
    mut applied: watch::Receiver<u64>,
    stop: CancellationToken,
) {
    let formed = async {
        form(&office, &settings, &state).await;
        if !office.may_vote.load(Ordering::Acquire) {
            // Signs of life go on meanwhile: the leader is to know how far this node is.
            tokio::select! {
                () = catch_up(&office, &state, applied.clone()) => {}
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
    let mut astray = 0;
    let mut asked: Option<Instant> = None;
    loop {
        tokio::select! {
            biased;
            _ = ticks.tick() => {}
            Ok(()) = applied.changed(), if contact.is_behind() => {
                contact.has_applied(*applied.borrow_and_update());
                continue;
            }
        }
        contact.follow_office();
        let leader = way.leader();
        // A learner holds the last leader it heard of for the leader for as long as it hears of no other.
        let is_silent = || contact.since_leader().is_none_or(|since| since >= NODE_TIMEOUT);
        let is_forlorn = leader.is_none_or(|leader| leader != settings.node && is_silent());
        if is_forlorn && asked.is_none_or(|asked| asked.elapsed() >= FORLORN_INTERVAL) {
            // The others may go on without this node, and tell it when it asks.
            asked = Some(Instant::now());
            way.ask_around().await;
        }
        let Some(leader) = leader.filter(|leader| *leader != settings.node) else {
            astray = if leader.is_some() && contact.is_astray() { astray + 1 } else { 0 };
            // A clock that was put right has jumped as well, and the others say so at once.
            if astray >= ASTRAY_TICKS {
                astray = 0;
                tracing::warn!("handing over leadership: the clock of this node cannot be believed");
                if let Err(error) = way.transfer_leadership(contact.successor()).await {
                    tracing::debug!(%error, "leadership not handed over");
                }
            }
            continue;
        };
        let patience = settings.ping_interval * PING_PATIENCE;
        let sent = contact.read();
        let now_applied = *applied.borrow();
        let clock = contact.clock_for(leader);
        let Some(heard) = way.ping(leader, now_applied, clock, patience).await else { continue };
        let is_believed = contact.compare(leader, sent, heard.clock);
        contact.learn(heard.members);
        // A node may find its clock right just now, but for the leader it is silent until it has said so.
        if is_believed && !heard.discounted {
            // A node that was frozen hears of the leader before it hears of what happened meanwhile, such as that what it
            // holds was given to others. The leader itself may be slow to apply that, and one that is new may not know yet that it
            // is committed, so what counts is where its log ends.
            contact.leader_answered(sent.elapsed, heard.log_end, *applied.borrow_and_update());
        }
    }
}

/// Keeps a node that knows nothing out of elections until [`form`] has found out whether it lost its disk; and one that was
/// found to have lost it, until it is filled, also when it is started anew meanwhile. To be called before the node serves
/// its peers.
///
/// # Errors
/// When the disk fails.
pub(crate) async fn abstain_if_empty(
    office: &Office,
    settings: &Settings,
    state: &State,
) -> Result<(), storage::Error> {
    let is_told = !settings.members.is_empty() || settings.join.is_some();
    let is_empty = is_told && matches!(office.raft.is_initialized().await, Ok(false));
    if is_empty {
        // The first thing that the leader sends makes the log look like any other.
        state.set_filling(true)?;
    }
    if is_empty || state.is_filling()? {
        abstain(office);
    }
    Ok(())
}

/// Forms the cluster of the first members, or joins one, unless this node knows of it or it exists.
///
/// All members may do this at once: the entry that founds a cluster is the same for all. A member that has lost its
/// disk must not, so it asks the others first; and it must not vote or stand for election until it has been filled, since
/// it no longer knows what it voted for and what it had acknowledged.
async fn form(office: &Office, settings: &Settings, state: &State) {
    if office.may_vote.load(Ordering::Acquire) {
        return;
    }
    if matches!(office.raft.is_initialized().await, Ok(true)) {
        tracing::info!("this node was being filled when it ended; it is filled before it may vote");
        return;
    }
    if let Some(via) = &settings.join {
        return join(office, settings, via).await;
    }
    let members = &settings.members;
    for round in 0.. {
        let others = members.keys().copied().filter(|node| *node != office.me);
        let answers = futures::future::join_all(others.map(|node| is_formed(office, node))).await;
        if office.belonging.dismissal().is_some() {
            // The cluster exists without this node, which must not form another one.
            return std::future::pending().await;
        }
        let exists = answers.iter().flatten().filter(|answer| answer.formed);
        if exists.clone().any(|answer| answer.is_member) {
            tracing::info!("the cluster exists and this node is empty; it is filled before it may vote");
            return;
        }
        if exists.count() > 0 {
            tracing::warn!(
                "the cluster exists without this node; start it with --join, or add it with justrun cluster add"
            );
            return;
        }
        // Fewer than a majority cannot elect anybody, so it costs nothing to wait for more; and they may all have lost what the
        // others know.
        let alike = 1 + answers.iter().flatten().count();
        let is_known = alike * 2 > members.len();
        if alike == members.len() || (is_known && round >= FORMATION_ROUNDS) {
            may_vote(office, state);
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

/// Has the cluster that `via` belongs to add this node, however long nobody there can.
///
/// The node does not vote until it is filled: it may be a member already that has lost its disk.
async fn join(office: &Office, settings: &Settings, via: &str) {
    let level = Some(settings.supported);
    let change = MemberChange::Add { node: settings.node, addr: settings.rpc_addr.clone(), level };
    let mut said: Option<(String, Instant)> = None;
    loop {
        let answer = match Operator::connect(via, &settings.secret, settings.tls.as_ref()).await {
            Ok(node) if node.node() == office.me => Err(OperatorError::Refused(format!(
                "{via} is node {} already; give this one another --node-id, or name another node with --join",
                office.me
            ))),
            Ok(node) => node.change(&change).await,
            Err(error) => Err(error),
        };
        let reason = match answer {
            Ok(()) => {
                tracing::info!(via, "this node was added to the cluster; it is filled before it may vote");
                return;
            }
            Err(error @ (OperatorError::WrongSecret { .. } | OperatorError::Refused(_))) => {
                office.belonging.dismiss(Dismissed::Refused(error.to_string()));
                return std::future::pending().await;
            }
            Err(error) => error.to_string(),
        };
        let is_news =
            said.as_ref().is_none_or(|(before, when)| *before != reason || when.elapsed() >= JOIN_REMINDER);
        if is_news {
            tracing::warn!(via, reason, "cannot join the cluster yet; trying until it can be done");
            said = Some((reason, Instant::now()));
        }
        sleep(JOIN_INTERVAL).await;
    }
}

/// Waits until this node has applied everything that may have been acknowledged with its help before it lost its disk.
async fn catch_up(office: &Office, state: &State, mut applied: watch::Receiver<u64>) {
    loop {
        if let Some(leader) = office.leader().filter(|leader| *leader != office.me)
            && let Ok(index) = office.read_index_of(leader).await
            && applied.wait_for(|applied| *applied >= index).await.is_ok()
        {
            tracing::info!(applied = index, "this node has been filled and may vote again");
            may_vote(office, state);
            return;
        }
        sleep(FORMATION_INTERVAL).await;
    }
}

/// From here on this node keeps out of elections.
fn abstain(office: &Office) {
    office.may_vote.store(false, Ordering::Release);
    office.raft.runtime_config().elect(false);
}

/// From here on this node takes part in elections.
fn may_vote(office: &Office, state: &State) {
    if let Err(error) = state.set_filling(false) {
        // It is filled once more after the next start, then.
        tracing::warn!(%error, "cannot note that this node has been filled");
    }
    office.may_vote.store(true, Ordering::Release);
    office.raft.runtime_config().elect(true);
}

/// What a peer knows of the cluster; `None` when it does not say.
pub(crate) async fn is_formed(office: &Office, node: NodeId) -> Option<FormationResponse> {
    let mut client = office.peers.cluster(node).ok()?;
    let answer =
        timeout(FORMATION_TIMEOUT, client.formation(FormationRequest { node: office.me.0 })).await.ok()?;
    let answer = answer.inspect_err(|refusal| office.belonging.heed(refusal)).ok()?;
    Some(answer.into_inner())
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
        let (applied, snapshot, rank) = {
            let metrics = raft.metrics().borrow_watched().clone();
            let rank = metrics.membership_config.voter_ids().filter(|id| *id < metrics.id).count() as u64;
            (metrics.last_applied.map_or(0, |id| id.index), metrics.snapshot.map_or(0, |id| id.index), rank)
        };
        // Not all at the same entry: as long as most have nothing of the kind to do, commits are as fast as ever.
        let later = |limit: u64| limit.saturating_add((limit / 4).saturating_mul(rank));
        let appended = log.bytes_appended();
        // A snapshot costs as much as it is large, so the log may grow as large before the next.
        let bytes_max = later(settings.log_bytes.max(snapshot_bytes.load(Ordering::Relaxed)));
        let due = appended - folded_bytes > bytes_max
            || applied.saturating_sub(snapshot) > later(settings.log_entries);
        if due && applied > snapshot {
            folded_bytes = appended;
            if let Err(error) = raft.trigger().snapshot().await {
                tracing::debug!(%error, "no snapshot");
            }
        }
    }
}

/// Waits until consensus has stopped by itself, which it does when the disk fails.
pub(crate) async fn watch(
    raft: Raft,
    belonging: Belonging,
    stop: CancellationToken,
) -> Result<(), ServiceError> {
    let mut metrics = raft.metrics();
    loop {
        let failed = metrics.borrow_watched().running_state.as_ref().err().map(ToString::to_string);
        if let Some(reason) = failed {
            if belonging.dismissal().is_some() {
                // It stopped because the node may not go on, which is told in another way.
                stop.cancelled().await;
            }
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

/// Waits until the state cannot be written any more. Consensus meets that only when it has something to apply, and until then
/// the node would go on as if nothing had happened.
pub(crate) async fn watch_state(state: State, stop: CancellationToken) -> Result<(), ServiceError> {
    let mut ticks = interval(STATE_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            _ = ticks.tick() => {}
        }
        if let Some(reason) = state.failure() {
            return Err(ServiceError::State(reason));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::belief::ClockReading;
    use crate::error::TransferError;
    use crate::quotas::{Granted, Take};
    use crate::way::{Heard, Refused, Sight};
    use bytes::Bytes;
    use domain::node::SessionId;
    use domain::time::{Clock, Timestamp};
    use futures::FutureExt;
    use futures::future::BoxFuture;
    use std::sync::atomic::AtomicBool;
    use storage::Storage;

    const NOON: Timestamp = Timestamp::from_secs(1_800_000_000);

    /// Counts from when it was made, as the runtime does.
    struct Since(Instant);

    impl Clock for Since {
        fn now(&self) -> Timestamp {
            NOON.plus(self.elapsed())
        }

        fn elapsed(&self) -> Duration {
            self.0.elapsed()
        }
    }

    /// Node 2 leads and answers all. Its log grows by an entry each millisecond.
    struct Leader {
        clock: Arc<Since>,
        discounts: AtomicBool,
    }

    impl Leader {
        fn log_end(&self) -> u64 {
            1 + u64::try_from(self.clock.elapsed().as_millis()).unwrap()
        }
    }

    impl Way for Leader {
        fn sight(&self) -> Sight {
            Sight { leader: Some(NodeId(2)), ..Sight::default() }
        }

        fn propose_to(&self, _: NodeId, _: Bytes) -> BoxFuture<'_, Result<u64, Refused>> {
            unreachable!("nothing is proposed")
        }

        fn read_index_of(&self, _: NodeId) -> BoxFuture<'_, Result<u64, Refused>> {
            unreachable!("nothing is read")
        }

        fn ping(
            &self,
            leader: NodeId,
            _: u64,
            clock: ClockReading,
            _: Duration,
        ) -> BoxFuture<'_, Option<Heard>> {
            assert_eq!(leader, NodeId(2));
            let discounted = self.discounts.load(Ordering::Relaxed);
            let clock = Some(ClockReading { is_believed: true, ..clock });
            let heard = Heard { log_end: self.log_end(), clock, discounted, ..Heard::default() };
            std::future::ready(Some(heard)).boxed()
        }

        fn take(&self, _: Take) -> BoxFuture<'_, Option<Granted>> {
            unreachable!("nothing is asked for")
        }

        fn transfer_leadership(
            &self,
            _: Option<NodeId>,
        ) -> BoxFuture<'_, Result<Option<NodeId>, TransferError>> {
            unreachable!("it is another's")
        }

        fn shutdown(&self) -> BoxFuture<'_, ()> {
            std::future::ready(()).boxed()
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_applies_late_is_in_touch_and_one_that_is_discounted_is_not() {
        const LATE: Duration = Duration::from_millis(700);
        let clock = Arc::new(Since(Instant::now()));
        let leader = Leader { clock: Arc::clone(&clock), discounts: AtomicBool::new(false) };
        let look: crate::contact::Look = Arc::new(|| Sight { leader: Some(NodeId(2)), ..Sight::default() });
        let settings = Settings::new(NodeId(1), SessionId(1), BTreeMap::new(), crate::Secret::new(""));
        let contact = Contact::new(NodeId(1), clock, look, settings.lease());
        let (applies, applied) = watch::channel(0);
        let scenario = async {
            let go_on = async |rounds: u64| {
                for _ in 0..rounds {
                    sleep(Duration::from_millis(10)).await;
                    applies.send_replace(leader.log_end().saturating_sub(LATE.as_millis() as u64));
                }
            };
            go_on(60).await;
            assert_eq!(contact.since_leader(), None, "it knows nothing of all that the leader has");
            for _ in 0..100 {
                go_on(3).await;
                let since = contact.since_leader();
                assert!(since.is_none_or(|since| since <= LATE + settings.ping_interval * 2), "{since:?}");
            }
            assert!(
                contact.since_leader().is_some_and(|since| since >= LATE),
                "{:?}",
                contact.since_leader()
            );
            leader.discounts.store(true, Ordering::Relaxed);
            let before = contact.since_leader().unwrap();
            go_on(300).await;
            let after = contact.since_leader().unwrap();
            assert!(after > before + Duration::from_secs(2), "{before:?} {after:?}");
        };
        tokio::select! {
            () = signs_of_life(&leader, &contact, &settings, applied) => unreachable!("it never ends"),
            () = scenario => {}
        }
    }

    #[tokio::test]
    async fn a_state_that_cannot_be_written_is_noticed_though_nothing_more_is_applied() {
        let dir = tempfile::tempdir().unwrap();
        let storage = Storage::open(dir.path(), storage::Settings::default()).unwrap();
        let watched = watch_state(storage.state.clone(), CancellationToken::new());
        tokio::pin!(watched);
        assert!(timeout(STATE_INTERVAL, &mut watched).await.is_err(), "all is well");

        // A directory in the place of the file that changes go through.
        let live = std::fs::read_to_string(dir.path().join("CURRENT")).unwrap();
        std::fs::create_dir(dir.path().join(live.trim()).join("redo")).unwrap();
        storage.state.begin().commit(Bytes::from_static(b"mark")).unwrap();
        let noticed = timeout(Duration::from_secs(30), watched).await.unwrap();
        assert!(matches!(noticed, Err(ServiceError::State(_))), "{noticed:?}");
    }
}
