//! A connection whose other side is not waited for without end: the head of a request has to come in time once it has begun
//! to, and what is sent has to be taken.
//!
//! hyper has one limit for heads and for how long a connection may be idle between requests, and none for sending. It also
//! closes at once what it has shut, even while the other side sends.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::{activity::Activity, unread::Rest};

/// How much is written as one part, which costs the system less than several: most responses.
const SMALL: usize = 1 << 10;

/// A limit of time that begins when somebody has to wait. What never waits costs no timer.
#[derive(Default)]
pub(super) struct Deadline(Option<Pin<Box<Sleep>>>);

impl Deadline {
    /// Begins, if it has not.
    pub(super) fn begin(&mut self, limit: Duration) {
        self.0.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + limit)));
    }

    /// Begins, from now on.
    pub(super) fn begin_again(&mut self, limit: Duration) {
        match &mut self.0 {
            Some(timer) => timer.as_mut().reset(Instant::now() + limit),
            None => self.begin(limit),
        }
    }

    pub(super) fn clear(&mut self) {
        self.0 = None;
    }

    /// Returns whether it is over; whoever asks is told when it is.
    pub(super) fn is_over(&mut self, context: &mut Context<'_>) -> bool {
        self.0.as_mut().is_some_and(|timer| timer.as_mut().poll(context).is_ready())
    }
}

/// How long the other side may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// For the head of a request.
    pub(super) head: Duration,
    /// Until it takes anything of what is sent.
    pub(super) write: Duration,
}

/// The connection.
pub(super) struct Timely<Io> {
    io: Io,
    limits: Limits,
    activity: Arc<Activity>,
    /// Whether a head may have begun to come in.
    has_begun: bool,
    head: Deadline,
    write: Deadline,
    /// Whether nothing more is sent.
    is_shut: bool,
    rest: Rest,
}

impl<Io> Timely<Io> {
    /// Wraps a connection that was just opened, whose first head has to come in time from now on.
    pub(super) fn new(io: Io, limits: Limits, activity: Arc<Activity>) -> Self {
        Self {
            io,
            limits,
            activity,
            has_begun: true,
            head: Deadline::default(),
            write: Deadline::default(),
            is_shut: false,
            rest: Rest::default(),
        }
    }

    /// Returns whether the other side may be in the middle of sending something: a body that nobody wants, or a head that
    /// is none.
    fn is_cut_short(&self) -> bool {
        self.activity.has_unread() || (self.has_begun && self.activity.awaits_head())
    }

    fn written<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write.clear();
            return written;
        }
        self.write.begin(self.limits.write);
        if self.write.is_over(context) {
            return Poll::Ready(Err(too_slow("what is sent is not taken")));
        }
        Poll::Pending
    }
}

fn too_slow(what: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, what)
}

impl<Io: AsyncRead + Unpin> AsyncRead for Timely<Io> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let read = Pin::new(&mut this.io).poll_read(context, buffer);
        if !this.activity.awaits_head() {
            this.has_begun = false;
            this.head.clear();
        } else if read.is_ready() {
            this.has_begun = true;
        } else if this.has_begun {
            this.head.begin(this.limits.head);
            if this.head.is_over(context) {
                return Poll::Ready(Err(too_slow("the head of a request took too long")));
            }
        }
        read
    }
}

impl<Io: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Timely<Io> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(context, bytes);
        self.written(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if !this.is_shut {
            ready!(Pin::new(&mut this.io).poll_shutdown(context))?;
            this.is_shut = true;
        }
        if this.is_cut_short() {
            ready!(this.rest.poll_discard(&mut this.io, context));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let length = slices.iter().map(|slice| slice.len()).sum();
        let written = if slices.len() > 1 && length <= SMALL {
            let mut whole = [0; SMALL];
            let mut rest = &mut whole[..];
            for slice in slices {
                let (part, behind) = rest.split_at_mut(slice.len());
                part.copy_from_slice(slice);
                rest = behind;
            }
            Pin::new(&mut self.io).poll_write(context, &whole[..length])
        } else {
            Pin::new(&mut self.io).poll_write_vectored(context, slices)
        };
        self.written(context, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use http::Version;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn timely(io: DuplexStream) -> (Timely<DuplexStream>, Arc<Activity>) {
        let activity = Activity::new();
        (Timely::new(io, Limits { head: LIMIT, write: LIMIT }, Arc::clone(&activity)), activity)
    }

    #[tokio::test(start_paused = true)]
    async fn a_head_has_to_come_in_time_and_what_comes_between_heads_may_take_long() {
        let (mut client, server) = duplex(64);
        let (mut io, activity) = timely(server);
        let mut bytes = [0; 8];
        client.write_all(b"head").await.unwrap();
        assert_eq!(io.read(&mut bytes).await.unwrap(), 4);
        let request = activity.request(Version::HTTP_11);
        let waiting = tokio::time::timeout(LIMIT * 10, io.read(&mut bytes)).await;
        assert!(waiting.is_err(), "a request is under way");
        drop(request);
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
        let (mut io, _) = timely(server);
        assert_eq!(io.read(&mut [0; 8]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[tokio::test(start_paused = true)]
    async fn between_requests_that_share_a_connection_anything_may_come() {
        let (mut client, server) = duplex(64);
        let (mut io, activity) = timely(server);
        drop(activity.request(Version::HTTP_2));
        client.write_all(b"ping").await.unwrap();
        assert_eq!(io.read(&mut [0; 8]).await.unwrap(), 4);
        let waiting = tokio::time::timeout(LIMIT * 10, io.read(&mut [0; 8])).await;
        assert!(waiting.is_err(), "the connection is idle");
    }

    #[tokio::test(start_paused = true)]
    async fn who_takes_nothing_is_not_waited_for_and_who_takes_little_is() {
        let (mut client, server) = duplex(8);
        let (mut io, _) = timely(server);
        let sending = async {
            let error = io.write_all(&[0; 64]).await.unwrap_err();
            (error.kind(), Instant::now())
        };
        let taking = async {
            let mut bytes = [0; 8];
            for _ in 0..4 {
                tokio::time::sleep(LIMIT / 2).await;
                client.read_exact(&mut bytes).await.unwrap();
            }
            Instant::now()
        };
        let ((kind, ended), last) = tokio::join!(sending, taking);
        assert_eq!((kind, ended - last), (io::ErrorKind::TimedOut, LIMIT));
    }
}
