//! The way to a collector, one step at a time, for whoever wants to know at which step it ends.
//!
//! Owns what each step looks at, and how one failure is told from another. Gives no advice, and sets no
//! limit of time. The last steps are calls of the exporter's own client: see [`Probes`] for what they carry.

mod certificate;
mod greeting;
mod handshake;
mod messages;

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
};
use url::{Host, Url};

use super::{
    client::address,
    error::{ClientError, ExportError},
};
use crate::telemetry::{Export, TlsConfig};

pub(crate) use greeting::greet;
pub(crate) use messages::{METRIC_NAME, Probes, SPAN_NAME};

/// The most addresses of one name that are looked at.
const MAX_ADDRESSES: usize = 8;

/// Why a step failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    pub(crate) kind: FailureKind,
    /// One line, without any secret.
    pub(crate) cause: String,
}

/// What kind of failure it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailureKind {
    /// The name has no address.
    UnknownName,
    /// Nothing listens on the port.
    Refused,
    /// There is no way to the address.
    Unreachable,
    /// There was no answer in time.
    TimedOut,
    /// The other side ended the connection, or the connection broke.
    HungUp,
    /// The server speaks plain text, where TLS is expected.
    NoTls,
    /// The server speaks TLS, where plain text is expected.
    OnlyTls,
    /// The server's certificate comes from no authority that is trusted.
    UnknownIssuer,
    /// The server's certificate is for other names.
    WrongName,
    /// The server's certificate is no longer valid, or not yet.
    OutOfDate,
    /// The server wants a certificate, or another one.
    ClientCertificate,
    /// TLS failed otherwise.
    Tls,
    /// The server speaks HTTP/1.
    Http1,
    /// The server does not speak HTTP/2.
    NotHttp2,
    /// The call got this gRPC status, in lowercase.
    Status(&'static str),
    /// The call succeeded, and what it carried was not taken.
    Rejected,
}

impl FailureKind {
    /// Returns its name for programs.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::UnknownName => "unknown_name",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timeout",
            Self::HungUp => "hung_up",
            Self::NoTls => "no_tls",
            Self::OnlyTls => "only_tls",
            Self::UnknownIssuer => "unknown_issuer",
            Self::WrongName => "wrong_name",
            Self::OutOfDate => "out_of_date",
            Self::ClientCertificate => "client_certificate",
            Self::Tls => "tls",
            Self::Http1 => "http1",
            Self::NotHttp2 => "not_http2",
            Self::Status(code) => code,
            Self::Rejected => "rejected",
        }
    }

    /// Returns whether TLS itself is what failed.
    pub(crate) fn is_of_tls(self) -> bool {
        match self {
            Self::NoTls
            | Self::UnknownIssuer
            | Self::WrongName
            | Self::OutOfDate
            | Self::ClientCertificate
            | Self::Tls => true,
            Self::UnknownName
            | Self::Refused
            | Self::Unreachable
            | Self::TimedOut
            | Self::HungUp
            | Self::OnlyTls
            | Self::Http1
            | Self::NotHttp2
            | Self::Status(_)
            | Self::Rejected => false,
        }
    }
}

impl Failure {
    pub(crate) fn new(kind: FailureKind, cause: impl Into<String>) -> Self {
        Self { kind, cause: cause.into() }
    }
}

impl From<&ExportError> for Failure {
    fn from(error: &ExportError) -> Self {
        let kind = match (error.is_without_answer(), error.error_type()) {
            (false, code) => FailureKind::Status(code),
            (true, "timeout") => FailureKind::TimedOut,
            (true, "tls") => FailureKind::Tls,
            (true, "dns") => FailureKind::UnknownName,
            (true, _) => FailureKind::HungUp,
        };
        Self::new(kind, error.to_string())
    }
}

/// Where the way leads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    url: Url,
    tls: TlsConfig,
}

/// A connection that was made.
#[derive(Debug)]
pub(crate) struct Reached {
    pub(crate) stream: TcpStream,
    pub(crate) address: SocketAddr,
    /// What became of the addresses that failed first.
    pub(crate) failed: Vec<String>,
}

impl Target {
    /// Returns where an export goes.
    pub(crate) fn new(export: &Export) -> Result<Self, ClientError> {
        let (url, _) = address(&export.endpoint)?;
        Ok(Self { url, tls: export.tls.clone() })
    }

