//! One POST of JSON to a receiver, within the egress policy, and what the receiver made of it.

use super::{Again, Refusal};
use crate::executor::guarded::GuardedClient;
use crate::executor::http::{USER_AGENT_VALUE, redirected_to};
use crate::executor::retry_after;
use domain::time::Clock;
use http::header::{CONTENT_TYPE, LOCATION, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use std::sync::Arc;
use std::time::Duration;
use url::Url;

/// Bytes of an answer that are looked at: those that mean anything are a few words.
const ANSWER_BYTES_MAX: usize = 4 * 1024;
/// Characters of an answer that are passed on in a reason.
const QUOTED_CHARS_MAX: usize = 200;
/// Headers that belong to the connection or follow from the body.
const CONNECTION_HEADERS: [&str; 9] = [
    "connection",
    "content-length",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Sends requests. Cheap to clone.
#[derive(Clone)]
pub(super) struct Poster {
    client: GuardedClient,
    clock: Arc<dyn Clock>,
}

/// What a receiver answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// The wait that the receiver asked for.
    pub(super) asked: Option<Duration>,
    /// Where a redirect led. It is not followed.
    pub(super) led_to: Option<Url>,
    /// The beginning of the body.
    pub(super) text: String,
}

impl Poster {
    pub(super) fn new(client: GuardedClient, clock: Arc<dyn Clock>) -> Self {
        Self { client, clock }
    }

    /// Sends `body` with `headers` and the headers of every request of ours, which win.
    ///
    /// # Errors
    /// When there is no answer.
    pub(super) async fn post(
        &self,
        url: &str,
        mut headers: HeaderMap,
        body: Vec<u8>,
    ) -> Result<Answer, Refusal> {
        let url: Url = url.parse().map_err(|_| Refusal::never("The URL is not valid"))?;
        self.client.check(&url).map_err(|failure| Refusal::later(failure.message))?;
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
        headers.insert(USER_AGENT, HeaderValue::from_static(USER_AGENT_VALUE));
        let request = self.client.request(Method::POST, &url).await;
        let request = request.map_err(|failure| Refusal::later(failure.message))?;
        let sent = request.headers(headers).body(body).send().await;
        let mut response = sent.map_err(|error| Refusal::later(self.client.explain(&error, &url).message))?;
        let asked = retry_after::asked(response.headers(), self.clock.now());
        let led_to = redirected_to(response.status(), response.headers().get(LOCATION), &url);
        let mut bytes = Vec::new();
        // The status says it all; a body that breaks off changes nothing.
        while bytes.len() < ANSWER_BYTES_MAX
            && let Ok(Some(chunk)) = response.chunk().await
        {
            bytes.extend_from_slice(&chunk[..chunk.len().min(ANSWER_BYTES_MAX - bytes.len())]);
        }
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(Answer { status: response.status(), asked, led_to, text })
    }
}

/// The custom headers of a channel. Those that cannot be sent are left out: they were checked when they
/// were given.
pub(super) fn custom(headers: &[(String, String)]) -> HeaderMap {
    let mut map = HeaderMap::new();
    for (name, value) in headers {
        let is_ours = CONNECTION_HEADERS.iter().any(|reserved| name.eq_ignore_ascii_case(reserved));
        if let (Ok(name), Ok(value), false) =
            (HeaderName::try_from(name.as_str()), HeaderValue::from_bytes(value.trim().as_bytes()), is_ours)
        {
            map.append(name, value);
        }
    }
    map
}

impl Answer {
    /// Success is 2xx; an answer in `final_codes` means that no repetition will be taken either.
    pub(super) fn judge(&self, receiver: &str, final_codes: &[u16]) -> Result<(), Refusal> {
        let status = self.status.as_u16();
        if self.status.is_success() {
            return Ok(());
        }
        let reason = match (&self.led_to, self.quoted()) {
            (Some(led_to), _) => {
                let led_to = super::message::cut(led_to.as_str(), QUOTED_CHARS_MAX);
                format!("{receiver} answered {status} redirect to {led_to}")
            }
            (None, Some(text)) => format!("{receiver} answered {status}: {text}"),
            (None, None) => format!("{receiver} answered {status}"),
        };
        let again =
            if final_codes.contains(&status) { Again::Never } else { Again::Later { asked: self.asked } };
        Err(Refusal { reason, again })
    }

    /// The beginning of the body in one line, unless it is a page for browsers.
    fn quoted(&self) -> Option<String> {
        let words: Vec<_> = self.text.split(|c: char| c.is_whitespace() || c.is_control()).collect();
        let line = words.into_iter().filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
        (!line.is_empty() && !line.starts_with('<')).then(|| super::message::cut(&line, QUOTED_CHARS_MAX))
    }
}
