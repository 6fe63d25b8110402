//! What is counted: exactly what happened, whatever is logged and however few traces are exported.

use std::collections::BTreeSet;

use flowgen::tasks::registry;

use super::{Observed, observe, observe_with, start_with};
use crate::support::{
    collector::{Collector, Metrics, Number},
    http::{Server, response},
};

/// Upper bounds in seconds.
const BUCKETS: [f64; 20] = [
    0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.4, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5,
    10.0, 30.0, 60.0,
];

/// A flow with a bit of everything: half of it filtered, a tenth of the rest failed.
fn mixed(count: u64) -> String {
    format!(
        "
flow:
  name: mixed
  tasks:
    - generate: {{name: numbers, count: {count}}}
    - filter: {{name: even, condition: 'parse_int(event.id) % 2 == 0'}}
    - script: {{name: picky, code: 'if event.id.ends_with(\"0\") {{ throw \"no tens\" }} event'}}
    - drop: {{name: left, depends_on: picky}}
    - drop: {{name: right, depends_on: picky}}
"
    )
}

/// Checks the numbers of a run of [`mixed`]; `count` is divisible by ten.
fn assert_mixed(metrics: &Metrics, count: u64) {
    let tenth = count / 10;
    let counted = [
        ("numbers", "completed", count),
        ("numbers", "failed", 0),
        ("even", "completed", 5 * tenth),
        ("even", "filtered", 5 * tenth),
        ("picky", "completed", 4 * tenth),
        ("picky", "failed", tenth),
        ("left", "completed", 4 * tenth),
        ("right", "completed", 4 * tenth),
    ];
    for (task, outcome, expected) in counted {
        let attributes = [("flow", "mixed"), ("task", task), ("outcome", outcome)];
        assert_eq!(metrics.counter("task.handle.count", &attributes), expected, "{task} {outcome}");
        if expected > 0 {
            assert_eq!(
                metrics.histogram_count("task.handle.duration", &attributes),
                expected,
                "{task} {outcome}"
            );
        }
    }
    assert_eq!(metrics.counter("task.handle.errors", &[("task", "picky"), ("error.type", "script")]), tenth);
    assert_eq!(metrics.counter("task.handle.errors", &[]), tenth);
}

/// Runs a flow of [`mixed`] numbers with a log filter; the log need not say anything.
fn under(filter: &str, count: u64) -> Observed {
    let collector = Collector::start();
    let worker = start_with(&collector, &mixed(count), &[], |command| {
        command.env("RUST_LOG", filter);
    });
    Observed::after(worker.end(), &collector)
}

#[test]
fn a_log_filter_changes_log_lines_only() {
    for (filter, count) in [
        ("off", 2_000),
        ("error", 2_000),
        ("info", 2_000),
        ("flowgen=off,h2=trace", 100),
        ("off,flowgen::sampled[span{end}]=trace", 100),
        ("trace", 100),
    ] {
        let observed = under(filter, count);
        observed.audit_data();
        assert_mixed(&observed.metrics, count);
        assert_eq!(observed.traces().len() as u64, count, "{filter}");
        assert_eq!(observed.ended.stderr.is_empty(), filter.starts_with("off"), "{}", observed.ended.stderr);
    }
}

/// Scenario: nothing happens. Guarantee: there is a zero for all that could, so that a first failure is an
/// increase.
#[test]
fn everything_starts_at_zero() {
    let server = Server::start(|_, _| response("503 Down", ""));
    let yaml = format!(
        "
http_server: {{address: '127.0.0.1:0'}}
flow:
  tasks:
    - file: {{name: in, path: input}}
    - generate: {{name: numbers, count: 0}}
    - stdin: {{name: lines}}
    - http_endpoint: {{name: asked, endpoint: /asked}}
    - http_request: {{name: call, endpoint: 'http://{}', depends_on: [in, numbers, lines, asked]}}
    - filter: {{name: all, condition: 'true'}}
    - iterate: {{name: items}}
    - script: {{name: same, code: event}}
    - validate: {{name: valid, schema: {{}}}}
    - throttle: {{name: slow, rate: 1}}
    - dedupe: {{name: once, ttl: 1m}}
    - cache: {{name: known, operation: get, key: '{{{{ event.id }}}}'}}
    - buffer: {{name: batch}}
    - log: {{name: seen}}
    - file_write: {{name: file, path: out}}
    - stdout: {{name: out}}
    - switch: {{name: lanes, cases: [{{when: 'true', to: nowhere}}]}}
    - drop: {{name: nowhere}}
",
        server.address
    );
    let collector = Collector::start();
    let worker = start_with(&collector, &yaml, &[("input", b"")], |_| {});
    worker.until_logged("HTTP server listens");
    worker.signal(rustix::process::Signal::TERM);
    let observed = Observed::of(worker, &collector);
    let metrics = &observed.metrics;
    let runs = observed.spans_named("task.run");
    for kind in registry().kinds() {
        let run = runs.iter().find(|run| run["task_type"] == kind.name);
        let task = run.unwrap_or_else(|| panic!("`{}` is missing in this test", kind.name)).text("task");
        for outcome in ["completed", "failed"] {
            let attributes = [("task", task), ("task_type", kind.name), ("outcome", outcome)];
            assert_eq!(metrics.counter("task.handle.count", &attributes), 0, "{attributes:?}");
        }
        for error_type in kind.error_types {
            let attributes = [("task", task), ("task_type", kind.name), ("error.type", error_type)];
            assert_eq!(metrics.counter("task.handle.errors", &attributes), 0, "{attributes:?}");
        }
    }
}

