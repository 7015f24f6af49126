//! The server that the jobs call. It records every request and does nothing else, on a thread of its own,
//! so that what it measures is the cluster and not the harness.
//!
//! | path | answer |
//! |---|---|
//! | `/ok`, `/ok/…` | 200 |
//! | `/status/S` | S |
//! | `/fail-first/N` | 500 to attempts 1 to N of an execution, then 200 |
//! | `/in-turns/S` | 200 to what is due in the first S seconds of the epoch, 500 to what is due in the next S, and so on |
//! | `/slow/MS` | 200 after MS milliseconds |
//! | `/hang` | none |
//! | `/frail/…` | as without `/frail`, unless the target misbehaves |
//! | `/alerts/stubborn` | 503 to the first attempt of each message, then 200 |
//! | `/alerts/…` | 200 |
//! | anything else | 404 |
//!
//! What is `/frail` has a port of its own, so that it is another host for whoever counts requests to a host.

mod behaviour; // what a path asks for

use crate::{
    Error,
    history::{Alert, Call, Event, Misbehaved, Mode},
    time::{monotonic_us, now_us, parse_rfc3339},
};
use behaviour::Behaviour;
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt, Empty};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use std::{
    collections::HashSet,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::oneshot,
    task::JoinSet,
};

/// Room for a run of ten minutes with 400 jobs a second, so that recording does not allocate on the way.
const CALLS_PREALLOCATED: usize = 250_000;

/// What the paths of the part that misbehaves begin with.
pub const FRAIL: &str = "/frail/";
/// What the paths of channels begin with.
const ALERTS: &str = "/alerts/";
/// The channel that takes nothing at once.
const STUBBORN: &str = "/alerts/stubborn";

/// A running target. Dropping it closes its ports and every connection.
#[derive(Debug)]
pub struct Target {
    address: SocketAddr,
    frail_address: SocketAddr,
    seen: Arc<Seen>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// What has arrived, in order of arrival. One thread writes, so the lock is free but for a snapshot.
#[derive(Debug)]
struct Seen(Mutex<Record>);

#[derive(Debug)]
struct Record {
    calls: Vec<Call>,
    alerts: Vec<Alert>,
    /// Messages that the stubborn channel has refused.
    refused: HashSet<Option<String>>,
    /// How it misbehaves, and since when.
    mode: Option<(Mode, i64)>,
}

impl Seen {
    fn lock(&self) -> MutexGuard<'_, Record> {
        // Nothing that holds the lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn mode(&self) -> Option<Mode> {
        self.lock().mode.map(|(mode, _)| mode)
    }

    /// Gives the place of the record, for [`Seen::answered`].
    fn arrived(&self, call: Call) -> usize {
        let calls = &mut self.lock().calls;
        calls.push(call);
        calls.len() - 1
    }

    fn answered(&self, place: usize, status: StatusCode) {
        self.lock().calls[place].status = Some(status.as_u16());
    }
}

impl Target {
    /// Starts on free ports of the loopback interface.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn start() -> Result<Self, Error> {
        Self::start_at(Ipv4Addr::LOCALHOST.into())
    }

    /// Starts on free ports of this address.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn start_at(address: IpAddr) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::io("start the target's runtime"))?;
        let (steady, frail) = {
            let _entered = runtime.enter();
            let open = || listen(address).map_err(Error::io("open the target's port"));
            (open()?, open()?)
        };
        let address_of =
            |listener: &TcpListener| listener.local_addr().map_err(Error::io("read the target's port"));
        let (address, frail_address) = (address_of(&steady)?, address_of(&frail)?);
        let seen = Arc::new(Seen(Mutex::new(Record {
            calls: Vec::with_capacity(CALLS_PREALLOCATED),
            alerts: Vec::new(),
            refused: HashSet::new(),
            mode: None,
        })));
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("target".to_owned())
            .spawn({
                let seen = Arc::clone(&seen);
                move || runtime.block_on(serve(steady, frail, seen, stopped))
            })
            .map_err(Error::io("start the target's thread"))?;
        Ok(Self { address, frail_address, seen, stop: Some(stop), thread: Some(thread) })
    }

    /// The address of a path, which starts with a slash.
    pub fn url(&self, path: &str) -> String {
        let address = if path.starts_with(FRAIL) { self.frail_address } else { self.address };
        format!("http://{address}{path}")
    }

    /// How many requests of jobs have arrived.
    pub fn count(&self) -> usize {
        self.seen.lock().calls.len()
    }

    /// What has arrived of jobs so far, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.seen.lock().calls.clone()
    }

    /// What has arrived of messages to channels so far, in order of arrival.
    pub fn alerts(&self) -> Vec<Alert> {
        self.seen.lock().alerts.clone()
    }

    /// All that has arrived so far.
    pub fn events(&self) -> Vec<Event> {
        let alerts = self.alerts().into_iter().map(Event::Alert);
        self.calls().into_iter().map(Event::Call).chain(alerts).collect()
    }

    /// From here on what is `/frail` misbehaves.
    pub fn misbehave(&self, mode: Mode) {
        self.seen.lock().mode = Some((mode, now_us()));
    }

    /// From here on it does what it should, but for requests that hang. Says how it was, if it was otherwise.
    pub fn behave(&self) -> Option<Misbehaved> {
        let (mode, from_us) = self.seen.lock().mode.take()?;
        Some(Misbehaved { mode, from_us, until_us: now_us() })
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic there has been reported by its own thread.
            let _ = thread.join();
        }
    }
}

