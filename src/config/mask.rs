//! Keeps what came from outside out of messages that were made without knowing where a value came from.

use super::interpolate::Substitution;
use crate::problem::KeyPath;

/// Replaces what came from outside by the form that brought it in, in a text about `path`.
///
/// A net for messages that were made without knowing where a value came from; [`written`](super::interpolate::written) is the rule.
/// Texts that are shorter than six bytes would blank out words that only look like them: they are
/// replaced between backticks only, and only if they belong to `path`.
pub(super) fn mask(text: &str, path: &KeyPath, substitutions: &[Substitution]) -> String {
    let mut needles = Vec::new();
    for substitution in substitutions.iter().filter(|one| !one.secrets.is_empty()) {
        let is_near = is_prefix(&substitution.path, path) || is_prefix(path, &substitution.path);
        let whole = std::iter::once((&substitution.text, &substitution.written));
        let parts = substitution.secrets.iter().map(|secret| (&secret.text, &secret.form));
        for (secret, form) in whole.chain(parts) {
            for shown in appearances(secret) {
                let is_short = shown.len() < 6;
                if !shown.is_empty() && (is_near || !is_short) {
                    needles.push(Needle { shown, form, is_short, is_near });
                }
            }
        }
    }
    // The longest first: one may hold another. What overlaps is replaced as one, so that nothing is left.
    needles.sort_by_key(|needle| (needle.is_short, std::cmp::Reverse(needle.shown.len()), !needle.is_near));
    let mut covers = Covers { text, forms: vec![None; text.len()] };
    for Needle { shown, form, is_short, .. } in needles {
        covers.cover(&shown, form, is_short);
    }
    covers.replaced()
}

/// The bytes of a text that are to be replaced, each with what replaces it.
struct Covers<'a> {
    text: &'a str,
    /// For each byte the form, and where what it stands for begins.
    forms: Vec<Option<(&'a str, usize)>>,
}

impl<'a> Covers<'a> {
    fn cover(&mut self, shown: &str, form: &'a str, only_quoted: bool) {
        let mut is_quoted = false;
        for (n, next) in self.text.char_indices() {
            is_quoted ^= next == '`' && self.forms[n].is_none();
            if !self.text[n..].starts_with(shown) || (only_quoted && !is_quoted) {
                continue;
            }
            let range = n..n + shown.len();
            let before = self.forms[range.clone()].iter().flatten().next().copied();
            for byte in &mut self.forms[range] {
                *byte = byte.or(before).or(Some((form, n)));
            }
        }
    }

    fn replaced(&self) -> String {
        let mut replaced = String::new();
        let mut last = None;
        for (n, next) in self.text.char_indices() {
            match self.forms[n] {
                None => replaced.push(next),
                cover if cover == last => {}
                Some((form, _)) => replaced.push_str(form),
            }
            last = self.forms[n];
        }
        replaced
    }
}

/// A text that must not be shown, and what stands for it.
struct Needle<'a> {
    shown: String,
    form: &'a str,
    is_short: bool,
    is_near: bool,
}

/// Returns what messages make of a text: trimmed, escaped in one way or another, or one line of it.
fn appearances(text: &str) -> Vec<String> {
    let debug = format!("{text:?}");
    let lines = text.lines().map(str::trim).filter(|line| line.len() >= 6);
    let mut found: Vec<String> = lines.map(str::to_owned).collect();
    found.extend([
        text.to_owned(),
        text.trim().to_owned(),
        text.replace('\n', "\\n"),
        text.escape_debug().to_string(),
        debug[1..debug.len() - 1].to_owned(),
    ]);
    found
}

fn is_prefix(short: &KeyPath, long: &KeyPath) -> bool {
    long.0.starts_with(&short.0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::{environment::fixed::Fixed, interpolate::resolve};

    fn resolved(tree: serde_json::Value, variables: &[(&str, &str)]) -> Vec<Substitution> {
        let mut tree = tree;
        resolve(&mut tree, std::path::Path::new("."), &Fixed::of(variables), &mut Vec::new())
    }

    #[test]
    fn a_value_from_outside_is_masked_in_messages() {
        let done = resolved(json!({"a": "x${PORT}", "b": "${N}"}), &[("PORT", "hunter2"), ("N", "7")]);
        let a = KeyPath::default().key("a");
        assert_eq!(mask("found `xhunter2`, hunter2", &a, &done), "found `x${PORT}`, ${PORT}");
        assert_eq!(
            mask("found `7`, at least 7", &KeyPath::default().key("b"), &done),
            "found `${N}`, at least 7"
        );
        assert_eq!(mask("7 keys", &a, &done), "7 keys");
    }

    #[test]
    fn of_secrets_that_hold_one_another_or_overlap_nothing_is_left() {
        let done = resolved(
            json!({"a": "${SHORT}", "b": "${LONG}", "c": "${NEXT}"}),
            &[("SHORT", "hunter2"), ("LONG", "hunter2-and-more"), ("NEXT", "more-and-more")],
        );
        let at = KeyPath::default().key("a");
        assert_eq!(mask("`hunter2-and-more` hunter2", &at, &done), "`${LONG}` ${SHORT}");
        assert_eq!(mask("hunter2-and-more-and-more.", &at, &done), "${LONG}.");
    }

    #[test]
    fn a_value_is_masked_however_a_message_writes_it() {
        let done = resolved(json!({"a": "${S}"}), &[("S", " hun'ter2\nsecond \"line\"\n")]);
        let at = KeyPath::default().key("a");
        for shown in
            ["hun'ter2", "second \"line\"", " hun'ter2\\nsecond \\\"line\\\"\\n", "hun'ter2\nsecond \"line\""]
        {
            assert_eq!(mask(&format!("found {shown}."), &at, &done), "found ${S}.", "{shown}");
        }
    }
}
