//! Why a client cannot be made, and why an export call failed: as one line that is safe to show, and what
//! follows from it.

use std::{
    cmp::Reverse,
    error::Error,
    fmt, io, iter,
    path::{Path, PathBuf},
    time::Duration,
};

use prost::Message;
use tonic::{Code, Status};

use super::tls;
use crate::telemetry::{Secret, error_chain};

/// The longest cause that is shown, in bytes.
const MAX_CAUSE: usize = 400;

/// The least length of a header's value that is looked for in texts of the collector.
const MIN_SECRET: usize = 4;

/// What receivers write when a message is longer than they take: those of Go and C++, of Java, of Rust,
/// and proxies in front of them.
const TOO_LARGE: [&str; 4] = ["larger than max", "exceeds maximum size", "too large", "status code 413"];

/// Why a client cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The endpoint is none.
    #[error("`{0}` is no endpoint of OTLP/gRPC")]
    Endpoint(String),
    /// A header cannot be sent.
    #[error("the header `{0}` cannot be sent")]
    Header(String),
    /// A file of certificates or keys cannot be read.
    #[error("cannot read `{path}`")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A file holds no certificate.
    #[error("`{0}` holds no certificate in PEM form")]
    NoCertificate(PathBuf),
    /// A root certificate is none.
    #[error("`{path}` holds a certificate that cannot be trusted")]
    Root {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
    /// The TLS settings do not work together, such as a key that is another certificate's.
    #[error("cannot set up TLS with {settings}")]
    Tls {
        /// What was configured.
        settings: String,
        /// Why.
        source: tonic::transport::Error,
    },
}

/// Why an export call failed.
#[derive(Debug)]
pub struct ExportError {
    /// What the collector answered; `None` if it gave no answer.
    code: Option<Code>,
    error_type: &'static str,
    cause: String,
    retry_after: Option<Duration>,
}

impl ExportError {
    /// Makes it from what a call returned. None of `secrets` is in its text.
    pub(super) fn from_status(status: &Status, secrets: &[Secret]) -> Self {
        // A status that was made on this side of the connection has a source.
        if let Some(source) = status.source() {
            let chain = error_chain(source);
            let cause = chain.strip_prefix("transport error: ").unwrap_or(&chain);
            return Self::without_answer(connection_type(source), &masked(cause, secrets));
        }
        let error_type = code_name(status.code());
        let code = error_type.to_uppercase();
        let text = match status.message() {
            "" => code,
            message => format!("{code}: {}", masked(message, secrets)),
        };
        Self {
            code: Some(status.code()),
            error_type,
            cause: one_line(&text),
            retry_after: retry_after(status.details()),
        }
    }

    /// Makes it for a call that took too long.
    pub(super) fn timed_out(timeout: Duration) -> Self {
        let timeout = humantime::format_duration(timeout);
        Self::without_answer("timeout", &format!("no answer within {timeout}"))
    }

    /// Makes it for a call that the end of the worker came before.
    pub(super) fn cut_off() -> Self {
        Self::without_answer("timeout", "no answer before the worker ended")
    }

    /// Makes it for a call that ended in a panic of the libraries below, such as over an answer that
    /// breaks the protocol.
    pub(super) fn panicked() -> Self {
        let cause = "the answer cannot be read".into();
        Self { code: Some(Code::Internal), error_type: "protocol", cause, retry_after: None }
    }

    /// Adds that the collector may want another client certificate than this one, or one at all.
    pub(super) fn about_client(self, certificate: Option<&Path>) -> Self {
        let what = match certificate {
            None => "the collector may want a client certificate: set `tls.cert_file` and `tls.key_file`"
                .to_owned(),
            Some(path) => {
                let path = path.display();
                format!("the collector may not trust the client certificate `{path}` (`tls.cert_file`)")
            }
        };
        Self::without_answer("tls", &format!("{}; {what}", self.cause))
    }

    fn without_answer(error_type: &'static str, cause: &str) -> Self {
        Self { code: None, error_type, cause: one_line(cause), retry_after: None }
    }

    /// Returns whether the collector gave no answer at all, for whatever reason.
    pub fn is_without_answer(&self) -> bool {
        self.code.is_none()
    }

