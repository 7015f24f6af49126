//! What jobs of other services have in common, and how one becomes a request to make a job of ours.

use crate::json::{Object, Value, Whole};
use crate::resources::jobs::is_forbidden_header;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use domain::limits;
use url::Url;

const AUTHORIZATION: &str = "Authorization";

/// A job of another service, in our words.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Foreign {
    /// Its id there.
    pub(super) id: u64,
    /// What its owner calls it; may be anything, also nothing.
    pub(super) name: String,
    pub(super) url: String,
    pub(super) cron_expression: String,
    pub(super) timezone: String,
    pub(super) method: String,
    /// Seconds; 0 or less means the service's default.
    pub(super) timeout_sec: i64,
    pub(super) headers: Vec<(String, String)>,
    /// User and password, when there is one of them.
    pub(super) credentials: Option<(String, String)>,
    pub(super) body: String,
    pub(super) store_response_body: bool,
    pub(super) tags: Vec<String>,
    pub(super) paused: bool,
    /// What will be different, in words for its owner.
    pub(super) warnings: Vec<String>,
}

impl Foreign {
    /// The body of `POST /v1/jobs` that makes it, and what will be different. Whether it makes sense is decided where
    /// all jobs are read.
    pub(super) fn into_request(mut self) -> (Value, Vec<String>) {
        self.take_credentials_from_url();
        let name = self.display_name();
        let timeout_sec = self.timeout();
        let headers = self.clean_headers();
        let text = |text: String| Value::String(text);
        let body = if self.body.is_empty() { Value::Null } else { text(self.body) };
        let members = [
            ("name", text(name)),
            ("cron_expression", text(self.cron_expression)),
            ("url", text(self.url)),
            ("method", text(self.method)),
            ("timezone", text(self.timezone)),
            ("timeout_sec", Value::Whole(Whole::In(timeout_sec))),
            ("headers", Value::Object(Object(headers))),
            ("body", body),
            ("store_response_body", Value::Bool(self.store_response_body)),
            ("tags", Value::Array(self.tags.into_iter().map(Value::String).collect())),
        ];
        let members = members.map(|(name, value)| (name.to_owned(), value)).into();
        (Value::Object(Object(members)), self.warnings)
    }

    /// Its name as we can take it: one line, not too long, never blank.
    pub(super) fn display_name(&self) -> String {
        let printable = |text: &str| -> String {
            let text: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
            text.trim().chars().take(limits::JOB_NAME_CHARS_MAX).collect()
        };
        let name = printable(&self.name);
        if !name.is_empty() {
            return name;
        }
        let address = Url::parse(&self.url)
            .map(|url| format!("{}{}", url.host_str().unwrap_or_default(), url.path()))
            .unwrap_or_default();
        let address = printable(address.trim_end_matches('/'));
        if address.is_empty() { format!("Job {}", self.id) } else { address }
    }

    /// Seconds, within our bounds.
    fn timeout(&mut self) -> i64 {
        let max = i64::from(limits::TIMEOUT_SEC_MAX);
        if self.timeout_sec > max {
            self.warnings
                .push(format!("the timeout was {} s and is {max} s, which is the longest", self.timeout_sec));
        }
        match self.timeout_sec {
            ..=0 => i64::from(limits::TIMEOUT_SEC_DEFAULT),
            given => given.min(max),
        }
    }

    /// Credentials in a URL would show in every list; we take them in a header only.
    fn take_credentials_from_url(&mut self) {
        let Ok(mut url) = Url::parse(&self.url) else { return };
        if url.username().is_empty() && url.password().is_none() {
            return;
        }
        let found = (percent_decoded(url.username()), percent_decoded(url.password().unwrap_or_default()));
        if url.set_username("").is_ok() && url.set_password(None).is_ok() {
            self.url = url.into();
            self.credentials.get_or_insert(found);
            self.warnings.push("the credentials in its URL are sent in the Authorization header".to_owned());
        }
    }

    /// The headers that we let a job have, each once.
    fn clean_headers(&mut self) -> Vec<(String, Value)> {
        let mut headers: Vec<(String, Value)> = Vec::new();
        let given = std::mem::take(&mut self.headers);
        for (name, value) in given {
            let is = |known: &str| known.eq_ignore_ascii_case(&name);
            if is_forbidden_header(&name.to_ascii_lowercase()) {
                self.warnings.push(format!("the header {name} is set by JustRun itself and was left out"));
            } else if headers.iter().any(|(known, _)| is(known)) {
                self.warnings.push(format!("the header {name} was given twice, and only the first is sent"));
            } else {
                headers.push((name, Value::String(value)));
            }
        }
        let authorized = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case(AUTHORIZATION));
        if let Some((user, password)) = self.credentials.take()
            && !authorized
        {
            let token = BASE64_STANDARD.encode(format!("{user}:{password}"));
            headers.push((AUTHORIZATION.to_owned(), Value::String(format!("Basic {token}"))));
        }
        headers
    }
}

