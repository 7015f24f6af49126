use super::*;
use crate::clock::SystemClock;
use crate::executor::egress::EgressError;
use crate::executor::guarded::POOL_IDLE_TIMEOUT;
use futures::future::join;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

/// 2026-01-02T03:04:05.678Z
const SCHEDULED_AT: Timestamp = Timestamp::from_millis(1_767_323_045_678);

fn open_policy() -> EgressPolicy {
    EgressPolicy { allow_private: true, allow_http: true, ..EgressPolicy::default() }
}

fn client() -> HttpClient {
    HttpClient::new(HttpSettings::new(open_policy())).unwrap()
}

fn request(url: impl Into<String>) -> Request {
    Request { url: url.into(), method: Method::Get, headers: Vec::new(), body: None, timeout_sec: 10 }
}

fn attempt_of(request: &Request) -> AttemptRequest<'_> {
    AttemptRequest {
        request,
        job: JobId(7),
        job_name: "Nightly é",
        execution: ExecutionId::scheduled(JobId(7), SCHEDULED_AT),
        attempt: 2,
        scheduled_at: SCHEDULED_AT,
        node: NodeId(3),
        store_response_body: true,
    }
}

async fn send(client: &HttpClient, request: &Request) -> AttemptReport {
    client.send(attempt_of(request), &SystemClock::new(), may).await.expect("it may start")
}

fn may(_: Timestamp) -> Result<(), Infallible> {
    Ok(())
}

/// What went wrong, as status, kind and message.
async fn failing(client: &HttpClient, request: &Request) -> (Option<u16>, ErrorKind, String) {
    let attempt = send(client, request).await.attempt;
    let failure = attempt.failure.expect("it fails");
    (attempt.status_code, failure.kind, failure.message)
}

/// A request as it arrived.
#[derive(Clone, Debug, Default)]
struct Seen {
    line: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Seen {
    fn header(&self, name: &str) -> Vec<&str> {
        self.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect()
    }
}

/// Reads one request; `None` once the client has closed the connection.
async fn read_request(stream: &mut TcpStream) -> Option<Seen> {
    let mut bytes = Vec::new();
    let head_end = loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8_lossy(&bytes[..head_end]).into_owned();
    let mut lines = head.lines();
    let line = lines.next()?.to_owned();
    let headers = lines
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
        .collect();
    let mut seen = Seen { line, headers, body: String::new() };
    let length: usize = seen.header("content-length").first().map_or(0, |length| length.parse().unwrap());
    while bytes.len() < head_end + 4 + length {
        stream.read_buf(&mut bytes).await.ok()?;
    }
    seen.body = String::from_utf8_lossy(&bytes[head_end + 4..]).into_owned();
    Some(seen)
}

/// A target that gives every request the same bytes as an answer.
struct Target {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    connections: Arc<Mutex<usize>>,
    _tasks: JoinSet<()>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    KeepOpen,
    Close,
}

impl Target {
    async fn answering(answer: impl Into<Vec<u8>>, then: Then) -> Self {
        let answer: Arc<[u8]> = answer.into().into();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let connections = Arc::new(Mutex::new(0));
        let mut tasks = JoinSet::new();
        let (requests, accepted) = (Arc::clone(&seen), Arc::clone(&connections));
        tasks.spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                *accepted.lock() += 1;
                let (requests, answer) = (Arc::clone(&requests), Arc::clone(&answer));
                open.spawn(async move {
                    while let Some(request) = read_request(&mut stream).await {
                        requests.lock().push(request);
                        // The client may well hang up before it has read all.
                        let written = stream.write_all(&answer).await;
                        if written.is_err() || then == Then::Close {
                            break;
                        }
                    }
                });
            }
        });
        Self { address, seen, connections, _tasks: tasks }
    }

    async fn with_body(status: &str, body: &str) -> Self {
        Self::answering(
            format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len()),
            Then::KeepOpen,
        )
        .await
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    fn only_request(&self) -> Seen {
        let seen = self.seen.lock();
        assert_eq!(seen.len(), 1);
        seen[0].clone()
    }
}

