//! `POST /v1/billing/stripe/webhook`: what Stripe tells us, into the replicated state.
//!
//! It has no credential but its signature. An event that means nothing to us is acknowledged, or Stripe would
//! send it for days.

use super::event::{self, Consequence, Event};
use super::stripe::Client;
use crate::error::ApiError;
use crate::extract::collect;
use crate::fields;
use crate::resources::{Data, data};
use crate::{Deps, Shared};
use axum::extract::{Request, State};
use domain::account::Account;
use domain::id::AccountId;
use domain::limits;
use domain::rejection::Rejection;
use raft::ProposeError;
use raft::command::{ChangeBilling, Command, Once};
use serde::Serialize;
use sha2::{Digest, Sha256};
use storage::Read;
use storage::schema::{Accounts, Answers, Customers};
use utoipa::ToSchema;

const SIGNATURE: &str = "stripe-signature";
/// For whom events are remembered: nobody.
const NOBODY: AccountId = AccountId(0);

#[derive(Serialize, ToSchema)]
pub(crate) struct Received {
    received: bool,
}

/// Take an event of Stripe.
///
/// For Stripe alone: moves the account that has paid, or no longer pays, between plans. The signature is checked, and
/// each event takes effect once.
#[utoipa::path(
    post, path = "/v1/billing/stripe/webhook", operation_id = "receiveStripeEvent", tag = "Billing", security(()),
    params(("Stripe-Signature" = String, Header, description = "`t=…,v1=…`, as Stripe makes it.")),
    request_body(content = Object, description = "An event of Stripe."),
    responses(
        (status = 200, description = "Taken, or of no interest.", body = Received),
        (status = 400, description = "The signature is missing, wrong or too old."),
        (status = 422, description = "`billing_not_configured`: the operator takes no payments."),
        (status = 502, description = "`upstream_error`: Stripe failed while it was asked back. It sends the event again."),
    ),
)]
pub(crate) async fn webhook(
    State(deps): State<Shared>,
    request: Request,
) -> Result<axum::Json<Data<Received>>, ApiError> {
    let Some(secret) = &deps.services.stripe.webhook_secret else {
        return Err(ApiError::BillingNotConfigured);
    };
    let signature = request.headers().get(SIGNATURE).ok_or_else(|| unsigned("is missing"))?;
    let signature = signature.to_str().unwrap_or_default().to_owned();
    let body = collect(request, limits::API_BODY_BYTES_MAX).await?;
    event::verify(secret, &signature, &body, deps.clock.now()).map_err(unsigned)?;
    if let Some(event) = Event::read(&body) {
        take(&deps, &event, Sha256::digest(&body).into()).await?;
    }
    Ok(data(Received { received: true }))
}

fn unsigned(fault: &'static str) -> ApiError {
    fields::misshapen("Stripe-Signature", fault)
}

async fn take(deps: &Deps, event: &Event, request: [u8; 32]) -> Result<(), ApiError> {
    deps.cluster.read_barrier().await?;
    let name: [u8; 32] = Sha256::digest(format!("event of Stripe {}", event.id)).into();
    let now = deps.clock.now();
    let known = deps.read(|view| view.get::<Answers>(&(NOBODY, name)))?;
    if known.is_some_and(|known| known.expires_at > now) {
        return Ok(());
    }
    let Some(account) = account(deps, event)? else {
        tracing::info!(event = event.id, "event of an unknown customer ignored");
        return Ok(());
    };
    let Some(consequence) = event.consequence(&account, &deps.services.stripe.prices) else { return Ok(()) };
    let Consequence { plan, billing, replaced } = consequence;
    if let Some(replaced) = replaced {
        // First, because what fails here is tried again with the event.
        Client::of(deps)?.cancel(&replaced).await?;
    }
    let change = ChangeBilling { account: account.id, plan, billing };
    let once = Once {
        account: NOBODY,
        name,
        request,
        expires_at: now.plus(limits::PAYMENT_EVENT_KEPT_FOR),
        memo: Vec::new(),
        commands: vec![Command::ChangeBilling(Box::new(change))],
    };
    match deps.cluster.propose(Command::Once(Box::new(once))).await {
        Ok(_) => {
            let plan = plan.map_or("unchanged", domain::account::Plan::as_str);
            tracing::info!(account = %account.id, event = event.id, plan, "billing changed");
            Ok(())
        }
        // Taken by another node, overtaken by a newer one, or the account is gone.
        Err(ProposeError::Rejected(Rejection::Answered | Rejection::Stale | Rejection::NoSuchAccount)) => {
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// The account that an event is about: the one it names, or the one whose customer it is.
fn account(deps: &Deps, event: &Event) -> Result<Option<Account>, ApiError> {
    deps.read(|view| {
        let id = match event.account {
            Some(id) => Some(id),
            None => view.get::<Customers>(&event.customer)?,
        };
        id.map_or(Ok(None), |id| view.get::<Accounts>(&id))
    })
}
