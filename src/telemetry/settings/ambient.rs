//! The `OTEL_*` variables: reading them, and what each may say.
//!
//! They may have been set for every program of the machine, so one that cannot be used is a fault to warn of
//! and never a refusal. An empty one counts as not set, as the specification wants it.

use std::time::Duration;

use super::{ExemplarFilter, Propagators, Source};
use crate::telemetry::{
    Compression, Histogram, Temporality,
    refuse::{self, Fault},
};

/// A value and where it came from.
#[derive(Clone, Debug)]
pub(super) struct Setting<T> {
    pub(super) value: T,
    pub(super) source: Source,
}

/// The variables as they are looked up.
pub(super) struct Ambient<'a> {
    pub(super) lookup: &'a dyn Fn(&str) -> Option<String>,
    /// What could not be used since it was last taken, by variable.
    pub(super) faults: Vec<(String, Fault)>,
}

impl Ambient<'_> {
    /// Returns the value of the first of `variables` that is set to something usable.
    pub(super) fn first<T>(
        &mut self,
        variables: &[impl AsRef<str>],
        parse: impl Fn(&str) -> Result<T, Fault>,
    ) -> Option<Setting<T>> {
        for variable in variables.iter().map(AsRef::as_ref) {
            let Some(text) = (self.lookup)(variable) else { continue };
            match text.trim() {
                "" => {}
                text => match parse(text) {
                    Ok(value) => {
                        return Some(Setting { value, source: Source::Variable(variable.to_owned()) });
                    }
                    Err(fault) => self.faults.push((variable.to_owned(), fault)),
                },
            }
        }
        None
    }
}

/// The share of traces, and whether the decision of a remote parent stands.
pub(super) struct Sampler {
    pub(super) rate: f64,
    pub(super) is_parent_based: bool,
    /// Whether the rate is the sampler's argument, if it has one.
    pub(super) takes_rate: bool,
}

/// Reads a sampler.
pub(super) fn sampler(text: &str) -> Result<Sampler, Fault> {
    let of_root = text.strip_prefix("parentbased_");
    let (rate, takes_rate) = match of_root.unwrap_or(text) {
        "always_on" => (1.0, false),
        "always_off" => (0.0, false),
        "traceidratio" => (1.0, true),
        _ => {
            return Err(unknown(text).hint(
                "known are `always_on`, `always_off` and `traceidratio`, each also after `parentbased_`",
            ));
        }
    };
    Ok(Sampler { rate, is_parent_based: of_root.is_some(), takes_rate })
}

/// Reads a share: 0.0 to 1.0.
pub(super) fn rate(text: &str) -> Result<f64, Fault> {
    text.parse()
        .ok()
        .filter(|rate| (0.0..=1.0).contains(rate))
        .ok_or_else(|| Fault::new(format!("{} is no share of traces", quoted(text))).hint("from 0.0 to 1.0"))
}

/// Reads a time in milliseconds, longer than none.
pub(super) fn milliseconds(text: &str) -> Result<Duration, Fault> {
    match text.parse() {
        Ok(0) => Err(Fault::new("must be longer than zero")),
        Ok(millis) => Ok(Duration::from_millis(millis)),
        Err(_) => Err(Fault::new(format!("{} is no whole number of milliseconds", quoted(text)))),
    }
}

/// Reads a number of things, at least one.
pub(super) fn count(text: &str) -> Result<usize, Fault> {
    match text.parse() {
        Ok(0) => Err(Fault::new("must be at least 1")),
        Ok(count) => Ok(count),
        Err(_) => Err(Fault::new(format!("{} is no whole number", quoted(text)))),
    }
}

/// Reads a truth value.
pub(super) fn boolean(text: &str) -> Result<bool, Fault> {
    match text.to_lowercase().as_str() {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(Fault::new(format!("{} is neither `true` nor `false`", quoted(text)))),
    }
}

/// Reads a list of exporters: whether there is one.
pub(super) fn exporter(text: &str) -> Result<bool, Fault> {
    let mut names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    match names.clone().find(|name| !matches!(*name, "otlp" | "none")) {
        Some(name) => Err(Fault::new(format!(
            "{} is no exporter of flowgen, which speaks OTLP/gRPC only",
            quoted(name)
        ))
        .hint("`otlp` or `none`")),
        None => Ok(names.any(|name| name == "otlp")),
    }
}

/// Reads a protocol: there is only one.
pub(super) fn protocol(text: &str) -> Result<(), Fault> {
    match text {
        "grpc" => Ok(()),
        _ => Err(Fault::new(format!("{} is not spoken: flowgen speaks OTLP/gRPC only", quoted(text)))),
    }
}

