//! What is answered to `OPTIONS`: which methods a path has, and which of them pages of other origins may use.
//!
//! Several handlers may answer the methods of one path, each with rules of its own. A browser keeps what it is told of
//! methods and of headers apart, so it is told of another method only what that one's handler would say as well.

use std::sync::Arc;

use http::{
    HeaderMap, HeaderValue, Method,
    header::{ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN, VARY},
};

use crate::task::http::Handler;

/// What answers HEAD.
const GET: &Method = &Method::GET;

/// What one handler answers for its method.
struct Answer {
    method: Method,
    terms: HeaderMap,
    /// Whether the method is one that pages may use.
    is_allowed: bool,
}

/// Returns the headers that answer a preflight with these `headers` at a path that `handlers` answer the methods of. What
/// holds for the method `asked` about is said, and of which others the same holds.
pub(super) fn answer(
    asked: Option<&Method>,
    handlers: &[(Method, Arc<dyn Handler>)],
    headers: &HeaderMap,
) -> HeaderMap {
    let of = |(method, handler): &(Method, Arc<dyn Handler>)| {
        handler.preflight(headers).map(|terms| Answer::new(method.clone(), terms))
    };
    let answers: Vec<_> = handlers.iter().filter_map(of).collect();
    let asked = asked.map(|asked| if asked == Method::HEAD { GET } else { asked });
    let is_served = handlers.iter().any(|(method, _)| Some(method) == asked);
    let decides = |answer: &&Answer| {
        if is_served {
            Some(&answer.method) == asked
        } else {
            answer.terms.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN)
        }
    };
    let Some(Answer { terms, .. }) = answers.iter().find(decides) else {
        // Where another one was asked about there is more to be said.
        let vary = answers.first().and_then(|answer| answer.terms.get(VARY));
        return vary.map(|vary| (VARY, vary.clone())).into_iter().collect();
    };
    let mut merged = terms.clone();
    let same: Vec<_> = answers.iter().filter(|answer| answer.is_allowed && answer.terms == *terms).collect();
    let methods: Vec<_> = same.iter().map(|answer| answer.method.as_str()).collect();
    if let Ok(methods) = HeaderValue::try_from(methods.join(", "))
        && !methods.is_empty()
    {
        merged.insert(ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    merged
}

impl Answer {
    fn new(method: Method, mut terms: HeaderMap) -> Self {
        let methods = terms.remove(ACCESS_CONTROL_ALLOW_METHODS);
        let listed = methods.as_ref().and_then(|methods| methods.to_str().ok()).unwrap_or_default();
        let is_allowed =
            listed.split(',').any(|one| matches!(one.trim(), one if one == method.as_str() || one == "*"));
        Self { method, terms, is_allowed }
    }
}
