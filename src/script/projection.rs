//! Which parts of a JSON value a script sees.

use rhai::{Dynamic, Identifier, Map};
use serde_json::Value;

use super::native;

/// A tree of paths into a JSON value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Projection {
    /// All of it.
    Whole,
    /// These properties of an object. Whatever is no object is seen whole, so that a script meets the
    /// same value, and the same error, as without a projection.
    Fields(Vec<Field>),
}

/// A property that a script names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Field {
    /// Its key.
    pub(super) key: Identifier,
    /// What of its value is seen.
    pub(super) part: Projection,
}

impl Projection {
    /// Adds the value at `path`.
    pub(super) fn add(&mut self, path: &[&str]) {
        let Self::Fields(fields) = self else { return };
        let Some((key, rest)) = path.split_first() else {
            *self = Self::Whole;
            return;
        };
        let place = match fields.binary_search_by(|field| field.key.as_str().cmp(key)) {
            Ok(place) => place,
            Err(place) => {
                // Sorted, as the native map is.
                fields.insert(place, Field { key: (*key).into(), part: Self::Fields(Vec::new()) });
                place
            }
        };
        fields[place].part.add(rest);
    }

    /// Converts what the script sees of `value`.
    pub(super) fn project(&self, value: &Value) -> Dynamic {
        match (self, value) {
            (Self::Fields(fields), Value::Object(entries)) => {
                let mut map = Map::new();
                for field in fields {
                    if let Some(value) = entries.get(field.key.as_str()) {
                        map.insert(field.key.clone(), field.part.project(value));
                    }
                }
                Dynamic::from_map(map)
            }
            _ => native::from_json(value),
        }
    }

    /// Makes `native` what [`project`](Self::project) returns, in the maps that it has already.
    pub(super) fn renew(&self, native: &mut Dynamic, value: &Value) {
        if !self.is_renewed(native, value) {
            *native = self.project(value);
        }
    }

    /// Tries to; a script may have made anything of the maps.
    fn is_renewed(&self, native: &mut Dynamic, value: &Value) -> bool {
        let (Self::Fields(fields), Value::Object(entries), false) = (self, value, native.is_shared()) else {
            return false;
        };
        native.set_tag(0);
        let Ok(mut map) = native.as_map_mut() else { return false };
        let mut count = 0;
        for field in fields {
            let key = field.key.as_str();
            let Some(value) = entries.get(key) else {
                map.remove(key);
                continue;
            };
            match map.get_mut(key) {
                Some(native) => field.part.renew(native, value),
                None => drop(map.insert(field.key.clone(), field.part.project(value))),
            }
            count += 1;
        }
        map.len() == count
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(paths: &[&[&str]]) -> Projection {
        let mut projection = Projection::Fields(Vec::new());
        paths.iter().for_each(|path| projection.add(path));
        projection
    }

    #[test]
    fn a_path_used_at_two_depths_is_converted_at_the_shallower_one() {
        assert_eq!(of(&[&["a", "b"], &["a"]]), of(&[&["a"]]));
        assert_eq!(of(&[&["a"], &["a", "b"]]), of(&[&["a"]]));
        assert_eq!(of(&[&["a", "b"], &[]]), Projection::Whole);
    }

    #[test]
    fn only_what_is_named_is_converted_and_what_is_no_object_whole() {
        let projection = of(&[&["a", "b"], &["c", "d"]]);
        let native = projection.project(&json!({"a": {"b": 1, "x": 2}, "c": [3], "y": 4}));
        assert_eq!(
            native::to_json(&native, None, &Default::default()).unwrap(),
            json!({"a": {"b": 1}, "c": [3]})
        );
    }
}
