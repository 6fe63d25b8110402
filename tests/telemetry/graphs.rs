//! Random flows over random records: the exported traces are the walks of a model through the graph, and every number is
//! what they add up to.

use std::fmt::Write as _;

use flowgen::ack::Outcome;
use proptest::prelude::*;

use super::{Observed, model, start_with};
use crate::support::{collector::Collector, walk::Walk};

/// What a task does.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Source,
    /// Passes on what is not `rest` modulo `divisor`.
    Filter {
        divisor: u64,
        rest: u64,
    },
    /// Fails at what is `rest` modulo `divisor`, and adds one to the others.
    Script {
        divisor: u64,
        rest: u64,
        is_dropping: bool,
    },
    /// Gives what is `rest` modulo `divisor` another id.
    Named {
        divisor: u64,
        rest: u64,
    },
    /// Makes two of one.
    Twice,
    Iterate,
    /// The remainder says which target; `has_gap`: or none.
    Switch {
        has_gap: bool,
    },
    Drop,
}

#[derive(Clone, Debug)]
struct Task {
    kind: Kind,
    upstream: Vec<usize>,
    downstream: Vec<usize>,
    targets: Vec<usize>,
}

/// The payload of an event.
#[derive(Clone, Debug)]
struct Row {
    n: u64,
    items: Vec<Row>,
}

#[derive(Clone, Debug)]
struct Graph {
    tasks: Vec<Task>,
    /// What each source reads.
    inputs: Vec<Vec<Row>>,
    sample_rate: f64,
}

impl Row {
    fn json(&self) -> serde_json::Value {
        let items: Vec<_> = self.items.iter().map(Self::json).collect();
        serde_json::json!({"n": self.n, "items": items})
    }
}

impl Graph {
    fn input(&self, source: usize) -> String {
        self.inputs[source].iter().map(|row| format!("{}\n", row.json())).collect()
    }

    /// Returns what must become of every record.
    fn walks(&self) -> Vec<Walk> {
        let mut walks = Vec::new();
        for (source, rows) in self.inputs.iter().enumerate() {
            let mut offset = 0;
            for row in rows {
                walks.push(self.walk(source, &format!("in{source}:{offset}"), row));
                offset += row.json().to_string().len() + 1;
            }
        }
        walks
    }

    /// Lets a task handle an event.
    fn walk(&self, index: usize, id: &str, row: &Row) -> Walk {
        let task = &self.tasks[index];
        let outcome = self.outcome(task, row);
        let emitted: Vec<(String, Row)> = match task.kind {
            _ if outcome != "completed" => vec![],
            Kind::Twice => (0..2).map(|n| (format!("{id}-{n}"), row.clone())).collect(),
            Kind::Iterate => {
                row.items.iter().enumerate().map(|(n, item)| (format!("{id}-{n}"), item.clone())).collect()
            }
            Kind::Script { .. } => vec![(id.to_owned(), Row { n: row.n + 1, ..row.clone() })],
            Kind::Named { divisor, rest } if row.n % divisor == rest => vec![(format!("x{id}"), row.clone())],
            _ => vec![(id.to_owned(), row.clone())],
        };
        let next = match task.kind {
            Kind::Switch { .. } => self.target(task, row).into_iter().collect(),
            _ => task.downstream.clone(),
        };
        let end = match (outcome, task.kind) {
            ("failed", Kind::Script { is_dropping: true, .. }) => Some(Outcome::Dropped),
            ("failed", _) => Some(Outcome::Failed),
            ("filtered", _) => Some(Outcome::Filtered),
            _ if next.is_empty() => Some(Outcome::Completed),
            _ => None,
        };
        let next = || next.iter().copied();
        let below = emitted.iter().flat_map(|(id, row)| next().map(move |next| self.walk(next, id, row)));
        let (id, failed_attempts) = (id.to_owned(), u64::from(outcome == "failed"));
        Walk { task: index, id, outcome, end, failed_attempts, retries: 0, below: below.collect() }
    }

