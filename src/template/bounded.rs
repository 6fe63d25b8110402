//! What a template renders, within bounds: a loop over data may repeat data, and so make a flood of what was small.

use std::io;

use minijinja::{Error, Template, Value};

/// The most bytes that one rendering may have.
pub(crate) const MOST_BYTES: usize = 64 << 20;

/// Why there is no text.
#[derive(Debug)]
pub(crate) enum Unrendered {
    /// It would be longer than it may be.
    TooLong,
    /// The engine's reason.
    Engine(Error),
}

/// Renders a template to no more than `limit` bytes.
///
/// # Errors
/// It would be longer, or the engine cannot render it.
pub(crate) fn render(template: &Template<'_, '_>, root: Value, limit: usize) -> Result<String, Unrendered> {
    let mut text = Text { bytes: Vec::new(), limit, is_full: false };
    match template.render_captured_to(root, &mut text) {
        Ok(_) => Ok(String::from_utf8(text.bytes).expect("the engine writes text")),
        Err(_) if text.is_full => Err(Unrendered::TooLong),
        Err(error) => Err(Unrendered::Engine(error)),
    }
}

struct Text {
    bytes: Vec<u8>,
    limit: usize,
    is_full: bool,
}

impl io::Write for Text {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if part.len() > self.limit - self.bytes.len() {
            self.is_full = true;
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
