//! The layers: a module of the library imports from lower layers only.
//!
//! Reads the paths that the sources name (`use crate::…` with nested groups, paths inside expressions,
//! `super::…` chains) and compares them with the table below. Test modules are held to it as well,
//! because a test that needs a higher layer stands in the wrong place: it belongs below `tests/`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// Whether the modules of one layer may import one another.
#[derive(Clone, Copy, PartialEq)]
enum Inside {
    /// They may, as long as no circle comes of it.
    Acyclic,
    /// They may not.
    Apart,
}

/// The layers from the bottom up. `docs/architecture.md` says what each is for.
const LAYERS: [(&[&str], Inside); 6] = [
    (
        &["trace", "event", "ack", "retry", "shutdown", "problem", "report", "telemetry", "tls"],
        Inside::Acyclic,
    ),
    (&["task", "script", "template", "format"], Inside::Acyclic),
    (&["plan", "registry", "services", "state"], Inside::Acyclic),
    (&["config", "runtime", "tasks"], Inside::Apart),
    (&["commands"], Inside::Apart),
    (&["cli"], Inside::Apart),
];

/// A source file: the module it is, and its text.
struct Source {
    module: Vec<String>,
    text: String,
}

impl Source {
    fn new(module: &str, text: &str) -> Self {
        Self { module: module.split("::").map(str::to_owned).collect(), text: text.to_owned() }
    }

    fn name(&self) -> String {
        self.module.join("::")
    }

    fn is_kind(&self) -> bool {
        self.module.len() == 2 && self.module[0] == "tasks" && self.text.contains("impl Kind for")
    }
}

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|(modules, _)| modules.contains(&module))
}

/// Returns every breach of the layers, one line each.
fn violations(sources: &[Source]) -> Vec<String> {
    let kinds: BTreeSet<_> = sources.iter().filter(|source| source.is_kind()).map(Source::name).collect();
    let mut found = BTreeSet::new();
    let mut level: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources {
        let from = &source.module[0];
        let Some(from_layer) = layer(from) else {
            found.insert(format!("`{from}` stands in no layer"));
            continue;
        };
        for path in paths(source) {
            let (name, shown) = (source.name(), path.join("::"));
            let to = &path[0];
            if to == from {
                let kind_of =
                    |path: &[String]| path.get(..2).map(|path| path.join("::")).filter(|k| kinds.contains(k));
                if let (Some(own), Some(other)) = (kind_of(&source.module), kind_of(&path))
                    && own != other
                {
                    found.insert(format!("`{name}` imports `{shown}`: one kind imports another"));
                }
                continue;
            }
            match layer(to) {
                None => {
                    found.insert(format!("`{name}` imports `{shown}`, which stands in no layer"));
                }
                Some(to_layer) if to_layer > from_layer => {
                    found.insert(format!(
                        "`{name}` (layer {from_layer}) imports `{shown}` from layer {to_layer} above it"
                    ));
                }
                Some(to_layer) if to_layer == from_layer => match LAYERS[to_layer].1 {
                    Inside::Apart => {
                        found.insert(format!("`{name}` imports `{shown}` from a wing of its own layer"));
                    }
                    Inside::Acyclic => {
                        level.entry(from.clone()).or_default().insert(to.clone());
                    }
                },
                Some(_) => {}
            }
        }
    }
    found.extend(circles(&level));
    found.into_iter().collect()
}

/// Returns every module that imports itself by way of its neighbours, with one such way.
fn circles(imports: &BTreeMap<String, BTreeSet<String>>) -> Vec<String> {
    fn way<'a>(
        imports: &'a BTreeMap<String, BTreeSet<String>>,
        at: &'a str,
        goal: &str,
        seen: &mut Vec<&'a str>,
    ) -> Option<String> {
        seen.push(at);
        imports.get(at)?.iter().find_map(|next| {
            if next == goal {
                return Some(format!("`{at}` → `{goal}`"));
            }
            if seen.contains(&next.as_str()) {
                return None;
            }
            way(imports, next, goal, seen).map(|rest| format!("`{at}` → {rest}"))
        })
    }
    imports
        .keys()
        .filter_map(|module| way(imports, module, module, &mut Vec::new()))
        .map(|way| format!("a circle inside a layer: {way}"))
        .collect()
}

