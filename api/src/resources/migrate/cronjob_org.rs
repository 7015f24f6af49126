//! Jobs of cron-job.org: plain functions from its JSON to our words.
//!
//! Source: `docs/source/rest-api.rst` and `chronos/App.cpp` of `pschlan/cron-job.org`, August 2026.

use super::foreign::{Foreign, supported_method};
use domain::schedule::wall_clock;
use domain::time::{Timestamp, civil};
use serde_json::Value;

/// By number.
const METHODS: [&str; 9] = ["GET", "POST", "OPTIONS", "HEAD", "PUT", "DELETE", "TRACE", "CONNECT", "PATCH"];
/// In a set of values: all of them.
const EVERY: i64 = -1;
const DEFAULT_TIMEZONE: &str = "UTC";
/// From this many values on a step is easier to read than a list.
const STEPS_MIN: usize = 3;

/// A job as the list shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Listed {
    pub(super) id: u64,
    pub(super) name: String,
    /// 0 for none.
    pub(super) folder: i64,
    /// Why it cannot be imported, as far as the list tells.
    pub(super) refused: Option<String>,
}

/// Reads one entry of the list. `None` when it is no job.
pub(super) fn listed(job: &Value, now: Timestamp) -> Option<Listed> {
    let id = job.get("jobId")?.as_u64()?;
    let name = named(job, id);
    let folder = integer(job, "folderId").unwrap_or_default();
    Some(Listed { id, name, folder, refused: essentials(job, now).err() })
}

/// Makes our words of the details of a job.
///
/// # Errors
/// Why it cannot be imported.
pub(super) fn convert(job: &Value, folder: Option<&str>, now: Timestamp) -> Result<Foreign, String> {
    let Essentials { method, cron_expression, timezone, expires_at } = essentials(job, now)?;
    let mut foreign = Foreign {
        id: job.get("jobId").and_then(Value::as_u64).unwrap_or_default(),
        name: text(job, "title").to_owned(),
        url: text(job, "url").to_owned(),
        cron_expression,
        timezone,
        method: method.to_owned(),
        timeout_sec: integer(job, "requestTimeout").unwrap_or_default(),
        store_response_body: flag(job, "saveResponses"),
        tags: folder.map(str::to_owned).into_iter().collect(),
        paused: !flag(job, "enabled"),
        ..Foreign::default()
    };
    if let Some(expires_at) = expires_at {
        foreign.warnings.push(format!("it ends on {} there; JustRun's jobs go on", date(expires_at)));
    }
    if flag(job, "redirectSuccess") {
        foreign.warnings.push("a redirect was a success there; to JustRun it is a failure".to_owned());
    }
    if let Some(auth) = job.get("auth").filter(|auth| flag(auth, "enable")) {
        foreign.credentials = Some((text(auth, "user").to_owned(), text(auth, "password").to_owned()));
    }
    if let Some(extended) = job.get("extendedData") {
        text(extended, "body").clone_into(&mut foreign.body);
        // PHP writes an empty map as an empty array.
        if let Some(Value::Object(headers)) = extended.get("headers") {
            let text_of = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            foreign.headers = headers.iter().map(|(name, value)| (name.clone(), text_of(value))).collect();
        }
    }
    Ok(foreign)
}

/// What decides whether a job can be imported at all.
struct Essentials {
    method: &'static str,
    cron_expression: String,
    timezone: String,
    /// `YYYYMMDDhhmmss` on the job's clock.
    expires_at: Option<u64>,
}

fn essentials(job: &Value, now: Timestamp) -> Result<Essentials, String> {
    let number = integer(job, "requestMethod").unwrap_or_default();
    let method = usize::try_from(number).ok().and_then(|number| METHODS.get(number).copied());
    let method = method.ok_or_else(|| format!("Unsupported HTTP method {number}"))?;
    supported_method(method)?;
    let schedule = job.get("schedule").ok_or("it has no schedule")?;
    let cron_expression = expression(schedule)?;
    let timezone = Some(text(schedule, "timezone")).filter(|zone| !zone.is_empty());
    let timezone = timezone.unwrap_or(DEFAULT_TIMEZONE).to_owned();
    let expires_at = schedule.get("expiresAt").and_then(Value::as_u64).filter(|at| *at > 0);
    if let Some(expires_at) = expires_at
        && let Some(shown) = wall_clock(&timezone, now)
        && expires_at / 100 < minute(shown)
    {
        return Err(format!("it ended on {}", date(expires_at)));
    }
    Ok(Essentials { method, cron_expression, timezone, expires_at })
}

