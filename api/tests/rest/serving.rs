use crate::service::{KEY, Service};
use api::ServeSettings;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Far longer than anything here takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);
const SETTINGS: ServeSettings = ServeSettings { connections_max: 100, tls: None };

/// Reads until `end` has come, or the connection has ended.
pub(crate) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4_096];
    while !text.contains(end) {
        let count = timeout(PATIENCE, stream.read(&mut buffer)).await.unwrap().unwrap();
        if count == 0 {
            break;
        }
        text.push_str(std::str::from_utf8(&buffer[..count]).unwrap());
    }
    text
}

#[tokio::test]
async fn connections_are_kept_and_a_stop_lets_the_last_request_end() {
    let service = Service::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = api::serve(listener, service.router(), SETTINGS, stop.clone());

    let talking = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        for _ in 0..2 {
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            assert!(read_until(&mut stream, "{\"status\":\"ok\"}").await.starts_with("HTTP/1.1 200"));
        }
        stream.write_all(b"HEAD /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        assert!(read_until(&mut stream, "\r\n\r\n").await.ends_with("\r\n\r\n"), "no body");

        // Half a request is under way when the stop comes.
        let head = format!(
            "POST /v1/jobs HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {KEY}\r\n\
             content-type: application/json\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 100"));
        stop.cancel();
        stream.write_all(b"{}").await.unwrap();
        let answer = read_until(&mut stream, "\"}]}}").await;
        assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        assert_eq!(read_until(&mut stream, "never").await, "", "the connection is closed");
    };
    timeout(PATIENCE, async { tokio::join!(serving, talking) }).await.expect("the server ends");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens any more");
}

#[tokio::test]
async fn nonsense_on_the_wire_does_not_end_the_server() {
    let service = Service::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = api::serve(listener, service.router(), SETTINGS, stop.clone());
    let talking = async {
        for nonsense in
            [&b"\x16\x03\x01\x00\xff\x00\r\n\r\n"[..], b"GET\r\n\r\n", b"\r\n\r\n\r\n\0\0\0\0\r\n\r\n"]
        {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(nonsense).await.unwrap();
            read_until(&mut stream, "never").await;
        }
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        assert!(read_until(&mut stream, "never").await.contains("{\"status\":\"ok\"}"));
        stop.cancel();
    };
    timeout(PATIENCE, async { tokio::join!(serving, talking) }).await.expect("the server ends");
}

/// Runs `talk` against a server, and ends it.
async fn serving<F: Future<Output = ()>>(service: &Service, talk: impl FnOnce(SocketAddr) -> F) {
    serving_with(service, SETTINGS, talk).await;
}

/// As [`serving`], with settings that are not the usual ones.
pub(crate) async fn serving_with<F: Future<Output = ()>>(
    service: &Service,
    settings: ServeSettings,
    talk: impl FnOnce(SocketAddr) -> F,
) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stop = CancellationToken::new();
    let serving = api::serve(listener, service.router(), settings, stop.clone());
    let talking = async {
        talk(address).await;
        stop.cancel();
    };
    timeout(PATIENCE, async { tokio::join!(serving, talking) }).await.expect("the server ends");
}

pub(crate) fn post_head(key: &str, path: &str, more: &str) -> String {
    format!(
        "POST {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {key}\r\n\
         content-type: application/json\r\n{more}\r\n"
    )
}

#[tokio::test]
async fn a_client_that_sends_too_much_gets_its_answer_all_the_same() {
    const BYTES: usize = 10 * 1024 * 1024;
    let service = Service::start().await;
    let long = format!("content-length: {BYTES}\r\n");
    let chunked = "transfer-encoding: chunked\r\n";
    let plain = vec![b' '; BYTES];
    let chunks = [format!("{BYTES:x}\r\n").as_bytes(), &plain, b"\r\n0\r\n\r\n"].concat();
    serving(&service, |address| async move {
        for (head, body, expected) in [
            (post_head(KEY, "/v1/jobs", &long), &plain, "413"),
            (post_head(KEY, "/v1/jobs", chunked), &chunks, "413"),
            (post_head("jrun_sk_nobody", "/v1/jobs", &long), &plain, "401"),
            (post_head(KEY, "/nowhere", &long), &plain, "404"),
        ] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(head.as_bytes()).await.unwrap();
            // All of it before the first look at the answer.
            timeout(PATIENCE, stream.write_all(body)).await.unwrap().expect("nobody closes the connection");
            let answer = read_until(&mut stream, "}}").await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{answer}");
            // And the connection is as good as before.
            stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            assert!(read_until(&mut stream, "{\"status\":\"ok\"}").await.starts_with("HTTP/1.1 200"));
        }
    })
    .await;
}

#[tokio::test]
async fn a_client_that_waits_to_be_asked_is_refused_at_once() {
    let service = Service::start().await;
    serving(&service, |address| async move {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = post_head(KEY, "/v1/jobs", "expect: 100-continue\r\ncontent-length: 9999999\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let answer = read_until(&mut stream, "}}").await;
        assert!(answer.starts_with("HTTP/1.1 413"), "it was not told to continue: {answer}");
    })
    .await;
}
