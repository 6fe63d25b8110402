//! The environment as the configuration sees it: variables and secret files.
//!
//! The only place that reads the process's environment. Tests bring their own.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
};

use super::fingerprint::Fingerprint;

/// Gives the configuration what stands outside of it.
pub trait Environment {
    /// Returns the value of a variable; one that is not Unicode counts as absent.
    fn variable(&self, name: &str) -> Option<String>;

    /// Returns all variables whose names and values are Unicode, in any order.
    fn variables(&self) -> Vec<(String, String)>;

    /// Reads the text of a file that the configuration names.
    ///
    /// # Errors
    /// Those of the file system.
    fn read(&self, path: &Path) -> io::Result<String>;
}

/// The environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    fn variable(&self, name: &str) -> Option<String> {
        env::var(name).ok()
    }

    fn variables(&self) -> Vec<(String, String)> {
        env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        fs::read_to_string(path)
    }
}

/// What files hold, each by its path; `None` of one that cannot be read.
pub type Contents = BTreeMap<PathBuf, Option<Fingerprint>>;

/// An environment that notes what is read of another one.
pub struct Recorder<'a> {
    environment: &'a dyn Environment,
    read: RefCell<Contents>,
}

impl<'a> Recorder<'a> {
    /// Notes what is read of `environment` from here on.
    pub fn new(environment: &'a dyn Environment) -> Self {
        Self { environment, read: RefCell::default() }
    }

    /// Returns what was read.
    pub fn into_contents(self) -> Contents {
        self.read.into_inner()
    }
}

impl Environment for Recorder<'_> {
    fn variable(&self, name: &str) -> Option<String> {
        self.environment.variable(name)
    }

    fn variables(&self) -> Vec<(String, String)> {
        self.environment.variables()
    }

    fn read(&self, path: &Path) -> io::Result<String> {
        let text = self.environment.read(path);
        let content = text.as_ref().ok().map(|text| Fingerprint::of(text.as_bytes()));
        self.read.borrow_mut().insert(path.to_path_buf(), content);
        text
    }
}

#[cfg(test)]
pub(super) mod fixed {
    //! An environment that a test writes down.

    use super::*;

    /// Variables as pairs; files are read from the file system.
    pub(in crate::config) struct Fixed(pub(in crate::config) Vec<(String, String)>);

    impl Fixed {
        /// Makes an environment of these variables.
        pub(in crate::config) fn of(variables: &[(&str, &str)]) -> Self {
            Self(variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
        }
    }

    impl Environment for Fixed {
        fn variable(&self, name: &str) -> Option<String> {
            self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone())
        }

        fn variables(&self) -> Vec<(String, String)> {
            self.0.clone()
        }

        fn read(&self, path: &Path) -> io::Result<String> {
            fs::read_to_string(path)
        }
    }
}
