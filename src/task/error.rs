//! Why handling an event failed.

use std::{error::Error, fmt, sync::Arc, time::Duration};

use super::Closed;
use crate::event::Payload;

/// Whether trying again can help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorClass {
    /// It can: the same attempt may succeed later.
    Transient,
    /// It cannot: the same attempt will fail again.
    Permanent,
    /// Whoever reads the output went away. The flow stops quietly.
    Closed,
}

/// Why an attempt at an event failed.
///
/// `Display` says what this layer was doing and never includes the source's text; walk
/// [`Error::source`] for the rest. Clones share the cause: one failure can be that of many events.
#[derive(Clone, Debug)]
pub struct TaskError(Box<Inner>);

#[derive(Clone)]
struct Inner {
    class: ErrorClass,
    error_type: &'static str,
    message: String,
    retry_after: Option<Duration>,
    source: Option<Arc<dyn Error + Send + Sync>>,
    record: Option<Payload>,
}

impl TaskError {
    /// Makes an error that a later attempt may not meet. `error_type` is one of `Kind::ERROR_TYPES`.
    pub fn transient(error_type: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Transient, error_type, message)
    }

    /// Makes an error that every attempt will meet. `error_type` is one of `Kind::ERROR_TYPES`.
    pub fn permanent(error_type: &'static str, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Permanent, error_type, message)
    }

    /// Says that whoever reads the output went away.
    pub fn closed(message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Closed, "closed", message)
    }

    fn new(class: ErrorClass, error_type: &'static str, message: impl Into<String>) -> Self {
        Self(Box::new(Inner {
            class,
            error_type,
            message: message.into(),
            retry_after: None,
            source: None,
            record: None,
        }))
    }

    /// Adds what caused it.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        self.0.source = Some(Arc::from(source.into()));
        self
    }

    /// Adds how long the other side asked to be left alone.
    #[must_use]
    pub fn with_retry_after(mut self, delay: Duration) -> Self {
        self.0.retry_after = Some(delay);
        self
    }

    /// Adds the record as it came in, which could not be decoded: the event's data, if it is passed on.
    #[must_use]
    pub fn with_record(mut self, record: Payload) -> Self {
        self.0.record = Some(record);
        self
    }

    /// Takes the record away, for whoever keeps the error and not the event.
    #[must_use]
    pub fn without_record(mut self) -> Self {
        self.0.record = None;
        self
    }

    /// Returns the record that could not be decoded.
    pub fn record(&self) -> Option<&Payload> {
        self.0.record.as_ref()
    }

    /// Returns whether trying again can help.
    pub fn class(&self) -> ErrorClass {
        self.0.class
    }

    /// Returns the low-cardinality name of the error, `error.type`.
    pub fn error_type(&self) -> &'static str {
        self.0.error_type
    }

    /// Returns how long the other side asked to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        self.0.retry_after
    }
}

/// Shows nothing of the record: it is data.
impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner")
            .field("class", &self.class)
            .field("error_type", &self.error_type)
            .field("message", &self.message)
            .field("retry_after", &self.retry_after)
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for TaskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl Error for TaskError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source.as_deref().map(|source| source as _)
    }
}

impl From<Closed> for TaskError {
    fn from(_: Closed) -> Self {
        Self::closed("the flow no longer takes events")
    }
}
