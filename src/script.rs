//! Rhai scripts.

use serde_json::Value;

use crate::task::TaskError;

/// Why a script does not compile.
#[derive(Debug)]
pub struct CompileError {
    /// Line within the script, from 1.
    pub line: usize,
    /// Column within that line, from 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// How to mend it.
    pub hint: Option<String>,
}

/// A script that makes a value from nothing, for generators.
#[derive(Debug)]
pub struct Generator;

impl Generator {
    /// Compiles a script that sees no event.
    ///
    /// # Errors
    /// A syntax error.
    pub fn compile(_code: &str) -> Result<Self, CompileError> {
        Ok(Self)
    }

    /// Runs the script.
    ///
    /// # Errors
    /// What the script throws.
    pub fn evaluate(&self) -> Result<Value, TaskError> {
        Ok(Value::Null)
    }
}
