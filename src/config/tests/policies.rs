//! What the keys of flows and tasks become that say how events are handled.

use crate::plan::{CacheLimits, Node, OnTaskPanic, Order};

use super::*;

/// Returns the tasks of one flow.
fn tasks(text: &str) -> Vec<Node> {
    plan(&format!("flow:\n  tasks:\n    - tick: {{}}\n{text}")).flows.remove(0).tasks
}

#[test]
fn a_flow_says_what_a_panic_does_how_old_events_may_be_and_how_many_instances_there_are() {
    let flow = |keys: &str| {
        let flow = with(&format!("flow: {{tasks: [{{tick: }}]{keys}}}"), &[("N", "8"), ("P", "stop")])
            .flows
            .remove(0);
        (flow.on_task_panic, flow.deadline, flow.parallel_instances)
    };
    assert_eq!(flow(""), (OnTaskPanic::Restart, None, 1));
    assert_eq!(flow(", on_task_panic: restart").0, OnTaskPanic::Restart);
    let all = ", on_task_panic: '${P}', deadline: 1m 30s, parallel_instances: '${N}'";
    assert_eq!(flow(all), (OnTaskPanic::Stop, Some(Duration::from_secs(90)), 8));
    let most = "flow: {tasks: [{tick: }], parallel_instances: 1001}";
    assert_eq!(
        refused(most, &[]),
        ["1:47 flow.parallel_instances: must be at most 1000: all of them are there from the start"]
    );
}

#[test]
fn a_processor_may_handle_several_events_at_a_time_in_the_order_it_says() {
    let call = |keys: &str| {
        let text = format!("    - call: {{endpoint: 'http://x', {keys}}}\n");
        tasks(&text).remove(1).concurrency
    };
    let kept = call("");
    assert!(kept.limit == 1 && matches!(kept.order, Order::Kept), "{kept:?}");
    let kept = call("concurrency: 10000, ordered: true");
    assert!(kept.limit == 10_000 && matches!(kept.order, Order::Kept), "{kept:?}");
    let free = call("concurrency: 8, ordered: false");
    assert!(free.limit == 8 && matches!(free.order, Order::Free), "{free:?}");
    let by_key = call("concurrency: 8, key: 'x-{{ event.data.customer }}'");
    let Order::ByKey(template) = by_key.order else { panic!("{by_key:?}") };
    assert_eq!(template.source(), "x-{{ event.data.customer }}");
}

#[test]
fn a_transform_may_work_on_several_threads_unless_there_can_be_only_one_of_it() {
    let of = |kind: &str| tasks(&format!("    - {kind}\n")).remove(1).parallelism;
    assert_eq!(of("route: {cases: [], parallelism: 4}"), 4);
    assert_eq!(of("route: {cases: []}"), 1);
    assert_eq!(of("fold: {parallelism: 1}"), 1);
    let text = "flow:\n  tasks:\n    - tick:\n    - fold: {parallelism: 2, concurrency: 2}\n";
    assert_eq!(
        refused(text, &[]),
        [
            "4:14 flow.tasks[1].fold.parallelism: `fold` handles one event at a time",
            "4:30 flow.tasks[1].fold.concurrency: `fold` is a transform: it has no `concurrency`",
        ]
    );
}

#[test]
fn a_key_of_the_kind_is_no_key_of_the_order() {
    let fold = tasks("    - fold: {key: 'x'}\n").remove(1);
    assert!(matches!(fold.concurrency.order, Order::Kept));
}

#[test]
fn a_condition_is_compiled_and_its_errors_have_names_of_their_own() {
    let put = tasks("    - put: {when: event.data.n > 5}\n").remove(1);
    assert!(put.when.is_some());
    assert_eq!(put.error_types(), ["script", "limit"]);
    let call = "    - call: {endpoint: 'http://x', concurrency: 2, key: '{{ event.id }}'}\n";
    assert_eq!(tasks(call).remove(1).error_types(), ["template"]);
    assert_eq!(tasks("    - put:\n").remove(1).error_types(), Vec::<&str>::new());
}

#[test]
fn what_failed_may_go_on_or_to_a_task_that_gets_nothing_else() {
    let text = "    - put: {name: a, on_error: continue}
    - put: {name: b, on_error: {route: failed}}
    - put: {name: failed}
    - put: {name: after_failed}
    - put: {name: both, depends_on: b, on_error: {route: after_both}}
    - put: {name: after_both, depends_on: both}
";
    let tasks = tasks(text);
    let on_error: Vec<_> = tasks.iter().map(|task| task.policy.on_error).collect();
    let (fail, route) = (OnError::Fail, OnError::Route);
    assert_eq!(on_error, [fail, OnError::Continue, route(3), fail, fail, route(6), fail]);
    let downstream: Vec<_> = tasks.iter().map(|task| task.downstream.clone()).collect();
    assert_eq!(downstream, [vec![1], vec![2], vec![5], vec![4], vec![], vec![6], vec![]]);
    assert!(tasks.iter().all(|task| task.targets.is_empty()));
}

#[test]
fn sources_too_say_where_failed_events_go() {
    let plan = plan("flow: {tasks: [{tick: {on_error: {route: put}}}, {route: {cases: []}}, {put: }]}");
    let tick = &plan.flows[0].tasks[0];
    assert_eq!((tick.policy.on_error, &tick.downstream), (OnError::Route(2), &vec![1]));
}

#[test]
fn the_cache_has_limits() {
    let cache = |block: &str| plan(&format!("{block}\nflow: {{tasks: [{{tick: }}]}}")).worker.cache;
    let default = CacheLimits { max_entries: 100_000, max_bytes: 64 << 20, is_kept: false };
    for block in ["", "cache: ", "cache: {}", "cache: {type: memory}"] {
        assert_eq!(cache(block), default, "{block}");
    }
    let limits = CacheLimits { max_entries: 5, max_bytes: 10_240, is_kept: false };
    assert_eq!(cache("cache: {type: memory, max_entries: 5, max_bytes: 10KiB}"), limits);
}

#[test]
fn a_mistake_in_on_error_causes_no_further_ones() {
    let of = |on_error: &str| {
        refused(
            &format!(
                "flow:\n  tasks:\n    - tick:\n    - route: {{cases: [], {on_error}}}\n    - put: {{name: failed}}\n"
            ),
            &[],
        )
    };
    for on_error in ["on_error: {rout: failed}", "on_eror: {route: failed}", "on_error: {route: 5}"] {
        assert_eq!(of(on_error).len(), 1, "{:?}", of(on_error));
    }
    assert_eq!(of("on_error: {route: failed}, when: 'true'").len(), 1);
    assert_eq!(of("on_error: {route: failed}, timeout: soon").len(), 1);
}
