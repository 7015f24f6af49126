//! What the service itself says of its histories.

use super::Cluster;
use crate::{Error, binary::forget_settings, history::Proven, time::format_rfc3339};
use serde_json::Value;
use std::{path::Path, process::Stdio, time::Duration};
use tokio::{process::Command, time::timeout};

/// A backup and a look at it: seconds for an hour of a hundred jobs.
const DEADLINE: Duration = Duration::from_secs(120);
/// How many of the findings are told.
const FINDINGS_MAX: usize = 5;

impl Cluster {
    /// Takes a backup of one node and has `justrun verify` look at it, from one second on up to another. Whatever comes of it is
    /// the answer.
    pub async fn second_opinion(&self, node: u64, from_s: i64, until_s: i64) -> Proven {
        let file = self.dir().join("second-opinion.backup");
        let looked = timeout(DEADLINE, async {
            self.operate(node, &["backup", &file.display().to_string()]).await?;
            self.verify(&file, from_s, until_s).await
        });
        let failed = |said| Proven { node, verdict: "failed".to_owned(), instants: 0, said };
        match looked.await {
            Ok(Ok((code, output))) => {
                read(node, code, &output).unwrap_or_else(|| failed(format!("exit code {code:?}: {output}")))
            }
            Ok(Err(error)) => failed(error.to_string()),
            Err(_) => failed(format!("no answer within {DEADLINE:?}")),
        }
    }

    /// The exit code of `justrun verify`, and what it has written.
    async fn verify(&self, file: &Path, from_s: i64, until_s: i64) -> Result<(Option<i32>, String), Error> {
        let mut command = Command::new(&self.settings.binary.path);
        forget_settings(&mut command);
        let output = command
            .args(["verify", "--output", "json", "--backup"])
            .arg(file)
            .args(["--from", &format_rfc3339(from_s), "--to", &format_rfc3339(until_s)])
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output()
            .await
            .map_err(Error::io("run justrun verify"))?;
        let [stdout, stderr] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
        Ok((output.status.code(), format!("{stdout}{stderr}")))
    }
}

/// What an answer means; nothing of one that makes no sense.
fn read(node: u64, code: Option<i32>, output: &str) -> Option<Proven> {
    let json: Value = serde_json::from_str(output.trim()).ok()?;
    let verdict = json["verdict"].as_str()?;
    let expected = match verdict {
        "complete" => 0,
        "gaps" => 1,
        "unknown" => 2,
        _ => return None,
    };
    let instants = usize::try_from(json["proven"].as_u64()?).ok()?;
    let findings = ["faults", "unknown"].map(|kind| json[kind].as_array());
    let findings = findings.into_iter().flatten().flatten().take(FINDINGS_MAX);
    let said = findings.map(Value::to_string).collect::<Vec<_>>().join("; ");
    (code == Some(expected)).then(|| Proven { node, verdict: verdict.to_owned(), instants, said })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{binary::Binary, cluster::Settings};
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn an_answer_is_read_with_its_findings_and_its_exit_code() {
        let complete = r#"{"verdict":"complete","proven":41,"faults":[],"unknown":[]}"#;
        let proven = |verdict: &str, instants, said: &str| {
            let (verdict, said) = (verdict.to_owned(), said.to_owned());
            Some(Proven { node: 2, verdict, instants, said })
        };
        assert_eq!(read(2, Some(0), complete), proven("complete", 41, ""));
        let gaps =
            r#"{"verdict":"gaps","proven":40,"faults":[{"fault":"missing"},{"fault":"twice"}],"unknown":[]}"#;
        let said = r#"{"fault":"missing"}; {"fault":"twice"}"#;
        assert_eq!(read(2, Some(1), gaps), proven("gaps", 40, said));
        for (code, output) in
            [(Some(1), complete), (Some(0), gaps), (None, complete), (Some(0), "Complete: 41")]
        {
            assert_eq!(read(2, code, output), None, "{code:?} {output}");
        }
    }

    #[tokio::test]
    async fn a_backup_that_fails_is_no_proof_and_a_whole_one_is_looked_at() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("justrun");
        // It refuses a backup once, and then says what it was asked.
        let script = format!(
            "#!/bin/sh\ncase $1 in\nserver) exec sleep 60;;\nbackup) [ -e {0} ] || {{ touch {0}; echo no room >&2; exit 1; }};;\n\
             verify) echo '{{\"verdict\":\"gaps\",\"proven\":1,\"faults\":[\"'\"$*\"'\"]}}'; exit 1;;\nesac\n",
            dir.path().join("asked").display()
        );
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let cluster = Cluster::start(Settings::new(Binary::at(path))).unwrap();
        let first = cluster.second_opinion(3, 60, 120).await;
        assert_eq!((first.node, first.verdict.as_str(), first.instants), (3, "failed", 0));
        assert!(first.said.contains("no room"), "{}", first.said);
        let second = cluster.second_opinion(3, 60, 120).await;
        assert_eq!((second.verdict.as_str(), second.instants), ("gaps", 1));
        let span = "--from 1970-01-01T00:01:00Z --to 1970-01-01T00:02:00Z";
        assert!(
            second.said.contains("verify --output json --backup") && second.said.contains(span),
            "{}",
            second.said
        );
        cluster.finish().await.unwrap();
    }
}
