//! Whether the cluster takes writes, asked all the time.

use cluster_tests::{api::Api, time::now_us};
use http::Method;
use serde_json::json;
use std::time::Duration;
use tokio::{sync::oneshot, task::JoinSet, time::sleep};

/// Between two writes: fine enough to measure a gap of some 100 ms, coarse enough to be no load.
const INTERVAL: Duration = Duration::from_millis(10);

/// One write and how it ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    pub(crate) asked_us: i64,
    pub(crate) ended_us: i64,
    /// None without an answer.
    pub(crate) status: Option<u16>,
}

/// A loop that changes one job again and again.
#[derive(Debug)]
pub(crate) struct Writer {
    task: JoinSet<Vec<Write>>,
    stop: oneshot::Sender<()>,
}

impl Writer {
    /// Renames `job` through `api` until it is stopped, one request at a time.
    pub(crate) fn start(api: Api, job: String) -> Self {
        let (stop, mut stopped) = oneshot::channel();
        let mut task = JoinSet::new();
        task.spawn(async move {
            let path = format!("/v1/jobs/{job}");
            let mut writes = Vec::new();
            while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
                let asked_us = now_us();
                let body = json!({"name": format!("write {}", writes.len())});
                let answer = api.send(Method::PATCH, &path, Some(&body)).await;
                let status = answer.ok().map(|answer| answer.status);
                writes.push(Write { asked_us, ended_us: now_us(), status });
                sleep(INTERVAL).await;
            }
            writes
        });
        Self { task, stop }
    }

    /// What it did.
    pub(crate) async fn stop(mut self) -> Vec<Write> {
        drop(self.stop);
        self.task.join_next().await.and_then(Result::ok).unwrap_or_default()
    }
}

/// The longest time without a write that was acknowledged, and how many were not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Availability {
    pub(crate) writes: usize,
    pub(crate) refused: usize,
    pub(crate) unknown: usize,
    pub(crate) longest_gap_us: i64,
}

impl Availability {
    /// Of the writes that ended in a stretch of time; its ends count as acknowledgements, so that a gap
    /// up to the end shows.
    pub(crate) fn between(writes: &[Write], from_us: i64, until_us: i64) -> Self {
        let inside: Vec<_> =
            writes.iter().filter(|write| (from_us..=until_us).contains(&write.ended_us)).collect();
        let acknowledged = |write: &&&Write| write.status == Some(200);
        let mut marks = vec![from_us];
        marks.extend(inside.iter().filter(acknowledged).map(|write| write.ended_us));
        marks.push(until_us);
        Self {
            writes: inside.len(),
            refused: inside.iter().filter(|write| write.status.is_some_and(|status| status != 200)).count(),
            unknown: inside.iter().filter(|write| write.status.is_none()).count(),
            longest_gap_us: marks.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or_default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_gap_runs_between_acknowledgements() {
        let write = |ended_us, status| Write { asked_us: ended_us - 1, ended_us, status };
        let writes = [
            write(5, Some(200)),
            write(110, Some(200)),
            write(120, Some(503)),
            write(150, None),
            write(190, Some(200)),
        ];
        let found = Availability::between(&writes, 100, 200);
        assert_eq!(found, Availability { writes: 4, refused: 1, unknown: 1, longest_gap_us: 80 });
        // No write at all from the middle on.
        assert_eq!(Availability::between(&writes, 100, 1_000).longest_gap_us, 810);
    }
}
