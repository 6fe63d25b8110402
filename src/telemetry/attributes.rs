//! What a span says of the work that it is of, besides what every span says.
//!
//! Bounded, because values may come from outside: a span can neither grow without limit nor fail over one.
//! Owns no names: each kind says what its spans carry.

use std::{
    cmp::Ordering,
    fmt,
    hash::{Hash, Hasher},
    ops::Deref,
    sync::Arc,
};

/// How many attributes a span holds; the rest is counted.
const MAX_ATTRIBUTES: usize = 32;

/// How many texts one attribute holds.
const MAX_TEXTS: usize = 8;

/// How long a text may be, in bytes; the rest is cut off.
const MAX_TEXT_BYTES: usize = 1024;

/// The attributes of one span, each key once, in the order in which they were first set.
///
/// An empty one allocates nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attributes {
    entries: Vec<Attribute>,
    dropped: u32,
}

/// One attribute of a span.
#[derive(Clone, Debug, PartialEq)]
pub struct Attribute {
    /// Its name, by the semantic conventions where they have one.
    pub key: Text,
    /// Its value.
    pub value: AttributeValue,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
pub enum AttributeValue {
    /// A text.
    Text(Text),
    /// Several texts: what the semantic conventions call an array of strings.
    Texts(Vec<Text>),
    /// An integer.
    Int(i64),
    /// A number.
    Double(f64),
    /// Whether something is so.
    Bool(bool),
}

/// A text that costs no copy where it is known at build time or shared.
#[derive(Clone, Debug)]
pub enum Text {
    /// Known at build time.
    Static(&'static str),
    /// Shared.
    Shared(Arc<str>),
}

impl Attributes {
    /// Sets an attribute, in place of an earlier value of the same key. What is too long is cut, and what
    /// is too much is counted and left out.
    pub fn set(&mut self, key: impl Into<Text>, value: impl Into<AttributeValue>) {
        let (key, value) = (key.into(), value.into().bounded());
        if let Some(known) = self.entries.iter_mut().find(|known| known.key == key) {
            known.value = value;
        } else if self.entries.len() < MAX_ATTRIBUTES {
            self.entries.push(Attribute { key, value });
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// Returns these and those of `below` that have other keys.
    #[must_use]
    pub fn over(mut self, below: Self) -> Self {
        if self.entries.is_empty() && self.dropped == 0 {
            return below;
        }
        for Attribute { key, value } in below.entries {
            if self.get(&key).is_none() {
                self.set(key, value);
            }
        }
        self.dropped = self.dropped.saturating_add(below.dropped);
        self
    }

    /// Returns the value of `key`.
    pub fn get(&self, key: &str) -> Option<&AttributeValue> {
        self.iter().find(|attribute| &*attribute.key == key).map(|attribute| &attribute.value)
    }

    /// Returns the attributes, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Attribute> + '_ {
        self.entries.iter()
    }

    /// Returns how many were left out, because there were too many.
    pub fn dropped(&self) -> u32 {
        self.dropped
    }

    /// Forgets them all.
    pub fn clear(&mut self) {
        self.entries.clear();
        self.dropped = 0;
    }
}

impl AttributeValue {
    fn bounded(self) -> Self {
        match self {
            Self::Text(text) => Self::Text(text.bounded()),
            Self::Texts(texts) => Self::Texts(texts.into_iter().take(MAX_TEXTS).map(Text::bounded).collect()),
            value => value,
        }
    }
}

impl Text {
    /// Copies a text, as much of it as an attribute holds.
    pub fn cut(text: &str) -> Self {
        Self::Shared(text[..text.floor_char_boundary(MAX_TEXT_BYTES)].into())
    }

    fn bounded(self) -> Self {
        let end = self.floor_char_boundary(MAX_TEXT_BYTES);
        match self {
            Self::Static(text) => Self::Static(&text[..end]),
            Self::Shared(text) if end < text.len() => Self::Shared(text[..end].into()),
            text @ Self::Shared(_) => text,
        }
    }
}

impl Deref for Text {
    type Target = str;

