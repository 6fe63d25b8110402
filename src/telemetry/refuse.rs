//! What the `telemetry` and `logging` blocks refuse: values that cannot be right.

use std::{
    io,
    net::IpAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use url::{Host, Url};

use super::{Histogram, LoggingConfig, TelemetryConfig};
use crate::problem::{Problems, did_you_mean};

/// The port of OTLP/HTTP, which is not spoken.
const HTTP_PORT: u16 = 4318;
/// The levels of log lines.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

impl TelemetryConfig {
    /// Reports what cannot be right, and gives the endpoint its scheme. `read` opens a file of the
    /// configuration.
    pub(crate) fn check(&mut self, problems: &mut Problems, read: &dyn Fn(&Path) -> io::Result<()>) {
        match endpoint(&self.otlp_endpoint) {
            Ok(url) => self.otlp_endpoint = url,
            Err((message, hint)) => {
                problems.report("otlp_endpoint", message).hint_opt(hint);
            }
        }
        if self.service_name.trim().is_empty() {
            problems.report("service_name", "the name of the service is empty");
        }
        if !(0.0..=1.0).contains(&self.trace_sample_rate) {
            problems
                .report("trace_sample_rate", "must be between 0.0 and 1.0")
                .hint("1.0 exports every trace, 0.1 one of ten");
        }
        for (key, duration) in [
            ("metrics_export_interval", Some(self.metrics_export_interval)),
            ("timeout", Some(self.timeout)),
            ("keep_traces.slower_than", self.keep_traces.slower_than),
            ("span_queue.delay", Some(self.span_queue.delay)),
        ] {
            if duration == Some(Duration::ZERO) {
                problems.report(key, "must be longer than zero");
            }
        }
        for (key, count) in [
            ("keep_traces.limit", Some(self.keep_traces.limit as usize)),
            ("cardinality_limit", self.cardinality_limit),
            ("span_queue.size", Some(self.span_queue.size)),
            ("span_queue.batch", Some(self.span_queue.batch)),
        ] {
            if count == Some(0) {
                problems.report(key, "must be at least 1");
            }
        }
        if self.span_queue.batch > self.span_queue.size {
            let message = format!(
                "a batch of {} does not fit a queue of {}",
                self.span_queue.batch, self.span_queue.size
            );
            problems.report("span_queue.batch", message);
        }
        self.check_buckets(problems);
        self.check_names(problems);
        self.check_tls(problems, read);
    }

    fn check_buckets(&self, problems: &mut Problems) {
        let Histogram::Explicit { buckets: Some(buckets) } = &self.histogram else { return };
        if buckets.is_empty() {
            problems.report("histogram.buckets", "there is no bucket");
        } else if let Some(n) = buckets.iter().position(|bound| !bound.is_finite()) {
            problems.report(&format!("histogram.buckets.{n}"), "a bound must be finite");
        } else if let Some(n) = buckets.windows(2).position(|pair| pair[0] >= pair[1]) {
            let message = format!("`{}` does not follow `{}` upwards", buckets[n + 1], buckets[n]);
            problems.report(&format!("histogram.buckets.{}", n + 1), message).hint("bounds ascend");
        }
    }

    fn check_names(&self, problems: &mut Problems) {
        // Names of HTTP/2 headers are lowercase; gRPC keeps some of them to itself.
        let is_header = |name: &str| {
            !name.is_empty()
                && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b))
        };
        for (name, value) in &self.headers {
            let path = |problems: &mut Problems, message: String, hint: &str| {
                let base = problems.base().key("headers").key(&**name);
                problems
                    .push(crate::problem::Problem::new(base, message))
                    .focus(crate::problem::Focus::Key)
                    .hint(hint);
            };
            if !is_header(name) {
                path(
                    problems,
                    format!("`{name}` is no name of a header"),
                    "lowercase letters, digits, `-`, `_` and `.`",
                );
            } else if name.starts_with("grpc-") {
                path(
                    problems,
                    format!("the header `{name}` belongs to gRPC"),
                    "names that start with `grpc-` are reserved",
                );
            } else if !value.expose().bytes().all(|b| (0x20..0x7f).contains(&b)) {
                path(
                    problems,
                    format!("the value of the header `{name}` is not printable ASCII"),
                    "remove line ends and other control characters",
                );
            }
        }
        for (key, names) in
            [("trace_attributes", &self.trace_attributes), ("resource_attributes", &self.resource_attributes)]
        {
            if names.keys().any(String::is_empty) {
                problems.report(key, "the name of an attribute is empty");
            }
        }
    }

    fn check_tls(&self, problems: &mut Problems, read: &dyn Fn(&Path) -> io::Result<()>) {
        let tls = &self.tls;
        match (&tls.cert_file, &tls.key_file) {
            (Some(_), None) => {
                problems.report("tls.cert_file", "a certificate without its key").hint("add `key_file`");
            }
            (None, Some(_)) => {
                problems.report("tls.key_file", "a key without its certificate").hint("add `cert_file`");
            }
            _ => {}
        }
        let files: [(&str, &Option<PathBuf>); 3] = [
            ("tls.ca_file", &tls.ca_file),
            ("tls.cert_file", &tls.cert_file),
            ("tls.key_file", &tls.key_file),
        ];
        for (key, file) in files {
            let Some(Err(error)) = file.as_deref().map(read) else { continue };
            let cause = error.to_string().to_lowercase();
            let cause = cause.split(" (os error").next().unwrap_or_default().to_owned();
            problems.report(key, "cannot read the file").hint(cause);
        }
    }
}

