//! What one question to a schedule costs.

use criterion::{Criterion, criterion_group, criterion_main};
use domain::schedule::Schedule;
use domain::time::Timestamp;
use std::hint::black_box;
use std::time::Duration;

const CASES: [(&str, &str, &str); 9] = [
    ("ordinary", "30 3 * * *", "UTC"),
    ("ordinary_dst", "30 3 * * *", "Europe/Stockholm"),
    ("every_minute_dst", "* * * * *", "America/New_York"),
    ("step_dst", "*/15 * * * *", "America/New_York"),
    ("weekdays_dst", "0 9 * * 1-5", "Australia/Lord_Howe"),
    ("leap_day_dst", "0 0 29 2 *", "America/New_York"),
    ("leap_sunday_dst", "0 0 29 2 */7", "America/New_York"),
    ("gap_shadow_dst", "59 23 31 12 */5", "Africa/Casablanca"),
    ("period", "@every 90s", "UTC"),
];

fn next_after(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("next_after");
    for (name, expression, timezone) in CASES {
        let schedule = Schedule::parse(expression, timezone).expect("the cases are valid");
        group.bench_function(name, |bencher| {
            // Spread over two years, so that neither the branch predictor nor one lucky month
            // decides the figure.
            let mut after_secs = 1_767_225_600;
            bencher.iter(|| {
                after_secs = 1_767_225_600 + (after_secs * 7 + 1_234_567) % 63_072_000;
                schedule.next_after(black_box(Timestamp::from_secs(after_secs)))
            });
        });
    }
    group.finish();
}

fn others(criterion: &mut Criterion) {
    criterion.bench_function("parse", |bencher| {
        bencher.iter(|| Schedule::parse(black_box("*/5 8-18 1,15 * MON-FRI"), "Europe/Stockholm"));
    });
    let hostile = "0,".repeat(119) + "0 0 29 2 */7";
    criterion.bench_function("parse_hostile", |bencher| {
        bencher.iter(|| Schedule::parse(black_box(&hostile), "Europe/Stockholm"));
    });
    let schedule = Schedule::parse("*/15 * * * *", "Europe/Stockholm").expect("the expression is valid");
    criterion.bench_function("missed_in_a_year", |bencher| {
        let from = Timestamp::from_secs(1_767_225_600);
        bencher.iter(|| schedule.missed(black_box(from), from.plus(Duration::from_secs(31_536_000)), 100));
    });
}

criterion_group! {
    name = benches;
    config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_millis(300))
        .measurement_time(Duration::from_secs(1));
    targets = next_after, others
}
criterion_main!(benches);