    fn outcome(&self, task: &Task, row: &Row) -> &'static str {
        match task.kind {
            Kind::Filter { divisor, rest } if row.n % divisor == rest => "filtered",
            Kind::Script { divisor, rest, .. } if row.n % divisor == rest => "failed",
            Kind::Iterate if row.items.is_empty() => "filtered",
            Kind::Switch { .. } if self.target(task, row).is_none() => "filtered",
            _ => "completed",
        }
    }

    fn target(&self, task: &Task, row: &Row) -> Option<usize> {
        let Kind::Switch { has_gap } = task.kind else { return None };
        let lanes = task.targets.len() + usize::from(has_gap);
        task.targets.get(usize::try_from(row.n).unwrap() % lanes).copied()
    }

    fn yaml(&self) -> String {
        let mut yaml = "channel_capacity: 7\nflow:\n  name: random\n  tasks:\n".to_owned();
        for (index, task) in self.tasks.iter().enumerate() {
            let (kind, keys) = self.keys(task);
            let upstream: Vec<String> = task.upstream.iter().map(|above| format!("t{above}")).collect();
            let depends_on = match upstream.as_slice() {
                [] => String::new(),
                upstream => format!(", depends_on: [{}]", upstream.join(", ")),
            };
            let path =
                if matches!(task.kind, Kind::Source) { format!(", path: in{index}") } else { String::new() };
            writeln!(yaml, "    - {kind}: {{name: t{index}{depends_on}{path}{keys}}}").unwrap();
        }
        yaml
    }

    /// Returns a task's kind and its further keys.
    fn keys(&self, task: &Task) -> (&'static str, String) {
        match task.kind {
            Kind::Source => ("file", String::new()),
            Kind::Filter { divisor, rest } => {
                ("filter", format!(", condition: 'event.data.n % {divisor} != {rest}'"))
            }
            Kind::Script { divisor, rest, is_dropping } => {
                let on_error = if is_dropping { "drop" } else { "fail" };
                let code =
                    format!("if event.data.n % {divisor} == {rest} {{ throw 1 }} event.data.n += 1; event");
                ("script", format!(", on_error: {on_error}, code: '{code}'"))
            }
            Kind::Named { divisor, rest } => {
                let code =
                    format!("if event.data.n % {divisor} == {rest} {{ event.id = `x${{event.id}}`; }} event");
                ("script", format!(", code: '{code}'"))
            }
            Kind::Twice => ("script", ", code: '[event.data, event.data]'".into()),
            Kind::Iterate => ("iterate", ", iterate_key: items".into()),
            Kind::Switch { has_gap } => {
                let lanes = task.targets.len() + usize::from(has_gap);
                let case = |(n, target)| format!("{{when: 'event.data.n % {lanes} == {n}', to: t{target}}}");
                let cases: Vec<String> = task.targets.iter().enumerate().map(case).collect();
                ("switch", format!(", cases: [{}]", cases.join(", ")))
            }
            Kind::Drop => ("drop", String::new()),
        }
    }
}

fn rows(depth: u32) -> BoxedStrategy<Vec<Row>> {
    let items = if depth == 0 { Just(vec![]).boxed() } else { rows(depth - 1) };
    let row = (0u64..1000, items).prop_map(|(n, items)| Row { n, items });
    prop::collection::vec(row, 0..(3 + 8 * depth as usize)).boxed()
}

fn kind() -> impl Strategy<Value = Kind> {
    prop_oneof![
        1 => (2u64..5, 0u64..5).prop_map(|(divisor, rest)| Kind::Filter { divisor, rest }),
        3 => (2u64..7, 0u64..7, any::<bool>()).prop_map(|(divisor, rest, is_dropping)| Kind::Script {
            divisor,
            rest,
            is_dropping
        }),
        2 => (2u64..4, 0u64..4).prop_map(|(divisor, rest)| Kind::Named { divisor, rest }),
        1 => Just(Kind::Twice),
        1 => Just(Kind::Iterate),
        1 => any::<bool>().prop_map(|has_gap| Kind::Switch { has_gap }),
        1 => Just(Kind::Drop),
    ]
}

