//! The endpoint of a collector: what can be one, and how it is shown.

use std::net::IpAddr;

use url::{Host, Url};

use super::refuse::Fault;

/// The port of OTLP/HTTP, which is not spoken.
const HTTP_PORT: u16 = 4318;

/// Returns the endpoint as a URL with a scheme, or what is wrong with it.
///
/// `is_insecure` says whether one without a scheme is plain text; if nothing does, it is where that is the
/// obvious choice, and refused elsewhere.
pub(super) fn parse(text: &str, is_insecure: Option<bool>) -> Result<String, Fault> {
    let text = text.trim();
    if text.is_empty() {
        return Err(Fault::new("the endpoint is empty").hint("such as `http://localhost:4317`"));
    }
    let shown = without_userinfo(text);
    let has_scheme = text.contains("://");
    let scheme = if is_insecure == Some(false) { "https" } else { "http" };
    let full = if has_scheme { text.to_owned() } else { format!("{scheme}://{text}") };
    let url = Url::parse(&full).map_err(|error| Fault::new(format!("`{shown}` is no endpoint: {error}")))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(Fault::new(format!("`{shown}` has a scheme that is none of OTLP/gRPC"))
            .hint("use `http://` or `https://`"));
    }
    if url.port() == Some(HTTP_PORT) {
        return Err(Fault::new("port 4318 is OTLP/HTTP, which flowgen does not speak")
            .hint("use OTLP/gRPC, port 4317"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(Fault::new("an endpoint with a path is OTLP/HTTP, which flowgen does not speak")
            .hint("use OTLP/gRPC: such an endpoint ends with its port, mostly 4317"));
    }
    let is_obvious = is_insecure.is_some() || url.host().is_some_and(|host| is_private(&host));
    if !has_scheme && !is_obvious {
        return Err(Fault::new(format!("`{shown}` has no scheme"))
            .hint(format!("write `https://{shown}`, or `http://{shown}` for plain text")));
    }
    Ok(full)
}

/// Returns an endpoint as people may see it: without the name and the password before its host.
pub(super) fn without_userinfo(text: &str) -> String {
    let Some((before, host)) = text.rsplit_once('@') else { return text.to_owned() };
    match before.split_once("://") {
        Some((scheme, _)) if scheme.bytes().all(|b| b.is_ascii_alphanumeric()) => {
            format!("{scheme}://{host}")
        }
        _ => host.to_owned(),
    }
}

/// Returns whether plain text is the obvious choice for a host: this machine or a private address.
fn is_private(host: &Host<&str>) -> bool {
    let is_private_ip = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => ip.is_loopback() || ip.is_private() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    };
    match host {
        Host::Domain(name) => *name == "localhost" || name.ends_with(".localhost"),
        Host::Ipv4(ip) => is_private_ip((*ip).into()),
        Host::Ipv6(ip) => is_private_ip((*ip).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_gets_its_scheme_where_that_is_obvious() {
        for (given, full) in [
            ("localhost:4317", "http://localhost:4317"),
            ("127.0.0.1:4317", "http://127.0.0.1:4317"),
            ("10.0.0.7:4317", "http://10.0.0.7:4317"),
            ("[::1]:4317", "http://[::1]:4317"),
            ("https://collector.example:443", "https://collector.example:443"),
            (" http://collector:4317/ ", "http://collector:4317/"),
        ] {
            assert_eq!(parse(given, None).unwrap(), full);
        }
        for wrong in [
            "",
            " ",
            "http://",
            "ftp://x:4317",
            "collector.example:4317",
            "8.8.8.8:4317",
            "http://x:4318",
            "localhost:4318",
            "http://x:99999",
        ] {
            assert!(parse(wrong, None).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_endpoint_without_a_scheme_is_what_somebody_says_it_is() {
        assert_eq!(parse("collector:4317", Some(true)).unwrap(), "http://collector:4317");
        assert_eq!(parse("localhost:4317", Some(false)).unwrap(), "https://localhost:4317");
        assert_eq!(parse("https://collector:4317", Some(true)).unwrap(), "https://collector:4317");
    }

    #[test]
    fn an_endpoint_of_otlp_http_is_none() {
        for wrong in [
            "http://x:4317/v1/traces",
            "https://x/otlp",
            "localhost:4317/v1/metrics",
            "http://x:4317?key=hunter2",
        ] {
            let fault = parse(wrong, Some(true)).unwrap_err();
            assert!(fault.message.contains("OTLP/HTTP") && !fault.message.contains("hunter2"), "{fault:?}");
        }
    }

    #[test]
    fn no_message_shows_the_password_of_an_endpoint() {
        for wrong in [
            "http://user:topsecret@host:4318",
            "ftp://user:topsecret@host",
            "http://user:topsecret@host:99999",
            "user:topsecret@collector.example:4317",
            "http://user:topsecret/@x@[host",
            "user:topsecret://x@host:1",
        ] {
            let fault = parse(wrong, None).unwrap_err();
            assert!(!format!("{fault:?}").contains("secret"), "{fault:?}");
        }
        assert_eq!(without_userinfo("https://a:b@c@host:1/x"), "https://host:1/x");
    }
}
