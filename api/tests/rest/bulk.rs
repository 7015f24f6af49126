use crate::service::{ACCOUNT, FOREIGN_ACCOUNT, FOREIGN_KEY, KEY, Service, request};
use domain::id::JobId;
use futures::future::join_all;
use serde_json::{Value, json};

const BULK: &str = "/v1/jobs/bulk";

async fn make_jobs(service: &Service, count: usize) -> Vec<JobId> {
    let mut ids = Vec::new();
    for _ in 0..count {
        ids.push(service.make_job().await);
    }
    ids
}

fn texts(ids: &[JobId]) -> Vec<String> {
    ids.iter().map(ToString::to_string).collect()
}

fn done(count: usize) -> Value {
    json!({"succeeded": count, "failed": 0, "errors": []})
}

async fn get(service: &Service, id: JobId) -> Value {
    service.get(&format!("/v1/jobs/{id}")).await.data(200)
}

#[tokio::test]
async fn the_documented_examples_work() {
    let service = Service::start().await;
    let ids = make_jobs(&service, 3).await;
    let body = json!({"job_ids": texts(&ids), "action": "pause"});
    assert_eq!(service.call("POST", BULK, body).await.data(200), done(3));
    for id in &ids {
        assert_eq!(get(&service, *id).await["status"], "paused");
    }
    let space = service.add_space(1, ACCOUNT, "UTC").await;
    let body = json!({"job_ids": texts(&ids[..2]), "action": "move_to_space", "space_id": space});
    assert_eq!(service.call("POST", BULK, body).await.data(200), done(2));
    assert_eq!(get(&service, ids[0]).await["space_id"], json!(space));
    assert_eq!(service.get(&format!("/v1/spaces/{space}")).await.data(200)["job_count"], 2);
}

#[tokio::test]
async fn pausing_and_resuming_what_is_so_already_succeeds() {
    let service = Service::start().await;
    let ids = make_jobs(&service, 4).await;
    service.post(&format!("/v1/jobs/{}/pause", ids[0])).await.data(200);
    for (action, status) in [("pause", "paused"), ("resume", "active"), ("resume", "active")] {
        let body = json!({"job_ids": texts(&ids), "action": action});
        assert_eq!(service.call("POST", BULK, body).await.data(200), done(4));
        for id in &ids {
            let job = get(&service, *id).await;
            assert_eq!(
                (job["status"].as_str(), job["next_run_at"].is_null()),
                (Some(status), status == "paused")
            );
        }
    }
    let twice = json!({"job_ids": [ids[0].to_string(), ids[0].to_string()], "action": "pause"});
    assert_eq!(service.call("POST", BULK, twice).await.data(200), done(1), "a job counts once");
}

#[tokio::test]
async fn each_job_fails_by_itself() {
    let service = Service::start().await;
    service.add_foreign_account().await;
    let ids = make_jobs(&service, 2).await;
    let body = json!({"name": "a", "cron_expression": "* * * * *", "url": "https://a.example"}).to_string();
    let foreign = service.send(request(FOREIGN_KEY, "POST", "/v1/jobs", body)).await.data(201);
    let mut all = vec!["job_nonsense".to_owned(), foreign["id"].as_str().unwrap().to_owned()];
    all.extend(texts(&ids));
    all.push(JobId(7).to_string());
    for action in ["pause", "resume", "delete"] {
        let answer = service.call("POST", BULK, json!({"job_ids": all, "action": action})).await.data(200);
        let error = |id: &String| json!({"job_id": id, "code": "not_found", "message": "no such job"});
        let errors = [error(&all[0]), error(&all[1]), error(&all[4])];
        assert_eq!(answer, json!({"succeeded": 2, "failed": 3, "errors": errors}), "{action}");
    }
    assert_eq!(service.get("/v1/jobs").await.json()["meta"]["total"], 0);
    let path = format!("/v1/jobs/{}", foreign["id"].as_str().unwrap());
    let untouched = service.send(request(FOREIGN_KEY, "GET", &path, "")).await.data(200);
    assert_eq!(untouched, foreign);
}

