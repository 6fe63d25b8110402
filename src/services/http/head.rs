//! The head of a request, as far as the parser lets through what is none, or what another server on the way may have
//! understood in another way: RFC 9110 and 9112, and RFC 9113 for HTTP/2.
//!
//! The parser itself refuses lengths that contradict one another, chunks in HTTP/1.0, and in HTTP/2 the headers of a
//! connection.

use std::str;

use http::{
    HeaderMap, HeaderValue, Method, StatusCode, Version,
    header::{EXPECT, HOST, TRANSFER_ENCODING},
    request::Parts,
    uri::Authority,
};

use super::problem::Problem;

/// Refuses what cannot be answered, and gives every request the host that it is for as its `host`.
pub(super) fn check(head: &mut Parts) -> Result<(), Problem> {
    if head.method == Method::CONNECT {
        return Err(Problem::new(StatusCode::NOT_IMPLEMENTED, "no connections are made from here"));
    }
    check_target(head)?;
    check_host(head)?;
    check_coding(&head.headers)?;
    check_expectations(&head.headers)
}

/// What is asked for is a path, or a whole address, as it is to a proxy.
fn check_target(head: &Parts) -> Result<(), Problem> {
    let uri = &head.uri;
    let is_asterisk = uri.path() == "*" && uri.scheme().is_none();
    let is_whole = match (uri.scheme_str(), uri.authority()) {
        (None, None) => uri.path().starts_with('/') || (is_asterisk && head.method == Method::OPTIONS),
        (Some("http" | "https"), Some(_)) => true,
        (Some(_), _) | (None, Some(_)) => false,
    };
    if is_whole { Ok(()) } else { Err(bad("what is asked for is neither a path nor an address of HTTP")) }
}

/// Checks that a request says once, and clearly, which host it is for.
fn check_host(head: &mut Parts) -> Result<(), Problem> {
    let mut hosts = head.headers.get_all(HOST).iter();
    let (host, is_ambiguous) = (hosts.next(), hosts.next().is_some());
    if is_ambiguous {
        return Err(bad("there is more than one `host`"));
    }
    if host.is_some_and(|host| !is_host(host.as_bytes())) {
        return Err(bad("`host` is no host"));
    }
    let Some(authority) = head.uri.authority() else {
        // Before HTTP/1.1 nobody had to.
        let is_needed = head.version >= Version::HTTP_11;
        return if host.is_some() || !is_needed { Ok(()) } else { Err(bad("there is no `host`")) };
    };
    if authority.host().is_empty() || !is_host(authority.as_str().as_bytes()) {
        return Err(bad("the address that is asked for has no host"));
    }
    let is_other = |host: &HeaderValue| !is_same(authority, host, head.uri.scheme_str());
    if head.version >= Version::HTTP_2 && host.is_some_and(is_other) {
        return Err(bad("`host` is another one than `:authority`"));
    }
    // RFC 9112, section 3.2.2: what a whole address says counts.
    let value = HeaderValue::from_str(authority.as_str()).map_err(|_| bad("`host` is no host"))?;
    head.headers.insert(HOST, value);
    Ok(())
}

/// Returns whether a text is a host, and a port if there is one: RFC 3986, section 3.2.
fn is_host(text: &[u8]) -> bool {
    let end = match text.first() {
        Some(b'[') => text.iter().position(|byte| *byte == b']').map_or(0, |end| end + 1),
        _ => text.iter().position(|byte| *byte == b':').unwrap_or(text.len()),
    };
    let (name, port) = text.split_at(end);
    let is_name = match name.strip_prefix(b"[") {
        Some(address) => address.iter().all(|byte| byte.is_ascii_hexdigit() || b":.]".contains(byte)),
        None => name.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._~%!$&'()*+,;=".contains(byte)),
    };
    let is_number = |digits: &[u8]| digits.len() <= 5 && digits.iter().all(u8::is_ascii_digit);
    is_name && (port.is_empty() || port.strip_prefix(b":").is_some_and(is_number))
}

/// Returns whether two hosts are one: letters count in either case, and the usual port need not be there.
fn is_same(authority: &Authority, host: &HeaderValue, scheme: Option<&str>) -> bool {
    let usual = if scheme == Some("https") { ":443" } else { ":80" };
    let bare = |text: &str| {
        let text = text.to_ascii_lowercase();
        text.strip_suffix(usual).or(text.strip_suffix(':')).map(str::to_owned).unwrap_or(text)
    };
    str::from_utf8(host.as_bytes()).is_ok_and(|host| bare(host) == bare(authority.as_str()))
}

/// Refuses a body that is coded in any other way than in chunks: the parser decodes these alone.
fn check_coding(headers: &HeaderMap) -> Result<(), Problem> {
    let mut codings = members(headers, TRANSFER_ENCODING);
    let is_chunked = |coding: &[u8]| coding.eq_ignore_ascii_case(b"chunked");
    match (codings.next(), codings.next()) {
        (None, _) => Ok(()),
        (Some(only), None) if is_chunked(only) => Ok(()),
        (Some(first), Some(_)) if is_chunked(first) => Err(bad("the body is in chunks more than once")),
        _ => Err(Problem::new(
            StatusCode::NOT_IMPLEMENTED,
            "a body may be sent in chunks, and coded in no other way",
        )),
    }
}

fn check_expectations(headers: &HeaderMap) -> Result<(), Problem> {
    if members(headers, EXPECT).all(|expected| expected.eq_ignore_ascii_case(b"100-continue")) {
        return Ok(());
    }
    Err(Problem::new(StatusCode::EXPECTATION_FAILED, "nothing but `100-continue` can be expected"))
}

/// Returns the members of the lists that all headers of a name hold.
fn members(headers: &HeaderMap, name: http::HeaderName) -> impl Iterator<Item = &[u8]> {
    let values =
        headers.get_all(name).into_iter().flat_map(|value| value.as_bytes().split(|byte| *byte == b','));
    values.map(<[u8]>::trim_ascii).filter(|member| !member.is_empty())
}

fn bad(detail: &str) -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, detail)
}
