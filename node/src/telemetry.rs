//! What a node says about itself: log lines and metrics.

use crate::config::LogFormat;
use crate::scheduler::CLAIM_RESULTS;
use domain::execution::{ExecutionStatus, Trigger};
use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge, histogram};
use metrics_exporter_prometheus::{
    BuildError, Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder,
};
use std::io::{self, IsTerminal};
use tracing::Subscriber;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
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

/// Consensus reports every step at `info`, and at `warn` what is ordinary whenever a node comes or goes; the engine of
/// the log reports its housekeeping at `info`. Named in the help.
const FILTER_DEFAULT: &str = "info,openraft=error,raft_engine=warn";

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
/// without one, `info` and above, and less of the libraries for consensus and the log. In colour if a terminal shows them.
///
/// # Errors
/// When the filter is not valid, or logging is set up already.
pub fn init_logging(format: LogFormat, filter: Option<&str>) -> Result<(), TelemetryError> {
    let in_colour =
        io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|set| set.is_empty());
    logger(format, filter, in_colour, io::stderr)?.try_init()?;
    Ok(())
}

fn logger<W>(
    format: LogFormat,
    filter: Option<&str>,
    in_colour: bool,
    writer: W,
) -> Result<Box<dyn Subscriber + Send + Sync>, TelemetryError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_new(filter.filter(|filter| !filter.is_empty()).unwrap_or(FILTER_DEFAULT))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(in_colour).with_writer(writer);
    Ok(match format {
        LogFormat::Text => Box::new(builder.finish()),
        LogFormat::Json => Box::new(builder.json().flatten_event(true).finish()),
    })
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
        register();
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
    describe_gauge!(
        "justrun_executions_waiting",
        "Executions that are due and wait on this node for a place among the requests in flight"
    );
    describe_counter!("justrun_claims_total", "Claims this node proposed, by result");
    describe_counter!(
        "justrun_alert_deliveries_total",
        "Attempts of this node to deliver messages, by type of the channel and result"
    );
    describe_gauge!("justrun_raft_term", "Current raft term");
    describe_gauge!("justrun_raft_is_leader", "1 on the leader, 0 elsewhere");
    describe_gauge!(
        "justrun_clock_astray",
        "1 while the clock of this node differs from those of the others and it does nothing"
    );
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

/// Makes each metric appear before it is first used: a rate from nothing to one is no rate, and an alert on what is
/// absent never fires.
fn register() {
    for status in ExecutionStatus::ALL {
        for trigger in Trigger::ALL {
            counter!("justrun_executions_total", "status" => status.as_str(), "trigger" => trigger.as_str())
                .absolute(0);
        }
    }
    for result in CLAIM_RESULTS {
        counter!("justrun_claims_total", "result" => result).absolute(0);
    }
    for channel_type in ["slack", "discord", "email", "webhook"] {
        for result in ["sent", "failed"] {
            counter!("justrun_alert_deliveries_total", "channel_type" => channel_type, "result" => result)
                .absolute(0);
        }
    }
    // Other routes and codes follow with the first request.
    counter!("justrun_http_requests_total", "route" => "/metrics", "code" => "200").absolute(0);
    let _ = histogram!("justrun_http_request_seconds", "route" => "/metrics");
    for name in ["justrun_firing_lateness_seconds", "justrun_raft_commit_seconds"] {
        let _ = histogram!(name);
    }
    for name in [
        "justrun_executions_in_flight",
        "justrun_executions_waiting",
        "justrun_raft_term",
        "justrun_raft_is_leader",
        "justrun_clock_astray",
        "justrun_raft_applied_index",
        "justrun_shards_owned",
    ] {
        gauge!(name).set(0.0);
    }
    for status in ["active", "paused"] {
        gauge!("justrun_jobs", "status" => status).set(0.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use parking_lot::Mutex;
    use std::sync::Arc;

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
    fn every_metric_is_there_before_anything_has_happened() {
        let (recorder, metrics) = Metrics::recorder().unwrap();
        metrics::with_local_recorder(&recorder, || {
            describe();
            register();
        });
        let text = metrics.render();
        for line in [
            "justrun_firing_lateness_seconds_count 0",
            "justrun_executions_total{status=\"success\",trigger=\"schedule\"} 0",
            "justrun_executions_total{status=\"skipped\",trigger=\"schedule\"} 0",
            "justrun_executions_total{status=\"failed\",trigger=\"manual\"} 0",
            "justrun_executions_in_flight 0",
            "justrun_executions_waiting 0",
            "justrun_claims_total{result=\"claimed\"} 0",
            "justrun_claims_total{result=\"failed\"} 0",
            "justrun_raft_term 0",
            "justrun_raft_is_leader 0",
            "justrun_raft_applied_index 0",
            "justrun_raft_commit_seconds_count 0",
            "justrun_shards_owned 0",
            "justrun_jobs{status=\"active\"} 0",
            "justrun_jobs{status=\"paused\"} 0",
            "justrun_http_requests_total{route=\"/metrics\",code=\"200\"} 0",
            "justrun_http_request_seconds_count{route=\"/metrics\"} 0",
            "justrun_alert_deliveries_total{channel_type=\"email\",result=\"failed\"} 0",
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in:\n{text}");
        }
    }

    #[test]
    fn a_filter_that_makes_no_sense_is_refused() {
        let refused = init_logging(LogFormat::Text, Some("info,raft=loud"));
        assert!(matches!(refused, Err(TelemetryError::Filter(_))), "{refused:?}");
    }

    /// A file that several can write to.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn routine_of_consensus_and_colours_stay_out_of_the_log() {
        for (format, in_colour) in
            [(LogFormat::Text, false), (LogFormat::Text, true), (LogFormat::Json, false)]
        {
            let page = Page::default();
            let writer = page.clone();
            let logger = logger(format, None, in_colour, move || writer.clone()).unwrap();
            tracing::subscriber::with_default(logger, || {
                tracing::warn!(target: "openraft::replication", "routine");
                tracing::info!(target: "raft_engine::engine", "routine");
                tracing::error!(target: "openraft::core", "trouble");
                tracing::info!(target: "node", "ours");
            });
            let text = String::from_utf8(page.0.lock().clone()).unwrap();
            assert!(text.contains("trouble") && text.contains("ours") && !text.contains("routine"), "{text}");
            assert_eq!(text.contains('\u{1b}'), in_colour, "{text}");
        }
    }
}
