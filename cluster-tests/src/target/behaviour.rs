//! What a path asks for.

use crate::history::Mode;
use http::StatusCode;
use std::time::Duration;

/// What is done with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Behaviour {
    Answer(StatusCode),
    Slow(Duration),
    Hang,
    /// The connection is closed without an answer.
    Break,
}

impl Behaviour {
    /// `mode` is how the target misbehaves just now, if it does.
    pub(super) fn of(path: &str, attempt: Option<u32>, scheduled_s: Option<i64>, mode: Option<Mode>) -> Self {
        if let Some(rest) = path.strip_prefix("/frail/") {
            return match mode {
                Some(Mode::Fail) => Self::Answer(StatusCode::INTERNAL_SERVER_ERROR),
                Some(Mode::Hang) => Self::Hang,
                Some(Mode::Refuse) => Self::Break,
                None => Self::named(rest, attempt, scheduled_s),
            };
        }
        Self::named(path.trim_start_matches('/'), attempt, scheduled_s)
    }

    fn named(name: &str, attempt: Option<u32>, scheduled_s: Option<i64>) -> Self {
        let fails =
            |failing| Self::Answer(if failing { StatusCode::INTERNAL_SERVER_ERROR } else { StatusCode::OK });
        let behaviour = match name.split_once('/').map_or((name, None), |(name, rest)| (name, Some(rest))) {
            ("ok", _) => Some(Self::Answer(StatusCode::OK)),
            ("hang", None) => Some(Self::Hang),
            ("status", Some(status)) => status.parse().ok().map(Self::Answer),
            ("slow", Some(delay_ms)) => delay_ms.parse().ok().map(Duration::from_millis).map(Self::Slow),
            ("fail-first", Some(count)) => {
                count.parse().ok().map(|count: u32| fails(attempt.is_none_or(|attempt| attempt <= count)))
            }
            ("in-turns", Some(span_s)) => {
                span_s.parse().ok().filter(|span_s| *span_s > 0).map(|span_s: i64| {
                    fails(scheduled_s.is_none_or(|scheduled_s| scheduled_s.div_euclid(span_s) % 2 != 0))
                })
            }
            _ => None,
        };
        behaviour.unwrap_or(Self::Answer(StatusCode::NOT_FOUND))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Behaviour {
        Behaviour::Answer(StatusCode::from_u16(status).unwrap())
    }

    #[test]
    fn paths() {
        for (path, attempt, expected) in [
            ("/ok", None, answer(200)),
            ("/ok/7", None, answer(200)),
            ("/status/503", None, answer(503)),
            ("/status/99", None, answer(404)),
            ("/slow/25", None, Behaviour::Slow(Duration::from_millis(25))),
            ("/hang", None, Behaviour::Hang),
            ("/fail-first/2", Some(1), answer(500)),
            ("/fail-first/2", Some(2), answer(500)),
            ("/fail-first/2", Some(3), answer(200)),
            ("/in-turns/10", None, answer(500)),
            ("/in-turns/0", None, answer(404)),
            ("/frail/ok", None, answer(200)),
            ("/frail/fail-first/1", Some(1), answer(500)),
            ("/", None, answer(404)),
            ("/elsewhere", None, answer(404)),
        ] {
            assert_eq!(Behaviour::of(path, attempt, None, None), expected, "{path} {attempt:?}");
        }
    }

    #[test]
    fn what_is_due_decides_whose_turn_it_is() {
        for (scheduled_s, status) in [(0, 200), (9, 200), (10, 500), (19, 500), (20, 200)] {
            let found = Behaviour::of("/in-turns/10", Some(1), Some(scheduled_s), None);
            assert_eq!(found, answer(status), "{scheduled_s}");
        }
    }

    #[test]
    fn only_what_is_frail_misbehaves() {
        for (mode, expected) in
            [(Mode::Fail, answer(500)), (Mode::Hang, Behaviour::Hang), (Mode::Refuse, Behaviour::Break)]
        {
            assert_eq!(Behaviour::of("/frail/ok", None, None, Some(mode)), expected);
            assert_eq!(Behaviour::of("/ok", None, None, Some(mode)), answer(200));
        }
    }
}
