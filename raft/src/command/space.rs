//! Commands about spaces.

use domain::space::Space;
use serde::{Deserialize, Serialize};

/// A new space.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateSpace {
    /// The space, active.
    pub space: Space,
}
