//! Settings as people may see them.

use std::{
    fmt::Display,
    path::{Path, PathBuf},
    time::Duration,
};

use super::{ExemplarFilter, Propagators};
use crate::telemetry::{Histogram, Temporality};

pub(super) fn duration(duration: &Duration) -> String {
    humantime::format_duration(*duration).to_string()
}

#[expect(clippy::ref_option, reason = "the shape that `pick` shows values by")]
pub(super) fn file(file: &Option<PathBuf>) -> String {
    or(file.as_deref().map(Path::display), "none")
}

pub(super) fn or(value: Option<impl Display>, otherwise: &str) -> String {
    value.map_or_else(|| otherwise.to_owned(), |value| value.to_string())
}

pub(super) fn temporality(temporality: Temporality) -> &'static str {
    match temporality {
        Temporality::Cumulative => "cumulative",
        Temporality::Delta => "delta",
        Temporality::LowMemory => "low_memory",
    }
}

pub(super) fn histogram(histogram: &Histogram) -> String {
    match histogram {
        Histogram::Explicit { buckets: None } => "explicit".into(),
        Histogram::Explicit { buckets: Some(bounds) } => format!("explicit, {bounds:?}"),
        Histogram::Exponential {} => "exponential".into(),
    }
}

pub(super) fn exemplars(filter: ExemplarFilter) -> &'static str {
    match filter {
        ExemplarFilter::TraceBased => "trace_based",
        ExemplarFilter::AlwaysOn => "always_on",
        ExemplarFilter::AlwaysOff => "always_off",
    }
}

pub(super) fn propagators(spoken: Propagators) -> String {
    match (spoken.trace_context, spoken.baggage) {
        (true, true) => "tracecontext, baggage",
        (true, false) => "tracecontext",
        (false, true) => "baggage",
        (false, false) => "none",
    }
    .to_owned()
}
