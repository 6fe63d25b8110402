//! Queries, made of the instruments: what is renamed in their table has its new name in every query.

use crate::telemetry::instruments::{Instrument, InstrumentKind};

/// How far a rate looks back: Grafana makes it of the interval of exports and of what is on the screen.
const RATE: &str = "$__rate_interval";
/// All that is on the screen.
const RANGE: &str = "$__range";

/// How the histograms of workers are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Histograms {
    /// With fixed bounds, a series each.
    Explicit,
    /// As native histograms.
    Exponential,
    /// By some workers so and by others so.
    Any,
}

/// Which series a dashboard is about.
#[derive(Clone, Debug)]
pub(super) struct Scope {
    flow: Option<String>,
    task: Option<String>,
    histograms: Histograms,
}

impl Scope {
    /// Of all flows and tasks of the jobs that are chosen.
    pub(super) fn all(histograms: Histograms) -> Self {
        Self { flow: None, task: None, histograms }
    }

    /// Of the flows that are chosen.
    pub(super) fn chosen_flows(self) -> Self {
        Self { flow: Some(r#"flow=~"$flow""#.into()), ..self }
    }

    /// Of the tasks that are chosen.
    pub(super) fn chosen_tasks(self) -> Self {
        Self { task: Some(r#"task=~"$task""#.into()), ..self }
    }

    /// Of this flow.
    pub(super) fn of_flow(&self, name: &str) -> Self {
        Self { flow: Some(format!("flow={}", quoted(name))), ..self.clone() }
    }

    /// Of this task.
    pub(super) fn of_task(&self, name: &str) -> Self {
        Self { task: Some(format!("task={}", quoted(name))), ..self.clone() }
    }

    /// Returns the series of an instrument.
    pub(super) fn metric(&self, instrument: &'static Instrument) -> Metric {
        self.named(instrument, instrument.prometheus())
    }

    /// Returns the series that are derived from the spans of this name.
    pub(super) fn of_span(&self, span: &str, instrument: &'static Instrument) -> Metric {
        let name = instrument.prometheus().replacen("S_", &format!("{}_", label(span)), 1);
        self.named(instrument, name)
    }

    fn named(&self, instrument: &'static Instrument, name: String) -> Metric {
        let mut matchers = vec![r#"job=~"$job""#.to_owned()];
        let mut add = |attribute: &str, matcher: &Option<String>| {
            matchers.extend(matcher.clone().filter(|_| instrument.attributes.contains(&attribute)));
        };
        add("flow", &self.flow);
        add("task", &self.task);
        Metric { name, instrument, matchers, histograms: self.histograms }
    }
}

/// The series of one instrument, or some of them.
#[derive(Clone, Debug)]
pub(super) struct Metric {
    name: String,
    instrument: &'static Instrument,
    matchers: Vec<String>,
    histograms: Histograms,
}

impl Metric {
    /// Leaves those whose attribute has this value.
    pub(super) fn is(self, attribute: &str, value: &str) -> Self {
        self.matching(attribute, "=", value)
    }

    /// Leaves those whose attribute has another value.
    pub(super) fn without(self, attribute: &str, value: &str) -> Self {
        self.matching(attribute, "!=", value)
    }

    /// Leaves those whose attribute has a value of this pattern.
    pub(super) fn like(self, attribute: &str, pattern: &str) -> Self {
        self.matching(attribute, "=~", pattern)
    }

    fn matching(mut self, attribute: &str, operator: &str, value: &str) -> Self {
        self.matchers.push(format!("{}{operator}{}", label(attribute), quoted(value)));
        self
    }

    /// Returns the series themselves.
    pub(super) fn series(&self) -> String {
        self.suffixed("")
    }

    /// Returns the sum of their values, by attributes.
    pub(super) fn sum(&self, by: &[&str]) -> String {
        format!("sum{} ({})", clause(by), self.series())
    }

    /// Returns the greatest of their values, by attributes.
    pub(super) fn max(&self, by: &[&str]) -> String {
        format!("max{} ({})", clause(by), self.series())
    }

    /// Returns by how much they grow in a second, by attributes; of a histogram, how many values it got.
    pub(super) fn rate(&self, by: &[&str]) -> String {
        self.grown("rate", RATE, by)
    }

    /// Returns the same, over all that is on the screen.
    pub(super) fn rate_in_range(&self, by: &[&str]) -> String {
        self.grown("rate", RANGE, by)
    }

    /// Returns how much they grew in all that is on the screen, by attributes.
    pub(super) fn increase_in_range(&self, by: &[&str]) -> String {
        self.grown("increase", RANGE, by)
    }

    fn grown(&self, function: &str, window: &str, by: &[&str]) -> String {
        let of = |suffix| format!("sum{} ({function}({}[{window}]))", clause(by), self.suffixed(suffix));
        if !matches!(self.instrument.kind, InstrumentKind::Histogram(_)) {
            return of("");
        }
        self.of_histogram(of("_count"), format!("histogram_count({})", of("")))
    }

    /// Returns a quantile of their values, by attributes.
    pub(super) fn quantile(&self, quantile: f64, by: &[&str]) -> String {
        self.quantile_of(quantile, RATE, by)
    }

    /// Returns the same, over all that is on the screen.
    pub(super) fn quantile_in_range(&self, quantile: f64, by: &[&str]) -> String {
        self.quantile_of(quantile, RANGE, by)
    }

    fn quantile_of(&self, quantile: f64, window: &str, by: &[&str]) -> String {
        let of = |suffix, by: &[&str]| {
            let rate = format!("rate({}[{window}])", self.suffixed(suffix));
            format!("histogram_quantile({quantile}, sum{} ({rate}))", clause(by))
        };
        self.of_histogram(of("_bucket", &[by, &["le"]].concat()), of("", by))
    }

    /// Returns what is right for the workers. Of a metric a worker has one kind or the other, so that the half for the other
    /// kind returns nothing.
    fn of_histogram(&self, explicit: String, native: String) -> String {
        match self.histograms {
            Histograms::Explicit => explicit,
            Histograms::Exponential => native,
            Histograms::Any => format!("{explicit} or {native}"),
        }
    }

    fn suffixed(&self, suffix: &str) -> String {
        format!("{}{suffix}{{{}}}", self.name, self.matchers.join(","))
    }
}

/// Returns which part of `whole` `part` is, with 0 where `part` has no series. Both have the same labels.
pub(super) fn share(part: &str, whole: &str) -> String {
    format!("(({part}) or 0 * ({whole})) / ({whole})")
}

/// Returns the series that rules record by this name, of what is chosen of these labels.
pub(super) fn recorded(name: &str, chosen: &[&str]) -> String {
    let matchers: Vec<_> = chosen.iter().map(|label| format!("{label}=~\"${label}\"")).collect();
    format!("{name}{{{}}}", matchers.join(","))
}

/// Returns the series that rules record by names which begin like this and end with a window, with the window as a label.
pub(super) fn recorded_by_window(name: &str) -> String {
    let series = format!(r#"{{__name__=~"{name}.+",job=~"$job",flow=~"$flow"}}"#);
    format!(
        r#"sum by (job, flow, sli, window) (label_replace({series}, "window", "\x241", "__name__", "{name}(.+)"))"#
    )
}

/// Returns the name that an attribute has as a label.
pub(super) fn label(attribute: &str) -> String {
    attribute.replace('.', "_")
}

fn clause(by: &[&str]) -> String {
    if by.is_empty() {
        return String::new();
    }
    let labels: Vec<_> = by.iter().map(|attribute| label(attribute)).collect();
    format!(" by ({})", labels.join(", "))
}

/// Returns a text of PromQL. Grafana puts variables in wherever it finds a `$`, so that none of a name may stay.
fn quoted(value: &str) -> String {
    let mut text = String::from('"');
    for character in value.chars() {
        match character {
            '"' | '\\' => text.extend(['\\', character]),
            '\n' => text.push_str("\\n"),
            '$' => text.push_str("\\x24"),
            other => text.push(other),
        }
    }
    text + "\""
}