#[tokio::test]
async fn tags_are_added_once_up_to_ten_and_removed() {
    let service = Service::start().await;
    let ids = make_jobs(&service, 2).await;
    let nine: Vec<String> = (1..=9).map(|n| n.to_string()).collect();
    service.call("PATCH", &format!("/v1/jobs/{}", ids[0]), json!({"tags": nine})).await.data(200);
    let bulk = |action: &'static str, tags: Value| {
        let body = json!({"job_ids": texts(&ids), "action": action, "tags": tags});
        service.call("POST", BULK, body)
    };
    assert_eq!(bulk("add_tags", json!(["9", "ten", "ten"])).await.data(200), done(2));
    assert_eq!(get(&service, ids[1]).await["tags"], json!(["9", "ten"]));
    let answer = bulk("add_tags", json!(["eleven"])).await.data(200);
    let error = json!({
        "job_id": ids[0].to_string(),
        "code": "validation_error",
        "message": "tags must have at most 10 items",
    });
    assert_eq!(answer, json!({"succeeded": 1, "failed": 1, "errors": [error]}));
    assert_eq!(bulk("remove_tags", json!(["1", "9", "ten", "unknown"])).await.data(200), done(2));
    assert_eq!(get(&service, ids[0]).await["tags"], json!(["2", "3", "4", "5", "6", "7", "8"]));
    assert_eq!(get(&service, ids[1]).await["tags"], json!(["eleven"]));
}

#[tokio::test]
async fn jobs_move_into_and_out_of_spaces() {
    let service = Service::start().await;
    let ids = make_jobs(&service, 2).await;
    let space = service.add_space(1, ACCOUNT, "UTC").await;
    service.post(&format!("/v1/spaces/{space}/pause")).await.data(200);
    for (to, next) in [(json!(space), Value::Null), (Value::Null, json!("2026-04-10T14:25:00Z"))] {
        let body = json!({"job_ids": texts(&ids), "action": "move_to_space", "space_id": to});
        assert_eq!(service.call("POST", BULK, body.clone()).await.data(200), done(2));
        assert_eq!(service.call("POST", BULK, body).await.data(200), done(2), "they are there already");
        let job = get(&service, ids[1]).await;
        assert_eq!((&job["space_id"], &job["next_run_at"]), (&to, &next));
    }
}

#[tokio::test]
async fn each_mistake_is_named() {
    let service = Service::start().await;
    service.add_foreign_account().await;
    let foreign = service.add_space(2, FOREIGN_ACCOUNT, "UTC").await;
    let id = service.make_job().await.to_string();
    let too_many: Vec<_> = (0..101).map(|n| JobId(n).to_string()).collect();
    let too_many_tags: Vec<_> = (0..11).map(|n| n.to_string()).collect();
    for (body, status, faults) in [
        (json!({}), 400, vec!["job_ids", "action"]),
        (json!({"job_ids": [id], "action": 7}), 400, vec!["action"]),
        (json!({"job_ids": [id], "action": "run"}), 422, vec!["action"]),
        (json!({"job_ids": [], "action": "pause"}), 422, vec!["job_ids"]),
        (json!({"job_ids": too_many, "action": "pause"}), 422, vec!["job_ids"]),
        (json!({"job_ids": id, "action": "pause"}), 400, vec!["job_ids"]),
        (json!({"job_ids": [id, 7], "action": "pause"}), 400, vec!["job_ids[1]"]),
        (json!({"job_ids": [id], "action": "move_to_space"}), 400, vec!["space_id"]),
        (json!({"job_ids": [id], "action": "move_to_space", "space_id": 1}), 400, vec!["space_id"]),
        (json!({"job_ids": [id], "action": "move_to_space", "space_id": "sp_1"}), 422, vec!["space_id"]),
        (json!({"job_ids": [id], "action": "move_to_space", "space_id": foreign}), 422, vec!["space_id"]),
        (json!({"job_ids": [id], "action": "add_tags"}), 400, vec!["tags"]),
        (json!({"job_ids": [id], "action": "remove_tags", "tags": []}), 422, vec!["tags"]),
        (json!({"job_ids": [id], "action": "add_tags", "tags": too_many_tags}), 422, vec!["tags"]),
        (json!({"job_ids": [id], "action": "add_tags", "tags": ["a", ""]}), 422, vec!["tags[1]"]),
        (json!({"job_ids": [id], "action": "pause", "force": true}), 400, vec!["force"]),
        (
            json!({"job_ids": [], "action": "run", "tags": 1, "x": 1}),
            400,
            vec!["job_ids", "action", "tags", "x"],
        ),
    ] {
        assert_eq!(service.call("POST", BULK, body.clone()).await.faults(status), faults, "{body}");
    }
    let body = json!({"job_ids": [id], "action": "pause"}).to_string();
    let answer = service.send(request("jrun_sk_unknown", "POST", BULK, body)).await;
    assert_eq!(answer.code(401), "unauthorized");
    assert_eq!(service.get(&format!("/v1/jobs/{id}")).await.data(200)["status"], "active");
}

