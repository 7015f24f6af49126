use super::*;
use domain::schedule::Schedule;
use serde_json::json;

/// 2026-04-10T14:22:00Z
const NOW: Timestamp = Timestamp::from_secs(1_775_830_920);

/// Minutes, hours, days, months, weekdays.
fn schedule(sets: [Value; 5]) -> Value {
    let [minutes, hours, mdays, months, wdays] = sets;
    json!({
        "timezone": "Europe/Berlin", "expiresAt": 0,
        "minutes": minutes, "hours": hours, "mdays": mdays, "months": months, "wdays": wdays,
    })
}

fn every() -> Value {
    json!([-1])
}

fn numbers(range: std::ops::RangeInclusive<i64>) -> Value {
    range.collect::<Vec<_>>().into()
}

#[test]
fn sets_become_fields() {
    for (sets, expected) in [
        ([every(), every(), every(), every(), every()], "* * * * *"),
        ([json!([0]), json!([3]), every(), every(), every()], "0 3 * * *"),
        ([json!([45, 0, 15, 30, 15]), every(), every(), every(), every()], "*/15 * * * *"),
        ([json!([0, 30]), json!([0, 12]), every(), every(), every()], "0,30 0,12 * * *"),
        ([json!([5, -1]), every(), every(), every(), every()], "* * * * *"),
        ([numbers(0..=59), numbers(0..=23), every(), numbers(1..=12), every()], "* * * * *"),
        ([json!([0]), json!([8, 9, 10, 11, 17, 20, 21]), every(), every(), every()], "0 8-11,17,20,21 * * *"),
        ([json!([0]), json!([0]), json!([1, 15]), json!([1, 4, 7, 10]), every()], "0 0 1,15 */3 *"),
        // A full set of days is restricted all the same: together with the other, either may match.
        ([json!([0]), json!([0]), numbers(1..=31), every(), json!([1])], "0 0 1-31 * 1"),
        ([json!([0]), json!([0]), json!([13]), every(), numbers(0..=6)], "0 0 13 * 0-6"),
        ([json!([0]), json!([0]), json!([1, 11, 21, 31]), every(), json!([0])], "0 0 1,11,21,31 * 0"),
        ([json!({"0": 0, "2": 30}), every(), every(), every(), json!([0, 6])], "0,30 * * * 0,6"),
    ] {
        let found = expression(&schedule(sets)).unwrap();
        assert_eq!(found, expected);
        Schedule::parse(&found, "UTC").unwrap();
    }
}

#[test]
fn schedules_that_never_fire_are_refused() {
    for (sets, expected) in [
        ([json!([0]), json!([]), every(), every(), every()], "its schedule has no hours"),
        ([json!([0]), every(), json!([]), every(), every()], "its schedule has no days of the month"),
        ([json!([60]), every(), every(), every(), every()], "its schedule has 60 among its minutes"),
        ([Value::Null, every(), every(), every(), every()], "its schedule has no minutes"),
    ] {
        assert_eq!(expression(&schedule(sets)), Err(expected.to_owned()));
    }
}

fn job(changes: &Value) -> Value {
    let mut job = json!({
        "jobId": 12345, "enabled": true, "title": "Nightly", "saveResponses": false, "url": "https://example.com/a",
        "lastStatus": 1, "lastDuration": 120, "lastExecution": 1, "nextExecution": 2, "type": 0,
        "requestTimeout": 60, "redirectSuccess": false, "folderId": 0, "requestMethod": 0,
        "schedule": schedule([json!([0]), json!([3]), every(), every(), every()]),
        "auth": {"enable": false, "user": "", "password": ""},
        "notification": {"onFailure": true, "onFailureCount": 1, "onSuccess": true, "onDisable": true},
        "extendedData": {"headers": [], "body": ""},
    });
    for (name, value) in changes.as_object().unwrap() {
        job[name] = value.clone();
    }
    job
}

fn plain() -> Foreign {
    Foreign {
        id: 12_345,
        name: "Nightly".to_owned(),
        url: "https://example.com/a".to_owned(),
        cron_expression: "0 3 * * *".to_owned(),
        timezone: "Europe/Berlin".to_owned(),
        method: "GET".to_owned(),
        timeout_sec: 60,
        ..Foreign::default()
    }
}

#[test]
fn jobs_become_ours() {
    assert_eq!(convert(&job(&json!({})), None, NOW), Ok(plain()));
    let rich = job(&json!({
        "enabled": false, "saveResponses": true, "requestMethod": 8, "requestTimeout": -1, "redirectSuccess": true,
        "auth": {"enable": true, "user": "u", "password": "p"},
        "extendedData": {"headers": {"X-Key": "k", "X-Number": 5}, "body": "{}"},
    }));
    let expected = Foreign {
        method: "PATCH".to_owned(),
        timeout_sec: -1,
        headers: vec![("X-Key".to_owned(), "k".to_owned()), ("X-Number".to_owned(), "5".to_owned())],
        credentials: Some(("u".to_owned(), "p".to_owned())),
        body: "{}".to_owned(),
        store_response_body: true,
        tags: vec!["Backups".to_owned()],
        paused: true,
        warnings: vec!["a redirect was a success there; to JustRun it is a failure".to_owned()],
        ..plain()
    };
    assert_eq!(convert(&rich, Some("Backups"), NOW), Ok(expected));
}

#[test]
fn what_we_cannot_hold_is_refused() {
    for (changes, expected) in [
        (json!({"requestMethod": 3}), "Unsupported HTTP method HEAD"),
        (json!({"requestMethod": 2}), "Unsupported HTTP method OPTIONS"),
        (json!({"requestMethod": 99}), "Unsupported HTTP method 99"),
        (json!({"schedule": null}), "its schedule has no minutes"),
    ] {
        assert_eq!(convert(&job(&changes), None, NOW), Err(expected.to_owned()));
        assert_eq!(listed(&job(&changes), NOW).unwrap().refused.as_deref(), Some(expected));
    }
    let listed = listed(&job(&json!({"title": "", "folderId": 3})), NOW).unwrap();
    assert_eq!((listed.name.as_str(), listed.folder, listed.refused), ("example.com/a", 3, None));
}

#[test]
fn an_end_counts_to_the_minute_on_the_jobs_clock() {
    // The clocks of Berlin show 16:22.
    let mut job = job(&json!({}));
    let mut check = |expires_at: u64, expected: Result<usize, &str>| {
        job["schedule"]["expiresAt"] = expires_at.into();
        let found = convert(&job, None, NOW).map(|foreign| foreign.warnings.len());
        assert_eq!(found, expected.map_err(str::to_owned), "{expires_at}");
    };
    check(20_260_410_162_159, Err("it ended on 2026-04-10"));
    check(20_260_410_162_200, Ok(1));
    check(20_270_101_000_000, Ok(1));
    check(0, Ok(0));
}
