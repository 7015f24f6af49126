//! Answers to an operator: tables for people, JSON for scripts, with the names of the REST API.

use super::backup::Done;
use crate::config::{OutputFormat, RPC_ADDR_DEFAULT};
use domain::account::ApiKey;
use domain::time::Timestamp;
use raft::{AccountSummary, Overview};
use serde_json::{Value, json};

/// What stands in a table where nothing is known.
const NOTHING: &str = "-";

pub(super) fn account(output: OutputFormat, account: &AccountSummary, rpc_addr: &str) -> String {
    match output {
        OutputFormat::Json => line(&account_json(account)),
        OutputFormat::Text => format!(
            "Account {id} made, on plan {plan}.\n\nIts first API key:\n\n  \
             justrun key create --account {id} --name NAME{node}\n",
            id = account.id,
            plan = account.plan.as_str(),
            node = same_node(rpc_addr),
        ),
    }
}

/// The flag with which the next command asks the same node.
fn same_node(rpc_addr: &str) -> String {
    if rpc_addr == RPC_ADDR_DEFAULT { String::new() } else { format!(" --rpc-addr {rpc_addr}") }
}

pub(super) fn accounts(output: OutputFormat, accounts: &[AccountSummary], rpc_addr: &str) -> String {
    match output {
        OutputFormat::Json => line(&accounts.iter().map(account_json).collect()),
        OutputFormat::Text if accounts.is_empty() => format!(
            "There is no account yet. The first one:\n\n  \
             justrun account create --email ADDRESS --plan scale{}\n",
            same_node(rpc_addr)
        ),
        OutputFormat::Text => {
            let rows = accounts.iter().map(|account| {
                vec![
                    account.id.to_string(),
                    account.email.clone().unwrap_or_else(|| NOTHING.to_owned()),
                    account.plan.as_str().to_owned(),
                    account.jobs.to_string(),
                    rfc3339(account.created_at),
                ]
            });
            table(&["ACCOUNT", "EMAIL", "PLAN", "JOBS", "CREATED"], rows)
        }
    }
}

fn account_json(account: &AccountSummary) -> Value {
    json!({
        "id": account.id.to_string(),
        "email": account.email,
        "plan": account.plan.as_str(),
        "jobs": account.jobs,
        "created_at": rfc3339(account.created_at),
    })
}

pub(super) fn key(output: OutputFormat, key: &ApiKey, text: &str) -> String {
    match output {
        OutputFormat::Json => line(&json!({
            "id": key.id.to_string(),
            "account_id": key.account.to_string(),
            "name": key.name,
            "key": text,
            "created_at": rfc3339(key.created_at),
        })),
        OutputFormat::Text => {
            format!("{text}\n\nCopy it now: only its hash is kept. Its id is {}.\n", key.id)
        }
    }
}

pub(super) fn cluster(output: OutputFormat, overview: &Overview) -> String {
    let known = |text: &Option<String>| text.clone().unwrap_or_else(|| NOTHING.to_owned());
    match output {
        OutputFormat::Json => {
            let members = overview.members.iter().map(|member| {
                json!({
                    "node_id": member.id.0,
                    "role": member.role.as_str(),
                    "live": member.live,
                    "api_url": member.api_url,
                    "rpc_addr": member.rpc_addr,
                    "applied_index": member.applied,
                    "shards": member.shards,
                    "version": member.version,
                    "feature_level": member.level.map(|level| level.0),
                })
            });
            line(&json!({
                "node_id": overview.node.0,
                "leader_id": overview.leader.map(|leader| leader.0),
                "term": overview.term,
                "applied_index": overview.applied,
                "state_digest": overview.digest.map(|digest| digest.to_string()),
                "feature_level": overview.level.0,
                "shard_map_version": overview.shard_map_version,
                "restoring": overview.restoring.map(|restoring| json!({
                    "parts": restoring.parts,
                    "parts_in": restoring.parts_in,
                })),
                "members": members.collect::<Vec<_>>(),
            }))
        }
        OutputFormat::Text => {
            let leader = match overview.leader {
                Some(leader) => format!("node {leader} leads"),
                None => "nobody leads".to_owned(),
            };
            let rows = overview.members.iter().map(|member| {
                vec![
                    member.id.to_string(),
                    member.role.as_str().to_owned(),
                    member.live.map_or("?", |live| if live { "yes" } else { "no" }).to_owned(),
                    known(&member.applied.map(|applied| applied.to_string())),
                    member.shards.to_string(),
                    member.rpc_addr.clone(),
                    known(&member.api_url),
                    known(&member.version),
                    known(&member.level.map(|level| level.to_string())),
                ]
            });
            let members =
                table(&["NODE", "ROLE", "LIVE", "APPLIED", "SHARDS", "RPC", "API", "VERSION", "LEVEL"], rows);
            let state = overview.digest.map_or_else(String::new, |digest| {
                format!("Its state after entry {} has the digest {digest}.\n", overview.applied)
            });
            let restoring = overview.restoring.map_or_else(String::new, |restoring| {
                format!(
                    "A backup is being restored: {} of {} parts are in. Until that is done nothing fires.\n",
                    restoring.parts_in, restoring.parts
                )
            });
            let level = match overview.upgrade() {
                Some(more) => format!(
                    "The cluster is at feature level {}; all nodes support {more}: justrun cluster upgrade.\n",
                    overview.level
                ),
                None => format!("The cluster is at feature level {}.\n", overview.level),
            };
            format!(
                "Node {} says: {leader}, term {}.\n{state}{level}{restoring}\n{members}",
                overview.node, overview.term
            )
        }
    }
}

