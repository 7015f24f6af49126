//! Which requests EasyCron and cron-job.org take until all jobs of a key have been read.
//!
//! Everything is read before anything is imported, so that a service that fails half way leaves nothing behind.

use super::fetch::{Source, Unread};
use super::foreign::Foreign;
use super::{cronjob_org, easycron as convert};
use crate::Deps;
use crate::error::ApiError;
use crate::fields;
use crate::outbound::credential;
use axum::http::header::{ACCEPT, AUTHORIZATION};
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use domain::limits;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

const EASYCRON_KEY: HeaderName = HeaderName::from_static("x-api-key");
/// Jobs asked for at once; each may have some twenty kilobytes.
const PAGE_SIZE: usize = 100;
/// Pages read at most, whatever the service says of how many there are.
const PAGES_MAX: usize = 2 * limits::IMPORT_JOBS_MAX / PAGE_SIZE;

const TOO_MANY: &str = "an import takes at most 1000 jobs";
const OUT_OF_TIME: &str = "there was no time left to read it; import fewer jobs at once";
const CRONJOB_ORG: &str = "cron-job.org";
const EASYCRON: &str = "EasyCron";

const _: () = assert!(limits::IMPORT_JOBS_MAX == 1_000, "said in TOO_MANY");

/// The jobs of a key.
#[derive(Default)]
pub(super) struct Found {
    /// In the service's order.
    pub(super) jobs: Vec<Result<Foreign, Skipped>>,
    /// What is to be said about the whole.
    pub(super) remarks: Vec<String>,
}

/// A job that cannot be imported.
pub(super) struct Skipped {
    pub(super) name: String,
    pub(super) reason: String,
}

impl Found {
    fn skip(&mut self, name: String, reason: impl Into<String>) {
        self.jobs.push(Err(Skipped { name, reason: reason.into() }));
    }
}

/// The jobs of an EasyCron account.
pub(super) async fn of_easycron(deps: &Deps, key: &str) -> Result<Found, ApiError> {
    let headers = headers(EASYCRON_KEY, key)?;
    let mut source = Source::new(EASYCRON, deps, &deps.services.easycron, headers);
    let mut found = Found::default();
    // Jobs that are made or deleted meanwhile move the pages.
    let mut known = BTreeSet::new();
    for page in 1..=PAGES_MAX {
        let query = format!("page={page}&page_size={PAGE_SIZE}&sort_by=cron_job_id&order=asc");
        let answer = source.get("/v1/cron-jobs", &query).await.map_err(|unread| nothing(&source, unread))?;
        check_old_error(&source, &answer)?;
        let jobs = answer.get("cron_jobs").and_then(Value::as_array);
        let jobs = jobs.ok_or_else(|| source.failed("gave an answer that makes no sense"))?;
        for job in jobs.iter().filter(|job| known.insert(convert::id(job))) {
            if found.jobs.len() >= limits::IMPORT_JOBS_MAX {
                found.skip(convert::name(job), TOO_MANY);
            } else {
                match convert::convert(job) {
                    Ok(foreign) => found.jobs.push(Ok(foreign)),
                    Err(reason) => found.skip(convert::name(job), reason),
                }
            }
        }
        let total = answer.get("meta").and_then(|meta| meta.get("total_count")).and_then(Value::as_u64);
        let all_read = total.is_some_and(|total| known.len() as u64 >= total);
        if all_read || jobs.len() < PAGE_SIZE {
            return Ok(found);
        }
    }
    found.remarks.push(format!("EasyCron has more jobs than the {} that were looked at", known.len()));
    Ok(found)
}

/// The retired API answered errors with status 200.
fn check_old_error(source: &Source<'_>, answer: &Value) -> Result<(), ApiError> {
    const WRONG_TOKEN: &str = "1";
    /// Bytes of a code; theirs have one or two digits. The answer must not be as long as whatever they send.
    const CODE_BYTES_MAX: usize = 20;
    if answer.get("status").and_then(Value::as_str) != Some("error") {
        return Ok(());
    }
    let code = answer.get("error").and_then(|error| error.get("code"));
    match code.and_then(Value::as_str).filter(|code| code.len() <= CODE_BYTES_MAX) {
        Some(WRONG_TOKEN) => Err(nothing(source, Unread::Key("is not accepted there"))),
        code => Err(source.failed(format!("answered with error {}", code.unwrap_or("of no known code")))),
    }
}

