//! EasyCron's API v1: one paged list.

use axum::Router;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

pub(crate) const KEY: &str = "ec_your_easycron_api_key";

#[derive(Clone, Default)]
pub(crate) struct EasyCron(Arc<Mutex<Vec<Value>>>);

impl EasyCron {
    pub(crate) fn router(&self) -> Router {
        Router::new().route("/v1/cron-jobs", get(list)).with_state(self.clone())
    }

    /// Adds a job with these fields, and the rest as usual.
    pub(crate) fn add(&self, fields: &Value) {
        let mut jobs = self.0.lock().unwrap();
        let mut job = json!({
            "cron_job_id": jobs.len() + 1, "cron_job_name": format!("Cron #{}", jobs.len() + 1), "description": "",
            "url": "https://api.example.com/run", "http_auth_user": "", "http_auth_pw": "",
            "cron_expression": "*/20 * * * *", "timezone": "", "http_method": "GET", "http_headers": "",
            "http_message_body": "", "timeout": 0, "success_criterion": 1, "success_regexp": "",
            "failure_regexp": "", "send_email": 0, "email_threshold": 0, "status": 1, "epds_occupied": 72,
            "group_id": 0, "total_successes": 9, "total_failures": 0, "current_failures": 0,
        });
        for (name, value) in fields.as_object().unwrap() {
            job[name] = value.clone();
        }
        jobs.push(job);
    }
}

async fn list(
    State(EasyCron(jobs)): State<EasyCron>,
    Query(query): Query<BTreeMap<String, String>>,
    headers: HeaderMap,
) -> Response {
    if headers.get("x-api-key").is_none_or(|key| key != KEY) {
        let body = json!({"message": "Invalid API key."});
        return (StatusCode::UNAUTHORIZED, axum::Json(body)).into_response();
    }
    let number = |name: &str, default| query.get(name).map_or(default, |text| text.parse().unwrap());
    let (page, size): (usize, usize) = (number("page", 1), number("page_size", 10));
    if !(1..=500).contains(&size) {
        let body = json!({"message": "page_size is out of range."});
        return (StatusCode::BAD_REQUEST, axum::Json(body)).into_response();
    }
    let jobs = jobs.lock().unwrap();
    let found: Vec<_> = jobs.iter().skip((page - 1) * size).take(size).collect();
    let meta =
        json!({"page": page, "page_size": size, "result_count": found.len(), "total_count": jobs.len()});
    axum::Json(json!({"cron_jobs": found, "meta": meta})).into_response()
}
