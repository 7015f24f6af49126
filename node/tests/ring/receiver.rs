//! What messages are sent to: a webhook receiver that checks signatures and records what comes.

use domain::time::{Clock, Timestamp};
use hmac::{Hmac, KeyInit, Mac};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use serde_json::Value;
use sha2::Sha256;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// What every channel of the tests signs with.
pub(crate) const SECRET: &str = "whsec_of_the_ring";

/// One message as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Arrival {
    pub(crate) at: Timestamp,
    pub(crate) path: String,
    pub(crate) id: String,
    pub(crate) kind: String,
    /// Whether it was taken, that is answered with 200.
    pub(crate) taken: bool,
}

/// `/ok/…` takes everything, `/fail/N/…` answers 500 to the first N requests, `/limit/…` 429 to the first,
/// `/hang-once/…` never answers the first, `/hang/…` never answers.
pub(crate) struct Receiver {
    addr: SocketAddr,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
    _tasks: JoinSet<()>,
}

impl Receiver {
    pub(crate) async fn start(clock: Arc<dyn Clock>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let arrivals = Arc::new(Mutex::new(Vec::new()));
        let mut tasks = JoinSet::new();
        let recorded = Arc::clone(&arrivals);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (clock, arrivals) = (Arc::clone(&clock), Arc::clone(&recorded));
                let service =
                    service_fn(move |request| answer(request, Arc::clone(&clock), Arc::clone(&arrivals)));
                let connection = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                connections.spawn(async move {
                    let _ = connection.await;
                });
            }
        });
        Self { addr, arrivals, _tasks: tasks }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// What has arrived at one path so far, in order.
    pub(crate) fn arrivals(&self, path: &str) -> Vec<Arrival> {
        self.arrivals.lock().iter().filter(|arrival| arrival.path == path).cloned().collect()
    }

    /// The kinds of the messages that were taken at one path, in order.
    pub(crate) fn taken(&self, path: &str) -> Vec<String> {
        self.arrivals(path).into_iter().filter(|arrival| arrival.taken).map(|arrival| arrival.kind).collect()
    }
}

async fn answer(
    request: Request<Incoming>,
    clock: Arc<dyn Clock>,
    arrivals: Arc<Mutex<Vec<Arrival>>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (signature, delivery) = (header("x-justrun-signature"), header("x-justrun-delivery"));
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(signature, Some(signed(&body)), "every message is signed");
    let envelope: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(envelope["id"].as_str(), delivery.as_deref());

    let earlier = arrivals.lock().iter().filter(|arrival| arrival.path == path).count();
    let mut words = path.split('/').skip(1);
    let status = match words.next() {
        Some("fail") if earlier < words.next().unwrap().parse().unwrap() => Some(500),
        Some("limit") if earlier == 0 => Some(429),
        Some("hang-once") if earlier == 0 => None,
        Some("hang") => None,
        Some(_) | None => Some(200),
    };
    arrivals.lock().push(Arrival {
        at: clock.now(),
        path,
        id: delivery.unwrap(),
        kind: envelope["type"].as_str().unwrap().to_owned(),
        taken: status == Some(200),
    });
    let Some(status) = status else { std::future::pending().await };
    let mut response = Response::builder().status(status);
    if status == 429 {
        response = response.header("retry-after", "30");
    }
    Ok(response.body(Full::new(Bytes::from_static(b"noted"))).unwrap())
}

fn signed(body: &[u8]) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
    mac.update(body);
    let digits: String = mac.finalize().into_bytes().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}
