//! A collector that takes every export at once and counts what is in it.
//!
//! It is a process of its own, so that its time is not the worker's. It speaks just enough gRPC and looks at
//! lengths and at the value of one counter, never at what is inside a span.

use std::{
    io::{self, BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use anyhow::{Context, Result, ensure};
use h2::{
    RecvStream,
    server::{Builder, SendResponse},
};
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use serde::{Deserialize, Serialize};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::oneshot,
};

/// The argument that makes this program a collector.
pub(crate) const ARGUMENT: &str = "sink";

const TRACES: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";
const METRICS: &str = "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export";

/// Fields from a request down to a span or a metric: resource, scope, item.
const ITEMS: [u64; 3] = [1, 2, 2];
/// The fields of a metric that hold its points: gauge, sum, the three of histograms and summaries.
const POINT_LISTS: [u64; 5] = [5, 7, 9, 10, 11];
/// The metric whose value is looked at, and the fields from its point to the name, and to the value.
const HANDLED: &[u8] = b"task.handle.count";
const NAME: [u64; 1] = [1];
const VALUE: [u64; 3] = [7, 1, 6];

/// More than an export, so that none waits for the window to open.
const WINDOW: u32 = 1 << 24;
/// The flag, which says that it is not compressed, and the length before a gRPC message.
const PREFIX: usize = 5;

/// Codes of gRPC.
const OK: u8 = 0;
const INVALID_ARGUMENT: u8 = 3;
const UNIMPLEMENTED: u8 = 12;

/// What arrived.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq)]
pub(crate) struct Tally {
    /// Export calls of both signals.
    pub(crate) calls: u64,
    /// Bytes of their messages.
    pub(crate) bytes: u64,
    pub(crate) spans: u64,
    /// Data points of metrics.
    pub(crate) points: u64,
    /// What all points of `task.handle.count` said last.
    pub(crate) handled: u64,
}

/// A collector that runs until it is asked for its tally, or until this process ends.
pub(crate) struct Sink {
    child: Child,
    stdout: BufReader<ChildStdout>,
    pub(crate) endpoint: String,
}

impl Sink {
    /// Starts this program as a collector.
    pub(crate) fn start(program: &mut Command) -> Result<Self> {
        let mut child = program.arg(ARGUMENT).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let mut stdout = BufReader::new(child.stdout.take().context("no stdout")?);
        let mut address = String::new();
        stdout.read_line(&mut address)?;
        ensure!(!address.is_empty(), "the collector did not start");
        Ok(Self { child, stdout, endpoint: format!("http://{}", address.trim()) })
    }

    /// Ends it and returns what it counted.
    pub(crate) fn finish(mut self) -> Result<Tally> {
        drop(self.child.stdin.take());
        let mut tally = String::new();
        self.stdout.read_to_string(&mut tally)?;
        self.child.wait()?;
        serde_json::from_str(&tally).context("the collector did not end as it should")
    }
}

/// Serves until stdin ends. Prints the address first and the tally last.
pub(crate) fn serve() -> Result<()> {
    let tally = Arc::<Mutex<Tally>>::default();
    let (ended, end) = oneshot::channel::<()>();
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        drop(ended);
    });
    tokio::runtime::Builder::new_current_thread().enable_io().build()?.block_on(async {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        println!("{}", listener.local_addr()?);
        tokio::select! {
            served = accept(&listener, &tally) => served,
            _ = end => Ok(()),
        }
    })?;
    println!("{}", serde_json::to_string(&*tally.lock().unwrap_or_else(PoisonError::into_inner))?);
    Ok(())
}

async fn accept(listener: &TcpListener, tally: &Arc<Mutex<Tally>>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let tally = Arc::clone(tally);
        tokio::spawn(async move {
            if let Err(error) = connection(stream, &tally).await {
                eprintln!("collector: {error:#}");
            }
        });
    }
}

async fn connection(stream: TcpStream, tally: &Arc<Mutex<Tally>>) -> Result<()> {
    stream.set_nodelay(true)?;
    let mut builder = Builder::new();
    builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
    let mut connection = builder.handshake(stream).await?;
    while let Some(call) = connection.accept().await {
        let (request, respond) = call?;
        let tally = Arc::clone(tally);
        tokio::spawn(async move {
            if let Err(error) = answer(request, respond, &tally).await {
                eprintln!("collector: {error:#}");
            }
        });
    }
    Ok(())
}

async fn answer(
    request: Request<RecvStream>,
    mut respond: SendResponse<&'static [u8]>,
    tally: &Mutex<Tally>,
) -> Result<()> {
    let path = request.uri().path().to_owned();
    let message = read(request.into_body()).await?;
    let status = match tally_of(&path, &message) {
        Ok(one) => {
            let mut tally = tally.lock().unwrap_or_else(PoisonError::into_inner);
            tally.calls += one.calls;
            tally.bytes += one.bytes;
            tally.spans += one.spans;
            tally.points += one.points;
            tally.handled = tally.handled.max(one.handled);
            OK
        }
        Err(status) => status,
    };
    let mut response = Response::new(());
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    let mut stream = respond.send_response(response, false)?;
    // An empty message: everything was taken.
    stream.send_data(&[0; PREFIX], false)?;
    stream.send_trailers(HeaderMap::from_iter([(
        "grpc-status".parse()?,
        HeaderValue::from(u16::from(status)),
    )]))?;
    Ok(())
}