/// The jobs of a cron-job.org account. Only the details of a job say all of it, so that each takes a request.
pub(super) async fn of_cronjob_org(deps: &Deps, key: &str) -> Result<Found, ApiError> {
    let headers = headers(AUTHORIZATION, &format!("Bearer {key}"))?;
    let mut source = Source::new(CRONJOB_ORG, deps, &deps.services.cronjob_org, headers);
    let now = deps.clock.now();
    let mut found = Found::default();
    let answer = source.get("/jobs", "").await.map_err(|unread| nothing(&source, unread))?;
    let listed = answer.get("jobs").and_then(Value::as_array);
    let listed = listed.ok_or_else(|| source.failed("gave an answer that makes no sense"))?;
    if answer.get("someFailed").and_then(Value::as_bool) == Some(true) {
        found.remarks.push("cron-job.org could not list all of its jobs; import again later".to_owned());
    }
    let listed: Vec<_> = listed.iter().filter_map(|job| cronjob_org::listed(job, now)).collect();
    let mut folders = BTreeMap::new();
    if listed.iter().any(|job| job.folder != 0) {
        folders = self::folders(&mut source, &mut found).await?;
    }

    let mut end: Option<&str> = None;
    for (index, job) in listed.into_iter().enumerate() {
        let reason = job.refused.or_else(|| end.map(str::to_owned));
        let reason = reason.or_else(|| (index >= limits::IMPORT_JOBS_MAX).then(|| TOO_MANY.to_owned()));
        let reason = reason.or_else(|| source.is_out_of_time().then(|| OUT_OF_TIME.to_owned()));
        if let Some(reason) = reason {
            found.skip(job.name, reason);
            continue;
        }
        let folder = folders.get(&job.folder).map(String::as_str);
        match source.get(&format!("/jobs/{}", job.id), "").await {
            Ok(answer) => {
                let details = answer.get("jobDetails");
                let details = details.ok_or_else(|| source.failed("gave an answer that makes no sense"))?;
                match cronjob_org::convert(details, folder, now) {
                    Ok(foreign) => found.jobs.push(Ok(foreign)),
                    Err(reason) => found.skip(job.name, reason),
                }
            }
            Err(Unread::Gone) => found.skip(job.name, "it was deleted meanwhile"),
            Err(Unread::Quota) => {
                let reason = "cron-job.org daily API quota reached";
                end = Some(reason);
                found.skip(job.name, reason);
            }
            Err(unread) => return Err(nothing(&source, unread)),
        }
    }
    Ok(found)
}

/// What folders are called, by number. They only become tags, so that jobs are imported without them as well.
async fn folders(source: &mut Source<'_>, found: &mut Found) -> Result<BTreeMap<i64, String>, ApiError> {
    match source.get("/folders", "").await {
        Ok(answer) => {
            let folders = answer.get("folders").and_then(Value::as_array);
            let folder = |folder: &Value| {
                let title: String =
                    folder.get("title")?.as_str()?.trim().chars().take(limits::TAG_CHARS_MAX).collect();
                Some((folder.get("folderId")?.as_i64()?, title)).filter(|(_, title)| !title.is_empty())
            };
            Ok(folders.into_iter().flatten().filter_map(folder).collect())
        }
        Err(unread @ Unread::Key(_)) => Err(nothing(source, unread)),
        Err(Unread::Quota | Unread::Gone | Unread::Failed(_)) => {
            found
                .remarks
                .push("the folders of cron-job.org could not be read and did not become tags".to_owned());
            Ok(BTreeMap::new())
        }
    }
}

fn headers(name: HeaderName, value: &str) -> Result<HeaderMap, ApiError> {
    let value = credential(value).ok_or_else(|| fields::senseless("api_key", "is not an API key"))?;
    let mut headers = HeaderMap::new();
    headers.insert(name, value);
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    Ok(headers)
}

/// As the answer to the whole import.
fn nothing(source: &Source<'_>, unread: Unread) -> ApiError {
    match unread {
        Unread::Key(fault) => fields::senseless("api_key", fault),
        Unread::Quota => source.failed("takes no more requests with this key for now"),
        Unread::Gone => source.failed("answered with status 404"),
        Unread::Failed(error) => error,
    }
}
