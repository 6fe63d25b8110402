//! Where requests go: a template that makes a URL.

use reqwest::Url;

use super::failure::ENDPOINT;
use crate::{
    event::Event,
    problem::Problems,
    task::TaskError,
    template::{Template, TemplateError},
};

/// What an endpoint has to be; says nothing of what it is, which may hold a secret.
const WANTED: &str = "an endpoint is an `http://` or `https://` URL";

/// The URL of every event.
pub(super) enum Endpoint {
    Constant(Url),
    Template(Template),
}

impl Endpoint {
    /// Reports what is wrong with a template, as far as it is known before there is an event.
    pub(super) fn check(source: &str, problems: &mut Problems) {
        match Template::compile(source) {
            Err(error) => error.report("endpoint", problems),
            Ok(template) => {
                let is_usable = match template.as_constant() {
                    Some(text) => parse(text).is_some(),
                    None => has_a_scheme_that_fits(source),
                };
                if !is_usable {
                    problems.report("endpoint", WANTED);
                }
            }
        }
    }

    pub(super) fn compile(source: &str) -> Result<Self, TemplateError> {
        let template = Template::compile(source)?;
        Ok(match template.as_constant().and_then(parse) {
            Some(url) => Self::Constant(url),
            None => Self::Template(template),
        })
    }

    /// Returns the URL, if it is the same for every event and can be one.
    pub(super) fn constant(source: &str) -> Option<Url> {
        Template::compile(source).ok()?.as_constant().and_then(parse)
    }

    /// Returns the URL of one event.
    pub(super) fn render(&self, event: &Event) -> Result<Url, TaskError> {
        match self {
            Self::Constant(url) => Ok(url.clone()),
            Self::Template(template) => {
                let text = template.render(event)?;
                parse(&text)
                    .ok_or_else(|| TaskError::permanent(ENDPOINT, format!("{WANTED}; the event makes none")))
            }
        }
    }
}

fn parse(text: &str) -> Option<Url> {
    Url::parse(text).ok().filter(|url| matches!(url.scheme(), "http" | "https"))
}

/// Returns whether what stands before the first mark can begin a URL.
fn has_a_scheme_that_fits(source: &str) -> bool {
    let known = source.trim_start().split('{').next().unwrap_or_default().to_ascii_lowercase();
    ["http://", "https://"].iter().any(|scheme| known.starts_with(scheme) || scheme.starts_with(&known))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::event::{EventId, Payload};

    #[test]
    fn what_cannot_become_a_url_is_found_at_load() {
        let is_fine = |source: &str| {
            let mut problems = Problems::default();
            Endpoint::check(source, &mut problems);
            problems.is_empty()
        };
        for good in [
            "http://a",
            "HTTPS://a/b?c=d",
            "{{ event.data }}",
            "http{{ event.data }}",
            "https://{{ event.data }}/x",
        ] {
            assert!(is_fine(good), "{good}");
        }
        for bad in
            ["", "/orders", "localhost:80", "ftp://a", "http://", "ftp://{{ event.data }}", "http://{{ x }}"]
        {
            assert!(!is_fine(bad), "{bad}");
        }
    }

    #[test]
    fn event_data_may_fill_in_parts_or_name_the_whole_url() {
        let render = |source: &str, data| {
            let event = Event::new(EventId::Sequence(0), "s".into(), Payload::from(data));
            Endpoint::compile(source).unwrap().render(&event).map(String::from)
        };
        assert_eq!(
            render("http://a/{{ event.data | urlencode }}", json!("b c/d?e")).unwrap(),
            "http://a/b%20c/d%3Fe"
        );
        assert_eq!(render("{{ event.data }}", json!("https://a/b")).unwrap(), "https://a/b");
        let error = render("{{ event.data }}", json!("file:///etc/passwd")).unwrap_err();
        assert_eq!(error.error_type(), ENDPOINT);
        assert!(!error.to_string().contains("passwd"));
    }
}