    /// Returns whether the same call may succeed later (OTLP specification, "Failures").
    pub fn is_retryable(&self) -> bool {
        if self.is_too_large() {
            return false;
        }
        match self.code {
            None => true,
            Some(Code::ResourceExhausted) => self.retry_after.is_some(),
            Some(code) => matches!(
                code,
                Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::Aborted
                    | Code::OutOfRange
                    | Code::Unavailable
                    | Code::DataLoss
            ),
        }
    }

    /// Returns whether the collector takes no body of this length, but perhaps a shorter one.
    pub fn is_too_large(&self) -> bool {
        matches!(self.code, Some(Code::ResourceExhausted | Code::OutOfRange | Code::Unknown)) && {
            let cause = self.cause.to_lowercase();
            TOO_LARGE.iter().any(|text| cause.contains(text))
        }
    }

    /// Returns how long the collector asks to wait.
    pub fn retry_after(&self) -> Option<Duration> {
        self.retry_after
    }

    /// Returns the kind of failure: the gRPC code in lowercase, or `dns`, `tls`, `connection`, `timeout`,
    /// `protocol`.
    pub fn error_type(&self) -> &'static str {
        self.error_type
    }
}

impl fmt::Display for ExportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.cause)
    }
}

impl Error for ExportError {}

/// Returns what kind of failure kept a call from an answer.
fn connection_type(error: &(dyn Error + 'static)) -> &'static str {
    for error in chain(error) {
        if tls_error(error).is_some() {
            return "tls";
        }
        if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::TimedOut) {
            return "timeout";
        }
        // The connector's own error has no public type.
        if error.to_string().starts_with("dns error") {
            return "dns";
        }
    }
    "connection"
}

/// Returns whether a connection over TLS may have ended because of the client's certificate, or because there is
/// none: the server said so, or it hung up on someone who is new to it. In TLS 1.3 a client takes the handshake for
/// done before the server has looked at its certificate, and what it sends then may break before the reason comes.
pub(super) fn is_about_client(status: &Status, is_new: bool) -> bool {
    let alert = |error: &_| match tls_error(error) {
        Some(rustls::Error::AlertReceived(alert)) => tls::is_about_client(*alert),
        _ => false,
    };
    let error: &(dyn Error + 'static) = status;
    // Of what ends a connection that was set up, hyper tells.
    chain(error).any(|error| alert(error) || is_new && error.is::<hyper::Error>())
}

/// Returns the error of TLS that an I/O error is made of: it does not show that as its source.
fn tls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    error.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref()
}

fn chain<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(error), |error: &&'a (dyn Error + 'static)| (*error).source())
}

fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "ok",
        Code::Cancelled => "cancelled",
        Code::Unknown => "unknown",
        Code::InvalidArgument => "invalid_argument",
        Code::DeadlineExceeded => "deadline_exceeded",
        Code::NotFound => "not_found",
        Code::AlreadyExists => "already_exists",
        Code::PermissionDenied => "permission_denied",
        Code::ResourceExhausted => "resource_exhausted",
        Code::FailedPrecondition => "failed_precondition",
        Code::Aborted => "aborted",
        Code::OutOfRange => "out_of_range",
        Code::Unimplemented => "unimplemented",
        Code::Internal => "internal",
        Code::Unavailable => "unavailable",
        Code::DataLoss => "data_loss",
        Code::Unauthenticated => "unauthenticated",
    }
}

/// Takes the values of headers out of a text, for collectors that repeat what they refuse.
pub(super) fn masked(text: &str, secrets: &[Secret]) -> String {
    // `Bearer xyz` is secret from its second word on.
    let is_scheme = |word: &str| word.eq_ignore_ascii_case("bearer") || word.eq_ignore_ascii_case("basic");
    let words = secrets.iter().flat_map(|secret| secret.expose().split_whitespace());
    let mut words: Vec<_> = words.filter(|word| word.len() >= MIN_SECRET && !is_scheme(word)).collect();
    // The longest first: without the part of it that is another one's value it would not be found.
    words.sort_by_key(|word| Reverse(word.len()));
    words.into_iter().fold(text.to_owned(), |text, word| text.replace(word, "***"))
}

/// Makes one line of a text, and cuts what is too long for one.
pub(super) fn one_line(text: &str) -> String {
    let mut line: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    if line.len() > MAX_CAUSE {
        line.truncate(line.floor_char_boundary(MAX_CAUSE));
        line.push('…');
    }
    line
}