/// Any flow of up to nine tasks: one or two sources, chains, fan-out, fan-in, diamonds, lanes.
fn graphs() -> impl Strategy<Value = Graph> {
    let others = prop::collection::vec((kind(), any::<u16>()), 1..7);
    let inputs = prop::collection::vec(rows(2), 1..3);
    let sample_rate = prop::sample::select(vec![1.0, 0.1, 0.0]);
    (inputs, others, sample_rate).prop_map(|(inputs, others, sample_rate)| {
        let none = Vec::new;
        let task = |kind| Task { kind, upstream: none(), downstream: none(), targets: none() };
        let mut tasks: Vec<Task> = inputs.iter().map(|_| task(Kind::Source)).collect();
        for (kind, edges) in others {
            join(&mut tasks, task(kind), |above| edges >> above & 1 == 1);
        }
        // A switch names at least one task.
        if tasks.iter().any(|task| matches!(task.kind, Kind::Switch { .. }) && task.targets.is_empty()) {
            let is_open: Vec<bool> = tasks
                .iter()
                .map(|task| matches!(task.kind, Kind::Switch { .. }) && task.targets.is_empty())
                .collect();
            join(&mut tasks, task(Kind::Drop), |above| is_open[above]);
        }
        Graph { tasks, inputs, sample_rate }
    })
}

/// Adds a task below those that `is_above` names, or below the last that takes followers.
fn join(tasks: &mut Vec<Task>, mut task: Task, is_above: impl Fn(usize) -> bool) {
    let index = tasks.len();
    let mut above: Vec<usize> = (0..index).filter(|above| is_above(*above)).collect();
    let is_switch = |task: &Task| matches!(task.kind, Kind::Switch { .. });
    if above.is_empty() {
        above.extend((0..index).rfind(|above| !is_switch(&tasks[*above])));
    }
    for above in above {
        if is_switch(&tasks[above]) {
            tasks[above].targets.push(index);
        } else {
            tasks[above].downstream.push(index);
            task.upstream.push(above);
        }
    }
    tasks.push(task);
}

fn run(graph: &Graph) -> Observed {
    let inputs: Vec<(String, String)> =
        (0..graph.inputs.len()).map(|source| (format!("in{source}"), graph.input(source))).collect();
    let files: Vec<(&str, &[u8])> = inputs.iter().map(|(name, text)| (&**name, text.as_bytes())).collect();
    let collector = Collector::start();
    let worker = start_with(&collector, &graph.yaml(), &files, |command| {
        command
            .env("FLOWGEN_TELEMETRY__TRACE_SAMPLE_RATE", graph.sample_rate.to_string())
            .env("FLOWGEN_TELEMETRY__KEEP_TRACES__LIMIT", "1000000");
    });
    Observed::of_some(worker, &collector)
}

/// A panic fails a case as well, and says more.
fn check(graph: &Graph) {
    let (observed, walks) = (run(graph), graph.walks());
    if graph.sample_rate == 1.0 {
        observed.audit();
    }
    model::assert_traces(&observed.traces(), &walks, graph.sample_rate);
    model::assert_numbers(&observed.metrics, "random", &walks, "script", &[]);
    let failed = walks.iter().filter(|walk| walk.is_failing()).count() as u64;
    let kept = observed.metrics.counter("flowgen.traces.kept", &[]);
    assert!(kept <= failed && (graph.sample_rate > 0.0 || kept == failed), "{kept} of {failed} are kept");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, max_shrink_iters: 200, ..ProptestConfig::default() })]

    /// Scenario: any flow over any records, with failures, at any sample rate. Guarantee: the exported traces are the
    /// walks through the graph, whole, or as far as they failed where they were not sampled; and every number of every
    /// task and of the flow is what the walks add up to.
    #[test]
    fn the_traces_of_any_flow_are_the_walks_through_its_graph(graph in graphs()) {
        check(&graph);
    }
}
