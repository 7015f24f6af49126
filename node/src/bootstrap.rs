//! THE TABLE: what runs in a node, in the order in which it starts.
//!
//! | task | phase of the shutdown in which it stops |
//! |---|---|
//! | `api`, `key-use` | api: accepts nothing more, answers what is under way |
//! | `leadership` | leadership: hands it over |
//! | `founder`, `housekeeper` | leadership |
//! | `registration`, `scheduler` | shards: gives back what was not started |
//! | `executor`, `notifier` | executor: ends what was started |
//! | `recorder`, `message_outcomes` | outcomes: records all of it |
//! | `quorum` | quorum: takes leave, and stays a member while others that stop cannot do without |
//! | `coordinator` | quorum: who leads until then buries those that die over it |
//! | `consensus`, `gauges` | storage: closes |

use crate::clock::Sleeper;
use crate::config::{ServerSettings, SignUp};
use crate::coordinator::{self, Coordinator};
use crate::executor::egress::EgressPolicy;
use crate::executor::guarded::BuildError;
use crate::executor::http::{HttpClient, HttpSettings};
use crate::executor::{Bounds, Client, Executor, Look, MayStart, Withheld};
use crate::files;
use crate::founder::Founder;
use crate::gauges;
use crate::housekeeper::Housekeeper;
use crate::notifier::{Lanes, Mailer, Notifier, NotifierHandle, Senders, Stand, Standing, outcome_recorder};
use crate::outbound::OutboundClient;
use crate::quorum::Quorum;
use crate::recorder::recorder;
use crate::registration::Registration;
use crate::scheduler::{Holding, Lookout, Parts, Scheduler, Start};
use crate::supervisor::{OnEnd, Phase, StopReason, Supervisor, TaskError};
use domain::execution::Execution;
use domain::id::NodeId;
use domain::limits;
use domain::node::{Node, SessionId};
use domain::time::Clock;
use raft::{ChangesReceiver, Cluster};
use std::io::ErrorKind;
use std::net::TcpListener;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use storage::schema::{Deliveries, Nodes};
use storage::{LogBounds, Read, State, Storage};
use tokio_util::sync::CancellationToken;

/// What the whole drain may take: requests under way may go on for 30 s (documented), and their outcomes
/// still have to be recorded.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(35);

/// Nodes in a cluster at most, by far.
const NODES_MAX: usize = 1_000;
/// What ending takes at most for a node that may not go on: there is nothing to record any more.
const DISMISSED_TIMEOUT: Duration = Duration::from_secs(2);

/// The sockets of a node, bound before anything else so that a port in use stops the start at once.
#[derive(Debug)]
pub struct Listeners {
    /// For the REST API.
    pub api: TcpListener,
    /// For the other nodes.
    pub rpc: TcpListener,
}

/// Why an address cannot be listened on, in words that read well behind it.
#[must_use]
pub fn explain_bind(error: &std::io::Error) -> String {
    match error.kind() {
        ErrorKind::AddrInUse => "is already in use".to_owned(),
        ErrorKind::AddrNotAvailable => "is not an address of this machine".to_owned(),
        ErrorKind::PermissionDenied => "may be used only by a privileged process".to_owned(),
        _ => format!("cannot be used: {error}"),
    }
}

/// What a node is given from outside, so that tests can give it something else.
#[derive(Clone)]
pub struct Outside {
    /// What time it is, and waiting.
    pub sleeper: Arc<dyn Sleeper>,
    /// Renders the process's metrics.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    /// Folds what the metrics have observed, so that it takes no more memory; called about once a second.
    pub upkeep: Arc<dyn Fn() + Send + Sync>,
    /// How often the node says that it is alive, in real time.
    pub ping_interval: Duration,
}

