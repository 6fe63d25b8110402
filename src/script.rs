//! Rhai scripts.
//!
//! A script sees `event` and `ctx`. At compile time the analysis finds out which paths of
//! the event the script names; only these are converted to native Rhai values, so the script runs at
//! native speed however large the payload is. After the run the converted values are compared with the
//! payload and only what differs is written back, so an event that no script changed keeps the very
//! text it came in. Whatever the analysis cannot prove is converted whole.
//!
//! Owns the language: what scripts see, may call and return. Must not know tasks or the runtime.

mod analysis;
mod cause;
mod compile;
mod condition;
mod diff;
mod engine;
mod functions;
mod generator;
mod limits;
mod native;
mod outputs;
mod program;
mod projection;
mod runtime_error;
mod shapes;
mod stack;
mod tail;
mod text;
mod transformer;

pub use compile::CompileError;
pub use condition::Condition;
pub use generator::Generator;
pub use limits::Limits;
pub use runtime_error::{ERROR_TYPES, LIMIT, SCRIPT};
pub use transformer::Script;

#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod tests;
