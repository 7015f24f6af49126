//! The REST contract, seen from outside: the few calls the runs need, typed.

mod changes; // of jobs
mod view; // of the cluster

pub use changes::Fate;
pub(crate) use changes::NOTHING_CHANGED;
pub use view::{ClusterView, MemberView};

use crate::{
    Error,
    client::{Answer, CallError, Client},
    history::{Configuration, Delivery, Event, Execution, JobCreated, JobId, JobRead, Listed, Posted},
    time::{now_us, parse_rfc3339},
};
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use std::{collections::HashSet, net::SocketAddr, sync::Arc};

/// The largest page the API gives.
const PER_PAGE: usize = 100;

/// One node's API with one account's key. Cheap to clone; clones share the connections.
#[derive(Clone, Debug)]
pub struct Api {
    client: Client,
    base_url: Arc<str>,
    key: Arc<str>,
}

/// A job to create. Fields that are not here keep the API's defaults.
#[derive(Clone, Debug)]
pub struct NewJob {
    /// Its name.
    pub name: String,
    /// Its cron expression.
    pub expression: String,
    /// The IANA time zone that it is meant in.
    pub timezone: String,
    /// What it calls.
    pub url: String,
    /// Timeout in seconds, 1 to 300.
    pub timeout_sec: u32,
    /// What happens to a request whose node dies.
    pub delivery: Delivery,
    /// Retries, 0 to 10, one second apart.
    pub retry_max: u32,
    /// The channels that hear of it.
    pub channels: Vec<String>,
}

impl NewJob {
    /// A GET in UTC with a short timeout and no retries, sent at least once, of which nobody hears.
    pub fn new(name: impl Into<String>, expression: impl Into<String>, url: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            expression: expression.into(),
            timezone: "UTC".to_owned(),
            url: url.into(),
            timeout_sec: 5,
            delivery: Delivery::AtLeastOnce,
            retry_max: 0,
            channels: Vec::new(),
        }
    }

    /// What the history has to know of it, once it was acknowledged.
    #[must_use]
    pub fn created(&self, job: JobId, asked_us: i64, acknowledged_us: i64) -> JobCreated {
        JobCreated {
            job,
            configuration: Configuration {
                expression: self.expression.clone(),
                timezone: self.timezone.clone(),
                path: changes::path_of(&self.url),
                timeout_sec: self.timeout_sec,
            },
            delivery: self.delivery,
            retry_max: self.retry_max,
            channels: self.channels.clone(),
            asked_us,
            acknowledged_us,
        }
    }

    fn body(&self) -> Value {
        json!({
            "name": self.name,
            "cron_expression": self.expression,
            "timezone": self.timezone,
            "url": self.url,
            "timeout_sec": self.timeout_sec,
            "delivery": self.delivery,
            "retry_policy": if self.retry_max == 0 { "none" } else { "fixed" },
            "retry_max": self.retry_max,
            "retry_delay_sec": 1,
            "alert_channel_ids": self.channels,
        })
    }
}

/// What came of a POST that names itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It took effect, now or before.
    Answered(Posted),
    /// It never reached a node.
    NotSent,
    /// There was no answer, or a 5xx: it may have taken effect.
    Unknown,
}

impl Api {
    /// The API at `base_url`, without a trailing slash.
    pub fn new(client: Client, base_url: impl Into<Arc<str>>, key: impl Into<Arc<str>>) -> Self {
        Self { client, base_url: base_url.into(), key: key.into() }
    }

    /// The same API, asked over another client's connections.
    #[must_use]
    pub fn with_client(&self, client: Client) -> Self {
        Self { client, ..self.clone() }
    }

    /// The same API, asked by another account.
    #[must_use]
    pub fn with_key(&self, key: impl Into<Arc<str>>) -> Self {
        Self { key: key.into(), ..self.clone() }
    }

    /// The key that requests bear.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }

    /// Where the node listens.
    ///
    /// # Errors
    /// [`Error::Input`] if the API is named otherwise than by an address.
    pub fn address(&self) -> Result<SocketAddr, Error> {
        let address = self.base_url.strip_prefix("http://").and_then(|address| address.parse().ok());
        address.ok_or_else(|| Error::Input(format!("{} is no address", self.base_url)))
    }

