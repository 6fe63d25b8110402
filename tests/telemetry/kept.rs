//! Traces that are exported although they were not sampled: those of events that failed or were slow.

mod batches;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::Command,
    sync::{Mutex, mpsc},
};

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::json;

use super::{Observed, flushed, keep_only, number, start_with, task_and_outcome};
use crate::support::{
    collector::{Answer, Collector, Metrics, Number, Received, Span, traces},
    http::{self, Reply, Server, response},
};

/// Runs a flow of which no trace is sampled to its end, and audits what is kept.
fn keep(yaml: &str, files: &[(&str, &[u8])]) -> Observed {
    keep_with(yaml, files, |_| {})
}

/// As [`keep`], with what `prepare` does to the command.
fn keep_with(yaml: &str, files: &[(&str, &[u8])], prepare: impl FnOnce(&mut Command)) -> Observed {
    let collector = Collector::start();
    let worker = start_with(&collector, yaml, files, |command| {
        keep_only(command);
        prepare(command);
    });
    let observed = Observed::of_some(worker, &collector);
    observed.audit_kept("error");
    observed
}

impl Observed {
    /// Checks that every span of an event is kept for this reason, and that nothing else is.
    fn audit_kept(&self, reason: &str) {
        for span in &self.spans {
            let is_of_event = ["task.handle", "task.retry", "task.flush"].contains(&&*span.name);
            assert_eq!(span.text("flowgen.kept"), if is_of_event { reason } else { "" }, "{span:?}");
        }
    }

    /// Returns how many traces were kept, by the metrics.
    fn kept(&self) -> u64 {
        self.metrics.counter("flowgen.traces.kept", &[])
    }

    /// Returns how many traces were left out for this reason, by the metrics.
    fn shed(&self, reason: &str) -> u64 {
        self.metrics.counter("flowgen.traces.shed", &[("reason", reason)])
    }
}

/// The task, the event's id, and the outcome unless it is completed.
fn task_and_event(span: &Span) -> String {
    let event = span.text("flowgen.event.id");
    if event.is_empty() { task_and_outcome(span) } else { format!("{}[{event}]", task_and_outcome(span)) }
}

/// Returns the traces, with the ids of the events, sorted.
fn with_ids(observed: &Observed) -> Vec<String> {
    let mut traces: Vec<String> = observed.traces().iter().map(|trace| trace.shape(task_and_event)).collect();
    traces.sort();
    traces
}

/// Scenario: 7 of 1,000 events fail after three tasks, and no trace is sampled. Guarantee: exactly these 7 traces are
/// exported, whole, and every event is counted.
#[test]
fn the_seven_of_a_thousand_events_that_fail_are_traced() {
    let yaml = "
flow:
  tasks:
    - generate: {name: numbers, count: 1000}
    - filter: {name: all, condition: 'true'}
    - script: {name: same, code: event}
    - script: {name: picky, code: 'if parse_int(event.id) % 143 == 5 { throw \"never\" } event'}
    - drop: {name: nowhere}
";
    let observed = keep(yaml, &[]);
    let expected: BTreeSet<String> = (0..7)
        .map(|n| n * 143 + 5)
        .map(|n| format!("numbers[{n}](all[{n}](same[{n}](picky:failed[{n}])))"))
        .collect();
    assert_eq!(with_ids(&observed).into_iter().collect::<BTreeSet<_>>(), expected);
    assert_eq!((observed.traces().len(), observed.kept(), observed.shed("limit")), (7, 7, 0));
    for span in observed.handled("picky") {
        assert_eq!(span["error.type"], "script", "{span:?}");
    }
    assert_eq!((observed.count("picky", "completed"), observed.count("picky", "failed")), (993, 7));
    assert_eq!(observed.count("nowhere", "completed"), 993);
}

