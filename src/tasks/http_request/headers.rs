//! The headers of a request.

use std::collections::{BTreeMap, HashSet};

use reqwest::header::{CONNECTION, CONTENT_LENGTH, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING};

use super::failure::HEADER;
use crate::{
    event::Event,
    problem::Problems,
    task::TaskError,
    telemetry::Propagators,
    template::{Template, TemplateError},
};

/// Reports what is wrong with the headers of a configuration.
pub(super) fn check(headers: &BTreeMap<String, String>, problems: &mut Problems) {
    let mut seen = HashSet::new();
    for (name, value) in headers {
        let path = format!("headers.{name}");
        match HeaderName::try_from(name) {
            Err(_) => drop(problems.report(&path, format!("`{name}` is no name of a header"))),
            Ok(name) if [CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING].contains(&name) => {
                problems.report(&path, format!("`{name}` is set by the client")).hint("remove it");
            }
            Ok(known) if !seen.insert(known.clone()) => {
                problems.report(&path, format!("`{name}` is given twice"));
            }
            Ok(_) => {}
        }
        match Template::compile(value) {
            Err(error) => error.report(&path, problems),
            Ok(template) => {
                if template.as_constant().is_some_and(|value| HeaderValue::try_from(value).is_err()) {
                    problems.report(&path, "a header cannot have this value: it holds a control character");
                }
            }
        }
    }
}

/// The configured headers, compiled, and what the other side learns of the trace.
pub(super) struct Headers {
    configured: Vec<(HeaderName, Template)>,
    propagators: Propagators,
}

impl Headers {
    pub(super) fn compile(
        headers: &BTreeMap<String, String>,
        propagators: Propagators,
    ) -> Result<Self, TemplateError> {
        let named =
            headers.iter().filter_map(|(name, value)| Some((HeaderName::try_from(name).ok()?, value)));
        let compiled = named.map(|(name, value)| Ok((name, Template::compile(value)?)));
        Ok(Self { configured: compiled.collect::<Result<_, _>>()?, propagators })
    }

    /// Collects all that a request carries besides what its body asks for. A `traceparent`, `tracestate` or `baggage`
    /// that is configured wins: it may be that of someone who is not traced here.
    pub(super) fn outgoing(&self, event: &Event) -> Result<HeaderMap, TaskError> {
        let mut headers = HeaderMap::with_capacity(self.configured.len() + 4);
        headers.extend(of_trace(self.propagators, event));
        for (name, template) in &self.configured {
            // Its error would not hold the value either, but it says less.
            let mut value = HeaderValue::try_from(template.render(event)?).map_err(|_| {
                TaskError::permanent(HEADER, format!("the event makes no value for the header `{name}`"))
            })?;
            value.set_sensitive(true);
            headers.insert(name.clone(), value);
        }
        Ok(headers)
    }
}

/// Returns what the other side learns of the trace of an event.
pub(super) fn of_trace(
    propagators: Propagators,
    event: &Event,
) -> impl Iterator<Item = (HeaderName, HeaderValue)> {
    propagators.headers(event).map(|(name, value)| {
        (HeaderName::from_static(name), HeaderValue::try_from(value).expect("it is printable ASCII"))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::{EventId, Payload};

    #[test]
    fn names_and_values_that_no_header_has_are_found_at_load() {
        let headers = [
            ("content-length", "1"),
            ("ok", "{{ event.data }}"),
            ("x y", "1"),
            ("X-A", "1"),
            ("broken", "{{ event.dat }}"),
            ("line", "a\nb"),
            ("x-a", "2"),
        ];
        let mut problems = Problems::default();
        check(&headers.map(|(name, value)| (name.into(), value.into())).into(), &mut problems);
        let mut paths: Vec<_> = problems.into_vec().iter().map(|problem| problem.path.to_string()).collect();
        paths.sort();
        assert_eq!(
            paths,
            ["headers.broken", "headers.content-length", "headers.line", "headers.x y", "headers.x-a"]
        );
    }

    #[test]
    fn event_data_cannot_smuggle_in_another_header() {
        let headers =
            Headers::compile(&[("x-id".into(), "{{ event.data }}".into())].into(), Propagators::default())
                .unwrap();
        let outgoing = |data| {
            headers.outgoing(&Event::new(EventId::Sequence(0), "s".into(), Payload::from(json!(data))))
        };
        assert_eq!(outgoing("a b").unwrap()["x-id"], "a b");
        assert_eq!(outgoing("a\r\nx-admin: 1").unwrap_err().error_type(), HEADER);
    }
}
