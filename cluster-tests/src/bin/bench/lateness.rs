//! How late calls arrive while nothing goes wrong.

use crate::{
    scene::{GRACE, Scene, WARM_UP},
    table::{Table, lateness_cells},
};
use clap::Args;
use cluster_tests::{
    Error,
    binary::Binary,
    check::{
        Window,
        on_time::{Scope, samples},
    },
    time::now_us,
};
use serde_json::json;
use std::time::Duration;
use tokio::time::sleep;

#[derive(Args, Debug, PartialEq, Eq)]
pub(crate) struct Arguments {
    /// Jobs that fire every second, all at the same instant
    #[arg(long, default_value_t = 200)]
    jobs: usize,
    /// Seconds measured, after a warm-up
    #[arg(long, default_value_t = 60)]
    seconds: u64,
}

impl Default for Arguments {
    fn default() -> Self {
        Self { jobs: 200, seconds: 60 }
    }
}

pub(crate) async fn run(binary: Binary, arguments: &Arguments) -> Result<(), Error> {
    let mut scene = Scene::open(binary).await?;
    scene.start_jobs(arguments.jobs).await?;
    sleep(WARM_UP).await;
    let from_us = now_us();
    sleep(Duration::from_secs(arguments.seconds)).await;
    let until_us = now_us();
    sleep(GRACE).await;
    let violations = scene.judge(now_us())?;

    let measured = Scope::Within(vec![Window { from_us, until_us }]);
    let samples = samples(&scene.history);
    let [count, p50, p99, max] =
        lateness_cells(samples.iter().filter(|sample| measured.contains(&sample.instant)));
    let mut table =
        Table::new("lateness", &["jobs", "seconds", "calls", "p50_ms", "p99_ms", "max_ms", "violations"]);
    table.row(vec![
        json!(arguments.jobs),
        json!(arguments.seconds),
        count,
        p50,
        p99,
        max,
        json!(violations.len()),
    ]);
    table.print();
    scene.close(&violations).await
}
