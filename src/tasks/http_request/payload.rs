//! What a request sends, and how.

mod multipart;

use bytes::Bytes;
use reqwest::header::HeaderValue;
use schemars::JsonSchema;
use serde::{Deserialize, de::IgnoredAny};
use serde_json::{Map, Value};
use url::form_urlencoded::Serializer;

use self::multipart::FilePart;
use crate::{
    event::{self, Event},
    format::ENCODE,
    problem::Problems,
    task::TaskError,
    template::{Template, TemplateError, ValueTemplate},
};

/// What to send: one of `object`, `input` and `from_event`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// An object whose texts are templates; a text that is exactly one `{{ path }}` keeps its value's type.
    object: Option<Map<String, Value>>,
    /// A template that makes the text to send.
    input: Option<String>,
    /// Sends the event's data.
    #[serde(default)]
    from_event: bool,
    /// Sends the event's data as a file: bytes as they are, a text as it is, all else as JSON. Of `multipart` alone.
    file: Option<FileConfig>,
    /// How to send it.
    #[serde(default)]
    #[schemars(extend("default" = "json"))]
    send_as: SendAs,
}

/// The part of a form that is a file.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct FileConfig {
    /// The field of the form.
    #[serde(default = "file")]
    field: String,
    /// The name of the file, a template.
    name: String,
    /// Its media type.
    #[serde(default = "octet_stream")]
    content_type: String,
}

fn file() -> String {
    "file".to_owned()
}

fn octet_stream() -> String {
    "application/octet-stream".to_owned()
}

/// How a payload is sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum SendAs {
    /// A JSON body.
    #[default]
    Json,
    /// A plain text body: `input` or the event's data as it is.
    Text,
    /// A form's body; takes a flat object only.
    UrlEncoded,
    /// Pairs of the URL's query, without a body; takes a flat object only.
    QueryParams,
    /// A form's body that may hold a file; takes a flat object only.
    Multipart,
}

impl Config {
    /// Reports what is wrong.
    pub(super) fn check(&self, problems: &mut Problems) {
        let given = [self.object.is_some(), self.input.is_some(), self.from_event];
        let given = given.iter().filter(|given| **given).count();
        if given != 1 && (given > 1 || self.file.is_none()) {
            problems.report("payload", "a payload has one of `object`, `input` and `from_event: true`");
        }
        if let Some(file) = &self.file {
            file.check(self.send_as == SendAs::Multipart, problems);
        }
        if self.object.is_some() && self.send_as == SendAs::Text {
            problems
                .report("payload.send_as", "an `object` is not sent as text")
                .hint("write `input` instead, or send it as `json`");
        }
        if let Some(Err(error)) = self.input.as_deref().map(Template::compile) {
            error.report("payload.input", problems);
        }
        if let Some(Err(errors)) = self.object.clone().map(|object| ValueTemplate::compile(&object.into())) {
            for (path, error) in errors {
                error.report(&format!("payload.object.{path}"), problems);
            }
        }
    }

    /// Compiles it.
    pub(super) fn compile(&self) -> Result<Payload, TemplateError> {
        let content = match (&self.object, &self.input) {
            (Some(object), _) => ValueTemplate::compile(&Value::Object(object.clone()))
                .map(Content::Object)
                .map_err(|mut errors| errors.swap_remove(0).1)?,
            (None, Some(input)) => Content::Input(Template::compile(input)?),
            (None, None) if self.from_event => Content::Event,
            (None, None) => Content::Nothing,
        };
        let file = self
            .file
            .as_ref()
            .map(|file| Ok((file.field.clone(), Template::compile(&file.name)?, file.content_type.clone())));
        Ok(Payload { content, file: file.transpose()?, send_as: self.send_as })
    }
}

impl FileConfig {
    fn check(&self, is_multipart: bool, problems: &mut Problems) {
        if !is_multipart {
            problems.report("payload.file", "a file is a part of a form").hint("add `send_as: multipart`");
        }
        if HeaderValue::try_from(&self.content_type).is_err() || !self.content_type.contains('/') {
            problems.report("payload.file.content_type", "this is no media type").hint("such as `text/csv`");
        }
        if let Err(error) = Template::compile(&self.name) {
            error.report("payload.file.name", problems);
        }
    }
}