async fn read(mut body: RecvStream) -> Result<Vec<u8>> {
    let mut message = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        message.extend_from_slice(&chunk);
        body.flow_control().release_capacity(chunk.len())?;
    }
    Ok(message)
}

/// Counts what is in one call, or returns the code to refuse it with.
fn tally_of(path: &str, framed: &[u8]) -> Result<Tally, u8> {
    let message = match framed.split_at_checked(PREFIX) {
        Some(([0, ..], message)) => message,
        _ => return Err(INVALID_ARGUMENT),
    };
    let mut tally = Tally { calls: 1, bytes: message.len() as u64, ..Tally::default() };
    match path {
        TRACES => each(message, &ITEMS, &mut |_| tally.spans += 1).ok_or(INVALID_ARGUMENT)?,
        METRICS => {
            let mut metrics = Vec::new();
            each(message, &ITEMS, &mut |metric| metrics.push(metric)).ok_or(INVALID_ARGUMENT)?;
            for metric in metrics {
                count_points(metric, &mut tally).ok_or(INVALID_ARGUMENT)?;
            }
        }
        _ => return Err(UNIMPLEMENTED),
    }
    Ok(tally)
}

fn count_points(metric: &[u8], tally: &mut Tally) -> Option<()> {
    for list in POINT_LISTS {
        each(metric, &[list, 1], &mut |_| tally.points += 1)?;
    }
    let mut is_handled = false;
    each(metric, &NAME, &mut |name| is_handled = name == HANDLED)?;
    if is_handled {
        each(metric, &VALUE, &mut |value| {
            tally.handled += value.try_into().map_or(0, u64::from_le_bytes);
        })?;
    }
    Some(())
}

/// Calls `found` with every field of a protobuf message at a path of field numbers. Varints are passed over.
/// `None` if it is no message.
fn each<'a>(mut message: &'a [u8], path: &[u64], found: &mut dyn FnMut(&'a [u8])) -> Option<()> {
    let Some((number, below)) = path.split_first() else {
        found(message);
        return Some(());
    };
    while !message.is_empty() {
        let key = varint(&mut message)?;
        let length = match key & 7 {
            0 => {
                varint(&mut message)?;
                continue;
            }
            1 => 8,
            2 => usize::try_from(varint(&mut message)?).ok()?,
            5 => 4,
            _ => return None,
        };
        let (field, rest) = message.split_at_checked(length)?;
        message = rest;
        if key >> 3 == *number {
            each(field, below, found)?;
        }
    }
    Some(())
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A message with one field, which holds another message.
    fn field(number: u8, content: &[u8]) -> Vec<u8> {
        [&[number << 3 | 2, u8::try_from(content.len()).unwrap()], content].concat()
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        [&[0; PREFIX], message].concat()
    }

    #[test]
    fn spans_and_points_are_counted_wherever_they_are() {
        // A fixed64, a fixed32 and a varint of two bytes are passed over.
        let span = field(2, &[7 << 3 | 1, 0, 0, 0, 0, 0, 0, 0, 0, 8 << 3 | 5, 0, 0, 0, 0, 6 << 3, 0x81, 1]);
        let scope = field(2, &[field(1, b"flowgen"), span.clone(), span].concat());
        let traces = field(1, &[field(1, b""), scope.clone(), scope].concat());
        let spans = |spans| Ok(Tally { calls: 1, bytes: traces.len() as u64, spans, ..Tally::default() });
        assert_eq!(tally_of(TRACES, &framed(&traces)), spans(4));

        let point = |value: u64| field(1, &[vec![6 << 3 | 1], value.to_le_bytes().to_vec()].concat());
        let sum = field(7, &[point(3), point(400), vec![3 << 3, 1]].concat());
        let handled = field(2, &[field(1, HANDLED), sum.clone()].concat());
        let other = field(2, &[field(1, b"task.run.count"), sum].concat());
        let histogram = field(2, &field(9, &field(1, b"")));
        let metrics = field(1, &field(2, &[handled, other, histogram].concat()));
        let tally = tally_of(METRICS, &framed(&metrics)).unwrap();
        assert_eq!((tally.points, tally.handled), (5, 403));
    }

    #[test]
    fn what_is_no_export_is_refused() {
        let cut = field(1, b"spans");
        assert_eq!(tally_of(TRACES, &framed(&cut[..4])), Err(INVALID_ARGUMENT));
        assert_eq!(tally_of(TRACES, &[1, 0, 0, 0, 0]), Err(INVALID_ARGUMENT));
        assert_eq!(tally_of("/a.Logs/Export", &framed(b"")), Err(UNIMPLEMENTED));
    }
}
