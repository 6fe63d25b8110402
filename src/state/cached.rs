//! What a cache holds, in the order in which it changed.

use jiff::Timestamp;
use redb::TableDefinition;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{
    State, StateError,
    store::{Change, Table},
    writer::Done,
};

/// The values by their key.
const CACHE: Table = TableDefinition::new("cache");

/// A value that a cache holds.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
pub struct Cached {
    /// The value.
    pub value: Value,
    /// From when on it is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<Timestamp>,
}

impl State {
    /// Keeps the value of a key, or that there is none, and calls `done` when that is on the disk. What is handed over later
    /// is there later.
    pub fn keep_cached(&self, key: &str, cached: Option<&Cached>, done: Done) {
        match cached.map(serde_json::to_vec).transpose() {
            Ok(value) => self.submit(vec![Change::new(CACHE, key.as_bytes().to_vec(), value)], done),
            Err(error) => done(Err(StateError::because("a value cannot be kept", error))),
        }
    }

    /// Calls `each` with every key and its value. Blocks as disks do.
    ///
    /// # Errors
    /// The state cannot be read, or an entry is none.
    pub fn cached(&self, mut each: impl FnMut(&str, Cached)) -> Result<(), StateError> {
        self.read(CACHE, &[], |key, value| {
            let broken = "what the cache held cannot be read";
            let key = str::from_utf8(key).map_err(|error| StateError::because(broken, error))?;
            each(key, serde_json::from_slice(value).map_err(|error| StateError::because(broken, error))?);
            Ok(())
        })
    }
}
