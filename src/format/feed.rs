//! Feeds the records of one input to the flow: what every source of bytes does.

use std::{cmp::Ordering, sync::Arc};

use super::{Blocks, Decoder, FILE_OFFSET, FILE_PATH, IO, RECORD_SIZE, RawRecord, io_error};
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
/// end or until `stop`. With `behind` it leaves out all records up to the one at that offset, and looks into none of them.
///
/// # Errors
/// The input cannot be read, has no record at `behind`, or `Closed`.
pub async fn feed(
    origin: &Origin,
    mut blocks: Blocks,
    mut decoder: Decoder,
    mode: TraceContextMode,
    behind: Option<u64>,
    emitter: &mut Emitter,
    stop: &Stop,
) -> Result<(), TaskError> {
    let mut skipping = Skipping(behind);
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
            if !skipping.skips(origin, &record)? {
                stage(origin, &record, mode, emitter).await?;
            }
            records = records.wrapping_add(1);
            if records.is_multiple_of(LOOK_EVERY) && stop.is_stopped() {
                return Ok(());
            }
        }
        // What is left out was counted when it was read first.
        if skipping.0.is_none() {
            emitter.advance(block.bytes().len() as u64);
        }
        blocks.recycle(block);
        // A thread that reads faster than the flow handles never makes this loop wait.
        tokio::task::consume_budget().await;
    }
    if let Some(record) = decoder.finish()
        && !skipping.skips(origin, &record)?
    {
        stage(origin, &record, mode, emitter).await?;
    }
    skipping.end(origin)?;
    Ok(emitter.flush().await?)
}

/// Whether records are left out, and up to which offset.
struct Skipping(Option<u64>);

impl Skipping {
    /// Returns whether this record is left out.
    #[inline]
    fn skips(&mut self, origin: &Origin, record: &RawRecord<'_>) -> Result<bool, TaskError> {
        let Some(behind) = self.0 else { return Ok(false) };
        match record.offset.cmp(&behind) {
            Ordering::Less => {}
            Ordering::Equal => self.0 = None,
            Ordering::Greater => return Err(changed(origin, behind, "has changed")),
        }
        Ok(true)
    }

    /// Makes sure that the record was there behind which the others begin.
    fn end(&self, origin: &Origin) -> Result<(), TaskError> {
        self.0.map_or(Ok(()), |behind| Err(changed(origin, behind, "is shorter than before")))
    }
}

