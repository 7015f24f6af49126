//! Connections: how many, how long, and how they end.

mod seats; // who is connected, and who has to go when all seats are taken
mod wire; // refusals of what is no HTTP

use crate::deadline::WriteDeadline;
use crate::tls::Tls;
use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::ConnectInfo;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use seats::{Seat, Seats, UnderWay};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinError, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;
use wire::Wire;

/// Connections at a time, if the process may have that many files open. One that has been used costs about 20 KiB while
/// it is idle, so all of them cost 320 MiB; one on which nothing was ever said costs 2 KiB.
const CONNECTIONS_MAX: usize = 16_384;
/// Connections that the system takes before the server has accepted them. The kernel has a bound of its own, 4,096 as a rule.
const BACKLOG: i32 = 4_096;
/// How long a client may take for a request's headers, which is also how long an idle connection stays.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a client may take to agree on keys.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may stop reading an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(30);
/// Bytes of a request's line and headers: what common proxies pass on at most. Whoever has not shown a credential
/// yet can make the server hold this much.
const HEADER_BYTES_MAX: usize = 32 * 1024;
/// How long requests under way may go on after the stop. Longer than a proposal may take.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long to wait when a connection cannot be accepted: it is for want of file descriptors, and
/// trying again at once would only keep a processor busy.
const ACCEPT_BACKOFF: Duration = Duration::from_millis(50);

/// How connections are served.
#[derive(Clone, Debug)]
pub struct ServeSettings {
    /// Connections at a time; 1 or more.
    pub connections_max: usize,
    /// What the server proves who it is by; in the clear without it.
    pub tls: Option<Tls>,
}

impl ServeSettings {
    /// As many connections as are sensible for a process that may have `files_max` files open, half of which
    /// are for requests to targets, the other nodes, and storage.
    #[must_use]
    pub fn for_files(files_max: u64) -> Self {
        let half = usize::try_from(files_max / 2).unwrap_or(usize::MAX);
        Self { connections_max: half.clamp(1, CONNECTIONS_MAX), tls: None }
    }
}

/// Serves `router` to whoever connects to `listener`, until `stop`. Then it accepts nothing more, lets
/// the requests under way end, and returns, after ten seconds at most.
pub async fn serve(listener: TcpListener, router: Router, settings: ServeSettings, stop: CancellationToken) {
    // Whoever bound it could not say how many may wait.
    if let Err(error) = socket2::SockRef::from(&listener).listen(BACKLOG) {
        tracing::warn!(%error, "the backlog of the API's socket stays as it is");
    }
    let seats = Seats::new(settings.connections_max);
    let mut connections = JoinSet::new();
    'serving: loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            Some(ended) = connections.join_next() => {
                note(ended);
                continue;
            }
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "connection not accepted");
                seats.make_room();
                sleep(ACCEPT_BACKOFF).await;
                continue;
            }
        };
        let seat = loop {
            tokio::select! {
                () = stop.cancelled() => break 'serving,
                Some(ended) = connections.join_next() => note(ended),
                seat = seats.take() => break seat,
            }
        };
        let connection = Connection { peer, router: router.clone(), stop: stop.clone(), seat };
        connections.spawn(connection.run(stream, settings.tls.clone()));
    }
    drop(listener);
    let ended = timeout(DRAIN_TIMEOUT, async { while connections.join_next().await.is_some() {} }).await;
    if ended.is_err() {
        tracing::warn!(open = connections.len(), "connections cut off at shutdown");
        connections.shutdown().await;
    }
}

fn note(ended: Result<(), JoinError>) {
    // Handlers catch their own panics, so this one is of the connection itself.
    if let Err(error) = ended {
        tracing::error!(%error, "connection failed");
    }
}

struct Connection {
    peer: SocketAddr,
    router: Router,
    stop: CancellationToken,
    seat: Seat,
}

impl Connection {
    async fn run(self, stream: TcpStream, tls: Option<Tls>) {
        match self.begin(&stream).await {
            // Boxed, so that only those who speak cost what a conversation does.
            Ok(true) => Box::pin(self.speak(stream, tls)).await,
            Ok(false) => {}
            Err(error) => tracing::debug!(%error, "connection lost"),
        }
    }

    async fn speak(self, stream: TcpStream, tls: Option<Tls>) {
        let Some(tls) = tls else { return self.converse(stream).await };
        match self.shake_hands(stream, &tls).await {
            Ok(Some(stream)) => self.converse(stream).await,
            Ok(None) => {}
            Err(error) => tracing::debug!(%error, "connection lost"),
        }
    }

    /// Agrees on keys with the client; nothing if it takes too long, or its seat is wanted.
    async fn shake_hands(&self, stream: TcpStream, tls: &Tls) -> io::Result<Option<TlsStream<TcpStream>>> {
        tokio::select! {
            () = self.stop.cancelled() => Ok(None),
            () = self.seat.wanted() => Ok(None),
            agreed = timeout(HANDSHAKE_TIMEOUT, tls.acceptor().accept(stream)) => {
                agreed.map_or(Ok(None), |agreed| agreed.map(Some))
            }
        }
    }

    /// Waits until the client says something; false if it does not in time. Buffers are made only then, so that
    /// those who only connect cost little.
    async fn begin(&self, stream: &TcpStream) -> io::Result<bool> {
        // Answers are written whole; waiting to fill a packet would only delay their end.
        stream.set_nodelay(true)?;
        // Looked at, since the system may call a socket readable that is not.
        let mut first = [0];
        tokio::select! {
            () = self.stop.cancelled() => Ok(false),
            () = self.seat.wanted() => Ok(false),
            peeked = timeout(HEADER_TIMEOUT, stream.peek(&mut first)) => {
                peeked.map_or(Ok(false), |peeked| peeked.map(|count| count > 0))
            }
        }
    }

    /// Answers the requests of the connection, one after the other.
    async fn converse(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let Self { peer, router, stop, seat } = self;
        let service = {
            let seat = seat.clone();
            service_fn(move |mut request: hyper::Request<Incoming>| {
                let under_way = seat.begin();
                request.extensions_mut().insert(ConnectInfo(peer));
                let answer = router.clone().oneshot(request.map(Body::new));
                async move {
                    Ok::<_, std::convert::Infallible>(
                        answer.await?.map(|body| Watched { body, _under_way: under_way }),
                    )
                }
            })
        };
        let stream = Wire::new(WriteDeadline::new(stream, WRITE_TIMEOUT), seat.clone());
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_TIMEOUT)
            .max_buf_size(HEADER_BYTES_MAX)
            .serve_connection(TokioIo::new(stream), service);
        tokio::pin!(connection);
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = seat.wanted() => {
                if seat.is_idle() {
                    tracing::debug!("connection given up for another");
                    return;
                }
                // It has asked something at the last moment.
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = stop.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::debug!(%error, "connection lost");
        }
    }
}

/// The body of an answer, which keeps its request under way for as long as there is more of it.
struct Watched {
    body: Body,
    _under_way: UnderWay,
}

impl HttpBody for Watched {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_says_nothing_costs_little() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let peer = stream.local_addr().unwrap();
        let seat = Seats::new(1).take().await;
        let connection = Connection { peer, router: Router::new(), stop: CancellationToken::new(), seat };
        let bytes = size_of_val(&connection.run(stream, None));
        assert!(bytes < 2_048, "{bytes} bytes");
    }
}
