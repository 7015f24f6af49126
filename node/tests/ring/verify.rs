//! That everything which was due stands in the histories can be proven, and what does not is named.

use crate::access::{asked, justrun};
use crate::cluster::{START, TestCluster, eventually};
use domain::time::{Clock, Timestamp};
use node::config::{self, Invocation};
use node::operator::verify::{self, Verdict};
use serde_json::{Value, json};
use std::fs;
use std::path::Path;
use std::time::Duration;
use storage::backup::{BackupReader, Record, of_records};
use storage::schema::Executions;
use tempfile::TempDir;

/// Runs `justrun verify` with these words against one node, and returns what it says.
async fn verified(cluster: &TestCluster, index: usize, line: &str) -> (Verdict, Value) {
    let words = ["justrun", "verify", "--output", "json"].into_iter().chain(line.split_whitespace());
    let rpc_addr = cluster.rpc_addr(index).to_string();
    let env = |name: &str| match name {
        "JUSTRUN_RPC_ADDR" => Some(rpc_addr.clone()),
        "JUSTRUN_CLUSTER_SECRET" => Some("secret".to_owned()),
        _ => None,
    };
    match config::parse(words.map(Into::into), env).unwrap() {
        Invocation::Verify(settings) => {
            let verified = verify::run(*settings).await.unwrap();
            (verified.verdict, serde_json::from_str(&verified.text).unwrap())
        }
        other => panic!("{other:?}"),
    }
}

/// Writes a backup in which something of the one at `from` is gone.
fn without(from: &Path, to: &Path, is_gone: impl Fn(&Record) -> bool) {
    let file = fs::File::open(from).unwrap();
    let mut reader = BackupReader::new(std::io::BufReader::new(file)).unwrap();
    let mut records = Vec::new();
    while let Some(part) = reader.next_part().unwrap() {
        records.extend(part.records.into_iter().filter(|record| !is_gone(record)));
    }
    fs::write(to, of_records(reader.header(), &records).unwrap()).unwrap();
}

fn rfc3339(at: Timestamp) -> String {
    jiff::Timestamp::from_second(i64::try_from(at.as_secs()).unwrap()).unwrap().to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_changes_and_loses_a_node_is_complete_and_what_is_taken_out_is_named() {
    let mut cluster = TestCluster::start(3).await;
    let steady = cluster.create_job("@every 2s", "/ok/steady", json!({})).await;
    let edited = cluster.create_job("@every 2s", "/ok/edited", json!({})).await;
    let paused = cluster.create_job("@every 2s", "/ok/paused", json!({})).await;
    let deleted = cluster.create_job("@every 2s", "/ok/deleted", json!({})).await;
    let space = cluster.post("/v1/spaces", Some(json!({"name": "a"}))).await;
    let space = space["data"]["id"].as_str().unwrap().to_owned();
    let in_space = cluster.create_job("@every 2s", "/ok/space", json!({"space_id": space})).await;
    let ran = |count: usize| {
        let cluster = &cluster;
        let jobs = [&steady, &edited, &in_space];
        async move {
            eventually("executions", || async {
                let mut counts = Vec::new();
                for job in jobs {
                    let history = cluster.executions(job).await?;
                    counts.push(history.iter().filter(|one| one["status"] == "success").count());
                }
                if counts.iter().all(|seen| *seen >= count) { Ok(()) } else { Err(format!("{counts:?}")) }
            })
            .await;
        }
    };
    ran(2).await;
    cluster.patch(&format!("/v1/jobs/{edited}"), json!({"cron_expression": "@every 3s"})).await;
    cluster.post(&format!("/v1/jobs/{paused}/pause"), None).await;
    cluster.post(&format!("/v1/spaces/{space}/pause"), None).await;
    cluster.delete(&format!("/v1/jobs/{deleted}")).await;
    let victim = (cluster.leader().await + 1) % 3;
    cluster.kill(victim);
    cluster.wait_until_dealt().await;
    cluster.post(&format!("/v1/jobs/{paused}/resume"), None).await;
    cluster.post(&format!("/v1/spaces/{space}/resume"), None).await;
    cluster
        .patch(&format!("/v1/jobs/{edited}"), json!({"name": "renamed", "timezone": "Europe/Berlin"}))
        .await;
    let until = cluster.clock.now().plus(Duration::from_secs(10));
    cluster.until(until).await;
    let index = *cluster.running().last().unwrap();

    // Live, at one point in the log, while it fires.
    let from = rfc3339(START);
    let (verdict, found) = verified(&cluster, index, &format!("--from {from}")).await;
    assert_eq!(
        (verdict, &found["faults"], &found["unknown"]),
        (Verdict::Complete, &json!([]), &json!([])),
        "{found}"
    );
    assert_eq!(found["jobs"], json!(4), "{found}");
    assert!(found["proven"].as_u64().unwrap() >= 20, "{found}");
    let (verdict, _) = verified(&cluster, index, "").await;
    assert_eq!(verdict, Verdict::Complete, "the last hour");

    // In a backup, and in one from which one execution is gone.
    let dir = TempDir::new().unwrap();
    let (whole, doctored) = (dir.path().join("whole.backup"), dir.path().join("doctored.backup"));
    asked(&cluster, index, &format!("backup {}", whole.display())).await;
    let line = format!("--from {from} --backup {}", whole.display());
    assert_eq!(verified(&cluster, index, &line).await.0, Verdict::Complete);
    let history = cluster.executions(&steady).await.unwrap();
    let ended: Vec<&Value> = history.iter().filter(|one| one["status"] == "success").collect();
    let gone = ended[ended.len() / 2];
    let id = gone["id"].as_str().unwrap().parse().unwrap();
    without(&whole, &doctored, |record| {
        record.read::<Executions>().unwrap().is_some_and(|(key, _)| key == id)
    });
    let line = format!("--from {from} --backup {}", doctored.display());
    let (verdict, found) = verified(&cluster, index, &line).await;
    let at = gone["scheduled_at"].clone();
    let expected = json!([{
        "fault": "missing", "job_id": steady, "job_name": "/ok/steady", "first": at, "last": at, "count": 1,
    }]);
    assert_eq!((verdict, &found["faults"]), (Verdict::Gaps, &expected));

    // A file that is damaged proves nothing.
    let mut bytes = fs::read(&whole).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&doctored, bytes).unwrap();
    let settings =
        config::parse(["justrun", "verify", "--backup", doctored.to_str().unwrap()].map(Into::into), |_| {
            None
        });
    let Ok(Invocation::Verify(settings)) = settings else { panic!("{settings:?}") };
    assert!(verify::run(*settings).await.unwrap_err().to_string().contains("it is damaged"));
    assert!(justrun(&cluster, index, "secret", "cluster status", "").await.is_ok());
}
