//! The relay between two hosts, as `chaos` starts it: datagrams come late, out of order, twice or not at all, and only those
//! that are meant.

#![allow(clippy::unwrap_used, reason = "a test ends where something fails")]

use cluster_tests::{Error, net::Net, relay::Impairment, time::monotonic_us};
use nix::sched::{CloneFlags, setns};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Write},
    net::UdpSocket,
    path::Path,
    thread,
    time::Duration,
};

const DATAGRAMS: u32 = 1_000;
/// After this long without another, no more is on its way.
const SILENCE: Duration = Duration::from_millis(1_500);
/// A socket's memory does not hold all of them: so many are sent at once, and then none for a moment.
const BURST: u32 = 50;
const PAUSE: Duration = Duration::from_millis(5);

/// A socket on a node's host.
fn socket(net: &Net, node: u64) -> UdpSocket {
    let (namespace, address) = (net.namespace(node), net.address(node));
    // Where a thread is says where its sockets are, and they stay there.
    let bound = thread::spawn(move || {
        setns(File::open(namespace)?, CloneFlags::CLONE_NEWNET)?;
        UdpSocket::bind((address, 0))
    });
    let socket = bound.join().unwrap().unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket
}

/// What became of datagrams.
#[derive(Debug)]
struct Seen {
    lost: u32,
    twice: u32,
    /// Those that came after a later one.
    overtaken: u32,
    /// The shortest time that one took.
    fastest: Duration,
}

/// Sends datagrams with their number and the time in them.
fn send(from: &UdpSocket, to: &UdpSocket) -> Seen {
    let address = to.local_addr().unwrap();
    let from = from.try_clone().unwrap();
    let sender = thread::spawn(move || {
        for number in 0..DATAGRAMS {
            let text = format!("{number} {}", monotonic_us());
            from.send_to(text.as_bytes(), address).unwrap();
            if number % BURST == 0 {
                thread::park_timeout(PAUSE);
            }
        }
    });
    let mut counts: BTreeMap<u32, u32> = BTreeMap::new();
    let mut seen = Seen { lost: 0, twice: 0, overtaken: 0, fastest: Duration::MAX };
    let mut buffer = [0; 64];
    while let Ok(length) = to.recv(&mut buffer) {
        let text = str::from_utf8(&buffer[..length]).unwrap();
        let (number, sent_us) = text.split_once(' ').unwrap();
        let (number, sent_us): (u32, i64) = (number.parse().unwrap(), sent_us.parse().unwrap());
        let took = Duration::from_micros((monotonic_us() - sent_us).unsigned_abs());
        seen.fastest = seen.fastest.min(took);
        if counts.last_key_value().is_some_and(|(latest, _)| *latest > number) {
            seen.overtaken += 1;
        }
        *counts.entry(number).or_default() += 1;
    }
    sender.join().unwrap();
    seen.lost = DATAGRAMS - u32::try_from(counts.len()).unwrap();
    seen.twice = u32::try_from(counts.values().filter(|count| **count > 1).count()).unwrap();
    seen
}

/// Says so where the machine does not allow it.
fn net() -> Option<Net> {
    let allowed = |net: Net| net.allow_impairment().map(|()| net);
    match Net::build(&[1, 2]).and_then(allowed) {
        Ok(net) => Some(net),
        Err(error) => {
            let _ = writeln!(io::stderr(), "SKIPPED: {error}");
            None
        }
    }
}

#[test]
fn what_is_impaired_comes_late_twice_or_never_and_nothing_else_does() -> Result<(), Error> {
    let Some(net) = net() else { return Ok(()) };
    let (first, second) = (socket(&net, 1), socket(&net, 2));
    let is_good = |seen: &Seen| {
        (seen.lost, seen.twice, seen.overtaken) == (0, 0, 0) && seen.fastest < Duration::from_millis(50)
    };
    let before = send(&first, &second);
    assert!(is_good(&before), "{before:?}");

    let chaos = Path::new(env!("CARGO_BIN_EXE_chaos"));
    let bad = Impairment { delay_ms: 100, jitter_ms: 100, loss_permille: 200, duplicate_permille: 100 };
    net.impair(&[(1, 2)], bad, 1, chaos)?;
    let there = send(&first, &second);
    assert!((100..300).contains(&there.lost), "{there:?}");
    assert!((30..150).contains(&there.twice), "{there:?}");
    assert!(there.overtaken > 100, "{there:?}");
    assert!(there.fastest >= Duration::from_millis(100), "{there:?}");
    let back = send(&second, &first);
    assert!(is_good(&back), "{back:?}");

    net.heal()?;
    let after = send(&first, &second);
    assert!(is_good(&after), "{after:?}");
    Ok(())
}
