//! From the head and body of a request to the data of an event, or a refusal.
//!
//! The input: a byte for the request type, a byte whose lowest bit asks for the body to be compressed, and a request as
//! HTTP/1.1 has it.

#![no_main]

use std::{io::Write, sync::LazyLock};

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use flowgen::{
    fuzzing::Intake,
    task::http::{Route, Routing},
};
use flowgen_fuzz::{Input, wait};
use http::{HeaderName, HeaderValue, Method, Request, StatusCode, header::CONTENT_ENCODING, request::Parts};
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value};

const TYPES: [&str; 5] = ["auto", "json", "form", "text", "bytes"];
const ROUTES: [&str; 5] =
    ["/", "/orders/{id}", "/orders/new", "/shops/{shop}/items/{item}", "/files/{*path}"];
const MOST_BYTES: usize = 16 << 10;
const MEMORY: usize = 128 << 10;

/// An intake of each request type for each route.
static ROUTING: LazyLock<Routing<Vec<Intake>>> = LazyLock::new(|| {
    let mut routing = Routing::default();
    let headers = ["content-type", "x-tenant", "accept"].map(HeaderName::from_static).to_vec();
    for template in ROUTES {
        let route = Route::new(Method::POST, template).expect("it is a path");
        let intake = |kind| Intake::new(route.clone(), kind, headers.clone(), MOST_BYTES, MEMORY);
        let intakes = TYPES.map(|kind| intake(kind).expect("it is a type")).into_iter().collect();
        routing.entry(&route, || intakes).expect("no other path takes the same requests");
    }
    routing
});

fuzz_target!(|input: &[u8]| {
    let mut input = Input::new(input);
    let kind = usize::from(input.byte()) % TYPES.len();
    let is_compressed = input.byte() & 1 == 1;
    let Some((mut head, body)) = request(input.rest()) else { return };
    let Some((intakes, params)) = ROUTING.find(head.uri.path()) else { return };
    let intake = &intakes[kind];
    if is_compressed {
        head.headers.remove(CONTENT_ENCODING);
    }
    let event = take_in(intake, &head, &params, Bytes::copy_from_slice(body));
    if is_compressed {
        head.headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
        let compressed = take_in(intake, &head, &params, gzip(body).into());
        // It takes more memory while it is decompressed, so that it may be refused for that.
        if compressed.is_ok() {
            assert_eq!(compressed, event, "gzip makes another event of it");
        }
    }
});

/// Takes in a request, and checks what becomes of it.
fn take_in(intake: &Intake, head: &Parts, params: &[String], body: Bytes) -> Result<Value, StatusCode> {
    let taken = wait(intake.event(head, params, body));
    assert!(intake.is_idle(), "memory was not given back");
    match &taken {
        Ok((event, memory)) => {
            let names: Vec<_> = event.as_object().expect("it is an object").keys().collect();
            assert_eq!(names, ["method", "path", "params", "query", "headers", "payload"]);
            assert_eq!(event["params"].as_object().map(Map::len), Some(params.len()));
            assert_eq!(event["path"], head.uri.path());
            let text = event.to_string();
            assert_eq!(serde_json::from_str::<Value>(&text).ok().as_ref(), Some(event), "{text}");
            let heap = heap(&event["payload"]);
            assert!(heap <= *memory, "{heap} bytes of payload, {memory} taken for it: {}", event["payload"]);
        }
        Err(status) => {
            assert!([400, 413, 415, 503].contains(&status.as_u16()), "refused with {status}");
        }
    }
    taken.map(|(event, _)| event)
}

/// Returns what a value takes in memory, besides itself, at least.
fn heap(value: &Value) -> usize {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        Value::String(text) => text.capacity(),
        Value::Array(items) => items.capacity() * size_of::<Value>() + items.iter().map(heap).sum::<usize>(),
        Value::Object(entries) => {
            let entry = size_of::<(usize, String, Value)>() + size_of::<usize>() + 1;
            entries.iter().map(|(key, value)| entry + key.capacity() + heap(value)).sum()
        }
    }
}

/// Reads a request as a server does.
fn request(text: &[u8]) -> Option<(Parts, &[u8])> {
    let mut headers = [httparse::EMPTY_HEADER; 32];
    let mut parsed = httparse::Request::new(&mut headers);
    let httparse::Status::Complete(end) = parsed.parse(text).ok()? else { return None };
    let mut request = Request::builder().method(parsed.method?).uri(parsed.path?);
    for header in parsed.headers.iter() {
        request = request.header(header.name, header.value);
    }
    Some((request.body(()).ok()?.into_parts().0, &text[end..]))
}

fn gzip(body: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(body).and_then(|()| encoder.finish()).expect("memory takes it all")
}
