//! `/v1/billing`

mod event; // what Stripe tells us
mod stripe; // what we tell Stripe
pub(crate) mod webhook; // events into the replicated state

pub(crate) use webhook::webhook;

use super::{Data, data};
use crate::auth::Principal;
use crate::error::ApiError;
use crate::extract::{Json, NoBody};
use crate::fields::{self, Fields, Issues};
use crate::once::OnceKey;
use crate::openapi::shape;
use crate::openapi::words::PlanWord;
use crate::time::Rfc3339;
use crate::{Deps, Shared};
use axum::extract::State;
use axum::http::StatusCode;
use domain::account::Account;
use domain::id::AccountId;
use domain::time::Timestamp;
use serde::Serialize;
use std::time::Duration;
use storage::Read;
use storage::schema::{AccountUsage, Accounts};
use utoipa::ToSchema;

const DAY_SEC: u64 = 86_400;

shape::schema! {
    /// The body of `POST /v1/billing/checkout`.
    CheckoutRequest, "CheckoutRequest" => {
        let price = shape::text("Stripe price ID for the target plan").examples(["price_maker_monthly"]);
        shape::body("What to buy.").property("price_id", price).required("price_id")
    }
}

#[derive(Serialize, ToSchema)]
#[schema(as = Usage)]
pub(crate) struct UsageOutput {
    #[schema(value_type = PlanWord)]
    plan: &'static str,
    billing_period: Period,
    jobs: Used,
    executions: Used,
    ai_diagnoses: UsedToday,
}

#[derive(Serialize, ToSchema)]
#[schema(as = BillingPeriod)]
struct Period {
    #[schema(value_type = String, format = DateTime)]
    start: Rfc3339,
    /// The last second that belongs to it.
    #[schema(value_type = String, format = DateTime)]
    end: Rfc3339,
}

#[derive(Serialize, ToSchema)]
struct Used {
    used: u64,
    /// Null means no limit.
    #[schema(required)]
    limit: Option<u64>,
}

#[derive(Serialize, ToSchema)]
struct UsedToday {
    used: u64,
    /// Null means no limit.
    #[schema(required)]
    limit: Option<u64>,
    #[schema(value_type = String, format = DateTime)]
    resets_at: Rfc3339,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Checkout)]
pub(crate) struct CheckoutOutput {
    checkout_url: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Rfc3339,
}

#[derive(Serialize, ToSchema)]
#[schema(as = Portal)]
pub(crate) struct PortalOutput {
    portal_url: String,
}

/// Get usage.
///
/// Returns your current plan, resource usage, and limits for the current billing period. Use this to monitor consumption
/// and build custom dashboards.
#[utoipa::path(
    get, path = "/v1/billing/usage", operation_id = "getUsage", tag = "Billing",
    responses((status = 200, description = "Usage of this month (UTC).", body = UsageOutput)),
)]
pub(crate) async fn usage(
    State(deps): State<Shared>,
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

/// Check out.
///
/// Create a Stripe Checkout session to upgrade or change your plan. Returns a URL that redirects the user to Stripe's
/// hosted checkout page.
#[utoipa::path(
    post, path = "/v1/billing/checkout", operation_id = "createCheckout", tag = "Billing", request_body = CheckoutRequest,
    responses(
        (status = 200, description = "Where to send the user.", body = CheckoutOutput),
        (status = 422, description = "The price cannot be bought here, or `billing_not_configured`: the operator takes no payments."),
        (status = 502, description = "`upstream_error`: Stripe failed."),
    ),
)]
pub(crate) async fn checkout(
    State(deps): State<Shared>,
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

/// Open the customer portal.
///
/// Generate a Stripe customer portal URL where the user can manage their payment methods, view invoices, and cancel
/// their subscription.
#[utoipa::path(
    post, path = "/v1/billing/portal", operation_id = "createPortal", tag = "Billing",
    responses(
        (status = 200, description = "Where to send the user.", body = PortalOutput),
        (status = 409, description = "The account has never checked out, or the idempotency key was used with another request."),
        (status = 422, description = "`billing_not_configured`: the operator takes no payments; or the idempotency key is none."),
        (status = 502, description = "`upstream_error`: Stripe failed."),
    ),
)]
pub(crate) async fn portal(
    State(deps): State<Shared>,
    principal: Principal,
    once: OnceKey,
    NoBody: NoBody,
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
