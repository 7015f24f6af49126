use crate::service::{ACCOUNT, FOREIGN_ACCOUNT, FOREIGN_KEY, NODE, START, Service, request};
use domain::account::Plan;
use domain::id::JobId;
use domain::job::{Job, JobState};
use domain::time::Timestamp;
use futures::future::join_all;
use raft::command::{Claim, ClaimTarget, Command, CreateJob};
use serde_json::{Value, json};
use std::time::Duration;
use storage::Read;
use storage::schema::{JobStates, Jobs};

async fn stored(service: &Service, id: JobId) -> (Job, JobState) {
    let view = service.cluster().await.state().view();
    (view.get::<Jobs>(&id).unwrap().unwrap(), view.get::<JobStates>(&id).unwrap().unwrap())
}

fn id_of(job: &Value) -> JobId {
    job["id"].as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_least_that_makes_a_job_gets_every_documented_default() {
    let service = Service::start().await;
    let body =
        json!({"name": "Health Check", "cron_expression": "*/5 * * * *", "url": "https://a.example/h"});
    let mut job = service.call("POST", "/v1/jobs", body).await.data(201);
    let id = job.as_object_mut().unwrap().remove("id").unwrap();
    assert!(id.as_str().unwrap().starts_with("job_"));
    let expected = json!({
        "name": "Health Check",
        "cron_expression": "*/5 * * * *",
        "url": "https://a.example/h",
        "method": "GET",
        "timezone": "UTC",
        "status": "active",
        "timeout_sec": 30,
        "retry_policy": "none",
        "retry_max": 0,
        "retry_delay_sec": 60,
        "tags": [],
        "space_id": null,
        "headers": {},
        "body": null,
        "store_response_body": false,
        "next_run_at": "2026-04-10T14:25:00Z",
        "last_run_at": null,
        "last_status": null,
        "last_duration_ms": null,
        "last_status_code": null,
        "created_at": "2026-04-10T14:22:00Z",
        "updated_at": "2026-04-10T14:22:00Z",
        "alert_channel_ids": null,
        "overlap_policy": "allow",
        "misfire_policy": "run_once",
        "delivery": "at_least_once",
    });
    assert_eq!(job, expected);
}

#[tokio::test]
async fn every_field_is_kept_and_what_was_read_can_be_sent_again() {
    let service = Service::start().await;
    let space = service.add_space(1, ACCOUNT, "America/New_York").await;
    let body = json!({
        "name": "Nightly Report Generator",
        "cron_expression": "0 2 * * *",
        "url": "https://api.example.com/reports/generate?run={{execution_id}}",
        "method": "POST",
        "timezone": "Europe/Stockholm",
        "timeout_sec": 120,
        "retry_policy": "exponential",
        "retry_max": 3,
        "retry_delay_sec": 30,
        "tags": ["reports", "nightly"],
        "space_id": space,
        "headers": {"X-API-Key": "your-service-key", "X-Correlation-ID": "jr-{{execution_id}}"},
        "body": "{\"format\": \"pdf\"}\u{0}",
        "store_response_body": true,
        "alert_channel_ids": [],
        "overlap_policy": "skip",
        "misfire_policy": "skip",
        "delivery": "at_most_once",
    });
    let created = service.call("POST", "/v1/jobs", body.clone()).await;
    let job = created.data(201);
    for (field, value) in body.as_object().unwrap() {
        assert_eq!(&job[field], value, "{field}");
    }
    assert_eq!(job["next_run_at"], "2026-04-11T00:00:00Z");

    let read = service.get(&format!("/v1/jobs/{}", id_of(&job))).await;
    assert_eq!(read.data(200), job);
    let place = |name: &str| read.text.find(name).unwrap();
    assert!(place("X-API-Key") < place("X-Correlation-ID"), "headers keep their order");

    let mut again = service.call("POST", "/v1/jobs", job.clone()).await.data(201);
    assert_ne!(again["id"], job["id"]);
    again["id"] = job["id"].clone();
    assert_eq!(again, job);
}

#[tokio::test]
async fn the_zone_is_the_jobs_or_the_spaces_or_utc() {
    let service = Service::start().await;
    let space = service.add_space(1, ACCOUNT, "Asia/Tokyo").await;
    let body = |extra: Value| {
        let mut body = json!({"name": "a", "cron_expression": "0 3 * * *", "url": "https://a.example"});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    for (extra, zone, next) in [
        (json!({}), "UTC", "2026-04-11T03:00:00Z"),
        (json!({"space_id": space}), "Asia/Tokyo", "2026-04-10T18:00:00Z"),
        (json!({"space_id": space, "timezone": "UTC"}), "UTC", "2026-04-11T03:00:00Z"),
    ] {
        let job = service.call("POST", "/v1/jobs", body(extra)).await.data(201);
        assert_eq!((&job["timezone"], &job["next_run_at"]), (&json!(zone), &json!(next)));
    }
}

#[tokio::test]
async fn spaces_of_others_do_not_exist() {
    let service = Service::start().await;
    service.add_foreign_account().await;
    let foreign = service.add_space(2, FOREIGN_ACCOUNT, "UTC").await;
    let id = service.make_job().await;
    for space in [foreign.as_str(), "sp_00000000009", "sp_xyz789", ""] {
        let answer = service.call("PATCH", &format!("/v1/jobs/{id}"), json!({"space_id": space})).await;
        assert_eq!(answer.faults(422), ["space_id"]);
        // Together with what is wrong otherwise.
        let answer = service.call("POST", "/v1/jobs", json!({"space_id": space, "timeout_sec": 0})).await;
        let mut faults = answer.faults(400);
        faults.sort();
        assert_eq!(faults.len(), 5, "{faults:?}");
        assert!(faults.contains(&"space_id".to_owned()) && faults.contains(&"timeout_sec".to_owned()));
    }
}

#[tokio::test]
async fn a_change_touches_only_what_is_given() {
    let service = Service::start().await;
    let id = service.make_job().await;
    let path = format!("/v1/jobs/{id}");
    let before = service.get(&path).await.data(200);
    service.clock.advance(Duration::from_secs(60));

    for nothing in [json!({}), json!({"name": "Health Check"}), json!({"status": "paused", "id": "job_x"})] {
        assert_eq!(service.call("PATCH", &path, nothing).await.data(200), before);
    }
    assert_eq!(stored(&service, id).await.1.generation, 1, "nothing was proposed");

    let changes = json!({"timeout_sec": 60, "tags": ["a", "b", "a"], "body": "x", "headers": {"X-A": "1"}});
    let after = service.call("PATCH", &path, changes).await.data(200);
    let mut expected = before.clone();
    expected["timeout_sec"] = json!(60);
    expected["tags"] = json!(["a", "b"]);
    expected["body"] = json!("x");
    expected["headers"] = json!({"X-A": "1"});
    expected["updated_at"] = json!("2026-04-10T14:23:00Z");
    assert_eq!(after, expected);

    let cleared =
        service.call("PATCH", &path, json!({"tags": [], "body": null, "headers": {}})).await.data(200);
    assert_eq!(
        (&cleared["tags"], &cleared["body"], &cleared["headers"]),
        (&json!([]), &Value::Null, &json!({}))
    );
}

#[tokio::test]
async fn a_new_schedule_starts_after_everything_claimed() {
    let service = Service::start().await;
    let id = service.make_job().await;
    let path = format!("/v1/jobs/{id}");
    let due = Timestamp::from_secs(START.as_secs() + 180);
    // Claimed two seconds ahead of its instant, 14:25:00.
    service.clock.advance(Duration::from_secs(178));
    let target = ClaimTarget::Firing {
        job: id,
        generation: 1,
        scheduled_at: due,
        next_run_at: Some(due.plus(Duration::from_secs(300))),
    };
    let claim = Claim { node: NODE, incarnation: service.incarnation, target };
    service.cluster().await.propose(Command::Claim(claim)).await.unwrap();

    // What is claimed still fits, and so comes first; the cursor stands behind it.
    for change in [json!({"cron_expression": "* * * * *"}), json!({"timezone": "Asia/Kathmandu"})] {
        let job = service.call("PATCH", &path, change).await.data(200);
        assert_eq!(job["next_run_at"], "2026-04-10T14:25:00Z");
        assert_eq!(stored(&service, id).await.1.next_run_at, Some(due.plus(Duration::from_secs(60))));
    }
    let job = service.call("PATCH", &path, json!({"cron_expression": "0 3 * * *"})).await.data(200);
    assert_eq!(job["next_run_at"], "2026-04-10T21:15:00Z");
}

#[tokio::test]
async fn jobs_move_between_spaces() {
    let service = Service::start().await;
    let space = service.add_space(1, ACCOUNT, "Asia/Tokyo").await;
    let path = format!("/v1/jobs/{}", service.make_job().await);
    let job = service.call("PATCH", &path, json!({"space_id": space})).await.data(200);
    assert_eq!((&job["space_id"], &job["timezone"]), (&json!(space), &json!("UTC")));
    let job = service.call("PATCH", &path, json!({"space_id": null})).await.data(200);
    assert_eq!(job["space_id"], Value::Null);
}

#[tokio::test]
async fn pause_and_resume_answer_as_documented_and_once() {
    let service = Service::start().await;
    let id = service.make_job().await;
    let path = format!("/v1/jobs/{id}");
    service.clock.advance(Duration::from_secs(60));

    let paused = service.post(&format!("{path}/pause")).await.data(200);
    let at = "2026-04-10T14:23:00Z";
    assert_eq!(paused, json!({"id": id.to_string(), "status": "paused", "paused_at": at}));
    let again = service.post(&format!("{path}/pause")).await;
    assert_eq!(
        (again.code(409).as_str(), again.message().as_str()),
        ("conflict", "the job is already paused")
    );
    let job = service.get(&path).await.data(200);
    assert_eq!(
        (&job["status"], &job["next_run_at"], &job["paused_at"], &job["updated_at"]),
        (&json!("paused"), &Value::Null, &json!(at), &json!(at))
    );
    let job = service.call("PATCH", &path, json!({"cron_expression": "0 * * * *"})).await.data(200);
    assert_eq!(job["next_run_at"], Value::Null, "still paused");

    service.clock.advance(Duration::from_secs(60));
    let resumed = service.post(&format!("{path}/resume")).await.data(200);
    let expected = json!({
        "id": id.to_string(),
        "status": "active",
        "next_run_at": "2026-04-10T15:00:00Z",
        "resumed_at": "2026-04-10T14:24:00Z",
    });
    assert_eq!(resumed, expected);
    let again = service.post(&format!("{path}/resume")).await;
    assert_eq!(
        (again.code(409).as_str(), again.message().as_str()),
        ("conflict", "the job is already active")
    );
    let job = service.get(&path).await.data(200);
    assert!(job.get("paused_at").is_none());
    assert_eq!(job["updated_at"], "2026-04-10T14:24:00Z");
}

#[tokio::test]
async fn a_run_is_pending_at_once_even_while_paused() {
    let service = Service::start().await;
    let id = service.make_job().await;
    service.post(&format!("/v1/jobs/{id}/pause")).await.data(200);
    let mut run = service.post(&format!("/v1/jobs/{id}/run")).await.data(200);
    let execution = run.as_object_mut().unwrap().remove("execution_id").unwrap();
    let expected = json!({
        "job_id": id.to_string(),
        "status": "pending",
        "triggered_by": "manual",
        "started_at": "2026-04-10T14:22:00Z",
    });
    assert_eq!(run, expected);
    let execution = execution.as_str().unwrap();
    let shown = service.get(&format!("/v1/executions/{execution}")).await.data(200);
    assert_eq!((&shown["status"], &shown["triggered_by"]), (&json!("pending"), &json!("manual")));
    assert_eq!(service.get(&format!("/v1/jobs/{id}")).await.data(200)["next_run_at"], Value::Null);
}

#[tokio::test]
async fn a_deleted_job_is_gone_with_its_history() {
    let service = Service::start().await;
    let id = service.make_job().await;
    let run = service.post(&format!("/v1/jobs/{id}/run")).await.data(200);
    let deleted = service.send(request(crate::service::KEY, "DELETE", &format!("/v1/jobs/{id}"), "")).await;
    assert_eq!((deleted.status.as_u16(), deleted.text.as_str()), (204, ""));

    let execution = run["execution_id"].as_str().unwrap();
    for path in
        [format!("/v1/jobs/{id}"), format!("/v1/jobs/{id}/executions"), format!("/v1/executions/{execution}")]
    {
        assert_eq!(service.get(&path).await.code(404), "not_found");
    }
    assert_eq!(
        service.call("PATCH", &format!("/v1/jobs/{id}"), json!({"name": "b"})).await.code(404),
        "not_found"
    );
    for action in ["run", "pause", "resume"] {
        assert_eq!(service.post(&format!("/v1/jobs/{id}/{action}")).await.code(404), "not_found");
    }
    assert_eq!(service.get("/v1/jobs").await.json()["meta"]["total"], 0);
}

#[tokio::test]
async fn the_plan_limits_the_number_of_jobs() {
    let service = Service::start_on(Plan::Free).await;
    for _ in 0..10 {
        service.make_job().await;
    }
    let body = json!({"name": "a", "cron_expression": "* * * * *", "url": "https://a.example"});
    assert_eq!(service.call("POST", "/v1/jobs", body).await.code(403), "plan_limit_exceeded");
}

#[tokio::test]
async fn jobs_of_others_do_not_exist() {
    let service = Service::start().await;
    service.add_foreign_account().await;
    let id = service.make_job().await;
    for (method, path) in [
        ("GET", format!("/v1/jobs/{id}")),
        ("PATCH", format!("/v1/jobs/{id}")),
        ("DELETE", format!("/v1/jobs/{id}")),
        ("POST", format!("/v1/jobs/{id}/run")),
        ("POST", format!("/v1/jobs/{id}/pause")),
        ("POST", format!("/v1/jobs/{id}/resume")),
        ("GET", format!("/v1/jobs/{id}/executions")),
    ] {
        let answer = service.send(request(FOREIGN_KEY, method, &path, "{}")).await;
        assert_eq!(answer.code(404), "not_found", "{method} {path}");
    }
    let list = service.send(request(FOREIGN_KEY, "GET", "/v1/jobs", "")).await;
    assert_eq!(list.json(), json!({"data": [], "meta": {"page": 1, "per_page": 20, "total": 0}}));
    service.get(&format!("/v1/jobs/{id}")).await.data(200);
}

/// Makes `count` jobs, one a second, by copies of a first one. Newest first.
async fn make_jobs(service: &Service, count: u64) -> Vec<JobId> {
    let first = service.make_job().await;
    let (job, state) = stored(service, first).await;
    let cluster = service.cluster().await;
    let commands = (1..count).map(|n| {
        let mut job = job.clone();
        job.id = JobId(n);
        job.name = format!("Job {n}");
        job.created_at = START.plus(Duration::from_secs(n));
        job.tags = if n % 10 == 0 { vec!["tenth".to_owned()] } else { Vec::new() };
        let command = CreateJob { job, next_run_at: state.next_run_at, paused: n % 3 == 0, jobs_max: None };
        cluster.propose(Command::CreateJob(Box::new(command)))
    });
    for made in join_all(commands).await {
        made.unwrap();
    }
    (1..count).rev().map(JobId).chain([first]).collect()
}

#[tokio::test]
async fn lists_are_pages_newest_first() {
    let service = Service::start().await;
    // More than one look at the state, both for keys and for filters.
    let ids = make_jobs(&service, 1_050).await;
    let page = |query: &'static str| {
        let service = &service;
        async move {
            let answer = service.get(&format!("/v1/jobs?{query}")).await;
            let data = answer.data(200);
            let ids: Vec<JobId> = data.as_array().unwrap().iter().map(id_of).collect();
            (ids, answer.json()["meta"].clone())
        }
    };
    let meta =
        |page: u64, per_page: u64, total: usize| json!({"page": page, "per_page": per_page, "total": total});

    assert_eq!(page("").await, (ids[..20].to_vec(), meta(1, 20, 1_050)));
    assert_eq!(page("page=2&per_page=100").await, (ids[100..200].to_vec(), meta(2, 100, 1_050)));
    assert_eq!(page("page=13&per_page=80").await, (ids[960..1_040].to_vec(), meta(13, 80, 1_050)));
    assert_eq!(page("page=11&per_page=100").await, (ids[1_000..].to_vec(), meta(11, 100, 1_050)));
    assert_eq!(page("page=12&per_page=100").await, (vec![], meta(12, 100, 1_050)));
    assert_eq!(page("page=18446744073709551615").await, (vec![], meta(u64::MAX, 20, 1_050)));

    let of = |wanted: fn(u64) -> bool| {
        let mut numbers: Vec<_> = (1..1_050).filter(|n| wanted(*n)).map(JobId).collect();
        numbers.reverse();
        numbers
    };
    let paused = of(|n| n % 3 == 0);
    assert_eq!(
        page("status=paused&per_page=100").await,
        (paused[..100].to_vec(), meta(1, 100, paused.len()))
    );
    assert_eq!(page("status=active&page=17&per_page=10").await.1, meta(17, 10, 1_050 - paused.len()));
    let tenth = of(|n| n % 10 == 0);
    assert_eq!(page("tag=tenth&page=6").await, (tenth[100..].to_vec(), meta(6, 20, tenth.len())));
    assert_eq!(page("search=HEALTH").await, (vec![ids[1_049]], meta(1, 20, 1)));
    let both = of(|n| n % 30 == 0);
    assert_eq!(page("tag=tenth&status=paused&per_page=100").await, (both.clone(), meta(1, 100, both.len())));
    assert_eq!(page("space_id=sp_00000000001").await, (vec![], meta(1, 20, 0)));
}

#[tokio::test]
async fn lists_filter_by_space() {
    let service = Service::start().await;
    let space = service.add_space(1, ACCOUNT, "UTC").await;
    let id = service.make_job().await;
    service.make_job().await;
    service.call("PATCH", &format!("/v1/jobs/{id}"), json!({"space_id": space})).await.data(200);
    let list = service.get(&format!("/v1/jobs?space_id={space}")).await;
    assert_eq!(list.json()["meta"]["total"], 1);
    assert_eq!(id_of(&list.json()["data"][0]), id);
}

#[tokio::test]
async fn changes_at_the_same_time_all_take_effect() {
    let service = Service::start().await;
    let path = format!("/v1/jobs/{}", service.make_job().await);
    let changes = [
        json!({"name": "b"}),
        json!({"timeout_sec": 7}),
        json!({"retry_max": 2}),
        json!({"tags": ["a"]}),
        json!({"cron_expression": "0 3 * * *"}),
    ];
    let answers = join_all(changes.iter().map(|change| service.call("PATCH", &path, change.clone()))).await;
    for answer in answers {
        answer.data(200);
    }
    let job = service.get(&path).await.data(200);
    for change in &changes {
        for (field, value) in change.as_object().unwrap() {
            assert_eq!(&job[field], value, "{field}");
        }
    }
    assert_eq!(job["next_run_at"], "2026-04-11T03:00:00Z");
}
