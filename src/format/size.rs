//! A number of bytes as people write it: `10KiB`, `64MB`, `512`.

use std::{borrow::Cow, fmt, str::FromStr};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Visitor},
};

use crate::problem::Problems;

const UNITS: [(&str, u64); 9] = [
    ("", 1),
    ("b", 1),
    ("kb", 1_000),
    ("mb", 1_000_000),
    ("gb", 1_000_000_000),
    ("kib", 1 << 10),
    ("mib", 1 << 20),
    ("gib", 1 << 30),
    ("tib", 1 << 40),
];

/// A number of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteSize(pub usize);

impl ByteSize {
    /// Reports a limit, the value of `key`, that no record can be within.
    pub fn check_limit(self, key: &str, problems: &mut Problems) {
        if !(1..=u32::MAX as usize).contains(&self.0) {
            problems.report(key, format!("`{key}` has to be between 1 byte and 4 GiB"));
        }
    }
}

impl FromStr for ByteSize {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let text = text.trim();
        let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let unit = text[end..].trim().to_lowercase();
        let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or(())?;
        let number: u64 = text[..end].parse().map_err(|_| ())?;
        number.checked_mul(*factor).and_then(|bytes| usize::try_from(bytes).ok()).map(Self).ok_or(())
    }
}

impl<'de> Deserialize<'de> for ByteSize {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SizeVisitor)
    }
}

struct SizeVisitor;

impl Visitor<'_> for SizeVisitor {
    type Value = ByteSize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number of bytes such as `10MiB`")
    }

    fn visit_u64<E: Error>(self, bytes: u64) -> Result<ByteSize, E> {
        usize::try_from(bytes).map(ByteSize).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ByteSize, E> {
        text.parse().map_err(|()| E::invalid_value(serde::de::Unexpected::Str(text), &self))
    }
}

impl JsonSchema for ByteSize {
    fn schema_name() -> Cow<'static, str> {
        "ByteSize".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a number of bytes such as `10MiB`",
            "type": ["string", "integer"],
            "minimum": 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write_and_nothing_else() {
        let read = |text: &str| text.parse().map(|ByteSize(bytes)| bytes);
        assert_eq!(read("10KiB"), Ok(10_240));
        assert_eq!(read(" 64 MB "), Ok(64_000_000));
        assert_eq!(read("512"), Ok(512));
        for wrong in ["", "MB", "-1", "1.5MB", "10 parsecs", "99999999999TiB"] {
            assert_eq!(read(wrong), Err(()), "{wrong}");
        }
        assert_eq!(serde_json::from_str::<ByteSize>("7").unwrap(), ByteSize(7));
        assert!(serde_json::from_str::<ByteSize>("true").is_err());
    }
}
