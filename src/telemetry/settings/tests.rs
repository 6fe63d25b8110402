//! What wins over what, setting by setting, and what becomes of variables that cannot be used.

use std::{collections::BTreeSet, io, path::Path};

use proptest::prelude::*;

use super::{ambient, *};
use crate::{problem::Problem, telemetry::TelemetryConfig, tls::pem::samples::SAMPLES};

const FLOWGEN: &str = "FLOWGEN_TELEMETRY__X";

/// Settings with their warnings, as `origin path: message | hint`.
struct Outcome {
    settings: Settings,
    warnings: Vec<String>,
}

impl Outcome {
    fn traces(&self) -> &Export {
        self.settings.traces.as_ref().unwrap()
    }

    fn metrics(&self) -> &Export {
        self.settings.metrics.as_ref().unwrap()
    }

    /// Returns `value (source)` of every row of a key, with its signal in front if it is for one only.
    fn shown(&self, key: &str) -> Vec<String> {
        let rows = self.settings.sources.iter().filter(|row| row.key == key);
        rows.map(|row| {
            let signal = row.signal.map(|signal| format!("{}: ", signal.name())).unwrap_or_default();
            format!("{signal}{} ({})", row.value, row.source)
        })
        .collect()
    }
}

fn told(warning: Problem) -> String {
    let origin = match warning.origin {
        Some(crate::problem::Origin::Variable(name)) => name,
        other => format!("{other:?}"),
    };
    format!("{origin} {}: {} | {}", warning.path, warning.message, warning.hint.unwrap_or_default())
}

/// Resolves a configuration in which `written` keys stand in a file and `overridden` ones in a variable.
fn resolve(
    change: impl FnOnce(&mut TelemetryConfig),
    written: &[&str],
    overridden: &[&str],
    variables: &[(&str, &str)],
) -> Outcome {
    let mut config = TelemetryConfig { enabled: true, ..TelemetryConfig::default() };
    change(&mut config);
    let source = |path: &crate::problem::KeyPath| {
        let path = path.to_string();
        let is_in =
            |keys: &[&str]| keys.iter().any(|key| path == *key || path.starts_with(&format!("{key}.")));
        if is_in(overridden) {
            Some(Source::Variable(FLOWGEN.into()))
        } else {
            is_in(written).then(|| Source::File { file: "flow.yaml".into(), line: 12 })
        }
    };
    let lookup =
        |name: &str| variables.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned());
    let read = |path: &Path| match path.to_str().unwrap() {
        "ca.pem" | "cert.pem" => Ok(SAMPLES.certificate.clone()),
        "key.pem" => Ok(SAMPLES.key.clone()),
        "other.key" => Ok(SAMPLES.other_key.clone()),
        "cut.pem" => Ok(SAMPLES.certificate[..100].to_owned()),
        _ => Err(io::ErrorKind::NotFound.into()),
    };
    let mut warnings = Vec::new();
    let settings =
        Configured { config, source: &source, written: &|_| None }.resolve(&lookup, &read, &mut warnings);
    Outcome { settings, warnings: warnings.into_iter().map(told).collect() }
}

/// Resolves what variables say beside a block that only switches telemetry on.
fn ambient(variables: &[(&str, &str)]) -> Outcome {
    resolve(|_| {}, &["enabled"], &[], variables)
}

#[test]
fn nothing_said_gives_the_defaults() {
    let outcome = ambient(&[]);
    assert_eq!(outcome.warnings, Vec::<String>::new());
    assert_eq!(outcome.settings.service_name, "flowgen");
    assert_eq!(outcome.traces().endpoint, "http://localhost:4317");
    assert_eq!(outcome.traces(), outcome.metrics());
    assert_eq!(outcome.shown("enabled"), ["true (flow.yaml:12)"]);
    let others = outcome.settings.sources.iter().filter(|row| row.key != "enabled");
    assert!(
        others
            .clone()
            .all(|row| row.source == Source::Default && row.signal.is_none() || row.key == "exporter")
    );
    assert!(others.count() > 20);
    assert_eq!(outcome.settings.keep_traces, KeepTraces { errors: true, slower_than: None, limit: 1000 });
    assert!(outcome.settings.is_parent_based);
    assert_eq!(outcome.settings.exemplars, ExemplarFilter::TraceBased);
    assert_eq!(outcome.settings.propagators, Propagators { trace_context: true, baggage: true });
    assert!(!Settings::default().enabled);
}