/// Scenario: ids change on the way: an array is taken apart, a script makes several events of one, another sets the
/// id, and the last task fails. Guarantee: every span has the id that its event had then.
#[test]
fn a_kept_span_has_the_id_that_the_event_had_there() {
    let yaml = "
flow:
  tasks:
    - file: {name: in, path: input}
    - iterate: {name: items}
    - script: {name: twice, code: '[event.data, event.data]'}
    - script: {name: named, code: 'if event.data == 2 { event.id = \"mine\" } event'}
    - script: {name: again, code: '[1, 2]'}
    - script: {name: ill, code: 'if event.id == \"mine-1\" || event.id.contains(\"-0-0-1\") { throw 1 } event'}
";
    let observed = keep(yaml, &[("input", b"[1,2]\n[3]\n")]);
    let named = |n| format!("named[input:0-1-{n}](again[mine](ill:failed[mine-1]))");
    let unnamed = |offset| {
        format!("named[input:{offset}-0-0](again[input:{offset}-0-0](ill:failed[input:{offset}-0-0-1]))")
    };
    assert_eq!(
        with_ids(&observed),
        [
            format!(
                "in[input:0](items[input:0](twice[input:0-0]({}) twice[input:0-1]({} {})))",
                unnamed(0),
                named(0),
                named(1)
            ),
            format!("in[input:6](items[input:6](twice[input:6-0]({})))", unnamed(6)),
        ]
    );
}

/// Scenario: a script gives all elements of an array, or the events that it makes, another id at once. Guarantee: as
/// above.
#[test]
fn an_id_that_is_set_where_an_array_is_taken_apart_is_that_of_what_comes_of_it() {
    for code in ["event.id = \"mine\"; event.data", "event.id = \"mine\"; [1, 2]"] {
        let yaml = format!(
            "
flow:
  tasks:
    - file: {{name: in, path: input}}
    - script: {{name: apart, code: '{code}'}}
    - script: {{name: ill, code: 'throw 1'}}
"
        );
        let observed = keep(&yaml, &[("input", b"[7, 8]\n")]);
        let expected = "in[input:0](apart[input:0](ill:failed[mine-0] ill:failed[mine-1]))";
        assert_eq!(with_ids(&observed), [expected], "{code}");
    }
}

/// Scenario: every event fails, in a chain of tasks. Guarantee: what is exported afterwards is what would have been
/// exported at once: durations and waits are those that were counted.
#[test]
fn kept_spans_are_as_long_as_they_were() {
    let yaml = "
flow:
  tasks:
    - generate: {name: numbers, count: 400}
    - filter: {name: all, condition: 'true'}
    - script: {name: ill, code: 'throw \"never\"'}
";
    let observed = keep(yaml, &[]);
    observed.audit();
    observed.assert_shapes(&[("numbers(all(ill:failed))", 400)]);
}

#[test]
fn a_record_that_cannot_be_read_is_a_trace_of_one_span() {
    let yaml = "flow: {tasks: [{file: {name: in, path: input}}, {drop: {name: nowhere}}]}";
    let observed = keep(yaml, &[("input", b"1\nbad\n3\nworse\n5\n")]);
    assert_eq!(with_ids(&observed), ["in:failed[input:2]", "in:failed[input:8]"]);
    assert!(observed.handled("in").iter().all(|span| span["error.type"] == "parse"));
}

/// A flow that calls a server for each number.
fn calls(server: &Server, count: usize, keys: &str) -> String {
    format!(
        "retry: {{initial_backoff: 1ms, max_backoff: 2ms, max_attempts: 3}}
flow:
  name: calls
  tasks:
    - generate: {{name: numbers, count: {count}}}
    - http_request: {{name: call, endpoint: 'http://{}/{{{{ event.id }}}}', {keys}}}
    - drop: {{name: nowhere}}
",
        server.address
    )
}

