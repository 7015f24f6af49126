//! What a client sees of an import.

use super::import::Report;
use crate::fields::Issue;
use serde::Serialize;

/// In documented order; `warnings` is an extension.
#[derive(Serialize)]
pub(crate) struct ImportOutput {
    imported: usize,
    skipped: usize,
    errors: Vec<ErrorOutput>,
    #[serde(skip_serializing_if = "Option::is_none")]
    job_ids: Option<Vec<String>>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<WarningOutput>,
}

#[derive(Serialize)]
struct ErrorOutput {
    original_name: String,
    reason: String,
    /// Where in the request it is, when the request holds the job.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Issue>,
}

#[derive(Serialize)]
struct WarningOutput {
    /// Null when it is about the import as a whole.
    original_name: Option<String>,
    warning: String,
}

impl ImportOutput {
    pub(super) fn with_ids(report: Report) -> Self {
        let ids = report.imported.iter().map(ToString::to_string).collect();
        Self { job_ids: Some(ids), ..Self::without_ids(report) }
    }

    pub(super) fn without_ids(report: Report) -> Self {
        let Report { imported, failures, warnings, remarks } = report;
        let remarks = remarks.into_iter().map(|warning| WarningOutput { original_name: None, warning });
        let of_jobs =
            warnings.into_iter().map(|(name, warning)| WarningOutput { original_name: Some(name), warning });
        Self {
            imported: imported.len(),
            skipped: failures.len(),
            errors: failures
                .into_iter()
                .map(|failure| ErrorOutput {
                    original_name: failure.name,
                    reason: failure.reason,
                    details: failure.details,
                })
                .collect(),
            job_ids: None,
            warnings: remarks.chain(of_jobs).collect(),
        }
    }
}
