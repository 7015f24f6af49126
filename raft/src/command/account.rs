//! Commands about accounts, keys, users and what they pay.

use domain::account::{Account, ApiKey, Billing, KeyHash, Plan, User};
use domain::execution::Diagnosis;
use domain::id::{AccountId, ExecutionId, KeyId};
use domain::time::Timestamp;
use serde::{Deserialize, Serialize};

/// The first account and the key it was promised. Refused once there is any account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// The account.
    pub account: Account,
    /// Its key.
    pub key: ApiKey,
}

/// A new account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateAccount {
    /// The account.
    pub account: Account,
    /// Who signs in to it, if anybody does. Refused when the address is taken.
    #[serde(default)]
    pub user: Option<User>,
}

/// A new key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CreateKey {
    /// The key.
    pub key: ApiKey,
}

/// A key is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeKey {
    /// Whose it must be.
    pub account: AccountId,
    /// Which.
    pub key: KeyId,
}

/// Keys were presented. Keys that are gone, or whose use was noted later, stay as they are.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NoteKeyUse {
    /// Which keys, and when they were presented last.
    pub used: Vec<(KeyHash, Timestamp)>,
}

/// What session tokens are signed with. Changes nothing when there is such a key already.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetSessionKey {
    /// 32 random bytes.
    pub key: Vec<u8>,
}

impl std::fmt::Debug for SetSessionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SetSessionKey(…)")
    }
}

/// A session token is of no use any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndSession {
    /// Its id.
    pub session: u64,
    /// When it expires by itself; nobody remembers it after that.
    pub expires_at: Timestamp,
}

/// The payment service says what an account pays for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChangeBilling {
    /// The account.
    pub account: AccountId,
    /// Its plan from now on; `None` leaves it.
    pub plan: Option<Plan>,
    /// How it pays. Changes nothing when something newer is known.
    pub billing: Billing,
}

/// A diagnosis was made. Refused when the account has had as many today as it may.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SaveDiagnosis {
    /// Whose execution it must be.
    pub account: AccountId,
    /// Of what.
    pub execution: ExecutionId,
    /// What it says.
    pub diagnosis: Diagnosis,
    /// How many a day the account may have.
    pub diagnoses_max: Option<u64>,
}
