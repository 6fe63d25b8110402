//! The body of a request, read within limits: of bytes, before and after decompression, and of time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode};
use http_body::Body as _;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::time::Instant;

use super::{encoding, problem::Problem};
use crate::shutdown::Stop;

/// How long a body that is being read may still take when the worker stops.
const WHILE_STOPPING: Duration = Duration::from_secs(2);

/// What a body must not exceed.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes, as they come and decompressed.
    pub bytes: usize,
    /// The time from its head to its end.
    pub time: Duration,
}

/// Reads a body to its end, as it comes.
///
/// # Errors
/// It is too large, too slow, compressed in an unknown way, or broken.
pub async fn read(
    body: Incoming,
    headers: &HeaderMap,
    limits: Limits,
    stop: &Stop,
) -> Result<Bytes, Problem> {
    encoding::of_request(headers)?;
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    // What is announced is refused unread, so that a client that asks first does not even send it.
    if body.size_hint().lower() > limits.bytes as u64 {
        return Err(too_large(limits.bytes));
    }
    let deadline = Instant::now() + limits.time;
    tokio::select! {
        biased;
        bytes = collect(body, limits.bytes) => bytes,
        () = tokio::time::sleep_until(deadline) => Err(too_slow()),
        () = stopping(stop) => Err(too_slow()),
    }
}

async fn stopping(stop: &Stop) {
    stop.stopped().await;
    tokio::time::sleep(WHILE_STOPPING).await;
}

async fn collect(mut body: Incoming, limit: usize) -> Result<Bytes, Problem> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(data) = frame.map_err(|_| broken())?.into_data() else { continue };
        if data.len() > limit - first.len().max(whole.len()) {
            return Err(too_large(limit));
        }
        if first.is_empty() && whole.is_empty() {
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
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// Decompresses a body that was read, if it is compressed.
///
/// # Errors
/// It is too large then, or is not what it is said to be.
pub async fn decoded(bytes: Bytes, headers: &HeaderMap, limits: Limits) -> Result<Bytes, Problem> {
    if bytes.is_empty() || encoding::of_request(headers)? == encoding::Encoding::Identity {
        return Ok(bytes);
    }
    encoding::decompress(bytes, limits.bytes).await.map_err(|fault| match fault {
        encoding::Fault::TooLarge => too_large(limits.bytes),
        encoding::Fault::Malformed => Problem::new(StatusCode::BAD_REQUEST, "the body is no gzip"),
    })
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