/// What stands in a URL with `%40` for `@`.
fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let digits = after.split_at_checked(2).filter(|_| *byte == b'%');
        let decoded = digits.and_then(|(digits, after)| {
            let digits = str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'))?;
            Some((u8::from_str_radix(digits, 16).ok()?, after))
        });
        let (byte, after) = decoded.unwrap_or((*byte, after));
        bytes.push(byte);
        rest = after;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Whether a method is one that a job can have; the reason otherwise.
pub(super) fn supported_method(method: &str) -> Result<(), String> {
    let known = domain::job::Method::ALL.iter().any(|(_, name)| *name == method);
    if known { Ok(()) } else { Err(format!("Unsupported HTTP method {method}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(url: &str) -> Foreign {
        Foreign { id: 7, url: url.to_owned(), ..Foreign::default() }
    }

    fn request(job: Foreign) -> (Vec<(String, Value)>, Vec<String>) {
        match job.into_request() {
            (Value::Object(Object(members)), warnings) => (members, warnings),
            other => panic!("{other:?}"),
        }
    }

    fn get<'a>(members: &'a [(String, Value)], name: &str) -> &'a Value {
        &members.iter().find(|(known, _)| known == name).unwrap().1
    }

    fn headers(members: &[(String, Value)]) -> Vec<(String, String)> {
        let Value::Object(Object(headers)) = get(members, "headers") else { panic!("{members:?}") };
        let text = |value: &Value| match value {
            Value::String(text) => text.clone(),
            other => panic!("{other:?}"),
        };
        headers.iter().map(|(name, value)| (name.clone(), text(value))).collect()
    }

    #[test]
    fn every_job_gets_a_name() {
        for (name, url, expected) in [
            ("Backup", "https://a.example/b", "Backup"),
            (" Two\nlines\t", "https://a.example/b", "Two lines"),
            ("", "https://a.example/b/c?d=e", "a.example/b/c"),
            (" ", "https://a.example/", "a.example"),
            ("", "nonsense", "Job 7"),
        ] {
            let job = Foreign { name: name.to_owned(), ..job(url) };
            assert_eq!(job.display_name(), expected);
        }
        let long = Foreign { name: "ä".repeat(150), ..job("") };
        assert_eq!(long.display_name(), "ä".repeat(100));
    }

    #[test]
    fn timeouts_keep_to_our_bounds() {
        for (given, expected, warned) in
            [(-1, 30, false), (0, 30, false), (300, 300, false), (900, 300, true)]
        {
            let (members, warnings) = request(Foreign { timeout_sec: given, ..job("https://a.example") });
            assert_eq!(*get(&members, "timeout_sec"), Value::Whole(Whole::In(expected)));
            assert_eq!(!warnings.is_empty(), warned, "{warnings:?}");
        }
    }

    #[test]
    fn credentials_go_into_a_header() {
        let basic = |token: &str| vec![("Authorization".to_owned(), format!("Basic {token}"))];
        let (members, warnings) = request(job("https://user:p%40+&%ss@a.example/b?c=d"));
        assert_eq!(*get(&members, "url"), Value::String("https://a.example/b?c=d".to_owned()));
        // printf 'user:p@+&%%ss' | base64
        assert_eq!(headers(&members), basic("dXNlcjpwQCsmJXNz"));
        assert_eq!(warnings, ["the credentials in its URL are sent in the Authorization header"]);

        let credentials = Some(("user".to_owned(), "pass".to_owned()));
        let (members, warnings) =
            request(Foreign { credentials: credentials.clone(), ..job("https://a.example/b") });
        assert_eq!((headers(&members), warnings.len()), (basic("dXNlcjpwYXNz"), 0));

        let own = vec![("authorization".to_owned(), "Bearer x".to_owned())];
        let (members, _) =
            request(Foreign { credentials, headers: own.clone(), ..job("https://a.example/b") });
        assert_eq!(headers(&members), own);
    }

    #[test]
    fn headers_that_no_job_may_have_are_left_out() {
        let given = [("Host", "a"), ("X-A", "1"), ("x-a", "2"), ("content-length", "3")];
        let given = given.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let (members, warnings) = request(Foreign { headers: given.into(), ..job("https://a.example") });
        assert_eq!(headers(&members), [("X-A".to_owned(), "1".to_owned())]);
        assert_eq!(
            warnings,
            [
                "the header Host is set by JustRun itself and was left out",
                "the header x-a was given twice, and only the first is sent",
                "the header content-length is set by JustRun itself and was left out",
            ]
        );
    }

    #[test]
    fn bodies_are_kept_as_they_are() {
        let (members, _) = request(job("https://a.example"));
        assert_eq!(*get(&members, "body"), Value::Null);
        let (members, _) = request(Foreign { body: " x ".to_owned(), ..job("https://a.example") });
        assert_eq!(*get(&members, "body"), Value::String(" x ".to_owned()));
    }

    #[test]
    fn only_our_methods_are_supported() {
        assert_eq!(supported_method("PATCH"), Ok(()));
        assert_eq!(supported_method("HEAD"), Err("Unsupported HTTP method HEAD".to_owned()));
    }
}
