//! The network from one node to another: it can be cut, lose answers, hold back everything, or forget connections.

use parking_lot::Mutex;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mode {
    /// They pass.
    Open,
    /// Connections are closed, new ones at once.
    Cut,
    /// Calls pass, answers do not; they are lost.
    Mute,
    /// Nothing passes, and nothing is lost.
    Held,
}

#[derive(Clone, Copy, Debug)]
struct Rule {
    mode: Mode,
    /// Connections from before this changed are closed.
    resets: u64,
    /// Connections from before this changed are forgotten: no byte passes any more, and neither end is told.
    forgets: u64,
}

struct Shared {
    target: Mutex<Option<SocketAddr>>,
    rule: watch::Sender<Rule>,
    /// What happens once so many more bytes of calls have passed.
    budget: Mutex<Option<(u64, Trip)>>,
    /// Bytes of calls that have passed.
    passed: Mutex<u64>,
    /// Connections that were asked for.
    asked: AtomicUsize,
}

/// What a link does when its budget is spent.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Trip {
    /// Closes all connections; new ones pass.
    Reset,
    /// Forgets all connections; new ones pass.
    Forget,
}

/// A listener that passes on to a node. Clones are the same link.
#[derive(Clone)]
pub(crate) struct Link {
    pub(crate) addr: SocketAddr,
    shared: Arc<Shared>,
    accepting: Arc<JoinHandle<()>>,
}

impl Link {
    pub(crate) fn start(runtime: &Handle) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            target: Mutex::new(None),
            rule: watch::Sender::new(Rule { mode: Mode::Open, resets: 0, forgets: 0 }),
            budget: Mutex::new(None),
            passed: Mutex::new(0),
            asked: AtomicUsize::new(0),
        });
        let (passing, handle) = (Arc::clone(&shared), runtime.clone());
        let accepting = runtime.spawn(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            while let Ok((caller, _)) = listener.accept().await {
                passing.asked.fetch_add(1, Ordering::Relaxed);
                handle.spawn(pass(caller, Arc::clone(&passing)));
            }
        });
        Self { addr, shared, accepting: Arc::new(accepting) }
    }

    /// Where connections lead to, from the next one on.
    pub(crate) fn lead_to(&self, target: Option<SocketAddr>) {
        *self.shared.target.lock() = target;
    }

    pub(crate) fn set(&self, mode: Mode) {
        self.shared.rule.send_modify(|rule| rule.mode = mode);
    }

    /// Closes all connections and refuses others from now on, as a machine does on which nothing listens any more.
    pub(crate) fn refuse(&self) {
        self.accepting.abort();
        self.set(Mode::Cut);
    }

    /// Arms `trip` for when so many more bytes of calls have passed.
    pub(crate) fn trip_after(&self, bytes: u64, trip: Trip) {
        *self.shared.budget.lock() = Some((bytes, trip));
    }

    /// Whether the last trip that was armed has happened.
    pub(crate) fn has_tripped(&self) -> bool {
        self.shared.budget.lock().is_none()
    }

    /// Connections that were asked for so far.
    pub(crate) fn asked(&self) -> usize {
        self.shared.asked.load(Ordering::Relaxed)
    }

    /// Bytes of calls that have passed so far.
    pub(crate) fn passed(&self) -> u64 {
        *self.shared.passed.lock()
    }
}

impl Shared {
    fn count(&self, bytes: usize) {
        let bytes = bytes as u64;
        *self.passed.lock() += bytes;
        let mut budget = self.budget.lock();
        match budget.as_mut() {
            Some((left, _)) if *left > bytes => *left -= bytes,
            Some((_, trip)) => {
                let trip = *trip;
                *budget = None;
                drop(budget);
                self.rule.send_modify(|rule| match trip {
                    Trip::Reset => rule.resets += 1,
                    Trip::Forget => rule.forgets += 1,
                });
            }
            None => {}
        }
    }
}

/// One connection.
async fn pass(caller: TcpStream, shared: Arc<Shared>) {
    let mut rule = shared.rule.subscribe();
    let born = *rule.borrow();
    let target = *shared.target.lock();
    let Some(target) = target.filter(|_| born.mode != Mode::Cut) else { return };
    let Ok(callee) = TcpStream::connect(target).await else { return };
    let _ = (caller.set_nodelay(true), callee.set_nodelay(true));
    let (from_caller, to_caller) = caller.into_split();
    let (from_callee, to_callee) = callee.into_split();
    let pumps = async {
        tokio::join!(
            pump(from_caller, to_callee, Way::Calls, born, Arc::clone(&shared)),
            pump(from_callee, to_caller, Way::Answers, born, Arc::clone(&shared)),
        );
    };
    tokio::select! {
        () = pumps => {}
        _ = rule.wait_for(|rule| rule.forgets == born.forgets && (rule.mode == Mode::Cut || rule.resets != born.resets)) => {}
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Calls,
    Answers,
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, way: Way, born: Rule, shared: Arc<Shared>) {
    let mut rule = shared.rule.subscribe();
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let read = from.read(&mut buffer).await.unwrap_or(0);
        // The end of a connection is held back, too.
        let now = match rule.wait_for(|rule| rule.forgets != born.forgets || rule.mode != Mode::Held).await {
            Ok(now) => *now,
            Err(_) => return,
        };
        if now.forgets != born.forgets {
            std::future::pending::<()>().await;
        }
        match (way, now.mode) {
            // Looked at here too, so that nothing passes any more when `Link::set` has returned.
            (_, Mode::Cut) => return,
            (Way::Answers, Mode::Mute) if read > 0 => continue,
            (Way::Answers, Mode::Mute | Mode::Open | Mode::Held) => {}
            (Way::Calls, Mode::Mute | Mode::Open | Mode::Held) => shared.count(read),
        }
        if read == 0 {
            let _ = to.shutdown().await;
            return;
        }
        if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
