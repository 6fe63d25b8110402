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
//! Directories are made as needed, with the first event. The lines of one batch are written to each file at
//! once: all of them or, after a failure, none, so that another attempt leaves neither a torn line nor one
//! twice. Only the events of a file that fails are tried again, or fail. An event is done once the kernel has
//! it. A file that was renamed or deleted is made anew within about a second.
//!
//! A torn last line, as a crash leaves it, is cut off when the file is first opened, unless it grows. What
//! someone tears later stays, on a line of its own.
//!
//! What event data puts into a path stays below the directory that the template names before it: it can
//! neither go up by `..` nor start at the root. Symbolic links are followed, wherever they lead: whoever may
//! make links in that directory decides where the lines go.
//!
//! Several tasks and processes may append to one file, under any of its names: each locks it meanwhile, so
//! their batches do not mix. Programs that take no lock (`flock`) are not kept from anything.
//!
//! In `csv` the header row that is there names the columns, else the first event does.
//!
//! Telemetry: the span has `file.path`, as the template makes it, and `flowgen.record.size`, the bytes of the
//! event's line or row with its end.
//!
//! A named pipe waits for its reader as a failed attempt does, with retries. When the reader goes away the
//! flow ends quietly, as with `stdout`.

mod append;
mod collected;
mod files;
mod open_file;