/// One setting: its key, what sets it, and how its value is shown wherever it may come from.
struct Case {
    key: &'static str,
    /// The variable of the traces' own, if there is one, with a value and how that is shown.
    specific: Option<(&'static str, &'static str, &'static str)>,
    general: (&'static str, &'static str, &'static str),
    default: &'static str,
    configure: fn(&mut TelemetryConfig),
    configured: &'static str,
}

const CASES: &[Case] = &[
    Case {
        key: "service_name",
        specific: None,
        general: ("OTEL_SERVICE_NAME", "ambient", "ambient"),
        default: "flowgen",
        configure: |config| config.service_name = "orders".into(),
        configured: "orders",
    },
    Case {
        key: "otlp_endpoint",
        specific: Some(("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces:443", "https://traces:443")),
        general: ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:hunter2@all:4317", "http://all:4317"),
        default: "http://localhost:4317",
        configure: |config| config.otlp_endpoint = "http://u:hunter2@mine:4317".into(),
        configured: "http://mine:4317",
    },
    Case {
        key: "headers",
        specific: Some(("OTEL_EXPORTER_OTLP_TRACES_HEADERS", "X-Traces=hunter2", "x-traces=***")),
        general: ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2,b=hunter2%20", "a=***, b=***"),
        default: "none",
        configure: |config| config.headers = [("mine".to_owned(), "hunter2".to_owned().into())].into(),
        configured: "mine=***",
    },
    Case {
        key: "timeout",
        specific: Some(("OTEL_EXPORTER_OTLP_TRACES_TIMEOUT", "1500", "1s 500ms")),
        general: ("OTEL_EXPORTER_OTLP_TIMEOUT", "2000", "2s"),
        default: "10s",
        configure: |config| config.timeout = Duration::from_secs(3),
        configured: "3s",
    },
    Case {
        key: "compression",
        specific: Some(("OTEL_EXPORTER_OTLP_TRACES_COMPRESSION", "gzip", "gzip")),
        general: ("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip", "gzip"),
        default: "none",
        configure: |config| config.compression = Compression::Gzip,
        configured: "gzip",
    },
    Case {
        key: "tls.ca_file",
        specific: Some(("OTEL_EXPORTER_OTLP_TRACES_CERTIFICATE", "cert.pem", "cert.pem")),
        general: ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem", "ca.pem"),
        default: "none",
        configure: |config| config.tls.ca_file = Some("mine.pem".into()),
        configured: "mine.pem",
    },
    Case {
        key: "metrics_export_interval",
        specific: None,
        general: ("OTEL_METRIC_EXPORT_INTERVAL", "30000", "30s"),
        default: "1m",
        configure: |config| config.metrics_export_interval = Duration::from_secs(5),
        configured: "5s",
    },
    Case {
        key: "trace_sample_rate",
        specific: None,
        general: ("OTEL_TRACES_SAMPLER", "always_off", "0"),
        default: "1",
        configure: |config| config.trace_sample_rate = 0.25,
        configured: "0.25",
    },
    Case {
        key: "temporality",
        specific: None,
        general: ("OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE", "LowMemory", "low_memory"),
        default: "cumulative",
        configure: |config| config.temporality = Temporality::Delta,
        configured: "delta",
    },
    Case {
        key: "histogram",
        specific: None,
        general: (
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "base2_exponential_bucket_histogram",
            "exponential",
        ),
        default: "explicit",
        configure: |config| config.histogram = Histogram::Explicit { buckets: Some(vec![0.5, 1.0]) },
        configured: "explicit, [0.5, 1.0]",
    },
    Case {
        key: "span_queue.size",
        specific: None,
        general: ("OTEL_BSP_MAX_QUEUE_SIZE", "4096", "4096"),
        default: "8192",
        configure: |config| config.span_queue.size = 3000,
        configured: "3000",
    },
    Case {
        key: "span_queue.batch",
        specific: None,
        general: ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "512", "512"),
        default: "2048",
        configure: |config| config.span_queue.batch = 100,
        configured: "100",
    },
    Case {
        key: "span_queue.delay",
        specific: None,
        general: ("OTEL_BSP_SCHEDULE_DELAY", "5000", "5s"),
        default: "1s",
        configure: |config| config.span_queue.delay = Duration::from_secs(2),
        configured: "2s",
    },
];

#[test]
fn what_is_said_closer_wins() {
    for Case { key, specific, general, default, configure, configured } in CASES {
        let set: Vec<_> = specific.iter().chain([general]).map(|(name, value, _)| (*name, *value)).collect();
        // FLOWGEN_* > YAML > everything of OTEL.
        let outcome = resolve(configure, &["enabled", key], &[key], &set);
        assert_eq!(outcome.shown(key), [format!("{configured} ({FLOWGEN})")]);
        let outcome = resolve(configure, &["enabled", key], &[], &set);
        assert_eq!(outcome.shown(key), [format!("{configured} (flow.yaml:12)")]);
        // The signal's own > the general one, which the other signal keeps.
        if let Some((name, _, shown)) = specific {
            let outcome = ambient(&set);
            let (of_traces, of_all) =
                (format!("traces: {shown} ({name})"), format!("metrics: {} ({})", general.2, general.0));
            assert_eq!(outcome.shown(key), [of_traces.clone(), of_all]);
            let outcome = ambient(&set[..1]);
            assert_eq!(outcome.shown(key), [of_traces, format!("metrics: {default} (default)")]);
        }
        // The general one > the default.
        let outcome = ambient(&[(general.0, general.1)]);
        assert_eq!(outcome.shown(key), [format!("{} ({})", general.2, general.0)]);
        assert_eq!(outcome.warnings, Vec::<String>::new());
        // Empty is not set.
        let outcome = ambient(&[(general.0, " ")]);
        assert_eq!(outcome.shown(key), [format!("{default} (default)")]);
        assert_eq!(outcome.warnings, Vec::<String>::new());
    }
}

#[test]
fn both_signals_have_every_variable_of_the_exporter() {
    let set = [
        ("OTEL_EXPORTER_OTLP_METRICS_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_METRICS_INSECURE", "true"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "authorization=Bearer%20hunter2%3D%3D , x = y=z"),
        ("OTEL_EXPORTER_OTLP_METRICS_TIMEOUT", "1"),
        ("OTEL_EXPORTER_OTLP_METRICS_COMPRESSION", "gzip"),
        ("OTEL_EXPORTER_OTLP_METRICS_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_METRICS_CERTIFICATE", "ca.pem"),
        ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_CERTIFICATE", "cert.pem"),
        ("OTEL_EXPORTER_OTLP_METRICS_CLIENT_KEY", "key.pem"),
    ];
    let outcome = ambient(&set);
    assert_eq!(outcome.warnings, Vec::<String>::new());
    let metrics = outcome.metrics();
    assert_eq!(metrics.endpoint, "http://collector:4317");
    assert_eq!(metrics.headers["authorization"].expose(), "Bearer hunter2==");
    assert_eq!(metrics.headers["x"].expose(), "y=z");
    assert_eq!(metrics.timeout, Duration::from_millis(1));
    assert_eq!(metrics.compression, Compression::Gzip);
    assert_eq!(metrics.tls.cert_file.as_deref(), Some(Path::new("cert.pem")));
    assert_eq!(metrics.tls.key_file.as_deref(), Some(Path::new("key.pem")));
    assert_eq!(*outcome.traces(), *ambient(&[]).traces());
    let of_traces = set.map(|(name, value)| (name.replace("_METRICS_", "_TRACES_"), value));
    let of_traces: Vec<_> = of_traces.iter().map(|(name, value)| (name.as_str(), *value)).collect();
    assert_eq!(*ambient(&of_traces).traces(), *metrics);
}

#[test]
fn the_switch_of_the_sdk_wins_over_a_file_and_not_over_a_variable_of_flowgen() {
    let set = [("OTEL_SDK_DISABLED", "TRUE"), ("OTEL_SERVICE_NAME", "orders"), ("OTEL_PROPAGATORS", "b3")];
    let outcome = ambient(&set);
    assert!(!outcome.settings.enabled);
    assert_eq!(outcome.shown("enabled"), ["false (OTEL_SDK_DISABLED)"]);
    // Log lines keep their service, and nobody is told of variables.
    assert_eq!(outcome.settings.service_name, "orders");
    assert_eq!(outcome.warnings, Vec::<String>::new());
    let outcome = resolve(|_| {}, &["enabled"], &["enabled"], &set);
    assert_eq!(outcome.shown("enabled"), [format!("true ({FLOWGEN})")]);
    assert!(ambient(&[("OTEL_SDK_DISABLED", "false")]).settings.enabled);
    let outcome = ambient(&[("OTEL_SDK_DISABLED", "1")]);
    assert!(outcome.settings.enabled);
    assert_eq!(
        outcome.warnings,
        ["OTEL_SDK_DISABLED telemetry.enabled: ignored: `1` is neither `true` nor `false` | \
          instead `enabled` is `true` (flow.yaml:12)"]
    );
}

#[test]
fn variables_of_opentelemetry_switch_nothing_on_and_say_nothing_while_it_is_off() {
    let set = [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:4318"), ("OTEL_SERVICE_NAME", "x")];
    for written in [&["enabled"][..], &[]] {
        let outcome = resolve(|config| config.enabled = false, written, &[], &set);
        assert!(!outcome.settings.enabled);
        assert_eq!(outcome.settings.service_name, "flowgen");
        assert_eq!(outcome.warnings, Vec::<String>::new());
    }
}

#[test]
fn what_cannot_be_used_is_ignored_with_one_warning_that_says_what_is_used() {
    for (variable, value, warning) in [
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "http://collector:4318",
            "telemetry.otlp_endpoint: ignored: port 4318 is OTLP/HTTP, which flowgen does not speak | \
             use OTLP/gRPC, port 4317; instead `otlp_endpoint` is `http://localhost:4317` (default)",
        ),
        (
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            "http://u:hunter2@collector:4317/v1/traces",
            "telemetry.otlp_endpoint: ignored: an endpoint with a path is OTLP/HTTP, which flowgen does not speak | \
             use OTLP/gRPC: such an endpoint ends with its port, mostly 4317; \
             instead `otlp_endpoint` is `http://localhost:4317` (default)",
        ),
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            "collector:4317",
            "telemetry.otlp_endpoint: ignored: `collector:4317` has no scheme | \
             write `https://collector:4317`, or `http://collector:4317` for plain text; \
             instead `otlp_endpoint` is `http://localhost:4317` (default)",
        ),
        (
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            "http/protobuf",
            "telemetry.protocol: ignored: `http/protobuf` is not spoken: flowgen speaks OTLP/gRPC only | \
             instead `protocol` is `grpc` (default)",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "authorization=hunter2,hunter2",
            "telemetry.headers: ignored: entry 2 is not `name=value` | \
             such as `name=value,other=value`; instead `headers` is `none` (default)",
        ),
        (
            "OTEL_EXPORTER_OTLP_HEADERS",
            "x=hunter2%0A",
            "telemetry.headers: ignored: the value of the header `x` is not printable ASCII | \
             remove line ends and other control characters; instead `headers` is `none` (default)",
        ),
        (
            "OTEL_EXPORTER_OTLP_TIMEOUT",
            "10s",
            "telemetry.timeout: ignored: `10s` is no whole number of milliseconds | \
             instead `timeout` is `10s` (default)",
        ),
        (
            "OTEL_EXPORTER_OTLP_COMPRESSION",
            "zstd",
            "telemetry.compression: ignored: unknown value `zstd` | \
             `none` or `gzip`; instead `compression` is `none` (default)",
        ),
        (
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            "/no/ca.pem",
            "telemetry.tls.ca_file: ignored: cannot read the file (`/no/ca.pem`) | \
             entity not found; instead `tls.ca_file` is `none` (default)",
        ),
        (
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            "key.pem",
            "telemetry.tls.ca_file: ignored: the file holds no certificate (`key.pem`) | \
             PEM is read, DER is not; instead `tls.ca_file` is `none` (default)",
        ),
        (
            "OTEL_EXPORTER_OTLP_CERTIFICATE",
            "cut.pem",
            "telemetry.tls.ca_file: ignored: the file holds a certificate that is damaged (`cut.pem`) | \
             copy it anew, from its line `BEGIN` to its line `END`; instead `tls.ca_file` is `none` (default)",
        ),
        (
            "OTEL_EXPORTER_OTLP_CLIENT_KEY",
            "key.pem",
            "telemetry.tls.cert_file: ignored: a key without its certificate | \
             set the variable of the certificate too; instead `tls.cert_file` is `none` (default)",
        ),
        (
            "OTEL_TRACES_SAMPLER",
            "jaeger_remote",
            "telemetry.trace_sample_rate: ignored: unknown value `jaeger_remote` | known are `always_on`, \
             `always_off` and `traceidratio`, each also after `parentbased_`; \
             instead `trace_sample_rate` is `1` (default)",
        ),
        (
            "OTEL_TRACES_SAMPLER_ARG",
            "0.5",
            "telemetry.trace_sample_rate: ignored: says nothing without a usable `OTEL_TRACES_SAMPLER` | \
             instead `trace_sample_rate` is `1` (default)",
        ),
        (
            "OTEL_TRACES_EXPORTER",
            "otlp,console",
            ": ignored: `console` is no exporter of flowgen, which speaks OTLP/gRPC only | \
             `otlp` or `none`; instead `exporter` is `otlp` (default)",
        ),
        (
            "OTEL_METRIC_EXPORT_INTERVAL",
            "0",
            "telemetry.metrics_export_interval: ignored: must be longer than zero | \
             instead `metrics_export_interval` is `1m` (default)",
        ),
        (
            "OTEL_BSP_MAX_QUEUE_SIZE",
            "1000000000",
            "telemetry.span_queue.size: ignored: must be at most 100000000: spans that wait do so in memory | \
             instead `span_queue.size` is `8192` (default)",
        ),
        (
            "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
            "10000",
            "telemetry.span_queue.batch: ignored: a batch of 10000 does not fit a queue of 8192 | \
             instead `span_queue.batch` is `2048` (default)",
        ),
        (
            "OTEL_RESOURCE_ATTRIBUTES",
            "a=b,c",
            "telemetry.resource_attributes: ignored: entry 2 is not `name=value` | \
             such as `name=value,other=value`; instead `resource_attributes` is `none` (default)",
        ),
        (
            "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE",
            "low_memory",
            "telemetry.temporality: ignored: unknown value `low_memory` | \
             `cumulative`, `delta` or `lowmemory`; instead `temporality` is `cumulative` (default)",
        ),
        (
            "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION",
            "exponential",
            "telemetry.histogram: ignored: unknown value `exponential` | \
             `explicit_bucket_histogram` or `base2_exponential_bucket_histogram`; \
             instead `histogram` is `explicit` (default)",
        ),
        (
            "OTEL_METRICS_EXEMPLAR_FILTER",
            "some",
            ": ignored: unknown value `some` | \
             `trace_based`, `always_on` or `always_off`; instead `exemplars` is `trace_based` (default)",
        ),
        (
            "OTEL_PROPAGATORS",
            "tracecontext,b3,jaeger",
            ": ignored: `b3`, `jaeger` are not spoken | \
             `tracecontext`, `baggage` and `none` are; instead `propagators` is `tracecontext` (OTEL_PROPAGATORS)",
        ),
        (
            "OTEL_PROPAGATORS",
            "ottrace",
            ": ignored: `ottrace` is not spoken | \
             `tracecontext`, `baggage` and `none` are; instead `propagators` is `tracecontext, baggage` (default)",
        ),
    ] {
        assert_eq!(ambient(&[(variable, value)]).warnings, [format!("{variable} {warning}")]);
    }
}

