use crate::service::Service;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};
use std::collections::BTreeSet;
use std::sync::Mutex;

/// Remembers which metrics were touched.
#[derive(Default)]
struct Names(Mutex<BTreeSet<String>>);

impl Names {
    fn add(&self, key: &Key) {
        let labels: Vec<_> = key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        self.0.lock().unwrap().insert(format!("{} {}", key.name(), labels.join(" ")));
    }
}

impl Recorder for Names {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.add(key);
        Counter::noop()
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.add(key);
        Gauge::noop()
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.add(key);
        Histogram::noop()
    }
}

#[test]
fn requests_are_counted_by_route_and_never_by_path() {
    let names = Names::default();
    metrics::with_local_recorder(&names, || {
        // On this thread alone, so that all of it is seen by this recorder.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let service = Service::start().await;
            for path in ["/v1/jobs/job_00000000001", "/v1/jobs/job_00000000002", "/secret", "/healthz"] {
                service.get(path).await;
            }
        });
    });
    let names = names.0.into_inner().unwrap();
    let http: Vec<_> =
        names.iter().filter(|name| name.starts_with("justrun_http")).map(String::as_str).collect();
    let expected = [
        "justrun_http_request_seconds route=/healthz",
        "justrun_http_request_seconds route=/v1/jobs/{id}",
        "justrun_http_request_seconds route=unmatched",
        "justrun_http_requests_total route=/healthz code=200",
        "justrun_http_requests_total route=/v1/jobs/{id} code=404",
        "justrun_http_requests_total route=unmatched code=404",
    ];
    assert_eq!(http, expected);
}
