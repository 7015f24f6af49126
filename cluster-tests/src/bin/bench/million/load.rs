//! A great many jobs, by imports.

use crate::scene::say;
use bytes::Bytes;
use cluster_tests::{Error, api::Api, client::Client};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::{Value, json};
use std::{
    ops::Range,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Jobs of one import: as many as the API takes.
const TOGETHER: usize = 1_000;
/// Imports under way: enough for full batches in the log from each node, few enough that none waits for long.
const UNDER_WAY: usize = 6;
/// Of one import: longer than any election, and than whatever holds up a node.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often an import whose fate is unknown is repeated, under its name.
const REPEATS_MAX: usize = 20;
/// Before it is.
const PAUSE: Duration = Duration::from_secs(1);
/// Of so many jobs one is remembered, to be written to.
const REMEMBERED_OF: usize = 100;
/// How often it is said how far the load has got.
const SAID_EVERY: usize = 100_000;

/// What came of a load.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    /// Some of the jobs, from all over.
    pub(super) ids: Vec<String>,
    pub(super) took: Duration,
    /// Imports that had to be repeated.
    pub(super) repeated: usize,
    /// How many jobs there were after each import, and when.
    progress: Vec<(usize, Duration)>,
}

impl Loaded {
    /// Jobs that were loaded.
    pub(super) fn count(&self) -> usize {
        self.progress.last().map_or(0, |(count, _)| *count)
    }

    /// Jobs a second between two shares of all.
    pub(super) fn rate(&self, from: f64, until: f64) -> f64 {
        let (count_from, at_from) = self.at(from);
        let (count_until, at_until) = self.at(until);
        let jobs = f64::from(u32::try_from(count_until - count_from).unwrap_or(u32::MAX));
        jobs / (at_until - at_from).as_secs_f64()
    }

    /// The first look at which at least this share was loaded.
    fn at(&self, share: f64) -> (usize, Duration) {
        if share <= 0.0 {
            return (0, Duration::ZERO);
        }
        let count = f64::from(u32::try_from(self.count()).unwrap_or(u32::MAX));
        let reached = |(jobs, _): &&(usize, Duration)| {
            f64::from(u32::try_from(*jobs).unwrap_or(u32::MAX)) >= count * share
        };
        let found = self.progress.iter().find(reached).or_else(|| self.progress.last());
        found.copied().unwrap_or_default()
    }
}

/// Imports the jobs of these numbers, on the nodes in turn.
///
/// # Errors
/// The first import that is refused, or whose fate stays unknown.
pub(super) async fn load(nodes: &[Api], numbers: Range<usize>, url: &str) -> Result<Loaded, Error> {
    let imports = numbers.clone().step_by(TOGETHER).map(|from| from..numbers.end.min(from + TOGETHER));
    let client = Client::new(TIMEOUT);
    let start = Instant::now();
    let imported = stream::iter(imports.zip(nodes.iter().cycle()))
        .map(|(numbers, api)| import(&client, api, numbers, url))
        .buffer_unordered(UNDER_WAY);
    let add = async |mut loaded: Loaded, (ids, repeated): (Vec<String>, usize)| {
        let before = loaded.count();
        let count = before + ids.len();
        loaded.progress.push((count, start.elapsed()));
        loaded.ids.extend(ids.into_iter().step_by(REMEMBERED_OF));
        loaded.repeated += repeated;
        if before / SAID_EVERY < count / SAID_EVERY {
            say(format!("{count} jobs loaded in {:.1} s", start.elapsed().as_secs_f64()));
        }
        Ok(loaded)
    };
    let loaded = imported.try_fold(Loaded::default(), add).await?;
    Ok(Loaded { took: start.elapsed(), ..loaded })
}

/// The ids of the jobs of one import, and how often it was repeated.
async fn import(
    client: &Client,
    api: &Api,
    numbers: Range<usize>,
    url: &str,
) -> Result<(Vec<String>, usize), Error> {
    let (name, count) = (format!("load {}", numbers.start), numbers.len());
    let jobs: Vec<Value> = numbers.map(|number| job(number, url)).collect();
    let body = json!({"jobs": jobs});
    let (url, body) = (format!("http://{}/v1/migrate/json", api.address()?), Bytes::from(body.to_string()));
    for repeated in 0..REPEATS_MAX {
        let fate = match client.post_once(&name, &url, Some(api.key()), Some(body.clone())).await {
            Ok(answer) if answer.is_success() => {
                let answered = answer.json();
                let ids = answered["data"]["job_ids"].as_array().into_iter().flatten();
                let ids: Vec<String> = ids.filter_map(|id| id.as_str().map(str::to_owned)).collect();
                if ids.len() == count {
                    return Ok((ids, repeated));
                }
                return Err(Error::Input(format!(
                    "{} of {count} jobs imported: {}",
                    ids.len(),
                    answer.excerpt()
                )));
            }
            Ok(answer) if answer.status < 500 => {
                let (request, status) = (format!("POST {url}"), answer.status);
                return Err(Error::Answered { request, status, body: answer.excerpt() });
            }
            Ok(answer) => format!("{} {}", answer.status, answer.excerpt()),
            Err(error) => error.to_string(),
        };
        say(format!("{name} is repeated: {fate}"));
        sleep(PAUSE).await;
    }
    Err(Error::Input(format!("the fate of an import is unknown after {REPEATS_MAX} requests")))
}

/// One that is due once a year. All of them are spread over the year, so that few are due while it is measured.
fn job(number: usize, url: &str) -> Value {
    let (minute, hour) = (number % 60, number / 60 % 24);
    let (day, month) = (number / 1_440 % 28 + 1, number / 40_320 % 12 + 1);
    let expression = format!("{minute} {hour} {day} {month} *");
    json!({"name": format!("stored {number}"), "cron_expression": expression, "url": url})
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster_tests::due::Due;
    use std::collections::HashSet;

    #[test]
    fn jobs_are_spread_over_the_year() {
        let minutes = 12 * 28 * 1_440;
        let expression = |number| {
            let job = job(number, "http://127.0.0.1/ok");
            job["cron_expression"].as_str().unwrap().to_owned()
        };
        let expressions: HashSet<_> = (0..minutes).map(expression).collect();
        assert_eq!(expressions.len(), minutes);
        assert!(expressions.iter().step_by(997).all(|expression| Due::parse(expression, "UTC").is_ok()));
    }

    #[test]
    fn rates_are_those_of_a_share_of_all() {
        let progress =
            (1..=10).map(|tenth: u32| (tenth as usize * 100, Duration::from_secs(u64::from(tenth * tenth))));
        let loaded = Loaded { progress: progress.collect(), ..Loaded::default() };
        assert_eq!(loaded.count(), 1_000);
        assert_eq!((loaded.rate(0.0, 0.1), loaded.rate(0.9, 1.0)), (100.0, 100.0 / 19.0));
    }
}