#[test]
fn instruments_are_what_the_contract_says() {
    let server = Server::start(|n, _| response(if n == 0 { "503 Down" } else { "404 Gone" }, ""));
    let yaml = format!(
        "
retry: {{initial_backoff: 1ms}}
flow: {{name: calls, tasks: [{{generate: {{name: numbers, count: 1}}}}, {{http_request: {{name: call, endpoint: 'http://{}'}}}}]}}
",
        server.address
    );
    let observed = observe(&yaml, &[]);
    let metrics = &observed.metrics;
    let spans: BTreeSet<String> = observed.spans.iter().map(|span| span.name.clone()).collect();
    let known = [
        "task.handle",
        "task.retry",
        "task.run",
        "task_manager.register",
        "task_manager.shutdown",
        "task_manager.start",
    ];
    assert_eq!(spans, known.map(str::to_owned).into());
    for span in known {
        for (metric, unit) in [("duration", "s"), ("count", "{span}")] {
            for point in metrics.of(&format!("{span}.{metric}")).values() {
                assert_eq!(point.unit, unit, "{span}.{metric}");
                assert!(!point.description.is_empty(), "{span}.{metric}");
                match &point.number {
                    Number::Counter(_) => assert_eq!(metric, "count"),
                    Number::Histogram { bounds, .. } => {
                        assert_eq!((metric, &bounds[..]), ("duration", &BUCKETS[..]))
                    }
                    other => panic!("{span}.{metric}: {other:?}"),
                }
            }
        }
    }
    for point in metrics.of("task.handle.errors").values() {
        assert_eq!(point.unit, "{error}");
    }
    let labels = |name: &str| {
        let series = metrics.select(name, &[("task", "call")]);
        series[0].0.keys().cloned().collect::<Vec<_>>()
    };
    assert_eq!(labels("task.handle.count"), ["flow", "outcome", "task", "task_type"]);
    assert_eq!(labels("task.handle.duration"), ["flow", "outcome", "task", "task_type"]);
    assert_eq!(labels("task.handle.errors"), ["error.type", "flow", "task", "task_type"]);
}

/// Scenario: more series than a metric may have by default in the usual libraries. Guarantee: each is there.
#[test]
fn a_thousand_tasks_have_a_thousand_series() {
    let drops: String =
        (0..1000).map(|n| format!("    - drop: {{name: drop-{n}, depends_on: numbers}}\n")).collect();
    let yaml = format!("flow:\n  tasks:\n    - generate: {{name: numbers, count: 3}}\n{drops}");
    let observed = observe(&yaml, &[]);
    let metrics = &observed.metrics;
    let completed = metrics.select("task.handle.count", &[("task_type", "drop"), ("outcome", "completed")]);
    assert_eq!(completed.len(), 1000);
    assert!(completed.iter().all(|(_, point)| point.number == Number::Counter(3)));
}

/// Scenario: nothing ends. Guarantee: spans and metrics come all the same, in their time.
#[test]
fn a_running_worker_exports_what_happened_so_far() {
    let yaml = "
flow:
  tasks:
    - stdin: {name: lines}
    - drop: {name: nowhere}
";
    let collector = Collector::start();
    let mut worker = start_with(&collector, yaml, &[], |command| {
        command
            .env("FLOWGEN_TELEMETRY__METRICS_EXPORT_INTERVAL", "150ms")
            .env("FLOWGEN_TELEMETRY__SPAN_QUEUE__DELAY", "20ms");
    });
    let mut stdin = worker.stdin();
    for n in 1..=3 {
        std::io::Write::write_all(&mut stdin, b"1\n").unwrap();
        let attributes = [("task", "nowhere"), ("outcome", "completed")];
        collector.wait_until(|received| {
            let spans = received
                .spans()
                .iter()
                .filter(|span| span["task"] == "nowhere" && span.name == "task.handle")
                .count();
            let counted = received.metrics().get("task.handle.count").is_some()
                && received.metrics().counter("task.handle.count", &attributes) == n;
            spans == n as usize && counted
        });
    }
    drop(stdin);
    Observed::of(worker, &collector);
}

#[test]
fn gzip_changes_nothing_but_the_bytes() {
    let observed = observe_with(&mixed(100), &[], |command| {
        command.env("FLOWGEN_TELEMETRY__COMPRESSION", "gzip");
    });
    assert_mixed(&observed.metrics, 100);
    let calls = &observed.calls;
    assert!(calls.iter().all(|call| call.header("grpc-encoding") == Some("gzip")), "{calls:?}");
}
