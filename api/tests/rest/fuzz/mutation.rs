//! Documented bodies, and what becomes of them in the hands of a stranger: the texts of JSON as they travel, so that
//! they can be wrong in every way in which a text can.

use rand::rngs::SmallRng;
use rand::{Rng, RngExt};
use serde_json::Value;

/// A JSON text in parts.
#[derive(Clone, Debug)]
enum Node {
    /// Anything without parts, as it is written.
    Raw(String),
    Array(Vec<Node>),
    /// Names are as they are written, quotes included.
    Object(Vec<(String, Node)>),
}

/// How deep a reader may be led: beyond what any takes.
const DEPTH: usize = 300;
const LONG: usize = 20_000;

/// Values that are no value anywhere, or that somebody somewhere takes for one.
const RAW: &[&str] = &[
    "null",
    "true",
    "false",
    "0",
    "-0",
    "-1",
    "1",
    "2",
    "1.5",
    "1e999",
    "-1e999",
    "1e-999",
    "0.0",
    "30.0",
    "3e1",
    "9223372036854775807",
    "9223372036854775808",
    "-9223372036854775809",
    "18446744073709551616",
    "4294967296",
    "NaN",
    "Infinity",
    "01",
    "+1",
    "0x10",
    "[]",
    "{}",
    "[[]]",
    "[null]",
    "{\"a\":1}",
    "\"\"",
    "\" \"",
    "\"\\u0000\"",
    "\"a\\u0000b\"",
    "\"\\ud800\"",
    "\"\\udc00\\ud800\"",
    "\"\\ud83d\\ude00\"",
    "\"a\\r\\nX-Injected: 1\"",
    "\"\\u202e\"",
    "\"\u{7f}\u{9b}\"",
    "\"<script>alert(1)</script>\"",
    "\"{{job_name}}\"",
    "\"{{\"",
    "\"../../etc/passwd\"",
    "\"%00\"",
    "\"' OR 1=1 --\"",
    "undefined",
    "'single'",
    "\"unclosed",
    "\"\\x\"",
    "/* */ 1",
    ",",
    "\u{feff}1",
    "\"\u{feff}\"",
    "\"GET\"",
    "\"get\"",
    "\"TRACE\"",
    "\"CONNECT\"",
    "\"exponential\"",
    "\"pause\"",
    "\"delete\"",
    "\"slack\"",
    "\"webhook\"",
    "\"email\"",
    "\"job.failed\"",
    "[\"job.failed\",\"job.failed\"]",
    "\"* * * * *\"",
    "\"@every 1s\"",
    "\"@every 99999999999999999999h\"",
    "\"@reboot\"",
    "\"0 0 31 2 *\"",
    "\"*/0 * * * *\"",
    "\"0 0 29 2 1\"",
    "\"60 * * * *\"",
    "\"5-1 * * * *\"",
    "\"*/99999999999999999999 * * * *\"",
    "\"\u{663} * * * *\"",
    "\"UTC\"",
    "\"Asia/Calcutta\"",
    "\"../UTC\"",
    "\"Etc/GMT+14\"",
    "\"europe/berlin\"",
    "\"https://example.com\"",
    "\"https://[::1]:1/\"",
    "\"https://\"",
    "\"https://user:pw@example.com/\"",
    "\"https://example.com:99999/\"",
    "\"https://exa mple.com/\"",
    "\"HTTPS://EXAMPLE.COM\"",
    "\"https://ex\\u00e4mple.com/\\u00fc?\\u00e9#x\"",
    "\"javascript:alert(1)\"",
    "\"file:///etc/passwd\"",
    "\"http://127.0.0.1\"",
    "\"https://example.com/\\r\\nHost: x\"",
    "\"https://example.com/{{job_id}}?a={{attempt}}\"",
    "\"https://xn--/\"",
    "\"https://0x7f.1/\"",
    "\"a@b\"",
    "\"a@b.example\"",
    "\"\\\"a b\\\"@c.example\"",
    "\"a@b.example, c@d.example\"",
    "\"a\\r\\nBcc: x@y.example\"",
    "\"job_0000000000\"",
    "\"job_zzzzzzzzzzzzzzzzzzzzzz\"",
    "\"sp_0000000001\"",
    "\"ch_0000000000\"",
    "{\"X-A\":\"1\",\"x-a\":\"2\"}",
    "{\"Host\":\"x\"}",
    "{\"X-A\":\"a\\r\\nb\"}",
    "{\"\":\"\"}",
    "{\"X A\":\"1\"}",
    "{\"X-A\":1}",
    "{\"X-\\u00e4\":\"\\u00e4\"}",
    "{\"Content-Length\":\"1\"}",
    "{\"__proto__\":{}}",
    "[\"a\",\"a\"]",
    "[\"\"]",
    "[1,2]",
    "[[[[]]]]",
    "{\"addresses\":[]}",
    "{\"webhook_url\":\"https://hooks.slack.com/\"}",
];

/// Names that a body may have where they do not belong.
const NAMES: &[&str] = &[
    "id",
    "status",
    "created_at",
    "next_run_at",
    "name",
    "url",
    "body",
    "headers",
    "tags",
    "space_id",
    "timezone",
    "config",
    "secret",
    "jobs",
    "job_ids",
    "action",
    "email",
    "password",
    "api_key",
    "price_id",
    "account",
    "plan",
    "__proto__",
    "",
    "\\u0000",
    "\\ud800",
    "a.b",
    "name ",
    "Name",
    "n\\u0061me",
];

