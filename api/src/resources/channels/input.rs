//! What a client may set of a channel. Creating and changing one share it: a field that is absent leaves
//! the default or the old value.

use super::output::{Secrets, masked, masked_key};
use crate::TargetPolicy;
use crate::error::ApiError;
use crate::fields::{EMPTY, Fault, Fields, Issues, label};
use crate::json::Value;
use crate::resources::jobs::{headers, url};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use domain::channel::{Channel, ChannelConfig, EventKind};
use domain::id::{AccountId, ChannelId};
use domain::limits;
use domain::time::Timestamp;
use url::Url;

/// Without these there is no channel (documented).
pub(super) const REQUIRED: [&str; 3] = ["type", "name", "config"];
/// Shown but not set, so that a channel that was read can be sent again.
pub(super) const READ_ONLY: [&str; 4] = ["id", "created_at", "updated_at", "last_delivery"];
/// Where `PagerDuty` takes events, in America and in Europe.
const PAGER_DUTY_HOSTS: [&str; 2] = ["events.pagerduty.com", "events.eu.pagerduty.com"];
/// What an integration key of theirs has; with any other number they refuse every message.
const ROUTING_KEY_CHARS: usize = 32;
/// What a secret that we make starts with.
const SECRET_PREFIX: &str = "whsec_";
/// Stands in secrets as they are shown.
const ELLIPSIS: char = '…';

/// The type of a channel, as a client names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Slack,
    Discord,
    Email,
    Webhook,
}

impl Kind {
    /// Every type, in documented order.
    pub(crate) const ALL: [Self; 4] = [Self::Slack, Self::Discord, Self::Email, Self::Webhook];

    /// As a client writes it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Slack => "slack",
            Self::Discord => "discord",
            Self::Email => "email",
            Self::Webhook => "webhook",
        }
    }

    fn of(config: &ChannelConfig) -> Self {
        match config {
            ChannelConfig::Slack { .. } => Self::Slack,
            ChannelConfig::Discord { .. } => Self::Discord,
            ChannelConfig::Email { .. } => Self::Email,
            ChannelConfig::Webhook { .. } | ChannelConfig::PagerDuty { .. } => Self::Webhook,
        }
    }

    /// Without this a channel leads nowhere (documented).
    fn required(self) -> &'static str {
        match self {
            Self::Slack | Self::Discord => "webhook_url",
            Self::Email => "addresses",
            Self::Webhook => "url",
        }
    }
}

/// The fields of a request body that were given and make sense.
#[derive(Debug, Default)]
pub(super) struct ChannelInput {
    name: Option<String>,
    /// `Some(None)` asks for the default.
    events: Option<Option<Vec<EventKind>>>,
    config: Option<Made>,
}

/// A configuration, and whether its secret is one that we have just made.
#[derive(Debug)]
struct Made {
    config: ChannelConfig,
    secrets: Secrets,
}

impl ChannelInput {
    /// Reads a new channel.
    pub(super) fn for_create(value: &Value, targets: &dyn TargetPolicy, issues: &mut Issues) -> Self {
        let Some(mut fields) = Fields::of(value, "", issues) else { return Self::default() };
        fields.require(&REQUIRED);
        let kind = fields.choice("type", &Kind::ALL, Kind::as_str);
        let (mut input, config) = Self::read(fields);
        if let (Some(kind), Some(config)) = (kind, config) {
            input.config = read_config(config, kind, None, targets, issues);
        }
        input
    }

    /// Reads the changes of `old`.
    pub(super) fn for_update(
        value: &Value,
        old: &Channel,
        targets: &dyn TargetPolicy,
        issues: &mut Issues,
    ) -> Self {
        let Some(mut fields) = Fields::of(value, "", issues) else { return Self::default() };
        let kind = Kind::of(&old.config);
        if fields.choice("type", &Kind::ALL, Kind::as_str).is_some_and(|given| given != kind) {
            fields.meaning("type", "cannot be changed; make another channel");
        }
        let (mut input, config) = Self::read(fields);
        if let Some(config) = config {
            input.config = read_config(config, kind, Some(&old.config), targets, issues);
        }
        input
    }

