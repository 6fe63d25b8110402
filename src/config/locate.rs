//! Where a key stands in its file: a marked parse of the same text, made only for reports.
//!
//! Must not decide anything: a key that it cannot find is shown at the nearest place that it can.

use std::{
    collections::{HashMap, HashSet},
    path::Path,
    rc::Rc,
};

use saphyr_parser::{Event, Parser, ScalarStyle, Span};

use crate::problem::{Focus, KeyPath, Place, Segment};

/// How deep a text is looked into. What is nested deeper is no configuration.
const DEEPEST: usize = 256;

/// A node of the marked tree.
#[derive(Debug)]
pub(super) struct Mark {
    span: Span,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Scalar(ScalarStyle),
    List(Vec<Rc<Mark>>),
    Mapping(Vec<Pair>),
}

#[derive(Debug)]
struct Pair {
    key: String,
    key_span: Span,
    value: Rc<Mark>,
}

/// A key that stands twice in one mapping.
#[derive(Debug)]
pub(super) struct Duplicate {
    pub(super) key: String,
    /// Line and column of the first and of the second place.
    pub(super) places: [(usize, usize); 2],
}

/// Parses the marks of `text`; as much of it as is well formed.
pub(super) fn marks(text: &str) -> Option<Rc<Mark>> {
    let mut reader =
        Reader { parser: Parser::new_from_str(text), anchors: HashMap::new(), depth: 0, is_too_deep: false };
    loop {
        match reader.next()? {
            (Event::StreamStart | Event::DocumentStart(_) | Event::Nothing, _) => {}
            (event, span) => return reader.node(event, span),
        }
    }
}

struct Reader<'a> {
    parser: Parser<'a, saphyr_parser::StrInput<'a>>,
    anchors: HashMap<usize, Rc<Mark>>,
    depth: usize,
    /// Nothing more is read then.
    is_too_deep: bool,
}

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<(Event<'a>, Span)> {
        if self.is_too_deep { None } else { self.parser.next_event()?.ok() }
    }

    /// Reads what stands one level deeper.
    fn deeper<T>(&mut self, read: fn(&mut Self) -> T) -> Option<T> {
        self.is_too_deep |= self.depth == DEEPEST;
        if self.is_too_deep {
            return None;
        }
        self.depth += 1;
        let inner = read(self);
        self.depth -= 1;
        Some(inner)
    }

    fn node(&mut self, event: Event<'a>, span: Span) -> Option<Rc<Mark>> {
        let (anchor, content) = match event {
            Event::Alias(id) => {
                return Some(self.anchors.get(&id).cloned().unwrap_or_else(|| {
                    Rc::new(Mark { span, content: Content::Scalar(ScalarStyle::Plain) })
                }));
            }
            Event::Scalar(_, style, anchor, _) => (anchor, Content::Scalar(style)),
            Event::SequenceStart(anchor, _) => (anchor, Content::List(self.deeper(Self::list)?)),
            Event::MappingStart(anchor, _) => (anchor, Content::Mapping(self.deeper(Self::mapping)?)),
            _ => return None,
        };
        let mark = Rc::new(Mark { span, content });
        if anchor != 0 {
            self.anchors.insert(anchor, Rc::clone(&mark));
        }
        Some(mark)
    }

    fn list(&mut self) -> Vec<Rc<Mark>> {
        let mut items = Vec::new();
        while let Some((event, span)) = self.next() {
            match self.node(event, span) {
                Some(item) => items.push(item),
                None => break,
            }
        }
        items
    }

    fn mapping(&mut self) -> Vec<Pair> {
        let mut pairs = Vec::new();
        while let Some((event, key_span)) = self.next() {
            let key = match &event {
                Event::Scalar(text, ..) => text.to_string(),
                _ => String::new(),
            };
            if self.node(event, key_span).is_none() {
                break;
            }
            let Some((event, span)) = self.next() else { break };
            let Some(value) = self.node(event, span) else { break };
            pairs.push(Pair { key, key_span, value });
        }
        pairs
    }
}

impl Mark {
    /// Returns all keys that stand twice in one mapping.
    pub(super) fn duplicates(&self) -> Vec<Duplicate> {
        let mut found = Vec::new();
        self.find_duplicates(&mut HashSet::new(), &mut found);
        found
    }

    /// `seen` is what aliases may lead to once more.
    fn find_duplicates(&self, seen: &mut HashSet<*const Self>, found: &mut Vec<Duplicate>) {
        let mut look_into = |value: &Rc<Self>, found: &mut Vec<Duplicate>| {
            if seen.insert(Rc::as_ptr(value)) {
                value.find_duplicates(seen, found);
            }
        };
        match &self.content {
            Content::Scalar(_) => {}
            Content::List(items) => items.iter().for_each(|item| look_into(item, found)),
            Content::Mapping(pairs) => {
                let mut keys = HashMap::new();
                for pair in pairs {
                    let first = *keys.entry(pair.key.as_str()).or_insert(pair.key_span);
                    if first != pair.key_span {
                        let places = [first, pair.key_span].map(start);
                        found.push(Duplicate { key: pair.key.clone(), places });
                    }
                    look_into(&pair.value, found);
                }
            }
        }
    }

