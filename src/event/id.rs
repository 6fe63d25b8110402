//! Event ids: deterministic where the source is, and free of allocation on the hot path.

use std::{fmt, sync::Arc};

use uuid::Uuid;

/// Identifies an event. [`fmt::Display`] gives the public form, named with each variant.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum EventId {
    /// `<n>`: the sequence number of a generator, from 0.
    Sequence(u64),
    /// `<path>:<offset>`: a record of a file, by the byte offset of its first byte.
    Position {
        /// The file as its flow names it.
        path: Arc<str>,
        /// Bytes before the record.
        offset: u64,
        /// The record's line, from 1, for people; saturates.
        line: u32,
    },
    /// `<uuid>:<offset>`: a record of an input that is not there a second time, such as a pipe.
    Stream {
        /// Which input it is.
        input: Arc<Input>,
        /// Bytes before the record.
        offset: u64,
        /// The record's line, from 1, for people; saturates.
        line: u32,
    },
    /// A source's own message id.
    Text(Arc<str>),
    /// A random but time-ordered id (UUIDv7), where a source has none of its own.
    Unique(Uuid),
    /// `<parent>-<index>`: one of several outputs of one event.
    Child(Arc<(EventId, usize)>),
}

/// An input of one run, which no other run sees again.
#[derive(Debug, PartialEq, Eq, Hash)]
pub struct Input {
    name: Arc<str>,
    /// UUIDv7: what sets it apart from those of the same name.
    id: Uuid,
}

impl Input {
    /// Makes an input that people know by `name`.
    pub fn new(name: &str) -> Self {
        Self { name: name.into(), id: Uuid::now_v7() }
    }

    /// Returns what people know it by.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl EventId {
    /// Makes an id for a source that has none of its own.
    pub fn unique() -> Self {
        Self::Unique(Uuid::now_v7())
    }

    /// Returns the id of the `index`-th output derived from this event.
    pub fn child(&self, index: usize) -> Self {
        Self::Child(Arc::new((self.clone(), index)))
    }

    /// Returns how often it was derived from another id; saturates.
    pub fn depth(&self) -> u16 {
        match self {
            Self::Child(child) => child.0.depth().saturating_add(1),
            _ => 0,
        }
    }

    /// Returns the id that it was derived from which was itself derived `depth` times; itself if it was not more often.
    pub fn ancestor(&self, depth: u16) -> &Self {
        match self {
            Self::Child(child) if self.depth() > depth => child.0.ancestor(depth),
            _ => self,
        }
    }

    /// Returns whether it is `other`, or was derived from it.
    pub fn is_from(&self, other: &Self) -> bool {
        self.ancestor(other.depth()) == other
    }

    /// Returns where a person finds the record: `path` and line.
    pub fn position(&self) -> Option<(&str, u32)> {
        match self {
            Self::Position { path, line, .. } => Some((path, *line)),
            Self::Stream { input, line, .. } => Some((&input.name, *line)),
            Self::Child(child) => child.0.position(),
            _ => None,
        }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sequence(n) => write!(f, "{n}"),
            Self::Position { path, offset, .. } => write!(f, "{path}:{offset}"),
            Self::Stream { input, offset, .. } => write!(f, "{}:{offset}", input.id),
            Self::Text(text) => f.write_str(text),
            Self::Unique(uuid) => write!(f, "{uuid}"),
            Self::Child(child) => write!(f, "{}-{}", child.0, child.1),
        }
    }
}
