//! Processes that are stopped (SIGSTOP) or killed: their tasks stand behind a gate.

use parking_lot::Mutex;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

/// Lets the tasks of a process run, or not. Clones are the same gate.
#[derive(Clone, Default)]
pub(crate) struct Gate {
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    state: State,
    /// Who came while it was shut.
    waiting: Vec<Waker>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Shut,
    /// For ever.
    Dead,
}

impl Gate {
    /// Nobody passes until it is opened.
    pub(super) fn shut(&self) {
        let mut known = self.known.lock();
        if known.state == State::Open {
            known.state = State::Shut;
        }
    }

    pub(super) fn open(&self) {
        let waiting = {
            let mut known = self.known.lock();
            if known.state != State::Shut {
                return;
            }
            known.state = State::Open;
            std::mem::take(&mut known.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Nobody passes any more.
    pub(crate) fn kill(&self) {
        self.known.lock().state = State::Dead;
    }

    /// Whether a task may go on; if not, it is woken when it may.
    fn poll(&self, context: &Context<'_>) -> Poll<()> {
        let mut known = self.known.lock();
        match known.state {
            State::Open => Poll::Ready(()),
            State::Shut => {
                known.waiting.push(context.waker().clone());
                Poll::Pending
            }
            State::Dead => Poll::Pending,
        }
    }

    /// Ends when the process runs.
    pub(super) async fn pass(&self) {
        std::future::poll_fn(|context| self.poll(context)).await;
    }

    /// A task that makes steps only while the gate is open.
    pub(crate) fn hold<F: Future>(&self, task: F) -> impl Future<Output = F::Output> + use<F> {
        Held { gate: self.clone(), task: Box::pin(task) }
    }
}

struct Held<F> {
    gate: Gate,
    task: Pin<Box<F>>,
}

impl<F: Future> Future for Held<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<F::Output> {
        match self.gate.poll(context) {
            Poll::Ready(()) => self.task.as_mut().poll(context),
            Poll::Pending => Poll::Pending,
        }
    }
}