#[tokio::test]
async fn a_2xx_is_a_success_and_its_body_is_kept() {
    for status in ["200 OK", "201 Created", "204 No Content", "299 Odd"] {
        let body = if status.starts_with("204") { "" } else { "all good" };
        let target = Target::with_body(status, body).await;
        let report = send(&client(), &request(target.url("/"))).await;
        assert_eq!(report.attempt.failure, None, "{status}");
        assert_eq!(report.attempt.status_code.map(|code| code.to_string()).as_deref(), status.get(..3));
        assert_eq!((report.attempt.number, report.attempt.node), (2, NodeId(3)));
        assert!(report.attempt.finished_at >= report.attempt.started_at);
        assert_eq!(report.body, Some(ResponseBody { text: body.to_owned(), truncated: false }));
    }
}

#[tokio::test]
async fn a_body_is_kept_only_for_jobs_that_want_it() {
    let target = Target::with_body("200 OK", "secret").await;
    let request = request(target.url("/"));
    let attempt = AttemptRequest { store_response_body: false, ..attempt_of(&request) };
    let report = client().send(attempt, &SystemClock::new(), may).await.unwrap();
    assert_eq!((report.attempt.status_code, report.body), (Some(200), None));
}

#[tokio::test]
async fn any_other_status_is_a_failure() {
    for (status, code) in
        [("503 Service Unavailable", 503), ("404 Not Found", 404), ("304 Not Modified", 304)]
    {
        let target = Target::with_body(status, "").await;
        let expected = (Some(code), ErrorKind::HttpStatus, format!("HTTP {code}"));
        assert_eq!(failing(&client(), &request(target.url("/"))).await, expected);
    }
    let target = Target::with_body("500 Internal Server Error", "stack trace").await;
    let body = send(&client(), &request(target.url("/"))).await.body.unwrap();
    assert_eq!(body.text, "stack trace");
}

