//! `PagerDuty`, Events API v2: a failure opens an incident, a recovery closes it.

use super::Refusal;
use super::message::{About, Message, Notice, cut};
use super::post::{Poster, custom};
use crate::executor::http::rfc3339;
use domain::channel::EventKind;
use serde_json::{Value, json};

/// The event is wrong, for instance its routing key. Nobody is paged by saying it again.
const FINAL: [u16; 3] = [400, 403, 404];
/// Characters of a summary.
const SUMMARY_CHARS_MAX: usize = 1_024;

/// What a channel without a routing key says of itself.
const NO_KEY: &str =
    "config.routing_key is missing: PagerDuty needs the integration key of the service to page";

pub(super) async fn send(
    poster: &Poster,
    url: &str,
    headers: &[(String, String)],
    routing_key: Option<&str>,
    message: &Message,
) -> Result<(), Refusal> {
    let Some(routing_key) = routing_key else { return Err(Refusal::never(NO_KEY)) };
    for body in bodies(routing_key, message) {
        let answer = poster.post(url, custom(headers), body.to_string().into_bytes()).await?;
        answer.judge("PagerDuty", &FINAL)?;
    }
    Ok(())
}

/// A test opens an incident of the lowest severity and closes it again.
fn bodies(routing_key: &str, message: &Message) -> Vec<Value> {
    match message.notice {
        Notice::Event(EventKind::Failed) => vec![trigger(routing_key, "error", message)],
        Notice::Event(EventKind::Recovered) => vec![resolve(routing_key, message)],
        // Such messages are not made, since nobody is to be paged for a success.
        Notice::Event(EventKind::Executed) => Vec::new(),
        Notice::Test => vec![trigger(routing_key, "info", message), resolve(routing_key, message)],
    }
}

fn trigger(routing_key: &str, severity: &str, message: &Message) -> Value {
    let summary = match message.explanation() {
        Some(explanation) => format!("{}: {explanation}", message.headline()),
        None => message.headline(),
    };
    let details = message.about.as_ref().map(|about| {
        let About { job_id, execution_id, status_code, duration_ms, error, .. } = about;
        json!({
            "job_id": job_id,
            "job_name": message.name,
            "execution_id": execution_id,
            "status_code": status_code,
            "duration_ms": duration_ms,
            "error": error,
        })
    });
    let host = message.about.as_ref().map(|about| about.host.as_str()).filter(|host| !host.is_empty());
    json!({
        "routing_key": routing_key,
        "event_action": "trigger",
        "dedup_key": dedup_key(message),
        "client": "JustRun",
        "payload": {
            "summary": cut(&summary, SUMMARY_CHARS_MAX),
            "source": host.unwrap_or("justrun"),
            "severity": severity,
            "timestamp": rfc3339(message.executed_at),
            "custom_details": details.unwrap_or_else(|| json!({})),
        },
    })
}

fn resolve(routing_key: &str, message: &Message) -> Value {
    json!({"routing_key": routing_key, "event_action": "resolve", "dedup_key": dedup_key(message)})
}

/// One incident a job, however often it fails.
fn dedup_key(message: &Message) -> String {
    match &message.about {
        Some(about) => format!("justrun/{}", about.job_id),
        None => format!("justrun/test/{}", message.id),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::notifier::tests::{failed, message_test};

    #[test]
    fn a_failure_opens_what_the_recovery_closes() {
        let mut delivery = failed();
        let opened = bodies("key", &Message::of(&delivery));
        let job = delivery.id.execution.job;
        let expected = json!({
            "routing_key": "key",
            "event_action": "trigger",
            "dedup_key": format!("justrun/{job}"),
            "client": "JustRun",
            "payload": {
                "summary": "Daily DB Backup failed: Request timed out after 30s",
                "source": "api.example.com",
                "severity": "error",
                "timestamp": "2026-04-10T15:44:30Z",
                "custom_details": {
                    "job_id": job.to_string(),
                    "job_name": "Daily DB Backup",
                    "execution_id": delivery.id.execution.to_string(),
                    "status_code": 503,
                    "duration_ms": 30_012,
                    "error": "Request timed out after 30s",
                },
            },
        });
        assert_eq!(opened, [expected]);
        delivery.id.event = EventKind::Recovered;
        let closed = bodies("key", &Message::of(&delivery));
        let dedup_key = format!("justrun/{job}");
        assert_eq!(
            closed,
            [json!({"routing_key": "key", "event_action": "resolve", "dedup_key": dedup_key})]
        );
    }

    #[test]
    fn a_test_leaves_no_incident_open() {
        let bodies = bodies("key", &message_test());
        let actions: Vec<_> = bodies.iter().map(|body| body["event_action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["trigger", "resolve"]);
        assert_eq!(bodies[0]["dedup_key"], bodies[1]["dedup_key"]);
        assert_eq!(bodies[0]["payload"]["severity"], "info");
    }
}
