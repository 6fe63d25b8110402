//! Projection straight from JSON text: what a script only reads need not become a tree first.

use std::fmt;

use rhai::{Dynamic, ImmutableString, Map};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::projection::{Field, Projection};

/// Converts what `projection` lets a script see of the JSON in `text`: the same value as a projection of
/// the parsed text.
pub(super) fn project(projection: &Projection, text: &str) -> serde_json::Result<Dynamic> {
    Part(projection).deserialize(&mut serde_json::Deserializer::from_str(text))
}

/// Reads one value, or the part of it that is seen.
#[derive(Clone, Copy)]
struct Part<'a>(&'a Projection);

impl<'de> DeserializeSeed<'de> for Part<'_> {
    type Value = Dynamic;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Dynamic, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Part<'_> {
    type Value = Dynamic;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("any JSON value")
    }

    fn visit_unit<E>(self) -> Result<Dynamic, E> {
        Ok(Dynamic::UNIT)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Dynamic, E> {
        Ok(Dynamic::from_bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Dynamic, E> {
        Ok(Dynamic::from_int(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Dynamic, E> {
        Ok(i64::try_from(value).map_or_else(|_| Dynamic::from(value), Dynamic::from_int))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Dynamic, E> {
        Ok(Dynamic::from_float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Dynamic, E> {
        Ok(ImmutableString::from(value).into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Dynamic, A::Error> {
        let mut array = Vec::with_capacity(items.size_hint().unwrap_or_default());
        // The items of a value that a script expected to be an object are seen whole.
        while let Some(item) = items.next_element_seed(Part(&Projection::Whole))? {
            array.push(item);
        }
        Ok(Dynamic::from_array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Dynamic, A::Error> {
        let mut map = Map::new();
        match self.0 {
            Projection::Whole => {
                while let Some(key) = entries.next_key::<String>()? {
                    map.insert(key.into(), entries.next_value_seed(self)?);
                }
            }
            Projection::Fields(fields) => {
                while let Some(field) = entries.next_key_seed(Key(fields))? {
                    match field {
                        Some(field) => {
                            map.insert(field.key.clone(), entries.next_value_seed(Part(&field.part))?);
                        }
                        None => drop(entries.next_value::<IgnoredAny>()?),
                    }
                }
            }
        }
        Ok(Dynamic::from_map(map))
    }
}

/// Finds the field that a key names, without a copy of the key.
struct Key<'a>(&'a [Field]);

impl<'de, 'a> DeserializeSeed<'de> for Key<'a> {
    type Value = Option<&'a Field>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl<'de, 'a> Visitor<'de> for Key<'a> {
    type Value = Option<&'a Field>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().find(|field| field.key == key))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;

    fn values() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            any::<f64>().prop_map(Value::from),
            ".{0,30}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[abc]", inner, 0..5)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn text_is_seen_as_its_tree_would_be(
            value in values(),
            paths in prop::collection::vec(prop::collection::vec("[abcd]", 0..4), 0..5),
        ) {
            let mut projection = Projection::Fields(Vec::new());
            for path in &paths {
                projection.add(&path.iter().map(String::as_str).collect::<Vec<_>>());
            }
            let text = value.to_string();
            let tree: Value = serde_json::from_str(&text).unwrap();
            let seen = project(&projection, &text).unwrap();
            prop_assert_eq!(format!("{:?}", seen), format!("{:?}", projection.project(&tree)));
        }
    }

    #[test]
    fn numbers_escapes_and_depth_are_those_of_the_tree() {
        let mut projection = Projection::Fields(Vec::new());
        projection.add(&["a\nb"]);
        let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        for value in [
            "18446744073709551615",
            "18446744073709551616",
            "-9223372036854775809",
            "9223372036854775808",
            "-0",
            "-0.0",
            "1e2",
            "0.1000000000000000055511151231257827",
            "123456789012345678901234567890",
            r#""\ud83d\ude00 \u0000 \" \/""#,
            r#"{"\u0061": 1, "a": 2}"#,
            &deep(126),
        ] {
            let text = format!(r#"{{"a\u000ab": {value}, "x": {value}}}"#);
            let tree: Value = serde_json::from_str(&text).unwrap();
            for projection in [&projection, &Projection::Whole] {
                let seen = self::project(projection, &text).unwrap();
                assert_eq!(format!("{seen:?}"), format!("{:?}", projection.project(&tree)), "{value}");
                assert!(
                    crate::script::native::is_same(&projection.project(&tree), &tree)
                        || *projection != Projection::Whole
                );
            }
        }
        assert!(
            serde_json::from_str::<Value>(&deep(128)).is_err()
                && self::project(&projection, &deep(128)).is_err()
        );
    }

    #[test]
    fn of_a_key_that_stands_twice_the_last_counts() {
        let mut projection = Projection::Fields(Vec::new());
        projection.add(&["a", "b"]);
        let seen = project(&projection, r#"{"a":{"b":1},"a":{"b":2},"a":{"c":3}}"#).unwrap();
        let tree: Value = json!({"a": {"c": 3}});
        assert_eq!(format!("{seen:?}"), format!("{:?}", projection.project(&tree)));
    }
}
