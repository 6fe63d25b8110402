//! A trace has the shape of the flow: each task below the one that its event came from.

use super::observe;

/// Numbers from 0 as JSON lines.
fn rows(count: u64) -> Vec<u8> {
    (0..count).map(|n| format!("{{\"n\":{n}}}\n")).collect::<String>().into_bytes()
}

#[test]
fn a_row_is_a_trace_through_the_whole_chain() {
    let yaml = "
flow:
  tasks:
    - file: {name: in, path: input}
    - script: {name: double, code: 'event.data.n *= 2; event'}
    - filter: {name: large, condition: event.data.n >= 1000}
    - file_write: {name: out, path: out}
";
    let observed = observe(yaml, &[("input", &rows(1000))]);
    let kept = observed.shapes();
    assert_eq!(kept.get("in(double(large:filtered))"), Some(&500), "{kept:?}");
    assert_eq!(observed.traces().len(), 1000);
    assert_eq!((observed.count("large", "completed"), observed.count("large", "filtered")), (500, 500));
    assert_eq!(observed.count("out", "completed"), 500);
    assert_eq!(observed.ended.lines("out").len(), 500);
}

#[test]
fn a_fan_out_has_one_child_for_each_branch() {
    let yaml = "
flow:
  tasks:
    - generate: {name: numbers, count: 300}
    - drop: {name: left, depends_on: numbers}
    - drop: {name: middle, depends_on: numbers}
    - drop: {name: right, depends_on: numbers}
";
    observe(yaml, &[]).assert_shapes(&[("numbers(left middle right)", 300)]);
}

/// Scenario: two branches meet again. Guarantee: the joint task has a span for each of them, each below its own.
#[test]
fn a_diamond_ends_in_two_spans_of_the_joint_task() {
    let yaml = "
flow:
  tasks:
    - generate: {name: numbers, count: 200}
    - script: {name: left, code: event, depends_on: numbers}
    - script: {name: right, code: event, depends_on: numbers}
    - drop: {name: joint, depends_on: [left, right]}
";
    let observed = observe(yaml, &[]);
    observed.assert_shapes(&[("numbers(left(joint) right(joint))", 200)]);
    assert_eq!(observed.count("joint", "completed"), 400);
}

#[test]
fn a_switch_leads_to_the_task_that_it_chose() {
    let yaml = "
flow:
  tasks:
    - file: {name: in, path: input}
    - switch:
        name: lanes
        cases:
          - {when: event.data.n < 10, to: small}
          - {when: event.data.n < 30, to: large}
    - drop: {name: small}
    - drop: {name: large}
";
    let observed = observe(yaml, &[("input", &rows(100))]);
    observed.assert_shapes(&[("in(lanes(small))", 10), ("in(lanes(large))", 20), ("in(lanes:filtered)", 70)]);
}

#[test]
fn an_element_of_an_array_is_the_child_of_what_took_the_array_apart() {
    let yaml = "
flow:
  tasks:
    - file: {name: in, path: input}
    - iterate: {name: items}
    - script: {name: twice, code: '[event.data, event.data]'}
    - drop: {name: nowhere}
";
    let observed = observe(yaml, &[("input", b"[1]\n[1,2]\n[]\n")]);
    observed.assert_shapes(&[
        ("in(items(twice(nowhere nowhere)))", 1),
        ("in(items(twice(nowhere nowhere) twice(nowhere nowhere)))", 1),
        ("in(items:filtered)", 1),
    ]);
}

#[test]
fn what_two_sources_bring_to_one_task_stays_apart() {
    let yaml = "
flow:
  tasks:
    - generate: {name: fast, count: 500}
    - generate: {name: slow, count: 50, rate: 1000}
    - drop: {name: both, depends_on: [fast, slow]}
";
    let observed = observe(yaml, &[]);
    observed.assert_shapes(&[("fast(both)", 500), ("slow(both)", 50)]);
    assert_eq!(observed.count("both", "completed"), 550);
}

#[test]
fn flows_of_one_worker_are_told_apart_although_their_tasks_have_the_same_names() {
    let yaml = "
flows:
  - {name: one, tasks: [{generate: {name: numbers, count: 100}}, {drop: {name: nowhere}}]}
  - {name: two, tasks: [{generate: {name: numbers, count: 70}}, {drop: {name: nowhere}}]}
";
    let observed = observe(yaml, &[]);
    observed.assert_shapes(&[("numbers(nowhere)", 170)]);
    for (flow, count) in [("one", 100), ("two", 70)] {
        for task in ["numbers", "nowhere"] {
            let attributes = [("flow", flow), ("task", task), ("outcome", "completed")];
            assert_eq!(observed.metrics.counter("task.handle.count", &attributes), count, "{flow} {task}");
        }
    }
    for trace in observed.traces() {
        let flow = trace.root().text("flow").to_owned();
        assert!(trace.children(trace.root()).all(|child| child["flow"] == *flow), "{trace:?}");
    }
}