/// Scenario: a server is down for two of ten events and for one attempt of a third one. Guarantee: the attempts of
/// those that fail are exported below them, and the span says what the server was and said.
#[test]
fn a_kept_request_comes_with_its_attempts_and_what_was_said_of_it() {
    let attempts = Mutex::new(BTreeMap::<String, usize>::new());
    let server = Server::start(move |_, request| {
        let mut attempts = attempts.lock().unwrap();
        let earlier = attempts.entry(request.line.clone()).or_default();
        *earlier += 1;
        let is_down = request.line.ends_with("/3")
            || request.line.ends_with("/7")
            || (request.line.ends_with("/5") && *earlier == 1);
        if is_down { response("503 Down\r\nx-request-id: r-1", "") } else { http::json(1) }
    });
    let observed = keep(&calls(&server, 10, "on_error: drop"), &[]);
    observed.assert_shapes(&[("numbers(call:failed(task.retry task.retry))", 2)]);
    for call in observed.handled("call") {
        assert_eq!((&call["error.type"], &call["http.response.status_code"]), (&"503".into(), &503.into()));
        assert_eq!(call["server.port"], server.address.port());
        assert_eq!(call["http.response.header.x-request-id"], json!(["r-1"]));
        assert_eq!(call.kind, SpanKind::Client);
    }
    for retry in observed.spans_named("task.retry") {
        assert_eq!((retry.text("outcome"), retry.text("error.type")), ("failed", "503"), "{retry:?}");
    }
    assert_eq!(observed.metrics.counter("task.retry.count", &[]), 5);
    assert_eq!(observed.count("call", "completed"), 8);
}

/// Scenario: an event succeeds at the second attempt and fails in a later task. Guarantee: its attempts are in its
/// trace, where they were made.
#[test]
fn attempts_of_an_earlier_task_are_where_they_were_made() {
    let server = Server::start(|n, _| if n % 2 == 0 { response("503 Down", "") } else { http::json(n) });
    let yaml = calls(&server, 3, "") + "    - script: {name: ill, code: 'throw 1'}\n";
    let observed = keep(&yaml, &[]);
    observed.assert_shapes(&[("numbers(call(nowhere(ill:failed) task.retry))", 3)]);
    for retry in observed.spans_named("task.retry") {
        assert_eq!((retry.text("outcome"), retry.text("error.type")), ("completed", ""), "{retry:?}");
    }
    observed.audit();
}

#[test]
fn a_timeout_is_a_failure_of_which_the_trace_is_kept() {
    let server =
        Server::start(
            |_, request| {
                if request.line.ends_with("/1") { Reply::Hang(Vec::new()) } else { http::json(1) }
            },
        );
    let observed = keep(&calls(&server, 3, "timeout: 50ms, on_error: drop"), &[]);
    assert_eq!(with_ids(&observed), ["numbers[1](call:failed[1](task.retry task.retry))"]);
    assert_eq!(observed.handled("call")[0]["error.type"], "timeout");
}

/// Scenario: an event fails long after the tasks that it came through have ended, and their last numbers were
/// exported. Guarantee: they are in its trace.
#[test]
fn a_kept_trace_begins_at_a_source_that_has_ended_long_ago() {
    let (release, released) = mpsc::channel::<()>();
    let server = Server::start(move |_, _| {
        // The other side is gone if the test failed.
        let _ = released.recv();
        response("404 Gone", "")
    });
    let collector = Collector::start();
    let worker = start_with(&collector, &calls(&server, 1, ""), &[], |command| {
        keep_only(command);
        command.env("FLOWGEN_TELEMETRY__METRICS_EXPORT_INTERVAL", "20ms");
    });
    let collections_without = |received: &Received| {
        let collections = received.collections();
        let has_ended = |metrics: &Metrics| {
            let active = [("task", "numbers")];
            let series =
                metrics.get("flowgen.task.active").map(|_| metrics.select("flowgen.task.active", &active));
            series.is_some_and(|series| series[0].1.number == Number::UpDown(0))
        };
        collections.iter().filter(|metrics| has_ended(metrics)).count()
    };
    collector.wait_until(|received| collections_without(received) > 5);
    release.send(()).unwrap();
    let observed = Observed::of_some(worker, &collector);
    assert_eq!(with_ids(&observed), ["numbers[0](call:failed[0])"]);
}

