//! What Stripe tells us.

use crate::outside::{Fault, STRIPE, stripe};
use crate::service::{ACCOUNT, Answer, START, Service};
use axum::body::Body;
use domain::account::{Account, Plan};
use hyper::Request;
use serde_json::{Value, json};
use std::time::Duration;
use storage::Read;
use storage::schema::Accounts;

const PATH: &str = "/v1/billing/stripe/webhook";

async fn deliver(service: &Service, body: &str) -> Answer {
    let signature = stripe::sign(START.as_secs(), body);
    deliver_signed(service, body, Some(&signature)).await
}

async fn deliver_signed(service: &Service, body: &str, signature: Option<&str>) -> Answer {
    let mut builder =
        Request::builder().method("POST").uri(PATH).header("content-type", "application/json; charset=utf-8");
    if let Some(signature) = signature {
        builder = builder.header("stripe-signature", signature);
    }
    service.send(builder.body(Body::from(body.to_owned())).unwrap()).await
}

fn event(id: &str, kind: &str, created: u64, object: Value) -> String {
    json!({
        "id": id, "object": "event", "api_version": "2026-10-28.endive", "created": created, "livemode": false,
        "type": kind, "data": {"object": object}, "pending_webhooks": 1,
    })
    .to_string()
}

fn bought(id: &str, created: u64, subscription: &str, plan: &str) -> String {
    let account = ACCOUNT.to_string();
    let object = json!({
        "id": "cs_1", "object": "checkout.session", "mode": "subscription", "payment_status": "paid",
        "status": "complete", "customer": "cus_1", "subscription": subscription,
        "client_reference_id": account, "metadata": {"account_id": account, "plan": plan},
    });
    event(id, "checkout.session.completed", created, object)
}

fn subscription(id: &str, kind: &str, created: u64, status: &str, price: &str) -> String {
    let object = json!({
        "id": "sub_1", "object": "subscription", "customer": "cus_1", "status": status, "metadata": {},
        "items": {"object": "list", "data": [{"id": "si_1", "price": {"id": price}, "current_period_end": 9}]},
    });
    event(id, &format!("customer.subscription.{kind}"), created, object)
}

async fn account(service: &Service) -> Account {
    service.cluster().await.state().view().get::<Accounts>(&ACCOUNT).unwrap().unwrap()
}

/// Delivers an event, and looks at the plan and the subscription after it.
async fn check(service: &Service, body: &str, plan: Plan, subscription: Option<&str>) {
    assert_eq!(deliver(service, body).await.data(200), json!({"received": true}), "{body}");
    let account = account(service).await;
    let found = account.billing.as_ref().and_then(|billing| billing.subscription.as_deref());
    assert_eq!((account.plan, found), (plan, subscription), "after {body}");
}

#[tokio::test]
async fn a_purchase_moves_the_account_and_its_end_moves_it_back() {
    let service = Service::start_on(Plan::Free).await;
    check(&service, &bought("evt_1", 100, "sub_1", "maker"), Plan::Maker, Some("sub_1")).await;
    assert_eq!(service.get("/v1/billing/usage").await.data(200)["plan"], "maker");
    let portal = service.post("/v1/billing/portal").await.data(200);
    assert_eq!(portal, json!({"portal_url": "https://billing.stripe.com/p/session/bps_1a2b3c..."}));
    let form = service.outside.stripe.forms().pop().unwrap();
    assert_eq!((form["customer"].as_str(), form["return_url"].as_str()), ("cus_1", "https://justrun.test/"));

    let pro = subscription("evt_2", "updated", 200, "active", stripe::PRO_PRICE);
    check(&service, &pro, Plan::Pro, Some("sub_1")).await;
    let late = subscription("evt_3", "updated", 150, "active", stripe::MAKER_PRICE);
    check(&service, &late, Plan::Pro, Some("sub_1")).await;
    let late = subscription("evt_8", "updated", 250, "past_due", stripe::PRO_PRICE);
    check(&service, &late, Plan::Pro, Some("sub_1")).await;
    let owes = subscription("evt_4", "updated", 300, "unpaid", stripe::PRO_PRICE);
    check(&service, &owes, Plan::Free, Some("sub_1")).await;
    let pays = subscription("evt_5", "updated", 301, "active", stripe::PRO_PRICE);
    check(&service, &pays, Plan::Pro, Some("sub_1")).await;
    let unknown = subscription("evt_6", "updated", 302, "active", "price_1Other");
    check(&service, &unknown, Plan::Pro, Some("sub_1")).await;
    let ended = subscription("evt_7", "deleted", 400, "canceled", stripe::PRO_PRICE);
    check(&service, &ended, Plan::Free, None).await;
    service.post("/v1/billing/portal").await.data(200);
    // The next checkout is the same customer's.
    service.call("POST", "/v1/billing/checkout", json!({"price_id": "price_maker_monthly"})).await.data(200);
    assert_eq!(service.outside.stripe.forms().pop().unwrap()["customer"], "cus_1");
}

