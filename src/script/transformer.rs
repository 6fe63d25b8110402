//! Scripts that handle events.

use std::sync::Arc;

use rhai::Dynamic;

use super::{
    CompileError, Limits,
    functions::{CacheKeys, ResourceFiles},
    outputs::Plan,
    program::{Lent, Program, Purpose},
};
use crate::{
    event::Event,
    task::{Cache, Output, Resources, TaskError},
    telemetry::inside,
};

/// A compiled script that handles events.
///
/// | it returns | what leaves |
/// |---|---|
/// | `()` | nothing: the event is filtered |
/// | `event`, or any copy of it | the event with its changes, under its own id |
/// | an array | an event for each element that is not `()`, with id `<id>-<n>` |
/// | a blob | the event with raw bytes as data |
/// | anything else | the event with that as data |
///
/// Changes to `ctx.meta`, `event.meta`, `event.subject` and `event.id` go with whatever leaves.
#[derive(Debug)]
pub struct Script {
    program: Program,
    lent: Lent,
}

impl Script {
    /// Compiles a script.
    ///
    /// # Errors
    /// A syntax error, or a use of `event` or `ctx` that cannot be right.
    pub fn compile(code: &str, limits: &Limits) -> Result<Self, CompileError> {
        let program = Program::compile(code, limits, Purpose::Script)?;
        Ok(Self { program, lent: Lent::default() })
    }

    #[cfg(test)]
    pub(super) fn compile_whole(code: &str) -> Result<Self, CompileError> {
        let program = Program::compile(code, &Limits::default(), Purpose::WholeScript)?;
        Ok(Self { program, lent: Lent::default() })
    }

    /// Returns whether the script names `ctx.resource`, and so may wait for a disk.
    pub fn uses_resources(&self) -> bool {
        self.program.uses.ctx_resource && self.program.uses.names_resource
    }

    /// Gives the script the files behind `ctx.resource`.
    #[must_use]
    pub fn with_resources(mut self, resources: Arc<dyn Resources>) -> Self {
        self.lent.resource = Dynamic::from(ResourceFiles(resources));
        self
    }

    /// Gives the script what is behind `ctx.cache`.
    #[must_use]
    pub fn with_cache(mut self, cache: Arc<dyn Cache>) -> Self {
        self.lent.cache = Dynamic::from(CacheKeys(cache));
        self
    }

    /// Runs the script on an event and puts what it makes of it into `output`.
    ///
    /// # Errors
    /// What the script throws, or that it exceeds its limits. The event is then as it came.
    pub fn run(&self, event: &mut Event, output: &mut Output) -> Result<(), TaskError> {
        let input = &*event;
        let finished = inside(input, || self.program.run(input, &self.lent))?;
        Plan::of(&self.program, event, &finished)?.carry_out(event, output);
        self.program.keep(finished.event);
        Ok(())
    }
}
