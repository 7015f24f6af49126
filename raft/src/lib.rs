//! How nodes agree: the commands, their application, and consensus about their order.
//!
//! **Never**: knows HTTP, holds a rule about jobs (they are in `domain`), reads a clock other than the one it is given.
//! **Uses**: `domain`, `proto`, `storage`. **Used by**: `api` and `node`.
//!
//! Start at [`mod@command`] for what can change the state, then [`Cluster`] for how.

pub mod apply; // one proposal, applied
pub mod backup; // what a backup file says of itself
mod belief; // in this node's wall clock
mod belonging; // who was removed
pub mod changes; // hints for the scheduler
pub mod codec; // proposals, entries and marks to bytes
pub mod command; // THE TABLE: what can change the state
mod contact; // who has heard of whom
mod digest; // by which replicas are compared
mod error;
pub mod level; // THE LEVELS: what may be written when
mod log_store; // openraft's log over storage::Log
mod members; // who joins and who leaves
mod network; // gRPC
mod office; // what a leader does for others
mod overview; // the cluster as one node sees it
mod proposer; // commands to entries to replies
mod quotas; // what accounts may still ask for
mod reads; // read barriers
mod services; // forming, signs of life, snapshots
mod settings;
mod state_machine; // openraft's state machine over storage::State
mod support; // what makes a leader sure of its office
mod tls; // certificates of nodes
mod types; // openraft's generics
mod waiters; // who waits for which proposal
mod way; // the seam below which simulations begin

pub use belief::ClockReading;
pub use belonging::Dismissed;
pub use changes::ChangesReceiver;
pub use contact::{Contact, Hearing};
pub use digest::Position;
pub use error::{ProposeError, ReadError, ServiceError, StartError, TransferError};
pub use log_store::LogStore;
pub use members::MemberChange;
pub use network::{AccountSummary, BackupStream, Operator, OperatorError};
pub use overview::{MemberOverview, Overview, Restoring, Role};
pub use quotas::{Granted, Take};
pub use settings::{PROPOSAL_BYTES_MAX, Secret, Settings, SnapshotSettings};
pub use state_machine::{Place, StateMachine};
pub use tls::{Tls, TlsError};
pub use types::{Payload, TypeConfig};
pub use way::{Heard, Refused, Sight, Way};

use belonging::Belonging;
use changes::ChangesSender;
use command::{Applied, Command, RegisterNode, Reply};
use domain::id::NodeId;
use domain::node::{FeatureLevel, Incarnation};
use domain::rejection::Rejection;
use domain::time::Clock;
use futures::future::BoxFuture;
use members::Members;
use network::{Network, Peers};
use office::Office;
use openraft::{Config, SnapshotPolicy};
use proposer::{Proposer, Submission, Ticket};
use reads::Reads;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;
use storage::schema::Metas;
use storage::{Read, State, Storage};
use tokio::sync::{SetOnce, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;
use types::Raft;
use waiters::Waiters;

/// Entries in one message of replication.
const PAYLOAD_ENTRIES_MAX: u64 = 64;
/// How long an answer may take that is on its way when its deadline passes.
const ANSWER_GRACE: Duration = Duration::from_millis(50);
/// How long a node goes on that was removed, so that the operator who asked it to remove itself has the answer.
const PARTING: Duration = Duration::from_millis(300);

/// A part of consensus that the caller runs: its name, and a future that ends with [`Cluster::shutdown`], or
/// before that when the node cannot go on.
pub type Service = (&'static str, BoxFuture<'static, Result<(), ServiceError>>);

/// This node's part in the cluster. Clones are the same part.
#[derive(Clone)]
pub struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    way: Arc<dyn Way>,
    contact: Contact,
    belonging: Belonging,
    state: State,
    applied: watch::Receiver<u64>,
    submissions: mpsc::Sender<Submission>,
    readers: mpsc::Sender<oneshot::Sender<Result<(), ReadError>>>,
    /// Whether the cluster knows this process. Until then whatever it proposes would be refused, and might take effect all
    /// the same, should a copy of it arrive later.
    registered: SetOnce<()>,
    stop: CancellationToken,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster").field("node", &self.shared.settings.node).finish_non_exhaustive()
    }
}

