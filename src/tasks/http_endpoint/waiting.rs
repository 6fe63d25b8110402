//! The wait for what becomes of an event that was let in, and its answer.

use std::{sync::Mutex, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Response, StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};
use tokio::sync::{mpsc, oneshot};

use super::{
    ResponseMode,
    exchange::{Done, Place},
    refused::unserved,
    response,
    span::{Ending, Seen},
    stream,
};
use crate::{
    ack::Outcome,
    event::EventId,
    services::http::problem::Problem,
    task::http::{Answer, Body, Stream},
    telemetry::AnswerSpan,
    trace::TraceContext,
};

/// A request that was let in.
pub(super) struct Waiting {
    pub(super) id: EventId,
    pub(super) outcome: oneshot::Receiver<(Done, Place)>,
    /// What is to be sent as it comes.
    pub(super) chunks: Option<mpsc::Receiver<Bytes>>,
    pub(super) open: Open,
}

impl Waiting {
    /// Waits for what becomes of the event, and answers. The place is the event's, if it has come to its end.
    pub(super) async fn answer(self, mode: ResponseMode, limit: Duration) -> (Answer, Option<Place>) {
        let Self { id, mut outcome, chunks, mut open } = self;
        let is_streaming = chunks.is_some();
        let mut first = None;
        let settled = async {
            let Some(mut chunks) = chunks else { return Ok((&mut outcome).await) };
            tokio::select! {
                biased;
                Some(chunk) = chunks.recv() => {
                    first = Some(chunk);
                    Err(chunks)
                }
                done = &mut outcome => Ok(done),
            }
        };
        match tokio::time::timeout(limit, settled).await {
            Ok(Ok(Ok((done, place)))) => {
                let span = open.take();
                let trace = span.as_ref().map(|(span, _)| span.context()).unwrap_or_default();
                let response = if is_streaming && done.outcome <= Outcome::Completed {
                    event_stream(Body::Empty)
                } else {
                    response::of(mode, done, &id, trace)
                };
                (answered(span, Ending::Answered, response, true), Some(place))
            }
            // The source is gone, and its event never was one.
            Ok(Ok(Err(_))) => {
                (answered(open.take(), Ending::Answered, unserved().into_response(), true), None)
            }
            Ok(Err(chunks)) => {
                let trace = open.context();
                open.outcome = Some(outcome);
                let stream = Stream::new(first, chunks, stream::IDLE, Box::new(Mutex::new(open)));
                let response = event_stream(Body::Stream(Box::new(stream)));
                (Answer { trace, ..response.into() }, None)
            }
            Err(_) => {
                let span = open.take();
                let trace = span.as_ref().map(|(span, _)| span.context()).unwrap_or_default();
                (answered(span, Ending::TimedOut, response::timed_out(&id, trace), false), None)
            }
        }
    }
}

/// The span of a request that is not answered. Dropped before that, the client is gone.
pub(super) struct Open {
    span: oneshot::Receiver<AnswerSpan>,
    /// What became of an event whose answer has begun.
    outcome: Option<oneshot::Receiver<(Done, Place)>>,
    seen: Option<Seen>,
}

impl Open {
    /// Makes one of a span that is opened when the event enters.
    pub(super) fn new(span: oneshot::Receiver<AnswerSpan>, seen: Seen) -> Self {
        Self { span, outcome: None, seen: Some(seen) }
    }

    /// Takes the span; `None` if there never was any.
    fn take(&mut self) -> Option<(AnswerSpan, Seen)> {
        Some((self.span.try_recv().ok()?, self.seen.take()?))
    }

    /// Returns where it stands, and leaves it open.
    fn context(&mut self) -> TraceContext {
        let Ok(span) = self.span.try_recv() else { return TraceContext::default() };
        let context = span.context();
        let (put_back, receiver) = oneshot::channel();
        self.span = receiver;
        // It is taken out again by whoever ends it.
        let _ = put_back.send(span);
        context
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let Some((span, seen)) = self.take() else { return };
        match self.outcome.as_mut().and_then(|outcome| outcome.try_recv().ok()) {
            Some((done, _)) if done.outcome <= Outcome::Completed => {
                let response = event_stream(Body::Empty);
                seen.answered(span, Ending::Answered, &response, true);
            }
            Some(_) => {
                let response =
                    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "the flow failed").into_response();
                seen.answered(span, Ending::Answered, &response, true);
            }
            None => seen.gone(span),
        }
    }
}

fn event_stream(body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(stream::MEDIA_TYPE));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Ends the span of a request with its response.
fn answered(
    span: Option<(AnswerSpan, Seen)>,
    ending: Ending,
    response: Response<Body>,
    is_settled: bool,
) -> Answer {
    let trace = span.as_ref().map(|(span, _)| span.context()).unwrap_or_default();
    if let Some((span, seen)) = span {
        seen.answered(span, ending, &response, is_settled);
    }
    Answer { trace, ..response.into() }
}
