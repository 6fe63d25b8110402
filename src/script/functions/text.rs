//! Functions on text: regular expressions and templates.

use std::{
    collections::HashMap,
    sync::{LazyLock, Mutex, PoisonError},
};

use minijinja::{Environment, UndefinedBehavior, value::Serde};
use regex::Regex;
use rhai::{Array, Dynamic, Engine};

use super::{Thrown, json_value, thrown};

/// How many compiled expressions are kept.
const KEPT_EXPRESSIONS: usize = 256;

static EXPRESSIONS: LazyLock<Mutex<HashMap<String, Regex>>> = LazyLock::new(Mutex::default);

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment
});

pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("regex_is_match", |text: &str, pattern: &str| -> Thrown<bool> {
        Ok(expression(pattern)?.is_match(text))
    });
    engine.register_fn("regex_find", |text: &str, pattern: &str| -> Thrown<Dynamic> {
        Ok(expression(pattern)?.find(text).map_or(Dynamic::UNIT, |found| found.as_str().into()))
    });
    engine.register_fn("regex_find_all", |text: &str, pattern: &str| -> Thrown<Array> {
        Ok(expression(pattern)?.find_iter(text).map(|found| found.as_str().into()).collect())
    });
    engine.register_fn("regex_captures", |text: &str, pattern: &str| -> Thrown<Dynamic> {
        let groups = expression(pattern)?.captures(text).map(|captures| {
            let group = |group: Option<regex::Match<'_>>| group.map_or(Dynamic::UNIT, |group| group.as_str().into());
            captures.iter().map(group).collect::<Array>()
        });
        Ok(groups.map_or(Dynamic::UNIT, Dynamic::from_array))
    });
    engine.register_fn("regex_replace", |text: &str, pattern: &str, with: &str| -> Thrown<String> {
        Ok(expression(pattern)?.replace(text, with).into_owned())
    });
    engine.register_fn("regex_replace_all", |text: &str, pattern: &str, with: &str| -> Thrown<String> {
        Ok(expression(pattern)?.replace_all(text, with).into_owned())
    });
    engine.register_fn("render", |template: &str, data: Dynamic| -> Thrown<String> {
        let data = json_value(&data)?;
        TEMPLATES.render_str(template, Serde(data)).map_err(|error| thrown(format!("template: {error}")))
    });
}

/// Compiles an expression, or takes it from those compiled before. A script that makes up ever new ones
/// makes the store start anew, so it stays bounded.
fn expression(pattern: &str) -> Thrown<Regex> {
    let mut kept = EXPRESSIONS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(expression) = kept.get(pattern) {
        return Ok(expression.clone());
    }
    let expression = Regex::new(pattern).map_err(|error| thrown(error.to_string()))?;
    if kept.len() >= KEPT_EXPRESSIONS {
        kept.clear();
    }
    kept.insert(pattern.to_owned(), expression.clone());
    Ok(expression)
}
