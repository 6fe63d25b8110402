//! What a query in PromQL asks for: names of metrics, labels, and values. It does not check whether the query is valid; promtool
//! does.

use std::{iter::Peekable, str::Chars};

/// What labels are listed after.
const GROUPINGS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// Words that stand alone and are no metrics.
const KEYWORDS: [&str; 7] = ["and", "or", "unless", "offset", "bool", "inf", "nan"];

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Query {
    pub(super) selectors: Vec<Selector>,
    /// The labels that it groups or matches by.
    pub(super) labels: Vec<String>,
}

#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Selector {
    pub(super) metric: String,
    /// Labels and what they are compared with.
    pub(super) matchers: Vec<(String, String)>,
}

#[derive(Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    Sign(char),
}

impl Token {
    fn is(&self, sign: char) -> bool {
        *self == Self::Sign(sign)
    }
}

impl Query {
    pub(super) fn parse(text: &str) -> Self {
        let tokens = tokens(text);
        let mut query = Self::default();
        let mut rest = tokens.as_slice();
        while let [token, after @ ..] = rest {
            rest = after;
            let Token::Word(word) = token else { continue };
            if GROUPINGS.contains(&word.as_str()) {
                let end = after.iter().position(|token| token.is(')')).unwrap_or(after.len());
                query.labels.extend(after[..end].iter().filter_map(|token| match token {
                    Token::Word(label) => Some(label.clone()),
                    _ => None,
                }));
                rest = &after[end..];
            } else if !KEYWORDS.contains(&word.as_str()) && !is_called(after) {
                let matchers = matchers(&mut rest);
                query.selectors.push(Selector { metric: word.clone(), matchers });
            }
        }
        query
    }
}

/// Returns whether a word before these tokens is a function, or an aggregation with its labels first.
fn is_called(after: &[Token]) -> bool {
    match after.first() {
        Some(Token::Sign('(')) => true,
        Some(Token::Word(word)) => word == "by" || word == "without",
        _ => false,
    }
}

fn matchers(rest: &mut &[Token]) -> Vec<(String, String)> {
    if !rest.first().is_some_and(|token| token.is('{')) {
        return Vec::new();
    }
    let end = rest.iter().position(|token| token.is('}')).unwrap_or(rest.len());
    let (inside, after) = rest.split_at(end);
    *rest = after;
    let named = inside.split(|token| token.is(','));
    named
        .filter_map(|matcher| match (matcher.iter().find(|token| !token.is('{')), matcher.last()) {
            (Some(Token::Word(label)), Some(Token::Text(value))) => Some((label.clone(), value.clone())),
            _ => None,
        })
        .collect()
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut chars = text.chars().peekable();
    while let Some(&next) = chars.peek() {
        match next {
            '"' | '\'' => tokens.push(Token::Text(quoted(&mut chars))),
            '#' => drop(take(&mut chars, |char| char != '\n')),
            // A variable of a dashboard stands for a number or a time here.
            '$' => drop(take(&mut chars, |char| char == '$' || is_of_word(char))),
            '[' => drop(take(&mut chars, |char| char != ']')),
            _ if next.is_ascii_digit() => {
                drop(take(&mut chars, |char| char.is_ascii_alphanumeric() || char == '.'));
            }
            _ if is_of_word(next) => tokens.push(Token::Word(take(&mut chars, is_of_word))),
            _ => {
                chars.next();
                tokens.extend((!next.is_whitespace()).then_some(Token::Sign(next)));
            }
        }
    }
    tokens
}

fn is_of_word(char: char) -> bool {
    char.is_ascii_alphanumeric() || char == '_' || char == ':'
}

fn take(chars: &mut Peekable<Chars<'_>>, belongs: impl Fn(char) -> bool) -> String {
    let mut taken = String::new();
    while let Some(char) = chars.next_if(|char| belongs(*char)) {
        taken.push(char);
    }
    taken
}

fn quoted(chars: &mut Peekable<Chars<'_>>) -> String {
    let quote = chars.next();
    let mut text = String::new();
    while let Some(char) = chars.next() {
        match char {
            '\\' => text.extend(chars.next()),
            _ if Some(char) == quote => break,
            _ => text.push(char),
        }
    }
    text
}

#[test]
fn metrics_labels_and_values_are_found() {
    let query = Query::parse(
        r#"
        # errors{of="nobody"}
        sum by (job, flow) (rate(a_total{outcome=~"failed|expired", flow!="x,y"}[10m:1m] offset 1w)) / 0.5e3
          > bool on (job) group_left (team) max without (le) (b:c) or topk($top, time() - 30 * $__range * {d="e"})
        "#,
    );
    let selectors: Vec<_> =
        query.selectors.iter().map(|one| (one.metric.as_str(), one.matchers.as_slice())).collect();
    let matchers = [("outcome", "failed|expired"), ("flow", "x,y")];
    let matchers = matchers.map(|(label, value)| (label.to_owned(), value.to_owned()));
    assert_eq!(selectors, [("a_total", matchers.as_slice()), ("b:c", &[]), ("d", &[])]);
    assert_eq!(query.labels, ["job", "flow", "job", "team", "le"]);
}