pub(super) fn saved(output: OutputFormat, done: &Done) -> String {
    match output {
        OutputFormat::Json => line(&Value::Object(done_json(done))),
        OutputFormat::Text => format!("Backup written to {}.\n\n{}", done.file.display(), done_table(done)),
    }
}

pub(super) fn restored(output: OutputFormat, done: &Done, applied: u64) -> String {
    match output {
        OutputFormat::Json => {
            let mut fields = done_json(done);
            fields.insert("restored_by_index".to_owned(), applied.into());
            line(&Value::Object(fields))
        }
        OutputFormat::Text => format!(
            "{} is restored, by entry {applied} of this cluster's log. What was due meanwhile follows each job's misfire \
             policy.\n\n{}",
            done.file.display(),
            done_table(done)
        ),
    }
}

fn done_json(done: &Done) -> serde_json::Map<String, Value> {
    let Done { file, bytes, summary, took } = done;
    let fields = json!({
        "file": file.display().to_string(),
        "bytes": bytes,
        "accounts": summary.accounts,
        "jobs": summary.jobs,
        "executions": summary.executions,
        "term": summary.term,
        "applied_index": summary.applied,
        "state_digest": summary.digest.map(|digest| digest.to_string()),
        "at": rfc3339(summary.at),
        "version": summary.release,
        "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
    });
    match fields {
        Value::Object(fields) => fields,
        _ => serde_json::Map::new(),
    }
}

fn done_table(done: &Done) -> String {
    let Done { bytes, summary, took, .. } = done;
    let row = |name: &str, value: String| vec![name.to_owned(), value];
    let rows = [
        row("jobs", summary.jobs.to_string()),
        row("executions", summary.executions.to_string()),
        row("accounts", summary.accounts.to_string()),
        row("log position", format!("entry {} of term {}", summary.applied, summary.term)),
        row("state as of", rfc3339(summary.at)),
        row("time taken", format!("{:.1} s", took.as_secs_f64())),
    ];
    table(&["bytes", &bytes.to_string()], rows.into_iter())
}

/// What was done, for whoever asked for it.
pub(super) fn done(output: OutputFormat, what: &str) -> String {
    match output {
        OutputFormat::Json => line(&json!({ "done": what })),
        OutputFormat::Text => format!("{what}\n"),
    }
}

/// One line, so that a script can take it as one record.
pub(super) fn line(value: &Value) -> String {
    format!("{value}\n")
}

/// Columns as wide as what stands in them.
fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    const GAP: &str = "  ";
    let mut lines = vec![head.iter().map(|&text| text.to_owned()).collect::<Vec<_>>()];
    lines.extend(rows);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<_> = (0..head.len()).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let cells = line.iter().zip(&widths).map(|(cell, &width)| format!("{cell:width$}"));
        text += cells.collect::<Vec<_>>().join(GAP).trim_end();
        text.push('\n');
    }
    text
}

