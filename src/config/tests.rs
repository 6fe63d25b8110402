//! Whole loads, with kinds of their own: what becomes of good files, and what of variables and files
//! together. The reports of bad files are in `tests/config/`.

mod policies;

use std::{fs, time::Duration};

use proptest::prelude::*;
use schemars::JsonSchema;
use serde::Deserialize;

use super::{environment::fixed::Fixed, keys::TASK_KEYS, *};
use crate::{
    plan::OnError,
    problem::Problems,
    registry::KindEntry,
    task::{BuildContext, BuildError, Kind, Role, Target, Task},
    telemetry::KeepTraces,
};

/// Declares a kind that is never built.
macro_rules! kind {
    ($kind:ident, $config:ident, $name:literal, $role:ident, $has_targets:expr, |$of:ident| $targets:expr) => {
        kind!($kind, $config, $name, $role, $has_targets, |$of| $targets, false);
    };
    ($kind:ident, $config:ident, $name:literal, $role:ident, $has_targets:expr, |$of:ident| $targets:expr, $is_serial:expr) => {
        struct $kind;
        impl Kind for $kind {
            const NAME: &'static str = $name;
            const ROLE: Role = Role::$role;
            const SUMMARY: &'static str = "for tests";
            const ERROR_TYPES: &'static [&'static str] = &[];
            const TARGET_KEYS: &'static [&'static str] = if $has_targets { &["cases.*.to"] } else { &[] };
            const IS_SERIAL: bool = $is_serial;
            type Config = $config;

            fn check($of: &$config, problems: &mut Problems) {
                $of.told(problems);
            }

            fn targets($of: &$config) -> Vec<Target> {
                $targets
            }

            async fn build(_: &$config, _: &BuildContext) -> Result<Task, BuildError> {
                Err(BuildError::new("is for tests"))
            }
        }
    };
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TickConfig {
    #[serde(default, with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    interval: Option<Duration>,
    #[serde(default)]
    count: Option<u64>,
    #[serde(default)]
    payload: Value,
    #[serde(default)]
    format: Format,
    #[serde(default)]
    is_quiet: bool,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Format {
    /// Lines of JSON.
    #[default]
    Jsonl,
    /// Comma-separated values.
    Csv,
}

impl TickConfig {
    fn told(&self, problems: &mut Problems) {
        let _ = (&self.interval, &self.payload, &self.format, self.is_quiet);
        if let Some(count) = self.count.filter(|count| *count > 99) {
            problems.report("count", format!("{count} is too many"));
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RouteConfig {
    cases: Vec<Case>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Case {
    when: String,
    to: String,
}

impl RouteConfig {
    fn told(&self, problems: &mut Problems) {
        for (n, case) in self.cases.iter().enumerate().filter(|(_, case)| case.when.is_empty()) {
            problems.report(&format!("cases.{n}.when"), format!("`{}` has no condition", case.to));
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CallConfig {
    endpoint: String,
    #[serde(default, with = "humantime_serde")]
    #[schemars(with = "Option<String>")]
    timeout: Option<Duration>,
}

impl CallConfig {
    fn told(&self, problems: &mut Problems) {
        let _ = self.timeout;
        if !self.endpoint.starts_with("http") {
            problems.report("endpoint", format!("`{}` is no endpoint", self.endpoint));
        }
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct PutConfig {}

impl PutConfig {
    fn told(&self, _: &mut Problems) {}
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FoldConfig {
    key: Option<String>,
}

impl FoldConfig {
    fn told(&self, _: &mut Problems) {
        let _ = &self.key;
    }
}

kind!(Tick, TickConfig, "tick", Source, false, |_config| vec![]);
kind!(Route, RouteConfig, "route", Transform, true, |config| config
    .cases
    .iter()
    .enumerate()
    .map(|(n, case)| Target { task: case.to.clone(), path: format!("cases.{n}.to") })
    .collect());
kind!(Call, CallConfig, "call", Processor, false, |_config| vec![]);
kind!(Put, PutConfig, "put", Processor, false, |_config| vec![]);
kind!(Fold, FoldConfig, "fold", Transform, false, |_config| vec![], true);

const REGISTRY: Registry = Registry(&[
    KindEntry::of::<Tick>(""),
    KindEntry::of::<Route>(""),
    KindEntry::of::<Call>(""),
    KindEntry::of::<Put>(""),
    KindEntry::of::<Fold>(""),
]);

/// Loads files of these names and texts, in this order.
fn load_files(files: &[(&str, &str)], variables: &[(&str, &str)]) -> Result<Loaded, Vec<Problem>> {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    for (name, text) in files {
        fs::write(path(name), text).unwrap();
    }
    let paths: Vec<_> = files.iter().map(|(name, _)| path(name)).collect();
    load(&paths, None, REGISTRY, &Fixed::of(variables))
}

fn plan(text: &str) -> Plan {
    with(text, &[])
}

fn with(text: &str, variables: &[(&str, &str)]) -> Plan {
    let loaded = load_files(&[("orders.yaml", text)], variables);
    loaded.unwrap_or_else(|problems| panic!("{:#?}", told(&problems))).plan
}

fn told(problems: &[Problem]) -> Vec<String> {
    let one = |problem: &Problem| {
        let place = match &problem.origin {
            Some(Origin::Place(place)) => format!("{}:{}", place.line, place.column),
            Some(Origin::Variable(name)) => name.clone(),
            other => format!("{other:?}"),
        };
        format!("{place} {}: {}", problem.path, problem.message)
    };
    problems.iter().map(one).collect()
}

fn refused(text: &str, variables: &[(&str, &str)]) -> Vec<String> {
    told(&load_files(&[("orders.yaml", text)], variables).unwrap_err())
}

#[test]
fn a_flow_becomes_nodes_and_edges_with_their_policies() {
    let plan = plan(
        "\
retry: {max_attempts: 3, max_elapsed: 1m}
flow:
  labels: {team: checkout}
  tasks:
    - tick: {interval: 5s}
    - route:
        name: by-size
        cases: [{when: 'true', to: big}, {when: 'false', to: put}]
    - put: {name: big, timeout: 10s, on_error: drop, retry: {initial_backoff: 2s, max_elapsed: null}}
    - put:
",
    );
    let flow = &plan.flows[0];
    assert_eq!((&*flow.name, flow.labels["team"].as_str()), ("orders", Some("checkout")));
    let names: Vec<_> = flow.tasks.iter().map(|task| &*task.name).collect();
    assert_eq!(names, ["tick", "by-size", "big", "put"]);
    assert_eq!((&flow.tasks[0].downstream, &flow.tasks[1].targets), (&vec![1], &vec![2, 3]));
    let policy = flow.tasks[2].policy;
    assert_eq!(policy.timeout, Some(Duration::from_secs(10)));
    assert_eq!(policy.on_error, OnError::Drop);
    assert_eq!((policy.retry.max_attempts, policy.retry.max_elapsed), (3, None));
    assert_eq!(policy.retry.initial_backoff, Duration::from_secs(2));
    assert_eq!(flow.tasks[3].policy.retry.max_elapsed, Some(Duration::from_secs(60)));
}

#[test]
fn values_that_mean_nothing_are_accepted() {
    let text = "\
health: {enabled: '${H:-false}', address: '127.0.0.1:1'}
cache: {type: '${C:-memory}', max_bytes: null}
state:
flow:
  durable: '${X:-false}'
  deadline: null
  parallel_instances: 1
  require_leader_election: false
  on_task_panic: null
  tasks: [{tick: {concurrency: '${N:-1}', ordered: '${O:-true}', parallelism: 1, key: , when: null, retry: }}]
";
    assert_eq!(plan(text).flows.len(), 1);
}

#[test]
fn a_kind_keeps_a_timeout_of_its_own() {
    let plan = plan("flow: {tasks: [{tick: }, {call: {endpoint: 'http://x', timeout: 3s}}]}");
    assert_eq!(plan.flows[0].tasks[1].policy.timeout, None);
}

#[test]
fn a_substituted_text_becomes_what_the_key_wants() {
    let text = "\
channel_capacity: ${CAPACITY}
shutdown_timeout: ${WAIT:-3s}
flow:
  tasks: [{tick: {count: '${COUNT}', is_quiet: '${QUIET}', interval: '${N}ms', format: '${FORMAT}'}}]
";
    let variables = [("CAPACITY", "7"), ("COUNT", "12"), ("QUIET", "true"), ("N", "5"), ("FORMAT", "csv")];
    let plan = with(text, &variables);
    assert_eq!(plan.worker.channel_capacity, 7);
    assert_eq!(plan.worker.shutdown_timeout, Duration::from_secs(3));
}

#[test]
fn no_report_shows_what_came_from_outside() {
    let text = "\
telemetry: {enabled: false, trace_sample_rate: '${SECRET}', otlp_endpoint: '${SECRET}'}
flow:
  tasks:
    - tick: {count: '${SECRET}', format: '${SECRET}', interval: 'x ${SECRET}'}
    - call: {endpoint: '${SECRET}', on_error: '${SECRET}'}
    - call: {name: '${SECRET}', endpoint: 'http://x', depends_on: '${SECRET}-'}
    - call: {name: b, endpoint: 'http://x', on_error: {route: '${SECRET}-'}, key: '{{ ${SECRET}'}
    - call: {name: c, endpoint: 'http://x', concurrency: 2, key: '${SECRET}', parallelism: '${SECRET}'}
";
    for secret in [
        "Hunter2\"\u{7f}".to_owned(),
        "Hunter2-".repeat(12),
        "Hunter2 first\nHunter2 second\n".to_owned(),
        "'Hunter2' \"Hunter2\" `Hunter2` \\Hunter2\t".to_owned(),
        "  Hunter2\n".to_owned(),
    ] {
        let problems = load_files(&[("a.yaml", text)], &[("SECRET", &secret)]).unwrap_err();
        let report = reported(&problems);
        assert!(!report.contains("unter2"), "{report}");
        assert!(report.contains("${SECRET}"), "{report}");
        assert!(problems.len() >= 5, "{report}");
    }
}

fn reported(problems: &[Problem]) -> String {
    crate::report::render(problems, crate::report::Severity::Error, crate::report::Colours::Off)
}

#[test]
fn no_report_shows_what_a_variable_sets() {
    let flow = "flow: {tasks: [{tick: }]}";
    for (name, value) in [
        ("OTLP_ENDPOINT", "http://user:Hunter2@host:99999"),
        ("OTLP_ENDPOINT", "Hunter2.example:4317"),
        ("TIMEOUT", "Hunter2\nHunter2"),
        ("TEMPORALITY", "Hunter2"),
        ("HEADERS", "{Hunter2: x}"),
        ("HEADERS", "{x: [Hunter2]}"),
        ("HEADERS__KEY", "Hunter2\n"),
        ("TRACE_ATTRIBUTES", "{x: '{{ Hunter2'}"),
        ("TRACE_ATTRIBUTES", "{Hunter2: '{{ a b'}"),
        ("TLS", "{Hunter2: x}"),
        ("TLS", "{ca_file: [Hunter2]}"),
        ("HISTOGRAM", "{type: Hunter2}"),
        ("PROTOCOL", &"Hunter2".repeat(14)),
        ("OTLP_ENDPOINT", "http://user:Hunter2@host:4317/Hunter2?Hunter2"),
    ] {
        let variable = format!("FLOWGEN_TELEMETRY__{name}");
        let problems = load_files(&[("a.yaml", flow)], &[(&variable, value)]).unwrap_err();
        let report = reported(&problems);
        assert!(!report.contains("unter2"), "{value}: {report}");
        assert!(report.contains(&variable), "{report}");
    }
}

#[test]
fn all_problems_of_all_files_are_told_in_order() {
    let a = "flow:\n  tasks:\n    - tick: {cuont: 1, formt: csv}\n    - put: {timeuot: 5s}\n  nmae: x\n";
    let b = "flow:\n  tasks:\n    - tick: {count: many}\n    - put: {depends_on: tock}\n";
    let problems = load_files(&[("b.yaml", b), ("a.yaml", a)], &[]).unwrap_err();
    assert_eq!(
        told(&problems),
        [
            "3:21 flow.tasks[0].tick.count: expected a whole number of at least 0, found `many`",
            "4:25 flow.tasks[1].put.depends_on: there is no task `tock`",
            "3:14 flow.tasks[0].tick.cuont: unknown field `cuont`",
            "3:24 flow.tasks[0].tick.formt: unknown field `formt`",
            "4:13 flow.tasks[1].put.timeuot: unknown field `timeuot`",
            "5:3 flow.nmae: unknown field `nmae`",
        ]
    );
}

#[test]
fn blocks_of_the_worker_may_stand_in_any_one_file() {
    let flow = |name: &str| format!("flow: {{name: {name}, tasks: [{{tick: }}]}}\n");
    let (a, b) =
        (flow("a") + "channel_capacity: 5\n", flow("b") + "channel_capacity: 5\nlogging: {level: warn}\n");
    let loaded = load_files(&[("a.yaml", &a), ("b.yaml", &b)], &[]).unwrap();
    assert_eq!(loaded.plan.worker.channel_capacity, 5);
    assert_eq!(loaded.plan.worker.logging.level, "warn");
    let c = flow("c") + "channel_capacity: 6\n";
    let problems = load_files(&[("a.yaml", &a), ("c.yaml", &c)], &[]).unwrap_err();
    assert_eq!(told(&problems), ["2:1 channel_capacity: a second, different `channel_capacity`"]);
    assert!(problems[0].hint.as_ref().unwrap().ends_with("a.yaml:2:1"));
}

#[test]
fn a_flow_name_is_unique_in_the_worker() {
    let flow = "flow: {name: same, tasks: [{tick: }]}";
    let problems = load_files(&[("a.yaml", flow), ("b.yaml", flow)], &[]).unwrap_err();
    assert_eq!(told(&problems), ["1:14 flow.name: a second flow is named `same`"]);
    assert!(problems[0].hint.as_ref().unwrap().ends_with("a.yaml:1:14"));
}

#[test]
fn variables_win_over_yaml() {
    let text =
        "logging: {level: info}\ntelemetry: {enabled: false, service_name: yaml}\nflow: {tasks: [{tick: }]}";
    let variables = [
        ("FLOWGEN_LOGGING__LEVEL", "debug"),
        ("FLOWGEN_LOGGING__FORMAT", "json"),
        ("FLOWGEN_TELEMETRY__SERVICE_NAME", "variable"),
        ("FLOWGEN_TELEMETRY__TRACE_SAMPLE_RATE", "0.5"),
        ("FLOWGEN_TELEMETRY__SPAN_QUEUE__SIZE", "7000"),
        ("FLOWGEN_TELEMETRY__HISTOGRAM", "{type: explicit, buckets: [1, 2.5]}"),
        ("FLOWGEN_TELEMETRY__HEADERS", "{x-api-key: abc}"),
        ("FLOWGEN_HEALTH__ENABLED", "false"),
        ("FLOWGEN_IMAGE", "not ours"),
        ("FLOWGEN_DATABASE__PASSWORD", "somebody's own"),
    ];
    let worker = with(text, &variables).worker;
    assert_eq!(worker.logging.level, "debug");
    assert_eq!(worker.telemetry.service_name, "variable");
    assert_eq!(worker.telemetry.trace_sample_rate, 0.5);
    assert_eq!(worker.telemetry.span_queue.size, 7000);
    assert_eq!(worker.telemetry.traces.unwrap().headers["x-api-key"].expose(), "abc");
}

#[test]
fn a_wrong_variable_is_named() {
    let flow = "flow: {tasks: [{tick: }]}";
    let one =
        |name: &str, value: &str| refused(flow, &[(name, value), ("FLOWGEN_TELEMETRY__ENABLED", "false")]);
    assert_eq!(
        one("FLOWGEN_TELEMETRY__TRACE_SAMPLE_RATE", "2"),
        ["FLOWGEN_TELEMETRY__TRACE_SAMPLE_RATE telemetry.trace_sample_rate: must be between 0.0 and 1.0"]
    );
    assert_eq!(
        one("FLOWGEN_TELEMETRY__FOO", "2"),
        ["FLOWGEN_TELEMETRY__FOO telemetry.foo: unknown field `foo`"]
    );
    assert_eq!(
        one("FLOWGEN_TELEMETRY__HEADERS", "hunter2"),
        ["FLOWGEN_TELEMETRY__HEADERS telemetry.headers: expected a mapping"]
    );
    assert_eq!(
        one("FLOWGEN_TELEMETRY__TIMEOUT", "soon"),
        ["FLOWGEN_TELEMETRY__TIMEOUT telemetry.timeout: expected a duration such as `5s`, \
          found `${FLOWGEN_TELEMETRY__TIMEOUT}`"]
    );
    assert_eq!(one("FLOWGEN_STATE__PAHT", "/var"), ["FLOWGEN_STATE__PAHT state.paht: unknown field `paht`"]);
    assert_eq!(one("FLOWGEN_STATE__PATH", ""), ["FLOWGEN_STATE__PATH state.path: the path is empty"]);
    assert_eq!(
        one("FLOWGEN_RETRY__MAX_ATTEMPTS", "5"),
        ["FLOWGEN_RETRY__MAX_ATTEMPTS : no variable sets `retry`"]
    );
    assert_eq!(one("FLOWGEN_LOGING__LEVEL", "info"), ["FLOWGEN_LOGING__LEVEL : no variable sets `loging`"]);
    for variable in
        ["FLOWGEN_TELEMETRY_ENABLED", "FLOWGEN_TELEMETRY_SPAN_QUEUE_SIZE", "FLOWGEN_LOGGING_LEVEL"]
    {
        assert_eq!(one(variable, "1"), [format!("{variable} : this variable sets nothing")]);
    }
    // What Kubernetes sets for a service of this name.
    let service =
        [("FLOWGEN_TELEMETRY_SERVICE_HOST", "10.0.0.1"), ("FLOWGEN_TELEMETRY_PORT", "tcp://10.0.0.1:80")];
    assert!(load_files(&[("a.yaml", "flow: {name: a, tasks: [{tick: }]}")], &service).is_ok());
}

#[test]
fn a_telemetry_block_without_enabled_is_off_with_a_warning() {
    let text = "telemetry: {service_name: x}\nflow: {tasks: [{tick: }]}";
    let loaded = load_files(&[("a.yaml", text)], &[]).unwrap();
    assert!(!loaded.plan.worker.telemetry.enabled);
    assert_eq!(told(&loaded.warnings), ["1:1 telemetry: telemetry is off: its block does not say `enabled`"]);
    let loaded = load_files(&[("a.yaml", text)], &[("FLOWGEN_TELEMETRY__ENABLED", "false")]).unwrap();
    assert_eq!(told(&loaded.warnings), Vec::<String>::new());
}

/// Returns `value (source)` of the rows of a key.
fn shown(telemetry: &crate::telemetry::Settings, key: &str) -> Vec<String> {
    let rows = telemetry.sources.iter().filter(|row| row.key == key);
    let name = |source: &crate::telemetry::Source| {
        let source = source.to_string();
        source.rsplit('/').next().unwrap_or_default().to_owned()
    };
    rows.map(|row| format!("{} ({})", row.value, name(&row.source))).collect()
}

#[test]
fn every_telemetry_setting_says_where_it_came_from() {
    let text = "\
telemetry:
  enabled: true
  service_name: '${NAME}'
  timeout: 5s
  headers: {x-file: hunter2, x_both: hunter2}
  resource_attributes: {a.b: c}
  tls: {ca_file: , server_name: collector}
  span_queue:
    size: 1000
  keep_traces: {errors: false}
  trace_attributes:
    order.id: '{{ event.data.id }}'
flow: {tasks: [{tick: }]}
";
    let variables = [
        ("NAME", "orders"),
        ("FLOWGEN_TELEMETRY__KEEP_TRACES__SLOWER_THAN", "2s"),
        ("FLOWGEN_TELEMETRY__TRACE_ATTRIBUTES__REGION", "eu"),
        ("FLOWGEN_TELEMETRY__TIMEOUT", "7s"),
        ("FLOWGEN_TELEMETRY__HEADERS__X_BOTH", "hunter2"),
        ("FLOWGEN_TELEMETRY__HISTOGRAM", "{type: explicit, buckets: [1, 2.5]}"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x-ambient=hunter2"),
        ("OTEL_RESOURCE_ATTRIBUTES", "d=e"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "15000"),
        ("OTEL_LOGS_EXPORTER", "none"),
    ];
    let loaded = load_files(&[("a.yaml", text)], &variables).unwrap();
    assert_eq!(told(&loaded.warnings), Vec::<String>::new());
    let telemetry = loaded.plan.worker.telemetry;
    for (key, rows) in [
        ("enabled", &["true (a.yaml:2)"][..]),
        ("service_name", &["${NAME} (a.yaml:3)"]),
        ("timeout", &["7s (FLOWGEN_TELEMETRY__TIMEOUT)"]),
        ("headers", &["x-file=*** (a.yaml:5)", "x_both=*** (FLOWGEN_TELEMETRY__HEADERS__X_BOTH)"]),
        ("resource_attributes", &["a.b=c (a.yaml:6)", "d=e (OTEL_RESOURCE_ATTRIBUTES)"]),
        ("tls.ca_file", &["none (default)"]),
        ("tls.server_name", &["collector (a.yaml:7)"]),
        ("span_queue.size", &["1000 (a.yaml:9)"]),
        ("span_queue.batch", &["1000 (default)"]),
        ("keep_traces.errors", &["false (a.yaml:10)"]),
        ("keep_traces.slower_than", &["2s (FLOWGEN_TELEMETRY__KEEP_TRACES__SLOWER_THAN)"]),
        ("keep_traces.limit", &["1000 (default)"]),
        (
            "trace_attributes",
            &[
                "order.id={{ event.data.id }} (a.yaml:12)",
                "region=eu (FLOWGEN_TELEMETRY__TRACE_ATTRIBUTES__REGION)",
            ],
        ),
        ("metrics_export_interval", &["15s (OTEL_METRIC_EXPORT_INTERVAL)"]),
        ("histogram", &["explicit, [1.0, 2.5] (FLOWGEN_TELEMETRY__HISTOGRAM)"]),
        ("otlp_endpoint", &["http://localhost:4317 (default)"]),
    ] {
        assert_eq!(shown(&telemetry, key), rows, "{key}");
    }
    assert_eq!(telemetry.span_queue.batch, 1000);
}

#[test]
fn no_setting_shows_what_a_reference_put_in() {
    let text = "\
telemetry:
  enabled: true
  otlp_endpoint: 'https://user:pass@${HOST}:4317'
  service_name: '${HUNTER}'
  timeout: '${TIME}'
  resource_attributes: {api.key: 'x-${HUNTER}', other: '${TIME}', plain: hunter2s}
  histogram: {type: explicit, buckets: ['${BOUND}', 1]}
  tls: {server_name: '${HUNTER}'}
  span_queue: {size: '${SIZE}', batch: '${SIZE}'}
  keep_traces: {slower_than: '${TIME}'}
  trace_attributes: {a: 'x-${HUNTER}', b: '{{ env.HUNTER }}-{{ event.id }}'}
flow: {tasks: [{tick: }]}
";
    let variables = [
        ("HOST", "collector"),
        ("HUNTER", "hunter2"),
        ("TIME", "5s"),
        ("BOUND", "0.25"),
        ("SIZE", "1000"),
        ("FLOWGEN_TELEMETRY__SPAN_QUEUE__BATCH", "500"),
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "zstd"),
        ("OTEL_BSP_MAX_QUEUE_SIZE", "2000"),
        ("OTEL_RESOURCE_ATTRIBUTES", "pod=a"),
    ];
    let telemetry = with(text, &variables).worker.telemetry;
    for (key, rows) in [
        ("otlp_endpoint", &["https://${HOST}:4317 (orders.yaml:3)"][..]),
        ("service_name", &["${HUNTER} (orders.yaml:4)"]),
        ("timeout", &["${TIME} (orders.yaml:5)"]),
        (
            "resource_attributes",
            &[
                "api.key=x-${HUNTER}, other=${TIME}, plain=hunter2s (orders.yaml:6)",
                "pod=a (OTEL_RESOURCE_ATTRIBUTES)",
            ],
        ),
        ("histogram", &["*** (orders.yaml:7)"]),
        ("tls.server_name", &["${HUNTER} (orders.yaml:8)"]),
        ("span_queue.size", &["${SIZE} (orders.yaml:9)"]),
        ("span_queue.batch", &["500 (FLOWGEN_TELEMETRY__SPAN_QUEUE__BATCH)"]),
        ("keep_traces.slower_than", &["${TIME} (orders.yaml:10)"]),
        ("trace_attributes", &["a=x-${HUNTER}, b={{ env.HUNTER }}-{{ event.id }} (orders.yaml:11)"]),
    ] {
        assert_eq!(shown(&telemetry, key), rows, "{key}");
    }
    assert_eq!(telemetry.service_name, "hunter2");
}

/// Returns a certificate in PEM form.
fn certificate() -> String {
    rcgen::generate_simple_self_signed(["collector".to_owned()]).unwrap().cert.pem()
}

#[test]
fn files_of_tls_are_relative_to_where_they_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("ca.pem");
    fs::write(&pem, certificate()).unwrap();
    let flow = "flow: {tasks: [{tick: }]}";
    let text = "telemetry: {enabled: true, otlp_endpoint: 'https://x:4317', tls: {ca_file: ca.pem}}\n";
    let ca_file = |text: &str, variables: &[(&str, &str)]| {
        let path = dir.path().join("a.yaml");
        fs::write(&path, format!("{text}{flow}")).unwrap();
        let loaded = load(&[path], None, REGISTRY, &Fixed::of(variables));
        loaded.map(|loaded| loaded.plan.worker.telemetry.traces.unwrap().tls.ca_file.unwrap())
    };
    assert_eq!(ca_file(text, &[]).unwrap(), pem);
    let whole = pem.to_str().unwrap();
    for (variable, value) in [
        ("FLOWGEN_TELEMETRY__TLS__CA_FILE", whole),
        ("FLOWGEN_TELEMETRY__TLS", &format!("{{ca_file: {whole}}}")),
    ] {
        assert_eq!(ca_file(text, &[(variable, value)]).unwrap(), pem);
        let value = value.replace(whole, "ca.pem");
        let problems = ca_file(text, &[(variable, &value)]).unwrap_err();
        assert_eq!(
            told(&problems),
            [format!(
                "{variable} {}: cannot read the file",
                match variable {
                    "FLOWGEN_TELEMETRY__TLS" => "telemetry.tls",
                    _ => "telemetry.tls.ca_file",
                }
            )]
        );
    }
    let ambient = [("OTEL_EXPORTER_OTLP_CERTIFICATE", whole)];
    // Nothing, said by a variable of flowgen, is something that was said.
    let none = [ambient[0], ("FLOWGEN_TELEMETRY__TLS__CA_FILE", "null")];
    let worker = with(&format!("telemetry: {{enabled: true}}\n{flow}"), &none).worker;
    assert_eq!(worker.telemetry.traces.unwrap().tls.ca_file, None);
    assert_eq!(ca_file("telemetry: {enabled: true}\n", &ambient).unwrap(), pem);
}

#[test]
fn the_value_of_a_variable_is_refused_as_that_of_a_file() {
    let flow = "telemetry: {enabled: true}\nflow: {tasks: [{tick: }]}";
    for (key, value, message) in [
        ("OTLP_ENDPOINT", "", "the endpoint is empty"),
        ("OTLP_ENDPOINT", "http://x:4318", "port 4318 is OTLP/HTTP, which flowgen does not speak"),
        (
            "OTLP_ENDPOINT",
            "http://x/v1/traces",
            "an endpoint with a path is OTLP/HTTP, which flowgen does not speak",
        ),
        ("PROTOCOL", "http/protobuf", "unknown value `${FLOWGEN_TELEMETRY__PROTOCOL}`"),
        ("METRICS_EXPORT_INTERVAL", "0s", "must be longer than zero"),
        ("SPAN_QUEUE__BATCH", "0", "must be at least 1"),
        ("TRACE_SAMPLE_RATE", "-1", "must be between 0.0 and 1.0"),
        ("TEMPORALITY", "lowmemory", "unknown value `${FLOWGEN_TELEMETRY__TEMPORALITY}`"),
        ("CARDINALITY_LIMIT", "0", "must be at least 1"),
        ("KEEP_TRACES__SLOWER_THAN", "0s", "must be longer than zero"),
        ("KEEP_TRACES__LIMIT", "0", "must be at least 1"),
        ("KEEP_TRACES", "false", "expected a mapping"),
        ("TRACE_ATTRIBUTES__TASK", "x", "the attribute `task` is one of flowgen's own"),
        ("TRACE_ATTRIBUTES", "{a: '{{ x }}'}", "`x` is not known"),
    ] {
        let variable = format!("FLOWGEN_TELEMETRY__{key}");
        let told = refused(flow, &[(&variable, value)]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].starts_with(&format!("{variable} telemetry.")), "{told:?}");
        assert!(told[0].ends_with(message), "{told:?}");
    }
    let buckets = ("FLOWGEN_TELEMETRY__HISTOGRAM", "{type: explicit, buckets: [2, 1]}");
    assert_eq!(refused(flow, &[buckets]).len(), 1);
}

#[test]
fn what_a_value_of_telemetry_is_not_is_told_at_its_place() {
    let numbers = "expected a list of numbers, found";
    for (block, expected) in [
        ("keep_traces: [true, 5s, 3]", "keep_traces: expected a mapping, found a list"),
        ("span_queue: [100, 10, 1s]", "span_queue: expected a mapping, found a list"),
        ("histogram: [exponential]", "histogram: expected a mapping, found a list"),
        ("histogram: 5", "histogram: expected a mapping, found `5`"),
        ("histogram: null", "histogram: expected a mapping, found nothing"),
        ("histogram: {type: explicit, buckets: 5}", &format!("histogram.buckets: {numbers} `5`")),
        ("histogram: {type: explicit, buckets: {a: 1}}", &format!("histogram.buckets: {numbers} a mapping")),
        ("histogram: {buckets: [a], type: explicit}", "histogram.buckets[0]: expected a number, found `a`"),
        (
            "keep_traces: {limit: 18446744073709551615}",
            "keep_traces.limit: expected a whole number of at most 4294967295, found `18446744073709551615`",
        ),
        ("keep_traces: {limit: -1}", "keep_traces.limit: expected a whole number of at least 0, found `-1`"),
        ("span_queue: {size: 0}", "span_queue.size: must be at least 1"),
        ("span_queue: {size: 0, batch: 5}", "span_queue.size: must be at least 1"),
    ] {
        let text = format!("telemetry: {{enabled: true, {block}}}\nflow: {{tasks: [{{tick: }}]}}");
        let told = refused(&text, &[]);
        assert_eq!(told.len(), 1, "{block}: {told:?}");
        assert!(told[0].ends_with(&format!("telemetry.{expected}")), "{block}: {told:?}");
    }
}

#[test]
fn a_variable_does_not_hide_what_is_wrong_above_its_key() {
    for (block, path) in [("[false]", "telemetry"), ("{keep_traces: [true]}", "telemetry.keep_traces")] {
        let text = format!("telemetry: {block}\nflow: {{tasks: [{{tick: }}]}}");
        let told = refused(&text, &[("FLOWGEN_TELEMETRY__KEEP_TRACES__LIMIT", "5")]);
        assert_eq!(told.len(), 1, "{told:?}");
        assert!(told[0].ends_with(&format!("{path}: expected a mapping, found a list")), "{told:?}");
    }
}

#[test]
fn kept_traces_may_be_given_in_part_and_by_variables() {
    let keep = |block: &str, variables: &[(&str, &str)]| {
        let text = format!("telemetry: {{enabled: true, {block}}}\nflow: {{tasks: [{{tick: }}]}}");
        let KeepTraces { errors, slower_than, limit } = with(&text, variables).worker.telemetry.keep_traces;
        (errors, slower_than.map(|time| time.as_millis()), limit)
    };
    let default = (true, None, 1000);
    for block in ["", "keep_traces: ", "keep_traces: {}", "keep_traces: {slower_than: null}"] {
        assert_eq!(keep(block, &[]), default, "{block}");
    }
    assert_eq!(keep("keep_traces: {errors: false}", &[]), (false, None, 1000));
    assert_eq!(
        keep("keep_traces: {slower_than: '${T}', limit: '${L}'}", &[("T", "2s"), ("L", "5")]),
        (true, Some(2000), 5)
    );
    let variables = [
        ("FLOWGEN_TELEMETRY__KEEP_TRACES__LIMIT", "7"),
        ("FLOWGEN_TELEMETRY__KEEP_TRACES__SLOWER_THAN", "250ms"),
    ];
    assert_eq!(keep("keep_traces: {errors: false, limit: 5}", &variables), (false, Some(250), 7));
    assert_eq!(keep("keep_traces: ", &variables), (true, Some(250), 7));
    let variables = [
        ("FLOWGEN_TELEMETRY__KEEP_TRACES", "{limit: 3}"),
        ("FLOWGEN_TELEMETRY__KEEP_TRACES__ERRORS", "false"),
    ];
    assert_eq!(keep("keep_traces: {slower_than: 1s}", &variables), (false, None, 3));
    let none = [("FLOWGEN_TELEMETRY__KEEP_TRACES", "null")];
    assert_eq!(keep("keep_traces: {errors: false, limit: 5}", &none), default);
}

#[test]
fn the_attributes_of_spans_are_in_the_plan_if_there_are_to_be_spans() {
    let names = |block: &str, variables: &[(&str, &str)]| {
        let text = format!("telemetry: {{{block}}}\nflow: {{tasks: [{{tick: }}]}}");
        let attributes = with(&text, variables).worker.trace_attributes;
        attributes.iter().map(|attribute| attribute.name().to_string()).collect::<Vec<_>>().join(" ")
    };
    let both = "trace_attributes: {order.id: '{{ event.data.id }}', a.team: '${TEAM:-x}'}";
    assert_eq!(names(&format!("enabled: true, {both}"), &[]), "a.team order.id");
    let variables = [
        ("FLOWGEN_TELEMETRY__TRACE_ATTRIBUTES", "{tenant: '{{ event.meta.tenant }}'}"),
        ("FLOWGEN_TELEMETRY__TRACE_ATTRIBUTES__REGION", "eu"),
    ];
    assert_eq!(names(&format!("enabled: true, {both}"), &variables), "region tenant");
    assert_eq!(names("enabled: true, trace_attributes: ", &[]), "");
    assert_eq!(names(&format!("enabled: false, {both}"), &[]), "");
    assert_eq!(names(&format!("enabled: true, {both}"), &[("OTEL_SDK_DISABLED", "true")]), "");
    assert_eq!(names(&format!("enabled: true, {both}"), &[("OTEL_TRACES_EXPORTER", "none")]), "");
}

#[test]
fn a_source_may_have_a_sample_rate_of_its_own() {
    let rates = |text: &str, variables: &[(&str, &str)]| {
        let plan = with(text, variables);
        plan.flows[0].tasks.iter().map(|task| task.sample_rate).collect::<Vec<_>>()
    };
    let text = "\
telemetry: {enabled: false, trace_sample_rate: 0.5}
flow:
  tasks:
    - tick: {telemetry: {sample_rate: 0.1}}
    - put: {telemetry: null}
    - tick: {name: b, telemetry: {sample_rate: '${RATE}'}}
    - tick: {name: c, telemetry: {}}
    - tick: {name: d, telemetry: {sample_rate: null}}
    - tick: {name: e, telemetry: }
    - tick: {name: f}
";
    assert_eq!(rates(text, &[("RATE", "1")]), [Some(0.1), None, Some(1.0), None, None, None, None]);
}

#[test]
fn what_has_no_effect_is_warned_of() {
    let text = |tls: &str| {
        format!(
            "telemetry:\n  enabled: true\n  metrics_export_interval: 99ms\n  {tls}\nflow: {{tasks: [{{tick: }}]}}"
        )
    };
    let warnings = |tls: &str, variables: &[(&str, &str)]| {
        told(&load_files(&[("a.yaml", &text(tls))], variables).unwrap().warnings)
    };
    let often = "3:28 telemetry.metrics_export_interval: metrics are exported more than ten times a second";
    assert_eq!(warnings("", &[]), [often]);
    let dir = tempfile::tempdir().unwrap();
    let pem = dir.path().join("ca.pem");
    fs::write(&pem, certificate()).unwrap();
    let tls = format!("tls: {{ca_file: {}}}", pem.display());
    let no_effect = "4:3 telemetry.tls: `tls` has no effect: the endpoint is `http://`";
    assert_eq!(warnings(&tls, &[]), [no_effect, often]);
    assert_eq!(warnings(&tls, &[("OTEL_EXPORTER_OTLP_ENDPOINT", "https://x:4317")]), [often]);
    assert_eq!(warnings(&tls, &[("OTEL_SDK_DISABLED", "true")]), Vec::<String>::new());
    let variable = "OTEL_EXPORTER_OTLP_ENDPOINT telemetry.otlp_endpoint: ignored: port 4318 is OTLP/HTTP, which \
        flowgen does not speak";
    assert_eq!(warnings("", &[("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:4318")]), [variable, often]);
}

#[test]
fn anchors_and_merge_keys_are_resolved() {
    let text = "x-defaults: &defaults {count: 5}\nflow: {tasks: [{tick: {<<: *defaults, cuont: 1}}]}";
    assert_eq!(refused(text, &[]), ["2:39 flow.tasks[0].tick.cuont: unknown field `cuont`"]);
}

#[test]
fn the_schema_of_a_file_knows_every_kind_and_what_planned_keys_may_be() {
    let schema = document(REGISTRY);
    let flow = &schema["$defs"]["Flow"]["properties"];
    assert_eq!(flow["require_leader_election"]["anyOf"][0]["enum"], serde_json::json!([false, null]));
    assert_eq!(schema["$defs"]["DurableKeys"]["additionalProperties"], false);
    assert_eq!(flow["slo"]["anyOf"][0]["$ref"], "#/$defs/SloKeys");
    assert_eq!(schema["$defs"]["SloKeys"]["properties"]["success"]["exclusiveMaximum"], 1);
    assert_eq!(flow["deadline"]["type"], serde_json::json!(["string", "null"]));
    assert_eq!(flow["parallel_instances"]["maximum"], 1000);
    assert_eq!(schema["$defs"]["OnTaskPanicKey"]["oneOf"][1]["const"], "stop");
    assert_eq!(schema["properties"]["cache"]["anyOf"][0]["$ref"], "#/$defs/CacheKeys");
    let on_error = schema["$defs"]["OnErrorKey"]["oneOf"].as_array().unwrap();
    assert_eq!(on_error[4]["properties"]["route"]["type"], "string");
    assert_eq!(on_error[5]["pattern"], r"\$\{.+\}");
    let buckets = &schema["$defs"]["Histogram"]["oneOf"][0]["properties"]["buckets"];
    assert_eq!(buckets["maxItems"], 1000);
    assert_eq!(schema["$defs"]["HealthKeys"]["properties"]["address"]["default"], "127.0.0.1:8081");
    let format = schema["$defs"]["Format"]["oneOf"].as_array().unwrap();
    assert!(format.iter().any(|one| one["pattern"] == r"\$\{.+\}"), "{format:?}");
    let tasks = flow["tasks"]["items"]["oneOf"].as_array().unwrap();
    let of = |name: &str| tasks.iter().find_map(|task| task["properties"].get(name)).unwrap();
    assert_eq!(tasks.len(), 5);
    assert_eq!(of("tick")["additionalProperties"], false);
    for key in TASK_KEYS.into_iter().chain(["count"]) {
        assert!(of("tick")["properties"].get(key).is_some(), "{key}");
    }
    assert_eq!(of("call")["properties"]["concurrency"]["maximum"], 10_000);
    assert!(of("fold")["properties"]["key"].get("description").is_none(), "its own key wins");
    assert_eq!(of("call")["required"], serde_json::json!(["endpoint"]));
    // Every reference must lead somewhere.
    let text = schema.to_string();
    for reference in text.split("\"#/$defs/").skip(1) {
        let name = reference.split('"').next().unwrap();
        assert!(schema["$defs"].get(name).is_some(), "{name}");
    }
}

proptest! {
    #[test]
    fn no_report_shows_any_part_of_a_secret(secret in "(unter2|\"|'|`|\n|\\\\|\t|\u{7f}| |é|\\$\\{){1,40}") {
        let text = "\
telemetry: {enabled: false, timeout: '${S}', otlp_endpoint: '${S}', histogram: {type: '${S}'}}
flow:
  name: ['${S}']
  tasks:
    - tick: {count: '${S}', format: 'a${S}', interval: 'x ${S}', is_quiet: '${S}${S}'}
    - call: {endpoint: '${S}', on_error: '${S}'}
    - call: {name: '${S}', endpoint: 'http://x', depends_on: ['${S}-']}
    - call: {name: a, endpoint: 'http://x', concurrency: 2, key: '{{ ${S}', on_error: {route: '${S}'}}
    - ${S}
";
        if let Err(problems) = load_files(&[("a.yaml", text)], &[("S", &secret)]) {
            let report = reported(&problems);
            prop_assert!(!report.contains("unter2"), "{report}");
        }
    }

    #[test]
    fn any_text_is_loaded_or_refused_with_places(text in "([a-z]{1,5}|flow:|tasks:|tick|- |: |\n|\n  |\n    |\\{|\\}|\\[|\\]|'|\"|\\||\t|&a |\\*a |\\$\\{|é){0,40}") {
        if let Err(problems) = load_files(&[("a.yaml", &text)], &[]) {
            for problem in problems {
                let Some(Origin::Place(place)) = problem.origin else { panic!("no place: {problem:?}") };
                prop_assert!(place.line <= text.lines().count().max(1) + 1, "{place:?}");
            }
        }
    }

    #[test]
    fn an_unknown_key_is_found_wherever_it_stands(indent in 0usize..6, before in 0usize..4, is_flow_style in any::<bool>()) {
        let pad = " ".repeat(indent);
        let comments = "# é comment\n".repeat(before);
        let body = if is_flow_style {
            "{count: 1, wrongest: 2}".to_owned()
        } else {
            format!("\n  {pad}    count: 1\n  {pad}    wrongest: 2")
        };
        let text = format!("{comments}flow:\n  tasks:\n  {pad}- tick: {body}\n");
        let problems = load_files(&[("a.yaml", &text)], &[]).unwrap_err();
        let Some(Origin::Place(place)) = &problems[0].origin else { panic!("no place") };
        let line = text.lines().nth(place.line - 1).unwrap();
        let shown: String = line.chars().skip(place.column - 1).take(place.width).collect();
        prop_assert_eq!(shown, "wrongest");
    }
}
