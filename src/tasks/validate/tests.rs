use std::{io, sync::Arc};

use serde_json::json;

use super::*;
use crate::{
    event::{EventId, Payload},
    task::Resources,
};

fn config(schema: Value) -> Config {
    serde_json::from_value(json!({ "schema": schema })).unwrap()
}

/// Returns the message of the failure, if the data fails.
fn failure(schema: Value, data: Value) -> Option<String> {
    apply(schema, Payload::from(data)).err().map(|error| {
        assert_eq!(error.error_type(), "schema");
        assert_eq!(error.class(), crate::task::ErrorClass::Permanent);
        assert!(std::error::Error::source(&error).is_none());
        error.to_string()
    })
}

fn apply(schema: Value, data: Payload) -> Result<usize, TaskError> {
    let mut validate = Validate(Schema::compile(&schema, true).unwrap());
    let mut event = Event::new(EventId::Sequence(0), "s".into(), data);
    let mut output = Output::default();
    validate.apply(&mut event, &mut output).map(|()| output.len())
}

fn check(config: &Config) -> Vec<(String, String)> {
    let mut problems = Problems::default();
    Validate::check(config, &mut problems);
    problems.into_vec().into_iter().map(|problem| (problem.path.to_string(), problem.message)).collect()
}

#[test]
fn what_conforms_passes_and_what_does_not_names_the_keyword_and_the_place() {
    let schema = json!({
        "type": "object",
        "required": ["id"],
        "properties": {
            "id": {"type": ["integer", "string"]},
            "items": {"type": "array", "items": {"properties": {"price": {"minimum": 0}}}},
            "extra": false,
        },
    });
    assert_eq!(failure(schema.clone(), json!({"id": 1, "items": [{"price": 1}]})), None);
    for (data, message) in [
        (json!([]), "the data does not meet `type` of the schema at the top: it is not `object`"),
        (json!({}), "the data does not meet `required` of the schema at the top: `id` is missing"),
        (
            json!({"id": null}),
            "the data does not meet `type` of the schema at `/id`: it is not `integer` or `string`",
        ),
        (
            json!({"id": 1, "items": [{"price": 1}, {"price": -1}]}),
            "the data does not meet `minimum` of the schema at `/items/1/price`",
        ),
        (json!({"id": 1, "extra": 1}), "the data does not meet `false` of the schema at `/extra`"),
    ] {
        assert_eq!(failure(schema.clone(), data).as_deref(), Some(message));
    }
}

#[test]
fn raw_bytes_never_conform() {
    let error = apply(json!(true), Payload::Bytes(b"{}".as_slice().into())).unwrap_err();
    assert_eq!(
        (error.error_type(), error.to_string().as_str()),
        ("schema", "the data is raw bytes, not JSON")
    );
}

/// Scenario: each keyword fails on data whose values and keys are secrets. Guarantee: no error shows any of them.
#[test]
fn no_error_shows_anything_of_the_data() {
    const CANARY: &str = "canary-4111";
    let text = json!(CANARY);
    let object = json!({ CANARY: {CANARY: CANARY}, "4111111": CANARY });
    let list = json!([CANARY, CANARY, object]);
    let schemas = [
        json!({"type": "integer"}),
        json!({"enum": [1, "a"]}),
        json!({"const": 1}),
        json!({"pattern": "^x", "type": "string"}),
        json!({"pattern": "^(?!canary)", "type": "string"}),
        json!({"maxLength": 1, "type": "string"}),
        json!({"format": "email", "type": "string"}),
        json!({"not": {}}),
        json!({"anyOf": [{"type": "integer"}, {"const": 1}]}),
        json!({"oneOf": [{}, {}]}),
        json!({"oneOf": [{"type": "null"}, {"type": "integer"}]}),
        json!({"type": "object", "additionalProperties": false}),
        json!({"type": "object", "additionalProperties": {"type": "integer"}}),
        json!({"type": "object", "additionalProperties": {"additionalProperties": {"maxLength": 1}}}),
        json!({"type": "object", "patternProperties": {"": {"type": "null"}}}),
        json!({"type": "object", "propertyNames": {"maxLength": 1}}),
        json!({"type": "object", "unevaluatedProperties": false}),
        json!({"type": "object", "maxProperties": 1}),
        json!({"type": "object", "required": ["id"]}),
        json!({"type": "object", "dependentRequired": {CANARY: ["id"]}}),
        json!({"type": "array", "uniqueItems": true}),
        json!({"type": "array", "items": {"type": "integer"}}),
        json!({"type": "array", "items": {"additionalProperties": false, "type": "object"}}),
        json!({"type": "array", "prefixItems": [{}], "items": false}),
        json!({"type": "array", "unevaluatedItems": false}),
        json!({"type": "array", "contains": {"type": "null"}}),
        json!({"type": "array", "maxItems": 1}),
    ];
    for schema in schemas {
        let mut failures = 0;
        for data in [&text, &object, &list] {
            // A key that its author wrote into the schema is no secret.
            let is_named = schema.to_string().contains(CANARY);
            let Some(message) = failure(schema.clone(), data.clone()) else { continue };
            failures += 1;
            assert!(is_named || !message.contains("4111"), "{schema}: {message}");
        }
        assert!(failures > 0, "{schema} takes anything");
    }
    let nested = json!({"properties": {"users": {"additionalProperties": {"type": "integer"}}}});
    assert_eq!(
        failure(nested, json!({"users": {"4111": "x"}})).as_deref(),
        Some("the data does not meet `type` of the schema at `/users/…`: it is not `integer`")
    );
}

