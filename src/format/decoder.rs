//! Turns blocks of bytes into records.

use std::{
    borrow::Cow,
    io::{self, ErrorKind, Read},
    str,
};

use serde_json::{Map, Value};

use super::{
    Content, InputFormat, PARSE, Place, Span, Unusable, carried::Carried, csv, elements::Elements, rows::Rows,
};
use crate::{
    event::Payload,
    task::{Record, TaskError, TraceContextMode},
    trace::Remote,
};

const BYTE_ORDER_MARK: &[u8] = b"\xef\xbb\xbf";

/// How much is read at once of an input whose header row alone is wanted.
const HEADER_BYTES: usize = 8 * 1024;

/// Splits an input of one format into records, block by block.
///
/// Nothing ends the reading: a record that cannot be read fails by itself, in [`RawRecord::decode`].
#[derive(Debug)]
pub struct Decoder {
    splitter: Splitter,
    codec: Codec,
}

#[derive(Debug)]
enum Splitter {
    Rows(Rows),
    Elements(Elements),
}

/// What turns the bytes of one record into data.
#[derive(Debug)]
enum Codec {
    Jsonl,
    Text,
    Json,
    Csv(Header),
}

/// The first row of a CSV input.
#[derive(Debug)]
enum Header {
    Awaited,
    Keys(Vec<String>),
    /// It could not be read, so neither can the rows.
    Unusable(String),
}

/// One record, not yet looked into.
#[derive(Debug)]
pub struct RawRecord<'a> {
    /// Bytes of the input before it.
    pub offset: u64,
    /// Its first line, from 1.
    pub line: u64,
    bytes: Result<&'a [u8], Unusable>,
    codec: &'a Codec,
    limit: usize,
}

impl Decoder {
    /// Makes a decoder whose records are at most `limit` bytes long; a longer one is skipped and fails.
    pub fn new(format: InputFormat, limit: usize) -> Self {
        let (splitter, codec) = match format {
            InputFormat::Jsonl => (Splitter::Rows(Rows::lines(limit)), Codec::Jsonl),
            InputFormat::Text => (Splitter::Rows(Rows::lines(limit)), Codec::Text),
            InputFormat::Csv => (Splitter::Rows(Rows::csv(limit)), Codec::Csv(Header::Awaited)),
            InputFormat::Json => (Splitter::Elements(Elements::new(limit)), Codec::Json),
        };
        Self { splitter, codec }
    }

    /// Makes a decoder that goes on at `place`, and returns from which byte of the input on it wants to be given blocks.
    /// `start` is the input from its first byte: the header row stands there. The elements of a `json` document are read
    /// again from the first one, and left out by whoever reads.
    ///
    /// # Errors
    /// The header row cannot be read from `start`.
    pub fn resume(
        format: InputFormat,
        limit: usize,
        place: &Place,
        start: impl Read,
    ) -> io::Result<(Self, u64)> {
        let Self { splitter, mut codec } = Self::new(format, limit);
        let rows = match splitter {
            Splitter::Rows(rows) => rows,
            Splitter::Elements(_) => return Ok((Self { splitter, codec }, 0)),
        };
        if matches!(codec, Codec::Csv(_)) {
            match Header::find(limit, start)? {
                Some((header, end)) if end <= place.offset => codec = Codec::Csv(header),
                _ => return Ok((Self::new(format, limit), 0)),
            }
        }
        let splitter = Splitter::Rows(rows.resume(place));
        Ok((Self { splitter, codec }, place.offset + place.passed.bytes as u64))
    }

    /// Returns where the record begins that comes next.
    #[inline]
    pub fn place(&self) -> Place {
        match &self.splitter {
            Splitter::Rows(rows) => rows.place(),
            Splitter::Elements(elements) => Place { records: elements.count(), ..Place::default() },
        }
    }

    /// Returns the next record that ends in `block` from `position` on, and moves `position` behind it.
    #[inline]
    pub fn next<'a>(&'a mut self, block: &'a [u8], position: &mut usize) -> Option<RawRecord<'a>> {
        let span = loop {
            let span = self.splitter.next(block, position)?;
            if self.codec.admits(&span, &self.splitter, block) {
                break span;
            }
        };
        Some(self.record(&span, block))
    }

