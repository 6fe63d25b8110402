//! Feeds the records of one input to the flow: what every source of bytes does.

use std::sync::Arc;

use super::{Blocks, Decoder, FILE_OFFSET, FILE_PATH, IO, Place, RECORD_SIZE, RawRecord, io_error};
use crate::{
    event::{EventId, Input},
    shutdown::Stop,
    task::{Emitter, Incoming, TaskError, TraceContextMode},
    telemetry::Attributes,
};

/// How many records go by between two looks at whether to stop.
const LOOK_EVERY: u32 = 64;

/// How many records go by between two marks, at most.
const MARK_EVERY: u32 = 256;

/// Where records come from, which gives them their ids.
#[derive(Clone, Debug)]
pub enum Origin {
    /// A file, as its flow names it: its records have the same ids in each run.
    File(Arc<str>),
    /// An input that only this run sees.
    Stream(Arc<Input>),
}

impl Origin {
    #[inline]
    fn id(&self, record: &RawRecord<'_>) -> EventId {
        let line = u32::try_from(record.line).unwrap_or(u32::MAX);
        match self {
            Self::File(path) => EventId::Position { path: Arc::clone(path), offset: record.offset, line },
            Self::Stream(input) => EventId::Stream { input: Arc::clone(input), offset: record.offset, line },
        }
    }

    /// Says in a span what a record is. Not inlined: most spans are not recorded.
    #[cold]
    fn describe(&self, record: &RawRecord<'_>, span: &mut Attributes) {
        if let Self::File(path) = self {
            span.set(FILE_PATH, Arc::clone(path));
            span.set(FILE_OFFSET, record.offset);
        }
        if let Some(size) = record.size() {
            span.set(RECORD_SIZE, size);
        }
    }

    /// Returns what people know the input by.
    pub fn name(&self) -> &str {
        match self {
            Self::File(path) => path,
            Self::Stream(input) => input.name(),
        }
    }
}

/// What becomes of a last record that has no end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LastRecord {
    /// It is one like the others: the input ends with it.
    Complete,
    /// It is left for when it is whole: more may come.
    Awaited,
}

/// An input that is to be read, from its beginning or from a place on.
#[derive(Debug)]
pub struct Reading<'a> {
    /// What gives its records their ids.
    pub origin: &'a Origin,
    /// Its bytes, from where `decoder` wants them.
    pub blocks: Blocks,
    /// What finds its records.
    pub decoder: Decoder,
    /// What becomes of the trace that a record names.
    pub trace_context: TraceContextMode,
    /// Where it goes on.
    pub place: Place,
    /// What becomes of a last record that has no end.
    pub last: LastRecord,
}

impl<'a> Reading<'a> {
    /// Makes the reading of an input that is there once, from its first byte to its end.
    pub fn new(
        origin: &'a Origin,
        blocks: Blocks,
        decoder: Decoder,
        trace_context: TraceContextMode,
    ) -> Self {
        let (place, last) = (Place::default(), LastRecord::Complete);
        Self { origin, blocks, decoder, trace_context, place, last }
    }
}

