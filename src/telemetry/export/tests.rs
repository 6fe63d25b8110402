//! The exporter against receivers that follow a script.

mod receiver;

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, Sum, metric::Data};
use tonic::{Code, Status};

use super::{error::retry_info, *};
use crate::telemetry::{
    Compression, Export, TlsConfig,
    queue::{SpanQueue, SpanRecord},
};
use receiver::{Answer, Receiver};

/// Longer than any test takes: what ends does so by itself.
const LONG: Duration = Duration::from_secs(3600);

/// The resource's name in all tests.
const SERVICE: &str = "orders";

fn export(endpoint: impl std::fmt::Display) -> Export {
    Export {
        endpoint: format!("http://{endpoint}"),
        headers: BTreeMap::new(),
        compression: Compression::None,
        timeout: LONG,
        tls: TlsConfig::default(),
    }
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

/// Metrics of the test: one of so many points at each collection.
struct Points(usize, Arc<AtomicU64>);

impl Collect for Points {
    fn collect(&mut self) -> Vec<Metric> {
        let data = Sum { data_points: vec![NumberDataPoint::default(); self.0], ..Sum::default() };
        vec![Metric { name: "m".into(), data: Some(Data::Sum(data)), ..Metric::default() }]
    }

    fn accepted(&mut self) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }
}

/// An exporter under test, with what it exports.
struct Test {
    accounts: Arc<Accounts>,
    queue: Arc<SpanQueue>,
    accepted: Arc<AtomicU64>,
    batch: usize,
}

impl Test {
    fn new(batch: usize) -> Self {
        let queue = Arc::new(SpanQueue::new(batch));
        Self { accounts: Arc::default(), queue, accepted: Arc::default(), batch }
    }

    fn span(&self, name: impl Into<String>) {
        self.accounts.spans.created(1);
        self.queue.push(SpanRecord { name: name.into() });
    }

    fn traces(&self, export: Export) -> Option<TracesExport> {
        let queue = Arc::clone(&self.queue);
        Some(TracesExport { export, queue, batch: self.batch, delay: LONG })
    }

    fn metrics(&self, export: Export, points: usize) -> Option<MetricsExport> {
        let collect = Box::new(Points(points, Arc::clone(&self.accepted)));
        Some(MetricsExport { export, collect, interval: LONG })
    }

    fn start(&self, traces: Option<TracesExport>, metrics: Option<MetricsExport>) -> Exporter {
        let resource = resource(SERVICE, &BTreeMap::new());
        Exporter::start(traces, metrics, &resource, Arc::clone(&self.accounts)).unwrap()
    }
}

/// Returns how many were exported, and the drops, of a signal whose account must add up.
fn sums(totals: &Totals) -> (u64, Vec<(&'static str, u64)>) {
    assert_eq!(totals.created, totals.exported + totals.dropped_in_all(), "{totals:?}");
    (totals.exported, totals.dropped.clone().into_iter().collect())
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|n| n.to_string()).collect()
}

#[test]
fn full_batches_leave_at_once_and_the_rest_when_it_is_flushed() {
    let receiver = Receiver::answering([]);
    let test = Test::new(100);
    let exporter =
        test.start(test.traces(export(receiver.address)), test.metrics(export(receiver.address), 7));
    names(250).into_iter().for_each(|name| test.span(name));
    let first = receiver.call();
    assert_eq!(first.items.len(), 100);
    let outcome = exporter.shutdown(soon());
    assert_eq!((sums(&outcome.spans), sums(&outcome.points)), ((250, vec![]), (7, vec![])));
    assert_eq!(test.accepted.load(Ordering::Relaxed), 1);

    let mut calls = receiver.calls();
    assert_eq!(calls.last().unwrap().items, ["m"; 7], "metrics come last");
    calls.pop();
    calls.push(first);
    let resource = calls[0].resource.clone().unwrap();
    assert!(resource.attributes.iter().any(|attribute| attribute.key == "service.instance.id"));
    let mut spans: Vec<_> = calls.into_iter().flat_map(|call| call.items).collect();
    spans.sort_by_key(|name| name.parse::<u64>().unwrap());
    assert_eq!(spans, names(250));
}

#[test]
fn headers_and_the_user_agent_arrive_also_with_gzip() {
    let receiver = Receiver::answering([]);
    let test = Test::new(100);
    let headers = [("x-api-key".to_owned(), "topsecret".to_owned().into())].into();
    let export = Export { headers, compression: Compression::Gzip, ..export(receiver.address) };
    let exporter = test.start(test.traces(export), None);
    test.span("one");
    assert_eq!(sums(&exporter.shutdown(soon()).spans), (1, vec![]));
    let call = receiver.call();
    assert_eq!(call.metadata.get("x-api-key").unwrap(), "topsecret");
    assert!(call.metadata.get("user-agent").unwrap().to_str().unwrap().starts_with("flowgen/"));
    assert_eq!(call.metadata.get("grpc-encoding").unwrap(), "gzip");
}

