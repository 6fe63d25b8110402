//! What is exported of a case: the numbers that the model adds up to.

use tokio::runtime::Builder;

use super::{
    case::{Case, Role},
    expected::{Expected, Numbers},
    setting, tasks,
    world::World,
};
use crate::support::{
    collector::{Metrics, Number},
    own_process,
};

/// Set to the first of the seeds.
const FIRST: &str = "FLOWGEN_TEST_NUMBERS_SEED";

/// How many cases are told of.
const CASES: usize = 60;

/// What is compared, each with the attribute that is told apart.
const COMPARED: [(&str, &str); 9] = [
    ("task.handle.count", "outcome"),
    ("task.handle.errors", "error.type"),
    ("flowgen.flow.entered", "origin"),
    ("flowgen.flow.events", "outcome"),
    ("flowgen.source.redeliveries", ""),
    ("flowgen.task.attempt.errors", "error.type"),
    ("flowgen.task.deadline_skips", ""),
    ("flowgen.task.retries", "error.type"),
    ("flowgen.task.timeouts", ""),
];

/// Of tasks that flush these are not only those of their events.
const OF_ATTEMPTS: [&str; 2] = ["flowgen.task.attempt.errors", "flowgen.task.retries"];

/// Returns cases in which everything is determined.
fn cases(first: u64) -> Vec<Case> {
    let cases = (0..).map(|n| Case::of(first.wrapping_add(n)));
    let is_told = |case: &Case| {
        let is_short = case.sources().all(|(_, reading)| reading.events < 100);
        !case.is_loose() && case.stopping.is_none() && is_short
    };
    cases.filter(is_told).take(CASES).collect()
}

fn run(settings: &flowgen::telemetry::Settings, first: u64) {
    let telemetry = own_process::start(settings);
    for (n, case) in cases(first).into_iter().enumerate() {
        let runtime = Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        let world = World::new(case);
        runtime.block_on(own_process::run(tasks::plan(&world, &format!("m{n}")), &telemetry));
    }
    own_process::flush(telemetry);
}

/// Returns what is expected of a case, as far as it is compared.
fn expected(case: &Case) -> Numbers {
    let events = case.sources().flat_map(|(source, reading)| (0..reading.events).map(move |n| (source, n)));
    let mut numbers = Expected::of(case, events).numbers;
    numbers.retain(|(name, task, _), _| is_compared(case, name, task));
    numbers
}

fn found(case: &Case, metrics: &Metrics, flow: &str) -> Numbers {
    let mut numbers = Numbers::new();
    for (name, key) in COMPARED {
        for (labels, point) in metrics.get(name).into_iter().flatten() {
            let of = |key: &str| labels.get(key).cloned().unwrap_or_default();
            let Number::Counter(count) = point.number else { panic!("`{name}` counts nothing: {point:?}") };
            if of("flow") == flow && count > 0 && is_compared(case, name, &of("task")) {
                *numbers.entry((name.to_owned(), of("task"), of(key))).or_default() += count;
            }
        }
    }
    numbers
}

fn is_compared(case: &Case, name: &str, task: &str) -> bool {
    let task = task.strip_prefix('t').and_then(|task| task.parse::<usize>().ok());
    let is_buffered = task.is_some_and(|task| case.tasks[task].role == Role::Buffered);
    !(is_buffered && OF_ATTEMPTS.contains(&name))
}

/// Scenario: as with any flow, where everything is determined. Guarantee: what is exported of spans, attempts, retries,
/// deadlines, redeliveries and outcomes is what the model adds up to, and no task has anything left in the end.
#[test]
#[expect(clippy::print_stdout, reason = "shown where it fails, to run it again")]
fn what_is_exported_of_any_flow_is_what_the_model_counts() {
    let first = setting(FIRST).unwrap_or_else(|| uuid::Uuid::now_v7().as_u64_pair().1);
    if let Some(settings) = own_process::settings() {
        return run(&settings, first);
    }
    println!("{FIRST}={first} runs this again");
    let this = "model::numbers::what_is_exported_of_any_flow_is_what_the_model_counts";
    let collector = own_process::run_again_with(this, |command| {
        command.env(FIRST, first.to_string());
    });
    let metrics = collector.metrics();
    let levels: Vec<_> = metrics.get("flowgen.task.inflight").into_iter().flatten().collect();
    assert!(levels.len() >= CASES, "{levels:?}");
    assert!(levels.iter().all(|(_, point)| point.number == Number::UpDown(0)), "{levels:?}");
    for (n, case) in cases(first).iter().enumerate() {
        let (found, expected) = (found(case, &metrics, &format!("m{n}")), expected(case));
        let differing = |(key, count): &(&_, &u64), other: &Numbers| other.get(*key) != Some(*count);
        let only = |one: &Numbers, other: &Numbers| {
            let of = one.iter().filter(|entry| differing(entry, other));
            of.map(|(key, count)| format!("{key:?}: {count}")).collect::<Vec<_>>().join("\n")
        };
        assert_eq!(only(&found, &expected), only(&expected, &found), "seed {}: {case:#?}", case.seed);
    }
}