/// Returns the absolute paths (without `crate`) of everything that a source names inside the crate.
fn paths(source: &Source) -> Vec<Vec<String>> {
    let tokens = tokens(&source.text);
    let (mut found, mut inner, mut depth) = (Vec::new(), Vec::new(), 0_usize);
    for at in 0..tokens.len() {
        match tokens[at].as_str() {
            "{" => depth += 1,
            "}" => {
                inner.retain(|(_, opened)| *opened != depth);
                depth -= 1;
            }
            "mod" if tokens.get(at + 2).is_some_and(|token| token == "{") => {
                inner.push((tokens[at + 1].clone(), depth + 1));
            }
            "crate" | "super" | "self" if at == 0 || tokens[at - 1] != "::" => {
                let here: Vec<String> =
                    source.module.iter().cloned().chain(inner.iter().map(|(name, _)| name.clone())).collect();
                let mut written = Vec::new();
                read_path(&tokens, at, &[], &mut written);
                found.extend(written.iter().filter_map(|path| resolve(&here, path)));
            }
            _ => {}
        }
    }
    found
}

/// Makes a written path absolute; `None` is the crate itself or something of the module itself.
fn resolve(here: &[String], written: &[String]) -> Option<Vec<String>> {
    if written.len() < 2 {
        return None;
    }
    let mut base = here.to_vec();
    let mut rest = written.iter().peekable();
    while let Some(step) = rest.next_if(|step| matches!(step.as_str(), "crate" | "super" | "self")) {
        match step.as_str() {
            "crate" => base.clear(),
            "super" => drop(base.pop()),
            _ => {}
        }
    }
    base.extend(rest.cloned());
    (!base.is_empty()).then_some(base)
}

/// Reads one path, with its groups, that begins at `at`; returns where it ends.
fn read_path(tokens: &[String], mut at: usize, prefix: &[String], found: &mut Vec<Vec<String>>) -> usize {
    let mut path = prefix.to_vec();
    loop {
        match tokens.get(at).map(String::as_str) {
            Some("{") => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token != "}") {
                    at = if tokens[at] == "," { at + 1 } else { read_path(tokens, at, &path, found) };
                }
                return at + 1;
            }
            Some(name) if is_name(name) => path.push(name.to_owned()),
            _ => {}
        }
        at += 1;
        if tokens.get(at).is_none_or(|token| token != "::") {
            found.push(path);
            // What follows a group's member up to its comma is `as name`.
            while !prefix.is_empty() && tokens.get(at).is_some_and(|token| token != "," && token != "}") {
                at += 1;
            }
            return at;
        }
        at += 1;
    }
}

fn is_name(token: &str) -> bool {
    token.starts_with(|first: char| first.is_alphabetic() || first == '_')
}

/// Splits Rust source into names and punctuation, without comments and literals.
fn tokens(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let (mut found, mut at) = (Vec::new(), 0);
    let ahead = |at: usize| chars.get(at).copied().unwrap_or('\0');
    while at < chars.len() {
        match chars[at] {
            '/' if ahead(at + 1) == '/' => {
                while at < chars.len() && chars[at] != '\n' {
                    at += 1;
                }
            }
            '/' if ahead(at + 1) == '*' => at = end_of_comment(&chars, at),
            '"' => at = end_of_text(&chars, at),
            'r' | 'b' | 'c' if end_of_raw(&chars, at).is_some() => {
                at = end_of_raw(&chars, at).unwrap_or(at + 1);
            }
            '\'' if ahead(at + 1) == '\\' => {
                at += 3;
                while at < chars.len() && chars[at] != '\'' {
                    at += 1;
                }
                at += 1;
            }
            '\'' if ahead(at + 2) == '\'' => at += 3,
            ':' if ahead(at + 1) == ':' => {
                found.push("::".to_owned());
                at += 2;
            }
            first if first.is_alphanumeric() || first == '_' => {
                let start = at;
                while ahead(at).is_alphanumeric() || ahead(at) == '_' {
                    at += 1;
                }
                found.push(chars[start..at].iter().collect());
            }
            other => {
                if !other.is_whitespace() {
                    found.push(other.to_string());
                }
                at += 1;
            }
        }
    }
    found
}

fn end_of_comment(chars: &[char], mut at: usize) -> usize {
    let mut depth = 0;
    while at < chars.len() {
        match (chars[at], chars.get(at + 1)) {
            ('/', Some('*')) => (depth, at) = (depth + 1, at + 2),
            ('*', Some('/')) => (depth, at) = (depth - 1, at + 2),
            _ => at += 1,
        }
        if depth == 0 {
            break;
        }
    }
    at
}

fn end_of_text(chars: &[char], mut at: usize) -> usize {
    at += 1;
    while at < chars.len() && chars[at] != '"' {
        at += if chars[at] == '\\' { 2 } else { 1 };
    }
    at + 1
}

