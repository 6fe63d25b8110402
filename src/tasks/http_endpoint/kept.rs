//! The outputs of an event, kept until its answer is made of them, as long as they take no more memory than they may.

use std::{
    io::{self, Write},
    mem,
};

use bytes::Bytes;

use crate::event::{Event, EventId, Meta, Payload, weight};

/// How large data is made text at once, where it was made: it costs less than to hand a tree to another thread.
const SMALL: usize = 4 << 10;

/// What an event has become at a leaf.
#[derive(Debug)]
pub(super) struct Output {
    task: usize,
    id: EventId,
    pub(super) data: Data,
    pub(super) meta: Meta,
}

/// What a task has put out.
#[derive(Debug)]
pub(super) enum Data {
    /// A text of JSON.
    Json(Bytes),
    /// What is large, has come as a text, or is none.
    Other(Payload),
}

impl Data {
    fn of(data: &Payload) -> Self {
        if data.text().is_none()
            && let Some(value) = data.json()
        {
            let mut text = Text(Vec::with_capacity(128));
            if serde_json::to_writer(&mut text, value).is_ok() {
                return Self::Json(text.0.into());
            }
        }
        // The text alone, if there is one: of a tree that somebody makes of it nothing is kept.
        Self::Other(data.original())
    }

    fn weight(&self) -> usize {
        match self {
            Self::Json(text) => text.len(),
            Self::Other(data) => weight::of_payload(data),
        }
    }
}

/// A text that is small.
struct Text(Vec<u8>);

impl Write for Text {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.len() > SMALL - self.0.len() {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Outputs that take more memory than they may: there is none any more.
#[derive(Debug)]
pub(super) struct TooLarge {
    /// How many bytes they may take.
    pub(super) limit: usize,
}

/// Outputs.
#[derive(Debug)]
pub(super) struct Kept {
    outputs: Vec<Output>,
    bytes: usize,
    limit: usize,
    is_too_large: bool,
}

impl Kept {
    /// Keeps outputs that take so many bytes at most.
    pub(super) fn new(limit: usize) -> Self {
        Self { outputs: Vec::new(), bytes: 0, limit, is_too_large: false }
    }

    /// Keeps what the task of this index has put out, unless it is too much with what was kept before.
    pub(super) fn push(&mut self, task: usize, event: &Event) {
        if self.is_too_large {
            return;
        }
        let (data, meta) = (Data::of(&event.data), event.meta.clone());
        let bytes = lineage_size(&event.id) + data.weight() + weight::of_meta(&meta);
        // A list that grows has room for twice as many.
        self.bytes = self.bytes.saturating_add(2 * size_of::<Output>() + bytes);
        if self.bytes > self.limit {
            self.is_too_large = true;
            self.outputs = Vec::new();
            return;
        }
        self.outputs.push(Output { task, id: event.id.clone(), data, meta });
    }

    /// Takes the outputs, in the order of their ids and tasks.
    pub(super) fn take(&mut self) -> Result<Vec<Output>, TooLarge> {
        if self.is_too_large {
            return Err(TooLarge { limit: self.limit });
        }
        let mut outputs = mem::take(&mut self.outputs);
        if outputs.len() > 1 {
            outputs.sort_by_cached_key(|output| (lineage(&output.id), output.task));
        }
        Ok(outputs)
    }
}

/// Returns how many bytes the last part of an id takes; those before it are shared.
fn lineage_size(id: &EventId) -> usize {
    if let EventId::Child(child) = id { size_of_val(&**child) } else { 0 }
}

/// Returns from which output of which output an event was derived, the first one first.
fn lineage(id: &EventId) -> Vec<usize> {
    let mut lineage = Vec::new();
    let mut id = id;
    while let EventId::Child(child) = id {
        lineage.push(child.1);
        id = &child.0;
    }
    lineage.reverse();
    lineage
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Map, json};

    use super::*;

    /// Returns how many bytes an allocator would have been asked for at the least.
    fn least(output: &Output) -> usize {
        let data = match &output.data {
            Data::Json(text) => text.len(),
            Data::Other(data) => data.json().unwrap().to_string().len(),
        };
        size_of::<Output>() + data
    }

    proptest! {
        /// Scenario: any outputs and any limit. Guarantee: all of them are kept, or none, and never more than the limit.
        #[test]
        fn what_is_kept_is_never_more_than_may_be(limit in 0..4000_usize, sizes in prop::collection::vec(0..700_usize, 0..12)) {
            let mut kept = Kept::new(limit);
            let root = EventId::Sequence(1);
            for (n, size) in sizes.iter().enumerate() {
                let mut event = Event::new(root.child(n), "in".into(), json!("x".repeat(*size)).into());
                event.meta = Meta::new(Map::from_iter([("k".to_owned(), json!("y".repeat(*size)))]));
                kept.push(n, &event);
                prop_assert!(kept.outputs.iter().map(least).sum::<usize>() <= limit);
            }
            let known = sizes.len();
            match kept.take() {
                Ok(outputs) => prop_assert_eq!(outputs.len(), known),
                Err(TooLarge { limit: told }) => {
                    prop_assert_eq!(told, limit);
                    prop_assert!(sizes.iter().map(|size| 2 * size + 600).sum::<usize>() > limit, "they would have fit");
                }
            }
        }
    }
}
