//! What a request is answered with.

mod head;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use http::{HeaderValue, Response, StatusCode, header::CONTENT_TYPE};
use serde_json::{Value, json};

use super::{
    ResponseMode,
    exchange::Done,
    kept::{Data, Output, TooLarge},
};
use crate::{
    ack::Outcome,
    event::{EventId, Payload},
    services::http::problem::Problem,
    task::http::Body,
    trace::TraceContext,
};

/// After how many seconds a request that failed for now may be sent again.
const RETRY_AFTER: u64 = 1;

/// Makes the response of what became of an event.
pub(super) fn of(mode: ResponseMode, done: Done, id: &EventId, trace: TraceContext) -> Response<Body> {
    let problem = |status, detail: &str| Problem::new(status, detail).about(id, trace);
    let problem = match done.outcome {
        Outcome::Completed | Outcome::Filtered => match mode {
            ResponseMode::Result => match done.outputs.map_err(too_large).and_then(result) {
                Ok(response) => return response,
                Err(detail) => problem(StatusCode::INTERNAL_SERVER_ERROR, &detail),
            },
            ResponseMode::Ack => return noted(StatusCode::OK, id),
            ResponseMode::Accepted => return noted(StatusCode::ACCEPTED, id),
        },
        Outcome::Dropped => return empty(StatusCode::NO_CONTENT),
        Outcome::DeadLettered => return noted(StatusCode::ACCEPTED, id),
        Outcome::Expired => problem(StatusCode::GATEWAY_TIMEOUT, "the event became too old to be handled"),
        Outcome::Cancelled => {
            problem(StatusCode::SERVICE_UNAVAILABLE, "the event was cancelled: the server is stopping")
                .retry_after(RETRY_AFTER)
        }
        Outcome::Failed if done.is_transient => {
            problem(StatusCode::SERVICE_UNAVAILABLE, "the flow failed for now").retry_after(RETRY_AFTER)
        }
        Outcome::Failed => problem(StatusCode::INTERNAL_SERVER_ERROR, "the flow failed"),
    };
    problem.into_response()
}

/// Returns the response to a request whose event is still under way.
pub(super) fn timed_out(id: &EventId, trace: TraceContext) -> Response<Body> {
    let detail = "the flow takes longer than a request waits for it; the event goes on";
    Problem::new(StatusCode::GATEWAY_TIMEOUT, detail).about(id, trace).into_response()
}

fn empty(status: StatusCode) -> Response<Body> {
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = status;
    response
}

/// Returns a response that only tells the id of the event.
fn noted(status: StatusCode, id: &EventId) -> Response<Body> {
    let mut response = Response::new(Body::from(json!({"event_id": id.to_string()}).to_string()));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn too_large(TooLarge { limit }: TooLarge) -> String {
    format!("what the flow has put out takes more memory than `max_response_bytes`, {limit} bytes")
}

/// Returns the response of what an event has become. The error says what about it is no response.
fn result(outputs: Vec<Output>) -> Result<Response<Body>, String> {
    if outputs.is_empty() {
        return Ok(empty(StatusCode::NO_CONTENT));
    }
    let (status, mut headers) = head::read(outputs.iter().find_map(|output| head::set(&output.meta)))?;
    let mut response = Response::new(Body::Empty);
    if head::has_body(status, outputs.iter().map(|output| &output.data))? {
        let (body, media_type) = match &outputs[..] {
            [only] => content(&only.data, headers.get(CONTENT_TYPE)),
            several => (list(several).into(), "application/json"),
        };
        headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static(media_type));
        *response.body_mut() = Body::from(body);
    }
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Ok(response)
}

/// Returns data as a body, and its media type. A text is itself where the flow has said what it is.
fn content(data: &Data, media_type: Option<&HeaderValue>) -> (bytes::Bytes, &'static str) {
    let data = match data {
        Data::Json(json) if media_type.is_none_or(is_json) => return (json.clone(), "application/json"),
        Data::Json(json) => match serde_json::from_slice(json) {
            Ok(Value::String(text)) => return (text.into(), "text/plain; charset=utf-8"),
            _ => return (json.clone(), "application/json"),
        },
        Data::Other(data) => data,
    };
    match (data, data.text()) {
        (Payload::Bytes(bytes), _) => (bytes.clone(), "application/octet-stream"),
        // As it came, without a tree of it.
        (_, Some(json)) if media_type.is_none_or(is_json) => (json.to_owned().into(), "application/json"),
        (data, text) => match data.json() {
            Some(Value::String(text)) if media_type.is_some_and(|media_type| !is_json(media_type)) => {
                (text.clone().into(), "text/plain; charset=utf-8")
            }
            value => {
                let json = text.map(str::to_owned).or_else(|| value.map(Value::to_string));
                (json.unwrap_or_default().into(), "application/json")
            }
        },
    }
}

fn is_json(media_type: &HeaderValue) -> bool {
    let media_type = media_type.to_str().unwrap_or_default().split(';').next().unwrap_or_default().trim();
    media_type == "application/json" || media_type.ends_with("+json")
}

fn list(outputs: &[Output]) -> Vec<u8> {
    let mut list = vec![b'['];
    for (n, output) in outputs.iter().enumerate() {
        if n > 0 {
            list.push(b',');
        }
        match &output.data {
            Data::Json(json) => list.extend_from_slice(json),
            Data::Other(Payload::Bytes(bytes)) => {
                list.extend_from_slice(Value::from(BASE64.encode(bytes)).to_string().as_bytes());
            }
            Data::Other(data) => match data.text() {
                Some(text) => list.extend_from_slice(text.as_bytes()),
                None => list.extend(data.json().map(Value::to_string).unwrap_or_default().into_bytes()),
            },
        }
    }
    list.push(b']');
    list
}
