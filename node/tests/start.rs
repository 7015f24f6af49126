//! How the program ends when it cannot start: one line on standard error, and exit code 2.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader, Lines};
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// Far longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(60);

fn justrun(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_justrun"));
    command
        .args(args)
        .env_clear()
        .env("JUSTRUN_CLUSTER_SECRET", "secret")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command
}

fn server(data_dir: &Path, more: &[&str]) -> Command {
    let data_dir = data_dir.display().to_string();
    let args = ["server", "--node-id=1", "--api-addr=127.0.0.1:0", "--rpc-addr=127.0.0.1:0", "--data-dir"];
    justrun(&[&args, &[data_dir.as_str()][..], more].concat())
}

/// The first members: this node alone. Nobody calls it.
const ALONE: &[&str] = &["--cluster=1=127.0.0.1:1"];

/// What a program that ends by itself leaves: its exit code and its lines on standard error.
async fn ended(mut command: Command) -> (Option<i32>, Vec<String>) {
    let child = command.spawn().unwrap();
    let output = timeout(PATIENCE, child.wait_with_output()).await.expect("it ends by itself").unwrap();
    let lines = String::from_utf8(output.stderr).unwrap().lines().map(str::to_owned).collect();
    (output.status.code(), lines)
}

/// It is refused with exit code 2 and one line that holds `expected`.
async fn check_refused(command: Command, expected: &str) {
    let (code, lines) = ended(command).await;
    assert_eq!(code, Some(2), "{lines:?}");
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert!(lines[0].starts_with("justrun: ") && lines[0].contains(expected), "{lines:?}");
}

/// Reads until a line holds `wanted`, and returns all lines up to it.
async fn read_until<R: AsyncRead + Unpin>(lines: &mut Lines<BufReader<R>>, wanted: &str) -> Vec<String> {
    let mut seen = Vec::new();
    while !seen.last().is_some_and(|line: &String| line.contains(wanted)) {
        match timeout(PATIENCE, lines.next_line()).await {
            Ok(Ok(Some(line))) => seen.push(line),
            other => panic!("waited in vain for {wanted}: {other:?}, {seen:?}"),
        }
    }
    seen
}

/// Starts a node and waits until it runs. What it has said so far.
async fn running(data_dir: &Path) -> (Child, Vec<String>) {
    let mut command = server(data_dir, &[ALONE, &["--exit-with-stdin"]].concat());
    let mut child = command.spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let said = read_until(&mut lines, "registered").await;
    child.stderr = Some(lines.into_inner().into_inner());
    (child, said)
}

#[tokio::test]
async fn a_data_directory_that_cannot_be_used_stops_the_start() {
    let dir = TempDir::new().unwrap();
    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    check_refused(server(&file, ALONE), "the data directory cannot be used: creating ").await;
    check_refused(server(&file.join("below"), ALONE), "the data directory cannot be used: creating ").await;

    for (format, expected) in [("99", "has format 99, this build reads up to "), ("x", "is damaged (")] {
        let data_dir = dir.path().join(format);
        fs::create_dir(&data_dir).unwrap();
        fs::write(data_dir.join("FORMAT"), format).unwrap();
        check_refused(server(&data_dir, ALONE), expected).await;
    }
}

#[tokio::test]
async fn a_table_of_plans_that_makes_no_sense_stops_the_start() {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("justrun.toml");
    fs::write(&config, "[plans.gold]\njobs = 1\n").unwrap();
    let config = config.display().to_string();
    let expected = format!("{config}: \"plans.gold.jobs\": ");
    check_refused(server(dir.path(), &[ALONE, &["--config", &config]].concat()), &expected).await;
    let flags = [ALONE, &["--plans=free.jobs=few"]].concat();
    check_refused(server(dir.path(), &flags), "jobs must be a whole number from 0, or unlimited").await;
}

