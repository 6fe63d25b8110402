//! An event in the form in which a queue holds it: when it was accepted, all that a task can see of it but its data, as
//! JSON, and its data as it is.

use std::{borrow::Cow, sync::Arc};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{StateError, saved::SavedId};
use crate::{
    event::{Event, EventError, Meta, Payload, Trail},
    trace::Remote,
};

/// The bytes before the JSON: when it was accepted, and how long the JSON is.
const BEFORE: usize = 12;

/// An event that a queue held.
#[derive(Debug)]
pub struct Accepted {
    /// When it was accepted, in microseconds since 1970.
    pub at: i64,
    /// The event. Its trace goes on where it stood.
    pub event: Event,
}

#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Head<'a> {
    id: SavedId,
    subject: Cow<'a, str>,
    timestamp: Timestamp,
    #[serde(default, skip_serializing_if = "Form::is_json")]
    form: Form,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    meta: Option<Cow<'a, Map<String, Value>>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    traceparent: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tracestate: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    baggage: Option<Cow<'a, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    error: Option<Failure<'a>>,
}

/// What the data is.
#[derive(Clone, Copy, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Form {
    #[default]
    Json,
    Bytes,
}

impl Form {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde hands it over so")]
    fn is_json(&self) -> bool {
        *self == Self::Json
    }
}

/// Why the source could not decode it.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Failure<'a> {
    #[serde(rename = "type")]
    error_type: Cow<'a, str>,
    message: Cow<'a, str>,
    task: Cow<'a, str>,
}

impl Accepted {
    /// Appends the form of an event that is accepted at this time.
    ///
    /// # Errors
    /// It has none.
    pub fn write(event: &Event, at: i64, out: &mut Vec<u8>) -> Result<(), StateError> {
        let remote = event.trail.remote();
        let head = Head {
            id: SavedId::of(&event.id),
            subject: Cow::Borrowed(&event.subject),
            timestamp: event.timestamp,
            form: if matches!(event.data, Payload::Json(_)) { Form::Json } else { Form::Bytes },
            meta: event.meta.entries().map(Cow::Borrowed),
            traceparent: event.trace.is_valid().then(|| event.trace.traceparent().to_string()),
            tracestate: remote.and_then(Remote::tracestate).map(Cow::Borrowed),
            baggage: remote.and_then(Remote::baggage).map(Cow::Borrowed),
            error: event.error.as_deref().map(|error| Failure {
                error_type: Cow::Borrowed(error.error_type),
                message: Cow::Borrowed(&error.message),
                task: Cow::Borrowed(&error.task),
            }),
        };
        let cannot = |error| StateError::because("an event cannot be put into a queue", error);
        let start = out.len();
        out.extend_from_slice(&at.to_le_bytes());
        out.extend_from_slice(&[0; 4]);
        serde_json::to_writer(&mut *out, &head).map_err(cannot)?;
        let length = u32::try_from(out.len() - start - BEFORE).unwrap_or(u32::MAX);
        out[start + 8..start + BEFORE].copy_from_slice(&length.to_le_bytes());
        match (&event.data, event.data.text()) {
            (_, Some(text)) => out.extend_from_slice(text.as_bytes()),
            (Payload::Bytes(bytes), None) => out.extend_from_slice(bytes),
            (data, None) => serde_json::to_writer(&mut *out, &data.json()).map_err(cannot)?,
        }
        Ok(())
    }

