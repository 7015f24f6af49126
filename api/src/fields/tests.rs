use super::*;
use crate::json;

/// Reads `text` as an object and returns the mistakes as `field: issue`, and whether one is of shape.
fn check(text: &str, read: impl FnOnce(&mut Fields<'_, '_>), expected: &[&str], misshapen: bool) {
    let value = json::parse(text.as_bytes()).unwrap();
    let mut issues = Issues::default();
    if let Some(mut fields) = Fields::of(&value, "", &mut issues) {
        read(&mut fields);
        fields.finish();
    }
    let found: Vec<_> = issues.list().iter().map(|i| format!("{}: {}", i.field, i.issue)).collect();
    assert_eq!(found, expected, "{text}");
    assert_eq!(issues.misshapen(), misshapen, "{text}");
}

fn number(fields: &mut Fields<'_, '_>) {
    fields.integer("n", 1..=300);
}

#[test]
fn integers_have_a_type_and_a_range() {
    check(r#"{"n":30}"#, number, &[], false);
    check(r#"{"n":30.0}"#, number, &[], false);
    check(r#"{}"#, number, &[], false);
    for text in ["0", "301", "-1", "99999999999999999999", "1e300", "4294967297"] {
        check(&format!(r#"{{"n":{text}}}"#), number, &["n: must be between 1 and 300"], false);
    }
    for text in ["\"30\"", "null", "true", "1.5", "[1]", "{}"] {
        check(&format!(r#"{{"n":{text}}}"#), number, &["n: must be an integer"], true);
    }
}

#[test]
fn lists_say_which_item_is_wrong() {
    let read = |fields: &mut Fields<'_, '_>| {
        let all = fields.list("tags", 3, |text| if text.is_empty() { Err(EMPTY.into()) } else { Ok(()) });
        assert!(all.is_none());
    };
    check(r#"{"tags":["a","",7]}"#, read, &["tags[1]: must not be empty", "tags[2]: must be a string"], true);
    check(r#"{"tags":["a","b","c","d"]}"#, read, &["tags: must have at most 3 items"], false);
    check(r#"{"tags":"a"}"#, read, &["tags: must be an array of strings"], true);
}

#[test]
fn unknown_missing_and_repeated_fields_are_named() {
    let read = |fields: &mut Fields<'_, '_>| {
        fields.require(&["name", "url"]);
        fields.text("name");
        fields.text("url");
        fields.ignore(&["id"]);
    };
    check(
        r#"{"name":"a","id":5,"nmae":"b","name":"c"}"#,
        read,
        &["url: must not be empty", "name: is given more than once", "nmae: is not a known field"],
        true,
    );
    check("[]", read, &["$: must be an object"], true);
}

#[test]
fn null_is_a_value_only_where_it_means_something() {
    let read = |fields: &mut Fields<'_, '_>| {
        assert_eq!(fields.parsed_or_null("body", |text| Ok(text.len())), Some(None));
        assert_eq!(fields.text("name"), None);
    };
    check(r#"{"body":null,"name":null}"#, read, &["name: must be a string"], true);
}

#[test]
fn choices_are_exact_and_listed() {
    let read = |fields: &mut Fields<'_, '_>| {
        fields.choice("policy", &[true, false], |yes| if yes { "yes" } else { "no" });
    };
    check(r#"{"policy":"no"}"#, read, &[], false);
    check(r#"{"policy":"No"}"#, read, &["policy: must be one of yes, no"], false);
}

#[test]
fn the_message_is_the_first_mistake_in_the_documented_words() {
    let message = |field: &str, fault: &'static str| misshapen(field, fault).to_string();
    let mut absent = Issues::default();
    absent.missing("cron_expression");
    absent.meaning("tags[0]", EMPTY);
    assert_eq!(absent.to_string(), "cron_expression is required");
    assert_eq!(absent.list()[0].issue, EMPTY);
    let mut others = Issues::default();
    others.absorb(absent);
    assert_eq!(others.to_string(), "cron_expression is required");
    assert_eq!(message("tags[0]", EMPTY), "tags[0] must not be empty", "it was given");
    assert_eq!(message("timeout_sec", "must be an integer"), "timeout_sec must be an integer");
    assert_eq!(message(ROOT, "must be an object"), "the request body must be an object");
}

#[test]
fn an_answer_does_not_outgrow_its_request() {
    let mut issues = Issues::default();
    for _ in 0..1_000 {
        issues.meaning("é".repeat(10_000), "is not a known field");
    }
    assert_eq!(issues.list().len(), ISSUES_MAX);
    assert_eq!(issues.list()[0].field.chars().count(), FIELD_CHARS_MAX + 1);
}
