//! What we tell Stripe: form-encoded requests, JSON answers.

use crate::Deps;
use crate::error::ApiError;
use crate::outbound::{OutboundAnswer, OutboundRequest, credential, endpoint};
use crate::services::{Price, Stripe};
use axum::body::Bytes;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use domain::account::Account;
use domain::time::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use std::time::Duration;
use url::form_urlencoded;

const NAME: &str = "Stripe";
/// The version of its API that the answers are read as.
const VERSION: HeaderValue = HeaderValue::from_static("2026-10-28.endive");
const VERSION_HEADER: HeaderName = HeaderName::from_static("stripe-version");
const IDEMPOTENCY_HEADER: HeaderName = HeaderName::from_static("idempotency-key");
/// It answers within a second or two; somebody waits for it.
const TIMEOUT: Duration = Duration::from_secs(20);
/// Its answers have a few kilobytes.
const ANSWER_BYTES_MAX: usize = 1024 * 1024;
/// Seconds for which a checkout can be completed (documented example); Stripe takes 30 minutes to a day.
const CHECKOUT_SEC: u64 = 3_600;
/// Checkouts end at multiples of this, so that the same request made again shortly after is the same to
/// Stripe as well, which refuses a repetition that differs in anything.
const CHECKOUT_STEP_SEC: u64 = 300;

/// Stripe, as the operator has set it up.
pub(super) struct Client<'a> {
    deps: &'a Deps,
    settings: &'a Stripe,
    authorization: HeaderValue,
}

/// A page on which somebody pays.
pub(super) struct Session {
    pub(super) url: String,
    /// Seconds since the Unix epoch.
    pub(super) expires_at: u64,
}

#[derive(Deserialize)]
struct SessionAnswer {
    /// Null once the session is over.
    url: Option<String>,
    expires_at: u64,
}

#[derive(Deserialize)]
struct PortalAnswer {
    url: String,
}

#[derive(Default, Deserialize)]
struct Refusal {
    #[serde(default)]
    error: RefusalBody,
}

#[derive(Default, Deserialize)]
struct RefusalBody {
    #[serde(default)]
    code: Option<String>,
    #[serde(default)]
    message: Option<String>,
}

impl<'a> Client<'a> {
    /// Stripe, if billing is configured.
    pub(super) fn of(deps: &'a Deps) -> Result<Self, ApiError> {
        let settings = &deps.services.stripe;
        let key = settings.secret_key.as_ref().ok_or(ApiError::BillingNotConfigured)?;
        let authorization = credential(&format!("Bearer {}", key.expose()))
            .ok_or_else(|| ApiError::Internal("Stripe's key is no text for a header".into()))?;
        Ok(Self { deps, settings, authorization })
    }

    /// What a client means by `wanted`: the alias, or Stripe's own name.
    pub(super) fn price(&self, wanted: &str) -> Option<&'a Price> {
        self.settings.prices.iter().find(|price| price.alias == wanted || price.price == wanted)
    }

    /// Opens a page on which `account` buys `price`. The same page for the same `number`.
    pub(super) async fn checkout(
        &self,
        account: &Account,
        price: &Price,
        number: u64,
        now: Timestamp,
    ) -> Result<Session, ApiError> {
        let expires_at = now.as_secs().next_multiple_of(CHECKOUT_STEP_SEC) + CHECKOUT_SEC;
        let id = account.id.to_string();
        let expiry = expires_at.to_string();
        let mut form = vec![
            ("mode", "subscription"),
            ("line_items[0][price]", price.price.as_str()),
            ("line_items[0][quantity]", "1"),
            ("success_url", &self.settings.success_url),
            ("cancel_url", &self.settings.cancel_url),
            ("client_reference_id", &id),
            ("metadata[account_id]", &id),
            ("metadata[plan]", price.plan.as_str()),
            // So that events about the subscription say whose it is.
            ("subscription_data[metadata][account_id]", &id),
            ("expires_at", &expiry),
        ];
        match (&account.billing, &account.email) {
            (Some(billing), _) => form.push(("customer", &billing.customer)),
            (None, Some(email)) => form.push(("customer_email", email)),
            (None, None) => {}
        }
        let name = format!("justrun-checkout-{number:016x}-{expires_at}");
        let answer: SessionAnswer =
            self.call(Method::POST, "/v1/checkout/sessions", &form, Some(&name)).await?;
        let url = answer.url.ok_or_else(nonsense)?;
        Ok(Session { url, expires_at: answer.expires_at })
    }

    /// Opens a page on which a customer manages what they pay.
    pub(super) async fn portal(&self, customer: &str, number: u64) -> Result<String, ApiError> {
        let form = [("customer", customer), ("return_url", &self.settings.return_url)];
        let name = format!("justrun-portal-{number:016x}");
        let answer: PortalAnswer =
            self.call(Method::POST, "/v1/billing_portal/sessions", &form, Some(&name)).await?;
        Ok(answer.url)
    }

    /// Ends a subscription at once, with credit for what is left of it. One that is gone already is no
    /// failure.
    pub(super) async fn cancel(&self, subscription: &str) -> Result<(), ApiError> {
        let path = format!("/v1/subscriptions/{subscription}");
        let answer = self.send(Method::DELETE, &path, &[("prorate", "true")], None).await?;
        if answer.status.is_success() || answer.status == StatusCode::NOT_FOUND {
            return Ok(());
        }
        Err(refused(&answer))
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        form: &[(&str, &str)],
        name: Option<&str>,
    ) -> Result<T, ApiError> {
        let answer = self.send(method, path, form, name).await?;
        if !answer.status.is_success() {
            return Err(refused(&answer));
        }
        serde_json::from_slice(&answer.body).map_err(|_| nonsense())
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        form: &[(&str, &str)],
        name: Option<&str>,
    ) -> Result<OutboundAnswer, ApiError> {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, self.authorization.clone());
        headers.insert(VERSION_HEADER, VERSION);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
        if let Some(name) = name {
            let name = HeaderValue::from_str(name).map_err(|error| ApiError::Internal(Box::new(error)))?;
            headers.insert(IDEMPOTENCY_HEADER, name);
        }
        let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
        let request = OutboundRequest {
            method,
            url: endpoint(&self.settings.base_url, path),
            headers,
            body: Bytes::from(body),
            timeout: TIMEOUT,
            answer_bytes_max: ANSWER_BYTES_MAX,
        };
        self.deps.outbound.send(request).await.map_err(|error| error.of(NAME))
    }
}

/// Tells the operator what Stripe says, and the client only that it refused.
fn refused(answer: &OutboundAnswer) -> ApiError {
    let status = answer.status.as_u16();
    let refusal: Refusal = serde_json::from_slice(&answer.body).unwrap_or_default();
    let RefusalBody { code, message } = refusal.error;
    tracing::warn!(status, code, message, "stripe refused a request");
    let fault = match answer.status {
        StatusCode::TOO_MANY_REQUESTS => "is busy, try again".into(),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => "does not accept this server's key".into(),
        _ => format!("answered with status {status}").into(),
    };
    ApiError::Upstream { service: NAME, fault }
}

fn nonsense() -> ApiError {
    ApiError::Upstream { service: NAME, fault: "gave an answer that makes no sense".into() }
}
