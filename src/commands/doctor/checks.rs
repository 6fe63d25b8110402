//! The steps to an endpoint, in their order. The first one that fails ends them, or, once the connection
//! stands, those of its signal.

use std::{future::Future, io, net::SocketAddr, time::Duration};

use bytes::Bytes;
use tokio::{
    net::TcpStream,
    time::{Instant, timeout},
};

use super::advice::{self, Place, Situation};
use crate::telemetry::{
    Export, Settings, Signal,
    export::{
        Accepted, Client, ExportError, StartError,
        probe::{self, Failure, FailureKind, Probes, Target},
    },
};

/// The longest that a step may take, whatever `timeout` says.
const LONGEST: Duration = Duration::from_secs(10);

/// Where signals go over connections of one kind.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) target: Target,
    /// As people may see it.
    pub(super) name: String,
    pub(super) exports: Vec<Exported>,
}

/// A signal that goes there.
#[derive(Debug)]
pub(super) struct Exported {
    pub(super) signal: Signal,
    /// With a timeout that is that of a step.
    export: Export,
    client: Client,
}

/// A step that was taken.
#[derive(Debug)]
pub(super) struct Step {
    pub(super) name: &'static str,
    /// The signal that it was for, if it was for one.
    pub(super) signal: Option<Signal>,
    pub(super) took: Duration,
    /// What was found, or why it failed and what to do.
    pub(super) result: Result<String, (Failure, String)>,
}

impl Step {
    pub(super) fn is_ok(&self) -> bool {
        self.result.is_ok()
    }
}

/// Returns where the signals go, each endpoint once.
pub(super) fn endpoints(settings: &Settings) -> Result<Vec<Endpoint>, StartError> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    if !settings.enabled {
        return Ok(endpoints);
    }
    for (signal, export) in [(Signal::Traces, &settings.traces), (Signal::Metrics, &settings.metrics)] {
        let Some(export) = export else { continue };
        let export = Export { timeout: export.timeout.min(LONGEST), ..export.clone() };
        let refused = |source| StartError::Client { signal: signal.name(), source };
        // It is asked after the greeting, which no one gets whose certificate is refused.
        let client = Client::new(signal, &export).map_err(refused)?.known();
        let target = Target::new(&export).map_err(refused)?;
        let name = client.endpoint().to_owned();
        let exported = Exported { signal, export, client };
        match endpoints.iter_mut().find(|known| known.target == target) {
            Some(known) => known.exports.push(exported),
            None => endpoints.push(Endpoint { target, name, exports: vec![exported] }),
        }
    }
    Ok(endpoints)
}

/// Takes the steps to an endpoint, and tells each one. Returns whether it took the probe span.
pub(super) async fn run(
    endpoint: &Endpoint,
    probes: &Probes,
    place: Place,
    tell: &mut dyn FnMut(Step) -> io::Result<()>,
) -> io::Result<bool> {
    let mut checks = Checks { endpoint, place, tell };
    if !checks.connection().await? {
        return Ok(false);
    }
    let mut is_traced = false;
    for exported in &endpoint.exports {
        let is_taken = checks.signal(exported, probes.body(exported.signal)).await?;
        is_traced |= is_taken && exported.signal == Signal::Traces;
    }
    Ok(is_traced)
}

/// What became of something, and how long it took.
struct Timed<T> {
    result: Result<T, Failure>,
    took: Duration,
}

async fn timed<T>(limit: Duration, work: impl Future<Output = Result<T, Failure>>) -> Timed<T> {
    let began = Instant::now();
    let result = timeout(limit, work).await.unwrap_or_else(|_| {
        let limit = humantime::format_duration(limit);
        Err(Failure::new(FailureKind::TimedOut, format!("no answer within {limit}")))
    });
    Timed { result, took: began.elapsed() }
}

/// The steps on their way.
struct Checks<'a> {
    endpoint: &'a Endpoint,
    place: Place,
    tell: &'a mut dyn FnMut(Step) -> io::Result<()>,
}

