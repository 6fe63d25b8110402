//! Why a run of a script failed, as the log may show it: what the script's author wrote and what types met, but
//! no value, which may be data of an event.

use rhai::{AST, ASTNode, Dynamic, EvalAltResult, Expr, Ident, Position, Stmt};

use super::{functions, native::type_name};
use crate::problem::did_you_mean;

/// Stands for what is known only when the script runs.
const UNKNOWN: &str = "…";

/// The tag of a text that one of our own functions throws. It never holds an argument of the function.
const OWN_TAG: i32 = 0x4f57_4e01;

/// Makes the error of one of our own functions. `text` must not show what the function was given.
pub(super) fn thrown(text: impl Into<String>) -> Box<EvalAltResult> {
    let mut value = Dynamic::from(text.into());
    value.set_tag(OWN_TAG);
    EvalAltResult::ErrorRuntime(value, Position::NONE).into()
}

/// Returns why a run of `ast` failed: `error` within functions, at `position`.
pub(super) fn text(ast: &AST, error: &EvalAltResult, position: Position) -> String {
    use EvalAltResult as E;
    match error {
        E::ErrorRuntime(value, _) => match thrown_text(ast, value, position) {
            Some(text) => format!("Runtime error: {text}"),
            None => "Runtime error".to_owned(),
        },
        E::ErrorFunctionNotFound(signature, _) => not_found(ast, signature),
        E::ErrorArithmetic(text, _) => arithmetic(text).to_owned(),
        E::ErrorArrayBounds(length, ..) => {
            format!("Array index out of bounds: its length is {length}")
        }
        E::ErrorStringBounds(length, ..) => {
            format!("String index out of bounds: its length is {length}")
        }
        E::ErrorBitFieldBounds(length, ..) => format!("Bit index out of bounds: there are {length} bits"),
        E::ErrorIndexNotFound(index, _) => format!("Invalid index of type `{}`", type_name(index)),
        E::ErrorTerminated(..) => "calls nest too deeply for the stack".to_owned(),
        // They name types, and what stands in the script.
        E::ErrorVariableExists(..)
        | E::ErrorForbiddenVariable(..)
        | E::ErrorVariableNotFound(..)
        | E::ErrorDataRace(..)
        | E::ErrorAssignmentToConstant(..)
        | E::ErrorNonPureMethodCallOnConstant(..)
        | E::ErrorDotExpr(..)
        | E::ErrorIndexingType(..)
        | E::ErrorUnboundThis(..)
        | E::ErrorFor(..)
        | E::ErrorMismatchDataType(..)
        | E::ErrorMismatchOutputType(..)
        | E::ErrorTooManyOperations(..)
        | E::ErrorTooManyVariables(..)
        | E::ErrorStackOverflow(..)
        | E::ErrorDataTooLarge(..) => without_position(error),
        _ => "the script cannot go on".to_owned(),
    }
}

/// Returns what an error says of itself, without its place, which is told apart.
fn without_position(error: &EvalAltResult) -> String {
    let text = error.to_string();
    let place = format!(" ({})", error.position());
    text.strip_suffix(&place).unwrap_or(&text).to_owned()
}

/// Returns what is wrong with a calculation, without the numbers and texts that follow.
fn arithmetic(text: &str) -> &str {
    let end = text.find(|c: char| !(c.is_alphabetic() || c == ' ' || c == '-')).unwrap_or(text.len());
    let what = text[..end].trim_end_matches([' ', '-']);
    what.strip_suffix(" of").unwrap_or(what)
}

/// Returns that a function is missing: its name if the script calls it by that, and the types of its arguments.
fn not_found(ast: &AST, signature: &str) -> String {
    let name = signature.split(['(', ' ']).next().unwrap_or_default();
    if !is_called(ast, name) {
        let types = &signature[name.len()..];
        return format!("Function not found: {UNKNOWN}{types}");
    }
    let hint = (!functions::NAMES.contains(&name))
        .then(|| did_you_mean(name, functions::NAMES.iter().copied()))
        .flatten();
    let hint = hint.map(|hint| format!("; {hint}")).unwrap_or_default();
    format!("Function not found: {signature}{hint}")
}

/// Returns whether the script calls a function by this name, and not by one that is made when it runs.
fn is_called(ast: &AST, name: &str) -> bool {
    let mut is_called = false;
    ast.walk(&mut |path| {
        is_called |= match path.last() {
            Some(ASTNode::Expr(Expr::FnCall(call, _) | Expr::MethodCall(call, _))) => call.name == name,
            Some(ASTNode::Stmt(Stmt::FnCall(call, _))) => call.name == name,
            _ => false,
        };
        !is_called
    });
    is_called
}

/// Returns what is shown of a value that was thrown at `position`; `None` if there is none.
fn thrown_text(ast: &AST, value: &Dynamic, position: Position) -> Option<String> {
    if value.is_unit() {
        return None;
    }
    if value.tag() == OWN_TAG {
        return Some(value.to_string());
    }
    let mut text = None;
    ast.walk(&mut |path| {
        if let Some(ASTNode::Stmt(Stmt::Return(Some(expression), _, place))) = path.last()
            && *place == position
        {
            text = written(expression);
        }
        text.is_none()
    });
    Some(text.unwrap_or_else(|| format!("a value of type `{}` was thrown", type_name(value))))
}

/// Returns what an expression comes to as far as it is written in the script; `None` if nothing of it is.
fn written(expression: &Expr) -> Option<String> {
    let joined = |parts: &[Expr]| -> String {
        parts.iter().map(|part| written(part).unwrap_or_else(|| UNKNOWN.to_owned())).collect()
    };
    match expression {
        Expr::StringConstant(text, _) => Some(text.to_string()),
        Expr::CharConstant(char, _) => Some(char.to_string()),
        Expr::IntegerConstant(number, _) => Some(number.to_string()),
        Expr::FloatConstant(number, _) => Some(number.to_string()),
        Expr::BoolConstant(value, _) => Some(value.to_string()),
        Expr::DynamicConstant(value, _) => Some(value.to_string()),
        Expr::InterpolatedString(parts, _) => Some(joined(parts)),
        Expr::FnCall(call, _) if call.name == "+" && call.args.iter().any(is_text) => {
            Some(joined(&call.args))
        }
        Expr::Map(literal, _) => {
            let entry = |(key, value): &(Ident, Expr)| {
                format!("{}: {}", key.name, written(value).unwrap_or_else(|| UNKNOWN.to_owned()))
            };
            Some(format!("#{{{}}}", literal.0.iter().map(entry).collect::<Vec<_>>().join(", ")))
        }
        _ => None,
    }
}

/// Returns whether an expression is text that is at least in part written in the script.
fn is_text(expression: &Expr) -> bool {
    match expression {
        Expr::StringConstant(..) | Expr::InterpolatedString(..) => true,
        Expr::FnCall(call, _) => call.name == "+" && call.args.iter().any(is_text),
        _ => false,
    }
}
