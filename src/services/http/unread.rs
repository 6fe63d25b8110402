//! What a client still sends of a request that was answered without it.
//!
//! Whoever closes a connection, or resets a stream, on which something comes in may take away the answer too, before its client has
//! read it. So the rest is read for a while and thrown away, after the answer was sent: no more than a client may send anyway,
//! and of it nothing is kept.

use std::{
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::{
    io::{AsyncRead, ReadBuf},
    time::timeout,
};

use super::timely::Deadline;

/// How much of a request is thrown away.
const MOST: usize = 8 << 20;

/// How long that may take.
const LONGEST: Duration = Duration::from_secs(2);

/// What is read at once.
const PART: usize = 8 << 10;

/// Reads the rest of a body, within these limits.
pub(super) async fn discard(mut body: Incoming) {
    let mut left = MOST;
    let reading = async {
        while let Some(Ok(frame)) = body.frame().await {
            let size = frame.data_ref().map_or(0, Bytes::len);
            if size >= left {
                break;
            }
            left -= size;
        }
    };
    // Whether it came to its end is the client's business.
    let _ = timeout(LONGEST, reading).await;
}

/// The rest of what comes in on a connection.
pub(super) struct Rest {
    left: usize,
    deadline: Deadline,
}

impl Default for Rest {
    fn default() -> Self {
        Self { left: MOST, deadline: Deadline::default() }
    }
}

impl Rest {
    /// Reads until the other side ends, within these limits.
    pub(super) fn poll_discard(
        &mut self,
        io: &mut (impl AsyncRead + Unpin),
        context: &mut Context<'_>,
    ) -> Poll<()> {
        self.deadline.begin(LONGEST);
        let mut part = [0; PART];
        while self.left > 0 && !self.deadline.is_over(context) {
            let mut buffer = ReadBuf::new(&mut part);
            let read = ready!(Pin::new(&mut *io).poll_read(context, &mut buffer));
            if read.is_err() || buffer.filled().is_empty() {
                break;
            }
            self.left = self.left.saturating_sub(buffer.filled().len());
        }
        Poll::Ready(())
    }
}
