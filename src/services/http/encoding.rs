//! gzip: of requests that come compressed, and of responses to those who take it.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::{Compression, read::MultiGzDecoder, write::GzEncoder};
use http::{
    HeaderMap, HeaderValue, Response, StatusCode,
    header::{ACCEPT_ENCODING, CONTENT_ENCODING, CONTENT_TYPE, ETAG, VARY},
};

use super::{body::Held, problem::Problem};
use crate::{
    task::http::{Body, Exhausted},
    telemetry::spawn_blocking,
};

/// Shorter bodies become no shorter, or not by as much as it costs.
const LEAST: usize = 1024;

/// What takes longer than this many bytes takes is done where it keeps no other request waiting.
const MOST_IN_PLACE: usize = 64 << 10;

/// What is taken first for what is decompressed.
const LEAST_ROOM: usize = 4 << 10;

/// How a body is encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    /// Not at all.
    Identity,
    /// By gzip.
    Gzip,
}

/// Why a body cannot be decompressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// It would be too large.
    TooLarge,
    /// It is no gzip.
    Malformed,
    /// There is no memory for it.
    Memory(Exhausted),
}

/// Returns how the body of a request is encoded.
///
/// # Errors
/// In a way that is not known here.
pub fn of_request(headers: &HeaderMap) -> Result<Encoding, Problem> {
    let mut encodings = headers.get_all(CONTENT_ENCODING).iter();
    let (Some(encoding), None) = (encodings.next(), encodings.next()) else {
        return if headers.contains_key(CONTENT_ENCODING) {
            Err(unsupported())
        } else {
            Ok(Encoding::Identity)
        };
    };
    match encoding.as_bytes().trim_ascii() {
        name if name.eq_ignore_ascii_case(b"identity") => Ok(Encoding::Identity),
        name if name.eq_ignore_ascii_case(b"gzip") || name.eq_ignore_ascii_case(b"x-gzip") => {
            Ok(Encoding::Gzip)
        }
        _ => Err(unsupported()),
    }
}

fn unsupported() -> Problem {
    Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "the body is to be sent as it is, or by gzip once")
}

/// Decompresses a body, to no more than `limit` bytes.
///
/// # Errors
/// It would be larger, or is no gzip, or there is no memory for it.
pub async fn decompress(held: Held, limit: usize) -> Result<Held, Fault> {
    // A bomb is small: what it takes is known only afterwards.
    spawn_blocking(move || inflate(held, limit)).await.unwrap_or(Err(Fault::Malformed))
}

fn inflate(held: Held, limit: usize) -> Result<Held, Fault> {
    let Held { bytes, mut memory } = held;
    let mut decoder = MultiGzDecoder::new(&*bytes).take(limit as u64 + 1);
    let mut out = Vec::new();
    loop {
        if out.len() == out.capacity() {
            let capacity = (out.capacity() * 2).clamp(LEAST_ROOM, limit.max(LEAST_ROOM) + 1);
            memory.resize(bytes.len() + capacity).map_err(Fault::Memory)?;
            out.reserve_exact(capacity - out.len());
        }
        let room = (out.capacity() - out.len()) as u64;
        let read = decoder.by_ref().take(room).read_to_end(&mut out).map_err(|_| Fault::Malformed)?;
        if out.len() > limit {
            return Err(Fault::TooLarge);
        }
        if read == 0 {
            break;
        }
    }
    drop(decoder);
    memory.resize(out.capacity()).map_err(Fault::Memory)?;
    Ok(Held { bytes: Bytes::from(out), memory })
}

/// Returns whether a body may become much shorter.
pub fn is_worth_it(response: &Response<Body>) -> bool {
    let headers = response.headers();
    matches!(response.body(), Body::Full(bytes) if bytes.len() >= LEAST)
        && !headers.contains_key(CONTENT_ENCODING)
        && is_text(headers)
}

