use crate::service::{ACCOUNT, FOREIGN_KEY, KEY, START, Service, request};
use domain::id::{JobId, SpaceId};
use domain::job::JobState;
use raft::command::{Command, CreateJob, CreateSpace, PauseSpace};
use serde_json::{Value, json};
use std::time::Duration;
use storage::Read;
use storage::schema::{JobStates, Jobs, UnalignedSpaces};

async fn make(service: &Service, body: Value) -> Value {
    service.call("POST", "/v1/spaces", body).await.data(201)
}

async fn make_job(service: &Service, space: &Value, extra: Value) -> Value {
    let mut body = json!({"name": "a", "cron_expression": "*/5 * * * *", "url": "https://a.example"});
    body["space_id"] = space.clone();
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    service.call("POST", "/v1/jobs", body).await.data(201)
}

fn path(space: &Value, action: &str) -> String {
    format!("/v1/spaces/{}{action}", space["id"].as_str().unwrap())
}

#[tokio::test]
async fn the_documented_examples_work() {
    let service = Service::start().await;
    service.clock.advance(Duration::from_secs(38 * 60));
    let mut space = make(&service, json!({"name": "Production", "timezone": "UTC"})).await;
    let id = space["id"].clone();
    assert!(id.as_str().unwrap().starts_with("sp_"));
    let mut expected = json!({
        "id": id,
        "name": "Production",
        "timezone": "UTC",
        "status": "active",
        "job_count": 0,
        "created_at": "2026-04-10T15:00:00Z",
        "updated_at": "2026-04-10T15:00:00Z",
    });
    assert_eq!(space, expected);

    for _ in 0..3 {
        make_job(&service, &id, json!({})).await;
    }
    service.clock.advance(Duration::from_secs(300));
    space = service.call("PATCH", &path(&space, ""), json!({"name": "Production (EU)"})).await.data(200);
    expected["name"] = json!("Production (EU)");
    expected["job_count"] = json!(3);
    expected["updated_at"] = json!("2026-04-10T15:05:00Z");
    assert_eq!(space, expected);
    assert_eq!(service.get(&path(&space, "")).await.data(200), expected);

    service.clock.advance(Duration::from_secs(300));
    let paused = service.post(&path(&space, "/pause")).await.data(200);
    let at = "2026-04-10T15:10:00Z";
    assert_eq!(paused, json!({"id": id, "status": "paused", "jobs_paused": 3, "paused_at": at}));
    let shown = service.get(&path(&space, "")).await.data(200);
    assert_eq!((&shown["status"], &shown["paused_at"]), (&json!("paused"), &json!(at)));
    service.clock.advance(Duration::from_secs(300));
    let resumed = service.post(&path(&space, "/resume")).await.data(200);
    let at = "2026-04-10T15:15:00Z";
    assert_eq!(resumed, json!({"id": id, "status": "active", "jobs_resumed": 3, "resumed_at": at}));

    let staging = make(&service, json!({"name": "Staging", "timezone": "Europe/Stockholm"})).await;
    let list = service.get("/v1/spaces").await;
    let names: Vec<_> =
        list.data(200).as_array().unwrap().iter().map(|space| space["name"].clone()).collect();
    assert_eq!(names, ["Production (EU)", "Staging"]);
    assert!(list.json().get("meta").is_none(), "lists of spaces come whole");
    let deleted = service.send(request(KEY, "DELETE", &path(&staging, ""), "")).await;
    assert_eq!((deleted.status.as_u16(), deleted.text.as_str()), (204, ""));
    assert_eq!(service.get(&path(&staging, "")).await.code(404), "not_found");
}

#[tokio::test]
async fn a_space_with_jobs_cannot_be_deleted() {
    let service = Service::start().await;
    let space = make(&service, json!({"name": "Production"})).await;
    assert_eq!(space["timezone"], "UTC", "the documented default");
    let job = make_job(&service, &space["id"], json!({})).await;
    let delete = || service.send(request(KEY, "DELETE", &path(&space, ""), ""));
    assert_eq!(delete().await.code(409), "conflict");
    let job = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    service.call("PATCH", &job, json!({"space_id": null})).await.data(200);
    assert_eq!(delete().await.status, 204);
    assert_eq!(service.get(&job).await.data(200)["space_id"], Value::Null);
}

#[tokio::test]
async fn each_mistake_is_named() {
    let service = Service::start().await;
    let space = make(&service, json!({"name": "Production"})).await;
    for (method, path) in [("POST", "/v1/spaces".to_owned()), ("PATCH", path(&space, ""))] {
        for (field, status, value) in [
            ("name", 400, json!(7)),
            ("name", 400, json!(null)),
            ("name", 422, json!("")),
            ("name", 422, json!("é".repeat(51))),
            ("name", 422, json!("a\nb")),
            ("timezone", 400, json!(1)),
            ("timezone", 400, json!(null)),
            ("timezone", 422, json!("Mars/Olympus")),
            ("colour", 400, json!("red")),
        ] {
            let mut body = json!({"name": "Staging"});
            body[field] = value;
            assert_eq!(service.call(method, &path, body).await.faults(status), [field], "{method}");
        }
        let body = json!({"name": "", "timezone": "x", "id": "sp_1", "status": "paused", "job_count": 7});
        assert_eq!(service.call(method, &path, body).await.faults(422), ["name", "timezone"]);
    }
    assert_eq!(service.call("POST", "/v1/spaces", json!({})).await.faults(400), ["name"]);
    assert_eq!(service.call("POST", "/v1/spaces", json!([])).await.faults(400), ["$"]);
    let longest = make(&service, json!({"name": "é".repeat(50)})).await;
    let same = service.call("PATCH", &path(&longest, ""), longest.clone()).await.data(200);
    assert_eq!(same, longest, "what was read can be sent again");
}