    fn pair(&self, key: &str) -> Option<&Pair> {
        let Content::Mapping(pairs) = &self.content else { return None };
        pairs.iter().find(|pair| pair.key == key).or_else(|| {
            let merged = pairs.iter().find(|pair| pair.key == "<<")?;
            match &merged.value.content {
                Content::List(items) => items.iter().find_map(|item| item.pair(key)),
                _ => merged.value.pair(key),
            }
        })
    }

    /// Returns where `path` stands in `text`, the text that these marks were made of.
    pub(super) fn place(&self, file: &Path, text: &str, path: &KeyPath, focus: Focus) -> Place {
        let mut mark = self;
        let mut key = None;
        let mut is_found = true;
        for segment in &path.0 {
            let next = match (segment, &mark.content) {
                (Segment::Key(name), _) => mark.pair(name).map(|pair| (Some(pair.key_span), &pair.value)),
                (Segment::Index(index), Content::List(items)) => items.get(*index).map(|item| (None, item)),
                (Segment::Index(_), _) => None,
            };
            let Some((key_span, value)) = next else {
                is_found = false;
                break;
            };
            // An item that is a mapping is shown by its first key, under which its name stands.
            key = key_span;
            mark = value;
        }
        let (line, column, width) = match focus {
            Focus::Inside { line, column } if is_found => {
                let (line, column) = mark.inside(text, line, column);
                (line, column, word(text, line, column))
            }
            Focus::Value if is_found => mark.value_span(text, key),
            _ => key.map_or_else(|| mark.value_span(text, None), extent),
        };
        at(file, text, line, column, width)
    }

    fn value_span(&self, text: &str, key: Option<Span>) -> (usize, usize, usize) {
        match (&self.content, key) {
            (
                Content::Scalar(ScalarStyle::Plain | ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted),
                _,
            ) if self.span.end.index() > self.span.start.index() => extent(self.span),
            (Content::Scalar(ScalarStyle::Literal | ScalarStyle::Folded), None) => {
                let (line, column) = start(self.span);
                (line, column, 1)
            }
            (_, Some(key)) => extent(key),
            (Content::Mapping(pairs), None) if !is_flow_style(text, self.span) => {
                pairs.first().map_or_else(|| (1, 1, 1), |pair| extent(pair.key_span))
            }
            _ => {
                let (line, column) = start(self.span);
                (line, column, 1)
            }
        }
    }

    /// Maps a place inside a scalar's value to the file, as far as the style allows.
    fn inside(&self, text: &str, line: usize, column: usize) -> (usize, usize) {
        let (first, left) = start(self.span);
        match &self.content {
            Content::Scalar(ScalarStyle::Literal) => {
                let header = header_line(text, first);
                let content = || text.lines().skip(header);
                let indent = content()
                    .map(|line| line.trim_end().chars().take_while(|c| *c == ' ').count())
                    .zip(content())
                    .find(|(_, line)| !line.trim().is_empty())
                    .map_or(0, |(indent, _)| indent);
                (header + line, indent + column)
            }
            Content::Scalar(ScalarStyle::Plain) if line == 1 => (first, left + column - 1),
            Content::Scalar(ScalarStyle::SingleQuoted | ScalarStyle::DoubleQuoted) if line == 1 => {
                (first, left + column)
            }
            _ => (first, left),
        }
    }
}

/// Returns the length of the reference or the word that begins at a place; 1 for anything else.
fn word(text: &str, line: usize, column: usize) -> usize {
    let rest: String = text.lines().nth(line - 1).unwrap_or_default().chars().skip(column - 1).collect();
    if rest.starts_with("${") {
        return rest.chars().take_while(|c| *c != '}').count() + 1;
    }
    let is_word = |c: &char| c.is_alphanumeric() || *c == '_' || *c == '.';
    rest.chars().take_while(is_word).count().max(1)
}

/// Returns the place with the line of text that it points at. What lies behind the text is shown at its end.
pub(super) fn at(file: &Path, text: &str, line: usize, column: usize, width: usize) -> Place {
    let last = text.lines().count().max(1);
    let (line, column) = if line > last { (last, usize::MAX) } else { (line.max(1), column.max(1)) };
    let shown = text.lines().nth(line - 1).unwrap_or_default();
    let length = shown.chars().count();
    let column = column.min(length + 1);
    Place {
        file: file.to_path_buf(),
        line,
        column,
        width: width.clamp(1, (length + 1 - column).max(1)),
        text: shown.trim_end().to_owned(),
    }
}

fn start(span: Span) -> (usize, usize) {
    (span.start.line(), span.start.col() + 1)
}

fn extent(span: Span) -> (usize, usize, usize) {
    let (line, column) = start(span);
    let width =
        if span.end.line() == line { span.end.col().saturating_sub(span.start.col()) } else { usize::MAX };
    (line, column, width.max(1))
}

