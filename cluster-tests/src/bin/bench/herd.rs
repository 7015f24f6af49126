//! A wall of jobs that are due in the same second.

use crate::{
    cost::Cost,
    scene::{GRACE, LOADERS, Scene},
    table::{Table, hundredths, lateness_cells, ms, seconds},
};
use clap::Args;
use cluster_tests::{
    Error,
    api::{Api, NewJob},
    binary::Binary,
    check::on_time::samples,
    cluster::Cluster,
    history::Event,
    time::{Civil, SECOND_US, micros, now_us},
    workload,
};
use serde_json::{Value, json};
use std::{
    collections::HashSet,
    time::{Duration, Instant},
};
use tokio::time::sleep;

/// Creates a second that the due minute is chosen by; a slower machine takes a later one.
const CREATES_PER_SECOND: usize = 400;
/// Between the last create and the instant: long enough for claims, which are made two seconds ahead.
const QUIET: Duration = Duration::from_secs(10);
/// After the instant, until every call must have arrived.
const OVER: Duration = Duration::from_secs(60);

#[derive(Args, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Jobs that are due at the same instant
    #[arg(long, default_value_t = 10_000)]
    jobs: usize,
    /// Further jobs that are stored and not due
    #[arg(long, default_value_t = 0)]
    stored: usize,
    /// Other accounts with a single job each, due at the same instant at the same target
    #[arg(long, default_value_t = 10)]
    neighbours: usize,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { jobs: 10_000, stored: 0, neighbours: 10 }
    }
}

pub(crate) async fn run(binary: Binary, arguments: &Arguments) -> Result<(), Error> {
    let mut scene = Scene::open(binary).await?;
    let url = scene.target.url("/ok");
    let stored =
        (0..arguments.stored).map(|number| NewJob::new(format!("stored {number}"), "0 0 1 1 *", url.clone()));
    workload::create(&scene.cluster.apis(), stored, LOADERS).await?;

    let loading = Duration::from_secs((arguments.jobs / CREATES_PER_SECOND) as u64);
    let due_s = minute_after(now_us() + micros(loading + QUIET));
    let expression = at_minute(due_s);
    let jobs =
        (0..arguments.jobs).map(|number| NewJob::new(format!("herd {number}"), &*expression, url.clone()));
    let created = workload::create(&scene.cluster.apis(), jobs, LOADERS).await?;
    let mut neighbours = HashSet::new();
    for number in 0..arguments.neighbours {
        let job = NewJob::new("neighbour", &*expression, url.clone());
        let created = neighbour(&scene.cluster, number).await?.create(&job).await?;
        neighbours.insert(created.job.clone());
        scene.history.record(Event::JobCreated(created));
    }
    let left = Duration::from_micros(u64::try_from(due_s * SECOND_US - now_us()).unwrap_or_default());
    if left < QUIET / 2 {
        return Err(Error::Input(
            "the jobs were not loaded in time; this machine is too slow for so many".to_owned(),
        ));
    }
    created.into_iter().for_each(|job| scene.history.record(Event::JobCreated(job)));

    sleep(left - QUIET / 2).await;
    let cost = Cost::begin(&scene.cluster)?;
    sleep(QUIET / 2).await;
    let start = Instant::now();
    while scene.target.count() < arguments.jobs + arguments.neighbours && start.elapsed() < OVER {
        sleep(Duration::from_millis(20)).await;
    }
    // What came of them is written, too.
    sleep(GRACE).await;
    let cpu = cost.per_thousand(arguments.jobs)?;
    let violations = scene.judge(now_us())?;

    let (alone, samples): (Vec<_>, Vec<_>) =
        samples(&scene.history).into_iter().partition(|sample| neighbours.contains(&sample.instant.job));
    let alone_max = match alone.iter().map(|sample| sample.lateness_us).max() {
        Some(last_us) if alone.len() == arguments.neighbours => ms(last_us),
        _ => Value::Null,
    };
    let [count, p50, p99, max] = lateness_cells(&samples);
    let all_s = match samples.iter().map(|sample| sample.lateness_us).max() {
        Some(last_us) if samples.len() == arguments.jobs => seconds(last_us),
        _ => Value::Null,
    };
    let mut table = Table::new(
        "herd",
        &[
            "jobs",
            "stored",
            "calls",
            "first_ms",
            "all_ran_s",
            "p50_ms",
            "p99_ms",
            "max_ms",
            "missed",
            "cpu_s_per_1000",
            "neighbours_max_ms",
        ],
    );
    table.row(vec![
        json!(arguments.jobs),
        json!(arguments.stored),
        count,
        samples.iter().map(|sample| sample.lateness_us).min().map_or(Value::Null, ms),
        all_s,
        p50,
        p99,
        max,
        json!(arguments.jobs.saturating_sub(samples.len())),
        json!(hundredths(cpu)),
        alone_max,
    ]);
    table.print();
    scene.close(&violations).await
}

/// The API for a new account.
async fn neighbour(cluster: &Cluster, number: usize) -> Result<Api, Error> {
    let node = cluster.ids()[0];
    let email = format!("neighbour{number}@example.com");
    cluster.operate(node, &["account", "create", "--email", &email, "--plan", "free"]).await?;
    let said = cluster.operate(node, &["key", "create", "--account", &email, "--name", "bench"]).await?;
    let key = said.split_whitespace().find(|word| word.starts_with("jrun_sk_"));
    let key = key.ok_or_else(|| Error::Input(format!("no key in: {said}")))?;
    Ok(cluster.api(node).with_key(key))
}

/// The first whole minute after an instant, in seconds since the Unix epoch.
fn minute_after(at_us: i64) -> i64 {
    (at_us.div_euclid(60 * SECOND_US) + 1) * 60
}

/// What is due at that minute, once a year.
fn at_minute(due_s: i64) -> String {
    let Civil { minute, hour, day, month, .. } = Civil::from_unix(due_s);
    format!("{minute} {hour} {day} {month} *")
}

#[cfg(test)]
mod tests {
    use super::*;
    use cluster_tests::due::Due;

    #[test]
    fn the_whole_herd_is_due_at_one_minute() {
        let due_s = minute_after(1_796_047_199_999_999);
        assert_eq!(due_s, 1_796_047_200);
        assert_eq!(minute_after(1_796_047_200_000_000), 1_796_047_260);
        let due = Due::parse(&at_minute(due_s), "UTC").unwrap();
        assert_eq!(due.between(due_s - 86_400, due_s + 86_400).collect::<Vec<_>>(), [due_s]);
    }
}
