use crate::service::{KEY, Service, request};
use axum::body::Body;
use hyper::Request;
use serde_json::{Value, json};

/// A job with one member replaced.
fn job_with(field: &str, value: Value) -> Value {
    let mut body = json!({"name": "a", "cron_expression": "* * * * *", "url": "https://a.example"});
    body[field] = value;
    body
}

#[tokio::test]
async fn a_refusal_looks_as_documented() {
    let service = Service::start().await;
    let body = json!({"name": "a", "url": "https://a.example"});
    let answer = service.call("POST", "/v1/jobs", body).await;
    assert_eq!(answer.status.as_u16(), 400);
    let expected = json!({
        "error": {
            "code": "validation_error",
            "message": "cron_expression is required",
            "details": [{"field": "cron_expression", "issue": "must not be empty"}],
        },
    });
    assert_eq!(answer.json(), expected);
}

#[tokio::test]
async fn all_mistakes_are_listed_and_one_of_shape_makes_it_400() {
    let service = Service::start().await;
    let mut body = job_with("timeout_sec", json!(0));
    body["timezone"] = json!("Mars/Olympus");
    body["cron_expression"] = json!("61 * * * *");
    body["headers"] = json!({"Host": "b.example"});
    let answer = service.call("POST", "/v1/jobs", body.clone()).await;
    assert_eq!(answer.faults(422), ["cron_expression", "timezone", "timeout_sec", "headers.Host"]);
    body["retry_polcy"] = json!("none");
    let answer = service.call("POST", "/v1/jobs", body).await;
    assert_eq!(
        answer.faults(400),
        ["cron_expression", "timezone", "timeout_sec", "headers.Host", "retry_polcy"]
    );
}

#[tokio::test]
async fn each_wrong_type_is_400_and_each_senseless_value_422() {
    let service = Service::start().await;
    for (field, wrong_type, senseless) in [
        ("name", json!(7), json!("")),
        ("cron_expression", json!(["* * * * *"]), json!("* * * *")),
        ("url", json!({}), json!("not a url")),
        ("method", json!(1), json!("HEAD")),
        ("timezone", json!(null), json!("+02:00")),
        ("timeout_sec", json!("30"), json!(301)),
        ("retry_policy", json!(false), json!("quadratic")),
        ("retry_max", json!(1.5), json!(-1)),
        ("retry_delay_sec", json!("60"), json!(-1)),
        ("tags", json!("a"), json!(["1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11"])),
        ("space_id", json!(1), json!("sp_1")),
        ("overlap_policy", json!(null), json!("queue")),
        ("misfire_policy", json!(1), json!("run_all")),
        ("delivery", json!([]), json!("exactly_once")),
    ] {
        let answer = service.call("POST", "/v1/jobs", job_with(field, wrong_type)).await;
        assert_eq!(answer.faults(400), [field]);
        let answer = service.call("POST", "/v1/jobs", job_with(field, senseless)).await;
        assert_eq!(answer.faults(422), [field]);
    }
    for (field, value) in
        [("store_response_body", json!("yes")), ("body", json!({"a": 1})), ("headers", json!([]))]
    {
        let answer = service.call("POST", "/v1/jobs", job_with(field, value)).await;
        assert_eq!(answer.faults(400), [field]);
    }
    let answer = service.call("POST", "/v1/jobs", job_with("tags", json!(["a", 1]))).await;
    assert_eq!(answer.faults(400), ["tags[1]"]);
    let answer = service.call("POST", "/v1/jobs", job_with("headers", json!({"X-A": "a\r\nX-B: b"}))).await;
    assert_eq!(answer.faults(422), ["headers.X-A"]);
    let answer = service.call("POST", "/v1/jobs", job_with("alert_channel_ids", json!(["ch_1"]))).await;
    assert_eq!(answer.faults(422), ["alert_channel_ids[0]"]);
    let answer = service.call("POST", "/v1/jobs", job_with("url", json!("http://a.example"))).await;
    assert_eq!(answer.faults(422), ["url"]);
    assert!(answer.text.contains("url must use https"), "{}", answer.text);
    for url in ["https://{{job_id}}/", "https://a.example/{{job_id}}", "https://a.example:0/"] {
        let answer = service.call("POST", "/v1/jobs", job_with("url", json!(url))).await;
        assert_eq!(answer.faults(422), ["url"], "{url}");
    }
}