#[tokio::test]
async fn repetitions_get_the_first_answer() {
    let service = Service::start().await;
    let ids = make_jobs(&service, 3).await;
    for (name, action) in [("a", "pause"), ("b", "delete")] {
        let body = json!({"job_ids": texts(&ids), "action": action});
        let first = service.call_once(name, "POST", BULK, body.clone()).await.data(200);
        assert_eq!(first, done(3));
        assert_eq!(service.call_once(name, "POST", BULK, body.clone()).await.data(200), first);
        let other = json!({"job_ids": texts(&ids[..1]), "action": action});
        assert_eq!(service.call_once(name, "POST", BULK, other).await.code(409), "conflict");
    }
    let body = json!({"job_ids": texts(&ids[..1]), "action": "delete"});
    let gone = service.call_once("c", "POST", BULK, body.clone()).await.data(200);
    assert_eq!(gone["failed"], 1);
    assert_eq!(service.call_once("c", "POST", BULK, body).await.data(200), gone);
}

#[tokio::test]
async fn a_hundred_jobs_with_large_bodies_are_more_than_one_proposal() {
    let service = Service::start().await;
    let body = json!({
        "name": "large",
        "cron_expression": "* * * * *",
        "url": "https://a.example",
        "method": "POST",
        "body": "x".repeat(400_000),
    });
    let made = join_all((0..8).map(|_| service.call("POST", "/v1/jobs", body.clone()))).await;
    let mut ids: Vec<_> = made.iter().map(|job| job.data(201)["id"].as_str().unwrap().to_owned()).collect();
    ids.extend(texts(&make_jobs(&service, 92).await));
    let body = json!({"job_ids": ids, "action": "add_tags", "tags": ["all"]});
    assert_eq!(service.call("POST", BULK, body).await.data(200), done(100));
    assert_eq!(service.get("/v1/jobs?tag=all&per_page=1").await.json()["meta"]["total"], 100);
    let body = json!({"job_ids": ids, "action": "delete"});
    assert_eq!(service.call("POST", BULK, body).await.data(200), done(100));
}

#[tokio::test]
async fn actions_at_the_same_time_all_take_effect() {
    let service = Service::start().await;
    let ids = make_jobs(&service, 5).await;
    let bulk = |tag: String| {
        let body = json!({"job_ids": texts(&ids), "action": "add_tags", "tags": [tag]});
        service.call("POST", BULK, body)
    };
    for answer in join_all((0..5).map(|n| bulk(n.to_string()))).await {
        assert_eq!(answer.data(200), done(5));
    }
    for id in &ids {
        assert_eq!(get(&service, *id).await["tags"].as_array().unwrap().len(), 5);
    }
    assert_eq!(service.send(request(KEY, "GET", BULK, "")).await.code(405), "method_not_allowed");
}