#[test]
fn what_becomes_of_a_failed_event_does_not_matter() {
    let yaml = "
flow:
  tasks:
    - generate: {name: numbers, count: 20}
    - script: {name: picky, on_error: drop, code: 'if event.id == \"3\" { throw \"no\" } event'}
";
    let observed = keep(yaml, &[]);
    assert_eq!(observed.ended.drained()["dropped"], 1);
    assert_eq!(with_ids(&observed), ["numbers[3](picky:failed[3])"]);
}

/// Scenario: two of three branches of an event fail. Guarantee: what they have in common is exported once, and the
/// branch that was well is not.
#[test]
fn two_failing_branches_share_their_way() {
    let yaml = "
flow:
  tasks:
    - generate: {name: numbers, count: 50}
    - script: {name: same, code: event}
    - script: {name: left, code: 'throw 1', depends_on: same}
    - drop: {name: well, depends_on: same}
    - script: {name: right, code: 'throw 1', depends_on: same}
";
    let observed = keep(yaml, &[]);
    observed.assert_shapes(&[("numbers(same(left:failed right:failed))", 50)]);
    assert_eq!(observed.kept(), 50);
}

#[test]
fn a_diamond_that_fails_where_it_meets_fails_twice_in_one_trace() {
    let yaml = "
flow:
  tasks:
    - generate: {name: numbers, count: 50}
    - script: {name: left, code: event, depends_on: numbers}
    - script: {name: right, code: event, depends_on: numbers}
    - script: {name: joint, code: 'throw 1', depends_on: [left, right]}
";
    let observed = keep(yaml, &[]);
    observed.assert_shapes(&[("numbers(left(joint:failed) right(joint:failed))", 50)]);
    assert_eq!(observed.kept(), 50);
}

/// Scenario: five of the thousand elements of one event fail. Guarantee: they are in one trace, and only they.
#[test]
fn of_a_thousand_elements_those_that_fail_are_in_the_trace() {
    let yaml = "
flow:
  tasks:
    - file: {name: in, path: input}
    - iterate: {name: items}
    - script: {name: picky, code: 'if event.data % 200 == 7 { throw \"never\" } event'}
    - drop: {name: nowhere}
";
    let rows = serde_json::to_vec(&(0..1000).collect::<Vec<u32>>()).unwrap();
    let observed = keep(yaml, &[("input", &rows)]);
    let failed: Vec<String> = [207, 407, 607, 7, 807].map(|n| format!("picky:failed[input:0-{n}]")).into();
    assert_eq!(with_ids(&observed), [format!("in[input:0](items[input:0]({}))", failed.join(" "))]);
    assert_eq!(observed.kept(), 1);
}

/// Lets a file be where no more can be written.
fn full_disk(name: &str, command: &mut Command) {
    let folder = command.get_current_dir().unwrap();
    std::os::unix::fs::symlink("/dev/full", folder.join(name)).unwrap();
}

/// Scenario: nothing of a batch can be written. Guarantee: every event of it is kept, and the flush that failed with
/// them, below one and linked to the others.
#[test]
fn a_flush_that_fails_is_kept_with_its_events() {
    let yaml = "
retry: {initial_backoff: 1ms, max_backoff: 2ms, max_attempts: 2}
flow:
  tasks:
    - generate: {name: numbers, count: 300}
    - file_write: {name: out, path: full, on_error: drop}
";
    let observed = keep_with(yaml, &[], |command| full_disk("full", command));
    observed.audit();
    assert_eq!(observed.traces().len(), 300);
    let handled: BTreeSet<_> =
        observed.handled("out").iter().map(|span| (span.trace_id, span.span_id)).collect();
    assert_eq!(handled.len(), 300);
    assert_eq!(observed.count("out", "failed"), 300);
    let mut flushed = 0;
    for flush in observed.spans_named("task.flush") {
        assert_eq!(
            (flush.text("outcome"), flush.text("error.type")),
            ("failed", "storage_full"),
            "{flush:?}"
        );
        assert!(flush["flowgen.event.id"].is_null(), "{flush:?}");
        let parent = (flush.trace_id, flush.parent.unwrap());
        assert!(flush.links.iter().chain([&parent]).all(|event| handled.contains(event)), "{flush:?}");
        flushed += 1 + flush.links.len() + flush.dropped_links as usize;
    }
    assert_eq!(flushed, 300);
}

