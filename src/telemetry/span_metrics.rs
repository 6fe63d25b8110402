//! The span-to-metrics layer: counts every span that ends, sampled or not.

use std::sync::Arc;

use tracing::{Subscriber, span};
use tracing_subscriber::{Layer, layer::Context};

use super::{open_span, series::SpanTable};

/// Derives `S.duration`, `S.count` and `S.errors` from the spans of every name `S`.
#[derive(Debug)]
pub(super) struct SpanMetrics(pub(super) Arc<SpanTable>);

impl<S: Subscriber> Layer<S> for SpanMetrics {
    fn on_record(&self, _: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        open_span::on_end(values, |end| {
            self.0.observe(end.place, end.outcome, end.nanos, end.error_type, end.at);
        });
    }
}