    /// Makes the event again. `error_type` returns the type of errors that has this name.
    ///
    /// # Errors
    /// The bytes are no event.
    pub fn read(bytes: &[u8], error_type: impl Fn(&str) -> &'static str) -> Result<Self, StateError> {
        let broken = "an event of a queue cannot be understood";
        let short = || StateError::new(broken);
        let (at, rest) = bytes.split_first_chunk().ok_or_else(short)?;
        let (length, rest) = rest.split_first_chunk().ok_or_else(short)?;
        let length = u32::from_le_bytes(*length) as usize;
        let (head, data) = rest.split_at_checked(length).ok_or_else(short)?;
        let head: Head<'_> =
            serde_json::from_slice(head).map_err(|error| StateError::because(broken, error))?;
        let data = match head.form {
            Form::Bytes => Payload::Bytes(data.to_vec().into()),
            Form::Json => {
                let text = str::from_utf8(data).map_err(|error| StateError::because(broken, error))?;
                Payload::from_json_line(text).map_err(|error| StateError::because(broken, error))?
            }
        };
        let mut event = Event::new(head.id.to_id(), head.subject.as_ref().into(), data);
        event.timestamp = head.timestamp;
        event.meta = Meta::new(head.meta.map(Cow::into_owned).unwrap_or_default());
        event.error = head.error.map(|error| {
            let Failure { error_type: name, message, task } = error;
            Arc::new(EventError {
                error_type: error_type(&name),
                message: message.into_owned(),
                task: task.as_ref().into(),
            })
        });
        let remote = Remote::parse(
            head.traceparent.as_deref(),
            head.tracestate.as_deref(),
            head.baggage.as_deref(),
            true,
        );
        if let Some(remote) = remote {
            event.trace = remote.context;
            let is_traced = remote.context.is_valid();
            event.trail = Trail::from_outside(remote);
            if is_traced {
                // Whether it is sampled was decided where it entered.
                event.trail.follow();
            }
        }
        Ok(Self { at: i64::from_le_bytes(*at), event })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::{event::EventId, trace::TraceContext};

    fn read(event: &Event) -> Accepted {
        let mut bytes = Vec::new();
        Accepted::write(event, 1_234, &mut bytes).unwrap();
        Accepted::read(&bytes, |_| "parse").unwrap()
    }

    #[test]
    fn an_event_comes_out_as_it_went_in() {
        let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let id = EventId::Position { path: "a/b.jsonl".into(), offset: 7, line: 2 }.child(3);
        let line = "{\"n\": 1.0,\"text\":\"é\\n\"}";
        for data in [
            Payload::from_json_line(line).unwrap(),
            Payload::from(json!({"n": [1, null]})),
            Payload::from(Value::Null),
            Payload::Bytes(vec![0, 255, 10].into()),
            Payload::default(),
        ] {
            let mut event = Event::new(id.clone(), "orders".into(), data);
            event.meta = Meta::new(Map::from_iter([("k".to_owned(), json!({"v": 1}))]));
            event.trace = TraceContext::parse_traceparent(traceparent).unwrap();
            let remote = Remote::parse(Some(traceparent), Some("a=1"), Some("user=7"), true);
            event.trail = Trail::from_outside(remote.unwrap());
            event.error = Some(Arc::new(EventError {
                error_type: "parse",
                message: "no JSON".to_owned(),
                task: "in".into(),
            }));
            let Accepted { at, event: known } = read(&event);
            assert_eq!((at, &known.id, &known.subject), (1_234, &event.id, &event.subject));
            assert_eq!(
                (known.timestamp, &known.meta, &known.error),
                (event.timestamp, &event.meta, &event.error)
            );
            assert_eq!((known.data.json(), known.data.text()), (event.data.json(), known.data.text()));
            if let (Payload::Bytes(one), Payload::Bytes(other)) = (&known.data, &event.data) {
                assert_eq!(one, other);
            }
            assert_eq!(known.trace, event.trace);
            let remote = known.trail.remote().unwrap();
            assert_eq!((remote.tracestate(), remote.baggage()), (Some("a=1"), Some("user=7")));
            assert!(known.trail.is_followed());
        }
    }

    #[test]
    fn an_event_without_a_trace_has_none_afterwards() {
        let event = Event::new(EventId::Sequence(1), "in".into(), Payload::from(json!(1)));
        let known = read(&event).event;
        assert!(!known.trace.is_valid() && known.trail.remote().is_none() && !known.trail.is_followed());
    }

    #[test]
    fn bytes_that_are_no_event_are_an_error_wherever_they_end() {
        let mut bytes = Vec::new();
        let event = Event::new(EventId::Sequence(1), "in".into(), Payload::from(json!({"n": 1})));
        Accepted::write(&event, 0, &mut bytes).unwrap();
        for length in 0..bytes.len() {
            assert!(Accepted::read(&bytes[..length], |_| "parse").is_err(), "{length}");
        }
    }
}
