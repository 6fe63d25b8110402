//! One batch: what it collects, how long that is as JSON, and the event that comes of it.

use std::{fmt::Write as _, io, sync::Arc};

use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{event::Payload, task::TaskError};

/// Why a batch leaves.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reason {
    /// It has as many events as it may have.
    Size,
    /// It is as long as it may be.
    Bytes,
    /// Its time has come.
    Timeout,
    /// It is the oldest, and there are more than there may be.
    Partitions,
    /// No more events come.
    Shutdown,
}

impl Reason {
    /// Returns the value of `flush_reason`.
    fn name(self) -> &'static str {
        match self {
            Self::Size => "size",
            Self::Bytes => "bytes",
            Self::Timeout => "timeout",
            Self::Partitions => "partitions",
            Self::Shutdown => "shutdown",
        }
    }
}

/// The data of one event, and how long it is as JSON.
#[derive(Debug)]
pub(super) struct Item {
    data: Payload,
    bytes: usize,
}

impl Item {
    /// Measures the data of an event, if that `is_measured`, and leaves it there.
    ///
    /// # Errors
    /// It is no JSON.
    pub(super) fn new(data: &Payload, is_measured: bool) -> Result<Self, TaskError> {
        let parsed = match data {
            Payload::Json(_) => None,
            Payload::Bytes(bytes) => {
                Some(Payload::from(serde_json::from_slice::<Value>(bytes).map_err(|_| {
                    TaskError::permanent(
                        "type",
                        "the data is raw bytes that are no JSON, which a batch cannot hold",
                    )
                })?))
            }
        };
        let bytes = if is_measured { length(parsed.as_ref().unwrap_or(data)) } else { 0 };
        Ok(Self { data: parsed.unwrap_or_default(), bytes })
    }

    /// Takes the data, if it was JSON already.
    pub(super) fn take(&mut self, data: Payload) {
        if let Payload::Json(_) = data {
            self.data = data;
        }
    }
}

/// Returns how long data is as JSON. It is not written out for that if it came as text.
fn length(data: &Payload) -> usize {
    data.text().map_or_else(
        || {
            let mut count = Count(0);
            // Nothing in it can fail to be written, and neither can counting.
            let _ = data.json().map(|value| serde_json::to_writer(&mut count, value));
            count.0
        },
        str::len,
    )
}

/// Counts what is written.
struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What is collected until it leaves.
#[derive(Debug)]
pub(super) struct Batch {
    key: Option<Arc<str>>,
    items: Vec<Payload>,
    /// Of the array, as far as its items are measured.
    bytes: usize,
    due: Instant,
}

impl Batch {
    /// Makes an empty batch of a partition.
    pub(super) fn new(key: Option<Arc<str>>, due: Instant) -> Self {
        Self { key, items: Vec::new(), bytes: "[]".len(), due }
    }

    pub(super) fn key(&self) -> &Option<Arc<str>> {
        &self.key
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Returns how long the array would be with a further item.
    pub(super) fn bytes_with(&self, item: &Item) -> usize {
        self.bytes + item.bytes + usize::from(!self.items.is_empty())
    }

    pub(super) fn push(&mut self, item: Item) {
        self.bytes = self.bytes_with(&item);
        self.items.push(item.data);
    }

    /// Makes the data of the event that comes of it. What nobody has parsed so far is not parsed for that.
    pub(super) fn into_payload(self, reason: Reason) -> Payload {
        self.text(reason).unwrap_or_else(|| {
            let Self { key, items, .. } = self;
            let size = items.len();
            let batch: Vec<Value> =
                items.into_iter().map(|item| item.into_json().unwrap_or_default()).collect();
            let mut data =
                json!({"batch": [], "batch_size": size, "flush_reason": reason.name(), "partition_key": key.as_deref()});
            data["batch"] = Value::Array(batch);
            Payload::from(data)
        })
    }

    /// Puts the texts together, if they are all there is. What is nested too deeply to be read again is none.
    fn text(&self, reason: Reason) -> Option<Payload> {
        let items: Option<Vec<&str>> = self.items.iter().map(Payload::unparsed).collect();
        let items = items?;
        let length = items.iter().map(|item| item.len() + 1).sum::<usize>();
        let mut text = String::with_capacity(length + 128);
        text.push_str(r#"{"batch":["#);
        for (n, item) in items.iter().enumerate() {
            text.push_str(if n == 0 { "" } else { "," });
            text.push_str(item);
        }
        let (size, reason) = (items.len(), reason.name());
        let key = Value::from(self.key.as_deref());
        write!(text, r#"],"batch_size":{size},"flush_reason":"{reason}","partition_key":{key}}}"#).ok()?;
        Payload::from_json_line(&text).ok()
    }
}
