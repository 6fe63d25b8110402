//! The runbook: a section for each alert, which tells its thresholds as they are.

use std::collections::BTreeMap;

use super::{read, rules, text};

/// What `flowgen rules` makes of an example.
pub(super) const GENERATED: &str = "tests/rules/example.rules.yaml";

const PARTS: [&str; 4] = ["Means: ", "Look", "Threshold: ", "Lies: "];

/// Returns the sections of the runbook by their titles.
fn sections() -> BTreeMap<String, String> {
    let runbook = read("docs/runbook.md");
    let sections = runbook.split("\n## ").skip(1).map(|section| section.split_once('\n').unwrap());
    sections.map(|(title, body)| (title.to_owned(), body.to_owned())).collect()
}

/// Returns what stands between backticks in a paragraph.
fn code(paragraph: &str) -> impl Iterator<Item = &str> {
    paragraph.split('`').skip(1).step_by(2)
}

#[test]
fn every_alert_leads_to_a_section_that_tells_its_thresholds() {
    let mut sections = sections();
    for alert in rules::alerts() {
        let name = text(&alert, "alert");
        let (_, anchor) = text(&alert["annotations"], "runbook_url").split_once("/runbook.md#").unwrap();
        assert_eq!(anchor, name.to_lowercase(), "{name}");
        let section = sections.remove(name).unwrap_or_else(|| panic!("the runbook has no section `{name}`"));
        for part in PARTS {
            assert!(section.contains(&format!("\n{part}")), "`{name}` does not say `{part}`");
        }
        let threshold =
            section.split("\n\n").find(|one| one.trim_start().starts_with("Threshold: ")).unwrap();
        assert!(code(threshold).next().is_some(), "`{name}` tells no threshold");
        for told in code(threshold) {
            let is_so =
                text(&alert, "expr").contains(told) || told.trim_start_matches("for ") == text(&alert, "for");
            assert!(is_so, "`{name}` has no threshold `{told}`");
        }
    }
    sections.remove("Before anything else").unwrap();
    for alert in rules::of(GENERATED).iter().filter(|rule| rule.get("alert").is_some()) {
        // One name has two severities, each with its own thresholds.
        if let Some(section) = sections.remove(text(alert, "alert")) {
            assert!(PARTS.iter().all(|part| section.contains(&format!("\n{part}"))), "{section}");
        }
    }
    assert!(sections.is_empty(), "there are no such alerts: {:?}", sections.keys());
}

#[test]
fn links_lead_to_sections() {
    for path in ["runbook", "observability"] {
        let document = read(&format!("docs/{path}.md"));
        for link in document.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let Some((file, anchor)) = link.split_once('#') else { continue };
            let target = match file {
                "" => document.clone(),
                _ => read(&format!("docs/{file}")),
            };
            let headings = target.lines().filter(|line| line.starts_with('#'));
            let mut anchors = headings.map(|line| line.trim_start_matches(['#', ' ']).to_lowercase());
            let is_there = anchors.any(|heading| {
                let kept = heading.chars().filter(|char| char.is_alphanumeric() || " -_".contains(*char));
                kept.collect::<String>().replace(' ', "-") == anchor
            });
            assert!(is_there, "docs/{path}.md: {link} leads nowhere");
        }
    }
}
