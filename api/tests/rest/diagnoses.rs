use crate::executions::{attempt, claim_firing, record};
use crate::outside::{Fault, HTML, OPENAI, Outside, openai};
use crate::service::{FOREIGN_KEY, Service, request};
use api::services::{Secret, Services};
use domain::account::Plan;
use domain::execution::{AttemptResult, ErrorKind, ResponseBody};
use domain::id::ExecutionId;
use serde_json::json;

/// Makes an execution that ended with this.
async fn make_execution(service: &Service, failure: Option<(ErrorKind, &str)>) -> ExecutionId {
    let body = json!({
        "name": "Payroll",
        "cron_expression": "*/5 * * * *",
        "url": "https://api.example.com/pay?token=hush",
        "method": "POST",
        "headers": {"Authorization": "Bearer hush"},
        "body": "hush",
        "store_response_body": true,
    });
    let job = service.call("POST", "/v1/jobs", body).await.data(201)["id"].as_str().unwrap().parse().unwrap();
    let id = claim_firing(service, job, 180).await;
    let body = ResponseBody { text: "Too many connections".to_owned(), truncated: false };
    let attempt = attempt(1, 180, failure, Some(503));
    record(service, id, 1, AttemptResult::Sent { attempt, body: Some(body), retry_at: None }).await;
    id
}

async fn make_failure(service: &Service) -> ExecutionId {
    let redirect = "HTTP 302 redirect to https://login.example.com/in?token=hush";
    make_execution(service, Some((ErrorKind::HttpStatus, redirect))).await
}

fn path(id: ExecutionId) -> String {
    format!("/v1/executions/{id}/diagnosis")
}

#[tokio::test]
async fn a_failure_is_explained_kept_and_counted() {
    let service = Service::start_on(Plan::Maker).await;
    let id = make_failure(&service).await;
    assert_eq!(service.get(&format!("/v1/executions/{id}")).await.data(200).get("diagnosis"), None);
    let expected = json!({
        "execution_id": id.to_string(),
        "diagnosis": openai::DIAGNOSIS,
        "model": openai::MODEL,
        "created_at": "2026-04-10T14:22:00Z",
    });
    assert_eq!(service.post(&path(id)).await.data(200), expected);
    let kept = service.get(&format!("/v1/executions/{id}")).await.data(200)["diagnosis"].clone();
    assert_eq!(kept, expected);
    let used = json!({"used": 1, "limit": 20, "resets_at": "2026-04-11T00:00:00Z"});
    assert_eq!(service.get("/v1/billing/usage").await.data(200)["ai_diagnoses"], used);
}

#[tokio::test]
async fn the_model_learns_what_happened_and_no_secret() {
    let service = Service::start().await;
    let id = make_failure(&service).await;
    service.post(&path(id)).await.data(200);
    let chats = service.outside.openai.chats();
    assert_eq!((chats.len(), &chats[0]["stream"]), (1, &json!(false)));
    assert_eq!(chats[0]["messages"][0]["role"], "system");
    let facts = chats[0]["messages"][1]["content"].as_str().unwrap();
    let expected = "Request: POST https://api.example.com/pay\nTimeout: 30 s\nStarted by: schedule\n\
         Due at: 2026-04-10T14:25:00Z\n\
         Attempt 1: status 503 after 1042 ms, http_status: HTTP 302 redirect to https://login.example.com/in\n\
         The target's last answer began with:\nToo many connections\n";
    assert_eq!(facts, expected);
    assert!(!chats[0].to_string().contains("hush"));
}

