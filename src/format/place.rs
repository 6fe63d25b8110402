//! Where reading stands in an input, and from where it goes on.

/// The beginning of the record that comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Bytes before it; 0 in a document, whose elements are counted.
    pub offset: u64,
    /// Its line, from 1.
    pub line: u64,
    /// Elements of a document before it.
    pub records: u64,
    /// Where the record here ended when it was let in as the last of the input, without a line's end. It is left out if it
    /// still ends there, and comes again as a whole if it has grown.
    pub open: Option<u64>,
    /// How many records behind it were let in besides: they are left out.
    pub left_out: u64,
    /// What was passed over of the record here, because it is too long already.
    pub passed: Passed,
}

impl Default for Place {
    fn default() -> Self {
        Self { offset: 0, line: 1, records: 0, open: None, left_out: 0, passed: Passed::default() }
    }
}

/// A piece of a record that is not read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    pub(super) bytes: usize,
    /// Line ends in it.
    pub(super) lines: u64,
}