/// How the cluster looks from this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub node: NodeId,
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// The current term.
    pub term: u64,
    /// Index of the last entry applied here; 0 before the first.
    pub applied: u64,
    /// Whether this node takes part in elections. Not while it is filled after it came without data.
    pub may_vote: bool,
    /// All members.
    pub members: Vec<Member>,
}

impl Status {
    /// Whether this node leads.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.leader == Some(self.node)
    }
}

/// A member of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: NodeId,
    /// Where its RPC server is reached.
    pub rpc_addr: String,
    /// Whether it has a vote; otherwise it only learns.
    pub voter: bool,
    /// Index of the last entry it is known to have: to the leader, and to whoever was told by it lately.
    pub matched: Option<u64>,
}

impl Cluster {
    /// Begins consensus on `storage` and offers its services to peers on `listener`.
    ///
    /// The caller runs the services that are returned. The cluster of [`Settings::members`] is formed when it does
    /// not exist yet.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(
        settings: Settings,
        storage: Storage,
        clock: Arc<dyn Clock>,
        listener: TcpListener,
    ) -> Result<(Self, ChangesReceiver, Vec<Service>), StartError> {
        listener.set_nonblocking(true).map_err(StartError::Listener)?;
        let listener = tokio::net::TcpListener::from_std(listener).map_err(StartError::Listener)?;
        let mut config = config(&settings)?;
        config.enable_elect = !storage.state.is_filling()?;

        let Foundation { receiver, waiters, applied, belonging, machine } =
            Foundation::of(&settings, storage.state.clone()).map_err(StartError::Storage)?;
        if let Some(why) = belonging.dismissal() {
            return Err(why.into());
        }
        let snapshot_bytes = machine.snapshot_bytes();
        let (secret, tls) = (settings.secret.clone(), settings.tls.clone());
        let peers = Peers::new(settings.node, secret, tls, settings.members.clone(), belonging.clone());
        let log = LogStore::new(storage.log.clone());
        let raft = Raft::new(settings.node.0, Arc::new(config), Network::new(peers.clone()), log, machine)
            .await
            // Of what the log holds, some is applied right away.
            .map_err(|error| match belonging.dismissal() {
                Some(why) => why.into(),
                None => StartError::Consensus(error.to_string()),
            })?;

        peers.follow(raft.metrics());
        let look: contact::Look = {
            let raft = raft.clone();
            Arc::new(move || office::sight(&raft))
        };
        let contact = Contact::new(settings.node, Arc::clone(&clock), look, settings.lease());
        let office = {
            let (node, session) = (settings.node, settings.session);
            let (contact, belonging) = (contact.clone(), belonging.clone());
            Office::new(node, session, raft.clone(), peers, contact, belonging, clock)
        };
        services::abstain_if_empty(&office, &settings, &storage.state).await?;
        let stop = CancellationToken::new();
        let (cluster, mut services) = Self::assemble(
            settings.clone(),
            storage.state.clone(),
            (Arc::new(office.clone()), contact, belonging.clone()),
            (waiters, applied.clone()),
            stop.clone(),
        );
        let members = Members::new(cluster.clone(), office.clone());
        let server = network::serve(
            listener,
            office.clone(),
            storage.state,
            members.clone(),
            settings.clone(),
            stop.clone(),
        );
        let touch =
            services::keep_in_touch(office, settings.clone(), cluster.state().clone(), applied, stop.clone());
        let fold =
            services::fold(raft.clone(), storage.log, snapshot_bytes, settings.snapshots, stop.clone());
        services.push(("consensus", Box::pin(services::watch(raft, belonging, stop.clone()))));
        services.push(("state", Box::pin(services::watch_state(cluster.state().clone(), stop.clone()))));
        services.push(("rpc", Box::pin(server)));
        services.push(("members", endless(members.keep(stop))));
        services.push(("contact", endless(touch)));
        services.push(("snapshots", endless(fold)));
        Ok((cluster, receiver, services))
    }

    /// As [`Cluster::start`], over another consensus than this crate's own: what a simulation starts. The state machine is
    /// to be given what that consensus commits.
    ///
    /// # Errors
    /// When the state was written by a newer release or is damaged.
    pub fn over(
        way: Arc<dyn Way>,
        settings: Settings,
        state: State,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<(Self, ChangesReceiver, Vec<Service>, StateMachine)> {
        let Foundation { receiver, waiters, applied, belonging, machine } =
            Foundation::of(&settings, state.clone())?;
        let look: contact::Look = {
            let way = Arc::clone(&way);
            Arc::new(move || way.sight())
        };
        let contact = Contact::new(settings.node, clock, look, settings.lease());
        let stop = CancellationToken::new();
        let (cluster, mut services) = Self::assemble(
            settings.clone(),
            state,
            (Arc::clone(&way), contact.clone(), belonging),
            (waiters, applied.clone()),
            stop.clone(),
        );
        services.push((
            "contact",
            endless(async move {
                tokio::select! {
                    biased;
                    () = stop.cancelled() => {}
                    () = services::signs_of_life(way.as_ref(), &contact, &settings, applied) => {}
                }
            }),
        ));
        Ok((cluster, receiver, services, machine))
    }

    /// What is the same over every consensus: proposals and read barriers.
    fn assemble(
        settings: Settings,
        state: State,
        (way, contact, belonging): (Arc<dyn Way>, Contact, Belonging),
        (waiters, applied): (Waiters, watch::Receiver<u64>),
        stop: CancellationToken,
    ) -> (Self, Vec<Service>) {
        let (submissions, submitted) = mpsc::channel(proposer::WAITING_MAX);
        let (readers, asked) = mpsc::channel(reads::WAITING_MAX);
        let proposer = Proposer {
            way: Arc::clone(&way),
            node: settings.node,
            session: settings.session,
            waiters,
            submissions: submitted,
        };
        let reads = Reads {
            way: Arc::clone(&way),
            applied: applied.clone(),
            readers: asked,
            patience: settings.read_timeout,
        };
        let services: Vec<Service> = vec![
            ("proposer", endless(proposer.run(stop.clone()))),
            ("reads", endless(reads.run(stop.clone()))),
        ];
        let registered = SetOnce::new();
        let shared = Shared {
            settings,
            way,
            contact,
            belonging,
            state,
            applied,
            submissions,
            readers,
            registered,
            stop,
        };
        (Self { shared: Arc::new(shared) }, services)
    }

    /// Proposes one command, and waits until this node has applied it.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn propose(&self, command: Command) -> Result<Applied, ProposeError> {
        let replies = self.propose_all(vec![command], self.shared.settings.propose_timeout).await?;
        match replies.into_iter().next() {
            Some(reply) => Ok(reply?),
            None => Err(ProposeError::Unknown),
        }
    }

    /// Proposes commands that are applied in this order, and waits until this node has applied them. One reply each.
    ///
    /// # Errors
    /// [`ProposeError`], but never `Rejected`: refusals are in the replies.
    pub async fn propose_all(
        &self,
        commands: Vec<Command>,
        patience: Duration,
    ) -> Result<Vec<Reply>, ProposeError> {
        let bytes = codec::encoded_bytes(&commands);
        if bytes > PROPOSAL_BYTES_MAX {
            return Err(ProposeError::TooLarge { bytes });
        }
        if self.shared.contact.is_astray() {
            return Err(ProposeError::ClockAstray);
        }
        let deadline = Instant::now() + patience;
        let registers = matches!(commands.first(), Some(Command::RegisterNode(_)));
        if !registers && timeout_at(deadline, self.shared.registered.wait()).await.is_err() {
            return Err(ProposeError::NoLeader);
        }
        let (reply, answer) = oneshot::channel();
        let ticket = Ticket::default();
        let submission = Submission { commands, bytes, deadline, ticket: ticket.clone(), reply };
        match timeout_at(deadline, self.shared.submissions.send(submission)).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) => return Err(ProposeError::Stopping),
            Err(_) => return Err(ProposeError::NoLeader),
        }
        let started = Instant::now();
        let replies = answered(answer, &ticket, deadline).await?;
        if registers && matches!(replies.first(), Some(Ok(Applied::Registered(_)))) {
            // It may register anew, and stays known.
            let _ = self.shared.registered.set(());
        }
        metrics::histogram!("justrun_raft_commit_seconds").record(started.elapsed().as_secs_f64());
        Ok(replies)
    }

    /// Registers this process, so that its proposals count and it may claim. Must succeed before anything else is
    /// proposed.
    ///
    /// # Errors
    /// [`ProposeError`].
    pub async fn register(&self) -> Result<Incarnation, ProposeError> {
        let settings = &self.shared.settings;
        let command = RegisterNode {
            node: settings.node,
            session: settings.session,
            api_url: settings.api_url.clone(),
            rpc_addr: settings.rpc_addr.clone(),
            version: settings.version.clone(),
            level: settings.supported,
            at: self.shared.contact.now(),
        };
        let belonging = &self.shared.belonging;
        let answer = match self.propose(Command::RegisterNode(command)).await {
            // It ends for another reason than that it was not registered; see `dismissed`.
            Err(ProposeError::Rejected(Rejection::NodeRemoved)) => {
                belonging.dismiss(Dismissed::Removed(settings.node));
                return Err(ProposeError::NoLeader);
            }
            Err(ProposeError::Rejected(Rejection::LevelUnsupported { .. })) => {
                let level = self.level().unwrap_or(settings.supported);
                belonging.dismiss(Dismissed::TooOld { level, supported: settings.supported });
                return Err(ProposeError::NoLeader);
            }
            answer => answer?,
        };
        match answer {
            Applied::Registered(incarnation) => Ok(incarnation),
            Applied::Done | Applied::Claimed(_) | Applied::All(_) | Applied::Swept(_) => {
                Err(ProposeError::Rejected(Rejection::UnknownSession))
            }
        }
    }

    /// Waits until this node's state shows everything that was acknowledged anywhere before the call.
    ///
    /// # Errors
    /// [`ReadError`].
    pub async fn read_barrier(&self) -> Result<(), ReadError> {
        fail::fail_point!("bug::stale-read", |_| Ok(()));
        let (reader, answer) = oneshot::channel();
        let asked = async {
            self.shared.readers.send(reader).await.map_err(|_| ReadError::Stopping)?;
            answer.await.unwrap_or(Err(ReadError::Stopping))
        };
        timeout(self.shared.settings.read_timeout, asked).await.unwrap_or(Err(ReadError::NoLeader))
    }

    /// Takes from what an account may still ask for in a window of time, counted for the whole cluster. `None` when
    /// nobody who could count is reached within `patience`.
    pub async fn take(&self, take: Take, patience: Duration) -> Option<Granted> {
        timeout(patience, self.shared.way.take(take)).await.ok().flatten()
    }

    /// What the cluster can do, as far as this node has applied the log.
    ///
    /// # Errors
    /// When the storage is broken.
    pub fn level(&self) -> Result<FeatureLevel, storage::Error> {
        Ok(self.state().view().get::<Metas>(&())?.unwrap_or_default().level)
    }

    /// The state as this node has it.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.shared.state
    }

    /// How the cluster looks from this node.
    #[must_use]
    pub fn status(&self) -> Status {
        let told = self.shared.contact.told();
        let Sight { leader, term, mut members, .. } = self.shared.way.sight();
        for member in &mut members {
            member.matched = member.matched.or_else(|| told.get(&member.id).copied());
        }
        Status {
            node: self.shared.settings.node,
            leader,
            term,
            applied: *self.shared.applied.borrow(),
            may_vote: self.shared.way.may_vote(),
            members,
        }
    }

    /// Signs of life between this node and the leader.
    #[must_use]
    pub fn contact(&self) -> Contact {
        self.shared.contact.clone()
    }

    /// Gives leadership to the member that is furthest, if this node has it.
    ///
    /// # Errors
    /// [`TransferError`].
    pub async fn transfer_leadership(&self) -> Result<(), TransferError> {
        self.hand_over(None).await.map(drop)
    }

    /// Gives leadership to `successor`, or to the member that is furthest, if this node has it. Who leads then, unless
    /// that is not known in time.
    async fn hand_over(&self, successor: Option<NodeId>) -> Result<Option<NodeId>, TransferError> {
        self.shared.way.transfer_leadership(successor).await
    }

    /// Waits until this node may not take part any more: it was removed, or may not join. It must end then, and
    /// what it holds is others' already.
    pub async fn dismissed(&self) -> Dismissed {
        let why = self.shared.belonging.dismissed().await;
        tokio::time::sleep(PARTING).await;
        why
    }

    /// Ends consensus on this node, and with it the services. What is not answered by now stays so.
    pub async fn shutdown(&self) {
        self.shared.stop.cancel();
        self.shared.way.shutdown().await;
    }
}

