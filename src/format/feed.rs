//! Feeds the records of one input to the flow: what every source of bytes does.

use std::sync::Arc;

use super::{Blocks, Decoder, FILE_OFFSET, FILE_PATH, RECORD_SIZE, RawRecord, io_error};
use crate::{
    event::{EventId, Input},
    shutdown::Stop,
    task::{Emitter, Incoming, TaskError, TraceContextMode},
    telemetry::Attributes,
};

/// How many records go by between two looks at whether to stop.
const LOOK_EVERY: u32 = 64;

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

    fn name(&self) -> &str {
        match self {
            Self::File(path) => path,
            Self::Stream(input) => input.name(),
        }
    }
}

/// Emits every record of an input, each with its position and, as `mode` says, in the trace that it names, until its
/// end or until `stop`.
///
/// # Errors
/// The input cannot be read, or `Closed`.
pub async fn feed(
    origin: &Origin,
    mut blocks: Blocks,
    mut decoder: Decoder,
    mode: TraceContextMode,
    emitter: &mut Emitter,
    stop: &Stop,
) -> Result<(), TaskError> {
    let mut records = 0_u32;
    loop {
        let block = match blocks.ready() {
            Some(block) => Some(block),
            None => {
                emitter.flush().await?;
                tokio::select! {
                    biased;
                    () = stop.stopped() => return Ok(()),
                    block = blocks.next() => block,
                }
            }
        };
        let Some(block) = block else { break };
        let block = block.map_err(|error| io_error(format!("cannot read `{}`", origin.name()), error))?;
        let mut position = 0;
        while let Some(record) = decoder.next(block.bytes(), &mut position) {
            stage(origin, &record, mode, emitter).await?;
            records = records.wrapping_add(1);
            if records.is_multiple_of(LOOK_EVERY) && stop.is_stopped() {
                return Ok(());
            }
        }
        emitter.advance(block.bytes().len() as u64);
        blocks.recycle(block);
        // A thread that reads faster than the flow handles never makes this loop wait.
        tokio::task::consume_budget().await;
    }
    if let Some(record) = decoder.finish() {
        stage(origin, &record, mode, emitter).await?;
    }
    Ok(emitter.flush().await?)
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
        record.decode()
    };
    let incoming = Incoming { id: origin.id(record), remote: record.remote(mode), receipt: None };
    Ok(emitter.stage(incoming, decode).await?)
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;

    use super::*;
    use crate::{
        format::InputFormat,
        task::{Source, testing::Collector},
    };

    struct Fed;

    #[async_trait]
    impl Source for Fed {
        async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError> {
            let blocks = Blocks::read(|| Ok(&b"one\n"[..])).unwrap();
            let origin = Origin::Stream(Arc::new(Input::new("in")));
            let decoder = Decoder::new(InputFormat::Text, 10);
            feed(&origin, blocks, decoder, TraceContextMode::Ignore, emitter, &stop).await
        }
    }

    #[tokio::test]
    async fn a_record_of_no_file_is_described_by_its_size_alone() {
        let (result, admitted, _) = Collector::until(usize::MAX).run(Box::new(Fed)).await;
        result.unwrap();
        let attributes = &admitted[0].attributes;
        assert_eq!(attributes.get(RECORD_SIZE), Some(&3_i64.into()));
        assert_eq!(attributes.iter().len(), 1);
    }
}
