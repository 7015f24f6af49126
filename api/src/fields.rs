//! Typed fields of a JSON object. All that is wrong is noted, and reading goes on, so that a client
//! learns of every mistake at once.

use crate::error::ApiError;
use crate::json::{Object, Value, Whole};
use serde::Serialize;
use std::borrow::Cow;
use std::fmt;
use std::ops::RangeInclusive;
use utoipa::ToSchema;

/// Mistakes listed in one answer: nobody reads more, and an answer must not outgrow its request.
const ISSUES_MAX: usize = 100;
/// Characters of a field's path in an answer: some paths end in a name that the client chose.
const FIELD_CHARS_MAX: usize = 200;

/// What is wrong with a field that is needed and is not there or has nothing in it (documented words).
pub(crate) const EMPTY: &str = "must not be empty";

/// A label of one line: not blank, bounded, without control characters.
pub(crate) fn label(text: &str, chars_max: usize) -> Result<String, Fault> {
    if text.trim().is_empty() {
        return Err(EMPTY.into());
    }
    if text.chars().count() > chars_max {
        return Err(format!("must have at most {chars_max} characters").into());
    }
    if text.chars().any(char::is_control) {
        return Err("must not contain control characters".into());
    }
    Ok(text.to_owned())
}

/// The words for a mistake. They read well behind the field's name.
pub(crate) type Fault = Cow<'static, str>;

/// One mistake, as the client sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Issue {
    /// The JSON path of the field, or the name of the query's parameter.
    pub field: String,
    /// What is wrong with it.
    pub issue: String,
}

/// All mistakes of one request.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Issues {
    list: Vec<Issue>,
    misshapen: bool,
    /// Whether the first one is the absence of a field.
    begins_with_absence: bool,
}

impl Issues {
    /// Notes something that no reader could make sense of: a wrong type, a missing or unknown field.
    pub(crate) fn shape(&mut self, field: impl Into<String>, fault: impl Into<Fault>) {
        self.misshapen = true;
        self.push(field.into(), fault.into());
    }

    /// Notes the absence of a field that must be there.
    pub(crate) fn missing(&mut self, field: impl Into<String>) {
        self.begins_with_absence |= self.list.is_empty();
        self.shape(field, EMPTY);
    }

    /// Notes a well-formed value that makes no sense.
    pub(crate) fn meaning(&mut self, field: impl Into<String>, fault: impl Into<Fault>) {
        self.push(field.into(), fault.into());
    }

    /// Notes everything that was noted elsewhere.
    pub(crate) fn absorb(&mut self, others: Self) {
        self.misshapen |= others.misshapen;
        self.begins_with_absence |= self.list.is_empty() && others.begins_with_absence;
        let room = ISSUES_MAX.saturating_sub(self.list.len());
        self.list.extend(others.list.into_iter().take(room));
    }

    fn push(&mut self, field: String, fault: Fault) {
        if self.list.len() < ISSUES_MAX {
            let field = match field.char_indices().nth(FIELD_CHARS_MAX) {
                Some((end, _)) => format!("{}…", &field[..end]),
                None => field,
            };
            self.list.push(Issue { field, issue: fault.into_owned() });
        }
    }

    /// Whether a mistake is one of shape; the whole request then counts as malformed.
    #[must_use]
    pub fn misshapen(&self) -> bool {
        self.misshapen
    }

    /// The mistakes in the order they were found.
    #[must_use]
    pub fn list(&self) -> &[Issue] {
        &self.list
    }

    /// Ends the request if there was a mistake.
    pub(crate) fn refuse(self) -> Result<(), ApiError> {
        if self.list.is_empty() { Ok(()) } else { Err(ApiError::Invalid(self)) }
    }
}

impl fmt::Display for Issues {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.list.first() {
            Some(Issue { field, .. }) if self.begins_with_absence => write!(f, "{field} is required"),
            Some(Issue { field, issue }) if field == ROOT => write!(f, "the request body {issue}"),
            Some(Issue { field, issue }) => write!(f, "{field} {issue}"),
            None => f.write_str("the request is not valid"),
        }
    }
}

/// The path of the whole body.
pub(crate) const ROOT: &str = "$";

/// A request with just this one mistake of shape.
pub(crate) fn misshapen(field: &str, fault: impl Into<Fault>) -> ApiError {
    let mut issues = Issues::default();
    issues.shape(field, fault);
    ApiError::Invalid(issues)
}

/// A request with just this one senseless value.
pub(crate) fn senseless(field: &str, fault: impl Into<Fault>) -> ApiError {
    let mut issues = Issues::default();
    issues.meaning(field, fault);
    ApiError::Invalid(issues)
}

/// Reads the fields of one object, each at most once. `None` from a reader means that the field is
/// absent or that a mistake was noted.
pub(crate) struct Fields<'a, 'i> {
    object: &'a Object,
    /// What stands before a field's name in its path.
    path: String,
    known: Vec<&'static str>,
    issues: &'i mut Issues,
}

impl<'a, 'i> Fields<'a, 'i> {
    /// The fields of `value`, which is found at `path` (empty for the whole body); `None` when it is
    /// no object.
    pub(crate) fn of(value: &'a Value, path: &str, issues: &'i mut Issues) -> Option<Self> {
        match value {
            Value::Object(object) => {
                let path = if path.is_empty() { String::new() } else { format!("{path}.") };
                Some(Self { object, path, known: Vec::new(), issues })
            }
            _ => {
                issues.shape(if path.is_empty() { ROOT } else { path }, "must be an object");
                None
            }
        }
    }

