//! The spans of the worker itself: its start, its tasks, its end.

use std::collections::BTreeSet;

use super::observe;
use crate::support::collector::{Span, traces};

const FLOWS: &str = "
flows:
  - {name: one, tasks: [{generate: {name: numbers, count: 2}}, {drop: {name: nowhere}}]}
  - {name: two, tasks: [{generate: {name: numbers, count: 3}}, {log: {name: seen}}, {drop: {name: nowhere}}]}
";

const TASKS: [(&str, &str, &str, u64); 5] = [
    ("one", "numbers", "generate", 0),
    ("one", "nowhere", "drop", 1),
    ("two", "numbers", "generate", 0),
    ("two", "seen", "log", 1),
    ("two", "nowhere", "drop", 2),
];

fn tasks<'a>(spans: &[&'a Span]) -> BTreeSet<(&'a str, &'a str, &'a str, u64)> {
    let task = |span: &&'a Span| {
        let [flow, task, task_type] = ["flow", "task", "task_type"].map(|name| Span::text(span, name));
        (flow, task, task_type, span["task_id"].as_u64().unwrap())
    };
    let tasks: BTreeSet<_> = spans.iter().map(task).collect();
    assert_eq!(tasks.len(), spans.len(), "{spans:#?}");
    tasks
}

#[test]
fn a_worker_leaves_its_start_each_task_and_its_end() {
    let observed = observe(FLOWS, &[]);
    let lifecycle = observed.spans.iter().filter(|span| span.name != "task.handle").cloned().collect();
    let mut shapes: Vec<String> =
        traces(lifecycle).iter().map(|trace| trace.shape(|span| span.name.clone())).collect();
    shapes.sort();
    let register = ["task_manager.register"; 5].join(" ");
    assert_eq!(
        shapes,
        [
            "task.run",
            "task.run",
            "task.run",
            "task.run",
            "task.run",
            "task_manager.shutdown",
            &format!("task_manager.start({register})")
        ]
    );
    let named = |name| observed.spans_named(name);
    assert_eq!(tasks(&named("task.run")), TASKS.into());
    assert_eq!(tasks(&named("task_manager.register")), TASKS.into());
}

#[test]
fn a_run_lasts_as_long_as_its_task() {
    let observed = observe(FLOWS, &[]);
    let start = &observed.spans_named("task_manager.start")[0];
    let shutdown = &observed.spans_named("task_manager.shutdown")[0];
    assert!(start.end <= shutdown.start, "{start:?} {shutdown:?}");
    for run in observed.spans_named("task.run") {
        let [flow, task] = ["flow", "task"].map(|name| run.text(name).to_owned());
        let handled = observed.handled(&task);
        let own: Vec<&&Span> = handled.iter().filter(|span| span["flow"] == *flow).collect();
        assert!(!own.is_empty());
        assert!(own.iter().all(|span| run.start <= span.start && span.end <= run.end), "{run:?} {own:#?}");
        assert_ne!(run.trace_id, start.trace_id);
    }
}
