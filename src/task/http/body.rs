//! The body of a response: nothing, bytes, or a stream of them.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::{
    sync::mpsc,
    time::{Instant, Interval, interval_at},
};

/// The body of a response.
#[derive(Debug, Default)]
pub enum Body {
    /// None.
    #[default]
    Empty,
    /// These bytes.
    Full(Bytes),
    /// What comes.
    Stream(Box<Stream>),
}

/// What comes of a response, until nobody sends any more.
pub struct Stream {
    first: Option<Bytes>,
    chunks: mpsc::Receiver<Bytes>,
    /// What is sent when nothing came for a while, so that nobody in between takes the connection for dead.
    idle: (Bytes, Interval),
    /// Dropped when the response was sent, or nobody waits for it any more.
    _guard: Box<dyn Send + Sync>,
}

impl Stream {
    /// Makes one of what came first and what comes. After each `pause` without anything `filler` is sent. `guard` is kept
    /// until the end.
    pub fn new(
        first: Option<Bytes>,
        chunks: mpsc::Receiver<Bytes>,
        (filler, pause): (Bytes, Duration),
        guard: Box<dyn Send + Sync>,
    ) -> Self {
        Self { first, chunks, idle: (filler, interval_at(Instant::now() + pause, pause)), _guard: guard }
    }

    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Bytes>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(first));
        }
        let (filler, timer) = &mut self.idle;
        match self.chunks.poll_recv(context) {
            Poll::Pending => timer.poll_tick(context).map(|_| Some(filler.clone())),
            chunk => {
                timer.reset();
                chunk
            }
        }
    }
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Stream")
    }
}

impl<B: Into<Bytes>> From<B> for Body {
    fn from(bytes: B) -> Self {
        let bytes = bytes.into();
        if bytes.is_empty() { Self::Empty } else { Self::Full(bytes) }
    }
}

impl HttpBody for Body {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let body = self.get_mut();
        match body {
            Self::Empty => Poll::Ready(None),
            Self::Full(bytes) => {
                let bytes = std::mem::take(bytes);
                *body = Self::Empty;
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Self::Stream(stream) => {
                stream.poll_next(context).map(|chunk| chunk.map(|bytes| Ok(Frame::data(bytes))))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Empty)
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Self::Stream(_) => SizeHint::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use http_body_util::BodyExt;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_stream_is_never_silent_for_long_and_lets_go_at_its_end() {
        let (sender, chunks) = mpsc::channel(2);
        let (guard, mut is_there) = mpsc::channel::<()>(1);
        let idle = (Bytes::from(":\n\n"), Duration::from_secs(15));
        let stream = Stream::new(Some("a".into()), chunks, idle, Box::new(guard));
        let mut body = Body::Stream(Box::new(stream));
        sender.send("b".into()).await.unwrap();
        let began = Instant::now();
        for (expected, after) in [("a", 0), ("b", 0), (":\n\n", 15), (":\n\n", 30)] {
            let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
            assert_eq!((&*frame, began.elapsed().as_secs()), (expected.as_bytes(), after));
        }
        drop(sender);
        assert!(body.frame().await.is_none() && is_there.try_recv().is_err());
        drop(body);
        assert!(is_there.recv().await.is_none());
    }
}
