use super::*;
use serde_json::json;

const ACCOUNT: AccountId = AccountId(11);
const NOW: Timestamp = Timestamp::from_secs(1_775_830_920);

fn sign(secret: &str, at: u64, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(format!("{at}.{body}").as_bytes());
    mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn check_signature(header: &str, expected: Result<(), &str>) {
    assert_eq!(verify(&Secret::new("whsec_test"), header, b"{}", NOW), expected, "{header}");
}

#[test]
fn signatures_are_checked() {
    let at = NOW.as_secs();
    let good = sign("whsec_test", at, "{}");
    let other = sign("whsec_other", at, "{}");
    check_signature(&format!("t={at},v1={good}"), Ok(()));
    check_signature(&format!("t={at},v1={other},v1={good},v0=00"), Ok(()));
    check_signature(&format!("t={at}, v1={good}"), Ok(()));
    for late in [at - 300, at + 300] {
        check_signature(&format!("t={late},v1={}", sign("whsec_test", late, "{}")), Ok(()));
    }
    for late in [at - 301, at + 301] {
        check_signature(&format!("t={late},v1={}", sign("whsec_test", late, "{}")), Err("is too old"));
    }
    let mismatch = Err("does not match the body");
    check_signature(&format!("t={at},v1={other}"), mismatch);
    check_signature(&format!("t={},v1={good}", at - 1), mismatch);
    check_signature(&format!("t={at},v0={good}"), mismatch);
    check_signature(&format!("t={at},v1={}", &good[..62]), mismatch);
    check_signature(&format!("t={at},v1=é"), mismatch);
    check_signature(&format!("t={at}"), mismatch);
    check_signature(&format!("v1={good}"), Err("has no timestamp"));
    check_signature("t=soon,v1=00", Err("has no timestamp"));
    check_signature("", Err("has no timestamp"));
}

#[test]
fn a_signature_made_by_openssl_verifies() {
    // printf '1775830920.{"id":"evt_1"}' | openssl dgst -sha256 -hmac whsec_test_secret
    let header = "t=1775830920,v1=c36c0965cde8478b70354a74c1645f1ab5dadd3aa6a1e5c2dfd20977efec3d6b";
    let body = br#"{"id":"evt_1"}"#;
    assert_eq!(verify(&Secret::new("whsec_test_secret"), header, body, NOW), Ok(()));
}

fn prices() -> Vec<Price> {
    [("price_maker_monthly", Plan::Maker, "price_1"), ("price_pro_monthly", Plan::Pro, "price_2")]
        .map(|(alias, plan, price)| Price { alias: alias.to_owned(), plan, price: price.to_owned() })
        .into()
}

fn account(plan: Plan, billing: Option<(&str, Option<&str>, u64)>) -> Account {
    let billing = billing.map(|(customer, subscription, at)| Billing {
        customer: customer.to_owned(),
        subscription: subscription.map(str::to_owned),
        changed_at: Timestamp::from_secs(at),
    });
    Account { id: ACCOUNT, plan, email: None, billing, created_at: NOW }
}

fn event(kind: &str, created: u64, object: Value) -> Event {
    let event = json!({"id": "evt_1", "object": "event", "created": created, "type": kind, "data": {"object": object}});
    Event::read(event.to_string().as_bytes()).unwrap()
}

fn bought(created: u64, subscription: &str, plan: &str, payment_status: &str) -> Event {
    event(
        "checkout.session.completed",
        created,
        json!({
            "id": "cs_1", "customer": "cus_1", "subscription": subscription, "payment_status": payment_status,
            "client_reference_id": ACCOUNT.to_string(), "metadata": {"plan": plan},
        }),
    )
}

fn subscription(kind: &str, created: u64, id: &str, status: &str, price: &str) -> Event {
    let object = json!({
        "id": id, "customer": "cus_1", "status": status, "metadata": {},
        "items": {"data": [{"price": {"id": price}, "current_period_end": 2}]},
    });
    event(&format!("customer.subscription.{kind}"), created, object)
}

/// Plan, subscription and the subscription that is replaced; `None` when the event changes nothing.
type Expected<'a> = Option<(Option<Plan>, Option<&'a str>, Option<&'a str>)>;

fn check(event: &Event, account: &Account, expected: Expected<'_>) {
    let found = event.consequence(account, &prices());
    let found = found.as_ref().map(|found| {
        assert_eq!((found.billing.customer.as_str(), found.billing.changed_at), ("cus_1", event.created));
        (found.plan, found.billing.subscription.as_deref(), found.replaced.as_deref())
    });
    assert_eq!(found, expected, "{event:?}");
}

#[test]
fn a_purchase_links_the_account_and_sets_its_plan() {
    let new = account(Plan::Free, None);
    check(&bought(5, "sub_1", "pro", "paid"), &new, Some((Some(Plan::Pro), Some("sub_1"), None)));
    check(
        &bought(5, "sub_1", "pro", "no_payment_required"),
        &new,
        Some((Some(Plan::Pro), Some("sub_1"), None)),
    );
    check(&bought(5, "sub_1", "pro", "unpaid"), &new, Some((None, Some("sub_1"), None)));
    check(&bought(5, "sub_1", "golden", "paid"), &new, Some((None, Some("sub_1"), None)));
}

#[test]
fn a_second_purchase_takes_the_place_of_the_first() {
    let paying = account(Plan::Maker, Some(("cus_1", Some("sub_1"), 5)));
    check(&bought(6, "sub_2", "pro", "paid"), &paying, Some((Some(Plan::Pro), Some("sub_2"), Some("sub_1"))));
    check(&bought(6, "sub_2", "pro", "unpaid"), &paying, Some((None, Some("sub_1"), None)));
    check(&bought(6, "sub_1", "maker", "paid"), &paying, Some((Some(Plan::Maker), Some("sub_1"), None)));
    let replaced = account(Plan::Pro, Some(("cus_1", Some("sub_2"), 6)));
    for status in ["active", "canceled"] {
        check(&subscription("updated", 7, "sub_1", status, "price_1"), &replaced, None);
    }
    check(&subscription("deleted", 7, "sub_1", "canceled", "price_1"), &replaced, None);
}

#[test]
fn subscriptions_move_the_account_between_plans() {
    let paying = account(Plan::Maker, Some(("cus_1", Some("sub_1"), 5)));
    for (status, price, expected) in [
        ("active", "price_1", Some((Some(Plan::Maker), Some("sub_1"), None))),
        ("active", "price_2", Some((Some(Plan::Pro), Some("sub_1"), None))),
        ("trialing", "price_2", Some((Some(Plan::Pro), Some("sub_1"), None))),
        ("active", "price_9", Some((None, Some("sub_1"), None))),
        ("past_due", "price_1", Some((Some(Plan::Maker), Some("sub_1"), None))),
        ("unpaid", "price_1", Some((Some(Plan::Free), Some("sub_1"), None))),
        ("paused", "price_1", Some((Some(Plan::Free), Some("sub_1"), None))),
        ("canceled", "price_1", Some((Some(Plan::Free), None, None))),
        ("incomplete", "price_1", None),
        ("incomplete_expired", "price_1", None),
    ] {
        check(&subscription("updated", 6, "sub_1", status, price), &paying, expected);
    }
    let over = Some((Some(Plan::Free), None, None));
    check(&subscription("deleted", 6, "sub_1", "active", "price_1"), &paying, over);
    // The end may be heard of before the beginning.
    check(&subscription("deleted", 6, "sub_1", "canceled", "price_1"), &account(Plan::Free, None), over);
}

#[test]
fn the_newest_event_wins() {
    let ended = account(Plan::Free, Some(("cus_1", None, 10)));
    check(&subscription("updated", 9, "sub_1", "active", "price_1"), &ended, None);
    check(&bought(9, "sub_1", "maker", "paid"), &ended, None);
    let again = Some((Some(Plan::Maker), Some("sub_1"), None));
    check(&subscription("updated", 10, "sub_1", "active", "price_1"), &ended, again);
}

#[test]
fn old_and_new_shapes_are_read() {
    let pays = Some((Some(Plan::Pro), Some("sub_1"), None));
    let old = json!({"id": "sub_1", "customer": {"id": "cus_1"}, "status": "active", "plan": {"id": "price_2"}, "current_period_end": 2});
    check(&event("customer.subscription.updated", 1, old), &account(Plan::Free, None), pays);
    let older = json!({"id": "sub_1", "customer": "cus_1", "status": "active", "items": {"data": [{"plan": {"id": "price_2"}}]}});
    check(&event("customer.subscription.updated", 1, older), &account(Plan::Free, None), pays);
}

#[test]
fn what_cannot_be_used_is_none() {
    for body in [
        "",
        "[]",
        "{}",
        r#"{"id":"evt_1","created":1,"type":"invoice.paid","data":{"object":{"customer":"cus_1"}}}"#,
        r#"{"id":"evt_1","created":1,"type":"checkout.session.completed","data":{"object":{"customer":"cus_1","subscription":null}}}"#,
        r#"{"id":"evt_1","created":1,"type":"customer.subscription.updated","data":{"object":{"id":"sub_1","customer":"cus_1"}}}"#,
        r#"{"id":"evt_1","created":"1","type":"customer.subscription.deleted","data":{"object":{"id":"sub_1","customer":"cus_1"}}}"#,
    ] {
        assert_eq!(Event::read(body.as_bytes()), None, "{body}");
    }
}
