//! Load over keep-alive connections that costs as little as possible, so that on a machine that is shared with the
//! nodes the nodes are what is measured.

use crate::table::hundredths;
use cluster_tests::Error;
use serde_json::{Value, json};
use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

/// The longest head of an answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// What came of one run.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Answers a second.
    pub(crate) rate: f64,
    /// Of each answer, in ascending order.
    latencies: Vec<Duration>,
}

impl Outcome {
    /// What came of `latencies`, one for each answer, all of them within `took`.
    pub(crate) fn of(mut latencies: Vec<Duration>, took: Duration) -> Self {
        latencies.sort_unstable();
        let count = f64::from(u32::try_from(latencies.len()).unwrap_or(u32::MAX));
        Self { rate: (count / took.as_secs_f64()).round(), latencies }
    }

    /// Of several runs of one kind, the one in the middle by its rate.
    ///
    /// # Panics
    /// If there is none.
    pub(crate) fn median(outcomes: Vec<Self>) -> Self {
        median(outcomes, |outcome| outcome.rate)
    }

    /// How many answers there were.
    pub(crate) fn count(&self) -> usize {
        self.latencies.len()
    }

    /// Answers a second, and the 50th and 99th percentile of the latency in milliseconds.
    pub(crate) fn cells(&self) -> [Value; 3] {
        [json!(self.rate), json!(self.quantile_ms(0.5)), json!(self.quantile_ms(0.99))]
    }

    /// The latency that `share` of all answers did not exceed, in milliseconds with two decimals.
    pub(crate) fn quantile_ms(&self, share: f64) -> f64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "an index into what is in memory"
        )]
        let index =
            ((self.latencies.len() as f64 * share) as usize).min(self.latencies.len().saturating_sub(1));
        let found = self.latencies.get(index).copied().unwrap_or_default();
        hundredths(found.as_secs_f64() * 1_000.0)
    }
}

/// The one in the middle by its rate.
///
/// # Panics
/// If there is none.
pub(crate) fn median<T>(mut runs: Vec<T>, rate: impl Fn(&T) -> f64) -> T {
    runs.sort_by(|a, b| rate(a).total_cmp(&rate(b)));
    let middle = runs.len() / 2;
    runs.swap_remove(middle)
}

/// Asks one thing after the other, each told how many were before it, until `until`. How long each took.
pub(crate) async fn repeat(
    until: Instant,
    mut ask: impl AsyncFnMut(usize) -> Result<(), Error>,
) -> Result<Vec<Duration>, Error> {
    let mut latencies = Vec::new();
    loop {
        let asked = Instant::now();
        if asked >= until {
            return Ok(latencies);
        }
        ask(latencies.len()).await?;
        latencies.push(asked.elapsed());
    }
}

/// What came of all clients, which began at `start`, once they have ended.
pub(crate) async fn gather(
    mut clients: JoinSet<Result<Vec<Duration>, Error>>,
    start: Instant,
) -> Result<Outcome, Error> {
    let mut latencies = Vec::new();
    while let Some(client) = clients.join_next().await {
        latencies.extend(client.map_err(|error| Error::Input(format!("a client panicked: {error}")))??);
    }
    Ok(Outcome::of(latencies, start.elapsed()))
}

/// One request, as it is written.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    status: &'static str,
}

impl Request {
    /// A GET that is to be answered with 200.
    pub(crate) fn get(path: &str, key: &str) -> Self {
        Self::new("GET", path, key, "", "200")
    }

    /// A POST of JSON that is to be answered with 201.
    pub(crate) fn post(path: &str, key: &str, body: &str) -> Self {
        Self::new("POST", path, key, body, "201")
    }

    /// A PATCH by JSON that is to be answered with 200.
    pub(crate) fn patch(path: &str, key: &str, body: &str) -> Self {
        Self::new("PATCH", path, key, body, "200")
    }