impl LoggingConfig {
    /// Reports what cannot be right.
    pub(crate) fn check(&self, problems: &mut Problems) {
        if !LEVELS.contains(&self.level.as_str()) {
            let hint = did_you_mean(&self.level, LEVELS)
                .unwrap_or_else(|| format!("one of {}", LEVELS.map(|level| format!("`{level}`")).join(", ")));
            problems.report("level", format!("unknown level `{}`", self.level)).hint(hint);
        }
    }
}

/// Returns the endpoint as a URL with a scheme, or what is wrong with it and how to mend it.
fn endpoint(text: &str) -> Result<String, (String, Option<String>)> {
    let text = text.trim();
    if text.is_empty() {
        return Err(("the endpoint is empty".into(), Some("such as `http://localhost:4317`".into())));
    }
    let shown = without_userinfo(text);
    let has_scheme = text.contains("://");
    let full = if has_scheme { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&full).map_err(|error| (format!("`{shown}` is no endpoint: {error}"), None))?;
    if !matches!(url.scheme(), "http" | "https") {
        let message = format!("`{shown}` has a scheme that is none of OTLP/gRPC");
        return Err((message, Some("use `http://` or `https://`".into())));
    }
    if url.port() == Some(HTTP_PORT) {
        let message = "port 4318 is OTLP/HTTP, which flowgen does not speak".into();
        return Err((message, Some("use OTLP/gRPC, port 4317".into())));
    }
    if !has_scheme && !url.host().is_some_and(|host| is_private(&host)) {
        let message = format!("`{shown}` has no scheme");
        return Err((message, Some(format!("write `https://{shown}`, or `http://{shown}` for plain text"))));
    }
    Ok(full)
}

/// Returns an endpoint as messages show it: without the name and the password before its host.
fn without_userinfo(text: &str) -> String {
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
    use crate::problem::KeyPath;

    fn told(change: impl FnOnce(&mut TelemetryConfig)) -> Vec<String> {
        let mut config = TelemetryConfig::default();
        change(&mut config);
        let mut problems = Problems::below(KeyPath::default());
        config.check(&mut problems, &|_| Err(io::ErrorKind::NotFound.into()));
        problems.into_vec().into_iter().map(|p| format!("{}: {}", p.path, p.message)).collect()
    }

    #[test]
    fn the_defaults_are_right() {
        assert_eq!(told(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn an_endpoint_gets_its_scheme_where_that_is_obvious() {
        for (given, full) in [
            ("localhost:4317", "http://localhost:4317"),
            ("127.0.0.1:4317", "http://127.0.0.1:4317"),
            ("10.0.0.7:4317", "http://10.0.0.7:4317"),
            ("[::1]:4317", "http://[::1]:4317"),
            ("https://collector.example:443", "https://collector.example:443"),
        ] {
            assert_eq!(endpoint(given).as_deref(), Ok(full));
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
            assert!(endpoint(wrong).is_err(), "{wrong}");
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
            let (message, hint) = endpoint(wrong).unwrap_err();
            assert!(!format!("{message} {hint:?}").contains("secret"), "{message} {hint:?}");
        }
        assert_eq!(without_userinfo("https://a:b@c@host:1/x"), "https://host:1/x");
    }

    #[test]
    fn debug_shows_no_value_of_a_header() {
        let headers = [("x-api-key".to_owned(), "topsecret".to_owned().into())].into();
        let shown = format!("{:?}", TelemetryConfig { headers, ..TelemetryConfig::default() });
        assert!(shown.contains("x-api-key") && !shown.contains("topsecret"), "{shown}");
    }

    #[test]
    fn refuses_what_cannot_be_right() {
        assert_eq!(told(|c| c.trace_sample_rate = 1.5), ["trace_sample_rate: must be between 0.0 and 1.0"]);
        assert_eq!(told(|c| c.trace_sample_rate = f64::NAN).len(), 1);
        assert_eq!(
            told(|c| c.metrics_export_interval = Duration::ZERO),
            ["metrics_export_interval: must be longer than zero"]
        );
        assert_eq!(told(|c| c.keep_traces.limit = 0), ["keep_traces.limit: must be at least 1"]);
        assert_eq!(
            told(|c| c.span_queue.batch = 9000),
            ["span_queue.batch: a batch of 9000 does not fit a queue of 8192"]
        );
        let buckets =
            |buckets: Vec<f64>| told(|c| c.histogram = Histogram::Explicit { buckets: Some(buckets) });
        assert_eq!(buckets(vec![]), ["histogram.buckets: there is no bucket"]);
        assert_eq!(buckets(vec![1.0, 1.0]), ["histogram.buckets[1]: `1` does not follow `1` upwards"]);
        assert_eq!(buckets(vec![1.0, f64::INFINITY]), ["histogram.buckets[1]: a bound must be finite"]);
        assert_eq!(
            told(|c| c.tls.cert_file = Some("c.pem".into())),
            ["tls.cert_file: a certificate without its key", "tls.cert_file: cannot read the file"]
        );
        let header = |name: &str, value: &str| {
            told(|c| c.headers = [(name.to_owned(), value.to_owned().into())].into())
        };
        assert_eq!(header("X Key", "v"), ["headers.X Key: `X Key` is no name of a header"]);
        assert_eq!(header("grpc-x", "v").len() + header("x", "a\nb").len(), 2);
        assert_eq!(header("x-api-key", "v").len(), 0);
    }
}