#[tokio::test]
async fn an_event_takes_effect_once() {
    let service = Service::start_on(Plan::Free).await;
    let first = bought("evt_1", 100, "sub_1", "maker");
    check(&service, &first, Plan::Maker, Some("sub_1")).await;
    // The same id, though it would change something.
    check(&service, &bought("evt_1", 200, "sub_1", "pro"), Plan::Maker, Some("sub_1")).await;
    service.clock.advance(Duration::from_secs(6 * 86_400));
    let signature = stripe::sign(START.as_secs() + 6 * 86_400, &first);
    deliver_signed(&service, &first, Some(&signature)).await.data(200);
    assert_eq!(account(&service).await.plan, Plan::Maker);
}

#[tokio::test]
async fn a_second_purchase_ends_the_first_subscription() {
    let service = Service::start_on(Plan::Free).await;
    check(&service, &bought("evt_1", 100, "sub_1", "maker"), Plan::Maker, Some("sub_1")).await;
    let second = bought("evt_2", 200, "sub_2", "pro");
    service.outside.fail(STRIPE, Fault::Answer(500, None, ""));
    assert_eq!(deliver(&service, &second).await.code(502), "upstream_error", "Stripe delivers it again");
    check(&service, &second, Plan::Pro, Some("sub_2")).await;
    assert_eq!(service.outside.stripe.ended(), ["sub_1"]);
    let ended = subscription("evt_3", "deleted", 201, "canceled", stripe::MAKER_PRICE);
    check(&service, &ended, Plan::Pro, Some("sub_2")).await;
}

#[tokio::test]
async fn events_that_cannot_be_used_are_acknowledged() {
    let service = Service::start_on(Plan::Maker).await;
    let stranger = json!({"id": "sub_9", "customer": "cus_9", "status": "active", "items": {"data": []}});
    for body in [
        "{}".to_owned(),
        "nonsense".to_owned(),
        event("evt_1", "invoice.paid", 1, json!({"customer": "cus_1"})),
        event("evt_2", "customer.subscription.updated", 1, stranger),
        event("evt_3", "checkout.session.completed", 1, json!({"customer": "cus_1", "subscription": null})),
        event(
            "evt_4",
            "checkout.session.completed",
            1,
            json!({"customer": "cus_1", "subscription": "sub_1", "client_reference_id": "acc_00000000099"}),
        ),
    ] {
        check(&service, &body, Plan::Maker, None).await;
    }
}

#[tokio::test]
async fn what_stripe_did_not_sign_is_refused() {
    let service = Service::start_on(Plan::Free).await;
    let body = bought("evt_1", 100, "sub_1", "scale");
    let now = START.as_secs();
    let good = stripe::sign(now, &body);
    for signature in
        [None, Some(""), Some("t=1,v1=00"), Some(&good[..60]), Some(&stripe::sign(now - 301, &body))]
    {
        assert_eq!(deliver_signed(&service, &body, signature).await.faults(400), ["Stripe-Signature"]);
    }
    let unsigned = deliver_signed(&service, &body, None).await;
    assert_eq!(unsigned.message(), "Stripe-Signature is missing");
    let other = body.replace("scale", "maker");
    assert_eq!(deliver_signed(&service, &other, Some(&good)).await.faults(400), ["Stripe-Signature"]);
    let huge = " ".repeat(1024 * 1024 + 1);
    assert_eq!(deliver(&service, &huge).await.code(413), "payload_too_large");
    assert_eq!(account(&service).await.plan, Plan::Free);
    deliver_signed(&service, &body, Some(&good)).await.data(200);
    assert_eq!(account(&service).await.plan, Plan::Scale);
}
