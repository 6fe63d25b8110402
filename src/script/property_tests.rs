//! The projection must not be seen: random scripts do the same with and without it.

use jiff::Timestamp;
use proptest::{prelude::*, sample::select};
use serde_json::{Value, json};

use super::{
    Condition, Script,
    tests::{event, run},
};
use crate::event::{Event, Payload};

/// Any JSON over few keys, so that paths often meet.
fn data() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3i64..3).prop_map(Value::from),
        Just(json!(u64::MAX)),
        Just(json!(2.0)),
        select(vec!["", "a", "xyz"]).prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 4, |inner| {
        let key = select(vec!["a", "b", "c", "default", "len"]);
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            3 => prop::collection::vec((key, inner), 0..5)
                .prop_map(|entries| entries.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()),
        ]
    })
}

fn path() -> impl Strategy<Value = String> {
    let step = select(vec![
        ".a",
        ".a",
        ".a",
        ".b",
        ".b",
        ".b",
        ".c",
        "?.a",
        "?.b",
        ".len",
        "[\"default\"]",
        "[\"a\"]",
        "?[\"b\"]",
        "[0]",
        "[key]",
        "[event.data.a]",
        "[\"a\" + \"\"]",
    ]);
    let start = select(vec![
        "event.data",
        "event.data",
        "event.data",
        "event.data",
        "event?.data",
        "event[\"data\"]",
    ]);
    (start, prop::collection::vec(step, 0..4))
        .prop_map(|(start, steps)| start.to_owned() + steps.concat().as_str())
}

fn expression() -> impl Strategy<Value = String> {
    let plain = prop_oneof![
        path(),
        path(),
        select(vec![
            "1",
            "()",
            "\"a\"",
            "[1, 2]",
            "#{a: 1, b: #{a: 2}}",
            "event.meta",
            "ctx.meta",
            "event.id"
        ])
        .prop_map(str::to_owned),
    ];
    plain.prop_recursive(2, 6, 2, |inner| {
        let two = (inner.clone(), inner.clone());
        prop_oneof![
            two.clone().prop_map(|(a, b)| format!("({a} + {b})")),
            two.clone().prop_map(|(a, b)| format!("({a} == {b})")),
            two.clone().prop_map(|(a, b)| format!("({a} ?? {b})")),
            two.prop_map(|(a, b)| format!("#{{c: {a}, a: {b}}}")),
            inner.clone().prop_map(|a| format!("`${{{a}}}`")),
            inner.clone().prop_map(|a| format!("\"a\" in {a}")),
            inner.clone().prop_map(|a| format!("({a}).keys()")),
            inner.clone().prop_map(|a| format!("({a}).map(|x| [x, key])")),
            inner.clone().prop_map(|a| format!("type_of({a})")),
            inner.clone().prop_map(|a| format!("touched({a})")),
            inner.clone().prop_map(|a| format!("if {a} == 1 {{ {a} }} else {{ event.data.b }}")),
            inner.clone().prop_map(|a| format!("switch {a} {{ 1 => event.data.a, \"a\" => {a}, _ => 3 }}")),
            inner.clone().prop_map(|a| format!("loop {{ break {a}; }}")),
            inner.prop_map(|a| format!("(|| {a}).call()")),
        ]
    })
}

/// Statements run in a `try` of their own, so that one that fails does not hide the others.
fn statement() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => (path(), expression()).prop_map(|(to, from)| format!("{to} = {from};")),
        2 => (path(), expression()).prop_map(|(to, from)| format!("{to} += {from};")),
        4 => expression().prop_map(|from| format!("out.push({from});")),
        2 => (select(vec!["push(1)", "remove(\"a\")", "remove(0)", "clear()", "mixin(#{a: 5})", "touch()", "pop()"]), path())
            .prop_map(|(call, path)| format!("{path}.{call};")),
        1 => path().prop_map(|path| format!("push({path}, 1);")),
        1 => (path(), expression()).prop_map(|(path, from)| format!("alias = {path}; alias.a = {from}; out.push(alias);")),
        1 => path().prop_map(|path| format!("for x in {path} {{ out.push(x); }}")),
        1 => (path(), expression()).prop_map(|(path, from)| format!("let f = || {{ {path} = {from}; }}; f.call();")),
        1 => expression().prop_map(|from| format!("throw {from};")),
        1 => (select(vec!["ctx.meta.a", "event.meta.a", "event.subject", "event.id", "ctx[\"meta\"]", "event[key]"]), expression())
            .prop_map(|(to, from)| format!("{to} = {from};")),
        1 => (expression(), path()).prop_map(|(from, path)| format!("let event = #{{data: {from}}}; out.push({path});")),
        1 => select(vec![
            "event = event;", "alias = event; alias.data.a = 3;", "event.touch();", "event.remove(\"data\");",
            "let ctx = 1;", "event.data = #{b: event.data.a};", "key = \"a\";",
        ]).prop_map(str::to_owned),
    ]
}

