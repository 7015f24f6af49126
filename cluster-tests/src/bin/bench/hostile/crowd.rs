//! Those who mean no good: they connect and say nothing, say it a byte at a time, do not listen, or talk nonsense.

use rand::{RngExt, SeedableRng, rngs::SmallRng};
use std::{collections::BTreeMap, fmt, io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpSocket, TcpStream},
    task::JoinSet,
    time::{interval, timeout},
};

/// Longer than the server may leave anybody without an answer or an end.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two bytes of those who are slow.
const BYTE_EVERY: Duration = Duration::from_millis(500);
/// Attempts at connecting under way at once.
const TOGETHER: usize = 64;
/// Requests in one go of those who never read: their answers are more than the buffers on the way hold.
const PIPELINED: usize = 200;
/// What the system takes in for those who never read.
const UNREAD_BYTES: u32 = 4_096;

/// What was seen of many connections, by kind.
#[derive(Default)]
pub(crate) struct Seen(BTreeMap<String, usize>);

impl Seen {
    fn note(&mut self, what: impl Into<String>) {
        *self.0.entry(what.into()).or_default() += 1;
    }

    pub(crate) fn count(&self) -> usize {
        self.0.values().sum()
    }

    /// What must not be.
    pub(crate) fn faults(&self) -> impl Iterator<Item = String> {
        let bad =
            |what: &str| what.starts_with('5') || what.contains("hang") || what.contains("undocumented");
        self.0
            .iter()
            .filter(move |(what, _)| bad(what))
            .map(|(what, count)| format!("{what} ({count} times)"))
    }
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts: Vec<_> = self.0.iter().map(|(what, count)| format!("{what}: {count}")).collect();
        f.write_str(&parts.join(", "))
    }
}

/// Connections that are open until it leaves.
pub(crate) struct Crowd {
    address: SocketAddr,
    key: String,
    idle: Vec<TcpStream>,
    slow: JoinSet<()>,
}

impl Crowd {
    pub(crate) fn new(address: SocketAddr, key: &str) -> Self {
        Self { address, key: key.to_owned(), idle: Vec::new(), slow: JoinSet::new() }
    }

    /// Brings `idle` clients that say nothing, and `slow` of each kind that take their time.
    pub(crate) async fn gather(&mut self, idle: usize, slow: usize) -> Vec<(&'static str, Seen)> {
        let mut seen = Vec::new();
        let (streams, found) = connect(self.address, idle, None).await;
        self.idle.extend(streams);
        seen.push(("says nothing", found));
        let get = format!("GET /v1/jobs HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\n", self.key);
        let post = format!(
            "POST /v1/jobs HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {}\r\ncontent-type: application/json\r\n\
             content-length: 100000\r\n\r\n",
            self.key
        );
        let many = format!("{get}\r\n").repeat(PIPELINED);
        for (name, count, at_once, then) in [
            ("slow head", slow, get, Some(b'x')),
            ("slow body", slow, post, Some(b' ')),
            // Few, because each has a good many requests answered before the way to it is full.
            ("never reads", slow / 10, many, None),
        ] {
            let unread_bytes = then.is_none().then_some(UNREAD_BYTES);
            let (streams, found) = connect(self.address, count, unread_bytes).await;
            for stream in streams {
                self.slow.spawn(dawdle(stream, at_once.clone(), then));
            }
            seen.push((name, found));
        }
        seen
    }

    /// Sends things that are no HTTP over `count` connections, and says what became of each.
    pub(crate) async fn shout(&self, count: usize) -> Seen {
        let mut shouting = JoinSet::new();
        let mut seen = Seen::default();
        for number in 0..count {
            if shouting.len() >= TOGETHER
                && let Some(ended) = shouting.join_next().await
            {
                seen.note(ended.unwrap_or_else(|error| error.to_string()));
            }
            shouting.spawn(shout_at(self.address, nonsense(number)));
        }
        while let Some(ended) = shouting.join_next().await {
            seen.note(ended.unwrap_or_else(|error| error.to_string()));
        }
        seen
    }

    /// Closes everything.
    pub(crate) async fn leave(mut self) {
        self.slow.shutdown().await;
    }
}

/// Connections that were made, and what became of each attempt.
async fn connect(address: SocketAddr, count: usize, unread_bytes: Option<u32>) -> (Vec<TcpStream>, Seen) {
    let mut attempts = JoinSet::new();
    let mut streams = Vec::with_capacity(count);
    let mut seen = Seen::default();
    let mut take = |ended: Result<io::Result<TcpStream>, _>| match ended {
        Ok(Ok(stream)) => {
            seen.note("connected");
            streams.push(stream);
        }
        Ok(Err(error)) => seen.note(error.to_string()),
        Err(_) => seen.note("given up"),
    };
    for _ in 0..count {
        if attempts.len() >= TOGETHER
            && let Some(ended) = attempts.join_next().await
        {
            take(ended);
        }
        attempts.spawn(async move {
            let socket = TcpSocket::new_v4()?;
            if let Some(bytes) = unread_bytes {
                socket.set_recv_buffer_size(bytes)?;
            }
            let connected = timeout(PATIENCE, socket.connect(address)).await;
            connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        });
    }
    while let Some(ended) = attempts.join_next().await {
        take(ended);
    }
    (streams, seen)
}

/// Sends something at once, and from then on a byte at a time, or nothing. Never reads.
async fn dawdle(mut stream: TcpStream, at_once: String, then: Option<u8>) {
    // The server may have enough of it at any time.
    if stream.write_all(at_once.as_bytes()).await.is_err() {
        return;
    }
    let mut ticks = interval(BYTE_EVERY);
    loop {
        ticks.tick().await;
        if let Some(byte) = then
            && stream.write_all(&[byte]).await.is_err()
        {
            return;
        }
    }
}

/// The same for the same number.
fn nonsense(number: usize) -> Vec<u8> {
    let mut random = SmallRng::seed_from_u64(u64::try_from(number).unwrap_or_default());
    let mut bytes = vec![0; random.random_range(1..3_000)];
    random.fill(&mut bytes[..]);
    let head: &[u8] = match number % 5 {
        0 => b"",
        1 => b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        2 => b"GET /v1/jobs HTTP/1.1\r\nhost: ",
        3 => b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        _ => b"POST /v1/jobs HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n",
    };
    [head, &bytes, b"\r\n\r\n"].concat()
}

/// What the server makes of some bytes.
async fn shout_at(address: SocketAddr, bytes: Vec<u8>) -> String {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        let mut answer = Vec::new();
        // What the server does not want to hear it need not hear to the end.
        if stream.write_all(&bytes).await.is_ok() {
            // Nothing more will come, so it need not wait for the rest either.
            stream.shutdown().await?;
            stream.read_to_end(&mut answer).await?;
        }
        Ok::<_, io::Error>(answer)
    };
    match timeout(PATIENCE, exchange).await {
        Ok(Ok(answer)) if answer.is_empty() => "closed".to_owned(),
        Ok(Ok(answer)) => judge(&String::from_utf8_lossy(&answer)),
        Ok(Err(error)) => error.kind().to_string(),
        Err(_) => "hang".to_owned(),
    }
}

/// The status of an answer, and whether it has the documented shape.
fn judge(answer: &str) -> String {
    let status = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or("undocumented");
    let has_shape = answer.contains("{\"error\":{\"code\":\"");
    if has_shape { status.to_owned() } else { format!("{status} undocumented") }
}
