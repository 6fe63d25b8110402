//! What to do about a step that failed, in one sentence.

use std::path::Path;

use crate::{
    config::Environment,
    telemetry::{
        Signal,
        export::probe::{FailureKind, Target},
    },
};

/// The files that tell a process that it runs in a container: of Docker, of Podman.
const CONTAINER_FILES: [&str; 2] = ["/.dockerenv", "/run/.containerenv"];
/// The variable that Kubernetes sets in every container.
const KUBERNETES: &str = "KUBERNETES_SERVICE_HOST";

/// Where this process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// A container of Kubernetes.
    Kubernetes,
    /// Another container.
    Container,
    /// Anywhere else.
    Machine,
}

impl Place {
    /// Finds out where this process runs.
    pub(super) fn find(environment: &dyn Environment) -> Self {
        if environment.variable(KUBERNETES).is_some_and(|host| !host.is_empty()) {
            Self::Kubernetes
        } else if CONTAINER_FILES.iter().any(|file| environment.read(Path::new(file)).is_ok()) {
            Self::Container
        } else {
            Self::Machine
        }
    }
}

/// What a step was taken with.
#[derive(Clone, Debug)]
pub(super) struct Situation<'a> {
    pub(super) target: &'a Target,
    pub(super) place: Place,
    /// The signal of the step, if it is one of a signal.
    pub(super) signal: Option<Signal>,
    /// The names of the headers of its calls.
    pub(super) headers: Vec<&'a String>,
}

/// Says what to do about a failure.
pub(super) fn advice(kind: FailureKind, situation: &Situation<'_>) -> String {
    let Situation { target, .. } = situation;
    match kind {
        FailureKind::UnknownName => unknown_name(situation),
        FailureKind::Refused => refused(situation),
        FailureKind::Unreachable => {
            "there is no way to that network: look at its routes, and whether the address is right".into()
        }
        FailureKind::TimedOut => timed_out(situation),
        FailureKind::HungUp => format!(
            "look at the log of the server: it ends the connection, so that port {} may be another program's, or \
             a proxy before a collector that is down",
            target.port()
        ),
        FailureKind::NoTls => {
            format!("the server speaks plain text: set `otlp_endpoint` to `{}`", target.with_other_scheme())
        }
        FailureKind::OnlyTls => {
            format!("the server speaks TLS: set `otlp_endpoint` to `{}`", target.with_other_scheme())
        }
        FailureKind::UnknownIssuer => unknown_issuer(target),
        FailureKind::WrongName => {
            "set `tls.server_name` to a name of the certificate, or `otlp_endpoint` to a host \
             that is one of them"
                .into()
        }
        FailureKind::OutOfDate => {
            "renew the certificate of the collector, or set the clock of this machine if that is wrong".into()
        }
        FailureKind::ClientCertificate => client_certificate(target),
        FailureKind::Tls => {
            "the server has to speak TLS 1.2 or 1.3, with a certificate that was issued for a server".into()
        }
        FailureKind::Http1 => other_protocol(target, "HTTP/1"),
        FailureKind::NotHttp2 => other_protocol(target, "another protocol"),
        FailureKind::Status(code) => status(code, situation),
        FailureKind::Rejected => {
            "the reason above is the collector's own, and its log may say more: look for what \
             its processors and its storage accept"
                .into()
        }
    }
}

fn unknown_name(situation: &Situation<'_>) -> String {
    let host = situation.target.host();
    match situation.place {
        Place::Machine => format!("check the name `{host}` in `otlp_endpoint`, and the DNS of this machine"),
        Place::Container => format!(
            "check the name `{host}` in `otlp_endpoint`: inside a container, only names of services in the same \
             network and public names are known"
        ),
        Place::Kubernetes => format!(
            "check the name `{host}` in `otlp_endpoint`: a service of another namespace is \
             `<service>.<namespace>.svc`"
        ),
    }
}

fn refused(situation: &Situation<'_>) -> String {
    let (host, port) = (situation.target.host(), situation.target.port());
    if !situation.target.is_loopback() {
        return format!(
            "nothing listens on port {port} of `{host}`: start the collector there, and let its `otlp` receiver \
             listen on `0.0.0.0:{port}` and not only on its own localhost"
        );
    }
    match situation.place {
        Place::Machine => {
            format!(
                "nothing listens on port {port} of this machine: start the collector, or set `otlp_endpoint`"
            )
        }
        Place::Container => format!(
            "{host} is this container itself: set `otlp_endpoint` to the collector's service, such as \
             `http://otel-collector:{port}`, or to `http://host.docker.internal:{port}` for one on the host"
        ),
        Place::Kubernetes => format!(
            "{host} is this container itself: set `otlp_endpoint` to the collector's service, such as \
             `http://otel-collector.<namespace>.svc:{port}`, or to the address of the node for one on each node"
        ),
    }
}

fn timed_out(situation: &Situation<'_>) -> String {
    let port = situation.target.port();
    match situation.signal {
        Some(_) => "the connection stands but the call is not answered: the collector is overloaded, what it exports \
             to does not answer, or `timeout` is too short"
            .into(),
        None => format!(
            "something swallows what is sent: look at firewalls, security groups and network policies on the way, \
             and whether it is the collector that owns port {port} of this address"
        ),
    }
}

