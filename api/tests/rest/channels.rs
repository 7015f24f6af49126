use crate::service::{ACCOUNT, FOREIGN_KEY, Service, request};
use domain::channel::{Channel, ChannelConfig, LastDelivery};
use domain::id::ChannelId;
use raft::command::{Command, CreateChannel};
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;
use storage::Read;
use storage::schema::Channels;

const PATH: &str = "/v1/alerts/channels";

fn slack() -> Value {
    json!({
        "type": "slack",
        "name": "Engineering Alerts",
        "config": {"webhook_url": "https://hooks.slack.com/services/T00/B00/xxx"},
    })
}

fn webhook(config: Value) -> Value {
    json!({"type": "webhook", "name": "Hook", "config": config})
}

async fn stored(service: &Service, channel: &Value) -> Channel {
    let id: ChannelId = channel["id"].as_str().unwrap().parse().unwrap();
    service.cluster().await.state().view().get::<Channels>(&(ACCOUNT, id)).unwrap().unwrap()
}

fn secret_of(channel: &Channel) -> &str {
    match &channel.config {
        ChannelConfig::Webhook { secret, .. } => secret,
        other => panic!("{other:?}"),
    }
}

async fn make(service: &Service, body: Value) -> Value {
    service.call("POST", PATH, body).await.data(201)
}

fn place(channel: &Value) -> String {
    format!("{PATH}/{}", channel["id"].as_str().unwrap())
}

#[tokio::test]
async fn the_documented_channels_are_made_as_documented() {
    let service = Service::start().await;
    let answer = service
        .call_text(
            "POST",
            PATH,
            r#"{
"type": "slack",
"name": "Engineering Alerts",
"config": {
"webhook_url": "https://hooks.slack.com/services/T00/B00/xxx"
}
}"#,
        )
        .await;
    let mut channel = answer.data(201);
    assert!(channel["id"].as_str().unwrap().starts_with("ch_"));
    channel.as_object_mut().unwrap().remove("id");
    let expected = json!({
        "type": "slack",
        "name": "Engineering Alerts",
        "config": {"webhook_url": "https://hooks.slack.com/services/T00/B00/xxx"},
        "created_at": "2026-04-10T14:22:00Z",
        "events": ["job.failed", "job.recovered"],
        "updated_at": "2026-04-10T14:22:00Z",
        "last_delivery": null,
    });
    assert_eq!(channel, expected);

    let discord = service
        .call_text(
            "POST",
            PATH,
            r#"{
"type": "discord",
"name": "DevOps Discord",
"config": {
"webhook_url": "https://discord.com/api/webhooks/1234567890/abcdef..."
}
}"#,
        )
        .await
        .data(201);
    assert_eq!(
        discord["config"],
        json!({"webhook_url": "https://discord.com/api/webhooks/1234567890/abcdef..."})
    );

    let email = json!({
        "type": "email",
        "name": "On-Call Team",
        "config": {"addresses": ["oncall@example.com", "lead+alerts@ops.example.com"]},
    });
    assert_eq!(make(&service, email.clone()).await["config"], email["config"]);
}

