//! A small HTTP server whose every answer is scripted, byte for byte.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener},
    sync::{Arc, Mutex, MutexGuard, OnceLock},
    thread,
    time::{Duration, Instant},
};

use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json as object};

/// A request as it came in. The names of headers are lowercase.
#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) at: Instant,
    /// `POST /orders?x=1`.
    pub(crate) line: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What the server does with a request.
pub(crate) enum Reply {
    /// Writes these bytes and waits for the next request.
    Bytes(Vec<u8>),
    /// Writes these bytes and closes the connection.
    Close(Vec<u8>),
    /// Writes these bytes and then nothing, until the other side goes away.
    Hang(Vec<u8>),
    /// Writes these bytes, then a byte now and then, until the other side goes away.
    Drip(Vec<u8>),
}

/// Makes a complete response; `head` is what follows `HTTP/1.1 ` up to the last header.
pub(crate) fn response(head: &str, body: impl AsRef<[u8]>) -> Reply {
    let body = body.as_ref();
    let mut bytes = format!("HTTP/1.1 {head}\r\ncontent-length: {}\r\n\r\n", body.len()).into_bytes();
    bytes.extend_from_slice(body);
    Reply::Bytes(bytes)
}

/// Makes a JSON response.
pub(crate) fn json(body: impl Into<Value>) -> Reply {
    response("200 OK\r\ncontent-type: application/json", body.into().to_string())
}

type Script = Box<dyn FnMut(usize, &Request) -> Reply + Send>;

/// A server on a port of its own. Its threads end with the process.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    requests: Arc<Mutex<Vec<Request>>>,
}

impl Server {
    /// Starts one that answers request number n, from 0, with what `script` makes of it.
    pub(crate) fn start(script: impl FnMut(usize, &Request) -> Reply + Send + 'static) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").unwrap(), script)
    }

    pub(crate) fn start_on(
        listener: TcpListener,
        script: impl FnMut(usize, &Request) -> Reply + Send + 'static,
    ) -> Self {
        Self::serve_on(listener, None, script)
    }

    /// Starts one that speaks TLS.
    pub(crate) fn start_tls(
        config: ServerConfig,
        script: impl FnMut(usize, &Request) -> Reply + Send + 'static,
    ) -> Self {
        Self::serve_on(TcpListener::bind("127.0.0.1:0").unwrap(), Some(Arc::new(config)), script)
    }

    fn serve_on(
        listener: TcpListener,
        tls: Option<Arc<ServerConfig>>,
        script: impl FnMut(usize, &Request) -> Reply + Send + 'static,
    ) -> Self {
        let address = listener.local_addr().unwrap();
        let requests = Arc::<Mutex<Vec<Request>>>::default();
        let shared = Arc::clone(&requests);
        let script = Arc::new(Mutex::new(Box::new(script) as Script));
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (script, shared, tls) = (Arc::clone(&script), Arc::clone(&shared), tls.clone());
                // What goes wrong with a connection shows on the other side.
                thread::spawn(move || {
                    stream.set_nodelay(true).unwrap();
                    drop(match tls {
                        None => serve(stream, &script, &shared),
                        Some(tls) => {
                            let connection = ServerConnection::new(tls).unwrap();
                            serve(StreamOwned::new(connection, stream), &script, &shared)
                        }
                    });
                });
            }
        });
        Self { address, requests }
    }

    pub(crate) fn requests(&self) -> MutexGuard<'_, Vec<Request>> {
        self.requests.lock().unwrap()
    }
}

/// Returns the URL of a server that every flow shown in the repository may call: they name it by the variable
/// `HTTP_ENDPOINT`.
pub(crate) fn example_endpoint() -> &'static str {
    static ENDPOINT: OnceLock<String> = OnceLock::new();
    ENDPOINT.get_or_init(|| {
        let server = Server::start(|n, request| match &*request.line {
            "POST /token" => json(object!({"access_token": "t", "token_type": "Bearer", "expires_in": 3600})),
            "GET /orders" => {
                let head = "200 OK\r\nlink: </orders?page=2>; rel=\"next\"";
                response(head, object!({"items": [{"id": 1}, {"id": 2}]}).to_string())
            }
            "GET /orders?page=2" => json(object!({"items": [{"id": 3}]})),
            _ => json(n),
        });
        format!("http://{}", server.address)
    })
}

fn serve(
    stream: impl Read + Write,
    script: &Mutex<Script>,
    requests: &Mutex<Vec<Request>>,
) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    while let Some(request) = read(&mut reader)? {
        let reply = {
            let mut requests = requests.lock().unwrap();
            requests.push(request.clone());
            let number = requests.len() - 1;
            drop(requests);
            (script.lock().unwrap())(number, &request)
        };
        let writer = reader.get_mut();
        match reply {
            Reply::Bytes(bytes) => {
                writer.write_all(&bytes)?;
                writer.flush()?;
            }
            Reply::Close(bytes) => return writer.write_all(&bytes),
            Reply::Hang(bytes) => {
                writer.write_all(&bytes)?;
                writer.flush()?;
                return reader.read_to_end(&mut Vec::new()).map(drop);
            }
            Reply::Drip(bytes) => {
                writer.write_all(&bytes)?;
                loop {
                    writer.write_all(b" ")?;
                    // Not a wait for anything: this is how slow the server is.
                    thread::sleep(Duration::from_millis(10));
                }
            }
        }
    }
    Ok(())
}

/// Reads a request; `None` if there is no further one.
fn read(reader: &mut impl BufRead) -> std::io::Result<Option<Request>> {
    let mut line = String::new();
    if reader.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let at = Instant::now();
    let line = line.trim_end().trim_end_matches(" HTTP/1.1").to_owned();
    let mut headers = Vec::new();
    loop {
        let mut header = String::new();
        reader.read_line(&mut header)?;
        let Some((name, value)) = header.trim_end().split_once(": ") else { break };
        headers.push((name.to_lowercase(), value.to_owned()));
    }
    let mut request = Request { at, line, headers, body: String::new() };
    let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
    reader.take(length).read_to_string(&mut request.body)?;
    Ok(Some(request))
}
