//! The exporter against receivers that follow a script.

mod receiver;
mod temporality;
mod tls;

use std::{
    collections::BTreeMap,
    convert::Infallible,
    future::{Ready, ready},
    io::Write,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use hyper::http;
use opentelemetry_proto::tonic::metrics::v1::{Metric, NumberDataPoint, Sum, metric::Data};
use tonic::{
    Code, Status,
    body::Body,
    codegen::Service,
    server::NamedService,
    transport::{Server, server::TcpIncoming},
};

use super::{
    accounts::{FLUSH_DEADLINE, QUEUE_FULL, REJECTED, Totals},
    error::retry_info,
    exporter::Outcome,
    metrics::Collect,
    traces::MAX_BATCHES,
    *,
};
use crate::{
    telemetry::{
        Compression, Export, Meter, Signal, SpanKind, SpanRecord, Temporality, TlsConfig, config,
        queue::SpanQueue, series::Series,
    },
    trace::{Ticks, TraceContext},
};
use receiver::{Answer, Call, Receiver};

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

/// Collects one metric of so many points.
fn collecting(points: usize) -> Collect {
    Box::new(move |_| {
        let data = Sum { data_points: vec![NumberDataPoint::default(); points], ..Sum::default() };
        vec![Metric { name: "m".into(), data: Some(Data::Sum(data)), ..Metric::default() }]
    })
}

/// An exporter under test, with what it exports.
struct Test {
    queue: Arc<SpanQueue>,
    batch: usize,
}

impl Test {
    fn new(batch: usize) -> Self {
        let queue = SpanQueue::new(&config::SpanQueue { size: 10_000, batch, delay: LONG });
        Self { queue: Arc::new(queue), batch }
    }

    /// Queues a span that the receiver sees by this number.
    fn span(&self, number: u64) {
        let series = Series::new("task.handle", SpanKind::Internal, None, &[]);
        let context = TraceContext { trace_id: 1, span_id: number, ..TraceContext::default() };
        self.queue.push(Box::new(SpanRecord::new(Arc::new(series), context, 0, Ticks::now())));
    }

    fn traces(&self, export: Export) -> Option<TracesExport> {
        let queue = Arc::clone(&self.queue);
        Some(TracesExport { export, queue, batch: self.batch, delay: LONG })
    }

    fn metrics(&self, export: Export, points: usize) -> Option<MetricsExport> {
        Some(MetricsExport {
            export,
            collect: collecting(points),
            first: LONG,
            interval: LONG,
            cardinality_limit: None,
            temporality: Temporality::Cumulative,
            is_observed: |_| false,
        })
    }

    fn start(&self, traces: Option<TracesExport>, metrics: Option<MetricsExport>) -> Exporter {
        let resource = resource(SERVICE, &BTreeMap::new());
        Exporter::start(traces, metrics, &resource, Meter::default()).unwrap()
    }
}

/// Returns how many were exported, and the drops, of a signal whose account must add up.
fn sums(totals: &Totals) -> (u64, Vec<(&'static str, u64)>) {
    assert_eq!(totals.created, totals.exported + totals.dropped_in_all(), "{totals:?}");
    (totals.exported, totals.dropped.clone().into_iter().collect())
}

/// Returns the numbers of the spans in calls, in their order.
fn numbers(calls: impl IntoIterator<Item = Call>) -> Vec<u64> {
    let mut numbers: Vec<_> =
        calls.into_iter().flat_map(|call| call.items).map(|it| it.parse().unwrap()).collect();
    numbers.sort_unstable();
    numbers
}

#[test]
fn full_batches_leave_at_once_and_the_rest_when_it_is_flushed() {
    let receiver = Receiver::answering([]);
    let test = Test::new(100);
    let exporter =
        test.start(test.traces(export(receiver.address)), test.metrics(export(receiver.address), 7));
    (0..100).for_each(|n| test.span(n));
    let first = receiver.call();
    assert_eq!(first.items.len(), 100);
    (100..250).for_each(|n| test.span(n));
    let outcome = exporter.shutdown(soon());
    assert_eq!((sums(&outcome.spans), sums(&outcome.points)), ((250, vec![]), (7, vec![])));

    let mut calls = receiver.calls();
    assert_eq!(calls.last().unwrap().items, ["m"; 7], "metrics come last");
    calls.pop();
    calls.push(first);
    let resource = calls[0].resource.clone().unwrap();
    assert!(resource.attributes.iter().any(|attribute| attribute.key == "service.instance.id"));
    assert_eq!(numbers(calls), Vec::from_iter(0..250));
}

#[test]
fn headers_and_the_user_agent_arrive_also_with_gzip() {
    let receiver = Receiver::answering([]);
    let test = Test::new(100);
    let headers = [("x-api-key".to_owned(), "topsecret".to_owned().into())].into();
    let export = Export { headers, compression: Compression::Gzip, ..export(receiver.address) };
    let exporter = test.start(test.traces(export), None);
    test.span(1);
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
    test.span(1);
    assert_eq!(sums(&exporter.shutdown(soon()).spans), (1, vec![]));
    assert_eq!(receiver.calls().len(), 4);
}

#[test]
fn the_order_to_flush_ends_the_wait_for_the_next_attempt() {
    let later = retry_info(Duration::from_secs(3600)).into();
    let later = Status::with_details(Code::Unavailable, "starting", later);
    let receiver = Receiver::answering([Answer::Fail(later)]);
    let test = Test::new(1);
    let exporter = test.start(test.traces(export(receiver.address)), None);
    // Answers come in the order of the calls, and only so many are waited for at once: the first failure is
    // known when the last of these calls is made.
    let spans = MAX_BATCHES as u64 + 2;
    for number in 0..spans {
        test.span(number);
        receiver.call();
    }
    let outcome = exporter.shutdown(Instant::now() + Duration::from_secs(20));
    assert_eq!(sums(&outcome.spans), (spans, vec![]));
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
        test.span(1);
        test.span(2);
        receiver.call();
        test.span(3);
        assert_eq!(sums(&exporter.shutdown(soon()).spans), (1, vec![(reason, 2)]));
    }
}

#[test]
fn what_the_collector_rejects_of_a_call_is_dropped() {
    let receiver = Receiver::answering([Answer::TakeAllBut(2), Answer::TakeAllBut(1000)]);
    let test = Test::new(5);
    let exporter =
        test.start(test.traces(export(receiver.address)), test.metrics(export(receiver.address), 3));
    (0..5).for_each(|n| test.span(n));
    let outcome = exporter.shutdown(soon());
    assert_eq!(sums(&outcome.spans), (3, vec![(REJECTED, 2)]));
    assert_eq!(sums(&outcome.points), (0, vec![(REJECTED, 3)]));
}

#[test]
fn a_body_that_is_too_large_is_halved_until_it_is_taken() {
    const HUGE: &str = "999";
    let receiver = Receiver::start(|items| {
        if items.len() > 3 || items.iter().any(|name| name == HUGE) {
            return Answer::Fail(Status::resource_exhausted(
                "grpc: received message larger than max (9 vs. 8)",
            ));
        }
        Answer::Take
    });
    let test = Test::new(100);
    let exporter =
        test.start(test.traces(export(receiver.address)), test.metrics(export(receiver.address), 20));
    (0..40).for_each(|n| test.span(n));
    test.span(HUGE.parse().unwrap());
    let outcome = exporter.shutdown(soon());
    assert_eq!(sums(&outcome.spans), (40, vec![("resource_exhausted", 1)]));
    assert_eq!(sums(&outcome.points), (20, vec![]));
    let taken = receiver.calls().into_iter().filter(|call| call.was_taken);
    let (metrics, spans): (Vec<_>, Vec<_>) = taken.partition(|call| call.items[0] == "m");
    assert_eq!(numbers(spans), Vec::from_iter(0..40));
    assert_eq!(metrics.iter().map(|call| call.items.len()).sum::<usize>(), 20);
}

#[test]
fn metrics_leave_at_every_interval() {
    let receiver = Receiver::answering([Answer::Fail(Status::invalid_argument("no")), Answer::Take]);
    let test = Test::new(1);
    let metrics = test.metrics(export(receiver.address), 2).unwrap();
    let often = Duration::from_millis(5);
    let metrics = MetricsExport { first: often, interval: often, ..metrics };
    let exporter = test.start(None, Some(metrics));
    receiver.call();
    receiver.call();
    let (exported, dropped) = sums(&exporter.shutdown(soon()).points);
    assert_eq!(dropped, [("invalid_argument", 2)]);
    assert!(exported >= 4, "{exported}");
}

#[test]
fn a_call_that_hangs_does_not_keep_the_last_metrics_from_leaving() {
    let receiver = Receiver::answering([Answer::Hang]);
    let test = Test::new(1);
    let metrics = test.metrics(export(receiver.address), 2).unwrap();
    let exporter = test.start(None, Some(MetricsExport { first: Duration::from_millis(1), ..metrics }));
    receiver.call();
    let points = exporter.shutdown(Instant::now() + Duration::from_secs(4)).points;
    assert_eq!(sums(&points), (2, vec![("timeout", 2)]));
}

#[test]
fn a_batch_without_end_takes_no_memory() {
    let receiver = Receiver::answering([]);
    let test = Test::new(usize::MAX);
    let exporter = test.start(test.traces(export(receiver.address)), None);
    test.span(1);
    assert_eq!(sums(&exporter.shutdown(soon()).spans), (1, vec![]));
}

#[test]
fn points_that_a_newer_collection_follows_are_given_up() {
    let later = retry_info(Duration::from_secs(30)).into();
    let later = Status::with_details(Code::Unavailable, "starting", later);
    let receiver = Receiver::answering([Answer::Fail(later)]);
    let test = Test::new(1);
    let metrics = test.metrics(export(receiver.address), 2).unwrap();
    let exporter = test.start(
        None,
        Some(MetricsExport {
            first: Duration::from_millis(1),
            interval: Duration::from_millis(1),
            ..metrics
        }),
    );
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
        (0..9).for_each(|n| test.span(n));
        let outcome = exporter.shutdown(Instant::now() + Duration::from_millis(200));
        assert_eq!(sums(&outcome.spans), (0, vec![(FLUSH_DEADLINE, 9)]));
        assert_eq!(outcome.points.exported, 0);
        sums(&outcome.points);
    }
}

