//! A client of HTTP/2 that says exactly what it is told to, frame by frame (RFC 9113).

use std::{
    io::{BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

/// How long a test may take on a connection, and wait for a frame, before it says that there is none.
const PATIENCE: Duration = Duration::from_secs(60);

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RESET: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GO_AWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const ACK: u8 = 1;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// The setting that says how much may be sent of a response before its client takes some of it.
const INITIAL_WINDOW_SIZE: u8 = 4;

/// What all streams together may send: more than any test lets them.
const PLENTY: u32 = 1 << 30;

/// `:status: 200`, as the table of HPACK has it.
const STATUS_200: u8 = 0x88;

/// A connection. Nothing is ever taken of a stream: each may send as much as its window holds.
pub(crate) struct Frames {
    stream: BufReader<TcpStream>,
    begin: Instant,
    seen: Vec<Frame>,
}

struct Frame {
    kind: u8,
    flags: u8,
    stream: u32,
    payload: Vec<u8>,
}

impl Frames {
    /// Connects; each stream has a window of so many bytes.
    pub(crate) fn connect(address: SocketAddr, window: u32) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        let mut frames = Self { stream: BufReader::new(stream), begin: Instant::now(), seen: Vec::new() };
        frames.stream.get_mut().write_all(PREFACE).unwrap();
        let setting = [&[0, INITIAL_WINDOW_SIZE][..], &window.to_be_bytes()].concat();
        frames.send(SETTINGS, 0, 0, &setting);
        frames.send(WINDOW_UPDATE, 0, 0, &PLENTY.to_be_bytes());
        frames
    }

    /// Sends `GET path` on a stream.
    pub(crate) fn get(&mut self, stream: u32, path: &str) {
        // `:method: GET`, `:scheme: http`, and then `:path` and `:authority` with values of their own.
        let mut block = vec![0x82, 0x86];
        for (name, value) in [(0x04, path), (0x01, "test")] {
            block.extend([name, value.len().try_into().unwrap()]);
            block.extend_from_slice(value.as_bytes());
        }
        self.send(HEADERS, END_HEADERS | END_STREAM, stream, &block);
    }

    /// Waits for the whole response on a stream, and returns whether it is 200. It is not, either, if the stream or the
    /// connection ends before.
    pub(crate) fn is_answered(&mut self, stream: u32) -> bool {
        let ends = |frame: &Frame| {
            let is_last = matches!(frame.kind, DATA | HEADERS) && frame.flags & END_STREAM != 0;
            frame.stream == stream && (is_last || frame.kind == RESET)
        };
        while !self.seen.iter().any(ends) && self.read() {}
        let is_whole = self.seen.iter().find(|frame| ends(frame)).is_some_and(|frame| frame.kind != RESET);
        let is_ok = |frame: &Frame| {
            frame.stream == stream && frame.kind == HEADERS && frame.payload.first() == Some(&STATUS_200)
        };
        is_whole && self.seen.iter().any(is_ok)
    }

    /// Returns whether a stream was reset, as far as frames were read.
    pub(crate) fn was_reset(&self, stream: u32) -> bool {
        self.seen.iter().any(|frame| (frame.kind, frame.stream) == (RESET, stream))
    }

    /// Waits until a stream was reset. It was not if the connection ends before.
    pub(crate) fn is_reset(&mut self, stream: u32) -> bool {
        while !self.was_reset(stream) && self.read() {}
        self.was_reset(stream)
    }

    /// Waits until the other side closes the connection, and returns whether it has said before that nothing is wrong.
    pub(crate) fn closes_in_good_order(mut self) -> bool {
        while self.read() {}
        let goodbye = self.seen.iter().rev().find(|frame| frame.kind == GO_AWAY);
        goodbye.is_some_and(|frame| frame.payload[4..8] == [0; 4])
    }

    /// Reads a frame, and answers those that ask for it; returns whether there was one.
    fn read(&mut self) -> bool {
        // Pings alone would go on for ever.
        assert!(self.begin.elapsed() < PATIENCE, "what is waited for does not come");
        let mut head = [0; 9];
        if self.stream.read_exact(&mut head).is_err() {
            return false;
        }
        let [a, b, c, kind, flags, id @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        if self.stream.read_exact(&mut payload).is_err() {
            return false;
        }
        if matches!(kind, SETTINGS | PING) && flags & ACK == 0 {
            let echo: &[u8] = if kind == PING { &payload } else { &[] };
            // It may be the last thing that the other side said.
            let _ = self.stream.get_mut().write_all(&frame(kind, ACK, 0, echo));
        }
        self.seen.push(Frame { kind, flags, stream: u32::from_be_bytes(id), payload });
        true
    }

    fn send(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.stream.get_mut().write_all(&frame(kind, flags, stream, payload)).unwrap();
    }
}

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let [_, a, b, c] = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&[a, b, c, kind, flags][..], &stream.to_be_bytes(), payload].concat()
}