#[test]
fn exemplars_are_chosen_by_a_variable_alone() {
    for (value, filter, shown) in [
        ("trace_based", ExemplarFilter::TraceBased, "trace_based (OTEL_METRICS_EXEMPLAR_FILTER)"),
        ("always_on", ExemplarFilter::AlwaysOn, "always_on (OTEL_METRICS_EXEMPLAR_FILTER)"),
        ("ALWAYS_OFF", ExemplarFilter::AlwaysOff, "always_off (OTEL_METRICS_EXEMPLAR_FILTER)"),
        (" ", ExemplarFilter::TraceBased, "trace_based (default)"),
        ("never", ExemplarFilter::TraceBased, "trace_based (default)"),
    ] {
        let outcome = ambient(&[("OTEL_METRICS_EXEMPLAR_FILTER", value)]);
        assert_eq!(outcome.settings.exemplars, filter, "{value}");
        assert_eq!(outcome.shown("exemplars"), [shown]);
    }
}

#[test]
fn propagators_are_those_of_the_list_that_are_spoken() {
    for (value, trace_context, baggage, is_met) in [
        ("tracecontext", true, false, true),
        ("baggage", false, true, true),
        ("baggage, TraceContext", true, true, true),
        ("tracecontext,tracecontext,", true, false, true),
        ("none", false, false, true),
        ("none,baggage", false, true, true),
        ("none,b3", false, false, false),
        ("xray,tracecontext", true, false, false),
        ("b3multi", true, true, false),
        (",", true, true, true),
        (" ", true, true, true),
    ] {
        let outcome = ambient(&[("OTEL_PROPAGATORS", value)]);
        assert_eq!(outcome.settings.propagators, Propagators { trace_context, baggage }, "{value}");
        assert_eq!(outcome.warnings.is_empty(), is_met, "{value}: {:?}", outcome.warnings);
    }
    assert_eq!(ambient(&[("OTEL_PROPAGATORS", "none")]).shown("propagators"), ["none (OTEL_PROPAGATORS)"]);
}

