use crate::service::{FOREIGN_KEY, KEY, Service, request};
use axum::body::Body;
use hyper::Request;

/// Everything that takes a credential.
const GUARDED: [(&str, &str); 11] = [
    ("GET", "/v1/jobs"),
    ("POST", "/v1/jobs"),
    ("GET", "/v1/jobs/job_00000000001"),
    ("PATCH", "/v1/jobs/job_00000000001"),
    ("DELETE", "/v1/jobs/job_00000000001"),
    ("POST", "/v1/jobs/job_00000000001/run"),
    ("POST", "/v1/jobs/job_00000000001/pause"),
    ("POST", "/v1/jobs/job_00000000001/resume"),
    ("GET", "/v1/jobs/job_00000000001/executions"),
    ("GET", "/v1/executions/exec_0000000000000000000001"),
    ("GET", "/v1/cluster"),
];

#[tokio::test]
async fn nothing_is_served_without_a_known_key() {
    let service = Service::start().await;
    let headers = [None, Some(""), Some("Bearer"), Some("Basic abc"), Some(KEY)];
    for (method, path) in GUARDED {
        for header in headers {
            let mut request = Request::builder().method(method).uri(path);
            if let Some(header) = header {
                request = request.header("authorization", header);
            }
            let answer = service.send(request.body(Body::empty()).unwrap()).await;
            assert_eq!(answer.code(401), "unauthorized", "{method} {path} {header:?}");
            assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
        }
        // A key of the right form that is unknown, and one that is nearly right.
        for key in [FOREIGN_KEY, &KEY[..KEY.len() - 1]] {
            let answer = service.send(request(key, method, path, "{}")).await;
            assert_eq!(answer.code(401), "unauthorized", "{method} {path}");
        }
    }
}

#[tokio::test]
async fn health_needs_no_key() {
    let service = Service::start().await;
    for (path, part) in [("/healthz", "ok"), ("/readyz", "ready"), ("/metrics", "justrun_raft_term 1")] {
        let answer = service.send(Request::get(path).body(Body::empty()).unwrap()).await;
        assert_eq!(answer.status.as_u16(), 200);
        assert!(answer.text.contains(part), "{path}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_refusal_never_repeats_the_key() {
    let service = Service::start().await;
    let answer = service.send(request(FOREIGN_KEY, "GET", "/v1/jobs", "")).await;
    assert!(!format!("{answer:?}").contains("ffffffff"));
}