#[tokio::test]
async fn a_message_says_once_what_is_to_be_put_right() {
    let service = Service::start().await;
    for (field, value, expected) in [
        ("name", json!(""), "name must not be empty"),
        ("tags", json!(["a", ""]), "tags[1] must not be empty"),
        ("url", json!("/backup"), "url must start with https://"),
        ("url", json!("example.com:8080/backup"), "url must start with https://"),
        ("url", json!("ftp://a.example"), "url must start with https://"),
        (
            "cron_expression",
            json!("0 0 31 2 *"),
            "cron_expression never fires: no month it names has the days it names",
        ),
        (
            "cron_expression",
            json!("@reboot"),
            "cron_expression is not a valid cron expression: @reboot names no time",
        ),
        (
            "cron_expression",
            json!("* * * *"),
            "cron_expression is not a valid cron expression: expected 5 fields, found 4",
        ),
    ] {
        let answer = service.call("POST", "/v1/jobs", job_with(field, value)).await;
        assert_eq!((answer.code(422).as_str(), answer.message().as_str()), ("validation_error", expected));
    }
    let nothing = json!({"action": "pause", "job_ids": []});
    let answer = service.call("POST", "/v1/jobs/bulk", nothing).await;
    assert_eq!(answer.message(), "job_ids must not be empty");
    let answer = service.call("POST", "/v1/jobs/bulk", json!({"action": "pause"})).await;
    assert_eq!(answer.message(), "job_ids is required");
}

