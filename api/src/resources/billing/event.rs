//! What Stripe tells us, and what follows from it for an account. Plain functions.
//!
//! Events are delivered at least once, in any order, in the shape of whatever version of the API the endpoint
//! was registered with. What a version renamed is not read at all, or under both names.

use crate::services::{Price, Secret};
use domain::account::{Account, Billing, Plan};
use domain::id::AccountId;
use domain::time::Timestamp;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

/// How far the instant of a signature may lie from the present: what Stripe's own libraries use.
const TOLERANCE_SEC: u64 = 300;

/// Checks the signature over the body as it was sent.
///
/// # Errors
/// What is wrong with the header.
pub(super) fn verify(secret: &Secret, header: &str, body: &[u8], now: Timestamp) -> Result<(), &'static str> {
    let parts = || header.split(',').filter_map(|part| part.trim().split_once('='));
    let (_, signed_at) = parts().find(|(name, _)| *name == "t").ok_or("has no timestamp")?;
    let signed_sec: u64 = signed_at.parse().map_err(|_| "has no timestamp")?;

    let mut mac =
        Hmac::<Sha256>::new_from_slice(secret.expose().as_bytes()).expect("hmac takes keys of any length");
    mac.update(signed_at.as_bytes());
    mac.update(b".");
    mac.update(body);
    // While a secret is exchanged there is one signature for each. Compared in constant time.
    let signed = parts()
        .filter(|(name, _)| *name == "v1")
        .filter_map(|(_, hex)| from_hex(hex))
        .any(|signature| mac.clone().verify_slice(&signature).is_ok());
    if !signed {
        return Err("does not match the body");
    }
    if signed_sec.abs_diff(now.as_secs()) > TOLERANCE_SEC {
        return Err("is too old");
    }
    Ok(())
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return None;
    }
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).ok()).collect()
}

/// Something that happened at Stripe.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    /// The same on every delivery.
    pub(super) id: String,
    /// When it happened.
    pub(super) created: Timestamp,
    /// To whom, as far as the event says.
    pub(super) account: Option<AccountId>,
    /// Stripe's name for them.
    pub(super) customer: String,
    news: News,
}

#[derive(Debug, PartialEq, Eq)]
enum News {
    /// A checkout was completed.
    Bought { subscription: String, plan: Option<Plan>, paid: bool },
    /// This is how a subscription stands.
    Subscription { id: String, standing: Standing, prices: Vec<String> },
}

/// What the status of a subscription means for the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    /// The plan is paid for.
    Pays,
    /// The first payment has not been made; nothing has changed yet.
    Begins,
    /// The first payment was never made.
    NeverBegan,
    /// It is not paid for at present.
    Owes,
    /// It is over.
    Ended,
}

/// What an event means for an account.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Consequence {
    /// The new plan; `None` leaves it.
    pub(super) plan: Option<Plan>,
    pub(super) billing: Billing,
    /// A subscription that the new one takes the place of and that must be ended, or both would be paid.
    pub(super) replaced: Option<String>,
}

impl Event {
    /// Reads an event; `None` when it is of a kind that means nothing to us.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let event: Value = serde_json::from_slice(body).ok()?;
        let object = event.get("data")?.get("object")?;
        let news = match event.get("type")?.as_str()? {
            "checkout.session.completed" | "checkout.session.async_payment_succeeded" => bought(object)?,
            "customer.subscription.created"
            | "customer.subscription.updated"
            | "customer.subscription.paused"
            | "customer.subscription.resumed" => subscription(object, standing(text(object, "status")?))?,
            "customer.subscription.deleted" => subscription(object, Standing::Ended)?,
            _ => return None,
        };
        Some(Self {
            id: text(&event, "id")?.to_owned(),
            created: Timestamp::from_secs(event.get("created")?.as_u64()?),
            account: metadata(object, "account_id")
                .or_else(|| text(object, "client_reference_id"))
                .and_then(|id| id.parse().ok()),
            customer: id_of(object.get("customer")?)?.to_owned(),
            news,
        })
    }

    /// What follows from it for `account`; `None` when nothing does.
    pub(super) fn consequence(&self, account: &Account, prices: &[Price]) -> Option<Consequence> {
        let known = account.billing.as_ref();
        if known.is_some_and(|known| known.changed_at > self.created) {
            return None;
        }
        let current = known.and_then(|known| known.subscription.clone());
        let (plan, subscription, replaced) = match &self.news {
            News::Bought { subscription, paid: false, .. } => {
                (None, current.or_else(|| Some(subscription.clone())), None)
            }
            News::Bought { subscription, plan, paid: true } => {
                let replaced = current.filter(|current| current != subscription);
                (*plan, Some(subscription.clone()), replaced)
            }
            // A second one counts once it has been bought here; until then only the first does.
            News::Subscription { id, .. } if current.as_ref().is_some_and(|current| current != id) => {
                return None;
            }
            News::Subscription { id, standing, prices: bought } => match standing {
                Standing::Pays => (plan_of(bought, prices), Some(id.clone()), None),
                Standing::Owes => (Some(Plan::Free), Some(id.clone()), None),
                Standing::Ended => (Some(Plan::Free), None, None),
                Standing::Begins | Standing::NeverBegan => return None,
            },
        };
        let billing = Billing { customer: self.customer.clone(), subscription, changed_at: self.created };
        Some(Consequence { plan, billing, replaced })
    }
}

fn bought(object: &Value) -> Option<News> {
    let paid = matches!(text(object, "payment_status"), Some("paid" | "no_payment_required"));
    let plan =
        metadata(object, "plan").and_then(|name| Plan::ALL.into_iter().find(|plan| plan.as_str() == name));
    // Without a subscription somebody bought something that is none of ours.
    Some(News::Bought { subscription: id_of(object.get("subscription")?)?.to_owned(), plan, paid })
}

fn subscription(object: &Value, standing: Standing) -> Option<News> {
    let items = object.get("items").and_then(|items| items.get("data")).and_then(Value::as_array);
    let of_items =
        items.into_iter().flatten().filter_map(|item| item.get("price").or_else(|| item.get("plan")));
    // Old versions of the API have the only price at the subscription itself.
    let prices = of_items.chain(object.get("plan")).filter_map(id_of).map(str::to_owned).collect();
    Some(News::Subscription { id: text(object, "id")?.to_owned(), standing, prices })
}

fn standing(status: &str) -> Standing {
    match status {
        // While a payment is late Stripe itself tries again and then says unpaid or canceled: that is the time of grace.
        "active" | "trialing" | "past_due" => Standing::Pays,
        "incomplete" => Standing::Begins,
        "incomplete_expired" => Standing::NeverBegan,
        "canceled" => Standing::Ended,
        // unpaid, paused, and whatever may come.
        _ => Standing::Owes,
    }
}

/// What the first price that is ours stands for. The plan stays when none is.
fn plan_of(bought: &[String], prices: &[Price]) -> Option<Plan> {
    bought.iter().find_map(|id| prices.iter().find(|price| price.price == *id)).map(|price| price.plan)
}

fn text<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    object.get(name)?.as_str().filter(|text| !text.is_empty())
}

fn metadata<'a>(object: &'a Value, name: &str) -> Option<&'a str> {
    text(object.get("metadata")?, name)
}

/// The id of something that is given by its id or whole.
fn id_of(value: &Value) -> Option<&str> {
    value.as_str().or_else(|| text(value, "id"))
}

#[cfg(test)]
mod tests;
