//! `Idempotency-Key`: a request that is repeated changes nothing more and gets its first answer again.

use crate::nodes::Setup;
use crate::service::{Answer, KEY, Service, eventually, request};
use domain::id::NodeId;
use hyper::header::HeaderValue;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

fn job(name: &str) -> Value {
    json!({"name": name, "cron_expression": "*/5 * * * *", "url": "https://api.example.com/x"})
}

#[tokio::test]
async fn a_job_is_made_once_and_the_answer_is_the_same() {
    let service = Service::start().await;
    let first = service.post_once("k1", "/v1/jobs", &job("a")).await;
    let id = first.data(201)["id"].clone();
    service.clock.advance(Duration::from_secs(23 * 3_600));
    let again = service.post_once("k1", "/v1/jobs", &job("a")).await;
    assert_eq!((again.status, &again.text), (first.status, &first.text));
    assert_eq!(service.get("/v1/jobs").await.json()["meta"]["total"], 1);

    assert_eq!(service.post_once("k1", "/v1/jobs", &job("b")).await.code(409), "conflict");
    assert_ne!(service.post_once("k2", "/v1/jobs", &job("a")).await.data(201)["id"], id, "another key");
    service.clock.advance(Duration::from_secs(2 * 3_600));
    assert_ne!(service.post_once("k1", "/v1/jobs", &job("a")).await.data(201)["id"], id, "a day is over");
}

#[tokio::test]
async fn a_run_is_made_once_and_a_pause_is_not_its_own_conflict() {
    let service = Service::start().await;
    let id = service.make_job().await;
    let run = format!("/v1/jobs/{id}/run");
    let first = service.post_once("r", &run, &json!({})).await.data(200);
    assert_eq!(service.post_once("r", &run, &json!({})).await.data(200), first);
    assert_eq!(service.get(&format!("/v1/jobs/{id}/executions")).await.json()["meta"]["total"], 1);

    let pause = format!("/v1/jobs/{id}/pause");
    let paused = service.post_once("p", &pause, &json!({})).await.data(200);
    assert_eq!(service.post_once("p", &pause, &json!({})).await.data(200), paused);
    assert_eq!(service.post_once("p2", &pause, &json!({})).await.code(409), "conflict");
    // What was refused left no trace, so the same name can still do it.
    let resume = format!("/v1/jobs/{id}/resume");
    service.post_once("p3", &resume, &json!({})).await.data(200);
    service.post_once("p2", &pause, &json!({})).await.data(200);
}

#[tokio::test]
async fn repetitions_at_the_same_time_make_one_job() {
    let service = Service::start().await;
    let body = job("a");
    let posts = (0..8).map(|_| service.post_once("same", "/v1/jobs", &body));
    let answers = futures::future::join_all(posts).await;
    for answer in &answers {
        assert_eq!(answer.text, answers[0].text);
        answer.data(201);
    }
    assert_eq!(service.get("/v1/jobs").await.json()["meta"]["total"], 1);
}

#[tokio::test]
async fn a_name_that_is_none_is_refused() {
    let service = Service::start().await;
    for name in ["", " ", &"x".repeat(256)] {
        assert_eq!(service.post_once(name, "/v1/jobs", &job("a")).await.faults(422), ["Idempotency-Key"]);
    }
    // What is wrong with the request is said each time, and leaves the name free.
    assert_eq!(service.post_once("k", "/v1/jobs", &json!({"name": 7})).await.status.as_u16(), 400);
    service.post_once("k", "/v1/jobs", &job("a")).await.data(201);
}

/// When the leader dies that was asked.
#[derive(Clone, Copy, Debug)]
enum Death {
    /// With the request not yet proposed.
    AtOnce,
    /// So long after it was asked; its answer may be on its way.
    After(Duration),
    /// Once another node has applied what it was asked for.
    Committed,
    /// Once it has answered.
    Answered,
}

