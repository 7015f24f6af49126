//! What the outside may ask: the REST API of one node.
//!
//! **Never**: changes state except by a proposal, keeps state of its own, reads the clock.
//! **Uses**: `domain`, `raft` (proposals, read barriers), `storage` (read views). **Used by**: `node`.
//!
//! Start at [`mod@routes`] for what can be called. A new resource is a file in `resources` and its
//! lines there.

mod align; // cursors follow their space
mod auth; // credential -> principal
mod deadline; // a connection whose peer must keep reading
mod drain; // bodies that nobody reads
mod error; // what a refusal looks like
mod extract; // bodies, queries and ids that fail in our error shape
mod fields; // typed fields of a JSON object, with all that is wrong with them
mod gate; // what every request passes
mod health; // alive, ready, metrics
mod json; // JSON as it was sent: order and duplicates kept
pub mod key_use; // when each API key was last used
mod keys; // how API keys are made
mod observe; // request ids, metrics, the log of what went wrong
mod once; // requests that are answered once
mod openapi; // the document, and a page to browse it
pub mod outbound; // calls to services outside
mod page; // lists in pages
mod passwords; // hashed a few at a time
mod proxies; // whom they speak for
mod rate_limit; // how often they may
mod resources; // one file a resource
mod routes; // THE TABLE: what can be called
mod server; // connections: limits, timeouts, shutdown
pub mod services; // what the operator says of services outside
mod time; // instants as text
mod tls; // the certificate of the API
mod tokens; // session tokens

use axum::Router;
use domain::account::Plans;
use domain::channel::Channel;
use domain::id::DeliveryId;
use domain::time::{Clock, Timestamp};
use futures::future::BoxFuture;
use observe::Observer;
use raft::Cluster;
use std::ops::Deref;
use std::sync::Arc;
use storage::schema::Metas;
use storage::{Read, StateView};
use url::Url;

pub use align::{AlignError, align_space};
pub use error::ApiError;
pub use key_use::KeyUse;
pub use keys::{hash_key, mint_key, stored_key};
pub use passwords::{HashError, Passwords, hash_password};
pub use proxies::Proxies;
pub use rate_limit::RateLimits;
pub use server::{ServeSettings, serve};
pub use tls::{Tls, TlsError};

/// What handlers work with.
#[derive(Clone)]
pub struct Deps {
    /// Where changes are proposed and state is read.
    pub cluster: Cluster,
    /// What time it is.
    pub clock: Arc<dyn Clock>,
    /// Which targets a job may have.
    pub targets: Arc<dyn TargetPolicy>,
    /// Sends test messages.
    pub tester: Arc<dyn ChannelTester>,
    /// What each plan allows.
    pub plans: Arc<Plans>,
    /// Limits of all accounts in place of their plans'.
    pub rate_limits: RateLimits,
    /// Proxies that are believed.
    pub proxies: Arc<Proxies>,
    /// Notes when API keys are used.
    pub key_use: KeyUse,
    /// Where passwords wait for their turn.
    pub passwords: Passwords,
    /// Whether strangers may make themselves an account.
    pub registration_open: bool,
    /// Calls services outside.
    pub outbound: Arc<dyn outbound::Outbound>,
    /// Which ones, and how they know us.
    pub services: Arc<services::Services>,
    /// Renders this node's metrics in the Prometheus text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
}

/// The same, shared by all requests: each of them clones it several times on its way.
#[derive(Clone)]
pub(crate) struct Shared(Arc<Deps>);

impl Deref for Shared {
    type Target = Deps;

    fn deref(&self) -> &Deps {
        &self.0
    }
}

impl Deps {
    /// Looks at this node's state at one applied mark. Not async on purpose: a view holds back
    /// applies for as long as it lives.
    fn read<T>(&self, look: impl FnOnce(&StateView<'_>) -> Result<T, storage::Error>) -> Result<T, ApiError> {
        Ok(look(&self.cluster.state().view())?)
    }

    /// Refuses to answer by a state of which a backup has brought only some. To be asked behind the read barrier.
    fn must_be_whole(&self) -> Result<(), ApiError> {
        let meta = self.read(|view| view.get::<Metas>(&()))?;
        if meta.is_some_and(|meta| meta.restoring) { Err(ApiError::Restoring) } else { Ok(()) }
    }
}

/// Which targets a job may have, as far as its URL alone tells. Addresses are looked at again when
/// the request is sent.
pub trait TargetPolicy: Send + Sync {
    /// Refuses a target.
    ///
    /// # Errors
    /// What is wrong, put so that it reads well behind the field's name: `must use https`.
    fn check(&self, url: &Url) -> Result<(), String>;
}

/// Sends a message to a channel right now, to see whether its configuration works.
pub trait ChannelTester: Send + Sync {
    /// Sends a test message that goes by `id` and says that it was made at `at`.
    ///
    /// The error is for the owner of the channel, and names what to put right: `Slack answered 404: no_service`.
    /// Whoever calls this gives up when it takes too long.
    fn test<'a>(
        &'a self,
        channel: &'a Channel,
        id: DeliveryId,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<(), String>>;
}

/// Everything that can be called, as one service.
pub fn router(deps: Deps) -> Router {
    let deps = Shared(Arc::new(deps));
    routes::table(&deps)
        .layer(axum::middleware::from_fn_with_state(Observer::new(deps.clone()), observe::observe))
        .with_state(deps)
}
