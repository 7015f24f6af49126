//! Keeps this process registered, so that it may claim.
//!
//! A process registers once at its start. Should the leader count it as dead all the same (it was
//! frozen, or cut off), what it held has gone to others, and it registers anew.

use crate::clock::Sleeper;
use domain::id::NodeId;
use domain::node::{Incarnation, SessionId};
use raft::{Cluster, ProposeError};
use std::sync::Arc;
use std::time::Duration;
use storage::Read;
use storage::schema::Nodes;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Pause between looks at the own record, and before registering again after a failure.
const INTERVAL: Duration = Duration::from_millis(250);

/// Registers this process and says under which incarnation it may claim.
pub(crate) struct Registration {
    cluster: Cluster,
    node: NodeId,
    session: SessionId,
    sleeper: Arc<dyn Sleeper>,
    incarnation: watch::Sender<Option<Incarnation>>,
}

impl Registration {
    pub(crate) fn new(
        cluster: Cluster,
        node: NodeId,
        session: SessionId,
        sleeper: Arc<dyn Sleeper>,
    ) -> (Self, watch::Receiver<Option<Incarnation>>) {
        let (incarnation, receiver) = watch::channel(None);
        (Self { cluster, node, session, sleeper, incarnation }, receiver)
    }

    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), RegistrationError> {
        loop {
            if self.must_register()? {
                self.incarnation.send_replace(None);
                match self.cluster.register().await {
                    Ok(incarnation) => {
                        tracing::info!(incarnation = incarnation.0, "registered");
                        self.incarnation.send_replace(Some(incarnation));
                    }
                    Err(ProposeError::Stopping) => return Ok(()),
                    Err(ProposeError::Rejected(rejection)) => {
                        return Err(RegistrationError::Refused(rejection));
                    }
                    Err(error) => tracing::debug!(%error, "not registered yet"),
                }
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = self.sleeper.sleep(INTERVAL) => {}
            }
        }
    }

    fn must_register(&self) -> Result<bool, storage::Error> {
        let held = *self.incarnation.borrow();
        let record = self.cluster.state().view().get::<Nodes>(&self.node)?;
        Ok(match (held, record) {
            (Some(held), Some(record)) if record.session == self.session => {
                record.incarnation == held && record.expired_at.is_some()
            }
            // The state may not show this process yet, or a stale copy of an older one's record.
            (Some(_), _) => false,
            (None, _) => true,
        })
    }
}

/// Why this process cannot take its place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistrationError {
    #[error("the cluster refused this process: {0}; does another process run as this node?")]
    Refused(domain::rejection::Rejection),
    #[error(transparent)]
    Storage(#[from] storage::Error),
}
