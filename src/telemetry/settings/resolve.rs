//! The order of precedence, setting by setting: configured, then the variable of the signal, then the
//! general one, then the default.

use std::collections::BTreeMap;

use super::{
    Resolved, Settings, Signal, Source,
    ambient::{self, Ambient, Setting},
    show,
};
use crate::{
    problem::{KeyPath, Origin, Problem},
    telemetry::{
        ExemplarFilter, Histogram, SpanQueue, TelemetryConfig, Temporality, endpoint,
        refuse::{self, Fault, ReadFile},
    },
};

/// The key of the endpoint.
pub(super) const ENDPOINT: &str = "otlp_endpoint";
/// The attribute that has a key of its own.
const SERVICE_NAME: &str = "service.name";
/// What only variables speak of.
const WITHOUT_KEY: [&str; 4] = ["exporter", "parent_based", "exemplars", "propagators"];

/// What was configured, by files and `FLOWGEN_TELEMETRY__*`.
pub(crate) struct Configured<'a> {
    /// The block, with defaults for what was not; checked.
    pub(crate) config: TelemetryConfig,
    /// Returns where the value at a path below `telemetry` was configured, if it was.
    pub(crate) source: &'a dyn Fn(&KeyPath) -> Option<Source>,
    /// Returns how the value at a path below `telemetry` was written, if what came from outside is in it.
    pub(crate) written: &'a dyn Fn(&KeyPath) -> Option<String>,
}

impl Configured<'_> {
    /// Resolves all settings. `lookup` gives a variable, and is not asked unless telemetry is configured to be
    /// on; what it gives and cannot be used is in `warnings`.
    pub(crate) fn resolve(
        self,
        lookup: &dyn Fn(&str) -> Option<String>,
        read: ReadFile<'_>,
        warnings: &mut Vec<Problem>,
    ) -> Settings {
        let lookup: &dyn Fn(&str) -> Option<String> = if self.config.enabled { lookup } else { &|_| None };
        let mut resolver = Resolver {
            config: &self.config,
            source: self.source,
            written: self.written,
            read,
            ambient: Ambient { lookup, faults: Vec::new() },
            signal: None,
            rows: Vec::new(),
            warnings: Vec::new(),
        };
        let settings = resolver.settings();
        // Nobody wants to hear of variables while telemetry is off.
        if settings.enabled {
            warnings.append(&mut resolver.warnings);
        }
        settings
    }
}

/// Settings on their way.
pub(super) struct Resolver<'a> {
    pub(super) config: &'a TelemetryConfig,
    pub(super) source: &'a dyn Fn(&KeyPath) -> Option<Source>,
    pub(super) written: &'a dyn Fn(&KeyPath) -> Option<String>,
    pub(super) read: ReadFile<'a>,
    pub(super) ambient: Ambient<'a>,
    /// The signal that the rows are for.
    pub(super) signal: Option<Signal>,
    pub(super) rows: Vec<Resolved>,
    warnings: Vec<Problem>,
}

