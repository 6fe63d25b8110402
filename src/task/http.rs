//! What a source needs of the worker's HTTP server: a route of it, and the shape of what comes in and goes out there.
//!
//! The server is one for all flows. It owns connections and routes; what a request means is its handler's business.

mod body;
mod budget;
mod operation;
mod route;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, Response, request::Parts};
use hyper::body::Incoming;

pub use self::{
    body::{Body, Stream},
    budget::{Budget, Exhausted, Share},
    operation::{Content, Credentials, Operation, Reply},
    route::{Conflict, Route, RouteError, Routing},
};
use super::BuildError;
use crate::{
    shutdown::Stop,
    trace::{Ticks, TraceContext},
};

/// A request whose head was read and whose route is known.
#[derive(Debug)]
pub struct Request {
    /// The head.
    pub head: Parts,
    /// The body, unread.
    pub body: Incoming,
    /// The values of the parameters in the path, in their order, as they stand there.
    pub params: Vec<String>,
    /// When the head had been read.
    pub received: Ticks,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// `http` or `https`.
    pub scheme: &'static str,
}

/// A response, with what is told of it besides.
#[derive(Debug)]
pub struct Answer {
    /// The response.
    pub response: Response<Body>,
    /// The span of the request, if there is one.
    pub trace: TraceContext,
    /// The request's body, if it was not read to its end. Its sender may still be sending.
    pub unread: Option<Incoming>,
}

impl From<Response<Body>> for Answer {
    fn from(response: Response<Body>) -> Self {
        Self { response, trace: TraceContext::default(), unread: None }
    }
}

/// Answers the requests of one route.
#[async_trait]
pub trait Handler: Send + Sync {
    /// Answers a request of the route's method. Dropped when the client is gone.
    ///
    /// # Errors
    /// The request itself, untouched: it came too late for this handler, and is another one's.
    async fn handle(&self, request: Box<Request>) -> Result<Answer, Box<Request>>;

    /// Returns what pages of other origins may send, as the headers that answer a preflight with these `headers`; nothing
    /// if it is none, or all the same to the handler. Of methods it decides for that of its route alone.
    fn preflight(&self, headers: &HeaderMap) -> Option<HeaderMap>;
}

/// A route that is reserved for a task. Requests wait for it to be served, until it is dropped.
#[async_trait]
pub trait Claim: Send + Sync {
    /// Has `handler` answer the requests that come from now on, instead of any other one, until what is returned is
    /// dropped.
    fn serve(&self, handler: Arc<dyn Handler>) -> Box<dyn Send>;

    /// Waits until no further request comes, for some seconds at most, if the worker stops; otherwise it returns at once.
    async fn quiet(&self);
}

/// Who reserves a route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claimant {
    /// The flow's name.
    pub flow: Arc<str>,
    /// The task's name.
    pub task: Arc<str>,
}

/// The worker's HTTP server.
#[async_trait]
pub trait HttpServer: Send + Sync {
    /// Listens, if it does not yet, and reserves a route.
    ///
    /// # Errors
    /// The address cannot be listened at.
    async fn claim(&self, route: &Route, claimant: Claimant) -> Result<Box<dyn Claim>, BuildError>;

    /// Returns what is stopped when the worker is.
    fn stop(&self) -> &Stop;

    /// Returns how long the body of a request may take.
    fn body_timeout(&self) -> Duration;

    /// Returns where the memory of requests comes from.
    fn budget(&self) -> &Budget;
}