#[test]
fn spans_that_find_the_queue_full_are_accounted_for() {
    let hanging = Receiver::start(|_| Answer::Hang);
    let test = Test::new(1000);
    let exporter = test.start(test.traces(export(hanging.address)), None);
    for _ in 0..MAX_BATCHES {
        (0..1000).for_each(|n| test.span(n));
        hanging.call();
    }
    // The queue keeps twice its size of traces that were begun.
    (0..20_007).for_each(|n| test.span(n));
    let outcome = exporter.shutdown(Instant::now() + Duration::from_millis(50));
    assert_eq!(sums(&outcome.spans), (0, vec![(FLUSH_DEADLINE, 24_000), (QUEUE_FULL, 7)]));
}

#[test]
fn metrics_are_flushed_also_when_the_collector_of_spans_does_not_answer() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let receiver = Receiver::answering([]);
    let test = Test::new(2);
    let exporter = test
        .start(test.traces(export(silent.local_addr().unwrap())), test.metrics(export(receiver.address), 3));
    test.span(1);
    let outcome = exporter.shutdown(Instant::now() + Duration::from_secs(4));
    assert_eq!(sums(&outcome.spans), (0, vec![(FLUSH_DEADLINE, 1)]));
    assert_eq!(sums(&outcome.points), (3, vec![]));
}

