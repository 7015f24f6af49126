//! A bad line: what enters it comes out late, overtakes what went before it, gets lost or comes out twice.
//!
//! The router sends packets into a TUN device instead of on to their host; [`run`] reads them there and writes them back
//! when their time has come, and the router sends them on. It is a program of its own, because it has to live in the
//! router's namespace. The kernel's `netem` would do the same, where there is one.

use crate::{Error, time::monotonic_us};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    io::{self, Read, Write},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};
use tun_rs::{DeviceBuilder, SyncDevice};

/// What [`run`] prints once packets pass.
pub(crate) const READY: &str = "ready";
/// Packets that wait at once; what comes then is lost, as in a router whose memory is full.
const WAITING_MAX: usize = 20_000;
/// More than any packet on a link of our own.
const PACKET_BYTES_MAX: usize = 65_536;

/// What is done to each packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::Args)]
pub struct Impairment {
    /// How much later it comes, in milliseconds
    #[arg(long)]
    pub delay_ms: u32,
    /// Up to how much later still, in milliseconds, each by its own chance: what came later may go first
    #[arg(long)]
    pub jitter_ms: u32,
    /// Of a thousand, how many are lost
    #[arg(long)]
    pub loss_permille: u32,
    /// Of a thousand, how many come twice
    #[arg(long)]
    pub duplicate_permille: u32,
}

/// Decides about one packet after the other.
#[derive(Debug)]
pub struct Line {
    impairment: Impairment,
    random: StdRng,
}

impl Line {
    /// The same seed decides the same.
    pub fn new(impairment: Impairment, seed: u64) -> Self {
        Self { impairment, random: StdRng::seed_from_u64(seed) }
    }

    /// How long after its arrival the next packet leaves: not at all, once or twice.
    pub fn departures(&mut self) -> Vec<Duration> {
        let Impairment { delay_ms, jitter_ms, loss_permille, duplicate_permille } = self.impairment;
        let mut chance = |permille: u32| self.random.random_range(0..1_000) < permille;
        // Each has its chance whatever the others say, so that one setting does not move what another decides.
        let (is_lost, comes_twice) = (chance(loss_permille), chance(duplicate_permille));
        let jitter_us = u64::from(jitter_ms) * 1_000;
        let mut departure = || {
            let jitter = Duration::from_micros(self.random.random_range(0..=jitter_us));
            Duration::from_millis(u64::from(delay_ms)) + jitter
        };
        let both = [departure(), departure()];
        both[..if is_lost { 0 } else { 1 + usize::from(comes_twice) }].to_vec()
    }
}

/// By when it leaves, and then in the order of arrival.
type Waiting = BinaryHeap<Reverse<(i64, u64, Vec<u8>)>>;

/// Packets on the line.
#[derive(Debug, Default)]
struct Queue {
    waiting: Mutex<Waiting>,
    arrived: Condvar,
}

