//! Connections: how many, how long, and how they end.

use crate::deadline::WriteDeadline;
use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// Connections at a time. More wait in the listener's backlog; each may hold a body of 1 MiB.
const CONNECTIONS_MAX: usize = 2_048;
/// How long a client may take for a request's headers, which is also how long an idle connection stays.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may stop reading an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's headers: what common proxies accept.
const HEADER_BYTES_MAX: usize = 64 * 1024;
/// How long requests under way may go on after the stop. Longer than a proposal may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait when a connection cannot be accepted: it is for want of file descriptors, and
/// trying again at once would only keep a processor busy.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// Serves `router` to whoever connects to `listener`, until `stop`. Then it accepts nothing more, lets
/// the requests under way end, and returns, after ten seconds at most.
pub async fn serve(listener: TcpListener, router: Router, stop: CancellationToken) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next(), if !connections.is_empty() => {
                // Handlers catch their own panics, so this one is of the connection itself.
                if let Err(error) = ended {
                    tracing::error!(%error, "connection failed");
                }
                continue;
            }
            accepted = accept(&listener, &places) => accepted,
        };
        if let Some((stream, peer, place)) = accepted {
            connections.spawn(converse(stream, peer, router.clone(), stop.clone(), place));
        }
    }
    drop(listener);
    let ended = timeout(DRAIN_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(open = connections.len(), "connections cut off at shutdown");
        connections.shutdown().await;
    }
}

async fn accept(
    listener: &TcpListener,
    places: &Arc<Semaphore>,
) -> Option<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.expect("nobody closes the semaphore");
    match listener.accept().await {
        Ok((stream, peer)) => Some((stream, peer, place)),
        Err(error) => {
            tracing::warn!(%error, "connection not accepted");
            sleep(ACCEPT_BACKOFF).await;
            None
        }
    }
}

/// Answers the requests of one connection, one after the other.
async fn converse(
    stream: TcpStream,
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
    place: OwnedSemaphorePermit,
) {
    // Answers are written whole; waiting to fill a packet would only delay their end.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "connection lost");
        return;
    }
    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
        request.extensions_mut().insert(ConnectInfo(peer));
        router.clone().oneshot(request.map(Body::new))
    });
    let stream = TokioIo::new(WriteDeadline::new(stream, WRITE_TIMEOUT));
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .max_buf_size(HEADER_BYTES_MAX)
        .serve_connection(stream, service);
    tokio::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection lost");
    }
    drop(place);
}