#[test]
fn a_collector_that_is_busy_for_a_while_gets_everything_in_the_end() {
    let busy =
        Status::with_details(Code::ResourceExhausted, "busy", retry_info(Duration::from_millis(1)).into());
    let receiver = Receiver::answering([
        Answer::Fail(Status::unavailable("starting")),
        Answer::Fail(busy),
        Answer::Fail(Status::aborted("again")),
    ]);
    let test = Test::new(10);
    let exporter = test.start(test.traces(export(receiver.address)), None);
    test.span("one");
    assert_eq!(sums(&exporter.shutdown(soon()).spans), (1, vec![]));
    assert_eq!(receiver.calls().len(), 4);
}

#[test]
fn what_is_refused_for_good_is_dropped_under_its_reason() {
    for (status, reason) in [
        (Status::permission_denied("no"), "permission_denied"),
        (Status::resource_exhausted("quota"), "resource_exhausted"),
        (Status::unimplemented("no traces here"), "unimplemented"),
    ] {
        let receiver = Receiver::answering([Answer::Fail(status)]);
        let test = Test::new(2);
        let exporter = test.start(test.traces(export(receiver.address)), None);
        test.span("a");
        test.span("b");
        receiver.call();
        test.span("c");
        assert_eq!(sums(&exporter.shutdown(soon()).spans), (1, vec![(reason, 2)]));
    }
}

#[test]
fn what_the_collector_rejects_of_a_call_is_dropped() {
    let receiver = Receiver::answering([Answer::TakeAllBut(2), Answer::TakeAllBut(1000)]);
    let test = Test::new(5);
    let exporter =
        test.start(test.traces(export(receiver.address)), test.metrics(export(receiver.address), 3));
    names(5).into_iter().for_each(|name| test.span(name));
    let outcome = exporter.shutdown(soon());
    assert_eq!(sums(&outcome.spans), (3, vec![(REJECTED, 2)]));
    assert_eq!(sums(&outcome.points), (0, vec![(REJECTED, 3)]));
}

#[test]
fn a_body_that_is_too_large_is_halved_until_it_is_taken() {
    let receiver = Receiver::start(|items| {
        if items.len() > 3 || items.iter().any(|name| name == "huge") {
            return Answer::Fail(Status::resource_exhausted(
                "grpc: received message larger than max (9 vs. 8)",
            ));
        }
        Answer::Take
    });
    let test = Test::new(100);
    let exporter =
        test.start(test.traces(export(receiver.address)), test.metrics(export(receiver.address), 20));
    names(40).into_iter().for_each(|name| test.span(name));
    test.span("huge");
    let outcome = exporter.shutdown(soon());
    assert_eq!(sums(&outcome.spans), (40, vec![("resource_exhausted", 1)]));
    assert_eq!(sums(&outcome.points), (20, vec![]));
    let taken = receiver.calls().into_iter().filter(|call| call.was_taken);
    let (points, mut spans): (Vec<_>, Vec<_>) =
        taken.flat_map(|call| call.items).partition(|name| name == "m");
    spans.sort_by_key(|name| name.parse::<u64>().unwrap());
    assert_eq!((spans, points.len()), (names(40), 20));
}

#[test]
fn metrics_leave_at_every_interval_and_a_delta_learns_what_arrived() {
    let receiver = Receiver::answering([Answer::Fail(Status::invalid_argument("no")), Answer::Take]);
    let test = Test::new(1);
    let metrics = test.metrics(export(receiver.address), 2).unwrap();
    let metrics = MetricsExport { interval: Duration::from_millis(5), ..metrics };
    let exporter = test.start(None, Some(metrics));
    receiver.call();
    receiver.call();
    let points = exporter.shutdown(soon()).points;
    let (exported, dropped) = sums(&points);
    assert_eq!(dropped, [("invalid_argument", 2)]);
    assert_eq!(exported, 2 * test.accepted.load(Ordering::Relaxed));
}

#[test]
fn points_that_a_newer_collection_follows_are_given_up() {
    let receiver = Receiver::answering([Answer::Fail(Status::unavailable("starting"))]);
    let test = Test::new(1);
    let metrics = test.metrics(export(receiver.address), 2).unwrap();
    let exporter = test.start(None, Some(MetricsExport { interval: Duration::from_millis(1), ..metrics }));
    receiver.call();
    receiver.call();
    let (exported, dropped) = sums(&exporter.shutdown(soon()).points);
    assert_eq!(dropped, [("unavailable", 2)]);
    assert!(exported > 0);
}

#[test]
fn a_collector_that_never_answers_holds_up_nobody_beyond_the_deadline() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let hanging = Receiver::start(|_| Answer::Hang);
    for address in [silent.local_addr().unwrap(), hanging.address] {
        let test = Test::new(2);
        let exporter = test.start(test.traces(export(address)), test.metrics(export(address), 3));
        names(9).into_iter().for_each(|name| test.span(name));
        let outcome = exporter.shutdown(Instant::now() + Duration::from_millis(200));
        assert_eq!(sums(&outcome.spans), (0, vec![(FLUSH_DEADLINE, 9)]));
        assert_eq!(outcome.points.exported, 0);
        sums(&outcome.points);
    }
}