#[tokio::test]
async fn spaces_of_others_do_not_exist() {
    let service = Service::start().await;
    service.add_foreign_account().await;
    let space = make(&service, json!({"name": "Production"})).await;
    for (method, action) in
        [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/pause"), ("POST", "/resume")]
    {
        let target = path(&space, action);
        let answer = service.send(request(FOREIGN_KEY, method, &target, "{}")).await;
        assert_eq!(answer.code(404), "not_found", "{method} {target}");
        let answer = service.send(request("jrun_sk_unknown", method, &target, "{}")).await;
        assert_eq!(answer.code(401), "unauthorized", "{method} {target}");
        let unknown = format!("/v1/spaces/sp_xyz789{action}");
        assert_eq!(service.call(method, &unknown, json!({})).await.code(404), "not_found");
    }
    let list = service.send(request(FOREIGN_KEY, "GET", "/v1/spaces", "")).await;
    assert_eq!(list.json(), json!({"data": []}));
    assert_eq!(service.get(&path(&space, "")).await.data(200), space);
}

#[tokio::test]
async fn repetitions_get_the_first_answer() {
    let service = Service::start().await;
    let body = json!({"name": "Production"});
    let first = service.call_once("a", "POST", "/v1/spaces", body.clone()).await.data(201);
    service.clock.advance(Duration::from_secs(60));
    assert_eq!(service.call_once("a", "POST", "/v1/spaces", body).await.data(201), first);
    assert_eq!(service.get("/v1/spaces").await.data(200).as_array().unwrap().len(), 1);
    let other = service.call_once("a", "POST", "/v1/spaces", json!({"name": "Staging"})).await;
    assert_eq!(other.code(409), "conflict");

    make_job(&service, &first["id"], json!({})).await;
    let pause = path(&first, "/pause");
    let paused = service.call_once("b", "POST", &pause, json!({})).await.data(200);
    service.post(&path(&first, "/resume")).await.data(200);
    assert_eq!(service.call_once("b", "POST", &pause, json!({})).await.data(200), paused);
    let shown = service.get(&path(&first, "")).await.data(200);
    assert_eq!(shown["status"], "active", "a repetition changes nothing");
    assert_eq!(service.post(&path(&first, "/resume")).await.message(), "the space is already active");
    service.post(&pause).await.data(200);
    let again = service.post(&pause).await;
    assert_eq!(
        (again.code(409).as_str(), again.message().as_str()),
        ("conflict", "the space is already paused")
    );
}

#[tokio::test]
async fn a_paused_space_holds_its_jobs_and_leaves_their_status() {
    let service = Service::start().await;
    let space = make(&service, json!({"name": "Production", "timezone": "Asia/Tokyo"})).await;
    let id = &space["id"];
    let job_path = |job: &Value| format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    let inside = make_job(&service, id, json!({})).await;
    assert_eq!(
        (&inside["timezone"], &inside["next_run_at"]),
        (&json!("Asia/Tokyo"), &json!("2026-04-10T14:25:00Z"))
    );
    let paused = make_job(&service, id, json!({})).await;
    service.post(&format!("{}/pause", job_path(&paused))).await.data(200);
    let outside = make_job(&service, &Value::Null, json!({})).await;

    let answer = service.post(&path(&space, "/pause")).await.data(200);
    assert_eq!(answer["jobs_paused"], 1, "the other one was paused itself");
    let seen = |job: &Value| {
        let path = job_path(job);
        let service = &service;
        async move {
            let job = service.get(&path).await.data(200);
            (job["status"].as_str().unwrap().to_owned(), job["next_run_at"].clone())
        }
    };
    let active = |next: Value| ("active".to_owned(), next);
    assert_eq!(seen(&inside).await, active(Value::Null));
    assert_eq!(seen(&paused).await, ("paused".to_owned(), Value::Null));
    assert_eq!(seen(&outside).await, active(json!("2026-04-10T14:25:00Z")));
    let list = service.get(&format!("/v1/jobs?space_id={}", id.as_str().unwrap())).await.json();
    assert!(list["data"].as_array().unwrap().iter().all(|job| job["next_run_at"].is_null()), "{list}");

    let made = make_job(&service, id, json!({})).await;
    assert_eq!((&made["status"], &made["next_run_at"]), (&json!("active"), &Value::Null));
    let moved = service.call("PATCH", &job_path(&outside), json!({"space_id": id})).await.data(200);
    assert_eq!(moved["next_run_at"], Value::Null);
    let changed =
        service.call("PATCH", &job_path(&inside), json!({"cron_expression": "* * * * *"})).await.data(200);
    assert_eq!(changed["next_run_at"], Value::Null);
    let resumed = service.post(&format!("{}/resume", job_path(&paused))).await.data(200);
    assert_eq!((&resumed["status"], &resumed["next_run_at"]), (&json!("active"), &Value::Null));
    let run = service.post(&format!("{}/run", job_path(&inside))).await.data(200);
    assert_eq!(run["status"], "pending", "manual runs always work");
    let out = service.call("PATCH", &job_path(&moved), json!({"space_id": null})).await.data(200);
    assert_eq!(out["next_run_at"], "2026-04-10T14:25:00Z");

    service.clock.advance(Duration::from_secs(600));
    let answer = service.post(&path(&space, "/resume")).await.data(200);
    assert_eq!(answer["jobs_resumed"], 3);
    for job in [&paused, &made] {
        assert_eq!(seen(job).await, active(json!("2026-04-10T14:35:00Z")));
    }
    assert_eq!(seen(&inside).await, active(json!("2026-04-10T14:33:00Z")));
}

/// Makes `count` jobs in a space by copies of a first one.
async fn fill(service: &Service, space: &Value, count: u64) -> SpaceId {
    let first = make_job(service, &space["id"], json!({})).await;
    let first: JobId = first["id"].as_str().unwrap().parse().unwrap();
    let job = service.cluster().await.state().view().get::<Jobs>(&first).unwrap().unwrap();
    let next_run_at = Some(START.plus(Duration::from_secs(180)));
    let commands: Vec<_> = (1..count)
        .map(|n| {
            let mut job = job.clone();
            job.id = JobId(n);
            let paused = n % 3 == 0;
            Command::CreateJob(Box::new(CreateJob { job, next_run_at, paused, jobs_max: None }))
        })
        .collect();
    for chunk in commands.chunks(200) {
        for reply in
            service.cluster().await.propose_all(chunk.to_vec(), Duration::from_secs(5)).await.unwrap()
        {
            reply.unwrap();
        }
    }
    space["id"].as_str().unwrap().parse().unwrap()
}

async fn states(service: &Service) -> Vec<JobState> {
    let view = service.cluster().await.state().view();
    view.prefix::<JobStates>(&[], None, 10_000).unwrap().into_iter().map(|(_, state)| state).collect()
}

#[tokio::test]
async fn a_large_space_turns_as_a_whole_before_the_answer() {
    let service = Service::start().await;
    let space = make(&service, json!({"name": "Production"})).await;
    let id = fill(&service, &space, 700).await;
    let paused = service.post(&path(&space, "/pause")).await.data(200);
    assert_eq!(paused["jobs_paused"], 467);
    assert!(states(&service).await.iter().all(|state| state.next_run_at.is_none()));
    let is_unaligned =
        async || service.cluster().await.state().view().contains::<UnalignedSpaces>(&id).unwrap();
    assert!(!is_unaligned().await);

    service.clock.advance(Duration::from_secs(301));
    service.post(&path(&space, "/resume")).await.data(200);
    let next = START.plus(Duration::from_secs(480));
    for state in states(&service).await {
        assert_eq!(state.next_run_at, Some(next).filter(|_| state.paused_at.is_none()));
    }
    assert!(!is_unaligned().await);
}

#[tokio::test]
async fn a_pause_shows_before_the_cursors_have_followed() {
    let service = Service::start().await;
    let space = make(&service, json!({"name": "Production"})).await;
    let job = make_job(&service, &space["id"], json!({})).await;
    let id = space["id"].as_str().unwrap().parse().unwrap();
    let pause = PauseSpace { account: ACCOUNT, space: id, at: START };
    service.cluster().await.propose(Command::PauseSpace(pause)).await.unwrap();
    let job = service.get(&format!("/v1/jobs/{}", job["id"].as_str().unwrap())).await.data(200);
    assert_eq!(job["next_run_at"], Value::Null);
    assert!(states(&service).await[0].next_run_at.is_some());
    api::align_space(service.cluster().await, id).await.unwrap();
    assert!(states(&service).await[0].next_run_at.is_none());
}

#[tokio::test]
async fn an_account_has_a_bounded_number_of_spaces() {
    let service = Service::start().await;
    let first = make(&service, json!({"name": "Production"})).await;
    let space = {
        let view = service.cluster().await.state().view();
        let id: SpaceId = first["id"].as_str().unwrap().parse().unwrap();
        view.get::<storage::schema::Spaces>(&id).unwrap().unwrap()
    };
    let commands = (1..500)
        .map(|n| {
            Command::CreateSpace(CreateSpace {
                space: domain::space::Space { id: SpaceId(n), ..space.clone() },
            })
        })
        .collect();
    service.cluster().await.propose_all(commands, Duration::from_secs(5)).await.unwrap();
    let answer = service.call("POST", "/v1/spaces", json!({"name": "one more"})).await;
    assert_eq!(answer.code(409), "conflict");
}