/// Returns the end of a raw text (`r"…"`, `br#"…"#`) that begins at `at`, if one does.
fn end_of_raw(chars: &[char], at: usize) -> Option<usize> {
    if at > 0 && (chars[at - 1].is_alphanumeric() || chars[at - 1] == '_') {
        return None;
    }
    let after_prefix = at + usize::from(chars[at] != 'r');
    if chars.get(after_prefix) != Some(&'r') {
        return None;
    }
    let hashes = chars[after_prefix + 1..].iter().take_while(|c| **c == '#').count();
    let open = after_prefix + 1 + hashes;
    if chars.get(open) != Some(&'"') {
        return None;
    }
    let is_end = |at: usize| {
        chars[at] == '"' && chars[at + 1..].iter().take_while(|c| **c == '#').take(hashes).count() == hashes
    };
    Some((open + 1..chars.len()).find(|at| is_end(*at)).map_or(chars.len(), |at| at + 1 + hashes))
}

/// Reads all modules below `folder`. `main.rs` and `lib.rs` stand above the layers.
fn read_sources(folder: &Path, module: &[String], sources: &mut Vec<Source>) {
    let mut entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    for path in entries {
        let stem = path.file_stem().unwrap().to_str().unwrap().to_owned();
        if module.is_empty() && matches!(stem.as_str(), "main" | "lib") {
            continue;
        }
        let mut own = module.to_vec();
        if stem != "mod" {
            own.push(stem);
        }
        if path.is_dir() {
            read_sources(&path, &own, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            sources.push(Source { module: own, text: fs::read_to_string(&path).unwrap() });
        }
    }
}

#[test]
fn modules_import_from_lower_layers_only() {
    let mut sources = Vec::new();
    read_sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &[], &mut sources);
    assert!(sources.len() > 20, "the sources were not found");
    let found = violations(&sources);
    assert!(found.is_empty(), "{} breaches of the layers:\n{}", found.len(), found.join("\n"));
}

#[test]
fn an_import_from_above_is_a_breach_however_it_is_written() {
    for text in [
        "use crate::runtime;",
        "use crate::{ack::{self, Ack}, runtime::Supervisor as S};",
        "fn f() { let x = crate::runtime::Supervisor::new(); }",
        "use super::runtime::wire;",
        "mod tests { use super::super::runtime::wire; }",
        "pub use crate::runtime::{wire::Wire, drain};",
        "fn f<'a>(x: &'a crate::runtime::Wire) -> char { 'x' }",
    ] {
        let found = violations(&[Source::new("event", text)]);
        assert_eq!(found.len(), found.iter().filter(|line| line.contains("above it")).count(), "{found:?}");
        assert!(!found.is_empty(), "`{text}` passed");
    }
}

#[test]
fn what_only_looks_like_an_import_is_none() {
    let text = r##"
        //! crate::runtime
        /* use crate::runtime; /* nested */ crate::runtime::x */
        pub(crate) const A: &str = "crate::runtime::x \" crate::runtime";
        const B: &str = r#"use crate::runtime; ""#;
        const C: char = '"';
        use crate::ack::Ack;
        mod tests { use super::*; use super::A; }
    "##;
    assert_eq!(violations(&[Source::new("event", text)]), Vec::<String>::new());
}

#[test]
fn the_wings_and_the_kinds_never_import_one_another() {
    let found = violations(&[
        Source::new("config::check", "use crate::{plan::Plan, tasks::registry};"),
        Source::new("tasks::script", "impl Kind for Script {} use super::filter::Filter;"),
        Source::new("tasks::filter", "impl Kind for Filter {} use crate::tasks::filter::Config;"),
        Source::new("runtime::wire", "use super::super::config::load;"),
    ]);
    assert_eq!(
        found,
        [
            "`config::check` imports `tasks::registry` from a wing of its own layer",
            "`runtime::wire` imports `config::load` from a wing of its own layer",
            "`tasks::script` imports `tasks::filter::Filter`: one kind imports another",
        ]
    );
}

#[test]
fn a_circle_inside_a_layer_is_a_breach_and_a_line_is_none() {
    let line =
        [Source::new("event", "use crate::ack::Ack;"), Source::new("ack::ledger", "use crate::retry::X;")];
    assert_eq!(violations(&line), Vec::<String>::new());
    let circle = [
        Source::new("event", "use crate::ack::Ack;"),
        Source::new("ack::ledger", "use crate::retry::X;"),
        Source::new("retry", "use crate::event::Event;"),
    ];
    let found = violations(&circle);
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found[0], "a circle inside a layer: `ack` → `retry` → `event` → `ack`");
}

#[test]
fn a_module_without_a_layer_is_a_breach() {
    let found = violations(&[Source::new("util", ""), Source::new("event", "use crate::misc::X;")]);
    assert_eq!(found, ["`event` imports `misc::X`, which stands in no layer", "`util` stands in no layer"]);
}
