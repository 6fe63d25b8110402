//! Server-sent events: the outputs of an event as they come (the HTML standard, "Server-sent events").

use std::{
    fmt::Write as _,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use bytes::Bytes;
use serde_json::json;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use crate::{
    ack::Outcome,
    event::{Event, Payload},
};

/// The media type.
pub(super) const MEDIA_TYPE: &str = "text/event-stream";

/// Outputs that wait for the client at most.
const MOST_WAITING: usize = 1_024;

/// How large all of them may be; a single one may be larger.
const MOST_BYTES: u32 = 1 << 20;

/// What is sent when nothing came for a while: a comment.
pub(super) const IDLE: (Bytes, Duration) = (Bytes::from_static(b":\n\n"), Duration::from_secs(15));

/// Sends what an event becomes.
pub(super) struct Streaming(Mutex<Option<Open>>);

struct Open {
    sender: mpsc::Sender<Bytes>,
    room: Arc<Semaphore>,
    has_sent: bool,
}

/// A message that waits for the client.
struct Message {
    text: String,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Message {
    fn as_ref(&self) -> &[u8] {
        self.text.as_bytes()
    }
}

impl Streaming {
    /// Makes one, and what it sends.
    pub(super) fn new() -> (Self, mpsc::Receiver<Bytes>) {
        // One more, for the word that it is over.
        let (sender, chunks) = mpsc::channel(MOST_WAITING + 1);
        let room = Arc::new(Semaphore::new(MOST_BYTES as usize));
        (Self(Mutex::new(Some(Open { sender, room, has_sent: false }))), chunks)
    }

    /// Sends an output.
    pub(super) fn output(&self, event: &Event) {
        let mut streaming = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(open) = &mut *streaming else { return };
        if open.sender.is_closed() {
            *streaming = None;
            return;
        }
        let text = message(&event.id.to_string(), &event.data);
        let size = u32::try_from(text.len()).unwrap_or(MOST_BYTES).min(MOST_BYTES);
        let room = Arc::clone(&open.room).try_acquire_many_owned(size);
        if let Ok(_room) = room
            && open.sender.capacity() > 1
            && open.sender.try_send(Bytes::from_owner(Message { text, _room })).is_ok()
        {
            open.has_sent = true;
            return;
        }
        let _ = open.sender.try_send(failure("the client reads too slowly"));
        *streaming = None;
    }

    /// Says that the event has come to its end. If nothing was sent before, the status of the response says how.
    pub(super) fn settled(&self, outcome: Outcome) {
        let open = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(open) = open.filter(|open| open.has_sent && outcome > Outcome::Completed) {
            let _ = open.sender.try_send(failure(&format!("the event is {outcome}")));
        }
    }
}

/// Returns the message of an output. Data of several lines is sent line by line.
fn message(id: &str, data: &Payload) -> String {
    let mut text = format!("id: {id}\n");
    let mut line = |line: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "data: {line}");
    };
    match (data, data.text()) {
        (_, Some(json)) => line(json),
        (Payload::Bytes(bytes), None) => line(&BASE64.encode(bytes)),
        (data, None) => line(&data.json().map(ToString::to_string).unwrap_or_default()),
    }
    text + "\n"
}

fn failure(detail: &str) -> Bytes {
    format!("event: error\ndata: {}\n\n", json!({"detail": detail})).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventId;

    fn event(n: u64) -> Event {
        Event::new(EventId::Sequence(n), "in".into(), json!({"n": n}).into())
    }

    #[test]
    fn outputs_come_one_by_one_and_a_failure_is_said() {
        let (streaming, mut chunks) = Streaming::new();
        streaming.output(&event(1));
        assert_eq!(chunks.try_recv().unwrap(), "id: 1\ndata: {\"n\":1}\n\n");
        streaming.settled(Outcome::Failed);
        assert!(chunks.try_recv().unwrap().starts_with(b"event: error\n"));
        assert!(chunks.blocking_recv().is_none());
        let (streaming, mut chunks) = Streaming::new();
        streaming.settled(Outcome::Completed);
        assert!(chunks.blocking_recv().is_none());
    }

    #[test]
    fn who_reads_too_slowly_is_cut_off_and_told() {
        let (streaming, mut chunks) = Streaming::new();
        (0..10_000).for_each(|n| streaming.output(&event(n)));
        let mut received = Vec::new();
        while let Some(chunk) = chunks.blocking_recv() {
            received.push(chunk);
        }
        assert_eq!(received.len(), MOST_WAITING + 1);
        assert!(received.last().unwrap().starts_with(b"event: error\n"));
    }

    #[test]
    fn what_waits_is_bounded_by_its_size_too_unless_it_is_a_single_output() {
        let large =
            || Event::new(EventId::Sequence(1), "in".into(), json!("x".repeat(MOST_BYTES as usize)).into());
        let (streaming, mut chunks) = Streaming::new();
        streaming.output(&large());
        drop(chunks.try_recv().unwrap());
        streaming.output(&large());
        streaming.output(&event(2));
        assert!(chunks.try_recv().unwrap().len() > MOST_BYTES as usize);
        assert!(chunks.try_recv().unwrap().starts_with(b"event: error\n"));
        assert!(chunks.blocking_recv().is_none());
    }
}
