//! The body of a request, read within limits: of bytes, before and after decompression, of memory, and of time.

use std::{pin::pin, time::Duration};

use bytes::{Bytes, BytesMut};
use futures_util::FutureExt;
use http::{HeaderMap, StatusCode, header::EXPECT};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{encoding, problem::Problem};
use crate::{
    shutdown::Stop,
    task::http::{Budget, Exhausted, Share},
};

/// How long a body that is being read may still take when the worker stops.
const WHILE_STOPPING: Duration = Duration::from_secs(2);

/// After how many seconds a request that finds no memory may be sent again.
const RETRY_AFTER: u64 = 1;

/// What a body must not exceed.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Bytes, as they come and decompressed.
    pub bytes: usize,
    /// The time from its head to its end.
    pub time: Duration,
    /// Where the memory for it comes from.
    pub budget: Budget,
}

/// A body, and the memory that was taken for it.
#[derive(Debug)]
pub struct Held {
    /// The body.
    pub bytes: Bytes,
    /// The memory.
    pub memory: Share,
}

/// Reads a body to its end, as it comes.
///
/// # Errors
/// It is too large, too slow, compressed in an unknown way, or broken; or there is no memory for it.
pub async fn read(
    body: &mut Incoming,
    headers: &HeaderMap,
    limits: &Limits,
    stop: &Stop,
) -> Result<Held, Problem> {
    encoding::of_request(headers)?;
    if body.is_end_stream() {
        return Ok(Held { bytes: Bytes::new(), memory: limits.budget.share() });
    }
    // What is announced is refused unread, so that a client that asks first does not even send it.
    if body.size_hint().lower() > limits.bytes as u64 {
        return Err(too_large(limits.bytes));
    }
    let mut collecting = pin!(collect(body, limits));
    // Most come along with their head.
    if let Some(held) = collecting.as_mut().now_or_never() {
        return held;
    }
    let deadline = Instant::now() + limits.time;
    tokio::select! {
        biased;
        held = collecting => held,
        () = tokio::time::sleep_until(deadline) => Err(too_slow()),
        () = stopping(stop) => Err(too_slow()),
    }
}

/// Returns what is left of a body that nobody wants: nothing, if all of it has come along with its head, so that the connection
/// can go on. Who waits to be asked for the body is not asked.
pub fn unread(mut body: Incoming, headers: &HeaderMap) -> Option<Incoming> {
    let is_skipped = skip(&mut body, headers);
    (!is_skipped).then_some(body)
}

fn skip(body: &mut Incoming, headers: &HeaderMap) -> bool {
    if headers.contains_key(EXPECT) {
        return false;
    }
    while !body.is_end_stream() {
        match body.frame().now_or_never() {
            Some(Some(Ok(_))) => {}
            Some(None) => return true,
            Some(Some(Err(_))) | None => return false,
        }
    }
    true
}

async fn stopping(stop: &Stop) {
    stop.stopped().await;
    tokio::time::sleep(WHILE_STOPPING).await;
}

async fn collect(body: &mut Incoming, limits: &Limits) -> Result<Held, Problem> {
    let mut memory = limits.budget.share();
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| broken())?.into_data() else { continue };
        let so_far = first.len().max(whole.len());
        if data.len() > limits.bytes - so_far {
            return Err(too_large(limits.bytes));
        }
        memory.resize((so_far + data.len()).max(whole.capacity())).map_err(no_memory)?;
        if so_far == 0 {
            first = data;
            if body.is_end_stream() {
                break;
            }
            continue;
        }
        if whole.is_empty() {
            // As much as is announced, but never more than comes: the limit is what a client may make us take.
            whole.reserve(first.len() + data.len());
            whole.extend_from_slice(&first);
            first = Bytes::new();
        }
        whole.extend_from_slice(&data);
    }
    Ok(Held { bytes: if whole.is_empty() { first } else { whole.freeze() }, memory })
}

/// Decompresses a body that was read, if it is compressed.
///
/// # Errors
/// It is too large then, or is not what it is said to be; or there is no memory for it.
pub async fn decoded(held: Held, headers: &HeaderMap, limits: &Limits) -> Result<Held, Problem> {
    if held.bytes.is_empty() || encoding::of_request(headers)? == encoding::Encoding::Identity {
        return Ok(held);
    }
    encoding::decompress(held, limits.bytes).await.map_err(|fault| match fault {
        encoding::Fault::TooLarge => too_large(limits.bytes),
        encoding::Fault::Malformed => Problem::new(StatusCode::BAD_REQUEST, "the body is no gzip"),
        encoding::Fault::Memory(exhausted) => no_memory(exhausted),
    })
}

/// Returns what is said to a client whose request would take more memory than there is.
pub fn no_memory(exhausted: Exhausted) -> Problem {
    match exhausted {
        Exhausted::ForNow => {
            let detail = "the requests that are being handled leave no memory for this one";
            Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).retry_after(RETRY_AFTER)
        }
        Exhausted::ForGood => Problem::new(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the body would take more memory than there is for all",
        ),
    }
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("a body has at most {limit} bytes here, decompressed"),
    )
}

/// What is sent of a body that ends too early, or is no body, amounts to nothing. The client may still wait for an answer:
/// it can end its side of a connection alone.
fn broken() -> Problem {
    Problem::new(StatusCode::BAD_REQUEST, "the body is incomplete or malformed")
}

fn too_slow() -> Problem {
    Problem::new(StatusCode::REQUEST_TIMEOUT, "the body did not come in time")
}
