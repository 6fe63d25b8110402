//! What is asked for: the request of an event, and those that follow from it.

use reqwest::{
    Client, Method, Request, Url,
    header::{ACCEPT, ACCEPT_LANGUAGE, CONTENT_TYPE},
};

use super::{
    endpoint::Endpoint,
    failure,
    headers::Headers,
    payload::{Encoded, Payload},
};
use crate::{event::Event, task::TaskError};

/// Pairs of a query.
type Pairs = Vec<(String, String)>;

/// Makes requests of events.
pub(super) struct Outgoing {
    /// Pools the connections of the task.
    pub(super) client: Client,
    pub(super) method: Method,
    pub(super) endpoint: Endpoint,
    pub(super) headers: Headers,
    pub(super) payload: Option<Payload>,
}

impl Outgoing {
    /// Makes the request of an event.
    pub(super) fn request(&self, event: &Event) -> Result<Request, TaskError> {
        let (mut request, pairs) = self.parts(event)?;
        if let Some(pairs) = pairs {
            request.url_mut().query_pairs_mut().extend_pairs(pairs);
        }
        Ok(request)
    }

    /// Makes the same request to where an answer has led: with what it says of itself as far as the host is the same.
    pub(super) fn again(&self, event: &Event, url: Url, is_abroad: bool) -> Result<Request, TaskError> {
        // The URL says what the pairs would.
        let (mut request, _) = self.parts(event)?;
        *request.url_mut() = url;
        if is_abroad {
            let headers = std::mem::take(request.headers_mut());
            for name in [ACCEPT, ACCEPT_LANGUAGE] {
                if let Some(value) = headers.get(&name) {
                    request.headers_mut().insert(name, value.clone());
                }
            }
            *request.body_mut() = None;
        }
        Ok(request)
    }

    /// Makes all but the pairs of the query that are a payload.
    fn parts(&self, event: &Event) -> Result<(Request, Option<Pairs>), TaskError> {
        let url = self.endpoint.render(event)?;
        // The builder makes a header of the userinfo in a URL.
        let mut request =
            self.client.request(self.method.clone(), url).build().map_err(failure::no_request)?;
        request.headers_mut().extend(self.headers.outgoing(event)?);
        match self.payload.as_ref().map(|payload| payload.encode(event)).transpose()? {
            Some(Encoded::Body { bytes, content_type }) => {
                request.headers_mut().entry(CONTENT_TYPE).or_insert(content_type);
                *request.body_mut() = Some(bytes.into());
            }
            Some(Encoded::Query(pairs)) => return Ok((request, Some(pairs))),
            None => {}
        }
        Ok((request, None))
    }
}