/// `YYYYMMDDhhmm`
fn minute(shown: Timestamp) -> u64 {
    let (year, month, day) = civil(shown.as_days());
    let minutes = shown.as_secs() / 60 % 1_440;
    (((year * 100 + month) * 100 + day) * 100 + minutes / 60) * 100 + minutes % 60
}

/// `YYYYMMDDhhmmss` as a date.
fn date(at: u64) -> String {
    let days = at / 1_000_000;
    format!("{:04}-{:02}-{:02}", days / 10_000, days / 100 % 100, days % 100)
}

/// Five fields that match when the schedule does.
///
/// With both day fields restricted either may match, there as here; therefore a restricted one is never
/// written with a star, which would mean that both must.
fn expression(schedule: &Value) -> Result<String, String> {
    let minutes = set(schedule, "minutes", 0, 59)?;
    let hours = set(schedule, "hours", 0, 23)?;
    let days = set(schedule, "mdays", 1, 31)?;
    let months = set(schedule, "months", 1, 12)?;
    let weekdays = set(schedule, "wdays", 0, 6)?;
    Ok([
        with_steps(minutes, 0, 59),
        with_steps(hours, 0, 23),
        days.map_or_else(star, |values| ranges(&values)),
        with_steps(months, 1, 12),
        weekdays.map_or_else(star, |values| ranges(&values)),
    ]
    .join(" "))
}

/// The values of a field, ascending; `None` for every one.
fn set(schedule: &Value, name: &str, min: i64, max: i64) -> Result<Option<Vec<i64>>, String> {
    let values: Vec<i64> = match schedule.get(name) {
        Some(Value::Array(values)) => values.iter().filter_map(Value::as_i64).collect(),
        // PHP writes an array with holes as a map.
        Some(Value::Object(values)) => values.values().filter_map(Value::as_i64).collect(),
        Some(_) | None => return Err(format!("its schedule has no {}", spoken(name))),
    };
    if values.contains(&EVERY) {
        return Ok(None);
    }
    if let Some(odd) = values.iter().find(|value| !(min..=max).contains(*value)) {
        return Err(format!("its schedule has {odd} among its {}", spoken(name)));
    }
    if values.is_empty() {
        // It never fires there either.
        return Err(format!("its schedule has no {}", spoken(name)));
    }
    let mut values = values;
    values.sort_unstable();
    values.dedup();
    Ok(Some(values))
}

fn spoken(name: &str) -> &str {
    match name {
        "mdays" => "days of the month",
        "wdays" => "days of the week",
        name => name,
    }
}

fn star() -> String {
    "*".to_owned()
}

/// A field in which a star has no other meaning than all its values.
fn with_steps(values: Option<Vec<i64>>, min: i64, max: i64) -> String {
    let Some(values) = values else { return star() };
    let step = match values[..] {
        [first, second, ..] if first == min => second - first,
        _ => return ranges(&values),
    };
    let stepped =
        usize::try_from(step).is_ok_and(|by| (min..=max).step_by(by.max(1)).eq(values.iter().copied()));
    match step {
        1 if stepped => star(),
        _ if stepped && values.len() >= STEPS_MIN => format!("*/{step}"),
        _ => ranges(&values),
    }
}

/// Ascending values, neighbours as ranges.
fn ranges(values: &[i64]) -> String {
    let runs = values.chunk_by(|a, b| a + 1 == *b);
    let texts = runs.map(|run| match run {
        [one] => one.to_string(),
        [first, second] => format!("{first},{second}"),
        [first, .., last] => format!("{first}-{last}"),
        [] => String::new(),
    });
    texts.collect::<Vec<_>>().join(",")
}

/// What its owner calls it, or what it would be called here.
fn named(job: &Value, id: u64) -> String {
    let name = text(job, "title").to_owned();
    Foreign { id, name, url: text(job, "url").to_owned(), ..Foreign::default() }.display_name()
}

fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn integer(object: &Value, name: &str) -> Option<i64> {
    object.get(name).and_then(Value::as_i64)
}

fn flag(object: &Value, name: &str) -> bool {
    match object.get(name) {
        Some(Value::Bool(value)) => *value,
        Some(Value::Number(number)) => number.as_i64() != Some(0),
        _ => false,
    }
}

#[cfg(test)]
mod tests;
