//! The files that a path or a pattern names.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::task::{BuildContext, BuildError};

/// A file that was found, as it was then.
#[derive(Clone, Debug)]
pub(super) struct Input {
    /// As the flow names it.
    pub(super) name: Arc<str>,
    pub(super) path: PathBuf,
    /// `None` for what has no length: a pipe, a device.
    pub(super) bytes: Option<u64>,
}

/// Finds the files of a path or pattern, and makes sure that they can be read. Blocks as disks do.
pub(super) fn find(path: &str, context: &BuildContext) -> Result<Vec<Input>, BuildError> {
    let plain = context.resolve(path);
    let is_pattern = path.contains(['*', '?', '[']) && !plain.exists();
    if !is_pattern {
        return Ok(vec![input(path.into(), plain)?]);
    }
    glob::Pattern::new(path)
        .map_err(|error| BuildError::new(format!("`{path}` is neither a file nor a pattern")).with_source(error))?;
    let cannot = || format!("cannot look for `{path}`");
    let base = glob::Pattern::escape(&context.base_dir.to_string_lossy());
    let pattern = Path::new(&base).join(path);
    let matches = glob::glob(&pattern.to_string_lossy())
        .map_err(|error| BuildError::new(cannot()).with_source(error))?;
    let mut inputs = Vec::new();
    for found in matches {
        let found = found.map_err(|error| BuildError::new(cannot()).with_source(error))?;
        if !found.is_dir() {
            let name = found.strip_prefix(&context.base_dir).unwrap_or(&found).to_string_lossy();
            inputs.push(input(name.into(), found)?);
        }
    }
    if inputs.is_empty() {
        return Err(BuildError::new(format!("no file matches `{path}`")));
    }
    inputs.sort_by(|one, other| one.path.cmp(&other.path));
    Ok(inputs)
}

/// Looks at one file. Only a regular one is opened here: opening a pipe waits for its writer, and closing
/// it again would take the reader from under that one.
fn input(name: Arc<str>, path: PathBuf) -> Result<Input, BuildError> {
    let cannot = |error| BuildError::new(format!("cannot open `{name}`")).with_source(error);
    let metadata = fs::metadata(&path).map_err(cannot)?;
    if metadata.is_dir() {
        return Err(BuildError::new(format!("`{name}` is a directory")));
    }
    if !metadata.is_file() {
        return Ok(Input { name, path, bytes: None });
    }
    File::open(&path).map_err(cannot)?;
    Ok(Input { name, path, bytes: Some(metadata.len()) })
}
