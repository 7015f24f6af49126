//! Stripe: checkout sessions, portal sessions, the end of a subscription. Parameters it does not know are errors,
//! and so are idempotency keys used for other parameters.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, post};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use url::form_urlencoded;

pub(crate) const KEY: &str = "sk_test_51abc";
pub(crate) const WEBHOOK_SECRET: &str = "whsec_test_secret";
pub(crate) const MAKER_PRICE: &str = "price_1MakerMonthly";
pub(crate) const PRO_PRICE: &str = "price_1ProMonthly";

type Form = BTreeMap<String, String>;

#[derive(Clone, Default)]
pub(crate) struct Stripe(Arc<Mutex<Seen>>);

#[derive(Default)]
struct Seen {
    forms: Vec<Form>,
    answered: BTreeMap<String, (Form, Value)>,
    ended: Vec<String>,
}

const CHECKOUT: &[&str] = &[
    "mode",
    "line_items[0][price]",
    "line_items[0][quantity]",
    "success_url",
    "cancel_url",
    "client_reference_id",
    "customer",
    "customer_email",
    "metadata[account_id]",
    "metadata[plan]",
    "subscription_data[metadata][account_id]",
    "expires_at",
];

impl Stripe {
    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/v1/checkout/sessions", post(checkout))
            .route("/v1/billing_portal/sessions", post(portal))
            .route("/v1/subscriptions/{id}", delete(end))
            .with_state(self.clone())
    }

    /// The parameters of each session that was opened.
    pub(crate) fn forms(&self) -> Vec<Form> {
        self.0.lock().unwrap().forms.clone()
    }

    /// Subscriptions that were ended.
    pub(crate) fn ended(&self) -> Vec<String> {
        self.0.lock().unwrap().ended.clone()
    }

    fn answer(&self, headers: &HeaderMap, body: &str, known: &[&str], answer: Value) -> Response {
        if let Some(refused) = unauthorized(headers) {
            return refused;
        }
        let form: Form = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
        if let Some(unknown) = form.keys().find(|name| !known.contains(&name.as_str())) {
            return error(400, "parameter_unknown", &format!("Received unknown parameter: {unknown}"));
        }
        if form.contains_key("customer") && form.contains_key("customer_email") {
            return error(400, "parameter_invalid", "You may only specify one of these parameters");
        }
        let name = headers["idempotency-key"].to_str().unwrap().to_owned();
        let mut seen = self.0.lock().unwrap();
        if let Some((before, answer)) = seen.answered.get(&name) {
            if *before == form {
                return axum::Json(answer.clone()).into_response();
            }
            return error(400, "idempotency_error", "Keys can only be used with the same parameters");
        }
        seen.answered.insert(name, (form.clone(), answer.clone()));
        seen.forms.push(form);
        axum::Json(answer).into_response()
    }
}

async fn checkout(State(stripe): State<Stripe>, headers: HeaderMap, body: String) -> Response {
    let form: Form = form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let expires_at: u64 = form["expires_at"].parse().unwrap();
    if !form["line_items[0][price]"].starts_with("price_1") {
        return error(400, "resource_missing", "No such price");
    }
    let answer = json!({
        "id": "cs_live_a1b2c3", "object": "checkout.session", "expires_at": expires_at, "status": "open",
        "url": "https://checkout.stripe.com/c/pay/cs_live_a1b2c3...", "payment_status": "unpaid",
        "customer": form.get("customer"), "subscription": null, "livemode": true,
    });
    stripe.answer(&headers, &body, CHECKOUT, answer)
}

async fn portal(State(stripe): State<Stripe>, headers: HeaderMap, body: String) -> Response {
    let answer = json!({
        "id": "bps_1a2b3c", "object": "billing_portal.session",
        "url": "https://billing.stripe.com/p/session/bps_1a2b3c...", "return_url": null,
    });
    stripe.answer(&headers, &body, &["customer", "return_url"], answer)
}

async fn end(
    State(stripe): State<Stripe>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: String,
) -> Response {
    if let Some(refused) = unauthorized(&headers) {
        return refused;
    }
    assert_eq!(body, "prorate=true");
    let mut seen = stripe.0.lock().unwrap();
    if seen.ended.contains(&id) {
        return error(404, "resource_missing", "No such subscription");
    }
    seen.ended.push(id.clone());
    axum::Json(json!({"id": id, "status": "canceled"})).into_response()
}

fn unauthorized(headers: &HeaderMap) -> Option<Response> {
    assert_eq!(headers["content-type"], "application/x-www-form-urlencoded");
    let known = headers["authorization"] == format!("Bearer {KEY}");
    (!known).then(|| error(401, "api_key_expired", "Invalid API Key provided: sk_test_****abc"))
}

fn error(status: u16, code: &str, message: &str) -> Response {
    let error = json!({"error": {"type": "invalid_request_error", "code": code, "message": message}});
    (StatusCode::from_u16(status).unwrap(), axum::Json(error)).into_response()
}

/// The signature that Stripe sends with an event.
pub(crate) fn sign(at: u64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(WEBHOOK_SECRET.as_bytes()).unwrap();
    mac.update(format!("{at}.{body}").as_bytes());
    let hex: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("t={at},v1={hex},v0=00")
}
