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
//! source begins anew behind its last record, as after a panic. It leaves out the files before that one and the records
//! up to that one. If it is not there any more, because the file is shorter, another or gone, the flow ends with an error.
//! A pipe cannot be read again.
//!
//! With `trace_context: trust` an event continues the trace that its record names, with `link` it is linked to it: in
//! the members `traceparent`, `tracestate` and `baggage` of a record of `jsonl` or `json`.
//!
//! Telemetry: the span has `file.path` and `file.offset`, the two parts of the event's id, and
//! `flowgen.record.size`, the bytes of the record without the line's end.

use std::{
    fs::{self, File as Handle},
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    event::EventId,
    format::{self, Blocks, ByteSize, Decoder, InputFormat, Origin},
    problem::Problems,
    shutdown::Stop,
    task::{BuildContext, BuildError, Emitter, Extent, Kind, Role, Source, Task, TaskError, TraceContextMode},
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

/// The files that were found, as they were then.
struct Reader {
    inputs: Vec<Input>,
    format: InputFormat,
    limit: usize,
    trace_context: TraceContextMode,
}

struct Input {
    /// As the flow names it.
    name: Arc<str>,
    path: PathBuf,
    /// `None` for what has no length: a pipe, a device.
    bytes: Option<u64>,
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
        let (path, context) = (config.path.clone(), context.clone());
        let inputs = spawn_blocking(move || find(&path, &context))
            .await
            .map_err(|error| BuildError::new("looking for files was cut short").with_source(error))??;
        Ok(Task::Source(Box::new(Reader {
            inputs,
            format: config.format,
            limit: config.max_line_bytes.0,
            trace_context: config.trace_context,
        })))
    }
}

#[async_trait]
impl Source for Reader {
    async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError> {
        let mut resumed = resumed(emitter)?;
        let is_there = |name: &str| self.inputs.iter().any(|input| *input.name == *name);
        if let Some((name, _)) = resumed.as_ref().filter(|(name, _)| !is_there(name)) {
            let message = format!("`{name}` is gone: there is no going on behind what was read of it");
            return Err(TaskError::permanent(format::IO, message));
        }
        for Input { name, path, .. } in self.inputs {
            if stop.is_stopped() {
                break;
            }
            let behind = match resumed.take_if(|(last, _)| *last == name) {
                Some((_, offset)) => Some(offset),
                None if resumed.is_some() => continue,
                None => None,
            };
            let blocks = Blocks::read(move || Handle::open(path))
                .map_err(|error| format::io_error("cannot start a thread", error))?;
            let decoder = Decoder::new(self.format, self.limit);
            format::feed(&Origin::File(name), blocks, decoder, self.trace_context, behind, emitter, &stop).await?;
        }
        Ok(())
    }

    /// A pipe cannot be read again.
    fn can_resume(&self) -> bool {
        self.inputs.iter().all(|input| input.bytes.is_some())
    }

    fn extent(&self) -> Option<Extent> {
        self.inputs.iter().map(|input| input.bytes).sum::<Option<u64>>().map(Extent::Bytes)
    }
}

/// Returns the file and the offset of the last record of the source before this one, if there was one.
fn resumed(emitter: &Emitter) -> Result<Option<(Arc<str>, u64)>, TaskError> {
    match emitter.resumes_after() {
        None => Ok(None),
        Some(EventId::Position { path, offset, .. }) => Ok(Some((path, offset))),
        Some(_) => Err(TaskError::permanent(format::IO, "the last event was none of a file")),
    }
}

/// Finds the files of a path or pattern, and makes sure that they can be read. Blocks as disks do.
fn find(path: &str, context: &BuildContext) -> Result<Vec<Input>, BuildError> {
    let plain = context.resolve(path);
    let is_pattern = path.contains(['*', '?', '[']) && !plain.exists();
    if !is_pattern {
        return Ok(vec![input(path.into(), plain)?]);
    }
    glob::Pattern::new(path)
        .map_err(|error| BuildError::new(format!("`{path}` is neither a file nor a pattern")).with_source(error))?;
    let cannot = || format!("cannot look for `{path}`");
    let base = glob::Pattern::escape(&context.base_dir.to_string_lossy());
    let pattern = Path::new(&base).join(path);
    let matches = glob::glob(&pattern.to_string_lossy())
        .map_err(|error| BuildError::new(cannot()).with_source(error))?;
    let mut inputs = Vec::new();
    for found in matches {
        let found = found.map_err(|error| BuildError::new(cannot()).with_source(error))?;
        if !found.is_dir() {
            let name = found.strip_prefix(&context.base_dir).unwrap_or(&found).to_string_lossy();
            inputs.push(input(name.into(), found)?);
        }
    }
    if inputs.is_empty() {
        return Err(BuildError::new(format!("no file matches `{path}`")));
    }
    inputs.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(inputs)
}

/// Looks at one file. Only a regular one is opened here: opening a pipe waits for its writer, and closing
/// it again would take the reader from under that one.
fn input(name: Arc<str>, path: PathBuf) -> Result<Input, BuildError> {
    let cannot = |error| BuildError::new(format!("cannot open `{name}`")).with_source(error);
    let metadata = fs::metadata(&path).map_err(cannot)?;
    if metadata.is_dir() {
        return Err(BuildError::new(format!("`{name}` is a directory")));
    }
    if !metadata.is_file() {
        return Ok(Input { name, path, bytes: None });
    }
    Handle::open(&path).map_err(cannot)?;
    Ok(Input { name, path, bytes: Some(metadata.len()) })
}

#[cfg(test)]
mod tests;
