//! Why a run of a script failed.

use rhai::{AST, EvalAltResult, Position};

use super::cause;
use crate::task::TaskError;

/// The `error.type` of what a script does or throws.
pub const SCRIPT: &str = "script";
/// The `error.type` of a script that exceeded its limits.
pub const LIMIT: &str = "limit";
/// The `error.type`s of whatever runs scripts.
pub const ERROR_TYPES: &[&str] = &[SCRIPT, LIMIT];

/// Turns what the engine reports about `what`, which ran `ast`, into the failure of the event.
pub(super) fn failure(what: &str, ast: &AST, error: &EvalAltResult) -> TaskError {
    let (error, position) = innermost(error);
    let error_type = if is_limit(error) { LIMIT } else { SCRIPT };
    let message = match (position.line(), position.position()) {
        (Some(line), Some(column)) => format!("{what} failed at line {line}, column {column}"),
        (Some(line), None) => format!("{what} failed at line {line}"),
        _ => format!("{what} failed"),
    };
    TaskError::permanent(error_type, message).with_source(cause::text(ast, error, position))
}

fn innermost(error: &EvalAltResult) -> (&EvalAltResult, Position) {
    match error {
        EvalAltResult::ErrorInFunctionCall(_, _, inner, position)
        | EvalAltResult::ErrorInModule(_, inner, position) => match innermost(inner) {
            (inner, Position::NONE) => (inner, *position),
            inner => inner,
        },
        error => (error, error.position()),
    }
}

fn is_limit(error: &EvalAltResult) -> bool {
    matches!(
        error,
        EvalAltResult::ErrorTooManyOperations(_)
            | EvalAltResult::ErrorTooManyVariables(_)
            | EvalAltResult::ErrorStackOverflow(_)
            | EvalAltResult::ErrorDataTooLarge(..)
            // Nothing but the stack ends a run.
            | EvalAltResult::ErrorTerminated(..)
    )
}
