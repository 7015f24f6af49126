use crate::service::{ACCOUNT, Answer, Service};
use axum::body::Body;
use domain::id::JobId;
use hyper::Request;
use serde_json::json;
use std::time::Duration;

/// Asks a node that has seen everything: badges show what a node knows itself.
async fn badge_now(service: &Service, path: &str, known: Option<&str>) -> Answer {
    service.caught_up().await;
    badge(service, path, known).await
}

/// Asks as everybody can: without a credential.
async fn badge(service: &Service, path: &str, known: Option<&str>) -> Answer {
    let mut request = Request::builder().uri(path);
    if let Some(known) = known {
        request = request.header("if-none-match", known);
    }
    service.send(request.body(Body::empty()).unwrap()).await
}

#[track_caller]
fn check(answer: &Answer, status: u16, says: &str, colour: &str) {
    assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    assert_eq!(answer.headers["content-type"], "image/svg+xml");
    assert_eq!(answer.headers["cache-control"], "no-cache, max-age=0, must-revalidate");
    assert!(answer.text.contains(&format!("<title>{says}</title>")), "{answer:?}");
    assert!(answer.text.contains(&format!("fill=\"{colour}\"")), "{answer:?}");
}

#[tokio::test]
async fn the_status_follows_the_job() {
    let service = Service::start().await;
    let job = service.make_job().await;
    let path = format!("/badges/{job}/status.svg");
    check(&badge_now(&service, &path, None).await, 200, "justrun: pending", "#939393");
    service.run_to_end(job, 200).await;
    check(&badge_now(&service, &path, None).await, 200, "justrun: passing", "#4b0");
    service.run_to_end(job, 500).await;
    check(&badge_now(&service, &path, None).await, 200, "justrun: failing", "#dd4343");
    service.post(&format!("/v1/jobs/{job}/pause")).await.data(200);
    check(&badge_now(&service, &path, None).await, 200, "justrun: paused", "#939393");
    service.post(&format!("/v1/jobs/{job}/resume")).await.data(200);
    let space = service.add_space(1, ACCOUNT, "UTC").await;
    service.call("PATCH", &format!("/v1/jobs/{job}"), json!({"space_id": space})).await.data(200);
    check(&badge_now(&service, &path, None).await, 200, "justrun: failing", "#dd4343");
    service.post(&format!("/v1/spaces/{space}/pause")).await.data(200);
    check(&badge_now(&service, &path, None).await, 200, "justrun: paused", "#939393");
}

#[tokio::test]
async fn the_uptime_is_that_of_thirty_days() {
    let service = Service::start().await;
    let job = service.make_job().await;
    let path = format!("/badges/{job}/uptime.svg");
    check(&badge_now(&service, &path, None).await, 200, "uptime: n/a", "#939393");
    for (code, says, colour) in [(200, "100%", "#4b0"), (500, "50%", "#dd4343"), (200, "66.66%", "#dd4343")] {
        service.run_to_end(job, code).await;
        check(&badge_now(&service, &path, None).await, 200, &format!("uptime: {says}"), colour);
    }
    service.clock.advance(Duration::from_secs(29 * 24 * 3_600));
    service.run_to_end(job, 200).await;
    check(&badge_now(&service, &path, None).await, 200, "uptime: 75%", "#dd4343");
    service.clock.advance(Duration::from_secs(24 * 3_600));
    check(&badge_now(&service, &path, None).await, 200, "uptime: 100%", "#4b0");
}

#[tokio::test]
async fn what_is_unknown_is_grey_also_without_a_leader() {
    for service in [Service::start().await, Service::start_without_quorum().await] {
        for name in ["status", "uptime"] {
            for id in [JobId(9).to_string(), "nonsense".to_owned(), "%3Cscript%3E".to_owned()] {
                let label = if name == "status" { "justrun" } else { "uptime" };
                let answer = badge(&service, &format!("/badges/{id}/{name}.svg"), Some("*")).await;
                check(&answer, 404, &format!("{label}: not found"), "#939393");
            }
        }
        let answer = badge(&service, "/badges/job_1/other.svg", None).await;
        assert_eq!(answer.code(404), "not_found");
    }
}

#[tokio::test]
async fn what_the_client_knows_is_not_sent_again() {
    let service = Service::start().await;
    let job = service.make_job().await;
    for (name, code) in [("status", 200), ("uptime", 500)] {
        let path = format!("/badges/{job}/{name}.svg");
        let first = badge_now(&service, &path, None).await;
        let tag = first.headers["etag"].to_str().unwrap().to_owned();
        assert!(tag.starts_with('"') && tag.len() > 10, "a strong entity tag: {tag}");
        for known in [tag.clone(), format!("\"other\", W/{tag}"), "*".to_owned()] {
            let again = badge_now(&service, &path, Some(&known)).await;
            assert_eq!((again.status.as_u16(), again.text.as_str()), (304, ""));
            assert_eq!(again.headers["etag"], tag);
            assert_eq!(again.headers["cache-control"], "no-cache, max-age=0, must-revalidate");
        }
        service.run_to_end(job, code).await;
        let changed = badge_now(&service, &path, Some(&tag)).await;
        assert_eq!(changed.status.as_u16(), 200);
        assert_ne!(changed.headers["etag"], tag);
    }
}