/// Scenario: one event of a batch cannot be written. Guarantee: that event is kept as failed, the flush too, and the
/// events that it is linked to as what they were.
#[test]
fn the_others_of_a_batch_are_kept_with_the_one_that_fails() {
    let yaml = "
retry: {initial_backoff: 1ms, max_backoff: 2ms, max_attempts: 2}
flow:
  tasks:
    - file: {name: in, path: input}
    - file_write: {name: out, path: '{{ event.data }}', on_error: drop}
    - drop: {name: nowhere}
";
    let rows: String = (0..60).map(|n| if n == 20 { "\"full\"\n" } else { "\"well\"\n" }).collect();
    let observed = keep_with(yaml, &[("input", rows.as_bytes())], |command| full_disk("full", command));
    assert_eq!(observed.ended.drained()["dropped"], 1);
    let outcomes = |outcome: &str| {
        observed.handled("out").into_iter().filter(|span| span["outcome"] == outcome).collect::<Vec<_>>()
    };
    let failed = outcomes("failed");
    assert_eq!(failed.len(), 1, "{failed:#?}");
    let failing: Vec<&Span> = observed
        .spans_named("task.flush")
        .into_iter()
        .filter(|flush| {
            let of = (failed[0].trace_id, failed[0].span_id);
            (flush.trace_id, flush.parent.unwrap()) == of || flush.links.contains(&of)
        })
        .collect();
    let [flush] = &failing[..] else { panic!("{failing:#?}") };
    assert_eq!(flush["outcome"], "failed");
    let linked: BTreeSet<_> =
        outcomes("completed").iter().map(|span| (span.trace_id, span.span_id)).collect();
    let others = flush.links.iter().copied().chain([(flush.trace_id, flush.parent.unwrap())]);
    let others: BTreeSet<_> = others.filter(|of| *of != (failed[0].trace_id, failed[0].span_id)).collect();
    assert_eq!(others, linked);
    assert_eq!(observed.handled("nowhere").len(), 0);
}

/// Scenario: half of the traces are sampled, and a fifth of all events fails. Guarantee: a trace that is sampled is
/// exported once and as it is, and every other one that fails is kept.
#[test]
fn what_is_sampled_is_not_kept_besides() {
    const COUNT: u64 = 1000;
    let yaml = format!(
        "
flow:
  tasks:
    - generate: {{name: numbers, count: {COUNT}}}
    - script: {{name: picky, code: 'if parse_int(event.id) % 5 == 0 {{ throw \"no fives\" }} event'}}
    - drop: {{name: nowhere}}
"
    );
    let collector = Collector::start();
    let worker = start_with(&collector, &yaml, &[], |command| {
        command.env("FLOWGEN_TELEMETRY__TRACE_SAMPLE_RATE", "0.5");
    });
    let observed = Observed::of_some(worker, &collector);
    let traces = observed.traces();
    let failed = observed.handled("picky").iter().filter(|span| span["outcome"] == "failed").count();
    assert_eq!(failed as u64, COUNT / 5, "every failed event is in one trace");
    let (kept, sampled): (Vec<_>, Vec<_>) = traces.iter().partition(|trace| trace.root().is_kept());
    for trace in &kept {
        assert_eq!(trace.shape(task_and_outcome), "numbers(picky:failed)");
        assert!(trace.spans().iter().all(Span::is_kept), "{trace:?}");
    }
    assert!(!sampled.is_empty() && !kept.is_empty());
    assert!(sampled.iter().all(|trace| !trace.spans().iter().any(Span::is_kept)));
    assert_eq!(observed.kept(), kept.len() as u64);
}

