//! `flowgen health`: asks a worker how it is, in one line and an exit code.

use std::{
    error::Error,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use http_body_util::{BodyExt, Limited};
use hyper::{Request, StatusCode, client::conn::http1, header::HOST};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpStream, runtime::Builder, task::JoinSet, time::timeout};

use super::{NOT_STARTED, print};
use crate::{
    config::{self, ProcessEnvironment},
    report,
    services::health::{LIVE, READY},
    telemetry::error_chain,
};

/// The exit code of a worker that is not ready, or does not answer.
const NOT_READY: u8 = 1;

/// How long the answer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most bytes of an answer that are read, and the most characters of it that are shown.
const MOST_BYTES: usize = 64 << 10;
const MOST_SHOWN: usize = 500;

/// Asks the worker at `address`, or where these files or the environment say that it is asked, or else at the default.
pub(crate) fn execute(
    paths: &[PathBuf],
    worker_config: Option<&Path>,
    address: Option<SocketAddr>,
    is_live: bool,
) -> ExitCode {
    let found = address.map_or_else(|| config::health_address(paths, worker_config, &ProcessEnvironment), Ok);
    let address = match found {
        Ok(address) => reachable(address),
        Err(problems) => {
            report::problems(&problems);
            return ExitCode::from(NOT_STARTED);
        }
    };
    // Of its own thread only: nothing here needs a second one.
    let runtime = match Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            report::failure(&error);
            return ExitCode::from(NOT_READY);
        }
    };
    let (path, is) = if is_live { (LIVE, "live") } else { (READY, "ready") };
    let asked = runtime.block_on(async { timeout(PATIENCE, ask(address, path)).await });
    let fault = match asked {
        Ok(Ok((status, _))) if status.is_success() => None,
        Ok(Ok((status, body))) => Some(fault(address, status, &body)),
        Ok(Err(error)) => Some(format!("{address} cannot be asked: {}", error_chain(&*error))),
        Err(_) => Some(format!("{address} does not answer within {} s", PATIENCE.as_secs())),
    };
    match fault {
        None => print(&format!("{is}\n")),
        Some(fault) => {
            // It failed already.
            let _ = print(&format!("not {is}: {}\n", one_line(&fault)));
            ExitCode::from(NOT_READY)
        }
    }
}

/// Returns where a server is reached that listens at this address: on every interface is also on this machine's own.
pub(super) fn reachable(mut address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    address
}

async fn ask(address: SocketAddr, path: &str) -> Result<(StatusCode, Vec<u8>), Box<dyn Error + Send + Sync>> {
    let stream = TcpStream::connect(address).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    // Gone with the answer, whatever the other side does.
    let mut connections = JoinSet::new();
    connections.spawn(connection);
    let request = Request::get(path).header(HOST, address.to_string()).body(String::new())?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = Limited::new(response.into_body(), MOST_BYTES).collect().await?;
    Ok((status, body.to_bytes().to_vec()))
}

/// Says what is wrong by an answer that is no success: what it says itself, or else its status.
fn fault(address: SocketAddr, status: StatusCode, body: &[u8]) -> String {
    let body: Option<Value> = serde_json::from_slice(body).ok();
    let output = body.as_ref().and_then(|body| body.get("output")?.as_str());
    output.map_or_else(|| format!("{address} answers {}", status.as_u16()), str::to_owned)
}

/// Returns the beginning of a text, on one line.
fn one_line(text: &str) -> String {
    let shown = text.chars().take(MOST_SHOWN);
    shown.map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_worker_that_listens_on_every_interface_is_asked_on_this_machine() {
        for (listening, asked) in [
            ("0.0.0.0:8081", "127.0.0.1:8081"),
            ("[::]:8081", "[::1]:8081"),
            ("10.0.0.7:80", "10.0.0.7:80"),
            ("127.0.0.1:8081", "127.0.0.1:8081"),
        ] {
            assert_eq!(reachable(listening.parse().unwrap()).to_string(), asked);
        }
    }

    #[test]
    fn a_fault_is_what_the_answer_says_or_its_status_in_one_line() {
        let address = "127.0.0.1:1".parse().unwrap();
        let told = |body: &[u8]| one_line(&fault(address, StatusCode::SERVICE_UNAVAILABLE, body));
        assert_eq!(
            told(br#"{"output": "the worker\nis \u001b[31mdraining"}"#),
            "the worker is  [31mdraining"
        );
        assert_eq!(told(b"<html>"), "127.0.0.1:1 answers 503");
        assert_eq!(told(br#"{"output": 7}"#), "127.0.0.1:1 answers 503");
        assert_eq!(one_line(&"x".repeat(10_000)).len(), MOST_SHOWN);
    }
}
