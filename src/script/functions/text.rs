//! Functions on text: regular expressions and templates.

use std::sync::{Arc, LazyLock};

use minijinja::{Environment, UndefinedBehavior, value::Serde};
use regex::Regex;
use rhai::{Array, Dynamic, Engine, EvalAltResult};

use super::{Thrown, json_value, kept::Kept};
use crate::{
    script::cause::thrown,
    template::bounded::{self, Unrendered},
};

/// The name of the one template of an environment.
const NAME: &str = "template";

/// Instructions that one rendering may take: loops within loops end as an error, not in memory.
const FUEL: u64 = 1_000_000;

static EXPRESSIONS: LazyLock<Kept<Regex>> = LazyLock::new(Kept::default);
static TEMPLATES: LazyLock<Kept<Environment<'static>>> = LazyLock::new(Kept::default);

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
            let group =
                |group: Option<regex::Match<'_>>| group.map_or(Dynamic::UNIT, |group| group.as_str().into());
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
        let environment = TEMPLATES.get_or_make(template, |source| compiled(source).map_err(bad_template))?;
        let template = environment.get_template(NAME).map_err(bad_template)?;
        bounded::render(&template, Serde(data).into(), bounded::MOST_BYTES).map_err(|unrendered| {
            match unrendered {
                Unrendered::Engine(error) => bad_template(error),
                Unrendered::TooLong => thrown("the template renders too much"),
            }
        })
    });
}

/// Compiles an expression, or takes it from those compiled before. Not a clone of it: each would start
/// without the scratch memory that a search needs.
fn expression(pattern: &str) -> Thrown<Arc<Regex>> {
    EXPRESSIONS.get_or_make(pattern, |pattern| Regex::new(pattern).map_err(bad_expression))
}

/// The library's text shows the expression, which may be data, and says in its last line what is wrong with it.
fn bad_expression(error: regex::Error) -> Box<EvalAltResult> {
    let text = error.to_string();
    let what = text.lines().last().and_then(|line| line.strip_prefix("error: "));
    thrown(format!("not a regular expression: {}", what.unwrap_or("it is too large")))
}

fn compiled(source: &str) -> Result<Environment<'static>, minijinja::Error> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    environment.set_fuel(Some(FUEL));
    environment.add_template_owned(NAME, source.to_owned())?;
    Ok(environment)
}

/// The library's text may show the template, or a value; the kind of the error does not.
fn bad_template(error: minijinja::Error) -> Box<EvalAltResult> {
    let place = error.line().map(|line| format!(" at line {line}"));
    thrown(format!("template: {}{}", error.kind(), place.unwrap_or_default()))
}