use std::{
    borrow::Cow,
    fs::{self, OpenOptions},
    io,
    path::{Component, Path},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;
use rustix::fs::{Access, access};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::{task::JoinHandle, time::Instant};

use self::{
    collected::{Collected, Written},
    files::{Files, Write},
    open_file::Unsynced,
};
use crate::{
    event::Event,
    format::{self, Encoder, OutputFormat},
    problem::Problems,
    task::{
        BuildContext, BuildError, ErrorClass, FlushError, Kind, Output, Processor, Role, Task, TaskError,
    },
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
    const IS_SERIAL: bool = true;
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
    format: OutputFormat,
    context: BuildContext,
    collected: Mutex<Collected>,
    /// The write that is under way. It stays here if whoever waits for it gives up waiting.
    writing: tokio::sync::Mutex<Option<JoinHandle<Written>>>,
    files: Arc<Mutex<Files>>,
    /// Held by a sync that is under way.
    syncing: Arc<Mutex<()>>,
}

impl Appender {
    /// Checks that the file can be opened, if it is the same for all events. Blocks as disks do.
    fn new(path: &str, format: OutputFormat, context: BuildContext) -> Result<Self, BuildError> {
        let template = Template::compile(path)
            .map_err(|error| BuildError::new("cannot compile `path`").with_source(error))?;
        if let Some(path) = template.as_constant() {
            check_openable(&context.resolve(path))
                .map_err(|error| BuildError::new(format!("cannot open `{path}`")).with_source(error))?;
        }
        Ok(Self {
            template,
            format,
            collected: Mutex::default(),
            writing: tokio::sync::Mutex::new(None),
            files: Arc::new(Mutex::new(Files::new(context.has_state))),
            syncing: Arc::default(),
            context,
        })
    }

    fn collected(&self) -> MutexGuard<'_, Collected> {
        self.collected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens the file of a path that was not seen lately, so that its failure is that of one event.
    async fn open(&self, path: &str) -> Result<(Arc<Path>, Encoder), TaskError> {
        if self.template.as_constant().is_none() && !is_within(self.template.prefix(), path) {
            let message = format!("`{path}` is no path that event data may make");
            return Err(TaskError::permanent(PATH, message));
        }
        let resolved: Arc<Path> = self.context.resolve(path).into();
        let files = Arc::clone(&self.files);
        let (opened, now, wants_header) =
            (Arc::clone(&resolved), Instant::now(), self.format == OutputFormat::Csv);
        let header = spawn_blocking(move || lock(&files).open(&opened, wants_header, now))
            .await
            .map_err(|error| {
                TaskError::transient(format::IO, "opening the file was cut short").with_source(error)
            })?
            .map_err(|error| format::io_error(format!("cannot open `{path}`"), error))?;
        let encoder = match header {
            Some(row) => Encoder::with_header(&row).map_err(|error| {
                TaskError::permanent(format::ENCODE, format!("cannot append rows to `{path}`"))
                    .with_source(error)
            })?,
            None => Encoder::new(self.format),
        };
        Ok((resolved, encoder))
    }

    /// Waits for the write that is under way. What it could not write, but may later, is collected again, in
    /// front.
    async fn settle(&self, writing: &mut Option<JoinHandle<Written>>) -> Result<(), FlushError> {
        let Some(current) = writing else { return Ok(()) };
        let written = current.await;
        *writing = None;
        let mut collected = self.collected();
        let is_given_up = std::mem::take(&mut collected.is_given_up);
        let failed = match written {
            Ok(written) if is_given_up => match collected.conclude(written, true).pop() {
                // A reader that went away stays away.
                Some((_, error)) if error.class() == ErrorClass::Closed => return Err(error.into()),
                _ => Vec::new(),
            },
            Ok(written) => collected.conclude(written, false),
            // Its events have failed already: what comes now is of others.
            Err(_) if is_given_up => Vec::new(),
            Err(error) => {
                return Err(TaskError::permanent(format::IO, "writing was cut short")
                    .with_source(error)
                    .into());
            }
        };
        if failed.is_empty() { Ok(()) } else { Err(FlushError::Events(failed)) }
    }
}

#[async_trait]
impl Processor for Appender {
    async fn handle(&self, event: &Event, output: &mut Output) -> Result<(), TaskError> {
        let path = match self.template.as_constant() {
            Some(path) => Cow::Borrowed(path),
            None => Cow::Owned(self.template.render(event)?),
        };
        if let Some(span) = output.span() {
            span.set(format::FILE_PATH, path.to_string());
        }
        {
            let mut collected = self.collected();
            if let Some(place) = collected.find(&path) {
                return collected.encode(place, event, output);
            }
        }
        let (resolved, encoder) = self.open(&path).await?;
        let mut collected = self.collected();
        let place = collected.add(&path, resolved, encoder);
        collected.encode(place, event, output)
    }

    fn is_buffered(&self) -> bool {
        true
    }

    async fn flush(&self) -> Result<(), FlushError> {
        let mut writing = self.writing.lock().await;
        self.settle(&mut writing).await?;
        let writes = self.collected().take();
        if !writes.is_empty() {
            let (files, now) = (Arc::clone(&self.files), Instant::now());
            *writing = Some(spawn_blocking(move || {
                let mut files = lock(&files);
                let append = |write: Write| {
                    let result = files.append(&write, now);
                    (write, result)
                };
                writes.into_iter().map(append).collect()
            }));
            self.settle(&mut writing).await?;
        }
        self.collected().events = 0;
        Ok(())
    }

    async fn sync(&self) -> Result<(), TaskError> {
        let (files, syncing) = (Arc::clone(&self.files), Arc::clone(&self.syncing));
        let sync = move || {
            // Nobody else takes for synced what is under way.
            let _syncing = syncing.lock().unwrap_or_else(PoisonError::into_inner);
            // Without the lock on the files, so that writing goes on.
            let unsynced = lock(&files).take_unsynced()?;
            unsynced.into_iter().try_for_each(Unsynced::sync)
        };
        spawn_blocking(sync)
            .await
            .map_err(|error| TaskError::permanent(format::IO, "a sync was cut short").with_source(error))?
            .map_err(|error| format::io_error("cannot sync a file", error))
    }

    async fn close(&self) -> Result<(), TaskError> {
        if self.context.has_state { self.sync().await } else { Ok(()) }
    }

    fn forget(&self) {
        let is_under_way = self.writing.try_lock().is_ok_and(|writing| writing.is_some());
        let mut collected = self.collected();
        collected.forget(is_under_way);
    }
}

/// Looks whether the file can be opened for appending, without making or changing anything.
fn check_openable(path: &Path) -> io::Result<()> {
    match fs::metadata(path) {
        Ok(metadata) if metadata.is_file() => OpenOptions::new().read(true).append(true).open(path).map(drop),
        Ok(metadata) if metadata.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        // To open a pipe means something to whoever reads it.
        Ok(_) => Ok(access(path, Access::WRITE_OK)?),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let here = Path::new(".");
            let above = path.ancestors().skip(1).map(|above| if above == "" { here } else { above });
            let directory = above.into_iter().find(|above| above.exists()).unwrap_or(here);
            Ok(access(directory, Access::WRITE_OK | Access::EXEC_OK)?)
        }
        Err(error) => Err(error),
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
