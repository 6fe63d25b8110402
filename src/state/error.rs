//! Why the state cannot be had, or something cannot be kept.

use std::{error::Error, sync::Arc};

/// Why the state cannot be had, or something cannot be kept. `Display` never includes the source's text.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{message}")]
pub struct StateError {
    message: String,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl StateError {
    pub(super) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), source: None }
    }

    /// Makes one that something else caused.
    pub fn because(message: impl Into<String>, source: impl Into<Box<dyn Error + Send + Sync>>) -> Self {
        Self { message: message.into(), source: Some(Arc::from(source.into())) }
    }
}