impl Resolver<'_> {
    fn settings(&mut self) -> Settings {
        let enabled = self.enabled();
        let attributes = self.ambient.first(&["OTEL_RESOURCE_ATTRIBUTES"], ambient::pairs);
        // What is wrong with it is told beside the attributes.
        let faults = std::mem::take(&mut self.ambient.faults);
        let service_name = self.service_name(attributes.as_ref());
        self.ambient.faults = faults;
        let resource_attributes = self.resource_attributes(attributes);
        let (traces, metrics) = self.exports();
        let metrics_export_interval = self.pick(
            "metrics_export_interval",
            self.config.metrics_export_interval,
            &["OTEL_METRIC_EXPORT_INTERVAL"],
            ambient::milliseconds,
            show::duration,
        );
        let (trace_sample_rate, is_parent_based) = self.sampler();
        let keep_traces = self.keep_traces();
        self.trace_attributes();
        let temporality = self.temporality();
        let histogram = self.histogram();
        let cardinality_limit = self.config.cardinality_limit;
        self.configured_row("cardinality_limit", show::or(cardinality_limit, "none"));
        let span_queue = self.span_queue();
        let exemplars = self.pick(
            "exemplars",
            ExemplarFilter::default(),
            &["OTEL_METRICS_EXEMPLAR_FILTER"],
            ambient::exemplars,
            |filter| show::exemplars(*filter).to_owned(),
        );
        let propagators = self.propagators();
        Settings {
            enabled,
            service_name,
            resource_attributes,
            traces,
            metrics,
            metrics_export_interval,
            trace_sample_rate,
            is_parent_based,
            keep_traces,
            temporality,
            histogram,
            cardinality_limit,
            span_queue,
            exemplars,
            propagators,
            sources: std::mem::take(&mut self.rows),
        }
    }

    /// `OTEL_SDK_DISABLED` is a switch for emergencies: it would be none if a file won over it. Whoever wants
    /// flowgen to go on nevertheless has a variable to say so.
    fn enabled(&mut self) -> bool {
        let configured = self.configured("enabled");
        let mut disabled = None;
        if !matches!(configured, Some(Source::Variable(_))) {
            let found = self.ambient.first(&["OTEL_SDK_DISABLED"], ambient::boolean);
            disabled = found.filter(|found| found.value).map(|found| Setting { value: false, ..found });
        }
        self.take("enabled", self.config.enabled, disabled, bool::to_string)
    }

    fn service_name(&mut self, attributes: Option<&Setting<Vec<(String, String)>>>) -> String {
        let name = &self.config.service_name;
        let configured = self
            .configured("service_name")
            .map(|source| (name.clone(), self.written_or(&path("service_name"), name.clone()), source));
        let as_attribute = || {
            let name =
                self.config.resource_attributes.get(SERVICE_NAME).filter(|name| !name.trim().is_empty())?;
            let path = KeyPath::default().key("resource_attributes").key(SERVICE_NAME);
            Some((name.clone(), self.written_or(&path, name.clone()), (self.source)(&path)?))
        };
        let (name, shown, source) = configured
            .or_else(as_attribute)
            .or_else(|| {
                let name = self.ambient.first(&["OTEL_SERVICE_NAME"], |text| Ok(text.to_owned()))?;
                Some((name.value.clone(), name.value, name.source))
            })
            .or_else(|| {
                let attributes = attributes?;
                let named =
                    |(name, value): &&(String, String)| name == SERVICE_NAME && !value.trim().is_empty();
                let (_, name) = attributes.value.iter().rev().find(named)?;
                Some((name.clone(), name.clone(), attributes.source.clone()))
            })
            .unwrap_or_else(|| (name.clone(), name.clone(), Source::Default));
        self.row("service_name", shown, source);
        name
    }

    /// Attributes of a variable go below those that were configured; nobody has to repeat what the platform
    /// knows of itself.
    fn resource_attributes(
        &mut self,
        ambient: Option<Setting<Vec<(String, String)>>>,
    ) -> BTreeMap<String, String> {
        let mut entries = BTreeMap::new();
        if let Some(Setting { value, source }) = ambient {
            let entry = |(name, value): (String, String)| (name, (value.clone(), value, source.clone()));
            entries.extend(value.into_iter().map(entry));
        }
        for (name, value) in &self.config.resource_attributes {
            let path = KeyPath::default().key("resource_attributes").key(&**name);
            let source = (self.source)(&path).unwrap_or(Source::Default);
            entries.insert(name.clone(), (value.clone(), self.written_or(&path, value.clone()), source));
        }
        entries.remove(SERVICE_NAME);
        self.map_rows(
            "resource_attributes",
            entries
                .iter()
                .map(|(name, (_, shown, source))| (format!("{name}={shown}"), source.clone()))
                .collect(),
        );
        entries.into_iter().map(|(name, (value, ..))| (name, value)).collect()
    }

    fn temporality(&mut self) -> Temporality {
        self.pick(
            "temporality",
            self.config.temporality,
            &["OTEL_EXPORTER_OTLP_METRICS_TEMPORALITY_PREFERENCE"],
            ambient::temporality,
            |temporality| show::temporality(*temporality).to_owned(),
        )
    }

    fn histogram(&mut self) -> Histogram {
        self.pick(
            "histogram",
            self.config.histogram.clone(),
            &["OTEL_EXPORTER_OTLP_METRICS_DEFAULT_HISTOGRAM_AGGREGATION"],
            ambient::histogram,
            show::histogram,
        )
    }

    fn span_queue(&mut self) -> SpanQueue {
        let configured = &self.config.span_queue;
        let least = self.configured("span_queue.batch").map_or(1, |_| configured.batch);
        let count = |text: &str, most| {
            let count = ambient::count(text)?;
            refuse::at_most(most, count).map(|()| count)
        };
        let size = |text: &str| match count(text, SpanQueue::MOST)? {
            size if size < least => {
                Err(Fault::new(format!("a queue of {size} does not hold a batch of {least}")))
            }
            size => Ok(size),
        };
        let size = self.pick(
            "span_queue.size",
            configured.size,
            &["OTEL_BSP_MAX_QUEUE_SIZE"],
            size,
            usize::to_string,
        );
        let batch = |text: &str| match count(text, SpanQueue::MOST_BATCH)? {
            batch if batch > size => {
                Err(Fault::new(format!("a batch of {batch} does not fit a queue of {size}")))
            }
            batch => Ok(batch),
        };
        let batch = self.pick(
            "span_queue.batch",
            configured.batch.min(size),
            &["OTEL_BSP_MAX_EXPORT_BATCH_SIZE"],
            batch,
            usize::to_string,
        );
        let delay = self.pick(
            "span_queue.delay",
            configured.delay,
            &["OTEL_BSP_SCHEDULE_DELAY"],
            ambient::milliseconds,
            show::duration,
        );
        SpanQueue { size, batch, delay }
    }

    /// Resolves one setting that is configured, set by the first usable one of `variables`, or as `config` has
    /// it by default.
    pub(super) fn pick<T>(
        &mut self,
        key: &'static str,
        config: T,
        variables: &[impl AsRef<str>],
        parse: impl Fn(&str) -> Result<T, Fault>,
        shown: impl Fn(&T) -> String,
    ) -> T {
        let found = match self.configured(key) {
            Some(_) => None,
            None => self.ambient.first(variables, parse),
        };
        self.take(key, config, found, shown)
    }

    /// Takes what was found in variables, else what is configured or the default.
    pub(super) fn take<T>(
        &mut self,
        key: &'static str,
        config: T,
        found: Option<Setting<T>>,
        shown: impl Fn(&T) -> String,
    ) -> T {
        match found {
            Some(Setting { value, source }) => {
                self.row(key, shown(&value), source);
                value
            }
            None => {
                self.configured_row(key, shown(&config));
                config
            }
        }
    }

    pub(super) fn configured(&self, key: &str) -> Option<Source> {
        if WITHOUT_KEY.contains(&key) { None } else { (self.source)(&path(key)) }
    }

    pub(super) fn configured_row(&mut self, key: &'static str, value: String) {
        let source = self.configured(key).unwrap_or(Source::Default);
        let written = self.written_or(&path(key), value);
        // Beside what came from outside a file may hold a password itself.
        let shown = if key == ENDPOINT { endpoint::without_userinfo(&written) } else { written };
        self.row(key, shown, source);
    }

    /// Shows a configured value as it was written if what came from outside is in it, which may be a secret.
    pub(super) fn written_or(&self, path: &KeyPath, value: String) -> String {
        (self.written)(path).unwrap_or(value)
    }

    /// Adds one row for each source of the entries of a mapping.
    pub(super) fn map_rows(&mut self, key: &'static str, entries: Vec<(String, Source)>) {
        if entries.is_empty() {
            return self.configured_row(key, "none".into());
        }
        let mut by_source: Vec<(Source, Vec<String>)> = Vec::new();
        for (shown, source) in entries {
            match by_source.iter_mut().find(|(known, _)| *known == source) {
                Some((_, all)) => all.push(shown),
                None => by_source.push((source, vec![shown])),
            }
        }
        for (source, all) in by_source {
            self.row(key, all.join(", "), source);
        }
    }

    /// Adds a setting as people see it, and warns of the variables that could not be used for it.
    pub(super) fn row(&mut self, key: &'static str, value: String, source: Source) {
        self.warn(key, &value, &source);
        self.rows.push(Resolved { key, signal: self.signal, value, source });
    }

    /// Warns of the variables that could not be used for a setting.
    fn warn(&mut self, key: &str, value: &str, source: &Source) {
        for (variable, fault) in std::mem::take(&mut self.ambient.faults) {
            let origin = Some(Origin::Variable(variable));
            if self.warnings.iter().any(|known| known.origin == origin) {
                continue;
            }
            let path = if WITHOUT_KEY.contains(&key) {
                KeyPath::default()
            } else {
                KeyPath::default().key("telemetry").join(&path(key))
            };
            let mut warning = Problem::new(path, format!("ignored: {}", fault.message));
            let instead = format!("instead `{key}` is {} ({source})", ambient::quoted(value));
            warning.hint(fault.hint.map_or_else(|| instead.clone(), |hint| format!("{hint}; {instead}")));
            warning.origin = origin;
            self.warnings.push(warning);
        }
    }
}

fn path(key: &str) -> KeyPath {
    key.split('.').fold(KeyPath::default(), |path, part| path.key(part))
}
