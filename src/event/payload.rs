//! The data of an event: JSON that is shared and parsed when first looked at, or raw bytes.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// The data of an event. Cloning shares it; changing a shared one copies it first.
#[derive(Clone, Debug)]
pub enum Payload {
    /// A JSON value.
    Json(Arc<Json>),
    /// Bytes that are not known to be JSON.
    Bytes(Bytes),
}

/// A JSON value as the text it came in, the tree it was parsed to, or both.
///
/// At least one of the two is present, and where both are they agree.
#[derive(Debug)]
pub struct Json {
    text: Option<Arc<str>>,
    tree: OnceLock<Value>,
}

impl Payload {
    /// Wraps one line of JSON text, unparsed until a task needs its fields.
    ///
    /// The text is checked now, by the rules that parsing it later will follow.
    ///
    /// # Errors
    /// What is wrong with the text, with the column where it is.
    pub fn from_json_line(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str::<Checked>(text)?;
        Ok(Self::from_known_json(text))
    }

    /// Returns whether these bytes are JSON text, by the rules that parsing it will follow.
    pub fn is_json(bytes: &[u8]) -> bool {
        serde_json::from_slice::<Checked>(bytes).is_ok()
    }

    /// Wraps one line of text that is known to be JSON, unparsed until a task needs its fields.
    pub fn from_known_json(text: &str) -> Self {
        Self::Json(Arc::new(Json { text: Some(text.into()), tree: OnceLock::new() }))
    }

    /// Returns the JSON value, or `None` for raw bytes. The first call parses, whoever shares it.
    #[inline]
    pub fn json(&self) -> Option<&Value> {
        match self {
            Self::Json(json) => Some(json.tree()),
            Self::Bytes(_) => None,
        }
    }

    /// Returns the JSON text if nobody has parsed it yet, for those who need only a part of it.
    pub fn unparsed(&self) -> Option<&str> {
        match self {
            Self::Json(json) if json.tree.get().is_none() => json.text.as_deref(),
            _ => None,
        }
    }

    /// Returns the JSON value to be changed in place, copied first if it is shared.
    pub fn json_mut(&mut self) -> Option<&mut Value> {
        let Self::Json(json) = self else { return None };
        json.tree();
        if Arc::get_mut(json).is_none() {
            *json = Arc::new(Json { text: None, tree: OnceLock::from(json.tree().clone()) });
        }
        let json = Arc::get_mut(json)?;
        json.text = None;
        json.tree.get_mut()
    }

    /// Takes the JSON value out, without a copy if it is not shared.
    ///
    /// # Errors
    /// The payload itself, if it is raw bytes.
    pub fn into_json(self) -> Result<Value, Self> {
        match self {
            Self::Json(json) => {
                json.tree();
                Ok(match Arc::try_unwrap(json) {
                    Ok(json) => json.tree.into_inner().unwrap_or_default(),
                    Err(shared) => shared.tree().clone(),
                })
            }
            Self::Bytes(_) => Err(self),
        }
    }

    /// Returns a share of the data that does not keep others from changing theirs in place, if it came as text.
    #[must_use]
    pub fn original(&self) -> Self {
        match self {
            Self::Json(json) if json.text.is_some() => {
                Self::Json(Arc::new(Json { text: json.text.clone(), tree: OnceLock::new() }))
            }
            data => data.clone(),
        }
    }

    /// Returns the one-line JSON text the payload came in, if nothing has changed it since.
    pub fn text(&self) -> Option<&str> {
        match self {
            Self::Json(json) => json.text.as_deref(),
            Self::Bytes(_) => None,
        }
    }
}

impl From<Value> for Payload {
    fn from(value: Value) -> Self {
        Self::Json(Arc::new(Json { text: None, tree: OnceLock::from(value) }))
    }
}

impl Default for Payload {
    fn default() -> Self {
        Self::Bytes(Bytes::new())
    }
}

impl Json {
    #[inline]
    fn tree(&self) -> &Value {
        self.tree.get_or_init(|| {
            let text = self.text.as_deref().unwrap_or("null");
            serde_json::from_str(text).expect("the text was checked when it came in")
        })
    }
}

/// Accepts exactly what parsing to a [`Value`] accepts, and builds nothing.
struct Checked;

impl<'de> Deserialize<'de> for Checked {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(CheckedVisitor)
    }
}

struct CheckedVisitor;

impl<'de> Visitor<'de> for CheckedVisitor {
    type Value = Checked;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_str<E>(self, _: &str) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_unit<E>(self) -> Result<Checked, E> {
        Ok(Checked)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Checked, A::Error> {
        while items.next_element::<Checked>()?.is_some() {}
        Ok(Checked)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Checked, A::Error> {
        while entries.next_entry::<Checked, Checked>()?.is_some() {}
        Ok(Checked)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn changing_a_shared_payload_leaves_the_other_share_alone() {
        let original = Payload::from_json_line(r#"{"a": 1}"#).unwrap();
        let mut copy = original.clone();
        copy.json_mut().unwrap()["a"] = json!(2);
        assert_eq!(original.json(), Some(&json!({"a": 1})));
        assert_eq!(original.text(), Some(r#"{"a": 1}"#));
        assert_eq!(copy.json(), Some(&json!({"a": 2})));
        assert_eq!(copy.text(), None);
    }

    #[test]
    fn a_change_in_place_drops_the_text() {
        let mut payload = Payload::from_json_line("[1]").unwrap();
        payload.json_mut().unwrap()[0] = json!(2);
        assert_eq!(payload.text(), None);
        assert_eq!(payload.into_json().unwrap(), json!([2]));
    }

    #[test]
    fn nesting_that_could_not_be_parsed_later_is_refused_now() {
        let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
        assert!(Payload::from_json_line(&deep).is_err());
    }

    proptest! {
        #[test]
        fn the_check_accepts_what_the_parser_accepts(text in r#"[\[\]{}",:0-9a-e\\.\-+ truefalsnl\u{e9}]{0,24}"#) {
            let parsed = serde_json::from_str::<Value>(&text);
            prop_assert_eq!(Payload::is_json(text.as_bytes()), parsed.is_ok());
            match Payload::from_json_line(&text) {
                Ok(payload) => prop_assert_eq!(payload.json(), parsed.as_ref().ok()),
                Err(error) => prop_assert_eq!(error.to_string(), parsed.unwrap_err().to_string()),
            }
        }
    }
}
