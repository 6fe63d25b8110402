//! Log lines inside an event: they lead to its span.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{Observed, observe, observe_with, sample, start_with};
use crate::support::collector::{Collector, Span};

const FLOW: &str = "
flow:
  name: orders
  tasks:
    - generate: {name: numbers, count: 5}
    - log: {name: seen}
    - filter: {name: asked, condition: 'print(`asked`); true'}
    - script: {name: picky, code: 'print(`at ${event.id}`); if event.id == \"3\" { throw \"no threes\" } event'}
";

/// Returns the spans that lines lead to, after checking that they are spans of the event and the task.
fn led_to<'a>(observed: &'a Observed, lines: &[Value]) -> Vec<&'a Span> {
    let spans = observed.spans_named("task.handle");
    let find = |line: &Value| {
        let id = |key: &str| line[key].as_str().unwrap_or_else(|| panic!("no `{key}` in {line}")).to_owned();
        assert_eq!(id("trace_flags"), "01", "{line}");
        let (trace_id, span_id) = (id("trace_id"), id("span_id"));
        let is_named = |span: &&&Span| {
            (format!("{:032x}", span.trace_id), format!("{:016x}", span.span_id))
                == (trace_id.clone(), span_id.clone())
        };
        let span =
            spans.iter().find(is_named).unwrap_or_else(|| panic!("the collector has no span of {line}"));
        for key in ["flow", "task", "task_type"] {
            assert_eq!(span[key], line[key], "{line}");
        }
        assert_eq!(span["flowgen.event.id"], line["event_id"], "{line}");
        *span
    };
    lines.iter().map(find).collect()
}

fn of_task(observed: &Observed, task: &str) -> Vec<Value> {
    let is_inside = |line: &Value| line["task"] == task && line.get("event_id").is_some();
    observed.ended.logs().into_iter().filter(is_inside).collect()
}

#[test]
fn a_line_inside_an_event_leads_to_its_span() {
    let observed = observe(FLOW, &[]);
    let of_all = BTreeSet::from(["0", "1", "2", "3", "4"]);
    for task in ["seen", "asked", "picky"] {
        let spans = led_to(&observed, &of_task(&observed, task));
        let events: BTreeSet<&str> = spans.iter().map(|span| span.text("flowgen.event.id")).collect();
        assert_eq!(events, of_all, "{task}: {}", observed.ended.stderr);
    }
    let failures = observed.ended.logged("event failed");
    let failed = led_to(&observed, &failures);
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0]["outcome"], "failed");
    assert_eq!(failed[0]["error.type"], failures[0]["error.type"]);
}

/// Scenario: a server fails, what is said about the attempt is said by the library of its own thread or by the
/// loop. Guarantee: the line of the failed attempt leads to the event's span too.
#[test]
fn a_line_about_an_attempt_leads_to_its_event() {
    let address = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let yaml = format!(
        "
retry: {{initial_backoff: 1ms, max_attempts: 3}}
flow: {{tasks: [{{generate: {{name: numbers, count: 1}}}}, {{http_request: {{name: call, endpoint: 'http://{address}', on_error: drop}}}}]}}
"
    );
    let observed = observe_with(&yaml, &[], |command| {
        command.env("RUST_LOG", "flowgen=debug");
    });
    let attempts = observed.ended.logged("attempt failed, trying again");
    assert!(!attempts.is_empty(), "{}", observed.ended.stderr);
    let trace_id = observed.handled("call")[0].trace_id;
    for line in attempts {
        assert_eq!(line["trace_id"], format!("{trace_id:032x}"), "{line}");
        assert_eq!(line["event_id"], "0", "{line}");
    }
}

/// Scenario: a person reads the lines. Guarantee: they lead to spans as those for programs do.
#[test]
fn a_line_of_text_has_all_ids() {
    let collector = Collector::start();
    let worker = start_with(&collector, FLOW, &[], |command| {
        command.env("FLOWGEN_LOGGING__FORMAT", "text");
    });
    let stderr = worker.end().stderr;
    let spans = collector.spans();
    let lines: Vec<_> = stderr.lines().filter(|line| line.contains("orders/seen: event ")).collect();
    assert_eq!(lines.len(), 5, "{stderr}");
    for line in lines {
        let is_its = |span: &Span| {
            let ids = format!(
                "event_id={} trace_id={:032x} span_id={:016x} trace_flags=01",
                span.text("flowgen.event.id"),
                span.trace_id,
                span.span_id
            );
            span.text("task") == "seen" && line.ends_with(&ids)
        };
        assert!(spans.iter().any(is_its), "{line}");
    }
}

/// Scenario: no trace is exported. Guarantee: the lines have ids all the same, and say that there is no span.
#[test]
fn a_line_of_an_event_that_is_not_sampled_says_so() {
    let collector = Collector::start();
    let worker = start_with(&collector, FLOW, &[], |command| sample(0.0, command));
    let observed = Observed::after(worker.end(), &collector);
    let lines = of_task(&observed, "seen");
    assert_eq!(lines.len(), 5);
    for line in lines {
        assert_eq!(line["trace_flags"], "00", "{line}");
        assert_eq!(line["trace_id"].as_str().map(str::len), Some(32), "{line}");
        assert_eq!(line["span_id"].as_str().map(str::len), Some(16), "{line}");
    }
    assert!(observed.spans_named("task.handle").is_empty());
}

#[test]
fn a_line_outside_of_events_has_no_ids() {
    let observed = observe(FLOW, &[]);
    let drained = observed.ended.drained();
    for key in ["event_id", "trace_id", "span_id", "trace_flags"] {
        assert!(drained.get(key).is_none(), "{drained}");
    }
}