/// The specification has the switch of the SDK leave propagators alone, and so has the promise to pass context on.
#[test]
fn propagators_count_while_the_sdk_is_switched_off() {
    let outcome = ambient(&[("OTEL_SDK_DISABLED", "true"), ("OTEL_PROPAGATORS", "baggage")]);
    assert!(!outcome.settings.enabled);
    assert_eq!(outcome.settings.propagators, Propagators { trace_context: false, baggage: true });
    let keys: Vec<_> = outcome.settings.shown().map(|row| row.key).collect();
    assert_eq!(keys, ["enabled", "service_name", "propagators"]);
}

#[test]
fn every_key_of_kept_traces_says_where_it_came_from() {
    let configure = |config: &mut TelemetryConfig| {
        config.keep_traces =
            KeepTraces { errors: false, slower_than: Some(Duration::from_millis(1500)), limit: 7 };
    };
    let outcome = resolve(configure, &["enabled", "keep_traces.errors"], &["keep_traces.slower_than"], &[]);
    assert_eq!(outcome.shown("keep_traces.errors"), ["false (flow.yaml:12)"]);
    assert_eq!(outcome.shown("keep_traces.slower_than"), [format!("1s 500ms ({FLOWGEN})")]);
    assert_eq!(outcome.shown("keep_traces.limit"), ["7 (default)"]);
    assert_eq!(outcome.settings.keep_traces.slower_than, Some(Duration::from_millis(1500)));
    assert_eq!(ambient(&[]).shown("keep_traces.slower_than"), ["none (default)"]);
}

