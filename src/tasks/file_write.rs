//! `file_write`: appends events to files, one a line.
//!
//! ```yaml
//! flow:
//!   name: keep
//!   tasks:
//!     - generate:
//!         name: numbers
//!         count: 3
//!         payload: {hello: world}
//!     - file_write:
//!         name: archive
//!         path: out/{{ event.subject }}.jsonl
//! ```
//!
//! Directories are made as needed. The lines of one batch are written at once: all of them or, after a
//! failure, none, so that another attempt leaves neither a torn line nor one twice. A torn last line, as
//! a crash leaves it, is cut off when the file is opened. An event is done once the kernel has it. A file
//! that was renamed or deleted is made anew within about a second.
//!
//! What event data puts into a path stays below the directory that the template names before it: it can
//! neither go up by `..` nor start at the root.
//!
//! Two tasks may append to one file: their batches do not mix. But the lines of a failed write stay when
//! the other has written behind them.

mod append;
mod files;
mod open_file;

use std::{
    collections::HashMap,
    path::{Component, Path},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::{
    task::JoinHandle,
    time::Instant,
};

use self::files::{Files, Write};
use crate::{
    event::Event,
    format::{self, Encoder, OutputFormat},
    problem::Problems,
    task::{BuildContext, BuildError, ErrorClass, Kind, Output, Processor, Role, Task, TaskError},
    telemetry::spawn_blocking,
    template::{self, Template},
};

/// `error.type` of an event whose data makes no usable path.
const PATH: &str = "path";

/// The `file_write` kind.
pub(super) struct FileWrite;

/// Where to write what.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// The file, a template; relative to the flow's file.
    path: String,
    /// How events become lines.
    #[serde(default)]
    format: OutputFormat,
}

impl Kind for FileWrite {
    const NAME: &'static str = "file_write";
    const ROLE: Role = Role::Processor;
    const SUMMARY: &'static str = "appends events to files, one a line";
    const ERROR_TYPES: &'static [&'static str] =
        &[format::ENCODE, format::IO, format::STORAGE_FULL, template::TEMPLATE, PATH];
    type Config = Config;

    fn check(config: &Config, problems: &mut Problems) {
        if config.path.is_empty() {
            problems.report("path", "the path is empty");
        }
        if let Err(error) = Template::compile(&config.path) {
            error.report("path", problems);
        }
    }

    async fn build(config: &Config, context: &BuildContext) -> Result<Task, BuildError> {
        let (path, format, context) = (config.path.clone(), config.format, context.clone());
        let appender = spawn_blocking(move || Appender::new(&path, format, context))
            .await
            .map_err(|error| BuildError::new("opening files was cut short").with_source(error))??;
        Ok(Task::Processor(Box::new(appender)))
    }
}

/// Collects lines for each file and has them written.
struct Appender {
    template: Template,
    context: BuildContext,
    collected: Mutex<Collected>,
    /// The write that is under way. It stays here if whoever waits for it gives up waiting.
    writing: tokio::sync::Mutex<Option<JoinHandle<Written>>>,
    files: Arc<Mutex<Files>>,
}

type Written = (Vec<Write>, Result<(), TaskError>);

/// The lines that wait to be written.
struct Collected {
    format: OutputFormat,
    files: Vec<Lines>,
    /// The place in `files` of each path, as the template gives it.
    places: HashMap<Arc<str>, usize>,
    /// The write that is under way was given up on: if it fails it is not tried again.
    is_given_up: bool,
}

/// Those of one file.
struct Lines {
    path: Arc<Path>,
    encoder: Encoder,
    bytes: Vec<u8>,
}

impl Appender {
    /// Opens the file, if it is the same for all events. Blocks as disks do.
    fn new(path: &str, format: OutputFormat, context: BuildContext) -> Result<Self, BuildError> {
        let template = Template::compile(path)
            .map_err(|error| BuildError::new("cannot compile `path`").with_source(error))?;
        let mut files = Files::default();
        let mut collected = Collected::new(format);
        if let Some(path) = template.as_constant() {
            let resolved: Arc<Path> = context.resolve(path).into();
            files
                .open(&resolved, Instant::now())
                .map_err(|error| BuildError::new(format!("cannot open `{path}`")).with_source(error))?;
            collected.add(path.into(), resolved);
        }
        Ok(Self {
            template,
            context,
            collected: Mutex::new(collected),
            writing: tokio::sync::Mutex::new(None),
            files: Arc::new(Mutex::new(files)),
        })
    }

    fn collected(&self) -> MutexGuard<'_, Collected> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the file of a path that was not seen lately, so that its failure is that of one event.
    async fn open(&self, path: &str) -> Result<Arc<Path>, TaskError> {
        if !is_within(self.template.prefix(), path) {
            let message = format!("`{path}` is no path that event data may make");
            return Err(TaskError::permanent(PATH, message));
        }
        let resolved: Arc<Path> = self.context.resolve(path).into();
        let files = Arc::clone(&self.files);
        let (opened, now) = (Arc::clone(&resolved), Instant::now());
        spawn_blocking(move || lock(&files).open(&opened, now))
            .await
            .map_err(|error| TaskError::transient(format::IO, "opening the file was cut short").with_source(error))?
            .map_err(|error| format::io_error(format!("cannot open `{path}`"), error))?;
        Ok(resolved)
    }

