//! Everything that can be on the way to a collector instead of a collector.

use std::{
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    process::Stdio,
    time::Duration,
};

use rustix::process::{Pid, Signal as Kill, kill_process};
use tonic::Code;

use super::{HEALTHY, Patient};
use crate::support::{
    collector::{Answer, Call, Collector, Signal},
    http::{Server, response},
};

/// Short steps, for servers that never answer.
const SHORT: &str = ", timeout: 300ms";

fn address_of_nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

fn patient_of(address: SocketAddr) -> Patient {
    Patient::exporting_to(&format!("http://{address}"), SHORT)
}

#[test]
fn a_port_on_which_nobody_listens() {
    let address = address_of_nobody();
    let patient = patient_of(address);
    let told = patient.examine(&[]);
    assert_eq!((told.code, told.stderr.as_str()), (Some(1), ""));
    let told = told.endpoints();
    let start = format!(
        "\
http://{address} (traces, metrics):
  dns               ok N ms  127.0.0.1
  tcp               FAILED N ms  {address}: connection refused
    hint: "
    );
    assert!(told.starts_with(&start), "{told}");
    let end = "\n\nFAILED: not everything arrives; the hints above say what to do\n";
    assert!(told.ends_with(end), "{told}");
    assert_eq!(patient.steps(), ["dns ok", "tcp refused"]);
}

#[test]
fn localhost_inside_a_container() {
    let (_, hint) = patient_of(address_of_nobody()).with("KUBERNETES_SERVICE_HOST", "10.0.0.1").failure();
    assert!(hint.starts_with("127.0.0.1 is this container itself: set `otlp_endpoint` to "), "{hint}");
}

#[test]
fn a_name_that_nobody_has() {
    let patient = Patient::exporting_to("http://nonexistent.invalid:4317", "");
    assert_eq!(patient.steps(), ["dns unknown_name"]);
    let (_, hint) = patient.failure();
    assert!(hint.starts_with("check the name `nonexistent.invalid` in `otlp_endpoint`"), "{hint}");
}

/// Scenario: the queue of connections is full, so that the kernel drops every further one.
#[test]
fn a_black_hole_that_does_not_even_connect() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let listener = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(([127, 0, 0, 1], 0).into()).unwrap();
        socket.listen(1).unwrap()
    });
    let address = listener.local_addr().unwrap();
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(100)) {
        waiting.push(stream);
    }
    let patient = patient_of(address);
    assert_eq!(patient.steps(), ["dns ok", "tcp timeout"]);
    let (detail, hint) = patient.failure();
    assert_eq!(detail, "no answer within 300ms");
    assert!(hint.starts_with("something swallows what is sent: look at firewalls"), "{hint}");
}

#[test]
fn a_black_hole_that_connects_and_says_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    assert_eq!(patient_of(address).steps(), ["dns ok", "tcp ok", "http2 timeout"]);
    let encrypted = Patient::exporting_to(&format!("https://{address}"), SHORT);
    assert_eq!(encrypted.steps(), ["dns ok", "tcp ok", "tls timeout"]);
}

#[test]
fn a_server_that_hangs_up() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    assert_eq!(patient_of(address).steps(), ["dns ok", "tcp ok", "http2 hung_up"]);
    let encrypted = Patient::exporting_to(&format!("https://{address}"), SHORT);
    assert_eq!(encrypted.steps(), ["dns ok", "tcp ok", "tls hung_up"]);
}

#[test]
fn a_server_that_speaks_http_1() {
    let server = Server::start(|_, _| response("404 Not Found", ""));
    let patient = patient_of(server.address);
    assert_eq!(patient.steps(), ["dns ok", "tcp ok", "http2 http1"]);
    let (detail, hint) = patient.failure();
    assert_eq!(detail, "the server answered `HTTP/1.1 404 Not Found`");
    assert!(hint.contains("mostly on port 4317 (4318 is OTLP/HTTP)"), "{hint}");
}

