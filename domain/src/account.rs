//! Accounts, their plans, and the API keys that speak for them.

use crate::id::{AccountId, KeyId};
use crate::limits;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// What an account may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Plan {
    /// To try it.
    Free,
    /// For one person's projects.
    Maker,
    /// For a team.
    Pro,
    /// As much as the cluster holds.
    Scale,
}

impl Plan {
    /// Every plan, smallest first.
    pub const ALL: [Self; 4] = [Self::Free, Self::Maker, Self::Pro, Self::Scale];

    /// As the API and the settings write it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Maker => "maker",
            Self::Pro => "pro",
            Self::Scale => "scale",
        }
    }
}

/// What a plan allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlanLimits {
    /// Jobs; `None` means no limit.
    pub jobs_max: Option<u64>,
    /// Requests to the API a minute, over the whole cluster; `None` means no limit.
    pub general_per_minute: Option<u64>,
    /// Manual runs a minute, over the whole cluster; `None` means no limit.
    pub run_per_minute: Option<u64>,
    /// AI diagnoses a day (UTC); `None` means no limit.
    pub diagnoses_per_day: Option<u64>,
    /// Days for which the history is kept.
    pub history_days: u64,
}

/// What each plan allows. The default is the documented table; an operator may set another one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Plans {
    /// Of [`Plan::Free`].
    pub free: PlanLimits,
    /// Of [`Plan::Maker`].
    pub maker: PlanLimits,
    /// Of [`Plan::Pro`].
    pub pro: PlanLimits,
    /// Of [`Plan::Scale`].
    pub scale: PlanLimits,
}

impl Plans {
    /// What `plan` allows.
    #[must_use]
    pub fn of(&self, plan: Plan) -> PlanLimits {
        match plan {
            Plan::Free => self.free,
            Plan::Maker => self.maker,
            Plan::Pro => self.pro,
            Plan::Scale => self.scale,
        }
    }

    /// What `plan` allows, to be changed.
    pub fn of_mut(&mut self, plan: Plan) -> &mut PlanLimits {
        match plan {
            Plan::Free => &mut self.free,
            Plan::Maker => &mut self.maker,
            Plan::Pro => &mut self.pro,
            Plan::Scale => &mut self.scale,
        }
    }
}

impl Default for Plans {
    fn default() -> Self {
        let limits = |jobs_max, general, run, diagnoses_per_day, history_days| PlanLimits {
            jobs_max,
            general_per_minute: Some(general),
            run_per_minute: Some(run),
            diagnoses_per_day,
            history_days,
        };
        Self {
            free: limits(Some(10), 60, 5, Some(0), 7),
            maker: limits(Some(50), 300, 10, Some(20), 30),
            pro: limits(Some(500), 1_000, 30, Some(100), 90),
            scale: limits(None, 5_000, 100, None, 365),
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
    /// Where its owner is reached, when that is known.
    #[serde(default)]
    pub email: Option<String>,
    /// How it pays, once it does.
    #[serde(default)]
    pub billing: Option<Billing>,
    /// When it was made.
    pub created_at: Timestamp,
}

/// How an account pays: what the payment service calls it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Billing {
    /// The service's id of the customer.
    pub customer: String,
    /// The service's id of the subscription, while there is one.
    #[serde(default)]
    pub subscription: Option<String>,
    /// The instant of the newest event that was taken over. Events arrive in any order; an older one
    /// changes nothing.
    pub changed_at: Timestamp,
}

/// Somebody who signs in with a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// In lower case; names the user.
    pub email: String,
    /// For which account.
    pub account: AccountId,
    /// An Argon2id hash in the PHC string format, never the password. Empty when nobody can sign in with
    /// one: the address is taken all the same.
    pub password: String,
    /// When they registered.
    pub created_at: Timestamp,
}

impl std::fmt::Debug for User {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("User").field("account", &self.account).finish_non_exhaustive()
    }
}

/// An email address as it is stored and compared: in lower case, without the space around it. `None` when
/// it cannot be one. Whether anybody reads what is sent there only sending can tell.
#[must_use]
pub fn normal_email(text: &str) -> Option<String> {
    let email = text.trim().to_lowercase();
    let (local, domain) = email.split_once('@')?;
    let fits = email.chars().count() <= limits::EMAIL_CHARS_MAX;
    let is_plain = !email.chars().any(|c| c.is_whitespace() || c.is_control() || "<>,;:\"\\()[]".contains(c));
    let is_host = !domain.contains('@') && domain.split('.').all(|label| !label.is_empty());
    (fits && is_plain && is_host && !local.is_empty()).then_some(email)
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
    /// When a request last presented it, to about a minute.
    #[serde(default)]
    pub last_used_at: Option<Timestamp>,
}

/// What every API key starts with (documented).
pub const KEY_PREFIX: &str = "jrun_sk_";
/// Base62 characters behind the prefix (documented).
pub const KEY_RANDOM_CHARS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(normal_email(text).as_deref(), expected, "{text:?}");
    }

    #[test]
    fn an_address_is_compared_in_one_form() {
        check(" Ops@Example.COM ", Some("ops@example.com"));
        check("a+b.c@localhost", Some("a+b.c@localhost"));
        check("ü@bücher.example", Some("ü@bücher.example"));
        let long = format!("{}@b", "a".repeat(252));
        check(&long, Some(&long));
    }

    #[test]
    fn what_cannot_be_an_address_is_refused() {
        for text in [
            "",
            "@",
            "a",
            "a@",
            "@b",
            "a@b@c",
            "a b@c",
            "a@b\n.c",
            "a@.b",
            "a@b.",
            "a@b..c",
            "A <a@b>",
            "a@b,c@d",
            "mailto:a@b",
        ] {
            check(text, None);
        }
        check(&format!("{}@b", "a".repeat(253)), None);
    }
}
