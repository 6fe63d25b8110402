//! Why a run of a script failed.

use rhai::{EvalAltResult, Position};

use super::functions;
use crate::{problem::did_you_mean, task::TaskError};

/// The `error.type` of what a script does or throws.
pub const SCRIPT: &str = "script";
/// The `error.type` of a script that exceeded its limits.
pub const LIMIT: &str = "limit";
/// The `error.type`s of whatever runs scripts.
pub const ERROR_TYPES: &[&str] = &[SCRIPT, LIMIT];

/// Turns what the engine reports about `what` into the failure of the event.
pub(super) fn failure(what: &str, mut error: Box<EvalAltResult>) -> TaskError {
    let position = innermost(&error).1;
    let error_type = if is_limit(innermost(&error).0) { LIMIT } else { SCRIPT };
    let message = match (position.line(), position.position()) {
        (Some(line), Some(column)) => format!("{what} failed at line {line}, column {column}"),
        (Some(line), None) => format!("{what} failed at line {line}"),
        _ => format!("{what} failed"),
    };
    let hint = match innermost(&error).0 {
        EvalAltResult::ErrorFunctionNotFound(signature, _) => {
            let name = signature.split(['(', ' ']).next().unwrap_or_default();
            (!functions::NAMES.contains(&name))
                .then(|| did_you_mean(name, functions::NAMES.iter().copied()))
                .flatten()
        }
        _ => None,
    };
    // Its text would repeat the position.
    let _ = error.take_position();
    let text = match innermost(&error).0 {
        EvalAltResult::ErrorTerminated(..) => "calls nest too deeply for the stack".to_owned(),
        _ => error.to_string(),
    };
    let text = hint.map_or_else(|| text.clone(), |hint| format!("{text}; {hint}"));
    TaskError::permanent(error_type, message).with_source(text)
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
