//! cron-job.org's API: errors without a body, a daily quota, and five requests a second.

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

pub(crate) const KEY: &str = "your_cronjob_org_api_key";
/// A key that may be used from other addresses only.
pub(crate) const FOREIGN_KEY: &str = "somebody_elses_key";

#[derive(Clone, Default)]
pub(crate) struct CronjobOrg(Arc<Mutex<Account>>);

#[derive(Default)]
struct Account {
    jobs: Vec<Value>,
    some_failed: bool,
    quota: Option<usize>,
    recent: VecDeque<Instant>,
}

impl CronjobOrg {
    pub(crate) fn router(&self) -> Router {
        Router::new()
            .route("/jobs", get(list))
            .route("/jobs/{id}", get(details))
            .route("/folders", get(folders))
            .with_state(self.clone())
    }

    /// Adds a job with these fields, and the rest as usual.
    pub(crate) fn add(&self, fields: &Value) {
        let mut account = self.0.lock().unwrap();
        let id = account.jobs.len() + 1_000;
        let mut job = json!({
            "jobId": id, "enabled": true, "title": format!("Job {id}"), "saveResponses": false,
            "url": "https://api.example.com/run", "lastStatus": 1, "lastDuration": 80, "lastExecution": 1_775_000_000,
            "nextExecution": 1_775_900_000, "type": 0, "requestTimeout": 30, "redirectSuccess": false,
            "folderId": 0, "requestMethod": 0,
            "schedule": {
                "timezone": "Europe/Berlin", "expiresAt": 0, "hours": [3], "mdays": [-1], "minutes": [0],
                "months": [-1], "wdays": [-1],
            },
            "auth": {"enable": false, "user": "", "password": ""},
            "notification": {"onFailure": false, "onFailureCount": 1, "onSuccess": false, "onDisable": true},
            "extendedData": {"headers": [], "body": ""},
        });
        for (name, value) in fields.as_object().unwrap() {
            job[name] = value.clone();
        }
        account.jobs.push(job);
    }

    /// Lets that many requests pass.
    pub(crate) fn set_quota(&self, quota: usize) {
        self.0.lock().unwrap().quota = Some(quota);
    }

    pub(crate) fn set_some_failed(&self) {
        self.0.lock().unwrap().some_failed = true;
    }

    fn admit(&self, headers: &HeaderMap) -> Result<(), StatusCode> {
        let presented = headers.get("authorization").map_or("", |value| value.to_str().unwrap());
        if presented == format!("Bearer {FOREIGN_KEY}") {
            return Err(StatusCode::FORBIDDEN);
        }
        if presented != format!("Bearer {KEY}") {
            return Err(StatusCode::UNAUTHORIZED);
        }
        let mut account = self.0.lock().unwrap();
        if let Some(quota) = &mut account.quota {
            *quota = quota.checked_sub(1).ok_or(StatusCode::TOO_MANY_REQUESTS)?;
        }
        let now = Instant::now();
        account.recent.retain(|at| now - *at < Duration::from_secs(1));
        account.recent.push_back(now);
        if account.recent.len() > 5 { Err(StatusCode::TOO_MANY_REQUESTS) } else { Ok(()) }
    }
}

async fn list(State(service): State<CronjobOrg>, headers: HeaderMap) -> Response {
    if let Err(status) = service.admit(&headers) {
        return status.into_response();
    }
    let account = service.0.lock().unwrap();
    let mut jobs = account.jobs.clone();
    for job in &mut jobs {
        let job = job.as_object_mut().unwrap();
        job.retain(|name, _| !["auth", "notification", "extendedData"].contains(&name.as_str()));
    }
    axum::Json(json!({"jobs": jobs, "someFailed": account.some_failed})).into_response()
}

async fn details(State(service): State<CronjobOrg>, Path(id): Path<u64>, headers: HeaderMap) -> Response {
    if let Err(status) = service.admit(&headers) {
        return status.into_response();
    }
    let account = service.0.lock().unwrap();
    match account.jobs.iter().find(|job| job["jobId"] == id) {
        Some(job) => axum::Json(json!({"jobDetails": job})).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn folders(State(service): State<CronjobOrg>, headers: HeaderMap) -> Response {
    match service.admit(&headers) {
        Ok(()) => axum::Json(json!({"folders": [{"folderId": 7, "title": "Backups"}]})).into_response(),
        Err(status) => status.into_response(),
    }
}
