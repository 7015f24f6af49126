//! Commands about accounts and keys.

use domain::account::{Account, ApiKey};
use serde::{Deserialize, Serialize};

/// The first account and the key it was promised. Refused once there is any account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The account.
    pub account: Account,
    /// Its key.
    pub key: ApiKey,
}
