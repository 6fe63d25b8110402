//! What the span of a request says, by the semantic conventions for HTTP clients.
//!
//! Must never say more: no path, no query, no userinfo, no body, and of the headers none but the id of a request. A path
//! may hold data of the event, and with some services the credential, so there is no `url.full`.

use reqwest::{
    Request, Response, Version,
    header::{HeaderMap, HeaderName},
};
use url::Host;

use crate::telemetry::{Attributes, Text};

/// The header by which the other side's log names a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Describes what is about to be sent.
pub(super) fn describe_request(request: &Request, span: &mut Attributes) {
    span.set("http.request.method", request.method().as_str().to_owned());
    let url = request.url();
    if let Some(host) = url.host() {
        span.set("server.address", address(&host));
    }
    if let Some(port) = url.port_or_known_default() {
        span.set("server.port", port);
    }
    span.set("url.scheme", url.scheme().to_owned());
    if let Some(body) = request.body().and_then(reqwest::Body::as_bytes) {
        span.set("http.request.body.size", body.len());
    }
    describe_id("http.request.header.x-request-id", request.headers(), span);
}

/// Describes the head of the answer.
pub(super) fn describe_response(response: &Response, span: &mut Attributes) {
    span.set("http.response.status_code", response.status().as_u16());
    if let Some(version) = version(response.version()) {
        span.set("network.protocol.version", version);
    }
    // Unknown for what is decompressed on the way: the convention means the bytes that were transferred.
    if let Some(size) = response.content_length() {
        span.set("http.response.body.size", size);
    }
    describe_id("http.response.header.x-request-id", response.headers(), span);
}

/// The convention makes a list of every header, since each may come more than once.
fn describe_id(key: &'static str, headers: &HeaderMap, span: &mut Attributes) {
    let ids = headers.get_all(REQUEST_ID).iter().filter_map(|id| id.to_str().ok());
    let ids: Vec<_> = ids.map(|id| Text::from(id.to_owned())).collect();
    if !ids.is_empty() {
        span.set(key, ids);
    }
}

/// Returns a host without the brackets that only a URL wants.
pub(super) fn address(host: &Host<&str>) -> String {
    match host {
        Host::Ipv6(address) => address.to_string(),
        host => host.to_string(),
    }
}

fn version(version: Version) -> Option<&'static str> {
    Some(match version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_11 => "1.1",
        Version::HTTP_2 => "2",
        Version::HTTP_3 => "3",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use reqwest::Url;

    use super::*;

    #[test]
    fn an_address_is_a_name_or_a_bare_number() {
        let shown = |url: &str| address(&url.parse::<Url>().unwrap().host().unwrap());
        assert_eq!(shown("http://API.example.com:1/"), "api.example.com");
        assert_eq!(shown("http://127.0.0.1:1/"), "127.0.0.1");
        assert_eq!(shown("http://[2001:db8::1]:1/"), "2001:db8::1");
    }
}
