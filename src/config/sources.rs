//! The files of a configuration: which they are, and their text.

use std::{
    cell::OnceCell,
    collections::HashSet,
    fs, io,
    path::{Path, PathBuf},
    rc::Rc,
};

use super::locate::{self, Mark};
use crate::problem::{Focus, KeyPath, Origin, Place, Problem};

/// A file of the configuration.
#[derive(Debug)]
pub(super) struct SourceFile {
    /// As the user named it.
    pub(super) path: PathBuf,
    /// Whether `--config` named it: it holds no flows.
    pub(super) is_worker_config: bool,
    pub(super) text: String,
    marks: OnceCell<Option<Rc<Mark>>>,
}

impl SourceFile {
    /// Makes a file of a known text.
    pub(super) fn new(path: PathBuf, text: String) -> Self {
        Self { path, is_worker_config: false, text, marks: OnceCell::new() }
    }

    /// Returns the directory that the file's relative paths start from.
    pub(super) fn base_dir(&self) -> PathBuf {
        match self.path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        }
    }

    /// Returns where a key stands.
    pub(super) fn place(&self, path: &KeyPath, focus: Focus) -> Place {
        match self.marks.get_or_init(|| locate::marks(&self.text)) {
            Some(marks) => marks.place(&self.path, &self.text, path, focus),
            None => whole(&self.path),
        }
    }

    /// Returns where a key stands, as `file:line:column`.
    pub(super) fn position(&self, path: &KeyPath, focus: Focus) -> String {
        let place = self.place(path, focus);
        format!("{}:{}:{}", place.file.display(), place.line, place.column)
    }
}

/// Reads all files that `paths` and `worker_config` name, each once.
pub(super) fn read(
    paths: &[PathBuf],
    worker_config: Option<&Path>,
    problems: &mut Vec<Problem>,
) -> Vec<SourceFile> {
    let mut files = Vec::new();
    let mut seen = HashSet::new();
    for (path, is_worker_config) in named(paths, worker_config, problems) {
        if !seen.insert(fs::canonicalize(&path).unwrap_or_else(|_| path.clone())) {
            continue;
        }
        match text(&path) {
            Ok(text) => files.push(SourceFile { is_worker_config, ..SourceFile::new(path, text) }),
            Err(problem) => problems.push(*problem),
        }
    }
    files
}

/// Returns the files that `paths` and `worker_config` name, and whether each is the latter.
pub(super) fn named(
    paths: &[PathBuf],
    worker_config: Option<&Path>,
    problems: &mut Vec<Problem>,
) -> Vec<(PathBuf, bool)> {
    let config = worker_config.map(|path| (path.to_path_buf(), true));
    let flows = paths.iter().flat_map(|path| expand(path, problems)).map(|path| (path, false));
    config.into_iter().chain(flows).collect()
}

/// Says why a file could not be read, without the number of the operating system's error.
pub(super) fn cause(error: &io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Returns the files that a path of the command line stands for.
fn expand(path: &Path, problems: &mut Vec<Problem>) -> Vec<PathBuf> {
    if !path.is_dir() {
        return vec![path.to_path_buf()];
    }
    let entries = fs::read_dir(path).and_then(Iterator::collect::<io::Result<Vec<_>>>);
    let mut files: Vec<_> = match entries {
        Ok(entries) => {
            entries.into_iter().map(|entry| entry.path()).filter(|path| is_flow_file(path)).collect()
        }
        Err(error) => {
            problems.push(about(path, "cannot read the directory", Some(cause(&error))));
            return Vec::new();
        }
    };
    files.sort();
    if files.is_empty() {
        let hint = "files end with `.yaml` or `.yml`; directories below it are not searched";
        problems.push(about(path, "the directory holds no flow", Some(hint.into())));
    }
    files
}

/// Dot entries are left out: a Kubernetes ConfigMap mount shows every file a second time below `..data`.
fn is_flow_file(path: &Path) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let is_yaml = path.extension().is_some_and(|extension| extension == "yaml" || extension == "yml");
    is_yaml && !is_hidden && path.is_file()
}

fn text(path: &Path) -> Result<String, Box<Problem>> {
    let bytes =
        fs::read(path).map_err(|error| Box::new(about(path, "cannot read the file", Some(cause(&error)))))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let line =
            error.as_bytes()[..error.utf8_error().valid_up_to()].iter().filter(|b| **b == b'\n').count();
        let mut problem = about(path, "the file is not UTF-8", Some("save it as UTF-8".into()));
        problem.origin = Some(Origin::Place(Place { line: line + 1, ..whole(path) }));
        Box::new(problem)
    })?;
    Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned))
}

fn about(path: &Path, message: &str, hint: Option<String>) -> Problem {
    let mut problem = Problem::new(KeyPath::default(), message);
    problem.hint_opt(hint).origin = Some(Origin::Place(whole(path)));
    problem
}

/// Returns the place that is the file itself.
pub(super) fn whole(path: &Path) -> Place {
    Place { file: path.to_path_buf(), line: 0, column: 0, width: 1, text: String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_map_mount_loads_each_file_once() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("..data");
        fs::create_dir(&data).unwrap();
        for name in ["b.yaml", "a.yml"] {
            fs::write(data.join(name), "flow: {}").unwrap();
            #[cfg(unix)]
            std::os::unix::fs::symlink(data.join(name), dir.path().join(name)).unwrap();
        }
        fs::write(dir.path().join(".hidden.yaml"), "").unwrap();
        fs::write(dir.path().join("notes.txt"), "").unwrap();
        let mut problems = Vec::new();
        let files = read(&[dir.path().to_path_buf(), dir.path().join("b.yaml")], None, &mut problems);
        let names: Vec<_> = files.iter().map(|file| file.path.file_name().unwrap().to_owned()).collect();
        assert_eq!(names, ["a.yml", "b.yaml"]);
        assert_eq!(problems, []);
    }

    #[test]
    fn a_byte_order_mark_is_no_content() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.yaml");
        fs::write(&path, b"\xef\xbb\xbfflow: {}").unwrap();
        assert_eq!(text(&path).unwrap(), "flow: {}");
    }
}
