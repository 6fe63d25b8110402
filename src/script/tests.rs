use std::{io, sync::Arc};

use serde_json::{Value, json};

use super::*;
use crate::{
    event::{Event, EventError, EventId, Meta, Payload},
    task::{Emission, Output, Resources, TaskError},
};

pub(super) fn event(data: Value) -> Event {
    Event::new(EventId::Sequence(7), "orders".into(), Payload::from(data))
}

fn line(text: &str) -> Event {
    Event::new(EventId::Sequence(7), "orders".into(), Payload::from_json_line(text).unwrap())
}

fn compile(code: &str) -> Script {
    Script::compile(code, &Limits::default()).unwrap_or_else(|error| panic!("{code}: {error}"))
}

/// What leaves a run: forwarded events and new ones alike.
pub(super) fn run(script: &Script, event: &mut Event) -> Result<Vec<Event>, TaskError> {
    let mut output = Output::default();
    script.run(event, &mut output)?;
    let events = output.drain().map(|(_, emission)| match emission {
        Emission::Forward => event.clone(),
        Emission::Event(event) => *event,
        other => panic!("a script collects no batches: {other:?}"),
    });
    Ok(events.collect())
}

fn one(code: &str, data: Value) -> Value {
    let mut events =
        run(&compile(code), &mut event(data)).unwrap_or_else(|error| panic!("{code}: {error:?}"));
    assert_eq!(events.len(), 1, "{code}");
    events.remove(0).data.into_json().unwrap()
}

fn value(expression: &str) -> Value {
    one(&format!("[{expression}]"), json!({}))
}

fn failure(code: &str, data: Value) -> (String, String) {
    let error = run(&compile(code), &mut event(data)).expect_err(code);
    let source = std::error::Error::source(&error).map(ToString::to_string);
    (error.to_string(), source.unwrap_or_default())
}

fn refused(code: &str) -> (String, usize, usize, Option<String>) {
    let error = Script::compile(code, &Limits::default()).expect_err(code);
    (error.message, error.line, error.column, error.hint)
}

// Results

