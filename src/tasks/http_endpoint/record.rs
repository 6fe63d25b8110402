//! A request as the data of an event: `{method, path, params, query, headers, payload}`.

use http::{HeaderMap, HeaderName, StatusCode, request::Parts};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value};

use super::media;
use crate::{services::http::problem::Problem, task::http::Route};

/// Makes the data of an event. Of the headers it has those that are `allowed`.
///
/// # Errors
/// A parameter in the path is no text.
pub(super) fn data(
    head: &Parts,
    route: &Route,
    params: &[String],
    allowed: &[HeaderName],
    payload: Value,
) -> Result<Value, Problem> {
    let mut data = Map::with_capacity(6);
    data.insert("method".to_owned(), head.method.as_str().into());
    data.insert("path".to_owned(), head.uri.path().into());
    data.insert("params".to_owned(), decoded(route, params)?.into());
    let query = head.uri.query().unwrap_or_default();
    data.insert(
        "query".to_owned(),
        if query.is_empty() { Map::new().into() } else { media::pairs(query.as_bytes()) },
    );
    data.insert("headers".to_owned(), headers(&head.headers, allowed).into());
    data.insert("payload".to_owned(), payload);
    Ok(data.into())
}

fn decoded(route: &Route, params: &[String]) -> Result<Map<String, Value>, Problem> {
    let of = |(name, value): (&String, &String)| {
        let value = percent_decode_str(value).decode_utf8().map_err(|_| {
            Problem::new(StatusCode::BAD_REQUEST, format!("the parameter `{name}` of the path is not UTF-8"))
        })?;
        Ok((name.clone(), value.into_owned().into()))
    };
    route.names.iter().zip(params).map(of).collect()
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
        let data = data(&head, &route, &params, &allowed, json!([1])).unwrap();
        let expected = json!({
            "method": "POST",
            "path": "/shops/a%20b/orders/7",
            "params": {"shop": "a b", "id": "7"},
            "query": {"q": ["x", "y"], "z": "é"},
            "headers": {"x-tenant": "acme", "accept": "a, b"},
            "payload": [1],
        });
        assert_eq!(data, expected);
    }

    proptest! {
        #[test]
        fn any_path_and_query_is_an_object_or_refused(path in "[a-c%/0-9F]{0,16}", query in "[a-c%&=+0-9F]{0,16}") {
            if let Ok(request) = Request::get(format!("/{path}?{query}")).body(()) {
                let route = Route::new(Method::GET, "/{*rest}").unwrap();
                let (head, ()) = request.into_parts();
                let _ = data(&head, &route, &[path], &[], Value::Null);
            }
        }
    }
}
