//! Every sender against a fake that answers as the real service does.

use super::message::Message;
use super::*;
use crate::clock::SystemClock;
use crate::executor::egress::{EgressError, EgressPolicy, Lookup, system_lookup};
use bytes::Bytes;
use domain::channel::EventKind;
use domain::delivery::Delivery;
use domain::id::{AccountId, ChannelId, ExecutionId, JobId};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// 2026-04-10T15:45:00Z, the documented example.
const AT: Timestamp = Timestamp::from_secs(1_775_835_900);

/// The documented failure.
pub(super) fn failed() -> Delivery {
    let execution = ExecutionId::scheduled(JobId(7), AT);
    Delivery {
        id: DeliveryId { execution, event: EventKind::Failed, channel: ChannelId(9) },
        account: AccountId(1),
        job_name: "Daily DB Backup".to_owned(),
        job_url: "https://api.example.com/backup?token=secret".to_owned(),
        status_code: Some(503),
        duration_ms: 30_012,
        error: Some("Request timed out after 30s".to_owned()),
        executed_at: AT.minus(Duration::from_secs(30)),
        created_at: AT,
        due: AT,
        attempt: 1,
        holder: None,
    }
}

fn channel(config: ChannelConfig) -> Channel {
    Channel {
        id: ChannelId(9),
        account: AccountId(1),
        name: "Engineering".to_owned(),
        events: config.default_events(),
        config,
        last_delivery: None,
        created_at: AT,
        updated_at: AT,
    }
}

pub(super) fn message_test() -> Message {
    let config = ChannelConfig::Slack { webhook_url: String::new() };
    Message::test(failed().id, &channel(config), AT)
}

/// A request as it arrived.
#[derive(Clone, Debug)]
struct Seen {
    path: String,
    headers: HeaderMap,
    body: String,
}

impl Seen {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }
}