#[tokio::test]
async fn a_busy_target_is_left_alone_for_as_long_as_it_asks() {
    let asked = async |status: &str, header: &str| {
        let answer = format!("HTTP/1.1 {status}\r\n{header}content-length: 0\r\n\r\n");
        let target = Target::answering(answer, Then::KeepOpen).await;
        send(&client(), &request(target.url("/"))).await.retry_after
    };
    let two_minutes = Some(Duration::from_secs(120));
    let date = "date: Mon, 01 Jun 2026 12:00:00 GMT\r\nretry-after: Mon, 01 Jun 2026 12:02:00 GMT\r\n";
    for status in ["429 Too Many Requests", "503 Service Unavailable"] {
        assert_eq!(asked(status, "retry-after: 120\r\n").await, two_minutes);
        assert_eq!(asked(status, date).await, two_minutes);
        assert_eq!(asked(status, "retry-after: soon\r\n").await, None);
        assert_eq!(asked(status, "").await, None);
    }
    // Elsewhere it means something else, or nothing.
    for status in ["200 OK", "301 Moved Permanently", "500 Internal Server Error"] {
        assert_eq!(asked(status, "retry-after: 120\r\n").await, None, "{status}");
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_says_where_it_led() {
    for (location, led_to) in
        [("https://elsewhere.test/a?b", "https://elsewhere.test/a?b"), ("/login", "/login")]
    {
        let answer = format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n");
        let target = Target::answering(answer, Then::KeepOpen).await;
        let led_to = if led_to.starts_with('/') { target.url(led_to) } else { led_to.to_owned() };
        let expected = (Some(302), ErrorKind::HttpStatus, format!("HTTP 302 redirect to {led_to}"));
        assert_eq!(failing(&client(), &request(target.url("/"))).await, expected);
        assert_eq!(target.seen.lock().len(), 1);
    }
}

#[tokio::test]
async fn a_target_that_stalls_times_out_wherever_it_stalls() {
    for answer in ["", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"] {
        let target = Target::answering(answer, Then::KeepOpen).await;
        let request = Request { timeout_sec: 1, ..request(target.url("/")) };
        let report = send(&client(), &request).await;
        let failure = report.attempt.failure.unwrap();
        assert_eq!((report.attempt.status_code, failure.kind), (Some(503), ErrorKind::Timeout));
        assert_eq!(failure.message, "Request timed out after 1s");
        assert!((1_000..5_000).contains(&report.attempt.duration_ms), "{} ms", report.attempt.duration_ms);
        assert_eq!(report.body, None);
    }
}

#[tokio::test]
async fn what_arrived_while_the_process_was_stopped_is_read() {
    // From another thread, since this one stands still. Longer than what is read at once.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (asked, is_asked) = tokio::sync::oneshot::channel();
    let target = std::thread::spawn(move || {
        use std::io::{Read, Write};
        let (mut stream, _) = listener.accept().unwrap();
        let read = stream.read(&mut [0; 4_096]).unwrap();
        asked.send(read).unwrap();
        let body = "x".repeat(1_000_000);
        write!(stream, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", body.len()).unwrap();
    });
    let (client, request) = (client(), Request { timeout_sec: 1, ..request(url) });
    let stop = async {
        is_asked.await.unwrap();
        #[expect(clippy::disallowed_methods, reason = "the whole process is to stand still")]
        std::thread::sleep(Duration::from_secs(2));
    };
    let (report, ()) = join(send(&client, &request), stop).await;
    target.join().unwrap();
    assert_eq!((report.attempt.status_code, report.attempt.failure), (Some(200), None));
}

#[tokio::test]
async fn a_connection_that_breaks_is_a_failure() {
    let unanswered = Target::answering("", Then::Close).await;
    let (status, kind, message) = failing(&client(), &request(unanswered.url("/"))).await;
    assert_eq!((status, kind), (None, ErrorKind::Connect));
    assert!(!message.contains("127.0.0.1"), "{message}");

    let half = Target::answering("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", Then::Close).await;
    let expected =
        (Some(200), ErrorKind::Connect, "Connection broke before the answer was complete".to_owned());
    assert_eq!(failing(&client(), &request(half.url("/"))).await, expected);

    let nonsense = Target::answering("SSH-2.0-OpenSSH_9.9\r\n\r\n", Then::Close).await;
    let (status, kind, message) = failing(&client(), &request(nonsense.url("/"))).await;
    assert_eq!((status, kind), (None, ErrorKind::Connect));
    assert!(message.starts_with("No valid answer: "), "{message}");
}

#[tokio::test]
async fn a_refused_connection_says_so_without_the_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let expected = (None, ErrorKind::Connect, "Connection refused".to_owned());
    assert_eq!(failing(&client(), &request(format!("http://{address}/"))).await, expected);
}

#[tokio::test]
async fn an_unknown_host_is_a_dns_failure() {
    let expected = (None, ErrorKind::Dns, "Host name nobody.invalid cannot be resolved".to_owned());
    assert_eq!(failing(&client(), &request("http://nobody.invalid/")).await, expected);
}

#[tokio::test]
async fn a_target_without_tls_is_a_tls_failure() {
    for answer in [&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], b""] {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let request = request(format!("https://{}/", listener.local_addr().unwrap()));
        let target = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            // The client's greeting; what is left unread would make the close a reset.
            stream.read_buf(&mut Vec::with_capacity(64 * 1024)).await.unwrap();
            stream.write_all(answer).await.unwrap();
        };
        let client = client();
        let ((status, kind, message), ()) = join(failing(&client, &request), target).await;
        assert_eq!((status, kind), (None, ErrorKind::Tls), "{message}");
        assert!(message.starts_with("TLS failed: ") && !message.contains("127.0.0.1"), "{message}");
    }
}

