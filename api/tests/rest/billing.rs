use crate::executions::{attempt, claim_firing, record};
use crate::outside::{Fault, HTML, Outside, STRIPE, stripe};
use crate::service::{ACCOUNT, FOREIGN_KEY, Service, request};
use api::services::Services;
use domain::account::Plan;
use domain::execution::AttemptResult;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn usage_looks_as_documented() {
    let service = Service::start_on(Plan::Maker).await;
    let job = service.make_job().await;
    service.make_job().await;
    let id = claim_firing(&service, job, 180).await;
    let sent = AttemptResult::Sent { attempt: attempt(1, 180, None, Some(200)), body: None, retry_at: None };
    record(&service, id, 1, sent).await;
    let answer = service.get("/v1/billing/usage").await;
    let expected = json!({
        "plan": "maker",
        "billing_period": {"start": "2026-04-01T00:00:00Z", "end": "2026-04-30T23:59:59Z"},
        "jobs": {"used": 2, "limit": 50},
        "executions": {"used": 1, "limit": null},
        "ai_diagnoses": {"used": 0, "limit": 20, "resets_at": "2026-04-11T00:00:00Z"},
    });
    assert_eq!(answer.data(200), expected);
    let members = ["plan", "billing_period", "jobs", "executions", "ai_diagnoses"];
    let places: Vec<_> =
        members.iter().map(|name| answer.text.find(&format!("\"{name}\"")).unwrap()).collect();
    assert!(places.is_sorted(), "in documented order: {}", answer.text);

    service.clock.advance(Duration::from_secs(30 * 86_400));
    let next_month = service.get("/v1/billing/usage").await.data(200);
    assert_eq!(
        next_month["billing_period"],
        json!({"start": "2026-05-01T00:00:00Z", "end": "2026-05-31T23:59:59Z"})
    );
    assert_eq!(next_month["executions"]["used"], 0);
    assert_eq!(next_month["jobs"]["used"], 2);
}

#[tokio::test]
async fn what_is_unlimited_is_null() {
    let service = Service::start().await;
    service.add_foreign_account().await;
    let usage = service.get("/v1/billing/usage").await.data(200);
    assert_eq!((&usage["plan"], &usage["jobs"]), (&json!("scale"), &json!({"used": 0, "limit": null})));
    assert_eq!(usage["ai_diagnoses"]["limit"], json!(null));
    service.make_job().await;
    let foreign = service.send(request(FOREIGN_KEY, "GET", "/v1/billing/usage", "")).await.data(200);
    assert_eq!((&foreign["plan"], &foreign["jobs"]), (&json!("free"), &json!({"used": 0, "limit": 10})));
}

#[tokio::test]
async fn billing_needs_a_key() {
    let service = Service::start().await;
    for (method, path) in
        [("GET", "/v1/billing/usage"), ("POST", "/v1/billing/checkout"), ("POST", "/v1/billing/portal")]
    {
        let answer = service.send(request("jrun_sk_wrong", method, path, "{}")).await;
        assert_eq!(answer.code(401), "unauthorized");
    }
}

#[tokio::test]
async fn a_checkout_looks_as_documented() {
    let service = Service::start_on(Plan::Free).await;
    let answer =
        service.call("POST", "/v1/billing/checkout", json!({"price_id": "price_maker_monthly"})).await;
    let expected = json!({
        "checkout_url": "https://checkout.stripe.com/c/pay/cs_live_a1b2c3...",
        "expires_at": "2026-04-10T15:25:00Z",
    });
    assert_eq!(answer.data(200), expected);
    let account = ACCOUNT.to_string();
    let expected = [
        ("cancel_url", "https://justrun.test/"),
        ("client_reference_id", &account),
        ("expires_at", "1775834700"),
        ("line_items[0][price]", stripe::MAKER_PRICE),
        ("line_items[0][quantity]", "1"),
        ("metadata[account_id]", &account),
        ("metadata[plan]", "maker"),
        ("mode", "subscription"),
        ("subscription_data[metadata][account_id]", &account),
        ("success_url", "https://justrun.test/paid?session={CHECKOUT_SESSION_ID}"),
    ];
    let forms = service.outside.stripe.forms();
    assert_eq!(forms.len(), 1);
    let form: Vec<_> = forms[0].iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(form, expected);
    let by_its_own_name = json!({"price_id": stripe::PRO_PRICE});
    service.call("POST", "/v1/billing/checkout", by_its_own_name).await.data(200);
}

