//! What a client may set of a job. Creating and changing one share it: a field that is absent leaves
//! the default or the old value.

use super::output::{delivery, method, misfire_policy, overlap_policy, retry_policy};
use crate::TargetPolicy;
use crate::fields::{EMPTY, Fault, Fields, Issues, label};
use crate::json::Value;
use axum::http::{HeaderName, HeaderValue, Uri};
use domain::id::{AccountId, ChannelId, SpaceId};
use domain::job::{Delivery, Job, Method, MisfirePolicy, OverlapPolicy, RetryPolicy};
use domain::limits;
use domain::schedule::{self, Schedule, ScheduleError};
use domain::space::Space;
use storage::Read;
use storage::schema::{Channels, Spaces};
use url::{ParseError, Url};

/// Without these there is no job (documented).
pub(super) const REQUIRED: [&str; 3] = ["name", "cron_expression", "url"];
/// Shown but not set, so that a job that was read can be sent again.
pub(super) const READ_ONLY: [&str; 11] = [
    "id",
    "status",
    "next_run_at",
    "last_run_at",
    "last_status",
    "last_duration_ms",
    "last_status_code",
    "created_at",
    "updated_at",
    "paused_at",
    "resumed_at",
];
/// Headers that belong to the connection and not to the request (RFC 9110, section 7.6.1), or that the
/// client that sends the request must set itself.
const FORBIDDEN_HEADERS: [&str; 10] = [
    "host",
    "content-length",
    "transfer-encoding",
    "connection",
    "proxy-connection",
    "keep-alive",
    "te",
    "trailer",
    "upgrade",
    "expect",
];
/// Channels of one job; an account has far fewer.
pub(super) const CHANNELS_MAX: usize = 100;

/// The fields of a request body that were given and make sense.
#[derive(Debug, Default)]
pub(super) struct JobInput {
    name: Option<String>,
    cron_expression: Option<String>,
    url: Option<String>,
    method: Option<Method>,
    timezone: Option<String>,
    timeout_sec: Option<u32>,
    retry_policy: Option<RetryPolicy>,
    retry_max: Option<u32>,
    retry_delay_sec: Option<u32>,
    tags: Option<Vec<String>>,
    space: Option<Option<SpaceId>>,
    headers: Option<Vec<(String, String)>>,
    body: Option<Option<String>>,
    store_response_body: Option<bool>,
    alert_channels: Option<Option<Vec<ChannelId>>>,
    overlap: Option<OverlapPolicy>,
    misfire: Option<MisfirePolicy>,
    delivery: Option<Delivery>,
}

impl JobInput {
    /// Reads a new job, found at `path` (empty for the whole body).
    pub(super) fn for_create(
        value: &Value,
        path: &str,
        targets: &dyn TargetPolicy,
        issues: &mut Issues,
    ) -> Self {
        let Some(mut fields) = Fields::of(value, path, issues) else { return Self::default() };
        fields.require(&REQUIRED);
        Self::read(fields, targets)
    }

    /// Reads the changes of a job.
    pub(super) fn for_update(value: &Value, targets: &dyn TargetPolicy, issues: &mut Issues) -> Self {
        Fields::of(value, "", issues).map_or_else(Self::default, |fields| Self::read(fields, targets))
    }

    fn read(mut fields: Fields<'_, '_>, targets: &dyn TargetPolicy) -> Self {
        let input = Self {
            name: fields.parsed("name", name),
            cron_expression: fields.parsed("cron_expression", cron_expression),
            url: fields.parsed("url", |text| url(text, targets)),
            method: fields.choice("method", &Method::ALL.map(|(value, _)| value), method),
            timezone: fields.parsed("timezone", timezone),
            timeout_sec: fields.integer("timeout_sec", limits::TIMEOUT_SEC_MIN..=limits::TIMEOUT_SEC_MAX),
            retry_policy: fields.choice("retry_policy", &RetryPolicy::ALL, retry_policy),
            retry_max: fields.integer("retry_max", 0..=limits::RETRY_MAX_MAX),
            retry_delay_sec: fields.integer("retry_delay_sec", 0..=limits::RETRY_DELAY_SEC_MAX),
            tags: fields.list("tags", limits::TAGS_MAX, tag).map(without_repeats),
            space: fields.parsed_or_null("space_id", |text| text.parse().map_err(|_| NO_SUCH_SPACE)),
            headers: headers(&mut fields),
            body: fields.parsed_or_null("body", body),
            store_response_body: fields.boolean("store_response_body"),
            alert_channels: fields
                .list_or_null("alert_channel_ids", CHANNELS_MAX, |text| {
                    text.parse().map_err(|_| NO_SUCH_CHANNEL)
                })
                .map(|ids| ids.map(without_repeats)),
            overlap: fields.choice("overlap_policy", &OverlapPolicy::ALL, overlap_policy),
            misfire: fields.choice("misfire_policy", &MisfirePolicy::ALL, misfire_policy),
            delivery: fields.choice("delivery", &Delivery::ALL, delivery),
        };
        fields.ignore(&READ_ONLY);
        fields.finish();
        input
    }

