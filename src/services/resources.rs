//! The files that `{resource: path}` names: those of one directory, and none outside of it.

use std::{
    fs, io,
    path::{Component, Path, PathBuf},
};

use crate::task::Resources;

/// The resources of a directory.
#[derive(Clone, Debug)]
pub struct ResourceDirectory(PathBuf);

impl ResourceDirectory {
    /// Serves the files below `path`.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }
}

impl Resources for ResourceDirectory {
    fn read(&self, path: &str) -> io::Result<String> {
        let relative = Path::new(path);
        let is_inside =
            relative.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
        if !is_inside || path.is_empty() {
            return Err(outside());
        }
        let file = fs::canonicalize(self.0.join(relative))?;
        // A link must not lead out either.
        if !file.starts_with(fs::canonicalize(&self.0)?) {
            return Err(outside());
        }
        fs::read_to_string(file)
    }
}

fn outside() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "the path leaves the directory of resources")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_is_inside_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let inside = dir.path().join("resources");
        fs::create_dir_all(inside.join("sub")).unwrap();
        fs::write(inside.join("sub/a.rhai"), "1").unwrap();
        fs::write(dir.path().join("secret"), "2").unwrap();
        #[cfg(unix)]
        std::os::unix::fs::symlink(dir.path().join("secret"), inside.join("link")).unwrap();
        let resources = ResourceDirectory::new(&inside);
        assert_eq!(resources.read("sub/a.rhai").unwrap(), "1");
        assert_eq!(resources.read("./sub/a.rhai").unwrap(), "1");
        assert_eq!(resources.read("none").unwrap_err().kind(), io::ErrorKind::NotFound);
        let absolute = dir.path().join("secret");
        for path in ["../secret", "sub/../../secret", "link", "", absolute.to_str().unwrap()] {
            assert_eq!(resources.read(path).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{path}");
        }
    }
}