/// Asks the leader for a job, lets it die, and returns its answer, if there was one.
async fn ask_and_kill(service: &mut Service, leader: NodeId, death: Death) -> Option<Answer> {
    let other = service.nodes().iter().find(|node| node.id != leader).unwrap().cluster.clone();
    let before = other.status().applied;
    let answer = {
        let mut request = request(KEY, "POST", "/v1/jobs", job("a").to_string());
        request.headers_mut().insert("idempotency-key", "k".parse().unwrap());
        let asked = service.node(leader).send(request);
        tokio::pin!(asked);
        match death {
            Death::AtOnce => {
                let polled = futures::poll!(&mut asked);
                assert!(polled.is_pending(), "an answer needs the others");
                None
            }
            Death::After(after) => timeout(after, asked).await.ok(),
            Death::Committed => {
                let committed = eventually("the entry elsewhere", async || {
                    let applied = other.status().applied;
                    if applied > before { Ok(()) } else { Err(format!("{applied} of {before}")) }
                });
                tokio::pin!(committed);
                // The answer is not waited for when the entry is seen first.
                tokio::select! {
                    () = &mut committed => None,
                    answer = &mut asked => { committed.await; Some(answer) }
                }
            }
            Death::Answered => Some(asked.await),
        }
    };
    service.kill(leader);
    answer
}

#[tokio::test]
async fn a_request_outlives_the_leader_that_was_asked() {
    let moments = [1, 3, 6].map(|ms| Death::After(Duration::from_millis(ms)));
    for death in [Death::AtOnce, Death::Committed, Death::Answered].into_iter().chain(moments) {
        let mut service = Service::set_up(Setup::mortal()).await;
        let leader = service.leader().await;
        service.caught_up().await;
        let answer = ask_and_kill(&mut service, leader, death).await;
        let mut answers: Vec<_> = answer.into_iter().map(|answer| (answer.status, answer.text)).collect();
        // Twice on each of the others, as a client does that knows nothing of who leads.
        for _ in 0..4 {
            let answer = eventually("an answer", async || {
                let answer = service.post_once("k", "/v1/jobs", &job("a")).await;
                if answer.status.as_u16() == 503 { Err(format!("{answer:?}")) } else { Ok(answer) }
            })
            .await;
            answers.push((answer.status, answer.text));
        }
        assert_eq!(answers[0].0.as_u16(), 201, "{death:?}: {answers:?}");
        assert!(answers.iter().all(|answer| *answer == answers[0]), "{death:?}: {answers:?}");
        assert_eq!(service.get("/v1/jobs").await.json()["meta"]["total"], 1, "{death:?}");
    }
}

#[tokio::test]
async fn a_request_to_another_node_outlives_the_leader() {
    let mut service = Service::set_up(Setup::mortal()).await;
    let leader = service.leader().await;
    service.caught_up().await;
    service.kill(leader);
    // The node has yet to notice. It answers all the same, once there is another leader.
    let body = job("a");
    let answers = futures::future::join_all((0..4).map(|_| service.post_once("k", "/v1/jobs", &body))).await;
    for answer in &answers {
        answer.data(201);
        assert_eq!(answer.text, answers[0].text);
    }
    assert_eq!(service.get("/v1/jobs").await.json()["meta"]["total"], 1);
}

#[tokio::test]
async fn a_key_is_one_text_of_printable_characters() {
    let service = Service::start().await;
    let send = async |keys: &[&[u8]]| {
        let mut request = request(KEY, "POST", "/v1/jobs", job("a").to_string());
        for key in keys {
            request.headers_mut().append("idempotency-key", HeaderValue::from_bytes(key).unwrap());
        }
        service.send(request).await
    };
    for keys in [&[&b""[..]][..], &[b" "], &[b"a\tb"], &[b"\xe4"], &[&[b'a'; 256]], &[b"a", b"a"]] {
        assert_eq!(send(keys).await.faults(422), ["Idempotency-Key"], "{keys:?}");
    }
    assert_eq!(service.get("/v1/jobs").await.json()["meta"]["total"], 0);
    send(&[&[b'a'; 255]]).await.data(201);
}
