//! Back-pressure and order: what is in flight is bounded, and comes out as it went in.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use flowgen::{
    ack::Outcome,
    event::Event,
    plan::{Node, Policy},
    retry::RetryPolicy,
    runtime::FlowHandle,
    task::{Output, Task, TaskError},
};

use super::{BATCH, CAPACITY, assert_outcomes, hours, number, run, run_until, transform};
use crate::support::{
    graph::node,
    tasks::{numbers, slow},
};

/// A source without an end, and two tasks, the second of which is `sink`.
fn endless(sink: Node) -> Vec<Node> {
    vec![
        node("source", vec![1], || numbers(u64::MAX)),
        node("middle", vec![2], || {
            transform(|_, output| {
                output.forward();
                Ok(())
            })
        }),
        sink,
    ]
}

/// Checks that no more is in flight than the channels and one batch a task hold, and that nothing comes in any more.
async fn assert_full(flow: FlowHandle) {
    hours(1).await;
    let summary = flow.summary();
    assert!(summary.inflight() <= 2 * CAPACITY + 3 * BATCH, "{summary:?}");
    assert!(summary.inflight() > CAPACITY, "the sink was meant to hold it up: {summary:?}");
    for _ in 0..5 {
        hours(10).await;
        assert_eq!(flow.summary(), summary);
    }
}

/// Channels are bounded, and a full one blocks all that is upstream: behind a leaf that is stuck there are the channels
/// and one batch a task, and not one event more however long it takes.
#[tokio::test(start_paused = true)]
async fn a_stuck_leaf_holds_up_its_source_at_the_channels_and_a_batch_a_task() {
    let stuck = node("stuck", vec![], || slow(Duration::from_secs(u64::from(u32::MAX)), |_| Ok(())));
    let report = run_until(endless(stuck), assert_full).await;
    let flow = &report.flows[0];
    assert_outcomes(flow, [(Outcome::Cancelled, flow.summary.entered)]);
}

/// A source without an end before a target that is down does not fill memory: what failed waits to be brought in again,
/// and nothing new comes in meanwhile.
#[tokio::test(start_paused = true)]
async fn a_dead_target_holds_up_its_source_and_fills_no_memory() {
    let mut dead =
        node("dead", vec![], || slow(Duration::ZERO, |_| Err(TaskError::transient("test", "down"))));
    let retry = RetryPolicy { max_attempts: 2, ..RetryPolicy::default() };
    dead.policy = Policy { retry, ..Policy::default() };
    let report = run_until(endless(dead), assert_full).await;
    let flow = &report.flows[0];
    assert!(report.is_cut_short);
    assert_outcomes(flow, [(Outcome::Cancelled, flow.summary.entered)]);
}

/// Order is kept by default: through tasks of every role, each event as fast or slow as it likes, and tried again or not.
#[tokio::test(start_paused = true)]
async fn events_come_out_in_the_order_of_their_source() {
    const EVENTS: u64 = 1000;
    let order = Arc::<Mutex<Vec<u64>>>::default();
    let seen = Arc::clone(&order);
    let failed = Arc::<Mutex<Option<u64>>>::default();
    let report = run(vec![
        node("source", vec![1], || numbers(EVENTS)),
        node("uneven", vec![2], || Task::Processor(Box::new(Uneven))),
        node("moody", vec![3], move || {
            let failed = Arc::clone(&failed);
            slow(Duration::ZERO, move |event| {
                let is_second = failed.lock().unwrap().replace(number(event)) == Some(number(event));
                if number(event).is_multiple_of(7) && !is_second {
                    return Err(TaskError::transient("test", "at first"));
                }
                Ok(())
            })
        }),
        node("sink", vec![], move || {
            let seen = Arc::clone(&seen);
            transform(move |event, output| {
                seen.lock().unwrap().push(number(event));
                output.forward();
                Ok(())
            })
        }),
    ])
    .await;
    assert_outcomes(&report, [(Outcome::Completed, EVENTS)]);
    assert_eq!(*order.lock().unwrap(), (0..EVENTS).collect::<Vec<_>>());
}

/// A processor that takes longer over some events than over others.
struct Uneven;

#[async_trait::async_trait]
impl flowgen::task::Processor for Uneven {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        tokio::time::sleep(Duration::from_millis(number(event) * 7919 % 13)).await;
        output.forward();
        Ok(())
    }
}