#[test]
fn the_draft_is_that_of_the_schema_or_the_latest() {
    let tuple = json!({"items": [{"type": "integer"}]});
    assert_eq!(check(&config(tuple.clone())).len(), 1, "a list of `items` was dropped in 2020-12");
    let mut old = tuple;
    old["$schema"] = "http://json-schema.org/draft-07/schema#".into();
    assert_eq!(check(&config(old.clone())), []);
    assert!(failure(old, json!(["x"])).is_some());
    assert!(failure(json!({"prefixItems": [{"type": "integer"}]}), json!(["x"])).is_some());
}

#[test]
fn a_format_is_checked_whatever_the_draft_and_must_be_known() {
    let email = json!({"format": "email"});
    assert_eq!(failure(email.clone(), json!("a@example.com")), None);
    let message = failure(email.clone(), json!("a")).unwrap();
    assert_eq!(message, "the data does not meet `format` of the schema at the top");
    let typo = json!({"properties": {"e": {"format": "emial"}}});
    let problems = check(&config(typo.clone()));
    let place = "schema.properties.e.format".to_owned();
    assert_eq!(problems, [(place, "the format `emial` is not known".to_owned())]);
    let ignored = |schema: Value| -> Config {
        serde_json::from_value(json!({"schema": schema, "assert_formats": false})).unwrap()
    };
    assert_eq!(check(&ignored(typo)), []);
    let schema = Schema::compile(&email, false).unwrap();
    assert_eq!(schema.check(&json!("a")), Ok(()));
}

#[test]
fn a_reference_leads_within_the_schema_and_nowhere_else() {
    let inner = json!({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}});
    assert_eq!(failure(inner.clone(), json!(1)), None);
    assert!(failure(inner, json!("x")).is_some());
    for elsewhere in ["https://example.com/schema.json", "file:///etc/passwd", "other.json", "#/$defs/gone"] {
        let problems = check(&config(json!({"properties": {"a": {"$ref": elsewhere}}})));
        assert_eq!(problems.len(), 1, "{elsewhere}");
        assert_eq!(problems[0].0, "schema.properties.a.$ref", "{problems:?}");
    }
}

#[test]
fn a_mistake_in_the_schema_is_reported_where_it_is() {
    for (schema, path) in [
        (json!({"properties": {"a.b": {"type": "strin"}}}), "schema.properties.a.b.type"),
        (json!({"allOf": [{}, {"minimum": "x"}]}), "schema.allOf[1].minimum"),
        (json!({"properties": {"404": {"required": 1}}}), "schema.properties.404.required"),
        (json!("text"), "schema"),
        (json!({"resource": ""}), "schema.resource"),
    ] {
        let problems = check(&config(schema.clone()));
        assert_eq!(problems.len(), 1, "{schema}");
        assert_eq!(problems[0].0, path, "{problems:?}");
    }
    let unknown_draft = json!({"$schema": "https://example.com/my-draft"});
    assert_eq!(check(&config(unknown_draft))[0].0, "schema.$schema");
    let bad_pattern = check(&config(json!({"pattern": "("})));
    assert_eq!(bad_pattern.len(), 1, "{bad_pattern:?}");
}

struct Files;

impl Resources for Files {
    fn read(&self, path: &str) -> io::Result<String> {
        match path {
            "good.json" => Ok(r#"{"type": "object"}"#.to_owned()),
            "bad.json" => Ok(r#"{"type": "strin"}"#.to_owned()),
            "text.json" => Ok("type: object".to_owned()),
            _ => Err(io::ErrorKind::NotFound.into()),
        }
    }
}

#[tokio::test]
async fn a_schema_in_a_file_is_compiled_when_the_task_is_built() {
    let mut context = BuildContext::new("f", "t", ".".into());
    let of = |path: &str| config(json!({"resource": path}));
    assert_eq!(Validate::needs(&of("good.json")).resources, Some("schema.resource"));
    assert_eq!(Validate::needs(&config(json!({"type": "object"}))).resources, None);
    assert!(Validate::build(&of("good.json"), &context).await.is_err());
    context.resources = Some(Arc::new(Files));
    assert!(matches!(Validate::build(&of("good.json"), &context).await, Ok(Task::Transform(_))));
    for (path, message) in [
        ("bad.json", "cannot compile schema `bad.json`"),
        ("text.json", "schema `text.json` is not JSON"),
        ("gone.json", "cannot read schema `gone.json`"),
    ] {
        let error = Validate::build(&of(path), &context).await.unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}