    /// Looks up what the fields refer to, notes what is not there, and returns the space named.
    pub(super) fn resolve(
        &self,
        view: &impl Read,
        account: AccountId,
        issues: &mut Issues,
    ) -> Result<Option<Space>, storage::Error> {
        for (index, id) in self.alert_channels.iter().flatten().flatten().enumerate() {
            if !view.contains::<Channels>(&(account, *id))? {
                issues.meaning(format!("alert_channel_ids[{index}]"), NO_SUCH_CHANNEL);
            }
        }
        let Some(id) = self.space.flatten() else { return Ok(None) };
        let space = view.get::<Spaces>(&id)?.filter(|space| space.account == account);
        if space.is_none() {
            issues.meaning("space_id", NO_SUCH_SPACE);
        }
        Ok(space)
    }

    /// Whether the zone was left to the space or the default.
    pub(super) fn names_no_zone(&self) -> bool {
        self.timezone.is_none()
    }

    /// Writes the fields that were given into `job`.
    pub(super) fn apply_to(&self, job: &mut Job) {
        set(&mut job.name, &self.name);
        set(&mut job.cron_expression, &self.cron_expression);
        set(&mut job.request.url, &self.url);
        set(&mut job.request.method, &self.method);
        set(&mut job.timezone, &self.timezone);
        set(&mut job.request.timeout_sec, &self.timeout_sec);
        set(&mut job.retry.policy, &self.retry_policy);
        set(&mut job.retry.max, &self.retry_max);
        set(&mut job.retry.delay_sec, &self.retry_delay_sec);
        set(&mut job.tags, &self.tags);
        set(&mut job.space, &self.space);
        set(&mut job.request.headers, &self.headers);
        set(&mut job.request.body, &self.body);
        set(&mut job.store_response_body, &self.store_response_body);
        set(&mut job.alert_channels, &self.alert_channels);
        set(&mut job.overlap, &self.overlap);
        set(&mut job.misfire, &self.misfire);
        set(&mut job.delivery, &self.delivery);
    }
}

/// What is wrong with a space that does not exist or is another account's.
pub(super) const NO_SUCH_SPACE: Fault = Fault::Borrowed("is not a space of this account");

const NO_SUCH_CHANNEL: Fault = Fault::Borrowed("is not a channel of this account");

fn set<T: Clone>(target: &mut T, given: &Option<T>) {
    if let Some(value) = given {
        target.clone_from(value);
    }
}

fn name(text: &str) -> Result<String, Fault> {
    label(text, limits::JOB_NAME_CHARS_MAX)
}

pub(super) fn tag(text: &str) -> Result<String, Fault> {
    label(text, limits::TAG_CHARS_MAX)
}

/// Tags and channels are sets that remember their order.
pub(super) fn without_repeats<T: PartialEq>(items: Vec<T>) -> Vec<T> {
    let mut distinct = Vec::with_capacity(items.len());
    for item in items {
        if !distinct.contains(&item) {
            distinct.push(item);
        }
    }
    distinct
}

fn cron_expression(text: &str) -> Result<String, Fault> {
    if text.trim().is_empty() {
        return Err(EMPTY.into());
    }
    // Whether it parses does not depend on the zone, which may be at fault itself.
    Schedule::parse(text, "UTC").map_err(|error| match error {
        ScheduleError::Expression(said) => format!("is not a valid cron expression: {said}"),
        ScheduleError::NeverFires => "never fires: no month it names has the days it names".to_owned(),
        ScheduleError::UnknownTimezone => error.to_string(),
    })?;
    Ok(text.to_owned())
}

/// The name of a zone.
pub(crate) fn timezone(text: &str) -> Result<String, Fault> {
    schedule::validate_timezone(text)
        .map_err(|_| Fault::from("is not a known IANA time zone, such as Europe/Stockholm or UTC"))?;
    Ok(text.to_owned())
}

