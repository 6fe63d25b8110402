//! What it costs to answer a request by a flow, beside a bare handler of axum that does the same: it reads an order as JSON
//! and answers with its total.
//!
//! `wrk` asks, on one thread and 32 connections, on the same processors. A sample's time is that of so many requests at
//! the rate that was reached, its CPU time that of the server for as many.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use axum::{Json, Router, routing::post};
use serde_json::{Value, json};
use wait4::Wait4 as _;

use crate::{
    cases::{Case, Commands, Limit, Runner},
    measure::Sample,
    sink::{Behaviour, Sink},
};

/// The argument that makes this program the floor.
pub(crate) const ARGUMENT: &str = "http-floor";

/// Requests that a sample's times are those of.
const REQUESTS: u64 = 100_000;

/// Connections that are idle at a time, when their memory is told.
const IDLE: usize = 10_000;

const FLOOR: &str = "axum: Json → total → Json";

/// How long a server may take to listen.
const PATIENCE: Duration = Duration::from_secs(20);

/// What `wrk` is to send, and what it is to tell at its end.
const SCRIPT: &str = r#"
wrk.method = "POST"
wrk.body = '{"item":"a-1","quantity":2,"price":25}'
wrk.headers["content-type"] = "application/json"
function done(summary, latency, requests)
  local errors = summary.errors
  io.write(string.format("result %d %d %d %d %d %d %d %d %d\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9), latency.max,
    errors.connect + errors.read + errors.write, errors.timeout, errors.status))
end
"#;

/// Serves the floor at an address, for good.
pub(crate) fn serve(address: &str) -> Result<()> {
    let app = Router::new().route("/orders/{id}", post(order));
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let listener = tokio::net::TcpListener::bind(address).await?;
        axum::serve(listener, app).await?;
        Ok(())
    })
}

async fn order(Json(order): Json<Value>) -> Json<Value> {
    let number = |key: &str| order[key].as_u64().unwrap_or_default();
    Json(json!({"item": order["item"], "total": number("quantity") * number("price")}))
}

/// Returns the cases of the group; none without `wrk`.
pub(crate) fn cases(folder: &Path, events: u64, run: Runner<'_>) -> Result<Vec<Case>> {
    if Command::new("wrk").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
        eprintln!("no wrk here: the http group is left out");
        return Ok(Vec::new());
    }
    let seconds = if events < 100_000 { 1 } else { 8 };
    let script = folder.join("wrk.lua");
    fs::write(&script, SCRIPT)?;
    let myself = env::current_exe()?;
    let floor: Commands = Box::new(move || {
        let mut command = Command::new(&myself);
        command.arg(ARGUMENT);
        command
    });
    let mut cases = Vec::new();
    let at = script.clone();
    cases.push(Case::new("http", FLOOR, Some(REQUESTS), move || {
        let address = free_address()?;
        load(floor().arg(address.to_string()), address, &at, seconds)
    }));
    for (name, rate, times) in
        [("http_endpoint → script → response", None, 0.8), ("… metrics, 1 % of traces", Some("0.01"), 0.65)]
    {
        let commands = run(&format!("http-{}", rate.unwrap_or("off")), flow())?;
        let script = script.clone();
        let case = Case::new("http", name, Some(REQUESTS), move || {
            let address = free_address()?;
            let sink = rate.map(|_| Sink::start(Behaviour::Well)).transpose()?;
            let mut command = commands();
            command.env("FLOWGEN_HTTP_SERVER__ADDRESS", address.to_string());
            if let (Some(rate), Some(sink)) = (rate, &sink) {
                command
                    .env("FLOWGEN_TELEMETRY__ENABLED", "true")
                    .env("FLOWGEN_TELEMETRY__OTLP_ENDPOINT", &sink.endpoint)
                    .env("FLOWGEN_TELEMETRY__TRACE_SAMPLE_RATE", rate);
            }
            let sample = load(&mut command, address, &script, seconds)?;
            if let Some(sink) = sink {
                sink.finish()?;
            }
            Ok(sample)
        });
        cases.push(case.limited([Limit::Rate { times, of: FLOOR }]));
    }
    let commands = run("http-idle", flow())?;
    let connections = if events < 100_000 { 100 } else { IDLE };
    cases.push(Case::new("http", format!("{connections} idle connections: memory"), None, move || {
        let address = free_address()?;
        let mut command = commands();
        idle(command.env("FLOWGEN_HTTP_SERVER__ADDRESS", address.to_string()), address, connections)
    }));
    Ok(cases)
}