/// Status, headers and body of an answer.
type Given = (u16, Vec<(&'static str, String)>, String);

fn text(status: u16, body: &str) -> Given {
    (status, Vec::new(), body.to_owned())
}

/// An HTTP service that answers as `answer` says.
struct Fake {
    addr: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    _tasks: JoinSet<()>,
}

impl Fake {
    async fn start(answer: fn(&Seen) -> Given) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
        let recorded = Arc::clone(&seen);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let recorded = Arc::clone(&recorded);
                let service = service_fn(move |request: Request<Incoming>| {
                    let recorded = Arc::clone(&recorded);
                    async move {
                        assert_eq!(request.method(), "POST");
                        let (parts, body) = request.into_parts();
                        let body = body.collect().await.unwrap().to_bytes();
                        let body = String::from_utf8(body.to_vec()).unwrap();
                        let seen = Seen { path: parts.uri.path().to_owned(), headers: parts.headers, body };
                        let (status, headers, body) = answer(&seen);
                        recorded.lock().push(seen);
                        let mut response = Response::builder().status(status);
                        for (name, value) in headers {
                            response = response.header(name, value);
                        }
                        Ok::<_, Infallible>(response.body(Full::new(Bytes::from(body))).unwrap())
                    }
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                connections.spawn(async move {
                    let _ = connection.await;
                });
            }
        });
        Self { addr, seen, _tasks: tasks }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    fn last(&self) -> Seen {
        self.seen.lock().last().expect("there was a request").clone()
    }
}

fn open() -> EgressPolicy {
    EgressPolicy { allow_private: true, allow_http: true, ..EgressPolicy::default() }
}

fn senders_with(egress: EgressPolicy, lookup: Lookup, mailer: Option<Mailer>) -> Senders {
    let client = GuardedClient::with_lookup(egress, CONNECT_TIMEOUT, 1, lookup).unwrap();
    Senders::with_client(client, mailer, Arc::new(SystemClock::new()))
}

fn senders() -> Senders {
    senders_with(open(), system_lookup, None)
}

async fn send(config: ChannelConfig) -> Result<(), Refusal> {
    senders().send(&config, &Message::of(&failed())).await
}

fn never(reason: &str) -> Result<(), Refusal> {
    Err(Refusal::never(reason))
}

fn later(reason: &str, asked_secs: Option<u64>) -> Result<(), Refusal> {
    Err(Refusal {
        reason: reason.to_owned(),
        again: Again::Later { asked: asked_secs.map(Duration::from_secs) },
    })
}

fn slack_answers(seen: &Seen) -> Given {
    match seen.path.as_str() {
        "/services/limited" => (429, vec![("retry-after", "30".to_owned())], "rate_limited".to_owned()),
        "/services/down" => text(500, "rollup_error"),
        "/services/revoked" => text(403, "invalid_token"),
        "/services/gone" => text(404, "no_service"),
        "/services/archived" => text(410, "channel_is_archived"),
        "/services/moved" => (302, vec![("location", "http://127.0.0.1:1/".to_owned())], String::new()),
        "/services/page" => text(502, "<html>Bad gateway</html>"),
        _ if seen.json()["text"].as_str().is_none_or(str::is_empty) => text(400, "no_text"),
        _ => text(200, "ok"),
    }
}

#[tokio::test]
async fn slack_takes_it_or_says_why_not() {
    let fake = Fake::start(slack_answers).await;
    let slack = |path: &str| send(ChannelConfig::Slack { webhook_url: fake.url(path) });
    assert_eq!(slack("/services/T00/B00/xxx").await, Ok(()));
    let seen = fake.last();
    assert_eq!(seen.header("content-type"), "application/json");
    assert!(seen.header("user-agent").starts_with("JustRun/"));
    assert!(!seen.body.contains("token=secret"), "the rest of the URL is nobody's business");
    assert_eq!(slack("/services/limited").await, later("Slack answered 429: rate_limited", Some(30)));
    assert_eq!(slack("/services/down").await, later("Slack answered 500: rollup_error", None));
    assert_eq!(slack("/services/revoked").await, never("Slack answered 403: invalid_token"));
    assert_eq!(slack("/services/gone").await, never("Slack answered 404: no_service"));
    assert_eq!(slack("/services/archived").await, never("Slack answered 410: channel_is_archived"));
    assert_eq!(
        slack("/services/moved").await,
        later("Slack answered 302 redirect to http://127.0.0.1:1/", None),
        "redirects are not followed"
    );
    assert_eq!(slack("/services/page").await, later("Slack answered 502", None));
}

fn discord_answers(seen: &Seen) -> Given {
    let body = seen.json();
    match seen.path.as_str() {
        "/api/webhooks/1/limited" => {
            let body =
                json!({"message": "You are being rate limited.", "retry_after": 64.57, "global": false});
            (429, vec![("retry-after", "64".to_owned())], body.to_string())
        }
        "/api/webhooks/1/gone" => text(404, r#"{"message": "Unknown Webhook", "code": 10015}"#),
        _ if body["allowed_mentions"]["parse"] != json!([]) || body["embeds"][0]["title"].is_null() => {
            text(400, r#"{"message": "Cannot send an empty message", "code": 50006}"#)
        }
        _ => text(204, ""),
    }
}

#[tokio::test]
async fn discord_takes_it_or_says_why_not() {
    let fake = Fake::start(discord_answers).await;
    let discord = |path: &str| send(ChannelConfig::Discord { webhook_url: fake.url(path) });
    assert_eq!(discord("/api/webhooks/1/token").await, Ok(()));
    let refused = discord("/api/webhooks/1/gone").await.unwrap_err();
    assert_eq!(refused.again, Again::Never);
    assert!(refused.reason.contains("Unknown Webhook"), "{refused:?}");
    let limited = discord("/api/webhooks/1/limited").await.unwrap_err();
    assert_eq!(limited.again, Again::Later { asked: Some(Duration::from_secs(65)) });
}

fn receiver_answers(seen: &Seen) -> Given {
    match seen.path.as_str() {
        "/gone" => text(410, ""),
        "/bad" => text(400, "no such event"),
        "/busy" => (503, vec![("retry-after", "Thu, 31 Dec 2099 23:59:59 GMT".to_owned())], String::new()),
        "/busy-odd" => (503, vec![("retry-after", "soon".to_owned())], String::new()),
        "/endless" => text(500, &"x".repeat(1024 * 1024)),
        _ => text(200, r#"{"received":true}"#),
    }
}

#[tokio::test]
async fn a_webhook_gets_the_signed_envelope_and_the_channels_headers() {
    let fake = Fake::start(receiver_answers).await;
    let webhook = |path: &str, headers: &[(&str, &str)]| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        send(ChannelConfig::Webhook { url: fake.url(path), headers, secret: "whsec_s".to_owned() })
    };
    let headers = [
        ("X-Team", "ops"),
        ("content-type", "application/vnd.x+json"),
        ("X-JustRun-Signature", "forged"),
        ("Host", "x"),
    ];
    assert_eq!(webhook("/hook", &headers).await, Ok(()));
    let seen = fake.last();
    assert_eq!(seen.header("x-team"), "ops");
    assert_eq!(seen.header("content-type"), "application/vnd.x+json");
    assert_eq!(seen.header("host"), fake.addr.to_string());
    assert_eq!(seen.header("x-justrun-delivery"), failed().id.to_string());
    assert_eq!(seen.json()["id"], failed().id.to_string());
    // What it should be is checked beside the code that makes it.
    let signatures: Vec<_> = seen.headers.get_all("x-justrun-signature").iter().collect();
    assert_eq!(signatures.len(), 1);
    assert!(seen.header("x-justrun-signature").starts_with("sha256="));
    assert_eq!(seen.header("x-justrun-signature").len(), 71);

    assert_eq!(webhook("/gone", &[]).await, never("The webhook answered 410"));
    assert_eq!(webhook("/bad", &[]).await, later("The webhook answered 400: no such event", None));
    assert_eq!(webhook("/busy-odd", &[]).await, later("The webhook answered 503", None));
    let busy = webhook("/busy", &[]).await.unwrap_err();
    assert!(
        matches!(busy.again, Again::Later { asked: Some(asked) } if asked > Duration::from_secs(1 << 30))
    );
    let endless = webhook("/endless", &[]).await.unwrap_err();
    assert_eq!(endless.reason.chars().count(), "The webhook answered 500: ".len() + 200);
}

#[tokio::test]
async fn what_jobs_may_not_call_channels_may_not_either() {
    let fake = Fake::start(receiver_answers).await;
    let local = |url: String| ChannelConfig::Slack { webhook_url: url };
    let strict =
        senders_with(EgressPolicy { allow_http: true, ..EgressPolicy::default() }, system_lookup, None);
    let refused = strict.send(&local(fake.url("/x")), &Message::of(&failed())).await;
    assert_eq!(refused, later(EgressError::Private.message(), None));
    let resolved =
        senders_with(EgressPolicy { allow_http: true, ..EgressPolicy::default() }, to_loopback, None);
    let url = format!("http://innocent.test:{}/x", fake.addr.port());
    assert_eq!(
        resolved.send(&local(url), &Message::of(&failed())).await,
        later(EgressError::Private.message(), None)
    );
    assert!(fake.seen.lock().is_empty());
    assert_eq!(send(local("http://127.0.0.1:1/".to_owned())).await, later("Connection refused", None));
}

fn to_loopback(_name: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
    Box::pin(async { Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))]) })
}

