//! JSON as it was sent. Unlike a map, it keeps the order of an object's members and shows which are
//! there twice: a name that is given twice is a mistake whose victim nobody could guess.

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use std::fmt;

/// Any JSON value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Null,
    Bool(bool),
    /// A number without a fraction.
    Whole(Whole),
    /// A number with one.
    Fraction,
    String(String),
    Array(Vec<Value>),
    Object(Object),
}

/// A number without a fraction, however it was written: `30`, `30.0` and `3e1` are one number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Whole {
    In(i64),
    /// Outside what 64 bits hold, and therefore outside every range we know.
    Beyond,
}

/// The members of an object in the order given, duplicates included.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Object(pub(crate) Vec<(String, Value)>);

/// Parses a whole text.
///
/// # Errors
/// What is wrong and where. Nesting deeper than 128 is an error, not a stack overflow.
pub(crate) fn parse(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    serde_json::from_slice(bytes)
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Whole(Whole::In(value)))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Whole(i64::try_from(value).map_or(Whole::Beyond, Whole::In)))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        /// Up to here every whole number has a float of its own.
        const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
        Ok(if value.fract() != 0.0 {
            Value::Fraction
        } else if value.abs() <= EXACT_MAX {
            // In range, as has just been seen.
            Value::Whole(Whole::In(value as i64))
        } else {
            Value::Whole(Whole::Beyond)
        })
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Vec::new();
        while let Some(member) = members.next_entry()? {
            object.push(member);
        }
        Ok(Value::Object(Object(object)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn whole(number: i64) -> Value {
        Value::Whole(Whole::In(number))
    }

    #[test]
    fn numbers_are_what_they_mean() {
        for (text, expected) in [
            ("30", whole(30)),
            ("30.0", whole(30)),
            ("3e1", whole(30)),
            ("-0", whole(0)),
            ("-7", whole(-7)),
            ("1.5", Value::Fraction),
            ("18446744073709551615", Value::Whole(Whole::Beyond)),
            ("-1e30", Value::Whole(Whole::Beyond)),
        ] {
            assert_eq!(parse(text.as_bytes()).unwrap(), expected, "{text}");
        }
        assert!(parse(b"1e999").is_err());
    }

    #[test]
    fn objects_keep_order_and_duplicates() {
        let value = parse(br#"{"b":1,"a":null,"b":true}"#).unwrap();
        let members = [("b", whole(1)), ("a", Value::Null), ("b", Value::Bool(true))];
        let members = members.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(value, Value::Object(Object(members.to_vec())));
    }

    #[test]
    fn hostile_texts_are_errors() {
        let deep = [b"[".repeat(100_000), b"]".repeat(100_000)].concat();
        for text in [&deep[..], b"", b"{", b"{} {}", b"\"\\ud800\"", b"\"\xff\"", b"{\"a\":1,}", b"nul"] {
            assert!(parse(text).is_err());
        }
    }
}
