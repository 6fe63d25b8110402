//! What references become, and that what they bring in is never shown.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::config::environment::fixed::Fixed;

fn run(tree: Value) -> (Value, Vec<Problem>) {
    let environment = Fixed::of(&[("A", "alpha"), ("EMPTY", ""), ("EVIL", "{{ 7 }} \"q\"")]);
    let mut tree = tree;
    let mut problems = Vec::new();
    resolve(&mut tree, Path::new("."), &environment, &mut problems);
    (tree, problems)
}

fn one(text: &str) -> String {
    let (tree, problems) = run(json!({"key": text}));
    assert_eq!(problems, [], "{text}");
    tree["key"].as_str().unwrap().to_owned()
}

#[test]
fn resolves_variables_defaults_and_literals() {
    assert_eq!(one("x ${A} y ${A}"), "x alpha y alpha");
    assert_eq!(one("${NONE:-d} ${EMPTY:-e} ${A:-f} [${NONE:-}]"), "d e alpha []");
    assert_eq!(one("$${A} $A $ $$"), "${A} $A $ $$");
}

#[test]
fn resolves_files_without_their_last_newline() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "secret\n").unwrap();
    assert_eq!(one(&format!("${{file:{}}}", file.path().display())), "secret");
}

#[test]
fn template_variables_become_literals_that_hold_no_template() {
    assert_eq!(
        one("{{ env.A }}-{{env['A'] ~ event.env.A ~ \"env.A\"}}"),
        "{{ \"alpha\" }}-{{\"alpha\" ~ event.env.A ~ \"env.A\"}}"
    );
    assert_eq!(one("{{ env.EVIL }}"), "{{ \"\\u007b\\u007b 7 \\u007d\\u007d \\\"q\\\"\" }}");
    assert_eq!(one("env.A outside"), "env.A outside");
}

#[test]
fn reports_all_mistakes_with_their_place_in_the_text() {
    let (_, problems) = run(json!({"key": "${NONE}\n${1x} ${A", "list": ["{{ env.NONE }}", "${A:-${A}}"]}));
    let told: Vec<_> = problems.iter().map(|p| (p.path.to_string(), p.focus, p.message.as_str())).collect();
    let inside = |line, column| Focus::Inside { line, column };
    assert_eq!(
        told,
        [
            ("key".into(), inside(1, 1), "the environment has no variable `NONE`"),
            ("key".into(), inside(2, 1), "`${1x}` is no reference"),
            ("key".into(), inside(2, 7), "`${` is never closed"),
            ("list[0]".into(), inside(1, 4), "the environment has no variable `NONE`"),
            ("list[1]".into(), inside(1, 1), "`${A:-${A` is nested"),
        ]
    );
}

#[test]
fn leaves_code_alone_but_not_data_of_that_name() {
    let task = |kind: Value| json!({"flow": {"tasks": [kind]}});
    for code in [
        task(json!({"script": {"code": "`${A}` + ${NONE}"}})),
        task(json!({"switch": {"cases": [{"when": "`${NONE}`"}]}})),
        task(json!({"drop": {"when": "`${NONE}`"}})),
    ] {
        assert_eq!(run(code.clone()), (code, vec![]));
    }
    let (tree, _) = run(task(json!({"generate": {"payload": {"code": "${A}"}}})));
    assert_eq!(tree["flow"]["tasks"][0]["generate"]["payload"]["code"], "alpha");
}

proptest! {
    #[test]
    fn never_panics_and_reports_or_resolves(text in "(\\$|\\{|\\}|%|:|-|A|env|\\.|\"|'|\\[|\\]|\\\\|é| |\n){0,24}") {
        let _ = run(json!({"key": text}));
    }

    #[test]
    fn an_escaped_text_comes_back_as_it_was(text in "([a-z$ ]|\\$\\{|\\}){0,24}") {
        prop_assert_eq!(one(&text.replace("${", "$${")), text);
    }

    #[test]
    fn a_template_variable_is_always_one_literal(value in "\\PC{0,24}") {
        let environment = Fixed::of(&[("V", &value)]);
        let mut tree = json!({"key": "{{ env.V }}"});
        resolve(&mut tree, Path::new("."), &environment, &mut Vec::new());
        let inner = tree["key"].as_str().unwrap().strip_prefix("{{ ").unwrap().strip_suffix(" }}").unwrap();
        prop_assert_eq!(serde_json::from_str::<String>(inner).unwrap(), value);
        let has_braces = inner.contains(['{', '}']);
        prop_assert!(!has_braces);
    }
}