/// What a request sends, compiled.
pub(super) struct Payload {
    content: Content,
    /// The field, the name and the media type of a file.
    file: Option<(String, Template, String)>,
    send_as: SendAs,
}

enum Content {
    Object(ValueTemplate),
    Input(Template),
    Event,
    Nothing,
}

/// A payload that is ready to be sent.
pub(super) enum Encoded {
    /// As the body.
    Body {
        bytes: Bytes,
        /// The `content-type` that goes with it.
        content_type: HeaderValue,
    },
    /// As pairs of the query.
    Query(Vec<(String, String)>),
}

impl Payload {
    /// Makes what is sent for one event.
    pub(super) fn encode(&self, event: &Event) -> Result<Encoded, TaskError> {
        let (bytes, content_type) = match self.send_as {
            SendAs::Json => (self.json(event)?, "application/json"),
            SendAs::Text => (self.text(event)?, "text/plain; charset=utf-8"),
            SendAs::QueryParams => return self.pairs(event).map(Encoded::Query),
            SendAs::UrlEncoded => {
                let form = Serializer::new(String::new()).extend_pairs(self.pairs(event)?).finish();
                (form.into(), "application/x-www-form-urlencoded")
            }
            SendAs::Multipart => return self.form(event),
        };
        Ok(Encoded::Body { bytes, content_type: HeaderValue::from_static(content_type) })
    }

    fn form(&self, event: &Event) -> Result<Encoded, TaskError> {
        let file = self.file.as_ref().map(|(field, name, content_type)| {
            let (field, name, content_type) = (field.clone(), name.render(event)?, content_type.clone());
            Ok::<_, TaskError>(FilePart { field, name, content_type, content: content_of(&event.data)? })
        });
        let form = multipart::encode(&self.pairs(event)?, file.transpose()?.as_ref());
        let content_type = HeaderValue::try_from(form.content_type).expect("it is printable ASCII");
        Ok(Encoded::Body { bytes: form.body, content_type })
    }

    fn json(&self, event: &Event) -> Result<Bytes, TaskError> {
        match &self.content {
            Content::Object(object) => Ok(object.render(event)?.to_string().into()),
            Content::Input(input) => {
                let text = input.render(event)?;
                serde_json::from_str::<IgnoredAny>(&text).map_err(no_json)?;
                Ok(text.into())
            }
            Content::Event => json_of(&event.data).ok_or_else(only_bytes),
            Content::Nothing => Ok(Bytes::new()),
        }
    }

    fn text(&self, event: &Event) -> Result<Bytes, TaskError> {
        match &self.content {
            Content::Object(object) => Ok(object.render(event)?.to_string().into()),
            Content::Input(input) => Ok(input.render(event)?.into()),
            Content::Event => content_of(&event.data),
            Content::Nothing => Ok(Bytes::new()),
        }
    }

    fn pairs(&self, event: &Event) -> Result<Vec<(String, String)>, TaskError> {
        match &self.content {
            // Its keys are those of the configuration, so they may be shown.
            Content::Object(object) => pairs_of(&object.render(event)?, |_, key| format!("`{key}`")),
            Content::Input(input) => {
                pairs_of(&serde_json::from_str(&input.render(event)?).map_err(no_json)?, numbered)
            }
            Content::Event => pairs_of(event.data.json().ok_or_else(only_bytes)?, numbered),
            Content::Nothing => Ok(Vec::new()),
        }
    }
}

/// Returns data as they are: bytes, a text without its quotes, all else as JSON.
fn content_of(data: &event::Payload) -> Result<Bytes, TaskError> {
    match data {
        event::Payload::Bytes(bytes) => Ok(bytes.clone()),
        data => match data.json().and_then(Value::as_str) {
            Some(text) => Ok(text.to_owned().into()),
            None => json_of(data).ok_or_else(only_bytes),
        },
    }
}

/// Returns data as JSON text: what it came in as, if nothing has changed it.
fn json_of(data: &event::Payload) -> Option<Bytes> {
    match data.text() {
        Some(text) => Some(Bytes::copy_from_slice(text.as_bytes())),
        None => data.json().map(|value| value.to_string().into()),
    }
}

