//! `file`: reads the records of a file, or of all files that a pattern matches.
//!
//! ```yaml
//! flow:
//!   name: read
//!   tasks:
//!     - file:
//!         name: earthquakes
//!         path: examples/data/earthquakes.jsonl
//!     - drop:
//!         name: nowhere
//! ```
//!
//! A record that cannot be read is an event that failed at its position, and reading goes on behind it:
//! in `json` behind the next comma of the array. The files of a pattern are read one after the other, in
//! the order of their names. A file is not locked; what is appended while it is read is read too. A named
//! pipe is opened once, when its turn comes, and read until its writers have gone.
//!
//! A read that fails and may succeed later, of a disk or of a share, is tried again: with `on_task_panic: restart` the
//! source begins anew behind its last record, as after a panic; with state it does so in the next run. It goes on at a byte
//! of each file; only a document (`json`) is read again from its start, and what was let in of it is left out. A pipe cannot
//! be read again.
//!
//! A file is known by its number in the file system, its time of birth and a hash of its first bytes, 1024 at most. What was
//! renamed within its folder is read to its end, right before the file in its place. A file that was replaced, truncated or
//! rewritten while the old content is nowhere is read from its start, and a warning says so. A last line without its end is
//! a record; if it has grown when it is read again, it comes again as a whole.
//!
//! With `trace_context: trust` an event continues the trace that its record names, with `link` it is linked to it: in
//! the members `traceparent`, `tracestate` and `baggage` of a record of `jsonl` or `json`.
//!
//! Telemetry: the span has `file.path` and `file.offset`, the two parts of the event's id, and
//! `flowgen.record.size`, the bytes of the record without the line's end.

mod find;
mod identity;
mod opened;
mod plan;
mod position;
mod reader;

use schemars::JsonSchema;
use serde::Deserialize;

use self::{
    find::find,
    reader::{Decoding, Reader},
};
use crate::{
    format::{self, ByteSize, InputFormat},
    problem::Problems,
    task::{BuildContext, BuildError, Kind, Role, Task, TraceContextMode},
    telemetry::spawn_blocking,
};

/// The `file` kind.
pub(super) struct File;

/// What to read.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The file, or a pattern with `*`, `?`, `[..]` or `**`; relative to the flow's file.
    path: String,
    /// How the bytes become records.
    #[serde(default)]
    format: InputFormat,
    /// The longest record; a longer one fails.
    #[serde(default = "format::max_line_bytes")]
    max_line_bytes: ByteSize,
    /// What becomes of the members `traceparent`, `tracestate` and `baggage` of a record that is a JSON object. By default
    /// `ignore`.
    #[serde(default)]
    trace_context: TraceContextMode,
}

impl Kind for File {
    const NAME: &'static str = "file";
    const ROLE: Role = Role::Source;
    const SUMMARY: &'static str = "reads the records of files";
    const ERROR_TYPES: &'static [&'static str] = &[format::PARSE, format::IO];
    type Config = Config;

    fn check(config: &Config, problems: &mut Problems) {
        if config.path.is_empty() {
            problems.report("path", "the path is empty");
        }
        // Whether it is a usable pattern is for `find`: there may be a file of that very name.
        config.max_line_bytes.check_limit("max_line_bytes", problems);
        config.format.check_trace_context(config.trace_context, problems);
    }

    async fn build(config: &Config, context: &BuildContext) -> Result<Task, BuildError> {
        let (path, found_in) = (config.path.clone(), context.clone());
        let inputs = spawn_blocking(move || find(&path, &found_in))
            .await
            .map_err(|error| BuildError::new("looking for files was cut short").with_source(error))??;
        let decoding = Decoding {
            format: config.format,
            limit: config.max_line_bytes.0,
            trace_context: config.trace_context,
        };
        Ok(Task::Source(Box::new(Reader { inputs, base_dir: context.base_dir.clone(), decoding })))
    }
}

#[cfg(test)]
mod tests;
