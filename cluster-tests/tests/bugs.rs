//! Mistakes made on purpose by nodes of the build for tests: each must be found, and by the checker that is there for it.
//! Half a minute for each. `cargo test -p cluster-tests --test bugs -- --ignored --nocapture`

use std::{
    io::{Write, stderr},
    process::Command,
};

/// What goes wrong, how often, under which faults and for how many minutes, and which promises must be seen broken: one of them at
/// least. A node that answers from the past is found for sure when it lags behind, as it does when it was stopped.
const BUGS: [(&str, &str, &str, &str, &[&str]); 5] = [
    ("bug::missed", "5%return", "none", "0.1", &["every_firing_once", "accounted"]),
    ("bug::doubled", "5%return", "none", "0.1", &["every_firing_once"]),
    ("bug::late", "5%return", "none", "0.1", &["on_time"]),
    ("bug::lost-record", "5%return", "none", "0.1", &["history_agrees"]),
    ("bug::stale-read", "return", "pause-follower", "0.3", &["linearizable"]),
];

#[test]
#[ignore = "runs real nodes for minutes"]
fn each_is_found() {
    // A run that found something keeps its folder, which is of no use when that was the purpose.
    let kept = tempfile::tempdir().unwrap();
    for (bug, action, faults, minutes, properties) in BUGS {
        let output = Command::new(env!("CARGO_BIN_EXE_chaos"))
            .args(["--seed", "1", "--minutes", minutes, "--faults", faults, "--operations", "300"])
            .args(["--plant", &format!("{bug}={action}")])
            .env("TMPDIR", kept.path())
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
