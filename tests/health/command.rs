//! `flowgen health`: what it asks, what it says, and how it ends.

use std::{net::TcpListener, path::Path, process::Output};

use rustix::process::Signal;

use super::{IDLE, start, until_ready};
use crate::support::{
    flowgen,
    http::{Reply, Server, response},
};

/// How the command ended, and what it said.
#[derive(Debug, PartialEq, Eq)]
struct Told {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

fn health_with(folder: &Path, arguments: &[&str], variables: &[(&str, &str)]) -> Told {
    let mut command = flowgen(folder);
    let Output { status, stdout, stderr } =
        command.arg("health").args(arguments).envs(variables.iter().copied()).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Told { code: status.code(), stdout: text(stdout), stderr: text(stderr) }
}

fn health(arguments: &[&str]) -> Told {
    health_with(Path::new("."), arguments, &[])
}

fn told(code: i32, stdout: &str) -> Told {
    Told { code: Some(code), stdout: stdout.into(), stderr: String::new() }
}

/// Scenario: the address stands on the command line, in a variable, in a file, and in more than one of them. Guarantee: the
/// first of these counts, and one of every interface is asked on this machine.
#[test]
fn a_worker_is_asked_where_the_first_that_says_so_says() {
    let (worker, address) = start(IDLE, &[]);
    until_ready(address);
    let (address, anywhere) = (address.to_string(), format!("0.0.0.0:{}", address.port()));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
    let folder = tempfile::tempdir().unwrap();
    // What else is wrong with a file is no matter of this command.
    let file = |name: &str, address: &str| {
        let text = format!(
            "health: {{enabled: true, address: '{address}'}}\nflow: {{tasks: [{{nothing: {{x: '${{NO}}'}}}}]}}\n"
        );
        std::fs::write(folder.path().join(name), text).unwrap();
    };
    file("right.yaml", &anywhere);
    file("wrong.yaml", &nobody);
    let variable = "FLOWGEN_HEALTH__ADDRESS";
    let ask =
        |arguments: &[&str], variables: &[(&str, &str)]| health_with(folder.path(), arguments, variables);
    assert_eq!(ask(&["--address", &address], &[(variable, &nobody)]), told(0, "ready\n"));
    assert_eq!(ask(&["--address", &anywhere, "wrong.yaml"], &[]), told(0, "ready\n"));
    assert_eq!(ask(&[], &[(variable, &address)]), told(0, "ready\n"));
    assert_eq!(ask(&["wrong.yaml"], &[(variable, &address)]), told(0, "ready\n"));
    assert_eq!(ask(&["right.yaml"], &[]), told(0, "ready\n"));
    assert_eq!(ask(&["--config", "right.yaml"], &[]), told(0, "ready\n"));
    assert_eq!(ask(&["--live", "right.yaml"], &[]), told(0, "live\n"));
    for arguments in [&["wrong.yaml"][..], &["--address", &nobody, "right.yaml"], &["--live", "wrong.yaml"]] {
        let refused = ask(arguments, &[]);
        assert_eq!((refused.code, refused.stderr.as_str()), (Some(1), ""), "{refused:?}");
        assert!(
            refused.stdout.contains(&format!("{nobody} cannot be asked: Connection refused")),
            "{refused:?}"
        );
    }
    worker.signal(Signal::TERM);
    assert_eq!(worker.ends_in_time().code, Some(0));
}

#[test]
fn a_worker_that_is_not_ready_is_told_of_in_its_own_words() {
    let server = Server::start(|_, request| match request.line.as_str() {
        "GET /health/live" => response("200 OK", "{}"),
        _ => response("503 No", r#"{"status": "fail", "output": "the worker is draining"}"#),
    });
    let address = server.address.to_string();
    assert_eq!(health(&["--address", &address]), told(1, "not ready: the worker is draining\n"));
    assert_eq!(health(&["--address", &address, "--live"]), told(0, "live\n"));
}

/// Scenario: what listens there answers never, without an end, or not in HTTP. Guarantee: the command ends with 1.
#[test]
fn what_does_not_answer_is_not_ready() {
    let hangs = Server::start(|_, _| Reply::Hang(Vec::new())).address;
    let drips =
        Server::start(|_, _| Reply::Drip(b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n".to_vec()))
            .address;
    for address in [hangs, drips] {
        let late = format!("not ready: {address} does not answer within 5 s\n");
        assert_eq!(health(&["--address", &address.to_string()]), told(1, &late));
    }
    let huge = Server::start(|_, _| response("200 OK", "x".repeat(1 << 20))).address;
    let other = Server::start(|_, _| Reply::Close(b"SSH-2.0-nothing\r\n".to_vec())).address;
    for address in [huge, other] {
        let asked = health(&["--address", &address.to_string()]);
        assert_eq!(asked.code, Some(1), "{asked:?}");
        assert!(asked.stdout.starts_with(&format!("not ready: {address} cannot be asked: ")), "{asked:?}");
        assert_eq!(asked.stdout.lines().count(), 1, "{asked:?}");
    }
}

#[test]
fn an_address_that_is_none_ends_with_2() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("flow.yaml"), format!("health: {{address: 'here'}}\n{IDLE}")).unwrap();
    let ask =
        |arguments: &[&str], variables: &[(&str, &str)]| health_with(folder.path(), arguments, variables);
    for (refused, said) in [
        (ask(&["--address", "here"], &[]), "--address"),
        (ask(&["flow.yaml"], &[]), "flow.yaml:1:19 (health.address)"),
        (ask(&["gone.yaml"], &[]), "cannot read the file"),
        (
            ask(&[], &[("FLOWGEN_HEALTH__ADDRESS", "here")]),
            "the variable FLOWGEN_HEALTH__ADDRESS (health.address)",
        ),
    ] {
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{refused:?}");
        assert!(refused.stderr.contains(said), "{said}: {}", refused.stderr);
    }
}
