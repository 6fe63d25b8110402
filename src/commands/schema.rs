//! `flowgen schema`: the JSON Schema of a file, for editors.

use std::process::ExitCode;

use super::print_json;
use crate::{config, tasks};

/// Prints the schema.
pub(crate) fn execute() -> ExitCode {
    print_json(&config::document(tasks::registry()))
}
