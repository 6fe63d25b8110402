//! Splits blocks of bytes at line ends, or at the ends of CSV rows, whose quoted fields may hold some.

use memchr::{memchr, memchr2_iter};

use super::{Content, Passed, Place, Span, Unusable};

/// Finds lines or rows in blocks of any size; the bytes of one that spans blocks are kept.
///
/// One that is longer than the limit is skipped to the next line end and never kept whole.
#[derive(Debug)]
pub(super) struct Rows {
    /// `None` splits at every line end.
    quotes: Option<Quotes>,
    limit: usize,
    carry: Vec<u8>,
    /// The carry was handed out and is stale.
    is_spent: bool,
    is_skipping: bool,
    /// Bytes of the current record so far.
    seen: usize,
    /// Line ends within the current record so far.
    inner_lines: u64,
    /// Where the current record begins.
    offset: u64,
    line: u64,
}

/// Where the scan stands between quotes.
#[derive(Debug, Default)]
struct Quotes {
    is_open: bool,
    /// Where in the record the last quoted section ended; a quote right behind it reopens it.
    closed_at: Option<usize>,
}

impl Rows {
    pub(super) fn lines(limit: usize) -> Self {
        Self {
            quotes: None,
            limit,
            carry: Vec::new(),
            is_spent: false,
            is_skipping: false,
            seen: 0,
            inner_lines: 0,
            offset: 0,
            line: 1,
        }
    }

    pub(super) fn csv(limit: usize) -> Self {
        Self { quotes: Some(Quotes::default()), ..Self::lines(limit) }
    }

    /// Goes on at a record that is not the first, or behind what was passed over of it.
    pub(super) fn resume(self, place: &Place) -> Self {
        let &Place { offset, line, passed: Passed { bytes: seen, lines: inner_lines }, .. } = place;
        Self { offset, line, seen, inner_lines, is_skipping: seen > 0, ..self }
    }

    /// Returns where the current record begins.
    #[inline]
    pub(super) fn place(&self) -> Place {
        let passed = match self.is_skipping {
            true => Passed { bytes: self.seen, lines: self.inner_lines },
            false => Passed::default(),
        };
        Place { offset: self.offset, line: self.line, passed, ..Place::default() }
    }

    /// Returns the next record that ends in `block` from `position` on, and moves `position` behind it.
    #[inline]
    pub(super) fn next(&mut self, block: &[u8], position: &mut usize) -> Option<Span> {
        if self.is_spent {
            self.carry.clear();
            self.is_spent = false;
        }
        let start = *position;
        let rest = block.get(start..)?;
        let Some(end) = self.end(rest) else {
            if !self.is_skipping {
                self.carry.extend_from_slice(rest);
            }
            self.seen += rest.len();
            *position = block.len();
            return None;
        };
        *position = start + end + 1;
        let content = if self.is_skipping {
            Content::Unusable(Unusable::TooLong)
        } else if self.carry.is_empty() {
            Content::Block(start..start + end)
        } else {
            self.carry.extend_from_slice(&rest[..end]);
            self.is_spent = true;
            Content::Carried
        };
        let span = Span { offset: self.offset, line: self.line, content };
        self.begin(self.seen + end + 1);
        Some(span)
    }

    /// Returns the record at the end of the input, if no line end follows it.
    pub(super) fn finish(&mut self) -> Option<Span> {
        if self.seen == 0 {
            return None;
        }
        self.is_spent = true;
        let content = if self.is_skipping { Content::Unusable(Unusable::TooLong) } else { Content::Carried };
        let span = Span { offset: self.offset, line: self.line, content };
        self.begin(self.seen);
        Some(span)
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    pub(super) fn carried(&self) -> &[u8] {
        &self.carry
    }

    /// Starts the next record behind one that took `length` bytes.
    #[inline]
    fn begin(&mut self, length: usize) {
        self.offset += length as u64;
        self.line += 1 + self.inner_lines;
        self.seen = 0;
        self.inner_lines = 0;
        self.is_skipping = false;
        if let Some(quotes) = &mut self.quotes {
            *quotes = Quotes::default();
        }
    }

    /// Finds the line end that ends the current record. Looks no further than the limit for it: behind
    /// that, any line end will do, so that an open quote cannot swallow the rest of the input.
    #[inline]
    fn end(&mut self, rest: &[u8]) -> Option<usize> {
        if self.is_skipping {
            return memchr(b'\n', rest);
        }
        let room = self.limit + 1 - self.seen;
        let window = &rest[..rest.len().min(room)];
        let end = match &self.quotes {
            None => memchr(b'\n', window),
            Some(_) => self.row_end(window),
        };
        if end.is_some() || window.len() < room {
            return end;
        }
        self.is_skipping = true;
        self.carry = Vec::new();
        memchr(b'\n', &rest[room..]).map(|end| room + end)
    }

    fn row_end(&mut self, window: &[u8]) -> Option<usize> {
        let quotes = self.quotes.as_mut()?;
        for index in memchr2_iter(b'"', b'\n', window) {
            let place = self.seen + index;
            match (window[index], quotes.is_open) {
                (b'\n', false) => return Some(index),
                (b'\n', true) => self.inner_lines += 1,
                (_, true) => {
                    quotes.is_open = false;
                    quotes.closed_at = Some(place);
                }
                (_, false) => {
                    let before = |back: usize| match index.checked_sub(back) {
                        Some(index) => Some(window[index]),
                        None => self.carry.get(place.checked_sub(back)?).copied(),
                    };
                    let is_after_mark = self.offset == 0 && place == 3 && before(3) == Some(0xef);
                    quotes.is_open = place == 0
                        || is_after_mark
                        || before(1) == Some(b',')
                        || quotes.closed_at.is_some_and(|closed| closed + 1 == place);
                }
            }
        }
        None
    }
}
