//! The trace context that a record carries: its members `traceparent`, `tracestate` and `baggage`, as the extension of
//! CloudEvents for distributed tracing names them.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor},
};

/// The members of a record that say where it comes from. All else in it is passed over, unread.
#[derive(Debug, Default, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(super) struct Carried<'a> {
    #[serde(borrow, deserialize_with = "text")]
    pub(super) traceparent: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) tracestate: Option<Cow<'a, str>>,
    #[serde(borrow, deserialize_with = "text")]
    pub(super) baggage: Option<Cow<'a, str>>,
}

impl<'a> Carried<'a> {
    /// Finds the members in the text of a record. What is no JSON object has none.
    pub(super) fn find(record: &'a [u8]) -> Self {
        // A list of three texts would also do for a struct.
        if !record.trim_ascii_start().starts_with(b"{") {
            return Self::default();
        }
        serde_json::from_slice(record).unwrap_or_default()
    }
}

/// Takes a text; any other value counts as not there.
fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Cow<'de, str>>, D::Error> {
    deserializer.deserialize_any(Text)
}

struct Text;

impl<'de> Visitor<'de> for Text {
    type Value = Option<Cow<'de, str>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any value")
    }

    fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Borrowed(text)))
    }

    fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Some(Cow::Owned(text.to_owned())))
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
        Ok(None)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
        while entries.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the three members, `-` for one that is not there.
    fn found(record: &str) -> String {
        let Carried { traceparent, tracestate, baggage } = Carried::find(record.as_bytes());
        [traceparent, tracestate, baggage].map(|text| text.unwrap_or("-".into())).join(" ")
    }

    #[test]
    fn the_members_of_an_object_are_found_wherever_they_stand() {
        assert_eq!(found(r#"{"a": [1, {"baggage": "no"}], "traceparent": "x", "b": {}}"#), "x - -");
        assert_eq!(found(r#" {"baggage":"b","tracestate":"s","traceparent":"p"} "#), "p s b");
        assert_eq!(found(r#"{"traceparent": "a\u002db", "baggage": "k=\"v\""}"#), "a-b - k=\"v\"");
    }

    #[test]
    fn a_member_that_is_no_text_counts_as_not_there_and_leaves_the_others() {
        for other in ["null", "true", "7", "-7", "1.5", r#"["x", ["y"]]"#, r#"{"x": {"y": 1}}"#] {
            assert_eq!(found(&format!(r#"{{"traceparent": {other}, "baggage": "b"}}"#)), "- - b", "{other}");
        }
    }

    #[test]
    fn what_is_no_object_has_none() {
        for record in
            ["", "7", "null", r#""traceparent""#, r#"["p", "s", "b"]"#, "{", r#"{"traceparent": "x""#]
        {
            assert_eq!(found(record), "- - -", "{record}");
        }
    }

    #[test]
    fn nothing_is_copied_that_stands_in_the_record_as_it_is() {
        let record = br#"{"traceparent": "x"}"#;
        assert!(matches!(Carried::find(record).traceparent, Some(Cow::Borrowed("x"))));
    }

    #[test]
    fn a_deep_record_is_passed_over() {
        let deep = ["[", "]"].map(|bracket| bracket.repeat(100_000)).concat();
        assert_eq!(found(&format!(r#"{{"data": {deep}, "traceparent": "x"}}"#)), "x - -");
    }
}
