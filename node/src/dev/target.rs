//! Something to call: answers every request and shows it.

use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::net::SocketAddr;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// Starts the target on `port`, or on any if that is taken. Returns the URL to call.
pub(super) async fn start(port: u16, stop: CancellationToken) -> std::io::Result<String> {
    let listener = match TcpListener::bind(("127.0.0.1", port)).await {
        Ok(listener) => listener,
        Err(_) => TcpListener::bind(("127.0.0.1", 0)).await?,
    };
    let addr = listener.local_addr()?;
    #[expect(clippy::disallowed_methods, reason = "lives as long as the process, which has no supervisor")]
    tokio::spawn(async move {
        tokio::select! {
            () = serve(listener) => {}
            () = stop.cancelled() => {}
        }
    });
    Ok(url(addr))
}

fn url(addr: SocketAddr) -> String {
    format!("http://{addr}/hello")
}

async fn serve(listener: TcpListener) {
    let mut connections = tokio::task::JoinSet::new();
    loop {
        tokio::select! {
            Ok((stream, _)) = listener.accept() => {
                connections.spawn(answer(stream));
            }
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn answer(stream: TcpStream) {
    let service = service_fn(|request: Request<Incoming>| async move {
        let header = |name: &str| {
            request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or("-").to_owned()
        };
        super::say(&format!(
            "{}  {} {}  {}  attempt {}\n",
            header("x-justrun-scheduled-at"),
            request.method(),
            request.uri().path(),
            header("x-justrun-execution-id"),
            header("x-justrun-attempt"),
        ));
        Ok::<_, Infallible>(Response::new(Full::new(Bytes::from_static(b"hello\n"))))
    });
    // A connection that breaks is its other side's affair.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}
