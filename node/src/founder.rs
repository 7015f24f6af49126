//! Gives a new cluster its first account.

use crate::clock::Sleeper;
use crate::config::Secret;
use domain::account::{Account, ApiKey, Plan};
use domain::id::{AccountId, KeyId};
use domain::rejection::Rejection;
use raft::command::{Bootstrap, Command};
use raft::{Cluster, ProposeError};
use std::sync::Arc;
use std::time::Duration;
use storage::Read;
use storage::schema::Metas;
use tokio_util::sync::CancellationToken;

/// Pause between looks.
const INTERVAL: Duration = Duration::from_millis(100);

/// Proposes the first account while this node leads a cluster that has none.
pub(crate) struct Founder {
    pub(crate) cluster: Cluster,
    pub(crate) sleeper: Arc<dyn Sleeper>,
    pub(crate) api_key: Option<Secret>,
}

impl Founder {
    pub(crate) async fn run(self, stop: CancellationToken) -> Result<(), storage::Error> {
        let mut said = false;
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                () = self.sleeper.sleep(INTERVAL) => {}
            }
            if self.cluster.state().view().get::<Metas>(&())?.is_some_and(|meta| meta.bootstrapped) {
                return Ok(());
            }
            // The state of a leader that has just been elected may be behind.
            if !self.cluster.status().is_leader() || self.cluster.read_barrier().await.is_err() {
                continue;
            }
            match &self.api_key {
                Some(key) => self.found(key).await,
                None if !said => {
                    said = true;
                    tracing::warn!(
                        "the cluster has no account yet; start a node with --bootstrap-api-key to make one"
                    );
                }
                None => {}
            }
        }
    }

    async fn found(&self, key: &Secret) {
        let created_at = self.sleeper.now();
        let account = Account {
            id: AccountId(rand::random()),
            plan: Plan::Scale,
            email: None,
            billing: None,
            created_at,
        };
        let text = key.expose();
        let key = ApiKey {
            id: KeyId(rand::random()),
            account: account.id,
            name: "bootstrap".to_owned(),
            hash: api::hash_key(text),
            last_four: text.chars().skip(text.chars().count().saturating_sub(4)).collect(),
            created_at,
            last_used_at: None,
        };
        match self.cluster.propose(Command::Bootstrap(Bootstrap { account, key })).await {
            Ok(_) => tracing::info!("first account made, with the given API key"),
            Err(ProposeError::Rejected(Rejection::AlreadyBootstrapped)) => {}
            Err(error) => tracing::debug!(%error, "first account not made yet"),
        }
    }
}
