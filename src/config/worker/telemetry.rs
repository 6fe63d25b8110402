//! The block `telemetry`: typed, checked, and resolved with what the environment says beside it.

use std::{sync::Arc, time::Duration};

use serde_json::Value;

use super::{Blocks, top};
use crate::{
    config::{environment::Environment, overrides::Override},
    problem::{Focus, KeyPath, Origin, Problem, Problems, Segment},
    telemetry::{Configured, Settings, Source, SpanQueue, TelemetryConfig},
    template::TraceAttribute,
};

/// Metrics that are exported more often than this say little and cost much.
const OFTEN: Duration = Duration::from_millis(100);

/// What spans say of events besides what every span says.
type TraceAttributes = Arc<[TraceAttribute]>;

impl Blocks<'_> {
    /// Returns the settings, and the attributes that the configuration adds to spans, if there are to be spans.
    pub(super) fn telemetry(&mut self, environment: &dyn Environment) -> (Settings, TraceAttributes) {
        let is_written = self.files.iter().any(|file| file.tree.get("telemetry").is_some());
        let found = self.find("telemetry");
        let says_whether = found.as_ref().is_some_and(|(value, _)| value.get("enabled").is_some());
        if (is_written || found.is_some()) && !says_whether {
            self.warn_of_no_switch("telemetry");
        }
        let Some((value, owner)) = found else { return Default::default() };
        let Some(mut config) = self.typed::<TelemetryConfig>("telemetry", value.clone(), owner) else {
            return Default::default();
        };
        let mut problems = Problems::below(top("telemetry"));
        self.adapt(&mut config, &value, owner);
        config.check(&mut problems, &|file| environment.read(file));
        let attributes = trace_attributes(&config, &mut problems);
        let is_right = problems.is_empty();
        for problem in problems.into_vec() {
            self.tell(owner, problem);
        }
        if !is_right {
            return Default::default();
        }
        let settings = self.resolve(config, &value, owner, environment);
        let has_spans = settings.enabled && settings.traces.is_some();
        (settings, if has_spans { attributes.into() } else { Arc::default() })
    }

    fn resolve(
        &mut self,
        config: TelemetryConfig,
        value: &Value,
        owner: Option<usize>,
        environment: &dyn Environment,
    ) -> Settings {
        let mut warnings = Vec::new();
        let has_tls = config.tls.ca_file.is_some() || config.tls.cert_file.is_some();
        let source = |path: &KeyPath| self.source(path, value, owner);
        let written = |path: &KeyPath| self.written(path, owner);
        let settings = Configured { config, source: &source, written: &written }.resolve(
            &|name| environment.variable(name),
            &|file| environment.read(file),
            &mut warnings,
        );
        let mut exports = settings.traces.iter().chain(&settings.metrics).peekable();
        if has_tls && exports.peek().is_some() && exports.all(|export| export.endpoint.starts_with("http://"))
        {
            let mut warning =
                Problem::new(KeyPath::default().key("tls"), "`tls` has no effect: the endpoint is `http://`");
            warning.focus(Focus::Key).hint("write `https://` for a connection with TLS");
            warnings.push(self.placed(warning, value, owner));
        }
        if settings.metrics_export_interval < OFTEN && settings.metrics.is_some() {
            let path = KeyPath::default().key("metrics_export_interval");
            let mut warning = Problem::new(path, "metrics are exported more than ten times a second");
            warning.hint("collectors expect seconds: `60s` is the default");
            warnings.push(self.placed(warning, value, owner));
        }
        if settings.enabled {
            self.warnings.append(&mut warnings);
        }
        settings
    }

    /// Gives a warning about a path below `telemetry` its full path and the place of what it is about.
    fn placed(&self, mut warning: Problem, value: &Value, owner: Option<usize>) -> Problem {
        warning.origin = match (self.source(&warning.path, value, owner), owner) {
            (Some(Source::Variable(variable)), _) => Some(Origin::Variable(variable)),
            (Some(Source::File { .. }), Some(owner)) => {
                let path = top("telemetry").join(&warning.path);
                Some(Origin::Place(self.files[owner].source.place(&path, warning.focus)))
            }
            _ => None,
        };
        warning.path = top("telemetry").join(&warning.path);
        warning
    }

    /// Returns where the value at a path below `telemetry` was configured, if it was.
    fn source(&self, path: &KeyPath, value: &Value, owner: Option<usize>) -> Option<Source> {
        let full = top("telemetry").join(path);
        // The most specific variable wins; one that sets a part of the value also says where it is from.
        let above = self.overrides.iter().filter(|one| full.0.starts_with(&one.path.0));
        let below = || self.overrides.iter().find(|one| one.path.0.starts_with(&full.0));
        let variable = above.max_by_key(|one| one.path.0.len()).or_else(below);
        if let Some(exact) = variable.filter(|one| one.path == full) {
            return Some(Source::Variable(exact.variable.clone()));
        }
        let found = path.0.iter().try_fold(value, |value, segment| match segment {
            Segment::Key(key) => value.get(key),
            Segment::Index(index) => value.get(index),
        });
        found.filter(|value| !value.is_null())?;
        match (variable, owner) {
            (Some(one), _) => Some(Source::Variable(one.variable.clone())),
            (None, Some(owner)) => {
                let place = self.files[owner].source.place(&full, Focus::Key);
                Some(Source::File { file: place.file, line: place.line })
            }
            (None, None) => None,
        }
    }

    /// Returns how the file writes the value at a path below `telemetry`, if a reference put any of it in. A value
    /// that is made of several is not shown at all then.
    fn written(&self, path: &KeyPath, owner: Option<usize>) -> Option<String> {
        let full = top("telemetry").join(path);
        let of_file = self.files.get(owner?)?.substitutions.iter();
        let mut found = of_file.filter(|one| {
            let is_overridden = |set: &Override| one.path.0.starts_with(&set.path.0);
            one.path.0.starts_with(&full.0) && !self.overrides.iter().any(is_overridden)
        });
        let one = found.next()?;
        Some(if one.path == full { one.written.clone() } else { "***".into() })
    }

    /// Makes defaults fit what was configured, and paths relative to the file that they stand in.
    fn adapt(&self, config: &mut TelemetryConfig, value: &Value, owner: Option<usize>) {
        let base = owner.map(|owner| self.base_of(owner)).unwrap_or_default();
        let source =
            |block: &str, key: &str| self.source(&KeyPath::default().key(block).key(key), value, owner);
        for (key, file) in [
            ("ca_file", &mut config.tls.ca_file),
            ("cert_file", &mut config.tls.cert_file),
            ("key_file", &mut config.tls.key_file),
        ] {
            if let Some(Source::File { .. }) = source("tls", key) {
                *file = file.take().map(|file| base.join(file));
            }
        }
        let queue = &mut config.span_queue;
        match (source("span_queue", "size"), source("span_queue", "batch")) {
            (Some(_), None) => queue.batch = queue.batch.min(queue.size.max(1)),
            (None, Some(_)) => queue.size = queue.size.max(queue.batch.min(SpanQueue::MOST_BATCH)),
            _ => {}
        }
    }

    /// Warns of a block that is there and does not say whether it is to be on.
    pub(super) fn warn_of_no_switch(&mut self, key: &str) {
        let path = top(key);
        let owner = self.files.iter().find(|file| file.tree.get(key).is_some());
        let message = format!("{key} is off: its block does not say `enabled`");
        let mut warning = Problem::new(path.clone(), message);
        warning.focus(Focus::Key).hint("write `enabled: true` to switch it on, or `false` to keep it off");
        warning.origin = Some(match owner {
            Some(file) => Origin::Place(file.source.place(&path, Focus::Key)),
            None => Origin::Variable(format!("FLOWGEN_{}__*", key.to_uppercase())),
        });
        self.warnings.push(warning);
    }
}

/// Compiles the templates of the attributes.
fn trace_attributes(config: &TelemetryConfig, problems: &mut Problems) -> Vec<TraceAttribute> {
    let mut attributes = Vec::new();
    for (name, text) in &config.trace_attributes {
        match TraceAttribute::compile(name, text) {
            Ok(attribute) => attributes.push(attribute),
            Err(error) => {
                let path = problems.base().key("trace_attributes").key(&**name);
                let problem = problems.push(Problem::new(path, error.message)).hint_opt(error.hint);
                if let Some(line) = error.line {
                    problem.focus(Focus::Inside { line, column: error.column.unwrap_or(1) });
                }
            }
        }
    }
    attributes
}
