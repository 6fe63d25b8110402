//! Turns payloads into lines.

use std::borrow::Cow;

use serde_json::{Map, Value};

use super::{ENCODE, OutputFormat, csv};
use crate::{event::Payload, task::TaskError};

/// Appends payloads to a buffer, one line each.
///
/// `csv` takes its columns from the first payload, which must be an object as must all others: a key
/// that is missing is an empty field, one that has no column is an error, and what is neither text nor
/// number nor bool is written as JSON. The header row is not among the lines: whoever writes them knows
/// whether it is there already.
#[derive(Debug)]
pub struct Encoder {
    format: OutputFormat,
    columns: Vec<String>,
    header: Vec<u8>,
}

impl Encoder {
    /// Makes an encoder of a format.
    pub fn new(format: OutputFormat) -> Self {
        Self { format, columns: Vec::new(), header: Vec::new() }
    }

    /// Makes an encoder for a CSV file that begins with this row, whatever its line end: the columns are
    /// there already.
    ///
    /// # Errors
    /// The row is no header; `error.type` is [`ENCODE`].
    pub fn with_header(row: &[u8]) -> Result<Self, TaskError> {
        let wrong = |why: String| TaskError::permanent(ENCODE, format!("the first row is no header: {why}"));
        let row = std::str::from_utf8(row).map_err(|_| wrong("it is not UTF-8".to_owned()))?;
        let row = row.strip_suffix('\n').unwrap_or(row);
        let row = row.strip_suffix('\r').unwrap_or(row);
        let columns: Vec<_> = csv::fields(row).map_err(wrong)?.into_iter().map(Cow::into_owned).collect();
        if let Some((one, other)) = csv::twins(&columns) {
            return Err(wrong(format!("columns {one} and {other} have the same name")));
        }
        let mut header = Vec::new();
        csv::write_row(columns.iter().map(Cow::from), &mut header);
        Ok(Self { format: OutputFormat::Csv, columns, header })
    }

    /// Returns the line that belongs before the first one; empty if there is none.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// Appends `data` and a line end. A failed attempt appends nothing.
    ///
    /// # Errors
    /// The format cannot express it; `error.type` is [`ENCODE`].
    #[inline]
    pub fn encode(&mut self, data: &Payload, out: &mut Vec<u8>) -> Result<(), TaskError> {
        match (self.format, data) {
            (OutputFormat::Jsonl, data) => match one_line(data) {
                Some(text) => out.extend_from_slice(text.as_bytes()),
                None => write_json(&*tree(data)?, out),
            },
            (OutputFormat::Text, Payload::Bytes(bytes)) => out.extend_from_slice(bytes),
            (OutputFormat::Text, data) => match &*tree(data)? {
                Value::String(text) => out.extend_from_slice(text.as_bytes()),
                value => write_json(value, out),
            },
            (OutputFormat::Csv, data) => {
                let tree = tree(data)?;
                let Value::Object(object) = &*tree else {
                    return Err(TaskError::permanent(ENCODE, "only an object can become a CSV row"));
                };
                return self.row(object, out);
            }
        }
        out.push(b'\n');
        Ok(())
    }

    fn row(&mut self, object: &Map<String, Value>, out: &mut Vec<u8>) -> Result<(), TaskError> {
        if self.header.is_empty() {
            if object.is_empty() {
                return Err(TaskError::permanent(
                    ENCODE,
                    "an object without keys gives a CSV file no columns",
                ));
            }
            self.columns = object.keys().cloned().collect();
            csv::write_row(self.columns.iter().map(Cow::from), &mut self.header);
        }
        let known = self.columns.iter().filter(|column| object.contains_key(*column)).count();
        if known < object.len() {
            let place = object.keys().position(|key| !self.columns.contains(key)).unwrap_or_default() + 1;
            let message = format!(
                "key number {place} of the event has no column: the header or else the first event of a CSV file \
                 names them all"
            );
            return Err(TaskError::permanent(ENCODE, message));
        }
        csv::write_row(self.columns.iter().map(|column| field(object.get(column))), out);
        Ok(())
    }
}

/// Returns the text the payload came in, if that is one line.
#[inline]
fn one_line(data: &Payload) -> Option<&str> {
    data.text().filter(|text| memchr::memchr(b'\n', text.as_bytes()).is_none())
}

/// Returns the JSON value; raw bytes are one if they say so.
fn tree(data: &Payload) -> Result<Cow<'_, Value>, TaskError> {
    match data {
        Payload::Json(_) => Ok(Cow::Borrowed(data.json().unwrap_or(&Value::Null))),
        Payload::Bytes(bytes) => serde_json::from_slice(bytes).map(Cow::Owned).map_err(|error| {
            TaskError::permanent(ENCODE, "the data is raw bytes that are not JSON").with_source(error)
        }),
    }
}

fn write_json(value: &Value, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("a tree of JSON values can be written to memory");
}

fn field(value: Option<&Value>) -> Cow<'_, str> {
    match value {
        None | Some(Value::Null) => Cow::Borrowed(""),
        Some(Value::String(text)) => Cow::Borrowed(text),
        Some(value) => Cow::Owned(value.to_string()),
    }
}

#[cfg(test)]
mod tests;
