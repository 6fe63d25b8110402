//! `pagination`: asks for one page after the other, until there is none.
//!
//! A failed page fails the attempt, which is made again from the first page: what is emitted is all or nothing. So there
//! is a limit to the pages and, with `max_response_bytes`, to what all of them hold. Where a page leads to has to be on the
//! same host, and a page that was there already ends it as a failure.

mod link;

use std::collections::HashSet;

use reqwest::{Request, Url};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::{
    failure::PAGINATION,
    redirects::{is_within_host, join},
    response::Answer,
};
use crate::{event::Payload, problem::Problems, task::TaskError};

/// The path that leads to the body itself.
const ITSELF: &str = ".";

/// How to get at all pages.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Config {
    /// What leads to the next page.
    r#type: Way,
    /// Where in the body the URL of the next page is, dotted; of `link_body`.
    link_path: Option<String>,
    /// Where in the body the cursor is, dotted; of `cursor`.
    cursor_path: Option<String>,
    /// The parameter of the query that takes the cursor or the number; by default `page` for `page`.
    parameter: Option<String>,
    /// The number of the first page, by default 1; of `page`.
    first: Option<u64>,
    /// Where in the body the items are, dotted, or `.` if it is itself the list. Then each item is an event, else each
    /// page.
    items_path: Option<String>,
    /// How many pages there may be; more are a failure.
    #[serde(default = "max_pages")]
    max_pages: usize,
}

/// What leads to the next page.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Way {
    /// The `Link` header, with `rel="next"`.
    LinkHeader,
    /// A URL in the body.
    LinkBody,
    /// A text or a number in the body, that goes into the query.
    Cursor,
    /// The number of the page, that goes into the query; the first page without items is the last one.
    Page,
}

fn max_pages() -> usize {
    100
}

impl Config {
    pub(super) fn check(&self, problems: &mut Problems) {
        let way = self.r#type;
        let keys = [
            ("link_path", self.link_path.is_some(), way == Way::LinkBody, way == Way::LinkBody),
            ("cursor_path", self.cursor_path.is_some(), way == Way::Cursor, way == Way::Cursor),
            (
                "parameter",
                self.parameter.is_some(),
                way == Way::Cursor,
                matches!(way, Way::Cursor | Way::Page),
            ),
            ("first", self.first.is_some(), false, way == Way::Page),
            ("items_path", self.items_path.is_some(), way == Way::Page, true),
        ];
        for (key, is_given, is_needed, is_known) in keys {
            if is_needed && !is_given {
                problems.report("pagination", format!("this type of pagination needs `{key}`"));
            } else if is_given && !is_known {
                problems
                    .report(&format!("pagination.{key}"), format!("`{key}` is of another type of pagination"))
                    .hint("remove it");
            }
        }
        for (key, path) in [
            ("link_path", &self.link_path),
            ("cursor_path", &self.cursor_path),
            ("items_path", &self.items_path),
        ] {
            let is_itself = key == "items_path" && path.as_deref() == Some(ITSELF);
            if !is_itself && path.as_ref().is_some_and(|path| path.split('.').any(str::is_empty)) {
                problems.report(&format!("pagination.{key}"), format!("`{key}` has an empty part"));
            }
        }
        if self.max_pages == 0 {
            problems.report("pagination.max_pages", "`max_pages` has to be at least 1");
        }
    }

    /// Returns whether the events are items and not pages.
    pub(super) fn is_by_item(&self) -> bool {
        self.items_path.is_some()
    }

    pub(super) fn compile(&self) -> Pagination {
        let path = |path: &Option<String>| path.as_deref().map(Path::of).unwrap_or_default();
        let parameter = self.parameter.clone().unwrap_or_else(|| "page".to_owned());
        let next = match self.r#type {
            Way::LinkHeader => Next::LinkHeader,
            Way::LinkBody => Next::LinkBody(path(&self.link_path)),
            Way::Cursor => Next::Cursor { path: path(&self.cursor_path), parameter },
            Way::Page => Next::Page { parameter, first: self.first.unwrap_or(1) },
        };
        Pagination { next, items: self.items_path.as_deref().map(Path::of), max_pages: self.max_pages }
    }
}

/// The keys that lead to a value.
#[derive(Debug, Default)]
struct Path(Vec<String>);

impl Path {
    fn of(text: &str) -> Self {
        if text == ITSELF { Self::default() } else { Self(text.split('.').map(str::to_owned).collect()) }
    }