fn unknown_issuer(target: &Target) -> String {
    match &target.tls().ca_file {
        None => "set `tls.ca_file` to the certificate of the authority that issued it, in PEM form; now the public \
             authorities and those of this machine are trusted"
            .into(),
        Some(file) => format!(
            "add the certificate of the authority that issued it to `{}` (`tls.ca_file`), which holds another one",
            file.display()
        ),
    }
}

fn client_certificate(target: &Target) -> String {
    match &target.tls().cert_file {
        None => {
            "the server wants a certificate of its clients: set `tls.cert_file` and `tls.key_file`".into()
        }
        Some(file) => format!(
            "the server does not accept the certificate in `{}` (`tls.cert_file`): it has to be issued by an \
             authority that the server trusts, and be in date",
            file.display()
        ),
    }
}

fn other_protocol(target: &Target, protocol: &str) -> String {
    format!(
        "port {} speaks {protocol}, and OTLP/gRPC needs HTTP/2: it is mostly on port 4317 (4318 is OTLP/HTTP), and \
         a proxy before it has to pass HTTP/2 on",
        target.port()
    )
}

fn status(code: &str, situation: &Situation<'_>) -> String {
    let signal = situation.signal.map_or("telemetry", Signal::name);
    match code {
        "unimplemented" => format!(
            "this is no receiver of OTLP, or it takes no {signal}: add the `otlp` receiver to a pipeline of {signal} \
             in the collector's configuration"
        ),
        "unauthenticated" => unauthenticated(situation),
        "permission_denied" => {
            format!("the credentials in `headers` are known but may not write {signal}: get them that right")
        }
        "resource_exhausted" => {
            "a limit of the collector or of its backend is reached: look at its quota and its memory".into()
        }
        "unavailable" => {
            "the collector, or what a proxy sends to, is not ready: look at its log, and try again".into()
        }
        "deadline_exceeded" => {
            "the collector was too slow: look at its load and at what it exports to".into()
        }
        "protocol" => {
            "the server breaks the protocol of gRPC: look for a proxy that changes its answers".into()
        }
        _ => "the reason above is the server's own, and its log may say more".into(),
    }
}

fn unauthenticated(situation: &Situation<'_>) -> String {
    let names: Vec<_> = situation.headers.iter().map(|name| format!("`{name}`")).collect();
    match names.as_slice() {
        [] => "the collector wants credentials: set them in `headers`, such as \
             `headers: {authorization: \"Bearer ${TOKEN}\"}`"
            .into(),
        [name] => {
            format!("the collector does not accept the value of the header {name}: check it in `headers`")
        }
        names => format!(
            "the collector does not accept the values of the headers {}: check them in `headers`",
            names.join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    /// A machine with some variables and some files.
    struct Fixed(&'static [&'static str], &'static [&'static str]);

    impl Environment for Fixed {
        fn variable(&self, name: &str) -> Option<String> {
            self.0.contains(&name).then(|| "10.0.0.1".into())
        }

        fn variables(&self) -> Vec<(String, String)> {
            Vec::new()
        }

        fn read(&self, path: &Path) -> io::Result<String> {
            let is_there = self.1.iter().any(|file| Path::new(file) == path);
            is_there.then(String::new).ok_or_else(|| io::ErrorKind::NotFound.into())
        }
    }

    #[test]
    fn a_container_is_known_by_its_marks() {
        for (environment, place) in [
            (Fixed(&[], &[]), Place::Machine),
            (Fixed(&[], &["/.dockerenv"]), Place::Container),
            (Fixed(&[], &["/run/.containerenv"]), Place::Container),
            (Fixed(&["KUBERNETES_SERVICE_HOST"], &["/run/.containerenv"]), Place::Kubernetes),
        ] {
            assert_eq!(Place::find(&environment), place);
        }
    }

    fn told(place: Place, endpoint: &str, kind: FailureKind) -> String {
        let settings = crate::telemetry::Settings::default();
        let export = crate::telemetry::Export {
            endpoint: endpoint.into(),
            ..settings.traces.expect("traces are exported by default")
        };
        let target = Target::new(&export).unwrap();
        advice(kind, &Situation { target: &target, place, signal: None, headers: Vec::new() })
    }

    #[test]
    fn localhost_in_a_container_is_the_container_itself() {
        let refused = |place, endpoint| told(place, endpoint, FailureKind::Refused);
        for endpoint in ["http://localhost:4317", "http://127.0.0.1:4317", "http://[::1]:4317"] {
            for place in [Place::Container, Place::Kubernetes] {
                let told = refused(place, endpoint);
                assert!(told.contains(" is this container itself: "), "{told}");
            }
            let told = refused(Place::Machine, endpoint);
            assert!(told.starts_with("nothing listens on port 4317 of this machine"), "{told}");
        }
        let told = refused(Place::Container, "http://otel-collector:4317");
        assert!(told.contains("`0.0.0.0:4317`"), "{told}");
    }

    #[test]
    fn the_other_scheme_keeps_host_and_port() {
        let told = |endpoint, kind| told(Place::Machine, endpoint, kind);
        assert!(told("https://[::1]:4317", FailureKind::NoTls).ends_with("`http://[::1]:4317`"));
        assert!(told("http://collector", FailureKind::OnlyTls).ends_with("`https://collector:80`"));
    }
}
