//! How the body of a request becomes the event's `payload`.

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, header::CONTENT_TYPE};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Map, Value};
use url::form_urlencoded;

use crate::{
    event::Payload,
    services::http::{
        body::{Held, no_memory},
        problem::Problem,
    },
    task::http::Share,
    telemetry::spawn_blocking,
};

/// What takes longer than to decode this many bytes is done where it keeps no other request waiting.
const MOST_IN_PLACE: usize = 64 << 10;

/// A body whose data is not worth a closer look, how much memory it may take.
const SMALL: usize = 512;

/// The most memory that a byte of a body takes: `[[[[1]]]]`.
const MOST_COST: usize = 150;

/// How deep JSON may be nested. What is kept of an event is read again by a parser that goes 127 levels deep, and the event is
/// a level around the payload; tasks that gather events add some.
const DEEPEST: usize = 120;

/// What an object with one item takes, besides its texts.
const FIRST_ITEM: usize = 400;

/// How a body becomes data. An empty one is `null`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum RequestType {
    /// As `content-type` says: JSON, a form, text, or bytes; without one JSON if it is valid JSON, else text or bytes.
    #[default]
    Auto,
    /// JSON, whatever `content-type` says.
    Json,
    /// A form: an object of texts, an item that comes several times as a list.
    Form,
    /// One text.
    Text,
    /// Bytes, as text in base64.
    Bytes,
}

impl RequestType {
    /// Returns what the body of a request with these headers is.
    pub(super) fn kind(self, headers: &HeaderMap) -> Kind {
        match self {
            Self::Auto => Kind::of(headers),
            Self::Json => Kind::Json,
            Self::Form => Kind::Form,
            Self::Text => Kind::Text,
            Self::Bytes => Kind::Bytes,
        }
    }
}

/// What a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Json,
    Form,
    Text,
    Bytes,
    Unsaid,
}

/// A body as data.
#[derive(Debug)]
pub(super) enum Decoded {
    /// One line of JSON, as it came.
    Text(Bytes),
    /// A value.
    Value(Value),
}