fn pager_duty_answers(seen: &Seen) -> Given {
    let body = seen.json();
    let key_length = body["routing_key"].as_str().unwrap_or_default().len();
    if key_length != 32 {
        let errors = json!({
            "status": "invalid event",
            "message": "Event object is invalid",
            "errors": ["Length of 'routing_key' is incorrect (should be 32 characters)"],
        });
        return text(400, &errors.to_string());
    }
    assert!(body["event_action"] != "trigger" || body["payload"]["summary"].is_string());
    let taken = json!({"status": "success", "message": "Event processed", "dedup_key": body["dedup_key"]});
    text(202, &taken.to_string())
}

#[tokio::test]
async fn pager_duty_opens_closes_and_refuses() {
    let fake = Fake::start(pager_duty_answers).await;
    let senders = senders_with(open(), to_loopback, None);
    let config = |routing_key: Option<&str>| ChannelConfig::PagerDuty {
        url: format!("http://events.pagerduty.com:{}/v2/enqueue", fake.addr.port()),
        headers: vec![("Content-Type".to_owned(), "application/json".to_owned())],
        routing_key: routing_key.map(str::to_owned),
        secret: Some("whsec_your_signing_secret".to_owned()),
    };
    let key = "0123456789abcdef0123456789abcdef";
    let mut delivery = failed();
    assert_eq!(senders.send(&config(Some(key)), &Message::of(&delivery)).await, Ok(()));
    delivery.id.event = EventKind::Recovered;
    assert_eq!(senders.send(&config(Some(key)), &Message::of(&delivery)).await, Ok(()));
    let seen: Vec<_> = fake.seen.lock().iter().map(Seen::json).collect();
    assert_eq!(seen[0]["event_action"], "trigger");
    assert_eq!(seen[1]["event_action"], "resolve");
    assert_eq!(seen[0]["dedup_key"], seen[1]["dedup_key"]);

    let refused = senders.send(&config(Some("short")), &Message::of(&delivery)).await.unwrap_err();
    assert_eq!(refused.again, Again::Never);
    assert!(refused.reason.contains("routing_key"), "{refused:?}");
    let missing = senders.send(&config(None), &Message::of(&delivery)).await.unwrap_err();
    assert_eq!(missing.again, Again::Never);
    assert!(missing.reason.starts_with("config.routing_key is missing"), "{missing:?}");
    assert_eq!(fake.seen.lock().len(), 3, "nothing is sent without a key");
}

/// Recipients and text.
type Mail = (Vec<String>, String);

/// A mail server that takes everything but for mailboxes called `gone` (never) and `later` (not now).
struct Sink {
    addr: SocketAddr,
    mails: Arc<Mutex<Vec<Mail>>>,
    _tasks: JoinSet<()>,
}

