//! What the span of a request says, and what the other side learns of the trace. Calls the task as the
//! runtime does.

use std::path::PathBuf;

use flowgen::{
    event::{Event, EventId, Payload},
    problem::Problems,
    task::{BuildContext, Output, Processor, Task, TaskError},
    tasks::registry,
    telemetry::{Attributes, SpanKind},
    trace::TraceContext,
};
use serde_json::{Value, json};

use crate::support::http::{self, Reply, Server, response};

const TRACE: TraceContext = TraceContext { trace_id: 0xabc, span_id: 0xdef, flags: 1 };
const TRACEPARENT: &str = "00-00000000000000000000000000000abc-0000000000000def-01";

/// Builds a task; `HOST` is where the server is.
async fn task(server: &Server, config: Value) -> Box<dyn Processor> {
    build(&config.to_string().replace("HOST", &server.address.to_string())).await
}

/// Builds a task of a configuration in JSON.
pub(super) async fn build(config: &str) -> Box<dyn Processor> {
    let kind = registry().get("http_request").unwrap();
    let mut problems = Problems::default();
    let prepared = kind.prepare(serde_json::from_str(config).unwrap(), &mut problems).unwrap();
    assert!(problems.is_empty());
    let context = BuildContext::new("f", "t", PathBuf::from("."));
    match prepared.build(&context).await.unwrap() {
        Task::Processor(processor) => processor,
        task => panic!("{task:?}"),
    }
}

pub(super) fn event() -> Event {
    let mut event = Event::new(EventId::Sequence(0), "s".into(), Payload::from(json!({"id": "m4rker"})));
    event.trace = TRACE;
    event
}

/// Makes one attempt, and returns what its span says.
async fn attempt(server: &Server, config: Value) -> (Result<(), TaskError>, Attributes) {
    let mut output = Output::default();
    output.trace(true);
    let result = task(server, config).await.handle(&event(), &mut output).await;
    (result, output.take_attributes())
}

fn keys(attributes: &Attributes) -> Vec<&str> {
    attributes.iter().map(|attribute| &*attribute.key).collect()
}

#[tokio::test]
async fn a_span_describes_the_request_and_the_response_and_tells_no_secret() {
    let head = "200 OK\r\ncontent-type: application/json\r\nset-cookie: m4rker\r\nx-request-id: r-1\r\nX-Request-Id: r-2";
    let server = Server::start(move |_, _| response(head, "\"m4rker\""));
    let config = json!({
        "endpoint": "http://m4rker:m4rker@HOST/orders/7?key=m4rker&id={{ event.data.id }}#m4rker",
        "method": "POST",
        "headers": {"authorization-x": "m4rker", "x-request-id": "q-1"},
        "payload": {"object": {"key": "{{ event.data.id }}"}},
    });
    let (result, attributes) = attempt(&server, config).await;
    result.unwrap();
    assert!(!format!("{attributes:?}").contains("m4rker"), "{attributes:?}");
    let list = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned().into()).collect::<Vec<_>>().into();
    let expected = [
        ("http.request.method", "POST".into()),
        ("server.address", "127.0.0.1".into()),
        ("server.port", server.address.port().into()),
        ("url.scheme", "http".into()),
        ("http.request.body.size", 16_i64.into()),
        ("http.request.header.x-request-id", list(&["q-1"])),
        ("http.response.status_code", 200_i64.into()),
        ("network.protocol.version", "1.1".into()),
        ("http.response.body.size", 8_i64.into()),
        ("http.response.header.x-request-id", list(&["r-1", "r-2"])),
    ];
    assert_eq!(keys(&attributes), expected.each_ref().map(|(key, _)| *key));
    for (key, value) in &expected {
        assert_eq!(attributes.get(key), Some(value), "{key}");
    }
}