fn changed(origin: &Origin, behind: u64, how: &str) -> TaskError {
    let message = format!(
        "`{}` {how}: it has no record at byte {behind} any more, so there is no going on",
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
        Incoming { id: origin.id(record), remote: record.remote(mode).map(Box::new), receipt: None };
    Ok(emitter.stage(incoming, decode).await?)
}

#[cfg(test)]
mod tests {
    use std::io::{self, Read};

    use async_trait::async_trait;

    use super::*;
    use crate::{
        event::Payload,
        format::InputFormat,
        task::{
            ErrorClass, Source,
            testing::{Admitted, Collector},
        },
    };

    /// Feeds a text, and fails behind it if it is to.
    struct Fed {
        format: InputFormat,
        text: Vec<u8>,
        behind: Option<u64>,
        fails: Option<i32>,
    }

    impl Fed {
        fn new(format: InputFormat, text: impl Into<Vec<u8>>) -> Self {
            Self { format, text: text.into(), behind: None, fails: None }
        }

        async fn run(self) -> (Result<(), TaskError>, Vec<Admitted>) {
            let (result, admitted, _) = Collector::until(usize::MAX).run(Box::new(self)).await;
            (result, admitted)
        }
    }

    struct Failing(io::Cursor<Vec<u8>>, Option<i32>);

    impl Read for Failing {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match (self.0.read(buffer)?, self.1) {
                (0, Some(code)) => Err(io::Error::from_raw_os_error(code)),
                (length, _) => Ok(length),
            }
        }
    }

    #[async_trait]
    impl Source for Fed {
        async fn run(self: Box<Self>, emitter: &mut Emitter, stop: Stop) -> Result<(), TaskError> {
            let Self { format, text, behind, fails } = *self;
            let blocks = Blocks::read(move || Ok(Failing(io::Cursor::new(text), fails))).unwrap();
            let origin = Origin::Stream(Arc::new(Input::new("in")));
            let decoder = Decoder::new(format, 20);
            feed(&origin, blocks, decoder, TraceContextMode::Ignore, behind, emitter, &stop).await
        }
    }

    fn offset(admitted: &Admitted) -> u64 {
        match admitted.id {
            EventId::Stream { offset, .. } => offset,
            ref other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn a_record_of_no_file_is_described_by_its_size_alone() {
        let (result, admitted) = Fed::new(InputFormat::Text, "one\n").run().await;
        result.unwrap();
        let attributes = &admitted[0].attributes;
        assert_eq!(attributes.get(RECORD_SIZE), Some(&3_i64.into()));
        assert_eq!(attributes.iter().len(), 1);
    }

    /// Scenario: every format, with a bad record, resumed behind each of its records. Guarantee: all that come behind it
    /// come once and are the same as without the interruption.
    #[tokio::test]
    async fn reading_goes_on_behind_any_record() {
        for (format, text) in [
            (InputFormat::Jsonl, "{\"a\":1}\n\n{]\n[2]\n3"),
            (InputFormat::Csv, "\u{feff}a,b\n1,2\n\"x\ny\",3\n4\n5,6\n"),
            (InputFormat::Text, "\u{feff}one\ntwo\r\n\nfour"),
            (InputFormat::Json, " [1, {\"a\":\n[2]},, \"x,]\", 4] 5"),
            (InputFormat::Json, "[1,2,"),
        ] {
            let shown = |admitted: &Admitted| {
                let data = admitted.result.as_ref().map(|record| record.data.json().cloned());
                (
                    offset(admitted),
                    admitted.id.position().map(|(_, line)| line),
                    data.map_err(ToString::to_string),
                )
            };
            let (_, all) = Fed::new(format, text).run().await;
            assert!(all.len() >= 3, "{text}");
            for (n, last) in all.iter().enumerate() {
                let resumed = Fed { behind: Some(offset(last)), ..Fed::new(format, text) };
                let (result, rest) = resumed.run().await;
                result.unwrap();
                let expected: Vec<_> = all[n + 1..].iter().map(shown).collect();
                assert_eq!(rest.iter().map(shown).collect::<Vec<_>>(), expected, "{text:?} behind {n}");
            }
        }
    }

    #[tokio::test]
    async fn an_input_that_is_another_now_is_not_gone_on_with() {
        let of = |text: &str| Fed { behind: Some(4), ..Fed::new(InputFormat::Text, text) };
        for (text, why) in [
            (
                "one\n",
                "`in` is shorter than before: it has no record at byte 4 any more, so there is no going on",
            ),
            ("", "`in` is shorter than before: it has no record at byte 4 any more, so there is no going on"),
            (
                "other\n",
                "`in` is shorter than before: it has no record at byte 4 any more, so there is no going on",
            ),
            ("longer\nx\n", "`in` has changed: it has no record at byte 4 any more, so there is no going on"),
        ] {
            let (result, admitted) = of(text).run().await;
            let error = result.unwrap_err();
            assert_eq!((error.class(), error.to_string().as_str()), (ErrorClass::Permanent, why));
            assert!(admitted.is_empty());
        }
    }

    #[tokio::test]
    async fn what_may_pass_by_itself_is_transient_and_costs_no_record() {
        // EIO, ESTALE, EMFILE, ETIMEDOUT; EACCES and ENOENT for comparison.
        for (code, class) in [
            (5, ErrorClass::Transient),
            (116, ErrorClass::Transient),
            (24, ErrorClass::Transient),
            (110, ErrorClass::Transient),
            (13, ErrorClass::Permanent),
            (2, ErrorClass::Permanent),
        ] {
            let text = "1\n2\n3\n4";
            let (result, first) = Fed { fails: Some(code), ..Fed::new(InputFormat::Jsonl, text) }.run().await;
            let error = result.unwrap_err();
            assert_eq!((error.class(), error.error_type()), (class, IO), "{code}");
            assert_eq!(error.to_string(), "cannot read `in`");
            let last = first.last().map(offset);
            let (result, rest) = Fed { behind: last, ..Fed::new(InputFormat::Jsonl, text) }.run().await;
            result.unwrap();
            let offsets: Vec<_> = first.iter().chain(&rest).map(offset).collect();
            assert_eq!(offsets, [0, 2, 4, 6]);
        }
    }

    #[tokio::test]
    async fn a_record_that_cannot_be_decoded_goes_along_as_it_is() {
        let of = |format, text: &[u8]| Fed::new(format, text).run();
        let raw = |admitted: &Admitted| admitted.result.as_ref().unwrap_err().record().cloned();
        let text = |admitted: &Admitted| raw(admitted).unwrap().json().cloned().unwrap();
        let (_, admitted) =
            of(InputFormat::Jsonl, b"1\n{secret\r\n\xffx\n{\"a long one\": 12345678}\n").await;
        assert!(admitted[0].result.is_ok());
        assert_eq!(text(&admitted[1]), "{secret");
        assert!(matches!(raw(&admitted[2]), Some(Payload::Bytes(bytes)) if bytes[..] == b"\xffx"[..]));
        assert!(raw(&admitted[3]).is_none(), "one that is too long is not kept");
        for admitted in &admitted[1..] {
            let error = admitted.result.as_ref().unwrap_err();
            assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
            assert!(!format!("{:?}", admitted.attributes).contains("secret"));
            assert!(error.clone().without_record().record().is_none());
        }
        let (_, admitted) = of(InputFormat::Csv, b"a,b\n1\n").await;
        assert_eq!(text(&admitted[0]), "1");
        let (_, admitted) = of(InputFormat::Json, b"[1, {x}]").await;
        assert_eq!(text(&admitted[1]), "{x}");
    }
}