fn is_flow_style(text: &str, span: Span) -> bool {
    text.chars().nth(span.start.index()).is_some_and(|c| c == '{' || c == '[')
}

/// Returns the line (from 1) of a block scalar's `|`, whichever of it or its content the parser marks.
fn header_line(text: &str, marked: usize) -> usize {
    let is_header = |line: usize| {
        text.lines().nth(line - 1).is_some_and(|line| {
            let line = line.split(" #").next().unwrap_or_default().trim_end();
            line.trim_end_matches(|c: char| c.is_ascii_digit() || c == '-' || c == '+').ends_with(['|', '>'])
        })
    };
    (1..=marked).rev().find(|line| is_header(*line)).unwrap_or(marked)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
defaults: &defaults
  level: info
flow:
  name: orders # the name
  tasks:
    - generate: {count: 5, interval: }
    - script:
        name: shape
        <<: *defaults
        code: |
          let x = 1;

          x +
    - log:
        message: 'a b'
";

    fn place(path: &[&str], focus: Focus) -> (usize, usize, usize) {
        let path = path.iter().fold(KeyPath::default(), |path, part| match part.parse() {
            Ok(index) => path.index(index),
            Err(_) => path.key(*part),
        });
        let place = marks(TEXT).unwrap().place(Path::new("x"), TEXT, &path, focus);
        (place.line, place.column, place.width)
    }

    #[test]
    fn finds_keys_and_values() {
        assert_eq!(place(&["flow", "name"], Focus::Key), (4, 3, 4));
        assert_eq!(place(&["flow", "name"], Focus::Value), (4, 9, 6));
        assert_eq!(place(&["flow", "tasks", "0", "generate", "count"], Focus::Value), (6, 25, 1));
        assert_eq!(place(&["flow", "tasks", "2", "log", "message"], Focus::Value), (15, 18, 5));
    }

    #[test]
    fn an_empty_value_is_shown_at_its_key_and_an_item_at_its_first_key() {
        assert_eq!(place(&["flow", "tasks", "0", "generate", "interval"], Focus::Value), (6, 28, 8));
        assert_eq!(place(&["flow", "tasks", "1"], Focus::Value), (7, 7, 6));
    }

    #[test]
    fn what_is_missing_is_shown_at_the_nearest_key_above() {
        assert_eq!(place(&["flow", "tasks", "1", "script", "limits", "ops"], Focus::Value), (7, 7, 6));
        assert_eq!(place(&["nothing"], Focus::Key), (1, 1, 8));
    }

    #[test]
    fn follows_merge_keys_to_their_anchor() {
        assert_eq!(place(&["flow", "tasks", "1", "script", "level"], Focus::Value), (2, 10, 4));
    }

    #[test]
    fn maps_places_inside_block_and_quoted_text() {
        let code = ["flow", "tasks", "1", "script", "code"];
        assert_eq!(place(&code, Focus::Inside { line: 1, column: 5 }), (11, 15, 1));
        assert_eq!(place(&code, Focus::Inside { line: 3, column: 1 }), (13, 11, 1));
        let message = ["flow", "tasks", "2", "log", "message"];
        assert_eq!(place(&message, Focus::Inside { line: 1, column: 3 }), (15, 21, 1));
    }

    #[test]
    fn finds_every_duplicate_with_both_places() {
        let text = "a: 1\nb:\n  - {c: 1, c: 2}\na: 2\n";
        let found = marks(text).unwrap().duplicates();
        let places: Vec<_> = found.iter().map(|d| (d.key.as_str(), d.places)).collect();
        assert_eq!(places, [("c", [(3, 6), (3, 12)]), ("a", [(1, 1), (4, 1)])]);
    }

    #[test]
    fn neither_depth_nor_aliases_make_a_text_too_much() {
        let deep = format!("a: 1\na: 2\nb:\n  {}x\n", "- ".repeat(100_000));
        let found = marks(&deep).unwrap().duplicates();
        assert_eq!(found.iter().map(|d| d.places).collect::<Vec<_>>(), [[(1, 1), (2, 1)]]);
        let doubled: String = (1..60).map(|n| format!("a{n}: &a{n} [*a{m}, *a{m}]\n", m = n - 1)).collect();
        let found = marks(&format!("a0: &a0 {{x: 1, x: 2}}\n{doubled}")).unwrap().duplicates();
        assert_eq!(found.iter().map(|d| d.places).collect::<Vec<_>>(), [[(1, 10), (1, 16)]]);
    }

    #[test]
    fn what_is_missing_behind_the_text_is_shown_at_its_end() {
        let place = |line, column| at(Path::new("x"), "ab\n  c\n", line, column, 9);
        for (line, column, shown) in
            [(1, 2, (1, 2, 1)), (1, 9, (1, 3, 1)), (3, 1, (2, 4, 1)), (0, 0, (1, 1, 2))]
        {
            let place = place(line, column);
            assert_eq!((place.line, place.column, place.width), shown);
        }
    }
}