#[tokio::test]
async fn private_targets_are_refused_unless_allowed() {
    let strict =
        HttpClient::new(HttpSettings::new(EgressPolicy { allow_http: true, ..EgressPolicy::default() }))
            .unwrap();
    let target = Target::with_body("200 OK", "").await;
    let port = target.address.port();
    let expected = (None, ErrorKind::BlockedTarget, EgressError::Private.message().to_owned());
    for host in [
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f.1",
        "017700000001",
        "0.0.0.0",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
    ] {
        assert_eq!(failing(&strict, &request(format!("http://{host}:{port}/"))).await, expected, "{host}");
    }
    assert_eq!(*target.connections.lock(), 0);
}

fn to_loopback(_name: String) -> Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>> {
    Box::pin(async { Ok(vec![SocketAddr::from(([127, 0, 0, 1], 0))]) })
}

#[tokio::test]
async fn a_name_that_resolves_to_a_private_address_is_refused() {
    let target = Target::with_body("200 OK", "").await;
    let request = request(format!("http://innocent.test:{}/", target.address.port()));
    let client = |egress| HttpClient::with_lookup(HttpSettings::new(egress), to_loopback).unwrap();
    let expected = |error: EgressError| (None, ErrorKind::BlockedTarget, error.message().to_owned());

    let strict = EgressPolicy { allow_http: true, ..EgressPolicy::default() };
    assert_eq!(failing(&client(strict), &request).await, expected(EgressError::Private));
    let own = EgressPolicy { refused_endpoints: [target.address].into(), ..open_policy() };
    assert_eq!(failing(&client(own), &request).await, expected(EgressError::Own));
    assert_eq!(*target.connections.lock(), 0);

    assert_eq!(send(&client(open_policy()), &request).await.attempt.status_code, Some(200));
}

#[tokio::test]
async fn an_endpoint_of_the_cluster_that_has_a_name_is_refused_by_whatever_leads_there() {
    let target = Target::with_body("200 OK", "").await;
    let port = target.address.port();
    let own = EgressPolicy { refused_names: [("node1.internal".to_owned(), port)].into(), ..open_policy() };
    let client = HttpClient::with_lookup(HttpSettings::new(own), to_loopback).unwrap();
    let expected = (None, ErrorKind::BlockedTarget, EgressError::Own.message().to_owned());
    for host in ["node1.internal", "alias.test", "127.0.0.1", "[::ffff:127.0.0.1]", "2130706433"] {
        assert_eq!(failing(&client, &request(format!("http://{host}:{port}/"))).await, expected, "{host}");
    }
    assert_eq!(*target.connections.lock(), 0);

    let other = Target::with_body("200 OK", "").await;
    assert_eq!(send(&client, &request(other.url("/"))).await.attempt.status_code, Some(200));
}

#[tokio::test]
async fn http_is_refused_unless_allowed() {
    let strict = HttpClient::new(HttpSettings::new(EgressPolicy::default())).unwrap();
    let expected = (None, ErrorKind::BlockedTarget, "Target must be https".to_owned());
    assert_eq!(failing(&strict, &request("http://example.com/")).await, expected);
}

