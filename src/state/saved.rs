//! An event in the form in which it is kept.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::StateError;
use crate::{
    event::{Event, EventId, Meta, Payload},
    trace::TraceContext,
};

/// An event in the form in which it is kept: all that a task can see of it, and where it stands in its trace.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct SavedEvent {
    id: SavedId,
    subject: String,
    timestamp: Timestamp,
    data: SavedData,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    meta: Map<String, Value>,
    /// As a `traceparent`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    trace: Option<String>,
}

/// The id of an event, with what it stands for.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum SavedId {
    Sequence(u64),
    Position { path: String, offset: u64, line: u32 },
    Text(String),
    Child(Box<SavedId>, usize),
}

/// The data of an event.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum SavedData {
    /// JSON, in the text that it came in.
    Json(String),
    /// Bytes in base64.
    Bytes(String),
}

impl SavedId {
    pub(super) fn of(id: &EventId) -> Self {
        match id {
            EventId::Sequence(n) => Self::Sequence(*n),
            EventId::Position { path, offset, line } => {
                Self::Position { path: path.to_string(), offset: *offset, line: *line }
            }
            // An input of one run has no more than its name afterwards.
            EventId::Stream { .. } | EventId::Text(_) | EventId::Unique(_) => Self::Text(id.to_string()),
            EventId::Child(child) => Self::Child(Box::new(Self::of(&child.0)), child.1),
        }
    }

    pub(super) fn to_id(&self) -> EventId {
        match self {
            Self::Sequence(n) => EventId::Sequence(*n),
            Self::Position { path, offset, line } => {
                EventId::Position { path: path.as_str().into(), offset: *offset, line: *line }
            }
            Self::Text(text) => EventId::Text(text.as_str().into()),
            Self::Child(parent, index) => parent.to_id().child(*index),
        }
    }
}

impl SavedData {
    fn of(data: &Payload) -> Self {
        match (data.text(), data) {
            (Some(text), _) => Self::Json(text.to_owned()),
            (None, Payload::Bytes(bytes)) => Self::Bytes(BASE64.encode(bytes)),
            (None, Payload::Json(_)) => Self::Json(data.json().map(Value::to_string).unwrap_or_default()),
        }
    }

    fn to_payload(&self) -> Result<Payload, StateError> {
        let broken = "the data of an event that was kept cannot be read";
        match self {
            Self::Json(text) => {
                Payload::from_json_line(text).map_err(|error| StateError::because(broken, error))
            }
            Self::Bytes(text) => {
                let bytes = BASE64.decode(text).map_err(|error| StateError::because(broken, error))?;
                Ok(Payload::Bytes(bytes.into()))
            }
        }
    }
}

impl SavedEvent {
    /// Makes the form of an event.
    pub fn of(event: &Event) -> Self {
        Self {
            id: SavedId::of(&event.id),
            subject: event.subject.to_string(),
            timestamp: event.timestamp,
            data: SavedData::of(&event.data),
            meta: event.meta.entries().cloned().unwrap_or_default(),
            trace: event.trace.is_valid().then(|| event.trace.traceparent().to_string()),
        }
    }

    /// Makes the event again. Nobody waits for it yet, and it stands in no trace.
    ///
    /// # Errors
    /// Its data is none.
    pub fn to_event(&self) -> Result<Event, StateError> {
        let mut event = Event::new(self.id.to_id(), self.subject.as_str().into(), self.data.to_payload()?);
        event.timestamp = self.timestamp;
        event.meta = Meta::new(self.meta.clone());
        Ok(event)
    }

    /// Returns the public form of its id.
    pub fn id(&self) -> String {
        self.id.to_id().to_string()
    }

    /// Returns where it stood in its trace.
    pub fn trace(&self) -> Option<TraceContext> {
        TraceContext::parse_traceparent(self.trace.as_deref()?)
    }

    /// Returns its data for people: JSON as it is, and other bytes as a text if they are one.
    pub fn data(&self) -> Value {
        match &self.data {
            SavedData::Json(text) => serde_json::from_str(text).unwrap_or_else(|_| text.clone().into()),
            SavedData::Bytes(text) => {
                let bytes = BASE64.decode(text).unwrap_or_default();
                String::from_utf8(bytes).map_or_else(|_| text.clone().into(), Value::String)
            }
        }
    }

    /// Returns its metadata.
    pub fn meta(&self) -> &Map<String, Value> {
        &self.meta
    }
}
