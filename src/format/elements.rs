//! Splits a JSON document into the elements of its array, without holding more than one of them.
//!
//! Only strings and brackets are looked at, so an element that is no JSON does not end the reading: the
//! next begins behind the next comma outside of strings and brackets. A string ends at a line end at the
//! latest, since JSON strings hold none.

use super::{Content, Span, Unusable};

/// Finds the elements of a document in blocks of any size.
#[derive(Debug)]
pub(super) struct Elements {
    state: State,
    limit: usize,
    carry: Vec<u8>,
    is_spent: bool,
    is_skipping: bool,
    /// Where the current element begins.
    start: (u64, u64),
    /// Where the scan stands.
    offset: u64,
    line: u64,
    /// Elements that have ended.
    count: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Before the first byte that counts.
    Document,
    /// In a document that is no array; it ends with the input.
    Single,
    /// Between elements.
    Between { is_after_comma: bool },
    /// In an element of the array.
    Element { depth: usize, string: Str },
    /// Behind the array.
    Behind,
    /// In text behind the array that should not be there.
    Trailing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Str {
    Outside,
    Inside,
    Escaped,
}

impl Elements {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            state: State::Document,
            limit,
            carry: Vec::new(),
            is_spent: false,
            is_skipping: false,
            start: (0, 1),
            offset: 0,
            line: 1,
            count: 0,
        }
    }

    /// Returns how many elements have ended.
    pub(super) fn count(&self) -> u64 {
        self.count
    }

    /// Returns the next element that ends in `block` from `position` on, and moves `position` behind it.
    pub(super) fn next(&mut self, block: &[u8], position: &mut usize) -> Option<Span> {
        let next = self.find(block, position);
        self.count += u64::from(next.is_some());
        next
    }

    fn find(&mut self, block: &[u8], position: &mut usize) -> Option<Span> {
        self.clear_spent();
        let mut begin = *position;
        for (index, &byte) in block.iter().enumerate().skip(begin) {
            let here = (self.offset, self.line);
            self.offset += 1;
            self.line += u64::from(byte == b'\n');
            match self.state {
                State::Document | State::Between { .. } | State::Behind if byte.is_ascii_whitespace() => {}
                State::Document if here.0 < 3 && b"\xef\xbb\xbf"[usize::from(here.0 as u8)] == byte => {}
                State::Document if byte == b'[' => self.state = State::Between { is_after_comma: false },
                State::Document => {
                    self.state = State::Single;
                    (self.start, begin) = (here, index);
                }
                State::Between { is_after_comma } if byte == b']' => {
                    self.state = State::Behind;
                    if is_after_comma {
                        *position = index + 1;
                        return Some(unusable(here, Unusable::MissingValue));
                    }
                }
                State::Between { .. } if byte == b',' => {
                    self.state = State::Between { is_after_comma: true };
                    *position = index + 1;
                    return Some(unusable(here, Unusable::MissingValue));
                }
                State::Between { .. } => {
                    (self.start, begin) = (here, index);
                    self.state = scan(0, Str::Outside, byte);
                }
                State::Element { depth: 0, string: Str::Outside } if byte == b',' || byte == b']' => {
                    self.state = match byte {
                        b',' => State::Between { is_after_comma: true },
                        _ => State::Behind,
                    };
                    *position = index + 1;
                    return Some(self.take(block, begin..index));
                }
                State::Element { depth, string } => self.state = scan(depth, string, byte),
                State::Behind => {
                    self.state = State::Trailing;
                    self.start = here;
                }
                State::Single | State::Trailing => {}
            }
        }
        *position = block.len();
        if matches!(self.state, State::Single | State::Element { .. }) {
            self.keep(&block[begin..]);
        }
        None
    }

    /// Returns what the end of the input leaves open.
    pub(super) fn finish(&mut self) -> Option<Span> {
        self.clear_spent();
        let end = (self.offset, self.line);
        match std::mem::replace(&mut self.state, State::Document) {
            State::Document | State::Behind => None,
            State::Single => Some(self.take(&[], 0..0)),
            State::Between { .. } => Some(unusable(end, Unusable::UnclosedArray)),
            State::Element { .. } => Some(unusable(self.start, Unusable::UnclosedArray)),
            State::Trailing => Some(unusable(self.start, Unusable::TrailingText)),
        }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn carried(&self) -> &[u8] {
        &self.carry
    }

    fn clear_spent(&mut self) {
        if self.is_spent {
            self.carry.clear();
            self.is_spent = false;
        }
    }

    fn keep(&mut self, piece: &[u8]) {
        if self.carry.len() + piece.len() > self.limit {
            self.is_skipping = true;
            self.carry = Vec::new();
        } else if !self.is_skipping {
            self.carry.extend_from_slice(piece);
        }
    }

    /// Hands out the current element, whose last bytes are `range` of `block`.
    fn take(&mut self, block: &[u8], range: std::ops::Range<usize>) -> Span {
        let (offset, line) = self.start;
        let content = if self.is_skipping || self.carry.len() + range.len() > self.limit {
            self.is_skipping = false;
            self.carry.clear();
            Content::Unusable(Unusable::TooLong)
        } else if self.carry.is_empty() {
            Content::Block(range)
        } else {
            self.carry.extend_from_slice(&block[range]);
            self.is_spent = true;
            Content::Carried
        };
        Span { offset, line, content }
    }
}

fn unusable((offset, line): (u64, u64), why: Unusable) -> Span {
    Span { offset, line, content: Content::Unusable(why) }
}

/// Steps over one byte of an element.
fn scan(depth: usize, string: Str, byte: u8) -> State {
    let (depth, string) = match (string, byte) {
        (Str::Outside, b'"') => (depth, Str::Inside),
        (Str::Outside, b'{' | b'[') => (depth + 1, Str::Outside),
        (Str::Outside, b'}' | b']') => (depth.saturating_sub(1), Str::Outside),
        (Str::Outside, _) | (_, b'\n') | (Str::Inside, b'"') => (depth, Str::Outside),
        (Str::Inside, b'\\') => (depth, Str::Escaped),
        (Str::Inside | Str::Escaped, _) => (depth, Str::Inside),
    };
    State::Element { depth, string }
}
