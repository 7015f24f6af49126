use crate::outside::{CRONJOB_ORG, EASYCRON, Fault, HTML, cronjob_org, easycron};
use crate::service::{ACCOUNT, FOREIGN_ACCOUNT, KEY, Service, request};
use axum::body::Body;
use domain::account::Plan;
use serde_json::{Value, json};

const JSON: &str = "/v1/migrate/json";

/// What the documentation sends, with its space.
fn documented(space: &str) -> Value {
    json!({
        "space_id": space,
        "jobs": [
            {
                "name": "Health Check",
                "cron_expression": "*/5 * * * *",
                "url": "https://api.example.com/health",
                "method": "GET",
                "timeout_sec": 10
            },
            {
                "name": "Sync Inventory",
                "cron_expression": "0 */2 * * *",
                "url": "https://api.example.com/inventory/sync",
                "method": "POST",
                "timezone": "America/New_York",
                "timeout_sec": 120,
                "retry_policy": "exponential",
                "retry_max": 3,
                "retry_delay_sec": 30,
                "headers": {"X-API-Key": "inv_key_abc123"},
                "body": "{\"full_sync\": true}",
                "tags": ["inventory", "critical"]
            }
        ]
    })
}

fn job(changes: Value) -> Value {
    let mut job =
        json!({"name": "A", "cron_expression": "*/5 * * * *", "url": "https://api.example.com/health"});
    for (name, value) in changes.as_object().unwrap() {
        job[name] = value.clone();
    }
    job
}

fn jobs(jobs: Vec<Value>) -> Value {
    json!({ "jobs": jobs })
}

/// The jobs of the account, oldest first, of the first hundred.
async fn all(service: &Service) -> Vec<Value> {
    let mut jobs = service.get("/v1/jobs?per_page=100").await.data(200).as_array().unwrap().clone();
    jobs.sort_by_key(|job| job["name"].as_str().unwrap().to_owned());
    jobs
}

async fn total(service: &Service) -> Value {
    service.get("/v1/jobs?per_page=1").await.json()["meta"]["total"].clone()
}

#[tokio::test]
async fn the_documented_import_works() {
    let service = Service::start().await;
    let space = service.add_space(5, ACCOUNT, "Europe/Stockholm").await;
    let answer = service.call("POST", JSON, documented(&space)).await;
    let data = answer.data(200);
    assert_eq!((&data["imported"], &data["skipped"], &data["errors"]), (&json!(2), &json!(0), &json!([])));
    let ids: Vec<_> = data["job_ids"].as_array().unwrap().iter().map(|id| id.as_str().unwrap()).collect();
    assert_eq!(data.as_object().unwrap().len(), 4, "{data}");
    let first = service.get(&format!("/v1/jobs/{}", ids[0])).await.data(200);
    assert_eq!((&first["name"], &first["timeout_sec"]), (&json!("Health Check"), &json!(10)));
    assert_eq!((&first["space_id"], &first["timezone"]), (&json!(space), &json!("Europe/Stockholm")));
    assert_eq!((&first["status"], &first["next_run_at"]), (&json!("active"), &json!("2026-04-10T14:25:00Z")));
    let second = service.get(&format!("/v1/jobs/{}", ids[1])).await.data(200);
    assert_eq!(second["headers"], json!({"X-API-Key": "inv_key_abc123"}));
    assert_eq!(second["body"], "{\"full_sync\": true}");
    assert_eq!(
        (&second["timezone"], &second["tags"]),
        (&json!("America/New_York"), &json!(["inventory", "critical"]))
    );
}

