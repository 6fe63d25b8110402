use bytes::Bytes;
use serde_json::{Map, json};

use super::*;
use crate::{
    ack::{Ack, Ledger},
    event::{EventError, EventId, Meta, Payload},
    problem::{Focus, Problems},
    task::ErrorClass,
    trace::{Moment, Ticks},
};

fn event() -> Event {
    let data = json!({
        "name": "Ada", "n": 3, "big": u64::MAX, "x": 1.5, "none": null, "yes": true,
        "tags": ["a", "b"], "nested": {"a b": [10, {"c": "{{ event.id }}"}]}, "key": "name"
    });
    let mut event = Event::new(EventId::Sequence(7), "orders".into(), Payload::from(data));
    event.meta = Meta::new(Map::from_iter([("source".to_owned(), json!({"host": "h1"}))]));
    event.timestamp = "2024-05-01T10:00:00.5Z".parse().unwrap();
    event
}

fn render(source: &str) -> Result<String, String> {
    Template::compile(source).unwrap().render(&event()).map_err(|error| {
        assert_eq!((error.class(), error.error_type()), (ErrorClass::Permanent, TEMPLATE));
        error.to_string()
    })
}

#[test]
fn fills_in_what_the_event_has() {
    for (source, text) in [
        ("{{ event.id }} {{ event.subject }} {{ event.timestamp }}", "7 orders 2024-05-01T10:00:00.5Z"),
        ("{{ event.data.name }}-{{ event.data.n }}\n", "Ada-3\n"),
        ("{{ event.data.big }} {{ event.data.x }} {{ event.data.yes }}", "18446744073709551615 1.5 true"),
        ("{{ event.data.none }}", "null"),
        ("{{ event.data.tags }} {{ event.data.nested['a b'][0] }}", "[\"a\",\"b\"] 10"),
        ("{{ event.meta.source.host }} {{ event.meta }}", "h1 {\"source\":{\"host\":\"h1\"}}"),
        ("{% for tag in event.data.tags %}<{{ tag }}>{% endfor %}", "<a><b>"),
        ("{% for key in event.data.nested %}{{ key }}{% endfor %}", "a b"),
        ("{% if event.data.yes and event.data.n > 2 %}y{% else %}n{% endif %}", "y"),
        ("{{ event.data.name | upper }} {{ event.data.tags | length }}", "ADA 2"),
        (
            "{{ event.data.tags | reverse }} {{ event.data.nested | tojson }}",
            r#"["b","a"] {"a b": [10, {"c": "{{ event.id }}"}]}"#,
        ),
        ("{{ event.data[event.data.key] }}", "Ada"),
        ("{{ event.data.name if event.data.missing is defined else 'none' }}", "none"),
    ] {
        assert_eq!(render(source).as_deref(), Ok(text), "{source}");
    }
}

#[test]
fn data_is_never_evaluated() {
    assert_eq!(render("{{ event.data.nested['a b'][1].c }}").unwrap(), "{{ event.id }}");
}

#[test]
fn a_missing_path_is_an_error_that_names_it() {
    assert_eq!(render("{{ event.data.nam }}").unwrap_err(), "the event has no `event.data.nam`");
    assert_eq!(render("{{ event.data.a.b }}").unwrap_err(), "the event has no `event.data.a.b`");
    assert_eq!(render("{{ event.meta.x }}").unwrap_err(), "the event has no `event.meta.x`");
    assert_eq!(render("{{ event.data.tags[5] }}").unwrap_err(), "cannot render the template");
}

#[test]
fn raw_bytes_are_text() {
    let mut event = event();
    event.data = Payload::Bytes(Bytes::from_static(b"raw"));
    assert_eq!(Template::compile("<{{ event.data }}>").unwrap().render(&event).unwrap(), "<raw>");
}

#[test]
fn text_without_braces_is_constant() {
    let template = Template::compile("a { b }").unwrap();
    assert_eq!(template.as_constant(), Some("a { b }"));
    assert_eq!(template.render(&event()).unwrap(), "a { b }");
    assert_eq!(Template::compile("{{ event.id }}").unwrap().as_constant(), None);
}

#[test]
fn rendering_settles_no_ack() {
    let ledger = std::sync::Arc::new(Ledger::default());
    let mut event = event();
    event.ack = Ack::enter(&ledger, Ticks::default());
    Template::compile("{{ event.data.n }}").unwrap().render(&event).unwrap();
    event.ack.take().settle(crate::ack::Outcome::Completed, Moment::default());
    assert_eq!(ledger.summary().count(crate::ack::Outcome::Failed), 0);
}

fn wrong(source: &str) -> (String, Option<usize>, Option<usize>, String) {
    let error = Template::compile(source).unwrap_err();
    (error.message, error.line, error.column, error.hint.unwrap_or_default())
}

#[test]
fn names_that_no_event_has_do_not_compile() {
    assert_eq!(
        wrong("a\n  {{ data.x }}"),
        ("`data` is not known".into(), Some(2), Some(6), "did you mean `event.data`?".into())
    );
    assert_eq!(
        wrong("{{ evnt.data.x }}"),
        ("`evnt` is not known".into(), Some(1), Some(4), "did you mean `event`?".into())
    );
    assert_eq!(wrong("{{ order }}").3, "a template knows `event` only, as in `event.data.order`");
    assert_eq!(
        wrong("{{ event.dta.x }}"),
        ("an event has no `dta`".into(), Some(1), Some(4), "did you mean `data`?".into())
    );
}

#[test]
fn a_loop_variable_is_known() {
    assert!(Template::compile("{% for i in range(3) %}{{ i }}{% endfor %}").is_ok());
}