#[tokio::test]
async fn the_documented_webhook_to_pager_duty_is_taken_as_it_is_written() {
    let service = Service::start().await;
    let answer = service
        .call_text(
            "POST",
            PATH,
            r#"{
"type": "webhook",
"name": "PagerDuty Integration",
"config": {
"url": "https://events.pagerduty.com/v2/enqueue",
"headers": {
"Content-Type": "application/json"
},
"secret": "whsec_your_signing_secret"
}
}"#,
        )
        .await;
    let channel = answer.data(201);
    let expected = json!({
        "url": "https://events.pagerduty.com/v2/enqueue",
        "headers": {"Content-Type": "application/json"},
        "secret": "whsec_…cret",
    });
    assert_eq!(channel["config"], expected);
    assert_eq!(channel["type"], "webhook");
    assert_eq!(channel["events"], json!(["job.executed", "job.failed", "job.recovered"]));
    assert!(matches!(
        stored(&service, &channel).await.config,
        ChannelConfig::PagerDuty { routing_key: None, .. }
    ));

    let key = "0123456789abcdef0123456789abcdef";
    let changed =
        service.call("PATCH", &place(&channel), json!({"config": {"routing_key": key}})).await.data(200);
    assert_eq!(changed["config"]["routing_key"], "…cdef");
    assert_eq!(changed["config"]["url"], expected["url"]);
    let again = service.call("PATCH", &place(&channel), json!({"config": changed["config"]})).await.data(200);
    assert_eq!(again, changed, "what was read can be sent again");
    match stored(&service, &channel).await.config {
        ChannelConfig::PagerDuty { routing_key, .. } => assert_eq!(routing_key.as_deref(), Some(key)),
        other => panic!("{other:?}"),
    }

    let europe = webhook(json!({"url": "https://events.eu.pagerduty.com/v2/enqueue", "routing_key": key}));
    let channel = make(&service, europe).await;
    assert!(channel["config"].get("secret").is_none(), "nothing is signed, so no secret is made");
    for odd in [&key[1..], &format!("{key}0")] {
        let answer = service.call("PATCH", &place(&channel), json!({"config": {"routing_key": odd}})).await;
        assert_eq!(answer.faults(422), ["config.routing_key"], "{odd}");
    }
    let elsewhere = webhook(json!({"url": "https://a.example", "routing_key": key}));
    assert_eq!(service.call("POST", PATH, elsewhere).await.faults(422), ["config.routing_key"]);
}

#[tokio::test]
async fn a_missing_secret_is_made_and_shown_once() {
    let service = Service::start().await;
    let made = make(&service, webhook(json!({"url": "https://a.example/hook"}))).await;
    let secret = made["config"]["secret"].as_str().unwrap().to_owned();
    let encoded = secret.strip_prefix("whsec_").unwrap();
    assert_eq!(encoded.len(), 44, "32 bytes in base64");
    assert_eq!(secret_of(&stored(&service, &made).await), secret);
    assert_eq!(made["events"], json!(["job.executed", "job.failed", "job.recovered"]));
    assert_eq!(made["config"]["headers"], json!({}));

    let masked = format!("whsec_…{}", &secret[secret.len() - 4..]);
    let read = service.get(&place(&made)).await.data(200);
    assert_eq!(read["config"]["secret"], masked);
    assert_eq!(service.get(PATH).await.data(200)[0], read);

    let kept = json!({"name": "Other", "config": {"secret": masked}});
    let kept = service.call("PATCH", &place(&made), kept).await.data(200);
    assert_eq!(kept["config"]["secret"], masked);
    assert_eq!(secret_of(&stored(&service, &made).await), secret);

    let changed = json!({"config": {"secret": "a secret of ours"}});
    let changed = service.call("PATCH", &place(&made), changed).await.data(200);
    assert_eq!(changed["config"]["secret"], "whsec_…ours");
    assert_eq!(secret_of(&stored(&service, &made).await), "a secret of ours");

    let renewed = service.call("PATCH", &place(&made), json!({"config": {"secret": null}})).await.data(200);
    assert_eq!(renewed["config"]["secret"], secret_of(&stored(&service, &made).await));
    assert_ne!(renewed["config"]["secret"], secret);
    let shown = json!({"config": {"secret": "whsec_…nope"}});
    assert_eq!(service.call("PATCH", &place(&made), shown).await.faults(422), ["config.secret"]);
}

