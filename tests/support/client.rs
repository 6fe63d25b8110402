//! A small HTTP/1.1 client that says exactly what it is told to.

use std::{
    io::{BufRead, BufReader, ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use serde_json::Value;

/// How long a test waits for a response before it says that there is none.
const PATIENCE: Duration = Duration::from_secs(60);

/// A connection to a server.
pub(crate) struct Client {
    stream: BufReader<TcpStream>,
}

/// A response. The names of headers are lowercase.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Response {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

/// Makes the text of a request; `head` is what stands between the first line's version and the body's length.
pub(crate) fn request(line: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut bytes =
        format!("{line} HTTP/1.1\r\nhost: test\r\n{headers}content-length: {length}\r\n\r\n").into_bytes();
    bytes.extend_from_slice(body);
    bytes
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream: BufReader::new(stream) }
    }

    /// Sends these bytes.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.stream.get_mut().write_all(bytes).unwrap();
    }

    /// Sends these bytes, as far as the other side takes them.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.get_mut().write_all(bytes).is_ok()
    }

    /// Reads a response; `None` if the connection ends before one.
    pub(crate) fn receive(&mut self) -> Option<Response> {
        let (status, headers) = self.head()?;
        let header =
            |name: &str| headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let mut body = Vec::new();
        if header("transfer-encoding") == Some("chunked") {
            while let Some(chunk) = self.chunk() {
                body.extend(chunk);
            }
        } else {
            body = vec![0; header("content-length").map_or(0, |length| length.parse().unwrap())];
            self.stream.read_exact(&mut body).unwrap();
        }
        Some(Response { status, headers, body })
    }

    /// Reads the head of a response.
    pub(crate) fn head(&mut self) -> Option<(u16, Vec<(String, String)>)> {
        let mut lines = Vec::new();
        loop {
            let mut line = String::new();
            if self.stream.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end().to_owned();
            if !line.is_empty() {
                lines.push(line);
            } else if lines.first().is_some_and(|first| first.contains(" 100 ")) {
                lines.clear();
            } else {
                break;
            }
        }
        let status = lines[0].split(' ').nth(1).unwrap().parse().unwrap();
        let header = |line: &String| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_lowercase(), value.trim().to_owned())
        };
        Some((status, lines[1..].iter().map(header).collect()))
    }

    /// Waits until the server asks for the body that it was told of.
    pub(crate) fn until_asked(&mut self) {
        let mut line = String::new();
        for expected in ["HTTP/1.1 100 Continue\r\n", "\r\n"] {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            assert_eq!(line, expected);
        }
    }

    /// Reads a chunk of a body that has chunks; `None` after the last one.
    pub(crate) fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = String::new();
        if self.stream.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        let mut chunk = vec![0; length + 2];
        self.stream.read_exact(&mut chunk).unwrap();
        chunk.truncate(length);
        (length > 0).then_some(chunk)
    }

    /// Sends a request and reads its response.
    pub(crate) fn call(&mut self, line: &str, headers: &str, body: &[u8]) -> Response {
        self.send(&request(line, headers, body));
        self.receive().unwrap()
    }

    /// Says that nothing more is sent.
    pub(crate) fn finish(&mut self) {
        self.stream.get_mut().shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Waits until the other side closes the connection, and returns whatever it said before.
    pub(crate) fn until_closed(mut self) -> Vec<u8> {
        let mut rest = Vec::new();
        // A reset is an end, too.
        if let Err(error) = self.stream.read_to_end(&mut rest) {
            assert_ne!(error.kind(), ErrorKind::WouldBlock, "it stays open");
        }
        rest
    }
}

/// Sends one request on a connection of its own.
pub(crate) fn call(address: SocketAddr, line: &str, headers: &str, body: &[u8]) -> Response {
    Client::connect(address).call(line, headers, body)
}

/// Posts JSON on a connection of its own.
pub(crate) fn post(address: SocketAddr, path: &str, body: &Value) -> Response {
    call(address, &format!("POST {path}"), "content-type: application/json\r\n", body.to_string().as_bytes())
}
