//! Where the reading of a file stands, in the form that outlives the process.

use std::{fs::File, io, sync::Arc};

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::identity::{Fingerprint, Head, Identity, end_of_lines};
use crate::{
    format::{Passed, Place},
    task::{Position, Resumption},
};

/// What a position of a file holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct At {
    /// The file as the flow names it.
    path: String,
    /// Bytes before the next record; 0 in a document.
    offset: u64,
    /// Its line, from 1.
    line: u64,
    /// Elements of a document that were let in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    records: Option<u64>,
    /// Where the last record of the file ended, if it was let in without its line's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    open: Option<u64>,
    file: Identity,
    head: Fingerprint,
}

/// Where a source before this one stood in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Saved {
    pub(super) part: Arc<str>,
    /// The file as the flow named it then.
    pub(super) name: Arc<str>,
    pub(super) identity: Identity,
    pub(super) head: Fingerprint,
    pub(super) place: Place,
}

impl Saved {
    /// Reads a position; `None` if it is none of a file.
    pub(super) fn read(resumption: Resumption) -> Option<Self> {
        let Resumption { position: Position { part, at }, events } = resumption;
        let At { path, offset, line, records, open, file, head } = serde_json::from_value(at).ok()?;
        let records = records.unwrap_or_default();
        let place = Place { offset, line, records, open, left_out: events, passed: Passed::default() };
        Some(Self { part, name: path.into(), identity: file, head, place })
    }

    /// Leaves out what is in a file now, up to the end of its last line.
    pub(super) fn at_end(file: &File, identity: Identity, name: &Arc<str>) -> io::Result<Self> {
        let place = Place { offset: end_of_lines(file)?, ..Place::default() };
        let head = Head::read(file)?.fingerprint();
        Ok(Self { part: identity.part(name).into(), name: Arc::clone(name), identity, head, place })
    }
}

/// Makes the positions of one file.
#[derive(Debug)]
pub(super) struct Marker {
    part: Arc<str>,
    name: Arc<str>,
    identity: Identity,
    head: Fingerprint,
}

impl Marker {
    pub(super) fn new(part: Arc<str>, name: Arc<str>, identity: Identity, head: &Head) -> Self {
        Self { part, name, identity, head: head.fingerprint() }
    }

    /// Makes the positions of a file that was not opened yet.
    pub(super) fn of_new(identity: Identity, name: &Arc<str>) -> Self {
        Self::new(identity.part(name).into(), Arc::clone(name), identity, &Head::default())
    }

    pub(super) fn part(&self) -> &str {
        &self.part
    }

    /// Returns the position of a place.
    pub(super) fn position(&self, place: &Place) -> Position {
        let &Place { offset, line, records, open, .. } = place;
        let at = At {
            path: self.name.as_ref().to_owned(),
            offset,
            line,
            records: (records > 0).then_some(records),
            open,
            file: self.identity,
            head: self.head.clone(),
        };
        let at = serde_json::to_value(at).unwrap_or(Value::Null);
        Position { part: Arc::clone(&self.part), at }
    }

    /// Returns where the reading of the file stands at a place.
    pub(super) fn saved(self, place: Place) -> Saved {
        let Self { part, name, identity, head } = self;
        Saved { part, name, identity, head, place }
    }
}
