//! Jobs of EasyCron: plain functions from its JSON to our words.
//!
//! Source: `developer.easycron.com/docs/api/v1/cron-jobs`, 2026. The names of the API that was retired in 2025 are
//! read as well; there every value was a text.

use super::foreign::{Foreign, supported_method};
use serde_json::Value;

const DEFAULT_TIMEZONE: &str = "UTC";
/// Of minute, hour, day of month, month, day of week.
const FIRST: [&str; 5] = ["0", "0", "1", "1", "0"];
/// The only days of the week in which a step ends; to us 7 would be one more.
const LAST_WEEKDAY: &str = "6";

/// What its owner calls a job, or what it would be called here.
pub(super) fn name(job: &Value) -> String {
    let (name, url) = (text(job, &["cron_job_name"]), text(job, &["url"]));
    Foreign { id: id(job), name, url, ..Foreign::default() }.display_name()
}

pub(super) fn id(job: &Value) -> u64 {
    u64::try_from(integer(job, &["cron_job_id"])).unwrap_or_default()
}

/// Makes our words of a job.
///
/// # Errors
/// Why it cannot be imported.
pub(super) fn convert(job: &Value) -> Result<Foreign, String> {
    let method = Some(text(job, &["http_method"])).filter(|method| !method.is_empty());
    let method = method.map_or_else(|| "GET".to_owned(), |method| method.to_ascii_uppercase());
    supported_method(&method)?;
    let timezone = Some(text(job, &["timezone"])).filter(|zone| !zone.is_empty());
    let mut foreign = Foreign {
        id: id(job),
        name: text(job, &["cron_job_name"]),
        url: text(job, &["url"]),
        cron_expression: expression(&text(job, &["cron_expression"]))?,
        timezone: timezone.unwrap_or_else(|| DEFAULT_TIMEZONE.to_owned()),
        method,
        timeout_sec: integer(job, &["timeout", "custom_timeout"]),
        body: text(job, &["http_message_body", "posts"]),
        paused: integer(job, &["status"]) == 0,
        ..Foreign::default()
    };
    let (user, password) =
        (text(job, &["http_auth_user", "auth_user"]), text(job, &["http_auth_pw", "auth_pw"]));
    if !user.is_empty() || !password.is_empty() {
        foreign.credentials = Some((user, password));
    }
    for line in text(job, &["http_headers"]).lines().filter(|line| !line.trim().is_empty()) {
        match line.split_once(':') {
            Some((name, value)) => {
                foreign.headers.push((name.trim().to_owned(), value.trim().to_owned()));
            }
            None => foreign.warnings.push("a line of its headers is no header and was left out".to_owned()),
        }
    }
    if matches!(integer(job, &["success_criterion", "criterion"]), 2 | 3) {
        let warning = "its success depended on the text of the answer; to JustRun every 2xx is a success";
        foreign.warnings.push(warning.to_owned());
    }
    Ok(foreign)
}

/// Five fields that match when the expression does. EasyCron has a sixth, the year, and no seconds.
///
/// # Errors
/// When five fields cannot hold it.
pub(super) fn expression(text: &str) -> Result<String, String> {
    let unsupported = || format!("Unsupported cron expression: {text}");
    let fields: Vec<&str> = text.split_whitespace().collect();
    let fields = match fields[..] {
        [] => return Err("it has no cron expression".to_owned()),
        // Nicknames are the same or refused by whoever reads the job.
        [nickname] if nickname.starts_with('@') && nickname != "@reboot" => return Ok(nickname.to_owned()),
        [minute, hour, day, month, weekday] | [minute, hour, day, month, weekday, "*" | "?"] => {
            [minute, hour, day, month, weekday]
        }
        _ => return Err(unsupported()),
    };
    let converted: Vec<String> =
        fields.iter().enumerate().map(|(index, field)| convert_field(index, field)).collect();
    let converted = converted.join(" ");
    // What only EasyCron knows (`L`, `15W`, `5#3`) is no number and no name to us.
    match domain::schedule::Schedule::parse(&converted, DEFAULT_TIMEZONE) {
        Ok(_) => Ok(converted),
        Err(_) => Err(unsupported()),
    }
}

fn convert_field(index: usize, field: &str) -> String {
    const DAY_OF_MONTH: usize = 2;
    const DAY_OF_WEEK: usize = 4;
    if field == "?" {
        return "*".to_owned();
    }
    let item = |item: &str| match item.split_once('/') {
        // A star in a day field has a meaning of its own, so that it is written only where it means all values.
        Some((first, step)) if FIRST[index] == first && index != DAY_OF_MONTH && index != DAY_OF_WEEK => {
            format!("*/{step}")
        }
        Some((first, step)) if index == DAY_OF_WEEK && first != "*" && !first.contains('-') => {
            format!("{first}-{LAST_WEEKDAY}/{step}")
        }
        Some((first, step)) if index == DAY_OF_MONTH && first != "*" && !first.contains('-') => {
            format!("{first}-31/{step}")
        }
        Some(_) | None => item.to_owned(),
    };
    field.split(',').map(item).collect::<Vec<_>>().join(",")
}

/// The first of some members that is there, as a text.
fn text(job: &Value, names: &[&str]) -> String {
    match names.iter().find_map(|name| job.get(name)) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Number(number)) => number.to_string(),
        _ => String::new(),
    }
}

/// The same as a whole number; 0 when it is none.
fn integer(job: &Value, names: &[&str]) -> i64 {
    match names.iter().find_map(|name| job.get(name)) {
        Some(Value::Number(number)) => number.as_i64().unwrap_or_default(),
        Some(Value::String(text)) => text.trim().parse().unwrap_or_default(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
