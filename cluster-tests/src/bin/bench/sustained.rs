//! How many jobs that fire every second are called in time, second after second.

use crate::{
    cost::Cost,
    scene::{GRACE, Scene, WARM_UP},
    table::{Table, hundredths, lateness_cells},
};
use clap::Args;
use cluster_tests::{
    Error,
    binary::Binary,
    check::{
        Violation, Window,
        on_time::{Scope, samples, summarize},
    },
    time::{SECOND_US, now_us},
};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

/// In time: so late at most are 99 of 100 calls.
const P99_US_MAX: i64 = SECOND_US / 10;

#[derive(Args, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Executions a second to begin with
    #[arg(long, default_value_t = 500)]
    from: usize,
    /// How many more each time
    #[arg(long, default_value_t = 250)]
    step: usize,
    /// Where to stop at the latest
    #[arg(long, default_value_t = 10_000)]
    until: usize,
    /// Seconds measured of each rate, after a warm-up
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { from: 500, step: 250, until: 10_000, seconds: 60 }
    }
}

/// Raises the rate until calls are late or missed; each rate has a cluster of its own, so that a slow one leaves nothing to the
/// next.
pub(crate) async fn run(binary: Binary, arguments: &Arguments) -> Result<(), Error> {
    let mut table = Table::new(
        "sustained",
        &[
            "per_second",
            "seconds",
            "calls",
            "p50_ms",
            "p99_ms",
            "max_ms",
            "missed",
            "cpu_s_per_1000",
            "holds",
        ],
    );
    let mut highest = 0;
    for rate in (arguments.from..=arguments.until).step_by(arguments.step.max(1)) {
        let measured = measure(binary.clone(), rate, arguments.seconds).await?;
        let holds = measured.holds;
        table.row(measured.row);
        if !holds {
            break;
        }
        highest = rate;
    }
    table.print();
    let mut best = Table::new("sustained_highest", &["per_second"]);
    best.row(vec![json!(highest)]);
    best.print();
    Ok(())
}

struct Measured {
    row: Vec<serde_json::Value>,
    holds: bool,
}

async fn measure(binary: Binary, rate: usize, seconds: u64) -> Result<Measured, Error> {
    let mut scene = Scene::open(binary).await?;
    scene.start_jobs(rate).await?;
    sleep(WARM_UP + GRACE).await;
    let (cost, from_us) = (Cost::begin(&scene.cluster)?, now_us());
    sleep(Duration::from_secs(seconds)).await;
    let until_us = now_us();
    let calls = rate * usize::try_from(seconds).unwrap_or(usize::MAX);
    let cpu = cost.per_thousand(calls)?;
    sleep(GRACE).await;
    let violations = scene.judge(now_us())?;
    let missed = violations.iter().filter(|violation| matches!(violation, Violation::Missing(_))).count();

    let window = Scope::Within(vec![Window { from_us, until_us }]);
    let samples = samples(&scene.history);
    let inside = || samples.iter().filter(|sample| window.contains(&sample.instant));
    let in_time = summarize(inside()).is_some_and(|summary| summary.p99_us <= P99_US_MAX);
    let holds = in_time && violations.is_empty();
    let [count, p50, p99, max] = lateness_cells(inside());
    let row = vec![
        json!(rate),
        json!(seconds),
        count,
        p50,
        p99,
        max,
        json!(missed),
        json!(hundredths(cpu)),
        json!(holds),
    ];
    // A rate that is too high is a result.
    scene.close(&[]).await?;
    Ok(Measured { row, holds })
}
