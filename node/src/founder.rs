//! Gives a new cluster what it needs before anybody can use it: the key that signs session tokens, and the
//! first account.

use crate::clock::Sleeper;
use crate::config::Secret;
use domain::account::{Account, Plan};
use domain::id::{AccountId, KeyId};
use domain::rejection::Rejection;
use raft::command::{Bootstrap, Command, SetSessionKey};
use raft::{Cluster, ProposeError};
use std::sync::Arc;
use std::time::Duration;
use storage::Read;
use storage::schema::{Metas, SecretsOf};
use tokio_util::sync::CancellationToken;

/// Pause between looks.
const INTERVAL: Duration = Duration::from_millis(100);

/// What session tokens are signed with, as long as the hash it is used with.
const SESSION_KEY_BYTES: usize = 32;

/// Proposes what is missing while this node leads.
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
            let (has_account, has_key) = {
                let view = self.cluster.state().view();
                let meta = view.get::<Metas>(&())?;
                (meta.is_some_and(|meta| meta.bootstrapped), view.contains::<SecretsOf>(&())?)
            };
            if has_account && has_key {
                return Ok(());
            }
            // The state of a leader that has just been elected may be behind.
            if !self.cluster.status().is_leader() || self.cluster.read_barrier().await.is_err() {
                continue;
            }
            // The account comes first: once there is a key for session tokens, nodes say that they are ready.
            let founded = match &self.api_key {
                _ if has_account => true,
                Some(key) => self.found(key).await,
                None => {
                    if !said {
                        said = true;
                        tracing::warn!(
                            "the cluster has no account yet; make one with: justrun account create --email \
                             ADDRESS --plan scale, and then its key with: justrun key create --account \
                             ADDRESS --name NAME"
                        );
                    }
                    true
                }
            };
            if founded && !has_key {
                self.set_session_key().await;
            }
        }
    }

    async fn set_session_key(&self) {
        let key: [u8; SESSION_KEY_BYTES] = rand::random();
        // Another leader's may have come first, and stays.
        let command = Command::SetSessionKey(SetSessionKey { key: key.to_vec() });
        if let Err(error) = self.cluster.propose(command).await {
            tracing::debug!(%error, "key for session tokens not made yet");
        }
    }

    /// Makes the first account; whether there is one now.
    async fn found(&self, key: &Secret) -> bool {
        let created_at = self.sleeper.now();
        let account = Account {
            id: AccountId(rand::random()),
            plan: Plan::Scale,
            email: None,
            billing: None,
            created_at,
        };
        let name = "bootstrap".to_owned();
        let key = api::stored_key(key.expose(), KeyId(rand::random()), account.id, name, created_at);
        match self.cluster.propose(Command::Bootstrap(Bootstrap { account, key })).await {
            Ok(_) => {
                tracing::info!("first account made, with the given API key");
                true
            }
            Err(ProposeError::Rejected(Rejection::AlreadyBootstrapped)) => true,
            Err(error) => {
                tracing::debug!(%error, "first account not made yet");
                false
            }
        }
    }
}
