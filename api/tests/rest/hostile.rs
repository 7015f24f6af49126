//! Clients that mean no good, over real sockets: they keep nobody out, and are told in the documented shape.

use crate::service::{KEY, Service};
use crate::serving::{PATIENCE, post_head, read_until, serving_with};
use api::ServeSettings;
use serde_json::Value;
use std::net::SocketAddr;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

const SEATS: usize = 8;
const FEW: ServeSettings = ServeSettings { connections_max: SEATS, tls: None };

async fn connect(address: SocketAddr) -> TcpStream {
    timeout(PATIENCE, TcpStream::connect(address)).await.unwrap().unwrap()
}

async fn say(stream: &mut TcpStream, text: &str) {
    timeout(PATIENCE, stream.write_all(text.as_bytes())).await.unwrap().unwrap();
}

/// Asks whether the node lives.
async fn ask(stream: &mut TcpStream) {
    say(stream, "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await;
    let answer = read_until(stream, "{\"status\":\"ok\"}").await;
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

/// Waits until the server has closed the connection.
async fn is_closed(stream: &mut TcpStream) {
    let mut buffer = [0; 64];
    // Bytes that nobody read make the system reset the connection instead of ending it.
    let read = timeout(PATIENCE, stream.read(&mut buffer)).await.expect("it is closed");
    assert!(matches!(read, Ok(0) | Err(_)), "{read:?}");
}

#[tokio::test]
async fn clients_that_say_nothing_make_room_for_those_that_do() {
    let service = Service::start().await;
    serving_with(&service, FEW, |address| async move {
        let mut silent = Vec::new();
        for number in 0..5 * SEATS {
            let mut stream = connect(address).await;
            match number % 3 {
                0 => {}
                // Half a head, which will never be whole.
                1 => say(&mut stream, "GET /healthz HTTP/1.1\r\nhost:").await,
                _ => ask(&mut stream).await,
            }
            silent.push(stream);
        }
        let mut client = connect(address).await;
        ask(&mut client).await;
        // The oldest had to go, and the client's own connection is as good as before.
        is_closed(&mut silent[0]).await;
        is_closed(&mut silent[1]).await;
        ask(&mut client).await;
    })
    .await;
}

#[tokio::test]
async fn a_connection_in_use_outlives_those_that_are_idle() {
    let service = Service::start().await;
    serving_with(&service, FEW, |address| async move {
        let mut client = connect(address).await;
        let mut silent = Vec::new();
        for _ in 0..3 * SEATS {
            silent.push(connect(address).await);
            ask(&mut client).await;
        }
    })
    .await;
}

#[tokio::test]
async fn a_request_under_way_is_never_cut_off() {
    let service = Service::start().await;
    serving_with(&service, FEW, |address| async move {
        let head = post_head(KEY, "/v1/jobs", "expect: 100-continue\r\ncontent-length: 2\r\n");
        let mut slow = Vec::new();
        for _ in 0..SEATS - 1 {
            let mut stream = connect(address).await;
            say(&mut stream, &head).await;
            assert!(read_until(&mut stream, "\r\n\r\n").await.starts_with("HTTP/1.1 100"));
            slow.push(stream);
        }
        // One seat is left for all others.
        for _ in 0..3 * SEATS {
            ask(&mut connect(address).await).await;
        }
        let mut last = connect(address).await;
        say(&mut last, &head).await;
        assert!(read_until(&mut last, "\r\n\r\n").await.starts_with("HTTP/1.1 100"));
        // None is left. Who comes now waits until one of them is done.
        let mut waiting = connect(address).await;
        say(&mut waiting, "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n").await;
        for mut stream in slow.into_iter().chain([last]) {
            say(&mut stream, "{}").await;
            let answer = read_until(&mut stream, "\"}]}}").await;
            assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
        }
        assert!(read_until(&mut waiting, "{\"status\":\"ok\"}").await.starts_with("HTTP/1.1 200"));
    })
    .await;
}

/// Status, headers and body of an answer after which the connection ends.
fn parts(answer: &str) -> (u16, &str, Value) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    assert_eq!(length.parse::<usize>().unwrap(), body.len(), "{answer}");
    (status, head, serde_json::from_str(body).unwrap())
}

#[tokio::test]
async fn what_is_no_http_is_refused_in_the_documented_shape() {
    let service = Service::start().await;
    serving_with(&service, FEW, |address| async move {
        let long = "x".repeat(300 * 1024);
        let many = (0..200).map(|number| format!("x-{number}: 1\r\n")).collect::<String>();
        for (name, sent, expected) in [
            ("a TLS hello", "\u{16}\u{3}\u{1}\0\u{7f}\u{1}\0\0\r\n\r\n".to_owned(), 400),
            ("no version", "GET\r\n\r\n".to_owned(), 400),
            ("a NUL in a header", "GET / HTTP/1.1\r\nhost: a\r\nx: \0\r\n\r\n".to_owned(), 400),
            ("a header's name with a space", "GET / HTTP/1.1\r\nho st: a\r\n\r\n".to_owned(), 400),
            (
                "two lengths",
                "GET / HTTP/1.1\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n".to_owned(),
                400,
            ),
            ("a length that is none", "POST / HTTP/1.1\r\ncontent-length: -1\r\n\r\n".to_owned(), 400),
            ("a coding that is none", "POST / HTTP/1.1\r\ntransfer-encoding: zip\r\n\r\n".to_owned(), 400),
            ("a version to come", "GET / HTTP/9.9\r\n\r\n".to_owned(), 400),
            ("one header that is too large", format!("GET / HTTP/1.1\r\nx: {long}\r\n\r\n"), 431),
            ("headers that are too many", format!("GET / HTTP/1.1\r\n{many}\r\n"), 431),
            ("a head without an end", format!("GET / HTTP/1.1\r\n{}", "x: y\r\n".repeat(50_000)), 431),
            ("a path that is too long", format!("GET /{} HTTP/1.1\r\n\r\n", "x".repeat(65_600)), 431),
        ] {
            let mut stream = connect(address).await;
            // After an answer that went well, as after nothing.
            ask(&mut stream).await;
            say(&mut stream, &sent).await;
            let answer = read_until(&mut stream, "never").await;
            let (status, head, body) = parts(&answer);
            assert_eq!(status, expected, "{name}: {answer}");
            assert!(head.contains("\r\ncontent-type: application/json"), "{name}: {answer}");
            assert!(head.contains("\r\nconnection: close"), "{name}: {answer}");
            assert!(
                body["error"]["code"].is_string() && body["error"]["message"].is_string(),
                "{name}: {answer}"
            );
        }
    })
    .await;
}
