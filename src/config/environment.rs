//! The environment as the configuration sees it: variables and secret files.
//!
//! The only place that reads the process's environment. Tests bring their own.

use std::{env, fs, io, path::Path};

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
