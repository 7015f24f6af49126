//! Reference data: what a widely used implementation of Debian's cron answers, what the rule
//! demands where that implementation errs, and what must be refused.

use domain::schedule::{Schedule, ScheduleError};
use domain::time::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;

#[derive(Deserialize)]
struct Answer {
    expr: String,
    tz: String,
    from: String,
    next: Vec<String>,
}

#[derive(Deserialize)]
struct Refusal {
    expr: String,
    reason: String,
}

fn lines<T: DeserializeOwned>(data: &str) -> Vec<T> {
    data.lines().map(|line| serde_json::from_str(line).expect("the data are well formed")).collect()
}

fn timestamp(text: &str) -> Timestamp {
    let instant: jiff::Timestamp = text.parse().expect("the data hold RFC 3339 instants");
    Timestamp::from_millis(u64::try_from(instant.as_millisecond()).expect("no instant is before 1970"))
}

fn report(failures: &[String], read: usize) {
    let first = failures.iter().take(10).cloned().collect::<Vec<_>>().join("\n");
    assert!(failures.is_empty(), "{} of {read} lines fail, the first of them:\n{first}", failures.len());
}

fn check_answers(data: &str, read_expected: usize) {
    let answers: Vec<Answer> = lines(data);
    let mut failures = Vec::new();
    for answer in &answers {
        let expected: Vec<_> = answer.next.iter().map(|next| Some(timestamp(next))).collect();
        assert_eq!(expected.len(), 5);
        let line = format!("{} in {} from {}", answer.expr, answer.tz, answer.from);
        let schedule = match Schedule::parse(&answer.expr, &answer.tz) {
            Ok(schedule) => schedule,
            Err(error) => {
                failures.push(format!("{line}: {error}"));
                continue;
            }
        };
        let mut after = timestamp(&answer.from);
        let mut found = Vec::new();
        for _ in &expected {
            let next = schedule.next_after(after);
            after = next.unwrap_or(after);
            found.push(next);
        }
        if found != expected || !expected.iter().flatten().all(|due| schedule.is_due(*due)) {
            failures.push(format!("{line}: expected {expected:?}, found {found:?}"));
        }
    }
    report(&failures, answers.len());
    assert_eq!(answers.len(), read_expected);
}

#[test]
fn answers_agree_with_the_reference_implementation() {
    check_answers(include_str!("data/cron_golden.jsonl"), 3_000);
}

#[test]
fn answers_follow_the_rule_where_the_reference_implementation_errs() {
    check_answers(include_str!("data/cron_golden_rule.jsonl"), 235);
}

#[test]
fn what_is_no_cron_expression_is_refused() {
    let refusals: Vec<Refusal> = lines(include_str!("data/cron_invalid.jsonl"));
    let mut failures = Vec::new();
    let mut extensions = Vec::new();
    for Refusal { expr, reason } in &refusals {
        let start: String = expr.chars().take(80).collect();
        match Schedule::parse(expr, "UTC") {
            Ok(_) if reason == "not standard" => extensions.push(expr.as_str()),
            Ok(_) => failures.push(format!("{start:?} is accepted ({reason})")),
            Err(error) => {
                let text = error.to_string();
                let impossible = reason.starts_with("impossible date");
                if impossible != (error == ScheduleError::NeverFires)
                    || error.field() != "cron_expression"
                    || !text.is_ascii()
                    || text.len() > 400
                {
                    failures.push(format!("{start:?} is refused for the wrong reason: {text}"));
                }
            }
        }
    }
    report(&failures, refusals.len());
    assert_eq!(refusals.len(), 107);
    // Not cron, and accepted here on purpose.
    assert_eq!(extensions, ["@every 5m"]);
}