fn parts(value: &Value) -> Node {
    match value {
        Value::Array(items) => Node::Array(items.iter().map(parts).collect()),
        Value::Object(members) => {
            let member =
                |(name, value): (&String, &Value)| (Value::from(name.as_str()).to_string(), parts(value));
            Node::Object(members.iter().map(member).collect())
        }
        other => Node::Raw(other.to_string()),
    }
}

impl Node {
    fn write(&self, out: &mut String) {
        match self {
            Self::Raw(text) => out.push_str(text),
            Self::Array(items) => {
                out.push('[');
                for (index, item) in items.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    item.write(out);
                }
                out.push(']');
            }
            Self::Object(members) => {
                out.push('{');
                for (index, (name, value)) in members.iter().enumerate() {
                    out.push_str(if index > 0 { "," } else { "" });
                    out.push_str(name);
                    out.push(':');
                    value.write(out);
                }
                out.push('}');
            }
        }
    }

    /// Some part of it: itself, or something deeper.
    fn some_part(&mut self, random: &mut SmallRng) -> &mut Self {
        let count = match self {
            Self::Raw(_) => 0,
            Self::Array(items) => items.len(),
            Self::Object(members) => members.len(),
        };
        if count == 0 || random.random_bool(0.2) {
            return self;
        }
        let chosen = random.random_range(0..count);
        match self {
            Self::Array(items) => items[chosen].some_part(random),
            Self::Object(members) => members[chosen].1.some_part(random),
            Self::Raw(_) => self,
        }
    }

    fn mutate(&mut self, random: &mut SmallRng) {
        let other = some_value(random);
        match self.some_part(random) {
            Self::Array(items) => match (random.random_range(0..6), items.len()) {
                (0, 1..) => drop(items.remove(random.random_range(0..items.len()))),
                (1, 1..) => {
                    let copy = items[random.random_range(0..items.len())].clone();
                    items.push(copy);
                }
                (2, 1..) => *items = vec![items[0].clone(); random.random_range(2..1_200)],
                (3 | 4, _) => items.insert(random.random_range(0..=items.len()), other),
                _ => items.clear(),
            },
            Self::Object(members) => match (random.random_range(0..6), members.len()) {
                (0, 1..) => drop(members.remove(random.random_range(0..members.len()))),
                (1, 1..) => {
                    let (name, _) = &members[random.random_range(0..members.len())];
                    members.push((name.clone(), other));
                }
                (2, 1..) => members[0].0 = some_name(random),
                (3 | 4, _) => {
                    members.insert(random.random_range(0..=members.len()), (some_name(random), other))
                }
                _ => members.clear(),
            },
            part @ Self::Raw(_) => *part = other,
        }
    }
}

fn some_name(random: &mut SmallRng) -> String {
    format!("\"{}\"", pick(NAMES, random))
}

pub(super) fn pick<'a, T>(all: &'a [T], random: &mut SmallRng) -> &'a T {
    &all[random.random_range(0..all.len())]
}

fn some_value(random: &mut SmallRng) -> Node {
    Node::Raw(match random.random_range(0..20) {
        0 => format!("1{}", "0".repeat(400)),
        1 => format!("{}0{}", "[".repeat(DEPTH), "]".repeat(DEPTH)),
        2 => format!("{}0{}", "{\"a\":".repeat(DEPTH), "}".repeat(DEPTH)),
        3 => format!("\"{}\"", "x".repeat(random.random_range(1..LONG))),
        4 => format!("\"{}\"", "\u{1f468}\u{200d}\u{1f469}".repeat(random.random_range(1..300))),
        5 => random.random::<i64>().to_string(),
        6 => format!("\"{}\"", some_text(random)),
        _ => (*pick(RAW, random)).to_owned(),
    })
}

/// A short text of characters that mean something to somebody.
pub(super) fn some_text(random: &mut SmallRng) -> String {
    const CHARACTERS: &[char] = &[
        'a',
        'Z',
        '0',
        '9',
        ' ',
        '/',
        '.',
        '%',
        '&',
        '=',
        '?',
        '#',
        '<',
        '>',
        '\'',
        '{',
        '}',
        '*',
        ',',
        '-',
        '@',
        ':',
        ';',
        '_',
        '+',
        '\u{e4}',
        '\u{1f600}',
        '\u{202e}',
    ];
    (0..random.random_range(0..20)).map(|_| *pick(CHARACTERS, random)).collect()
}

/// The text of `body` after a few mutations, now and then spoilt as a text.
pub(super) fn mutated(body: &Value, random: &mut SmallRng) -> Vec<u8> {
    let mut node = parts(body);
    for _ in 0..random.random_range(0..4) {
        node.mutate(random);
    }
    let mut text = String::new();
    node.write(&mut text);
    let mut bytes = text.into_bytes();
    if random.random_bool(0.2) {
        spoil(&mut bytes, random);
    }
    bytes
}

/// Damages a text anywhere.
pub(super) fn spoil(bytes: &mut Vec<u8>, random: &mut SmallRng) {
    const PIECES: &[&[u8]] = &[
        b"\xef\xbb\xbf",
        b"\xff\xfe",
        b"\0",
        b"\xc3\x28",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\r\n",
        b"\\",
        b"\"",
        b"{",
        b"]",
        b",,",
        b"\x1f\x8b",
    ];
    let at = random.random_range(0..=bytes.len());
    match random.random_range(0..4) {
        0 => bytes.truncate(at),
        1 => drop(bytes.splice(at..at, pick(PIECES, random).iter().copied())),
        2 if at < bytes.len() => bytes[at] = random.random(),
        _ => {
            bytes.clear();
            bytes.resize(random.random_range(0..64), 0);
            random.fill_bytes(bytes);
        }
    }
}
