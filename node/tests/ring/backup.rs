//! The state to a file while the cluster works, and into a cluster of another size.

use crate::access::{asked, justrun};
use crate::cluster::{START, TestCluster, eventually};
use raft::command::{Applied, BeginRestore, Command};
use raft::{Operator, Secret};
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;
use tempfile::TempDir;

/// Every node's digest at one entry of the log.
async fn same_digest(cluster: &TestCluster) -> String {
    eventually("the same digest on all nodes", || async {
        let mut seen = Vec::new();
        for index in cluster.running() {
            let status = asked(cluster, index, "cluster status").await;
            seen.push((status["applied_index"].clone(), status["state_digest"].clone()));
        }
        let same = seen.iter().all(|one| *one == seen[0] && one.1.is_string());
        if same { Ok(seen[0].1.to_string()) } else { Err(format!("{seen:?}")) }
    })
    .await
}

fn refused(answer: Result<String, node::operator::OperateError>) -> String {
    answer.unwrap_err().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_under_load_fills_clusters_of_other_sizes() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("all.backup");
    let file = path.display();
    let mut cluster = TestCluster::start(3).await;
    let paths: Vec<String> = (0..6).map(|n| format!("/ok/{n}")).collect();
    let mut jobs = Vec::new();
    for path in &paths {
        jobs.push(cluster.create_job("@every 2s", path, json!({})).await);
    }
    // Due between the backup and what is made of it: made up for once, and not at all.
    let run_once =
        cluster.create_job("0 * * * *", "/ok/run-once", json!({"misfire_policy": "run_once"})).await;
    let skip = cluster.create_job("0 * * * *", "/ok/skip", json!({"misfire_policy": "skip"})).await;
    let held = cluster.create_job("@every 10s", "/hang/on", json!({"delivery": "at_most_once"})).await;
    let (status, key) = cluster.send_with_key(0, "POST", "/v1/api-keys", Some(json!({"name": "ci"}))).await;
    assert_eq!(status, 201, "{key}");
    let key = key["data"]["key"].as_str().unwrap().to_owned();
    eventually("some history", || async {
        let mut counts = Vec::new();
        for job in &jobs {
            let ended = cluster.executions(job).await?;
            counts.push(ended.iter().filter(|execution| execution["status"] == "success").count());
        }
        let hung = cluster.target.calls("/hang/on").len();
        if counts.iter().all(|count| *count >= 2) && hung > 0 {
            Ok(())
        } else {
            Err(format!("{counts:?} {hung}"))
        }
    })
    .await;

    let leader = cluster.leader().await;
    let follower = (leader + 1) % 3;
    // What was acknowledged before is in it.
    let last = cluster.create_job("0 0 1 1 *", "/ok/last", json!({})).await;
    let saved = asked(&cluster, follower, &format!("backup {file}")).await;
    assert_eq!((&saved["jobs"], &saved["accounts"]), (&json!(10), &json!(1)), "{saved}");
    assert_eq!(saved["bytes"], fs::metadata(&path).unwrap().len());
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(saved["executions"].as_u64().unwrap() >= 12 && saved["applied_index"].as_u64().unwrap() > 0);
    let text = refused(justrun(&cluster, leader, "secret", &format!("backup {file}"), "").await);
    assert!(text.ends_with("exists already; --force replaces it"), "{text}");
    let text = justrun(&cluster, leader, "secret", &format!("backup {file} --force"), "").await.unwrap();
    assert!(
        text.starts_with(&format!("Backup written to {file}.\n")) && text.contains("log position"),
        "{text}"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left");
    let text = refused(justrun(&cluster, leader, "secret", &format!("restore {file}"), "").await);
    assert!(text.contains("has accounts, jobs or a history already"), "{text}");
    // What the histories say by then; what ran later is not in the file.
    let mut known = Vec::new();
    for job in &jobs {
        known.push(cluster.executions(job).await.unwrap());
    }
    let damaged = dir.path().join("damaged.backup");
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&damaged, &bytes).unwrap();
    let cut = dir.path().join("cut.backup");
    fs::write(&cut, &fs::read(&path).unwrap()[..middle]).unwrap();

    for nodes in [1, 5] {
        // Three hours later by all clocks, and five minutes.
        cluster.begin_anew(nodes, START.plus(Duration::from_secs(3 * 3_600 + 300))).await;
        let index = nodes - 1;
        for (bad, why) in [(&damaged, "it is damaged"), (&cut, "it is cut off")] {
            let text =
                refused(justrun(&cluster, index, "secret", &format!("restore {}", bad.display()), "").await);
            assert!(text.contains(why), "{text}");
        }
        let restored = asked(&cluster, index, &format!("restore {file}")).await;
        assert_eq!(restored["jobs"], json!(10), "{restored}");
        let status = asked(&cluster, index, "cluster status").await;
        assert_eq!(
            (&status["restoring"], &status["members"].as_array().unwrap().len()),
            (&Value::Null, &nodes)
        );
        let text = refused(justrun(&cluster, index, "secret", &format!("restore {file}"), "").await);
        assert!(text.contains("has accounts, jobs or a history already"), "{text}");

        // The old cluster's key, on all nodes; the jobs, and their histories.
        for index in cluster.running() {
            assert_eq!(cluster.send(index, &key, "GET", "/v1/jobs", None).await.0, 200);
        }
        assert!(cluster.get(&format!("/v1/jobs/{last}")).await.is_ok());
        for (job, known) in jobs.iter().zip(&known) {
            let oldest = known.last().unwrap();
            let path = format!("/v1/executions/{}", oldest["id"].as_str().unwrap());
            assert_eq!(cluster.get(&path).await.unwrap()["data"]["status"], "success", "{job}");
        }
        // What a process of the old cluster held, and may have sent, has failed by the job's own rule.
        let lost = cluster.executions(&held).await.unwrap();
        assert!(lost.iter().any(|execution| execution["error_kind"] == "node_lost"), "{lost:?}");

        // Three hours were missed: the last of them is made up for, or none.
        for (job, count, runs) in [(&run_once, 2, 1), (&skip, 3, 0)] {
            eventually("the record of what was missed", || async {
                let history = cluster.executions(job).await?;
                let of = |status: &'static str| history.iter().filter(move |one| one["status"] == status);
                let missed: Vec<_> = of("skipped").map(|one| one["missed"]["count"].clone()).collect();
                let made_up: Vec<_> = of("success").map(|one| one["scheduled_at"].clone()).collect();
                let expected = vec![json!("2026-06-01T03:00:00Z"); runs];
                if missed == [json!(count)] && made_up == expected {
                    Ok(())
                } else {
                    Err(format!("{history:?}"))
                }
            })
            .await;
        }
        // All replicas are the same, byte for byte as far as their digest tells.
        for job in &jobs {
            cluster.post(&format!("/v1/jobs/{job}/pause"), None).await;
        }
        same_digest(&cluster).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restoration_that_was_cut_off_is_seen_and_gone_on_with() {
    let dir = TempDir::new().unwrap();
    let path = dir.path().join("all.backup");
    let restore = format!("restore {}", path.display());
    let mut cluster = TestCluster::start(1).await;
    let job = cluster.create_job("@every 2s", "/ok/job", json!({})).await;
    let saved = asked(&cluster, 0, &format!("backup {}", path.display())).await;
    assert_eq!(saved["jobs"], json!(1));

    cluster.begin_anew(3, START.plus(Duration::from_secs(60))).await;
    let leader = cluster.leader().await;
    let index = (leader + 1) % 3;
    let rpc_addr = cluster.rpc_addr(index).to_string();
    let operator = Operator::connect(&rpc_addr, &Secret::new("secret"), None).await.unwrap();

    // A node does not take the operator's word for what the file is.
    let bytes = fs::read(&path).unwrap();
    let number = raft::backup::inspect(&bytes[..]).unwrap().number;
    let sent = |bytes: &[u8], name: &str| {
        let path = dir.path().join(name);
        fs::write(&path, bytes).unwrap();
        fs::File::open(path).unwrap()
    };
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 2] ^= 1;
    for (file, number, why) in [
        (sent(&damaged, "damaged"), number, "it is damaged"),
        (sent(&bytes[..bytes.len() - 1], "cut"), number, "it is cut off"),
        (sent(&bytes, "whole"), number + 1, "another backup than was announced"),
    ] {
        let refused = operator.restore(file, number, false).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{refused}");
        assert_eq!(operator.overview().await.unwrap().restoring, None, "nothing has begun");
        assert_eq!(cluster.send_with_key(index, "GET", "/v1/jobs", None).await.0, 200);
    }

    // Another backup, of which nothing has come in yet.
    let begin = BeginRestore { backup: number + 1, parts: 3, replaces: None };
    let replies = operator.propose(&[Command::BeginRestore(begin)]).await.unwrap();
    assert_eq!(replies, [Ok(Applied::Done)]);
    for index in cluster.running() {
        for (method, path) in [("GET", "/v1/jobs"), ("POST", "/v1/auth/login"), ("GET", "/readyz")] {
            eventually("a refusal", || async {
                let body = (method == "POST")
                    .then(|| json!({"email": "a@example.com", "password": "correct horse"}));
                let (status, answer) = cluster.send_with_key(index, method, path, body).await;
                let code = answer["error"]["code"].clone();
                if (status, &code) == (503, &json!("not_ready")) {
                    Ok(())
                } else {
                    Err(format!("{path}: {status} {answer}"))
                }
            })
            .await;
        }
    }
    let status = asked(&cluster, index, "cluster status").await;
    assert_eq!(status["restoring"], json!({"parts": 3, "parts_in": 0}));
    let text = justrun(&cluster, index, "secret", "cluster status", "").await.unwrap();
    assert!(text.contains("A backup is being restored: 0 of 3 parts are in."), "{text}");
    let text = refused(justrun(&cluster, index, "secret", &restore, "").await);
    assert!(text.contains("another backup is being restored") && text.contains("--restart"), "{text}");
    let text =
        refused(justrun(&cluster, index, "secret", &format!("backup {}/x", dir.path().display()), "").await);
    assert!(text.contains("a backup is being restored into this cluster"), "{text}");
    let text = refused(
        justrun(&cluster, index, "secret", "account create --email a@b.example --plan pro", "").await,
    );
    assert_eq!(text, "a backup is being restored");

    // It stands over the death of the leader, and the one that is wanted takes its place.
    cluster.kill(leader);
    eventually("another leader", || async {
        let status = asked(&cluster, index, "cluster status").await;
        let another = status["leader_id"].as_u64().is_some_and(|id| id != leader as u64 + 1);
        if another { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    let status = asked(&cluster, index, "cluster status").await;
    assert_eq!(status["restoring"], json!({"parts": 3, "parts_in": 0}));
    let restored = asked(&cluster, index, &format!("{restore} --restart")).await;
    assert_eq!(restored["jobs"], json!(1));
    cluster.restart(leader);
    eventually("the job fires", || async {
        let history = cluster.executions(&job).await?;
        let since = history.iter().filter(|one| one["scheduled_at"].as_str() > Some("2026-06-01T00:01"));
        if since.clone().any(|one| one["status"] == "success") { Ok(()) } else { Err(format!("{history:?}")) }
    })
    .await;
    cluster.post(&format!("/v1/jobs/{job}/pause"), None).await;
    same_digest(&cluster).await;
}
