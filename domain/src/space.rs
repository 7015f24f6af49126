//! Spaces: named groups of an account's jobs.

use crate::id::{AccountId, SpaceId};
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A named group of jobs with a default time zone, paused and resumed as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Its id.
    pub id: SpaceId,
    /// Whose it is.
    pub account: AccountId,
    /// What people call it.
    pub name: String,
    /// The zone that new jobs in it inherit.
    pub timezone: String,
    /// Since when its jobs do not fire, if they do not.
    #[serde(default)]
    pub paused_at: Option<Timestamp>,
    /// Rises with every pause and resumption; what was computed under another one is stale.
    #[serde(default)]
    pub generation: u64,
    /// How many jobs it holds.
    #[serde(default)]
    pub jobs: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}
