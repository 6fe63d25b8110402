//! Scripts that make values from nothing.

use serde_json::Value;

use super::{
    CompileError, Limits, native,
    program::{Program, Purpose},
    runtime_error::SCRIPT,
};
use crate::task::TaskError;

/// A script that makes a value from nothing, for generators.
#[derive(Debug)]
pub struct Generator(Program);

impl Generator {
    /// Compiles a script that sees no event.
    ///
    /// # Errors
    /// A syntax error.
    pub fn compile(code: &str) -> Result<Self, CompileError> {
        Program::compile(code, &Limits::default(), Purpose::Generator).map(Self)
    }

    /// Runs the script.
    ///
    /// # Errors
    /// What the script throws.
    pub fn evaluate(&self) -> Result<Value, TaskError> {
        let result = self.0.run_alone()?;
        native::to_json(&result, None, &self.0.shapes).map_err(|error| {
            TaskError::permanent(SCRIPT, "the script's result cannot become data").with_source(error)
        })
    }
}
