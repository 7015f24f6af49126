//! Spaces: named groups of an account's jobs.
//!
//! A space that is paused or resumed turns at once: nothing fires in a paused one. The cursors of its jobs follow,
//! some at a time, because a space may hold more jobs than one command should touch.

use crate::id::{AccountId, SpaceId};
use crate::job::JobState;
use crate::schedule::Schedule;
use crate::time::Timestamp;
use serde::{Deserialize, Serialize};

/// A named group of jobs with a default time zone, paused and resumed as one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    /// Its id.
    pub id: SpaceId,
    /// Whose it is.
    pub account: AccountId,
    /// What people call it.
    pub name: String,
    /// The zone that new jobs in it inherit.
    pub timezone: String,
    /// Since when its jobs do not fire, if they do not.
    #[serde(default)]
    pub paused_at: Option<Timestamp>,
    /// Rises with every pause and resumption; what was computed under another one is stale.
    #[serde(default)]
    pub generation: u64,
    /// When it was last paused or resumed. Instants up to a resumption belong to the pause.
    #[serde(default)]
    pub turned_at: Timestamp,
    /// How many jobs it holds.
    #[serde(default)]
    pub jobs: u64,
    /// When it was made.
    pub created_at: Timestamp,
    /// When it was last changed.
    pub updated_at: Timestamp,
}

impl Space {
    /// Whether its jobs do not fire.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.paused_at.is_some()
    }

    /// Whether the cursor of one of its jobs stands where the last turn wants it. A job without a cursor may
    /// also be one whose schedule has ended; that shows when the cursor is computed.
    #[must_use]
    pub fn is_followed_by(&self, state: &JobState) -> bool {
        if self.is_paused() || state.paused_at.is_some() {
            state.next_run_at.is_none()
        } else {
            state.next_run_at.is_some_and(|next| next > self.turned_at)
        }
    }

    /// Where the last turn wants the cursor of one of its jobs. It depends on when the space turned and not on
    /// when somebody computes it, so that no instant after a resumption is lost.
    #[must_use]
    pub fn cursor(&self, state: &JobState, schedule: &Schedule) -> Option<Timestamp> {
        if self.is_paused() || state.paused_at.is_some() {
            return None;
        }
        schedule.next_after(state.claimed_until.map_or(self.turned_at, |until| until.max(self.turned_at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(secs: u64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    fn space(paused: bool) -> Space {
        Space {
            id: SpaceId(1),
            account: AccountId(1),
            name: "Production".to_owned(),
            timezone: "UTC".to_owned(),
            paused_at: paused.then_some(at(100)),
            generation: 1,
            turned_at: at(100),
            jobs: 1,
            created_at: at(1),
            updated_at: at(100),
        }
    }

    fn check(paused: bool, state: &JobState, is_followed: bool, cursor: Option<u64>) {
        let schedule = Schedule::parse("* * * * *", "UTC").unwrap();
        assert_eq!(space(paused).is_followed_by(state), is_followed, "{state:?}");
        assert_eq!(space(paused).cursor(state, &schedule), cursor.map(at), "{state:?}");
    }

    #[test]
    fn a_pause_takes_cursors_away() {
        check(true, &JobState { next_run_at: Some(at(120)), ..JobState::default() }, false, None);
        check(true, &JobState::default(), true, None);
    }

    #[test]
    fn a_resumption_gives_them_from_its_own_instant_on() {
        check(false, &JobState::default(), false, Some(120));
        check(false, &JobState { next_run_at: Some(at(60)), ..JobState::default() }, false, Some(120));
        check(false, &JobState { next_run_at: Some(at(120)), ..JobState::default() }, true, Some(120));
        check(false, &JobState { claimed_until: Some(at(120)), ..JobState::default() }, false, Some(180));
    }

    #[test]
    fn a_job_that_is_paused_itself_stays_so() {
        check(false, &JobState { paused_at: Some(at(5)), ..JobState::default() }, true, None);
    }
}
