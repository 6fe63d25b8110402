//! What one run of a script may use up.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::problem::Problems;

/// What one run of a script may use up; a script that exceeds a limit fails its event.
///
/// None can be switched off: the engine takes 0 for "no limit", so 0 is refused.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Operations, at least 1; 10 million are about a second of CPU.
    #[schemars(range(min = 1))]
    pub max_operations: u64,
    /// Function calls within one another, at least 1. Calls that need more stack than there is are over
    /// the limit however high it is.
    #[schemars(range(min = 1))]
    pub max_call_depth: usize,
    /// Bytes of a string, at least 1.
    #[schemars(range(min = 1))]
    pub max_string_size: usize,
    /// Elements of an array with all that is in it, at least 1.
    #[schemars(range(min = 1))]
    pub max_array_size: usize,
    /// Entries of a map with all that is in it, at least 1.
    #[schemars(range(min = 1))]
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

impl Limits {
    /// Reports what cannot be a limit below the dotted `path`.
    pub fn check(&self, path: &str, problems: &mut Problems) {
        let Self { max_operations, max_call_depth, max_string_size, max_array_size, max_map_size } = *self;
        for (name, is_zero) in [
            ("max_operations", max_operations == 0),
            ("max_call_depth", max_call_depth == 0),
            ("max_string_size", max_string_size == 0),
            ("max_array_size", max_array_size == 0),
            ("max_map_size", max_map_size == 0),
        ] {
            if is_zero {
                problems
                    .report(&format!("{path}.{name}"), format!("`{name}` has to be at least 1"))
                    .hint("leave it out for the default");
            }
        }
    }
}
