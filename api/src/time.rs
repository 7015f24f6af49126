//! Instants as text: RFC 3339 in UTC with `Z`, whole seconds (documented).

use domain::time::{Timestamp, civil};
use serde::{Serialize, Serializer};

/// An instant that is written the documented way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rfc3339(pub(crate) Timestamp);

impl std::fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let secs = self.0.as_secs();
        let (year, month, day) = civil(self.0.as_days());
        let (hour, minute, second) = (secs / 3_600 % 24, secs / 60 % 60, secs % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
    }
}

impl Serialize for Rfc3339 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instants_look_as_documented() {
        for (secs, expected) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_775_876_400, "2026-04-11T03:00:00Z"),
            (1_709_251_199, "2024-02-29T23:59:59Z"),
            (4_107_542_400, "2100-03-01T00:00:00Z"),
            (253_402_300_799, "9999-12-31T23:59:59Z"),
        ] {
            assert_eq!(Rfc3339(Timestamp::from_secs(secs)).to_string(), expected);
        }
    }

    #[test]
    fn parts_of_a_second_are_cut_off_and_no_instant_panics() {
        assert_eq!(Rfc3339(Timestamp::from_millis(1_999)).to_string(), "1970-01-01T00:00:01Z");
        assert!(Rfc3339(Timestamp::MAX).to_string().ends_with('Z'));
    }
}
