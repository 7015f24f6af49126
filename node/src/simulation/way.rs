//! The way of a simulated process to whoever leads: messages that take their time and may be lost.

use super::world::{Action, Shared};
use bytes::Bytes;
use domain::id::NodeId;
use futures::FutureExt;
use futures::future::BoxFuture;
use raft::{ClockReading, Granted, Heard, Hearing, Refused, Sight, Take, TransferError, Way};
use std::future::pending;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long a leader may take to confirm its office for a read.
const READ_INDEX_TIMEOUT: Duration = Duration::from_secs(1);
/// How often it looks whether it is confirmed.
const CONFIRM_INTERVAL: Duration = Duration::from_millis(25);
/// So many proposals in a thousand arrive once more, late.
const COPIES_PERMILLE: u64 = 20;
/// How late, at most.
const COPY_LATE_MS_MAX: u64 = 8_000;

pub(super) struct SimWay {
    pub(super) world: Shared,
    pub(super) me: NodeId,
}

impl SimWay {
    /// Takes as long as a message does. One that is lost never arrives.
    async fn travel(&self, from: NodeId, to: NodeId) {
        let travels = self.world.lock().travel(from, to);
        match travels {
            Some(travels) if travels.is_zero() => {}
            Some(travels) => sleep(travels).await,
            None => pending().await,
        }
    }

    /// Whether a process runs there; nobody answers for one that is frozen.
    async fn knock(&self, at: NodeId) -> bool {
        if at == self.me {
            return true;
        }
        let (runs, frozen) = {
            let mut world = self.world.lock();
            let peer = world.peer(at);
            (peer.session.is_some(), peer.frozen)
        };
        if frozen {
            pending::<()>().await;
        }
        runs
    }
}

impl Way for SimWay {
    fn sight(&self) -> Sight {
        self.world.lock().sight(self.me)
    }

    fn leader(&self) -> Option<NodeId> {
        self.world.lock().leader_seen(self.me)
    }

    fn propose_to(&self, leader: NodeId, proposal: Bytes) -> BoxFuture<'_, Result<u64, Refused>> {
        async move {
            {
                let mut world = self.world.lock();
                if world.dice.chance(COPIES_PERMILLE) {
                    let late = Duration::from_millis(world.dice.between(0, COPY_LATE_MS_MAX));
                    let at = world.now() + late;
                    world.put(at, Action::Copy { proposal: proposal.clone() });
                }
            }
            self.travel(self.me, leader).await;
            if !self.knock(leader).await {
                return Err(Refused::NotLeader(None));
            }
            let accepted = self.world.lock().accept(leader, proposal);
            let answer = match accepted {
                Ok(answer) => answer.await.unwrap_or(Err(Refused::Unknown)),
                Err(refused) => Err(refused),
            };
            self.travel(leader, self.me).await;
            answer
        }
        .boxed()
    }

    fn read_index_of(&self, leader: NodeId) -> BoxFuture<'_, Result<u64, Refused>> {
        async move {
            let asked = async {
                self.travel(self.me, leader).await;
                if !self.knock(leader).await {
                    return Err(Refused::Unknown);
                }
                let index = self.world.lock().committed();
                while !self.world.lock().is_confirmed(leader) {
                    if self.world.lock().leader_seen(leader) != Some(leader) {
                        let leads = self.world.lock().leader_seen(leader);
                        self.travel(leader, self.me).await;
                        return Err(Refused::NotLeader(leads));
                    }
                    sleep(CONFIRM_INTERVAL).await;
                }
                self.travel(leader, self.me).await;
                Ok(index)
            };
            timeout(READ_INDEX_TIMEOUT, asked).await.unwrap_or(Err(Refused::Unknown))
        }
        .boxed()
    }

    fn ping(
        &self,
        leader: NodeId,
        applied: u64,
        clock: ClockReading,
        patience: Duration,
    ) -> BoxFuture<'_, Option<Heard>> {
        async move {
            let asked = async {
                self.travel(self.me, leader).await;
                if !self.knock(leader).await {
                    return None;
                }
                let (contact, log_end) = {
                    let mut world = self.world.lock();
                    let log_end = world.log_end(leader);
                    (world.peer(leader).contact.clone()?, log_end)
                };
                // It looks at the world itself.
                let hearing = contact.hear(self.me, applied, Some(clock));
                let clock = Some(contact.clock_for(self.me));
                self.travel(leader, self.me).await;
                let discounted = hearing == Hearing::Discounted;
                (hearing != Hearing::NotLeader).then(|| Heard {
                    log_end,
                    clock,
                    discounted,
                    ..Heard::default()
                })
            };
            timeout(patience, asked).await.ok().flatten()
        }
        .boxed()
    }

    fn take(&self, _: Take) -> BoxFuture<'_, Option<Granted>> {
        // Nobody here asks the REST API for anything.
        std::future::ready(None).boxed()
    }

    fn transfer_leadership(
        &self,
        to: Option<NodeId>,
    ) -> BoxFuture<'_, Result<Option<NodeId>, TransferError>> {
        async move {
            sleep(Duration::from_millis(20)).await;
            if self.world.lock().transfer(self.me, to) { Ok(None) } else { Err(TransferError::NotLeader) }
        }
        .boxed()
    }

    fn shutdown(&self) -> BoxFuture<'_, ()> {
        self.world.lock().step_down(self.me);
        std::future::ready(()).boxed()
    }
}