/// What lies below a node's part in the cluster.
struct Foundation {
    receiver: ChangesReceiver,
    waiters: Waiters,
    applied: watch::Receiver<u64>,
    belonging: Belonging,
    machine: StateMachine,
}

impl Foundation {
    fn of(settings: &Settings, state: State) -> std::io::Result<Self> {
        let changes = ChangesSender::default();
        let receiver = changes.receiver();
        let waiters = Waiters::new(settings.node, settings.session);
        let (applied_sender, applied) = watch::channel(0);
        let belonging = Belonging::new(settings.node, settings.supported);
        let machine = StateMachine::with(state, changes, waiters.clone(), belonging.clone(), applied_sender)?;
        Ok(Self { receiver, waiters, applied, belonging, machine })
    }
}

/// What a submission comes to. Those that were made together share the latest deadline among them, and the line before
/// the proposer may be long, so each keeps to its own here.
async fn answered(
    mut answer: oneshot::Receiver<Result<Vec<Reply>, ProposeError>>,
    ticket: &Ticket,
    deadline: Instant,
) -> Result<Vec<Reply>, ProposeError> {
    match timeout_at(deadline, &mut answer).await {
        Ok(Ok(answer)) => return answer,
        Ok(Err(_)) if ticket.take() => return Err(ProposeError::Stopping),
        Ok(Err(_)) => return Err(ProposeError::Unknown),
        Err(_) if ticket.take() => return Err(ProposeError::NoLeader),
        Err(_) => {}
    }
    // Whoever carries it knows better at the same deadline whether it may have got anywhere.
    match timeout(ANSWER_GRACE, answer).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) | Err(_) => Err(ProposeError::Unknown),
    }
}