#[test]
fn templates_of_attributes_are_shown_as_they_were_written() {
    let configure = |config: &mut TelemetryConfig| {
        let attribute = |name: &str, text: &str| (name.to_owned(), text.to_owned());
        config.trace_attributes =
            [attribute("order.id", "{{ event.data.id }}"), attribute("team", "checkout")].into();
    };
    let outcome = resolve(configure, &["enabled", "trace_attributes"], &["trace_attributes.team"], &[]);
    assert_eq!(
        outcome.shown("trace_attributes"),
        ["order.id={{ event.data.id }} (flow.yaml:12)".to_owned(), format!("team=checkout ({FLOWGEN})")]
    );
    assert_eq!(ambient(&[]).shown("trace_attributes"), ["none (default)"]);
}

#[test]
fn an_unusable_variable_of_a_signal_leaves_the_general_one() {
    let outcome = ambient(&[
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://x:4318"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://all:4317"),
    ]);
    assert_eq!(outcome.shown("otlp_endpoint"), ["http://all:4317 (OTEL_EXPORTER_OTLP_ENDPOINT)"]);
    assert_eq!(outcome.warnings.len(), 1);
    assert!(outcome.warnings[0].ends_with("is `http://all:4317` (OTEL_EXPORTER_OTLP_ENDPOINT)"));
}

