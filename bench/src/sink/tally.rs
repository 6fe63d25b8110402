//! What is counted of the exports that a collector takes.
//!
//! It looks at lengths and at the value of one counter, never at what is inside a span.

use serde::{Deserialize, Serialize};

use super::behaviour::{INVALID_ARGUMENT, UNIMPLEMENTED};

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// Fields from a request down to a span or a metric: resource, scope, item.
const ITEMS: [u64; 3] = [1, 2, 2];
/// The fields of a metric that hold its points: gauge, sum, the three of histograms and summaries.
const POINT_LISTS: [u64; 5] = [5, 7, 9, 10, 11];
/// The metric whose value is looked at, and the fields from its point to the name, and to the value.
const HANDLED: &[u8] = b"task.handle.count";
const NAME: [u64; 1] = [1];
const VALUE: [u64; 3] = [7, 1, 6];

/// The flag, which says that it is not compressed, and the length before a gRPC message.
pub(super) const PREFIX: usize = 5;

/// What arrived.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq)]
pub(crate) struct Tally {
    /// Connections that were made.
    pub(crate) connections: u64,
    /// Export calls of both signals that were taken.
    pub(crate) calls: u64,
    /// Calls that were refused.
    pub(crate) refused: u64,
    /// How often it was restarted.
    pub(crate) restarts: u64,
    /// Bytes of the messages that were taken.
    pub(crate) bytes: u64,
    pub(crate) spans: u64,
    /// Data points of metrics.
    pub(crate) points: u64,
    /// What all points of `task.handle.count` said last.
    pub(crate) handled: u64,
}

impl Tally {
    /// Adds a call that was taken.
    pub(super) fn take(&mut self, one: &Self) {
        self.calls += one.calls;
        self.bytes += one.bytes;
        self.spans += one.spans;
        self.points += one.points;
        self.handled = self.handled.max(one.handled);
    }

    /// Counts what is in one call, or returns the code to refuse it with.
    pub(super) fn of(path: &str, framed: &[u8]) -> Result<Self, u8> {
        let message = match framed.split_at_checked(PREFIX) {
            Some(([0, ..], message)) => message,
            _ => return Err(INVALID_ARGUMENT),
        };
        let mut tally = Self { calls: 1, bytes: message.len() as u64, ..Self::default() };
        match path {
            TRACES => each(message, &ITEMS, &mut |_| tally.spans += 1).ok_or(INVALID_ARGUMENT)?,
            METRICS => {
                let mut metrics = Vec::new();
                each(message, &ITEMS, &mut |metric| metrics.push(metric)).ok_or(INVALID_ARGUMENT)?;
                for metric in metrics {
                    count_points(metric, &mut tally).ok_or(INVALID_ARGUMENT)?;
                }
            }
            _ => return Err(UNIMPLEMENTED),
        }
        Ok(tally)
    }
}

fn count_points(metric: &[u8], tally: &mut Tally) -> Option<()> {
    for list in POINT_LISTS {
        each(metric, &[list, 1], &mut |_| tally.points += 1)?;
    }
    let mut is_handled = false;
    each(metric, &NAME, &mut |name| is_handled = name == HANDLED)?;
    if is_handled {
        each(metric, &VALUE, &mut |value| {
            tally.handled += value.try_into().map_or(0, u64::from_le_bytes);
        })?;
    }
    Some(())
}

/// Calls `found` with every field of a protobuf message at a path of field numbers. Varints are passed over.
/// `None` if it is no message.
fn each<'a>(mut message: &'a [u8], path: &[u64], found: &mut dyn FnMut(&'a [u8])) -> Option<()> {
    let Some((number, below)) = path.split_first() else {
        found(message);
        return Some(());
    };
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let length = match key & 7 {
            0 => {
                varint(&mut message)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (field, rest) = message.split_at_checked(length)?;
        message = rest;
        if key >> 3 == *number {
            each(field, below, found)?;
        }
    }
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message with one field, which holds another message.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        [&[0; PREFIX], message].concat()
    }

    #[test]
    fn spans_and_points_are_counted_wherever_they_are() {
        // A fixed64, a fixed32 and a varint of two bytes are passed over.
        let span = field(2, &[7 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0, 8 << 3 | 5, 0, 0, 0, 0, 6 << 3, 0x81, 1]);
        let scope = field(2, &[field(1, b"flowgen"), span.clone(), span].concat());
        let traces = field(1, &[field(1, b""), scope.clone(), scope].concat());
        let spans = |spans| Ok(Tally { calls: 1, bytes: traces.len() as u64, spans, ..Tally::default() });
        assert_eq!(Tally::of(TRACES, &framed(&traces)), spans(4));

        let point = |value: u64| field(1, &[vec![6 << 3 | 1], value.to_le_bytes().to_vec()].concat());
        let sum = field(7, &[point(3), point(400), vec![3 << 3, 1]].concat());
        let handled = field(2, &[field(1, HANDLED), sum.clone()].concat());
        let other = field(2, &[field(1, b"task.run.count"), sum].concat());
        let histogram = field(2, &field(9, &field(1, b"")));
        let metrics = field(1, &field(2, &[handled, other, histogram].concat()));
        let tally = Tally::of(METRICS, &framed(&metrics)).unwrap();
        assert_eq!((tally.points, tally.handled), (5, 403));
    }

    #[test]
    fn what_is_no_export_is_refused() {
        let cut = field(1, b"spans");
        assert_eq!(Tally::of(TRACES, &framed(&cut[..4])), Err(INVALID_ARGUMENT));
        assert_eq!(Tally::of(TRACES, &[1, 0, 0, 0, 0]), Err(INVALID_ARGUMENT));
        assert_eq!(Tally::of("/a.Logs/Export", &framed(b"")), Err(UNIMPLEMENTED));
    }
}
