//! What telemetry counts of itself (OpenTelemetry semantic conventions, "SDK metrics").

use std::sync::Arc;

use super::{
    Labels, Signal,
    export::{Accounts, QUEUE_FULL, Totals},
    instruments::{
        Instrument, POINT_EXPORTED, SPAN_EXPORTED, SPAN_PROCESSED, SPAN_QUEUE_CAPACITY, SPAN_QUEUE_SIZE,
        SPAN_STARTED, TRACES_KEPT, TRACES_SHED,
    },
    keep::Kept,
    points::{Collection, Interval, Number},
    spans::Shared,
};
use crate::trace::Ticks;

/// Returns the labels of what exports a signal.
pub(super) fn of_exporter(signal: Signal) -> Labels {
    component(match signal {
        Signal::Traces => ("otlp_grpc_span_exporter", "otlp_grpc_span_exporter/0"),
        Signal::Metrics => ("otlp_grpc_metric_exporter", "otlp_grpc_metric_exporter/0"),
    })
}

fn component((component_type, name): (&'static str, &'static str)) -> Labels {
    Labels::default().with("otel.component.type", component_type).with("otel.component.name", name)
}

/// Lets a registry ask at every collection what became of spans and points.
pub(super) fn observe(shared: &Arc<Shared>, accounts: Arc<Accounts>) {
    let start = Ticks::now().unix_nanos();
    // What is asked must not keep the one alive who asks.
    let weak = Arc::downgrade(shared);
    shared.registry.ask(Box::new(move |into, now| {
        if let Some(shared) = weak.upgrade() {
            Own { into, interval: Interval { start: start.min(now), now } }.collect(&shared, &accounts);
        }
    }));
}

struct Own<'a> {
    into: &'a mut Collection,
    interval: Interval,
}

impl Own<'_> {
    fn collect(&mut self, shared: &Shared, accounts: &Accounts) {
        self.exported(&POINT_EXPORTED, Signal::Metrics, &accounts.points());
        let Some(queue) = &shared.queue else { return };
        let (sampled, unsampled) = shared.started.counts();
        for (result, count) in [("RECORD_AND_SAMPLE", sampled), ("DROP", unsampled)] {
            self.count(&SPAN_STARTED, Labels::default().with("otel.span.sampling_result", result), count);
        }
        let processor = || component(("batching_span_processor", "batching_span_processor/0"));
        let counts = queue.counts();
        self.count(&SPAN_PROCESSED, processor(), counts.created - counts.refused);
        self.count(&SPAN_PROCESSED, processor().with("error.type", QUEUE_FULL), counts.refused);
        self.count(&SPAN_QUEUE_SIZE, processor(), queue.len() as u64);
        self.count(&SPAN_QUEUE_CAPACITY, processor(), queue.size() as u64);
        let mut spans = accounts.spans();
        // Those never came as far as the exporter.
        spans.dropped.remove(QUEUE_FULL);
        self.exported(&SPAN_EXPORTED, Signal::Traces, &spans);
        let reason = |reason| Labels::default().with("reason", reason);
        self.count(&TRACES_SHED, reason("queue"), queue.shed());
        if let Some(keeper) = &shared.keeper {
            self.count(&TRACES_SHED, reason("limit"), keeper.beyond());
            for kept in Kept::ALL {
                self.count(&TRACES_KEPT, reason(kept.name()), keeper.kept(kept));
            }
        }
    }

    fn exported(&mut self, instrument: &'static Instrument, signal: Signal, totals: &Totals) {
        self.count(instrument, of_exporter(signal), totals.exported);
        for (reason, count) in &totals.dropped {
            self.count(instrument, of_exporter(signal).with("error.type", *reason), *count);
        }
    }

    fn count(&mut self, instrument: &'static Instrument, labels: Labels, count: u64) {
        self.into.number(instrument.name, instrument, &labels, Number::of(count), self.interval);
    }
}