#[tokio::test]
async fn a_repeated_checkout_is_the_same() {
    let service = Service::start().await;
    let body = json!({"price_id": "price_maker_monthly"});
    let first = service.call_once("click 1", "POST", "/v1/billing/checkout", body.clone()).await;
    let second = service.call_once("click 1", "POST", "/v1/billing/checkout", body.clone()).await;
    assert_eq!(first.data(200), second.data(200));
    assert_eq!(service.outside.calls(STRIPE).len(), 1);
    service.call_once("click 2", "POST", "/v1/billing/checkout", body.clone()).await.data(200);
    // Stripe did its work, and the answer was lost: the repetition is the same to Stripe as well.
    service.outside.fail(STRIPE, Fault::Timeout);
    assert_eq!(
        service.call_once("click 3", "POST", "/v1/billing/checkout", body.clone()).await.code(502),
        "upstream_error"
    );
    service.call_once("click 3", "POST", "/v1/billing/checkout", body).await.data(200);
}

#[tokio::test]
async fn bad_checkouts_are_refused() {
    let service = Service::start().await;
    for (body, status, field) in [
        (json!({}), 400, "price_id"),
        (json!({"price_id": 7}), 400, "price_id"),
        (json!({"price_id": null}), 400, "price_id"),
        (json!({"price_id": "price_maker_monthly", "plan": "maker"}), 400, "plan"),
        (json!([]), 400, "$"),
        (json!({"price_id": ""}), 422, "price_id"),
        (json!({"price_id": "price_gold"}), 422, "price_id"),
    ] {
        let answer = service.call("POST", "/v1/billing/checkout", body).await;
        assert_eq!(answer.faults(status), [field]);
    }
    assert_eq!(service.outside.calls(STRIPE).len(), 0);
}

#[tokio::test]
async fn a_portal_needs_a_customer() {
    let service = Service::start().await;
    let answer = service.post("/v1/billing/portal").await;
    assert_eq!(answer.code(409), "conflict");
}

#[tokio::test]
async fn without_a_key_billing_is_not_configured() {
    let service = Service::start_with(Plan::Free, Services::new("https://justrun.test/")).await;
    let checkout =
        service.call("POST", "/v1/billing/checkout", json!({"price_id": "price_maker_monthly"})).await;
    assert_eq!(checkout.code(422), "billing_not_configured");
    assert_eq!(service.post("/v1/billing/portal").await.code(422), "billing_not_configured");
    let webhook = service.send(request("", "POST", "/v1/billing/stripe/webhook", "{}")).await;
    assert_eq!(webhook.code(422), "billing_not_configured");
    assert_eq!(service.get("/v1/billing/usage").await.data(200)["plan"], "free", "usage needs no Stripe");
}

#[tokio::test]
async fn failures_of_stripe_are_told_as_such() {
    let service = Service::start().await;
    for (fault, message) in [
        (Fault::Timeout, "Stripe did not answer in time"),
        (Fault::Unreachable, "Stripe cannot be reached"),
        (Fault::Answer(500, None, ""), "Stripe answered with status 500"),
        (Fault::Answer(502, None, HTML), "Stripe answered with status 502"),
        (Fault::Answer(429, Some("1"), "{\"error\":{\"code\":\"rate_limit\"}}"), "Stripe is busy, try again"),
        (Fault::Answer(200, None, HTML), "Stripe gave an answer that makes no sense"),
        (
            Fault::Answer(200, None, "{\"url\":null,\"expires_at\":1}"),
            "Stripe gave an answer that makes no sense",
        ),
    ] {
        service.outside.fail(STRIPE, fault);
        let answer =
            service.call("POST", "/v1/billing/checkout", json!({"price_id": "price_maker_monthly"})).await;
        assert_eq!(answer.code(502), "upstream_error");
        assert_eq!(answer.json()["error"]["message"], message);
    }
    let mut services = Outside::services();
    services.stripe.secret_key = Some(api::services::Secret::new("sk_test_wrong"));
    let service = Service::start_with(Plan::Free, services).await;
    let answer =
        service.call("POST", "/v1/billing/checkout", json!({"price_id": "price_maker_monthly"})).await;
    assert_eq!(answer.code(502), "upstream_error");
    assert!(!answer.text.contains("sk_test"), "{answer:?}");
}
