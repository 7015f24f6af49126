use super::*;
use serde_json::json;

#[test]
fn expressions_become_five_fields() {
    for (text, expected) in [
        ("*/5 * * * *", "*/5 * * * *"),
        ("* * * * * *", "* * * * *"),
        ("15 10 ? * *", "15 10 * * *"),
        ("0 12 * * ? ?", "0 12 * * *"),
        ("0/5 * * * *", "*/5 * * * *"),
        ("3/5 0/2 * 1/3 *", "3/5 */2 * */3 *"),
        ("0 0 1/5 * *", "0 0 1-31/5 * *"),
        ("0 0 * * 1/2", "0 0 * * 1-6/2"),
        ("0 0 * * MON/2", "0 0 * * MON-6/2"),
        ("0 9 * JUL MON-FRI", "0 9 * JUL MON-FRI"),
        ("0 0 1,2 * 3", "0 0 1,2 * 3"),
        ("0/20,7 0 * * *", "*/20,7 0 * * *"),
        (" 0  1 *\t* * ", "0 1 * * *"),
        ("@daily", "@daily"),
    ] {
        assert_eq!(expression(text).as_deref(), Ok(expected));
    }
}

#[test]
fn what_five_fields_cannot_hold_is_refused() {
    for text in [
        "@reboot",
        "* * * * * 2020",
        "15 10 * * * 2020-2022",
        "0 0 L * *",
        "0 0 * * 5L",
        "0 0 * * 5#3",
        "0 0 15W * *",
        "0 0 31 2 *",
        "* * * *",
        "* * * * * * *",
        "61 * * * *",
    ] {
        assert_eq!(expression(text), Err(format!("Unsupported cron expression: {text}")));
    }
    for nothing in ["", " \t"] {
        assert_eq!(expression(nothing).as_deref(), Err(&"it has no cron expression".to_owned()));
    }
}

#[test]
fn jobs_become_ours() {
    let plain = json!({
        "cron_job_id": 7, "cron_job_name": "Nightly", "url": "https://example.com/a", "cron_expression": "0 3 * * * *",
        "timezone": "Europe/Berlin", "http_method": "POST", "http_headers": "X-Key: k\r\nContent-Type: text/plain\n\nodd",
        "http_message_body": "a=b", "http_auth_user": "u", "http_auth_pw": "p", "timeout": 20, "status": 1,
        "success_criterion": 2, "success_regexp": "ok", "send_email": 2, "epds_occupied": 1, "group_id": 3,
    });
    let expected = Foreign {
        id: 7,
        name: "Nightly".to_owned(),
        url: "https://example.com/a".to_owned(),
        cron_expression: "0 3 * * *".to_owned(),
        timezone: "Europe/Berlin".to_owned(),
        method: "POST".to_owned(),
        timeout_sec: 20,
        headers: [("X-Key", "k"), ("Content-Type", "text/plain")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        credentials: Some(("u".to_owned(), "p".to_owned())),
        body: "a=b".to_owned(),
        warnings: vec![
            "a line of its headers is no header and was left out".to_owned(),
            "its success depended on the text of the answer; to JustRun every 2xx is a success".to_owned(),
        ],
        ..Foreign::default()
    };
    assert_eq!(convert(&plain), Ok(expected));
}

#[test]
fn the_retired_api_is_read_as_well() {
    let old = json!({
        "cron_job_id": "7", "cron_job_name": "", "url": "https://example.com/a", "cron_expression": "0 3 * * *",
        "http_method": "", "posts": "a=b", "auth_user": "", "auth_pw": "", "custom_timeout": "900", "status": "0",
        "criterion": "1",
    });
    let expected = Foreign {
        id: 7,
        url: "https://example.com/a".to_owned(),
        cron_expression: "0 3 * * *".to_owned(),
        timezone: "UTC".to_owned(),
        method: "GET".to_owned(),
        timeout_sec: 900,
        body: "a=b".to_owned(),
        paused: true,
        ..Foreign::default()
    };
    assert_eq!(convert(&old), Ok(expected));
    assert_eq!(name(&old), "example.com/a");
    let head = json!({"cron_job_id": 7, "url": "https://example.com", "http_method": "head"});
    assert_eq!(convert(&head), Err("Unsupported HTTP method HEAD".to_owned()));
}
