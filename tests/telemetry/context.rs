//! Traces that come from outside and go on outside: what is taken of a record, decided by it, and handed to a server.

use std::process::Command;

use rustix::process::Signal;
use serde_json::{Value, json};

use super::{Observed, export_to, sample, start_with};
use crate::support::{
    collector::{Collector, Span},
    http::{self, Request, Server},
    worker::Worker,
};

const TRACE_ID: u128 = 0x0af7_6519_16cd_43dd_8448_eb21_1c80_319c;
const PARENT: u64 = 0xb7ad_6b71_6920_3331;

/// A record that comes from a span outside with these flags.
fn record(flags: &str) -> Value {
    json!({
        "traceparent": format!("00-{TRACE_ID:032x}-{PARENT:016x}-{flags}"),
        "tracestate": "vendor=a1,other=b2",
        "baggage": "user=7;p=1",
    })
}

/// A flow that hands every record of a file to a server.
fn flow(server: &Server, mode: &str) -> String {
    format!(
        "
flow:
  tasks:
    - file: {{name: records, path: in.jsonl, trace_context: {mode}}}
    - script: {{name: same, code: event}}
    - http_request: {{name: call, endpoint: 'http://{}/', method: POST}}
",
        server.address
    )
}

struct Run {
    observed: Observed,
    requests: Vec<Request>,
}

impl Run {
    /// Runs one record through [`flow`].
    fn of(mode: &str, record: &Value, prepare: impl FnOnce(&mut Command)) -> Self {
        let (server, collector) = (Server::start(|_, _| http::json(1)), Collector::start());
        let file = format!("{record}\n");
        let worker = start_with(&collector, &flow(&server, mode), &[("in.jsonl", file.as_bytes())], prepare);
        let observed = Observed::after(worker.end(), &collector);
        assert_eq!(observed.ended.code, Some(0), "{}", observed.ended.stderr);
        let requests = server.requests().clone();
        assert_eq!(requests.len(), 1, "{requests:?}");
        Self { observed, requests }
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.requests[0].header(name)
    }

    /// Returns the spans of the event in the order of the tasks.
    fn chain(&self) -> Vec<&Span> {
        ["records", "same", "call"].iter().flat_map(|task| self.observed.handled(task)).collect()
    }
}

fn traceparent(span: &Span) -> String {
    format!("00-{:032x}-{:016x}-01", span.trace_id, span.span_id)
}

#[test]
fn a_trusted_trace_goes_on_through_every_task_and_out_again() {
    let run = Run::of("trust", &record("01"), |_| {});
    let chain = run.chain();
    assert_eq!(chain.len(), 3);
    let parents: Vec<_> = chain.iter().map(|span| span.parent).collect();
    assert_eq!(parents, [Some(PARENT), Some(chain[0].span_id), Some(chain[1].span_id)]);
    let remote: Vec<_> = chain.iter().map(|span| span.is_parent_remote).collect();
    assert_eq!(remote, [true, false, false]);
    assert!(chain.iter().all(|span| span.trace_id == TRACE_ID));
    assert_eq!(run.header("traceparent"), Some(&*traceparent(chain[2])));
    assert_eq!(run.header("tracestate"), Some("vendor=a1,other=b2"));
    assert_eq!(run.header("baggage"), Some("user=7;p=1"));
}

/// Scenario: whoever began the trace has decided. Guarantee: that stands, whatever the rate here.
#[test]
fn the_decision_of_whoever_began_the_trace_stands() {
    let run = Run::of("trust", &record("00"), |_| {});
    assert!(run.chain().is_empty(), "{:?}", run.observed.spans);
    let header = run.header("traceparent").unwrap();
    assert!(header.starts_with(&format!("00-{TRACE_ID:032x}-")) && header.ends_with("-00"), "{header}");
    assert_eq!(run.header("tracestate"), Some("vendor=a1,other=b2"));
    let run = Run::of("trust", &record("01"), |command| sample(0.0, command));
    assert_eq!(run.chain().len(), 3);
}

#[test]
fn a_sampler_that_is_not_based_on_parents_decides_by_itself() {
    let own =
        |sampler: &'static str| move |command: &mut Command| _ = command.env("OTEL_TRACES_SAMPLER", sampler);
    assert_eq!(Run::of("trust", &record("00"), own("always_on")).chain().len(), 3);
    assert_eq!(Run::of("trust", &record("01"), own("always_off")).chain().len(), 0);
    assert_eq!(Run::of("trust", &record("00"), own("parentbased_always_on")).chain().len(), 0);
    assert_eq!(Run::of("trust", &record("01"), own("parentbased_always_off")).chain().len(), 3);
}

