//! Why something is not exported, and how to switch it on.

use crate::telemetry::{Resolved, Settings, Signal, Source};

/// The variable that wins over everything else.
const SWITCH: &str = "FLOWGEN_TELEMETRY__ENABLED";

/// Says what is not exported and why, one sentence each.
pub(super) fn notes(settings: &Settings) -> Vec<String> {
    if !settings.enabled {
        let source = row(settings, "enabled", None).map_or(&Source::Default, |row| &row.source);
        return vec![off(source)];
    }
    let signals =
        [(Signal::Traces, settings.traces.is_some()), (Signal::Metrics, settings.metrics.is_some())];
    let missing = signals.into_iter().filter(|(_, is_exported)| !is_exported);
    missing.map(|(signal, _)| unexported(settings, signal)).collect()
}

fn off(source: &Source) -> String {
    match source {
        Source::Default => format!(
            "telemetry is off, because nothing switches it on: write `telemetry: {{enabled: true}}` into a file, or \
             set {SWITCH}=true"
        ),
        Source::File { .. } => {
            format!(
                "telemetry is off, because {source} says so: write `enabled: true` there, or set {SWITCH}=true"
            )
        }
        Source::Variable(name) if name == "OTEL_SDK_DISABLED" => format!(
            "telemetry is off, because the variable {name} says so: unset it, or set {SWITCH}=true, which wins over it"
        ),
        Source::Variable(name) => {
            format!("telemetry is off, because the variable {name} says so: set {SWITCH}=true")
        }
    }
}

fn unexported(settings: &Settings, signal: Signal) -> String {
    let name = signal.name();
    match row(settings, "exporter", Some(signal)) {
        Some(Resolved { source, .. }) => {
            format!(
                "{name} are not exported, because the variable {source} says so: unset it, or set it to `otlp`"
            )
        }
        None => format!("{name} are not exported"),
    }
}

/// Returns the row of a setting, be it for one signal or for both.
fn row<'a>(settings: &'a Settings, key: &str, signal: Option<Signal>) -> Option<&'a Resolved> {
    let fits = |row: &&Resolved| row.key == key && (row.signal == signal || row.signal.is_none());
    settings.sources.iter().find(fits)
}
