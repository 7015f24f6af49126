//! Slack's incoming webhooks. Their errors are plain text: `no_service`, `invalid_payload`.

use super::Refusal;
use super::message::{Message, cut};
use super::post::Poster;
use http::HeaderMap;
use serde_json::{Value, json};

/// The payload is wrong, the app or the channel is gone.
const FINAL: [u16; 4] = [400, 403, 404, 410];
/// Characters of a text before it is escaped, which makes at most five of one: a section takes 3,000.
const TEXT_CHARS_MAX: usize = 400;

pub(super) async fn send(poster: &Poster, url: &str, message: &Message) -> Result<(), Refusal> {
    let body = body(message).to_string().into_bytes();
    poster.post(url, HeaderMap::new(), body).await?.judge("Slack", &FINAL)
}

fn body(message: &Message) -> Value {
    let headline = escaped(&message.headline());
    // What notifications and screen readers get instead of the blocks.
    let text = match message.explanation() {
        Some(explanation) => format!("{headline}: {}", escaped(explanation)),
        None => headline.clone(),
    };
    let section = match message.explanation() {
        Some(explanation) => format!("*{headline}*\n{}", escaped(explanation)),
        None => format!("*{headline}*"),
    };
    let fields: Vec<Value> = message
        .facts()
        .into_iter()
        .map(|(label, value)| json!({"type": "mrkdwn", "text": format!("*{label}*\n{}", escaped(&value))}))
        .collect();
    json!({
        "text": text,
        "blocks": [
            {"type": "section", "text": {"type": "mrkdwn", "text": section}},
            {"type": "section", "fields": fields},
        ],
    })
}

/// The three characters that mean something to Slack; this also takes the power from `<!channel>`.
fn escaped(text: &str) -> String {
    cut(text, TEXT_CHARS_MAX).replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notifier::tests::{failed, message_test};

    #[test]
    fn a_failure_reads_well_and_calls_nobody() {
        let mut delivery = failed();
        delivery.job_name = "Backup <!channel> & more".to_owned();
        let body = body(&Message::of(&delivery));
        assert_eq!(body["text"], "Backup &lt;!channel&gt; &amp; more failed: Request timed out after 30s");
        assert_eq!(
            body["blocks"][0]["text"]["text"],
            "*Backup &lt;!channel&gt; &amp; more failed*\nRequest timed out after 30s"
        );
        assert_eq!(body["blocks"][1]["fields"][0], json!({"type": "mrkdwn", "text": "*Status code*\n503"}));
        assert_eq!(super::body(&message_test())["text"].as_str().map(|text| text.len() > 20), Some(true));
    }

    #[test]
    fn texts_stay_within_slacks_bounds() {
        let mut delivery = failed();
        delivery.job_name = "&".repeat(100);
        delivery.error = Some("<".repeat(500));
        let body = body(&Message::of(&delivery));
        assert!(body["blocks"][0]["text"]["text"].as_str().unwrap().chars().count() <= 3_000);
        for field in body["blocks"][1]["fields"].as_array().unwrap() {
            assert!(field["text"].as_str().unwrap().chars().count() <= 2_000);
        }
    }
}