impl Checks<'_> {
    fn limit(&self) -> Duration {
        self.endpoint.exports.iter().map(|exported| exported.export.timeout).max().unwrap_or(LONGEST)
    }

    /// Tells a step. Returns whether it succeeded.
    fn tell(
        &mut self,
        name: &'static str,
        exported: Option<&Exported>,
        took: Duration,
        result: Result<String, Failure>,
    ) -> io::Result<bool> {
        let situation = Situation {
            target: &self.endpoint.target,
            place: self.place,
            signal: exported.map(|exported| exported.signal),
            headers: exported.into_iter().flat_map(|it| it.export.headers.keys()).collect(),
        };
        let result = result.map_err(|failure| {
            let advice = advice::advice(failure.kind, &situation);
            (failure, advice)
        });
        let is_ok = result.is_ok();
        (self.tell)(Step { name, signal: situation.signal, took, result })?;
        Ok(is_ok)
    }

    /// Takes the steps up to a connection over which HTTP/2 is spoken.
    async fn connection(&mut self) -> io::Result<bool> {
        let target = &self.endpoint.target;
        let Timed { result, took } = timed(self.limit(), target.resolve()).await;
        let addresses = result.as_ref().map_or_else(|_| Vec::new(), Vec::clone);
        if !self.tell("dns", None, took, result.map(|found| addresses_found(&found)))? {
            return Ok(false);
        }
        let Timed { result, took } = timed(self.limit(), probe::connect(&addresses)).await;
        match result {
            Err(failure) => self.tell("tcp", None, took, Err(failure)),
            Ok(reached) => {
                let connected = [format!("connected to {}", reached.address)];
                let told = connected.into_iter().chain(reached.failed).collect::<Vec<_>>().join("; ");
                self.tell("tcp", None, took, Ok(told))?;
                if target.is_tls() {
                    self.encrypted(reached.stream, reached.address).await
                } else {
                    let greeted = timed(self.limit(), probe::greet(reached.stream)).await;
                    self.greeted(greeted, reached.address).await
                }
            }
        }
    }

    async fn encrypted(&mut self, stream: TcpStream, address: SocketAddr) -> io::Result<bool> {
        let Timed { result, took } = timed(self.limit(), self.endpoint.target.handshake(stream)).await;
        let secured = match result {
            Ok(secured) => secured,
            Err(failure) => {
                let failure = self.refined(failure, address).await;
                return self.tell("tls", None, took, Err(failure));
            }
        };
        let speaks_http2 = secured.has_agreed_on_http2();
        let mut greeted = timed(self.limit(), probe::greet(secured.stream)).await;
        // In TLS 1.3 the server looks at the client's certificate when the client is done already.
        if let Err(failure) = greeted.result.as_ref()
            && failure.kind.is_of_tls()
        {
            return self.tell("tls", None, took, Err(failure.clone()));
        }
        self.tell("tls", None, took, Ok(secured.summary))?;
        if greeted.result.is_ok() && !speaks_http2 {
            let cause = "the server did not agree on HTTP/2 in the TLS handshake (ALPN)";
            greeted.result = Err(Failure::new(FailureKind::NotHttp2, cause));
        }
        self.greeted(greeted, address).await
    }

    async fn greeted(&mut self, greeted: Timed<()>, address: SocketAddr) -> io::Result<bool> {
        let result = match greeted.result {
            Ok(()) => Ok("the server speaks HTTP/2".into()),
            Err(failure) => Err(self.refined(failure, address).await),
        };
        self.tell("http2", None, greeted.took, result)
    }

    /// Finds out whether a server that hung up would have liked the other scheme better.
    async fn refined(&self, failure: Failure, address: SocketAddr) -> Failure {
        let target = &self.endpoint.target;
        if failure.kind != FailureKind::HungUp {
            return failure;
        }
        let tried = timed(self.limit(), async { Ok(target.fits_other_scheme(address).await) }).await;
        match tried.result {
            Ok(true) if target.is_tls() => Failure { kind: FailureKind::NoTls, ..failure },
            Ok(true) => Failure { kind: FailureKind::OnlyTls, ..failure },
            _ => failure,
        }
    }

    /// Takes the steps of a signal. Returns whether all succeeded.
    async fn signal(&mut self, exported: &Exported, probe: Bytes) -> io::Result<bool> {
        let began = Instant::now();
        // A request of nothing is answered like any other, and shows two things at once.
        let empty = exported.client.export(Bytes::new()).await;
        let took = began.elapsed();
        let (grpc, auth) = answers(exported, empty);
        if !self.tell("grpc", Some(exported), took, grpc)?
            || !self.tell("auth", Some(exported), Duration::ZERO, auth)?
        {
            return Ok(false);
        }
        let (name, what) = match exported.signal {
            Signal::Traces => ("span", "the probe span was taken"),
            Signal::Metrics => ("metric", "the probe metric was taken"),
        };
        let began = Instant::now();
        let result = match exported.client.export(probe).await {
            Ok(Accepted { rejected: 0, message }) if message.is_empty() => Ok(what.to_owned()),
            Ok(Accepted { rejected: 0, message }) => Ok(format!("{what}, with the warning: {message}")),
            Ok(Accepted { message, .. }) => {
                let message = if message.is_empty() { "it does not say why".into() } else { message };
                let cause = format!("the collector took the call and rejected what it carried: {message}");
                Err(Failure::new(FailureKind::Rejected, cause))
            }
            Err(error) => Err(Failure::from(&error)),
        };
        self.tell(name, Some(exported), began.elapsed(), result)
    }
}

