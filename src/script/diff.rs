//! Which parts of a payload a script changed.

use rhai::Dynamic;
use serde_json::Value;

use super::{
    native::{self, NotJson},
    projection::Projection,
    shapes::Shapes,
};

/// A change at one path of a JSON value.
#[derive(Debug, PartialEq)]
pub(super) struct Edit<'a> {
    path: Vec<&'a str>,
    /// The new value; `None` removes it.
    value: Option<Value>,
}

/// Compares what a script saw of `original` with what it left behind. Nothing that is the same is an
/// edit, so numbers keep their exact form.
pub(super) fn edits<'a>(
    projection: &'a Projection,
    native: &Dynamic,
    original: &Value,
    shapes: &Shapes,
) -> Result<Vec<Edit<'a>>, NotJson> {
    let mut diff = Diff { shapes, path: Vec::new(), edits: Vec::new() };
    diff.visit(projection, native, original)?;
    Ok(diff.edits)
}

/// Makes the changes. They were found on the same value, so their paths exist.
pub(super) fn apply(edits: Vec<Edit<'_>>, root: &mut Value) {
    for Edit { path, value } in edits {
        let Some((last, parents)) = path.split_last() else {
            *root = value.unwrap_or_default();
            continue;
        };
        let parent = parents.iter().try_fold(&mut *root, |value, key| value.get_mut(*key));
        let Some(entries) = parent.and_then(Value::as_object_mut) else { continue };
        match value {
            Some(value) => match entries.get_mut(*last) {
                Some(place) => *place = value,
                None => {
                    entries.insert((*last).to_owned(), value);
                }
            },
            None => {
                entries.shift_remove(*last);
            }
        }
    }
}

struct Diff<'a, 's> {
    shapes: &'s Shapes,
    path: Vec<&'a str>,
    edits: Vec<Edit<'a>>,
}

impl<'a> Diff<'a, '_> {
    fn visit(&mut self, part: &'a Projection, native: &Dynamic, original: &Value) -> Result<(), NotJson> {
        if let (Projection::Fields(fields), Value::Object(entries)) = (part, original)
            && let Ok(map) = native.as_map_ref()
        {
            for field in fields {
                let key = field.key.as_str();
                match (map.get(key), entries.get(key)) {
                    (Some(native), Some(original)) => {
                        self.path.push(key);
                        self.visit(&field.part, native, original)?;
                        self.path.pop();
                    }
                    (Some(native), None) => self.edit(Some(key), Some(native), None)?,
                    (None, Some(_)) => self.edit(Some(key), None, None)?,
                    (None, None) => {}
                }
            }
        } else if !native::is_same(native, original) {
            self.edit(None, Some(native), Some(original))?;
        }
        Ok(())
    }

    fn edit(
        &mut self,
        key: Option<&'a str>,
        native: Option<&Dynamic>,
        original: Option<&Value>,
    ) -> Result<(), NotJson> {
        let path: Vec<_> = self.path.iter().copied().chain(key).collect();
        let convert = |native| native::to_json_below(path.len(), native, original, self.shapes);
        let value = native.map(convert).transpose()?;
        self.edits.push(Edit { path, value });
        Ok(())
    }
}
