//! From what a script left behind to what leaves the task.
//!
//! Everything that can fail happens in [`Plan::of`], before the event is touched.

use std::sync::Arc;

use rhai::{Blob, Dynamic};
use serde_json::Value;

use super::{
    diff::{self, Edit},
    native::{self, NotJson},
    program::{Finished, Program},
    runtime_error::SCRIPT,
    tail::{EVENT_TAG, Marker},
};
use crate::{
    event::{Event, EventId, Meta, Payload},
    task::{Output, TaskError},
};

/// What a run of a script comes to.
pub(super) enum Plan<'a> {
    /// Nothing leaves.
    Filter,
    /// The event goes on with its changes.
    Forward(Changes<'a>),
    /// Each element of the event's array goes on for itself.
    FanOut(Changes<'a>),
    /// These events go on.
    Events(Vec<(usize, Changes<'a>)>),
}

/// The changes to one event.
pub(super) struct Changes<'a> {
    header: Header,
    data: Data<'a>,
}

/// The changes to all of an event but its data.
#[derive(Clone, Default)]
struct Header {
    id: Option<EventId>,
    subject: Option<Arc<str>>,
    meta: Option<Meta>,
    is_error_cleared: bool,
}

enum Data<'a> {
    Edits(Vec<Edit<'a>>),
    New(Payload),
}

impl<'a> Plan<'a> {
    /// Reads what a script left behind.
    pub(super) fn of(program: &'a Program, event: &Event, finished: &Finished) -> Result<Self, TaskError> {
        let reader = Reader { program, event, ctx: &finished.ctx };
        let marker = Marker::of(&finished.result);
        if let Some(marker) = marker
            && (is_event(&finished.event) || !program.uses.event())
        {
            return match marker {
                Marker::Event => reader.changes(&finished.event).map(Self::Forward),
                Marker::Data => reader.data_result(&finished.event),
            };
        }
        // A script can put another value in the place of `event`. Then that is what a marker stands for.
        let result = match (marker, finished.event.as_map_ref()) {
            (None, _) => &finished.result,
            (Some(Marker::Event), _) => &finished.event,
            (Some(Marker::Data), Ok(map)) => &map.get("data").cloned().unwrap_or_default(),
            (Some(Marker::Data), Err(_)) => &Dynamic::UNIT,
        };
        if result.is_unit() {
            return Ok(Self::Filter);
        }
        if is_event(result) {
            return Ok(Self::Forward(reader.changes(result)?));
        }
        let header = reader.header(&finished.event)?;
        match result.as_array_ref() {
            Ok(items) => {
                let mut events = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    if is_event(item) {
                        events.push((index, reader.changes(item)?));
                    } else if !item.is_unit() {
                        let data = reader.payload(item, None)?;
                        events.push((index, Changes { header: header.clone(), data }));
                    }
                }
                Ok(Self::Events(events))
            }
            Err(_) => {
                // Not before the script used it: a payload may be text that nobody parsed yet.
                let original = program.uses.data.as_ref().and_then(|_| event.data.json());
                Ok(Self::Forward(Changes { header, data: reader.payload(result, original)? }))
            }
        }
    }

    /// Does what is planned. Cannot fail.
    pub(super) fn carry_out(self, event: &mut Event, output: &mut Output) {
        match self {
            Self::Filter => {}
            Self::Forward(changes) => {
                changes.apply(event);
                output.forward();
            }
            Self::FanOut(changes) => {
                changes.apply(event);
                if let Ok(Value::Array(items)) = std::mem::take(&mut event.data).into_json() {
                    for (index, item) in items.into_iter().enumerate().filter(|(_, item)| !item.is_null()) {
                        output.emit(event.derive(index, Payload::from(item)));
                    }
                }
            }
            Self::Events(events) => {
                for (index, changes) in events {
                    let mut derived = event.derive(index, event.data.clone());
                    let id = changes.header.id.as_ref().map(|id| id.child(index));
                    changes.apply(&mut derived);
                    derived.id = id.unwrap_or_else(|| event.id.child(index));
                    output.emit(derived);
                }
            }
        }
    }
}

impl Changes<'_> {
    fn apply(self, event: &mut Event) {
        match self.data {
            Data::New(payload) => event.data = payload,
            Data::Edits(edits) if edits.is_empty() => {}
            Data::Edits(edits) => {
                if let Some(root) = event.data.json_mut() {
                    diff::apply(edits, root);
                }
            }
        }
        let Header { id, subject, meta, is_error_cleared } = self.header;
        // Not `unwrap_or_else(clone)`: most events keep what they have.
        if let Some(id) = id {
            event.rename(id);
        }
        if let Some(subject) = subject {
            event.subject = subject;
        }
        if let Some(meta) = meta {
            event.meta = meta;
        }
        if is_error_cleared {
            event.error = None;
        }
    }
}

fn is_event(value: &Dynamic) -> bool {
    value.tag() == EVENT_TAG && value.is_map()
}

struct Reader<'a, 'e> {
    program: &'a Program,
    event: &'e Event,
    ctx: &'e Dynamic,
}

