//! The filter in front of all layers: which spans and log lines there are at all.
//!
//! Whether a span is made depends on telemetry alone, whether a line is logged on the log filter alone. One
//! filter for all layers, because one of each layer's own makes layers miss spans (tracing issue 2519).

use tracing::{Metadata, Subscriber, level_filters::LevelFilter, span, subscriber::Interest};
use tracing_subscriber::{EnvFilter, Layer, layer::Context};

use super::{
    Pipeline,
    spans::{SAMPLED, UNSAMPLED},
};

/// Lets flowgen's spans through by what is exported, and everything else by the directives of the log.
pub(super) struct CallsiteFilter {
    log: EnvFilter,
    /// Whether the directives name spans, so that they have to be told of them.
    has_span_directives: bool,
    is_counted: bool,
    is_recorded: bool,
}

impl CallsiteFilter {
    pub(super) fn new(log: EnvFilter, pipeline: &Pipeline) -> Self {
        let has_span_directives = log.to_string().contains('[');
        let (is_counted, is_recorded) = (pipeline.is_counted(), pipeline.is_recorded());
        Self { log, has_span_directives, is_counted, is_recorded }
    }

    /// Returns whether one of flowgen's spans is made, or `None` for everything else.
    fn decides(&self, metadata: &Metadata<'_>) -> Option<bool> {
        match metadata.target() {
            SAMPLED if metadata.is_span() => Some(self.is_counted || self.is_recorded),
            UNSAMPLED if metadata.is_span() => Some(self.is_counted),
            _ => None,
        }
    }
}

impl<S: Subscriber> Layer<S> for CallsiteFilter {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        match self.decides(metadata) {
            Some(true) => Interest::always(),
            Some(false) => Interest::never(),
            None => Layer::<S>::register_callsite(&self.log, metadata),
        }
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        self.decides(metadata).unwrap_or_else(|| Layer::<S>::enabled(&self.log, metadata, context))
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let log = Layer::<S>::max_level_hint(&self.log)?;
        Some(if self.is_counted || self.is_recorded { log.max(LevelFilter::INFO) } else { log })
    }

    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        if self.has_span_directives && self.decides(attributes.metadata()).is_none() {
            self.log.on_new_span(attributes, id, context);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if self.has_span_directives {
            Layer::<S>::on_record(&self.log, id, values, context);
        }
    }

    fn on_enter(&self, id: &span::Id, context: Context<'_, S>) {
        if self.has_span_directives {
            Layer::<S>::on_enter(&self.log, id, context);
        }
    }

    fn on_exit(&self, id: &span::Id, context: Context<'_, S>) {
        if self.has_span_directives {
            Layer::<S>::on_exit(&self.log, id, context);
        }
    }

    fn on_close(&self, id: span::Id, context: Context<'_, S>) {
        if self.has_span_directives {
            Layer::<S>::on_close(&self.log, id, context);
        }
    }
}