#[test]
fn a_linked_trace_is_a_new_one_that_knows_the_other() {
    let run = Run::of("link", &record("00"), |_| {});
    let chain = run.chain();
    assert_eq!((chain.len(), chain[0].parent, chain[0].is_parent_remote), (3, None, false));
    assert!(chain.iter().all(|span| span.trace_id == chain[0].trace_id && span.trace_id != TRACE_ID));
    assert_eq!(chain[0].links, [(TRACE_ID, PARENT)]);
    assert!(chain[1].links.is_empty());
    assert_eq!(run.header("traceparent"), Some(&*traceparent(chain[2])));
    assert_eq!((run.header("tracestate"), run.header("baggage")), (None, Some("user=7;p=1")));
}

#[test]
fn a_record_decides_nothing_unless_it_is_trusted() {
    let run = Run::of("ignore", &record("00"), |_| {});
    let chain = run.chain();
    assert_eq!((chain.len(), chain[0].parent, chain[0].links.len()), (3, None, 0));
    assert_ne!(chain[0].trace_id, TRACE_ID);
    assert_eq!((run.header("tracestate"), run.header("baggage")), (None, None));
}

#[test]
fn what_is_malformed_begins_a_new_trace() {
    let broken = json!({"traceparent": "00-0-0-01", "tracestate": "a=1", "baggage": "a\r\nx-admin: 1"});
    let run = Run::of("trust", &broken, |_| {});
    let chain = run.chain();
    assert_eq!((chain.len(), chain[0].parent), (3, None));
    assert_eq!((run.header("tracestate"), run.header("baggage")), (None, None));
    assert_eq!(run.header("x-admin"), None);
}

/// Guarantee: what came is passed on as it came by a worker that exports nothing, or no traces.
#[test]
fn context_is_passed_on_where_no_trace_is_exported() {
    let given = record("01");
    for (name, value) in [("FLOWGEN_TELEMETRY__ENABLED", "false"), ("OTEL_TRACES_EXPORTER", "none")] {
        let run = Run::of("trust", &given, |command| _ = command.env(name, value));
        assert!(run.observed.spans.is_empty());
        for header in ["traceparent", "tracestate", "baggage"] {
            assert_eq!(run.header(header), given[header].as_str(), "{name}");
        }
        let run = Run::of("link", &given, |command| _ = command.env(name, value));
        assert_eq!((run.header("traceparent"), run.header("baggage")), (None, Some("user=7;p=1")), "{name}");
    }
}

#[test]
fn propagators_say_what_is_taken_and_passed_on() {
    let with = |propagators: &'static str| {
        Run::of("trust", &record("01"), move |command| _ = command.env("OTEL_PROPAGATORS", propagators))
    };
    let run = with("none");
    assert_eq!(run.chain()[0].parent, None);
    assert_eq!(["traceparent", "tracestate", "baggage"].map(|name| run.header(name)), [None; 3]);
    let run = with("baggage");
    assert_eq!(run.chain()[0].parent, None);
    assert_eq!(["traceparent", "baggage"].map(|name| run.header(name)), [None, Some("user=7;p=1")]);
    let run = with("tracecontext");
    assert_eq!(run.chain()[0].parent, Some(PARENT));
    assert_eq!((run.header("tracestate"), run.header("baggage")), (Some("vendor=a1,other=b2"), None));
}

#[test]
fn the_way_of_a_failed_event_goes_on_from_a_remote_parent_too() {
    for (mode, parent, links) in [("trust", Some(PARENT), vec![]), ("link", None, vec![(TRACE_ID, PARENT)])] {
        let yaml = format!(
            "
flow:
  tasks:
    - file: {{name: records, path: in.jsonl, trace_context: {mode}}}
    - script: {{name: same, code: event}}
    - script: {{name: fails, code: 'throw \"no\"'}}
"
        );
        let (collector, file) = (Collector::start(), format!("{}\n", record("00")));
        let worker = start_with(&collector, &yaml, &[("in.jsonl", file.as_bytes())], |command| {
            command.env("FLOWGEN_TELEMETRY__TRACE_SAMPLE_RATE", "0");
        });
        let observed = Observed::after(worker.end(), &collector);
        let chain: Vec<_> =
            ["records", "same", "fails"].iter().flat_map(|task| observed.handled(task)).collect();
        assert_eq!(chain.len(), 3, "{}", observed.ended.stderr);
        assert_eq!((chain[0].parent, chain[0].is_parent_remote), (parent, parent.is_some()), "{mode}");
        assert_eq!(chain[0].links, links);
        assert!(chain.iter().all(|span| span["flowgen.kept"] == "error"));
        assert_eq!(chain[2].parent, Some(chain[1].span_id));
    }
}