    fn deref(&self) -> &str {
        match self {
            Self::Static(text) => text,
            Self::Shared(text) => text,
        }
    }
}

impl PartialEq for Text {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for Text {}

impl PartialOrd for Text {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Text {
    fn cmp(&self, other: &Self) -> Ordering {
        (**self).cmp(&**other)
    }
}

impl Hash for Text {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (**self).hash(state);
    }
}

impl fmt::Display for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self)
    }
}

impl From<&'static str> for Text {
    fn from(text: &'static str) -> Self {
        Self::Static(text)
    }
}

impl From<Arc<str>> for Text {
    fn from(text: Arc<str>) -> Self {
        Self::Shared(text)
    }
}

impl From<String> for Text {
    fn from(text: String) -> Self {
        Self::Shared(text.into())
    }
}

impl<T: Into<Text>> From<T> for AttributeValue {
    fn from(text: T) -> Self {
        Self::Text(text.into())
    }
}

impl From<Vec<Text>> for AttributeValue {
    fn from(texts: Vec<Text>) -> Self {
        Self::Texts(texts)
    }
}

impl From<i64> for AttributeValue {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<u16> for AttributeValue {
    fn from(value: u16) -> Self {
        Self::Int(value.into())
    }
}

impl From<u64> for AttributeValue {
    /// Saturates.
    fn from(value: u64) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<usize> for AttributeValue {
    /// Saturates.
    fn from(value: usize) -> Self {
        Self::Int(i64::try_from(value).unwrap_or(i64::MAX))
    }
}

impl From<f64> for AttributeValue {
    fn from(value: f64) -> Self {
        Self::Double(value)
    }
}

impl From<bool> for AttributeValue {
    fn from(value: bool) -> Self {
        Self::Bool(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_one_value_and_keeps_its_place() {
        let mut attributes = Attributes::default();
        attributes.set("a", 1_u64);
        attributes.set("b", true);
        attributes.set("a".to_owned(), "x");
        let shown: Vec<_> = attributes.iter().map(|known| (&*known.key, known.value.clone())).collect();
        assert_eq!(shown, [("a", "x".into()), ("b", true.into())]);
        assert_eq!(attributes.get("b"), Some(&AttributeValue::Bool(true)));
        assert_eq!(attributes.get("c"), None);
    }

    #[test]
    fn what_is_too_much_is_counted_and_left_out() {
        let mut attributes = Attributes::default();
        for n in 0..40 {
            attributes.set(n.to_string(), i64::from(n));
        }
        attributes.set("31", 7_i64);
        assert_eq!(attributes.iter().len(), 32);
        assert_eq!(attributes.dropped(), 8);
        assert_eq!(attributes.get("31"), Some(&AttributeValue::Int(7)), "a known key is always set");
        attributes.clear();
        assert_eq!(attributes, Attributes::default());
    }

    #[test]
    fn what_is_above_hides_what_is_below() {
        let mut above = Attributes::default();
        above.set("a", 1_i64);
        let mut below = Attributes::default();
        below.set("b", 2_i64);
        below.set("a", 3_i64);
        let both = above.clone().over(below.clone());
        assert_eq!([both.get("a"), both.get("b")], [Some(&1_i64.into()), Some(&2_i64.into())]);
        assert_eq!(Attributes::default().over(below.clone()), below);
        assert_eq!(above.clone().over(Attributes::default()), above);
    }

    #[test]
    fn texts_are_cut_between_characters() {
        let long: Arc<str> = ("x".repeat(1023) + "é").into();
        let cut = Text::from("x".repeat(1023));
        let mut attributes = Attributes::default();
        attributes.set("text", Arc::clone(&long));
        attributes.set("texts", vec![Text::Shared(long); 9]);
        attributes.set("fits", "x".repeat(1024));
        assert_eq!(attributes.get("text"), Some(&AttributeValue::Text(cut.clone())));
        assert_eq!(attributes.get("texts"), Some(&AttributeValue::Texts(vec![cut; 8])));
        assert_eq!(attributes.get("fits"), Some(&"x".repeat(1024).into()));
    }

    #[test]
    fn a_number_that_otlp_cannot_hold_is_the_largest_it_can() {
        assert_eq!(AttributeValue::from(u64::MAX), AttributeValue::Int(i64::MAX));
    }
}
