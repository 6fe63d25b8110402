//! A connection whose other side has to send the head of a request in time, once it has begun to.
//!
//! hyper has one limit for that and for how long a connection may be idle between requests; these are not the same.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// Says whether requests are under way, during which nothing has to come in.
#[derive(Clone, Debug, Default)]
pub(super) struct Busy(Arc<AtomicBool>);

impl Busy {
    pub(super) fn set(&self, is_busy: bool) {
        self.0.store(is_busy, Ordering::Relaxed);
    }

    fn is_set(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}

/// The connection.
pub(super) struct HeadersInTime<Io> {
    io: Io,
    limit: Duration,
    busy: Busy,
    /// There as long as a head is on its way.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<Io> HeadersInTime<Io> {
    /// Wraps a connection that was just opened, whose first head has to come in time from now on.
    pub(super) fn new(io: Io, limit: Duration, busy: Busy) -> Self {
        let timer = Some(Box::pin(sleep_until(Instant::now() + limit)));
        Self { io, limit, busy, timer }
    }
}

impl<Io: AsyncRead + Unpin> AsyncRead for HeadersInTime<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buffer.filled().len();
        let read = Pin::new(&mut this.io).poll_read(context, buffer);
        if this.busy.is_set() {
            this.timer = None;
        } else if buffer.filled().len() > before && this.timer.is_none() {
            // What comes in while no request is under way is the head of one.
            this.timer = Some(Box::pin(sleep_until(Instant::now() + this.limit)));
        }
        match (&mut this.timer, read) {
            (Some(timer), Poll::Pending) => {
                ready!(timer.as_mut().poll(context));
                Poll::Ready(Err(io::Error::new(
                    io::ErrorKind::TimedOut,
                    "the head of a request took too long",
                )))
            }
            (_, read) => read,
        }
    }
}

impl<Io: AsyncWrite + Unpin> AsyncWrite for HeadersInTime<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_head_has_to_come_in_time_and_what_comes_between_heads_may_take_long() {
        let (mut client, server) = duplex(64);
        let busy = Busy::default();
        let mut io = HeadersInTime::new(server, LIMIT, busy.clone());
        let mut bytes = [0; 8];
        client.write_all(b"head").await.unwrap();
        assert_eq!(io.read(&mut bytes).await.unwrap(), 4);
        busy.set(true);
        let waiting = tokio::time::timeout(LIMIT * 10, io.read(&mut bytes)).await;
        assert!(waiting.is_err(), "a request is under way");
        busy.set(false);
        let waiting = tokio::time::timeout(LIMIT * 10, io.read(&mut bytes)).await;
        assert!(waiting.is_err(), "the connection is idle");
        client.write_all(b"h").await.unwrap();
        assert_eq!(io.read(&mut bytes).await.unwrap(), 1);
        let began = Instant::now();
        let dripping = async {
            loop {
                tokio::time::sleep(LIMIT / 4).await;
                if client.write_all(b"e").await.is_err() {
                    return;
                }
            }
        };
        let reading = async {
            loop {
                if let Err(error) = io.read(&mut bytes).await {
                    return error;
                }
            }
        };
        tokio::select! {
            error = reading => assert_eq!(error.kind(), io::ErrorKind::TimedOut),
            () = dripping => panic!("the connection was closed"),
        }
        assert_eq!(began.elapsed(), LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn who_says_nothing_at_all_is_not_waited_for_either() {
        let (_client, server) = duplex(64);
        let mut io = HeadersInTime::new(server, LIMIT, Busy::default());
        assert_eq!(io.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