    fn new(method: &str, path: &str, key: &str, body: &str, status: &'static str) -> Self {
        let length = body.len();
        let text = format!(
            "{method} {path} HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {key}\r\nContent-Type: application/json\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        );
        Self { bytes: text.into_bytes(), status }
    }
}

/// Sends `request` over `connections` connections, spread evenly over `servers`, for `span`, one at a time on each.
pub(crate) async fn run(
    servers: &[SocketAddr],
    request: &Request,
    connections: usize,
    span: Duration,
) -> Result<Outcome, Error> {
    let mut open = Vec::with_capacity(connections);
    for server in servers.iter().cycle().take(connections) {
        open.push(Connection::open(*server).await?);
    }
    let start = Instant::now();
    let mut clients = JoinSet::new();
    for mut connection in open {
        let request = request.clone();
        clients.spawn(repeat(start + span, async move |_| {
            if connection.ask(&request).await.map_err(Error::Input)? {
                return Ok(());
            }
            let answer = String::from_utf8_lossy(&connection.answer);
            Err(Error::Input(format!("not answered with {}: {answer}", request.status)))
        }));
    }
    gather(clients, start).await
}

/// A connection that takes one request after the other.
#[derive(Debug)]
pub(crate) struct Connection {
    stream: TcpStream,
    /// The last one.
    answer: Vec<u8>,
}

impl Connection {
    pub(crate) async fn open(server: SocketAddr) -> Result<Self, Error> {
        let failed = |error: std::io::Error| Error::Input(format!("{server}: {error}"));
        let stream = TcpStream::connect(server).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        Ok(Self { stream, answer: Vec::with_capacity(HEAD_BYTES_MAX) })
    }

    /// Sends a request and reads the answer, which must have a length. Whether it has the status that is wanted.
    pub(crate) async fn ask(&mut self, request: &Request) -> Result<bool, String> {
        self.stream.write_all(&request.bytes).await.map_err(|error| error.to_string())?;
        self.answer.clear();
        let mut whole = None;
        while whole.is_none_or(|whole| self.answer.len() < whole) {
            if self.stream.read_buf(&mut self.answer).await.map_err(|error| error.to_string())? == 0 {
                return Err("the connection was closed".to_owned());
            }
            if whole.is_none() {
                whole = length(&self.answer)?;
            }
        }
        Ok(self.answer.get(9..12) == Some(request.status.as_bytes()))
    }
}

/// The bytes of the whole answer, once its head is there.
fn length(buffer: &[u8]) -> Result<Option<usize>, String> {
    let Some(head) = buffer.windows(4).position(|window| window == b"\r\n\r\n") else {
        return if buffer.len() > HEAD_BYTES_MAX { Err("the head has no end".to_owned()) } else { Ok(None) };
    };
    let lines = std::str::from_utf8(&buffer[..head]).map_err(|error| error.to_string())?.split("\r\n");
    let length = lines
        .filter_map(|line| line.split_once(": "))
        .find(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let body: usize = length.and_then(|(_, value)| value.parse().ok()).ok_or("an answer without a length")?;
    Ok(Some(head + 4 + body))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_end_where_their_length_says() {
        assert_eq!(length(b"HTTP/1.1 200 OK\r\nContent-Len"), Ok(None));
        assert_eq!(length(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\na: b\r\n\r\nhe"), Ok(Some(49)));
        assert!(length(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn quantiles_are_of_all_answers() {
        let latencies = (1..=100).rev().map(Duration::from_millis).collect();
        let outcome = Outcome::of(latencies, Duration::from_secs(2));
        assert_eq!([0.5, 0.99, 1.0].map(|share| outcome.quantile_ms(share)), [51.0, 100.0, 100.0]);
        assert_eq!((outcome.rate, outcome.count()), (50.0, 100));
    }

    #[test]
    fn the_run_in_the_middle_counts() {
        let outcome = |count| Outcome::of(vec![Duration::ZERO; count], Duration::from_secs(1));
        assert_eq!(Outcome::median(vec![outcome(9), outcome(1), outcome(5)]).rate, 5.0);
    }
}
