//! Placeholders in header values and in the query of a URL.

use std::borrow::Cow;
use std::fmt::Write as _;

/// Bytes of the longest name: `execution_id`, `scheduled_at`.
const NAME_BYTES_MAX: usize = 12;

/// What the placeholders of one attempt stand for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placeholders {
    /// `{{execution_id}}`
    pub execution_id: String,
    /// `{{job_id}}`
    pub job_id: String,
    /// `{{job_name}}`
    pub job_name: String,
    /// `{{scheduled_at}}`, RFC 3339 in UTC
    pub scheduled_at: String,
    /// `{{attempt}}`
    pub attempt: String,
}

impl Placeholders {
    fn value(&self, name: &str) -> Option<&str> {
        Some(match name {
            "execution_id" => &self.execution_id,
            "job_id" => &self.job_id,
            "job_name" => &self.job_name,
            "scheduled_at" => &self.scheduled_at,
            "attempt" => &self.attempt,
            _ => return None,
        })
    }

    /// Fills a header value. Control characters of what is filled in become spaces, so that no
    /// job name can make a header invalid or add one.
    #[must_use]
    pub fn fill_header<'a>(&self, value: &'a str) -> Cow<'a, str> {
        self.fill(value, |out, filling| {
            out.extend(filling.chars().map(|c| if c.is_control() { ' ' } else { c }));
        })
    }

    /// Fills the query of a URL, percent-encoded; the rest of the URL stays as it is.
    #[must_use]
    pub fn fill_query<'a>(&self, url: &'a str) -> Cow<'a, str> {
        let end = url.find('#').unwrap_or(url.len());
        let Some(start) = url[..end].find('?') else { return Cow::Borrowed(url) };
        match self.fill(&url[start..end], percent_encode) {
            Cow::Borrowed(_) => Cow::Borrowed(url),
            Cow::Owned(query) => Cow::Owned([&url[..start], &query, &url[end..]].concat()),
        }
    }

    /// What is filled in is not looked at again; unknown placeholders stay as they are.
    fn fill<'a>(&self, text: &'a str, mut push: impl FnMut(&mut String, &str)) -> Cow<'a, str> {
        let mut filled = None;
        let mut rest = text;
        let mut copied = 0;
        while let Some(open) = rest.find("{{") {
            let inner = &rest[open + 2..];
            let position = text.len() - rest.len() + open;
            match name_end(inner).and_then(|close| Some((close, self.value(&inner[..close])?))) {
                Some((close, value)) => {
                    let out = filled.get_or_insert_with(String::new);
                    out.push_str(&text[copied..position]);
                    push(out, value);
                    rest = &inner[close + 2..];
                    copied = text.len() - rest.len();
                }
                // One brace on, so that `{{{job_id}}` is found too.
                None => rest = &rest[open + 1..],
            }
        }
        match filled {
            None => Cow::Borrowed(text),
            Some(mut out) => {
                out.push_str(&text[copied..]);
                Cow::Owned(out)
            }
        }
    }
}

/// Where the braces close that a text stands behind, if that is near enough for a name: looking on to the end of the
/// text would take a time that grows with the square of its length.
fn name_end(text: &str) -> Option<usize> {
    let near = text.len().min(NAME_BYTES_MAX + 2);
    text.as_bytes()[..near].windows(2).position(|pair| pair == b"}}")
}

/// Encodes all but the unreserved characters of RFC 3986.
fn percent_encode(out: &mut String, value: &str) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn placeholders() -> Placeholders {
        Placeholders {
            execution_id: "exec_1".to_owned(),
            job_id: "job_2".to_owned(),
            job_name: "Nightly & é\n{{attempt}}".to_owned(),
            scheduled_at: "2026-01-02T03:04:05Z".to_owned(),
            attempt: "3".to_owned(),
        }
    }

    fn check_header(value: &str, expected: &str) {
        assert_eq!(placeholders().fill_header(value), expected);
    }

    fn check_query(url: &str, expected: &str) {
        assert_eq!(placeholders().fill_query(url), expected);
    }

    #[test]
    fn header_values_are_filled() {
        check_header("plain", "plain");
        check_header("{{execution_id}}/{{job_id}}/{{attempt}}", "exec_1/job_2/3");
        check_header("at {{scheduled_at}}!", "at 2026-01-02T03:04:05Z!");
        check_header("{{job_name}}", "Nightly & é {{attempt}}");
    }

    #[test]
    fn what_is_no_placeholder_stays() {
        check_header(
            "{{unknown}} {{ job_id }} {{job_id} {job_id}} {{",
            "{{unknown}} {{ job_id }} {{job_id} {job_id}} {{",
        );
        check_header("{{{job_id}}}", "{job_2}");
        check_header("{{x {{attempt}}", "{{x 3");
        check_header("}}{{attempt}}", "}}3");
    }

    #[test]
    fn braces_that_never_close_are_looked_at_once() {
        // To look on to the end from each of them would take hours.
        const BYTES: usize = 10_000_000;
        check_header(&"{".repeat(BYTES), &"{".repeat(BYTES));
    }

    #[test]
    fn only_the_query_is_filled_and_it_is_encoded() {
        check_query("https://h/{{job_id}}", "https://h/{{job_id}}");
        check_query(
            "https://h/{{job_id}}?a={{job_id}}&t={{scheduled_at}}#{{job_id}}",
            "https://h/{{job_id}}?a=job_2&t=2026-01-02T03%3A04%3A05Z#{{job_id}}",
        );
        check_query("https://h/#?{{job_id}}", "https://h/#?{{job_id}}");
        check_query("https://h/?n={{job_name}}", "https://h/?n=Nightly%20%26%20%C3%A9%0A%7B%7Battempt%7D%7D");
        check_query("https://h/?é={{nope}}", "https://h/?é={{nope}}");
    }

    proptest! {
        #[test]
        fn filling_is_replacing(parts in prop::collection::vec(
            prop::sample::select(vec!["{", "}", "{{", "}}", "job_id", "{{job_id}}", "{{attempt}}", "é", "?", "#"]), 0..12,
        )) {
            let text = parts.concat();
            let placeholders = placeholders();
            let expected = text.replace("{{job_id}}", "job_2").replace("{{attempt}}", "3");
            prop_assert_eq!(placeholders.fill_header(&text), expected.as_str());
            let is_query = text.starts_with('?') && !text.contains('#');
            prop_assert_eq!(is_query.then(|| placeholders.fill_query(&text).into_owned()), is_query.then_some(expected));
        }

        #[test]
        fn no_name_of_a_job_makes_a_header_or_moves_a_url(
            job_name in any::<String>(),
            before in "[ -~]{0,40}",
            query in "[!-\"$-~]{0,60}",
        ) {
            let placeholders = Placeholders { job_name, ..placeholders() };
            let header = format!("{before}{{{{job_name}}}}");
            prop_assert!(!placeholders.fill_header(&header).contains(char::is_control));

            let text = format!("https://user@example.com:8443/a?{query}&n={{{{job_name}}}}#f");
            let (Ok(given), Ok(filled)) = (text.parse::<url::Url>(), placeholders.fill_query(&text).parse::<url::Url>())
            else {
                panic!("{text}");
            };
            prop_assert_eq!(&given[..url::Position::AfterPath], &filled[..url::Position::AfterPath]);
            prop_assert_eq!(given.fragment(), filled.fragment());
            prop_assert!(!filled.query().is_some_and(|query| query.contains("{{job_name}}")));
        }
    }
}
