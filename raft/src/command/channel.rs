//! Commands about alert channels.

use domain::channel::Channel;
use domain::id::{AccountId, ChannelId};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A new channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateChannel {
    /// The channel.
    pub channel: Channel,
}

/// Another configuration for a channel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateChannel {
    /// The whole new configuration; what is known of its last message stays.
    pub channel: Channel,
    /// When the configuration that this was computed from was made; refused as stale when there is a newer one.
    pub expected: Timestamp,
}

/// A channel goes; what is on its way to it goes nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteChannel {
    /// Whose it must be.
    pub account: AccountId,
    /// Which.
    pub channel: ChannelId,
}