#[test]
fn a_source_has_a_rate_of_its_own() {
    let yaml = "
flow:
  tasks:
    - generate: {name: all, count: 20, telemetry: {sample_rate: 1.0}}
    - generate: {name: none, count: 20}
    - drop: {name: nowhere, depends_on: [all, none]}
";
    let collector = Collector::start();
    let observed =
        Observed::after(start_with(&collector, yaml, &[], |command| sample(0.0, command)).end(), &collector);
    let handled = |task| observed.handled(task).len();
    assert_eq!((handled("all"), handled("none"), handled("nowhere")), (20, 0, 20));
    assert_eq!((observed.count("all", "completed"), observed.count("none", "completed")), (20, 20));
}

#[test]
fn spans_say_what_the_configuration_asks_for() {
    let yaml = "
telemetry:
  trace_attributes:
    order.id: '{{ event.data.id }}'
    order.label: 'order {{ event.data.id }} of {{ event.subject }}'
    order.absent: '{{ event.data.nothing }}'
    file.path: mine
flow:
  tasks:
    - file: {name: orders, path: in.jsonl}
    - script: {name: next, code: 'event.data.id += 1; event'}
    - script: {name: picky, code: 'if event.data.id == 3 { throw \"no\" } event'}
";
    let file = b"{\"id\": 1}\n{\"id\": 2}\n";
    let collector = Collector::start();
    let observed = Observed::after(super::start(&collector, yaml, &[("in.jsonl", file)]).end(), &collector);
    let of = |task: &str| -> Vec<_> {
        let mut found: Vec<_> = observed
            .handled(task)
            .iter()
            .map(|span| (span["order.id"].as_i64().unwrap(), span.text("order.label").to_owned()))
            .collect();
        found.sort();
        found
    };
    let labels = |first: i64| [first, first + 1].map(|id| (id, format!("order {id} of orders")));
    assert_eq!(of("orders"), labels(1));
    // As the event was when it came, also where it fails.
    assert_eq!(of("next"), labels(1));
    assert_eq!(of("picky"), labels(2));
    let spans: Vec<_> = observed.spans_named("task.handle");
    assert!(
        spans.iter().all(|span| span["order.absent"].is_null() && span["file.path"] == "mine"),
        "{spans:?}"
    );
    assert!(spans.iter().all(|span| span["task"] != "orders" || span["file.offset"].is_u64()));
}

#[test]
fn the_span_of_a_failure_that_is_kept_says_it_too() {
    let yaml = "
telemetry:
  trace_sample_rate: 0.0
  trace_attributes: {order.id: '{{ event.data.id }}'}
flow:
  tasks:
    - generate: {name: orders, count: 1, payload: {id: 7}}
    - script: {name: fails, code: 'throw \"no\"'}
";
    let collector = Collector::start();
    let observed = Observed::after(super::start(&collector, yaml, &[]).end(), &collector);
    assert_eq!(observed.handled("fails")[0]["order.id"], 7);
}

#[test]
fn requests_are_timed_by_where_they_go_and_how_they_end() {
    let server = Server::start(|n, _| match n {
        0 => http::response("503 Service Unavailable", ""),
        _ => http::json(1),
    });
    let yaml = format!(
        "
flow:
  tasks:
    - generate: {{name: numbers, count: 3}}
    - http_request: {{name: call, endpoint: 'http://{}/', retry: {{initial_backoff: 1ms}}}}
",
        server.address
    );
    let observed = super::observe(&yaml, &[]);
    let name = "http.client.request.duration";
    let port = server.address.port().to_string();
    let place = [
        ("task", "call"),
        ("http.request.method", "GET"),
        ("server.address", "127.0.0.1"),
        ("server.port", &*port),
    ];
    let count = |status: &str| {
        observed
            .metrics
            .histogram_count(name, &[&place[..], &[("http.response.status_code", status)]].concat())
    };
    assert_eq!((count("503"), count("200")), (1, 3));
    assert_eq!(observed.metrics.histogram_count(name, &[("error.type", "503")]), 1);
}