#[tokio::test]
async fn a_request_is_filled_in_and_bears_our_headers() {
    let target = Target::with_body("200 OK", "").await;
    let mut request = request(target.url("/{{job_id}}?a={{attempt}}&n={{job_name}}&u={{unknown}}"));
    request.headers = [
        ("X-Run", "{{execution_id}}/{{attempt}} {{unknown}}"),
        ("x-justrun-attempt", "99"),
        ("User-Agent", "curl"),
        ("Accept", "text/html"),
        ("X-Twice", "1"),
        ("X-Twice", "2"),
        ("Host", "elsewhere.test"),
        ("Connection", "close"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into();
    request.body = Some("not sent with GET".to_owned());
    assert_eq!(send(&client(), &request).await.attempt.failure, None);

    let seen = target.only_request();
    let execution = ExecutionId::scheduled(JobId(7), SCHEDULED_AT).to_string();
    assert_eq!(seen.line, "GET /%7B%7Bjob_id%7D%7D?a=2&n=Nightly%20%C3%A9&u={{unknown}} HTTP/1.1");
    assert_eq!(seen.header("x-run"), [format!("{execution}/2 {{{{unknown}}}}")]);
    assert_eq!(seen.header("x-justrun-job-id"), [JobId(7).to_string()]);
    assert_eq!(seen.header("x-justrun-execution-id"), [execution]);
    assert_eq!(seen.header("x-justrun-attempt"), ["2"]);
    assert_eq!(seen.header("x-justrun-scheduled-at"), ["2026-01-02T03:04:05Z"]);
    assert_eq!(seen.header("user-agent"), [USER_AGENT_VALUE]);
    assert_eq!(seen.header("accept"), ["text/html"]);
    assert_eq!(seen.header("x-twice"), ["1", "2"]);
    assert_eq!(seen.header("host"), [target.address.to_string()]);
    assert!(seen.header("connection").is_empty() && seen.header("content-type").is_empty());
    assert_eq!(seen.body, "");
}

#[tokio::test]
async fn a_body_goes_as_it_is_with_a_fitting_content_type() {
    for (method, body, given, expected) in [
        (Method::Post, r#"{"id":"{{job_id}}"}"#, None, "application/json"),
        (Method::Put, "plain", None, "text/plain; charset=utf-8"),
        (Method::Patch, "[1]", Some("application/json-patch+json"), "application/json-patch+json"),
    ] {
        let target = Target::with_body("200 OK", "").await;
        let headers = given.map(|given| ("content-TYPE".to_owned(), given.to_owned())).into_iter().collect();
        let request = Request { method, headers, body: Some(body.to_owned()), ..request(target.url("/")) };
        assert_eq!(send(&client(), &request).await.attempt.failure, None);
        let seen = target.only_request();
        assert_eq!((seen.body.as_str(), seen.header("content-type")), (body, vec![expected]));
    }
}

#[tokio::test]
async fn a_request_that_could_have_a_body_says_that_it_has_none() {
    for (method, body, expected) in [
        (Method::Post, None, vec!["0"]),
        (Method::Put, None, vec!["0"]),
        (Method::Patch, Some(""), vec!["0"]),
        (Method::Post, Some("x"), vec!["1"]),
        (Method::Get, None, vec![]),
        (Method::Delete, None, vec![]),
    ] {
        let target = Target::with_body("200 OK", "").await;
        let request = Request { method, body: body.map(str::to_owned), ..request(target.url("/")) };
        assert_eq!(send(&client(), &request).await.attempt.failure, None);
        assert_eq!(target.only_request().header("content-length"), expected, "{method:?} {body:?}");
    }
}

#[tokio::test]
async fn what_cannot_be_sent_fails_without_a_request() {
    let target = Target::with_body("200 OK", "").await;
    for (url, header, message) in [
        (target.url("/"), ("X-Bad", "a\nb"), "Header X-Bad is not valid"),
        (target.url("/"), ("X Bad", "a"), "Header X Bad is not valid"),
        ("http://".to_owned(), ("X-Good", "a"), "Target URL is not valid"),
    ] {
        let headers = vec![(header.0.to_owned(), header.1.to_owned())];
        let expected = (None, ErrorKind::BlockedTarget, message.to_owned());
        assert_eq!(failing(&client(), &Request { headers, ..request(url) }).await, expected);
    }
    assert_eq!(*target.connections.lock(), 0);
}

#[tokio::test]
async fn a_large_body_is_cut() {
    let body = "é".repeat(limits::RESPONSE_BODY_BYTES_MAX);
    let target = Target::with_body("200 OK", &format!("x{body}")).await;
    let kept = send(&client(), &request(target.url("/"))).await.body.unwrap();
    // The last character does not fit whole.
    assert_eq!(kept.text.len(), limits::RESPONSE_BODY_BYTES_MAX - 1);
    assert!(kept.truncated && kept.text.ends_with('é'));

    let exact = "x".repeat(limits::RESPONSE_BODY_BYTES_MAX);
    let target = Target::with_body("200 OK", &exact).await;
    let kept = send(&client(), &request(target.url("/"))).await.body.unwrap();
    assert_eq!(kept, ResponseBody { text: exact, truncated: false });
}

#[tokio::test]
async fn a_success_is_read_to_its_end() {
    let body = "x".repeat(4 * DRAIN_BYTES_MAX);
    let target = Target::with_body("200 OK", &body).await;
    let report = send(&client(), &request(target.url("/"))).await;
    assert_eq!((report.attempt.status_code, report.attempt.failure), (Some(200), None));
    assert!(report.body.unwrap().truncated);

    let half = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}", 2 * body.len());
    let target = Target::answering(half, Then::KeepOpen).await;
    let request = Request { timeout_sec: 1, ..request(target.url("/")) };
    let (status, kind, _) = failing(&client(), &request).await;
    assert_eq!((status, kind), (Some(503), ErrorKind::Timeout));
}

#[tokio::test]
async fn a_body_without_end_is_left_at_the_bound() {
    // The connection stays open, so that only the bound can end the reading.
    let endless = async |status: &str, bytes: usize| {
        let mut answer = format!("HTTP/1.1 {status}\r\n\r\n").into_bytes();
        answer.resize(answer.len() + bytes, b'x');
        let target = Target::answering(answer, Then::KeepOpen).await;
        let report = send(&client(), &request(target.url("/"))).await;
        assert!(report.body.unwrap().truncated);
        let failure = report.attempt.failure.unwrap();
        (report.attempt.status_code, failure.kind, failure.message)
    };
    let expected = (Some(200), ErrorKind::Connect, "Answer is longer than 16 MiB".to_owned());
    assert_eq!(endless("200 OK", ANSWER_BYTES_MAX + DRAIN_BYTES_MAX).await, expected);
    let expected = (Some(500), ErrorKind::HttpStatus, "HTTP 500".to_owned());
    assert_eq!(endless("500 Internal Server Error", 2 * DRAIN_BYTES_MAX).await, expected);
}

#[tokio::test]
async fn connections_are_used_again() {
    // Failures leave the connection as usable as successes.
    for status in ["200 OK", "500 Internal Server Error"] {
        let target = Target::with_body(status, &"x".repeat(200_000)).await;
        let client = client();
        for _ in 0..5 {
            send(&client, &request(target.url("/"))).await;
        }
        assert_eq!((target.seen.lock().len(), *target.connections.lock()), (5, 1));
    }
}

#[tokio::test]
async fn a_connection_that_stood_idle_is_not_used_again() {
    // The target that closes it meanwhile would be one of them.
    let target = Target::with_body("200 OK", "").await;
    let client = client();
    send(&client, &request(target.url("/"))).await;
    tokio::time::sleep(POOL_IDLE_TIMEOUT + Duration::from_millis(1)).await;
    send(&client, &request(target.url("/"))).await;
    assert_eq!((target.seen.lock().len(), *target.connections.lock()), (2, 2));
}

#[tokio::test]
async fn nothing_is_sent_when_it_may_not_start() {
    let target = Target::with_body("200 OK", "").await;
    let request = request(target.url("/"));
    let mut asked_at = None;
    let clock = SystemClock::new();
    let before = clock.now();
    let client = client();
    let report = client
        .send(attempt_of(&request), &clock, |at| {
            asked_at = Some(at);
            Err("not now")
        })
        .await;
    assert_eq!((report, *target.connections.lock()), (Err("not now"), 0));
    assert!(asked_at.is_some_and(|at| at >= before));
}
