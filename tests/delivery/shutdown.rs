//! The end: sources stop, what is under way arrives, and what does not within the time is counted.

use std::{sync::Arc, time::Duration};

use flowgen::{ack::Outcome, task::TaskError};

use super::{
    answers::{Answers, answered, leaf},
    assert_outcomes, hours, run, run_until,
};
use crate::support::{
    graph::node,
    tasks::{Waiting, numbers, slow},
};
use flowgen::task::Task;

/// As `shutdown_timeout` says by default.
const TIMEOUT: Duration = Duration::from_secs(25);

/// A flow whose sources have all come to their end drains, and ends without being asked to.
#[tokio::test(start_paused = true)]
async fn a_flow_whose_sources_end_drains_and_ends() {
    let report = run(vec![
        node("one", vec![2], || numbers(300)),
        node("other", vec![2], || numbers(100)),
        node("sink", vec![], || slow(Duration::from_secs(60), |_| Ok(()))),
    ])
    .await;
    assert_outcomes(&report, [(Outcome::Completed, 400)]);
}

/// At a shutdown the sources stop first, and what they have brought in arrives: nothing is given up that is done in time.
#[tokio::test(start_paused = true)]
async fn at_a_shutdown_the_sources_stop_and_what_is_under_way_arrives() {
    let tasks = vec![
        node("source", vec![1], || numbers(u64::MAX)),
        node("sink", vec![], || slow(Duration::from_millis(100), |_| Ok(()))),
    ];
    let mut entered = 0;
    let report = run_until(tasks, |flow| {
        let entered = &mut entered;
        async move {
            hours(1).await;
            *entered = flow.summary().entered;
        }
    })
    .await;
    let flow = &report.flows[0];
    assert!(!report.is_cut_short);
    // What its source had in hand when it was told.
    assert!(flow.summary.entered <= entered + 1, "{entered} and then {flow:?}");
    assert_outcomes(flow, [(Outcome::Completed, flow.summary.entered)]);
}

/// What is left when the time of a shutdown is over is cancelled, counted, and told to a source that can answer; the end
/// comes in time.
#[tokio::test(start_paused = true)]
async fn what_is_left_at_the_deadline_is_cancelled_counted_and_told() {
    let answers = Arc::<Answers>::default();
    let (source, sink) = (Arc::clone(&answers), Arc::clone(&answers));
    let tasks = vec![
        node("source", vec![1], move || answered(u64::MAX, &source)),
        node("sink", vec![], move || leaf(Duration::from_secs(3), &sink)),
    ];
    let mut stopped = None;
    let report = run_until(tasks, |_| async {
        hours(1).await;
        stopped = Some(tokio::time::Instant::now());
    })
    .await;
    assert!(stopped.unwrap().elapsed() <= TIMEOUT, "{:?}", stopped.unwrap().elapsed());
    assert!(report.is_cut_short);
    let flow = &report.flows[0];
    let completed = flow.summary.count(Outcome::Completed);
    let left = flow.summary.entered - completed;
    assert!(left > 0);
    assert_outcomes(flow, [(Outcome::Completed, completed), (Outcome::Cancelled, left)]);
    answers.assert_told(flow.summary.entered, |n| {
        if n < completed { (Outcome::Completed, 1) } else { (Outcome::Cancelled, 0) }
    });
}

/// What waits to be brought in again at a shutdown is tried again for as long as there is time, and then cancelled: it is
/// never counted as failed or done.
#[tokio::test(start_paused = true)]
async fn what_waits_to_be_brought_in_again_at_the_deadline_is_cancelled() {
    let down = || TaskError::transient("test", "down");
    let mut sink = node("sink", vec![], move || slow(Duration::ZERO, move |_| Err(down())));
    sink.policy.retry.max_attempts = 1;
    let source = || Task::Source(Box::new(Waiting { count: 10 }));
    let report = run_until(vec![node("source", vec![1], source), sink], |_| hours(1)).await;
    assert!(report.is_cut_short, "{report:?}");
    assert_outcomes(&report.flows[0], [(Outcome::Cancelled, 10)]);
}