impl<'a> Reader<'a, '_> {
    fn changes(&self, native: &Dynamic) -> Result<Changes<'a>, TaskError> {
        Ok(Changes { header: self.header(native)?, data: self.data(native)? })
    }

    fn data(&self, native: &Dynamic) -> Result<Data<'a>, TaskError> {
        let Some(projection) = &self.program.uses.data else { return Ok(Data::Edits(Vec::new())) };
        let Ok(map) = native.as_map_ref() else { return Ok(Data::Edits(Vec::new())) };
        let native = map.get("data").unwrap_or(&Dynamic::UNIT);
        match &self.event.data {
            Payload::Json(_) => {
                let original = self.event.data.json().unwrap_or(&Value::Null);
                let edits = diff::edits(projection, native, original, &self.program.shapes);
                edits.map(Data::Edits).map_err(not_json)
            }
            Payload::Bytes(bytes) => {
                let text = native.as_immutable_string_ref().is_ok_and(|text| text.as_bytes() == bytes);
                let blob = native.as_blob_ref().is_ok_and(|blob| *blob == *bytes);
                if text || blob { Ok(Data::Edits(Vec::new())) } else { self.payload(native, None) }
            }
        }
    }

    fn header(&self, native: &Dynamic) -> Result<Header, TaskError> {
        let mut header = Header::default();
        if is_event(native)
            && let Ok(map) = native.as_map_ref()
        {
            let uses = &self.program.uses;
            if uses.id {
                let id = text_of("event.id", map.get("id"))?;
                header.id = (*id != *self.event.id.to_string()).then(|| EventId::Text((*id).into()));
            }
            if uses.subject {
                let subject = text_of("event.subject", map.get("subject"))?;
                header.subject = (*subject != *self.event.subject).then(|| (*subject).into());
            }
            if uses.meta {
                header.meta = self.meta("event.meta", map.get("meta"))?;
            }
            if uses.error {
                header.is_error_cleared = self.clears_error(map.get("error"))?;
            }
        }
        if self.program.uses.ctx_meta
            && let Ok(map) = self.ctx.as_map_ref()
            && let Some(meta) = self.meta("ctx.meta", map.get("meta"))?
        {
            header.meta = Some(meta);
        }
        Ok(header)
    }

    /// Returns whether the script cleared the error: it can do nothing else with it.
    fn clears_error(&self, native: Option<&Dynamic>) -> Result<bool, TaskError> {
        let native = native.unwrap_or(&Dynamic::UNIT);
        if native.is_unit() || native::is_same(native, &self.event.error_json()) {
            return Ok(native.is_unit());
        }
        Err(TaskError::permanent(SCRIPT, "`event.error` can be cleared and not changed"))
    }

    fn meta(&self, name: &str, native: Option<&Dynamic>) -> Result<Option<Meta>, TaskError> {
        let native = native.unwrap_or(&Dynamic::UNIT);
        let original = self.event.meta.entries();
        if native.is_unit() {
            return Ok(original.map(|_| Meta::default()));
        }
        let map = native.as_map_ref().map_err(|type_name| wrong_type(name, "a map", type_name))?;
        let is_same = match original {
            Some(entries) => native::is_same_map(&map, entries),
            None => map.is_empty(),
        };
        if is_same {
            return Ok(None);
        }
        let entries = native::to_entries(&map, original, &self.program.shapes).map_err(not_json)?;
        Ok(Some(Meta::new(entries)))
    }

    /// Makes a result the data of an event. A blob becomes raw bytes.
    fn payload(&self, native: &Dynamic, original: Option<&Value>) -> Result<Data<'a>, TaskError> {
        if let Some(blob) = native.read_lock::<Blob>() {
            return Ok(Data::New(Payload::Bytes(blob.clone().into())));
        }
        if original.is_some_and(|original| native::is_same(native, original)) {
            return Ok(Data::Edits(Vec::new()));
        }
        // The order of a literal goes before that of the event's own data.
        let shapes = &self.program.shapes;
        let is_literal =
            native.as_map_ref().is_ok_and(|map| shapes.of(&map).is_some_and(|keys| keys.len() == map.len()));
        let original = original.filter(|_| !is_literal);
        native::to_json(native, original, shapes).map(|json| Data::New(json.into())).map_err(not_json)
    }

    /// `event.data` as a result: like any other value, but without a copy.
    fn data_result(&self, native: &Dynamic) -> Result<Plan<'a>, TaskError> {
        let (is_null, is_array) = match native.as_map_ref() {
            Ok(map) if self.program.uses.data.is_some() => {
                let data = map.get("data").unwrap_or(&Dynamic::UNIT);
                (data.is_unit(), data.is_array())
            }
            _ => self.kind_of_data(),
        };
        if is_null {
            return Ok(Plan::Filter);
        }
        let changes = self.changes(native)?;
        Ok(if is_array { Plan::FanOut(changes) } else { Plan::Forward(changes) })
    }

    /// Returns whether the event's own data is null, or an array. What was not parsed yet need not be:
    /// its first byte tells.
    fn kind_of_data(&self) -> (bool, bool) {
        if let Some(text) = self.event.data.text() {
            let first = text.trim_ascii_start().bytes().next();
            return (first == Some(b'n'), first == Some(b'['));
        }
        self.event.data.json().map_or((false, false), |json| (json.is_null(), json.is_array()))
    }
}

fn text_of(name: &str, native: Option<&Dynamic>) -> Result<rhai::ImmutableString, TaskError> {
    let native = native.unwrap_or(&Dynamic::UNIT);
    match native.as_immutable_string_ref() {
        Ok(text) => Ok(text.clone()),
        Err(_) if native.is_int() || native.is_char() => Ok(native.to_string().into()),
        Err(type_name) => Err(wrong_type(name, "a string", type_name)),
    }
}

fn wrong_type(name: &str, wanted: &str, found: &str) -> TaskError {
    TaskError::permanent(SCRIPT, format!("`{name}` is not {wanted} but of type `{found}`"))
}

fn not_json(error: NotJson) -> TaskError {
    TaskError::permanent(SCRIPT, "the script's result cannot become data").with_source(error)
}