/// Makes pairs of an object. `name` is how an error names the value of a key.
fn pairs_of(value: &Value, name: impl Fn(usize, &str) -> String) -> Result<Vec<(String, String)>, TaskError> {
    let refused = |message: String| TaskError::permanent(ENCODE, message);
    let object = value.as_object().ok_or_else(|| refused("pairs are made of an object only".to_owned()))?;
    let pair = |(n, (key, value)): (usize, (&String, &Value))| match value {
        Value::String(text) => Ok((key.clone(), text.clone())),
        Value::Number(_) | Value::Bool(_) => Ok((key.clone(), value.to_string())),
        _ => {
            let name = name(n, key);
            Err(refused(format!(
                "{name} is no text, number or boolean: pairs are made of a flat object only"
            )))
        }
    };
    object.iter().enumerate().map(pair).collect()
}

/// Names a value by its place, since the key is data.
fn numbered(n: usize, _: &str) -> String {
    format!("value number {}", n + 1)
}

fn no_json(error: serde_json::Error) -> TaskError {
    TaskError::permanent(ENCODE, "`payload.input` makes no JSON").with_source(error)
}

fn only_bytes() -> TaskError {
    TaskError::permanent(ENCODE, "the event's data are bytes, not JSON")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::EventId;

    fn config(yaml: Value) -> Config {
        serde_json::from_value(yaml).unwrap()
    }

    /// Returns what is sent, as text.
    fn sent(payload: Value, data: Value) -> Result<String, &'static str> {
        let event = Event::new(EventId::Sequence(0), "s".into(), event::Payload::from(data));
        match config(payload).compile().unwrap().encode(&event) {
            Ok(Encoded::Body { bytes, .. }) => Ok(String::from_utf8(bytes.to_vec()).unwrap()),
            Ok(Encoded::Query(pairs)) => Ok(format!("{pairs:?}")),
            Err(error) => Err(error.error_type()),
        }
    }

    #[test]
    fn each_content_is_sent_each_way() {
        let data = json!({"n": 1, "t": "a b"});
        let object = json!({"n": "{{ event.data.n }}", "t": "<{{ event.data.t }}>"});
        let ways = |content: Value| {
            ["json", "text", "urlencoded", "queryparams"].map(|way| {
                let mut payload = content.clone();
                payload["send_as"] = way.into();
                sent(payload, data.clone()).unwrap()
            })
        };
        let as_json = r#"{"n":1,"t":"<a b>"}"#;
        let pairs = r#"[("n", "1"), ("t", "<a b>")]"#;
        assert_eq!(ways(json!({"object": object})), [as_json, as_json, "n=1&t=%3Ca+b%3E", pairs]);
        let input = r#"{"n":{{ event.data.n }},"t":"<{{ event.data.t }}>"}"#;
        assert_eq!(ways(json!({"input": input})), [as_json, as_json, "n=1&t=%3Ca+b%3E", pairs]);
        let (as_json, pairs) = (r#"{"n":1,"t":"a b"}"#, r#"[("n", "1"), ("t", "a b")]"#);
        assert_eq!(ways(json!({"from_event": true})), [as_json, as_json, "n=1&t=a+b", pairs]);
        assert_eq!(sent(json!({"from_event": true, "send_as": "text"}), json!("a")).unwrap(), "a");
    }

    #[test]
    fn what_cannot_be_sent_fails_the_event() {
        assert_eq!(sent(json!({"input": "{{ event.data }}"}), json!("{oops")), Err(ENCODE));
        for data in [json!([1]), json!({"a": {"b": 1}}), json!({"a": null})] {
            assert_eq!(sent(json!({"from_event": true, "send_as": "urlencoded"}), data), Err(ENCODE));
        }
    }

    #[test]
    fn a_payload_has_exactly_one_content() {
        let count = |payload: Value| {
            let mut problems = Problems::default();
            config(payload).check(&mut problems);
            problems.into_vec().len()
        };
        assert_eq!(count(json!({"object": {}})), 0);
        assert_eq!(count(json!({})), 1);
        assert_eq!(count(json!({"input": "1", "from_event": true})), 1);
        assert_eq!(count(json!({"object": {"a": ["{{ even }}", "{{"]}, "send_as": "text"})), 3);
    }
}