/// Scenario: an API that wants a token, takes the first one back, redirects, and answers in two pages.
/// Guarantee: each request is one record with its own status, where it went.
#[test]
fn every_request_counts_once_whatever_it_is_made_for() {
    let tokens = Server::start(|n, _| http::json(json!({"access_token": format!("t{n}")})));
    let server = Server::start(|_, request| match (&*request.line, request.header("authorization")) {
        (_, Some("Bearer t0")) => http::response("401 Unauthorized", ""),
        ("GET /", _) => http::response("302 Found\r\nlocation: /1", ""),
        ("GET /1", _) => http::response("200 OK\r\nlink: </2>; rel=next", "1"),
        _ => http::json(2),
    });
    let yaml = format!(
        "
flow:
  tasks:
    - generate: {{name: numbers, count: 1}}
    - http_request:
        name: call
        endpoint: 'http://{}/'
        pagination: {{type: link_header}}
        auth: {{oauth2: {{token_url: 'http://{}/', client_id: c, client_secret: s}}}}
    - drop: {{name: nowhere}}
",
        server.address, tokens.address
    );
    let observed = super::observe(&yaml, &[]);
    let count = |method: &str, server: &Server, status: &str| {
        let port = server.address.port().to_string();
        let place =
            [("http.request.method", method), ("server.port", &*port), ("http.response.status_code", status)];
        observed.metrics.histogram_count("http.client.request.duration", &place)
    };
    assert_eq!(count("POST", &tokens, "200"), 2);
    assert_eq!(["401", "302", "200"].map(|status| count("GET", &server, status)), [1, 1, 2]);
    assert_eq!(observed.metrics.histogram_count("http.client.request.duration", &[("task", "call")]), 6);
    assert_eq!(observed.metrics.histogram_count("http.client.request.duration", &[("error.type", "401")]), 1);
    let span = &observed.handled("call")[0];
    assert_eq!(
        (&span["http.request.method"], &span["http.response.status_code"]),
        (&"GET".into(), &200.into())
    );
}

#[test]
fn a_circuit_shows_how_it_is_and_what_it_was() {
    let server = Server::start(|n, _| if n == 1 { http::json(1) } else { http::response("503 Busy", "") });
    let yaml = format!(
        "
retry: {{initial_backoff: 1ms, max_attempts: 4}}
flow:
  tasks:
    - generate: {{name: numbers, count: 2}}
    - http_request:
        name: call
        endpoint: 'http://{}/'
        on_error: drop
        circuit_breaker: {{failure_threshold: 1, open_for: 100ms}}
",
        server.address
    );
    let observed = super::observe(&yaml, &[]);
    let became = |state| {
        observed.metrics.counter("flowgen.http.circuit.transitions", &[("task", "call"), ("state", state)])
    };
    // The first event: open, half open, closed. The second one: open, half open, open.
    assert_eq!(["open", "half_open", "closed"].map(became), [3, 2, 1]);

    // One that stays open is seen to be.
    let collector = Collector::start();
    let server = Server::start(|_, _| http::response("503 Busy", ""));
    let yaml = format!(
        "
retry: {{initial_backoff: 1ms}}
flow:
  tasks:
    - generate: {{name: numbers, count: 1}}
    - http_request: {{name: call, endpoint: 'http://{}/', circuit_breaker: {{failure_threshold: 2, open_for: 1h}}}}
",
        server.address
    );
    let worker = start_with(&collector, &yaml, &[], |command| {
        command.env("FLOWGEN_TELEMETRY__METRICS_EXPORT_INTERVAL", "20ms");
    });
    let name = "flowgen.http.circuit.state";
    collector.wait_until(|received| {
        let metrics = received.metrics();
        let is = |state| {
            let series = metrics.get(name)?;
            let point =
                series.iter().find(|(labels, _)| labels.get("state").is_some_and(|known| known == state));
            point.map(|(_, point)| format!("{:?}", point.number))
        };
        (is("open"), is("half_open")) == (Some("Gauge(1.0)".to_owned()), Some("Gauge(0.0)".to_owned()))
    });
    worker.signal(Signal::KILL);
    assert_eq!(worker.end().code, None);
}

#[test]
fn telemetry_that_is_off_takes_a_rate_and_attributes_and_does_nothing_with_them() {
    let yaml = "
telemetry: {enabled: false, trace_attributes: {a: '{{ event.id }}'}}
flow:
  tasks:
    - generate: {name: numbers, count: 5, telemetry: {sample_rate: 0.5}}
    - drop: {name: nowhere}
";
    let collector = Collector::start();
    let ended = Worker::start_with(yaml, &[], |command| {
        export_to(&collector.endpoint(), command);
        command.env_remove("FLOWGEN_TELEMETRY__ENABLED");
    })
    .end();
    assert_eq!((ended.code, collector.calls().len()), (Some(0), 0), "{}", ended.stderr);
}
