//! Templates: what compiles is rendered or is an error of the event, within bounds of time and memory.
//!
//! The input: the template up to a zero, and the data of the event: JSON, or else bytes.

#![no_main]

use bytes::Bytes;
use flowgen::{
    event::{Event, EventId, Meta, Payload},
    template::{Template, TemplateError, TraceAttribute, ValueTemplate},
};
use flowgen_fuzz::Input;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value, json};

/// The most that a rendering may be. `src/template/bounded.rs` says so.
const MOST_BYTES: usize = 64 << 20;

/// What makes more of a value than it was.
const GROWING: [&str; 18] = [
    "~",
    "+",
    "*",
    "format",
    "join",
    "replace",
    "indent",
    "center",
    "batch",
    "slice",
    "range",
    "endset",
    "endfilter",
    "endcall",
    "tojson",
    "pprint",
    "zip",
    "chain",
];

/// What may do so again and again.
const REPEATING: [&str; 4] = ["namespace", "macro", "recursive", "caller"];

fuzz_target!(|input: &[u8]| {
    let is_tame = is_tame(input);
    let mut input = Input::new(input);
    let Ok(source) = str::from_utf8(input.part()) else { return };
    let data = input.rest();
    let data = match serde_json::from_slice::<Value>(data) {
        Ok(value) => Payload::from(value),
        Err(_) => Payload::Bytes(Bytes::copy_from_slice(data)),
    };
    let mut event = Event::new(EventId::Sequence(7), "orders".into(), data);
    event.timestamp = "2026-06-01T12:00:00Z".parse().expect("it is a time");
    event.meta = Meta::new(Map::from_iter([("tenant".to_owned(), json!("acme"))]));

    let compiled = Template::compile(source);
    match &compiled {
        Err(error) => within(source, error),
        Ok(_) if !is_tame => {}
        Ok(template) => {
            let rendered = template.render(&event);
            if let Ok(text) = &rendered {
                assert!(text.len() <= MOST_BYTES, "{} bytes", text.len());
                assert!(text.starts_with(template.prefix()), "{:?} before {text:?}", template.prefix());
                assert!(template.as_constant().is_none_or(|constant| constant == text));
            }
            let again = template.render(&event);
            assert_eq!(again.ok(), rendered.ok(), "it is rendered in two ways");
        }
    }
    let tree = ValueTemplate::compile(&json!({"a": [source, 1], "b": source}));
    assert_eq!(tree.is_ok(), compiled.is_ok(), "a template compiles in a tree as it does alone");
    if let Ok(tree) = tree
        && is_tame
        && let Ok(Value::Object(entries)) = tree.render(&event)
    {
        assert_eq!(entries["a"][0], entries["b"]);
    }
    if let Ok(attribute) = TraceAttribute::compile("fuzz", source)
        && is_tame
    {
        attribute.value(&event);
    }
});

/// Checks that an error stands within the template.
fn within(source: &str, error: &TemplateError) {
    assert!(!error.message.is_empty());
    let Some(line) = error.line else { return };
    let lines: Vec<_> = source.split('\n').collect();
    assert!((1..=lines.len()).contains(&line), "line {line} of {}: {error}", lines.len());
    let Some(column) = error.column else { return };
    let width = lines[line - 1].chars().count();
    assert!((1..=width + 1).contains(&column), "column {column} of {width}: {error}");
}

/// Returns whether what an input makes of constants stays small: that is up to whoever writes a template, and the engine has
/// no bounds for it. Errs towards what is small.
fn is_tame(input: &[u8]) -> bool {
    let text = String::from_utf8_lossy(input).to_ascii_lowercase();
    let growths: usize = GROWING.iter().map(|word| text.matches(word).count()).sum();
    let repeats = REPEATING.iter().any(|word| text.contains(word)) || text.contains("loop(");
    let most = if repeats {
        0
    } else if text.contains("for") {
        2
    } else {
        4
    };
    let has_large_number = text.as_bytes().windows(3).any(|three| {
        three[0].is_ascii_digit() && (three[1] == b'e' || three[1..].iter().all(u8::is_ascii_digit))
    });
    growths <= most && !has_large_number
}