/// Scenario: a batch that cannot be written holds sampled events and others. Guarantee: the flush is in the trace of a
/// sampled one, and leads to every event that it took along.
#[test]
fn a_sampled_flush_that_fails_leads_to_the_events_that_are_kept() {
    let yaml = "
retry: {initial_backoff: 1ms, max_backoff: 2ms, max_attempts: 2}
flow:
  tasks:
    - generate: {name: numbers, count: 100}
    - file_write: {name: out, path: full, on_error: drop}
";
    let collector = Collector::start();
    let worker = start_with(&collector, yaml, &[], |command| {
        command.env("FLOWGEN_TELEMETRY__TRACE_SAMPLE_RATE", "0.5");
        full_disk("full", command);
    });
    let observed = Observed::of_some(worker, &collector);
    let handled: BTreeSet<_> =
        observed.handled("out").iter().map(|span| (span.trace_id, span.span_id)).collect();
    let mut flushed = BTreeSet::new();
    for flush in observed.spans_named("task.flush") {
        assert!(flushed.insert((flush.trace_id, flush.parent.unwrap())));
        flushed.extend(flush.links.iter().copied());
    }
    assert_eq!((flushed.len(), flushed), (100, handled));
}

/// Scenario: everything fails, a hundred thousand times. Guarantee: no more traces a second are exported than the
/// limit says, each whole, and the others are counted.
#[test]
fn an_outage_exports_no_more_traces_a_second_than_the_limit() {
    const COUNT: u64 = 100_000;
    const LIMIT: u64 = 50;
    let yaml = format!(
        "flow: {{tasks: [{{generate: {{name: numbers, count: {COUNT}}}}}, {{script: {{name: ill, code: 'throw 1'}}}}]}}"
    );
    let observed = keep_with(&yaml, &[], |command| {
        command.env("FLOWGEN_TELEMETRY__KEEP_TRACES__LIMIT", LIMIT.to_string());
    });
    let kept = observed.kept();
    let seconds = number(&observed.ended.drained(), "elapsed_ms") / 1000 + 1;
    assert!((LIMIT..=LIMIT * seconds).contains(&kept), "{kept} in {seconds} s");
    observed.assert_shapes(&[("numbers(ill:failed)", usize::try_from(kept).unwrap())]);
    assert_eq!(observed.shed("limit"), COUNT - kept);
    assert_eq!(observed.shed("queue"), 0);
    assert_eq!(observed.count("ill", "failed"), COUNT);
}

/// Scenario: what can be kept is more than the queue has room for. Guarantee: what is exported is whole, what is not
/// is counted.
#[test]
fn what_the_queue_has_no_room_for_is_not_kept_in_part() {
    const COUNT: u64 = 2000;
    let yaml = format!(
        "flow: {{tasks: [{{generate: {{name: numbers, count: {COUNT}}}}}, {{script: {{name: same, code: event}}}}, {{script: {{name: ill, code: 'throw 1'}}}}]}}"
    );
    let collector = Collector::scripted(|_| Answer::Hold);
    let worker = start_with(&collector, &yaml, &[], |command| {
        keep_only(command);
        command
            .env("FLOWGEN_TELEMETRY__KEEP_TRACES__LIMIT", "1000000")
            .env("FLOWGEN_TELEMETRY__SPAN_QUEUE__SIZE", "100")
            .env("FLOWGEN_TELEMETRY__SPAN_QUEUE__BATCH", "10");
    });
    worker.until_logged("flow drained");
    collector.release();
    let observed = Observed::of_some(worker, &collector);
    let kept = observed.kept();
    observed.assert_shapes(&[("numbers(same(ill:failed))", usize::try_from(kept).unwrap())]);
    assert!(kept > 0 && observed.shed("queue") > 0);
    assert_eq!(kept + observed.shed("queue"), COUNT);
    assert_eq!(observed.shed("limit"), 0);
    assert_eq!(number(&flushed(&observed.ended), "traces_shed"), COUNT - kept);
}

