//! Which statuses are a success: `success_status`.

use std::{borrow::Cow, ops::RangeInclusive, str::FromStr};

use reqwest::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{Error, Unexpected, Visitor},
};

use crate::problem::Problems;

/// The statuses that there are.
const ALL: RangeInclusive<u16> = 100..=599;

/// The statuses that are a success.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(transparent)]
#[schemars(inline)]
pub(super) struct Statuses(Vec<Range>);

impl Default for Statuses {
    fn default() -> Self {
        Self(vec![Range(200..=299)])
    }
}

impl Statuses {
    pub(super) fn check(&self, problems: &mut Problems) {
        if self.0.is_empty() {
            problems.report("success_status", "no status is a success").hint("leave it out for `2xx`");
        }
    }

    pub(super) fn has(&self, status: StatusCode) -> bool {
        self.0.iter().any(|range| range.0.contains(&status.as_u16()))
    }
}

/// One status or several in a row: `404`, `2xx`, `200-204`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Range(RangeInclusive<u16>);

impl FromStr for Range {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let number = |text: &str| text.trim().parse::<u16>().map_err(|_| ());
        let lower = text.trim().to_ascii_lowercase();
        let range = match (lower.strip_suffix("xx"), lower.split_once('-')) {
            (Some(hundreds), _) => {
                let first = number(hundreds)?.checked_mul(100).ok_or(())?;
                first..=first.checked_add(99).ok_or(())?
            }
            (None, Some((first, last))) => number(first)?..=number(last)?,
            (None, None) => number(&lower)?..=number(&lower)?,
        };
        let is_fine = ALL.contains(range.start()) && ALL.contains(range.end()) && !range.is_empty();
        is_fine.then_some(Self(range)).ok_or(())
    }
}

impl<'de> Deserialize<'de> for Range {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(RangeVisitor)
    }
}

struct RangeVisitor;

impl Visitor<'_> for RangeVisitor {
    type Value = Range;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a status such as `404`, `2xx` or `200-204`")
    }

    fn visit_u64<E: Error>(self, status: u64) -> Result<Range, E> {
        status.to_string().parse().map_err(|()| E::invalid_value(Unexpected::Unsigned(status), &self))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Range, E> {
        text.parse().map_err(|()| E::invalid_value(Unexpected::Str(text), &self))
    }
}

impl JsonSchema for Range {
    fn schema_name() -> Cow<'static, str> {
        "StatusRange".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "a status such as `404`, `2xx` or `200-204`",
            "type": ["string", "integer"],
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn statuses(value: Value) -> Result<Vec<u16>, serde_json::Error> {
        let statuses: Statuses = serde_json::from_value(value)?;
        Ok((100..600).filter(|code| statuses.has(StatusCode::from_u16(*code).unwrap())).collect())
    }

    #[test]
    fn a_status_a_class_and_a_range_are_read() {
        assert_eq!(statuses(json!([404, "201", "300-302"])).unwrap(), [201, 300, 301, 302, 404]);
        assert_eq!(statuses(json!(["5XX"])).unwrap(), (500..600).collect::<Vec<_>>());
        assert!(Statuses::default().has(StatusCode::NO_CONTENT));
        assert!(!Statuses::default().has(StatusCode::FOUND));
    }

    #[test]
    fn what_is_no_status_is_refused() {
        for wrong in
            [json!(99), json!(600), json!("6xx"), json!("xx"), json!("204-200"), json!("ok"), json!(true)]
        {
            assert!(statuses(json!([wrong])).is_err(), "{wrong}");
        }
        let mut problems = Problems::default();
        Statuses(Vec::new()).check(&mut problems);
        assert!(!problems.is_empty());
    }
}
