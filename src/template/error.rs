//! Why a template does not compile, or cannot be rendered.

use minijinja::ErrorKind;

use crate::problem::{Focus, Problems, did_you_mean};

/// Returns why a template cannot be rendered, and in which of its lines. What the library says besides is shown
/// only if it is about the template itself: else it may quote a value of the event.
pub(super) fn cause(error: &minijinja::Error) -> String {
    let is_of_template = matches!(
        error.kind(),
        ErrorKind::UnknownFilter
            | ErrorKind::UnknownTest
            | ErrorKind::UnknownFunction
            | ErrorKind::UnknownMethod
    );
    let detail = error.detail().filter(|_| is_of_template).map(|detail| format!(": {detail}"));
    let line = error.line().map(|line| format!(" at line {line}"));
    format!("{}{}{}", error.kind(), detail.unwrap_or_default(), line.unwrap_or_default())
}

/// Why a template does not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// What is wrong.
    pub message: String,
    /// Line within the template, from 1.
    pub line: Option<usize>,
    /// Column within that line, from 1, in characters.
    pub column: Option<usize>,
    /// How to mend it.
    pub hint: Option<String>,
}

impl TemplateError {
    /// Reports it as a problem with the template at the dotted `path`.
    pub fn report(self, path: &str, problems: &mut Problems) {
        let problem = problems.report(path, self.message).hint_opt(self.hint);
        if let Some(line) = self.line {
            problem.focus(Focus::Inside { line, column: self.column.unwrap_or(1) });
        }
    }

    pub(super) fn syntax(source: &str, error: &minijinja::Error) -> Self {
        let message = format!("the template does not compile: {}", error.detail().unwrap_or("syntax error"));
        let blocks = [
            (
                "{{#if",
                "write `{% if .. %} .. {% else %} .. {% endif %}`: there are no Handlebars blocks here",
            ),
            ("{{#each", "write `{% for item in .. %} .. {% endfor %}`: there are no Handlebars blocks here"),
            ("{{#", "there are no Handlebars blocks here: write `{% if .. %}` or `{% for item in .. %}`"),
            ("{{/", "there are no Handlebars blocks here: write `{% endif %}` or `{% endfor %}`"),
            ("{{else}}", "there are no Handlebars blocks here: write `{% else %}`"),
            ("{{>", "there are no Handlebars partials here"),
        ];
        match blocks.iter().find(|(mark, _)| source.contains(mark)) {
            Some((mark, hint)) => Self::at(source, mark, message, Some((*hint).to_owned())),
            None => Self { message, line: error.line(), column: None, hint: None },
        }
    }

    pub(super) fn unknown_root(source: &str, root: &str) -> Self {
        let hint = match root {
            "env" => {
                "write `env.NAME` alone between the braces; it is put in when the flow is loaded".to_owned()
            }
            "data" | "meta" | "id" | "subject" | "timestamp" | "error" => {
                format!("did you mean `event.{root}`?")
            }
            _ => did_you_mean(root, ["event"])
                .unwrap_or_else(|| format!("a template knows `event` only, as in `event.data.{root}`")),
        };
        Self::at(source, root, format!("`{root}` is not known"), Some(hint))
    }

    /// Makes an error about a part of the template: where that first stands behind an opening brace, or at
    /// all.
    pub(super) fn at(source: &str, part: &str, message: String, hint: Option<String>) -> Self {
        let first = source.find('{').filter(|_| !part.starts_with('{')).unwrap_or(0);
        let place = source[first..].find(part).map(|place| &source[..first + place]);
        Self {
            message,
            line: place.map(|before| before.matches('\n').count() + 1),
            column: place.map(|before| before.rsplit('\n').next().unwrap_or_default().chars().count() + 1),
            hint,
        }
    }
}