#[test]
fn nobody_is_told_of_a_variable_that_was_overruled() {
    let set = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://x:4318"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "http/json"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "x"),
        ("OTEL_EXPORTER_OTLP_INSECURE", "maybe"),
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "no.pem"),
        ("OTEL_TRACES_SAMPLER", "traceidratio"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ];
    assert_eq!(ambient(&set).warnings.len(), set.len() - 1);
    let keys = ["enabled", "otlp_endpoint", "protocol", "headers", "tls.key_file", "trace_sample_rate"];
    let outcome = resolve(|_| {}, &keys, &[], &set);
    assert_eq!(outcome.warnings, Vec::<String>::new());
}

#[test]
fn a_sampler_says_the_rate_and_whether_a_parent_counts() {
    for (sampler, argument, rate, is_parent_based) in [
        ("always_on", "", 1.0, false),
        ("always_on", "0.5", 1.0, false),
        ("always_off", "", 0.0, false),
        ("traceidratio", "0.25", 0.25, false),
        ("traceidratio", "", 1.0, false),
        ("traceidratio", "2", 1.0, false),
        ("parentbased_always_on", "", 1.0, true),
        ("parentbased_always_off", "0.5", 0.0, true),
        ("parentbased_traceidratio", "0.25", 0.25, true),
        ("xray", "0.25", 1.0, true),
        ("", "", 1.0, true),
    ] {
        let set = [("OTEL_TRACES_SAMPLER", sampler), ("OTEL_TRACES_SAMPLER_ARG", argument)];
        let settings = ambient(&set).settings;
        let found = (settings.trace_sample_rate, settings.is_parent_based);
        assert_eq!(found, (rate, is_parent_based), "{sampler}");
        // A configured rate replaces the sampler as a whole.
        for (written, overridden) in [(&["trace_sample_rate"][..], &[][..]), (&[], &["trace_sample_rate"])] {
            let outcome = resolve(|config| config.trace_sample_rate = 0.1, written, overridden, &set);
            assert_eq!((outcome.settings.trace_sample_rate, outcome.settings.is_parent_based), (0.1, true));
            assert_eq!(outcome.shown("parent_based"), ["true (default)"]);
        }
    }
    let set = [("OTEL_TRACES_SAMPLER", "traceidratio"), ("OTEL_TRACES_SAMPLER_ARG", "0.25")];
    let outcome = ambient(&set);
    assert_eq!(outcome.shown("trace_sample_rate"), ["0.25 (OTEL_TRACES_SAMPLER_ARG)"]);
    assert_eq!(outcome.shown("parent_based"), ["false (OTEL_TRACES_SAMPLER)"]);
}

#[test]
fn what_metrics_are_to_look_like_reaches_the_exporter() {
    let settings = ambient(&[]).settings;
    assert_eq!((settings.temporality, settings.cardinality_limit), (Temporality::Cumulative, None));
    let variable = "OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE";
    for (value, temporality) in [
        ("cumulative", Temporality::Cumulative),
        ("DELTA", Temporality::Delta),
        ("lowmemory", Temporality::LowMemory),
    ] {
        let outcome = ambient(&[(variable, value)]);
        assert_eq!((outcome.settings.temporality, outcome.warnings), (temporality, vec![]));
    }
    let variable = "OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION";
    for (value, histogram) in [
        ("explicit_bucket_histogram", Histogram::Explicit { buckets: None }),
        ("base2_exponential_bucket_histogram", Histogram::Exponential {}),
    ] {
        assert_eq!(ambient(&[(variable, value)]).settings.histogram, histogram);
    }
    let outcome =
        resolve(|config| config.cardinality_limit = Some(500), &["enabled", "cardinality_limit"], &[], &[]);
    assert_eq!(outcome.settings.cardinality_limit, Some(500));
    assert_eq!(outcome.shown("cardinality_limit"), ["500 (flow.yaml:12)"]);
}

