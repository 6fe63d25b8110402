//! `redirects`: where a server may send a request that does nothing but read.

use reqwest::{Response, StatusCode, Url, header::LOCATION};
use schemars::JsonSchema;
use serde::Deserialize;

/// Which redirects are followed. Only requests with GET and HEAD are: no other may be made twice.
#[derive(Clone, Copy, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Redirects {
    /// How many in a row; 0 follows none.
    max: u32,
    /// Follows to other hosts too. There go neither `auth` nor `headers`, but for `accept` and `accept-language`, nor a
    /// payload.
    across_hosts: bool,
}

impl Default for Redirects {
    fn default() -> Self {
        Self { max: 10, across_hosts: false }
    }
}

impl Redirects {
    /// Returns where a response leads, if that is followed after so many redirects.
    pub(super) fn target(self, response: &Response, followed: u32) -> Option<Url> {
        if followed >= self.max || !is_redirect(response.status()) {
            return None;
        }
        let from = response.url();
        let location = response.headers().get(LOCATION)?.to_str().ok()?;
        let to = join(from, location)?;
        let keeps_encryption = from.scheme() != "https" || to.scheme() == "https";
        (is_within_host(from, &to) || (self.across_hosts && keeps_encryption)).then_some(to)
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Returns the URL that a server means, seen from that of its answer. What it names as a user is left out.
pub(super) fn join(from: &Url, reference: &str) -> Option<Url> {
    let mut to = from.join(reference).ok().filter(|url| matches!(url.scheme(), "http" | "https"))?;
    to.set_username("").ok()?;
    to.set_password(None).ok()?;
    Some(to)
}

/// Returns whether two URLs lead to the same server, or the second to its encrypted port.
pub(super) fn is_within_host(from: &Url, to: &Url) -> bool {
    let is_upgrade = from.scheme() == "http" && to.scheme() == "https" && from.port().is_none();
    from.host() == to.host()
        && ((from.scheme() == to.scheme() && from.port() == to.port()) || (is_upgrade && to.port().is_none()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_stays_within_the_host_and_never_loses_encryption() {
        let within = |from: &str, to: &str| is_within_host(&from.parse().unwrap(), &to.parse().unwrap());
        assert!(within("http://a/x", "http://a/y"));
        assert!(within("http://a/x", "https://a/x"));
        assert!(within("https://a:443/x", "https://a/y"));
        for (from, to) in [
            ("http://a/x", "http://b/x"),
            ("https://a/x", "http://a/x"),
            ("http://a:1/x", "http://a:2/x"),
            ("http://a:1/x", "https://a/x"),
            ("http://a/x", "https://a:1/x"),
        ] {
            assert!(!within(from, to), "{from} {to}");
        }
    }

    #[test]
    fn a_reference_is_seen_from_the_answer_and_names_no_user() {
        let from = "http://a/x/y?z=1".parse().unwrap();
        let joined = |reference| join(&from, reference).map(String::from);
        assert_eq!(joined("/b").as_deref(), Some("http://a/b"));
        assert_eq!(joined("c?d").as_deref(), Some("http://a/x/c?d"));
        assert_eq!(joined("//b/c").as_deref(), Some("http://b/c"));
        assert_eq!(joined("http://user:secret@a/b").as_deref(), Some("http://a/b"));
        for wrong in ["file:///etc/passwd", "gopher://a", "http://"] {
            assert_eq!(joined(wrong), None, "{wrong}");
        }
    }
}