/// Why a node has stopped by itself, or could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The data directory cannot be used.
    #[error("the data directory cannot be used")]
    Storage(#[from] storage::Error),
    /// Nothing says which cluster this node belongs to.
    #[error(
        "data directory {} is empty: name the first members with --cluster 1=HOST:PORT,…, or a member of the cluster that \
         this node joins with --join HOST:PORT; later starts need neither",
        .0.display()
    )]
    NoCluster(PathBuf),
    /// Consensus cannot start.
    #[error("cannot start consensus")]
    Raft(#[source] raft::StartError),
    /// This node may not take part in the cluster, now or ever.
    #[error(transparent)]
    Dismissed(#[from] raft::Dismissed),
    /// The HTTP client cannot be set up.
    #[error(transparent)]
    Http(#[from] BuildError),
    /// The mail server's settings cannot be used.
    #[error("--smtp-url or --smtp-from {0}")]
    Mail(String),
    /// A socket cannot be used.
    #[error("cannot use a socket")]
    Socket(#[from] std::io::Error),
    /// A task ended that the node cannot do without.
    #[error(transparent)]
    Task(#[from] StopReason),
    /// The storage was opened on a thread that ended.
    #[error("opening the data directory failed")]
    Open(#[from] tokio::task::JoinError),
}

impl From<raft::StartError> for RunError {
    fn from(error: raft::StartError) -> Self {
        match error {
            raft::StartError::Dismissed(why) => Self::Dismissed(why),
            error => Self::Raft(error),
        }
    }
}

impl RunError {
    /// Whether the node has not come to run at all, or may not go on. Starting it again in the same way would not help.
    #[must_use]
    pub fn stops_the_start(&self) -> bool {
        match self {
            Self::Storage(_)
            | Self::NoCluster(_)
            | Self::Raft(_)
            | Self::Dismissed(_)
            | Self::Http(_)
            | Self::Mail(_)
            | Self::Socket(_)
            | Self::Open(_) => true,
            Self::Task(_) => false,
        }
    }
}

/// Runs a node until `stop`, then drains it.
///
/// # Errors
/// When it cannot start, or has stopped by itself.
pub async fn run(
    settings: ServerSettings,
    listeners: Listeners,
    outside: Outside,
    stop: CancellationToken,
) -> Result<(), RunError> {
    let Outside { sleeper, metrics, upkeep, ping_interval } = outside;
    let clock: Arc<dyn Clock> = Arc::<dyn Sleeper>::clone(&sleeper);
    let node = settings.node_id;
    let storage = {
        let dir = settings.data_dir.clone();
        tokio::task::spawn_blocking(move || Storage::open_for(&dir, storage::Settings::default(), node))
            .await??
    };
    // Without members it would wait for ever for somebody to call it.
    if settings.cluster.is_empty() && settings.join.is_none() && storage.log.bounds() == LogBounds::default()
    {
        return Err(RunError::NoCluster(settings.data_dir));
    }
    let (api_addr, rpc_addr) = (listeners.api.local_addr()?, listeners.rpc.local_addr()?);
    raft::level::must_support(&storage.state)?;
    let session = {
        let last = storage.state.last_session()?;
        mint_session(&storage.state, last, node, clock.as_ref(), rand::random())?
    };
    storage.state.set_last_session(session)?;
    let raft_settings = raft::Settings { ping_interval, ..raft_settings(&settings, session) };
    let (cluster, changes, services) =
        Cluster::start(raft_settings, storage.clone(), Arc::clone(&clock), listeners.rpc).await?;

    tracing::info!(api = %api_addr, rpc = %rpc_addr, "listening");
    let supervisor = Supervisor::new();
    supervisor.spawn("consensus", Phase::Storage, OnEnd::StopNode, {
        let cluster = cluster.clone();
        |stop| consensus(cluster, storage, services, stop)
    });
    supervisor.spawn("gauges", Phase::Storage, OnEnd::StopNode, |stop| {
        gauges::run(cluster.clone(), Arc::clone(&sleeper), upkeep, stop)
    });

    let known: Vec<Node> = cluster
        .state()
        .view()
        .prefix::<Nodes>(&[], None, NODES_MAX)?
        .into_iter()
        .map(|(_, node)| node)
        .collect();
    let egress = egress(&settings, &known);
    let http =
        HttpSettings { idle_per_host_max: settings.in_flight.per_host, ..HttpSettings::new(egress.clone()) };
    let client = HttpClient::new(http)?;
    let lanes = Lanes::default();
    let (message_outcomes, outcomes) = outcome_recorder(cluster.clone(), Arc::clone(&sleeper), lanes.clone());
    supervisor.spawn("message_outcomes", Phase::Outcomes, OnEnd::StopNode, |stop| {
        endless(message_outcomes.run(stop))
    });
    let mailer = settings.smtp.as_ref().map(|smtp| Mailer::new(smtp.url.expose(), smtp.from.as_deref()));
    let mailer = mailer.transpose().map_err(|error| RunError::Mail(error.to_string()))?;
    let senders = Senders::new(egress.clone(), mailer, Arc::clone(&clock))?;
    let notifier = Notifier {
        node,
        senders: senders.clone(),
        sleeper: Arc::clone(&sleeper),
        stand: stand(&cluster, node, settings.claim_ahead),
        outcomes,
        lanes: lanes.clone(),
    };
    let (notifier_handle, orders) = Notifier::orders();
    supervisor
        .spawn("notifier", Phase::Executor, OnEnd::StopNode, |stop| fallible(notifier.run(orders, stop)));

    let work = Work {
        cluster: cluster.clone(),
        node,
        session,
        sleeper: Arc::clone(&sleeper),
        claim_ahead: settings.claim_ahead,
        in_flight: settings.in_flight,
        node_timeout: limits::NODE_TIMEOUT,
        client,
        changes,
        notifier: notifier_handle,
        lanes,
    };
    work.start(&supervisor);

    let plans = Arc::new(settings.plans);
    let housekeeper = Housekeeper::new(cluster.clone(), Arc::clone(&sleeper), Arc::clone(&plans));
    supervisor
        .spawn("housekeeper", Phase::Leadership, OnEnd::StopNode, |stop| endless(housekeeper.run(stop)));
    let founder = Founder {
        cluster: cluster.clone(),
        sleeper: Arc::clone(&sleeper),
        api_key: settings.bootstrap_api_key.clone(),
    };
    supervisor.spawn("founder", Phase::Leadership, OnEnd::Log, |stop| fallible(founder.run(stop)));

    listeners.api.set_nonblocking(true)?;
    let listener = tokio::net::TcpListener::from_std(listeners.api)?;
    let (key_use, key_use_handle) = api::key_use::Service::new(cluster.clone());
    supervisor.spawn("key-use", Phase::Api, OnEnd::Log, |stop| endless(key_use.run(stop)));
    let consensus_of = cluster.clone();
    let router = api::router(api::Deps {
        cluster,
        clock,
        targets: Arc::new(egress),
        tester: Arc::new(senders),
        plans,
        rate_limits: settings.rate_limits,
        proxies: Arc::new(settings.proxies.clone()),
        key_use: key_use_handle,
        passwords: api::Passwords::default(),
        registration_open: settings.registration == SignUp::Open,
        outbound: Arc::new(OutboundClient::new().map_err(BuildError::from)?),
        services: Arc::new(settings.services.clone()),
        metrics,
    });
    let serving =
        api::ServeSettings { tls: settings.tls.clone(), ..api::ServeSettings::for_files(files::limit()) };
    supervisor.spawn("api", Phase::Api, OnEnd::StopNode, |stop| {
        endless(api::serve(listener, router, serving, stop))
    });

    let failed = tokio::select! {
        biased;
        why = consensus_of.dismissed() => {
            // What it holds has been given to others, who do not answer it any more.
            // Consensus goes first, so that nobody waits for it.
            supervisor.stop_token(Phase::Storage).cancel();
            supervisor.drain(DISMISSED_TIMEOUT).await;
            return Err(why.into());
        }
        () = stop.cancelled() => None,
        reason = supervisor.failed() => Some(reason),
    };
    tracing::info!("stopping");
    supervisor.drain(DRAIN_TIMEOUT).await;
    tracing::info!("stopped");
    failed.or_else(|| supervisor.failure()).map_or(Ok(()), |reason| Err(reason.into()))
}

/// What carries the jobs: who may claim, what is due and when, what is sent, and what came of it.
pub(crate) struct Work<C> {
    pub(crate) cluster: Cluster,
    pub(crate) node: NodeId,
    pub(crate) session: SessionId,
    pub(crate) sleeper: Arc<dyn Sleeper>,
    pub(crate) claim_ahead: Duration,
    pub(crate) in_flight: Bounds,
    pub(crate) node_timeout: Duration,
    pub(crate) client: C,
    pub(crate) changes: ChangesReceiver,
    pub(crate) notifier: NotifierHandle,
    pub(crate) lanes: Lanes,
}

impl<C: Client> Work<C> {
    /// Starts its tasks.
    pub(crate) fn start(self, supervisor: &Supervisor) {
        let Self {
            cluster,
            node,
            session,
            sleeper,
            claim_ahead,
            in_flight,
            node_timeout,
            client,
            changes,
            notifier,
            lanes,
        } = self;
        let (registration, incarnation) =
            Registration::new(cluster.clone(), node, session, Arc::clone(&sleeper));
        let quorum = Quorum {
            cluster: cluster.clone(),
            node,
            incarnation: incarnation.clone(),
            sleeper: Arc::clone(&sleeper),
        };
        supervisor.spawn("quorum", Phase::Quorum, OnEnd::StopNode, |stop| fallible(quorum.run(stop)));

        let holding = Holding::default();
        let (recorder, recorder_handle) = recorder(cluster.clone(), Arc::clone(&sleeper), holding.clone());
        supervisor.spawn("recorder", Phase::Outcomes, OnEnd::StopNode, |stop| endless(recorder.run(stop)));

        let lookout = Lookout::new(cluster.state().clone(), node, holding.clone());
        let (executor, executor_handle) = Executor::new(
            node,
            client,
            Arc::clone(&sleeper),
            (look(lookout.clone()), may_start(&cluster, claim_ahead, lookout.clone())),
            recorder_handle.clone(),
            holding.clone(),
            in_flight,
        );
        supervisor.spawn("executor", Phase::Executor, OnEnd::StopNode, |stop| fallible(executor.run(stop)));

        let scheduler = Scheduler::new(Parts {
            cluster: cluster.clone(),
            node,
            sleeper: Arc::clone(&sleeper),
            claim_ahead,
            incarnation,
            changes,
            executor: executor_handle,
            recorder: recorder_handle,
            holding,
            notifier,
            lanes,
            lookout,
        });
        supervisor.spawn("scheduler", Phase::Shards, OnEnd::StopNode, |stop| fallible(scheduler.run(stop)));
        supervisor
            .spawn("registration", Phase::Shards, OnEnd::StopNode, |stop| fallible(registration.run(stop)));

        let coordinator = Coordinator {
            cluster: cluster.clone(),
            node,
            sleeper,
            node_timeout,
            interval: coordinator::INTERVAL,
        };
        supervisor
            .spawn("coordinator", Phase::Quorum, OnEnd::StopNode, |stop| endless(coordinator.run(stop)));
        supervisor.spawn("leadership", Phase::Leadership, OnEnd::Log, |stop| async move {
            stop.cancelled().await;
            match cluster.transfer_leadership().await {
                Ok(()) => tracing::info!("leadership handed over"),
                Err(error) => tracing::debug!(%error, "leadership not handed over"),
            }
            Ok(())
        });
    }
}

/// A task that ends only because it was told to.
async fn endless(task: impl Future<Output = ()>) -> Result<(), TaskError> {
    task.await;
    Ok(())
}

/// A task that may fail.
async fn fallible<E: Into<TaskError>>(task: impl Future<Output = Result<(), E>>) -> Result<(), TaskError> {
    task.await.map_err(Into::into)
}

/// Runs consensus, and closes the storage at the end.
async fn consensus(
    cluster: Cluster,
    storage: Storage,
    services: Vec<raft::Service>,
    stop: CancellationToken,
) -> Result<(), TaskError> {
    let running = services.into_iter().map(|(name, service)| async move {
        service.await?;
        tracing::debug!(service = name, "ended");
        Ok::<(), TaskError>(())
    });
    let mut running = Box::pin(futures::future::try_join_all(running));
    tokio::select! {
        ended = &mut running => return ended.map(drop),
        () = stop.cancelled() => {}
    }
    let ((), ended) = tokio::join!(cluster.shutdown(), running);
    ended?;
    tokio::task::spawn_blocking(move || storage.state.flush()).await??;
    Ok(())
}

/// How an order stands whose turn has come, as of when it was given.
fn look(lookout: Lookout) -> Look {
    Arc::new(move |order| lookout.look(order.execution, order.incarnation, order.ordered_at))
}

/// Whether an execution is sent, by the state as it is at that moment.
///
/// Nothing is sent by a node that has not heard from a leader for longer than claims are made ahead: what it holds may
/// be another node's by then.
fn may_start(cluster: &Cluster, claim_ahead: Duration, lookout: Lookout) -> MayStart {
    let contact = cluster.contact();
    Arc::new(move |execution, incarnation, as_of| {
        // Before the state is looked at: contact vouches for the state as it was then.
        let in_touch = contact.is_in_touch(claim_ahead);
        let Execution { id, attempt, .. } = *execution;
        let sight = lookout.look(id, incarnation, as_of).map_err(Withheld::Failed)?;
        match sight.filter(|sight| sight.execution.attempt == attempt) {
            // What is lost stays lost, however old the state is.
            None => Err(Withheld::Gone),
            Some(_) if !in_touch => Err(Withheld::Wait),
            Some(sight) => match sight.start {
                Start::Go => Ok(()),
                Start::Skip(reason) => Err(Withheld::Skip(reason)),
            },
        }
    })
}

/// How a message stands whose turn has come, as [`may_start`] for orders.
fn stand(cluster: &Cluster, node: NodeId, claim_ahead: Duration) -> Stand {
    let (contact, state) = (cluster.contact(), cluster.state().clone());
    Arc::new(move |id, attempt, incarnation| {
        let in_touch = contact.is_in_touch(claim_ahead);
        let delivery = state.view().get::<Deliveries>(&id)?;
        Ok(match delivery {
            Some(delivery) if delivery.is_held_by(node, incarnation, attempt) => {
                if in_touch {
                    Standing::Ours
                } else {
                    Standing::OutOfTouch
                }
            }
            Some(_) | None => Standing::Gone,
        })
    })
}

/// Names this process: later starts of a node have higher sessions, also when its clock was set back and the state does not
/// know yet of the `last` process on this disk.
pub(crate) fn mint_session(
    state: &State,
    last: Option<SessionId>,
    node: NodeId,
    clock: &dyn Clock,
    random: u32,
) -> Result<SessionId, storage::Error> {
    const RANDOM_BITS: u32 = 20;
    let random = u64::from(random >> (u32::BITS - RANDOM_BITS));
    let minted = clock.now().as_millis() << RANDOM_BITS | random;
    let known = state.view().get::<Nodes>(&node)?.map(|known| known.session);
    let earlier = known.max(last).map_or(0, |session| session.0);
    Ok(SessionId(minted.max(earlier.saturating_add(1))))
}

/// What jobs may call. What nodes say to each other is not for outsiders, and a job that calls the API of
/// its own cluster is allowed only where private targets are.
///
/// Of members that have joined, those that are `known` when the node starts.
fn egress(settings: &ServerSettings, known: &[Node]) -> EgressPolicy {
    let mut policy = settings.egress.clone();
    let told = settings.cluster.values().chain(&settings.join).chain([&settings.advertise_rpc_addr]);
    for own in told.chain(known.iter().map(|node| &node.rpc_addr)) {
        if let Ok(address) = own.parse() {
            policy.refused_endpoints.insert(address);
        } else if let Some((name, Ok(port))) = own.rsplit_once(':').map(|(name, port)| (name, port.parse())) {
            policy.refused_names.insert((name.to_owned(), port));
        }
    }
    policy.refused_endpoints.insert(settings.rpc_addr);
    if !policy.allow_private {
        policy.refused_endpoints.insert(settings.api_addr);
    }
    policy
}

fn raft_settings(settings: &ServerSettings, session: SessionId) -> raft::Settings {
    raft::Settings {
        api_url: settings.advertise_api_url.clone(),
        rpc_addr: settings.advertise_rpc_addr.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        tls: settings.rpc_tls.clone(),
        join: settings.join.clone(),
        ..raft::Settings::new(
            settings.node_id,
            session,
            settings.cluster.clone(),
            raft::Secret::new(settings.cluster_secret.expose()),
        )
    }
}

impl api::TargetPolicy for EgressPolicy {
    fn check(&self, url: &url::Url) -> Result<(), String> {
        self.check_url(url).map_err(|error| error.rule().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Invocation};
    use crate::executor::egress::EgressError;

    #[test]
    fn the_endpoints_of_the_cluster_are_no_targets_by_address_or_name() {
        let line = "justrun server --node-id 1 --data-dir d --cluster-secret s --environment development \
                    --rpc-addr 127.0.0.1:9080 --cluster 1=node1.internal:9081,2=10.0.0.2:9080";
        let args = line.split_whitespace().map(Into::into);
        let Ok(Invocation::Server(settings)) = config::parse(args, |_| None) else { panic!("{line}") };
        let joined = Node { rpc_addr: "10.0.0.4:9080".to_owned(), ..crate::samples::node(4) };
        let policy = egress(&settings, &[joined]);
        for url in [
            "http://NODE1.internal.:9081/x",
            "http://10.0.0.2:9080",
            "http://10.0.0.4:9080",
            "http://localhost.:9081",
            "http://[::1]:9080",
        ] {
            let expected = if url.contains("localhost") { Ok(()) } else { Err(EgressError::Own) };
            assert_eq!(policy.check_url(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