impl Queue {
    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until the first packet's time has come.
    fn next(&self) -> Vec<u8> {
        let mut waiting = self.lock();
        loop {
            let now_us = monotonic_us();
            let left_us = waiting.peek().map(|Reverse((leaves_us, ..))| leaves_us - now_us);
            if left_us.is_some_and(|left_us| left_us <= 0)
                && let Some(Reverse((_, _, packet))) = waiting.pop()
            {
                return packet;
            }
            let left = left_us.map_or(Duration::MAX, |us| Duration::from_micros(us.unsigned_abs()));
            // An hour is for ever here, and a wait that the clock can hold.
            let left = left.min(Duration::from_secs(3_600));
            let woken = self.arrived.wait_timeout(waiting, left);
            waiting = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Relays what enters the TUN device of this name, until standard input ends: whoever holds the other end of it may die
/// in any way, and the relay is gone too.
///
/// # Errors
/// [`Error::Io`] if the device cannot be opened.
pub fn run(device: &str, impairment: Impairment, seed: u64) -> Result<(), Error> {
    let device = DeviceBuilder::new().name(device).build_sync().map_err(Error::io("open a TUN device"))?;
    let device = Arc::new(device);
    let queue = Arc::new(Queue::default());
    let thread = |name: &str, work: Box<dyn FnOnce() + Send>| {
        let started = thread::Builder::new().name(name.to_owned()).spawn(work);
        started.map(drop).map_err(Error::io("start a thread"))
    };
    let (from, into, line) = (Arc::clone(&device), Arc::clone(&queue), Line::new(impairment, seed));
    thread("in", Box::new(move || take(&from, &into, line)))?;
    thread("out", Box::new(move || give(&device, &queue)))?;

    let mut output = io::stdout();
    writeln!(output, "{READY}").and_then(|()| output.flush()).map_err(Error::io("say that packets pass"))?;
    // Ends the process, and the threads with it.
    io::stdin().read_to_end(&mut Vec::new()).map(drop).map_err(Error::io("wait for the end"))
}

/// Puts what comes in on the line, until the device is gone.
fn take(device: &SyncDevice, queue: &Queue, mut line: Line) {
    let mut buffer = vec![0; PACKET_BYTES_MAX];
    for number in 0.. {
        let length = match device.recv(&mut buffer) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(_) => return,
        };
        let arrived_us = monotonic_us();
        for departure in line.departures() {
            let leaves_us = arrived_us.saturating_add(crate::time::micros(departure));
            let mut waiting = queue.lock();
            if waiting.len() < WAITING_MAX {
                waiting.push(Reverse((leaves_us, number, buffer[..length].to_vec())));
            }
            drop(waiting);
            queue.arrived.notify_one();
        }
    }
}

/// Sends on whatever's time has come, for ever.
fn give(device: &SyncDevice, queue: &Queue) {
    loop {
        // What the kernel does not take, such as a packet without a way to go, is one more that is lost.
        let _ = device.send(&queue.next());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BAD: Impairment =
        Impairment { delay_ms: 20, jitter_ms: 100, loss_permille: 100, duplicate_permille: 50 };

    fn departures(impairment: Impairment, seed: u64) -> Vec<Vec<Duration>> {
        let mut line = Line::new(impairment, seed);
        (0..10_000).map(|_| line.departures()).collect()
    }

    #[test]
    fn a_seed_is_a_line() {
        assert_eq!(departures(BAD, 1), departures(BAD, 1));
        assert_ne!(departures(BAD, 1), departures(BAD, 2));
    }

    #[test]
    fn a_good_line_changes_nothing() {
        assert!(departures(Impairment::default(), 1).iter().all(|times| *times == [Duration::ZERO]));
    }

    #[test]
    fn packets_are_lost_doubled_and_late_as_often_as_asked_for() {
        let all = departures(BAD, 1);
        let count = |times: usize| all.iter().filter(|departures| departures.len() == times).count();
        // Far wider than chance strays among ten thousand: about 1000, and 5 % of the rest.
        assert!((800..1_200).contains(&count(0)), "{} lost", count(0));
        assert!((300..600).contains(&count(2)), "{} twice", count(2));

        let times: Vec<_> = all.iter().flatten().collect();
        assert!(times.iter().all(|time| (20..=120).contains(&time.as_millis())));
        let overtaken =
            times.windows(2).filter(|pair| pair[0].as_millis() > pair[1].as_millis() + 10).count();
        assert!(overtaken > times.len() / 10, "{overtaken} of {}", times.len());
    }

    #[test]
    fn what_is_due_first_leaves_first() {
        let queue = Queue::default();
        let now_us = monotonic_us();
        let at = |ms: i64, number, packet: u8| Reverse((now_us + ms * 1_000, number, vec![packet]));
        queue.lock().extend([at(30, 0, 3), at(10, 1, 1), at(10, 2, 2)]);
        let packets = [queue.next(), queue.next(), queue.next()];
        assert_eq!(packets, [[1], [2], [3]]);
        assert!(monotonic_us() >= now_us + 30_000);
    }
}