#[tokio::test]
async fn a_failed_attempt_is_described_as_far_as_it_came() {
    let server = Server::start(|n, _| match n {
        0 => response("503 Busy\r\nx-request-id: r-1", "m4rker"),
        _ => Reply::Close(Vec::new()),
    });
    let (result, attributes) = attempt(&server, json!({"endpoint": "http://HOST"})).await;
    assert_eq!(result.unwrap_err().error_type(), "503");
    assert_eq!(attributes.get("http.response.status_code"), Some(&503_i64.into()));
    assert!(attributes.get("http.response.header.x-request-id").is_some());
    let (result, attributes) = attempt(&server, json!({"endpoint": "http://HOST"})).await;
    assert_eq!(result.unwrap_err().error_type(), "io");
    assert_eq!(keys(&attributes), ["http.request.method", "server.address", "server.port", "url.scheme"]);
    let (result, attributes) = attempt(&server, json!({"endpoint": "{{ event.data.id }}"})).await;
    assert_eq!(result.unwrap_err().error_type(), "endpoint");
    assert_eq!(attributes, Attributes::default());
}

#[tokio::test]
async fn the_size_of_a_body_is_what_was_transferred_or_left_out() {
    let head = "200 OK\r\ncontent-encoding: gzip";
    let zipped = b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\x8b6\xd41\xd21\x8e\x05\0\xe9\xb3m\xfd\x07\0\0\0";
    let server = Server::start(move |_, _| response(head, zipped));
    let (result, attributes) = attempt(&server, json!({"endpoint": "http://HOST"})).await;
    result.unwrap();
    assert_eq!(attributes.get("http.response.body.size"), None);
    assert_eq!(attributes.get("http.request.body.size"), None, "nothing was sent");
}

#[tokio::test]
async fn a_span_that_nobody_records_is_not_described() {
    let server = Server::start(|_, _| http::json(1));
    let mut output = Output::default();
    output.trace(false);
    let task = task(&server, json!({"endpoint": "http://HOST"})).await;
    task.handle(&event(), &mut output).await.unwrap();
    assert_eq!(output.take_attributes(), Attributes::default());
    assert_eq!(server.requests()[0].header("traceparent"), Some(TRACEPARENT), "others may record theirs");
}

#[tokio::test]
async fn the_other_side_learns_where_in_the_trace_it_is_called() {
    let server = Server::start(|_, request| match &*request.line {
        "GET /old" => response("302 Found\r\nlocation: /new", ""),
        _ => http::json(1),
    });
    attempt(&server, json!({"endpoint": "http://HOST/old"})).await.0.unwrap();
    for request in &*server.requests() {
        assert_eq!(request.header("traceparent"), Some(TRACEPARENT), "{}", request.line);
        assert_eq!(request.header("tracestate"), None);
        assert_eq!(request.headers.iter().filter(|(name, _)| name.contains("trace")).count(), 1);
    }
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn a_traceparent_that_is_configured_wins() {
    let server = Server::start(|_, _| http::json(1));
    let config = json!({"endpoint": "http://HOST", "headers": {"Traceparent": "of {{ event.data.id }}"}});
    attempt(&server, config).await.0.unwrap();
    assert_eq!(server.requests()[0].header("traceparent"), Some("of m4rker"));
}

#[tokio::test]
async fn without_a_trace_nothing_of_one_is_sent() {
    let server = Server::start(|_, _| http::json(1));
    let task = task(&server, json!({"endpoint": "http://HOST"})).await;
    for trace in
        [TraceContext::default(), TraceContext { span_id: 0, ..TRACE }, TraceContext { trace_id: 0, ..TRACE }]
    {
        task.handle(&Event { trace, ..event() }, &mut Output::default()).await.unwrap();
    }
    let requests = server.requests();
    assert_eq!(requests.len(), 3);
    assert!(requests.iter().flat_map(|request| &request.headers).all(|(name, _)| !name.contains("trace")));
}

#[test]
fn a_request_is_a_client_or_a_server_span_and_all_else_is_internal() {
    for kind in registry().kinds() {
        let expected = match kind.name {
            "http_request" => SpanKind::Client,
            "http_endpoint" => SpanKind::Server,
            _ => SpanKind::Internal,
        };
        assert_eq!(kind.span_kind, expected, "{}", kind.name);
    }
}