#[test]
fn a_signal_whose_exporter_is_none_goes_nowhere() {
    let outcome =
        ambient(&[("OTEL_TRACES_EXPORTER", "none"), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "x:4318")]);
    assert!(outcome.settings.traces.is_none() && outcome.settings.metrics.is_some());
    assert_eq!(outcome.shown("exporter"), ["traces: none (OTEL_TRACES_EXPORTER)", "metrics: otlp (default)"]);
    assert_eq!(outcome.shown("otlp_endpoint"), ["metrics: http://localhost:4317 (default)"]);
    assert_eq!(outcome.warnings, Vec::<String>::new());
    assert!(ambient(&[("OTEL_METRICS_EXPORTER", "none")]).settings.metrics.is_none());
}

#[test]
fn attributes_of_the_platform_go_below_configured_ones() {
    let configure = |config: &mut TelemetryConfig| {
        config.resource_attributes = [("team".to_owned(), "checkout".to_owned())].into();
    };
    let set = [("OTEL_RESOURCE_ATTRIBUTES", "k8s.pod.name=a%2Cb, team=other,,service.name=pod,x=100%")];
    let outcome = resolve(configure, &["enabled", "resource_attributes"], &[], &set);
    let attributes: Vec<_> =
        outcome.settings.resource_attributes.iter().map(|(k, v)| format!("{k}={v}")).collect();
    assert_eq!(attributes, ["k8s.pod.name=a,b", "team=checkout", "x=100%"]);
    assert_eq!(
        outcome.shown("resource_attributes"),
        ["k8s.pod.name=a,b, x=100% (OTEL_RESOURCE_ATTRIBUTES)", "team=checkout (flow.yaml:12)"]
    );
    assert_eq!(outcome.shown("service_name"), ["pod (OTEL_RESOURCE_ATTRIBUTES)"]);
}

#[test]
fn the_name_of_the_service_is_the_closest_of_four() {
    let set = [("OTEL_SERVICE_NAME", "variable"), ("OTEL_RESOURCE_ATTRIBUTES", "service.name=attribute")];
    let both = |config: &mut TelemetryConfig| {
        config.service_name = "key".into();
        config.resource_attributes = [("service.name".to_owned(), "mine".to_owned())].into();
    };
    let name = |written: &[&str], set: &[(&str, &str)]| {
        let outcome = resolve(both, written, &[], set);
        assert!(!outcome.settings.resource_attributes.contains_key("service.name"));
        outcome.settings.service_name
    };
    assert_eq!(name(&["service_name", "resource_attributes"], &set), "key");
    assert_eq!(name(&["resource_attributes"], &set), "mine");
    assert_eq!(ambient(&set).settings.service_name, "variable");
    assert_eq!(ambient(&set[1..]).settings.service_name, "attribute");
}

