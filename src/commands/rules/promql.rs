//! How things are written in PromQL, and in the YAML around it.

use std::fmt::Write as _;

/// Writes a text between double quotes. Both PromQL and YAML understand these escapes.
pub(super) fn quoted(text: &str) -> String {
    let mut quoted = String::from('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            ' '..='~' => quoted.push(c),
            c if c.is_alphanumeric() => quoted.push(c),
            // Writing to a string cannot fail.
            c if u32::from(c) > 0xFFFF => drop(write!(quoted, "\\U{:08x}", u32::from(c))),
            c => drop(write!(quoted, "\\u{:04x}", u32::from(c))),
        }
    }
    quoted.push('"');
    quoted
}

/// Writes a text so that it stands for itself where Prometheus expands templates.
pub(super) fn untemplated(text: &str) -> String {
    text.replace("{{", r#"{{"{{"}}"#)
}

/// Writes minutes as a duration: `1h24m`.
pub(super) fn duration(minutes: u64) -> String {
    let units = [(minutes / (24 * 60), 'd'), (minutes / 60 % 24, 'h'), (minutes % 60, 'm')];
    let told = units.iter().filter(|(count, _)| *count > 0);
    told.map(|(count, unit)| format!("{count}{unit}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_one_line_that_says_the_same() {
        assert_eq!(quoted(r#"a "b" \ größe"#), r#""a \"b\" \\ größe""#);
        assert_eq!(quoted("\n\u{85}\u{2028}\u{1f600}\u{7f}"), r#""\u000a\u0085\u2028\U0001f600\u007f""#);
        assert_eq!(untemplated("a{{{b}}"), r#"a{{"{{"}}{b}}"#);
    }

    #[test]
    fn durations_have_the_largest_units() {
        let written = [5, 60, 84, 1008, 1440, 4320, 12_960].map(duration);
        assert_eq!(written, ["5m", "1h", "1h24m", "16h48m", "1d", "3d", "9d"]);
    }
}
