//! Random flows of tasks that are tried again and flush in batches, in the engine alone: as in `graphs.rs`, traces and
//! numbers are those of a model.

use std::{collections::BTreeMap, env, sync::Arc};

use flowgen::{plan::Plan, telemetry::Settings};
use proptest::{
    prelude::*,
    strategy::ValueTree,
    test_runner::{Config, RngAlgorithm, TestRng, TestRunner},
};
use tokio::runtime::Builder;

use super::model;
use crate::support::{
    collector::{Span, traces},
    graph::{Graph, Shape, graphs},
    own_process,
};

/// Set to the seed of a failed run, it is run again.
const SEED: &str = "FLOWGEN_TEST_SEED";

const CASES: usize = 40;

/// A random flow, and the share of its traces that is sampled.
#[derive(Debug)]
struct Case {
    graph: Graph,
    rate: f64,
}

/// Returns the flows of a seed.
fn cases(seed: u64) -> Vec<Case> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(Config::default(), rng);
    let rate = prop::sample::select(vec![0.0, 0.1, 1.0]);
    let case = (graphs(), rate).prop_map(|(graph, rate)| Case { graph, rate });
    (0..CASES).map(|_| case.new_tree(&mut runner).unwrap().current()).collect()
}

impl Case {
    /// Makes the plan of the flow, under a name of its own.
    fn plan(&self, name: &str) -> Plan {
        let mut plan = self.graph.plan(&Arc::default());
        let [flow] = &mut plan.flows[..] else { panic!("a graph is one flow") };
        flow.name = name.into();
        for (node, spec) in flow.tasks.iter_mut().zip(&self.graph.tasks) {
            if matches!(spec.shape, Shape::Source { .. }) {
                node.sample_rate = Some(self.rate);
            }
        }
        plan
    }
}

#[expect(clippy::disallowed_methods, reason = "a setting of this test, not of flowgen")]
fn seed() -> u64 {
    env::var(SEED).map_or_else(|_| uuid::Uuid::now_v7().as_u64_pair().1, |seed| seed.parse().unwrap())
}

/// Runs all flows, one after the other.
fn run(settings: Settings) {
    let mut settings = settings;
    settings.keep_traces.limit = u32::MAX;
    settings.span_queue.size = 10_000_000;
    let telemetry = own_process::start(&settings);
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        for (n, case) in cases(seed()).iter().enumerate() {
            own_process::run(case.plan(&format!("g{n}")), &telemetry).await;
        }
    });
    own_process::flush(telemetry);
}

/// Scenario: any flow with failures, retries, arrays, named edges and batches, at any sample rate. Guarantee: the
/// exported traces are the walks through the graph, as far as they failed where they were not sampled, with every
/// attempt; and every number is what the walks add up to.
#[test]
#[expect(clippy::print_stdout, reason = "shown where it fails, to run it again")]
fn attempts_and_batches_of_any_flow_are_told_as_they_were() {
    if let Some(settings) = own_process::settings() {
        return run(settings);
    }
    let seed = seed();
    println!("{SEED}={seed} runs this again");
    let this = "telemetry::attempts::attempts_and_batches_of_any_flow_are_told_as_they_were";
    let collector = own_process::run_again_with(this, |command| {
        command.env(SEED, seed.to_string());
    });
    let mut spans: BTreeMap<String, Vec<Span>> = BTreeMap::new();
    // What flushes a batch belongs to many events.
    for span in
        collector.spans().into_iter().filter(|span| ["task.handle", "task.retry"].contains(&&*span.name))
    {
        spans.entry(span.text("flow").to_owned()).or_default().push(span);
    }
    let metrics = collector.metrics();
    for (n, case) in cases(seed).into_iter().enumerate() {
        let flow = format!("g{n}");
        println!("{flow} at {}: {}", case.rate, case.graph);
        let walks = case.graph.walks();
        let traces = traces(spans.remove(&flow).unwrap_or_default());
        model::assert_traces(&traces, &walks, case.rate);
        let is_buffered = |task: &usize| case.graph.tasks[*task].shape == Shape::Buffered;
        let buffered: Vec<usize> = (0..case.graph.tasks.len()).filter(is_buffered).collect();
        model::assert_numbers(&metrics, &flow, &walks, "test", &buffered);
    }
    assert!(spans.is_empty(), "of no flow: {:?}", spans.keys());
}
