//! The files that a path or a pattern names.

use std::{
    fmt,
    fs::{self, File},
    io::{self, ErrorKind},
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

/// A path or a pattern, as the flow gives it.
#[derive(Clone, Debug)]
pub(super) struct Names {
    given: String,
    plain: PathBuf,
    base_dir: PathBuf,
    /// The pattern below the folder of the flow, if it can be one.
    pattern: Option<String>,
}

impl fmt::Display for Names {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.given)
    }
}

impl Names {
    /// Reads a path or a pattern. Blocks as disks do.
    ///
    /// # Errors
    /// It is neither.
    pub(super) fn new(given: &str, context: &BuildContext) -> Result<Self, BuildError> {
        let plain = context.resolve(given);
        let mut is_pattern = given.contains(['*', '?', '[']);
        if let Err(error) = glob::Pattern::new(given) {
            if is_pattern && !plain.exists() {
                let message = format!("`{given}` is neither a file nor a pattern");
                return Err(BuildError::new(message).with_source(error));
            }
            is_pattern = false;
        }
        let base_dir = context.base_dir.clone();
        let below = || Path::new(&glob::Pattern::escape(&base_dir.to_string_lossy())).join(given);
        let pattern = is_pattern.then(|| below().to_string_lossy().into_owned());
        Ok(Self { given: given.to_owned(), plain, base_dir, pattern })
    }

    /// Returns the pattern, unless there is a file of that very name.
    fn pattern(&self) -> Option<&str> {
        self.pattern.as_deref().filter(|_| !self.plain.exists())
    }

    /// Returns the path of a file that the flow names so.
    pub(super) fn resolve(&self, name: &str) -> PathBuf {
        self.base_dir.join(name)
    }

    /// Lists the files there may be, as the flow names them and with their paths, in the order of their names. What a
    /// pattern matches is there, be it a folder.
    pub(super) fn list(&self) -> io::Result<Vec<(Arc<str>, PathBuf)>> {
        let Some(pattern) = self.pattern() else {
            return Ok(vec![(self.given.as_str().into(), self.plain.clone())]);
        };
        let matches = glob::glob(pattern).map_err(|error| io::Error::new(ErrorKind::InvalidInput, error))?;
        let mut found: Vec<PathBuf> = matches.collect::<Result<_, _>>().map_err(io::Error::from)?;
        found.sort();
        let name =
            |path: &PathBuf| path.strip_prefix(&self.base_dir).unwrap_or(path).to_string_lossy().into();
        Ok(found.into_iter().map(|path| (name(&path), path)).collect())
    }
}

/// Finds the files of a path or pattern, and makes sure that they can be read. Blocks as disks do.
pub(super) fn find(names: &Names) -> Result<Vec<Input>, BuildError> {
    if names.pattern().is_none() {
        return Ok(vec![input(names.given.as_str().into(), names.plain.clone())?]);
    }
    let mut inputs = Vec::new();
    for (name, path) in list(names)? {
        if !path.is_dir() {
            inputs.push(input(name, path)?);
        }
    }
    if inputs.is_empty() {
        return Err(BuildError::new(format!("no file matches `{names}`")));
    }
    Ok(inputs)
}

/// Makes sure that what is there can be followed. Blocks as disks do.
pub(super) fn check_followed(names: &Names) -> Result<(), BuildError> {
    let is_pattern = names.pattern().is_some();
    for (name, path) in list(names)? {
        let Ok(metadata) = fs::metadata(path) else { continue };
        if metadata.is_dir() && !is_pattern {
            return Err(BuildError::new(format!("`{name}` is a directory")));
        }
        if !metadata.is_file() && !metadata.is_dir() {
            return Err(BuildError::new(format!(
                "`{name}` is no file: a pipe or a device cannot be followed"
            )));
        }
    }
    Ok(())
}

fn list(names: &Names) -> Result<Vec<(Arc<str>, PathBuf)>, BuildError> {
    names.list().map_err(|error| BuildError::new(format!("cannot look for `{names}`")).with_source(error))
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
