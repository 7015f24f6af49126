//! Changes whose fate may stay unknown, and what they leave behind.

use super::Api;
use crate::{
    Error,
    client::{Answer, CallError},
    history::{Configuration, Shown},
};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};

/// What the service says with a 503 that is a refusal. Its code does not tell it from a change whose fate is unknown, so
/// the promise in the text is what it is held to.
pub(crate) const NOTHING_CHANGED: &str = "nothing was changed";

/// What came of a request for a change.
#[derive(Clone, Debug)]
pub enum Fate {
    /// It took effect, now or before.
    Done(Answer),
    /// There is nothing by that id.
    Absent,
    /// It has no effect: it never reached a node, or the answer says so.
    NotDone,
    /// There was no answer, or one that says nothing: it may take effect at any time, or never.
    Unknown,
}

impl Api {
    /// Asks for a change. A POST that names itself by `key` may be repeated.
    ///
    /// # Errors
    /// A 4xx that means that the question was wrong.
    pub async fn change(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
        key: Option<&str>,
    ) -> Result<Fate, Error> {
        let url = format!("{}{path}", self.base_url);
        let request = format!("{method} {url}");
        let bytes = body.map(|body| Bytes::from(body.to_string()));
        let answer = match key {
            Some(key) => self.client.post_once(key, &url, Some(&self.key), bytes).await,
            None => self.client.send(method, &url, Some(&self.key), bytes).await,
        };
        fate(&answer).ok_or_else(|| {
            let (status, body) =
                answer.map_or((0, String::new()), |answer| (answer.status, answer.excerpt()));
            Error::Answered { request, status, body }
        })
    }

    /// Makes a webhook channel that hears of failures and recoveries. Gives its id.
    ///
    /// # Errors
    /// No answer, another than 2xx, or one without an id.
    pub async fn create_channel(&self, name: &str, url: &str) -> Result<String, Error> {
        let path = "/v1/alerts/channels";
        let body = json!({
            "type": "webhook",
            "name": name,
            "config": { "url": url },
            "events": ["job.failed", "job.recovered"],
        });
        let answer = self.expect(Method::POST, path, Some(&body)).await?;
        self.made(path, &answer)
    }

    /// A job as it is configured; none if there is none.
    ///
    /// # Errors
    /// No answer, or another than 200 or 404.
    pub async fn configuration(&self, job: &str) -> Result<Option<Configuration>, Error> {
        let path = format!("/v1/jobs/{job}");
        match self.expect(Method::GET, &path, None).await {
            Ok(answer) => configuration(&answer.json()["data"])
                .map(Some)
                .map_err(|missing| self.contract(&path, missing, &answer)),
            Err(Error::Answered { status: 404, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All jobs as this node shows them, while nobody makes or deletes one.
    ///
    /// # Errors
    /// No answer, or another than 200.
    pub async fn shown(&self, node: u64) -> Result<Vec<Shown>, Error> {
        let shown = |row: &Value| {
            let text = |field: &'static str| row[field].as_str().map(str::to_owned).ok_or(field);
            Ok(Shown {
                node,
                job: text("id")?,
                name: text("name")?,
                configuration: configuration(row)?,
                status: text("status")?,
            })
        };
        self.each_job(shown).await
    }
}

/// What an answer to a request for a change means. None is one that no change of ours must meet with.
fn fate(answer: &Result<Answer, CallError>) -> Option<Fate> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(CallError::NotSent { .. }) => return Some(Fate::NotDone),
        Err(CallError::Unknown { .. }) => return Some(Fate::Unknown),
    };
    let says = |words: &str| {
        answer.json()["error"]["message"].as_str().is_some_and(|message| message.contains(words))
    };
    match answer.status {
        200..300 => Some(Fate::Done(answer.clone())),
        404 => Some(Fate::Absent),
        // Others were faster.
        409 => Some(Fate::NotDone),
        503 if says(NOTHING_CHANGED) => Some(Fate::NotDone),
        500.. => Some(Fate::Unknown),
        _ => None,
    }
}

/// The error names the documented field that is missing.
fn configuration(row: &Value) -> Result<Configuration, &'static str> {
    let text = |field: &'static str| row[field].as_str().map(str::to_owned).ok_or(field);
    let timeout_sec = row["timeout_sec"].as_u64().and_then(|sec| u32::try_from(sec).ok());
    Ok(Configuration {
        expression: text("cron_expression")?,
        timezone: text("timezone")?,
        path: path_of(&text("url")?),
        timeout_sec: timeout_sec.ok_or("timeout_sec")?,
    })
}

/// The path of an address, with its slash.
pub(super) fn path_of(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    rest.find('/').map_or_else(String::new, |slash| rest[slash..].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderMap;

    fn answered(status: u16, message: &str) -> Result<Answer, CallError> {
        let body = json!({ "error": { "code": "no_leader", "message": message } }).to_string();
        Ok(Answer { status, headers: HeaderMap::new(), body: Bytes::from(body) })
    }

    #[test]
    fn a_change_is_done_not_done_or_unknown() {
        let refusal =
            "this node found no leader in time, or is too far behind it; nothing was changed, try again";
        let request = || "PATCH /".to_owned();
        let reason = || "closed".to_owned();
        let not_sent = CallError::NotSent { request: request(), reason: reason() };
        let silence = CallError::Unknown { request: request(), reason: reason() };
        assert!(matches!(fate(&answered(204, "")), Some(Fate::Done(_))));
        assert!(matches!(fate(&answered(404, "")), Some(Fate::Absent)));
        for not_done in [Err(not_sent), answered(409, ""), answered(503, refusal)] {
            assert!(matches!(fate(&not_done), Some(Fate::NotDone)), "{not_done:?}");
        }
        for unknown in [Err(silence), answered(503, "the change may still take effect"), answered(500, "")] {
            assert!(matches!(fate(&unknown), Some(Fate::Unknown)), "{unknown:?}");
        }
        for wrong in [400, 401, 403, 422, 429] {
            assert!(fate(&answered(wrong, "")).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_job_as_documented_has_a_configuration() {
        let mut row = json!({
            "cron_expression": "0 3 * * *", "timezone": "UTC", "url": "https://api.example.com/backup?x=1",
            "timeout_sec": 30,
        });
        let found = configuration(&row).unwrap();
        assert_eq!((found.path.as_str(), found.timeout_sec), ("/backup?x=1", 30));
        row["timezone"] = Value::Null;
        assert_eq!(configuration(&row), Err("timezone"));
        assert_eq!(path_of("http://127.0.0.1:80"), "");
    }
}
