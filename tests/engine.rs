//! The engine through its public surface: random flows against a model, panics, deadlines.

mod batches;
mod collecting;
mod concurrency;
mod connections;
mod dedupe;
mod faults;
mod instances;
mod parallelism;
mod sources;
mod supervision;

use std::sync::{Arc, Mutex};

use flowgen::runtime::{Report, TaskManager};
use proptest::prelude::*;

use crate::support::graph::{Graph, Leaves, graphs, outcomes};

fn run(graph: &Graph, runtime: &tokio::runtime::Runtime) -> (Report, Leaves) {
    let leaves = Arc::default();
    let report = runtime.block_on(async {
        let manager = TaskManager::start(graph.plan(&leaves), None).await.expect("test tasks always build");
        manager.run().await
    });
    (report, Arc::into_inner(leaves).map(Mutex::into_inner).unwrap().unwrap())
}

fn check(graph: &Graph, runtime: &tokio::runtime::Runtime) -> Result<(), TestCaseError> {
    let (report, mut leaves) = run(graph, runtime);
    let (mut expected, expected_outcomes) = graph.expected();
    let summary = &report.flows[0].summary;
    prop_assert_eq!(outcomes(summary), expected_outcomes, "{}", graph);
    prop_assert_eq!(summary.inflight(), 0);
    for (leaf, ids) in leaves.iter_mut().chain(&mut expected) {
        if !graph.has_one_path_to(*leaf) {
            ids.sort();
        }
    }
    prop_assert_eq!(leaves, expected, "{}", graph);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    /// Scenario: any flow with failures, retries, arrays and named edges, on paused time.
    /// Guarantee: each leaf gets exactly the events of the model, in order where the flow has one, and
    /// every event that entered has exactly the model's outcome.
    #[test]
    fn any_flow_delivers_exactly_what_the_model_says(graph in graphs()) {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        check(&graph, &runtime)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]

    /// The same on real threads.
    #[test]
    fn any_flow_delivers_the_same_on_several_threads(graph in graphs()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        check(&graph, &runtime)?;
    }
}