#[test]
fn a_changed_field_is_written_back_and_the_order_of_keys_is_kept() {
    let data = json!({"z": 1, "b": {"y": 1, "a": 2}, "a": 3});
    let changed = one("event.data.b.a = event.data.z + 1; event.data.extra = 5; event.data", data);
    assert_eq!(changed.to_string(), r#"{"z":1,"b":{"y":1,"a":2},"a":3,"extra":5}"#);
}

#[test]
fn a_removed_key_is_removed_and_the_rest_stays_in_order() {
    let data = json!({"z": 1, "b": 2, "a": 3, "c": 4});
    assert_eq!(one("event.data.remove(\"b\"); event", data).to_string(), r#"{"z":1,"a":3,"c":4}"#);
}

#[test]
fn an_event_that_no_script_changed_keeps_its_text() {
    let text = r#"{"b": 1.50, "a": [1, 2], "n": 18446744073709551615}"#;
    for code in [
        "event",
        "event.data",
        "if event.data.a[0] == 1 { event } else { () }",
        "event.data.b = event.data.b; event",
        "let d = event.data; d",
        "let e = event; e",
        "ctx.meta.seen = true; event.data",
        "return event;",
    ] {
        let events = run(&compile(code), &mut line(text)).unwrap();
        assert_eq!(events.len(), 1, "{code}");
        assert_eq!(events[0].data.text(), Some(text), "{code}");
    }
}

#[test]
fn unit_filters() {
    for code in ["()", "if event.data.x > 1 { event }", "return;", "event.data.missing"] {
        assert!(run(&compile(code), &mut event(json!({"x": 1}))).unwrap().is_empty(), "{code}");
    }
}

#[test]
fn an_array_becomes_an_event_for_each_element_but_unit() {
    let mut event = event(json!({"x": 1}));
    event.meta = Meta::new(serde_json::Map::from_iter([("k".to_owned(), json!(1))]));
    let events =
        run(&compile("ctx.meta.n = 2; [event.data.x, (), #{b: 1, a: 2}, event]"), &mut event).unwrap();
    let seen: Vec<_> = events
        .iter()
        .map(|event| {
            (event.id.to_string(), event.data.json().unwrap().to_string(), event.meta.get("n").cloned())
        })
        .collect();
    assert_eq!(
        seen,
        [
            ("7-0".to_owned(), "1".to_owned(), Some(json!(2))),
            ("7-2".to_owned(), r#"{"b":1,"a":2}"#.to_owned(), Some(json!(2))),
            ("7-3".to_owned(), r#"{"x":1}"#.to_owned(), Some(json!(2))),
        ]
    );
    assert!(run(&compile("[]"), &mut event).unwrap().is_empty());
}

#[test]
fn copies_of_the_event_keep_their_own_changes() {
    let code = r#"let a = event; a.data.x = 2; a.subject = "a"; let b = event; b.data.x = 3; [a, b]"#;
    let events = run(&compile(code), &mut event(json!({"x": 1, "y": 0}))).unwrap();
    let seen: Vec<_> =
        events.iter().map(|event| (event.data.json().unwrap().to_string(), &*event.subject)).collect();
    assert_eq!(seen, [(r#"{"x":2,"y":0}"#.into(), "a"), (r#"{"x":3,"y":0}"#.into(), "orders")]);
    assert_eq!(one("let e = event; e.data.x = 9; e", json!({"x": 1})), json!({"x": 9}));
    for code in [
        "let f = || event; f.call()",
        "let f = || event; [event]",
        "let out = []; let f = || event; out.push(event); out",
        "let f = || event; let out = [1]; out[0] = event; out",
        "let a = event; let f = || a; a",
        "let a = event; let f = || a; switch 1 { 1 => a, _ => 0 }",
        "let a = event; let f = || a; [a]",
        "let a = [event]; let f = || a; a",
    ] {
        assert_eq!(one(code, json!({"x": 1})), json!({"x": 1}), "{code}");
    }
}

#[test]
fn an_array_in_event_data_fans_out_like_any_other() {
    let events = run(&compile("event.data"), &mut line("[1, null, 2]")).unwrap();
    let ids: Vec<_> = events.iter().map(|event| event.id.to_string()).collect();
    assert_eq!(ids, ["7-0", "7-2"]);
    assert_eq!(run(&compile("event.data = [4]; event.data"), &mut event(json!(1))).unwrap().len(), 1);
}

#[test]
fn a_map_literal_leaves_in_the_order_it_was_written() {
    let code = "let id = event.data.id; #{id: id, place: \"x\", inner: #{z: 1, a: 2}, depth: 1}";
    let text = r#"{"id":1,"place":"x","inner":{"z":1,"a":2},"depth":1}"#;
    assert_eq!(one(code, json!({"id": 1, "depth": 0})).to_string(), text);
    assert_eq!(one("#{z: 1, a: 2}", json!({"a": 0, "z": 0})).to_string(), r#"{"z":1,"a":2}"#);
    let code = "event.data.rows = [1].map(|x| #{z: x, a: x}); event";
    assert_eq!(one(code, json!({})).to_string(), r#"{"rows":[{"z":1,"a":1}]}"#);
}

#[test]
fn integers_above_i64_survive_exactly_and_compare() {
    let data = json!({"id": u64::MAX, "n": 1});
    assert_eq!(one("event.data.n = 2; event", data.clone()), json!({"id": u64::MAX, "n": 2}));
    assert_eq!(one("#{id: event.data.id}", data.clone()), json!({"id": u64::MAX}));
    assert_eq!(one("let d = event.data; d.n = 2; d", data.clone()), json!({"id": u64::MAX, "n": 2}));
    assert_eq!(one("[[event.data.id > 5, 5 == event.data.id]]", data.clone()), json!([true, false]));
    assert_eq!(one("event.data.id < 1.5", data), json!(false));
}

#[test]
fn a_whole_float_stays_a_float() {
    assert_eq!(one("event.data.x = 4.0 / 2.0; event", json!({})).to_string(), r#"{"x":2.0}"#);
    assert_eq!(
        one("event.data.y = event.data.x; event", json!({"x": 2.0})).to_string(),
        r#"{"x":2.0,"y":2.0}"#
    );
}

#[test]
fn what_json_cannot_hold_is_an_error_that_leaves_the_event_alone() {
    for code in [
        "event.data.ok = 1; event.data.x = 0.0 / 0.0; event",
        "event.subject = \"s\"; event.data.x = Fn(\"f\"); event",
        "ctx.meta.x = timestamp(); event",
        "event.data.ok = 1; ctx.meta = 5; event",
        "event.data.ok = 1; event.id = []; event",
        "event.data.ok = 1; [1, timestamp()]",
        "event.data.ok = 1; throw \"no\"",
    ] {
        let mut event = line(r#"{"ok": 0}"#);
        let error = run(&compile(code), &mut event).expect_err(code);
        assert_eq!(error.error_type(), "script", "{code}");
        assert_eq!(event.data.text(), Some(r#"{"ok": 0}"#), "{code}");
        assert_eq!((&*event.subject, event.id.to_string().as_str()), ("orders", "7"), "{code}");
        assert_eq!(event.meta, Meta::default(), "{code}");
    }
}

#[test]
fn id_subject_and_meta_can_be_changed() {
    let mut event = event(json!({"x": 1}));
    let code =
        "event.id = \"n\" + event.id; event.subject = \"s\"; event.meta.a = 1; ctx.meta.b = 2; event.data";
    let event = run(&compile(code), &mut event).unwrap().remove(0);
    assert_eq!((event.id, &*event.subject), (EventId::Text("n7".into()), "s"));
    assert_eq!(event.meta.entries(), json!({"b": 2}).as_object(), "`ctx.meta` goes before `event.meta`");
}

#[test]
fn raw_bytes_are_a_string_or_a_blob() {
    let bytes =
        |bytes: &'static [u8]| Event::new(EventId::Sequence(7), "s".into(), Payload::Bytes(bytes.into()));
    let out = run(&compile("event.data.len() + 0"), &mut bytes(b"abc")).unwrap();
    assert_eq!(out[0].data.json(), Some(&json!(3)));
    for raw in [&b"abc"[..], &b"\xff\x00"[..]] {
        for code in ["let n = event.data.len(); event", "event.data", "let e = event; e"] {
            let out = run(&compile(code), &mut bytes(raw)).unwrap();
            assert!(matches!(&out[0].data, Payload::Bytes(bytes) if bytes == raw), "{code}");
        }
    }
    let out = run(&compile("let d = event.data; d.push(1); d"), &mut bytes(b"\xff")).unwrap();
    assert!(matches!(&out[0].data, Payload::Bytes(bytes) if bytes[..] == b"\xff\x01"[..]));
}

#[test]
fn reserved_words_and_dots_are_reached_as_strings() {
    assert_eq!(
        one("event.data[\"default\"] + event.data[\"a.b\"]", json!({"default": 1, "a.b": 2})),
        json!(3)
    );
}

#[test]
fn what_a_script_declares_is_forgotten_before_the_next_event() {
    let script = compile("let event2 = event; let ctx = 5; let x = event.data.x; x");
    for n in 0..3 {
        assert_eq!(run(&script, &mut event(json!({"x": n}))).unwrap()[0].data.json(), Some(&json!(n)));
    }
    let script = compile("ctx.meta.x = event.data; let ctx = 5; event.data");
    for n in 1..3 {
        let out = run(&script, &mut event(json!(n))).unwrap();
        assert_eq!(out[0].meta.get("x"), Some(&json!(n)));
    }
    let script = compile("let event = #{data: 5}; event");
    assert_eq!(run(&script, &mut event(json!(1))).unwrap()[0].data.json(), Some(&json!({"data": 5})));
    assert_eq!(one("event = 5; event", json!(1)), json!(5));
    let script = compile("event = #{data: 5}; event.data");
    assert_eq!(run(&script, &mut event(json!(1))).unwrap()[0].data.json(), Some(&json!(5)));
}

#[test]
fn functions_see_no_more_than_they_are_given() {
    let code = "fn total(order) { order.price * 2 } fn mark() { this.marked = true; } \
        event.data.mark(); event.data.total = total(event.data); event";
    assert_eq!(
        one(code, json!({"price": 2, "x": 1})),
        json!({"price": 2, "x": 1, "marked": true, "total": 4})
    );
    // `f!()` lends the caller's variables.
    assert_eq!(one("fn f() { event.data.x + event.data.y } f!()", json!({"x": 1, "y": 2, "z": 3})), json!(3));
    assert_eq!(one("let f = |n| event.data.x + n; f.call(1)", json!({"x": 1})), json!(2));
}

#[test]
fn an_earthquake_is_reshaped_as_the_example_does() {
    let data = json!({
        "id": "us1", "geometry": {"coordinates": [1.0, 2.0, 10.5]},
        "properties": {"type": "earthquake", "mag": 3, "place": "here", "time": 1_517_966_773_840_i64}
    });
    let is_big = "event.data.properties.type == \"earthquake\" && event.data.properties.mag >= 2.5";
    assert!(Condition::compile(is_big).unwrap().is_true(&event(data.clone())).unwrap());
    let code = "let p = event.data.properties; #{id: event.data.id, place: p.place, magnitude: p.mag, \
        depth_km: event.data.geometry.coordinates[2], time: timestamp_ms_to_iso(p.time)}";
    assert_eq!(
        one(code, data).to_string(),
        r#"{"id":"us1","place":"here","magnitude":3,"depth_km":10.5,"time":"2018-02-07T01:26:13.840Z"}"#
    );
}

// Functions

#[test]
fn functions_do_what_the_peer_says() {
    for (expression, expected) in [
        ("sha256(\"abc\").len()", json!(64)),
        ("sha512(\"\").sub_string(0, 6)", json!("cf83e1")),
        ("timestamp_format(0, \"%Y-%m-%d %H\")", json!("1970-01-01 00")),
        ("timestamp_to_iso(1770033600)", json!("2026-02-02T12:00:00Z")),
        ("timestamp_ms_to_iso(1517966773840)", json!("2018-02-07T01:26:13.840Z")),
        ("timestamp_ms_to_iso(0)", json!("1970-01-01T00:00:00.000Z")),
        ("timestamp_to_year(0)", json!(1970)),
        ("timestamp_to_month(0)", json!(1)),
        ("timestamp_to_day(86400)", json!(2)),
        ("timestamp_to_hour(3600)", json!(1)),
        ("timestamp_round_to_hour(-1)", json!(-3600)),
        ("timestamp_to_hive_path(1770033600)", json!("year=2026/month=02/day=02/hour=12")),
        ("parse_timestamp(\"1970-01-01T00:00:01.5Z\")", json!(1500)),
        ("parse_rfc2822_timestamp(\"Thu, 01 Jan 1970 00:00:01 GMT\")", json!(1000)),
        ("regex_is_match(\"abc\", \"b\")", json!(true)),
        ("regex_find(\"abc\", \"b.\")", json!("bc")),
        ("regex_find_all(\"a1b2\", \"[0-9]\")[1]", json!("2")),
        ("regex_captures(\"a1\", \"([a-z])([0-9])(x)?\")", json!(["a1", "a", "1", null])),
        ("regex_replace(\"aa\", \"a\", \"b\")", json!("ba")),
        ("regex_replace_all(\"aa\", \"a\", \"b\")", json!("bb")),
        ("parse_json(`[1, {\"a\": null}]`)[1]", json!({"a": null})),
        ("parse_yaml(\"a: 1\").a", json!(1)),
        ("to_json(#{a: [1.0]})", json!(r#"{"a":[1.0]}"#)),
        ("render(\"Hello {{ name }}\", #{name: \"x\"})", json!("Hello x")),
    ] {
        assert_eq!(value(expression), expected, "{expression}");
    }
    assert_ne!(value("uuid()"), value("uuid()"));
    assert!(value("timestamp_now()").as_i64() > Some(1_700_000_000));
}

#[test]
fn bad_arguments_are_thrown() {
    for code in [
        "regex_find(\"\", \"(\")",
        "parse_json(\"{\")",
        "timestamp_format(0, \"%é\")",
        "parse_timestamp(\"noon\")",
        "render(\"{{ missing }}\", #{})",
        "sleep(1)",
    ] {
        assert!(!failure(code, json!({})).1.is_empty(), "{code}");
        assert_eq!(one(&format!("try {{ {code}; }} catch {{ }} 1"), json!({})), json!(1), "{code}");
    }
}

#[test]
fn resources_are_read_by_path() {
    struct Files;
    impl Resources for Files {
        fn read(&self, path: &str) -> io::Result<String> {
            if path == "a.txt" { Ok("text".to_owned()) } else { Err(io::ErrorKind::NotFound.into()) }
        }
    }
    let script = compile("#{a: ctx.resource.get(\"a.txt\"), b: ctx.resource.get(event.data.path)}");
    assert!(script.uses_resources() && !compile("ctx.meta.x = 1; event").uses_resources());
    let out = run(&script.with_resources(Arc::new(Files)), &mut event(json!({"path": "b"}))).unwrap();
    assert_eq!(out[0].data.json(), Some(&json!({"a": "text", "b": null})));
}

// Errors

#[test]
fn a_failure_names_its_place_and_its_cause() {
    assert_eq!(
        failure("let x = 1;\n  event.data.a.b.c", json!({})),
        (
            "script failed at line 2, column 16".into(),
            "Unknown property 'b' - a getter is not registered for type '()'".into()
        )
    );
    let (message, source) = failure("throw \"bad\"", json!({}));
    assert_eq!(
        (message.as_str(), source.as_str()),
        ("script failed at line 1, column 1", "Runtime error: bad")
    );
    assert!(failure("timestmp_now()", json!({})).1.ends_with("did you mean `timestamp_now`?"));
}

/// Scenario: what is thrown is written in the script, in part or not at all. Guarantee: that part is shown.
#[test]
fn a_thrown_text_is_shown_as_it_stands_in_the_script() {
    for (code, shown) in [
        ("throw", "Runtime error"),
        ("throw 42", "Runtime error: 42"),
        ("throw `order ${event.data} is late`", "Runtime error: order … is late"),
        ("throw \"order \" + event.data + \" is late\"", "Runtime error: order … is late"),
        ("fn f(x) { throw `bad ${x}` } f(event.data)", "Runtime error: bad …"),
        ("throw #{code: 7, order: event.data}", "Runtime error: #{code: 7, order: …}"),
        ("throw event.data", "Runtime error: a value of type `string` was thrown"),
        ("throw [event.data]", "Runtime error: a value of type `array` was thrown"),
        (
            "try { parse_int(event.data) } catch (e) { throw e }",
            "Runtime error: a value of type `map` was thrown",
        ),
        ("try { throw event.data } catch { throw }", "Runtime error: a value of type `string` was thrown"),
    ] {
        assert_eq!(failure(code, json!("7311-canary")).1, shown, "{code}");
    }
}

/// Scenario: what does not fit is data. Guarantee: an error says what was wrong and shows none of it.
#[test]
fn no_error_shows_a_value() {
    for (code, shown) in [
        ("parse_int(event.data.text)", "Error parsing integer number"),
        ("parse_float(event.data.text)", "Error parsing floating-point number"),
        ("event.data.number + event.data.most", "Addition overflow"),
        ("event.data.number / 0", "Division by zero"),
        ("event.data.list[event.data.number]", "Array index out of bounds: its length is 1"),
        ("event.data.text[event.data.number]", "String index out of bounds: its length is 11"),
        (
            "event.data.text.nothing.more",
            "Unknown property 'nothing' - a getter is not registered for type 'string'",
        ),
        ("event.data.text - 1", "Function not found: - (&str | ImmutableString | String, i64)"),
        ("Fn(event.data.name).call(1)", "Function not found: … (i64)"),
        ("event.data.list.map(event.data.name)", "Function not found: … (i64, i64)"),
        ("parse_json(event.data.text)", "Runtime error: not JSON: trailing characters at line 1 column 5"),
        ("parse_yaml(`a: *${event.data.name}`)", "Runtime error: not YAML at line 1 column 4"),
        ("regex_find(``, `(${event.data.text}`)", "Runtime error: not a regular expression: unclosed group"),
        ("timestamp_format(0, `%é${event.data.text}`)", "Runtime error: the format is none of `strftime`"),
        ("timestamp_to_iso(event.data.most)", "Runtime error: no time has so many seconds"),
        ("timestamp_ms_to_iso(event.data.most)", "Runtime error: no time has so many milliseconds"),
        ("parse_timestamp(event.data.text)", "Runtime error: the text is no timestamp of RFC 3339"),
        ("parse_rfc2822_timestamp(event.data.text)", "Runtime error: the text is no timestamp of RFC 2822"),
        (
            "render(`{{ a | ${event.data.name} }}`, #{a: 1})",
            "Runtime error: template: unknown filter at line 1",
        ),
        (
            "render(`{{ a - 1 }}`, #{a: event.data.text})",
            "Runtime error: template: invalid operation at line 1",
        ),
        ("event.id = event.data.list; event", ""),
    ] {
        let data = json!({
            "text": "7311-canary", "name": "canary7311", "number": 7311, "most": i64::MAX, "list": [7311],
        });
        let (message, source) = failure(code, data);
        assert_eq!(source, shown, "{code}");
        assert!(!message.contains("7311"), "{message}");
    }
}

#[test]
fn a_script_that_exceeds_a_limit_fails_with_its_own_type() {
    let limits = Limits { max_operations: 1000, max_array_size: 10, max_call_depth: 8, ..Limits::default() };
    for code in ["loop {}", "let a = []; loop { a.push(1); }", "fn f() { f() } f()"] {
        let script = Script::compile(code, &limits).unwrap();
        assert_eq!(run(&script, &mut event(json!({}))).unwrap_err().error_type(), "limit", "{code}");
    }
}

/// Does `run` with as much stack as a thread of the runtime has.
fn on_a_worker(run: impl FnOnce() + Send + 'static) {
    std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(run).unwrap().join().unwrap();
}

#[test]
fn endless_recursion_ends_at_the_limit_however_high_it_is() {
    on_a_worker(|| {
        let limits = Limits { max_call_depth: usize::MAX, ..Limits::default() };
        let deep = format!("fn f(x) {{ {}f(x){} }} f(1)", "1 + (".repeat(28), ")".repeat(28));
        for code in [
            "fn f(x) { f(x) + 1 } f(1)",
            "fn f(x) { [x].map(|y| f(y)) } f(1)",
            "let f = |g| g.call(g); f.call(f)",
            "let f = |g| { [1].map(|n| g.call(g)) }; f.call(f)",
            "fn f(x) { switch x { 1 => if x == 1 { try { f(x) } catch { 2 } } } } f(1)",
            deep.as_str(),
        ] {
            let script = Script::compile(code, &limits).unwrap();
            let error = run(&script, &mut event(json!({}))).unwrap_err();
            let source = std::error::Error::source(&error).map(ToString::to_string);
            assert_eq!(
                (error.error_type(), source.as_deref()),
                ("limit", Some("calls nest too deeply for the stack")),
                "{code}"
            );
        }
        assert_eq!(run(&compile(&deep), &mut event(json!({}))).unwrap_err().error_type(), "limit");
        assert_eq!(Generator::compile(&deep).unwrap().evaluate().unwrap_err().error_type(), "limit");
    });
}

#[test]
fn data_as_deep_as_json_can_be_goes_through_and_deeper_is_an_error() {
    on_a_worker(|| {
        let text = format!(r#"{{"a":{}1{}}}"#, "[".repeat(126), "]".repeat(126));
        for code in [
            "event.data.b = event.data.a; event",
            "let d = event.data; d.b = d.a; if d != event.data { d } else { 0 }",
            "#{a: event.data.a, b: parse_json(to_json(event.data.a))}",
        ] {
            let out = run(&compile(code), &mut line(&text)).unwrap().remove(0);
            assert_eq!(out.data.json().unwrap()["a"], out.data.json().unwrap()["b"], "{code}");
            let text = out.data.json().unwrap().to_string();
            Payload::from_json_line(&text).expect("what a script makes can be read again");
        }
        for code in [
            "#{a: #{b: event.data.a}}",
            "event.data.c = [event.data.a]; event",
            "let d = []; for n in 0..500 { d = [d]; } #{d: d}",
            "let d = []; for n in 0..500 { d = [d]; } to_json(d)",
            "ctx.meta.c = [[event.data.a]]; event",
        ] {
            let error = run(&compile(code), &mut line(&text)).expect_err(code);
            assert_eq!(error.error_type(), "script", "{code}");
            let source = std::error::Error::source(&error).unwrap().to_string();
            assert!(source.contains("nests deeper than 127 levels"), "{source}");
        }
    });
}

#[test]
fn an_array_that_grows_without_end_exceeds_its_limit() {
    for code in [
        "let a = [1]; loop { a += a; } a",
        "event.data = []; loop { event.data.push([1, 2]); }",
        "[].pad(1000000, 0)",
    ] {
        let error = run(&compile(code), &mut event(json!({}))).expect_err(code);
        assert_eq!(error.error_type(), "limit", "{code}");
    }
}

#[test]
fn mistakes_are_found_at_compile_time() {
    assert_eq!(
        refused("event.data.x +\nevnt.data.y"),
        ("unknown variable `evnt`".into(), 2, 1, Some("did you mean `event`?".into()))
    );
    assert_eq!(
        refused("let x = event.data.default;"),
        ("`default` is a reserved word".into(), 1, 20, Some("write `event.data[\"default\"]`".into()))
    );
    assert_eq!(
        refused("event.dta.x"),
        ("`event` has no field `dta`".into(), 1, 7, Some("did you mean `data`?".into()))
    );
    assert_eq!(refused("event.timestamp = 1").0, "`event.timestamp` cannot be changed");
    for code in
        ["event.error = 1", "event.error.message = \"x\"", "event.error.message = ()", "event.error += ()"]
    {
        let (message, _, _, hint) = refused(code);
        assert_eq!(message, "`event.error` cannot be changed", "{code}");
        assert_eq!(hint.as_deref(), Some("`event.error = ()` clears it"));
    }
    assert_eq!(refused("eval(\"1\")").0, "`eval` is not available in scripts");
    assert_eq!(refused("import \"x\" as y;").0, "`import` is not available in scripts");
    assert_eq!(refused("if event.data.x {").1, 1);
    assert_eq!(refused("").0, "the script is empty");
}

#[test]
fn parameters_may_be_called_event() {
    assert_eq!(one("event.data.items.map(|event| event.price)", json!({"items": [{"price": 1}]})), json!(1));
}

#[test]
fn a_condition_decides_and_never_changes() {
    let is_true =
        |code: &str| Condition::compile(code).unwrap().is_true(&event(json!({"x": 3, "items": [1, 2]})));
    assert!(is_true("event.data.x > 2 && event.data.items.some(|i| i == 2)").unwrap());
    assert!(!is_true("event.data.missing == 1").unwrap());
    let error = is_true("event.data.x").unwrap_err();
    assert_eq!(error.to_string(), "the condition gave a value of type `i64`, not a bool");
    let error = Condition::compile("event.data.x = 1").unwrap_err();
    assert_eq!(
        (error.message.as_str(), error.hint.as_deref()),
        ("a condition cannot change the event", Some("compare with `==`"))
    );
}

#[test]
fn what_a_condition_does_to_its_copy_is_gone_before_the_next_event() {
    for change in [
        "event.data.x.clear()",
        "event.data.x.push(5)",
        "event.data.remove(\"x\")",
        "event.data.mixin(#{x: 7, z: 8})",
        "event.remove(\"data\")",
        "event.mixin(#{id: 1})",
        "set_tag(event.data, 5)",
        "event.data.set_tag(5)",
        "let f = || event.data.x.clear(); f.call()",
    ] {
        let code = format!(
            "let was = event.data.x == [1] && event.data.y.z == () && event.data.tag == (); try {{ {change}; }} catch {{}} was"
        );
        let condition = Condition::compile(&code).unwrap_or_else(|error| panic!("{code}: {error}"));
        for _ in 0..3 {
            assert_eq!(
                condition.is_true(&event(json!({"x": [1], "y": {"a": 1}}))).ok(),
                Some(true),
                "{code}"
            );
        }
        assert_eq!(condition.is_true(&event(json!({"x": [2]}))).ok(), Some(false), "{code}");
    }
}

#[test]
fn a_generator_makes_values_and_sees_no_event() {
    assert_eq!(
        Generator::compile("#{b: 1, a: [2.0]}").unwrap().evaluate().unwrap().to_string(),
        r#"{"b":1,"a":[2.0]}"#
    );
    assert!(Generator::compile("event").is_err());
    assert!(Generator::compile("throw 1").unwrap().evaluate().is_err());
}

#[test]
fn a_template_whose_loops_do_not_end_is_an_error() {
    let code = r#"render("{% for a in range(10000) %}{% for b in range(10000) %}text{% endfor %}{% endfor %}", #{})"#;
    let script = Script::compile(code, &Limits::default()).unwrap();
    let mut event = Event::new(EventId::Sequence(0), "test".into(), Payload::from(Value::Null));
    let error = script.run(&mut event, &mut Output::default()).unwrap_err();
    assert!(crate::telemetry::error_chain(&error).contains("fuel"), "{error:?}");
}

// What an event goes on after

fn failed_before(data: Value) -> Event {
    let mut event = event(data);
    let error = EventError { error_type: "http", message: "it was a 503".to_owned(), task: "call".into() };
    event.error = Some(Arc::new(error));
    event
}

#[test]
fn a_script_reads_why_the_event_failed_before() {
    let seen = |code: &str, mut event: Event| {
        run(&compile(code), &mut event).unwrap().remove(0).data.into_json().unwrap()
    };
    let whole = "#{ error: event.error }";
    let error = json!({"type": "http", "message": "it was a 503", "task": "call"});
    assert_eq!(seen(whole, failed_before(json!({}))), json!({ "error": error }));
    assert_eq!(seen(whole, event(json!({}))), json!({"error": null}));
    assert_eq!(seen("[event.error.type]", failed_before(json!({}))), json!("http"));
    assert_eq!(seen("[event.error != ()]", failed_before(json!({}))), json!(true));
    let condition = Condition::compile("event.error != () && event.error.task == \"call\"").unwrap();
    assert!(condition.is_true(&failed_before(json!({}))).unwrap());
    assert!(!condition.is_true(&event(json!({}))).unwrap());
    assert!(Condition::compile("event.error = ()").is_err());
}

#[test]
fn the_error_stays_with_what_comes_of_the_event_until_it_is_cleared() {
    let errors = |code: &str| -> Vec<bool> {
        let events = run(&compile(code), &mut failed_before(json!([1, 2]))).unwrap();
        events.iter().map(|event| event.error.is_some()).collect()
    };
    for code in ["event", "event.data", "#{a: 1}", "let e = event; e", "let t = event.error.type; event"] {
        assert!(errors(code).iter().all(|has_error| *has_error), "{code}");
    }
    assert_eq!(errors("[1, 2]"), [true, true]);
    for code in [
        "event.error = (); event",
        "event.error = (); event.data",
        "event.error = (); #{a: 1}",
        "event.error = (); [1, 2]",
        "event.error = (); let e = event; e",
        "let e = event; e.error = (); e",
        "event.remove(\"error\"); event",
        "if event.error != () { event.error = (); } event",
    ] {
        assert!(errors(code).iter().all(|has_error| !has_error), "{code}");
    }
    assert_eq!(errors("let e = event; e.error = (); [e, event]"), [false, true]);
}

#[test]
fn an_error_that_is_changed_by_a_detour_fails_the_event() {
    for code in [
        "event[\"error\"] = 1; event",
        "let e = event; e.error.type = \"x\"; e",
        "event[\"error\"][\"task\"] = (); event",
    ] {
        for mut event in [failed_before(json!({})), event(json!({}))] {
            let Err(error) = run(&compile(code), &mut event) else { panic!("{code}") };
            assert_eq!(error.error_type(), "script", "{code}");
        }
    }
    let mut event = failed_before(json!({}));
    let error = run(&compile("event[\"error\"] = 1; event"), &mut event).unwrap_err();
    assert_eq!(error.to_string(), "`event.error` can be cleared and not changed");
    assert!(event.error.is_some());
}