#[tokio::test]
async fn each_job_that_fails_is_listed_and_the_others_are_imported() {
    let service = Service::start().await;
    service.add_foreign_account().await;
    service.add_space(6, FOREIGN_ACCOUNT, "UTC").await;
    let body = jobs(vec![
        job(json!({"name": "Good"})),
        job(json!({"name": "Boot", "cron_expression": "@reboot"})),
        job(json!({"name": "Plain", "url": "http://api.example.com", "timeout_sec": 0})),
        job(json!({"name": " "})),
        job(json!({"name": "Elsewhere", "space_id": domain::id::SpaceId(6).to_string()})),
        job(json!({"name": "Odd", "status": "weird"})),
        job(json!({"name": "Good too", "status": "active"})),
    ]);
    let data = service.call("POST", JSON, body).await.data(200);
    assert_eq!((&data["imported"], &data["skipped"]), (&json!(2), &json!(5)));
    assert_eq!(data["job_ids"].as_array().unwrap().len(), 2);
    let errors = data["errors"].as_array().unwrap();
    let said: Vec<_> = errors
        .iter()
        .map(|error| (error["original_name"].as_str().unwrap(), error["reason"].as_str().unwrap()))
        .collect();
    assert_eq!(
        said,
        [
            ("Boot", "Unsupported cron expression: @reboot"),
            ("Plain", "url must use https; timeout_sec must be between 1 and 300"),
            ("jobs[3]", "name must not be empty"),
            ("Elsewhere", "space_id is not a space of this account"),
            ("Odd", "status must be one of active, paused"),
        ]
    );
    let fields = |index: usize| -> Vec<_> {
        let details = errors[index]["details"].as_array().unwrap();
        details.iter().map(|detail| detail["field"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(fields(0), ["jobs[1].cron_expression"]);
    assert_eq!(fields(1), ["jobs[2].url", "jobs[2].timeout_sec"]);
    assert_eq!(fields(3), ["jobs[4].space_id"]);
    assert_eq!(fields(4), ["jobs[5].status"]);
    let names: Vec<_> = all(&service).await.iter().map(|job| job["name"].clone()).collect();
    assert_eq!(names, ["Good", "Good too"]);
}

#[tokio::test]
async fn malformed_requests_import_nothing() {
    let service = Service::start().await;
    service.add_foreign_account().await;
    service.add_space(6, FOREIGN_ACCOUNT, "UTC").await;
    let foreign = domain::id::SpaceId(6).to_string();
    let broken = jobs(vec![
        job(json!({})),
        json!({"name": 7, "cron_expression": "@reboot", "retry_polcy": "none"}),
        json!("job"),
    ]);
    for (body, status, fields) in [
        (json!({}), 400, &["jobs"][..]),
        (json!([]), 400, &["$"]),
        (json!({"jobs": {}}), 400, &["jobs"]),
        (json!({"jobs": [], "dry_run": true}), 400, &["dry_run"]),
        (json!({"jobs": [], "space_id": 7}), 400, &["space_id"]),
        (json!({"jobs": [], "space_id": "sp_1"}), 422, &["space_id"]),
        (json!({"jobs": [], "space_id": foreign}), 422, &["space_id"]),
        (jobs(vec![job(json!({})), job(json!({"status": null}))]), 400, &["jobs[1].status"]),
        (
            broken,
            400,
            &["jobs[1].url", "jobs[1].name", "jobs[1].cron_expression", "jobs[1].retry_polcy", "jobs[2]"],
        ),
    ] {
        assert_eq!(service.call("POST", JSON, body).await.faults(status), fields);
    }
    let too_many = service.call("POST", JSON, jobs(vec![job(json!({})); 1_001])).await;
    assert_eq!(too_many.faults(422), ["jobs"]);
    assert!(too_many.message().contains("GET /v1/jobs/export?page=1&per_page=1000"), "{too_many:?}");
    assert_eq!(service.call_text("POST", JSON, "{\"jobs\": [").await.faults(400), ["$"]);
    let plain = request(KEY, "POST", JSON, "{}");
    let (mut parts, body) = plain.into_parts();
    parts.headers.insert("content-type", "text/csv".parse().unwrap());
    assert_eq!(
        service.send(hyper::Request::from_parts(parts, body)).await.code(415),
        "unsupported_media_type"
    );
    assert_eq!(service.send(request("jrun_sk_x", "POST", JSON, "{}")).await.code(401), "unauthorized");
    assert_eq!(total(&service).await, 0);
    let nothing = service.call("POST", JSON, jobs(vec![])).await.data(200);
    assert_eq!(nothing, json!({"imported": 0, "skipped": 0, "errors": [], "job_ids": []}));
}

#[tokio::test]
async fn a_job_that_was_read_is_restored_as_it_was() {
    let service = Service::start().await;
    let id = service.make_job().await;
    service.post(&format!("/v1/jobs/{id}/pause")).await.data(200);
    let read = service.get(&format!("/v1/jobs/{id}")).await.data(200);
    let data = service.call("POST", JSON, jobs(vec![read.clone()])).await.data(200);
    let copy = service.get(&format!("/v1/jobs/{}", data["job_ids"][0].as_str().unwrap())).await.data(200);
    assert_eq!((&copy["status"], &copy["next_run_at"]), (&json!("paused"), &json!(null)));
    assert_eq!((&copy["url"], &copy["cron_expression"]), (&read["url"], &read["cron_expression"]));
    assert_ne!(copy["id"], read["id"]);
}

#[tokio::test]
async fn the_plan_limits_imports_as_well() {
    let service = Service::start_on(Plan::Free).await;
    service.make_job().await;
    let body = jobs((0..12).map(|n| job(json!({"name": format!("Job {n:02}")}))).collect());
    let data = service.call("POST", JSON, body).await.data(200);
    assert_eq!((&data["imported"], &data["skipped"]), (&json!(9), &json!(3)));
    let expected = json!({"original_name": "Job 09", "reason": "your plan allows at most 10 jobs"});
    assert_eq!(data["errors"][0], expected);
    assert_eq!(total(&service).await, 10);
}

#[tokio::test]
async fn a_thousand_jobs_of_five_megabytes_are_taken() {
    let service = Service::start().await;
    let body = "x".repeat(4_900);
    let many: Vec<_> = (0..1_000)
        .map(|n| job(json!({"name": format!("Job {n:04}"), "method": "POST", "body": body})))
        .collect();
    let data = service.call("POST", JSON, jobs(many)).await.data(200);
    assert_eq!((&data["imported"], &data["skipped"]), (&json!(1_000), &json!(0)));
    assert_eq!(total(&service).await, 1_000);
    let huge = " ".repeat(5 * 1024 * 1024 + 1);
    assert_eq!(service.call_text("POST", JSON, huge).await.code(413), "payload_too_large");
}

#[tokio::test]
async fn large_jobs_are_split_over_proposals() {
    let service = Service::start().await;
    let many: Vec<_> = (0..300)
        .map(|n| job(json!({"name": format!("Job {n}"), "method": "POST", "body": "x".repeat(15 * 1024)})))
        .collect();
    let data = service.call("POST", JSON, jobs(many)).await.data(200);
    assert_eq!((&data["imported"], &data["skipped"]), (&json!(300), &json!(0)));
}

#[tokio::test]
async fn a_repetition_imports_nothing_twice() {
    let service = Service::start().await;
    let body = jobs(vec![job(json!({"name": "A"})), job(json!({"cron_expression": "@reboot"}))]);
    let first = service.call_once("restore 1", "POST", JSON, body.clone()).await;
    let second = service.call_once("restore 1", "POST", JSON, body.clone()).await;
    assert_eq!(first.data(200), second.data(200));
    assert_eq!(total(&service).await, 1);
    let other = service.call_once("restore 1", "POST", JSON, jobs(vec![])).await;
    assert_eq!(other.code(409), "conflict");

    // The answer is forgotten and the jobs are there: as after a crash between the two.
    service.clock.advance(std::time::Duration::from_secs(25 * 3_600));
    let third = service.call_once("restore 1", "POST", JSON, body.clone()).await;
    assert_eq!(first.data(200), third.data(200));
    assert_eq!(total(&service).await, 1);
    service.call("POST", JSON, body).await.data(200);
    assert_eq!(total(&service).await, 2, "without a key it is another request");
}

async fn import_easycron(service: &Service, space: Option<&str>) -> Value {
    let body = json!({"api_key": easycron::KEY, "space_id": space});
    service.call("POST", "/v1/migrate/easycron", body).await.data(200)
}

#[tokio::test]
async fn the_jobs_of_easycron_are_imported() {
    let service = Service::start().await;
    let space = service.add_space(5, ACCOUNT, "Europe/Stockholm").await;
    let outside = &service.outside.easycron;
    outside.add(&json!({"cron_job_name": "Plain"}));
    outside.add(&json!({
        "cron_job_name": "Rich", "cron_expression": "0/15 8-18 ? * 1-5 *", "timezone": "America/New_York",
        "http_method": "POST", "http_headers": "X-Key: k\nHost: other.example.com", "http_message_body": "a=b",
        "http_auth_user": "u", "http_auth_pw": "p", "timeout": 900, "status": 0, "success_criterion": 2,
    }));
    outside.add(&json!({"cron_job_name": "Legacy Cron #7", "cron_expression": "@reboot"}));
    outside.add(&json!({"cron_job_name": "Once", "cron_expression": "0 0 1 1 * 2020"}));
    outside.add(&json!({"cron_job_name": "Look", "http_method": "HEAD"}));
    outside.add(&json!({"cron_job_name": "", "url": "http://plain.example.com/x"}));
    let data = import_easycron(&service, Some(&space)).await;
    assert_eq!((&data["imported"], &data["skipped"]), (&json!(2), &json!(4)));
    let expected = json!([
        {"original_name": "Legacy Cron #7", "reason": "Unsupported cron expression: @reboot"},
        {"original_name": "Once", "reason": "Unsupported cron expression: 0 0 1 1 * 2020"},
        {"original_name": "Look", "reason": "Unsupported HTTP method HEAD"},
        {"original_name": "plain.example.com/x", "reason": "url must use https"},
    ]);
    assert_eq!(data["errors"], expected);
    let warnings: Vec<_> = data["warnings"].as_array().unwrap().iter().map(|w| &w["original_name"]).collect();
    assert_eq!(warnings, ["Rich"; 3], "criterion, timeout, Host: {data}");
    let jobs = all(&service).await;
    assert_eq!((&jobs[0]["name"], &jobs[0]["timezone"]), (&json!("Plain"), &json!("UTC")));
    assert_eq!((&jobs[0]["timeout_sec"], &jobs[0]["space_id"]), (&json!(30), &json!(space)));
    let rich = service.get(&format!("/v1/jobs/{}", jobs[1]["id"].as_str().unwrap())).await.data(200);
    assert_eq!((&rich["cron_expression"], &rich["status"]), (&json!("*/15 8-18 * * 1-5"), &json!("paused")));
    assert_eq!(
        (&rich["method"], &rich["body"], &rich["timeout_sec"]),
        (&json!("POST"), &json!("a=b"), &json!(300))
    );
    assert_eq!(rich["headers"], json!({"X-Key": "k", "Authorization": "Basic dTpw"}));
}

#[tokio::test]
async fn easycron_is_read_page_by_page() {
    let service = Service::start().await;
    for _ in 0..201 {
        service.outside.easycron.add(&json!({}));
    }
    let data = import_easycron(&service, None).await;
    assert_eq!(data, json!({"imported": 201, "skipped": 0, "errors": []}), "as documented");
    let page = |n| format!("GET /v1/cron-jobs?page={n}&page_size=100&sort_by=cron_job_id&order=asc");
    assert_eq!(service.outside.calls(EASYCRON), [page(1), page(2), page(3)]);
}

#[tokio::test]
async fn a_key_that_is_refused_is_the_clients_fault() {
    let service = Service::start().await;
    for (path, key) in [
        ("/v1/migrate/easycron", "wrong"),
        ("/v1/migrate/cronjob-org", "wrong"),
        ("/v1/migrate/cronjob-org", cronjob_org::FOREIGN_KEY),
        ("/v1/migrate/easycron", ""),
        ("/v1/migrate/easycron", "a\nb"),
        ("/v1/migrate/cronjob-org", "ключ"),
    ] {
        let answer = service.call("POST", path, json!({"api_key": key})).await;
        assert_eq!(answer.faults(422), ["api_key"], "{key}");
    }
    service.outside.fail(EASYCRON, Fault::Answer(200, None, r#"{"status":"error","error":{"code":"1"}}"#));
    let old = service.call("POST", "/v1/migrate/easycron", json!({"api_key": "k"})).await;
    assert_eq!(old.faults(422), ["api_key"]);
    for path in ["/v1/migrate/easycron", "/v1/migrate/cronjob-org"] {
        for (body, status, field) in [
            (json!({}), 400, "api_key"),
            (json!({"api_key": 7}), 400, "api_key"),
            (json!({"api_key": "k", "jobs": []}), 400, "jobs"),
            (json!({"api_key": "k", "space_id": "sp_00000000001"}), 422, "space_id"),
        ] {
            assert_eq!(service.call("POST", path, body).await.faults(status), [field]);
        }
        assert_eq!(service.send(request("x", "POST", path, Body::empty())).await.code(401), "unauthorized");
    }
}

#[tokio::test]
async fn a_service_that_fails_leaves_nothing_behind() {
    let service = Service::start().await;
    service.outside.easycron.add(&json!({}));
    service.outside.cronjob_org.add(&json!({}));
    let (easycron, cronjob_org) =
        (("/v1/migrate/easycron", EASYCRON, "ec"), ("/v1/migrate/cronjob-org", CRONJOB_ORG, "cj"));
    for ((path, host, key), fault, message) in [
        (easycron, Fault::Answer(500, None, HTML), "EasyCron answered with status 500"),
        (easycron, Fault::Timeout, "EasyCron did not answer in time"),
        (easycron, Fault::Answer(400, None, r#"{"message":"x"}"#), "EasyCron answered with status 400"),
        (easycron, Fault::Answer(200, None, HTML), "EasyCron gave an answer that makes no sense"),
        (easycron, Fault::Answer(200, None, "{}"), "EasyCron gave an answer that makes no sense"),
        (
            easycron,
            Fault::Answer(200, None, r#"{"status":"error","error":{"code":"26"}}"#),
            "EasyCron answered with error 26",
        ),
        (easycron, Fault::Answer(429, None, ""), "EasyCron takes no more requests with this key for now"),
        (cronjob_org, Fault::Answer(500, None, ""), "cron-job.org answered with status 500"),
        (cronjob_org, Fault::Unreachable, "cron-job.org cannot be reached"),
        (cronjob_org, Fault::Answer(200, None, "[]"), "cron-job.org gave an answer that makes no sense"),
        (
            cronjob_org,
            Fault::Answer(429, Some("3600"), ""),
            "cron-job.org takes no more requests with this key for now",
        ),
    ] {
        // What may pass is tried once more.
        let twice = match fault {
            Fault::Timeout => Some(Fault::Timeout),
            Fault::Unreachable => Some(Fault::Unreachable),
            Fault::Answer(500, after, body) => Some(Fault::Answer(500, after, body)),
            Fault::Answer(..) | Fault::Bytes(_) => None,
        };
        service.outside.fail(host, fault);
        twice.into_iter().for_each(|fault| service.outside.fail(host, fault));
        let answer = service.call("POST", path, json!({ "api_key": key })).await;
        assert_eq!(answer.code(502), "upstream_error", "{message}");
        assert_eq!(answer.json()["error"]["message"], message);
    }
    assert_eq!(total(&service).await, 0);
}

async fn import_cronjob_org(service: &Service) -> Value {
    let body = json!({"api_key": cronjob_org::KEY});
    service.call("POST", "/v1/migrate/cronjob-org", body).await.data(200)
}

#[tokio::test]
async fn the_jobs_of_cronjob_org_are_imported() {
    let service = Service::start().await;
    let outside = &service.outside.cronjob_org;
    outside.add(&json!({"title": "Plain"}));
    outside.add(&json!({
        "title": "Rich", "enabled": false, "requestMethod": 1, "saveResponses": true, "folderId": 7, "requestTimeout": 600,
        "schedule": {
            "timezone": "Europe/Berlin", "expiresAt": 20_270_101_000_000_u64, "hours": [-1], "mdays": [13],
            "minutes": [0, 15, 30, 45], "months": [-1], "wdays": [5],
        },
        "auth": {"enable": true, "user": "u", "password": "p"},
        "extendedData": {"headers": {"X-Key": "k"}, "body": "{}"},
    }));
    outside.add(&json!({"title": "Look", "requestMethod": 3}));
    let data = import_cronjob_org(&service).await;
    assert_eq!((&data["imported"], &data["skipped"]), (&json!(2), &json!(1)));
    assert_eq!(data["errors"], json!([{"original_name": "Look", "reason": "Unsupported HTTP method HEAD"}]));
    let calls = service.outside.calls(CRONJOB_ORG);
    assert_eq!(
        calls,
        ["GET /jobs", "GET /folders", "GET /jobs/1000", "GET /jobs/1001"],
        "a request a day counts"
    );
    let jobs = all(&service).await;
    assert_eq!(
        (&jobs[0]["cron_expression"], &jobs[0]["timezone"]),
        (&json!("0 3 * * *"), &json!("Europe/Berlin"))
    );
    let rich = service.get(&format!("/v1/jobs/{}", jobs[1]["id"].as_str().unwrap())).await.data(200);
    assert_eq!((&rich["cron_expression"], &rich["status"]), (&json!("*/15 * 13 * 5"), &json!("paused")));
    assert_eq!((&rich["tags"], &rich["store_response_body"]), (&json!(["Backups"]), &json!(true)));
    assert_eq!(rich["headers"], json!({"X-Key": "k", "Authorization": "Basic dTpw"}));
    let expected = json!([
        {"original_name": "Rich", "warning": "it ends on 2027-01-01 there; JustRun's jobs go on"},
        {"original_name": "Rich", "warning": "the timeout was 600 s and is 300 s, which is the longest"},
    ]);
    assert_eq!(data["warnings"], expected);
}

#[tokio::test]
async fn the_quota_of_cronjob_org_ends_the_reading_and_not_the_import() {
    let service = Service::start().await;
    for _ in 0..4 {
        service.outside.cronjob_org.add(&json!({}));
    }
    service.outside.cronjob_org.set_some_failed();
    service.outside.cronjob_org.set_quota(3);
    let data = import_cronjob_org(&service).await;
    assert_eq!((&data["imported"], &data["skipped"]), (&json!(2), &json!(2)));
    let reason = "cron-job.org daily API quota reached";
    let expected = json!([
        {"original_name": "Job 1002", "reason": reason},
        {"original_name": "Job 1003", "reason": reason},
    ]);
    assert_eq!(data["errors"], expected);
    let remark = json!({"original_name": null, "warning": "cron-job.org could not list all of its jobs; import again later"});
    assert_eq!(data["warnings"], json!([remark]));
    assert_eq!(service.outside.calls(CRONJOB_ORG).len(), 4, "nothing is asked after the quota is reached");
}

#[tokio::test]
async fn cronjob_org_is_asked_no_faster_than_it_allows() {
    let service = Service::start().await;
    for _ in 0..7 {
        service.outside.cronjob_org.add(&json!({}));
    }
    // Gone between the list and its details; too fast for once; a hiccup.
    service.outside.fail(CRONJOB_ORG, Fault::Answer(503, None, ""));
    let data = import_cronjob_org(&service).await;
    assert_eq!(data, json!({"imported": 7, "skipped": 0, "errors": []}));

    service.outside.fail(CRONJOB_ORG, Fault::Answer(429, Some("1"), ""));
    let data = import_cronjob_org(&service).await;
    assert_eq!(data["imported"], 7, "it asked for a second's patience");
}

#[tokio::test]
async fn an_import_that_is_repeated_asks_nobody_again() {
    let service = Service::start().await;
    service.outside.easycron.add(&json!({}));
    let body = json!({"api_key": easycron::KEY});
    let first = service.call_once("move", "POST", "/v1/migrate/easycron", body.clone()).await;
    assert_eq!(
        first.data(200),
        service.call_once("move", "POST", "/v1/migrate/easycron", body.clone()).await.data(200)
    );
    assert_eq!(service.outside.calls(EASYCRON).len(), 1);
    service.clock.advance(std::time::Duration::from_secs(25 * 3_600));
    service.outside.easycron.add(&json!({}));
    let again = service.call_once("move", "POST", "/v1/migrate/easycron", body).await.data(200);
    assert_eq!((&again["imported"], total(&service).await), (&json!(2), json!(2)));
}
