//! Commands about spaces.

use super::job::Overdue;
use domain::id::{AccountId, JobId, SpaceId};
use domain::job::JobVersion;
use domain::space::Space;
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A new space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSpace {
    /// The space, active and empty.
    pub space: Space,
}

/// Another name or zone for a space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UpdateSpace {
    /// Whose it must be.
    pub account: AccountId,
    /// Which.
    pub space: SpaceId,
    /// Its new name, if it gets one.
    pub name: Option<String>,
    /// Its new zone, if it gets one.
    pub timezone: Option<String>,
    /// When that was asked for.
    pub at: Timestamp,
}

/// A space goes. Refused while it holds jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeleteSpace {
    /// Whose it must be.
    pub account: AccountId,
    /// Which.
    pub space: SpaceId,
}

/// The jobs of a space stop firing at once. Their cursors follow by [`AlignSpace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PauseSpace {
    /// Whose it must be.
    pub account: AccountId,
    /// Which.
    pub space: SpaceId,
    /// When that was asked for.
    pub at: Timestamp,
}

/// The jobs of a space fire again, each once its cursor has followed by [`AlignSpace`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeSpace {
    /// Whose it must be.
    pub account: AccountId,
    /// Which.
    pub space: SpaceId,
    /// When that was asked for.
    pub at: Timestamp,
}

/// Moves the cursors of some jobs of a space to where its pause or resumption wants them. A space may
/// hold more jobs than one command should touch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlignSpace {
    /// Which space.
    pub space: SpaceId,
    /// The generation this was computed from; refused when the space was paused or resumed since.
    pub generation: u64,
    /// Jobs, what each change was computed from, and the new cursor; what has moved on is left alone.
    pub jobs: Vec<(JobId, JobVersion, Option<Timestamp>)>,
    /// Whether all jobs of the space were looked at and none had to be moved.
    pub done: bool,
    /// What the old cursors leave behind: what was due before the turn and nobody has claimed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overdue: Vec<(JobId, Overdue)>,
}
