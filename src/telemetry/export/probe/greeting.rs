//! The greeting of HTTP/2 (RFC 9113, section 3.4): which protocol a server speaks shows in its first bytes.

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::{Failure, FailureKind, broken, handshake};
use crate::telemetry::export::error::one_line;

/// The preface of a client and its `SETTINGS`, which are empty.
const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// The length of the header of a frame.
const HEADER: usize = 9;
/// The type of the frame `SETTINGS`, which has to be the server's first one.
const SETTINGS: u8 = 4;
/// The type of a TLS record that holds an alert, and the major version after it.
const ALERT: [u8; 2] = [21, 3];

/// The most of an answer that is read.
const MAX_ANSWER: usize = 256;

/// Greets a server, and fails if it does not return the greeting.
pub(crate) async fn greet(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<(), Failure> {
    let failed = |error| handshake::failure(&error).unwrap_or_else(|| broken(&error));
    // An answer may be waiting although nothing can be sent any more.
    let sent = stream.write_all(GREETING).await;
    let sent = if sent.is_ok() { stream.flush().await } else { sent };
    let mut answer = Vec::new();
    while answer.len() < HEADER {
        let mut buffer = [0; MAX_ANSWER];
        match stream.read(&mut buffer).await {
            Ok(0) => break,
            Ok(length) => answer.extend_from_slice(&buffer[..length]),
            Err(error) if answer.is_empty() => return Err(failed(error)),
            Err(_) => break,
        }
    }
    match sent {
        Err(error) if answer.is_empty() => Err(failed(error)),
        _ => understand(&answer),
    }
}

fn understand(answer: &[u8]) -> Result<(), Failure> {
    let fail = |kind, cause: &str| Err(Failure::new(kind, cause));
    match answer {
        [_, _, _, SETTINGS, _, 0, 0, 0, 0, ..] => Ok(()),
        [] => fail(FailureKind::HungUp, "the server hung up without an answer"),
        _ if answer.starts_with(&ALERT) => fail(FailureKind::OnlyTls, "the server answered with a TLS alert"),
        _ if answer.starts_with(b"HTTP/") => {
            let line = answer.split(|byte| matches!(byte, b'\r' | b'\n')).next().unwrap_or_default();
            let line = one_line(&String::from_utf8_lossy(line));
            fail(FailureKind::Http1, &format!("the server answered `{line}`"))
        }
        _ => fail(FailureKind::NotHttp2, "the server answered with something else than HTTP"),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::duplex;

    use super::*;

    /// Returns what becomes of the greeting at a server that answers with these bytes and hangs up.
    async fn greeted(answer: &[u8]) -> Result<(), Failure> {
        let (client, mut server) = duplex(1024);
        server.write_all(answer).await.unwrap();
        server.shutdown().await.unwrap();
        let mut heard = vec![0; GREETING.len()];
        let (greeted, read) = tokio::join!(greet(client), server.read_exact(&mut heard));
        read.unwrap();
        assert_eq!(heard, GREETING);
        greeted
    }

    #[tokio::test]
    async fn a_server_is_known_by_its_first_bytes() {
        assert_eq!(greeted(b"\0\0\x06\x04\0\0\0\0\0\0\x05\0\0\x40\0").await, Ok(()));
        for (answer, kind, cause) in [
            (&b""[..], FailureKind::HungUp, "the server hung up without an answer"),
            (b"\x15\x03\x03\0\x02\x02\x46", FailureKind::OnlyTls, "the server answered with a TLS alert"),
            (
                b"HTTP/1.1 400 Bad Request\r\nserver: x\r\n",
                FailureKind::Http1,
                "the server answered `HTTP/1.1 400 Bad Request`",
            ),
            (
                b"SSH-2.0-OpenSSH\r\n",
                FailureKind::NotHttp2,
                "the server answered with something else than HTTP",
            ),
        ] {
            assert_eq!(greeted(answer).await, Err(Failure::new(kind, cause)));
        }
    }
}
