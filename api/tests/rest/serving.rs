use crate::service::{KEY, Service};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);

/// Reads until `end` has come, or the connection has ended.
async fn read_until(stream: &mut TcpStream, end: &str) -> String {
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
    let serving = api::serve(listener, service.router.clone(), stop.clone());

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
    let serving = api::serve(listener, service.router.clone(), stop.clone());
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
