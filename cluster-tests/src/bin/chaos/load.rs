//! What goes on meanwhile: jobs of all kinds, users who make, change, pause, run and delete jobs, and callers who ask for runs,
//! each on any node.

mod caller; // asks for runs
mod crowd; // all of them
mod diary; // what was done
mod request; // until it has an answer
mod user; // has a job

pub(crate) use crowd::Crowd;

use caller::Caller;
use diary::Diary;
use user::User;

use cluster_tests::{
    Error,
    api::{Api, NewJob},
    client::Client,
    history::{Channel, Delivery},
    target::Target,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use std::time::Duration;
use tokio::{sync::watch, time::timeout};

/// A request that takes longer is given up, and asked again of another node.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(3);
/// The channels of the jobs that fail: one that takes what it is told, and one that takes it when it is told again.
const CHANNELS: [&str; 2] = ["/alerts/ready", "/alerts/stubborn"];

/// Makes the channels that hear of jobs that fail.
///
/// # Errors
/// A channel that cannot be made.
pub(crate) async fn channels(api: &Api, target: &Target) -> Result<Vec<Channel>, Error> {
    let mut channels = Vec::new();
    for path in CHANNELS {
        let channel = api.create_channel(path, &target.url(path)).await?;
        channels.push(Channel { channel, path: path.to_owned() });
    }
    Ok(channels)
}

/// The jobs that run from the start: what a job may be told, in turn.
pub(crate) fn lasting_job(number: usize, target: &Target, channels: &[Channel]) -> NewJob {
    let name = format!("lasting {number}");
    let job = |expression: &str, path: &str| NewJob::new(name.clone(), expression, target.url(path));
    let heard = |job: NewJob| NewJob {
        channels: channels.iter().map(|channel| channel.channel.clone()).collect(),
        ..job
    };
    let second = "@every 1s";
    match number % 10 {
        0 => NewJob { retry_max: 2, ..job(second, "/fail-first/1") },
        1 => NewJob { delivery: Delivery::AtMostOnce, ..job(second, "/ok") },
        2 => job(second, "/slow/300"),
        3 => job("@every 3s", "/ok"),
        4 => heard(NewJob { retry_max: 1, ..job("@every 5s", "/status/500") }),
        5 => heard(job("@every 3s", "/in-turns/15")),
        6 => heard(NewJob { retry_max: 1, timeout_sec: 2, ..job("@every 2s", "/frail/ok") }),
        7 => NewJob { delivery: Delivery::AtMostOnce, timeout_sec: 2, ..job(second, "/frail/ok") },
        8 => job("* * * * *", "/ok"),
        _ => job(second, "/ok"),
    }
}

/// Somebody with a mind and nodes to ask.
struct Person {
    nodes: Vec<Api>,
    random: StdRng,
    stop: watch::Receiver<bool>,
    diary: Diary,
}

impl Person {
    fn new(seed: u64, nodes: &[Api], stop: watch::Receiver<bool>, diary: Diary) -> Self {
        let client = Client::new(REQUEST_TIMEOUT);
        Self {
            nodes: nodes.iter().map(|api| api.with_client(client.clone())).collect(),
            random: StdRng::seed_from_u64(seed),
            stop,
            diary,
        }
    }

    fn any(&mut self) -> Api {
        self.nodes[self.random.random_range(0..self.nodes.len())].clone()
    }

    fn one_of<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.random.random_range(0..choices.len())]
    }

    /// Waits for so many milliseconds, or until all is to stop, and says whether it is.
    async fn pass(&mut self, stretch_ms: std::ops::RangeInclusive<u64>) -> bool {
        let stretch = Duration::from_millis(self.random.random_range(stretch_ms));
        let _ = timeout(stretch, self.stop.wait_for(|stop| *stop)).await;
        *self.stop.borrow()
    }
}