    fn read<'a>(mut fields: Fields<'a, '_>) -> (Self, Option<&'a Value>) {
        let name = fields.parsed("name", |text| label(text, limits::LABEL_CHARS_MAX));
        let events = fields.list_or_null("events", EventKind::ALL.len(), event);
        if matches!(&events, Some(Some(events)) if events.is_empty()) {
            fields.meaning("events", EMPTY);
        }
        let config = fields.value("config");
        fields.ignore(&READ_ONLY);
        fields.finish();
        (Self { name, events, config: None }, config)
    }

    /// A new channel, still without an id.
    ///
    /// # Errors
    /// When something that was required is missing, which has been noted before.
    pub(super) fn channel(self, account: AccountId, now: Timestamp) -> Result<(Channel, Secrets), ApiError> {
        let missing = || ApiError::Internal("a channel that was not refused has no configuration".into());
        let Made { config, secrets } = self.config.ok_or_else(missing)?;
        let events = in_order(self.events.flatten().unwrap_or_else(|| config.default_events()));
        let channel = Channel {
            id: ChannelId(0),
            account,
            name: self.name.ok_or_else(missing)?,
            config,
            events,
            last_delivery: None,
            created_at: now,
            updated_at: now,
        };
        Ok((channel, secrets))
    }

    /// `old` with the fields that were given.
    pub(super) fn changed(self, old: &Channel) -> (Channel, Secrets) {
        let mut channel = old.clone();
        let mut secrets = Secrets::Masked;
        if let Some(name) = self.name {
            channel.name = name;
        }
        if let Some(made) = self.config {
            (channel.config, secrets) = (made.config, made.secrets);
        }
        if let Some(events) = self.events {
            channel.events = in_order(events.unwrap_or_else(|| channel.config.default_events()));
        }
        (channel, secrets)
    }
}

fn event(text: &str) -> Result<EventKind, Fault> {
    EventKind::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
        let words: Vec<_> = EventKind::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("must be one of {}", words.join(", ")).into()
    })
}

/// Each kind once, in documented order.
fn in_order(events: Vec<EventKind>) -> Vec<EventKind> {
    EventKind::ALL.into_iter().filter(|kind| events.contains(kind)).collect()
}

/// Reads the configuration of a channel of `kind`; what is absent is taken from `old`.
fn read_config(
    value: &Value,
    kind: Kind,
    old: Option<&ChannelConfig>,
    targets: &dyn TargetPolicy,
    issues: &mut Issues,
) -> Option<Made> {
    let mut fields = Fields::of(value, "config", issues)?;
    if old.is_none() {
        fields.require(&[kind.required()]);
    }
    let plain = |config| Made { config, secrets: Secrets::Masked };
    let made = match kind {
        Kind::Slack => {
            chat(&mut fields, old, targets).map(|webhook_url| plain(ChannelConfig::Slack { webhook_url }))
        }
        Kind::Discord => {
            chat(&mut fields, old, targets).map(|webhook_url| plain(ChannelConfig::Discord { webhook_url }))
        }
        Kind::Email => {
            let known = old.and_then(|old| match old {
                ChannelConfig::Email { addresses } => Some(addresses.clone()),
                ChannelConfig::Slack { .. }
                | ChannelConfig::Discord { .. }
                | ChannelConfig::Webhook { .. }
                | ChannelConfig::PagerDuty { .. } => None,
            });
            addresses(&mut fields).or(known).map(|addresses| plain(ChannelConfig::Email { addresses }))
        }
        Kind::Webhook => webhook(&mut fields, old, targets),
    };
    fields.finish();
    made
}

fn chat(
    fields: &mut Fields<'_, '_>,
    old: Option<&ChannelConfig>,
    targets: &dyn TargetPolicy,
) -> Option<String> {
    let known = old.and_then(|old| match old {
        ChannelConfig::Slack { webhook_url } | ChannelConfig::Discord { webhook_url } => {
            Some(webhook_url.clone())
        }
        ChannelConfig::Email { .. } | ChannelConfig::Webhook { .. } | ChannelConfig::PagerDuty { .. } => None,
    });
    fields.parsed("webhook_url", |text| url(text, targets)).or(known)
}

fn addresses(fields: &mut Fields<'_, '_>) -> Option<Vec<String>> {
    let mut addresses = fields.list("addresses", limits::ADDRESSES_MAX, address)?;
    if addresses.is_empty() {
        fields.meaning("addresses", EMPTY);
        return None;
    }
    let mut seen: Vec<String> = Vec::with_capacity(addresses.len());
    addresses.retain(|address| {
        let folded = address.to_lowercase();
        let is_new = !seen.contains(&folded);
        seen.push(folded);
        is_new
    });
    Some(addresses)
}

