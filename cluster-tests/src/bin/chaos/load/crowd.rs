//! Everybody who does something while the faults go on, and what they did.

use super::{Caller, Diary, User};
use cluster_tests::{
    Error,
    api::Api,
    history::{Event, JobId},
    registers::{Node, Registers},
    target::Target,
};
use std::{future::pending, time::Duration};
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

    /// Waits until one of them fails; for ever, if none does.
    pub(crate) async fn failure(&mut self) -> Error {
        let Self { people, registers, .. } = self;
        let of_people = async {
            while let Some(ended) = people.join_next().await {
                if let Err(error) = outcome(ended) {
                    return error;
                }
            }
            pending().await
        };
        let of_registers = async {
            match registers {
                Some(registers) => registers.failure().await,
                None => pending().await,
            }
        };
        tokio::select! {
            error = of_people => error,
            error = of_registers => error,
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use axum::{Router, http::StatusCode};
    use cluster_tests::{client::Client, registers::Settings};
    use tokio::net::TcpListener;

    /// A node that has one answer to everything.
    async fn node(servers: &mut JoinSet<()>, status: StatusCode) -> Api {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new().fallback(move || async move { status });
        servers.spawn(async { axum::serve(listener, router).await.unwrap() });
        Api::new(Client::new(Duration::from_secs(5)), url, "key")
    }

    fn registers(api: &Api, processes: u64) -> Registers {
        let settings = Settings {
            registers: 1,
            processes,
            per_second: 100,
            deletes_per_thousand: 5,
            timeout: Duration::from_secs(5),
            seed: 1,
        };
        Registers::start(&[(1, api.clone())], settings).unwrap()
    }

    #[tokio::test]
    async fn an_answer_that_makes_no_sense_ends_the_run_at_once() {
        let mut servers = JoinSet::new();
        let target = Target::start().unwrap();
        let (well, refusing) = (
            node(&mut servers, StatusCode::BAD_GATEWAY).await,
            node(&mut servers, StatusCode::BAD_REQUEST).await,
        );
        // The users and callers, and then the clients of registers alone.
        for (users, of_people, of_registers) in [(1, &refusing, &well), (0, &well, &refusing)] {
            let registers = registers(of_registers, 2);
            let mut crowd = Crowd::start(
                users,
                1,
                std::slice::from_ref(of_people),
                &target,
                &["job_a".to_owned()],
                registers,
            );
            let error = timeout(Duration::from_secs(20), crowd.failure()).await.unwrap();
            assert!(matches!(error, Error::Answered { status: 400, .. }), "{error}");
            drop(crowd);
        }
    }

    #[tokio::test]
    async fn what_was_asked_is_known_though_nobody_has_answered() {
        let mut servers = JoinSet::new();
        let target = Target::start().unwrap();
        let refusing = node(&mut servers, StatusCode::BAD_REQUEST).await;
        let mut crowd = Crowd::start(
            4,
            1,
            std::slice::from_ref(&refusing),
            &target,
            &["job_a".to_owned()],
            registers(&refusing, 1),
        );
        let mut asked = 0;
        // The callers fail one after the other, each at its first run.
        while let Some(ended) = timeout(Duration::from_secs(20), crowd.people.join_next()).await.unwrap() {
            outcome(ended).unwrap_err();
            asked += 1;
        }
        assert_eq!(asked, 8);
        let events = crowd.break_off().await;
        let is_unknown = |event: &Event| matches!(event, Event::RunAsked(asked) if asked.execution.is_none());
        assert_eq!((events.len(), events.iter().filter(|event| is_unknown(event)).count()), (4, 4));
    }
}
