//! What a client sees of an import.

use super::import::Report;
use crate::fields::Issue;
use serde::Serialize;
use utoipa::ToSchema;

/// What came of an import.
#[derive(Serialize, ToSchema)]
#[schema(as = Import)]
pub(crate) struct ImportOutput {
    imported: usize,
    skipped: usize,
    errors: Vec<ErrorOutput>,
    /// The jobs that were made, in the order given; of a JSON import.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    job_ids: Option<Vec<String>>,
    /// What was imported but is not quite the same here.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<WarningOutput>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ImportError)]
struct ErrorOutput {
    original_name: String,
    /// Why it was not imported.
    reason: String,
    /// Where in the request it is, when the request holds the job.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    details: Vec<Issue>,
}

#[derive(Serialize, ToSchema)]
#[schema(as = ImportWarning)]
struct WarningOutput {
    /// Null when it is about the import as a whole.
    #[schema(required)]
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
