//! The event: what moves from task to task.
//!
//! Owns the shape of an event and how events derive from one another. Must not know who made it or
//! where it goes.

mod error;
mod id;
mod payload;
mod trail;
pub mod weight;

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Map, Value};

pub use error::EventError;
pub use id::{EventId, Input};
pub use payload::Payload;
pub use trail::{Attempt, Batch, Fate, MAX_ATTEMPTS, Part, Step, StepKind, Trail};

use crate::{
    ack::Ack,
    trace::{Ticks, TraceContext},
};

/// A free-form mapping that travels with an event and is inherited by the events derived from it.
///
/// `None` is the empty mapping, so that an event without metadata allocates nothing for it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Meta(Option<Arc<Map<String, Value>>>);

impl Meta {
    /// Wraps a mapping; an empty one costs nothing.
    pub fn new(entries: Map<String, Value>) -> Self {
        if entries.is_empty() { Self(None) } else { Self(Some(Arc::new(entries))) }
    }

    /// Returns the value of `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.as_ref()?.get(key)
    }

    /// Returns the mapping, or `None` when it is empty.
    pub fn entries(&self) -> Option<&Map<String, Value>> {
        self.0.as_deref()
    }
}

/// One event on its way through a flow.
///
/// Cloning shares the payload, the metadata and the [`Ack`]: a clone is another share of the same
/// source event.
#[derive(Clone, Debug)]
pub struct Event {
    /// Identifies the event; deterministic for sources that can be read again.
    pub id: EventId,
    /// What the event is about, a name set by its source; the source task's name unless changed.
    pub subject: Arc<str>,
    /// When the event entered, or the event time where its source knows one.
    pub timestamp: Timestamp,
    /// The payload.
    pub data: Payload,
    /// Metadata, inherited by derived events.
    pub meta: Meta,
    /// Why a task before could not handle it, if it was passed on nevertheless. Inherited by derived events.
    pub error: Option<Arc<EventError>>,
    /// Where the event stands in its trace.
    pub trace: TraceContext,
    /// When the task upstream was done with it, if that was timed. Set by the runtime alone.
    pub queued: Ticks,
    /// The way that it came. Kept by the runtime alone: what is derived from an event has none until it is sent on.
    pub trail: Trail,
    /// The share of the source event's acknowledgement. Set and settled by the runtime alone.
    pub ack: Ack,
}

impl Event {
    /// Makes an event that no source is waiting for yet.
    pub fn new(id: EventId, subject: Arc<str>, data: Payload) -> Self {
        Self {
            id,
            subject,
            timestamp: Timestamp::now(),
            data,
            meta: Meta::default(),
            error: None,
            trace: TraceContext::default(),
            queued: Ticks::default(),
            trail: Trail::default(),
            ack: Ack::default(),
        }
    }

    /// Gives the event another id, and remembers the one that it had.
    pub fn rename(&mut self, id: EventId) {
        let former = std::mem::replace(&mut self.id, id);
        // The task that does so has not made its step yet, and knew the event by its former id.
        self.trail.rename(self.trail.steps().len() + 1, former);
    }

    /// Returns the error as scripts and templates have it; null without one.
    pub fn error_json(&self) -> Value {
        self.error.as_deref().map_or(Value::Null, EventError::to_json)
    }

    /// Derives the only output: `data` is new, all else is inherited, except the ack, as in
    /// [`Self::derive`].
    pub fn with_data(&self, data: Payload) -> Self {
        Self { id: self.id.clone(), ..self.derive(0, data) }
    }

    /// Derives the `index`-th of several outputs: `data` is new, the id becomes `<id>-<index>`, all
    /// else is inherited. The ack is not: the runtime gives each output its share.
    pub fn derive(&self, index: usize, data: Payload) -> Self {
        Self {
            id: self.id.child(index),
            subject: Arc::clone(&self.subject),
            timestamp: self.timestamp,
            data,
            meta: self.meta.clone(),
            error: self.error.clone(),
            trace: self.trace,
            queued: Ticks::default(),
            trail: Trail::default(),
            ack: Ack::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_event_inherits_everything_but_data_and_the_last_part_of_its_id() {
        let mut event = Event::new(EventId::Sequence(7), "orders".into(), Payload::from(Value::from(1)));
        event.meta = Meta::new(Map::from_iter([("k".to_owned(), Value::from("v"))]));
        let derived = event.derive(2, Payload::from(Value::from("two")));
        assert_eq!(derived.id.to_string(), "7-2");
        assert_eq!(derived.subject, event.subject);
        assert_eq!(derived.timestamp, event.timestamp);
        assert_eq!(derived.meta, event.meta);
        assert_eq!(derived.data.json(), Some(&Value::from("two")));
        let only = event.with_data(Payload::from(Value::from("new")));
        assert_eq!((only.id, only.subject, only.meta), (event.id, event.subject, event.meta));
        assert_eq!(only.data.json(), Some(&Value::from("new")));
    }

    #[test]
    fn an_event_stays_small_enough_to_move() {
        assert!(size_of::<Event>() <= 168, "{}", size_of::<Event>());
    }
}
