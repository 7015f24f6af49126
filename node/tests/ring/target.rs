//! What jobs call: records every request with the time of the cluster's clock.

use domain::limits;
use domain::time::{Clock, Timestamp};
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// One request as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Call {
    pub(crate) at: Timestamp,
    pub(crate) path: String,
    pub(crate) execution: String,
    pub(crate) attempt: u32,
    pub(crate) scheduled_at: String,
}

/// `/ok/…` answers 200, `/fail/…` 500, `/fail-once/…` 500 to the first attempt of an execution, `/hang/…` never,
/// `/hold/…` 200 once it is let go, and `/hold-large/…` then as long an answer as is kept.
pub(crate) struct Target {
    pub(crate) addr: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    held: CancellationToken,
    _tasks: JoinSet<()>,
}

impl Target {
    pub(crate) async fn start(clock: Arc<dyn Clock>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let calls = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let recorded = Arc::clone(&calls);
        let held = CancellationToken::new();
        let let_go = held.clone();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (clock, calls) = (Arc::clone(&clock), Arc::clone(&recorded));
                let let_go = let_go.clone();
                let service = service_fn(move |request| {
                    answer(request, Arc::clone(&clock), Arc::clone(&calls), let_go.clone())
                });
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                connections.spawn(async move {
                    let _ = connection.await;
                });
            }
        });
        Self { addr, calls, held, _tasks: tasks }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Answers what is held, now and later.
    pub(crate) fn let_go(&self) {
        self.held.cancel();
    }

    /// The calls of one path so far, in order of arrival.
    pub(crate) fn calls(&self, path: &str) -> Vec<Call> {
        self.calls.lock().iter().filter(|call| call.path == path).cloned().collect()
    }
}

async fn answer(
    request: Request<Incoming>,
    clock: Arc<dyn Clock>,
    calls: Arc<Mutex<Vec<Call>>>,
    let_go: CancellationToken,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let path = request.uri().path().to_owned();
    let attempt = header("x-justrun-attempt").unwrap_or_default().parse().unwrap_or(0);
    calls.lock().push(Call {
        at: clock.now(),
        path: path.clone(),
        execution: header("x-justrun-execution-id").unwrap_or_default(),
        attempt,
        scheduled_at: header("x-justrun-scheduled-at").unwrap_or_default(),
    });
    let mut body = Bytes::from_static(b"done");
    let status = match path.split('/').nth(1) {
        Some("fail") => 500,
        Some("fail-once") if attempt == 1 => 500,
        Some("hang") => std::future::pending().await,
        Some("hold") => {
            let_go.cancelled().await;
            200
        }
        Some("hold-large") => {
            let_go.cancelled().await;
            body = vec![b'x'; limits::RESPONSE_BODY_BYTES_MAX].into();
            200
        }
        Some(_) | None => 200,
    };
    Ok(Response::builder().status(status).body(Full::new(body)).unwrap())
}
