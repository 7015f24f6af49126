//! Everybody who does something while the faults go on, and what they did.

use super::{Caller, Diary, User};
use cluster_tests::{
    Error,
    api::Api,
    history::{Event, JobId},
    registers::{Node, Registers},
    target::Target,
};
use std::time::Duration;
use tokio::{sync::watch, task::JoinSet, time::timeout};

/// How long those are waited for who are to stop where they are. A request to a node that does not answer is given up sooner.
const BREAK_OFF_DEADLINE: Duration = Duration::from_secs(10);

/// Users, callers, and clients of registers. Dropping it stops them.
pub(crate) struct Crowd {
    stop: watch::Sender<bool>,
    people: JoinSet<Result<(), Error>>,
    diaries: Vec<Diary>,
    registers: Option<Registers>,
}

impl Crowd {
    /// So many users, and as many callers who ask for runs of these jobs, all of whose choices follow from the seed.
    pub(crate) fn start(
        users: usize,
        seed: u64,
        nodes: &[Api],
        target: &Target,
        jobs: &[JobId],
        registers: Registers,
    ) -> Self {
        let (stop, stopped) = watch::channel(false);
        let mut crowd =
            Self { stop, people: JoinSet::new(), diaries: Vec::new(), registers: Some(registers) };
        for number in 0..users {
            let seed = seed.wrapping_mul(1_000).wrapping_add(2 * number as u64);
            let (users_diary, callers_diary) = (Diary::default(), Diary::default());
            let user = User::new(number, seed, nodes, target, stopped.clone(), users_diary.clone());
            crowd.people.spawn(user.run());
            let caller = Caller::new(number, seed + 1, nodes, stopped.clone(), callers_diary.clone());
            crowd.people.spawn(caller.run(jobs.to_vec()));
            crowd.diaries.extend([users_diary, callers_diary]);
        }
        crowd
    }

    /// Waits until one of the people fails; for ever, if none does.
    pub(crate) async fn failure(&mut self) -> Error {
        while let Some(ended) = self.people.join_next().await {
            if let Err(error) = outcome(ended) {
                return error;
            }
        }
        std::future::pending().await
    }

    /// Lets everybody finish what they are at, reads all registers on each of `nodes`, and gives what was done.
    ///
    /// # Errors
    /// Of the first who failed. What was done is then still to be had.
    pub(crate) async fn end(&mut self, nodes: &[Node]) -> Result<Vec<Event>, Error> {
        self.stop.send_replace(true);
        while let Some(ended) = self.people.join_next().await {
            outcome(ended)?;
        }
        let operations = match self.registers.take() {
            Some(registers) => registers.stop(nodes).await?,
            None => Vec::new(),
        };
        let events = self.diaries.iter().flat_map(Diary::take);
        Ok(events.chain(operations.into_iter().map(Event::Operation)).collect())
    }

    /// Stops everybody soon, wherever they are, and gives what was done; nothing after [`Crowd::end`].
    pub(crate) async fn break_off(mut self) -> Vec<Event> {
        self.stop.send_replace(true);
        let all = async {
            // Whatever they came to: the run has failed already.
            while self.people.join_next().await.is_some() {}
        };
        let _ = timeout(BREAK_OFF_DEADLINE, all).await;
        self.people.shutdown().await;
        let mut events: Vec<_> = self.diaries.iter().flat_map(Diary::take).collect();
        if let Some(registers) = self.registers.take() {
            events.extend(registers.break_off().await.into_iter().map(Event::Operation));
        }
        events
    }
}

fn outcome(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> Result<(), Error> {
    ended.map_err(|error| Error::Input(format!("a user failed: {error}")))?
}
