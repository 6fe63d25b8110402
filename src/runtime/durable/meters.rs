//! What is told of the queues of a flow.

use std::sync::Arc;

use super::Durable;
use crate::telemetry::{
    Asked, Labels, Meter, Observed,
    instruments::{DURABLE_BYTES, DURABLE_DEPTH, DURABLE_OLDEST, Instrument},
};

/// What is told of the queues of a flow, all of them together. Lasts as long as the flow is known.
#[derive(Debug)]
pub(in crate::runtime) struct DurableMeters {
    _observed: Observed,
}

impl DurableMeters {
    pub(in crate::runtime) fn new(meter: &Meter, flow: &Arc<str>, queues: &[Arc<Durable>]) -> Self {
        if !meter.is_on() || queues.is_empty() {
            return Self { _observed: Observed::default() };
        }
        let asked = |instrument: &'static Instrument, read: fn(&[Arc<Durable>]) -> u64| {
            let queues = queues.to_vec();
            let labels = Labels::default().with("flow", Arc::clone(flow));
            Asked::new(instrument, labels, move |_| i64::try_from(read(&queues)).ok())
        };
        let asked = vec![
            asked(&DURABLE_DEPTH, |queues| queues.iter().map(|queue| queue.depth()).sum()),
            asked(&DURABLE_BYTES, |queues| queues.iter().map(|queue| queue.bytes()).sum()),
            asked(&DURABLE_OLDEST, |queues| queues.iter().map(|queue| queue.oldest()).max().unwrap_or(0)),
        ];
        Self { _observed: meter.observe(asked) }
    }
}