    /// Returns what is left at the end of the input, if it is a record.
    pub fn finish(&mut self) -> Option<RawRecord<'_>> {
        let span = self.splitter.finish()?;
        self.codec.admits(&span, &self.splitter, &[]).then(|| self.record(&span, &[]))
    }

    fn record<'a>(&'a self, span: &Span, block: &'a [u8]) -> RawRecord<'a> {
        let (offset, bytes) = self.splitter.bytes(span, block);
        RawRecord { offset, line: span.line, bytes, codec: &self.codec, limit: self.splitter.limit() }
    }
}

impl Splitter {
    #[inline]
    fn next(&mut self, block: &[u8], position: &mut usize) -> Option<Span> {
        match self {
            Self::Rows(rows) => rows.next(block, position),
            Self::Elements(elements) => elements.next(block, position),
        }
    }

    fn finish(&mut self) -> Option<Span> {
        match self {
            Self::Rows(rows) => rows.finish(),
            Self::Elements(elements) => elements.finish(),
        }
    }

    fn limit(&self) -> usize {
        match self {
            Self::Rows(rows) => rows.limit(),
            Self::Elements(elements) => elements.limit(),
        }
    }

    /// Returns the bytes of a record and where they begin, without a byte order mark and a carriage
    /// return.
    #[inline]
    fn bytes<'a>(&'a self, span: &Span, block: &'a [u8]) -> (u64, Result<&'a [u8], Unusable>) {
        let bytes = match (&span.content, self) {
            (Content::Unusable(why), _) => return (span.offset, Err(*why)),
            (Content::Block(range), _) => &block[range.clone()],
            (Content::Carried, Self::Rows(rows)) => rows.carried(),
            (Content::Carried, Self::Elements(elements)) => elements.carried(),
        };
        let bytes = bytes.strip_suffix(b"\r").unwrap_or(bytes);
        match bytes.strip_prefix(BYTE_ORDER_MARK) {
            Some(bytes) if span.offset == 0 => (BYTE_ORDER_MARK.len() as u64, Ok(bytes)),
            _ => (span.offset, Ok(bytes)),
        }
    }
}

impl Codec {
    /// Returns whether a piece of input is a record; a blank line is none, nor is a header.
    #[inline]
    fn admits(&mut self, span: &Span, splitter: &Splitter, block: &[u8]) -> bool {
        let (_, bytes) = splitter.bytes(span, block);
        match (self, bytes) {
            (Self::Jsonl, Ok(bytes)) => !bytes.trim_ascii_start().is_empty(),
            (Self::Csv(_), Ok([])) => false,
            (Self::Csv(header @ Header::Awaited), bytes) => {
                *header = Header::read(bytes);
                matches!(header, Header::Unusable(_))
            }
            _ => true,
        }
    }
}

impl Header {
    /// Reads an input as far as its header row, and returns that and where it ends; `None` if it does not.
    fn find(limit: usize, mut start: impl Read) -> io::Result<Option<(Self, u64)>> {
        let mut decoder = Decoder::new(InputFormat::Csv, limit);
        let mut buffer = vec![0; HEADER_BYTES];
        loop {
            let length = match start.read(&mut buffer) {
                Ok(0) => return Ok(None),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let (block, mut position) = (&buffer[..length], 0);
            while let Some(span) = decoder.splitter.next(block, &mut position) {
                decoder.codec.admits(&span, &decoder.splitter, block);
                let end = decoder.place().offset;
                if let Codec::Csv(header @ (Self::Keys(_) | Self::Unusable(_))) = decoder.codec {
                    return Ok(Some((header, end)));
                }
            }
        }
    }

    fn read(bytes: Result<&[u8], Unusable>) -> Self {
        let keys = bytes
            .map_err(|_| "it is too long".to_owned())
            .and_then(|bytes| str::from_utf8(bytes).map_err(|_| "it is not UTF-8".to_owned()))
            .and_then(csv::fields);
        let keys: Vec<String> = match keys {
            Ok(keys) => keys.into_iter().map(Cow::into_owned).collect(),
            Err(why) => return Self::Unusable(why),
        };
        match csv::twins(&keys) {
            Some((one, other)) => Self::Unusable(format!("columns {one} and {other} have the same name")),
            None => Self::Keys(keys),
        }
    }
}

impl RawRecord<'_> {
    /// Returns how many bytes it has, if they were kept.
    pub fn size(&self) -> Option<usize> {
        self.bytes.ok().map(<[u8]>::len)
    }

