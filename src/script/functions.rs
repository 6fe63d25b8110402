//! The functions that scripts may call besides Rhai's own.

mod cache;
mod kept;
mod number;
mod text;
mod time;

use std::sync::Arc;

use rhai::{Dynamic, Engine, EvalAltResult, Map};
use serde_json::Value;
use sha2::{Digest, Sha256, Sha512};
use uuid::Uuid;

pub(super) use self::cache::CacheKeys;
use super::{cause::thrown, native};
use crate::task::Resources;

/// The names of all functions of this module, for suggestions.
pub(super) const NAMES: &[&str] = &[
    "debug",
    "parse_json",
    "parse_rfc2822_timestamp",
    "parse_timestamp",
    "parse_yaml",
    "print",
    "regex_captures",
    "regex_find",
    "regex_find_all",
    "regex_is_match",
    "regex_replace",
    "regex_replace_all",
    "render",
    "sha256",
    "sha512",
    "timestamp_format",
    "timestamp_ms_to_iso",
    "timestamp_now",
    "timestamp_round_to_hour",
    "timestamp_to_day",
    "timestamp_to_hive_path",
    "timestamp_to_hour",
    "timestamp_to_iso",
    "timestamp_to_month",
    "timestamp_to_year",
    "to_json",
    "uuid",
];

/// What a function that can fail returns; the error is thrown in the script.
type Thrown<T> = Result<T, Box<EvalAltResult>>;

/// What stands behind `ctx.resource`.
#[derive(Clone)]
pub(super) struct ResourceFiles(pub(super) Arc<dyn Resources>);

/// Registers all functions.
pub(super) fn register(engine: &mut Engine) {
    engine.register_fn("uuid", || Uuid::now_v7().to_string());
    engine.register_fn("sha256", |text: &str| hex(&Sha256::digest(text)));
    engine.register_fn("sha512", |text: &str| hex(&Sha512::digest(text)));
    engine.register_fn("parse_json", parse_json);
    engine.register_fn("parse_yaml", parse_yaml);
    engine.register_fn("to_json", |value: &mut Map| json_text(&Dynamic::from_map(value.clone())));
    engine.register_fn("to_json", |value: Dynamic| json_text(&value));
    engine.register_fn("sleep", |_: i64| no_sleep());
    engine.register_fn("sleep", |_: f64| no_sleep());
    engine.register_type_with_name::<ResourceFiles>("resource");
    engine.register_fn("get", |files: &mut ResourceFiles, path: &str| {
        files.0.read(path).map_or(Dynamic::UNIT, Dynamic::from)
    });
    cache::register(engine);
    number::register(engine);
    text::register(engine);
    time::register(engine);
}

fn parse_json(text: &str) -> Thrown<Dynamic> {
    let value: Value = serde_json::from_str(text).map_err(|error| thrown(format!("not JSON: {error}")))?;
    Ok(native::from_json(&value))
}

fn parse_yaml(text: &str) -> Thrown<Dynamic> {
    let value: Value = serde_yaml::from_str(text).map_err(|error| {
        // What it says besides quotes the text.
        let place = error.location();
        let place = place.map(|place| format!(" at line {} column {}", place.line(), place.column()));
        thrown(format!("not YAML{}", place.unwrap_or_default()))
    })?;
    Ok(native::from_json(&value))
}

fn json_text(value: &Dynamic) -> Thrown<String> {
    json_value(value).map(|value| value.to_string())
}

fn json_value(value: &Dynamic) -> Thrown<Value> {
    native::to_json(value, None, &Default::default()).map_err(|error| thrown(error.to_string()))
}

/// A script works with the CPU only; a wait would hold up the whole flow.
fn no_sleep() -> Thrown<()> {
    Err(thrown("`sleep` is not available in scripts"))
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}
