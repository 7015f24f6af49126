//! The OpenAPI document: committed, complete, and true.

use crate::conform::DOCUMENT;
use crate::isolation::routes;
use crate::service::{Service, request};
use hyper::StatusCode;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Where the document is committed.
const COMMITTED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/openapi.json");
/// Set it to `write` to commit the document as it is now.
const SWITCH: &str = "OPENAPI";

#[tokio::test]
async fn the_committed_document_is_the_one_that_is_served() {
    let service = Service::start().await;
    // Not through what compares answers with the committed document, which is what may be wrong.
    let (answer, served) = service.send_raw(request("", "GET", "/openapi.json", "")).await;
    assert_eq!(answer.status, StatusCode::OK);
    let served = format!("{}\n", std::str::from_utf8(&served).unwrap());
    if std::env::var(SWITCH).is_ok_and(|value| value == "write") {
        std::fs::write(COMMITTED, &served).unwrap();
    }
    let committed = std::fs::read_to_string(COMMITTED).unwrap();
    assert!(served == committed, "the document has changed; look at it, and run this with {SWITCH}=write");
}

/// Every route of the table is in the document and the other way round, with all its methods.
#[test]
fn every_route_is_documented() {
    let mut documented = BTreeSet::new();
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        documented
            .extend(item.as_object().unwrap().keys().map(|method| (method.to_uppercase(), path.clone())));
    }
    let routes: BTreeSet<_> = routes().into_iter().map(|(method, path)| (method.to_owned(), path)).collect();
    assert_eq!(routes, documented);
}

#[test]
fn every_operation_says_what_it_does_and_how_it_refuses() {
    let mut names = BTreeSet::new();
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let place = format!("{method} {path}");
            for text in ["summary", "description", "operationId"] {
                assert!(operation[text].as_str().is_some_and(|text| text.len() > 4), "{place} has no {text}");
            }
            assert!(names.insert(operation["operationId"].as_str().unwrap()), "{place}: its name is taken");
            let tag = &operation["tags"][0];
            assert!(
                DOCUMENT["tags"].as_array().unwrap().iter().any(|known| known["name"] == *tag),
                "{place}"
            );
            let answers = operation["responses"].as_object().unwrap();
            assert!(answers.keys().any(|status| status.starts_with('2')), "{place}");
            if path.starts_with("/v1/") {
                for status in ["429", "500", "503"] {
                    assert!(answers.contains_key(status), "{place} says nothing of {status}");
                }
            }
        }
    }
}

/// Whatever a body may hold is read: a wrong type is complained of by name, and every bound of the document is one
/// that the reader knows.
#[tokio::test]
async fn every_field_of_a_body_is_read_within_its_bounds() {
    let service = Service::start().await;
    let job = service.make_job().await;
    let space = service.call("POST", "/v1/spaces", json!({"name": "a"})).await.data(201)["id"].clone();
    let channel = json!({"type": "email", "name": "a", "config": {"addresses": ["a@example.com"]}});
    let channel = service.call("POST", "/v1/alerts/channels", channel).await.data(201)["id"].clone();
    let mut probed = 0;
    for (path, item) in DOCUMENT["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let Some(body) = operation.pointer("/requestBody/content/application~1json/schema/$ref") else {
                continue;
            };
            let fields =
                DOCUMENT.pointer(&body.as_str().unwrap()[1..]).unwrap()["properties"].as_object().unwrap();
            let id = match path {
                path if path.contains("spaces") => space.as_str().unwrap().to_owned(),
                path if path.contains("channels") => channel.as_str().unwrap().to_owned(),
                _ => job.to_string(),
            };
            let path = path.replace("{id}", &id);
            for (name, field) in fields {
                if field["readOnly"] == true {
                    continue;
                }
                for (value, status) in beyond(field) {
                    let mut body = json!({ name: value });
                    if name == "config" {
                        // What it may be depends on the type.
                        body["type"] = json!("email");
                    }
                    let answer = service.call(&method.to_uppercase(), &path, body).await;
                    let details = answer.json()["error"]["details"].clone();
                    let named = details.as_array().is_some_and(|details| {
                        details.iter().any(|detail| {
                            let at = detail["field"].as_str().unwrap();
                            at == name
                                || at.starts_with(&format!("{name}["))
                                || at.starts_with(&format!("{name}."))
                        })
                    });
                    assert!(named, "{method} {path} takes {name}: {value}: {answer:?}");
                    // A required field that is missing makes all of it a matter of shape.
                    let missing = answer.status == StatusCode::BAD_REQUEST;
                    assert!(answer.status == status || missing, "{method} {path}, {name}: {answer:?}");
                    probed += 1;
                }
            }
        }
    }
    assert!(probed > 120, "{probed} probes are too few for so many fields");
}

/// Values just beyond what `field` allows, and how they are refused.
fn beyond(field: &Value) -> Vec<(Value, StatusCode)> {
    let mut values = vec![(json!(true), StatusCode::BAD_REQUEST)];
    if field["type"] == "boolean" {
        values[0].0 = json!("true");
    }
    let mut senseless = |value: Value| values.push((value, StatusCode::UNPROCESSABLE_ENTITY));
    let number = |name: &str| field[name].as_u64().map(|bound| usize::try_from(bound).unwrap());
    if let Some(min) = field["minimum"].as_i64() {
        senseless(json!(min - 1));
    }
    if let Some(max) = field["maximum"].as_i64() {
        senseless(json!(max + 1));
    }
    if field["enum"].is_array() {
        senseless(json!("whatever"));
    }
    if let Some(max) = number("maxLength") {
        senseless(json!("a".repeat(max + 1)));
    }
    if let Some(min) = number("minLength") {
        senseless(json!("a".repeat(min - 1)));
    }
    if let Some(max) = number("maxItems") {
        senseless(json!(vec!["a"; max + 1]));
    }
    if let Some(min) = number("minItems") {
        senseless(json!(vec!["a"; min - 1]));
    }
    if let Some(max) = number("maxProperties") {
        let members: serde_json::Map<_, _> = (0..=max).map(|n| (format!("a{n}"), json!("a"))).collect();
        senseless(Value::Object(members));
    }
    values
}

/// All that the page needs comes from the node itself.
#[tokio::test]
async fn the_page_needs_nothing_from_outside() {
    let service = Service::start().await;
    let page = service.send(request("", "GET", "/docs", "")).await;
    assert_eq!((page.status, page.headers["location"].to_str().unwrap()), (StatusCode::SEE_OTHER, "/docs/"));
    let (page, _) = service.send_raw(request("", "GET", "/docs/", "")).await;
    assert_eq!(page.status, StatusCode::OK);
    let policy = page.headers["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'self';"), "{policy}");
    for file in [
        "swagger-ui.css",
        "swagger-ui-bundle.js",
        "swagger-ui-standalone-preset.js",
        "swagger-initializer.js",
    ] {
        let (parts, bytes) = service.send_raw(request("", "GET", &format!("/docs/{file}"), "")).await;
        assert_eq!(parts.status, StatusCode::OK, "{file}");
        assert!(!bytes.is_empty(), "{file}");
    }
}
