//! The `Link` header (RFC 8288), as far as pages need it.

use reqwest::header::{HeaderMap, LINK};

/// Returns the target of the first link to the next page.
pub(super) fn next(headers: &HeaderMap) -> Option<&str> {
    headers.get_all(LINK).iter().filter_map(|value| value.to_str().ok()).find_map(|value| {
        let mut rest = value;
        std::iter::from_fn(|| {
            let link;
            (link, rest) = Link::read(rest)?;
            Some(link)
        })
        .find(|link| link.is_next)
        .map(|link| link.target)
    })
}

/// One link of a header.
struct Link<'a> {
    target: &'a str,
    is_next: bool,
}

impl<'a> Link<'a> {
    /// Reads the first link of a text, and returns what follows it; `None` if there is no further one.
    fn read(text: &'a str) -> Option<(Self, &'a str)> {
        let text = text.trim_start_matches([' ', '\t', ',']).strip_prefix('<')?;
        let (target, mut rest) = text.split_once('>')?;
        let (mut relation, mut is_about_another) = (None, false);
        while let Some(parameter) = rest.trim_start_matches([' ', '\t']).strip_prefix(';') {
            let end = parameter.find(['=', ';', ',']).unwrap_or(parameter.len());
            let (name, behind) = parameter.split_at(end);
            let value;
            (value, rest) = behind.strip_prefix('=').map_or((String::new(), behind), value_of);
            match name.trim().to_ascii_lowercase().as_str() {
                // Only the first one counts.
                "rel" => relation = relation.or(Some(value)),
                "anchor" => is_about_another = true,
                _ => {}
            }
        }
        let relation = relation.unwrap_or_default();
        let is_next = relation.split_ascii_whitespace().any(|one| one.eq_ignore_ascii_case("next"));
        Some((Self { target, is_next: is_next && !is_about_another }, rest))
    }
}

/// Reads a value, quoted or not, and returns what follows it.
fn value_of(text: &str) -> (String, &str) {
    let text = text.trim_start_matches([' ', '\t']);
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, rest) = text.split_at(text.find([';', ',']).unwrap_or(text.len()));
        return (value.trim().to_owned(), rest);
    };
    let (mut value, mut is_escaped) = (String::new(), false);
    for (at, next) in quoted.char_indices() {
        match next {
            '\\' if !is_escaped => is_escaped = true,
            '"' if !is_escaped => return (value, &quoted[at + 1..]),
            next => {
                value.push(next);
                is_escaped = false;
            }
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(values: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(LINK, value.parse().unwrap());
        }
        next(&headers).map(str::to_owned)
    }

    #[test]
    fn the_next_page_is_found_however_it_is_written() {
        let github = r#"<https://a/x?page=1>; rel="prev", <https://a/x?page=3>; rel="next", <https://a/x?page=9>; rel="last""#;
        assert_eq!(found(&[github]).unwrap(), "https://a/x?page=3");
        for (header, target) in [
            ("</2>;rel=next", "/2"),
            ("<2> ; title=\"a, <b>; rel=\\\"x\\\"\" ; REL = \"Last NEXT\"", "2"),
            ("<a>; rel=prev,<b,c;d>; rel=next", "b,c;d"),
            ("<a>;crossorigin;rel=\"next\"", "a"),
            (", , <a>; rel=next", "a"),
        ] {
            assert_eq!(found(&[header]).as_deref(), Some(target), "{header}");
        }
        assert_eq!(found(&["<a>; rel=last", "<b>; rel=next"]).as_deref(), Some("b"));
    }

    #[test]
    fn what_is_no_link_to_the_next_page_is_none() {
        for header in [
            "",
            "next",
            "<a>",
            "<a>; rel=nextish",
            "<a>; rel=prev; rel=next",
            "<a>; anchor=\"#x\"; rel=next",
            "<a; rel=next",
            "<a>; title=\"rel=next",
        ] {
            assert_eq!(found(&[header]), None, "{header}");
        }
    }

    proptest! {
        #[test]
        fn no_header_makes_it_hang_or_panic(text in "[<>;,=\"\\\\ a-e:/]{0,60}|[ -~]{0,60}") {
            let _ = found(&[&text]);
        }

        #[test]
        fn a_link_is_found_behind_any_other(target in "[a-z/?=&;,]{1,20}", title in "[ -~&&[^\"\\\\]]{0,20}") {
            let header = format!("<first>; title=\"{title}\"; rel=prev, <{target}>; title=\"{title}\"; rel=next");
            prop_assert_eq!(found(&[&header]), Some(target));
        }
    }
}