#[tokio::test]
async fn only_ones_own_failures_are_explained() {
    let service = Service::start().await;
    service.add_foreign_account().await;
    let id = make_failure(&service).await;
    let foreign = service.send(request(FOREIGN_KEY, "POST", &path(id), "")).await;
    assert_eq!(foreign.code(404), "not_found");
    assert_eq!(service.post("/v1/executions/exec_1/diagnosis").await.code(404), "not_found");
    assert_eq!(service.send(request("jrun_sk_wrong", "POST", &path(id), "")).await.code(401), "unauthorized");
    let success = make_execution(&service, None).await;
    assert_eq!(service.post(&path(success)).await.code(409), "conflict");
    let job = service.make_job().await;
    let waiting = claim_firing(&service, job, 180).await;
    assert_eq!(service.post(&path(waiting)).await.code(409), "conflict");
    assert_eq!(service.outside.calls(OPENAI).len(), 0);
}

#[tokio::test]
async fn the_plan_limits_diagnoses() {
    let free = Service::start_on(Plan::Free).await;
    let id = make_failure(&free).await;
    let answer = free.post(&path(id)).await;
    assert_eq!(answer.code(403), "plan_limit_exceeded");
    assert_eq!(answer.json()["error"]["message"], "your plan allows at most 0 diagnoses a day");
    assert_eq!(free.outside.calls(OPENAI).len(), 0);

    let maker = Service::start_on(Plan::Maker).await;
    let id = make_failure(&maker).await;
    for _ in 0..20 {
        maker.post(&path(id)).await.data(200);
    }
    assert_eq!(maker.post(&path(id)).await.code(403), "plan_limit_exceeded");
    maker.clock.advance(std::time::Duration::from_secs(86_400));
    maker.post(&path(id)).await.data(200);
}

#[tokio::test]
async fn a_repetition_is_not_counted() {
    let service = Service::start().await;
    let id = make_failure(&service).await;
    let first = service.call_once("why", "POST", &path(id), json!({})).await;
    assert_eq!(first.data(200), service.call_once("why", "POST", &path(id), json!({})).await.data(200));
    assert_eq!(service.outside.calls(OPENAI), ["POST /v1/chat/completions"]);
    assert_eq!(service.get("/v1/billing/usage").await.data(200)["ai_diagnoses"]["used"], 1);
}

#[tokio::test]
async fn without_the_setting_there_are_none() {
    let service = Service::start_with(Plan::Scale, Services::new("https://justrun.test/")).await;
    let id = make_failure(&service).await;
    assert_eq!(service.post(&path(id)).await.code(422), "diagnosis_not_configured");
}

#[tokio::test]
async fn failures_of_the_model_are_told_and_not_counted() {
    let service = Service::start().await;
    let id = make_failure(&service).await;
    let nonsense = "The diagnosis service gave an answer that makes no sense";
    for (fault, message) in [
        (Fault::Timeout, "The diagnosis service did not answer in time"),
        (Fault::Unreachable, "The diagnosis service cannot be reached"),
        (Fault::Answer(500, None, ""), "The diagnosis service answered with status 500"),
        (Fault::Answer(429, Some("20"), "{}"), "The diagnosis service is busy, try again"),
        (Fault::Answer(200, None, HTML), nonsense),
        (Fault::Answer(200, None, "{\"choices\":[]}"), nonsense),
        (Fault::Answer(200, None, "{\"choices\":[{\"message\":{\"content\":\" \"}}]}"), nonsense),
        (Fault::Answer(200, None, "{\"choices\":[{\"message\":{\"content\":null}}]}"), nonsense),
    ] {
        service.outside.fail(OPENAI, fault);
        let answer = service.post(&path(id)).await;
        assert_eq!(answer.code(502), "upstream_error");
        assert_eq!(answer.json()["error"]["message"], message);
    }
    assert_eq!(service.get("/v1/billing/usage").await.data(200)["ai_diagnoses"]["used"], 0);
    let mut services = Outside::services();
    services.diagnosis.as_mut().unwrap().key = Some(Secret::new("wrong"));
    let service = Service::start_with(Plan::Scale, services).await;
    let id = make_failure(&service).await;
    assert_eq!(service.post(&path(id)).await.code(502), "upstream_error");
}