    fn find<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(value, |value, key| value.get(key))
    }
}

/// Gets at all pages.
pub(super) struct Pagination {
    next: Next,
    items: Option<Path>,
    max_pages: usize,
}

enum Next {
    LinkHeader,
    LinkBody(Path),
    Cursor { path: Path, parameter: String },
    Page { parameter: String, first: u64 },
}

/// The pages of one attempt so far.
pub(super) struct Pages<'a> {
    pagination: &'a Pagination,
    first: Url,
    seen: HashSet<Url>,
    data: Vec<Payload>,
}

impl Pagination {
    /// Returns whether the events are items and not pages.
    pub(super) fn is_by_item(&self) -> bool {
        self.items.is_some()
    }

    /// Begins with the first page, which `request` is made to ask for.
    pub(super) fn begin(&self, request: &mut Request) -> Pages<'_> {
        if let Next::Page { parameter, first } = &self.next {
            set_parameter(request.url_mut(), parameter, &first.to_string());
        }
        let first = request.url().clone();
        Pages { pagination: self, seen: HashSet::from([first.clone()]), first, data: Vec::new() }
    }
}

impl Pages<'_> {
    /// Takes what a page holds, and returns where the next one is.
    pub(super) fn take(&mut self, answer: Answer) -> Result<Option<Url>, TaskError> {
        let next = self.next(&answer)?;
        let mut is_empty = false;
        match &self.pagination.items {
            None => self.data.push(answer.into_data()),
            Some(path) => {
                let items = items(answer, path)?;
                is_empty = items.is_empty();
                self.data.extend(items.into_iter().map(Payload::from));
            }
        }
        let Some(next) = next.filter(|_| !is_empty || !matches!(self.pagination.next, Next::Page { .. }))
        else {
            return Ok(None);
        };
        if !is_within_host(&self.first, &next) {
            return Err(failed("the next page is on another host"));
        }
        if self.seen.len() >= self.pagination.max_pages {
            return Err(failed(format!(
                "there are more pages than `max_pages`, {}",
                self.pagination.max_pages
            )));
        }
        if !self.seen.insert(next.clone()) {
            return Err(failed("a page leads to one that was there already"));
        }
        Ok(Some(next))
    }

    /// Returns the data of all events.
    pub(super) fn into_data(self) -> Vec<Payload> {
        self.data
    }

    fn next(&self, answer: &Answer) -> Result<Option<Url>, TaskError> {
        let found = |path: &Path| answer.body.json().and_then(|body| path.find(body)).and_then(text_of);
        let linked = |target: &str| {
            join(&answer.url, target)
                .map(Some)
                .ok_or_else(|| failed("what should lead to the next page is no URL"))
        };
        match &self.pagination.next {
            Next::LinkHeader => link::next(&answer.headers).map_or(Ok(None), linked),
            Next::LinkBody(path) => found(path).map_or(Ok(None), |target| linked(&target)),
            Next::Cursor { path, parameter } => Ok(found(path).map(|cursor| self.with(parameter, &cursor))),
            Next::Page { parameter, first } => {
                let number = first.saturating_add(self.seen.len() as u64);
                Ok(Some(self.with(parameter, &number.to_string())))
            }
        }
    }

    fn with(&self, parameter: &str, value: &str) -> Url {
        let mut url = self.first.clone();
        set_parameter(&mut url, parameter, value);
        url
    }
}

/// Returns what can be put into a URL, if a value is not one of those that stand for nothing.
fn text_of(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// Takes the list out of a body.
fn items(answer: Answer, path: &Path) -> Result<Vec<Value>, TaskError> {
    let none = || failed("the body has no list at `items_path`");
    let mut body = answer.body.into_json().map_err(|_| none())?;
    let found = path.0.iter().try_fold(&mut body, |value, key| value.get_mut(key)).ok_or_else(none)?;
    match found.take() {
        Value::Array(items) => Ok(items),
        _ => Err(none()),
    }
}

/// Gives a parameter of the query one value, in place of those that it had.
fn set_parameter(url: &mut Url, parameter: &str, value: &str) {
    let others: Vec<(String, String)> = url
        .query_pairs()
        .filter(|(name, _)| name != parameter)
        .map(|(name, value)| (name.into(), value.into()))
        .collect();
    url.query_pairs_mut().clear().extend_pairs(others).append_pair(parameter, value);
}

fn failed(what: impl Into<String>) -> TaskError {
    TaskError::permanent(PAGINATION, what)
}

#[cfg(test)]
mod tests;
