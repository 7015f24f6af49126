use super::*;
use crate::json;

struct HttpsOnly;

impl TargetPolicy for HttpsOnly {
    fn check(&self, url: &Url) -> Result<(), String> {
        if url.scheme() == "https" { Ok(()) } else { Err("must use https".to_owned()) }
    }
}

fn read(text: &str, create: bool) -> (JobInput, Issues) {
    let value = json::parse(text.as_bytes()).unwrap();
    let mut issues = Issues::default();
    let input = if create {
        JobInput::for_create(&value, "", &HttpsOnly, &mut issues)
    } else {
        JobInput::for_update(&value, &HttpsOnly, &mut issues)
    };
    (input, issues)
}

/// Reads changes with one field and returns the fields at fault.
fn faults(field: &str, value: &str) -> Vec<String> {
    let (_, issues) = read(&format!(r#"{{"{field}":{value}}}"#), false);
    assert!(!issues.misshapen(), "{field}: {value}");
    issues.list().iter().map(|issue| issue.field.clone()).collect()
}

fn check_refused(field: &str, values: &[&str]) {
    for value in values {
        assert_eq!(faults(field, value), [field], "{value}");
    }
}

fn check_taken(field: &str, values: &[&str]) {
    for value in values {
        assert_eq!(faults(field, value), [""; 0], "{value}");
    }
}

#[test]
fn every_missing_field_is_named_in_the_documented_words() {
    let (_, issues) = read("{}", true);
    assert!(issues.misshapen());
    assert_eq!(issues.to_string(), "name is required");
    let fields: Vec<_> =
        issues.list().iter().map(|issue| (issue.field.as_str(), issue.issue.as_str())).collect();
    assert_eq!(fields, [("name", EMPTY), ("cron_expression", EMPTY), ("url", EMPTY)]);
}

#[test]
fn names_and_tags_are_labels() {
    let (longest, too_long) = (format!("\"{}\"", "é".repeat(100)), format!("\"{}\"", "é".repeat(101)));
    check_taken("name", &["\"Daily DB Backup\"", &longest]);
    check_refused("name", &["\"\"", "\" \\t\"", "\"a\\u0000\"", "\"a\\nb\"", &too_long]);
    check_taken("tags", &["[]", r#"["a","b"]"#]);
    check_refused("tags", &[r#"["1","2","3","4","5","6","7","8","9","10","11"]"#]);
    assert_eq!(faults("tags", r#"["a",""]"#), ["tags[1]"]);
}

#[test]
fn schedules_are_parsed() {
    check_taken("cron_expression", &["\"*/5 * * * *\"", "\"@daily\"", "\"@every 10s\""]);
    check_refused(
        "cron_expression",
        &["\"\"", "\"* * * *\"", "\"60 * * * *\"", "\"0 0 31 2 *\"", "\"@reboot\"", "\"@every 0s\""],
    );
    check_taken("timezone", &["\"UTC\"", "\"Europe/Stockholm\""]);
    check_refused("timezone", &["\"\"", "\"Mars/Olympus\"", "\"+02:00\""]);
}

#[test]
fn urls_are_absolute_public_and_without_secrets() {
    check_taken(
        "url",
        &[
            "\"https://api.example.com/backup\"",
            "\"https://example.com/?id={{execution_id}}#x\"",
            "\"https://example.com/?id={{execution_id}}#{{job_id}}\"",
            "\"https://example.com/{a}/é?q=\\\"<>|^`é\"",
            "\"https://bücher.example/\"",
            "\"https://[2606::1]:8443\"",
        ],
    );
    let too_long = format!("\"https://example.com/{}\"", "a".repeat(limits::URL_BYTES_MAX));
    check_refused(
        "url",
        &[
            "\"\"",
            "\"/backup\"",
            "\"example.com\"",
            "\"ftp://example.com\"",
            "\"https://\"",
            "\"https:example.com\"",
            "\"https:///example.com\"",
            "\"https://example.com\\\\@other.example\"",
            "\"https://user:secret@example.com\"",
            "\"https://example.com/a b\"",
            "\" https://example.com\"",
            "\"https://exa\\nmple.com\"",
            "\"https://example.com:99999\"",
            "\"https://example.com:0/\"",
            "\"https://{{job_id}}/\"",
            "\"https://{{job_id}}.example.com/?a={{job_id}}\"",
            "\"https://example.com/{{job_id}}\"",
            "\"https://{x}.example.com/\"",
            "\"http://example.com\"",
            &too_long,
        ],
    );
}

#[test]
fn headers_keep_their_order_and_cannot_break_the_request() {
    let (input, issues) = read(r#"{"headers":{"X-B":"1","X-A":"jr-{{execution_id}}","a":""}}"#, false);
    assert_eq!(issues, Issues::default());
    let names: Vec<_> = input.headers.unwrap().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["X-B", "X-A", "a"]);

    for (name, value) in [
        ("Host", "a"),
        ("CONTENT-LENGTH", "1"),
        ("transfer-encoding", "chunked"),
        ("Connection", "close"),
        ("X-A", "a\\r\\nX-B: b"),
        ("X-A", "a\\u0000"),
        ("X A", "a"),
        ("X-A:", "a"),
    ] {
        let text = format!(r#"{{"{name}":"{value}"}}"#);
        assert_eq!(faults("headers", &text), [format!("headers.{name}")]);
    }
    assert_eq!(faults("headers", r#"{"":"a"}"#), ["headers."]);
    assert_eq!(faults("headers", r#"{"X-A":"1","x-a":"2"}"#), ["headers.x-a"]);
    let large = format!(r#"{{"X-A":"{}"}}"#, "a".repeat(limits::HEADERS_BYTES_MAX));
    assert_eq!(faults("headers", &large), ["headers"]);
}

#[test]
fn a_value_that_is_no_string_in_headers_is_a_wrong_type() {
    let (_, issues) = read(r#"{"headers":{"X-A":1}}"#, false);
    assert!(issues.misshapen());
    assert_eq!(issues.list()[0].field, "headers.X-A");
}

#[test]
fn numbers_and_words_have_their_documented_bounds() {
    check_taken("timeout_sec", &["1", "300"]);
    check_refused("timeout_sec", &["0", "301", "-1", "1e99"]);
    check_taken("retry_max", &["0", "10"]);
    check_refused("retry_max", &["11", "-1"]);
    check_taken("retry_delay_sec", &["0", "86400"]);
    check_refused("retry_delay_sec", &["86401"]);
    check_taken("method", &["\"GET\"", "\"POST\"", "\"PUT\"", "\"PATCH\"", "\"DELETE\""]);
    check_refused("method", &["\"get\"", "\"HEAD\"", "\"\""]);
    check_taken("retry_policy", &["\"none\"", "\"fixed\"", "\"linear\"", "\"exponential\""]);
    check_refused("retry_policy", &["\"None\""]);
    check_taken("overlap_policy", &["\"allow\"", "\"skip\""]);
    check_taken("misfire_policy", &["\"run_once\"", "\"skip\""]);
    check_taken("delivery", &["\"at_least_once\"", "\"at_most_once\""]);
    check_taken("alert_channel_ids", &["null", "[]"]);
    assert_eq!(faults("alert_channel_ids", "[\"ch_00000000001\",\"ch_1\"]"), ["alert_channel_ids[1]"]);
}

#[test]
fn null_sets_only_what_can_be_nothing() {
    for field in ["space_id", "body", "alert_channel_ids"] {
        check_taken(field, &["null"]);
    }
    for field in ["name", "timezone", "headers", "tags", "timeout_sec", "method", "store_response_body"] {
        let (_, issues) = read(&format!(r#"{{"{field}":null}}"#), false);
        assert!(issues.misshapen(), "{field}");
    }
}