#[test]
fn a_deadline_that_has_passed_still_makes_the_accounts_add_up() {
    let receiver = Receiver::answering([]);
    let test = Test::new(2);
    let exporter =
        test.start(test.traces(export(receiver.address)), test.metrics(export(receiver.address), 3));
    (0..1000).for_each(|n| test.span(n));
    let outcome = exporter.shutdown(Instant::now());
    assert_eq!(outcome.spans.created, 1000);
    sums(&outcome.spans);
    test.span(1000);
    assert_eq!(test.queue.counts().created, 1000, "the account is closed");
    sums(&outcome.points);
}

/// Ends the exporter's thread, or keeps it.
fn fatal(panics: bool) -> Vec<Metric> {
    if panics {
        panic!("the collection fails");
    }
    loop {
        std::thread::park();
    }
}

#[test]
fn a_thread_that_is_stuck_or_gone_leaves_accounts_that_add_up() {
    let hanging = Receiver::start(|_| Answer::Hang);
    for panics in [true, false] {
        let test = Test::new(2);
        let interval = Duration::from_millis(1);
        let metrics = MetricsExport {
            collect: Box::new(move |_| fatal(panics)),
            first: interval,
            interval,
            ..test.metrics(export(hanging.address), 0).unwrap()
        };
        let exporter = test.start(test.traces(export(hanging.address)), Some(metrics));
        (0..5).for_each(|n| test.span(n));
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
    test.span(1);
    hanging.call();
    let accounts = Arc::clone(&exporter.accounts);
    drop(exporter);
    // The thread holds the accounts for as long as it lives.
    while Arc::strong_count(&accounts) > 1 {
        std::thread::yield_now();
    }
    assert_eq!(accounts.spans().dropped, [(FLUSH_DEADLINE, 1)].into());
}

#[test]
fn an_exporter_of_nothing_ends() {
    let test = Test::new(1);
    assert_eq!(test.start(None, None).shutdown(soon()), Outcome::default());
}

/// Answers every connection with these bytes and hangs up.
fn hanging_up(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            // The other side may be gone first.
            let _ = stream.unwrap().write_all(answer);
        }
    });
    address
}

