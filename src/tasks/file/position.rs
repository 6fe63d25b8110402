//! Where the reading of a file stands, in the form that outlives the process.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::identity::{Fingerprint, Head, Identity};
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
}

/// Makes the positions of one file.
#[derive(Debug)]
pub(super) struct Marker {
    part: Arc<str>,
    name: Arc<str>,
    identity: Identity,
    head: Head,
    /// The last fingerprint that was made, and how many bytes it is of.
    made: Option<(usize, Fingerprint)>,
}

impl Marker {
    pub(super) fn new(part: Arc<str>, name: Arc<str>, identity: Identity, head: Head) -> Self {
        Self { part, name, identity, head, made: None }
    }

    pub(super) fn part(&self) -> &str {
        &self.part
    }

    /// Returns the position of a place.
    pub(super) fn position(&mut self, place: &Place) -> Position {
        let &Place { offset, line, records, open, .. } = place;
        // Of lines only what was read is sure to stay. A document does not grow.
        let sure = if records > 0 { u64::MAX } else { open.unwrap_or(offset) };
        let at = At {
            path: self.name.as_ref().to_owned(),
            offset,
            line,
            records: (records > 0).then_some(records),
            open,
            file: self.identity,
            head: self.fingerprint(sure),
        };
        let at = serde_json::to_value(at).unwrap_or(Value::Null);
        Position { part: Arc::clone(&self.part), at }
    }

    fn fingerprint(&mut self, bytes: u64) -> Fingerprint {
        let covered = self.head.covered(bytes);
        match &self.made {
            Some((made, fingerprint)) if *made == covered => fingerprint.clone(),
            _ => {
                let fingerprint = self.head.fingerprint(bytes);
                self.made = Some((covered, fingerprint.clone()));
                fingerprint
            }
        }
    }
}
