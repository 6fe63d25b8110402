//! The codecs: bytes in, records out, and back.
//!
//! Sources split blocks of bytes into records ([`Decoder`]) and sinks turn payloads into lines
//! ([`Encoder`]). Must not know which kind uses it.
//!
//! | format | read as | written as |
//! |---|---|---|
//! | `jsonl` | one JSON value a line; blank lines are skipped | the text it came in, else compact JSON |
//! | `csv` | the first row names the keys, every value is a string | the first event's keys are the columns |
//! | `text` | each line a string | strings as they are, all else compact JSON |
//! | `json` | one document: each element of its array, or the one value | |

mod blocks;
mod carried;
mod csv;
mod decoder;
mod elements;
mod encoder;
mod fault;
mod feed;
mod place;
mod rows;
mod size;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{problem::Problems, task::TraceContextMode};

pub use blocks::{Block, Blocks, Filler};
pub use decoder::{Decoder, RawRecord};
pub use encoder::Encoder;
pub use fault::io_error;
pub use feed::{LastRecord, Origin, Reading, feed};
pub use place::{Passed, Place};
pub use size::ByteSize;

/// `error.type` of a record that cannot be read.
pub const PARSE: &str = "parse";
/// `error.type` of data that its format cannot express.
pub const ENCODE: &str = "encode";
/// `error.type` of a failed read or write.
pub const IO: &str = "io";
/// `error.type` of a write that found no room.
pub const STORAGE_FULL: &str = "storage_full";

/// Attribute of a span: the file, as its flow names it, like the ids of its events and the log.
pub const FILE_PATH: &str = "file.path";
/// Attribute of a span: the bytes of the file before the record.
pub const FILE_OFFSET: &str = "file.offset";
/// Attribute of a span: the bytes of one record as it is read, without the line's end, or as it is written,
/// with it.
pub const RECORD_SIZE: &str = "flowgen.record.size";

/// How long a record may be unless its task says otherwise.
pub const MAX_LINE_BYTES: ByteSize = ByteSize(10 * 1024 * 1024);

/// Returns [`MAX_LINE_BYTES`], as serde's defaults want it.
pub fn max_line_bytes() -> ByteSize {
    MAX_LINE_BYTES
}

/// How the bytes of a source become records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum InputFormat {
    /// One JSON value a line.
    #[default]
    Jsonl,
    /// A header row that names the keys, then one record a row.
    Csv,
    /// Each line is a string.
    Text,
    /// One JSON document; an array's elements are one record each.
    Json,
}

impl InputFormat {
    /// Reports a `trace_context` that no record of this format can have.
    pub fn check_trace_context(self, mode: TraceContextMode, problems: &mut Problems) {
        let name = match self {
            Self::Jsonl | Self::Json => return,
            Self::Csv => "csv",
            Self::Text => "text",
        };
        if mode.is_wanted() {
            problems
                .report("trace_context", format!("a record of `{name}` carries no trace context"))
                .hint("objects of `jsonl` and `json` do; remove `trace_context`");
        }
    }
}

/// How events become the lines of a sink.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OutputFormat {
    /// One JSON value a line.
    #[default]
    Jsonl,
    /// A header row, then one event a row.
    Csv,
    /// Strings as they are, anything else as JSON.
    Text,
}

/// Where a record is in its input, before its bytes are looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Span {
    /// Bytes before it.
    offset: u64,
    /// Its first line, from 1.
    line: u64,
    content: Content,
}

/// Where the bytes of a record are.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Content {
    /// In this range of the current block.
    Block(std::ops::Range<usize>),
    /// In the splitter's own buffer: it began in an earlier block.
    Carried,
    /// Nowhere: it is no record, for this reason.
    Unusable(Unusable),
}

/// Why a piece of input is no record, whatever its bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unusable {
    TooLong,
    MissingValue,
    UnclosedArray,
    TrailingText,
}