    /// Returns where it ends, which tells whether it has grown; one that is not kept never does.
    pub(super) fn end(&self) -> u64 {
        let length = |bytes: &[u8]| match self.codec {
            Codec::Json => bytes.trim_ascii_end().len(),
            _ => bytes.len(),
        };
        self.bytes.map_or(u64::MAX, |bytes| self.offset + length(bytes) as u64)
    }

    /// Returns the bytes as they are, a text if they are one; `None` if they were not kept.
    pub fn raw(&self) -> Option<Payload> {
        let bytes = self.bytes.ok()?;
        Some(match str::from_utf8(bytes) {
            Ok(text) => Payload::from(Value::from(text)),
            Err(_) => Payload::Bytes(bytes.to_vec().into()),
        })
    }

    /// Returns what the record carries of the trace that it comes from, if that is wanted and it is an object.
    pub fn remote(&self, mode: TraceContextMode) -> Option<Remote> {
        if !mode.is_wanted() || !matches!(self.codec, Codec::Jsonl | Codec::Json) {
            return None;
        }
        let Carried { traceparent, tracestate, baggage } = Carried::find(self.bytes.ok()?);
        mode.remote(traceparent.as_deref(), tracestate.as_deref(), baggage.as_deref())
    }

    /// Makes a record of the bytes.
    ///
    /// # Errors
    /// What keeps it from being one; `error.type` is [`PARSE`].
    pub fn decode(&self) -> Result<Record, TaskError> {
        let bytes = self.bytes.map_err(|why| self.unusable(why))?;
        let text = str::from_utf8(bytes).map_err(|error| {
            let place = error.valid_up_to() + 1;
            TaskError::permanent(PARSE, format!("the record is not UTF-8 at its byte {place}"))
        })?;
        let data = match self.codec {
            Codec::Jsonl => Payload::from_json_line(text).map_err(|error| self.not_json(&error))?,
            Codec::Text => Payload::from(Value::from(text)),
            Codec::Json => self.element(text.trim_ascii_end())?,
            Codec::Csv(header) => Payload::from(Value::Object(row(header, text)?)),
        };
        Ok(Record::from(data))
    }

    /// Text with line ends in it is not kept: a payload's text is one line.
    fn element(&self, text: &str) -> Result<Payload, TaskError> {
        let data = match memchr::memchr(b'\n', text.as_bytes()) {
            None => Payload::from_json_line(text),
            Some(_) => serde_json::from_str::<Value>(text).map(Payload::from),
        };
        data.map_err(|error| self.not_json(&error))
    }

    fn not_json(&self, error: &serde_json::Error) -> TaskError {
        let text = error.to_string();
        let what = text.rsplit_once(" at line ").map_or(text.as_str(), |(what, _)| what);
        let column = error.column();
        let place = match error.line() {
            0 | 1 => format!("column {column}"),
            line => format!("line {}, column {column}", self.line + line as u64 - 1),
        };
        TaskError::permanent(PARSE, format!("the record is not JSON: {what} at {place}"))
    }

    fn unusable(&self, why: Unusable) -> TaskError {
        let message = match why {
            Unusable::TooLong => format!("the record is longer than {} bytes (`max_line_bytes`)", self.limit),
            Unusable::MissingValue => "a value is missing in the array".to_owned(),
            Unusable::UnclosedArray => "the array is not closed".to_owned(),
            Unusable::TrailingText => "there is text behind the end of the array".to_owned(),
        };
        TaskError::permanent(PARSE, message)
    }
}

fn row(header: &Header, text: &str) -> Result<Map<String, Value>, TaskError> {
    let keys = match header {
        Header::Keys(keys) => keys,
        Header::Unusable(why) => {
            return Err(TaskError::permanent(PARSE, format!("the header row cannot be read: {why}")));
        }
        Header::Awaited => return Err(TaskError::permanent(PARSE, "there is no header row")),
    };
    let fields = csv::fields(text).map_err(|why| TaskError::permanent(PARSE, why))?;
    if fields.len() != keys.len() {
        let message = format!("the row has {} fields, the header has {}", fields.len(), keys.len());
        return Err(TaskError::permanent(PARSE, message));
    }
    Ok(keys.iter().cloned().zip(fields.into_iter().map(|field| Value::String(field.into_owned()))).collect())
}

#[cfg(test)]
mod tests;
