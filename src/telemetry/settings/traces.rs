//! Which traces are exported, what their spans say, and what is taken from others and passed on.

use super::{
    Propagators, Source,
    ambient::{self, Setting},
    resolve::Resolver,
    show,
};
use crate::{
    problem::KeyPath,
    telemetry::{KeepTraces, refuse::Fault},
};

impl Resolver<'_> {
    /// A configured rate replaces a sampler as a whole, with its argument and what it says of parents.
    pub(super) fn sampler(&mut self) -> (f64, bool) {
        const ARGUMENT: [&str; 1] = ["OTEL_TRACES_SAMPLER_ARG"];
        let is_configured = self.configured("trace_sample_rate").is_some();
        let found = match is_configured {
            true => None,
            false => self.ambient.first(&["OTEL_TRACES_SAMPLER"], ambient::sampler),
        };
        let Some(Setting { value: sampler, source }) = found else {
            if !is_configured {
                let unused = |_: &str| Err(Fault::new("says nothing without a usable `OTEL_TRACES_SAMPLER`"));
                let _: Option<Setting<()>> = self.ambient.first(&ARGUMENT, unused);
            }
            self.configured_row("trace_sample_rate", self.config.trace_sample_rate.to_string());
            self.row("parent_based", "true".into(), Source::Default);
            return (self.config.trace_sample_rate, true);
        };
        let argument = sampler.takes_rate.then(|| self.ambient.first(&ARGUMENT, ambient::rate)).flatten();
        let of_rate = argument.unwrap_or(Setting { value: sampler.rate, source: source.clone() });
        self.row("trace_sample_rate", of_rate.value.to_string(), of_rate.source);
        self.row("parent_based", sampler.is_parent_based.to_string(), source);
        (of_rate.value, sampler.is_parent_based)
    }

    pub(super) fn keep_traces(&mut self) -> KeepTraces {
        let keep = &self.config.keep_traces;
        self.configured_row("keep_traces.errors", keep.errors.to_string());
        let slower_than = keep.slower_than.as_ref().map(show::duration);
        self.configured_row("keep_traces.slower_than", show::or(slower_than, "none"));
        self.configured_row("keep_traces.limit", keep.limit.to_string());
        keep.clone()
    }

    /// Shows the templates; the plan has them compiled.
    pub(super) fn trace_attributes(&mut self) {
        let entries = self.config.trace_attributes.iter().map(|(name, template)| {
            let path = KeyPath::default().key("trace_attributes").key(&**name);
            let source = (self.source)(&path).unwrap_or(Source::Default);
            (format!("{name}={}", self.written_or(&path, template.clone())), source)
        });
        self.map_rows("trace_attributes", entries.collect());
    }

    /// A list of which a part can be used is used in part.
    pub(super) fn propagators(&mut self) -> Propagators {
        const VARIABLE: &str = "OTEL_PROPAGATORS";
        let named = self.ambient.first(&[VARIABLE], |text| Ok(ambient::propagators(text)));
        let found = named.and_then(|Setting { value: (spoken, fault), source }| {
            self.ambient.faults.extend(fault.map(|fault| (VARIABLE.to_owned(), fault)));
            Some(Setting { value: spoken?, source })
        });
        self.take("propagators", Propagators::default(), found, |spoken| show::propagators(*spoken))
    }
}
