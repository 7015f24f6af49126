//! What somebody has done so far. Others read it, too: also of those who still wait for an answer, or will never get one.

use cluster_tests::history::Event;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Clones are the same diary. What is asked for is written down before it is asked, as something whose outcome is unknown,
/// and corrected with the answer.
#[derive(Clone, Debug, Default)]
pub(super) struct Diary(Arc<Mutex<Vec<Event>>>);

impl Diary {
    /// Gives the place of the event, for [`Diary::correct`].
    pub(super) fn note(&self, event: Event) -> usize {
        let mut events = self.lock();
        events.push(event);
        events.len() - 1
    }

    pub(super) fn correct(&self, place: usize, event: Event) {
        self.lock()[place] = event;
    }

    /// All of it. Nothing may be corrected afterwards.
    pub(super) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut self.lock())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Event>> {
        // Nothing that holds the lock can panic half-way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
