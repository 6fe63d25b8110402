//! The layer that hands sampled spans to the exporter.

use std::sync::Arc;

use tracing::{Subscriber, span};
use tracing_subscriber::{Layer, layer::Context};

use super::{open_span, queue::SpanQueue};

/// Queues every sampled span that ends.
#[derive(Debug)]
pub(super) struct Recorder(pub(super) Arc<SpanQueue>);

impl<S: Subscriber> Layer<S> for Recorder {
    fn on_record(&self, _: &span::Id, values: &span::Record<'_>, _: Context<'_, S>) {
        open_span::on_end(values, |end| {
            if let Some(record) = end.record.take() {
                self.0.push(record);
            }
        });
    }
}