#[tokio::test]
async fn says_what_keeps_it_from_an_answer() {
    let unused = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap();
    let http1 = hanging_up(b"HTTP/1.1 400 Bad Request\r\n\r\n");
    for (endpoint, error_type, cause) in [
        (unused.to_string(), "connection", "tcp connect error: Connection refused"),
        (hanging_up(b"").to_string(), "connection", ""),
        (http1.to_string(), "connection", ""),
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

/// Answers with a status whose details are no base64, which the libraries below do not expect.
#[derive(Clone)]
struct Garbled;

impl NamedService for Garbled {
    const NAME: &str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl Service<http::Request<Body>> for Garbled {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Ready<Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Request<Body>) -> Self::Future {
        let response = http::Response::builder()
            .header("content-type", "application/grpc")
            .header("grpc-status", "3")
            .header("grpc-status-details-bin", "%%%");
        ready(Ok(response.body(Body::empty()).unwrap()))
    }
}

#[tokio::test]
async fn an_answer_that_breaks_the_protocol_is_an_error_like_any_other() {
    let incoming = TcpIncoming::bind(([127, 0, 0, 1], 0).into()).unwrap();
    let address = incoming.local_addr().unwrap();
    let server = Server::builder().add_service(Garbled).serve_with_incoming(incoming);
    let client = Client::new(Signal::Traces, &export(address)).unwrap();
    let error = tokio::select! {
        result = client.export(bytes::Bytes::new()) => result.unwrap_err(),
        ended = server => panic!("{ended:?}"),
    };
    assert_eq!((error.error_type(), error.is_retryable()), ("protocol", false));
}
