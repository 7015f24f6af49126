//! Mistakes made on purpose by nodes of the build for tests: each must be found, and by the checker that is there for it.
//! Half a minute for each. `cargo test -p cluster-tests --test bugs -- --ignored --nocapture`

use std::{
    io::{Write, stderr},
    process::Command,
};

/// What goes wrong, how often, and which promises must be seen broken: one of them at least.
const BUGS: [(&str, &str, &[&str]); 5] = [
    ("bug::missed", "5%return", &["every_firing_once", "accounted"]),
    ("bug::doubled", "5%return", &["every_firing_once"]),
    ("bug::late", "5%return", &["on_time"]),
    ("bug::lost-record", "5%return", &["history_agrees"]),
    ("bug::stale-read", "return", &["linearizable"]),
];

#[test]
#[ignore = "runs real nodes for minutes"]
fn each_is_found() {
    for (bug, action, properties) in BUGS {
        let output = Command::new(env!("CARGO_BIN_EXE_chaos"))
            .args(["--seed", "1", "--minutes", "0.1", "--faults", "none", "--operations", "300"])
            .args(["--plant", &format!("{bug}={action}")])
            .output()
            .unwrap();
        let page = String::from_utf8_lossy(&output.stdout);
        let broken_by = |line| {
            let mut words = str::split_whitespace(line);
            let property = words.next()?;
            (words.next() == Some("BROKEN")).then_some(property)
        };
        let broken: Vec<_> = page.lines().filter_map(broken_by).collect();
        let _ = writeln!(stderr(), "{bug}: {}", broken.join(", "));
        assert!(properties.iter().any(|property| broken.contains(property)), "{bug} was not found:\n{page}");
        assert!(page.contains("verdict: INVALID") && output.status.code() == Some(1), "{page}");
    }
}
