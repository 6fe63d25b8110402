//! `flowgen schema --openapi`: what it says of endpoints. That a worker keeps to it is shown by `tests/e2e/openapi`.

use std::{collections::BTreeSet, env, fs, path::Path, process::Output};

use serde_json::{Value, json};

use crate::support::flowgen;

fn describe(folder: &Path, arguments: &[&str]) -> Output {
    flowgen(folder).args(["schema", "--openapi"]).args(arguments).output().unwrap()
}

/// Describes the endpoints of these tasks.
fn of_tasks(tasks: &str) -> Value {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("api.yaml"), format!("flow:\n  name: api\n  tasks:\n{tasks}")).unwrap();
    let output = describe(folder.path(), &["api.yaml"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    sound(serde_json::from_slice(&output.stdout).unwrap())
}

/// Returns a document that is one of OpenAPI as far as ours go, or panics.
fn sound(document: Value) -> Value {
    let media = json!({"type": "object", "properties": {"schema": {"type": "object"}}, "additionalProperties": false});
    let content = json!({"type": "object", "minProperties": 1, "additionalProperties": media});
    let schema = json!({
        "type": "object",
        "required": ["openapi", "info", "servers", "tags", "paths", "components"],
        "additionalProperties": false,
        "properties": {
            "openapi": {"const": "3.1.0"},
            "info": {
                "type": "object",
                "required": ["title", "version"],
                "additionalProperties": {"type": "string", "minLength": 1},
            },
            "servers": {"type": "array", "minItems": 1, "items": {"required": ["url"]}},
            "tags": {"type": "array", "uniqueItems": true, "items": {"required": ["name"]}},
            "components": {
                "type": "object",
                "additionalProperties": {
                    "type": "object",
                    "propertyNames": {"pattern": "^[A-Za-z0-9._-]+$"},
                    "additionalProperties": {"type": "object"},
                },
            },
            "paths": {
                "type": "object",
                "propertyNames": {"pattern": "^/"},
                "additionalProperties": {
                    "type": "object",
                    "propertyNames": {"enum": ["get", "head", "post", "put", "delete", "patch"]},
                    "additionalProperties": {"$ref": "#/$defs/operation"},
                },
            },
        },
        "$defs": {"operation": {
            "type": "object",
            "required": ["operationId", "tags", "responses"],
            "additionalProperties": false,
            "properties": {
                "operationId": {"type": "string"},
                "tags": {"type": "array", "items": {"type": "string"}},
                "security": {"type": "array", "items": {"type": "object", "additionalProperties": {"const": []}}},
                "parameters": {"type": "array", "minItems": 1, "items": {
                    "type": "object",
                    "required": ["name", "in", "schema"],
                    "properties": {"in": {"enum": ["path", "header"]}},
                }},
                "requestBody": {
                    "type": "object",
                    "required": ["content"],
                    "additionalProperties": false,
                    "properties": {
                        "description": {"type": "string"},
                        "required": {"type": "boolean"},
                        "content": content,
                    },
                },
                "responses": {
                    "type": "object",
                    "propertyNames": {"pattern": "^([1-5][0-9][0-9]|default)$"},
                    "additionalProperties": {
                        "type": "object",
                        "required": ["description"],
                        "additionalProperties": false,
                        "properties": {
                            "description": {"type": "string", "minLength": 1},
                            "headers": {"type": "object"},
                            "content": content,
                        },
                    },
                },
            },
        }},
    });
    let wrong =
        jsonschema::validator_for(&schema).unwrap().iter_errors(&document).next().map(|e| e.to_string());
    assert_eq!(wrong, None, "{document:#}");
    let mut ids = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let wanted: BTreeSet<_> = path.split('/').filter_map(|part| part.strip_prefix('{')).collect();
        for operation in item.as_object().unwrap().values() {
            assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{operation:#}");
            let parameters = operation["parameters"].as_array().into_iter().flatten();
            let of_path = parameters.filter(|parameter| parameter["in"] == "path");
            let named: BTreeSet<_> = of_path.map(|parameter| parameter["name"].as_str().unwrap()).collect();
            assert_eq!(named, wanted.iter().map(|name| name.trim_end_matches('}')).collect(), "{path}");
            for scheme in operation["security"].as_array().into_iter().flatten() {
                let name = scheme.as_object().unwrap().keys().next().unwrap();
                assert!(document["components"]["securitySchemes"][name].is_object(), "{name}");
            }
        }
    }
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"").skip(1) {
        let pointer = reference.split('"').next().unwrap().strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer} leads nowhere");
    }
    document
}

