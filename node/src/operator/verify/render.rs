//! What was found, for people and for scripts.

use super::{Found, Named, Verdict};
use crate::config::OutputFormat;
use crate::operator::render::{line, rfc3339_ms};
use domain::id::JobId;
use domain::ledger::{Fault, Instants, Unknown};
use domain::time::Timestamp;
use raft::backup::Summary;
use serde_json::{Value, json};
use std::fmt::Write;

pub(super) fn found(output: OutputFormat, found: &Found, summary: &Summary) -> String {
    match output {
        OutputFormat::Json => line(&as_json(found, summary)),
        OutputFormat::Text => as_text(found, summary),
    }
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Complete => "complete",
        Verdict::Gaps => "gaps",
        Verdict::Unknown => "unknown",
    }
}

fn as_text(found: &Found, summary: &Summary) -> String {
    let span = format!("from {} to {}", rfc3339_ms(found.span.from), rfc3339_ms(found.span.to));
    let state = format!("by the state after entry {} of term {}", summary.applied, summary.term);
    let jobs = plural(found.jobs, "job");
    let mut text = match found.verdict() {
        Verdict::Complete => format!(
            "Complete: {} of {jobs} {span} accounted for, {state}.\n",
            plural(found.proven, "due instant")
        ),
        Verdict::Gaps => format!(
            "NOT COMPLETE: {} in the histories of {jobs} {span}, {state}. {} accounted for.\n",
            plural(found.faults.count, "fault"),
            plural(found.proven, "due instant")
        ),
        Verdict::Unknown => format!(
            "Cannot tell of {}; {} of {jobs} {span} accounted for, {state}.\n",
            plural(found.unknown.count, "job"),
            plural(found.proven, "due instant")
        ),
    };
    section(&mut text, "Wrong", &found.faults, fault);
    section(&mut text, "Cannot be told", &found.unknown, |unknown: &Unknown| unknown.to_string());
    section(&mut text, "Not yet proven, still under way", &found.open, |at: &Timestamp| rfc3339_ms(*at));
    section(&mut text, "Not yet proven, due and not taken up", &found.waiting, instants);
    section(&mut text, "Given up by a pause or an edit before it was taken up", &found.given_up, instants);
    text
}

fn section<T>(text: &mut String, title: &str, named: &Named<T>, say: impl Fn(&T) -> String) {
    if named.count == 0 {
        return;
    }
    let _ = writeln!(text, "\n{title}:");
    for (job, name, found) in &named.first {
        let _ = writeln!(text, "  {job} \"{name}\": {}", say(found));
    }
    let more = named.count - named.first.len() as u64;
    if more > 0 {
        let _ = writeln!(text, "  and {more} more");
    }
}

fn plural(count: u64, what: &str) -> String {
    if count == 1 { format!("1 {what}") } else { format!("{count} {what}s") }
}

fn instants(found: &Instants) -> String {
    let Instants { first, last, count } = *found;
    if count == 1 {
        rfc3339_ms(first)
    } else {
        format!("{count} instants from {} to {}", rfc3339_ms(first), rfc3339_ms(last))
    }
}

fn fault(found: &Fault) -> String {
    match found {
        Fault::Missing(missing) => format!("nothing stands for {}", instants(missing)),
        Fault::NotDue(at) => format!("there is a record of {}, which was not due", rfc3339_ms(*at)),
        Fault::Twice(at) => format!("a second record stands for {}", rfc3339_ms(*at)),
        Fault::Miscounted { at, until, says, are } => format!(
            "the record of what was missed from {} to {} says {says} instants, and {are} were due",
            rfc3339_ms(*at),
            rfc3339_ms(*until)
        ),
    }
}

fn as_json(found: &Found, summary: &Summary) -> Value {
    json!({
        "verdict": verdict(found.verdict()),
        "from": rfc3339_ms(found.span.from),
        "to": rfc3339_ms(found.span.to),
        "term": summary.term,
        "applied_index": summary.applied,
        "jobs": found.jobs,
        "proven": found.proven,
        "faults": list(&found.faults, fault_json),
        "faults_total": found.faults.count,
        "unknown": list(&found.unknown, |unknown: &Unknown| json!({"reason": unknown.to_string()})),
        "unknown_total": found.unknown.count,
        "open": list(&found.open, |at: &Timestamp| json!({"at": rfc3339_ms(*at)})),
        "open_total": found.open.count,
        "waiting": list(&found.waiting, instants_json),
        "waiting_total": found.waiting.count,
        "given_up": list(&found.given_up, instants_json),
        "given_up_total": found.given_up.count,
    })
}

fn list<T>(named: &Named<T>, fields: impl Fn(&T) -> Value) -> Vec<Value> {
    let with_job = |(job, name, found): &(JobId, String, T)| {
        let mut value = fields(found);
        value["job_id"] = json!(job.to_string());
        value["job_name"] = json!(name);
        value
    };
    named.first.iter().map(with_job).collect()
}

fn instants_json(found: &Instants) -> Value {
    json!({"first": rfc3339_ms(found.first), "last": rfc3339_ms(found.last), "count": found.count})
}

fn fault_json(found: &Fault) -> Value {
    match found {
        Fault::Missing(missing) => {
            let mut value = instants_json(missing);
            value["fault"] = json!("missing");
            value
        }
        Fault::NotDue(at) => json!({"fault": "not_due", "at": rfc3339_ms(*at)}),
        Fault::Twice(at) => json!({"fault": "twice", "at": rfc3339_ms(*at)}),
        Fault::Miscounted { at, until, says, are } => json!({
            "fault": "miscounted",
            "first": rfc3339_ms(*at),
            "last": rfc3339_ms(*until),
            "says": says,
            "are": are,
        }),
    }
}
