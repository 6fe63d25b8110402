//! What the `telemetry` and `logging` blocks refuse: values that cannot be right.

use std::time::Duration;

use rustls::pki_types::ServerName;

use super::{Histogram, LoggingConfig, SpanQueue, TelemetryConfig, endpoint};
pub(super) use crate::problem::Fault;
pub(crate) use crate::tls::pem::ReadFile;
use crate::{
    problem::{Focus, Problem, Problems, did_you_mean},
    tls::pem::{self, Pem},
};

/// The longest time that makes sense: clocks overflow beyond what anybody means.
const MAX_DURATION: Duration = Duration::from_secs(366 * 24 * 3600);
/// How many attributes a configuration may ask for: a span holds twice as many, with those of its kind.
pub(super) const MOST_TRACE_ATTRIBUTES: usize = 16;
/// The attributes of the spans of events, besides those that start with [`OWN_PREFIX`] and those of kinds.
const OWN_ATTRIBUTES: [&str; 6] = ["flow", "task", "task_id", "task_type", "outcome", "error.type"];
/// What other attributes of our own start with.
const OWN_PREFIX: &str = "flowgen.";
/// The levels of log lines.
const LEVELS: [&str; 5] = ["error", "warn", "info", "debug", "trace"];

impl TelemetryConfig {
    /// Reports what cannot be right, and gives the endpoint its scheme.
    pub(crate) fn check(&mut self, problems: &mut Problems, read: ReadFile<'_>) {
        match endpoint::parse(&self.otlp_endpoint, None) {
            Ok(url) => self.otlp_endpoint = url,
            Err(fault) => fault.report("otlp_endpoint", problems),
        }
        if self.service_name.trim().is_empty() {
            problems.report("service_name", "the name of the service is empty");
        }
        check_rate("trace_sample_rate", self.trace_sample_rate, problems);
        for (key, duration) in [
            ("metrics_export_interval", Some(self.metrics_export_interval)),
            ("timeout", Some(self.timeout)),
            ("keep_traces.slower_than", self.keep_traces.slower_than),
            ("span_queue.delay", Some(self.span_queue.delay)),
        ] {
            if duration.is_some_and(|duration| duration > MAX_DURATION) {
                problems.report(key, "must not be longer than a year");
            }
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
        self.check_queue(problems);
        self.check_buckets(problems);
        self.check_names(problems);
        self.check_tls(problems, read);
    }

    fn check_queue(&self, problems: &mut Problems) {
        let SpanQueue { size, batch, .. } = self.span_queue;
        if let Err(fault) = at_most(SpanQueue::MOST, size) {
            fault.report("span_queue.size", problems);
        }
        if let Err(fault) = at_most(SpanQueue::MOST_BATCH, batch) {
            fault.report("span_queue.batch", problems);
        } else if batch > size && size > 0 {
            let message = format!("a batch of {batch} does not fit a queue of {size}");
            problems.report("span_queue.batch", message);
        }
    }

    fn check_buckets(&self, problems: &mut Problems) {
        let Histogram::Explicit { buckets: Some(buckets) } = &self.histogram else { return };
        if buckets.is_empty() {
            problems.report("histogram.buckets", "there is no bucket");
        } else if buckets.len() > Histogram::MOST_BOUNDS {
            let message = format!("must be at most {} bounds", Histogram::MOST_BOUNDS);
            problems
                .report("histogram.buckets", message)
                .focus(Focus::Key)
                .hint("every series is exported with all of them; `{type: exponential}` needs none");
        } else if let Some(n) = buckets.iter().position(|bound| !bound.is_finite()) {
            problems.report(&format!("histogram.buckets.{n}"), "a bound must be finite");
        } else if let Some(n) = buckets.iter().position(|bound| *bound <= 0.0) {
            problems
                .report(&format!("histogram.buckets.{n}"), "a bound must be above zero")
                .hint("seconds above zero: nothing takes less");
        } else if let Some(n) = buckets.windows(2).position(|pair| pair[0] >= pair[1]) {
            let message = format!("`{}` does not follow `{}` upwards", buckets[n + 1], buckets[n]);
            problems.report(&format!("histogram.buckets.{}", n + 1), message).hint("bounds ascend");
        }
    }

    fn check_names(&self, problems: &mut Problems) {
        for (name, value) in &self.headers {
            let Err(fault) = header(name, value.expose()) else { continue };
            let path = problems.base().key("headers").key(&**name);
            problems.push(Problem::new(path, fault.message)).focus(Focus::Key).hint_opt(fault.hint);
        }
        for (key, names) in
            [("trace_attributes", &self.trace_attributes), ("resource_attributes", &self.resource_attributes)]
        {
            if names.keys().any(String::is_empty) {
                problems.report(key, "the name of an attribute is empty");
            }
        }
        for name in self.trace_attributes.keys() {
            let Err(fault) = trace_attribute(name) else { continue };
            let path = problems.base().key("trace_attributes").key(&**name);
            problems.push(Problem::new(path, fault.message)).focus(Focus::Key).hint_opt(fault.hint);
        }
        if self.trace_attributes.len() > MOST_TRACE_ATTRIBUTES {
            let message = format!("must be at most {MOST_TRACE_ATTRIBUTES} attributes");
            problems
                .report("trace_attributes", message)
                .focus(Focus::Key)
                .hint("a span holds 32 in all, with those that its task adds");
        }
    }

    fn check_tls(&self, problems: &mut Problems, read: ReadFile<'_>) {
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
        for (key, file, content) in [
            ("tls.ca_file", &tls.ca_file, Pem::Roots),
            ("tls.cert_file", &tls.cert_file, Pem::Own),
            ("tls.key_file", &tls.key_file, Pem::Key),
        ] {
            let Some(Err(fault)) = file.as_deref().map(|file| content.check(file, read)) else { continue };
            fault.report(key, problems);
        }
        if let (Some(certificate), Some(key)) = (&tls.cert_file, &tls.key_file)
            && !pem::belong_together(certificate, key, read)
        {
            problems
                .report("tls.key_file", "the key is that of another certificate")
                .hint("`cert_file` and `key_file` belong together");
        }
        if let Some(name) = &tls.server_name
            && ServerName::try_from(name.as_str()).is_err()
        {
            problems
                .report("tls.server_name", format!("`{name}` is no name of a server"))
                .hint("a name or an address that the collector's certificate holds, such as `collector.example.com`");
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

/// Refuses what is no share of traces.
pub(crate) fn check_rate(key: &str, rate: f64, problems: &mut Problems) {
    if !(0.0..=1.0).contains(&rate) {
        problems.report(key, "must be between 0.0 and 1.0").hint("1.0 exports every trace, 0.1 one of ten");
    }
}

/// Refuses more spans than the memory of any machine is meant for.
pub(super) fn at_most(most: usize, count: usize) -> Result<(), Fault> {
    if count <= most {
        return Ok(());
    }
    Err(Fault::new(format!("must be at most {most}: spans that wait do so in memory")))
}

/// Refuses what cannot be metadata of a call. Never shows the value.
pub(super) fn header(name: &str, value: &str) -> Result<(), Fault> {
    // Names of HTTP/2 headers are lowercase; gRPC keeps some of them to itself.
    let is_name = !name.is_empty()
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
    if !is_name {
        return Err(Fault::new(format!("`{name}` is no name of a header"))
            .hint("lowercase letters, digits, `-`, `_` and `.`"));
    }
    if name.starts_with("grpc-") || matches!(name, "te" | "content-type") {
        return Err(Fault::new(format!("the header `{name}` belongs to gRPC"))
            .hint("`te`, `content-type` and names that start with `grpc-` are reserved"));
    }
    if name.ends_with("-bin") {
        return Err(Fault::new(format!("the header `{name}` is binary, by the rules of gRPC"))
            .hint("a name that does not end with `-bin` holds text"));
    }
    if !value.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Err(Fault::new(format!("the value of the header `{name}` is not printable ASCII"))
            .hint("remove line ends and other control characters"));
    }
    Ok(())
}

/// Refuses what cannot be the name of an attribute that a configuration adds to spans.
fn trace_attribute(name: &str) -> Result<(), Fault> {
    if name.chars().any(char::is_control) {
        let shown = name.escape_debug();
        return Err(Fault::new(format!("`{shown}` is no name of an attribute"))
            .hint("remove line ends and other control characters"));
    }
    if OWN_ATTRIBUTES.contains(&name) || name.starts_with(OWN_PREFIX) {
        let own = OWN_ATTRIBUTES.map(|name| format!("`{name}`")).join(", ");
        return Err(Fault::new(format!("the attribute `{name}` is one of flowgen's own"))
            .hint(format!("{own} and what starts with `{OWN_PREFIX}` are: choose another name")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::problem::KeyPath;

    fn told(change: impl FnOnce(&mut TelemetryConfig)) -> Vec<String> {
        let mut config = TelemetryConfig::default();
        change(&mut config);
        let mut problems = Problems::below(KeyPath::default());
        config.check(&mut problems, &|_| Err(std::io::ErrorKind::NotFound.into()));
        problems.into_vec().into_iter().map(|p| format!("{}: {}", p.path, p.message)).collect()
    }

    #[test]
    fn the_defaults_are_right() {
        assert_eq!(told(|_| {}), Vec::<String>::new());
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
            told(|c| c.timeout = Duration::from_secs(1 << 60)),
            ["timeout: must not be longer than a year"]
        );
        assert_eq!(
            told(|c| c.metrics_export_interval = Duration::ZERO),
            ["metrics_export_interval: must be longer than zero"]
        );
        assert_eq!(told(|c| c.keep_traces.limit = 0), ["keep_traces.limit: must be at least 1"]);
        assert_eq!(
            told(|c| c.span_queue.batch = 9000),
            ["span_queue.batch: a batch of 9000 does not fit a queue of 8192"]
        );
        assert_eq!(
            told(|c| c.span_queue.size = 100_000_001),
            ["span_queue.size: must be at most 100000000: spans that wait do so in memory"]
        );
        assert_eq!(
            told(|c| c.span_queue.batch = 1_000_000_000_000),
            ["span_queue.batch: must be at most 1000000: spans that wait do so in memory"]
        );
        let buckets =
            |buckets: Vec<f64>| told(|c| c.histogram = Histogram::Explicit { buckets: Some(buckets) });
        assert_eq!(buckets(vec![]), ["histogram.buckets: there is no bucket"]);
        assert_eq!(buckets(vec![1.0, 1.0]), ["histogram.buckets[1]: `1` does not follow `1` upwards"]);
        assert_eq!(buckets((1..=1000).map(f64::from).collect()), Vec::<String>::new());
        let many = (1..=1001).map(f64::from).collect();
        assert_eq!(buckets(many), ["histogram.buckets: must be at most 1000 bounds"]);
        for bound in [0.0, -0.0, -1.0] {
            assert_eq!(buckets(vec![bound, 1.0]), ["histogram.buckets[0]: a bound must be above zero"]);
        }
        assert_eq!(buckets(vec![1.0, f64::INFINITY]), ["histogram.buckets[1]: a bound must be finite"]);
        assert_eq!(
            told(|c| c.tls.cert_file = Some("c.pem".into())),
            ["tls.cert_file: a certificate without its key", "tls.cert_file: cannot read the file"]
        );
        assert_eq!(
            told(|c| c.tls.server_name = Some("not a name".into())),
            ["tls.server_name: `not a name` is no name of a server"]
        );
        assert_eq!(told(|c| c.tls.server_name = Some("10.0.0.7".into())), Vec::<String>::new());
        let header = |name: &str, value: &str| {
            told(|c| c.headers = [(name.to_owned(), value.to_owned().into())].into())
        };
        assert_eq!(header("X Key", "v"), ["headers.X Key: `X Key` is no name of a header"]);
        assert_eq!(header("grpc-x", "v").len() + header("x", "a\nb").len(), 2);
        assert_eq!(header("x-bin", "v").len() + header("content-type", "v").len(), 2);
        assert_eq!(header("x-api-key", "v").len(), 0);
    }

    #[test]
    fn refuses_attributes_that_spans_cannot_or_do_not_have_from_a_configuration() {
        let attribute = |name: &str| {
            told(|c| c.trace_attributes = [(name.to_owned(), "{{ event.id }}".to_owned())].into())
        };
        assert_eq!(attribute(""), ["trace_attributes: the name of an attribute is empty"]);
        assert_eq!(attribute("a\nb"), ["trace_attributes.a\\nb: `a\\nb` is no name of an attribute"]);
        for own in ["flow", "task", "task_id", "task_type", "outcome", "error.type", "flowgen.x"] {
            let message = format!("trace_attributes.{own}: the attribute `{own}` is one of flowgen's own");
            assert_eq!(attribute(own), [message]);
        }
        for free in ["order.id", "flows", "flowgen", "größe", "file.path"] {
            assert_eq!(attribute(free), Vec::<String>::new());
        }
        let many = |n: usize| {
            told(|c| c.trace_attributes = (0..n).map(|n| (n.to_string(), String::new())).collect())
        };
        assert_eq!(many(16), Vec::<String>::new());
        assert_eq!(many(17), ["trace_attributes: must be at most 16 attributes"]);
    }
}