pub(in crate::resources) fn url(text: &str, targets: &dyn TargetPolicy) -> Result<String, Fault> {
    if text.is_empty() {
        return Err(EMPTY.into());
    }
    if text.len() > limits::URL_BYTES_MAX {
        return Err(format!("must have at most {} bytes", limits::URL_BYTES_MAX).into());
    }
    // The parser drops, encodes or reinterprets these silently, and what is called should be what was
    // written.
    if text.chars().any(|c| c.is_control() || c.is_whitespace() || c == '\\') {
        return Err("must not contain spaces, backslashes or control characters".into());
    }
    let url = match Url::parse(text) {
        Ok(url) if matches!(url.scheme(), "http" | "https") => url,
        Ok(_) | Err(ParseError::RelativeUrlWithoutBase) => return Err(no_scheme(targets)),
        Err(error) => return Err(format!("is not a valid URL: {error}").into()),
    };
    // The parser, made for browsers, also takes `https:a` and `https:///a` for `https://a`.
    let host = text[url.scheme().len()..].strip_prefix("://").filter(|rest| !rest.starts_with('/'));
    if host.is_none() || url.host_str().is_none_or(str::is_empty) {
        return Err("must name a host".into());
    }
    // They would show in every list and log; a header is the place for them.
    if !url.username().is_empty() || url.password().is_some() {
        return Err("must not contain credentials; send them in a header".into());
    }
    if url.port() == Some(0) {
        return Err("must not have the port 0".into());
    }
    let before_query = &text[..text.find(['?', '#']).unwrap_or(text.len())];
    if before_query.contains("{{") {
        return Err("may have placeholders in its query only".into());
    }
    // What is sent is this, and it is stricter about hosts than the parser is.
    if Uri::try_from(url.as_str()).is_err() {
        return Err("is not a valid URL for a request".into());
    }
    targets.check(&url).map_err(Fault::from)?;
    Ok(text.to_owned())
}

/// What is wrong with a URL that begins with something else.
fn no_scheme(targets: &dyn TargetPolicy) -> Fault {
    let takes_http = Url::parse("http://example.com").is_ok_and(|url| targets.check(&url).is_ok());
    if takes_http { "must start with https:// or http://".into() } else { "must start with https://".into() }
}

fn body(text: &str) -> Result<String, Fault> {
    if text.len() > limits::REQUEST_BODY_BYTES_MAX {
        return Err(format!("must have at most {} bytes", limits::REQUEST_BODY_BYTES_MAX).into());
    }
    Ok(text.to_owned())
}

/// The custom headers in the order given.
pub(in crate::resources) fn headers(fields: &mut Fields<'_, '_>) -> Option<Vec<(String, String)>> {
    let Value::Object(members) = fields.value("headers")? else {
        fields.shape("headers", "must be an object");
        return None;
    };
    if members.0.len() > limits::HEADERS_MAX {
        fields.meaning("headers", format!("must have at most {} members", limits::HEADERS_MAX));
        return None;
    }
    let mut headers: Vec<(String, String)> = Vec::with_capacity(members.0.len());
    for (name, value) in &members.0 {
        let place = format!("headers.{name}");
        let Value::String(value) = value else {
            fields.shape(place, "must be a string");
            continue;
        };
        match header(name, value) {
            Err(fault) => fields.meaning(place, fault),
            Ok(()) if headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) => {
                fields.meaning(place, "is given more than once");
            }
            Ok(()) => headers.push((name.clone(), value.clone())),
        }
    }
    if headers.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>() > limits::HEADERS_BYTES_MAX
    {
        fields.meaning("headers", format!("must have at most {} bytes in all", limits::HEADERS_BYTES_MAX));
        return None;
    }
    (headers.len() == members.0.len()).then_some(headers)
}

/// Whether no job may set this header, whose name is in lower case.
pub(crate) fn is_forbidden_header(name: &str) -> bool {
    FORBIDDEN_HEADERS.contains(&name)
}

fn header(name: &str, value: &str) -> Result<(), Fault> {
    let Ok(parsed) = HeaderName::from_bytes(name.as_bytes()) else {
        return Err("is not a valid header name".into());
    };
    if is_forbidden_header(parsed.as_str()) {
        return Err("is set by JustRun itself and cannot be given".into());
    }
    if value.chars().any(char::is_control) || HeaderValue::from_bytes(value.as_bytes()).is_err() {
        return Err("must not contain control characters".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests;