    /// Returns whether the connection is encrypted.
    pub(crate) fn is_tls(&self) -> bool {
        self.url.scheme() == "https"
    }

    /// Returns the certificates of the connection.
    pub(crate) fn tls(&self) -> &TlsConfig {
        &self.tls
    }

    /// Returns the host: a name, or an address without brackets.
    pub(crate) fn host(&self) -> String {
        match self.url.host() {
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(ip)) => ip.to_string(),
            Some(Host::Ipv6(ip)) => ip.to_string(),
            None => String::new(),
        }
    }

    /// Returns the port.
    pub(crate) fn port(&self) -> u16 {
        self.url.port_or_known_default().unwrap_or_default()
    }

    /// Returns the endpoint as it would be with the other scheme.
    pub(crate) fn with_other_scheme(&self) -> String {
        let scheme = if self.is_tls() { "http" } else { "https" };
        let host = self.url.host_str().unwrap_or_default();
        format!("{scheme}://{host}:{}", self.port())
    }

    /// Returns whether the host is the machine, or the container, that this process runs in.
    pub(crate) fn is_loopback(&self) -> bool {
        let host = self.host();
        match host.parse::<IpAddr>() {
            Ok(ip) => ip.is_loopback(),
            Err(_) => host == "localhost" || host.ends_with(".localhost"),
        }
    }

    /// Returns the addresses of the host.
    pub(crate) async fn resolve(&self) -> Result<Vec<SocketAddr>, Failure> {
        let unknown = |cause: String| Failure::new(FailureKind::UnknownName, cause);
        let host = self.host();
        let found = lookup_host((host.as_str(), self.port())).await.map_err(|error| {
            let cause = io_cause(&error);
            unknown(cause.strip_prefix("failed to lookup address information: ").unwrap_or(&cause).to_owned())
        })?;
        let mut seen = BTreeSet::new();
        let addresses: Vec<_> = found.filter(|address| seen.insert(*address)).take(MAX_ADDRESSES).collect();
        if addresses.is_empty() { Err(unknown("the name has no address".into())) } else { Ok(addresses) }
    }

    /// Returns whether the server at an address speaks what the other scheme stands for.
    pub(crate) async fn fits_other_scheme(&self, address: SocketAddr) -> bool {
        let Ok(stream) = TcpStream::connect(address).await else { return false };
        if self.is_tls() {
            let greeted = greet(stream).await;
            return greeted.map_or_else(|failure| failure.kind == FailureKind::Http1, |()| true);
        }
        match self.handshake(stream).await {
            Ok(_) => true,
            Err(failure) => failure.kind.is_of_tls() && failure.kind != FailureKind::NoTls,
        }
    }
}

/// Connects to all addresses at once, and takes the first one that answers.
pub(crate) async fn connect(addresses: &[SocketAddr]) -> Result<Reached, Failure> {
    let mut attempts = JoinSet::new();
    for &address in addresses {
        attempts.spawn(async move { (address, TcpStream::connect(address).await) });
    }
    let (mut failed, mut kinds) = (Vec::new(), Vec::new());
    while let Some(attempt) = attempts.join_next().await {
        match attempt {
            Ok((address, Ok(stream))) => return Ok(Reached { stream, address, failed }),
            Ok((address, Err(error))) => {
                failed.push(format!("{address}: {}", io_cause(&error)));
                kinds.push(io_kind(&error));
            }
            Err(error) => failed.push(error.to_string()),
        }
    }
    let kind = if kinds.contains(&FailureKind::Refused) {
        FailureKind::Refused
    } else {
        kinds.first().copied().unwrap_or(FailureKind::Unreachable)
    };
    Err(Failure::new(kind, failed.join("; ")))
}

/// Returns what an error of a connection that could not be made means.
fn io_kind(error: &io::Error) -> FailureKind {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => FailureKind::Refused,
        io::ErrorKind::TimedOut => FailureKind::TimedOut,
        _ => FailureKind::Unreachable,
    }
}

/// Returns the text of an error without the number of the operating system.
fn io_cause(error: &io::Error) -> String {
    let text = error.to_string().to_lowercase();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// Makes the failure of a connection that was made and then broke.
fn broken(error: &io::Error) -> Failure {
    Failure::new(FailureKind::HungUp, io_cause(error))
}
