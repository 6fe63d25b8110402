//! `stdout`: writes events to the standard output, one a line.
//!
//! ```yaml
//! flow:
//!   name: print
//!   tasks:
//!     - generate:
//!         name: numbers
//!         count: 3
//!         payload: {hello: world}
//!     - stdout:
//!         name: out
//! ```
//!
//! Whole lines of one batch are written at once, so that those of several tasks do not mix. An event is
//! done once the kernel has it. The flow ends quietly when the reader goes away.
//!
//! Telemetry: the span has `flowgen.record.size`, the bytes of the event's line or row with its end.

mod writer;

use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;

use self::writer::{Writer, Writing, Written};
use crate::{
    event::Event,
    format::{self, Encoder, OutputFormat},
    task::{
        BuildContext, BuildError, ErrorClass, FlushError, Kind, Output, Processor, Role, Task, TaskError,
    },
};

/// The `stdout` kind.
pub(super) struct Stdout;

/// How to write.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// How events become lines.
    #[serde(default)]
    format: OutputFormat,
}

impl Kind for Stdout {
    const NAME: &'static str = "stdout";
    const ROLE: Role = Role::Processor;
    const SUMMARY: &'static str = "writes events to the standard output, one a line";
    const ERROR_TYPES: &'static [&'static str] = &[format::ENCODE, format::IO, format::STORAGE_FULL];
    const IS_SERIAL: bool = true;
    type Config = Config;

    async fn build(config: &Config, _: &BuildContext) -> Result<Task, BuildError> {
        let writer = Writer::stdout()
            .map_err(|error| BuildError::new("cannot write to the standard output").with_source(error))?;
        Ok(Task::Processor(Box::new(Printer::new(config.format, writer))))
    }
}

/// Collects lines and has them written.
struct Printer {
    collected: Mutex<Collected>,
    /// The write that is under way. It stays here if whoever waits for it gives up waiting.
    writing: tokio::sync::Mutex<Option<Writing>>,
    writer: Writer,
}

struct Collected {
    encoder: Encoder,
    lines: Vec<u8>,
    is_header_written: bool,
    /// How many bytes in front stay when the rest is forgotten: a header, the end of a torn line.
    kept: usize,
    /// The write that is under way was given up on: what it cannot write is not collected again.
    is_given_up: bool,
}

impl Printer {
    fn new(format: OutputFormat, writer: Writer) -> Self {
        Self {
            collected: Mutex::new(Collected {
                encoder: Encoder::new(format),
                lines: Vec::new(),
                is_header_written: false,
                kept: 0,
                is_given_up: false,
            }),
            writing: tokio::sync::Mutex::new(None),
            writer,
        }
    }

    fn collected(&self) -> MutexGuard<'_, Collected> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for the write that is under way. What it could not write is collected again, in front.
    async fn settle(&self, writing: &mut Option<Writing>) -> Result<(), TaskError> {
        let Some(current) = writing else { return Ok(()) };
        let written = current.finished().await;
        *writing = None;
        let mut collected = self.collected();
        let is_given_up = std::mem::take(&mut collected.is_given_up);
        let cannot = "cannot write to the standard output";
        let error = match written {
            Ok(Written { result: Ok(()), rest, .. }) => {
                collected.kept = 0;
                if collected.lines.capacity() == 0 {
                    collected.lines = rest;
                }
                return Ok(());
            }
            Ok(Written { result: Err(error), rest, count, torn }) => {
                collected.kept = collected.kept.saturating_sub(count).max(torn);
                let newer = std::mem::replace(&mut collected.lines, rest);
                if is_given_up {
                    let kept = collected.kept;
                    collected.lines.truncate(kept);
                }
                collected.lines.extend_from_slice(&newer);
                format::io_error(cannot, error)
            }
            // The lines are gone with the thread, so there is nothing to try again.
            Err(error) => TaskError::permanent(format::IO, cannot).with_source(error),
        };
        // The events of what was given up on have failed already: what comes now is of others.
        if is_given_up && error.class() != ErrorClass::Closed { Ok(()) } else { Err(error) }
    }
}

impl Collected {
    /// Takes the lines out, the first time with the header.
    fn take(&mut self) -> Vec<u8> {
        let lines = std::mem::take(&mut self.lines);
        let header = self.encoder.header();
        if self.is_header_written || header.is_empty() {
            return lines;
        }
        self.is_header_written = true;
        self.kept = header.len();
        [header, &lines].concat()
    }
}

#[async_trait]
impl Processor for Printer {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        let Collected { encoder, lines, .. } = &mut *self.collected();
        let before = lines.len();
        encoder.encode(&event.data, lines)?;
        if let Some(span) = output.span() {
            span.set(format::RECORD_SIZE, lines.len() - before);
        }
        output.forward();
        Ok(())
    }

    fn is_buffered(&self) -> bool {
        true
    }

    async fn flush(&self) -> Result<(), FlushError> {
        let mut writing = self.writing.lock().await;
        self.settle(&mut writing).await?;
        if self.collected().lines.is_empty() {
            return Ok(());
        }
        let turn = self.writer.ready().await;
        *writing = Some(turn.write(self.collected().take()));
        Ok(self.settle(&mut writing).await?)
    }

    fn forget(&self) {
        let is_under_way = self.writing.try_lock().is_ok_and(|writing| writing.is_some());
        let mut collected = self.collected();
        let kept = if is_under_way { 0 } else { collected.kept };
        collected.lines.truncate(kept);
        collected.is_given_up = is_under_way;
    }
}

#[cfg(test)]
mod tests;