#[tokio::test]
async fn the_list_is_whole_and_oldest_first() {
    let service = Service::start().await;
    let mut ids = Vec::new();
    for name in ["a", "b", "c"] {
        let mut body = slack();
        body["name"] = json!(name);
        ids.push(make(&service, body).await["id"].clone());
        service.clock.advance(Duration::from_secs(1));
    }
    let answer = service.get(PATH).await;
    assert!(answer.json().get("meta").is_none());
    let listed: Vec<_> = answer.data(200).as_array().unwrap().iter().map(|c| c["id"].clone()).collect();
    assert_eq!(listed, ids);
    assert_eq!(
        service.call("DELETE", &format!("{PATH}/{}", ids[1].as_str().unwrap()), json!({})).await.status,
        204
    );
    assert_eq!(service.get(PATH).await.data(200).as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn changes_are_merged_and_what_was_read_can_be_sent_again() {
    let service = Service::start().await;
    let config =
        json!({"url": "https://a.example/x", "headers": {"X-B": "1", "X-A": "2"}, "secret": "topsecret"});
    let made = make(&service, webhook(config)).await;
    service.clock.advance(Duration::from_secs(5));
    let same = service.call("PATCH", &place(&made), made.clone()).await.data(200);
    assert_eq!(same, made);

    let body = json!({"events": ["job.recovered", "job.failed", "job.failed"], "config": {"headers": {}}});
    let changed = service.call("PATCH", &place(&made), body).await.data(200);
    assert_eq!(changed["events"], json!(["job.failed", "job.recovered"]));
    assert_eq!(
        changed["config"],
        json!({"url": "https://a.example/x", "headers": {}, "secret": "whsec_…cret"})
    );
    assert_eq!(changed["created_at"], made["created_at"]);
    assert_eq!(changed["updated_at"], "2026-04-10T14:22:05Z");
    let all = service.call("PATCH", &place(&made), json!({"events": null})).await.data(200);
    assert_eq!(all["events"].as_array().unwrap().len(), 3);

    let other = json!({"type": "slack", "config": {"url": "https://b.example"}});
    assert_eq!(service.call("PATCH", &place(&made), other).await.faults(422), ["type"]);
    assert_eq!(service.get(&place(&made)).await.data(200), all);
}

#[tokio::test]
async fn every_bad_field_is_named_with_its_path() {
    let service = Service::start().await;
    let cases = [
        (json!({}), 400, vec!["type", "name", "config"]),
        (json!([]), 400, vec!["$"]),
        (json!({"type": "pager", "name": "a", "config": {}}), 422, vec!["type"]),
        (json!({"type": 1, "name": 2, "config": 3}), 400, vec!["type", "name"]),
        (json!({"type": "slack", "name": "a", "config": "x"}), 400, vec!["config"]),
        (json!({"type": "slack", "name": "", "config": {}}), 400, vec!["name", "config.webhook_url"]),
        (
            json!({"type": "slack", "name": "a", "config": {"webhook_url": "http://a.example", "x": 1}, "evnts": []}),
            400,
            vec!["evnts", "config.webhook_url", "config.x"],
        ),
        (
            json!({"type": "discord", "name": "a", "config": {"webhook_url": "hooks"}}),
            422,
            vec!["config.webhook_url"],
        ),
        (
            json!({"type": "slack", "name": "a", "config": {"url": "https://a.example"}}),
            400,
            vec!["config.webhook_url", "config.url"],
        ),
        (json!({"type": "email", "name": "a", "config": {}}), 400, vec!["config.addresses"]),
        (json!({"type": "email", "name": "a", "config": {"addresses": []}}), 422, vec!["config.addresses"]),
        (
            json!({"type": "email", "name": "a", "config": {"addresses": "a@b.example"}}),
            400,
            vec!["config.addresses"],
        ),
        (
            json!({"type": "email", "name": "a", "config": {"addresses": ["a@b.example", "nobody", "a b@c.example", "@c.example", "a@", "a@-c.example", "a..b@c.example", "A <a@c.example>"]}}),
            422,
            (1..8)
                .map(|n| {
                    [
                        "",
                        "config.addresses[1]",
                        "config.addresses[2]",
                        "config.addresses[3]",
                        "config.addresses[4]",
                        "config.addresses[5]",
                        "config.addresses[6]",
                        "config.addresses[7]",
                    ][n]
                })
                .collect(),
        ),
        (
            json!({"type": "email", "name": "a", "config": {"addresses": ["a@b.example", 7]}}),
            400,
            vec!["config.addresses[1]"],
        ),
        (webhook(json!({"url": "https://u:p@a.example"})), 422, vec!["config.url"]),
        (
            webhook(
                json!({"url": "https://a.example", "headers": {"X-A": 1, "Host": "b", "X B": "c"}, "secret": 5}),
            ),
            400,
            vec!["config.headers.Host", "config.headers.X B", "config.headers.X-A", "config.secret"],
        ),
        (webhook(json!({"url": "https://a.example", "secret": ""})), 422, vec!["config.secret"]),
        (
            json!({"type": "slack", "name": "a", "config": {"webhook_url": "https://a.example"}, "events": ["job.failed", "job.skipped"]}),
            422,
            vec!["events[1]"],
        ),
        (
            json!({"type": "slack", "name": "a", "config": {"webhook_url": "https://a.example"}, "events": []}),
            422,
            vec!["events"],
        ),
        (
            json!({"type": "slack", "name": "é".repeat(101), "config": {"webhook_url": "https://a.example"}}),
            422,
            vec!["name"],
        ),
    ];
    for (body, status, faults) in cases {
        let answer = service.call("POST", PATH, body.clone()).await;
        assert_eq!(answer.faults(status), faults, "{body}");
    }
    assert_eq!(service.get(PATH).await.data(200), json!([]));
}

#[tokio::test]
async fn others_channels_do_not_exist() {
    let service = Service::start().await;
    service.add_foreign_account().await;
    let made = make(&service, slack()).await;
    let unknown = format!("{PATH}/ch_00000000009");
    for path in [place(&made), unknown, format!("{PATH}/ch_sL3kNm9wR2")] {
        for (method, path) in [
            ("GET", path.clone()),
            ("PATCH", path.clone()),
            ("DELETE", path.clone()),
            ("POST", format!("{path}/test")),
        ] {
            let answer = service.send(request(FOREIGN_KEY, method, &path, "{}")).await;
            assert_eq!(answer.code(404), "not_found", "{method} {path}");
        }
    }
    assert_eq!(service.send(request(FOREIGN_KEY, "GET", PATH, "")).await.data(200), json!([]));
    assert_eq!(service.send(request("jrun_sk_none", "GET", PATH, "")).await.code(401), "unauthorized");
    service.get(&place(&made)).await.data(200);
    assert_eq!(service.tester.sent.load(Ordering::SeqCst), 0);
}

fn named(method: &str, path: &str, body: String) -> hyper::Request<axum::body::Body> {
    let mut request = request(crate::service::KEY, method, path, body);
    request.headers_mut().insert("idempotency-key", "once".parse().unwrap());
    request
}

#[tokio::test]
async fn a_repeated_creation_gets_the_same_channel_and_the_same_secret() {
    let service = Service::start().await;
    let body = webhook(json!({"url": "https://a.example/hook"})).to_string();
    let first = service.send(named("POST", PATH, body.clone())).await;
    let again = service.send(named("POST", PATH, body)).await;
    assert_eq!((first.status, &first.text), (again.status, &again.text));
    assert!(!again.data(201)["config"]["secret"].as_str().unwrap().contains('…'));
    assert_eq!(service.get(PATH).await.data(200).as_array().unwrap().len(), 1);
    let other = service.send(named("POST", PATH, slack().to_string())).await;
    assert_eq!(other.code(409), "conflict");
}

#[tokio::test]
async fn a_test_says_whether_it_arrived() {
    let service = Service::start().await;
    let made = make(&service, slack()).await;
    let path = format!("{}/test", place(&made));
    let expected = json!({
        "channel_id": made["id"],
        "status": "delivered",
        "message": "Test notification sent successfully",
    });
    assert_eq!(service.post(&path).await.data(200), expected);
    let mut broken = slack();
    broken["name"] = json!("broken");
    let broken = make(&service, broken).await;
    let answer = service.post(&format!("{}/test", place(&broken))).await.data(200);
    assert_eq!(
        (&answer["status"], &answer["message"]),
        (&json!("failed"), &json!("Slack answered 404: no_service"))
    );

    assert_eq!(service.tester.sent.load(Ordering::SeqCst), 2);
    for _ in 0..2 {
        assert_eq!(service.send(named("POST", &path, String::new())).await.data(200), expected);
    }
    assert_eq!(service.tester.sent.load(Ordering::SeqCst), 3, "a repetition sends nothing");
}

#[tokio::test]
async fn a_test_that_hangs_is_answered_in_time() {
    let service = Service::start().await;
    let mut hanging = slack();
    hanging["name"] = json!("hanging");
    let hanging = make(&service, hanging).await;
    let started = std::time::Instant::now();
    let answer = service.post(&format!("{}/test", place(&hanging))).await.data(200);
    assert!(started.elapsed() < Duration::from_secs(10));
    assert_eq!((&answer["status"], &answer["message"]), (&json!("failed"), &json!("No answer within 9s")));
}

#[tokio::test]
async fn the_last_message_shows() {
    let service = Service::start().await;
    let made = make(&service, slack()).await;
    let mut channel = stored(&service, &made).await;
    channel.id = ChannelId(1);
    let at = channel.created_at;
    channel.last_delivery = Some(LastDelivery { at, error: Some("Slack answered 500".to_owned()) });
    let command = Command::CreateChannel(Box::new(CreateChannel { channel }));
    service.cluster().await.propose(command).await.unwrap();
    let read = service.get(&format!("{PATH}/{}", ChannelId(1))).await.data(200);
    let expected = json!({"status": "failed", "at": "2026-04-10T14:22:00Z", "error": "Slack answered 500"});
    assert_eq!(read["last_delivery"], expected);
}

#[tokio::test]
async fn an_account_has_so_many_channels() {
    let service = Service::start().await;
    let made = make(&service, slack()).await;
    for id in 1..100 {
        let channel = Channel { id: ChannelId(id), ..stored(&service, &made).await };
        let command = Command::CreateChannel(Box::new(CreateChannel { channel }));
        service.cluster().await.propose(command).await.unwrap();
    }
    let refused = service.call("POST", PATH, slack()).await;
    assert_eq!(refused.code(409), "conflict");
    assert_eq!(refused.message(), "an account has at most 100 alert channels");
}

#[tokio::test]
async fn jobs_name_channels_of_their_account_and_forget_those_that_go() {
    let service = Service::start().await;
    service.add_foreign_account().await;
    let (one, two) =
        (make(&service, slack()).await["id"].clone(), make(&service, slack()).await["id"].clone());
    let foreign =
        service.send(request(FOREIGN_KEY, "POST", PATH, slack().to_string())).await.data(201)["id"].clone();
    let body = |channels: Value| {
        json!({
            "name": "a", "cron_expression": "* * * * *", "url": "https://a.example", "alert_channel_ids": channels,
        })
    };
    let answer = service.call("POST", "/v1/jobs", body(json!([one, foreign, "ch_00000000001"]))).await;
    assert_eq!(answer.faults(422), ["alert_channel_ids[1]", "alert_channel_ids[2]"]);
    let job = service.call("POST", "/v1/jobs", body(json!([two, one, two]))).await.data(201);
    assert_eq!(job["alert_channel_ids"], json!([two, one]));

    service.call("DELETE", &format!("{PATH}/{}", two.as_str().unwrap()), json!({})).await;
    let path = format!("/v1/jobs/{}", job["id"].as_str().unwrap());
    assert_eq!(service.get(&path).await.data(200)["alert_channel_ids"], json!([one]));
    assert_eq!(service.get("/v1/jobs").await.json()["data"][0]["alert_channel_ids"], json!([one]));
    let renamed = service.call("PATCH", &path, json!({"name": "b"})).await.data(200);
    assert_eq!(renamed["alert_channel_ids"], json!([one]));
    service.call("DELETE", &format!("{PATH}/{}", one.as_str().unwrap()), json!({})).await;
    assert_eq!(service.get(&path).await.data(200)["alert_channel_ids"], json!([]), "not every channel");
    let all = service.call("PATCH", &path, json!({"alert_channel_ids": null})).await.data(200);
    assert_eq!(all["alert_channel_ids"], json!(null));
}