#[test]
#[expect(clippy::disallowed_methods, reason = "whether the document is to be taken over")]
fn an_example_is_described_like_this_each_time() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/openapi");
    let output = describe(&folder, &["endpoints.yaml"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(describe(&folder, &["endpoints.yaml"]).stdout, output.stdout);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("m4rker"), "a secret is shown");
    sound(serde_json::from_str(&text).unwrap());
    let golden = folder.join("endpoints.json");
    let version = format!("\"version\": \"{}\"", env!("CARGO_PKG_VERSION"));
    let text = text.replace(&version, "\"version\": \"<VERSION>\"");
    if env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&golden, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(&golden).unwrap(), "UPDATE_GOLDEN=1 takes it over");
}

#[test]
fn paths_that_differ_by_the_names_of_their_parameters_are_one() {
    let document = of_tasks(
        r#"
    - http_endpoint: {name: put, method: PUT, endpoint: "/a/{x}/b/{y}"}
    - http_endpoint: {name: remove, method: DELETE, endpoint: "/a/{one}/b/{two}"}
    - http_endpoint: {name: other, method: DELETE, endpoint: "/a/{one}/c/{two}"}
    - drop: {depends_on: [put, remove, other]}
"#,
    );
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
    assert_eq!(paths, ["/a/{x}/b/{y}", "/a/{one}/c/{two}"]);
    let item = &document["paths"]["/a/{x}/b/{y}"];
    assert_eq!(item["delete"]["operationId"], "api.remove");
    assert_eq!(item["delete"]["parameters"], item["put"]["parameters"]);
    assert_eq!(item["delete"]["requestBody"], Value::Null);
}

#[test]
fn a_body_is_described_only_as_far_as_it_is_certain() {
    let known = json!({"type": "integer"});
    let of = |validate: &str| {
        let document = of_tasks(&format!(
            "    - http_endpoint: {{name: in, endpoint: /a, request_type: json}}\n    - validate: {validate}\n    - drop: {{}}\n"
        ));
        document["paths"]["/a"]["post"]["requestBody"].clone()
    };
    let schema = "schema: {properties: {payload: {type: integer}}}";
    let body = of(&format!("{{{schema}}}"));
    assert_eq!((&body["content"]["application/json"]["schema"], &body["required"]), (&known, &json!(true)));
    let body = of("{schema: {properties: {payload: {type: [integer, 'null']}}}}");
    assert_eq!(body["required"], json!(false), "an empty body is null");
    for unknown in [
        format!("{{{schema}, on_error: drop}}"),
        format!("{{{schema}, on_error: continue}}"),
        format!("{{{schema}, when: 'event.data.params.len() > 0'}}"),
        "{schema: {properties: {payload: {$ref: '#/$defs/a'}}, $defs: {a: {type: integer}}}}".to_owned(),
        "{schema: {$schema: 'http://json-schema.org/draft-07/schema#', properties: {payload: {type: integer}}}}".to_owned(),
        "{schema: {properties: {query: {type: object}}}}".to_owned(),
    ] {
        let body = of(&unknown);
        assert_eq!(
            (&body["content"]["application/json"]["schema"], &body["required"]),
            (&json!({}), &json!(false)),
            "{unknown}"
        );
    }
}

#[test]
fn what_cannot_be_described_is_a_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    write("broken.yaml", "flow:\n  tasks:\n    - http_endpoint: {endpoint: a, metod: GET}\n");
    write("other.yaml", "flow:\n  tasks:\n    - generate: {count: 1}\n    - drop:\n");
    for (arguments, said) in [
        (&[][..], "<PATH>"),
        (&["broken.yaml"][..], "did you mean `method`?"),
        (&["none.yaml"][..], "cannot read the file"),
        (&["other.yaml"][..], "there is no endpoint to describe"),
        (&["--config", "other.yaml", "other.yaml"][..], "a file named with `--config` holds no flows"),
    ] {
        let output = describe(folder.path(), arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!((output.status.code(), &*output.stdout), (Some(2), &b""[..]), "{arguments:?}: {stderr}");
        assert!(stderr.contains(said), "{arguments:?}: {stderr}");
    }
    let output = flowgen(folder.path()).args(["schema", "other.yaml"]).output().unwrap();
    assert!(output.status.code() == Some(2) && String::from_utf8_lossy(&output.stderr).contains("--openapi"));
}
