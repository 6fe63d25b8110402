//! The body of a response on its way to a client, who may take nothing of it.
//!
//! On HTTP/1.1 the connection shows that. On HTTP/2 each stream has a window of its own: one that stays shut is reset, and
//! what the others send goes on.

use std::{
    convert::Infallible,
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderValue, Response, header::CONNECTION};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::{body::Incoming, rt::Executor};
use tokio::task_local;
use tokio_util::task::TaskTracker;

use super::{activity::UnderWay, timely::Deadline, unread};
use crate::task::http::{Answer, Body};

/// The most that is handed over at once where windows decide what is sent.
const FRAME: usize = 16 << 10;

task_local! {
    /// The stream that the current task serves.
    static STREAM: Arc<Stream>;
}

/// What is known of a stream where it is served.
#[derive(Debug, Default)]
struct Stream {
    /// Whether it waits for its client.
    waits: AtomicBool,
    /// The body of a request that was answered without it.
    unread: Mutex<Option<Incoming>>,
}

/// The body.
#[derive(Debug)]
pub(super) struct Sending {
    body: Body,
    stream: Option<Arc<Stream>>,
    /// Whether some of it was sent.
    is_begun: bool,
    _request: UnderWay,
}

impl Sending {
    /// Sends the answer to a request, which is under way until all of it was handed over. To be called where the request
    /// is answered.
    pub(super) fn begin(answer: Answer, request: UnderWay) -> Response<Self> {
        let Answer { mut response, unread, .. } = answer;
        let stream = STREAM.try_with(Arc::clone).ok();
        if let Some(unread) = unread.filter(|body| !body.is_end_stream()) {
            match &stream {
                Some(stream) => *stream.unread.lock().unwrap_or_else(PoisonError::into_inner) = Some(unread),
                None => {
                    // What is left of the body would be taken for the next request.
                    response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                    request.leave_unread();
                }
            }
        }
        response.map(|body| {
            let sending = Self { body, stream, is_begun: false, _request: request };
            sending.waits(true);
            sending
        })
    }

    fn waits(&self, for_client: bool) {
        if let Some(stream) = &self.stream {
            stream.waits.store(for_client, Ordering::Relaxed);
        }
    }

    /// Takes the next part of a body that is there as a whole. The last one is a copy, so that the rest of it is not kept
    /// until the client has taken that too.
    fn part(&mut self) -> Option<Bytes> {
        let Body::Full(bytes) = &mut self.body else { return None };
        if bytes.len() > FRAME {
            self.is_begun = true;
            return Some(bytes.split_to(FRAME));
        }
        let last = if self.is_begun { Bytes::copy_from_slice(bytes) } else { std::mem::take(bytes) };
        self.body = Body::Empty;
        Some(last)
    }
}

impl HttpBody for Sending {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.stream.is_some()
            && let Some(part) = self.part()
        {
            return Poll::Ready(Some(Ok(Frame::data(part))));
        }
        let frame = Pin::new(&mut self.body).poll_frame(context);
        self.waits(frame.is_ready());
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// Runs the streams of HTTP/2, and ends those whose client has taken nothing for too long.
#[derive(Clone, Debug)]
pub(super) struct Streams {
    pub(super) tracker: TaskTracker,
    pub(super) write_timeout: Duration,
}

impl<F: Future<Output: Send> + Send + 'static> Executor<F> for Streams {
    fn execute(&self, served: F) {
        let stream = Arc::<Stream>::default();
        let watched = watched(served, Arc::clone(&stream), self.write_timeout);
        self.tracker.spawn(STREAM.scope(stream, watched));
    }
}

async fn watched(served: impl Future, stream: Arc<Stream>, limit: Duration) {
    let mut served = pin!(served);
    let mut deadline = Deadline::default();
    let is_served = poll_fn(|context| {
        // Whenever it is polled otherwise, something has gone on.
        if deadline.is_over(context) {
            return Poll::Ready(false);
        }
        if served.as_mut().poll(context).is_ready() {
            return Poll::Ready(true);
        }
        if stream.waits.load(Ordering::Relaxed) {
            deadline.begin_again(limit);
            if deadline.is_over(context) {
                return Poll::Ready(false);
            }
        } else {
            deadline.clear();
        }
        Poll::Pending
    });
    if !is_served.await {
        return;
    }
    // As long as the body is there the stream stays open.
    let unread = stream.unread.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(body) = unread {
        Box::pin(unread::discard(body)).await;
    }
}

#[cfg(test)]
mod tests {
    use http::Version;
    use http_body_util::BodyExt;

    use super::{super::activity::Activity, *};

    #[tokio::test]
    async fn what_is_sent_in_parts_is_the_same_and_the_last_one_keeps_nothing_else() {
        let all: Bytes = (0..FRAME * 3 + 7).map(|n| n as u8).collect();
        let request = Activity::new().request(Version::HTTP_2);
        let response = STREAM.sync_scope(Arc::default(), || {
            Sending::begin(Response::new(Body::from(all.clone())).into(), request)
        });
        let mut body = response.into_body();
        assert_eq!(body.size_hint().exact(), Some(all.len() as u64));
        let mut parts = Vec::new();
        while let Some(frame) = body.frame().await {
            parts.push(frame.unwrap().into_data().unwrap());
        }
        assert!(body.is_end_stream());
        assert_eq!(parts.iter().map(Bytes::len).collect::<Vec<_>>(), [FRAME, FRAME, FRAME, 7]);
        assert_eq!(parts.concat(), all);
        let last = parts.pop().unwrap();
        assert!(!all.as_ptr_range().contains(&last.as_ptr()));
    }
}