/// Reads `google.rpc.RetryInfo` from the details of a status.
fn retry_after(details: &[u8]) -> Option<Duration> {
    let status = RpcStatus::decode(details).ok()?;
    let info = status.details.iter().find(|any| any.type_url.ends_with("google.rpc.RetryInfo"))?;
    let delay = RetryInfo::decode(&*info.value).ok()?.retry_delay?;
    Some(Duration::new(delay.seconds.try_into().ok()?, delay.nanos.try_into().ok()?))
}

/// `google.rpc.Status`.
#[derive(Clone, PartialEq, Message)]
struct RpcStatus {
    #[prost(message, repeated, tag = "3")]
    details: Vec<Any>,
}

/// `google.protobuf.Any`.
#[derive(Clone, PartialEq, Message)]
struct Any {
    #[prost(string, tag = "1")]
    type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    value: Vec<u8>,
}

/// `google.rpc.RetryInfo`.
#[derive(Clone, PartialEq, Message)]
struct RetryInfo {
    #[prost(message, optional, tag = "1")]
    retry_delay: Option<Delay>,
}

/// `google.protobuf.Duration`.
#[derive(Clone, PartialEq, Message)]
struct Delay {
    #[prost(int64, tag = "1")]
    seconds: i64,
    #[prost(int32, tag = "2")]
    nanos: i32,
}

#[cfg(test)]
pub(super) fn retry_info(delay: Duration) -> Vec<u8> {
    let delay = Delay { seconds: delay.as_secs() as i64, nanos: delay.subsec_nanos() as i32 };
    let value = RetryInfo { retry_delay: Some(delay) }.encode_to_vec();
    let any = Any { type_url: "type.googleapis.com/google.rpc.RetryInfo".into(), value };
    RpcStatus { details: vec![any] }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(code: Code, message: &str) -> ExportError {
        ExportError::from_status(&Status::new(code, message), &[])
    }

    #[test]
    fn retries_exactly_what_the_specification_lets_it_retry() {
        let retryable: Vec<_> = (0..17)
            .map(|code| error(Code::from_i32(code), "no"))
            .filter(ExportError::is_retryable)
            .map(|error| error.error_type())
            .collect();
        assert_eq!(
            retryable,
            ["cancelled", "deadline_exceeded", "aborted", "out_of_range", "unavailable", "data_loss"]
        );
    }

    #[test]
    fn an_exhausted_collector_is_tried_again_only_if_it_says_when() {
        let asked = Duration::from_millis(1500);
        let status = Status::with_details(Code::ResourceExhausted, "busy", retry_info(asked).into());
        let error = ExportError::from_status(&status, &[]);
        assert!(error.is_retryable());
        assert_eq!(error.retry_after(), Some(asked));
        let broken = Status::with_details(Code::ResourceExhausted, "busy", b"\xff\xff".to_vec().into());
        assert!(!ExportError::from_status(&broken, &[]).is_retryable());
    }

    #[test]
    fn a_message_that_is_too_large_is_told_from_an_exhausted_collector() {
        for (code, message) in [
            (Code::ResourceExhausted, "grpc: received message larger than max (5000000 vs. 4194304)"),
            (Code::ResourceExhausted, "gRPC message exceeds maximum size 4194304: 5000000"),
            (
                Code::OutOfRange,
                "Error, decoded message length too large: found 5 bytes, the limit is: 4 bytes",
            ),
        ] {
            let error = error(code, message);
            assert!(error.is_too_large() && !error.is_retryable(), "{error}");
        }
        assert!(!error(Code::ResourceExhausted, "quota").is_too_large());
        assert!(!error(Code::InvalidArgument, "name too large").is_too_large());
    }

    #[test]
    fn a_value_that_holds_another_one_leaves_nothing_behind() {
        let secrets = ["topsecret", "topsecret-and-more", "secret"].map(|text| text.to_owned().into());
        assert_eq!(masked("bad keys topsecret-and-more, topsecret", &secrets), "bad keys ***, ***");
    }

    #[test]
    fn a_cause_is_one_line_without_the_values_of_headers() {
        let secrets = ["Bearer topsecret".to_owned().into(), "a".to_owned().into()];
        let status = Status::unauthenticated("bad token topsecret\nfor all");
        let error = ExportError::from_status(&status, &secrets);
        assert_eq!(error.to_string(), "UNAUTHENTICATED: bad token *** for all");
        assert_eq!(error.error_type(), "unauthenticated");
        assert!(self::error(Code::Internal, &"ä".repeat(1000)).to_string().len() < MAX_CAUSE + 10);
    }
}