/// All jobs of a second may open their connections at once.
fn listen(address: IpAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind((address, 0).into())?;
    socket.listen(4_096)
}

async fn serve(steady: TcpListener, frail: TcpListener, seen: Arc<Seen>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        // A connection that died in the queue is its caller's concern.
        let stream = tokio::select! {
            _ = &mut stopped => return,
            Some(_) = connections.join_next() => continue,
            accepted = steady.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                stream
            }
            accepted = frail.accept() => {
                let Ok((stream, _)) = accepted else { continue };
                if seen.mode() == Some(Mode::Refuse) {
                    // With nothing to wait for, closing it is a reset.
                    let _ = stream.set_zero_linger();
                    continue;
                }
                stream
            }
        };
        let _ = stream.set_nodelay(true);
        let seen = Arc::clone(&seen);
        let service = service_fn(move |request| answer(Arc::clone(&seen), request));
        let connection =
            http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
        connections.spawn(async move {
            // A caller may hang up at any moment; its call is recorded all the same.
            let _ = connection.await;
        });
    }
}

async fn answer(seen: Arc<Seen>, request: Request<Incoming>) -> io::Result<Response<Empty<Bytes>>> {
    let status = match request.uri().path().starts_with(ALERTS) {
        true => alerted(&seen, request).await,
        false => called(&seen, &request).await?,
    };
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    Ok(response)
}

async fn called(seen: &Seen, request: &Request<Incoming>) -> io::Result<StatusCode> {
    let (arrived_us, arrived_monotonic_us) = (now_us(), monotonic_us());
    let headers = request.headers();
    let path = request.uri().path();
    let attempt = text(headers, "x-justrun-attempt").and_then(|text| text.parse().ok());
    let scheduled_s = text(headers, "x-justrun-scheduled-at").and_then(parse_rfc3339);
    let behaviour = Behaviour::of(path, attempt, scheduled_s, seen.mode());
    let place = seen.arrived(Call {
        arrived_us,
        arrived_monotonic_us,
        path: path.to_owned(),
        job: text(headers, "x-justrun-job-id").map(str::to_owned),
        execution: text(headers, "x-justrun-execution-id").map(str::to_owned),
        attempt,
        scheduled_s,
        status: None,
    });
    let status = match behaviour {
        Behaviour::Answer(status) => status,
        Behaviour::Slow(delay) => {
            tokio::time::sleep(delay).await;
            StatusCode::OK
        }
        Behaviour::Hang => std::future::pending().await,
        Behaviour::Break => return Err(io::ErrorKind::ConnectionReset.into()),
    };
    seen.answered(place, status);
    Ok(status)
}

