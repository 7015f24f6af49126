//! Why an expression or a zone is refused.

use thiserror::Error;

/// Why a schedule is refused. Whoever sent it must change it; trying again does not help.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ScheduleError {
    /// The expression does not parse. The text is meant for users: it says which field is at fault
    /// and why, and is plain ASCII of bounded length.
    #[error("{0}")]
    Expression(String),
    /// The expression parses, but names only dates that do not exist, such as 30 February.
    #[error("the expression never fires: no month it names has the days it names")]
    NeverFires,
    /// The time zone is not in the bundled IANA database.
    #[error("unknown time zone: expected an IANA name such as Europe/Stockholm or UTC")]
    UnknownTimezone,
}

impl ScheduleError {
    /// The field of a job that is at fault: `cron_expression` or `timezone`.
    #[must_use]
    pub fn field(&self) -> &'static str {
        match self {
            Self::Expression(_) | Self::NeverFires => "cron_expression",
            Self::UnknownTimezone => "timezone",
        }
    }
}
