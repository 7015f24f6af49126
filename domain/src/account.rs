//! Accounts, their plans, and the API keys that speak for them.

use crate::id::{AccountId, KeyId};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What an account may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// 10 jobs.
    Free,
    /// 50 jobs.
    Maker,
    /// 500 jobs.
    Pro,
    /// As many jobs as the cluster holds.
    Scale,
}

impl Plan {
    /// How many jobs an account on this plan may have; `None` means no limit.
    #[must_use]
    pub fn jobs_max(self) -> Option<u64> {
        match self {
            Self::Free => Some(10),
            Self::Maker => Some(50),
            Self::Pro => Some(500),
            Self::Scale => None,
        }
    }
}

/// Who owns jobs, spaces, channels and keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Account {
    /// Its id.
    pub id: AccountId,
    /// What it may use.
    pub plan: Plan,
    /// When it was made.
    pub created_at: Timestamp,
}

/// SHA-256 of a whole key. Keys are 190 random bits, so a plain hash is enough: there is no
/// dictionary to try.
pub type KeyHash = [u8; 32];

/// An API key as it is stored: never the key, only its hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// Its id.
    pub id: KeyId,
    /// For whom it speaks.
    pub account: AccountId,
    /// What its owner calls it.
    pub name: String,
    /// How a presented key is recognised.
    pub hash: KeyHash,
    /// The key's last four characters, for lists.
    pub last_four: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// What every API key starts with (documented).
pub const KEY_PREFIX: &str = "jrun_sk_";
/// Base62 characters behind the prefix (documented).
pub const KEY_RANDOM_CHARS: usize = 32;
