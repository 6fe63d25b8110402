//! The keys of the HTTP server that all `http_endpoint` tasks share.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use schemars::JsonSchema;
use serde::Deserialize;

use crate::{
    format::ByteSize,
    plan::{HttpServer, HttpTls},
    problem::Problems,
    services::http::tls,
};

/// The most connections that a server may be told to take.
const MOST_CONNECTIONS: usize = 1_000_000;

/// Where the HTTP server listens, and within which limits.
#[derive(Clone, Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(in crate::config) struct HttpServerKeys {
    /// The address and the port. By default `127.0.0.1:3000`.
    address: Option<String>,
    /// The certificate, for HTTPS. By default it speaks plain HTTP.
    tls: Option<tls::Config>,
    /// The most connections at a time; further ones wait. By default 16384.
    #[schemars(range(min = 1, max = MOST_CONNECTIONS))]
    max_connections: Option<usize>,
    /// How long the head of a request may take. By default `10s`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("examples" = ["10s"]))]
    header_timeout: Option<Duration>,
    /// How long a connection is kept without a request; longer than a load balancer before it does. By default `75s`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("examples" = ["75s"]))]
    idle_timeout: Option<Duration>,
    /// How long the body of a request may take. By default `30s`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("examples" = ["30s"]))]
    body_timeout: Option<Duration>,
    /// How long a client may take nothing of what it is sent. By default `30s`.
    #[serde(with = "humantime_serde")]
    #[schemars(with = "Option<String>", extend("examples" = ["30s"]))]
    write_timeout: Option<Duration>,
    /// The memory that the bodies of requests and what is decoded from them may take at a time, about; one more is
    /// answered 503. By default `256MiB`.
    #[schemars(extend("examples" = ["256MiB"]))]
    max_buffered_bytes: Option<ByteSize>,
}

impl HttpServerKeys {
    /// Returns the settings, and reports what cannot be right. Paths start from `base`.
    pub(in crate::config) fn settings(self, base: &Path, problems: &mut Problems) -> HttpServer {
        let fallback = HttpServer::default();
        let address = self.address.as_deref().map(|text| {
            address(text).unwrap_or_else(|| {
                problems
                    .report("address", "this is no address with a port")
                    .hint("for example `127.0.0.1:3000`, or `0.0.0.0:3000` for all of the machine's");
                fallback.address
            })
        });
        for (key, time) in [
            ("header_timeout", self.header_timeout),
            ("idle_timeout", self.idle_timeout),
            ("body_timeout", self.body_timeout),
            ("write_timeout", self.write_timeout),
        ] {
            if time.is_some_and(|time| time.is_zero()) {
                problems.report(key, "must be longer than zero");
            }
        }
        if self.max_connections.is_some_and(|count| !(1..=MOST_CONNECTIONS).contains(&count)) {
            problems.report("max_connections", format!("must be between 1 and {MOST_CONNECTIONS}"));
        }
        if let Some(bytes) = self.max_buffered_bytes {
            bytes.check_limit("max_buffered_bytes", problems);
        }
        if let Some(tls) = &self.tls {
            let mut inner = Problems::below(problems.base().key("tls"));
            tls.check(&mut inner);
            problems.extend(inner);
        }
        HttpServer {
            address: address.unwrap_or(fallback.address),
            tls: self.tls.map(|tls::Config { cert_file, key_file, client_ca_file }| HttpTls {
                cert_file: base.join(cert_file),
                key_file: base.join(key_file),
                client_ca_file: client_ca_file.map(|file| base.join(file)),
            }),
            max_connections: self.max_connections.unwrap_or(fallback.max_connections),
            header_timeout: self.header_timeout.unwrap_or(fallback.header_timeout),
            idle_timeout: self.idle_timeout.unwrap_or(fallback.idle_timeout),
            body_timeout: self.body_timeout.unwrap_or(fallback.body_timeout),
            write_timeout: self.write_timeout.unwrap_or(fallback.write_timeout),
            max_buffered_bytes: self.max_buffered_bytes.map_or(fallback.max_buffered_bytes, |bytes| bytes.0),
        }
    }
}

/// Reads an address with a port. The name of the machine itself is known; others would have to be looked up.
fn address(text: &str) -> Option<SocketAddr> {
    let of_name = || {
        let port = text.strip_prefix("localhost:")?.parse().ok()?;
        Some(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port))
    };
    text.parse().ok().or_else(of_name)
}