    /// Any request, whatever the answer.
    ///
    /// # Errors
    /// [`CallError`] if there is no answer.
    pub async fn send(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, CallError> {
        let body = body.map(|body| Bytes::from(body.to_string()));
        self.client.send(method, &format!("{}{path}", self.base_url), Some(&self.key), body).await
    }

    /// As [`Api::send`], with any key and any bytes.
    ///
    /// # Errors
    /// [`CallError`] if there is no answer.
    pub async fn send_as(
        &self,
        key: &str,
        method: Method,
        path: &str,
        body: Option<Bytes>,
    ) -> Result<Answer, CallError> {
        self.client.send(method, &format!("{}{path}", self.base_url), Some(key), body).await
    }

    /// Whether the node serves reads and writes (`/readyz`), or why not.
    pub async fn ready(&self) -> Result<(), String> {
        match self.send(Method::GET, "/readyz", None).await {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(format!("{} {}", answer.status, answer.excerpt())),
            Err(error) => Err(error.to_string()),
        }
    }

    /// What the node says of the cluster.
    ///
    /// # Errors
    /// No answer, another than 200, or one of another shape.
    pub async fn cluster(&self) -> Result<ClusterView, Error> {
        let path = "/v1/cluster";
        let answer = self.expect(Method::GET, path, None).await?;
        serde_json::from_value(answer.json()["data"].take())
            .map_err(|_| self.contract(path, "the members of a cluster view", &answer))
    }

    /// Creates a job.
    ///
    /// # Errors
    /// No answer, another than 2xx, or one without an id.
    pub async fn create(&self, job: &NewJob) -> Result<JobCreated, Error> {
        let asked_us = now_us();
        let answer = self.expect(Method::POST, "/v1/jobs", Some(&job.body())).await?;
        let acknowledged_us = now_us();
        let id = self.made("/v1/jobs", &answer)?;
        Ok(job.created(id, asked_us, acknowledged_us))
    }

    /// The id of what a POST has made.
    fn made(&self, path: &str, answer: &Answer) -> Result<String, Error> {
        answer.json()["data"]["id"].as_str().map(str::to_owned).ok_or_else(|| Error::Contract {
            request: format!("POST {}{path}", self.base_url),
            missing: "data.id",
            body: answer.excerpt(),
        })
    }

    /// Creates a job by a POST that names itself with the job's name, so that it may be repeated.
    ///
    /// # Errors
    /// A 4xx, which a repetition must not meet with; a success without an id.
    pub async fn create_once(&self, job: &NewJob) -> Result<Asked, Error> {
        let asked_us = now_us();
        let url = format!("{}/v1/jobs", self.base_url);
        let body = Bytes::from(job.body().to_string());
        let answer = match self.client.post_once(&job.name, &url, Some(&self.key), Some(body)).await {
            Ok(answer) if answer.is_success() => answer,
            Ok(answer) if answer.status < 500 => {
                let (request, status) = (format!("POST {url} as {}", job.name), answer.status);
                return Err(Error::Answered { request, status, body: answer.excerpt() });
            }
            Err(CallError::NotSent { .. }) => return Ok(Asked::NotSent),
            Ok(_) | Err(CallError::Unknown { .. }) => return Ok(Asked::Unknown),
        };
        let answered_us = now_us();
        let Some(id) = answer.json()["data"]["id"].as_str().map(str::to_owned) else {
            let request = format!("POST {url} as {}", job.name);
            return Err(Error::Contract { request, missing: "data.id", body: answer.excerpt() });
        };
        let answer = format!("{} {}", answer.status, String::from_utf8_lossy(&answer.body));
        Ok(Asked::Answered(Posted { key: job.name.clone(), job: id, answer, asked_us, answered_us }))
    }

    /// All jobs, while nobody makes or deletes one.
    ///
    /// # Errors
    /// No answer, or another than 200.
    pub async fn jobs(&self) -> Result<Vec<Listed>, Error> {
        let listed = |row: &Value| {
            let text = |field: &'static str| row[field].as_str().map(str::to_owned).ok_or(field);
            Ok(Listed { job: text("id")?, name: text("name")? })
        };
        self.each_job(listed).await
    }

    /// What `read` makes of each job, page by page. Its error names the documented field that is missing.
    async fn each_job<T>(&self, read: impl Fn(&Value) -> Result<T, &'static str>) -> Result<Vec<T>, Error> {
        let mut jobs = Vec::new();
        for page in 1.. {
            let path = format!("/v1/jobs?page={page}&per_page={PER_PAGE}");
            let answer = self.expect(Method::GET, &path, None).await?;
            let contract = |missing| self.contract(&path, missing, &answer);
            let json = answer.json();
            let rows = json["data"].as_array().ok_or_else(|| contract("data"))?;
            for row in rows {
                jobs.push(read(row).map_err(contract)?);
            }
            if rows.len() < PER_PAGE {
                break;
            }
        }
        Ok(jobs)
    }

    /// How many jobs there are.
    ///
    /// # Errors
    /// No answer, or another than 200.
    pub async fn job_count(&self) -> Result<usize, Error> {
        let path = "/v1/jobs?per_page=1";
        let answer = self.expect(Method::GET, path, None).await?;
        let total = answer.json()["meta"]["total"].as_u64().and_then(|total| usize::try_from(total).ok());
        total.ok_or_else(|| self.contract(path, "meta.total", &answer))
    }

    /// The newest execution of a job.
    ///
    /// # Errors
    /// No answer, or another than 200.
    pub async fn newest_execution(&self, job: &str) -> Result<Option<Execution>, Error> {
        Ok(self.executions_page(job, 1, 1).await?.into_iter().next())
    }

    /// Every execution of a job, newest first, behind the event that says when they were asked for. New
    /// ones may push others from one page to the next, which then appear twice and are kept once.
    ///
    /// # Errors
    /// No answer, or another than 200.
    pub async fn executions(&self, job: &str) -> Result<Vec<Event>, Error> {
        let mut events = vec![Event::JobRead(JobRead { job: job.to_owned(), asked_us: now_us() })];
        let mut seen = HashSet::new();
        for page in 1.. {
            let executions = self.executions_page(job, page, PER_PAGE).await?;
            let last = executions.len() < PER_PAGE;
            let new = executions.into_iter().filter(|execution| seen.insert(execution.execution.clone()));
            events.extend(new.map(Event::Execution));
            if last {
                break;
            }
        }
        Ok(events)
    }

    async fn executions_page(
        &self,
        job: &str,
        page: usize,
        per_page: usize,
    ) -> Result<Vec<Execution>, Error> {
        let path = format!("/v1/jobs/{job}/executions?page={page}&per_page={per_page}");
        let answer = self.expect(Method::GET, &path, None).await?;
        let contract = |missing| self.contract(&path, missing, &answer);
        let json = answer.json();
        let rows = json["data"].as_array().ok_or_else(|| contract("data"))?;
        rows.iter().map(|row| execution(job, row).map_err(contract)).collect()
    }

    /// What a GET was answered with lacks something.
    fn contract(&self, path: &str, missing: &'static str, answer: &Answer) -> Error {
        Error::Contract { request: format!("GET {}{path}", self.base_url), missing, body: answer.excerpt() }
    }

    async fn expect(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Answer, Error> {
        let request = format!("{method} {}{path}", self.base_url);
        let answer = self.send(method, path, body).await?;
        if answer.is_success() {
            return Ok(answer);
        }
        Err(Error::Answered { request, status: answer.status, body: answer.excerpt() })
    }
}

/// The error names the documented field that is missing; those of the extensions may be.
fn execution(job: &str, row: &Value) -> Result<Execution, &'static str> {
    let text = |field: &'static str| row[field].as_str().map(str::to_owned);
    Ok(Execution {
        execution: text("id").ok_or("id")?,
        job: text("job_id").filter(|id| id == job).ok_or("job_id")?,
        status: text("status").ok_or("status")?,
        triggered_by: text("triggered_by").ok_or("triggered_by")?,
        scheduled_s: text("scheduled_at").as_deref().and_then(parse_rfc3339),
        attempt: row["attempt"].as_u64().and_then(|attempt| u32::try_from(attempt).ok()),
        node: row["node_id"].as_u64(),
        error_kind: text("error_kind"),
        error: text("error"),
        missed_until_s: row["missed"]["until"].as_str().and_then(parse_rfc3339),
        finished_s: text("finished_at").as_deref().and_then(parse_rfc3339),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_execution_as_documented_and_extended() {
        let documented = json!({
            "id": "exec_8nK2pWxR4m", "job_id": "job_7kR3mNxQ2v", "status": "success", "status_code": 200,
            "duration_ms": 342, "triggered_by": "schedule", "response_body": null,
            "executed_at": "2026-04-10T03:00:01Z",
        });
        let read = execution("job_7kR3mNxQ2v", &documented).unwrap();
        assert_eq!((read.execution.as_str(), read.scheduled_s, read.node), ("exec_8nK2pWxR4m", None, None));
        assert_eq!(execution("job_other", &documented), Err("job_id"));

        let mut extended = documented;
        extended["scheduled_at"] = json!("2026-04-11T03:00:00Z");
        extended["finished_at"] = json!("2026-04-11T03:00:03Z");
        extended["node_id"] = json!(3);
        extended["attempt"] = json!(2);
        extended["missed"] = json!({"count": 3, "until": "2026-04-11T03:00:02Z", "exact": true});
        let read = execution("job_7kR3mNxQ2v", &extended).unwrap();
        assert_eq!((read.scheduled_s, read.node, read.attempt), (Some(1_775_876_400), Some(3), Some(2)));
        assert_eq!(read.finished_s, Some(1_775_876_403));
        assert_eq!(read.missed_until_s, Some(1_775_876_402));
    }
}
