//! What an operator changes of the table of plans.

use domain::account::{Plan, Plans};
use std::str::FromStr;

/// Stands in place of a number.
const UNLIMITED: &str = "unlimited";

/// One entry of the table: `maker.jobs=100`, or `maker.jobs=unlimited`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PlanChange {
    plan: Plan,
    limit: Limit,
    /// `None` means no limit.
    value: Option<u64>,
}

/// What a plan limits. The names are those of the settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Limit {
    Jobs,
    GeneralPerMinute,
    RunPerMinute,
    DiagnosesPerDay,
    HistoryDays,
}

impl Limit {
    const ALL: [Self; 5] =
        [Self::Jobs, Self::GeneralPerMinute, Self::RunPerMinute, Self::DiagnosesPerDay, Self::HistoryDays];

    fn as_str(self) -> &'static str {
        match self {
            Self::Jobs => "jobs",
            Self::GeneralPerMinute => "general_per_minute",
            Self::RunPerMinute => "run_per_minute",
            Self::DiagnosesPerDay => "diagnoses_per_day",
            Self::HistoryDays => "history_days",
        }
    }

    /// An account that may ask nothing could not even be told why, and a history of no days would lose what
    /// has just happened.
    fn least(self) -> u64 {
        match self {
            Self::Jobs | Self::DiagnosesPerDay => 0,
            Self::GeneralPerMinute | Self::RunPerMinute | Self::HistoryDays => 1,
        }
    }
}

impl FromStr for PlanChange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(name, value)| {
            let (plan, limit) = name.split_once('.')?;
            Some((plan.trim(), limit.trim(), value.trim()))
        });
        let Some((plan, limit, value)) = parts else { return Err("must be PLAN.LIMIT=N".to_owned()) };
        let plan = Plan::ALL.into_iter().find(|known| known.as_str() == plan).ok_or_else(|| {
            format!("there is no plan \"{plan}\": {}", Plan::ALL.map(Plan::as_str).join(", "))
        })?;
        // With dashes as in flags, too.
        let name = limit.replace('-', "_");
        let limit = Limit::ALL.into_iter().find(|known| known.as_str() == name).ok_or_else(|| {
            format!("plans do not limit \"{limit}\": {}", Limit::ALL.map(Limit::as_str).join(", "))
        })?;
        let least = limit.least();
        let value = match value {
            UNLIMITED => None,
            number => {
                let number = number.parse().ok().filter(|number| *number >= least);
                Some(number.ok_or_else(|| {
                    format!("{} must be a whole number from {least}, or {UNLIMITED}", limit.as_str())
                })?)
            }
        };
        Ok(Self { plan, limit, value })
    }
}

/// The documented table with these changes; of two that concern the same entry the later one counts.
pub(super) fn plans(changes: &[PlanChange]) -> Plans {
    let mut plans = Plans::default();
    for PlanChange { plan, limit, value } in changes {
        let limits = plans.of_mut(*plan);
        match limit {
            Limit::Jobs => limits.jobs_max = *value,
            Limit::GeneralPerMinute => limits.general_per_minute = *value,
            Limit::RunPerMinute => limits.run_per_minute = *value,
            Limit::DiagnosesPerDay => limits.diagnoses_per_day = *value,
            // Longer than there was anything to keep.
            Limit::HistoryDays => limits.history_days = value.unwrap_or(u64::MAX),
        }
    }
    plans
}
