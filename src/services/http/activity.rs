//! What goes on on a connection: how many requests are under way, and since when there is none.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use http::Version;
use tokio::time::{Instant, sleep_until};

/// The requests of one connection.
#[derive(Debug)]
pub(super) struct Activity {
    under_way: AtomicUsize,
    /// Whether requests share the connection.
    is_shared: AtomicBool,
    begin: Instant,
    /// When the latest request ended, in milliseconds from the begin.
    ended: AtomicU64,
    /// Whether a request was answered before all of it was read.
    has_unread: AtomicBool,
}

impl Activity {
    /// Makes that of a connection that was just opened.
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            under_way: AtomicUsize::new(0),
            is_shared: AtomicBool::new(false),
            begin: Instant::now(),
            ended: AtomicU64::new(0),
            has_unread: AtomicBool::new(false),
        })
    }

    /// Begins a request, which ends when what is returned is dropped.
    pub(super) fn request(self: &Arc<Self>, version: Version) -> UnderWay {
        self.under_way.fetch_add(1, Ordering::Relaxed);
        if version >= Version::HTTP_2 {
            self.is_shared.store(true, Ordering::Relaxed);
        }
        UnderWay(Arc::clone(self))
    }

    /// Returns whether what comes in can only be the head of a request. Between those of HTTP/2 come other frames.
    pub(super) fn awaits_head(&self) -> bool {
        self.is_idle() && !self.is_shared.load(Ordering::Relaxed)
    }

    /// Returns whether a client may still be sending what nobody reads.
    pub(super) fn has_unread(&self) -> bool {
        self.has_unread.load(Ordering::Relaxed)
    }

    /// Waits until there was no request for so long, from now on.
    pub(super) async fn idle(&self, limit: Duration) {
        let begin = Instant::now();
        loop {
            let ended = self.begin + Duration::from_millis(self.ended.load(Ordering::Acquire));
            let over = if self.is_idle() { ended.max(begin) + limit } else { Instant::now() + limit };
            if over <= Instant::now() {
                return;
            }
            sleep_until(over).await;
        }
    }

    /// Waits until a request is under way. Only to be waited for beside the connection, which is what begins requests.
    pub(super) async fn begun(&self) {
        poll_fn(|_| if self.is_idle() { Poll::Pending } else { Poll::Ready(()) }).await;
    }

    fn is_idle(&self) -> bool {
        self.under_way.load(Ordering::Acquire) == 0
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct UnderWay(Arc<Activity>);

impl UnderWay {
    /// Says that it is answered before all of it was read.
    pub(super) fn leave_unread(&self) {
        self.0.has_unread.store(true, Ordering::Relaxed);
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let Activity { under_way, begin, ended, .. } = &*self.0;
        ended.fetch_max(u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX), Ordering::Release);
        under_way.fetch_sub(1, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    #[tokio::test(start_paused = true)]
    async fn a_connection_is_idle_from_the_end_of_its_last_request_on() {
        let activity = Activity::new();
        let requests = async {
            let first = activity.request(Version::HTTP_2);
            let second = activity.request(Version::HTTP_2);
            sleep(LIMIT * 3).await;
            drop(first);
            sleep(LIMIT / 2).await;
            drop(second);
            sleep(LIMIT / 2).await;
            drop(activity.request(Version::HTTP_2));
        };
        let begin = Instant::now();
        tokio::join!(requests, activity.idle(LIMIT));
        assert_eq!(begin.elapsed(), LIMIT * 5);
        activity.idle(LIMIT).await;
        assert_eq!(begin.elapsed(), LIMIT * 6, "it begins anew");
    }
}
