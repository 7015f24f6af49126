//! The signed JSON envelope (documented).

use super::Refusal;
use super::message::{About, Message, Notice};
use super::post::{Poster, custom};
use crate::executor::http::rfc3339;
use hmac::{Hmac, KeyInit, Mac};
use http::{HeaderName, HeaderValue};
use serde::Serialize;
use sha2::Sha256;

/// The receiver is gone and says so.
const FINAL: [u16; 1] = [410];
const SIGNATURE: HeaderName = HeaderName::from_static("x-justrun-signature");
const DELIVERY: HeaderName = HeaderName::from_static("x-justrun-delivery");
/// The type of a message that only shows that the channel works.
const TEST_TYPE: &str = "channel.test";

#[derive(Serialize)]
struct Envelope<'a> {
    id: &'a str,
    #[serde(rename = "type")]
    kind: &'static str,
    created_at: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    job_id: Option<&'a str>,
    job_name: &'a str,
    execution_id: Option<&'a str>,
    status_code: Option<u16>,
    duration_ms: Option<u64>,
    error: Option<&'a str>,
    executed_at: String,
}

pub(super) async fn send(
    poster: &Poster,
    url: &str,
    headers: &[(String, String)],
    secret: &str,
    message: &Message,
) -> Result<(), Refusal> {
    let body = body(message);
    let mut headers = custom(headers);
    let value = |text: &str| HeaderValue::from_str(text).expect("ids and hexadecimal digits are ASCII");
    headers.insert(SIGNATURE, value(&signature(secret, &body)));
    headers.insert(DELIVERY, value(&message.id));
    poster.post(url, headers, body).await?.judge("The webhook", &FINAL)
}

fn body(message: &Message) -> Vec<u8> {
    let about = message.about.as_ref();
    let kind = match message.notice {
        Notice::Event(event) => event.as_str(),
        Notice::Test => TEST_TYPE,
    };
    let envelope = Envelope {
        id: &message.id,
        kind,
        created_at: rfc3339(message.created_at),
        data: Data {
            job_id: about.map(|about| about.job_id.as_str()),
            job_name: &message.name,
            execution_id: about.map(|about| about.execution_id.as_str()),
            status_code: about.and_then(|About { status_code, .. }| *status_code),
            duration_ms: about.map(|about| about.duration_ms),
            error: message.error(),
            executed_at: rfc3339(message.executed_at),
        },
    };
    serde_json::to_vec(&envelope).expect("texts and numbers can always be written")
}

/// `sha256=` and the HMAC of the raw body in hexadecimal. The key is the secret as it is, prefix included.
fn signature(secret: &str, body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).expect("hmac takes keys of any length");
    mac.update(body);
    let digits = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    format!("sha256={digits}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notifier::tests::{failed, message_test};

    #[test]
    fn signatures_are_those_that_others_compute() {
        let check = |secret, body: &str, expected: &str| {
            assert_eq!(signature(secret, body.as_bytes()), format!("sha256={expected}"));
        };
        // GitHub's published example.
        check(
            "It's a Secret to Everybody",
            "Hello, World!",
            "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17",
        );
        check(
            "whsec_your_signing_secret",
            r#"{"id":"evt_xR7nLp2wM4","type":"job.failed"}"#,
            "0e14ac73d933b33ce6d8f513d38d1d48d185e3fe73f792c725ed1ad4d5261be1",
        );
    }

    #[test]
    fn the_envelope_is_the_documented_one() {
        let delivery = failed();
        let expected = format!(
            r#"{{"id":"{}","type":"job.failed","created_at":"2026-04-10T15:45:00Z","data":{{"job_id":"{}","job_name":"Daily DB Backup","execution_id":"{}","status_code":503,"duration_ms":30012,"error":"Request timed out after 30s","executed_at":"2026-04-10T15:44:30Z"}}}}"#,
            delivery.id, delivery.id.execution.job, delivery.id.execution
        );
        assert_eq!(String::from_utf8(body(&Message::of(&delivery))).unwrap(), expected);
    }

    #[test]
    fn a_test_has_the_same_form() {
        let body: serde_json::Value = serde_json::from_slice(&body(&message_test())).unwrap();
        assert_eq!(body["type"], "channel.test");
        assert_eq!(body["data"]["job_id"], serde_json::Value::Null);
        assert!(body["id"].as_str().unwrap().starts_with("evt_"));
    }
}