#[test]
fn a_server_that_speaks_http_2_and_not_grpc() {
    // A server of gRPC without any service says that of every path.
    let collector = Collector::scripted(|_| Answer::Refuse(Code::Unimplemented));
    let patient = Patient::exporting_to(&collector.endpoint(), "");
    assert_eq!(
        patient.steps(),
        ["dns ok", "tcp ok", "http2 ok", "grpc traces unimplemented", "grpc metrics unimplemented"]
    );
}

#[test]
fn a_collector_that_wants_credentials() {
    for (code, error) in
        [(Code::Unauthenticated, "unauthenticated"), (Code::PermissionDenied, "permission_denied")]
    {
        let collector = Collector::scripted(move |_| Answer::Refuse(code));
        let auth = |signal| format!("auth {signal} {error}");
        assert_eq!(
            Patient::exporting_to(&collector.endpoint(), "").steps(),
            [
                "dns ok",
                "tcp ok",
                "http2 ok",
                "grpc traces ok",
                &auth("traces"),
                "grpc metrics ok",
                &auth("metrics")
            ]
        );
    }
    let collector = Collector::scripted(|_| Answer::Refuse(Code::Unauthenticated));
    let hint = |more: &str| {
        let patient = Patient::exporting_to(&collector.endpoint(), more);
        patient.with("OTEL_METRICS_EXPORTER", "none").failure().1
    };
    assert!(hint("").starts_with("the collector wants credentials: set them in `headers`"));
    let told = hint(", headers: {x-api-key: c4n4ry}");
    assert_eq!(
        told,
        "the collector does not accept the value of the header `x-api-key`: check it in `headers`"
    );
}

/// Answers the calls that carry something, and takes those that carry nothing.
fn to_probes(answer: Answer) -> impl FnMut(&Call) -> Answer + Send {
    move |call| if call.number == 0 { Answer::Accept } else { answer }
}

#[test]
fn a_collector_that_rejects_what_it_takes() {
    let collector = Collector::scripted(to_probes(Answer::RejectSome(1)));
    let patient = Patient::exporting_to(&collector.endpoint(), "");
    let mut expected = HEALTHY;
    (expected[5], expected[8]) = ("span traces rejected", "metric metrics rejected");
    assert_eq!(patient.steps(), expected);
    let told = Patient::exporting_to(&collector.endpoint(), "").examine(&[]);
    assert!(!told.stdout.contains("\nlook for"), "{}", told.stdout);
}

#[test]
fn a_collector_that_refuses_a_request_of_nothing_may_take_more() {
    let collector = Collector::scripted(|call| match call.number {
        0 => Answer::Refuse(Code::InvalidArgument),
        _ => Answer::Accept,
    });
    assert_eq!(Patient::exporting_to(&collector.endpoint(), "").steps(), HEALTHY);
}

#[test]
fn a_collector_that_refuses_what_it_is_sent() {
    let collector = Collector::scripted(to_probes(Answer::Refuse(Code::ResourceExhausted)));
    let patient = Patient::exporting_to(&collector.endpoint(), "").with("OTEL_TRACES_EXPORTER", "none");
    let (detail, hint) = patient.failure();
    assert_eq!(detail, "RESOURCE_EXHAUSTED: as the test wants it");
    assert!(hint.starts_with("a limit of the collector or of its backend is reached"), "{hint}");
}

#[test]
fn a_collector_that_never_answers_holds_nobody_up() {
    let collector = Collector::scripted(|call| match call.signal {
        Signal::Traces => Answer::Never,
        Signal::Metrics => Answer::Accept,
    });
    let patient = Patient::exporting_to(&collector.endpoint(), SHORT);
    let mut expected = HEALTHY[..4].to_vec();
    expected[3] = "grpc traces timeout";
    expected.extend(&HEALTHY[6..]);
    assert_eq!(patient.steps(), expected);
}

#[test]
fn a_signal_ends_it_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    for (signal, code) in [(Kill::INT, 130), (Kill::TERM, 143)] {
        let patient = Patient::exporting_to(&endpoint, ", timeout: 1h");
        let mut child = patient.command(&[]).stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        assert!(lines.any(|line| line.starts_with("  tcp ")), "it did not get that far");
        kill_process(Pid::from_child(&child), signal).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(code));
    }
}
