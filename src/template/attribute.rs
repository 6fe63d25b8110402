//! Attributes of spans that a configuration asks for: a name, and a template for the value.
//!
//! They describe an event and never stand in its way: what an event lacks is left out.

use std::sync::Arc;

use serde_json::{Number, Value};

use super::{Template, TemplateError, path::Path, value::single_path};
use crate::{
    event::Event,
    telemetry::{AttributeValue, Text},
};

/// An attribute that every span of an event gets, if the event has a value for it.
#[derive(Debug)]
pub struct TraceAttribute {
    name: Arc<str>,
    template: Node,
}

#[derive(Debug)]
enum Node {
    Constant(Option<AttributeValue>),
    Path(Path),
    Text(Template),
}

impl TraceAttribute {
    /// Compiles the template of the attribute `name`.
    ///
    /// # Errors
    /// As [`Template::compile`].
    pub fn compile(name: &str, source: &str) -> Result<Self, TemplateError> {
        let template = match single_path(source) {
            Some(path) => Node::Path(path),
            None => {
                let template = Template::compile(source)?;
                match template.as_constant() {
                    Some(constant) => Node::Constant(text(constant)),
                    None => Node::Text(template),
                }
            }
        };
        Ok(Self { name: name.into(), template })
    }

    /// Returns its name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Returns its value for `event`. What is exactly one `{{ path }}` keeps its type, other templates give text;
    /// there is none if the event lacks a path or has nothing, an empty text, a mapping or a list there.
    pub fn value(&self, event: &Event) -> Option<AttributeValue> {
        match &self.template {
            Node::Constant(value) => value.clone(),
            Node::Path(path) => typed(&*path.resolve(event)?),
            Node::Text(template) => text(&template.render(event).ok()?),
        }
    }
}

fn typed(value: &Value) -> Option<AttributeValue> {
    match value {
        Value::String(value) => text(value),
        Value::Bool(value) => Some((*value).into()),
        Value::Number(value) => Some(number(value)),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

/// Returns a number in full: an integer that OTLP has no type for is text, since it may be an identifier.
fn number(number: &Number) -> AttributeValue {
    match (number.as_i64(), number.as_f64()) {
        (Some(integer), _) => integer.into(),
        (None, Some(double)) if number.is_f64() => double.into(),
        _ => number.to_string().into(),
    }
}

fn text(text: &str) -> Option<AttributeValue> {
    (!text.is_empty()).then(|| Text::cut(text).into())
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::{Map, json};

    use super::*;
    use crate::event::{EventId, Meta, Payload};

    fn event(data: impl Into<Payload>) -> Event {
        let mut event = Event::new(EventId::Sequence(7), "orders".into(), data.into());
        event.meta = Meta::new(Map::from_iter([("tenant".to_owned(), json!("acme"))]));
        event.timestamp = "2024-05-01T10:00:00.5Z".parse().unwrap();
        event
    }

    fn value(source: &str, data: impl Into<Payload>) -> Option<AttributeValue> {
        TraceAttribute::compile("a", source).unwrap().value(&event(data))
    }

    #[test]
    fn one_path_keeps_the_type_of_its_value() {
        let data = json!({"text": "x", "n": -3, "big": u64::MAX, "x": 1.5, "whole": 2.0, "yes": true, "in": {"a b": [7]}});
        let of = |path: &str| value(&format!(" {{{{ event.{path} }}}} "), data.clone());
        assert_eq!(of("data.text"), Some("x".into()));
        assert_eq!(of("data.n"), Some(AttributeValue::Int(-3)));
        assert_eq!(of("data.x"), Some(AttributeValue::Double(1.5)));
        assert_eq!(of("data.whole"), Some(AttributeValue::Double(2.0)));
        assert_eq!(of("data.yes"), Some(AttributeValue::Bool(true)));
        assert_eq!(of("data.in['a b'][0]"), Some(AttributeValue::Int(7)));
        assert_eq!(of("meta.tenant"), Some("acme".into()));
        assert_eq!(of("id"), Some("7".into()));
        assert_eq!(of("subject"), Some("orders".into()));
        assert_eq!(of("timestamp"), Some("2024-05-01T10:00:00.5Z".into()));
        assert_eq!(of("data.big"), Some("18446744073709551615".into()), "no digit of an identifier is lost");
    }

    #[test]
    fn other_templates_are_text() {
        let data = || json!({"id": 7, "yes": true, "name": "Ada"});
        assert_eq!(value("{{ event.data.id }}-{{ event.data.yes }}", data()), Some("7-true".into()));
        assert_eq!(value("{{ event.data.name | upper }}", data()), Some("ADA".into()));
        assert_eq!(value("checkout", data()), Some("checkout".into()));
        assert_eq!(value("{{ event.data.no | default('none') }}", data()), Some("none".into()));
    }

    #[test]
    fn what_an_event_lacks_is_left_out() {
        let data = || json!({"none": null, "empty": "", "list": [1], "map": {}, "id": 7});
        for source in [
            "{{ event.data.gone }}",
            "{{ event.data.gone.deeper }}",
            "{{ event.data.none }}",
            "{{ event.data.empty }}",
            "{{ event.data.list }}",
            "{{ event.data.map }}",
            "{{ event.data }}",
            "{{ event.meta }}",
            "{{ event.meta.gone }}",
            "{{ event.data.id }}-{{ event.data.gone }}",
            "{{ event.data.empty | upper }}",
            "{{ event.data.id | first }}",
            "",
        ] {
            assert_eq!(value(source, data()), None, "{source}");
        }
    }

    #[test]
    fn a_payload_that_is_no_mapping_has_a_value_itself() {
        assert_eq!(value("{{ event.data }}", json!(7)), Some(AttributeValue::Int(7)));
        assert_eq!(value("{{ event.data }}", Payload::Bytes(Bytes::from_static(b"raw"))), Some("raw".into()));
        assert_eq!(value("{{ event.data.id }}", Payload::Bytes(Bytes::from_static(b"raw"))), None);
    }

    #[test]
    fn a_text_is_cut_as_other_attributes_are() {
        let long = "x".repeat(5000);
        let cut = Some(AttributeValue::from("x".repeat(1024)));
        assert_eq!(value("{{ event.data }}", json!(long)), cut);
        assert_eq!(value("x{{ event.data }}", json!(long)), cut);
        assert_eq!(value(&long, json!(null)), cut);
    }

    #[test]
    fn what_is_wrong_with_a_template_is_told_when_it_is_compiled() {
        let error = TraceAttribute::compile("a", "{{ data.id }}").unwrap_err();
        assert_eq!(error.hint.as_deref(), Some("did you mean `event.data`?"));
    }
}