fn endless(
    service: impl Future<Output = ()> + Send + 'static,
) -> BoxFuture<'static, Result<(), ServiceError>> {
    Box::pin(async {
        service.await;
        Ok(())
    })
}

fn config(settings: &Settings) -> Result<Config, StartError> {
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (election_min, election_max) = settings.election_timeout;
    Config {
        cluster_name: "justrun".to_owned(),
        heartbeat_interval: millis(settings.heartbeat),
        election_timeout_min: millis(election_min),
        election_timeout_max: millis(election_max),
        // Snapshots are triggered by the size of the log; see `services::fold`.
        snapshot_policy: SnapshotPolicy::Never,
        max_in_snapshot_log_to_keep: settings.snapshots.entries_kept,
        replication_lag_threshold: settings.snapshots.log_entries.saturating_mul(2),
        max_payload_entries: PAYLOAD_ENTRIES_MAX,
        // The whole installation, not one chunk: a large state takes its time.
        install_snapshot_timeout: 600_000,
        enable_pre_vote: Some(true),
        // A leader that comes back in its old term would know of what it had committed only what its disk says, which may be less
        // than was acknowledged, and would answer reads by that. It is to be elected anew.
        enable_leader_restore: Some(false),
        // A member that lost its disk is filled anew. Until that is done it has no vote; see `services::form`.
        allow_log_reversion: Some(true),
        ..Config::default()
    }
    .validate()
    .map_err(|error| StartError::Settings(error.to_string()))
}