    /// Notes the absence of fields that must be there.
    pub(crate) fn require(&mut self, names: &[&str]) {
        for name in names {
            if !self.object.0.iter().any(|(known, _)| known == name) {
                self.issues.missing(format!("{}{name}", self.path));
            }
        }
    }

    /// Admits fields that a client may send but not set.
    pub(crate) fn ignore(&mut self, names: &[&'static str]) {
        self.known.extend(names);
    }

    /// Notes the fields that nobody asked for: a misspelt name must not pass silently.
    pub(crate) fn finish(self) {
        for (name, _) in &self.object.0 {
            if !self.known.contains(&name.as_str()) {
                self.issues.shape(format!("{}{name}", self.path), "is not a known field");
            }
        }
    }

    /// Notes a senseless value of a field, or of something inside it (`field` starts with its name).
    pub(crate) fn meaning(&mut self, field: impl fmt::Display, fault: impl Into<Fault>) {
        self.issues.meaning(format!("{}{field}", self.path), fault);
    }

    /// Notes a wrong type of a field, or of something inside it (`field` starts with its name).
    pub(crate) fn shape(&mut self, field: impl fmt::Display, fault: impl Into<Fault>) {
        self.issues.shape(format!("{}{field}", self.path), fault);
    }

    /// The raw value of a field.
    pub(crate) fn value(&mut self, name: &'static str) -> Option<&'a Value> {
        self.known.push(name);
        let mut found = self.object.0.iter().filter(|(known, _)| known == name).map(|(_, value)| value);
        let value = found.next();
        if found.next().is_some() {
            self.shape(name, "is given more than once");
            return None;
        }
        value
    }

    /// A string.
    pub(crate) fn text(&mut self, name: &'static str) -> Option<&'a str> {
        match self.value(name)? {
            Value::String(text) => Some(text),
            _ => {
                self.shape(name, "must be a string");
                None
            }
        }
    }

    /// A string that `parse` makes sense of.
    pub(crate) fn parsed<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&'a str) -> Result<T, Fault>,
    ) -> Option<T> {
        let text = self.text(name)?;
        self.sense(name, parse(text))
    }

    /// A string that `parse` makes sense of, or null.
    pub(crate) fn parsed_or_null<T>(
        &mut self,
        name: &'static str,
        parse: impl FnOnce(&'a str) -> Result<T, Fault>,
    ) -> Option<Option<T>> {
        match self.value(name)? {
            Value::Null => Some(None),
            Value::String(text) => self.sense(name, parse(text)).map(Some),
            _ => {
                self.shape(name, "must be a string or null");
                None
            }
        }
    }

    fn sense<T>(&mut self, field: impl fmt::Display, parsed: Result<T, Fault>) -> Option<T> {
        parsed.map_err(|fault| self.meaning(field, fault)).ok()
    }

    /// One of a few words.
    pub(crate) fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        all: &[T],
        word: fn(T) -> &'static str,
    ) -> Option<T> {
        self.parsed(name, |text| {
            all.iter().copied().find(|value| word(*value) == text).ok_or_else(|| {
                let words: Vec<_> = all.iter().map(|value| word(*value)).collect();
                format!("must be one of {}", words.join(", ")).into()
            })
        })
    }

    /// An integer within `range`.
    pub(crate) fn integer(&mut self, name: &'static str, range: RangeInclusive<u32>) -> Option<u32> {
        let Value::Whole(whole) = self.value(name)? else {
            self.shape(name, "must be an integer");
            return None;
        };
        let number = match whole {
            Whole::In(number) => u32::try_from(*number).ok().filter(|number| range.contains(number)),
            Whole::Beyond => None,
        };
        if number.is_none() {
            self.meaning(name, format!("must be between {} and {}", range.start(), range.end()));
        }
        number
    }

    /// True or false.
    pub(crate) fn boolean(&mut self, name: &'static str) -> Option<bool> {
        match self.value(name)? {
            Value::Bool(value) => Some(*value),
            _ => {
                self.shape(name, "must be true or false");
                None
            }
        }
    }

    /// An array of at most `count_max` strings that `parse` makes sense of.
    pub(crate) fn list<T>(
        &mut self,
        name: &'static str,
        count_max: usize,
        parse: impl Fn(&'a str) -> Result<T, Fault>,
    ) -> Option<Vec<T>> {
        let value = self.value(name)?;
        self.items(name, value, "must be an array of strings", count_max, parse)
    }

    /// As [`Fields::list`], or null.
    pub(crate) fn list_or_null<T>(
        &mut self,
        name: &'static str,
        count_max: usize,
        parse: impl Fn(&'a str) -> Result<T, Fault>,
    ) -> Option<Option<Vec<T>>> {
        match self.value(name)? {
            Value::Null => Some(None),
            value => {
                self.items(name, value, "must be an array of strings or null", count_max, parse).map(Some)
            }
        }
    }

    fn items<T>(
        &mut self,
        name: &'static str,
        value: &'a Value,
        wanted: &'static str,
        count_max: usize,
        parse: impl Fn(&'a str) -> Result<T, Fault>,
    ) -> Option<Vec<T>> {
        let Value::Array(items) = value else {
            self.shape(name, wanted);
            return None;
        };
        if items.len() > count_max {
            self.meaning(name, format!("must have at most {count_max} items"));
            return None;
        }
        let mut parsed = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let place = format!("{name}[{index}]");
            match item {
                Value::String(text) => parsed.extend(self.sense(place, parse(text))),
                _ => self.shape(place, "must be a string"),
            }
        }
        (parsed.len() == items.len()).then_some(parsed)
    }
}

#[cfg(test)]
mod tests;
