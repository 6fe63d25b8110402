//! A request as the data of an event: `{method, path, params, query, headers, payload}`.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName, StatusCode, request::Parts};
use percent_encoding::percent_decode_str;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use super::media::{self, Decoded};
use crate::{event::Payload, services::http::problem::Problem, task::http::Route};

/// All but the payload.
#[derive(Serialize)]
struct Head<'a> {
    method: &'a str,
    path: &'a str,
    params: Params<'a>,
    query: Value,
    headers: Map<String, Value>,
}

/// The parameters in the path.
struct Params<'a>(Vec<(&'a str, Cow<'a, str>)>);

impl Serialize for Params<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// Makes the data of an event. Of the headers it has those that are `allowed`.
///
/// # Errors
/// A parameter in the path is no text.
pub(super) fn data(
    head: &Parts,
    route: &Route,
    params: &[String],
    allowed: &[HeaderName],
    payload: Decoded,
) -> Result<Payload, Problem> {
    let query = head.uri.query().unwrap_or_default();
    let head = Head {
        method: head.method.as_str(),
        path: head.uri.path(),
        params: decoded(route, params)?,
        query: if query.is_empty() { Map::new().into() } else { media::pairs(query.as_bytes()) },
        headers: headers(&head.headers, allowed),
    };
    Ok(match payload {
        Decoded::Value(payload) => with_value(&head, payload).into(),
        Decoded::Text(payload) => with_text(&head, &payload),
    })
}

fn with_value(head: &Head<'_>, payload: Value) -> Value {
    let mut data = serde_json::to_value(head).unwrap_or_default();
    data["payload"] = payload;
    data
}

/// Makes one text of what is one.
fn with_text(head: &Head<'_>, payload: &[u8]) -> Payload {
    let mut text = serde_json::to_string(head).unwrap_or_default();
    text.pop();
    text.push_str(r#","payload":"#);
    text.push_str(&String::from_utf8_lossy(payload));
    text.push('}');
    Payload::from_known_json(&text)
}

fn decoded<'a>(route: &'a Route, params: &'a [String]) -> Result<Params<'a>, Problem> {
    let of = |(name, value): (&'a String, &'a String)| {
        let value = percent_decode_str(value).decode_utf8().map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST, format!("the parameter `{name}` of the path is not UTF-8"))
        })?;
        Ok((name.as_str(), value))
    };
    route.names.iter().zip(params).map(of).collect::<Result<_, _>>().map(Params)
}

/// Returns the headers that are allowed. One that comes several times is one list, as RFC 9110 has it.
fn headers(headers: &HeaderMap, allowed: &[HeaderName]) -> Map<String, Value> {
    let mut found = Map::new();
    for name in allowed {
        let mut values = headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes()));
        if let Some(first) = values.next() {
            let all = values.fold(first.into_owned(), |all, value| all + ", " + &*value);
            found.insert(name.as_str().to_owned(), all.into());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use http::{Method, Request};
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_becomes_an_object() {
        let request = Request::post("/shops/a%20b/orders/7?q=x&q=y&z=%C3%A9")
            .header("X-Tenant", "acme")
            .header("accept", "a")
            .header("accept", "b")
            .header("authorization", "secret")
            .body(())
            .unwrap();
        let route = Route::new(Method::POST, "/shops/{shop}/orders/{id}").unwrap();
        let allowed = ["x-tenant", "accept", "x-missing"].map(HeaderName::from_static);
        let (head, ()) = request.into_parts();
        let params = ["a%20b".to_owned(), "7".to_owned()];
        let data = |payload| data(&head, &route, &params, &allowed, payload).unwrap().into_json().unwrap();
        let expected = json!({
            "method": "POST",
            "path": "/shops/a%20b/orders/7",
            "params": {"shop": "a b", "id": "7"},
            "query": {"q": ["x", "y"], "z": "é"},
            "headers": {"x-tenant": "acme", "accept": "a, b"},
            "payload": [1],
        });
        assert_eq!(data(Decoded::Value(json!([1]))), expected);
        assert_eq!(data(Decoded::Text("[1]".into())), expected);
    }

    proptest! {
        #[test]
        fn any_path_and_query_is_an_object_or_refused(path in "[a-c%/0-9F]{0,16}", query in "[a-c%&=+0-9F]{0,16}") {
            if let Ok(request) = Request::get(format!("/{path}?{query}")).body(()) {
                let route = Route::new(Method::GET, "/{*rest}").unwrap();
                let (head, ()) = request.into_parts();
                let of = |payload| data(&head, &route, std::slice::from_ref(&path), &[], payload).ok();
                let value = of(Decoded::Value(Value::Null)).map(|data| data.json().cloned());
                prop_assert_eq!(value, of(Decoded::Text("null".into())).map(|data| data.json().cloned()));
            }
        }
    }
}