/// Reads a compression.
pub(super) fn compression(text: &str) -> Result<Compression, Fault> {
    match text {
        "none" => Ok(Compression::None),
        "gzip" => Ok(Compression::Gzip),
        _ => Err(unknown(text).hint("`none` or `gzip`")),
    }
}

/// Reads a temporality.
pub(super) fn temporality(text: &str) -> Result<Temporality, Fault> {
    match text.to_lowercase().as_str() {
        "cumulative" => Ok(Temporality::Cumulative),
        "delta" => Ok(Temporality::Delta),
        "lowmemory" => Ok(Temporality::LowMemory),
        _ => Err(unknown(text).hint("`cumulative`, `delta` or `lowmemory`")),
    }
}

/// Reads an aggregation of histograms.
pub(super) fn histogram(text: &str) -> Result<Histogram, Fault> {
    match text.to_lowercase().as_str() {
        "explicit_bucket_histogram" => Ok(Histogram::default()),
        "base2_exponential_bucket_histogram" => Ok(Histogram::Exponential {}),
        _ => Err(unknown(text).hint("`explicit_bucket_histogram` or `base2_exponential_bucket_histogram`")),
    }
}

/// Reads a filter of exemplars.
pub(super) fn exemplars(text: &str) -> Result<ExemplarFilter, Fault> {
    match text.to_lowercase().as_str() {
        "trace_based" => Ok(ExemplarFilter::TraceBased),
        "always_on" => Ok(ExemplarFilter::AlwaysOn),
        "always_off" => Ok(ExemplarFilter::AlwaysOff),
        _ => Err(unknown(text).hint("`trace_based`, `always_on` or `always_off`")),
    }
}

/// Reads a list of propagators, of which `none` adds nothing: those that are spoken, if it names any such, and
/// what is wrong with the others.
pub(super) fn propagators(text: &str) -> (Option<Propagators>, Option<Fault>) {
    let text = text.to_lowercase();
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let (spoken, others): (Vec<_>, Vec<_>) =
        names.partition(|name| matches!(*name, "tracecontext" | "baggage" | "none"));
    let is_named = |name| spoken.contains(&name);
    let propagators = Propagators { trace_context: is_named("tracecontext"), baggage: is_named("baggage") };
    let fault = (!others.is_empty()).then(|| {
        let are = if others.len() == 1 { "is" } else { "are" };
        let others = others.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ");
        Fault::new(format!("{others} {are} not spoken")).hint("`tracecontext`, `baggage` and `none` are")
    });
    ((!spoken.is_empty()).then_some(propagators), fault)
}

/// Reads headers. No fault shows a value, which may be a secret.
pub(super) fn headers(text: &str) -> Result<Vec<(String, String)>, Fault> {
    let mut headers = pairs(text)?;
    for (name, value) in &mut headers {
        name.make_ascii_lowercase();
        refuse::header(name, value)?;
    }
    Ok(headers)
}

/// Reads `name=value` pairs with commas between them, percent-encoded as in a W3C baggage header. One that
/// is none spoils all, as the specification wants it; no fault shows any part of it.
pub(super) fn pairs(text: &str) -> Result<Vec<(String, String)>, Fault> {
    let entries = text.split(',').enumerate().filter(|(_, entry)| !entry.trim().is_empty());
    let pair = |(n, entry): (usize, &str)| {
        let fault =
            |what| Fault::new(format!("entry {} {what}", n + 1)).hint("such as `name=value,other=value`");
        let (name, value) = entry.split_once('=').ok_or_else(|| fault("is not `name=value`"))?;
        let (name, value) = (decoded(name.trim()), decoded(value.trim()));
        let (name, value) = name.zip(value).ok_or_else(|| fault("is not UTF-8 once it is decoded"))?;
        if name.is_empty() { Err(fault("has no name")) } else { Ok((name, value)) }
    };
    entries.map(pair).collect()
}

/// Resolves `%20` and its like; a `%` that starts none of them is itself.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digit = |n: usize| after.get(n).and_then(|byte| char::from(*byte).to_digit(16));
        let byte = (*first == b'%').then(|| digit(0).zip(digit(1))).flatten();
        match byte.and_then(|(high, low)| u8::try_from(high * 16 + low).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}

fn unknown(text: &str) -> Fault {
    Fault::new(format!("unknown value {}", quoted(text)))
}

/// Returns a text in one short piece.
pub(super) fn quoted(text: &str) -> String {
    let mut rest = text.chars();
    let start: String = rest.by_ref().take(60).collect();
    format!("`{}{}`", start.escape_debug(), if rest.next().is_some() { "…" } else { "" })
}