async fn alerted(seen: &Seen, request: Request<Incoming>) -> StatusCode {
    let (head, body) = request.into_parts();
    // What breaks off is sent again.
    let Ok(body) = body.collect().await else { return StatusCode::BAD_REQUEST };
    let envelope: Value = serde_json::from_slice(&body.to_bytes()).unwrap_or(Value::Null);
    let field = |value: &Value| value.as_str().map(str::to_owned);
    let path = head.uri.path().to_owned();
    let delivery = text(&head.headers, "x-justrun-delivery").map(str::to_owned);
    let mut record = seen.lock();
    let refuses = path == STUBBORN && record.refused.insert(delivery.clone());
    let status = if refuses { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK };
    record.alerts.push(Alert {
        arrived_us: now_us(),
        path,
        delivery,
        id: field(&envelope["id"]),
        kind: field(&envelope["type"]),
        job: field(&envelope["data"]["job_id"]),
        execution: field(&envelope["data"]["execution_id"]),
        status: status.as_u16(),
    });
    status
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{CallError, Client};
    use http::Method;
    use std::time::Duration;

    #[tokio::test]
    async fn a_call_is_recorded_with_its_headers_and_answer() {
        let target = Target::start().unwrap();
        let client: hyper_util::client::legacy::Client<_, Empty<Bytes>> =
            hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new()).build_http();
        let request = Request::builder()
            .uri(target.url("/status/204"))
            .header("X-JustRun-Job-Id", "job_a")
            .header("X-JustRun-Execution-Id", "exec_a")
            .header("X-JustRun-Attempt", "2")
            .header("X-JustRun-Scheduled-At", "2026-04-11T03:00:00Z")
            .body(Empty::new())
            .unwrap();
        let before_us = now_us();
        assert_eq!(client.request(request).await.unwrap().status(), 204);
        let calls = target.calls();
        assert_eq!(calls.len(), 1);
        let call = &calls[0];
        assert!((before_us..=now_us()).contains(&call.arrived_us));
        assert_eq!(
            (call.job.as_deref(), call.execution.as_deref(), call.attempt, call.scheduled_s, call.status),
            (Some("job_a"), Some("exec_a"), Some(2), Some(1_775_876_400), Some(204))
        );
    }

    #[tokio::test]
    async fn a_hanging_call_is_recorded_without_an_answer() {
        let target = Target::start().unwrap();
        let client = Client::new(Duration::from_millis(200));
        let error = client.send(Method::GET, &target.url("/hang"), None, None).await.unwrap_err();
        assert!(matches!(error, CallError::Unknown { .. }));
        let calls = target.calls();
        assert_eq!((calls.len(), calls[0].status, calls[0].job.as_deref()), (1, None, None));
        // The thread must end although the connection may still be open.
        drop(target);
    }

    #[tokio::test]
    async fn what_is_frail_breaks_and_comes_back() {
        let target = Target::start().unwrap();
        let (frail, steady) = (target.url("/frail/ok"), target.url("/ok"));
        let client = Client::new(Duration::from_millis(500));
        let status = async |url: &str| {
            client.send(Method::GET, url, None, None).await.map(|answer| answer.status).map_err(|_| ())
        };
        assert_eq!((status(&frail).await, status(&steady).await), (Ok(200), Ok(200)));
        assert_eq!(target.behave(), None);
        for (mode, expected) in [(Mode::Fail, Ok(500)), (Mode::Hang, Err(())), (Mode::Refuse, Err(()))] {
            target.misbehave(mode);
            // Over the old connection and over new ones.
            assert_eq!((status(&frail).await, status(&frail).await), (expected, expected), "{mode:?}");
            assert_eq!(status(&steady).await, Ok(200), "{mode:?}");
            let misbehaved = target.behave().unwrap();
            assert!(misbehaved.mode == mode && misbehaved.from_us < misbehaved.until_us);
            assert_eq!(status(&frail).await, Ok(200), "{mode:?}");
        }
    }

    #[tokio::test]
    async fn a_message_is_recorded_and_a_stubborn_channel_takes_its_repetition() {
        let target = Target::start().unwrap();
        let client = Client::new(Duration::from_secs(5));
        let body = r#"{"id":"evt_a","type":"job.failed","data":{"job_id":"job_a","execution_id":"exec_a"}}"#;
        let post = async |path: &str| {
            let body = Some(Bytes::from_static(body.as_bytes()));
            client.send(Method::POST, &target.url(path), None, body).await.unwrap().status
        };
        assert_eq!((post("/alerts/stubborn").await, post("/alerts/stubborn").await), (503, 200));
        assert_eq!(post("/alerts/ready").await, 200);
        let alerts = target.alerts();
        assert_eq!((alerts.len(), target.count()), (3, 0));
        assert!(!alerts[0].is_taken() && alerts[1].is_taken());
        let alert = &alerts[2];
        assert_eq!(
            (alert.id.as_deref(), alert.kind.as_deref(), alert.job.as_deref(), alert.execution.as_deref()),
            (Some("evt_a"), Some("job.failed"), Some("job_a"), Some("exec_a"))
        );
        assert_eq!((alert.path.as_str(), alert.delivery.as_deref()), ("/alerts/ready", None));
    }
}
