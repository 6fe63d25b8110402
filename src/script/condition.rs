//! Scripts that decide about an event.

use super::{
    CompileError, Limits,
    native::type_name,
    program::{Lent, Program, Purpose},
    runtime_error::SCRIPT,
};
use crate::{event::Event, task::TaskError, telemetry::inside};

/// A compiled condition: a script that says yes or no to an event and cannot change it.
#[derive(Debug)]
pub struct Condition(Program);

impl Condition {
    /// Compiles a condition.
    ///
    /// # Errors
    /// A syntax error, a change of the event, or a use of `event` or `ctx` that cannot be right.
    pub fn compile(expression: &str) -> Result<Self, CompileError> {
        let program = Program::compile(expression, &Limits::default(), Purpose::Condition)?;
        program.refuse_changes(expression)?.refuse_cache(expression).map(Self)
    }

    /// Returns what the condition says of an event.
    ///
    /// # Errors
    /// What it throws, or that its result is no bool.
    pub fn is_true(&self, event: &Event) -> Result<bool, TaskError> {
        let result = inside(event, || self.0.run(event, &Lent::default()))?.result;
        result.as_bool().map_err(|_| {
            let message = format!("the condition gave a value of type `{}`, not a bool", type_name(&result));
            TaskError::permanent(SCRIPT, message)
        })
    }
}
