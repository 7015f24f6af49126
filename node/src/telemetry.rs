//! What a node says about itself: log lines and metrics.

use crate::config::LogFormat;
use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use std::io;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};

/// Buckets of the lateness of firings, in seconds: fine around the target of 20 ms at p99, and
/// far enough for a firing that waited for a failover.
const LATENESS_SECONDS: &[f64] = &[
    0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
    30.0,
];
/// Buckets of the time from a proposal to its application, in seconds: a disk's sync and up.
const COMMIT_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.02, 0.03, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0];
/// Buckets of the time an answer of the REST API takes, in seconds.
const REQUEST_SECONDS: &[f64] =
    &[0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

const BUCKETS: [(&str, &[f64]); 3] = [
    ("justrun_firing_lateness_seconds", LATENESS_SECONDS),
    ("justrun_raft_commit_seconds", COMMIT_SECONDS),
    ("justrun_http_request_seconds", REQUEST_SECONDS),
];

/// Consensus reports every step at `info`.
const FILTER_DEFAULT: &str = "info,openraft=warn";

/// Telemetry cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// `RUST_LOG` makes no sense.
    #[error("RUST_LOG is not valid: {0}")]
    Filter(#[from] tracing_subscriber::filter::ParseError),
    /// Another logger is set up already.
    #[error("logging is already set up")]
    Logging(#[from] TryInitError),
    /// The buckets are not valid.
    #[error("metrics cannot be set up")]
    Metrics(#[from] BuildError),
    /// Another recorder is set up already.
    #[error("metrics are already set up")]
    MetricsTwice,
}

/// Sends log lines to standard error, those that `filter` (as in `RUST_LOG`) lets through;
/// without one, `info` and above, and of the consensus library `warn` and above.
///
/// # Errors
/// When the filter is not valid, or logging is set up already.
pub fn init_logging(format: LogFormat, filter: Option<&str>) -> Result<(), TelemetryError> {
    let filter = EnvFilter::try_new(filter.filter(|filter| !filter.is_empty()).unwrap_or(FILTER_DEFAULT))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    match format {
        LogFormat::Text => builder.finish().try_init()?,
        LogFormat::Json => builder.json().flatten_event(true).finish().try_init()?,
    }
    Ok(())
}

/// The metrics of this process. Cheap to clone.
#[derive(Clone)]
pub struct Metrics {
    handle: PrometheusHandle,
}

impl Metrics {
    /// Makes the [`metrics`] macros record here, for the whole process.
    ///
    /// # Errors
    /// When a recorder is set up already.
    pub fn install() -> Result<Self, TelemetryError> {
        let (recorder, metrics) = Self::recorder()?;
        metrics::set_global_recorder(recorder).map_err(|_| TelemetryError::MetricsTwice)?;
        describe();
        Ok(metrics)
    }

    /// Everything recorded so far, in the Prometheus text format.
    #[must_use]
    pub fn render(&self) -> String {
        self.handle.render()
    }

    /// Moves what was observed into the buckets. To be called every few seconds: until then, or
    /// until somebody renders, each observation takes memory.
    pub fn upkeep(&self) {
        self.handle.run_upkeep();
    }

    fn recorder() -> Result<(PrometheusRecorder, Self), TelemetryError> {
        let mut builder = PrometheusBuilder::new();
        for (name, buckets) in BUCKETS {
            builder = builder.set_buckets_for_metric(Matcher::Full(name.to_owned()), buckets)?;
        }
        let recorder = builder.build_recorder();
        let handle = recorder.handle();
        Ok((recorder, Self { handle }))
    }
}

/// Gives each metric its help text.
fn describe() {
    describe_histogram!(
        "justrun_firing_lateness_seconds",
        Unit::Seconds,
        "Request sent minus scheduled instant"
    );
    describe_counter!(
        "justrun_executions_total",
        "Executions that ended on this node, by status and trigger"
    );
    describe_gauge!("justrun_executions_in_flight", "Requests to targets that are under way on this node");
    describe_counter!("justrun_claims_total", "Claims this node proposed, by result");
    describe_counter!(
        "justrun_alert_deliveries_total",
        "Attempts of this node to deliver messages, by type of the channel and result"
    );
    describe_gauge!("justrun_raft_term", "Current raft term");
    describe_gauge!("justrun_raft_is_leader", "1 on the leader, 0 elsewhere");
    describe_gauge!("justrun_raft_applied_index", "Index of the last log entry applied on this node");
    describe_histogram!(
        "justrun_raft_commit_seconds",
        Unit::Seconds,
        "Proposal made until applied on this node"
    );
    describe_gauge!("justrun_shards_owned", "Shards this node looks after");
    describe_gauge!("justrun_jobs", "Jobs, by status");
    describe_counter!("justrun_http_requests_total", "Requests to the REST API, by route and code");
    describe_histogram!(
        "justrun_http_request_seconds",
        Unit::Seconds,
        "Time taken to answer a request to the REST API"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_recorded_is_rendered_with_help_and_our_buckets() {
        let (recorder, metrics) = Metrics::recorder().unwrap();
        metrics::with_local_recorder(&recorder, || {
            describe();
            for (name, _) in BUCKETS {
                metrics::histogram!(name).record(0.004);
            }
            metrics::counter!("justrun_executions_total", "status" => "success", "trigger" => "manual")
                .increment(2);
            metrics::gauge!("justrun_raft_is_leader").set(1.0);
        });
        metrics.upkeep();
        let text = metrics.render();
        for line in [
            "# HELP justrun_firing_lateness_seconds Request sent minus scheduled instant",
            "# TYPE justrun_firing_lateness_seconds histogram",
            "justrun_firing_lateness_seconds_bucket{le=\"0.003\"} 0",
            "justrun_firing_lateness_seconds_bucket{le=\"0.005\"} 1",
            "justrun_raft_commit_seconds_bucket{le=\"0.005\"} 1",
            "justrun_http_request_seconds_bucket{le=\"0.005\"} 1",
            "justrun_http_request_seconds_count 1",
            "justrun_executions_total{status=\"success\",trigger=\"manual\"} 2",
            "justrun_raft_is_leader 1",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_refused() {
        let refused = init_logging(LogFormat::Text, Some("info,raft=loud"));
        assert!(matches!(refused, Err(TelemetryError::Filter(_))), "{refused:?}");
    }
}
