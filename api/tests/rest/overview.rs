//! Sparklines and the export: what shows all jobs at once.

use crate::service::{ACCOUNT, FOREIGN_KEY, KEY, NODE, START, Service, request};
use domain::execution::MissedFirings;
use domain::id::JobId;
use domain::time::Clock;
use raft::command::{Claim, ClaimTarget, Command, CreateJob};
use serde_json::{Value, json};
use std::time::Duration;
use storage::Read;
use storage::schema::Jobs;

async fn sparklines(service: &Service) -> Value {
    service.get("/v1/jobs/sparklines").await.data(200)
}

async fn run_all(service: &Service, job: JobId, codes: &[u16]) {
    for code in codes {
        service.clock.advance(Duration::from_secs(1));
        service.run_to_end(job, *code).await;
    }
}

#[tokio::test]
async fn sparklines_show_each_job_as_documented() {
    let service = Service::start().await;
    assert_eq!(sparklines(&service).await, json!({}));
    let (busy, idle) = (service.make_job().await, service.make_job().await);
    run_all(&service, busy, &[200, 204, 500, 200]).await;
    service.post(&format!("/v1/jobs/{busy}/run")).await.data(200);
    let expected = json!({busy.to_string(): [1, 1, 0, 1], idle.to_string(): []});
    assert_eq!(sparklines(&service).await, expected, "what has not ended is not shown");

    // Skipped: instants that nobody claimed in time.
    let first = START.plus(Duration::from_secs(180));
    let until = START.plus(Duration::from_secs(780));
    service.clock.advance(Duration::from_secs(1_000));
    let target = ClaimTarget::Missed {
        job: busy,
        generation: 1,
        first,
        skipped: Some(MissedFirings { until, count: 3, exact: true }),
        run: None,
        run_due: service.clock.now(),
        next_run_at: Some(START.plus(Duration::from_secs(1_080))),
    };
    let claim = Claim { node: NODE, incarnation: service.incarnation, target };
    service.cluster().await.propose(Command::Claim(claim)).await.unwrap();
    assert_eq!(sparklines(&service).await[busy.to_string()], json!([1, 1, 0, 1, -1]));
    service.post(&format!("/v1/jobs/{busy}/pause")).await.data(200);
    service.post(&format!("/v1/jobs/{idle}/pause")).await.data(200);
    // The idle one was due, and nobody claimed that either, which the pause puts on record.
    let expected = json!({busy.to_string(): [1, 1, 0, 1, -1, -1], idle.to_string(): [-1, -1]});
    assert_eq!(sparklines(&service).await, expected);

    service.clock.advance(Duration::from_secs(24 * 3_600));
    let expected = json!({busy.to_string(): [-1], idle.to_string(): [-1]});
    assert_eq!(sparklines(&service).await, expected, "only the last 24 hours are shown");
}

#[tokio::test]
async fn sparklines_hold_the_newest_sixty_and_show_paused_spaces() {
    let service = Service::start().await;
    let job = service.make_job().await;
    run_all(&service, job, &[[500; 10], [200; 10]].concat()).await;
    run_all(&service, job, &[200; 45]).await;
    let line = sparklines(&service).await[job.to_string()].as_array().unwrap().clone();
    assert_eq!((line.len(), &line[4], &line[5]), (60, &json!(0), &json!(1)));

    let space = service.add_space(1, ACCOUNT, "UTC").await;
    service.call("PATCH", &format!("/v1/jobs/{job}"), json!({"space_id": space})).await.data(200);
    service.post(&format!("/v1/spaces/{space}/pause")).await.data(200);
    let line = sparklines(&service).await[job.to_string()].as_array().unwrap().clone();
    assert_eq!((line.len(), &line[59]), (60, &json!(-1)), "it does not fire");
}

