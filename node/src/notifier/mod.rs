//! Messages to channels. THE LIST of channels: a new one is a file here, a variant of
//! [`ChannelConfig`], and an arm of [`Senders::send`].

mod discord; // one file a channel
mod email;
mod pagerduty;
mod slack;
mod webhook;

mod lanes; // how many messages at a time, and which have begun
mod message; // what there is to tell
mod outcomes; // what came of them, into the replicated state
mod post; // one request
mod service; // the loop
#[cfg(test)]
mod tests;

pub(crate) use email::{Mailer, SmtpError};
pub(crate) use lanes::Lanes;
pub(crate) use outcomes::outcome_recorder;
pub(crate) use service::{Notifier, NotifierHandle, Order, Stand, Standing};

use crate::executor::egress::EgressPolicy;
use crate::executor::guarded::{BuildError, GuardedClient};
use domain::channel::{Channel, ChannelConfig};
use domain::id::DeliveryId;
use domain::time::{Clock, Timestamp};
use futures::FutureExt;
use futures::future::BoxFuture;
use message::Message;
use post::Poster;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection may take to be made, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Idle connections kept to one host: most accounts have their channels at the same few.
const IDLE_PER_HOST_MAX: usize = 16;

/// Why a message did not arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// For the owner of the channel.
    pub(crate) reason: String,
    /// Whether it may arrive at another time.
    pub(crate) again: Again,
}

/// Whether sending a message again makes sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Again {
    /// The receiver will never take it.
    Never,
    /// It may take it later; `asked` is the wait it asked for, if it did.
    Later {
        /// See [`domain::delivery::Delivery::next_attempt`].
        asked: Option<Duration>,
    },
}

impl Refusal {
    fn never(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), again: Again::Never }
    }

    fn later(reason: impl Into<String>) -> Self {
        Self { reason: reason.into(), again: Again::Later { asked: None } }
    }
}

/// Sends messages, each in its channel's way. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Senders {
    poster: Poster,
    /// None when no mail server is configured.
    mailer: Option<Arc<Mailer>>,
}

impl Senders {
    /// Opens no connection.
    ///
    /// # Errors
    /// When TLS cannot be set up.
    pub(crate) fn new(
        egress: EgressPolicy,
        mailer: Option<Mailer>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, BuildError> {
        Ok(Self::with_client(GuardedClient::new(egress, CONNECT_TIMEOUT, IDLE_PER_HOST_MAX)?, mailer, clock))
    }

    fn with_client(client: GuardedClient, mailer: Option<Mailer>, clock: Arc<dyn Clock>) -> Self {
        Self { poster: Poster::new(client, clock), mailer: mailer.map(Arc::new) }
    }

    /// Sends one message once. Takes as long as the receiver does.
    async fn send(&self, config: &ChannelConfig, message: &Message) -> Result<(), Refusal> {
        match config {
            ChannelConfig::Slack { webhook_url } => slack::send(&self.poster, webhook_url, message).await,
            ChannelConfig::Discord { webhook_url } => discord::send(&self.poster, webhook_url, message).await,
            ChannelConfig::Email { addresses } => match &self.mailer {
                Some(mailer) => mailer.send(addresses, message).await,
                None => Err(Refusal::never(email::NOT_CONFIGURED)),
            },
            ChannelConfig::Webhook { url, headers, secret } => {
                webhook::send(&self.poster, url, headers, secret, message).await
            }
            ChannelConfig::PagerDuty { url, headers, routing_key, secret: _ } => {
                pagerduty::send(&self.poster, url, headers, routing_key.as_deref(), message).await
            }
        }
    }
}

impl api::ChannelTester for Senders {
    fn test<'a>(
        &'a self,
        channel: &'a Channel,
        id: DeliveryId,
        at: Timestamp,
    ) -> BoxFuture<'a, Result<(), String>> {
        async move {
            let message = Message::test(id, channel, at);
            self.send(&channel.config, &message).await.map_err(|refusal| refusal.reason)
        }
        .boxed()
    }
}