/// Emits every record of an input, each with its position and in the trace that it names, until its end or until `stop`.
/// Returns where it stands then. Tells `mark` of the place before the first record, behind every so many, at the end of
/// each block, and where it stops.
///
/// # Errors
/// The input cannot be read, has fewer records than are to be left out, or `Closed`.
pub async fn feed(
    reading: Reading<'_>,
    emitter: &mut Emitter,
    stop: &Stop,
    mark: impl FnMut(&Place, &mut Emitter) + Send,
) -> Result<Place, TaskError> {
    let Reading { origin, mut blocks, mut decoder, trace_context, place, last } = reading;
    let mut skipping = Skipping::new(&place);
    let mut marks = Marks { mark, last: None, records: 0 };
    if skipping.is_over() {
        marks.set(place, emitter);
    }
    let mut records = 0_u32;
    loop {
        let block = match blocks.ready() {
            Some(block) => Some(block),
            None => {
                emitter.flush().await?;
                tokio::select! {
                    biased;
                    () = stop.stopped() => return Ok(skipping.place(&decoder)),
                    block = blocks.next() => block,
                }
            }
        };
        let Some(block) = block else { break };
        let block = block.map_err(|error| io_error(format!("cannot read `{}`", origin.name()), error))?;
        let mut position = 0;
        while let Some(record) = decoder.next(block.bytes(), &mut position) {
            if !skipping.skips(&record) {
                stage(origin, &record, trace_context, emitter).await?;
                marks.records += 1;
            }
            if marks.is_due() && skipping.is_over() {
                marks.set(skipping.place(&decoder), emitter);
            }
            records = records.wrapping_add(1);
            if records.is_multiple_of(LOOK_EVERY) && stop.is_stopped() {
                let place = skipping.place(&decoder);
                if skipping.is_over() {
                    marks.set(place, emitter);
                }
                return Ok(place);
            }
        }
        if skipping.is_over() {
            marks.set(skipping.place(&decoder), emitter);
        }
        emitter.advance(block.bytes().len() as u64);
        blocks.recycle(block);
        // A thread that reads faster than the flow handles never makes this loop wait.
        tokio::task::consume_budget().await;
    }
    let mut place = skipping.place(&decoder);
    if last == LastRecord::Complete {
        if let Some(record) = decoder.finish() {
            if !skipping.skips(&record) {
                stage(origin, &record, trace_context, emitter).await?;
            }
            place.open = Some(record.end());
        }
        if !skipping.is_over() {
            return Err(shorter(origin, skipping.records));
        }
        place.left_out = 0;
        marks.set(place, emitter);
    }
    emitter.flush().await?;
    Ok(place)
}

/// Which records are left out: they were let in before.
struct Skipping {
    records: u64,
    /// Where the first one behind them ended, if it was let in without a line's end.
    open: Option<u64>,
}

impl Skipping {
    fn new(place: &Place) -> Self {
        Self { records: place.records + place.left_out, open: place.open }
    }

    /// Returns whether this record is left out.
    #[inline]
    fn skips(&mut self, record: &RawRecord<'_>) -> bool {
        if self.records > 0 {
            self.records -= 1;
            return true;
        }
        self.open.take().is_some_and(|end| end == record.end())
    }

    /// Returns whether a place says all that there is to say of what was let in.
    #[inline]
    fn is_over(&self) -> bool {
        self.records == 0
    }

    fn place(&self, decoder: &Decoder) -> Place {
        Place { open: self.open, left_out: self.records, ..decoder.place() }
    }
}

/// Tells of places.
struct Marks<M> {
    mark: M,
    last: Option<Place>,
    /// How many records were let in since the last one.
    records: u32,
}

impl<M: FnMut(&Place, &mut Emitter)> Marks<M> {
    #[inline]
    fn is_due(&self) -> bool {
        self.records >= MARK_EVERY || self.last.is_none()
    }

    fn set(&mut self, place: Place, emitter: &mut Emitter) {
        self.records = 0;
        if self.last != Some(place) {
            (self.mark)(&place, emitter);
            self.last = Some(place);
        }
    }
}

fn shorter(origin: &Origin, records: u64) -> TaskError {
    let message = format!(
        "`{}` is shorter than before: {records} of the records that were read are not there any more",
        origin.name()
    );
    TaskError::permanent(IO, message)
}

async fn stage(
    origin: &Origin,
    record: &RawRecord<'_>,
    mode: TraceContextMode,
    emitter: &mut Emitter,
) -> Result<(), TaskError> {
    let decode = |span: Option<&mut Attributes>| {
        if let Some(span) = span {
            origin.describe(record, span);
        }
        record.decode().map_err(|error| match record.raw() {
            Some(raw) => error.with_record(raw),
            None => error,
        })
    };
    let incoming =
        Incoming { remote: record.remote(mode).map(Box::new), ..Incoming::from(origin.id(record)) };
    Ok(emitter.stage(incoming, decode).await?)
}

#[cfg(test)]
mod tests;