fn result() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => Just("event".to_owned()),
        3 => Just("event.data".to_owned()),
        1 => Just("return event;".to_owned()),
        1 => Just("alias".to_owned()),
        1 => Just("[event, (), out]".to_owned()),
        1 => Just("#{z: out, a: alias}".to_owned()),
        2 => expression(),
        1 => expression().prop_map(|a| format!("if {a} == 1 {{ event }} else {{ event.data }}")),
        1 => expression().prop_map(|a| format!("switch {a} {{ 1 => event, \"a\" => event.data, _ => {{ return event.data; }} }}")),
        1 => expression().prop_map(|a| format!("if {a} == () {{ return event }} {a}")),
    ]
}

fn script() -> impl Strategy<Value = String> {
    (prop::collection::vec((statement(), any::<bool>()), 0..5), result()).prop_map(|(statements, result)| {
        let mut code = "fn touched(x) { x.a = 7; x }\nfn touch() { this.a = 8; }\n\
            let out = []; let alias = #{}; let key = \"b\";\n"
            .to_owned();
        for (statement, is_caught) in statements {
            code += &if is_caught {
                format!("try {{ {statement} }} catch {{ out.push(0); }}\n")
            } else {
                statement + "\n"
            };
        }
        code + result.as_str()
    })
}

/// An event that is the same whenever it is made.
fn fixed(data: Value) -> Event {
    Event { timestamp: Timestamp::UNIX_EPOCH, ..event(data) }
}

/// What a run shows to the outside. Errors by their place and text.
type Seen = Result<Vec<(String, String, Option<Value>, Option<Value>)>, (String, Option<String>)>;

fn seen(script: &Script, event: &mut Event) -> Seen {
    match run(script, event) {
        Ok(events) => Ok(events
            .into_iter()
            .map(|event| {
                let meta = event.meta.entries().cloned().map(Value::Object);
                (event.id.to_string(), event.subject.to_string(), meta, event.data.json().cloned())
            })
            .collect()),
        Err(error) => Err((error.to_string(), std::error::Error::source(&error).map(ToString::to_string))),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, max_shrink_iters: 20_000, ..ProptestConfig::default() })]

    #[test]
    fn a_script_does_the_same_with_and_without_projection(data in data(), next in data(), code in script()) {
        // What does not compile, compiles neither way.
        let (projected, whole) = match (Script::compile(&code, &Default::default()), Script::compile_whole(&code)) {
            (Ok(projected), Ok(whole)) => (projected, whole),
            (projected, whole) => {
                prop_assert_eq!(projected.err(), whole.err());
                return Ok(());
            }
        };
        let (mut one, mut other) = (fixed(data.clone()), fixed(data.clone()));
        let (first, second) = (seen(&projected, &mut one), seen(&whole, &mut other));
        prop_assert_eq!(&first, &second);
        if first.is_err() {
            prop_assert_eq!(one.data.json(), Some(&data));
        }
        // And on others: nothing of a run is left in the script.
        let fresh = Script::compile_whole(&code).unwrap();
        prop_assert_eq!(seen(&projected, &mut fixed(next.clone())), seen(&fresh, &mut fixed(next)));
        prop_assert_eq!(&seen(&projected, &mut fixed(data)), &first);
    }

    #[test]
    fn a_condition_says_the_same_of_text_and_of_its_tree(data in data(), next in data(), one in expression(), other in expression()) {
        let parsed = fixed(data.clone());
        for code in [format!("{one} == {other}"), format!("{one} != ()"), one] {
            let code = code.replace("[key]", "[\"b\"]").replace(", key]", "]").replace("touched(", "type_of(");
            let Ok(condition) = Condition::compile(&code) else { continue };
            let text = Payload::from_json_line(&data.to_string()).unwrap();
            let unparsed = Event { data: text, ..fixed(Value::Null) };
            let said = |event: &Event| condition.is_true(event).map_err(|error| {
                (error.to_string(), std::error::Error::source(&error).map(ToString::to_string))
            });
            let (first, second) = (said(&unparsed), said(&parsed));
            prop_assert_eq!(&first, &second, "{}", code);
            prop_assert!(unparsed.data.unparsed().is_some(), "the text was parsed after all: {}", code);
            // And on others: nothing of a run is left in the condition.
            let fresh = Condition::compile(&code).unwrap();
            let next = fixed(next.clone());
            let said_fresh = fresh.is_true(&next).map_err(|error| error.to_string());
            prop_assert_eq!(condition.is_true(&next).map_err(|error| error.to_string()), said_fresh, "{}", code);
            prop_assert_eq!(&said(&parsed), &first, "{}", code);
        }
    }
}