#[test]
fn a_configured_certificate_takes_no_ambient_key() {
    let set =
        [("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "cert.pem"), ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "key.pem")];
    let configure = |config: &mut TelemetryConfig| {
        (config.tls.cert_file, config.tls.key_file) = (Some("a.pem".into()), Some("b.pem".into()));
    };
    let outcome = resolve(configure, &["tls.cert_file", "tls.key_file"], &[], &set);
    assert_eq!(outcome.shown("tls.cert_file"), ["a.pem (flow.yaml:12)"]);
    assert_eq!(outcome.shown("tls.key_file"), ["b.pem (flow.yaml:12)"]);
    let mixed = [("OTEL_EXPORTER_OTLP_TRACES_CLIENT_KEY", "key.pem"), set[0]];
    let outcome = ambient(&mixed);
    assert_eq!(outcome.traces().tls.key_file.as_deref(), Some(Path::new("key.pem")));
    assert_eq!(outcome.metrics().tls, TlsConfig::default());
}

#[test]
fn a_key_of_another_certificate_is_ignored_with_its_certificate() {
    let outcome = ambient(&[
        ("OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE", "cert.pem"),
        ("OTEL_EXPORTER_OTLP_CLIENT_KEY", "other.key"),
    ]);
    assert_eq!(*outcome.traces(), *ambient(&[]).traces());
    assert_eq!(
        outcome.warnings,
        [
            "OTEL_EXPORTER_OTLP_CLIENT_KEY telemetry.tls.cert_file: ignored: the key is that of another certificate \
          than `cert.pem` | the two variables name files that belong together; \
          instead `tls.cert_file` is `none` (default)"
        ]
    );
}

#[test]
fn the_batch_fits_the_queue_wherever_either_comes_from() {
    let queue = |set: &[(&str, &str)]| {
        let queue = ambient(set).settings.span_queue;
        (queue.size, queue.batch)
    };
    assert_eq!(queue(&[("OTEL_BSP_MAX_QUEUE_SIZE", "100")]), (100, 100));
    assert_eq!(
        queue(&[("OTEL_BSP_MAX_QUEUE_SIZE", "100"), ("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "99")]),
        (100, 99)
    );
    let configured = resolve(
        |config| config.span_queue.batch = 500,
        &["span_queue.batch"],
        &[],
        &[("OTEL_BSP_MAX_QUEUE_SIZE", "100")],
    );
    assert_eq!(configured.settings.span_queue.size, 8192);
    assert_eq!(configured.warnings.len(), 1);
}

#[test]
fn the_timeout_of_the_batch_processor_is_the_least_specific_of_traces() {
    let outcome = ambient(&[("OTEL_BSP_EXPORT_TIMEOUT", "30000")]);
    assert_eq!(outcome.traces().timeout, Duration::from_secs(30));
    assert_eq!(outcome.metrics().timeout, Duration::from_secs(10));
    let outcome = ambient(&[("OTEL_BSP_EXPORT_TIMEOUT", "30000"), ("OTEL_EXPORTER_OTLP_TIMEOUT", "1000")]);
    assert_eq!(outcome.traces().timeout, Duration::from_secs(1));
}

#[test]
fn no_row_no_warning_and_no_debug_shows_a_secret() {
    let secrets = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://u:hunter2@x:4317"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://u:hunter2@x:4318/hunter2?k=hunter2"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "a=hunter2"),
        ("OTEL_EXPORTER_OTLP_METRICS_HEADERS", "hunter2"),
    ];
    let outcome = ambient(&secrets);
    let shown = format!("{:?} {:?}", outcome.settings, outcome.warnings);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("***") && outcome.warnings.len() == 2);
}

#[test]
fn the_documentation_names_the_variables_that_are_read() {
    let asked = std::cell::RefCell::new(BTreeSet::new());
    let lookup = |name: &str| {
        asked.borrow_mut().insert(name.to_owned());
        // A sampler that takes an argument has it looked up.
        (name == "OTEL_TRACES_SAMPLER").then(|| "traceidratio".to_owned())
    };
    let config = TelemetryConfig { enabled: true, ..TelemetryConfig::default() };
    let read = |_: &Path| Err(io::ErrorKind::NotFound.into());
    Configured { config, source: &|_| None, written: &|_| None }.resolve(&lookup, &read, &mut Vec::new());
    let asked = asked.into_inner();
    // A variable of one signal is documented with the general one, if there is one.
    let general = |name: &String| name.replace("OTLP_TRACES_", "OTLP_").replace("OTLP_METRICS_", "OTLP_");
    let asked: BTreeSet<_> =
        asked.iter().filter(|name| general(name) == **name || !asked.contains(&general(name))).collect();
    let documentation = include_str!("../../../docs/telemetry.md");
    let table = documentation.lines().filter(|line| line.starts_with("| `OTEL_"));
    let names = table.flat_map(|line| line.split('|').nth(1).into_iter().flat_map(|cell| cell.split('`')));
    let documented: BTreeSet<_> = names.filter(|name| name.starts_with("OTEL_")).map(str::to_owned).collect();
    assert_eq!(asked, documented.iter().collect());
}

proptest! {
    #[test]
    fn encoded_pairs_come_back_as_they_were(wanted in prop::collection::vec(("[^ ]{1,8}", ".{0,12}"), 0..6)) {
        let encoded = |text: &str| text.bytes().map(|byte| format!("%{byte:02x}")).collect::<String>();
        let text: Vec<_> = wanted.iter().map(|(k, v)| format!(" {}={} ", encoded(k), encoded(v))).collect();
        prop_assert_eq!(ambient::pairs(&text.join(",")).unwrap(), wanted);
    }

    #[test]
    fn no_value_of_any_variable_breaks_anything(text in "(otlp|none|http://|:4318|=|,|%|%2|%20|\\PC|@|/|[0-9]|\n){0,20}") {
        let names = CASES.iter().flat_map(|case| case.specific.iter().chain([&case.general]).map(|(name, ..)| *name));
        let extra = [
            "OTEL_RESOURCE_ATTRIBUTES",
            "OTEL_TRACES_EXPORTER",
            "OTEL_TRACES_SAMPLER_ARG",
            "OTEL_METRICS_EXEMPLAR_FILTER",
            "OTEL_PROPAGATORS",
        ];
        for name in names.chain(extra) {
            let outcome = ambient(&[(name, &text)]);
            prop_assert!(outcome.settings.enabled);
            prop_assert!(outcome.warnings.len() <= 1, "{:?}", outcome.warnings);
            for warning in &outcome.warnings {
                prop_assert!(warning.starts_with(name) && warning.contains("instead `"), "{}", warning);
            }
        }
    }
}
