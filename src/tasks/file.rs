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
//! With `follow: true` it never ends: it looks again and again for what was appended, and for files that appear. A line waits
//! for its end. `docs/language.md` says what becomes of the lines of a file that is renamed, truncated or deleted. Documents
//! and pipes cannot be followed.
//!
//! With `trace_context: trust` an event continues the trace that its record names, with `link` it is linked to it: in
//! the members `traceparent`, `tracestate` and `baggage` of a record of `jsonl` or `json`.
//!
//! Telemetry: the span has `file.path` and `file.offset`, the two parts of the event's id, and
//! `flowgen.record.size`, the bytes of the record without the line's end.

mod beside;
mod find;
mod follow;
mod identity;
mod opened;
mod plan;
mod position;
mod reader;

use schemars::JsonSchema;
use serde::Deserialize;

use self::{
    find::{Names, check_followed, find},
    follow::Follower,
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
    /// Whether it goes on at the end of a file with what is written to it later, and with files that appear later.
    #[serde(default)]
    follow: bool,
    /// Where it begins with the files that are there at the first start, if it follows them. Later ones it reads from their
    /// beginning.
    #[serde(default)]
    start_at: StartAt,
    /// The longest record; a longer one fails.
    #[serde(default = "format::max_line_bytes")]
    max_line_bytes: ByteSize,
    /// What becomes of the members `traceparent`, `tracestate` and `baggage` of a record that is a JSON object. By default
    /// `ignore`.
    #[serde(default)]
    trace_context: TraceContextMode,
}

/// Where a source begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum StartAt {
    /// With the first record.
    #[default]
    Beginning,
    /// With what is written from now on.
    End,
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
        if config.follow && config.format == InputFormat::Json {
            problems
                .report(
                    "follow",
                    "a document (`json`) cannot be followed: there is no telling when it is whole",
                )
                .hint("write one value a line, which is `jsonl`");
        }
        if config.start_at == StartAt::End && !config.follow {
            problems
                .report("start_at", "`start_at: end` leaves nothing to read without `follow: true`")
                .hint("add `follow: true`");
        }
    }

    async fn build(config: &Config, context: &BuildContext) -> Result<Task, BuildError> {
        let decoding = Decoding {
            format: config.format,
            limit: config.max_line_bytes.0,
            trace_context: config.trace_context,
        };
        let (path, context) = (config.path.clone(), context.clone());
        if config.follow {
            let names = blocking(move || {
                let names = Names::new(&path, &context)?;
                check_followed(&names).map(|()| names)
            });
            let (names, is_from_end) = (names.await?, config.start_at == StartAt::End);
            let (open_files, pause) = (follow::OPEN_FILES, follow::pause());
            return Ok(Task::Source(Box::new(Follower { names, decoding, is_from_end, open_files, pause })));
        }
        let base_dir = context.base_dir.clone();
        let inputs = blocking(move || find(&Names::new(&path, &context)?)).await?;
        Ok(Task::Source(Box::new(Reader { inputs, base_dir, decoding })))
    }
}

/// Does what blocks as disks do.
async fn blocking<R: Send + 'static>(
    work: impl FnOnce() -> Result<R, BuildError> + Send + 'static,
) -> Result<R, BuildError> {
    spawn_blocking(work)
        .await
        .map_err(|error| BuildError::new("looking for files was cut short").with_source(error))?
}

#[cfg(test)]
mod tests;