#[tokio::test]
async fn no_text_gets_past_the_parser_or_breaks_it() {
    let service = Service::start().await;
    let deep = [b"[".repeat(200_000), b"]".repeat(200_000)].concat();
    let huge_number = br#"{"timeout_sec":1e999}"#.to_vec();
    let texts: [Vec<u8>; 12] = [
        Vec::new(),
        b"{".to_vec(),
        b"null".to_vec(),
        b"[]".to_vec(),
        b"\"x\"".to_vec(),
        b"{} {}".to_vec(),
        b"{\"name\":\"\\ud800\"}".to_vec(),
        b"{\"name\":\"\xff\xfe\"}".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"{\"name\":\"a\",\"name\":\"b\"}".to_vec(),
        deep,
        huge_number,
    ];
    for text in texts {
        let shown = String::from_utf8_lossy(&text[..text.len().min(40)]).into_owned();
        let answer = service.call_text("POST", "/v1/jobs", text).await;
        assert!(!answer.faults(400).is_empty(), "{shown}");
    }
    let answer = service.call("POST", "/v1/jobs", job_with("name", json!("a\u{0}b"))).await;
    assert_eq!(answer.faults(422), ["name"]);
    let answer = service.call_text("POST", "/v1/jobs", r#"{"timeout_sec":99999999999999999999999}"#).await;
    assert!(answer.faults(400).contains(&"timeout_sec".to_owned()));
}

#[tokio::test]
async fn queries_are_checked() {
    let service = Service::start().await;
    let id = service.make_job().await;
    for (query, faults) in [
        ("page=0", vec!["page"]),
        ("page=x&per_page=101", vec!["page", "per_page"]),
        ("per_page=0", vec!["per_page"]),
        ("per_page=-1", vec!["per_page"]),
    ] {
        assert_eq!(service.get(&format!("/v1/jobs?{query}")).await.faults(422), faults);
        assert_eq!(service.get(&format!("/v1/jobs/{id}/executions?{query}")).await.faults(422), faults);
    }
    assert_eq!(service.get("/v1/jobs?status=running&page=0").await.faults(422), ["page", "status"]);
    service.get("/v1/jobs?search=%ff%00&tag=%F0%9F%98%80&unknown=1").await.data(200);
}

#[tokio::test]
async fn unknown_paths_methods_and_ids_have_the_same_shape() {
    let service = Service::start().await;
    for path in
        ["/", "/v1", "/v1/job", "/v1/jobs/", "/v2/jobs", "/v1/jobs/a/b", "/v1/jobs/%ff", "/v1/jobs/job_1"]
    {
        assert_eq!(service.get(path).await.code(404), "not_found", "{path}");
    }
    for path in
        ["/v1/executions/exec_1", "/v1/executions/exec_0000000000000000000000", "/v1/jobs/job_00000000000"]
    {
        assert_eq!(service.get(path).await.code(404), "not_found", "{path}");
    }
    let answer = service.call("PUT", "/v1/jobs", json!({})).await;
    assert_eq!(answer.code(405), "method_not_allowed");
    let mut allowed: Vec<_> = answer.headers["allow"].to_str().unwrap().split(',').collect();
    allowed.sort_unstable();
    assert_eq!(allowed, ["GET", "HEAD", "POST"]);

    let answer = service.call("OPTIONS", "/v1/jobs", json!({})).await;
    assert_eq!(answer.status.as_u16(), 204);
    assert!(answer.headers.contains_key("allow"));
}

#[tokio::test]
async fn bodies_have_a_size_and_a_type() {
    let service = Service::start().await;
    let large = job_with("body", json!("a".repeat(1024 * 1024))).to_string();
    let answer = service.call_text("POST", "/v1/jobs", large.clone()).await;
    assert_eq!(answer.code(413), "payload_too_large");
    // Without a length to announce it.
    let chunks = futures::stream::iter(
        large.into_bytes().chunks(9_999).map(|c| Ok::<_, std::io::Error>(c.to_vec())).collect::<Vec<_>>(),
    );
    let answer = service.call_text("POST", "/v1/jobs", Body::from_stream(chunks)).await;
    assert_eq!(answer.code(413), "payload_too_large");
    let answer = service.call("POST", "/v1/jobs", job_with("body", json!("a".repeat(600 * 1024)))).await;
    assert_eq!(answer.faults(422), ["body"]);

    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/jsonp", ""] {
        let mut request = request(KEY, "POST", "/v1/jobs", "{}");
        request.headers_mut().insert("content-type", content_type.parse().unwrap());
        assert_eq!(service.send(request).await.code(415), "unsupported_media_type");
    }
    let mut with_charset = request(KEY, "POST", "/v1/jobs", "{}");
    with_charset.headers_mut().insert("content-type", "Application/JSON; charset=utf-8".parse().unwrap());
    assert_eq!(service.send(with_charset).await.code(400), "validation_error");
    let untyped = Request::post("/v1/jobs").header("authorization", format!("Bearer {KEY}"));
    assert_eq!(
        service.send(untyped.body(Body::from("{}")).unwrap()).await.code(415),
        "unsupported_media_type"
    );
}

#[tokio::test]
async fn every_answer_has_its_own_request_id() {
    let service = Service::start().await;
    let mut seen = std::collections::BTreeSet::new();
    for path in ["/healthz", "/v1/jobs", "/nowhere", "/v1/jobs?page=0"] {
        let answer = service.get(path).await;
        assert!(seen.insert(answer.headers["x-request-id"].to_str().unwrap().to_owned()));
    }
}

#[tokio::test]
async fn what_needs_no_body_takes_none_that_means_something() {
    let service = Service::start().await;
    let job = service.make_job().await;
    let run = format!("/v1/jobs/{job}/run");
    for (body, status) in [("", 200), ("{}", 200), (" {} ", 200), ("null", 400), ("[]", 400), ("run", 400)] {
        let answer = service.call_text("POST", &run, body).await;
        assert_eq!(answer.status.as_u16(), status, "{body}");
    }
    assert_eq!(service.call("POST", &run, json!({"body": "another"})).await.faults(400), ["body"]);
    let request = Request::post(&run).header("authorization", format!("Bearer {KEY}"));
    let answer = service.send(request.body("body=another".into()).unwrap()).await;
    assert_eq!(answer.code(415), "unsupported_media_type");
    for path in
        [format!("/v1/jobs/{job}/pause"), format!("/v1/jobs/{job}/resume"), "/v1/billing/portal".to_owned()]
    {
        assert_eq!(service.call("POST", &path, json!({"a": 1})).await.faults(400), ["a"], "{path}");
    }
}
