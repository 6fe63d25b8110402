//! What one run of a script may use up.

use schemars::JsonSchema;
use serde::Deserialize;

/// What one run of a script may use up; a script that exceeds a limit fails its event.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Operations; 10 million are about a second of CPU.
    pub max_operations: u64,
    /// Function calls within one another.
    pub max_call_depth: usize,
    /// Bytes of a string.
    pub max_string_size: usize,
    /// Elements of an array.
    pub max_array_size: usize,
    /// Entries of a map.
    pub max_map_size: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_operations: 10_000_000,
            max_call_depth: 64,
            max_string_size: 16 * 1024 * 1024,
            max_array_size: 100_000,
            max_map_size: 100_000,
        }
    }
}
