use std::io::Cursor;

use h2::client::{self, ResponseFuture, SendRequest};
use tokio::net::TcpStream;

use super::*;
use crate::sink::behaviour::{INVALID_ARGUMENT, RESOURCE_EXHAUSTED, UNAVAILABLE};

const TRACES: &str = "http://sink/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// An export of one span that has no fields, with the prefix of gRPC.
const SPAN: [u8; PREFIX + 6] = [0, 0, 0, 0, 6, 1 << 3 | 2, 4, 2 << 3 | 2, 2, 2 << 3 | 2, 0];

/// A collector without a socket, so that nothing happens between two tasks that the paused clock does not know of.
fn collector(behaviour: Behaviour) -> Arc<Server> {
    Arc::new(Server::new(behaviour))
}

async fn client_of(server: &Arc<Server>) -> Client {
    let (near, far) = tokio::io::duplex(1 << 16);
    let mut tasks = JoinSet::new();
    tasks.spawn(Arc::clone(server).connection(far));
    Client::new(near, tasks).await
}

struct Client {
    requests: SendRequest<Cursor<Vec<u8>>>,
    /// What runs for as long as this.
    tasks: JoinSet<()>,
}

impl Client {
    async fn new(
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
        mut tasks: JoinSet<()>,
    ) -> Self {
        let (requests, connection) = client::Builder::new().handshake(stream).await.unwrap();
        tasks.spawn(async move { drop(connection.await) });
        Self { requests, tasks }
    }

    /// Sends a call, which is given up if the result is dropped.
    async fn send(&self, message: &[u8]) -> ResponseFuture {
        let mut requests = self.requests.clone().ready().await.unwrap();
        let request = Request::post(TRACES).body(()).unwrap();
        let (response, mut stream) = requests.send_request(request, false).unwrap();
        stream.send_data(Cursor::new(message.to_vec()), true).unwrap();
        response
    }

    /// Calls, and returns the code and the message of the answer.
    async fn call(&self, message: &[u8]) -> (u8, String) {
        let mut body = self.send(message).await.await.unwrap().into_body();
        while body.data().await.is_some() {}
        let trailers = body.trailers().await.unwrap().unwrap();
        let text = |name| trailers.get(name).map_or("", |value: &HeaderValue| value.to_str().unwrap());
        (text("grpc-status").parse().unwrap(), text("grpc-message").to_owned())
    }

    /// Resolves when the other side has hung up.
    async fn ended(mut self) {
        self.tasks.join_next().await;
    }
}

#[tokio::test]
async fn a_collector_that_is_well_takes_and_counts_everything() {
    let collector = collector(Behaviour::Well);
    let client = client_of(&collector).await;
    assert_eq!(client.call(&SPAN).await, (OK, String::new()));
    assert_eq!(client.call(&SPAN).await, (OK, String::new()));
    assert_eq!(client.call(b"").await, (INVALID_ARGUMENT, String::new()));
    let taken = Tally { connections: 1, calls: 2, refused: 1, bytes: 12, spans: 2, ..Tally::default() };
    assert_eq!(*collector.tally(), taken);
}

#[tokio::test]
async fn a_collector_that_refuses_counts_nothing() {
    let collector = collector(Behaviour::Refuse(UNAVAILABLE));
    let client = client_of(&collector).await;
    assert_eq!(client.call(&SPAN).await.0, UNAVAILABLE);
    assert_eq!(*collector.tally(), Tally { connections: 1, refused: 1, ..Tally::default() });
}

#[tokio::test]
async fn a_call_that_is_too_long_is_refused_in_the_words_of_the_real_ones() {
    let collector = collector(Behaviour::UpTo(6));
    let client = client_of(&collector).await;
    assert_eq!(client.call(&SPAN).await.0, OK);
    let answer = (RESOURCE_EXHAUSTED, "grpc: received message larger than max (7 vs. 6)".to_owned());
    assert_eq!(client.call(&[SPAN.as_slice(), &[0]].concat()).await, answer);
    let tally = *collector.tally();
    assert_eq!((tally.calls, tally.refused, tally.spans), (1, 1, 1));
}

/// The clock is paused: it moves on when all are waiting, without anybody waiting for it.
#[tokio::test(start_paused = true)]
async fn a_black_hole_takes_connections_and_answers_no_call() {
    let collector = collector(Behaviour::BlackHole);
    let client = client_of(&collector).await;
    let answer = client.send(&SPAN).await;
    assert!(tokio::time::timeout(Duration::from_secs(3600), answer).await.is_err());
    assert_eq!(*collector.tally(), Tally { connections: 1, ..Tally::default() });
}

#[tokio::test(start_paused = true)]
async fn a_slow_collector_counts_what_is_still_wanted_when_it_answers() {
    let collector = collector(Behaviour::Slow(Duration::from_secs(2)));
    let client = client_of(&collector).await;
    let given_up = client.send(&SPAN).await;
    assert!(tokio::time::timeout(Duration::from_secs(1), given_up).await.is_err());
    let begin = tokio::time::Instant::now();
    assert_eq!(client.call(&SPAN).await.0, OK);
    assert!(begin.elapsed() >= Duration::from_secs(2));
    let tally = *collector.tally();
    assert_eq!((tally.calls, tally.spans), (1, 1));
}

#[tokio::test]
async fn a_collector_that_does_not_listen_refuses_connections() {
    let server = collector(Behaviour::Refused);
    let port = Port::reserve().unwrap();
    assert!(server.listen(&port).unwrap().is_none());
    let refused = TcpStream::connect(port.address).await.unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
}

#[tokio::test]
async fn a_restarted_collector_hangs_up_and_is_back_at_the_same_port() {
    let server = collector(Behaviour::Restart { after: Duration::ZERO, away: Duration::ZERO });
    let port = Port::reserve().unwrap();
    let (address, listener) = (port.address, server.listen(&port).unwrap());
    let mut tasks = JoinSet::new();
    let running = Arc::clone(&server);
    tasks.spawn(async move { running.run(&port, listener).await.unwrap() });
    let first = Client::new(TcpStream::connect(address).await.unwrap(), JoinSet::new()).await;
    let _answer = first.send(&SPAN).await;
    first.ended().await;
    let stream = loop {
        match TcpStream::connect(address).await {
            Ok(stream) => break stream,
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused),
        }
    };
    let again = Client::new(stream, JoinSet::new()).await;
    assert_eq!(again.call(&SPAN).await.0, OK);
    let tally = *server.tally();
    assert_eq!((tally.connections, tally.restarts), (2, 1));
}