impl Sink {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let mails: Arc<Mutex<Vec<Mail>>> = Arc::default();
        let taken = Arc::clone(&mails);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let taken = Arc::clone(&taken);
                connections.spawn(async move {
                    let _ = converse(stream, &taken).await;
                });
            }
        });
        Self { addr, mails, _tasks: tasks }
    }
}

async fn converse(stream: TcpStream, mails: &Mutex<Vec<Mail>>) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    writer.write_all(b"220 sink ESMTP\r\n").await?;
    let mut recipients = Vec::new();
    while let Some(line) = lines.next_line().await? {
        let verb = line.get(..4).unwrap_or_default().to_ascii_uppercase();
        let reply = match verb.as_str() {
            "EHLO" => "250-sink\r\n250 8BITMIME\r\n",
            "RCPT" if line.contains("<gone@") => "550 5.1.1 no such mailbox\r\n",
            "RCPT" if line.contains("<later@") => "451 4.3.0 try again\r\n",
            "RCPT" => {
                let address = line.split(['<', '>']).nth(1).unwrap_or_default();
                recipients.push(address.to_owned());
                "250 ok\r\n"
            }
            "DATA" => {
                writer.write_all(b"354 go on\r\n").await?;
                let mut text = String::new();
                while let Some(line) = lines.next_line().await?
                    && line != "."
                {
                    text.push_str(&line);
                    text.push('\n');
                }
                mails.lock().push((std::mem::take(&mut recipients), text));
                "250 taken\r\n"
            }
            "QUIT" => "221 bye\r\n",
            _ => {
                recipients.clear();
                "250 ok\r\n"
            }
        };
        writer.write_all(reply.as_bytes()).await?;
    }
    Ok(())
}

#[tokio::test]
async fn mail_reaches_all_whom_it_can_reach() {
    let sink = Sink::start().await;
    let mailer = Mailer::new(&format!("smtp://{}", sink.addr), Some("JustRun <alerts@example.com>")).unwrap();
    let senders = senders_with(open(), system_lookup, Some(mailer));
    let message = Message::of(&failed());
    let mail = |names: &[&str]| {
        let addresses = names.iter().map(|name| format!("{name}@example.com")).collect();
        let (senders, message) = (senders.clone(), message.clone());
        async move { senders.send(&ChannelConfig::Email { addresses }, &message).await }
    };
    assert_eq!(mail(&["a", "b"]).await, Ok(()));
    {
        let mails = sink.mails.lock();
        assert_eq!(mails.len(), 1, "one mail to all");
        assert_eq!(mails[0].0, ["a@example.com", "b@example.com"]);
        assert!(mails[0].1.contains("Subject: [JustRun] Daily DB Backup failed\n"), "{}", mails[0].1);
        assert!(mails[0].1.contains("Request timed out after 30s"));
    }
    assert_eq!(mail(&["a", "gone"]).await, Ok(()));
    assert_eq!(sink.mails.lock().last().unwrap().0, ["a@example.com"]);
    let gone = mail(&["gone"]).await.unwrap_err();
    assert_eq!(gone.again, Again::Never);
    assert!(gone.reason.contains("no such mailbox"), "{gone:?}");
    let later = mail(&["a", "later"]).await.unwrap_err();
    assert_eq!(later.again, Again::Later { asked: None });
    assert_eq!(sink.mails.lock().len(), 2, "a mail that is sent again later went to nobody now");
}

#[tokio::test]
async fn without_a_mail_server_mail_fails_and_says_why() {
    let config = ChannelConfig::Email { addresses: vec!["a@example.com".to_owned()] };
    assert_eq!(send(config.clone()).await, never(email::NOT_CONFIGURED));
    let mailer = Mailer::new("smtp://127.0.0.1:1", None).unwrap();
    let unreachable = senders_with(open(), system_lookup, Some(mailer));
    let refused = unreachable.send(&config, &Message::of(&failed())).await.unwrap_err();
    assert_eq!(refused.again, Again::Later { asked: None });

    let tested = api::ChannelTester::test(&senders(), &channel(config), failed().id, AT).await;
    assert_eq!(tested, Err(email::NOT_CONFIGURED.to_owned()));
}

#[tokio::test]
async fn a_test_goes_the_way_of_every_message() {
    let fake = Fake::start(slack_answers).await;
    let channel = channel(ChannelConfig::Slack { webhook_url: fake.url("/services/T00/B00/xxx") });
    assert_eq!(api::ChannelTester::test(&senders(), &channel, failed().id, AT).await, Ok(()));
    assert!(fake.last().json()["text"].as_str().unwrap().starts_with("Test notification for Engineering"));
}