impl Kind {
    /// Returns the data of a body, and takes the memory for it instead of that for the body. What is large is decoded where
    /// it keeps no other request waiting.
    ///
    /// # Errors
    /// It is not what it is said to be, or there is no memory for it.
    pub(super) async fn decode(self, body: Held) -> Result<(Decoded, Share), Problem> {
        if body.bytes.len() <= MOST_IN_PLACE {
            return self.decode_here(body);
        }
        let decoded = spawn_blocking(move || self.decode_here(body)).await;
        decoded.unwrap_or_else(|_| {
            Err(Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the body could not be decoded"))
        })
    }

    fn decode_here(self, body: Held) -> Result<(Decoded, Share), Problem> {
        let Held { bytes, mut memory } = body;
        let size = self.size(&bytes);
        memory.resize(bytes.len() + size).map_err(no_memory)?;
        // Whoever parses it also uses what is parsed, and most often on another thread.
        if self.is_plain(&bytes) {
            return Ok((Decoded::Text(bytes), memory));
        }
        let value = self.data(&bytes)?;
        drop(bytes);
        memory.resize(size).map_err(no_memory)?;
        Ok((Decoded::Value(value), memory))
    }

    /// Returns whether a body is JSON that can stay as it is: in one line, and not so large or so deep that it needs a closer
    /// look.
    fn is_plain(self, body: &[u8]) -> bool {
        matches!(self, Self::Json | Self::Unsaid)
            && body.len() <= MOST_IN_PLACE
            && memchr::memchr2(b'\n', b'\r', body).is_none()
            && body.iter().filter(is_open).count() <= DEEPEST
            && Payload::is_json(body)
    }

    /// Returns how much memory the data of a body takes at most. A list has room for four values first, and then for twice as
    /// many as before; an object has a table besides, and room for three members first.
    fn size(self, body: &[u8]) -> usize {
        let cost: fn(u8) -> usize = match self {
            Self::Text => |_| 1,
            Self::Bytes => |_| 2,
            // What is decoded grows, to twice its length at most.
            Self::Form => |byte| if byte == b'&' { 230 } else { 2 },
            Self::Json | Self::Unsaid => |byte| match byte {
                b',' => 144,
                b'[' => 288,
                b'{' => 284,
                // With the comma or the brace before the member.
                b':' => 86,
                _ => 1,
            },
        };
        if body.len() <= SMALL {
            return body.len() * MOST_COST;
        }
        // The first item of a form comes without anything that tells of it.
        let first = if self == Self::Form { FIRST_ITEM } else { 0 };
        first + body.iter().map(|byte| cost(*byte)).sum::<usize>()
    }

    fn data(self, body: &[u8]) -> Result<Value, Problem> {
        if body.is_empty() {
            return Ok(Value::Null);
        }
        match self {
            Self::Json => json(body),
            Self::Form => Ok(pairs(text(body)?.as_bytes())),
            Self::Text => text(body).map(Value::from),
            Self::Bytes => Ok(bytes(body)),
            Self::Unsaid => Ok(json(body).unwrap_or_else(|_| match str::from_utf8(body) {
                Ok(text) => text.into(),
                Err(_) => bytes(body),
            })),
        }
    }

    /// Returns what `content-type` says.
    fn of(headers: &HeaderMap) -> Self {
        let Some(media_type) = headers.get(CONTENT_TYPE) else { return Self::Unsaid };
        let media_type = media_type.to_str().unwrap_or_default();
        let media_type = media_type.split(';').next().unwrap_or_default().trim();
        let is = |name: &str| media_type.eq_ignore_ascii_case(name);
        let has = |at: usize, part: &str| {
            media_type.get(at..at + part.len()).is_some_and(|found| found.eq_ignore_ascii_case(part))
        };
        if is("application/json") || media_type.len().checked_sub(5).is_some_and(|at| has(at, "+json")) {
            Self::Json
        } else if is("application/x-www-form-urlencoded") {
            Self::Form
        } else if has(0, "text/")
            || is("application/xml")
            || media_type.len().checked_sub(4).is_some_and(|at| has(at, "+xml"))
        {
            Self::Text
        } else {
            Self::Bytes
        }
    }
}

fn json(body: &[u8]) -> Result<Value, Problem> {
    let wrong = |what| Problem::new(StatusCode::BAD_REQUEST, what);
    let value =
        serde_json::from_slice(body).map_err(|error| wrong(format!("the body is no JSON: {error}")))?;
    // Few bodies are worth a closer look.
    if body.iter().filter(is_open).count() > DEEPEST && is_deeper(&value, DEEPEST) {
        return Err(wrong(format!("the body is nested deeper than {DEEPEST} levels")));
    }
    Ok(value)
}

/// Returns whether a list or an object begins here, or a text says so.
fn is_open(byte: &&u8) -> bool {
    matches!(byte, b'[' | b'{')
}

/// Returns whether a value has more than so many levels.
fn is_deeper(value: &Value, levels: usize) -> bool {
    let is_deeper = |value: &Value| is_deeper(value, levels - 1);
    match value {
        Value::Array(_) | Value::Object(_) if levels == 0 => true,
        Value::Array(items) => items.iter().any(is_deeper),
        Value::Object(entries) => entries.values().any(is_deeper),
        _ => false,
    }
}

fn text(body: &[u8]) -> Result<&str, Problem> {
    str::from_utf8(body).map_err(|_| Problem::new(StatusCode::BAD_REQUEST, "the body is not UTF-8"))
}

fn bytes(body: &[u8]) -> Value {
    BASE64.encode(body).into()
}

/// Makes an object of the items of a form or a query. One that comes several times is a list.
pub(super) fn pairs(text: &[u8]) -> Value {
    let mut object = Map::new();
    for (key, value) in form_urlencoded::parse(text) {
        let value = Value::from(value.into_owned());
        match object.get_mut(&*key) {
            None => {
                object.insert(key.into_owned(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    object.into()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn decode(kind: RequestType, content_type: Option<&str>, body: &[u8]) -> Result<Value, u16> {
        let headers = content_type.map(|value| (CONTENT_TYPE, HeaderValue::from_str(value).unwrap()));
        let decoded = kind.kind(&headers.into_iter().collect()).data(body);
        decoded.map_err(|problem| problem.status().as_u16())
    }

    #[test]
    fn the_media_type_says_what_a_body_is() {
        let auto = |content_type, body: &str| decode(RequestType::Auto, content_type, body.as_bytes());
        for media_type in
            ["application/json", "Application/JSON; charset=utf-8", "application/cloudevents+json"]
        {
            assert_eq!(auto(Some(media_type), r#"{"a":1}"#), Ok(json!({"a": 1})));
            assert_eq!(auto(Some(media_type), "{"), Err(400));
        }
        let form = Some("application/x-www-form-urlencoded");
        assert_eq!(
            auto(form, "a=1&b=x+y%21&a=2&a=3&c"),
            Ok(json!({"a": ["1", "2", "3"], "b": "x y!", "c": ""}))
        );
        assert_eq!(auto(Some("text/plain"), "{}"), Ok(json!("{}")));
        assert_eq!(auto(Some("application/atom+xml"), "<a/>"), Ok(json!("<a/>")));
        assert_eq!(auto(Some("application/octet-stream"), "{}"), Ok(json!("e30=")));
        assert_eq!((auto(None, "[1]"), auto(None, "x")), (Ok(json!([1])), Ok(json!("x"))));
        assert_eq!(auto(Some("application/json"), ""), Ok(Value::Null));
        assert_eq!(decode(RequestType::Auto, Some("text/plain"), b"\xff"), Err(400));
        assert_eq!(decode(RequestType::Auto, None, b"\xff"), Ok(json!("/w==")));
    }

    #[test]
    fn what_is_configured_wins_over_what_is_said() {
        let plain = Some("text/plain");
        assert_eq!(decode(RequestType::Json, plain, b"[1]"), Ok(json!([1])));
        assert_eq!(decode(RequestType::Form, plain, b"a=1"), Ok(json!({"a": "1"})));
        assert_eq!(decode(RequestType::Text, Some("application/json"), b"[1]"), Ok(json!("[1]")));
        assert_eq!(decode(RequestType::Bytes, plain, b"[1]"), Ok(json!("WzFd")));
    }

    #[test]
    fn what_is_nested_too_deep_to_be_read_again_is_refused() {
        for (open, close) in [("[", "]"), (r#"{"a":"#, "}")] {
            let nested = |levels| format!("[[], {}1{}]", open.repeat(levels - 1), close.repeat(levels - 1));
            let decode = |levels| decode(RequestType::Json, None, nested(levels).as_bytes());
            let event = json!({ "payload": decode(DEEPEST).unwrap() });
            let batch = json!({ "batch": [event] }).to_string();
            assert!(serde_json::from_str::<Value>(&batch).is_ok());
            assert_eq!((decode(DEEPEST + 1), decode(200)), (Err(400), Err(400)));
        }
        let wide = format!("[{}1]", "[],".repeat(1_000));
        assert!(decode(RequestType::Json, None, wide.as_bytes()).is_ok());
    }

    /// Returns what a value takes in memory besides itself. What an object has room for is up to its table.
    fn heap(value: &Value) -> usize {
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
            Value::String(text) => text.capacity(),
            Value::Array(items) => {
                items.capacity() * size_of::<Value>() + items.iter().map(heap).sum::<usize>()
            }
            Value::Object(entries) if entries.is_empty() => 0,
            Value::Object(entries) => {
                let (buckets, room) = match entries.len() {
                    0..=3 => (4, 3),
                    4..=7 => (8, 7),
                    many => {
                        let buckets = (many * 8 / 7).next_power_of_two();
                        (buckets, buckets / 8 * 7)
                    }
                };
                let table = buckets * 9 + 16 + room * size_of::<(usize, String, Value)>();
                entries.iter().fold(table, |sum, (key, value)| sum + key.capacity() + heap(value))
            }
        }
    }

    #[test]
    fn data_never_takes_more_memory_than_was_taken_for_it() {
        let json = [
            "1",
            "[]",
            "{}",
            "[1]",
            "[[1]]",
            "[[[[1]]]]",
            r#"{"":1}"#,
            r#"{"a":{"b":1}}"#,
            r#"[{"a":[1]}]"#,
            r#""text""#,
            "[1,1,1,1,1]",
            r#"{"a":1,"b":1,"c":1,"d":1}"#,
        ];
        for (item, times) in
            json.into_iter().flat_map(|item| [1, 5, 9, 65, 300, 1025].map(|times| (item, times)))
        {
            let list = format!("[{}]", vec![item; times].join(","));
            let members: Vec<_> = (0..times).map(|n| format!("\"{n}\":{item}")).collect();
            for body in [list, format!("{{{}}}", members.join(","))] {
                let (heap, size) =
                    (heap(&serde_json::from_str(&body).unwrap()), Kind::Json.size(body.as_bytes()));
                assert!(heap <= size, "{heap} bytes, {size} taken for {times} of {item} in {}", &body[..1]);
            }
        }
        for times in [1, 15, 29, 57, 114, 1800] {
            let names = |of: fn(usize) -> usize| {
                (0..times).map(|n| format!("{}=x", of(n))).collect::<Vec<_>>().join("&")
            };
            let decoded = format!("a={}%20b", "b".repeat(500 + times));
            for body in [names(|n| n), names(|n| n / 2), names(|_| 0), decoded] {
                let (heap, size) = (heap(&pairs(body.as_bytes())), Kind::Form.size(body.as_bytes()));
                assert!(heap <= size, "{heap} bytes, {size} taken for {times} items: {}", &body[..3]);
            }
        }
    }

    proptest! {
        #[test]
        fn any_body_is_decoded_or_refused(
            content_type in proptest::option::of("[a-z+/; =é]{0,24}|application/json|application/x-www-form-urlencoded"),
            body in proptest::collection::vec(any::<u8>(), 0..64),
        ) {
            let headers = content_type.and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
            let headers: HeaderMap = headers.map(|value| (CONTENT_TYPE, value)).into_iter().collect();
            for kind in [RequestType::Auto, RequestType::Json, RequestType::Form, RequestType::Text, RequestType::Bytes] {
                let _ = kind.kind(&headers).data(&body);
            }
        }
    }
}
