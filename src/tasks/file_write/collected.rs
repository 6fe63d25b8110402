//! The lines that wait to be written, by the file that they are for.

use std::{collections::HashMap, path::Path, sync::Arc};

use super::{
    files::{self, Write},
    open_file::Refused,
};
use crate::{
    event::Event,
    format::{self, Encoder},
    task::{ErrorClass, Output, TaskError},
};

/// What became of each file's lines.
pub(super) type Written = Vec<(Write, Result<(), Refused>)>;

/// The lines that wait to be written.
#[derive(Default)]
pub(super) struct Collected {
    files: Vec<Lines>,
    /// The place in `files` of each path, as the template gives it.
    places: HashMap<Arc<str>, usize>,
    /// How many events this batch has so far.
    pub(super) events: usize,
    /// The write that is under way was given up on: if it fails it is not tried again.
    pub(super) is_given_up: bool,
}

/// Those of one file.
struct Lines {
    path: Arc<Path>,
    encoder: Encoder,
    bytes: Vec<u8>,
    /// The events that they are of, by their place in the batch.
    events: Vec<usize>,
    /// The file turned out to have other columns: it must be looked at before more lines are made for it.
    is_stale: bool,
}

impl Collected {
    /// Returns the place of a path whose lines may be made at once.
    pub(super) fn find(&self, path: &str) -> Option<usize> {
        self.places.get(path).copied().filter(|place| !self.files[*place].is_stale)
    }

    /// Takes in a file that was opened, and returns its place.
    pub(super) fn add(&mut self, path: &str, resolved: Arc<Path>, encoder: Encoder) -> usize {
        if let Some(&place) = self.places.get(path) {
            let lines = &mut self.files[place];
            lines.is_stale = false;
            // Rows that wait are of the columns that they were made for.
            if lines.bytes.is_empty() {
                lines.encoder = encoder;
            }
            return place;
        }
        let lines = Lines { path: resolved, encoder, bytes: Vec::new(), events: Vec::new(), is_stale: false };
        self.files.push(lines);
        self.places.insert(path.into(), self.files.len() - 1);
        self.files.len() - 1
    }

    pub(super) fn encode(
        &mut self,
        place: usize,
        event: &Event,
        output: &mut Output,
    ) -> Result<(), TaskError> {
        let Lines { encoder, bytes, events, .. } = &mut self.files[place];
        let before = bytes.len();
        encoder.encode(&event.data, bytes)?;
        if let Some(span) = output.span() {
            span.set(format::RECORD_SIZE, bytes.len() - before);
        }
        events.push(self.events);
        self.events += 1;
        output.forward();
        Ok(())
    }

    pub(super) fn take(&mut self) -> Vec<Write> {
        let filled = self.files.iter_mut().enumerate().filter(|(_, lines)| !lines.bytes.is_empty());
        filled
            .map(|(place, lines)| Write {
                place,
                events: std::mem::take(&mut lines.events),
                path: Arc::clone(&lines.path),
                header: lines.encoder.header().to_vec(),
                lines: std::mem::take(&mut lines.bytes),
            })
            .collect()
    }

    /// Takes buffers back: to be written again, or for their memory. Returns the events that failed.
    pub(super) fn conclude(&mut self, written: Written, is_given_up: bool) -> Vec<(usize, TaskError)> {
        let mut failed = Vec::new();
        for (mut write, result) in written {
            let lines = &mut self.files[write.place];
            lines.is_stale |= matches!(result, Err(Refused::OtherColumns));
            let error = result.err().map(|refused| refused.into_error(&write.path));
            if let Some(error) = &error {
                failed.extend(write.events.iter().map(|event| (*event, error.clone())));
            }
            if is_given_up || error.is_none_or(|error| error.class() != ErrorClass::Transient) {
                write.lines.clear();
                write.events.clear();
            }
            write.lines.extend_from_slice(&lines.bytes);
            write.events.extend_from_slice(&lines.events);
            (lines.bytes, lines.events) = (write.lines, write.events);
        }
        // A place is valid until here: none is in use when all is written.
        if self.files.len() > files::OPEN_FILES && self.files.iter().all(|file| file.bytes.is_empty()) {
            self.files.clear();
            self.places.clear();
        }
        failed
    }

    /// Drops what waits. A write that is under way is given up on.
    pub(super) fn forget(&mut self, is_under_way: bool) {
        for lines in &mut self.files {
            lines.bytes.clear();
            lines.events.clear();
        }
        self.events = 0;
        self.is_given_up = is_under_way;
    }
}