fn addresses_found(addresses: &[SocketAddr]) -> String {
    let addresses: Vec<_> = addresses.iter().map(|address| address.ip().to_string()).collect();
    addresses.join(", ")
}

/// Tells from the answer to a request of nothing whether the service is there, and whether it lets us in.
fn answers(
    exported: &Exported,
    answer: Result<Accepted, ExportError>,
) -> (Result<String, Failure>, Result<String, Failure>) {
    let signal = exported.signal.name();
    let there = format!("the service that takes {signal} answers");
    let Err(error) = answer else { return (Ok(there), Ok(let_in(exported))) };
    let failure = Failure::from(&error);
    match failure.kind {
        FailureKind::Status("unauthenticated" | "permission_denied") => (Ok(there), Err(failure)),
        // It is no fault to refuse a request of nothing, for whoever looks into it.
        FailureKind::Status("invalid_argument") => (Ok(there), Ok(let_in(exported))),
        _ => (Err(failure.clone()), Err(failure)),
    }
}

fn let_in(exported: &Exported) -> String {
    let names: Vec<_> = exported.export.headers.keys().map(String::as_str).collect();
    match names.as_slice() {
        [] => "no headers are set, and none were asked for".into(),
        names => format!("not refused with the headers {}", names.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(timeout: Duration) -> Settings {
        let mut settings = Settings { enabled: true, ..Settings::default() };
        for export in [&mut settings.traces, &mut settings.metrics] {
            export.as_mut().expect("both are exported by default").timeout = timeout;
        }
        settings
    }

    #[test]
    fn a_step_takes_as_long_as_a_call_may_but_never_longer_than_a_person_waits() {
        for (timeout, limit) in [(3, 3), (3600, 10)] {
            let endpoints = endpoints(&settings(Duration::from_secs(timeout))).unwrap();
            let limits: Vec<_> = endpoints[0].exports.iter().map(|it| it.export.timeout.as_secs()).collect();
            assert_eq!(limits, [limit, limit]);
        }
    }

    #[test]
    fn signals_share_an_endpoint_only_if_they_share_its_certificates() {
        let mut settings = settings(LONGEST);
        assert_eq!(endpoints(&settings).unwrap().len(), 1);
        if let Some(metrics) = &mut settings.metrics {
            metrics.tls.server_name = Some("other.test".into());
        }
        assert_eq!(endpoints(&settings).unwrap().len(), 2);
        settings.enabled = false;
        assert_eq!(endpoints(&settings).unwrap().len(), 0);
    }
}
