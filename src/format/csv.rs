//! The fields of one CSV row, by RFC 4180, read and written.

use std::borrow::Cow;

use memchr::{memchr, memchr3};

/// Splits one row into its fields.
///
/// # Errors
/// What is wrong, with the column in bytes from 1.
pub(super) fn fields(row: &str) -> Result<Vec<Cow<'_, str>>, String> {
    let mut fields = Vec::new();
    let mut rest = row;
    loop {
        let (field, behind) = match rest.strip_prefix('"') {
            Some(quoted) => unquote(quoted).ok_or("a quoted field is not closed")?,
            None => {
                let end = memchr(b',', rest.as_bytes()).unwrap_or(rest.len());
                (Cow::Borrowed(&rest[..end]), &rest[end..])
            }
        };
        fields.push(field);
        if behind.is_empty() {
            return Ok(fields);
        }
        rest = behind.strip_prefix(',').ok_or_else(|| {
            let column = row.len() - behind.len() + 1;
            format!("there is text behind a quoted field at column {column}")
        })?;
    }
}

/// Reads a field whose opening quote was taken, and returns what is behind its closing one.
fn unquote(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let mut field = Cow::Borrowed("");
    let mut rest = text;
    loop {
        let quote = memchr(b'"', rest.as_bytes())?;
        if field.is_empty() {
            field = Cow::Borrowed(&rest[..quote]);
        } else {
            field.to_mut().push_str(&rest[..quote]);
        }
        rest = &rest[quote + 1..];
        let Some(behind) = rest.strip_prefix('"') else { return Some((field, rest)) };
        field.to_mut().push('"');
        rest = behind;
    }
}

/// Returns the numbers, from 1, of the first two columns that have the same name. A name is data: no message may
/// show it.
pub(super) fn twins(names: &[String]) -> Option<(usize, usize)> {
    let twin =
        |(n, name)| names[..n].iter().position(|earlier| earlier == name).map(|earlier| (earlier + 1, n + 1));
    names.iter().enumerate().find_map(twin)
}

/// Appends one field, quoted if it must be.
pub(super) fn write_field(field: &str, out: &mut Vec<u8>) {
    let bytes = field.as_bytes();
    if memchr3(b'"', b',', b'\n', bytes).is_none() && memchr(b'\r', bytes).is_none() {
        return out.extend_from_slice(bytes);
    }
    out.push(b'"');
    for (n, part) in bytes.split(|byte| *byte == b'"').enumerate() {
        if n > 0 {
            out.extend_from_slice(b"\"\"");
        }
        out.extend_from_slice(part);
    }
    out.push(b'"');
}

/// Appends one row of fields with its line end.
pub(super) fn write_row<'a>(fields: impl IntoIterator<Item = Cow<'a, str>>, out: &mut Vec<u8>) {
    let start = out.len();
    for (n, field) in fields.into_iter().enumerate() {
        if n > 0 {
            out.push(b',');
        }
        write_field(&field, out);
    }
    if out.len() == start {
        // A blank line is no row, so a lone empty field is quoted.
        out.extend_from_slice(b"\"\"");
    }
    out.push(b'\n');
}