#[tokio::test]
async fn a_node_says_what_it_belongs_to_once_and_leaves_no_colours_in_the_log() {
    let dir = TempDir::new().unwrap();
    check_refused(server(dir.path(), &[]), "is empty: name the first members with --cluster").await;

    let (mut node, said) = running(dir.path()).await;
    assert!(said.iter().any(|line| line.contains("listening") && line.contains("127.0.0.1:")), "{said:?}");
    check_refused(server(dir.path(), ALONE), "is in use by another process").await;
    drop(node.stdin.take());
    let output = timeout(PATIENCE, node.wait_with_output()).await.expect("it drains").unwrap();
    assert_eq!(output.status.code(), Some(0));
    let log = said.join("\n") + &String::from_utf8(output.stderr).unwrap();
    assert!(!log.contains('\u{1b}') && !log.contains("openraft"), "{log}");

    let mut again = server(dir.path(), &["--exit-with-stdin"]).spawn().unwrap();
    let mut lines = BufReader::new(again.stderr.take().unwrap()).lines();
    read_until(&mut lines, "registered").await;
}

#[tokio::test]
async fn a_node_that_may_not_join_ends_with_why() {
    let dir = TempDir::new().unwrap();
    let (_node, said) = running(&dir.path().join("1")).await;
    let rpc = said.iter().find_map(|line| line.split_once(" rpc=")).map(|(_, rest)| rest);
    let rpc = rpc.and_then(|rest| rest.split_whitespace().next()).unwrap_or_else(|| panic!("{said:?}"));
    let check = async |node: &str, secret: &str, expected: &str| {
        let data_dir = dir.path().join(format!("{node}-{secret}")).display().to_string();
        let addr = "--rpc-addr=127.0.0.1:0";
        let args = ["server", node, "--api-addr=127.0.0.1:0", addr, "--join", rpc, "--data-dir", &data_dir];
        let mut command = justrun(&args);
        command.env("JUSTRUN_CLUSTER_SECRET", secret);
        let (code, lines) = ended(command).await;
        assert_eq!(code, Some(2), "{lines:?}");
        let complaints = lines.iter().filter(|line| !line.contains(" INFO ")).count();
        assert_eq!(complaints, 1, "{lines:?}");
        let last = lines.last().unwrap();
        assert!(
            last.starts_with("justrun: cannot join the cluster: ") && last.contains(expected),
            "{lines:?}"
        );
    };
    check("--node-id=2", "another", "refuses this cluster secret").await;
    check("--node-id=1", "secret", " is node 1 already; give this one another --node-id").await;
}

#[tokio::test]
async fn a_port_in_use_is_named_with_its_flag() {
    let dir = TempDir::new().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = taken.local_addr().unwrap();
    for flag in ["--api-addr", "--rpc-addr"] {
        let given = format!("{flag}={addr}");
        check_refused(
            server(dir.path(), &[ALONE, &[given.as_str()]].concat()),
            &format!("{flag} {addr} is already in use"),
        )
        .await;
    }
}

/// Two ports in a row are not needed by a cluster of one.
fn dev(data_dir: &Path) -> Command {
    let held: Vec<_> = (0..2).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
    let ports: Vec<_> = held.iter().map(|socket| socket.local_addr().unwrap().port().to_string()).collect();
    let data_dir = data_dir.display().to_string();
    justrun(&["dev", "--nodes=1", "--data-dir", &data_dir, "--api-port", &ports[0], "--rpc-port", &ports[1]])
}

#[tokio::test]
async fn dev_takes_its_data_directory() {
    let dir = TempDir::new().unwrap();
    let mut first = dev(dir.path()).spawn().unwrap();
    let mut lines = BufReader::new(first.stdout.take().unwrap()).lines();
    let said = read_until(&mut lines, "curl -X POST").await;
    let after = |marker: &str| {
        let found = said.iter().find_map(|line| line.split_once(marker)).map(|(_, rest)| rest.trim());
        found.unwrap_or_else(|| panic!("{said:?}")).split_whitespace().next().unwrap()
    };
    let (url, key) = (after("curl -X POST"), after("API key"));
    let client = reqwest::Client::builder().no_proxy().build().unwrap();
    let answer = client.get(url).bearer_auth(key).send().await.unwrap();
    assert_eq!(answer.status(), 200, "the key works as soon as it is shown");
    check_refused(dev(dir.path()), "is in use by another justrun dev").await;

    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    check_refused(dev(&file), "cannot be used: ").await;
}

#[tokio::test]
async fn dev_ends_with_what_a_node_that_cannot_start_said_last() {
    let dir = TempDir::new().unwrap();
    let node = dir.path().join("node-1");
    fs::create_dir(&node).unwrap();
    fs::write(node.join("FORMAT"), "99").unwrap();
    check_refused(dev(dir.path()), "node 1 cannot be started: the data directory cannot be used: ").await;
}
