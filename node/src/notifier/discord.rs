//! Discord's webhooks.

use super::message::{Message, Notice, cut};
use super::post::{Answer, Poster};
use super::{Again, Refusal};
use crate::executor::http::rfc3339;
use domain::channel::EventKind;
use http::HeaderMap;
use serde_json::{Value, json};
use std::time::Duration;

/// The payload is wrong, or the webhook is gone; Discord bans those who go on asking.
const FINAL: [u16; 4] = [400, 401, 403, 404];
/// Bounds of an embed, in characters.
const TITLE_CHARS_MAX: usize = 256;
const DESCRIPTION_CHARS_MAX: usize = 2_000;
const VALUE_CHARS_MAX: usize = 1_024;

pub(super) async fn send(poster: &Poster, url: &str, message: &Message) -> Result<(), Refusal> {
    let body = body(message).to_string().into_bytes();
    let answer = poster.post(url, HeaderMap::new(), body).await?;
    answer.judge("Discord", &FINAL).map_err(|mut refusal| {
        if let Again::Later { asked } = &mut refusal.again {
            *asked = asked_in_body(&answer).max(*asked);
        }
        refusal
    })
}

/// A rate limit stands in the body as well, with the fraction that the header lacks.
fn asked_in_body(answer: &Answer) -> Option<Duration> {
    let body: Value = serde_json::from_str(&answer.text).ok()?;
    Duration::try_from_secs_f64(body["retry_after"].as_f64()?.ceil()).ok()
}

fn body(message: &Message) -> Value {
    let color = match message.notice {
        Notice::Event(EventKind::Failed) => 0xdd_4343,
        Notice::Event(EventKind::Recovered) => 0x44_bb00,
        Notice::Event(EventKind::Executed) | Notice::Test => 0x00_7ec6,
    };
    let fields: Vec<Value> = message
        .facts()
        .into_iter()
        .map(|(name, value)| json!({"name": name, "value": cut(&value, VALUE_CHARS_MAX), "inline": true}))
        .collect();
    let mut embed = json!({
        "title": cut(&escaped(&message.headline()), TITLE_CHARS_MAX),
        "color": color,
        "fields": fields,
        "timestamp": rfc3339(message.created_at),
        "footer": {"text": "JustRun"},
    });
    if let Some(explanation) = message.explanation() {
        embed["description"] = json!(cut(&escaped(explanation), DESCRIPTION_CHARS_MAX));
    }
    // Without this, whoever names a job @everyone calls everyone.
    json!({"username": "JustRun", "embeds": [embed], "allowed_mentions": {"parse": []}})
}

/// Takes their meaning from the characters of Discord's markup.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\\' | '*' | '_' | '~' | '`' | '|' | '>' | '[' | ']' | '#') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notifier::tests::failed;

    #[test]
    fn a_failure_mentions_nobody_and_stays_within_the_bounds() {
        let mut delivery = failed();
        delivery.job_name = "_".repeat(200);
        delivery.error = Some("*".repeat(4_000));
        let body = body(&Message::of(&delivery));
        assert_eq!(body["allowed_mentions"], json!({"parse": []}));
        let embed = &body["embeds"][0];
        assert_eq!(embed["title"].as_str().unwrap().chars().count(), 256);
        assert_eq!(embed["description"].as_str().unwrap().chars().count(), 2_000);
        assert_eq!(embed["timestamp"], "2026-04-10T15:45:00Z");
        let field = json!({"name": "Status code", "value": "503", "inline": true});
        assert_eq!(embed["fields"][0], field);
    }

    #[test]
    fn markup_in_names_is_shown() {
        assert_eq!(escaped("a*b [c](d)"), "a\\*b \\[c\\](d)");
    }
}
