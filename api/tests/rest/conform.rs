//! Every answer that any test gets is compared with the OpenAPI document: the status and the content type are
//! documented, the body and its code are as the schema says. What a test sends successfully must be a body that the
//! document allows.

use crate::service::Answer;
use jsonschema::Validator;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

/// The document as it is committed.
pub(crate) static DOCUMENT: LazyLock<Value> =
    LazyLock::new(|| serde_json::from_str(include_str!("../../openapi.json")).expect("the document is JSON"));

/// Validators by the place of their schema in the document.
static VALIDATORS: LazyLock<Mutex<HashMap<String, Arc<Validator>>>> = LazyLock::new(Mutex::default);

/// The operation that a request asks for; `None` when the document has no such path or method.
fn operation(method: &str, path: &str) -> Option<(String, &'static Value)> {
    let path = path.split('?').next().unwrap_or_default();
    let method = if method == "HEAD" { "get" } else { &method.to_lowercase() };
    let (template, item) = template(path)?;
    let place = format!("/paths/{}/{method}", template.replace('~', "~0").replace('/', "~1"));
    item.get(method).map(|operation| (place, operation))
}

/// The path of the document that `path` is an instance of; one that is spelt out beats one with a parameter.
fn template(path: &str) -> Option<(&'static str, &'static Value)> {
    let paths = DOCUMENT["paths"].as_object().expect("the document has paths");
    let fits = |template: &str| {
        let (ours, theirs): (Vec<_>, Vec<_>) = (template.split('/').collect(), path.split('/').collect());
        ours.len() == theirs.len()
            && ours.iter().zip(theirs).all(|(a, b)| *a == b || (*a == "{id}" && !b.is_empty()))
    };
    let found = paths.iter().filter(|(template, _)| fits(template));
    found
        .min_by_key(|(template, _)| template.matches('{').count())
        .map(|(template, item)| (template.as_str(), item))
}

/// The schema at `pointer` with all that it may refer to.
fn validator(pointer: String) -> Arc<Validator> {
    // A test that failed in here has left the map whole.
    let mut known = VALIDATORS.lock().unwrap_or_else(PoisonError::into_inner);
    let made = known.entry(pointer).or_insert_with_key(|pointer| {
        let mut schema = DOCUMENT.pointer(pointer).cloned().expect("a schema is there");
        schema["components"] = DOCUMENT["components"].clone();
        Arc::new(jsonschema::draft202012::new(&schema).expect("the document's schemas are valid"))
    });
    Arc::clone(made)
}

fn faults(pointer: String, value: &Value) -> Vec<String> {
    validator(pointer).iter_errors(value).map(|error| format!("{}: {error}", error.instance_path())).collect()
}

/// Checks what was answered to a request.
#[track_caller]
pub(crate) fn check_answer(method: &str, path: &str, answer: &Answer) {
    let status = answer.status.as_u16();
    let Some((place, operation)) = operation(method, path) else {
        assert!(
            [404, 405, 204].contains(&status) || path.starts_with("/docs"),
            "{method} {path}: {answer:?}"
        );
        return;
    };
    let Some(mut response) = operation["responses"].get(status.to_string()) else {
        panic!("{method} {path}: the document knows no answer {status}: {answer:?}");
    };
    let mut place = format!("{place}/responses/{status}");
    if let Some(reference) = response.get("$ref").and_then(Value::as_str) {
        place = reference.trim_start_matches('#').to_owned();
        response = DOCUMENT.pointer(&place).expect("a reference leads somewhere");
    }
    let empty = Map::new();
    let content = response.get("content").and_then(Value::as_object).unwrap_or(&empty);
    if method == "HEAD" || answer.text.is_empty() {
        assert!(content.is_empty() || method == "HEAD", "{method} {path}: no body in {answer:?}");
        return;
    }
    let kind = answer.headers["content-type"].to_str().expect("a type is a text");
    let kind = kind.split(';').next().unwrap_or_default();
    assert!(
        content.contains_key(kind),
        "{method} {path}: the document knows no {kind} with {status}: {answer:?}"
    );
    if kind == "application/json" {
        let pointer = format!("{place}/content/application~1json/schema");
        let faults = faults(pointer, &answer.json());
        assert!(faults.is_empty(), "{method} {path}: {faults:#?} in {answer:?}");
    }
}

/// Checks the body of a request that was answered with success.
#[track_caller]
pub(crate) fn check_request(method: &str, path: &str, body: &Value, answer: &Answer) {
    let Some((place, operation)) = operation(method, path) else { return };
    // An import lists the jobs that are not as they should be, and succeeds.
    let all_taken = answer.text.is_empty() || answer.json()["data"]["skipped"].as_u64().unwrap_or(0) == 0;
    if all_taken && operation.get("requestBody").is_some() {
        let faults = faults(format!("{place}/requestBody/content/application~1json/schema"), body);
        assert!(faults.is_empty(), "{method} {path} took what the document forbids: {faults:#?} in {body}");
    }
}

#[test]
fn paths_are_found_by_their_templates() {
    let found = |path| template(path).map(|(template, _)| template);
    assert_eq!(found("/v1/jobs/bulk"), Some("/v1/jobs/bulk"));
    assert_eq!(found("/v1/jobs/job_1"), Some("/v1/jobs/{id}"));
    assert_eq!(found("/v1/jobs/"), None);
    assert_eq!(
        operation("GET", "/v1/jobs?page=2").map(|(place, _)| place).as_deref(),
        Some("/paths/~1v1~1jobs/get")
    );
    assert_eq!(operation("PUT", "/v1/jobs"), None);
}

#[test]
fn a_body_that_is_not_as_documented_is_noticed() {
    let pointer = || "/components/schemas/Error".to_owned();
    assert_eq!(faults(pointer(), &json!({"error": {"code": "conflict", "message": "no"}})), [""; 0]);
    for wrong in [
        json!({}),
        json!({"error": {"code": "whatever", "message": "no"}}),
        json!({"error": {"code": "conflict"}}),
    ] {
        assert_ne!(faults(pointer(), &wrong), [""; 0], "{wrong}");
    }
}