/// Scenario: more elements of one event fail than the queue has room for. Guarantee: what does not fit is counted.
#[test]
fn what_does_not_fit_of_a_kept_trace_is_counted() {
    let yaml = "
flow:
  tasks:
    - file: {name: in, path: input}
    - iterate: {name: items}
    - script: {name: ill, code: 'throw 1'}
";
    let rows = serde_json::to_vec(&(0..1000).collect::<Vec<u32>>()).unwrap();
    let collector = Collector::scripted(|_| Answer::Hold);
    let worker = start_with(&collector, yaml, &[("input", &rows)], |command| {
        keep_only(command);
        command
            .env("FLOWGEN_TELEMETRY__SPAN_QUEUE__SIZE", "100")
            .env("FLOWGEN_TELEMETRY__SPAN_QUEUE__BATCH", "10");
    });
    worker.until_logged("flow drained");
    collector.release();
    let observed = Observed::after(worker.end(), &collector);
    let line = flushed(&observed.ended);
    let lifecycle = observed.spans.iter().filter(|span| !span.is_kept()).count() as u64;
    assert_eq!(number(&line, "spans_created"), 2 + 1000 + lifecycle, "{line}");
    assert_eq!(number(&line, "spans_exported"), observed.spans.len() as u64, "{line}");
    let (created, dropped) = (number(&line, "spans_created"), number(&line, "spans_dropped"));
    assert!(dropped > 0, "{line}");
    let processed = |of: &[(&str, &str)]| observed.metrics.counter("otel.sdk.processor.span.processed", of);
    assert_eq!((processed(&[]), processed(&[("error.type", "queue_full")])), (created, dropped));
    assert_eq!(observed.metrics.counter("otel.sdk.exporter.span.exported", &[]), created - dropped);
    let of_trace: Vec<_> = observed.spans.iter().filter(|span| span.is_kept()).cloned().collect();
    assert_eq!(traces(of_trace).len(), 1, "what came of the trace hangs together");
    assert_eq!((observed.kept(), observed.shed("queue"), observed.shed("limit")), (1, 0, 0));
}

#[test]
fn nothing_is_kept_where_it_was_switched_off() {
    let yaml =
        "flow: {tasks: [{generate: {name: numbers, count: 10}}, {script: {name: ill, code: 'throw 1'}}]}";
    let observed = keep_with(yaml, &[], |command| {
        command.env("FLOWGEN_TELEMETRY__KEEP_TRACES__ERRORS", "false");
    });
    assert_eq!((observed.traces().len(), observed.kept(), observed.shed("limit")), (0, 0, 0));
}

/// Scenario: the histograms of a run of which only failures are exported. Guarantee: those of the tasks on the way of
/// a failure, and that of the flow, name a span of it.
#[test]
fn the_histograms_lead_to_the_kept_spans() {
    let yaml = "
flow:
  name: picks
  tasks:
    - generate: {name: numbers, count: 100}
    - script: {name: picky, code: 'if event.id == \"33\" { throw \"no\" } event'}
";
    let observed = keep(yaml, &[]);
    let exemplars = |name: &str, labels: &[(&str, &str)]| -> Vec<u64> {
        let series = observed.metrics.select(name, labels);
        series.iter().flat_map(|(_, point)| &point.exemplars).map(|exemplar| exemplar.span_id).collect()
    };
    let span_id = |task| observed.handled(task)[0].span_id;
    for (task, outcome) in [("numbers", "completed"), ("picky", "failed")] {
        let of_task = exemplars("task.handle.duration", &[("task", task), ("outcome", outcome)]);
        assert_eq!(of_task, [span_id(task)], "{task}");
    }
    assert!(exemplars("task.handle.duration", &[("task", "picky"), ("outcome", "completed")]).is_empty());
    assert_eq!(
        exemplars("flowgen.flow.event.duration", &[("flow", "picks"), ("outcome", "failed")]),
        [span_id("picky")]
    );
}

/// Scenario: an event is slow and nothing else. Guarantee: the time that it took leads to its trace.
#[test]
fn the_time_of_a_slow_event_leads_to_its_trace() {
    let yaml = "flow: {tasks: [{generate: {name: numbers, count: 1}}, {drop: {name: nowhere}}]}";
    let observed = keep_slow(yaml, "1ns");
    let point = observed.metrics.select("flowgen.flow.event.duration", &[("outcome", "completed")])[0].1;
    let exemplars: Vec<u64> = point.exemplars.iter().map(|exemplar| exemplar.span_id).collect();
    assert_eq!(exemplars, [observed.handled("nowhere")[0].span_id]);
}