#[tokio::test]
async fn sparklines_of_others_are_not_shown() {
    let service = Service::start().await;
    service.add_foreign_account().await;
    service.make_job().await;
    for path in ["/v1/jobs/sparklines", "/v1/jobs/export"] {
        let answer = service.send(request(FOREIGN_KEY, "GET", path, "")).await;
        assert!(!answer.text.contains("job_") && answer.status == 200, "{answer:?}");
        assert_eq!(service.send(request("jrun_sk_unknown", "GET", path, "")).await.code(401), "unauthorized");
    }
}

/// Makes `count` jobs by copies of a first one, oldest first.
async fn make_jobs(service: &Service, count: u64) {
    let first = service.make_job().await;
    let job = service.cluster().await.state().view().get::<Jobs>(&first).unwrap().unwrap();
    let commands: Vec<_> = (1..count)
        .map(|n| {
            let mut job = job.clone();
            job.id = JobId(n);
            job.name = format!("Job {n}");
            job.created_at = START.plus(Duration::from_secs(n));
            Command::CreateJob(Box::new(CreateJob { job, next_run_at: None, paused: false, jobs_max: None }))
        })
        .collect();
    for chunk in commands.chunks(250) {
        service.cluster().await.propose_all(chunk.to_vec(), Duration::from_secs(5)).await.unwrap();
    }
}

async fn export(service: &Service, query: &str) -> Vec<Value> {
    let answer = service.get(&format!("/v1/jobs/export{query}")).await;
    assert_eq!(answer.status, 200);
    let body = answer.json();
    assert_eq!(body.as_object().unwrap().len(), 1, "nothing but `jobs`, as an import takes it");
    body["jobs"].as_array().unwrap().clone()
}

#[tokio::test]
async fn an_export_holds_what_makes_the_same_jobs_again() {
    let service = Service::start().await;
    assert_eq!(export(&service, "").await, [Value::Null; 0]);
    let space = service.add_space(1, ACCOUNT, "UTC").await;
    let body = json!({
        "name": "Nightly Report Generator",
        "cron_expression": "0 2 * * *",
        "url": "https://api.example.com/reports/generate",
        "method": "POST",
        "timezone": "Europe/Stockholm",
        "timeout_sec": 120,
        "retry_policy": "exponential",
        "retry_max": 3,
        "retry_delay_sec": 30,
        "tags": ["reports", "nightly"],
        "space_id": space,
        "headers": {"X-API-Key": "your-service-key"},
        "body": "{\"format\": \"pdf\"}",
        "store_response_body": true,
        "alert_channel_ids": null,
        "overlap_policy": "skip",
        "misfire_policy": "skip",
        "delivery": "at_most_once",
    });
    service.call("POST", "/v1/jobs", body.clone()).await.data(201);
    let exported = export(&service, "").await;
    let mut expected = body;
    expected["status"] = json!("active");
    assert_eq!(exported, [expected]);
    service.call("POST", "/v1/jobs", exported[0].clone()).await.data(201);
    let both = export(&service, "").await;
    assert_eq!(both[0], both[1]);
}

#[tokio::test]
async fn an_export_is_whole_or_in_pages_that_an_import_takes() {
    let service = Service::start().await;
    make_jobs(&service, 1_100).await;
    let all = export(&service, "").await;
    assert_eq!((all.len(), &all[0]["name"]), (1_100, &json!("Job 1099")));
    assert_eq!(export(&service, "?page=1").await, all[..1_000]);
    assert_eq!(export(&service, "?page=2").await, all[1_000..]);
    assert_eq!(export(&service, "?page=3").await, [Value::Null; 0]);
    assert_eq!(export(&service, "?per_page=16&page=2").await, all[16..32]);
    assert_eq!(export(&service, "?per_page=17&page=3").await, all[34..51]);
    assert_eq!(service.get("/v1/jobs/export?per_page=1001&page=0").await.faults(422), ["page", "per_page"]);
    let lines = sparklines(&service).await;
    assert_eq!(lines.as_object().unwrap().len(), 1_100);
    assert_eq!(
        service.send(request(KEY, "POST", "/v1/jobs/export", "{}")).await.code(405),
        "method_not_allowed"
    );
}