#[test]
fn metrics_are_flushed_also_when_the_collector_of_spans_does_not_answer() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let receiver = Receiver::answering([]);
    let test = Test::new(2);
    let exporter = test
        .start(test.traces(export(silent.local_addr().unwrap())), test.metrics(export(receiver.address), 3));
    test.span("a");
    let outcome = exporter.shutdown(Instant::now() + Duration::from_secs(2));
    assert_eq!(sums(&outcome.spans), (0, vec![(FLUSH_DEADLINE, 1)]));
    assert_eq!(sums(&outcome.points), (3, vec![]));
}

#[test]
fn a_deadline_that_has_passed_still_makes_the_accounts_add_up() {
    let receiver = Receiver::answering([]);
    let test = Test::new(2);
    let exporter =
        test.start(test.traces(export(receiver.address)), test.metrics(export(receiver.address), 3));
    names(1000).into_iter().for_each(|name| test.span(name));
    let outcome = exporter.shutdown(Instant::now());
    assert_eq!(outcome.spans.created, 1000);
    sums(&outcome.spans);
    sums(&outcome.points);
}

/// Metrics that end the exporter's thread, or keep it.
struct Fatal(bool);

impl Collect for Fatal {
    fn collect(&mut self) -> Vec<Metric> {
        if self.0 {
            panic!("the collection fails");
        }
        loop {
            std::thread::park();
        }
    }

    fn accepted(&mut self) {}
}

#[test]
fn a_thread_that_is_stuck_or_gone_leaves_accounts_that_add_up() {
    let hanging = Receiver::start(|_| Answer::Hang);
    for panics in [true, false] {
        let test = Test::new(2);
        let interval = Duration::from_millis(1);
        let metrics =
            MetricsExport { export: export(hanging.address), collect: Box::new(Fatal(panics)), interval };
        let exporter = test.start(test.traces(export(hanging.address)), Some(metrics));
        names(5).into_iter().for_each(|name| test.span(name));
        let outcome = exporter.shutdown(Instant::now() + Duration::from_millis(200));
        assert_eq!(sums(&outcome.spans), (0, vec![(FLUSH_DEADLINE, 5)]));
    }
}

#[test]
fn an_exporter_that_is_dropped_ends_its_thread() {
    let hanging = Receiver::start(|_| Answer::Hang);
    let test = Test::new(1);
    let metrics = test.metrics(export(hanging.address), 1);
    let exporter = test.start(test.traces(export(hanging.address)), metrics);
    test.span("a");
    hanging.call();
    drop(exporter);
    // The thread holds the queue for as long as it lives.
    while Arc::strong_count(&test.queue) > 1 {
        std::thread::yield_now();
    }
    assert_eq!(test.accounts.spans.totals().dropped, [(FLUSH_DEADLINE, 1)].into());
}

#[test]
fn an_exporter_of_nothing_ends() {
    let test = Test::new(1);
    assert_eq!(test.start(None, None).shutdown(soon()), Outcome::default());
}

#[tokio::test]
async fn says_what_keeps_it_from_an_answer() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    for (endpoint, error_type, cause) in [
        (unused.to_string(), "connection", "tcp connect error: Connection refused"),
        ("nowhere.invalid:4317".to_owned(), "dns", "dns error: "),
        (silent.to_string(), "timeout", "no answer within 100ms"),
    ] {
        let timeout = if error_type == "timeout" { Duration::from_millis(100) } else { LONG };
        let client = Client::new(Signal::Traces, &Export { timeout, ..export(endpoint) }).unwrap();
        let error = client.export(bytes::Bytes::new()).await.unwrap_err();
        assert!(error.to_string().starts_with(cause), "{error}");
        assert_eq!((error.error_type(), error.is_retryable()), (error_type, true), "{error}");
    }
}

#[tokio::test]
async fn no_text_shows_the_password_of_an_endpoint_or_the_value_of_a_header() {
    let receiver = Receiver::answering([Answer::Fail(Status::unauthenticated("key topsecret is unknown"))]);
    let headers = [("x-api-key".to_owned(), "topsecret".to_owned().into())].into();
    let endpoint = format!("http://user:topsecret@{}/topsecret", receiver.address);
    let client = Client::new(Signal::Traces, &Export { endpoint, headers, ..export("") }).unwrap();
    let error = client.export(bytes::Bytes::new()).await.unwrap_err();
    let shown = format!("{error} {error:?} {client:?} {}", client.endpoint());
    assert!(!shown.contains("topsecret"), "{shown}");
    assert_eq!(error.to_string(), "UNAUTHENTICATED: key *** is unknown");
}