/// Compresses the body of a response, if whoever gets it takes that and it is worth it.
pub async fn compress(request: &HeaderMap, mut response: Response<Body>) -> Response<Body> {
    if !is_worth_it(&response) {
        return response;
    }
    response.headers_mut().append(VARY, HeaderValue::from_static("accept-encoding"));
    if !accepts_gzip(request) {
        return response;
    }
    let bytes = match std::mem::take(response.body_mut()) {
        Body::Full(bytes) => bytes,
        other => {
            *response.body_mut() = other;
            return response;
        }
    };
    let size = bytes.len();
    let kept = bytes.clone();
    let work = move || {
        let mut encoder = GzEncoder::new(Vec::with_capacity(bytes.len() / 4), Compression::fast());
        encoder.write_all(&bytes).and_then(|()| encoder.finish())
    };
    let compressed = if size <= MOST_IN_PLACE { Some(work()) } else { spawn_blocking(work).await.ok() };
    match compressed {
        Some(Ok(compressed)) if compressed.len() < size => {
            *response.body_mut() = Body::from(compressed);
            response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            // It is another representation, byte by byte.
            response.headers_mut().remove(ETAG);
        }
        _ => *response.body_mut() = Body::Full(kept),
    }
    response
}

/// Returns whether the body is text of any kind: images and archives are compressed already.
fn is_text(headers: &HeaderMap) -> bool {
    let media_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let media_type = media_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media_type.starts_with("text/")
        || ["json", "xml", "javascript", "yaml", "csv", "x-ndjson", "form-urlencoded"]
            .iter()
            .any(|kind| media_type.ends_with(kind))
}

/// Returns whether a client takes gzip (RFC 9110, section 12.5.3).
fn accepts_gzip(headers: &HeaderMap) -> bool {
    let mut of_any = None;
    let values = headers.get_all(ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    for item in values.flat_map(|value| value.split(',')) {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().unwrap_or_default();
        let quality = parts.find_map(|part| part.strip_prefix("q=").or_else(|| part.strip_prefix("Q=")));
        let is_taken =
            quality.is_none_or(|quality| quality.parse::<f32>().is_ok_and(|quality| quality > 0.0));
        if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") {
            return is_taken;
        }
        if name == "*" {
            of_any = Some(is_taken);
        }
    }
    of_any.unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::task::http::Budget;

    fn accepting(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(ACCEPT_ENCODING, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_client_says_what_it_takes() {
        for yes in ["gzip", "br, gzip", "GZIP;q=0.5", "*", "br;q=1.0, *;q=0.1", "deflate, x-gzip"] {
            assert!(accepts_gzip(&accepting(yes)), "{yes}");
        }
        for no in ["", "br", "gzip;q=0", "*;q=0", "gzip;q=0, *", "identity", "gzip;q=x"] {
            assert!(!accepts_gzip(&accepting(no)), "{no}");
        }
        assert!(!accepts_gzip(&HeaderMap::new()));
    }

    #[tokio::test]
    async fn what_is_compressed_comes_out_again_within_the_limit_only() {
        let text = "abc ".repeat(10_000);
        let mut response = Response::new(Body::from(text.clone()));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let response = compress(&accepting("gzip"), response).await;
        assert_eq!(response.headers()[CONTENT_ENCODING], "gzip");
        let Body::Full(compressed) = response.into_body() else { panic!("it has a body") };
        assert!(compressed.len() < text.len() / 10);
        let decompress = async |bytes: Bytes, limit, memory| {
            let memory = Budget::new(memory).share();
            decompress(Held { bytes, memory }, limit).await.map(|held| held.bytes)
        };
        const PLENTY: usize = 1 << 20;
        assert_eq!(decompress(compressed.clone(), text.len(), PLENTY).await.unwrap(), text);
        assert_eq!(decompress(compressed.clone(), text.len() - 1, PLENTY).await, Err(Fault::TooLarge));
        let cut = compressed.slice(..compressed.len() - 1);
        assert_eq!(decompress(cut, text.len(), PLENTY).await, Err(Fault::Malformed));
        let fault = decompress(compressed.clone(), text.len(), text.len()).await;
        assert_eq!(fault, Err(Fault::Memory(Exhausted::ForGood)));
    }

    #[tokio::test]
    async fn what_gains_nothing_stays_as_it_is() {
        for (size, media_type) in [(LEAST - 1, "text/plain"), (LEAST, "image/png")] {
            let mut response = Response::new(Body::from("a".repeat(size)));
            response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
            let response = compress(&accepting("gzip"), response).await;
            assert!(!response.headers().contains_key(CONTENT_ENCODING));
            assert!(matches!(response.into_body(), Body::Full(bytes) if bytes.len() == size));
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_decompressed_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let memory = Budget::new(10_000).share();
            let _ = runtime.block_on(decompress(Held { bytes: bytes.into(), memory }, 100));
        }
    }
}