/// Returns how many events took longer than this bound of the configured buckets.
fn slower_than(observed: &Observed, seconds: f64) -> u64 {
    let count = |number: &Number| {
        let Number::Histogram { bounds, buckets, .. } = number else { panic!("{number:?}") };
        bounds
            .iter()
            .chain([&f64::MAX])
            .zip(buckets)
            .filter(|(bound, _)| **bound > seconds)
            .map(|(_, n)| n)
            .sum::<u64>()
    };
    observed.metrics.of("flowgen.flow.event.duration").values().map(|point| count(&point.number)).sum()
}

/// Runs a flow of which slow traces are kept only.
fn keep_slow(yaml: &str, slower_than: &str) -> Observed {
    let collector = Collector::start();
    let worker = start_with(&collector, yaml, &[], |command| {
        keep_only(command);
        command
            .env("FLOWGEN_TELEMETRY__KEEP_TRACES__ERRORS", "false")
            .env("FLOWGEN_TELEMETRY__KEEP_TRACES__SLOWER_THAN", slower_than);
    });
    let observed = Observed::of_some(worker, &collector);
    observed.audit_kept("slow");
    observed
}

/// Scenario: the last of ten events waits for a server that wants it to. Guarantee: what took longer than the limit is
/// kept, as a whole, and nothing else.
#[test]
fn a_slow_event_is_kept() {
    let server =
        Server::start(
            |n, _| {
                if n == 9 { response("503 Later\r\nretry-after: 1", "") } else { http::json(n) }
            },
        );
    let observed = keep_slow(&calls(&server, 10, ""), "1s");
    let slow = slower_than(&observed, 1.0);
    assert!(with_ids(&observed).contains(&"numbers[9](call[9](nowhere[9] task.retry))".to_owned()));
    assert_eq!((observed.traces().len() as u64, observed.kept()), (slow, slow));
    assert_eq!(observed.ended.drained()["completed"], 10);
}

/// Scenario: every event is slow, whatever becomes of it. Guarantee: each is kept, once.
#[test]
fn a_slow_event_is_kept_whatever_became_of_it() {
    let yaml = "
flow:
  tasks:
    - file: {name: in, path: input}
    - iterate: {name: items}
    - filter: {name: most, condition: 'event.data != 2'}
    - script: {name: picky, code: 'if event.data == 3 { throw \"no\" } event'}
    - drop: {name: nowhere}
";
    let collector = Collector::start();
    let input: (&str, &[u8]) = ("input", b"[1]\n[2]\n[3]\n[]\n");
    let worker = start_with(&collector, yaml, &[input], |command| {
        keep_only(command);
        command
            .env("FLOWGEN_TELEMETRY__KEEP_TRACES__ERRORS", "false")
            .env("FLOWGEN_TELEMETRY__KEEP_TRACES__SLOWER_THAN", "1ns");
    });
    let observed = Observed::of_some(worker, &collector);
    observed.audit_kept("slow");
    observed.assert_shapes(&[
        ("in(items(most(picky(nowhere))))", 1),
        ("in(items(most:filtered))", 1),
        ("in(items(most(picky:failed)))", 1),
        ("in(items:filtered)", 1),
    ]);
    assert_eq!(observed.kept(), 4);
}

/// Scenario: events are slow and fail. Guarantee: each is kept once, as what is worse.
#[test]
fn an_event_that_fails_and_is_slow_is_kept_as_failed() {
    let yaml =
        "flow: {tasks: [{generate: {name: numbers, count: 10}}, {script: {name: ill, code: 'throw 1'}}]}";
    let observed = keep_with(yaml, &[], |command| {
        command.env("FLOWGEN_TELEMETRY__KEEP_TRACES__SLOWER_THAN", "1ns");
    });
    observed.assert_shapes(&[("numbers(ill:failed)", 10)]);
    assert_eq!(observed.kept(), 10);
}
