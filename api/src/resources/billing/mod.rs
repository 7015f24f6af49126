//! `/v1/billing`

mod event; // what Stripe tells us
mod stripe; // what we tell Stripe
mod webhook; // events into the replicated state

pub(crate) use webhook::webhook;

use super::{Data, data};
use crate::Deps;
use crate::auth::Principal;
use crate::error::ApiError;
use crate::extract::Json;
use crate::fields::{self, Fields, Issues};
use crate::once::OnceKey;
use crate::time::Rfc3339;
use axum::extract::State;
use axum::http::StatusCode;
use domain::account::Account;
use domain::id::AccountId;
use domain::time::Timestamp;
use serde::Serialize;
use std::time::Duration;
use storage::Read;
use storage::schema::{AccountUsage, Accounts};

const DAY_SEC: u64 = 86_400;

#[derive(Serialize)]
pub(crate) struct UsageOutput {
    plan: &'static str,
    billing_period: Period,
    jobs: Used,
    executions: Used,
    ai_diagnoses: UsedToday,
}

#[derive(Serialize)]
struct Period {
    start: Rfc3339,
    /// The last second that belongs to it.
    end: Rfc3339,
}

#[derive(Serialize)]
struct Used {
    used: u64,
    limit: Option<u64>,
}

#[derive(Serialize)]
struct UsedToday {
    used: u64,
    limit: Option<u64>,
    resets_at: Rfc3339,
}

#[derive(Serialize)]
pub(crate) struct CheckoutOutput {
    checkout_url: String,
    expires_at: Rfc3339,
}

#[derive(Serialize)]
pub(crate) struct PortalOutput {
    portal_url: String,
}

/// `GET /v1/billing/usage`
pub(crate) async fn usage(
    State(deps): State<Deps>,
    principal: Principal,
) -> Result<axum::Json<Data<UsageOutput>>, ApiError> {
    let now = deps.clock.now();
    let usage = deps.read(|view| view.get::<AccountUsage>(&principal.account))?.unwrap_or_default();
    let limits = deps.plans.of(principal.plan);
    let month = now.month();
    Ok(data(UsageOutput {
        plan: principal.plan.as_str(),
        billing_period: Period {
            start: Rfc3339(month.start()),
            end: Rfc3339(month.next().start().minus(Duration::from_secs(1))),
        },
        jobs: Used { used: usage.jobs, limit: limits.jobs_max },
        // No plan limits them.
        executions: Used { used: usage.executions_in_month_of(now), limit: None },
        ai_diagnoses: UsedToday {
            used: usage.diagnoses_on_day_of(now),
            limit: limits.diagnoses_per_day,
            resets_at: Rfc3339(Timestamp::from_secs((now.as_days() + 1) * DAY_SEC)),
        },
    }))
}

/// `POST /v1/billing/checkout`
pub(crate) async fn checkout(
    State(deps): State<Deps>,
    principal: Principal,
    once: OnceKey,
    Json(body): Json,
) -> Result<axum::Json<Data<CheckoutOutput>>, ApiError> {
    let mut issues = Issues::default();
    let wanted = Fields::of(&body, "", &mut issues).and_then(|mut fields| {
        fields.require(&["price_id"]);
        let wanted = fields.text("price_id");
        fields.finish();
        wanted
    });
    issues.refuse()?;
    let stripe = stripe::Client::of(&deps)?;
    let price = wanted
        .and_then(|wanted| stripe.price(wanted))
        .ok_or_else(|| fields::senseless("price_id", "is not a price that can be bought here"))?;

    let account = account(&deps, principal.account)?;
    let session = stripe.checkout(&account, price, once.number(0), deps.clock.now()).await?;
    let answer = data(CheckoutOutput {
        checkout_url: session.url,
        expires_at: Rfc3339(Timestamp::from_secs(session.expires_at)),
    });
    deps.remember(&once, StatusCode::OK, &answer.0).await?;
    Ok(answer)
}

/// `POST /v1/billing/portal`
pub(crate) async fn portal(
    State(deps): State<Deps>,
    principal: Principal,
    once: OnceKey,
) -> Result<axum::Json<Data<PortalOutput>>, ApiError> {
    let stripe = stripe::Client::of(&deps)?;
    let billing = account(&deps, principal.account)?.billing;
    let customer =
        billing.ok_or_else(|| ApiError::conflict("there is nothing to manage before the first checkout"))?;
    let portal_url = stripe.portal(&customer.customer, once.number(0)).await?;
    let answer = data(PortalOutput { portal_url });
    deps.remember(&once, StatusCode::OK, &answer.0).await?;
    Ok(answer)
}

fn account(deps: &Deps, id: AccountId) -> Result<Account, ApiError> {
    deps.read(|view| view.get::<Accounts>(&id))?.ok_or(ApiError::Unauthorized)
}
