//! The server that the jobs call. It records every request and does nothing else, on a thread of its own,
//! so that what it measures is the cluster and not the harness.
//!
//! | path | answer |
//! |---|---|
//! | `/ok` | 200 |
//! | `/status/S` | S |
//! | `/fail-first/N` | 500 to attempts 1 to N of an execution, then 200 |
//! | `/slow/MS` | 200 after MS milliseconds |
//! | `/hang` | none |
//! | anything else | 404 |

use crate::{
    Error,
    history::Call,
    time::{monotonic_us, now_us, parse_rfc3339},
};
use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};
use tokio::{
    net::{TcpListener, TcpSocket},
    sync::oneshot,
    task::JoinSet,
};

/// Room for a run of ten minutes with 400 jobs a second, so that recording does not allocate on the way.
const CALLS_PREALLOCATED: usize = 250_000;

/// A running target. Dropping it closes its port and every connection.
#[derive(Debug)]
pub struct Target {
    address: SocketAddr,
    calls: Arc<Calls>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// In order of arrival. One thread writes, so the lock is free but for a snapshot.
#[derive(Debug)]
struct Calls(Mutex<Vec<Call>>);

impl Calls {
    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        // Nothing that holds the lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the place of the record, for [`Calls::answered`].
    fn arrived(&self, call: Call) -> usize {
        let mut calls = self.lock();
        calls.push(call);
        calls.len() - 1
    }

    fn answered(&self, place: usize, status: StatusCode) {
        self.lock()[place].status = Some(status.as_u16());
    }
}

impl Target {
    /// Starts on a free port of the loopback interface.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn start() -> Result<Self, Error> {
        Self::start_at(Ipv4Addr::LOCALHOST.into())
    }

    /// Starts on a free port of this address.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn start_at(address: IpAddr) -> Result<Self, Error> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Error::io("start the target's runtime"))?;
        let listener = {
            let _entered = runtime.enter();
            listen(address).map_err(Error::io("open the target's port"))?
        };
        let address = listener.local_addr().map_err(Error::io("read the target's port"))?;
        let calls = Arc::new(Calls(Mutex::new(Vec::with_capacity(CALLS_PREALLOCATED))));
        let (stop, stopped) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("target".to_owned())
            .spawn({
                let calls = Arc::clone(&calls);
                move || runtime.block_on(serve(listener, calls, stopped))
            })
            .map_err(Error::io("start the target's thread"))?;
        Ok(Self { address, calls, stop: Some(stop), thread: Some(thread) })
    }

    /// The address of a path, which starts with a slash.
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// How many requests have arrived.
    pub fn count(&self) -> usize {
        self.calls.lock().len()
    }

    /// What has arrived so far, in order of arrival.
    pub fn calls(&self) -> Vec<Call> {
        self.calls.lock().clone()
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

async fn serve(listener: TcpListener, calls: Arc<Calls>, mut stopped: oneshot::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            _ = &mut stopped => return,
            Some(_) = connections.join_next() => {}
            accepted = listener.accept() => {
                // A connection that died in the queue is its caller's concern.
                let Ok((stream, _)) = accepted else { continue };
                let _ = stream.set_nodelay(true);
                let calls = Arc::clone(&calls);
                let service = service_fn(move |request| answer(Arc::clone(&calls), request));
                let connection =
                    http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
                connections.spawn(async move {
                    // A caller may hang up at any moment; its call is recorded all the same.
                    let _ = connection.await;
                });
            }
        }
    }
}

async fn answer(calls: Arc<Calls>, request: Request<Incoming>) -> Result<Response<Empty<Bytes>>, Infallible> {
    let (arrived_us, arrived_monotonic_us) = (now_us(), monotonic_us());
    let headers = request.headers();
    let path = request.uri().path();
    let attempt = text(headers, "x-justrun-attempt").and_then(|text| text.parse().ok());
    let behaviour = Behaviour::of(path, attempt);
    let place = calls.arrived(Call {
        arrived_us,
        arrived_monotonic_us,
        path: path.to_owned(),
        job: text(headers, "x-justrun-job-id").map(str::to_owned),
        execution: text(headers, "x-justrun-execution-id").map(str::to_owned),
        attempt,
        scheduled_s: text(headers, "x-justrun-scheduled-at").and_then(parse_rfc3339),
        status: None,
    });
    let status = match behaviour {
        Behaviour::Answer(status) => status,
        Behaviour::Slow(delay) => {
            tokio::time::sleep(delay).await;
            StatusCode::OK
        }
        Behaviour::Hang => std::future::pending().await,
    };
    calls.answered(place, status);
    let mut response = Response::new(Empty::new());
    *response.status_mut() = status;
    Ok(response)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|value| value.to_str().ok())
}

/// What a path asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    Answer(StatusCode),
    Slow(Duration),
    Hang,
}

impl Behaviour {
    fn of(path: &str, attempt: Option<u32>) -> Self {
        let mut parts = path.trim_start_matches('/').splitn(2, '/');
        let (name, argument) = (parts.next().unwrap_or_default(), parts.next());
        let behaviour = match (name, argument) {
            ("ok", None) => Some(Self::Answer(StatusCode::OK)),
            ("hang", None) => Some(Self::Hang),
            ("status", Some(status)) => status.parse().ok().map(Self::Answer),
            ("slow", Some(delay_ms)) => delay_ms.parse().ok().map(Duration::from_millis).map(Self::Slow),
            ("fail-first", Some(count)) => count.parse::<u32>().ok().map(|count| {
                let failing = attempt.is_none_or(|attempt| attempt <= count);
                Self::Answer(if failing { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK })
            }),
            _ => None,
        };
        behaviour.unwrap_or(Self::Answer(StatusCode::NOT_FOUND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::{CallError, Client};
    use http::Method;

    #[test]
    fn paths() {
        let answer = |status: u16| Behaviour::Answer(StatusCode::from_u16(status).unwrap());
        for (path, attempt, expected) in [
            ("/ok", None, answer(200)),
            ("/status/503", None, answer(503)),
            ("/status/99", None, answer(404)),
            ("/slow/25", None, Behaviour::Slow(Duration::from_millis(25))),
            ("/hang", None, Behaviour::Hang),
            ("/fail-first/2", Some(1), answer(500)),
            ("/fail-first/2", Some(2), answer(500)),
            ("/fail-first/2", Some(3), answer(200)),
            ("/", None, answer(404)),
            ("/elsewhere", None, answer(404)),
        ] {
            assert_eq!(Behaviour::of(path, attempt), expected, "{path} {attempt:?}");
        }
    }

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
}