/// One mail address, without a display name (RFC 5321 without quoted forms and address literals).
fn address(text: &str) -> Result<String, Fault> {
    const LOCAL_BYTES_MAX: usize = 64;
    const DOMAIN_BYTES_MAX: usize = 253;
    const LABEL_BYTES_MAX: usize = 63;
    let is_local = |local: &str| {
        let is_atom = |atom: &str| {
            !atom.is_empty()
                && atom.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-/=?^_`{|}~".contains(&b))
        };
        local.len() <= LOCAL_BYTES_MAX && local.split('.').all(is_atom)
    };
    let is_domain = |domain: &str| {
        let is_label = |label: &str| {
            (1..=LABEL_BYTES_MAX).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        domain.len() <= DOMAIN_BYTES_MAX && domain.split('.').all(is_label)
    };
    match text.rsplit_once('@') {
        Some((local, domain)) if is_local(local) && is_domain(domain) => Ok(text.to_owned()),
        _ => Err("is not an email address".into()),
    }
}

/// What there is to know of a webhook, ours or `PagerDuty`'s.
#[derive(Default)]
struct Webhook {
    url: Option<String>,
    headers: Vec<(String, String)>,
    secret: Option<String>,
    routing_key: Option<String>,
}

impl Webhook {
    fn of(old: Option<&ChannelConfig>) -> Self {
        match old.cloned() {
            Some(ChannelConfig::Webhook { url, headers, secret }) => {
                Self { url: Some(url), headers, secret: Some(secret), routing_key: None }
            }
            Some(ChannelConfig::PagerDuty { url, headers, routing_key, secret }) => {
                Self { url: Some(url), headers, secret, routing_key }
            }
            Some(
                ChannelConfig::Slack { .. } | ChannelConfig::Discord { .. } | ChannelConfig::Email { .. },
            )
            | None => Self::default(),
        }
    }
}

fn webhook(
    fields: &mut Fields<'_, '_>,
    old: Option<&ChannelConfig>,
    targets: &dyn TargetPolicy,
) -> Option<Made> {
    let old = Webhook::of(old);
    let url = fields.parsed("url", |text| url(text, targets)).or(old.url);
    let headers = headers(fields).unwrap_or(old.headers);
    let mask = old.secret.as_deref().map(masked);
    let given = secret(fields, "secret", mask.as_deref());
    let mask = old.routing_key.as_deref().map(masked_key);
    let key = secret(fields, "routing_key", mask.as_deref());

    let url = url?;
    let is_pager_duty =
        Url::parse(&url).is_ok_and(|url| url.host_str().is_some_and(|host| PAGER_DUTY_HOSTS.contains(&host)));
    if is_pager_duty {
        if let Some(Some(key)) = &key
            && key.chars().count() != ROUTING_KEY_CHARS
        {
            fields.meaning("routing_key", format!("must have {ROUTING_KEY_CHARS} characters"));
        }
        let secret = given.unwrap_or(old.secret);
        let routing_key = key.unwrap_or(old.routing_key);
        let config = ChannelConfig::PagerDuty { url, headers, routing_key, secret };
        return Some(Made { config, secrets: Secrets::Masked });
    }
    if matches!(key, Some(Some(_))) {
        fields.meaning("routing_key", format!("applies only to {}", PAGER_DUTY_HOSTS.join(" and ")));
    }
    let (secret, secrets) = match given.unwrap_or(old.secret) {
        Some(secret) => (secret, Secrets::Masked),
        None => (new_secret(), Secrets::Shown),
    };
    Some(Made { config: ChannelConfig::Webhook { url, headers, secret }, secrets })
}

/// A secret; `Some(None)` is null. One that is sent back as it was shown is as good as absent.
fn secret(fields: &mut Fields<'_, '_>, name: &'static str, shown: Option<&str>) -> Option<Option<String>> {
    let given = fields.parsed_or_null(name, |text| {
        if shown == Some(text) {
            return Ok(None);
        }
        if text.is_empty() {
            return Err(EMPTY.into());
        }
        if text.contains(ELLIPSIS) {
            return Err("is only how a secret is shown".into());
        }
        if text.len() > limits::CHANNEL_SECRET_BYTES_MAX {
            return Err(format!("must have at most {} bytes", limits::CHANNEL_SECRET_BYTES_MAX).into());
        }
        if text.chars().any(char::is_control) {
            return Err("must not contain control characters".into());
        }
        Ok(Some(text.to_owned()))
    });
    match given {
        Some(Some(Some(secret))) => Some(Some(secret)),
        Some(None) => Some(None),
        Some(Some(None)) | None => None,
    }
}

/// 32 random bytes, in the form that others use as well (Standard Webhooks).
fn new_secret() -> String {
    format!("{SECRET_PREFIX}{}", STANDARD.encode(rand::random::<[u8; 32]>()))
}
