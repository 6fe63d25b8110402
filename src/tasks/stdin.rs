//! `stdin`: reads records from the standard input.
//!
//! ```yaml
//! flow:
//!   name: listen
//!   tasks:
//!     - stdin:
//!         name: lines
//!         format: text
//!     - drop:
//!         name: nowhere
//! ```
//!
//! An event's id is unlike that of any other run; a failure names its line, as `stdin:7`.
//!
//! With `trace_context: trust` an event continues the trace that its record names, with `link` it is linked to it, as in
//! `file`.
//!
//! Telemetry: the span has `flowgen.record.size`, the bytes of the record without the line's end.
//!
//! A thread of its own reads: at the end of the flow it may still wait for input, and nobody waits for
//! it. Only one task of a worker can have the standard input.

use std::{io, sync::Arc};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    event::Input,
    format::{self, Blocks, ByteSize, Decoder, InputFormat, Origin, Reading},
    problem::Problems,
    shutdown::Stop,
    task::{BuildContext, BuildError, Emitter, Kind, Needs, Role, Source, Task, TaskError, TraceContextMode},
};

/// The `stdin` kind.
pub(super) struct Stdin;

/// How to read.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
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

impl Kind for Stdin {
    const NAME: &'static str = "stdin";
    const ROLE: Role = Role::Source;
    const SUMMARY: &'static str = "reads records from the standard input";
    const ERROR_TYPES: &'static [&'static str] = &[format::PARSE, format::IO];
    type Config = Config;

    fn check(config: &Config, problems: &mut Problems) {
        config.max_line_bytes.check_limit("max_line_bytes", problems);
        config.format.check_trace_context(config.trace_context, problems);
    }

    fn needs(_: &Config) -> Needs {
        Needs { stdin: true, ..Needs::default() }
    }

    async fn build(config: &Config, _: &BuildContext) -> Result<Task, BuildError> {
        Ok(Task::Source(Box::new(Reader(*config))))
    }
}

struct Reader(Config);

#[async_trait]
impl Source for Reader {
    async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError> {
        // The lock would be held for good by a read that never returns; one read at a time needs none.
        let blocks = Blocks::read(|| Ok(io::stdin()))
            .map_err(|error| format::io_error("cannot start a thread", error))?;
        let decoder = Decoder::new(self.0.format, self.0.max_line_bytes.0);
        let origin = Origin::Stream(Arc::new(Input::new(Stdin::NAME)));
        let reading = Reading::new(&origin, blocks, decoder, self.0.trace_context);
        // There is no going on in an input that is there once.
        format::feed(reading, emitter, &stop, |_, _| {}).await.map(drop)
    }
}
