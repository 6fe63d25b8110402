//! The source that reads files to their ends, one after the other.

use std::{
    fs::File,
    io::{self, Seek, SeekFrom},
    path::PathBuf,
};

use async_trait::async_trait;

use super::{
    find::Input,
    opened::Opened,
    plan::{Leg, Plan, Sort},
    position::Saved,
};
use crate::{
    format::{self, Blocks, Decoder, InputFormat, Origin, Place, Reading},
    shutdown::Stop,
    task::{Emitter, Extent, Source, TaskError, TraceContextMode},
    telemetry::spawn_blocking,
};

/// The files that were found, as they were then.
pub(super) struct Reader {
    pub(super) inputs: Vec<Input>,
    pub(super) base_dir: PathBuf,
    pub(super) decoding: Decoding,
}

/// How the bytes of a file become events.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decoding {
    pub(super) format: InputFormat,
    pub(super) limit: usize,
    pub(super) trace_context: TraceContextMode,
}

#[async_trait]
impl Source for Reader {
    async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError> {
        let Self { inputs, base_dir, decoding } = *self;
        let saved: Vec<_> = emitter.resumptions().into_iter().filter_map(Saved::read).collect();
        let Plan { legs, gone } = blocking(move || Plan::new(&inputs, &base_dir, saved)).await?;
        for (saved, is_replaced) in gone {
            tell_gone(&saved.name, is_replaced);
            emitter.forget(&saved.part);
        }
        for leg in legs {
            if stop.is_stopped() {
                break;
            }
            match leg.sort {
                Sort::Whole | Sort::Rest => decoding.read(leg, emitter, &stop).await?,
                Sort::Once => decoding.read_once(leg, emitter, &stop).await?,
            }
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

impl Decoding {
    /// Reads a file from where a source before left off.
    async fn read(self, leg: Leg, emitter: &mut Emitter, stop: &Stop) -> Result<(), TaskError> {
        let Self { format, limit, trace_context } = self;
        let Leg { name, path, saved, sort } = leg;
        let origin = Origin::File(name.clone());
        let open = move || {
            let mut file = File::open(path)?;
            let opened = Opened::look(&file, name, saved, format, limit)?;
            file.seek(SeekFrom::Start(opened.skipped))?;
            Ok((file, opened))
        };
        let (file, opened) = blocking(open).await?.map_err(|error| cannot_read(&origin, error))?;
        let Opened { decoder, place, skipped, marker, change, .. } = opened;
        if let Some(change) = change {
            change.tell(origin.name());
        }
        emitter.advance(skipped);
        let blocks = blocks(move || Ok(file))?;
        let reading = Reading { place, ..Reading::new(&origin, blocks, decoder, trace_context) };
        let mark = |place: &Place, emitter: &mut Emitter| emitter.reach(marker.position(place));
        format::feed(reading, emitter, stop, mark).await?;
        if sort == Sort::Rest && !stop.is_stopped() {
            emitter.forget(marker.part());
        }
        Ok(())
    }

    /// Reads a pipe to its end. Of that there is no position, and whoever reads it has to open it.
    async fn read_once(self, leg: Leg, emitter: &mut Emitter, stop: &Stop) -> Result<(), TaskError> {
        let Leg { name, path, .. } = leg;
        let (origin, blocks) = (Origin::File(name), blocks(move || File::open(path))?);
        let decoder = Decoder::new(self.format, self.limit);
        let reading = Reading::new(&origin, blocks, decoder, self.trace_context);
        format::feed(reading, emitter, stop, |_, _| {}).await.map(drop)
    }
}

fn blocks(open: impl FnOnce() -> io::Result<File> + Send + 'static) -> Result<Blocks, TaskError> {
    Blocks::read(open).map_err(|error| format::io_error("cannot start a thread", error))
}

pub(super) fn cannot_read(origin: &Origin, error: io::Error) -> TaskError {
    format::io_error(format!("cannot read `{}`", origin.name()), error)
}

/// Says that a file which was read before is nowhere.
pub(super) fn tell_gone(name: &str, is_replaced: bool) {
    if is_replaced {
        tracing::warn!(file.path = name, "the file was replaced: what was not read of the old one is lost");
    } else {
        tracing::info!(file.path = name, "the file is gone");
    }
}

/// Does what blocks as disks do.
async fn blocking<R: Send + 'static>(work: impl FnOnce() -> R + Send + 'static) -> Result<R, TaskError> {
    spawn_blocking(work).await.map_err(|error| {
        TaskError::transient(format::IO, "looking at files was cut short").with_source(error)
    })
}
