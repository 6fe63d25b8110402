//! The client: its connections, whom it trusts, and which redirects it follows.

use std::time::Duration;

use reqwest::{Client, Url, redirect, retry};

use crate::{task::BuildError, tls};

const USER_AGENT: &str = concat!("flowgen/", env!("CARGO_PKG_VERSION"));

const MAX_REDIRECTS: usize = 10;

/// Makes the client of a task, whose method `is_safe` to repeat elsewhere or not. The runtime retries, so the
/// client does not.
pub(super) fn build(
    is_safe: bool,
    timeout: Option<Duration>,
    connect_timeout: Duration,
) -> Result<Client, BuildError> {
    let failed = |error| BuildError::new("cannot set up the HTTP client").with_source(error);
    let builder = Client::builder()
        .tls_backend_preconfigured(tls::client().map_err(|error| failed(error.into()))?)
        .user_agent(USER_AGENT)
        .connect_timeout(connect_timeout)
        .redirect(redirects(is_safe))
        .referer(false)
        .retry(retry::never());
    let builder = match timeout {
        Some(timeout) => builder.timeout(timeout),
        None => builder,
    };
    builder.build().map_err(|error| failed(Box::<dyn std::error::Error + Send + Sync>::from(error)))
}

/// Follows what cannot do anything twice, and only to where the headers may be seen.
fn redirects(is_safe: bool) -> redirect::Policy {
    if !is_safe {
        return redirect::Policy::none();
    }
    redirect::Policy::custom(|attempt| match attempt.previous().last() {
        Some(last) if attempt.previous().len() <= MAX_REDIRECTS && is_within_host(last, attempt.url()) => {
            attempt.follow()
        }
        _ => attempt.stop(),
    })
}

/// Returns whether two URLs lead to the same server, or the second to its encrypted port.
fn is_within_host(from: &Url, to: &Url) -> bool {
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
}
