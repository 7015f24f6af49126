//! What the operator says of services outside: where they are, and by what they know us.

use domain::account::Plan;
use std::fmt;
use std::sync::Arc;
use url::Url;

/// A text that must not get into logs. `Debug` shows nothing of it.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Arc<str>);

impl Secret {
    /// Takes a secret from the settings.
    #[must_use]
    pub fn new(text: impl Into<Arc<str>>) -> Self {
        Self(text.into())
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// All services outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Services {
    /// Where accounts pay.
    pub stripe: Stripe,
    /// What explains failures; without it there are no diagnoses.
    pub diagnosis: Option<Diagnosis>,
    /// Where jobs are imported from.
    pub easycron: Url,
    /// Where jobs are imported from.
    pub cronjob_org: Url,
}

/// Where accounts pay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stripe {
    /// Without it nobody can pay.
    pub secret_key: Option<Secret>,
    /// Signs what Stripe tells us; without it nothing is listened to.
    pub webhook_secret: Option<Secret>,
    /// Where its API is.
    pub base_url: Url,
    /// What can be bought.
    pub prices: Vec<Price>,
    /// Where a browser goes after a purchase.
    pub success_url: String,
    /// Where it goes after one that was given up.
    pub cancel_url: String,
    /// Where it goes from the customer portal.
    pub return_url: String,
}

/// Something that can be bought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Price {
    /// What clients of the API call it.
    pub alias: String,
    /// What one gets for it.
    pub plan: Plan,
    /// What Stripe calls it.
    pub price: String,
}

/// An OpenAI-compatible endpoint for chats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnosis {
    /// The API, without `/chat/completions`.
    pub url: Url,
    /// By what it knows us, if it wants to.
    pub key: Option<Secret>,
    /// Who is to answer there.
    pub model: String,
}

/// Where Stripe's API is.
pub const STRIPE_URL: &str = "https://api.stripe.com";
/// Where EasyCron's API is.
pub const EASYCRON_URL: &str = "https://api.easycron.com";
/// Where cron-job.org's API is.
pub const CRONJOB_ORG_URL: &str = "https://api.cron-job.org";

impl Services {
    /// The real services, which know nothing of us yet; browsers come back to `home`.
    #[must_use]
    pub fn new(home: &str) -> Self {
        let url = |text: &str| text.parse().expect("a constant that is a URL");
        Self {
            stripe: Stripe {
                secret_key: None,
                webhook_secret: None,
                base_url: url(STRIPE_URL),
                prices: Vec::new(),
                success_url: home.to_owned(),
                cancel_url: home.to_owned(),
                return_url: home.to_owned(),
            },
            diagnosis: None,
            easycron: url(EASYCRON_URL),
            cronjob_org: url(CRONJOB_ORG_URL),
        }
    }
}
