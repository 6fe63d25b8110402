//! The collector itself. It speaks just enough gRPC.

use std::{
    future::pending,
    io,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::Duration,
};

use anyhow::Result;
use h2::{
    RecvStream,
    server::{Builder, SendResponse},
};
use http::{HeaderMap, HeaderValue, Request, Response, header::CONTENT_TYPE};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpSocket},
    sync::{Notify, oneshot},
    task::JoinSet,
    time::sleep,
};

use super::{
    behaviour::{Behaviour, OK, Refusal},
    tally::{PREFIX, Tally},
};

/// More than an export, so that none waits for the window to open.
const WINDOW: u32 = 1 << 24;
/// As many connections may wait to be taken.
const BACKLOG: u32 = 64;

/// Serves until stdin ends. Prints the address first and the tally last.
pub(crate) fn serve(behaviour: Behaviour) -> Result<()> {
    let (ended, end) = oneshot::channel::<()>();
    thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        drop(ended);
    });
    let server = Arc::new(Server::new(behaviour));
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(async {
        let port = Port::reserve()?;
        let listener = server.listen(&port)?;
        println!("{}", port.address);
        tokio::select! {
            // First what is due by now.
            biased;
            served = server.run(&port, listener) => served,
            _ = end => Ok(()),
        }
    })?;
    println!("{}", serde_json::to_string(&*server.tally())?);
    Ok(())
}

/// A port that is the collector's own, whether it listens or not.
struct Port {
    address: SocketAddr,
    /// Bound, but not listening: whoever connects is refused.
    _reserved: TcpSocket,
}

impl Port {
    fn reserve() -> io::Result<Self> {
        let reserved = Self::socket((Ipv4Addr::LOCALHOST, 0).into())?;
        Ok(Self { address: reserved.local_addr()?, _reserved: reserved })
    }

    fn listen(&self) -> io::Result<TcpListener> {
        Self::socket(self.address)?.listen(BACKLOG)
    }

    /// Several of them can be bound to one port, as long as no more than one listens.
    fn socket(address: SocketAddr) -> io::Result<TcpSocket> {
        let socket = TcpSocket::new_v4()?;
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        Ok(socket)
    }
}

struct Server {
    behaviour: Behaviour,
    tally: Mutex<Tally>,
    called: Notify,
}

impl Server {
    fn new(behaviour: Behaviour) -> Self {
        Self { behaviour, tally: Mutex::default(), called: Notify::new() }
    }

    fn tally(&self) -> MutexGuard<'_, Tally> {
        self.tally.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Listens, if it is to do that at all.
    fn listen(&self, port: &Port) -> io::Result<Option<TcpListener>> {
        (self.behaviour != Behaviour::Refused).then(|| port.listen()).transpose()
    }

    async fn run(self: &Arc<Self>, port: &Port, listener: Option<TcpListener>) -> Result<()> {
        let Some(listener) = listener else { return pending().await };
        if let Behaviour::Restart { after, away } = self.behaviour {
            tokio::select! {
                served = self.accept(listener) => return served,
                () = self.after_first_call(after) => self.tally().restarts += 1,
            }
            sleep(away).await;
            return self.accept(port.listen()?).await;
        }
        self.accept(listener).await
    }

    async fn after_first_call(&self, after: Duration) {
        self.called.notified().await;
        sleep(after).await;
    }

    /// Takes connections. They end with it.
    async fn accept(self: &Arc<Self>, listener: TcpListener) -> Result<()> {
        let mut connections = JoinSet::new();
        loop {
            tokio::select! {
                accepted = listener.accept() => {
                    let stream = accepted?.0;
                    // Of one that is gone already nothing more will come.
                    stream.set_nodelay(true).ok();
                    connections.spawn(Arc::clone(self).connection(stream));
                }
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn connection(self: Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) {
        self.tally().connections += 1;
        if self.behaviour == Behaviour::BlackHole {
            let _stream = stream;
            return pending().await;
        }
        note(self.speak(stream).await);
    }

    async fn speak(self: &Arc<Self>, stream: impl AsyncRead + AsyncWrite + Unpin) -> Result<()> {
        let mut builder = Builder::new();
        builder.initial_window_size(WINDOW).initial_connection_window_size(WINDOW);
        let mut connection = builder.handshake(stream).await?;
        let mut calls = JoinSet::new();
        loop {
            tokio::select! {
                call = connection.accept() => {
                    let Some(call) = call else { return Ok(()) };
                    let (request, respond) = call?;
                    let server = Arc::clone(self);
                    calls.spawn(async move { note(server.answer(request, respond).await) });
                }
                Some(_) = calls.join_next() => {}
            }
        }
    }

    async fn answer(
        &self,
        request: Request<RecvStream>,
        mut respond: SendResponse<&'static [u8]>,
    ) -> Result<()> {
        self.called.notify_one();
        let path = request.uri().path().to_owned();
        let framed = read(request.into_body()).await?;
        if let Behaviour::Slow(delay) = self.behaviour {
            sleep(delay).await;
        }
        let mut response = Response::new(());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        let Ok(mut stream) = respond.send_response(response, false) else {
            // The call was given up: nothing of it counts.
            return Ok(());
        };
        let trailers = match self.judge(&path, &framed) {
            Ok(one) => {
                self.tally().take(&one);
                // An empty message: everything was taken.
                stream.send_data(&[0; PREFIX], false)?;
                trailers(OK, "")?
            }
            Err(Refusal { code, message }) => {
                self.tally().refused += 1;
                trailers(code, &message)?
            }
        };
        Ok(stream.send_trailers(trailers)?)
    }

    fn judge(&self, path: &str, framed: &[u8]) -> Result<Tally, Refusal> {
        match self.behaviour.refusal(framed.len().saturating_sub(PREFIX)) {
            Some(refusal) => Err(refusal),
            None => Tally::of(path, framed).map_err(|code| Refusal { code, message: String::new() }),
        }
    }
}

async fn read(mut body: RecvStream) -> Result<Vec<u8>> {
    let mut message = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk?;
        message.extend_from_slice(&chunk);
        body.flow_control().release_capacity(chunk.len())?;
    }
    Ok(message)
}

fn trailers(code: u8, message: &str) -> Result<HeaderMap> {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", u16::from(code).into());
    if !message.is_empty() {
        trailers.insert("grpc-message", HeaderValue::from_str(message)?);
    }
    Ok(trailers)
}

/// Shows an error of the protocol. That the other side went away or gave a call up is none.
fn note(result: Result<()>) {
    let Err(error) = result else { return };
    let is_gone = error.downcast_ref::<h2::Error>().is_some_and(|error| error.is_io() || error.is_reset());
    if !is_gone {
        eprintln!("collector: {error:#}");
    }
}

#[cfg(test)]
mod tests;
