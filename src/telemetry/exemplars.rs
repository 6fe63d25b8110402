//! Exemplars: of each part of a histogram's range the latest measurement that belongs to an exported span.

use std::sync::{Mutex, MutexGuard, PoisonError};

use opentelemetry_proto::tonic::metrics::v1::{Exemplar as Message, exemplar::Value};

use super::points::seconds;
use crate::trace::Moment;

/// Parts of the range: each is four times as far as the one before, from a nanosecond on.
const PARTS: usize = 32;

/// Keeps the exemplars of one histogram until they are collected.
#[derive(Debug, Default)]
pub(super) struct Exemplars(Mutex<Vec<(usize, Exemplar)>>);

#[derive(Clone, Copy, Debug)]
struct Exemplar {
    nanos: u64,
    at: Moment,
}

impl Exemplars {
    /// Offers a measurement of an exported span. Never waits: one of many may be missed.
    pub(super) fn offer(&self, nanos: u64, at: Moment) {
        let Ok(mut kept) = self.0.try_lock() else { return };
        let exemplar = Exemplar { nanos, at };
        let part = (nanos.max(1).ilog2() as usize / 2).min(PARTS - 1);
        match kept.iter_mut().find(|(known, _)| *known == part) {
            Some((_, known)) => *known = exemplar,
            None => kept.push((part, exemplar)),
        }
    }

    /// Takes out what was kept since the last time.
    pub(super) fn take(&self) -> Vec<Message> {
        let kept = std::mem::take(&mut *self.lock());
        kept.into_iter().map(|(_, exemplar)| exemplar.message()).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<(usize, Exemplar)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Exemplar {
    fn message(&self) -> Message {
        Message {
            time_unix_nano: self.at.at.unix_nanos(),
            value: Some(Value::AsDouble(seconds(self.nanos))),
            trace_id: bytes(&{ self.at.context.trace_id }.to_be_bytes()),
            span_id: bytes(&{ self.at.context.span_id }.to_be_bytes()),
            ..Message::default()
        }
    }
}

/// Returns the bytes of an id; none where there is no id.
fn bytes(id: &[u8]) -> Vec<u8> {
    if id.iter().all(|byte| *byte == 0) { Vec::new() } else { id.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::{Ticks, TraceContext};

    #[test]
    fn the_latest_of_each_part_of_the_range_is_kept_until_it_is_taken() {
        let exemplars = Exemplars::default();
        for (nanos, span_id) in [(1_000_000, 1), (1_000_001, 2), (5_000_000_000, 3), (0, 4), (u64::MAX, 5)] {
            let context = TraceContext { trace_id: 7, span_id, flags: TraceContext::SAMPLED };
            exemplars.offer(nanos, Moment { at: Ticks::now(), context });
        }
        let mut spans: Vec<_> = exemplars.take().iter().map(|message| message.span_id[7]).collect();
        spans.sort_unstable();
        assert_eq!(spans, [2, 3, 4, 5]);
        assert!(exemplars.take().is_empty());
    }
}