fn flow() -> String {
    "logging: {level: warn}
flow:
  name: http
  tasks:
    - http_endpoint: {name: orders, endpoint: '/orders/{id}'}
    - script:
        name: total
        code: |
          let order = event.data.payload;
          #{item: order.item, total: order.quantity * order.price}
"
    .to_owned()
}

/// Returns an address that nobody listens at.
fn free_address() -> Result<SocketAddr> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?)
}

/// Starts a server, and waits until it listens.
fn start(command: &mut Command, address: SocketAddr) -> Result<Child> {
    let mut child = command.spawn().context("the server could not be started")?;
    let begin = Instant::now();
    while TcpStream::connect(address).is_err() {
        if let Some(status) = child.try_wait()? {
            bail!("the server ended with {status}");
        }
        ensure!(begin.elapsed() < PATIENCE, "the server does not listen");
        thread::sleep(Duration::from_millis(5));
    }
    Ok(child)
}

/// Asks a server for so many seconds, and tells what it cost.
fn load(command: &mut Command, address: SocketAddr, script: &Path, seconds: u64) -> Result<Sample> {
    let mut child = start(command, address)?;
    let wrk = Command::new("wrk")
        .args(["-t1", "-c32", &format!("-d{seconds}s"), "-s"])
        .arg(script)
        .arg(format!("http://{address}/orders/7"))
        .stderr(Stdio::inherit())
        .output();
    child.kill()?;
    let ended = child.wait4()?;
    let told = String::from_utf8(wrk?.stdout)?;
    let told = told.lines().find_map(|line| line.strip_prefix("result ")).context("wrk told nothing")?;
    let told: Vec<u64> = told.split(' ').map(str::parse).collect::<Result<_, _>>()?;
    let [requests, micros, p50, p99, p999, most, broken, late, refused] = told[..] else {
        bail!("wrk told something else: {told:?}");
    };
    ensure!(requests > 0 && broken + late + refused == 0, "{broken} broken, {late} late, {refused} refused");
    let share = REQUESTS as f64 / requests as f64;
    let cpu = ended.rusage.utime + ended.rusage.stime;
    Ok(Sample {
        cpu: Some(cpu.mul_f64(share)),
        wall: Some(Duration::from_micros(micros).mul_f64(share)),
        memory: Some(ended.rusage.maxrss),
        lateness: Some([p50, p99, p999, most].map(Duration::from_micros)),
        ..Sample::default()
    })
}

/// Opens connections that make one request each and then none, and tells how much memory they take.
fn idle(command: &mut Command, address: SocketAddr, connections: usize) -> Result<Sample> {
    // Both ends of a connection are files: one here, one there.
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    rustix::process::setrlimit(
        rustix::process::Resource::Nofile,
        rustix::process::Rlimit { current: limit.maximum, ..limit },
    )?;
    let mut child = start(command, address)?;
    let memory = |child: &Child| -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse::<u64>()? * 1024)
    };
    let ask = || -> Result<TcpStream> {
        let mut stream = TcpStream::connect(address)?;
        stream.write_all(b"POST /orders/7 HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n")?;
        let read = stream.read(&mut [0; 1024])?;
        ensure!(read > 0, "the connection was closed");
        Ok(stream)
    };
    let first = ask()?;
    let before = memory(&child)?;
    let open: Vec<TcpStream> = (0..connections).map(|_| ask()).collect::<Result<_>>()?;
    let after = memory(&child)?;
    drop((first, open));
    child.kill()?;
    child.wait()?;
    Ok(Sample { memory: Some(after.saturating_sub(before)), ..Sample::default() })
}
