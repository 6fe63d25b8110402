//! What a request may hold: parameters, a body, and who it is from.

use http::Method;
use serde_json::{Map, Value, json};

use crate::{
    plan::{Flow, Node, OnError},
    task::http::{Content, Credentials, Operation},
};

/// The headers that are described by other means than parameters, or must not be described by them.
const OTHERWISE: [&str; 3] = ["accept", "authorization", "content-type"];

/// What a schema that stands by itself cannot hold: it leads to another place of the one that it was taken from.
const TIED: [&str; 5] = ["$ref", "$dynamicRef", "$recursiveRef", "$id", "$schema"];

/// The dialect of OpenAPI 3.1, as far as schemas of bodies go.
const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Describes the parameters of the path, by these names, and the headers.
pub(super) fn parameters(operation: &Operation, names: &[String]) -> Vec<Value> {
    let is_rest = operation.route.template.contains("{*");
    let mut described = Vec::new();
    for (n, name) in names.iter().enumerate() {
        let mut parameter = json!({"name": name, "in": "path", "required": true, "schema": {"type": "string", "minLength": 1}});
        if is_rest && n + 1 == names.len() {
            parameter["description"] = "All that is left of the path, with its slashes.".into();
        }
        described.push(parameter);
    }
    let own = match &operation.credentials {
        Some(Credentials::Key { header }) => vec![header.to_ascii_lowercase()],
        Some(Credentials::Signature { header, time_header }) => {
            if let Some(name) = time_header {
                described.push(json!({
                    "name": name,
                    "in": "header",
                    "required": true,
                    "description": "When the body was signed, in seconds since 1970.",
                    "schema": {"type": "string", "pattern": "^[0-9]+$"},
                }));
            }
            [Some(header), time_header.as_ref()]
                .into_iter()
                .flatten()
                .map(|name| name.to_ascii_lowercase())
                .collect()
        }
        Some(Credentials::Bearer | Credentials::Basic | Credentials::Jwt { .. }) | None => vec![],
    };
    let mut seen: Vec<String> = OTHERWISE.map(str::to_owned).into_iter().chain(own).collect();
    for name in &operation.headers {
        let lower = name.to_ascii_lowercase();
        if !seen.contains(&lower) {
            described.push(json!({"name": name, "in": "header", "schema": {"type": "string"}}));
            seen.push(lower);
        }
    }
    described
}

/// Describes the body, of the methods whose requests have one.
pub(super) fn body(flow: &Flow, node: &Node, operation: &Operation) -> Option<Value> {
    if !matches!(operation.route.method, Method::POST | Method::PUT | Method::PATCH) {
        return None;
    }
    let form = json!({
        "type": "object",
        "additionalProperties": {"type": ["string", "array"], "items": {"type": "string"}},
    });
    let (json, form, text, bytes) = (
        ("application/json", json!({})),
        ("application/x-www-form-urlencoded", form),
        ("text/plain", json!({"type": "string"})),
        ("application/octet-stream", json!({})),
    );
    let schema = demanded(flow, node);
    let is_required = schema.is_some_and(|schema| !takes_nothing(schema));
    let known = |media_type: &'static str| schema.map(|schema| vec![(media_type, schema.clone())]);
    let media = match operation.content {
        Content::Any => known(json.0).unwrap_or_else(|| vec![json, form, text, bytes]),
        Content::Json => known(json.0).unwrap_or_else(|| vec![json]),
        Content::Form => known(form.0).unwrap_or_else(|| vec![form]),
        Content::Text => known(text.0).unwrap_or_else(|| vec![text]),
        Content::Bytes => vec![bytes],
    };
    let content = media.into_iter().map(|(name, schema)| (name.to_owned(), json!({"schema": schema})));
    Some(json!({
        "description": format!("At most {} bytes, also decompressed.", operation.max_body_bytes),
        "required": is_required,
        "content": content.collect::<Map<_, _>>(),
    }))
}

/// Returns what the body has to be like, if that is all that the task right after the endpoint is there for, and what does
/// not conform goes no further.
fn demanded<'a>(flow: &'a Flow, node: &Node) -> Option<&'a Value> {
    let [next] = node.downstream[..] else { return None };
    let next = &flow.tasks[next];
    let is_strict = matches!(next.policy.on_error, OnError::Fail | OnError::Route(_)) && next.when.is_none();
    let schema = next.prepared.demands().filter(|_| is_strict)?;
    let dialect = schema.get("$schema").and_then(Value::as_str).unwrap_or(DIALECT);
    let payload = schema.get("properties")?.get("payload")?;
    (dialect.trim_end_matches('#') == DIALECT && !is_tied(payload)).then_some(payload)
}

fn is_tied(schema: &Value) -> bool {
    match schema {
        Value::Object(entries) => entries.iter().any(|(key, value)| TIED.contains(&&**key) || is_tied(value)),
        Value::Array(items) => items.iter().any(is_tied),
        _ => false,
    }
}

/// Returns whether a request without a body conforms, whose payload is `null`.
fn takes_nothing(schema: &Value) -> bool {
    let compiled = jsonschema::options().offline().build(schema);
    compiled.is_ok_and(|compiled| compiled.is_valid(&Value::Null))
}

/// How callers say who they are, by name.
#[derive(Default)]
pub(super) struct Schemes(Map<String, Value>);

impl Schemes {
    /// Returns the name of a scheme, which is described once.
    pub(super) fn name(&mut self, credentials: &Credentials) -> String {
        let (name, scheme) = scheme(credentials);
        // What stands in a header's name and must not in this one is left out: two may look the same then.
        let name: String = name
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' })
            .collect();
        let mut candidates = (1..).map(|n| if n == 1 { name.clone() } else { format!("{name}_{n}") });
        let is_free = |candidate: &String| self.0.get(candidate).is_none_or(|known| *known == scheme);
        let name = candidates.find(is_free).unwrap_or_default();
        self.0.insert(name.clone(), scheme);
        name
    }

    /// Returns all of them, if there are any.
    pub(super) fn into_value(self) -> Option<Value> {
        (!self.0.is_empty()).then_some(self.0.into())
    }
}

fn scheme(credentials: &Credentials) -> (String, Value) {
    match credentials {
        Credentials::Bearer => ("bearer".into(), json!({"type": "http", "scheme": "bearer"})),
        Credentials::Basic => ("basic".into(), json!({"type": "http", "scheme": "basic"})),
        Credentials::Jwt { .. } => {
            ("jwt".into(), json!({"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}))
        }
        Credentials::Key { header } => {
            (format!("api_key.{header}"), json!({"type": "apiKey", "in": "header", "name": header}))
        }
        Credentials::Signature { header, .. } => (
            format!("hmac.{header}"),
            json!({
                "type": "apiKey",
                "in": "header",
                "name": header,
                "description": "The signature of the body (HMAC), made with a secret that both sides know.",
            }),
        ),
    }
}
