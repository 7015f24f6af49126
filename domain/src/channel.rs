//! Alert channels: where messages about outcomes go.

use crate::execution::ExecutionStatus;
use crate::id::{AccountId, ChannelId};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What a message can tell of (documented names).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// An execution ended, well or not.
    Executed,
    /// An execution failed, with all its retries.
    Failed,
    /// An execution went well after one that failed.
    Recovered,
}

impl EventKind {
    /// Every kind, in documented order.
    pub const ALL: [Self; 3] = [Self::Executed, Self::Failed, Self::Recovered];

    /// As the API writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Executed => "job.executed",
            Self::Failed => "job.failed",
            Self::Recovered => "job.recovered",
        }
    }

    /// A number for keys and ids, never changed.
    #[must_use]
    pub fn number(self) -> u8 {
        match self {
            Self::Executed => 1,
            Self::Failed => 2,
            Self::Recovered => 3,
        }
    }

    /// The inverse of [`EventKind::number`].
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }

    /// Whether a message of this kind tells the end of what one of the `earlier` kind told, so that the two
    /// must arrive in this order.
    #[must_use]
    pub fn answers(self, earlier: Self) -> bool {
        matches!((earlier, self), (Self::Failed, Self::Recovered) | (Self::Recovered, Self::Failed))
    }

    /// What the end of an execution is worth telling, given how the one before ended. Skipped
    /// executions are no events.
    pub fn of(status: ExecutionStatus, before: Option<ExecutionStatus>) -> impl Iterator<Item = Self> {
        let second = match status {
            ExecutionStatus::Failed => Some(Self::Failed),
            ExecutionStatus::Success if before == Some(ExecutionStatus::Failed) => Some(Self::Recovered),
            ExecutionStatus::Success | ExecutionStatus::Skipped => None,
        };
        let first = (status != ExecutionStatus::Skipped).then_some(Self::Executed);
        first.into_iter().chain(second)
    }
}

/// How a channel is reached. Holds secrets, so `Debug` shows none of it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChannelConfig {
    /// A Slack incoming webhook.
    Slack {
        /// Its address, which is its secret.
        webhook_url: String,
    },
    /// A Discord webhook.
    Discord {
        /// Its address, which is its secret.
        webhook_url: String,
    },
    /// Mail.
    Email {
        /// To whom.
        addresses: Vec<String>,
    },
    /// Our signed JSON envelope.
    Webhook {
        /// Where to.
        url: String,
        /// Sent along, in the order given.
        headers: Vec<(String, String)>,
        /// What the signature is made with: the bytes of this text.
        secret: String,
    },
    /// `PagerDuty`, Events API v2. Shown as a webhook, since that is how it is made.
    PagerDuty {
        /// Where to.
        url: String,
        /// Sent along, in the order given.
        headers: Vec<(String, String)>,
        /// Which service of theirs is paged. Without one nobody is, and messages fail saying so.
        #[serde(default)]
        routing_key: Option<String>,
        /// Kept because it may be given (documented); their API has no use for it.
        #[serde(default)]
        secret: Option<String>,
    },
}

impl ChannelConfig {
    /// The type as the API and the metrics write it.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::Slack { .. } => "slack",
            Self::Discord { .. } => "discord",
            Self::Email { .. } => "email",
            Self::Webhook { .. } | Self::PagerDuty { .. } => "webhook",
        }
    }

    /// Which events a channel is told of when nobody says.
    #[must_use]
    pub fn default_events(&self) -> Vec<EventKind> {
        match self {
            Self::Webhook { .. } | Self::PagerDuty { .. } => EventKind::ALL.to_vec(),
            Self::Slack { .. } | Self::Discord { .. } | Self::Email { .. } => {
                vec![EventKind::Failed, EventKind::Recovered]
            }
        }
    }

    /// Whether there is a form in which the channel can be told of `event`: nobody is paged for a
    /// success.
    #[must_use]
    pub fn can_tell(&self, event: EventKind) -> bool {
        match self {
            Self::PagerDuty { .. } => event != EventKind::Executed,
            Self::Slack { .. } | Self::Discord { .. } | Self::Email { .. } | Self::Webhook { .. } => true,
        }
    }
}

impl fmt::Debug for ChannelConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelConfig").field("type", &self.type_name()).finish_non_exhaustive()
    }
}

/// Where messages about outcomes go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Its id.
    pub id: ChannelId,
    /// Whose it is.
    pub account: AccountId,
    /// What people call it.
    pub name: String,
    /// How it is reached.
    pub config: ChannelConfig,
    /// What it is told of, each at most once.
    pub events: Vec<EventKind>,
    /// How the last message to it went.
    #[serde(default)]
    pub last_delivery: Option<LastDelivery>,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed by its owner.
    pub updated_at: Timestamp,
}

impl Channel {
    /// Whether it is told of `event`.
    #[must_use]
    pub fn hears(&self, event: EventKind) -> bool {
        self.events.contains(&event) && self.config.can_tell(event)
    }
}

/// How a message to a channel went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastDelivery {
    /// When that was known.
    pub at: Timestamp,
    /// Why it failed, if it did.
    #[serde(default)]
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use ExecutionStatus::{Failed, Skipped, Success};

    fn check(status: ExecutionStatus, before: Option<ExecutionStatus>, expected: &[EventKind]) {
        assert_eq!(EventKind::of(status, before).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn an_outcome_is_told_as_documented() {
        check(Success, None, &[EventKind::Executed]);
        check(Success, Some(Success), &[EventKind::Executed]);
        check(Success, Some(Failed), &[EventKind::Executed, EventKind::Recovered]);
        check(Failed, None, &[EventKind::Executed, EventKind::Failed]);
        check(Failed, Some(Failed), &[EventKind::Executed, EventKind::Failed]);
        check(Skipped, Some(Failed), &[]);
    }

    #[test]
    fn numbers_stand_for_kinds() {
        for kind in EventKind::ALL {
            assert_eq!(EventKind::from_number(kind.number()), Some(kind));
        }
        assert_eq!(EventKind::from_number(0), None);
    }

    #[test]
    fn nobody_is_paged_for_a_success() {
        let config = ChannelConfig::PagerDuty {
            url: "https://events.pagerduty.com/v2/enqueue".to_owned(),
            headers: Vec::new(),
            routing_key: Some("0123456789abcdef0123456789abcdef".to_owned()),
            secret: None,
        };
        assert!(!config.can_tell(EventKind::Executed));
        assert!(config.can_tell(EventKind::Failed));
        assert_eq!(config.default_events(), EventKind::ALL, "as of every webhook");
        assert!(!format!("{config:?}").contains("0123456789abcdef"), "secrets never reach logs");
    }
}