    /// Waits for the write that is under way. What it could not write is collected again, in front.
    async fn settle(&self, writing: &mut Option<JoinHandle<Written>>) -> Result<(), TaskError> {
        let Some(current) = writing else { return Ok(()) };
        let written = current.await;
        *writing = None;
        let (writes, result) = written.unwrap_or_else(|error| {
            let error = TaskError::permanent(format::IO, "writing was cut short").with_source(error);
            (Vec::new(), Err(error))
        });
        let mut collected = self.collected();
        let is_given_up = std::mem::take(&mut collected.is_given_up);
        collected.put_back(writes, result.is_ok() || is_given_up);
        match result {
            // Its events have failed already: what comes now is of others.
            Err(error) if is_given_up && error.class() != ErrorClass::Closed => Ok(()),
            result => result,
        }
    }
}

impl Collected {
    fn new(format: OutputFormat) -> Self {
        Self { format, files: Vec::new(), places: HashMap::new(), is_given_up: false }
    }

    fn add(&mut self, path: Arc<str>, resolved: Arc<Path>) -> usize {
        let place = self.files.len();
        self.files.push(Lines { path: resolved, encoder: Encoder::new(self.format), bytes: Vec::new() });
        self.places.insert(path, place);
        place
    }

    fn encode(&mut self, place: usize, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        let Lines { encoder, bytes, .. } = &mut self.files[place];
        encoder.encode(&event.data, bytes)?;
        output.forward();
        Ok(())
    }

    fn take(&mut self) -> Vec<Write> {
        let filled = self.files.iter_mut().enumerate().filter(|(_, lines)| !lines.bytes.is_empty());
        filled
            .map(|(place, lines)| Write {
                place,
                path: Arc::clone(&lines.path),
                header: lines.encoder.header().to_vec(),
                lines: std::mem::take(&mut lines.bytes),
            })
            .collect()
    }

    /// Takes buffers back: to be written again, or for their memory.
    fn put_back(&mut self, writes: Vec<Write>, is_done: bool) {
        for Write { place, mut lines, .. } in writes {
            if is_done {
                lines.clear();
            }
            let bytes = &mut self.files[place].bytes;
            lines.extend_from_slice(bytes);
            *bytes = lines;
        }
        // A place is valid until here: none is in use when all is written.
        if is_done && self.files.len() > files::OPEN_FILES && self.files.iter().all(|file| file.bytes.is_empty()) {
            self.files.clear();
            self.places.clear();
        }
    }
}

#[async_trait]
impl Processor for Appender {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        if self.template.as_constant().is_some() {
            return self.collected().encode(0, event, output);
        }
        let path = self.template.render(event)?;
        {
            let mut collected = self.collected();
            if let Some(&place) = collected.places.get(path.as_str()) {
                return collected.encode(place, event, output);
            }
        }
        let resolved = self.open(&path).await?;
        let mut collected = self.collected();
        let known = collected.places.get(path.as_str()).copied();
        let place = known.unwrap_or_else(|| collected.add(path.into(), resolved));
        collected.encode(place, event, output)
    }

    fn is_buffered(&self) -> bool {
        true
    }

    async fn flush(&self) -> Result<(), TaskError> {
        let mut writing = self.writing.lock().await;
        self.settle(&mut writing).await?;
        let writes = self.collected().take();
        if writes.is_empty() {
            return Ok(());
        }
        let (files, now) = (Arc::clone(&self.files), Instant::now());
        *writing = Some(spawn_blocking(move || {
            let result = lock(&files).append(&writes, now);
            (writes, result)
        }));
        self.settle(&mut writing).await
    }

    fn forget(&self) {
        let is_under_way = self.writing.try_lock().is_ok_and(|writing| writing.is_some());
        let mut collected = self.collected();
        collected.files.iter_mut().for_each(|lines| lines.bytes.clear());
        collected.is_given_up = is_under_way;
    }
}

/// Returns whether a path stays below the directory that its template names before the first part that
/// comes from an event.
fn is_within(prefix: &str, path: &str) -> bool {
    let directory = prefix.rfind('/').map_or("", |end| &prefix[..=end]);
    let Some(made) = path.strip_prefix(directory) else { return false };
    // Behind a directory, a slash more says nothing.
    let made = if directory.is_empty() { made } else { made.trim_start_matches('/') };
    let mut parts = Path::new(made).components();
    !path.is_empty()
        && !path.contains('\0')
        && parts.all(|part| matches!(part, Component::Normal(_) | Component::CurDir))
}

fn lock(files: &Mutex<Files>) -> MutexGuard<'_, Files> {
    files.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