/// As the REST API writes it.
fn rfc3339(at: Timestamp) -> String {
    let secs = i64::try_from(at.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(secs).unwrap_or(jiff::Timestamp::MAX).to_string()
}

/// With milliseconds where there are any.
pub(super) fn rfc3339_ms(at: Timestamp) -> String {
    let millis = i64::try_from(at.as_millis()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_millisecond(millis).unwrap_or(jiff::Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::account::Plan;
    use domain::id::{AccountId, KeyId, NodeId};
    use domain::node::FeatureLevel;
    use raft::{MemberOverview, Restoring, Role};
    use storage::Digest;

    const AT: Timestamp = Timestamp::from_millis(1_775_830_920_999);

    fn summaries() -> Vec<AccountSummary> {
        let account = |id, plan, email: Option<&str>, jobs| AccountSummary {
            id: AccountId(id),
            plan,
            email: email.map(str::to_owned),
            created_at: AT,
            jobs,
        };
        vec![account(1, Plan::Scale, None, 1_200), account(2, Plan::Free, Some("ada@bücher.example"), 0)]
    }

    #[test]
    fn accounts_stand_in_columns() {
        let expected = "\
ACCOUNT          EMAIL               PLAN   JOBS  CREATED
acc_00000000001  -                   scale  1200  2026-04-10T14:22:00Z
acc_00000000002  ada@bücher.example  free   0     2026-04-10T14:22:00Z
";
        assert_eq!(accounts(OutputFormat::Text, &summaries(), RPC_ADDR_DEFAULT), expected);
        let none = accounts(OutputFormat::Text, &[], "10.0.0.1:9080");
        assert!(
            none.ends_with("justrun account create --email ADDRESS --plan scale --rpc-addr 10.0.0.1:9080\n")
        );
    }

    #[test]
    fn what_is_to_be_done_next_asks_the_same_node() {
        for (rpc_addr, expected) in [
            (RPC_ADDR_DEFAULT, "key create --account acc_00000000001 --name NAME\n"),
            ("10.0.0.1:9080", "key create --account acc_00000000001 --name NAME --rpc-addr 10.0.0.1:9080\n"),
        ] {
            let text = account(OutputFormat::Text, &summaries()[0], rpc_addr);
            assert!(text.ends_with(expected), "{text}");
        }
    }

    #[test]
    fn scripts_get_one_line_of_json() {
        let text = accounts(OutputFormat::Json, &summaries(), RPC_ADDR_DEFAULT);
        assert_eq!(text.matches('\n').count(), 1);
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value[0]["email"], Value::Null);
        assert_eq!(value[1]["created_at"], "2026-04-10T14:22:00Z");
        assert_eq!(accounts(OutputFormat::Json, &[], RPC_ADDR_DEFAULT), "[]\n");
    }

    #[test]
    fn a_key_is_shown_whole() {
        let stored = api::stored_key("jrun_sk_a", KeyId(3), AccountId(1), "a".to_owned(), AT);
        assert!(key(OutputFormat::Text, &stored, "jrun_sk_a").starts_with("jrun_sk_a\n"));
        let value: Value = serde_json::from_str(&key(OutputFormat::Json, &stored, "jrun_sk_a")).unwrap();
        assert_eq!((&value["key"], &value["account_id"]), (&json!("jrun_sk_a"), &json!("acc_00000000001")));
    }

    #[test]
    fn a_cluster_shows_its_members() {
        let member = |id, role, live, applied| MemberOverview {
            id: NodeId(id),
            role,
            live: Some(live),
            api_url: live.then(|| format!("http://10.0.0.{id}:8080")),
            rpc_addr: format!("10.0.0.{id}:9080"),
            applied,
            shards: 128,
            version: live.then(|| "0.1.0".to_owned()),
            level: live.then_some(FeatureLevel(2)),
        };
        let overview = Overview {
            node: NodeId(2),
            leader: Some(NodeId(1)),
            term: 7,
            applied: 900,
            digest: Some(Digest::from_u64(0x00ab_cdef)),
            level: FeatureLevel(1),
            shard_map_version: 3,
            members: vec![member(1, Role::Leader, true, None), member(2, Role::Follower, false, Some(900))],
            restoring: None,
        };
        let expected = "\
Node 2 says: node 1 leads, term 7.
Its state after entry 900 has the digest 0000000000abcdef.
The cluster is at feature level 1.

NODE  ROLE      LIVE  APPLIED  SHARDS  RPC            API                   VERSION  LEVEL
1     leader    yes   -        128     10.0.0.1:9080  http://10.0.0.1:8080  0.1.0    2
2     follower  no    900      128     10.0.0.2:9080  -                     -        -
";
        assert_eq!(cluster(OutputFormat::Text, &overview), expected);
        let value: Value = serde_json::from_str(&cluster(OutputFormat::Json, &overview)).unwrap();
        assert_eq!((&value["leader_id"], &value["members"][0]["role"]), (&json!(1), &json!("leader")));
        assert_eq!(
            (&value["applied_index"], &value["state_digest"]),
            (&json!(900), &json!("0000000000abcdef"))
        );
        let restoring = Some(Restoring { parts: 40, parts_in: 12 });
        let filled = Overview { restoring, ..overview.clone() };
        let text = cluster(OutputFormat::Text, &filled);
        let said = "A backup is being restored: 12 of 40 parts are in. Until that is done nothing fires.";
        assert_eq!(text.lines().nth(3), Some(said));
        let value: Value = serde_json::from_str(&cluster(OutputFormat::Json, &filled)).unwrap();
        assert_eq!(value["restoring"]["parts_in"], 12);
        let lost = Overview { leader: None, digest: None, ..overview };
        let text = cluster(OutputFormat::Text, &lost);
        let head = "Node 2 says: nobody leads, term 7.\nThe cluster is at feature level 1.\n\nNODE";
        assert!(text.starts_with(head), "{text}");
        let value: Value = serde_json::from_str(&cluster(OutputFormat::Json, &lost)).unwrap();
        assert_eq!((&value["state_digest"], &value["feature_level"]), (&Value::Null, &json!(1)));
        let all_new = Overview { members: vec![member(1, Role::Leader, true, Some(900))], ..lost };
        let text = cluster(OutputFormat::Text, &all_new);
        let due = "The cluster is at feature level 1; all nodes support 2: justrun cluster upgrade.\n";
        assert!(text.contains(due), "{text}");
    }
}
