//! Who is connected: a bounded number of seats, and which of them are idle. Whoever comes when all are taken
//! gets the seat of the connection that has been idle longest, so that clients that say nothing keep nobody out.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// The seats of one server.
#[derive(Clone)]
pub(crate) struct Seats(Arc<Shared>);

struct Shared {
    seats_max: usize,
    table: Mutex<Table>,
    /// Tells whoever waits for a seat to look again.
    changed: Notify,
}

#[derive(Default)]
struct Table {
    taken: usize,
    /// Idle connections, the one that has been so longest first, and how each is asked to leave.
    idle: BTreeMap<u64, CancellationToken>,
    /// How many were asked to leave and have not left.
    leaving: usize,
    /// Orders what becomes idle.
    next: u64,
}

impl Table {
    fn admit_idle(&mut self, leave: &CancellationToken) -> Stage {
        let since = self.next;
        self.next += 1;
        self.idle.insert(since, leave.clone());
        Stage::Idle { since }
    }

    /// Asks the connection that has been idle longest to leave, unless another one is about to.
    fn make_room(&mut self) {
        if self.leaving == 0
            && let Some((_, leave)) = self.idle.pop_first()
        {
            self.leaving += 1;
            leave.cancel();
        }
    }
}

impl Seats {
    pub(crate) fn new(seats_max: usize) -> Self {
        Self(Arc::new(Shared { seats_max, table: Mutex::default(), changed: Notify::new() }))
    }

    /// A seat, idle at first. Waits only while every seat has a request under way.
    ///
    /// May be given up and called again. Only one caller at a time is told that a seat became free.
    pub(crate) async fn take(&self) -> Seat {
        loop {
            {
                let mut table = self.0.table.lock();
                if table.taken < self.0.seats_max {
                    table.taken += 1;
                    let leave = CancellationToken::new();
                    let stage = Mutex::new(table.admit_idle(&leave));
                    return Seat(Arc::new(Held { shared: Arc::clone(&self.0), leave, stage }));
                }
                table.make_room();
            }
            self.0.changed.notified().await;
        }
    }

    /// Asks the connection that has been idle longest to leave: something that it holds is wanted.
    pub(crate) fn make_room(&self) {
        self.0.table.lock().make_room();
    }
}

/// One connection's seat, free again when the last clone is dropped.
#[derive(Clone)]
pub(crate) struct Seat(Arc<Held>);

struct Held {
    shared: Arc<Shared>,
    leave: CancellationToken,
    stage: Mutex<Stage>,
}

/// What a connection is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Waits for its client. `since` is its key in the table until it is asked to leave.
    Idle { since: u64 },
    /// A request is under way.
    Busy,
    /// The answer is made; the end of it has not been handed to the system yet.
    Sending,
}

impl Seat {
    /// Ends when the seat is wanted for somebody else.
    pub(crate) async fn wanted(&self) {
        self.0.leave.cancelled().await;
    }

    /// Whether no request is under way.
    pub(crate) fn is_idle(&self) -> bool {
        matches!(*self.0.stage.lock(), Stage::Idle { .. })
    }

    /// Notes that a request is under way, until what this returns is dropped and the answer has been sent.
    pub(crate) fn begin(&self) -> UnderWay {
        let mut stage = self.0.stage.lock();
        if let Stage::Idle { since } = *stage {
            self.0.leave_idle(since);
        }
        *stage = Stage::Busy;
        UnderWay(self.clone())
    }

    /// Notes that everything written so far was handed to the system.
    pub(crate) fn flushed(&self) {
        let mut stage = self.0.stage.lock();
        if *stage == Stage::Sending {
            *stage = self.0.shared.table.lock().admit_idle(&self.0.leave);
            self.0.shared.changed.notify_one();
        }
    }
}

impl Held {
    /// Takes the connection off the list of idle ones. One that was asked to leave is not on it any more, and
    /// with a request under way it will not leave soon.
    fn leave_idle(&self, since: u64) {
        let mut table = self.shared.table.lock();
        if table.idle.remove(&since).is_none() {
            table.leaving -= 1;
            self.shared.changed.notify_one();
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Stage::Idle { since } = *self.stage.lock() {
            self.leave_idle(since);
        }
        self.shared.table.lock().taken -= 1;
        self.shared.changed.notify_one();
    }
}

/// A request under way.
pub(crate) struct UnderWay(Seat);

impl Drop for UnderWay {
    fn drop(&mut self) {
        *self.0.0.stage.lock() = Stage::Sending;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures::FutureExt;

    #[tokio::test]
    async fn the_seat_of_the_longest_idle_is_wanted_first() {
        let seats = Seats::new(2);
        let (first, second) = (seats.take().await, seats.take().await);
        // The first one has had a request since, so the second has been idle longer.
        drop(first.begin());
        first.flushed();
        assert!(seats.take().now_or_never().is_none());
        assert!(second.wanted().now_or_never().is_some() && first.wanted().now_or_never().is_none());
        // Asking again does not turn out another one.
        assert!(seats.take().now_or_never().is_none());
        assert!(first.wanted().now_or_never().is_none());
        drop(second);
        assert!(seats.take().now_or_never().is_some());
    }

    #[tokio::test]
    async fn a_request_under_way_keeps_its_seat_until_its_answer_is_sent() {
        let seats = Seats::new(1);
        let seat = seats.take().await;
        let request = seat.begin();
        assert!(seats.take().now_or_never().is_none() && seat.wanted().now_or_never().is_none());
        seat.flushed();
        assert!(!seat.is_idle(), "that was a part of the answer, or a \"100 Continue\"");
        drop(request);
        assert!(!seat.is_idle(), "the answer is made, not sent");
        seat.flushed();
        assert!(seat.is_idle());
        assert!(seats.take().now_or_never().is_none());
        assert!(seat.wanted().now_or_never().is_some());
    }

    #[tokio::test]
    async fn one_that_asks_something_at_the_last_moment_makes_another_one_leave() {
        let seats = Seats::new(2);
        let (first, second) = (seats.take().await, seats.take().await);
        let mut waiting = Box::pin(seats.take());
        assert!(waiting.as_mut().now_or_never().is_none());
        let request = first.begin();
        assert!(waiting.as_mut().now_or_never().is_none());
        assert!(second.wanted().now_or_never().is_some());
        drop(second);
        let third = waiting.now_or_never().expect("a seat is free");
        drop((request, first, third));
        assert_eq!(seats.0.table.lock().taken, 0);
        assert_eq!(seats.0.table.lock().leaving, 0);
        assert!(seats.0.table.lock().idle.is_empty());
    }
}