#[test]
fn handlebars_blocks_get_the_words_to_use_instead() {
    let (message, line, column, hint) = wrong("x\n{{#if event.data.a}}y{{/if}}");
    assert!(message.starts_with("the template does not compile: "), "{message}");
    assert_eq!((line, column), (Some(2), Some(1)));
    assert!(hint.starts_with("write `{% if .. %}"), "{hint}");
    assert!(wrong("{{#each event.data.tags}}{{this}}{{/each}}").3.starts_with("write `{% for item in .. %}"));
}

#[test]
fn a_syntax_error_is_reported_inside_the_value() {
    let mut problems = Problems::default();
    Template::compile("a\n{{ event.data. }}").unwrap_err().report("path", &mut problems);
    let problem = problems.into_vec().remove(0);
    assert_eq!(problem.focus, Focus::Inside { line: 2, column: 1 });
    assert_eq!(problem.path.to_string(), "path");
}

#[test]
fn a_value_that_is_one_path_keeps_its_type() {
    let template = ValueTemplate::compile(&json!({
        "n": "{{ event.data.n }}", "tags": " {{event.data.tags}} ", "id": "{{ event.id }}",
        "text": "n={{ event.data.n }}", "deep": ["{{ event.data.nested[\"a b\"][0] }}", 1, {"constant": "x"}],
        "upper": "{{ event.data.name | upper }}", "meta": "{{ event.meta.source }}"
    }));
    let expected = json!({
        "n": 3, "tags": ["a", "b"], "id": "7", "text": "n=3", "deep": [10, 1, {"constant": "x"}],
        "upper": "ADA", "meta": {"host": "h1"}
    });
    assert_eq!(template.unwrap().render(&event()).unwrap(), expected);
}

#[test]
fn every_wrong_text_of_a_value_is_reported_at_its_place() {
    let errors = ValueTemplate::compile(&json!({"a": ["x", "{{ y }}"], "b": "{{ event.x }}"})).unwrap_err();
    let places: Vec<&str> = errors.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(places, ["a.1", "b"]);
    let template = ValueTemplate::compile(&json!(["{{ event.data.gone }}"])).unwrap();
    assert_eq!(template.render(&event()).unwrap_err().to_string(), "the event has no `event.data.gone`");
}

#[test]
fn the_prefix_is_what_no_event_has_a_say_in() {
    for (source, prefix) in [
        ("plain", "plain"),
        ("../out/{{ event.id }}/../x", "../out/"),
        ("{{ \"/da\\x74a\" }}/a{{ '!' }}b/{{ event.data }}", "/data/a!b/"),
        ("{{ \"a\" ~ event.data ~ \"b\" }}/x", ""),
        ("a{% if event.data %}b{% endif %}{{ 'c' }}", "a"),
        ("a{# c #}{{ event.id }}", "a"),
    ] {
        assert_eq!(Template::compile(source).unwrap().prefix(), prefix, "{source}");
    }
}

#[test]
fn a_template_tells_why_the_event_failed_before() {
    let failed = || {
        let mut event = event();
        let error =
            EventError { error_type: "http", message: "it was a 503".to_owned(), task: "call".into() };
        event.error = Some(std::sync::Arc::new(error));
        event
    };
    let render = |source: &str, event: &Event| {
        Template::compile(source).unwrap().render(event).map_err(|error| error.to_string())
    };
    let choice =
        "{% if event.error %}{{ event.error.type }} in {{ event.error.task }}{% else %}fine{% endif %}";
    assert_eq!(render(choice, &failed()).unwrap(), "http in call");
    assert_eq!(render(choice, &event()).unwrap(), "fine");
    assert_eq!(render("{{ event.error.message }}", &failed()).unwrap(), "it was a 503");
    assert_eq!(
        render("{{ event.error }}", &failed()).unwrap(),
        r#"{"type":"http","message":"it was a 503","task":"call"}"#
    );
    assert_eq!(render("{{ event.error }}", &event()).unwrap(), "null");
    let missing = "the event has no `event.error.message`";
    assert_eq!(render("{{ event.error.message }}", &event()).unwrap_err(), missing);
    assert_eq!(render("{{ event.error.message | default('-') }}", &event()).unwrap(), "-");
    let tree =
        ValueTemplate::compile(&json!({"e": "{{ event.error }}", "t": "{{ event.error.type }}"})).unwrap();
    let error = json!({"type": "http", "message": "it was a 503", "task": "call"});
    assert_eq!(tree.render(&failed()).unwrap(), json!({"e": error, "t": "http"}));
    assert_eq!(tree.render(&event()).unwrap_err().to_string(), "the event has no `event.error.type`");
}

#[test]
fn a_rendering_ends_before_it_floods_the_memory() {
    let mut event = event();
    let repeated =
        Template::compile("{% for n in event.data.many %}{{ event.data.text }}{% endfor %}").unwrap();
    for (times, is_rendered) in [(64, true), (65, false)] {
        event.data = Payload::from(json!({"many": vec![0; times], "text": "x".repeat(1 << 20)}));
        let rendered = repeated.render(&event).map(|text| text.len()).map_err(|error| error.to_string());
        let expected = Err("the template would render more than 67108864 bytes".to_owned());
        assert_eq!(rendered, if is_rendered { Ok(64 << 20) } else { expected });
    }
    // What is put in front at load is bounded as well, and is then no prefix.
    let constant = Template::compile("a/{{ 'x' * 90000000 }}/{{ event.id }}").unwrap();
    assert_eq!(constant.prefix(), "a/");
}

#[test]
fn nothing_tells_of_the_event_what_is_not_named() {
    let (message, ..) = wrong("{{ debug() }}");
    assert_eq!(message, "`debug` is not known");
}
