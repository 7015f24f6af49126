//! What a client sees of a channel.

use crate::openapi::words::{ChannelTypeWord, DeliveredWord, EventWord};
use crate::resources::jobs::Headers;
use crate::time::Rfc3339;
use domain::channel::{Channel, ChannelConfig, EventKind, LastDelivery};
use domain::id::ChannelId;
use serde::Serialize;
use utoipa::ToSchema;

/// What every secret looks like once it is set; the last four characters follow.
const MASK: &str = "whsec_…";
/// Characters at the end of a secret that are shown, so that people can tell which one it is.
const SHOWN_CHARS: usize = 4;

/// Whether an answer shows secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Secrets {
    /// As everywhere.
    Masked,
    /// In the one answer to the request that made us make one.
    Shown,
}

/// An alert channel.
#[derive(Serialize, ToSchema)]
#[schema(as = Channel)]
pub(crate) struct ChannelOutput {
    #[schema(example = "ch_nR4kLm8wQ21")]
    id: String,
    #[serde(rename = "type")]
    #[schema(value_type = ChannelTypeWord)]
    kind: &'static str,
    name: String,
    config: ConfigOutput,
    #[schema(value_type = String, format = DateTime)]
    created_at: Rfc3339,
    #[schema(value_type = Vec<EventWord>)]
    events: Vec<&'static str>,
    #[schema(value_type = String, format = DateTime)]
    updated_at: Rfc3339,
    /// What came of the last message that was sent; null when none was.
    #[schema(required)]
    last_delivery: Option<LastDeliveryOutput>,
}

/// By the channel's type.
#[derive(Serialize, ToSchema)]
#[schema(as = ChannelConfig)]
#[serde(untagged)]
enum ConfigOutput {
    /// Of `slack` and `discord`.
    Chat { webhook_url: String },
    /// Of `email`.
    Email { addresses: Vec<String> },
    /// Of `webhook`.
    Webhook {
        url: String,
        #[schema(value_type = HashMap<String, String>)]
        headers: Headers,
        /// `whsec_…` and the last four characters, unless it was made in this response.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        secret: Option<String>,
        /// `…` and the last four characters; with PagerDuty only.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[schema(nullable = false)]
        routing_key: Option<String>,
    },
}

#[derive(Serialize, ToSchema)]
#[schema(as = LastDelivery)]
struct LastDeliveryOutput {
    #[schema(value_type = DeliveredWord)]
    status: &'static str,
    #[schema(value_type = String, format = DateTime)]
    at: Rfc3339,
    /// Why the last attempt failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    error: Option<String>,
}

/// What came of a test.
#[derive(Serialize, ToSchema)]
pub(crate) struct Tested {
    channel_id: String,
    #[schema(value_type = DeliveredWord)]
    status: &'static str,
    message: String,
}

impl Tested {
    pub(super) fn new(id: ChannelId, sent: Result<(), String>) -> Self {
        let (status, message) = match sent {
            Ok(()) => ("delivered", "Test notification sent successfully".to_owned()),
            Err(reason) => ("failed", reason),
        };
        Self { channel_id: id.to_string(), status, message }
    }
}

impl ChannelOutput {
    pub(super) fn new(channel: Channel, secrets: Secrets) -> Self {
        Self {
            id: channel.id.to_string(),
            kind: channel.config.type_name(),
            name: channel.name,
            config: ConfigOutput::new(channel.config, secrets),
            created_at: Rfc3339(channel.created_at),
            events: channel.events.into_iter().map(EventKind::as_str).collect(),
            updated_at: Rfc3339(channel.updated_at),
            last_delivery: channel.last_delivery.map(|LastDelivery { at, error }| LastDeliveryOutput {
                status: if error.is_some() { "failed" } else { "delivered" },
                at: Rfc3339(at),
                error,
            }),
        }
    }
}

impl ConfigOutput {
    fn new(config: ChannelConfig, secrets: Secrets) -> Self {
        let shown = |secret: String| match secrets {
            Secrets::Masked => masked(&secret),
            Secrets::Shown => secret,
        };
        match config {
            ChannelConfig::Slack { webhook_url } | ChannelConfig::Discord { webhook_url } => {
                Self::Chat { webhook_url }
            }
            ChannelConfig::Email { addresses } => Self::Email { addresses },
            ChannelConfig::Webhook { url, headers, secret } => Self::Webhook {
                url,
                headers: Headers(headers),
                secret: Some(shown(secret)),
                routing_key: None,
            },
            ChannelConfig::PagerDuty { url, headers, routing_key, secret } => Self::Webhook {
                url,
                headers: Headers(headers),
                secret: secret.as_deref().map(masked),
                routing_key: routing_key.as_deref().map(masked_key),
            },
        }
    }
}

/// A secret as everybody sees it. Of a short one, four characters would be too much.
pub(super) fn masked(secret: &str) -> String {
    format!("{MASK}{}", last_of(secret))
}

/// A routing key as everybody sees it: whoever has it can page people.
pub(super) fn masked_key(key: &str) -> String {
    format!("…{}", last_of(key))
}

fn last_of(secret: &str) -> &str {
    match secret.char_indices().rev().nth(SHOWN_CHARS - 1) {
        Some((start, _)) if secret.chars().count() > 2 * SHOWN_CHARS => &secret[start..],
        Some(_) | None => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_show_their_end_when_that_gives_nothing_away() {
        assert_eq!(masked("whsec_your_signing_secret"), "whsec_…cret");
        assert_eq!(masked("ninechars"), "whsec_…hars");
        assert_eq!(masked("eightchr"), "whsec_…");
        assert_eq!(masked("ääääääöäöü"), "whsec_…öäöü");
        assert_eq!(masked_key("0123456789abcdef0123456789abcdef"), "…cdef");
    }
}
